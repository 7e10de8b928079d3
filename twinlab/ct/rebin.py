"""Rebinning from fan to parallel rays: which views, rows and channels an image needs.

A ray of view angle ``b`` and fan angle ``g`` is the parallel ray of angle ``theta = b - g`` and offset
``t = R sin g``. All rows of the detector keep their cone angle: the result is cone-parallel.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from twinlab.ct.gantry import TAPS, Geometry, Grid, Segment, geometry_of, grid_of

SLAB = 32  # slices reconstructed together


def slabs(geometry: Geometry, grid: Grid) -> list[slice]:
    """Ranges of slices to reconstruct together: few, and none taller than the beam."""
    tallest = geometry.n_rows * geometry.row_at_isocentre_mm
    starts = [0]
    for i, z in enumerate(grid.z):
        if i - starts[-1] >= SLAB or z - grid.z[starts[-1]] > tallest:
            starts.append(i)
    return [slice(lo, hi) for lo, hi in pairwise([*starts, grid.z.size])]


@dataclass(frozen=True)
class ParallelViews:
    """Parallel projections that contribute to a grid, sorted by half-turn angle; arrays over entries.

    ``group`` (half_turn + 1,) bounds the entries of each angle modulo pi. ``row_lo``, ``row_hi`` bound the
    rows, margins included, that the grid needs; ``shift`` is the index of the angle within its segment.
    """

    segment: NDArray[np.int64]
    shift: NDArray[np.int64]
    theta_rad: NDArray[np.float64]
    source_z_mm: NDArray[np.float64]
    slope_mm_per_rad: NDArray[np.float64]
    row_lo: NDArray[np.int64]
    row_hi: NDArray[np.int64]
    group: NDArray[np.int64]


def parallel_views(geometry: Geometry, grid: Grid) -> ParallelViews:
    """Parallel projections that see a grid, with the rows that each of them needs.

    Parameters
    ----------
    geometry : Geometry
    grid : Grid

    Returns
    -------
    ParallelViews
    """
    step = geometry.angle_step_rad
    columns: list[list[NDArray[Any]]] = []
    for number, segment in enumerate(geometry.segments):
        shift, theta = _angles(geometry, segment)
        z = segment.start_z_mm + segment.slope_mm_per_rad * (theta - segment.start_angle_rad)
        lo, hi = _row_range(geometry, grid, theta, z, segment.slope_mm_per_rad)
        half_turn = np.rint(theta / step).astype(np.int64) % (geometry.views_per_rotation // 2)
        slope = np.full(theta.size, segment.slope_mm_per_rad)
        columns.append([np.full(theta.size, number), shift, theta, z, slope, lo, hi, half_turn])
    joined = [np.concatenate(parts) for parts in zip(*columns, strict=True)]
    keep = joined[6] > joined[5]
    joined = [part[keep] for part in joined]
    order = np.lexsort((joined[2], joined[0], joined[7]))
    joined = [part[order] for part in joined]
    joined[7] = np.searchsorted(joined[7], np.arange(geometry.views_per_rotation // 2 + 1))
    return ParallelViews(*joined)


def _angles(geometry: Geometry, segment: Segment) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Whole multiples of the angular step whose rays all lie inside the segment."""
    step = geometry.angle_step_rad
    if segment.periodic:
        first = math.ceil(segment.start_angle_rad / step)
        number = np.arange(first, first + geometry.views_per_rotation)
    else:
        fan = geometry.fan_angle_rad
        end = segment.start_angle_rad + step * (segment.count - 1)
        first = math.ceil((segment.start_angle_rad - fan[0]) / step + TAPS // 2 - 1)
        last = math.floor((end - fan[-1]) / step - TAPS // 2)
        number = np.arange(first, last + 1)
    return number.astype(np.int64), (number * step).astype(np.float64)


def _row_range(
    geometry: Geometry, grid: Grid, theta: NDArray[np.float64], z: NDArray[np.float64], slope: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows, counted from the first margin row, onto which the grid projects; empty where it misses them."""
    px, py = grid.outline()
    cosine, sine = np.cos(theta)[:, None], np.sin(theta)[:, None]
    t = px * cosine + py * sine
    root = np.sqrt(geometry.radius_mm**2 - t**2)
    distance = root + py * cosine - px * sine
    scale = geometry.detector_mm / distance
    if geometry.flat:
        scale = scale * geometry.radius_mm / root
    source = z[:, None] + slope * np.arcsin(t / geometry.radius_mm)
    low = ((grid.z.min() - 0.5 * grid.thickness_mm - source) * scale).min(axis=1)
    high = ((grid.z.max() + 0.5 * grid.thickness_mm - source) * scale).max(axis=1)
    edge = geometry.first_row_mm - (0.5 + geometry.margin_rows) * geometry.row_step_mm
    total = geometry.n_rows + 2 * geometry.margin_rows
    # one row more on each side: extremes lie between the points of the outline
    lo = np.clip(np.floor((low - edge) / geometry.row_step_mm) - 1, 0, total).astype(np.int64)
    hi = np.clip(np.ceil((high - edge) / geometry.row_step_mm) + 1, 0, total).astype(np.int64)
    return lo, np.maximum(lo, hi)


def detector_rows(views: ParallelViews, geometry: Geometry) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Row windows without margins: first and last detector row (exclusive) that each entry reads."""
    lo = np.clip(views.row_lo - geometry.margin_rows, 0, geometry.n_rows - 1)
    hi = np.clip(views.row_hi - geometry.margin_rows, 1, geometry.n_rows)
    return lo, hi


def view_shift(geometry: Geometry, segment: Segment) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Interpolation over views: first tap (index of view less that of the angle) and weights per channel.

    Returns
    -------
    offset : ndarray of int, shape (channel,)
        View ``shift + offset + a`` of the segment meets tap ``a``.
    weight : ndarray, shape (6, channel)
        Lagrange weights; they sum to 1.
    """
    position = (geometry.fan_angle_rad - segment.start_angle_rad) / geometry.angle_step_rad
    whole = np.floor(position)
    fraction = position - whole
    nodes = np.arange(TAPS) - (TAPS // 2 - 1)
    weight = np.ones((TAPS, position.size))
    for a in range(TAPS):
        for b in range(TAPS):
            if a != b:
                weight[a] *= (fraction - nodes[b]) / (nodes[a] - nodes[b])
    return whole.astype(np.int64) + int(nodes[0]), weight


def needed_rows(
    projections: xr.Dataset, *, grid: Mapping[str, Any], slice_thickness_mm: float | None = None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Detector rows that a reconstruction on a grid reads, for each view.

    A simulation may leave all other rows out (any finite or NaN value: they are not touched).

    Parameters
    ----------
    projections : Dataset
        Geometry as for :func:`geometry_of`.
    grid : mapping
        ``z``, ``y``, ``x`` voxel centres, mm.
    slice_thickness_mm : float, optional
        As given to the reconstruction.

    Returns
    -------
    row_lo, row_hi : ndarray of int, shape (view,)
        Rows ``row_lo <= row < row_hi``; both 0 where the view is not needed.

    Raises
    ------
    InputError
        Geometry or grid cannot be used.
    """
    geometry = geometry_of(projections, where="needed_rows")
    voxels = grid_of(grid, geometry, slice_thickness_mm=slice_thickness_mm, where="needed_rows")
    row_lo = np.full(geometry.n_views, geometry.n_rows, dtype=np.int64)
    row_hi = np.zeros(geometry.n_views, dtype=np.int64)
    for part in slabs(geometry, voxels):
        views = parallel_views(geometry, Grid(voxels.x, voxels.y, voxels.z[part], voxels.thickness_mm))
        lo, hi = detector_rows(views, geometry)
        for number, segment in enumerate(geometry.segments):
            offset, _ = view_shift(geometry, segment)
            reach = np.arange(offset.min(), offset.max() + TAPS)
            for entry in np.flatnonzero(views.segment == number):
                view = views.shift[entry] + reach
                view = segment.first + (view % segment.count if segment.periodic else view)
                row_lo[view] = np.minimum(row_lo[view], lo[entry])
                row_hi[view] = np.maximum(row_hi[view], hi[entry])
    row_lo[row_hi == 0] = 0
    return row_lo, row_hi
