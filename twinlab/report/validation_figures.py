"""Figures of the validation of the transport of dose."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import xarray as xr

from twinlab.report.dose_validation import KV_LAW, ONE_SCANNER
from twinlab.report.style import COLOURS, MARKERS, Plot, axes

_GREY = "#5b6776"
_BARS = {"markersize": 5, "capsize": 2, "elinewidth": 1.1, "linestyle": "none"}


def transmission(layers: xr.Dataset) -> Plot:
    """Air kerma behind layers of aluminium, and its difference from ``exp(-mu t)``.

    Parameters
    ----------
    layers : Dataset
        From :func:`twinlab.report.dose_validation.attenuation`.
    """
    plot, ax = axes(1, 2, width_in=9.4, height_in=3.4)
    left, right = ax[0]
    fine = np.linspace(0, 1.08 * float(layers.layer.max()), 60)
    left.plot(fine, 0.5**fine, color=_GREY, linewidth=1.2, label="exp(-μt), μ of NIST")
    shift = 0.06 * (np.arange(layers.sizes["energy"]) - 1)
    for k, energy in enumerate(layers.energy.values):
        one = layers.sel(energy=energy)
        style = {"color": COLOURS[k], "fmt": MARKERS[k], "label": f"{energy} keV"} | _BARS
        left.errorbar(one.layer, one.transmission, yerr=2 * one.sd, **style)
        off, spread = (100 * (v / one.expected) for v in (one.transmission - one.expected, one.sd))
        right.errorbar(one.layer + shift[k], off, yerr=2 * spread, **style)
    left.set(yscale="log", xlabel="Thickness over half-value layer", ylabel="Air kerma behind aluminium")
    left.set_yticks([1, 0.5, 0.25, 0.125], ["1", "1/2", "1/4", "1/8"])
    left.minorticks_off()
    left.legend(fontsize=8.5)
    right.axhline(0, color=_GREY, linewidth=1)
    right.set(xlabel="Thickness over half-value layer", ylabel="Difference [%], ±2 sd")
    off = 100 * float(np.abs(layers.transmission / layers.expected - 1).max())
    return plot.say(
        f"Transmission of aluminium at three energies, by transport within {off:.2f} % of exp(-mu t)."
    )


def ctdi_ratios(table: pd.DataFrame) -> Plot:
    """CTDIw over kV and centre over rim, with published values.

    Parameters
    ----------
    table : DataFrame
        From :func:`twinlab.report.dose_validation.ctdi_table`.
    """
    plot, ax = axes(1, 2, width_in=9.4, height_in=3.4)
    left, right = ax[0]
    kv = np.linspace(75, 145, 50)
    law = (kv / 120) ** KV_LAW
    left.fill_between(kv, 0.93 * law, 1.07 * law, color=_GREY, alpha=0.15, linewidth=0)
    left.plot(kv, law, color=_GREY, linewidth=1.2, label=f"kV$^{{{KV_LAW}}}$ ±7 %, 43 scanners")
    left.plot(
        list(ONE_SCANNER), list(ONE_SCANNER.values()), "x", color="black", label="one scanner, published"
    )
    for k, (phantom, rows) in enumerate(table.groupby("phantom", sort=False)):
        style = {"color": COLOURS[k], "fmt": MARKERS[k], "label": str(phantom)} | _BARS
        left.errorbar(rows["kV"] + 1.2 * k, rows["over 120 kV"], yerr=2 * rows["sd"], **style)
        right.errorbar(rows["kV"] + 1.2 * k, rows["centre / rim"], yerr=2 * rows["sd "], **style)
        usual = float(rows["published"].dropna().iloc[0])
        right.plot(
            [112, 128], [usual, usual], color=_GREY, linestyle="--", label="published" if k == 0 else None
        )
    left.set(xlabel="Tube voltage [kV]", ylabel=r"CTDI$_\mathrm{w}$ over that at 120 kV")
    right.set(xlabel="Tube voltage [kV]", ylabel="CTDI$_{100}$, centre over rim", ylim=(0, None))
    for one in ax[0]:
        one.legend(fontsize=8.5)
    return plot.say(
        f"CTDIw relative to 120 kV from {table['over 120 kV'].min():.2f} to {table['over 120 kV'].max():.2f}, and "
        "centre over rim in phantoms of 32 and 16 cm, beside published values."
    )


def two_estimators(rods: xr.Dataset) -> Plot:
    """Energy in rods around a cylinder by track length and by collisions, and their ratio.

    Parameters
    ----------
    rods : Dataset
        From :func:`twinlab.report.dose_validation.estimators`.
    """
    around = rods.isel(volume=np.flatnonzero(np.isfinite(rods.angle)))
    plot, ax = axes(1, 2, width_in=9.4, height_in=3.4)
    left, right = ax[0]
    named = (("collision", "by collisions", 1), ("track", "by track length", 0))
    for name, words, k in named:
        style = {"color": COLOURS[k], "fmt": MARKERS[k], "label": words} | _BARS | {"markersize": 3.5}
        left.errorbar(around.angle, around[name], yerr=2 * around[f"{name}_sd"], **style)
    left.set(
        xlabel="Angle of the rod from the source [degree]", ylabel="Energy per photon [eV]", yscale="log"
    )
    left.set_xticks(range(0, 361, 90))
    left.legend(fontsize=8.5)
    pull = rods.pull.to_numpy()
    pull = np.sort(pull[np.isfinite(pull)])
    share = (np.arange(pull.size) + 0.5) / pull.size
    right.plot(pull, share, "o", color=COLOURS[0], markersize=4, label="rods and discs")
    fine = np.linspace(-3.5, 3.5, 100)
    right.plot(
        fine, [0.5 * (1 + math.erf(v / math.sqrt(2))) for v in fine], color=_GREY, label="normal distribution"
    )
    right.set(xlabel="Difference of the estimators over its sd", ylabel="Share of volumes below", ylim=(0, 1))
    right.legend(fontsize=8.5)
    return plot.say(
        f"Energy in 36 rods by two estimators; {pull.size} differences lie between {pull[0]:.1f} and {pull[-1]:.1f} sd."
    )


def interval_coverage(runs: xr.Dataset) -> Plot:
    """Pulls of short runs against the normal curve, and the share of 95 % intervals that hold, by organ.

    Parameters
    ----------
    runs : Dataset
        From :func:`twinlab.report.dose_validation.coverage`.
    """
    plot, ax = axes(1, 2, width_in=9.4, height_in=3.4)
    left, right = ax[0]
    pull = runs.pull.to_numpy().ravel()
    left.hist(
        pull, bins=np.linspace(-4, 4, 33), density=True, color=COLOURS[0], alpha=0.75, label="short runs"
    )
    fine = np.linspace(-4, 4, 120)
    left.plot(fine, np.exp(-0.5 * fine**2) / math.sqrt(2 * math.pi), color=_GREY, label="normal distribution")
    left.set(xlabel="Short less long run over its sd", ylabel="Probability density")
    left.legend(fontsize=8.5)
    share = 100 * (np.abs(runs.pull) < 1.96).mean("run")
    n = runs.sizes["run"]
    chance = 196 * math.sqrt(0.95 * 0.05 / n)
    right.axvspan(95 - chance, min(95 + chance, 100), color=_GREY, alpha=0.15, linewidth=0)
    right.set_title(f"grey: where 95 % of counts of {n} runs lie", fontsize=8.5)
    right.axvline(95, color=_GREY, linewidth=1)
    right.plot(
        share, [str(v).replace("_", " ") for v in runs.organ.values], "o", color=COLOURS[0], markersize=5
    )
    right.set(xlabel="Intervals that hold the long run [%]", xlim=(min(84, float(share.min()) - 2), 101))
    right.grid(visible=False, axis="y")
    return plot.say(
        f"{runs.pull.size} differences of short runs from a long one follow the normal curve; by organ "
        f"{float(share.min()):.0f} to {float(share.max()):.0f} % of the 95 % intervals hold it."
    )


def four_codes(table: xr.Dataset | None) -> list[Plot]:
    """Differences from the mean of four codes, row by row, with the codes' own range; none without a table.

    Parameters
    ----------
    table : Dataset or None
        From :func:`twinlab.report.report_195.compare`.
    """
    if table is None:
        return []
    cases = list(dict.fromkeys(table["case"].values.tolist()))
    plot, ax = axes(len(cases), 1, width_in=9.0, height_in=1.0 + 1.75 * len(cases))
    for panel, case in zip(ax[:, 0], cases, strict=True):
        rows = table.isel(row=np.flatnonzero(table["case"].values == case))
        mean, place = rows["mean"].to_numpy(), np.arange(rows.sizes["row"])
        low, high, off, sd = (
            100 * v / mean
            for v in (rows["low"] - mean, rows["high"] - mean, rows["value"] - mean, rows["sd"])
        )
        wide = 0.35 if len(place) < 60 else 0.5
        panel.fill_between(np.repeat(place, 2) + np.tile([-wide, wide], len(place)), np.repeat(low, 2),
                           np.repeat(high, 2), color=_GREY, alpha=0.35, linewidth=0)  # fmt: skip
        panel.errorbar(place, off, yerr=sd, fmt="o", color=COLOURS[0], markersize=3, elinewidth=0.8)
        panel.axhline(0, color=_GREY, linewidth=0.8)
        panel.set_xticks([])
        panel.set_title(f"case {case}: {rows.sizes['row']} values")
        panel.set_ylabel("Difference [%]")
        panel.margins(x=0.01)
    ax[-1, 0].set_xlabel(
        "Layers, volumes or rods in the report's order; grey: range of the four codes; bars: our sd"
    )
    worst = float(np.abs(table["difference"]).max())
    plot.say(
        f"Differences of {table.sizes['row']} values from the mean of four codes of AAPM Report 195; the largest is "
        f"{100 * worst:.1f} %, {float(table['excess'].max()):.1f} sd outside the codes' band."
    )
    return [plot]
