"""Figures of a study: the lesion in each protocol's noise, and the dose that each needs for one detectability."""

from __future__ import annotations

import numpy as np
import xarray as xr

from twinlab.report.style import COLOURS, Plot, axes, bare, scale_bar, shades


def lesion_grid(
    results: xr.Dataset, *, kernel: str, pitch: float | None = None, width_hu: float = 250.0
) -> Plot:
    """The lesion in its surroundings, one noisy image a protocol: kV down, mAs across.

    Parameters
    ----------
    results : Dataset
        From :func:`twinlab.study.run`, with ``roi_hu`` (..., y, x), HU.
    kernel : str
    pitch : float, optional
        The first of the grid by default.
    width_hu : float
        Window width; its centre is the mean of the images at each kV, as a reader would set it.
    """
    images = results["roi_hu"].sel(kernel=kernel)
    images = images.isel(pitch=0) if pitch is None else images.sel(pitch=pitch)
    images = images.isel(seed=0)
    rows, columns = images.sizes["kv"], images.sizes["mas"]
    plot, ax = axes(rows, columns, width_in=1.75 * columns + 0.6, height_in=1.85 * rows + 0.3)
    box = [float(images.x[0]), float(images.x[-1]), float(images.y[-1]), float(images.y[0])]
    for i, kv in enumerate(images.kv.values):
        centre = float(images.isel(kv=i).mean())
        limits = {"vmin": centre - width_hu / 2, "vmax": centre + width_hu / 2}
        for j, mas in enumerate(images.mas.values):
            panel, cut = ax[i, j], images.isel(kv=i, mas=j)
            bare(panel)
            if not bool(np.isfinite(cut).any()):
                panel.text(
                    0.5,
                    0.5,
                    "beyond the\ntube's current",
                    ha="center",
                    va="center",
                    transform=panel.transAxes,
                )
                continue
            panel.imshow(cut.values, cmap="gray", extent=box, **limits)
            dprime = results["dprime"].sel(kv=kv, mas=mas, kernel=kernel)
            value = float(dprime.isel(pitch=0) if pitch is None else dprime.sel(pitch=pitch))
            panel.set_title(f"{kv:g} kV, {mas:g} mAs: d' {value:.1f}", fontsize=8.5)
    scale_bar(ax[0, 0], length_mm=10.0)
    return plot.say(
        f"Noisy images of the lesion, kernel {kernel}: rows {', '.join(f'{v:g}' for v in images.kv.values)} kV, "
        f"columns {', '.join(f'{v:g}' for v in images.mas.values)} mAs; the lesion is in the middle of each."
    )


def dose_needed(table: xr.Dataset, *, pitch: float | None = None) -> Plot:
    """Dose that each kV and kernel needs to reach the target d'.

    Parameters
    ----------
    table : Dataset, dims (kv, pitch, kernel)
        From :func:`twinlab.study.dose_at_target`: ``dose``, ``dose_sd``, ``mas``.
    pitch : float, optional
        The first of the grid by default.
    """
    at = table.isel(pitch=0) if pitch is None else table.sel(pitch=pitch)
    plot, ax = axes(width_in=7.6, height_in=3.2)
    panel = ax[0, 0]
    kernels = [str(k) for k in at.kernel.values]
    width = 0.8 / len(kernels)
    colours = COLOURS if len(kernels) <= len(COLOURS) else shades(len(kernels))
    place = np.arange(at.sizes["kv"])
    for i, kernel in enumerate(kernels):
        dose, sd = (np.asarray(at[name].sel(kernel=kernel), float) for name in ("dose", "dose_sd"))
        left = place + (i - (len(kernels) - 1) / 2) * width
        panel.bar(left, dose, width=width * 0.92, color=colours[i], label=kernel)
        panel.errorbar(left, dose, yerr=2 * sd, fmt="none", ecolor="#27313d", capsize=3, elinewidth=1.1)
        for x, y, u, mas in zip(left, dose, sd, np.asarray(at["mas"].sel(kernel=kernel)), strict=True):
            text = f"{mas:.0f} mAs" if np.isfinite(y) else "not\nreached"
            top = (x, y + 2 * u if np.isfinite(y) else 0)
            panel.annotate(text, top, (0, 4), textcoords="offset points", ha="center", fontsize=8)
    panel.set_xticks(place, [f"{kv:g} kV" for kv in at.kv.values])
    panel.grid(visible=False, axis="x")
    panel.margins(y=0.18)
    panel.set_ylabel(
        f"{table.attrs['dose_metric'].replace('_', ' ').capitalize()} dose at d' {table.attrs['target']:g} [mGy]"
    )
    panel.legend(title="kernel", fontsize=8.5)
    return plot.say(
        f"Dose needed for d' {table.attrs['target']:g} by kV and kernel, bars +-2 standard uncertainties."
    )
