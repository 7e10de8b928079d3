"""Figures of images, phantoms and dose: each with units, a scale and a text for those who do not see it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from twinlab.phantom.body import PADDING_HU
from twinlab.report.charts import noise_power, pareto, profile
from twinlab.report.style import COLOURS, Plot, axes, bare, extent, frame, quantity, scale_bar, shades, sides
from twinlab.schema import refuse

_WINDOWS = {"body": (40.0, 400.0), "lung": (-600.0, 1500.0), "bone": (400.0, 1800.0), "brain": (40.0, 80.0)}


def window(name: str | tuple[float, float]) -> tuple[float, float]:
    """Lowest and highest shown value [HU] of a named window or of (centre, width).

    Raises
    ------
    InputError
        Unknown name.

    Examples
    --------
    >>> window("body")
    (-160.0, 240.0)
    """
    if isinstance(name, str) and name not in _WINDOWS:
        refuse("window", f"(centre, width) in HU or one of {', '.join(_WINDOWS)}", repr(name))
    centre, width = _WINDOWS[name] if isinstance(name, str) else name
    return centre - width / 2, centre + width / 2


def slices(
    image: xr.DataArray,
    *,
    z_mm: Sequence[float] | None = None,
    hu_window: str | tuple[float, float] = "body",
    count: int = 4,
    title: str = "",
    cmap: str = "gray",
) -> Plot:
    """Axial slices beside each other.

    Parameters
    ----------
    image : DataArray, dims (z, y, x)
        ``hu`` in its window, or ``density`` over its range.
    z_mm : sequence of float, optional
        Nearest slices; without it ``count`` spread over the image.
    hu_window : str or (centre, width)
        For HU only.
    title, cmap : str
        Words above; colours (grey for anatomy).
    """
    places = _places(image, z_mm, count)
    wide = min(10.0, 2.7 * len(places) + 0.6) if len(places) > 1 else 5.0
    plot, ax = axes(1, len(places), width_in=wide, height_in=3.0 if len(places) > 1 else 4.0)
    low, high = _limits(image, hu_window)
    shown: Any = None
    for panel, z in zip(ax[0], places, strict=True):
        shown = _axial(panel, image.sel(z=z, method="nearest"), low, high, cmap=cmap)
        panel.set_title(f"z = {z:.0f} mm")
    scale_bar(ax[0, 0])
    plot.colorbar(shown, ax=ax[0].tolist(), label=quantity(image), shrink=0.75, pad=0.01)
    if title:
        plot.suptitle(title, x=0.01, ha="left", fontsize=11)
    where = ", ".join(f"{z:.0f}" for z in places)
    return plot.say(f"{title or quantity(image)}: axial slices at z = {where} mm, {low:g} to {high:g}.")


def planes(
    image: xr.DataArray,
    *,
    hu_window: str | tuple[float, float] = "body",
    centre_mm: Mapping[str, float] | None = None,
) -> Plot:
    """Axial, coronal and sagittal section through one point.

    Parameters
    ----------
    image : DataArray, dims (z, y, x)
    hu_window : str or (centre, width)
        For HU only.
    centre_mm : mapping of "x", "y", "z" to float, optional
        The point; the middle of the image without it.
    """
    at = {str(d): float(image[d].mean()) for d in image.dims} | dict(centre_mm or {})
    low, high = _limits(image, hu_window)
    plot, ax = axes(1, 3, width_in=10.0, height_in=3.6)
    shown: Any = None
    for panel, across, name in zip(ax[0], ("z", "y", "x"), ("axial", "coronal", "sagittal"), strict=True):
        section = image.sel({across: at[across]}, method="nearest")
        shown = _section(panel, section, low, high)
        panel.set_title(f"{name}, {across} = {at[across]:.0f} mm")
        scale_bar(panel)
    plot.colorbar(shown, ax=ax[0].tolist(), label=quantity(image), shrink=0.75, pad=0.01)
    return plot.say(f"{quantity(image)}: axial, coronal and sagittal section, {low:g} to {high:g}.")


def compare(
    images: Mapping[str, xr.DataArray],
    *,
    z_mm: float,
    hu_window: str | tuple[float, float] = "body",
    difference: bool = False,
    regions: Mapping[str, tuple[float, float, float, float]] | None = None,
) -> Plot:
    """One slice of several images, in one window.

    Parameters
    ----------
    images : mapping of title to DataArray, dims (z, y, x), HU
    z_mm : float
        Nearest slice of each.
    difference : bool
        With two images: a third panel, second minus first on the first's grid, over +-100 HU.
    regions : mapping of name to (left, right, bottom, top) in mm, optional
        Rectangles drawn on each image.
    """
    if difference and len(images) != 2:
        refuse("compare", "two images for a difference", f"{len(images)}")
    low, high = window(hu_window)
    columns = len(images) + int(difference)
    plot, ax = axes(1, columns, width_in=min(10.5, 3.3 * columns + 0.8), height_in=3.7)
    cuts = {name: image.sel(z=z_mm, method="nearest") for name, image in images.items()}
    shown: Any = None
    for panel, (name, cut) in zip(ax[0], cuts.items(), strict=False):
        shown = _axial(panel, cut, low, high)
        panel.set_title(f"{name}, z = {float(cut.z):.1f} mm")
        scale_bar(panel)
        for box in (regions or {}).values():
            frame(panel, box)
    plot.colorbar(shown, ax=ax[0, : len(cuts)].tolist(), label="CT number [HU]", shrink=0.7, pad=0.01)
    if difference:
        first, second = cuts.values()
        gap = (second.interp(x=first.x, y=first.y) - first).where(
            first != PADDING_HU
        )  # padding is no anatomy
        image = _axial(ax[0, -1], gap, -100, 100, cmap="RdBu_r")
        ax[0, -1].set_title("second - first")
        plot.colorbar(image, ax=ax[0, -1], label="Difference [HU]", shrink=0.7, pad=0.01)
    return plot.say(f"Axial slice at z = {z_mm:.0f} mm: {', '.join(images)}, {low:g} to {high:g} HU.")


def organs(
    background: xr.DataArray,
    phantom: xr.Dataset,
    *,
    names: Sequence[str],
    z_mm: Sequence[float] | None = None,
    hu_window: str | tuple[float, float] = "body",
) -> Plot:
    """Organ labels in colour over axial slices.

    Parameters
    ----------
    background : DataArray, dims (z, y, x)
        On the phantom's grid; ``hu`` or ``density``.
    phantom : Dataset
        With ``organ`` and ``organ_name``.
    names : sequence of str
        Organs shown, at most seven are told apart by colour.
    """
    known = dict(zip(map(str, phantom.organ_name.values), phantom.organ_id.values, strict=True))
    missing = [name for name in names if name not in known]
    if missing:
        refuse("organs", f"organs of the phantom ({', '.join(sorted(known))})", ", ".join(missing))
    places = _places(background, z_mm, 3)
    low, high = _limits(background, hu_window)
    plot, ax = axes(1, len(places), width_in=3.1 * len(places) + 1.2, height_in=3.7)
    for panel, z in zip(ax[0], places, strict=True):
        _axial(panel, background.sel(z=z, method="nearest"), low, high)
        labels = phantom.organ.sel(z=z, method="nearest")
        box = extent(labels)
        for name, colour in zip(names, _colours(len(names)), strict=True):
            mask = np.where(labels.values == known[name], 1.0, np.nan)
            panel.imshow(
                mask,
                extent=box,
                cmap=mpl.colors.ListedColormap([colour]),
                alpha=0.55,
                interpolation="nearest",
            )
        panel.set_title(f"z = {z:.0f} mm")
    scale_bar(ax[0, 0])
    patches = [
        mpl.patches.Patch(color=c, label=n.replace("_", " "))
        for n, c in zip(names, _colours(len(names)), strict=True)
    ]
    plot.legend(handles=patches, loc="outside lower center", ncols=min(len(names), 6), fontsize=8)
    return plot.say(f"Organ labels over axial slices: {', '.join(names)}.")


def dose_wash(
    dose: xr.DataArray,
    background: xr.DataArray,
    *,
    z_mm: float | None = None,
    hu_window: str | tuple[float, float] = "body",
    highest_mgy: float | None = None,
) -> Plot:
    """Dose in colour over an axial and a coronal section.

    Parameters
    ----------
    dose : DataArray, dims (z, y, x), mGy
    background : DataArray, dims (z, y, x)
        ``hu`` or ``density``; its grid may be another.
    z_mm : float, optional
        Axial section; the slice of the highest mean dose without it.
    highest_mgy : float, optional
        Top of the colour scale; the 99.5th percentile inside the body without it.
    """
    around = background.sel({axis: dose[axis] for axis in "zyx"}, method="nearest")
    thin = -960 if background.attrs.get("units") == "HU" else 0.04  # air within the body
    body = (around > thin).assign_coords(dose.coords) & dose.notnull()
    inside = dose.where(body)
    top = highest_mgy or float(np.nanpercentile(inside.values, 99.5)) or 1.0
    z = float(inside.mean(["y", "x"]).idxmax("z")) if z_mm is None else z_mm
    y = float(body.sum(["z", "x"]).idxmax("y"))
    low, high = _limits(background, hu_window)
    plot, ax = axes(1, 2, width_in=9.0, height_in=4.0)
    shown: Any = None
    for panel, at, name in ((ax[0, 0], {"z": z}, "axial"), (ax[0, 1], {"y": y}, "coronal")):
        _section(panel, background.sel(at, method="nearest"), low, high)
        cut = inside.sel(at, method="nearest")
        if name == "coronal":
            cut = cut.isel(z=slice(None, None, -1))
        shown = panel.imshow(cut.values, extent=extent(cut), cmap="inferno", alpha=0.62, vmin=0, vmax=top)
        panel.set_title(f"{name}, {next(iter(at))} = {next(iter(at.values())):.0f} mm")
        scale_bar(panel)
    plot.colorbar(shown, ax=ax[0].tolist(), label="Absorbed dose [mGy]", shrink=0.8, pad=0.01, extend="max")
    return plot.say(f"Absorbed dose over the patient: axial and coronal section, 0 to {top:.3g} mGy.")


def organ_bars(
    result: xr.Dataset, *, count: int = 18, coverage: float = 2.0, names: Sequence[str] | None = None
) -> Plot:
    """Organ doses, highest first, with their uncertainty.

    Parameters
    ----------
    result : Dataset
        ``organ_dose``, ``organ_dose_sd`` [mGy] over ``organ_id``, and ``organ_name``.
    count : int
        Most bars shown.
    coverage : float
        Bars of uncertainty are +- ``coverage`` standard uncertainties.
    names : sequence of str, optional
        Only these organs.
    """
    frame_ = xr.Dataset({k: result[k] for k in ("organ_dose", "organ_dose_sd", "organ_name")}).to_dataframe()
    frame_ = frame_[np.isfinite(frame_.organ_dose) & ~frame_.organ_name.isin(["outside", "background"])]
    if names is not None:
        frame_ = frame_[frame_.organ_name.isin(list(names))]
    frame_ = frame_.sort_values("organ_dose", ascending=False).head(count)[::-1]
    plot, ax = axes(width_in=7.6, height_in=0.9 + 0.25 * len(frame_))
    labels = frame_.organ_name.str.replace("_", " ")
    ax[0, 0].barh(labels, frame_.organ_dose, color=COLOURS[0], height=0.7)
    bars = {"ecolor": "#27313d", "capsize": 2.5, "elinewidth": 1.1, "fmt": "none"}
    ax[0, 0].errorbar(frame_.organ_dose, labels, xerr=coverage * frame_.organ_dose_sd, **bars)
    ax[0, 0].grid(visible=False, axis="y")
    ax[0, 0].tick_params(axis="y", length=0)
    ax[0, 0].set_xlabel(f"Mean absorbed dose [mGy], bars ±{coverage:g} standard uncertainties")
    best = frame_.iloc[-1] if len(frame_) else None
    peak = f" Highest: {best.organ_name}, {best.organ_dose:.3g} mGy." if best is not None else ""
    return plot.say(f"Bar chart of {len(frame_)} organ doses with uncertainty.{peak}")


def _places(image: xr.DataArray, z_mm: Sequence[float] | None, count: int) -> list[float]:
    z = np.asarray(image.z, float)
    wanted = np.linspace(z[0], z[-1], count + 2)[1:-1] if z_mm is None else np.atleast_1d(z_mm)
    return [float(z[np.abs(z - w).argmin()]) for w in wanted]


def _limits(image: xr.DataArray, hu_window: str | tuple[float, float]) -> tuple[float, float]:
    if image.attrs.get("units") == "HU" or image.name == "hu":
        return window(hu_window)
    return 0.0, float(min(np.nanmax(image.values), 2.0)) or 1.0


def _axial(ax: Axes, cut: xr.DataArray, low: float, high: float, *, cmap: str = "gray") -> Any:
    cut = cut.transpose("y", "x")
    shown = ax.imshow(cut.values, extent=extent(cut), cmap=cmap, vmin=low, vmax=high, interpolation="nearest")
    bare(ax)
    sides(ax, "R", "L", colour="black" if cmap == "RdBu_r" else "white")
    return shown


def _section(ax: Axes, cut: xr.DataArray, low: float, high: float) -> Any:
    """Any principal section, the head up."""
    if "z" not in cut.dims:
        return _axial(ax, cut, low, high)
    cut = cut.transpose("z", ...).isel(z=slice(None, None, -1))
    shown = ax.imshow(
        cut.values, extent=extent(cut), cmap="gray", vmin=low, vmax=high, interpolation="nearest"
    )
    bare(ax)
    sides(ax, *(("R", "L") if "x" in cut.dims else ("A", "P")))
    return shown


def _colours(count: int) -> list[Any]:
    return list(COLOURS[:count]) if count <= len(COLOURS) else shades(count)


__all__ = [
    "compare", "dose_wash", "noise_power", "organ_bars", "organs", "pareto", "planes", "profile", "slices",
    "window",
]  # fmt: skip
