"""Figures of a tube's twin: a working day's heat, wear as followed, remaining life, sensors, daily checks."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from twinlab.report.style import COLOURS, Plot, axes

TRUTH = {"color": "#27313d", "linestyle": "--", "linewidth": 1.2}
NORMAL_90, NORMAL_95 = 1.645, 1.96
WEAR = {
    "mass_loss_followed": ("Filament mass lost [%]", "filament_mass_loss", 100.0),
    "bearing_wear_followed": ("Bearing wear [%]", "bearing_wear", 100.0),
    "output_followed": ("Output over that of a new tube [%]", "output_factor", 100.0),
}
SENSORS = {
    "filament_current": "Filament current over the median tube's",
    "vibration": "Vibration [mm/s]",
    "output": "Output over that at commissioning",
    "arcs": "Arcs a day",
}
CAUSES = {"filament": "filament", "bearing": "bearing", "track": "focal track", "arcing": "arc"}
QC = {
    "qc_noise": "Noise [HU]",
    "qc_rings": "Rings [HU]",
    "qc_mtf50": "Frequency at MTF 0.5 [1/mm]",
    "qc_water": "CT number of water [HU]",
}


def working_day(course: xr.Dataset, log: xr.Dataset, *, limits: Mapping[str, float]) -> Plot:
    """Temperatures of a day by the model, with what the log tells.

    Parameters
    ----------
    course : Dataset, dim time_s
        From :func:`twinlab.maintenance.wear.heat_curve`, with ``hour`` on it.
    log : Dataset, dim scan
        ``hour``, ``oil_temperature_c``, ``anode_temperature_c`` at the end of scans.
    limits : mapping
        ``track`` and ``oil`` [degC].
    """
    plot, ax = axes(2, 1, width_in=8.6, height_in=4.6, sharex=True)
    hour, top, low = course["hour"], ax[0, 0], ax[1, 0]
    track = course["track_temperature_c"].to_numpy()
    seen = np.isfinite(track)
    top.plot(hour[seen], track[seen], ".", color=COLOURS[1], markersize=2.5, label="focal spot, model")
    top.plot(hour, course["anode_temperature_c"], color=COLOURS[0], label="anode, model")
    top.plot(log["hour"], log["anode_temperature_c"], ".", color="#27313d", markersize=3, label="anode, log")
    top.axhline(limits["track"], **TRUTH)
    top.set_ylabel("Temperature [°C]")
    low.plot(hour, course["housing_temperature_c"], color=COLOURS[2], label="housing, model")
    low.plot(log["hour"], log["oil_temperature_c"], ".", color="#27313d", markersize=3, label="oil, log")
    low.axhline(limits["oil"], **TRUTH)
    low.set(ylabel="Temperature [°C]", xlabel="Hour of the day (UTC)")
    for panel in (top, low):
        panel.legend(ncols=3, loc="upper left", bbox_to_anchor=(0.0, 1.19), frameon=False)
    return plot.say(
        "Temperatures of focal spot, anode and housing over a working day; dashed: the generator's limits."
    )


def health(followed: xr.Dataset, state: xr.Dataset | None = None) -> Plot:
    """Wear as followed with its 90 % interval, and the truth where it is known."""
    plot, ax = axes(1, 3, width_in=9.4, height_in=2.9)
    for panel, (name, (title, truth, factor)) in zip(ax[0], WEAR.items(), strict=True):
        _band(panel, followed["day"], followed[name] * factor, followed[f"{name}_sd"] * factor * NORMAL_90)
        if state is not None:
            known = state.sel(day=slice(None, int(followed["day"][-1])))
            panel.plot(known["day"], known[truth] * factor, **TRUTH)
        panel.set_title(title, loc="left")
        panel.set_xlabel("Day")
    told = ", dashed the simulated truth" if state is not None else ""
    return plot.say(f"Filament mass lost, bearing wear and output as followed, 90 % intervals{told}.")


def _band(
    panel: Axes, x: xr.DataArray, mean: xr.DataArray, half: xr.DataArray, colour: str = COLOURS[0]
) -> None:
    panel.fill_between(x, mean - half, mean + half, color=colour, alpha=0.25, linewidth=0)
    panel.plot(x, mean, color=colour)


def remaining_life(followed: xr.Dataset, *, failed_day: float | None = None) -> Plot:
    """Remaining life as a fan, and what will end the tube."""
    plot, ax = axes(1, 2, width_in=9.4, height_in=3.3)
    fan, share = ax[0]
    day, q = followed["day"], followed["remaining_days"]
    for low, high, alpha in ((0.05, 0.95, 0.2), (0.25, 0.75, 0.35)):
        fan.fill_between(
            day,
            q.sel(quantile=low),
            q.sel(quantile=high),
            color=COLOURS[0],
            alpha=alpha,
            linewidth=0,
            label=f"{round(100 * (high - low))} %",
        )
    fan.plot(day, q.sel(quantile=0.5), color=COLOURS[0], label="median")
    if failed_day is not None:
        ends = np.array([float(day[0]), min(float(day[-1]), failed_day)])
        fan.plot(ends, failed_day - ends, label="as it came out", **TRUTH)
    fan.set(xlabel="Day", ylabel="Days left", ylim=(0, None))
    fan.set_title("Remaining life", loc="left")
    fan.legend(frameon=False)
    parts = [followed["failure_share"].sel(cause=cause) for cause in CAUSES]
    share.stackplot(day, *parts, colors=COLOURS, labels=list(CAUSES.values()), alpha=0.75)
    share.set(xlabel="Day", ylim=(0, 1))
    share.set_title("What will end the tube, probability", loc="left")
    share.legend(loc="lower left")
    truth = "; dashed: as it came out" if failed_day is not None else ""
    return plot.say(
        f"Days left with 50 and 90 % intervals over the tube's life, and causes of its end{truth}."
    )


def sensors(followed: xr.Dataset, *, block: int = 28) -> Plot:
    """Sensors by day against what the filter expected of them before it; arcs as means of blocks of days."""
    plot, ax = axes(2, 2, width_in=9.4, height_in=5.0, sharex=True)
    for panel, (name, title) in zip(ax.ravel(), SENSORS.items(), strict=True):
        one = followed.sel(sensor=name)[["sensor_value", "sensor_expected", "sensor_expected_sd"]]
        one = one.drop_vars([c for c in one.coords if c != "day"])
        one = one.isel(day=slice(min(3, one.sizes["day"] - 1), None))  # the prior's days would hide the rest
        sd = one["sensor_expected_sd"]
        if name == "arcs" and one.sizes["day"] > 3 * block:
            variance = (sd**2).coarsen(day=block, boundary="trim").mean() / block
            one = one.coarsen(day=block, boundary="trim").mean()
            sd = variance**0.5
        panel.plot(one["day"], one["sensor_value"], "o", color="#8a96a3", markersize=2.5, markeredgewidth=0)
        mean, half = one["sensor_expected"], NORMAL_95 * sd
        panel.fill_between(
            one["day"],
            np.maximum(mean - half, 0.0),
            mean + half,
            color=COLOURS[0],
            alpha=0.3,
            linewidth=0,
            zorder=3,
        )
        panel.plot(one["day"], mean, color=COLOURS[0], linewidth=0.9, zorder=4)
        panel.set_title(title, loc="left")
    for panel in ax[1]:
        panel.set_xlabel("Day")
    return plot.say(
        "Daily means of four sensors as dots, with what the filter expected of the day and its 95 % band."
    )


def daily_checks(values: xr.Dataset, charts: Mapping[str, xr.Dataset], *, baseline_days: int) -> Plot:
    """Daily values with their uncertainty; days on which a chart alarms are filled."""
    names = [name for name in QC if name in charts]
    plot, ax = axes(2, 2, width_in=9.4, height_in=4.8, sharex=True)
    for panel, name in zip(ax.ravel(), names, strict=False):
        day, value, sd = values["day"].to_numpy(), values[name].to_numpy(), values[f"{name}_sd"].to_numpy()
        alarm = charts[name]["alarm"].to_numpy()
        mean, spread = value[:baseline_days].mean(), value[:baseline_days].std(ddof=1)
        panel.axhspan(mean - 3 * spread, mean + 3 * spread, color=COLOURS[4], alpha=0.2, linewidth=0)
        for which, colour, text in ((~alarm, COLOURS[0], "in control"), (alarm, COLOURS[1], "alarm")):
            if which.any():
                panel.errorbar(
                    day[which],
                    value[which],
                    sd[which],
                    fmt="o",
                    markersize=3,
                    linewidth=0.8,
                    color=colour,
                    label=text,
                )
        panel.set_title(QC[name], loc="left")
    for panel in ax[1]:
        panel.set_xlabel("Day")
    ax[0, 0].legend(frameon=False)
    return plot.say("Daily quality values of the scanner; the band is the baseline, orange days alarm.")
