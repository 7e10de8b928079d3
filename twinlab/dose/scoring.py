"""Transport in the voxels of a Phantom, and what it leaves in organs and voxels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from twinlab.kernels.transport import Tally, mean_sd, run
from twinlab.kernels.transport_data import ENERGY_UNIT_KEV, Source
from twinlab.phantom import check_phantom, extend, organ_names
from twinlab.phantom import transport_tables as table_module
from twinlab.phantom.build import EXTENSION, OUTSIDE
from twinlab.phantom.transport_grid import voxel_grid
from twinlab.schema import label, refuse

MGY_PER_KEV_G = 1.602176634e-10  # keV/g in mGy
SCATTER_MM = (
    100.0  # of body beyond the images: 150 mm more change the end slices by 0.6 % (docs/methods/dose.md)
)
LEAST_HISTORIES = 1000


@dataclass(frozen=True)
class _Scored:
    """The extended phantom as the transport scores it."""

    ids: np.ndarray  # organ ids, in the order of the regions
    region: np.ndarray  # (z, y, x) uint16
    inside: slice  # slices of the phantom as given
    mass_g: np.ndarray  # by region


def _regions(phantom: xr.Dataset, given: xr.Dataset, voxel_cm3: float) -> _Scored:
    ids, region = np.unique(phantom["organ"].values, return_inverse=True)
    region = region.reshape(phantom["organ"].shape).astype(np.uint16)
    mass = (
        np.bincount(region.ravel(), weights=phantom["density"].values.ravel(), minlength=ids.size) * voxel_cm3
    )
    first = int(np.argmin(np.abs(phantom["z"].values - float(given["z"][0]))))
    return _Scored(ids, region, slice(first, first + given.sizes["z"]), mass)


def check_histories(histories: int, where: str) -> None:
    """Refuse runs whose uncertainty would mean nothing."""
    if histories < LEAST_HISTORIES:
        refuse(f"{where}: histories", f"{LEAST_HISTORIES} or more", histories)


def scored_dose(
    phantom: xr.Dataset,
    source_in: Callable[[np.ndarray, np.ndarray], tuple[Source, float, float]],
    *,
    histories: int,
    seed: int,
    output_factor: float,
    z_range_mm: tuple[float, float],
    voxel_map: bool,
    extend_mm: float,
    block: int | None,
    progress: Callable[[int], object] | None,
    where: str,
) -> xr.Dataset:
    """Organ doses and dose map of a source.

    Parameters
    ----------
    phantom : Dataset
    source_in : callable
        Called with the corner (z, y, x) and the size (z, y, x) of the grid, mm; returns the source in the box
        coordinates of that corner, its photons, and how far the world's air reaches beyond the grid [mm].
    histories, seed, output_factor, voxel_map, extend_mm, block, progress
        See :func:`twinlab.dose.simulate`.
    z_range_mm : (float, float)
        What ``organ_coverage`` counts as inside.
    where : str
        Named in errors.

    Returns
    -------
    Dataset
        Doses in mGy; attrs histories, seed, photons, output_factor, and the energy balance.
    """
    spacing = check_phantom(phantom, where=where)
    body = extend(phantom, length_mm=extend_mm) if extend_mm > 0 else phantom
    voxel_cm3 = float(np.prod(spacing)) / 1000.0
    scored = _regions(body, phantom, voxel_cm3)
    corner = np.array([float(body[a][0]) - d / 2 for a, d in zip("zyx", spacing, strict=True)])
    size = np.array([body.sizes[a] * d for a, d in zip("zyx", spacing, strict=True)])
    source, photons, reach_mm = source_in(corner, size)
    tables = table_module.build([str(m) for m in body["material_name"].values])
    grid = voxel_grid(
        body["material"].values,
        body["density"].values,
        scored.region,
        tables,
        spacing_mm=spacing,
        reach_mm=reach_mm,
        block=block or int(np.clip(round(20.0 / np.mean(spacing)), 2, 16)),
    )
    tally = run(
        grid,
        tables,
        source,
        histories=histories,
        seed=seed,
        n_region=scored.ids.size,
        voxel_map=voxel_map,
        progress=progress,
    )
    photons = photons * output_factor
    out = _organ_table(phantom, scored, tally, photons * MGY_PER_KEV_G, z_range_mm)
    if voxel_map:
        maps = _maps(phantom, body, scored, tally, photons * MGY_PER_KEV_G / voxel_cm3)
        out = out.assign(maps.data_vars)
    emitted, escaped, air, deposited = (tally.energy[:4] * ENERGY_UNIT_KEV).tolist()
    told: dict[str, Any] = {
        "histories": int(histories),
        "seed": int(seed),
        "photons": float(photons),
        "output_factor": float(output_factor),
        "extend_mm": float(extend_mm),
        "phantom": str(phantom.attrs.get("name", "")),
        "emitted_kev": emitted,
        "deposited_kev": deposited,
        "deposited_air_kev": air,
        "escaped_kev": escaped,
    }
    return out.assign_attrs(told)


def _organ_table(
    phantom: xr.Dataset, scored: _Scored, tally: Tally, scale: float, z_range_mm: tuple[float, float]
) -> xr.Dataset:
    """Doses, masses and coverage of the organs that the given phantom holds."""
    mean, sd = mean_sd(tally.region, tally.histories)
    keep = ~np.isin(scored.ids, [OUTSIDE, EXTENSION])
    names = organ_names(phantom)
    ids = scored.ids[keep]
    region = scored.region[scored.inside]
    density = phantom["density"].values
    z = phantom["z"].values
    weights = np.where((z >= z_range_mm[0]) & (z <= z_range_mm[1]), 1.0, 0.0)[:, None, None] * density
    n = scored.ids.size
    inside = np.bincount(region.ravel(), weights=weights.ravel(), minlength=n)
    whole = np.bincount(region.ravel(), weights=density.ravel(), minlength=n)
    ends = np.isin(np.arange(n), np.unique(region[[0, -1]]))
    coords = {"organ_id": ids, "organ_name": ("organ_id", [names.get(int(k), str(k)) for k in ids])}
    mass = scored.mass_g[keep]
    safe = np.maximum(mass, 1e-30)
    return xr.Dataset(
        {
            "organ_dose": label("organ_dose", mean[keep] * scale / safe, coords),
            "organ_dose_sd": label("organ_dose_sd", sd[keep] * scale / safe, coords),
            "organ_mass": label("organ_mass", mass, coords),
            "organ_coverage": label("organ_coverage", inside[keep] / np.maximum(whole[keep], 1e-30), coords),
            "organ_cut": label("organ_cut", ends[keep], coords),
        }
    )


def _maps(phantom: xr.Dataset, body: xr.Dataset, scored: _Scored, tally: Tally, scale: float) -> xr.Dataset:
    """Dose and its sd on the grid of the given phantom; NaN outside the body."""
    scores = tally.voxel.reshape(*body["organ"].shape, 2)[scored.inside]
    mean, sd = mean_sd(scores, tally.histories)
    density = phantom["density"].values
    factor = np.where(phantom["organ"].values != OUTSIDE, scale / np.maximum(density, 1e-6), np.nan)
    coords = {axis: phantom[axis].values for axis in "zyx"}
    return xr.Dataset(
        {
            "dose": label("dose", (mean * factor).astype(np.float32), coords, outside_body="NaN: not scored"),
            "dose_sd": label("dose_sd", (sd * factor).astype(np.float32), coords),
        }
    )
