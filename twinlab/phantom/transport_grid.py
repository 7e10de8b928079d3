"""Geometry of a transport run: voxels of a phantom, or exact solids in one another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from twinlab.kernels.transport_blocks import majorants, steps_bound
from twinlab.kernels.transport_data import Grid, Tables, pack
from twinlab.schema import refuse

AIR_DENSITY = 0.001205  # g/cm3, dry air at 20 degrees C


@dataclass(frozen=True)
class Rod:
    """A cylinder along z: position and size in mm, index of its material, density in g/cm3."""

    x_mm: float
    y_mm: float
    radius_mm: float
    z_low_mm: float
    z_high_mm: float
    material: int
    density: float
    fluence: bool = False

    @property
    def volume_cm3(self) -> float:
        """Volume."""
        return float(np.pi * self.radius_mm**2 * (self.z_high_mm - self.z_low_mm) / 1000.0)


@dataclass(frozen=True)
class Box:
    """A box along the axes: its corners in mm, index of its material, density in g/cm3."""

    x_low_mm: float
    x_high_mm: float
    y_low_mm: float
    y_high_mm: float
    z_low_mm: float
    z_high_mm: float
    material: int
    density: float
    fluence: bool = False

    @property
    def volume_cm3(self) -> float:
        """Volume."""
        low, high = _bounds(self)
        return float(np.prod(high - low) / 1000.0)


def _bounds(solid: Rod | Box) -> tuple[np.ndarray, np.ndarray]:
    """Low and high corner of a solid, mm."""
    if isinstance(solid, Box):
        return (
            np.array([solid.x_low_mm, solid.y_low_mm, solid.z_low_mm]),
            np.array([solid.x_high_mm, solid.y_high_mm, solid.z_high_mm]),
        )
    return (
        np.array([solid.x_mm - solid.radius_mm, solid.y_mm - solid.radius_mm, solid.z_low_mm]),
        np.array([solid.x_mm + solid.radius_mm, solid.y_mm + solid.radius_mm, solid.z_high_mm]),
    )


def _row(solid: Rod | Box, low: np.ndarray) -> list[float]:
    """Row of ``Grid.rod`` in the coordinates of the box whose low corner is given."""
    a, b = _bounds(solid)
    x, y, _ = (a + b) / 2 - low
    half_x, half_y, _ = (b - a) / 2
    height = half_y if isinstance(solid, Box) else 0.0
    z = (a[2] - low[2], b[2] - low[2])
    return [x, y, half_x, *z, solid.material, solid.density, float(solid.fluence), height]


def _world(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    return np.concatenate([low, high]).astype(np.float32)


def _check_voxels(material: np.ndarray, density: np.ndarray, region: np.ndarray, tables: Tables) -> None:
    if not material.shape == density.shape == region.shape or material.ndim != 3:
        shapes = (material.shape, density.shape, region.shape)
        refuse("voxel_grid", "material, density and region of one shape (z, y, x)", shapes)
    known = tables.cross.shape[0]
    if not (material.min() >= 0 and material.max() < known):
        refuse("voxel_grid: material", f"0 to {known - 1}", f"{material.min()} to {material.max()}")
    if not (np.isfinite(density).all() and density.min() >= 0):
        refuse(
            "voxel_grid: density", "finite values of 0 g/cm3 or more", f"{density.min()} to {density.max()}"
        )


def voxel_grid(
    material: np.ndarray,
    density: np.ndarray,
    region: np.ndarray,
    tables: Tables,
    *,
    spacing_mm: tuple[float, float, float],
    reach_mm: float,
    block: int = 4,
    air_density: float = AIR_DENSITY,
) -> Grid:
    """Grid of voxels.

    Parameters
    ----------
    material, density, region : (z, y, x) arrays
        Index into the tables, g/cm3, index of the scored region.
    tables : Tables
    spacing_mm : (dz, dy, dx)
    reach_mm : float
        Air around the grid reaches this far beyond every face; the source must lie in it.
    block : int
        Voxels along the edge of a majorant block.

    Returns
    -------
    Grid
        Coordinates in mm from the low corner of voxel (0, 0, 0).

    Raises
    ------
    InputError
        Shapes that differ, a density that is negative or not finite, a material that the tables lack.
    """
    _check_voxels(np.asarray(material), np.asarray(density), np.asarray(region), tables)
    record = pack(material, region, density)
    blocks, majorant = majorants(record, tables.cross[:, :, 0], block=block)
    voxel = np.array(spacing_mm[::-1], dtype=float)
    box = voxel * np.array(record.shape[::-1])
    return Grid(
        kind=np.zeros(1, np.int32),
        size=np.concatenate([box, voxel, block * voxel, 1 / voxel, 1 / (block * voxel)]).astype(np.float32),
        shape=np.array([*record.shape, *blocks.shape], np.int32),
        world=_world(-np.full(3, reach_mm), box + reach_mm),
        voxel=record.reshape(-1),
        block=blocks.reshape(-1),
        majorant=majorant,
        rod=np.zeros((0, 9), np.float32),
        air_density=np.array([air_density], np.float32),
    )


def cylinder_grid(
    rods: Sequence[Rod | Box], tables: Tables, *, reach_mm: float, air_density: float = AIR_DENSITY
) -> tuple[Grid, np.ndarray]:
    """Grid of a cylinder or box (the first solid) with solids in it, exact: nothing is voxelised.

    Parameters
    ----------
    rods : sequence of Rod or Box
        The first holds all others; where later ones overlap, the last wins.
    tables : Tables
    reach_mm : float
        Air around the first solid's box.

    Returns
    -------
    grid : Grid
        Regions: 0 air in the box, 1 the first solid, k + 1 solid k.
    origin_mm : (3,) array
        x, y, z of the box's low corner in the coordinates of the solids.

    Raises
    ------
    InputError
        No solid, or one without extent, of a negative density, or of a material that the tables lack.
    """
    if not rods:
        refuse("cylinder_grid", "one solid or more", "none")
    for k, solid in enumerate(rods):
        extent = np.subtract(*_bounds(solid)[::-1])
        if not (np.isfinite(extent).all() and (extent > 0).all()):
            refuse(f"cylinder_grid: solid {k}", "sizes above 0 mm", extent.tolist())
        if not solid.density >= 0:
            refuse(f"cylinder_grid: solid {k}", "a density of 0 g/cm3 or more", solid.density)
        if not 0 <= solid.material < tables.cross.shape[0]:
            refuse(f"cylinder_grid: solid {k}", f"a material below {tables.cross.shape[0]}", solid.material)
    low, high = _bounds(rods[0])
    box = high - low
    rows = [_row(solid, low) for solid in rods]
    bound = tables.cross[0, :, 0] * np.float32(air_density)
    for r in rods:
        bound = np.maximum(bound, tables.cross[r.material, :, 0] * np.float32(r.density))
    grid = Grid(
        kind=np.ones(1, np.int32),
        size=np.concatenate([box, box, box, 1 / box, 1 / box]).astype(np.float32),
        shape=np.array([1, 1, 1, 3, 3, 3], np.int32),
        world=_world(-np.full(3, reach_mm), box + reach_mm),
        voxel=np.zeros(1, np.uint64),
        block=np.zeros(27, np.uint64),
        majorant=steps_bound(bound[None]),
        rod=np.array(rows, dtype=np.float32),
        air_density=np.array([air_density], np.float32),
    )
    return grid, low
