"""Figures of curves and trade-offs: profiles, noise spectra, dose against image quality."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import xarray as xr

from twinlab.report.style import COLOURS, MARKERS, Plot, axes, pretty, quantity, shades
from twinlab.schema import refuse


def profile(
    curves: xr.DataArray | Mapping[str, xr.DataArray],
    *,
    band: Mapping[str, xr.DataArray] | None = None,
    reference: Mapping[str, float] | None = None,
    label: str = "",
) -> Plot:
    """Labelled 1-D curves over their common coordinate.

    Parameters
    ----------
    curves : DataArray or mapping of name to DataArray, one dim
        Units and meaning on the axes come from the first.
    band : mapping of name to DataArray, optional
        Standard uncertainty of the curve of that name, drawn as +-2 of it.
    reference : mapping of name to float, optional
        Dashed horizontal lines.
    label : str
        Label of the vertical axis when the curve does not carry it.
    """
    named = curves if isinstance(curves, Mapping) else {"": curves}
    plot, ax = axes(width_in=7.6, height_in=3.3)
    panel = ax[0, 0]
    for (name, curve), colour in zip(named.items(), [*COLOURS, *shades(len(named))], strict=False):
        if curve.ndim != 1:
            refuse("profile", "curves of one dim", f"{name or curve.name}: {curve.dims}")
        x, y = np.asarray(curve[curve.dims[0]], float), np.asarray(curve, float)
        panel.plot(x, y, color=colour, label=name or None, linewidth=1.6)
        if band and name in band:
            width = 2 * np.asarray(band[name], float)
            panel.fill_between(x, y - width, y + width, color=colour, alpha=0.18, linewidth=0)
    for name, value in (reference or {}).items():
        panel.axhline(value, color="#5b6776", linestyle="--", linewidth=1, label=name)
    first = next(iter(named.values()))
    panel.set_xlabel(quantity(first[first.dims[0]], str(first.dims[0])))
    panel.set_ylabel(label or quantity(first))
    if len(named) + len(reference or {}) > 1 or next(iter(named)):
        panel.legend(fontsize=8.5)
    panel.margins(x=0.01)
    return plot.say(
        f"{label or quantity(first)} over {first.dims[0]}: {', '.join(filter(None, named)) or 'one curve'}."
    )


def noise_power(spectra: xr.DataArray | Mapping[str, xr.DataArray]) -> Plot:
    """Radial noise power spectra.

    Parameters
    ----------
    spectra : DataArray or mapping of name to DataArray, dims (frequency), HU2 mm2
    """
    named = spectra if isinstance(spectra, Mapping) else {"": spectra}
    plot, ax = axes(width_in=7.0, height_in=3.3)
    panel = ax[0, 0]
    for (name, curve), colour in zip(named.items(), [*COLOURS, *shades(len(named))], strict=False):
        panel.plot(curve.frequency, curve, color=colour, label=name or None, linewidth=1.6)
    panel.set_xlabel(f"Spatial frequency [{pretty('mm-1')}]")
    panel.set_ylabel(f"Noise power [{pretty('HU2 mm2')}]")
    panel.set_xlim(left=0)
    panel.set_ylim(bottom=0)
    if any(named):
        panel.legend(fontsize=8.5)
    first = next(iter(named.values()))
    peak = float(first.frequency[int(np.nanargmax(first))])
    return plot.say(f"Radial noise power spectrum; the first curve peaks at {peak:.2f} per mm.")


def pareto(
    cases: pd.DataFrame,
    *,
    dose: str,
    quality: str,
    dose_sd: str | None = None,
    quality_sd: str | None = None,
    colour: str | None = None,
    front: str | None = None,
    recommended: int | None = None,
    required: float | None = None,
    labels: Mapping[str, str] | None = None,
) -> Plot:
    """Dose against image quality of all protocols, with the front and the recommended one.

    Parameters
    ----------
    cases : DataFrame
        One row a protocol.
    dose, quality : str
        Columns of the two axes.
    dose_sd, quality_sd : str, optional
        Columns of their standard uncertainties; bars are +-2 of them.
    colour : str, optional
        Column whose values (at most seven, such as kV) get colour and marker.
    front : str, optional
        Boolean column: on the Pareto front; these are joined by a line.
    recommended : int, optional
        Position (row number) of the recommended protocol.
    required : float, optional
        Least quality that the task needs.
    labels : mapping of column to text, optional
        Axis and legend texts with units; the column's name otherwise.

    Raises
    ------
    InputError
        A named column is missing.
    """
    asked = [c for c in (dose, quality, dose_sd, quality_sd, colour, front) if c]
    missing = [c for c in asked if c not in cases]
    if missing:
        refuse("pareto", f"columns {', '.join(map(str, cases.columns))}", ", ".join(missing))
    text = {c: c for c in asked} | dict(labels or {})
    plot, ax = axes(width_in=7.8, height_in=4.6)
    panel = ax[0, 0]
    groups = list(cases.groupby(colour, sort=True)) if colour else [("", cases)]
    for number, (value, rows) in enumerate(groups):
        panel.errorbar(
            rows[dose], rows[quality],
            xerr=2 * rows[dose_sd] if dose_sd else None, yerr=2 * rows[quality_sd] if quality_sd else None,
            fmt=MARKERS[number % len(MARKERS)], color=COLOURS[number % len(COLOURS)], markersize=5.5,
            elinewidth=0.9, capsize=2, label=f"{value:g} {text[colour]}" if colour else None, zorder=3,
        )  # fmt: skip
    if front:
        best = cases[cases[front].astype(bool)].sort_values(dose)
        panel.plot(best[dose], best[quality], color="#5b6776", linewidth=1.2, zorder=2, label="Pareto front")
    if required is not None:
        panel.axhline(required, color="#5b6776", linestyle="--", linewidth=1, label=f"required: {required:g}")
    best_text = "no protocol is marked"
    if recommended is not None:
        row = cases.iloc[recommended]
        panel.plot(
            row[dose], row[quality], "o", markersize=15, markerfacecolor="none", markeredgecolor="#1b2430",
            markeredgewidth=1.6, label="recommended", zorder=4,
        )  # fmt: skip
        best_text = f"recommended at {text[dose]} {row[dose]:.3g}, {text[quality]} {row[quality]:.3g}"
    panel.set_xlabel(text[dose])
    panel.set_ylabel(text[quality])
    panel.set_xlim(left=0)
    panel.legend(fontsize=8.5, loc="best")
    return plot.say(f"{text[quality]} against {text[dose]} of {len(cases)} protocols; {best_text}.")
