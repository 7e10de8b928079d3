"""Figures of dose: along the patient, dose-volume histograms, modulated against fixed current."""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr

from twinlab.report.current_tables import SURE
from twinlab.report.dose_tables import plain
from twinlab.report.style import COLOURS, Plot, axes, shades
from twinlab.schema import check, refuse

_GREY = "#5b6776"


def along_patient(
    quantities: xr.Dataset, trajectory: xr.Dataset, noise: xr.Dataset, *, ctdi_vol_mgy: float
) -> Plot:
    """Tube current, size, noise and dose over the table position.

    Parameters
    ----------
    quantities : Dataset
        From :func:`twinlab.dose.quantities`, with ``ssde``.
    trajectory : Dataset
        With ``tube_current``.
    noise : Dataset
        From :func:`twinlab.report.current_tables.relative_noise`.
    ctdi_vol_mgy : float
        At fixed current.
    """
    check(quantities, "ssde", "ctdi_vol", "water_equivalent_diameter", where="along_patient")
    check(trajectory, "tube_current", "source_z", where="along_patient")
    plot, ax = axes(2, 2, width_in=9.6, height_in=5.4, sharex=True)
    z, current = trajectory.source_z.to_numpy(), trajectory.tube_current.to_numpy()
    low, middle, high = _per_rotation(current, int(trajectory.attrs.get("views_per_rotation", 1)))
    panel = ax[0, 0]
    panel.fill_between(z, low, high, color=COLOURS[0], alpha=0.22, linewidth=0, label="within a rotation")
    panel.plot(z, middle, color=COLOURS[0], label="modulated")
    panel.axhline(current.mean(), color=COLOURS[1], linestyle="--", label="fixed")
    panel.set(ylabel="Tube current [mA]", ylim=(0, None))
    panel.legend(fontsize=8.5, ncols=3, loc="lower center")
    panel = ax[0, 1]
    panel.plot(quantities.z, quantities.water_equivalent_diameter / 10, color=COLOURS[2])
    panel.set(ylabel="Water-equivalent diameter [cm]")
    panel = ax[1, 0]
    panel.plot(noise.z, noise.fixed, color=COLOURS[1], linestyle="--", label="fixed")
    panel.plot(noise.z, noise.modulated, color=COLOURS[0], label="modulated")
    panel.set(ylabel="Noise in the middle,\nestimated, relative", ylim=(0, None))
    panel = ax[1, 1]
    panel.plot(quantities.z, quantities.ssde, color=COLOURS[0], label="SSDE")
    panel.plot(quantities.z, quantities.size_factor * ctdi_vol_mgy, color=COLOURS[1], linestyle="--",
               label="SSDE, fixed")  # fmt: skip
    panel.plot(
        quantities.z, quantities.ctdi_vol, color=COLOURS[3], linewidth=1.2, label=r"CTDI$_\mathrm{vol}$"
    )
    panel.set(ylabel="Dose index [mGy]", ylim=(0, None))
    for one in ax[1]:
        one.set_xlabel("Table position z [mm], head to the right")
        one.legend(fontsize=8.5, loc="lower center", ncols=3)
    mean = float(quantities.ssde_mean)
    return plot.say(
        f"Tube current from {low.min():.0f} to {high.max():.0f} mA, water-equivalent diameter, estimated noise, "
        f"and CTDIvol and SSDE by slice (SSDE mean {mean:.2f} mGy) along the patient."
    )


def _per_rotation(current: np.ndarray, views: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Least, mean and largest current within a rotation about each view."""
    rolling = pd.Series(current).rolling(max(views, 1), center=True, min_periods=1)
    return rolling.min().to_numpy(), rolling.mean().to_numpy(), rolling.max().to_numpy()


def histograms(dvh: xr.Dataset, *, highest_mgy: float | None = None) -> Plot:
    """Cumulative dose-volume histograms.

    Parameters
    ----------
    dvh : Dataset
        From :func:`twinlab.dose.dose_volume_histogram`, of a few organs.
    highest_mgy : float, optional
        End of the axis; where every curve is below 1 % without it.
    """
    check(dvh, "dvh", "dvh_mean", where="histograms")
    organs = dvh.sortby("dvh_mean", ascending=False)
    level = organs.dose_level.to_numpy()
    seen = organs.dvh.max("organ_id").to_numpy() > 0.01
    top = highest_mgy or float(level[min(int(np.flatnonzero(seen).max()) + 1, level.size - 1)])
    plot, ax = axes(width_in=7.6, height_in=3.5)
    colours = COLOURS if organs.sizes["organ_id"] <= len(COLOURS) else shades(organs.sizes["organ_id"])
    for k, colour in zip(range(organs.sizes["organ_id"]), colours, strict=False):
        one = organs.isel(organ_id=k)
        label = f"{plain(one.organ_name.values)}, mean {float(one.dvh_mean):.1f} mGy"
        ax[0, 0].plot(level, 100 * one.dvh, color=colour, label=label)
    ax[0, 0].set(
        xlim=(0, top), ylim=(0, 101), xlabel="Absorbed dose [mGy]", ylabel="Volume with this dose or more [%]"
    )
    ax[0, 0].legend(fontsize=8.5, loc="upper right")
    names = ", ".join(plain(n) for n in organs.organ_name.values)
    return plot.say(f"Cumulative dose-volume histograms of {names}, to {top:.3g} mGy.")


def histogram_words(dvh: xr.Dataset) -> str:
    """Spread of dose within organs, and how much of it is noise."""
    check(dvh, "dvh_dose_at", "dvh_noise_share", "dvh_mean", where="histogram_words")
    spread = (dvh.dvh_dose_at.isel(volume_percent=0) - dvh.dvh_dose_at.isel(volume_percent=-1)) / dvh.dvh_mean
    widest = dvh.isel(organ_id=int(np.argmax(spread.to_numpy())))
    high, low = (float(widest.dvh_dose_at.isel(volume_percent=k)) for k in (0, -1))
    noise = 100 * float(dvh.dvh_noise_share.max())
    loud = dvh.isel(organ_id=np.flatnonzero(dvh.dvh_noise_share.values > 0.5)).organ_name.values
    caution = f"; of {', '.join(map(plain, loud))} only the mean means much" if loud.size else ""
    return (
        f"Dose varies most within the {plain(widest.organ_name.values)}: {low:.1f} to {high:.1f} mGy hold 96 % of its "
        f"volume. Up to {noise:.0f} % of the variance over voxels is statistical noise{caution}."
    )


def differences(table: pd.DataFrame, *, count: int = 24) -> Plot:
    """Change of organ doses by modulation, with intervals of 95 %.

    Parameters
    ----------
    table : DataFrame
        From :func:`twinlab.report.current_tables.current_table`.
    count : int
        Most rows: the largest differences over their uncertainty are kept.
    """
    rows = table.loc[table["sds"].abs().sort_values().index[-count:]].sort_values("difference [%]")
    if not len(rows):
        refuse("differences", "one organ or more", "none")
    plot, ax = axes(width_in=7.6, height_in=1.1 + 0.22 * len(rows))
    panel = ax[0, 0]
    sure = rows["sds"].abs() > SURE
    for chosen, colour, words in (
        (sure, COLOURS[0], f"beyond {SURE:g} standard uncertainties"),
        (~sure, "#9aa5b1", "not told apart from zero"),
    ):
        part = rows[chosen]
        if len(part):
            panel.errorbar(part["difference [%]"], np.flatnonzero(chosen), xerr=1.96 * part["sd [%]"], fmt="o",
                           markersize=4.5, capsize=2, elinewidth=1.1, color=colour, label=words)  # fmt: skip
    panel.set_yticks(range(len(rows)), rows["organ"])
    panel.tick_params(axis="y", length=0)
    panel.grid(visible=False, axis="y")
    panel.axvline(0, color=_GREY, linewidth=1)
    panel.set_xlabel("Dose with modulated over fixed current, equal mAs: difference [%], 95 % intervals")
    plot.legend(loc="outside upper left", ncols=2, fontsize=8.5)
    return plot.say(
        f"Differences of {len(rows)} organ doses between modulated and fixed current, "
        f"{rows['difference [%]'].min():+.0f} to {rows['difference [%]'].max():+.0f} %; "
        f"{int(sure.sum())} are significant."
    )
