"""Artefacts of CT images with their causes shown: a test object, scanned with one flaw at a time."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr

from twinlab import ct
from twinlab.ct import artefacts as repairs
from twinlab.phantom.recipes import Recipe, from_recipe
from twinlab.report.style import Plot, axes, bare, extent, scale_bar
from twinlab.scanner import Protocol, load_protocol, trajectory

CAUSES = ("beam hardening", "drifting cells", "metal", "scatter", "truncation")
COARSER = 4  # cells and views: the gallery shows causes, not resolution
GAIN_SD = 0.01
FIELD_SHARE = 0.45  # of the channels that the truncated scan keeps
PIXEL_MM = 2.5
_RADIUS = 150.0
_BONES = ((-75.0, 0.0, 18.0), (75.0, 0.0, 18.0))
_METAL = ((0.0, 55.0, 6.0),)


def gallery(*, kv: float = 120.0, seed: int = 1) -> xr.DataArray:
    """Images of 30 cm of water with two bones, each with one flaw, before and after its correction.

    Beam hardening by bone (second-order correction), cells that have drifted by 1 % since the air scan (ring
    correction), a titanium pin (normalised metal artefact reduction), scatter of a 20 mm beam without
    anti-scatter grid (convolution model), and a body wider than the detector's field (continued rows).

    Parameters
    ----------
    kv : float
    seed : int
        Of gains and photon transport; the scans have no noise.

    Returns
    -------
    DataArray ``hu``, dims (cause, state, z, y, x)
        ``state``: "with the artefact", "corrected", "without the cause".
    """
    setting = _coarse(kv)
    views = trajectory(setting, z_range_mm=(-9.0, 9.0))
    side = np.arange(-_RADIUS - 10.0, _RADIUS + 10.1, PIXEL_MM)
    grid = {"z": np.zeros(1), "y": side, "x": side}
    plain, pinned = (_object(pins) for pins in ((), _METAL))

    def image(
        scan: xr.Dataset, protocol: Protocol = setting, truncation: str = "extrapolate"
    ) -> xr.DataArray:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that rows were continued is what the figure shows
            return ct.reconstruct(scan, protocol, grid=grid, truncation=truncation)

    def scanned(phantom: xr.Dataset, protocol: Protocol = setting, **flaw: object) -> xr.Dataset:
        return ct.scan_phantom(phantom, protocol, trajectory=views, seed=seed, noise=False, **flaw)

    clean = scanned(plain)
    hardened = repairs.bone_correction(clean, setting, grid=grid, passes=2)
    gain = np.random.default_rng(seed).normal(1.0, GAIN_SD, clean["projection"].shape[1:])
    drifted = scanned(plain, faults=ct.Faults(gain=gain))
    metal = scanned(pinned)
    first = image(metal)
    mended, pin = repairs.metal_correction(metal, setting, grid=grid)
    kernel = repairs.scatter_kernel(setting, histories=300_000)
    scattered = scanned(plain, scatter=kernel)
    narrow = _narrow(setting)
    cut = scanned(plain, narrow)
    truth = image(hardened)
    rows = {
        "beam hardening": (image(clean), truth, truth),
        "drifting cells": (image(drifted), image(repairs.ring_correction(drifted, channels=7)), image(clean)),
        "metal": (first, image(mended).where(~pin, first), image(clean).where(~pin, first)),
        "scatter": (
            image(scattered),
            image(repairs.scatter_correction(scattered, setting, kernel)),
            image(clean),
        ),
        "truncation": (image(cut, narrow, "ignore"), image(cut, narrow), image(clean)),
    }
    states = xr.DataArray(["with the artefact", "corrected", "without the cause"], dims="state", name="state")
    return xr.concat(
        [xr.concat(rows[cause], states) for cause in CAUSES],
        xr.DataArray(list(CAUSES), dims="cause", name="cause"),
    )


def errors(images: xr.DataArray) -> list[dict[str, object]]:
    """Root mean square error in water of each cause, before and after correction [HU]: rows of a table."""
    radius = np.hypot(images.x, images.y)
    water = radius < FIELD_SHARE * _RADIUS
    for x, y, size in (*_BONES, *_METAL):
        water = water & (np.hypot(images.x - x, images.y - y) > size + 8.0)
    off = (images - images.sel(state="without the cause")).where(water)
    flat = images.where(water)
    table = []
    for cause in CAUSES:
        # the hardened image has no twin without hardening: its water is compared with 0 HU
        own = flat if cause == "beam hardening" else off
        before, after = (
            float(np.sqrt((own.sel(cause=cause, state=s) ** 2).mean())) for s in images.state.values[:2]
        )
        table.append({"cause": cause, "with the artefact [HU]": before, "corrected [HU]": after})
    return table


def worst(table: Sequence[Mapping[str, object]]) -> str:
    """The largest of :func:`errors`, in words."""
    row = max(table, key=lambda one: float(str(one["with the artefact [HU]"])))
    before, after = (float(str(row[name])) for name in ("with the artefact [HU]", "corrected [HU]"))
    return (
        f"Of these the largest error in water is by {row['cause']}: {before:.0f} HU, "
        f"{after:.0f} HU when corrected."
    )


def draw(images: xr.DataArray, *, centre: float = 0.0, width: float = 200.0) -> Plot:
    """Each cause in a column, with the artefact above and corrected below."""
    low, high = centre - width / 2, centre + width / 2
    plot, ax = axes(2, images.sizes["cause"], width_in=11.0, height_in=4.9)
    for column, cause in enumerate(images.cause.values):
        for row, state in enumerate(images.state.values[:2]):
            cut = images.sel(cause=cause, state=state).isel(z=0).transpose("y", "x")
            panel = ax[row, column]
            shown = panel.imshow(cut.values, extent=extent(cut), cmap="gray", vmin=low, vmax=high)
            bare(panel)
            panel.set_title(cause if row == 0 else "corrected")
    scale_bar(ax[0, 0])
    plot.colorbar(shown, ax=ax.ravel().tolist(), label="CT number [HU]", shrink=0.75, pad=0.01)
    return plot.say(f"Artefacts by cause, above, and corrected, below, {low:g} to {high:g} HU.")


def _coarse(kv: float) -> Protocol:
    """The axial QC protocol with fewer, larger cells."""
    setting = load_protocol("qc_axial", kv=kv)
    detector = setting.scanner.detector
    change = {
        "n_channels": detector.n_channels // COARSER,
        "n_rows": detector.n_rows // COARSER,
        "channel_pitch_mm": detector.channel_pitch_mm * COARSER,
        "row_pitch_mm": detector.row_pitch_mm * COARSER,
    }
    views = setting.scanner.views_per_rotation // COARSER
    scanner = setting.scanner.model_copy(
        update={"detector": detector.model_copy(update=change), "views_per_rotation": views}
    )
    return setting.replace(scanner=scanner)


def _narrow(setting: Protocol) -> Protocol:
    """The same with a detector that does not see the whole body."""
    detector = setting.scanner.detector
    channels = 2 * round(detector.n_channels * FIELD_SHARE / 2)
    scanner = setting.scanner.model_copy(
        update={"detector": detector.model_copy(update={"n_channels": channels})}
    )
    return setting.replace(scanner=scanner, reconstruction_fov_mm=0.9 * scanner.scan_fov_mm)


def _object(pins: tuple[tuple[float, float, float], ...]) -> xr.Dataset:
    def rod(name: str, material: str, x: float, y: float, radius: float) -> dict[str, object]:
        return {
            "shape": "cylinder", "name": name, "material": material, "organ": name, "diameter_mm": 2 * radius,
            "length_mm": 60.0, "centre_mm": {"x": x, "y": y},
        }  # fmt: skip

    bones = [rod(f"bone {i}", "bone_cortical", *bone) for i, bone in enumerate(_BONES)]
    metal = [rod(f"pin {i}", "titanium", *pin) for i, pin in enumerate(pins)]
    wide = 2 * _RADIUS + 6.0
    recipe = {
        "name": "artefacts", "title": "30 cm of water with bones", "source": "analytic",
        "spacing_mm": {"x": 1.0, "y": 1.0, "z": 20.0}, "size_mm": {"x": wide, "y": wide, "z": 60.0},
        "shapes": [rod("water", "water", 0.0, 0.0, _RADIUS), *bones, *metal],
    }  # fmt: skip
    return from_recipe(Recipe.make(recipe, where="gallery"))
