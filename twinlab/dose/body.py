"""A phantom as the transport scores it: extended beyond the images, one region for each organ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from twinlab.kernels.transport_data import Grid, Tables
from twinlab.phantom import check_phantom, extend, organ_names
from twinlab.phantom import transport_tables as table_module
from twinlab.phantom.build import EXTENSION, OUTSIDE
from twinlab.phantom.transport_grid import voxel_grid
from twinlab.schema import label

MGY_PER_KEV_G = 1.602176634e-10  # keV/g in mGy
SCATTER_MM = (
    100.0  # of body beyond the images: 150 mm more change the end slices by 0.6 % (docs/methods/dose.md)
)
BLOCK_MM = 20.0  # of the majorants, the fastest in bodies

Array = NDArray[np.float64]


@dataclass(frozen=True)
class ScoredBody:
    """A phantom, its body repeated beyond both ends, and its regions."""

    given: xr.Dataset
    body: xr.Dataset
    spacing_mm: tuple[float, float, float]
    ids: NDArray[Any]  # organ ids, in the order of the regions
    region: NDArray[Any]  # (z, y, x) of the extended body
    inside: slice  # slices of the phantom as given
    mass_g: NDArray[Any]  # by region

    @property
    def corner_mm(self) -> Array:
        """Low corner of the grid (z, y, x)."""
        low = [float(self.body[a][0]) - d / 2 for a, d in zip("zyx", self.spacing_mm, strict=True)]
        return np.array(low)

    @property
    def size_mm(self) -> Array:
        """Size of the grid (z, y, x)."""
        return np.array([self.body.sizes[a] * d for a, d in zip("zyx", self.spacing_mm, strict=True)])

    @property
    def voxel_cm3(self) -> float:
        """Volume of a voxel."""
        return float(np.prod(self.spacing_mm)) / 1000.0

    @property
    def organs(self) -> NDArray[np.bool_]:
        """Which regions are organs of the phantom as given."""
        return np.asarray(~np.isin(self.ids, [OUTSIDE, EXTENSION]))

    def region_of(self) -> dict[str, int]:
        """Region of every organ by its name."""
        names = organ_names(self.given)
        return {names.get(int(self.ids[k]), str(self.ids[k])): int(k) for k in np.flatnonzero(self.organs)}


def scored_body(phantom: xr.Dataset, *, extend_mm: float, where: str) -> ScoredBody:
    """Extend a phantom and find its regions and their masses.

    Raises
    ------
    InputError
        Not a Phantom.
    """
    spacing = check_phantom(phantom, where=where)
    body = extend(phantom, length_mm=extend_mm) if extend_mm > 0 else phantom
    ids, region = np.unique(body["organ"].values, return_inverse=True)
    region = region.reshape(body["organ"].shape).astype(np.uint16)
    volume = float(np.prod(spacing)) / 1000.0
    mass = np.bincount(region.ravel(), weights=body["density"].values.ravel(), minlength=ids.size) * volume
    first = int(np.argmin(np.abs(body["z"].values - float(phantom["z"][0]))))
    return ScoredBody(phantom, body, spacing, ids, region, slice(first, first + phantom.sizes["z"]), mass)


def transport_inputs(
    scored: ScoredBody,
    *,
    reach_mm: float,
    block: int | None = None,
    fluorescence: bool = True,
    doppler: bool = False,
) -> tuple[Tables, Grid]:
    """Cross sections and voxels of a body, with air that reaches ``reach_mm`` beyond it."""
    body = scored.body
    names = [str(m) for m in body["material_name"].values]
    tables = table_module.build(names, fluorescence=fluorescence, doppler=doppler)
    grid = voxel_grid(
        body["material"].values,
        body["density"].values,
        scored.region,
        tables,
        spacing_mm=scored.spacing_mm,
        reach_mm=reach_mm,
        block=block or int(np.clip(round(BLOCK_MM / np.mean(scored.spacing_mm)), 2, 16)),
    )
    return tables, grid


def organ_masses(scored: ScoredBody) -> xr.Dataset:
    """``organ_mass``, ``organ_cut`` (organ_id) and ``organ_mass_z`` (organ_id, z) of the organs."""
    keep = scored.organs
    region = scored.region[scored.inside]
    density = scored.given["density"].values
    n = scored.ids.size
    along = np.stack(
        [
            np.bincount(r.ravel(), weights=d.ravel(), minlength=n)
            for r, d in zip(region, density, strict=True)
        ],
        axis=1,
    )
    ends = np.isin(np.arange(n), np.unique(region[[0, -1]]))
    coords = {"organ_id": scored.ids[keep], "organ_name": ("organ_id", list(scored.region_of()))}
    return xr.Dataset(
        {
            "organ_mass": label("organ_mass", scored.mass_g[keep], coords),
            "organ_cut": label("organ_cut", ends[keep], coords),
            "organ_mass_z": label(
                "organ_mass_z", along[keep] * scored.voxel_cm3, {**coords, "z": scored.given["z"].values}
            ),
        }
    )


def organ_table(
    masses: xr.Dataset, dose: Array, dose_sd: Array, *, z_range_mm: tuple[float, float]
) -> xr.Dataset:
    """Doses beside masses and coverage, as all dose engines give them.

    Parameters
    ----------
    masses : Dataset
        From :func:`organ_masses`.
    dose, dose_sd : (organ,) arrays, mGy
    z_range_mm : (float, float)
        What ``organ_coverage`` counts as inside.
    """
    along = masses["organ_mass_z"]
    z = along["z"].values
    seen = (along.values * ((z >= z_range_mm[0]) & (z <= z_range_mm[1]))).sum(axis=1)
    coords = {"organ_id": masses["organ_id"].values, "organ_name": ("organ_id", masses["organ_name"].values)}
    whole = np.maximum(along.values.sum(axis=1), 1e-30)
    return xr.Dataset(
        {
            "organ_dose": label("organ_dose", dose, coords),
            "organ_dose_sd": label("organ_dose_sd", dose_sd, coords),
            "organ_mass": masses["organ_mass"],
            "organ_coverage": label("organ_coverage", seen / whole, coords),
            "organ_cut": masses["organ_cut"],
        }
    )
