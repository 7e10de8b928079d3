"""Figures of the heart's twin: loops, bull's eye, parameters, sensitivity, what-if."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.colors import Normalize
from matplotlib.patches import Wedge

from twinlab.report.style import COLOURS, Plot, axes, bare
from twinlab.schema import refuse

# ring of the bull's eye: inner and outer radius, first AHA segment, how many, angle of the first one's middle
_RINGS = ((3.0, 4.0, 1, 6, 90.0), (2.0, 3.0, 7, 6, 90.0), (1.0, 2.0, 13, 4, 90.0), (0.0, 1.0, 17, 1, 90.0))


def bulls_eye(panels: Mapping[str, np.ndarray | xr.DataArray], *, label: str, cmap: str = "viridis") -> Plot:
    """The 17 AHA segments as rings, base outside, anterior on top, septum to the left, with one scale.

    Parameters
    ----------
    panels : mapping of title to array (17,)
    label : str
        Of the colour scale, with the unit in brackets.
    cmap : str

    Returns
    -------
    Plot

    Raises
    ------
    InputError
        Not 17 values.

    References
    ----------
    .. [1] Cerqueira et al., Circulation 105 (2002) 539, figure 4.
    """
    values = {title: np.asarray(v, float).ravel() for title, v in panels.items()}
    for title, row in values.items():
        if row.size != 17:
            refuse(f"bulls_eye: {title}", "17 values", row.size)
    every = np.concatenate([v[np.isfinite(v)] for v in values.values()])
    shade = mpl.cm.ScalarMappable(Normalize(float(every.min()), float(every.max())), cmap)
    plot, ax = axes(1, len(panels), width_in=min(2.7 * len(panels) + 0.9, 9.0), height_in=2.9)
    for panel, (title, row) in zip(ax[0], values.items(), strict=True):
        bare(panel)
        panel.set_aspect("equal")
        panel.set(xlim=(-4.2, 4.2), ylim=(-4.2, 4.2))
        panel.set_title(textwrap.fill(title, 24), fontsize=9)
        for inner, outer, first, count, middle in _RINGS:
            for k in range(count):
                # segments go from anterior over the septum: counter-clockwise as seen from the apex
                at = middle + 360.0 / count * k
                half = 180.0 / count
                value = row[first - 1 + k]
                colour: Any = shade.to_rgba(value) if np.isfinite(value) else "#b8bec6"
                panel.add_patch(
                    Wedge((0, 0), outer, at - half, at + half, width=outer - inner, fc=colour, ec="white")
                )
                radius = 0.5 * (inner + outer) if count > 1 else 0.0
                dark = sum(mpl.colors.to_rgb(colour)) < 1.5
                panel.text(
                    radius * np.cos(np.radians(at)),
                    radius * np.sin(np.radians(at)),
                    f"{value:.3g}",
                    ha="center",
                    va="center",
                    fontsize=6.5,
                    color="white" if dark else "black",
                )
    plot.colorbar(shade, ax=ax[0].tolist(), label=label, shrink=0.85, pad=0.02)
    return plot.say(f"Bull's eye of {label}: {', '.join(panels)}.")


def loops(hearts: Mapping[str, xr.Dataset], *, faint: xr.DataArray | None = None) -> Plot:
    """Pressure-volume loops and the left ventricle's pressure over the beat.

    Parameters
    ----------
    hearts : mapping of name to Dataset
        With ``compartment_pressure`` and ``compartment_volume``.
    faint : DataArray, dims (case, quantity, time), optional
        Loops behind, quantity being volume and pressure: draws of the parameters.

    Returns
    -------
    Plot
    """
    plot, ax = axes(1, 2, width_in=8.0, height_in=3.4)
    left, right = ax[0]
    for row in () if faint is None else faint.to_numpy():
        left.plot(row[0], row[1], color="#9aa5b1", linewidth=0.5, alpha=0.5)
    for colour, (name, one) in zip(COLOURS, hearts.items(), strict=False):
        where = {"compartment": "left_ventricle"}
        volume, pressure = one["compartment_volume"].sel(where), one["compartment_pressure"].sel(where)
        left.plot(volume, pressure, color=colour, label=name)
        time, order = _from_steepest(one["time"].to_numpy(), pressure.to_numpy())
        right.plot(time, pressure.to_numpy()[order], color=colour)
        arteries = one["compartment_pressure"].sel(compartment="systemic_arteries").to_numpy()
        right.plot(time, arteries[order], color=colour, linestyle="--", linewidth=1.0)
    left.set(xlabel="Volume of the left ventricle [ml]", ylabel="Pressure [mmHg]", title="Loops")
    right.set(
        xlabel="Time from the steepest rise [ms]",
        ylabel="Pressure [mmHg]",
        title="Ventricle (full) and arteries (dashed)",
    )
    left.legend()
    return plot.say(f"Pressure-volume loops of {', '.join(hearts)}.")


def _from_steepest(time: np.ndarray, pressure: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Time of a periodic beat from its steepest rise, a quarter of the beat before it, and the order of samples.

    Hearts of different models start their clocks at different events.
    """
    count = len(time)
    steepest = int((np.roll(pressure, -1) - np.roll(pressure, 1)).argmax())
    order = (np.arange(count) + steepest - count // 4) % count
    return (np.arange(count) - count // 4) * float(time[1] - time[0]), order


def parameters(summary: xr.Dataset, bounds: Mapping[str, tuple[float, float]]) -> Plot:
    """What the measurements leave of the range of every parameter.

    Parameters
    ----------
    summary : Dataset, dims (parameter)
        Of :class:`~twinlab.cardiac.twin.Calibration`.
    bounds : mapping of parameter to (low, high)
        The prior.

    Returns
    -------
    Plot
    """
    names = [str(n) for n in summary["parameter"].to_numpy()]
    plot, ax = axes(1, 1, width_in=7.0, height_in=0.42 * len(names) + 0.9)
    panel = ax[0, 0]
    for k, name in enumerate(names):
        low, high = bounds[name]
        row = summary.sel(parameter=name)
        ends = [(float(row[e]) - low) / (high - low) for e in ("low", "high")]
        panel.plot([0, 1], [k, k], color="#d5dbe2", linewidth=7, solid_capstyle="butt")
        panel.plot(ends, [k, k], color=COLOURS[0], linewidth=7, solid_capstyle="butt")
        panel.plot((float(row["mean"]) - low) / (high - low), k, "o", color="black", markersize=4)
        panel.text(
            1.02,
            k,
            f"{float(row['mean']):.3g} ({float(row['low']):.3g} to {float(row['high']):.3g})",
            va="center",
        )
    panel.set_yticks(range(len(names)), [readable(n) for n in names])
    panel.set_xticks([0, 1], ["low end of prior", "high end"])
    panel.set(xlim=(-0.02, 1.45), ylim=(len(names) - 0.5, -0.5))
    panel.grid(visible=False)
    return plot.say("Prior range (grey), 95 % interval (blue) and mean (dot) of every parameter.")


def sensitivity(indices: xr.Dataset, outputs: Sequence[str]) -> Plot:
    """Total Sobol indices with their intervals.

    Parameters
    ----------
    indices : Dataset, dims (output, input)
        From :func:`~twinlab.cardiac.twin.sobol`.
    outputs : sequence of str

    Returns
    -------
    Plot
    """
    names = [str(n) for n in indices["input"].to_numpy()]
    plot, ax = axes(1, len(outputs), width_in=9.0, height_in=0.3 * len(names) + 1.1, sharey=True)
    for panel, output in zip(ax[0], outputs, strict=True):
        row = indices.sel(output=output)
        total = row["total"].to_numpy()
        spread = np.abs(np.stack([row["total_low"].to_numpy() - total, row["total_high"].to_numpy() - total]))
        panel.barh(
            range(len(names)),
            total,
            xerr=spread,
            color=COLOURS[4],
            ecolor="#444",
            error_kw={"linewidth": 0.8},
        )
        panel.set(title=readable(output), xlim=(0, 1.05))
    ax[0, 0].set_yticks(range(len(names)), [readable(n) for n in names])
    ax[0, 0].invert_yaxis()
    plot.supxlabel("Share of the variance, with interactions (total Sobol index)", fontsize=9)
    return plot.say(f"Total Sobol indices of {', '.join(outputs)}.")


def scenarios(table: xr.Dataset, outputs: Mapping[str, str]) -> Plot:
    """Change of outputs by scenario, draw by draw, with 95 % intervals.

    Parameters
    ----------
    table : Dataset, dims (scenario, output)
        From :func:`~twinlab.cardiac.twin.what_if`.
    outputs : mapping of output to axis label

    Returns
    -------
    Plot
    """
    names = [str(n) for n in table["scenario"].to_numpy() if str(n) != "as is"]
    plot, ax = axes(1, len(outputs), width_in=9.0, height_in=0.34 * len(names) + 1.2, sharey=True)
    for panel, (output, words) in zip(ax[0], outputs.items(), strict=True):
        part = table.sel(output=output, scenario=names)
        mean = part["change"].to_numpy()
        ends = np.abs(np.stack([part["change_low"].to_numpy() - mean, part["change_high"].to_numpy() - mean]))
        panel.axvline(0.0, color="#8a96a3", linewidth=0.8)
        panel.errorbar(
            mean, range(len(names)), xerr=ends, fmt="o", color=COLOURS[0], markersize=4, linewidth=1.2
        )
        panel.set(xlabel=words)
    ax[0, 0].set_yticks(range(len(names)), names)
    ax[0, 0].invert_yaxis()
    return plot.say(f"Change against the patient as is, with 95 % intervals: {', '.join(names)}.")


def electrocardiograms(
    ecg: Mapping[str, xr.DataArray], leads: Sequence[str] = ("I", "II", "V1", "V6")
) -> Plot:
    """Some leads of the electrocardiogram, by pacing.

    Parameters
    ----------
    ecg : mapping of pacing to DataArray, dims (lead, time)
    leads : sequence of str

    Returns
    -------
    Plot
    """
    plot, ax = axes(1, len(leads), width_in=9.0, height_in=2.5, sharey=True)
    for panel, lead in zip(ax[0], leads, strict=True):
        for colour, (name, trace) in zip(COLOURS, ecg.items(), strict=False):
            panel.plot(trace["time"], trace.sel(lead=lead), color=colour, label=name, linewidth=1.1)
        panel.set(title=lead, xlabel="Time [ms]")
    ax[0, 0].set_ylabel("Potential [mV]")
    ax[0, -1].legend(fontsize=7)
    return plot.say(f"Electrocardiogram, leads {', '.join(leads)}, for {', '.join(ecg)}.")


def readable(name: str) -> str:
    """A variable's name in words.

    Examples
    --------
    >>> readable("conduction_velocity_mm_per_ms"), readable("wall_area_scale")
    ('conduction velocity [mm/ms]', 'wall area (scale)')
    """
    units: dict[str, Any] = {"_mm_per_ms": " [mm/ms]", "_kpa": " [kPa]", "_scale": " (scale)"}
    for tail, words in units.items():
        if name.endswith(tail):
            return name.removesuffix(tail).replace("_", " ") + words
    known = {"lv_ef": "EF", "lv_edv": "end-diastolic volume", "lv_esv": "end-systolic volume"}
    return known.get(name, name.replace("_", " "))
