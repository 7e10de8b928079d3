"""Geometry of a transport run: voxels of a phantom, or a cylinder with rods."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from twinlab.kernels.transport_blocks import majorants
from twinlab.kernels.transport_data import Grid, Tables

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


def _world(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    return np.concatenate([low, high]).astype(np.float32)


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
    """
    material = np.ascontiguousarray(material, dtype=np.uint8)
    density = np.ascontiguousarray(density, dtype=np.float32)
    block_class, majorant = majorants(material, density, tables.cross[:, :, 0], block=block)
    voxel = np.array(spacing_mm[::-1], dtype=float)
    box = voxel * np.array(material.shape[::-1])
    return Grid(
        kind=np.zeros(1, np.int32),
        size=np.concatenate([box, voxel, block * voxel]).astype(np.float32),
        world=_world(-np.full(3, reach_mm), box + reach_mm),
        material=material,
        density=density,
        region=np.ascontiguousarray(region, dtype=np.uint16),
        block_class=block_class,
        majorant=majorant,
        rod=np.zeros((0, 8), np.float32),
        air_density=np.array([air_density], np.float32),
    )


def cylinder_grid(
    rods: Sequence[Rod], tables: Tables, *, reach_mm: float, air_density: float = AIR_DENSITY
) -> tuple[Grid, np.ndarray]:
    """Grid of one cylinder (the first rod) with rods in it, exact: nothing is voxelised.

    Parameters
    ----------
    rods : sequence of Rod
        The first holds all others; where later ones overlap, the last wins.
    tables : Tables
    reach_mm : float
        Air around the cylinder's box.

    Returns
    -------
    grid : Grid
        Regions: 0 air in the box, 1 the cylinder, k + 1 rod k.
    origin_mm : (3,) array
        x, y, z of the box's low corner in the coordinates of the rods.
    """
    outer = rods[0]
    low = np.array([outer.x_mm - outer.radius_mm, outer.y_mm - outer.radius_mm, outer.z_low_mm])
    box = np.array([2 * outer.radius_mm, 2 * outer.radius_mm, outer.z_high_mm - outer.z_low_mm])
    rows = [
        [
            r.x_mm - low[0],
            r.y_mm - low[1],
            r.radius_mm,
            r.z_low_mm - low[2],
            r.z_high_mm - low[2],
            r.material,
            r.density,
            float(r.fluence),
        ]
        for r in rods
    ]
    bound = tables.cross[0, :, 0] * np.float32(air_density)
    for r in rods:
        bound = np.maximum(bound, tables.cross[r.material, :, 0] * np.float32(r.density))
    grid = Grid(
        kind=np.ones(1, np.int32),
        size=np.concatenate([box, box, box]).astype(np.float32),
        world=_world(-np.full(3, reach_mm), box + reach_mm),
        material=np.zeros((1, 1, 1), np.uint8),
        density=np.zeros((1, 1, 1), np.float32),
        region=np.zeros((1, 1, 1), np.uint16),
        block_class=np.zeros((1, 1, 1), np.uint16),
        majorant=np.ascontiguousarray(bound[None] * np.float32(1.000001), dtype=np.float32),
        rod=np.array(rows, dtype=np.float32),
        air_density=np.array([air_density], np.float32),
    )
    return grid, low
