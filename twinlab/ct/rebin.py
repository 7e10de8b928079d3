"""Rebinning from fan to parallel rays: which views, rows and channels an image needs.

A ray of view angle ``b`` and fan angle ``g`` is the parallel ray of angle ``theta = b - g`` and offset
``t = R sin g``. All rows of the detector keep their cone angle: the result is cone-parallel.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from twinlab.ct.gantry import Geometry, Grid, geometry_of, grid_of
from twinlab.ct.source_path import TAPS, Segment, overlap_weight, parker_weight
from twinlab.schema import refuse

SLAB = 48  # most slices reconstructed together
BEAMS = 3.0  # their height, in heights of the beam


@dataclass(frozen=True)
class Part:
    """Slices to reconstruct together, with the geometry of the views and the grid that are meant for them."""

    slices: slice
    geometry: Geometry
    grid: Grid


def parts(geometry: Geometry, grid: Grid) -> list[Part]:
    """Ranges of slices to reconstruct together: few, and not much taller than the beam.

    Tilted planes and scans whose opposite rays share a reading take each slice from the nearest table
    position alone. A tilted slice at table position ``z`` is seen from position ``z0`` shifted in its plane
    by ``(z - z0) sin(tilt)``, and ``(z - z0) cos(tilt)`` away from the plane of the focal spot.
    """
    tallest = BEAMS * geometry.n_rows * geometry.row_at_isocentre_mm
    positions = np.unique([s.start_z_mm for s in geometry.segments])
    nearest = np.abs(grid.z[:, None] - positions).argmin(axis=1) if geometry.apart else np.zeros(grid.z.size)
    most = 1 if geometry.tilt_rad else SLAB
    starts = [0]
    for i, z in enumerate(grid.z):
        first = starts[-1]
        if i - first >= most or z - grid.z[first] > tallest or nearest[i] != nearest[first]:
            starts.append(i)
    result = []
    for lo, hi in pairwise([*starts, grid.z.size]):
        own, voxels = geometry, Grid(grid.x, grid.y, grid.z[lo:hi], grid.thickness_mm)
        if geometry.apart:
            z0 = positions[int(nearest[lo])]
            seen = tuple(s for s in geometry.segments if s.start_z_mm == z0)
            own = replace(geometry, segments=seen)
        if geometry.tilt_rad:
            way = float(grid.z[lo] - z0)
            y, z = grid.y + way * math.sin(geometry.tilt_rad), z0 + way * math.cos(geometry.tilt_rad)
            voxels = Grid(grid.x, y, np.array([z]), grid.thickness_mm)
        result.append(Part(slice(lo, hi), own, voxels))
    return result


@dataclass(frozen=True)
class ParallelViews:
    """Parallel projections that contribute to a grid, sorted by half-turn angle; arrays over entries.

    ``group`` (half_turn + 1,) bounds the entries of each angle modulo pi. ``row_lo``, ``row_hi`` bound the
    rows, margins included, that the grid needs.
    """

    segment: NDArray[np.int64]
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
    half_turn = geometry.angles_per_rotation // 2
    columns: list[list[NDArray[Any]]] = []
    for number, (segment, index) in enumerate(zip(geometry.segments, _angles(geometry), strict=True)):
        theta = np.asarray(index * step, dtype=np.float64)
        _, ahead = geometry.focus(segment.shift_mm)
        lift = segment.shift_mm[2]
        start = segment.start_z_mm + lift
        z = np.asarray(
            start + segment.slope_mm_per_rad * (theta - ahead - segment.start_angle_rad), np.float64
        )
        lo, hi = _row_range(geometry, grid, theta, z, segment)
        if (
            segment.periodic and (hi > lo).all()
        ):  # the same rows all round: so weights are the same at every angle
            lo, hi = np.full_like(lo, lo.min()), np.full_like(hi, hi.max())
        slope = np.full(theta.size, segment.slope_mm_per_rad)
        columns.append([np.full(theta.size, number), theta, z, slope, lo, hi, index % half_turn])
    joined = [np.concatenate(parts) for parts in zip(*columns, strict=True)]
    keep = joined[5] > joined[4]
    joined = [part[keep] for part in joined]
    order = np.lexsort((joined[1], joined[0], joined[6]))
    joined = [part[order] for part in joined]
    joined[6] = np.searchsorted(joined[6], np.arange(half_turn + 1))
    return ParallelViews(*joined)


def _angles(geometry: Geometry) -> list[NDArray[np.int64]]:
    """Angles of every segment; those of one path that the focal spot flies along have the same, for they interleave."""
    angles = [_angles_inside(geometry, s) for s in geometry.segments]
    lo = 0
    while lo < len(angles):
        hi = lo + geometry.segments[lo].stride  # a cycle of the focal spot
        if not geometry.segments[lo].periodic:
            first, last = max(a[0] for a in angles[lo:hi]), min(a[-1] for a in angles[lo:hi])
            angles[lo:hi] = [np.arange(first, last + 1, dtype=np.int64) for _ in angles[lo:hi]]
        lo = hi
    return angles


def _angles_inside(geometry: Geometry, segment: Segment) -> NDArray[np.int64]:
    """Whole multiples of the angular step whose rays all lie inside the segment; in a short scan any of them."""
    step = geometry.angle_step_rad
    if segment.periodic:
        first = math.ceil(segment.start_angle_rad / step)
        return np.arange(first, first + geometry.angles_per_rotation, dtype=np.int64)
    ray = geometry.ray_angle(segment.shift_mm)
    end = segment.start_angle_rad + segment.step_rad * (segment.count - 1)
    low, high = (ray[-1], ray[0]) if segment.short else (ray[0], ray[-1])
    room = 1e-6
    first = math.ceil((segment.start_angle_rad - low) / step - room)
    last = math.floor((end - high) / step + room)
    return np.arange(first, last + 1, dtype=np.int64)


def _row_range(
    geometry: Geometry, grid: Grid, theta: NDArray[np.float64], z: NDArray[np.float64], segment: Segment
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows, counted from the first margin row, onto which the grid projects; empty where it misses them."""
    px, py = grid.outline()
    cosine, sine = np.cos(theta)[:, None], np.sin(theta)[:, None]
    t = px * cosine + py * sine
    radius, _ = geometry.focus(segment.shift_mm)
    root = np.sqrt(radius**2 - t**2)
    distance = root + py * cosine - px * sine
    scale = (geometry.detector_mm + segment.shift_mm[1]) / distance
    if geometry.flat:
        scale = scale * radius / root
    source = z[:, None] + segment.slope_mm_per_rad * np.arcsin(t / radius)
    lift = segment.shift_mm[2]
    low = lift + ((grid.z.min() - 0.5 * grid.thickness_mm - source) * scale).min(axis=1)
    high = lift + ((grid.z.max() + 0.5 * grid.thickness_mm - source) * scale).max(axis=1)
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


def view_places(geometry: Geometry, views: ParallelViews) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Where parallel projections lie among the views of their segments.

    Returns
    -------
    base : ndarray, shape (entry,)
    channel : ndarray, shape (segment, channel)
        The ray of an entry and a channel is view ``base + channel`` of the segment, counted from its first.
    """
    base = np.empty(views.theta_rad.size)
    channel = np.empty((len(geometry.segments), geometry.n_channels))
    for number, segment in enumerate(geometry.segments):
        own = views.segment == number
        base[own] = segment.place(views.theta_rad[own])
        channel[number] = geometry.ray_angle(segment.shift_mm) / segment.step_rad
    return base, channel


def redundancy(geometry: Geometry, views: ParallelViews) -> NDArray[np.float64]:
    """Share of each reading in the ray that it measures, shape (entry or 1, channel); all 1 where means are taken."""
    if not geometry.shares:
        return np.ones((1, geometry.n_channels))
    repeats = len(geometry.segments)  # rotations at this table position, positions of the focal spot
    weight = np.empty((views.theta_rad.size, geometry.n_channels))
    for number, segment in enumerate(geometry.segments):
        own = views.segment == number
        ray = geometry.ray_angle(segment.shift_mm)
        if segment.short:
            angle = views.theta_rad[own][:, None] + ray - segment.start_angle_rad
            weight[own] = parker_weight(angle, ray, segment.step_rad * (segment.count - 1))
        elif geometry.offset_panel:
            distance, ahead = geometry.focus(segment.shift_mm)
            t = distance * np.sin(ray + ahead)
            weight[own] = overlap_weight(t, min(-t[0], t[-1]), upper=bool(t[-1] > -t[0]))
        else:  # whole rotations beside short ones: both directions see the ray
            weight[own] = 0.5
    return weight / repeats


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
    return _rows_read(geometry, voxels)


def refuse_missing_rows(projections: xr.Dataset, geometry: Geometry, grid: Grid, *, where: str) -> None:
    """Refuse projections whose ``row_lo`` and ``row_hi`` leave out rows that a grid needs: they would count as air.

    Raises
    ------
    InputError
        A needed row of a view was not computed.
    """
    if "row_lo" not in projections or "row_hi" not in projections:
        return
    lo, hi = (np.asarray(projections[name], np.int64) for name in ("row_lo", "row_hi"))
    if (lo <= 0).all() and (hi >= geometry.n_rows).all():
        return
    need_lo, need_hi = _rows_read(geometry, grid)
    missing = np.flatnonzero((need_hi > need_lo) & ((lo > need_lo) | (hi < need_hi)))
    if missing.size:
        v = missing[0]
        expected = (
            f"the rows that the grid needs (ct.needed_rows), {need_lo[v]} to {need_hi[v] - 1} of view {v}"
        )
        got = "none of them" if hi[v] <= lo[v] else f"only rows {lo[v]} to {hi[v] - 1}"
        refuse(where, expected, f"{got} computed, too few in {missing.size} views")


def _rows_read(geometry: Geometry, voxels: Grid) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First and end row that the grid needs of each view; both 0 where it needs none."""
    row_lo = np.full(geometry.n_views, geometry.n_rows, dtype=np.int64)
    row_hi = np.zeros(geometry.n_views, dtype=np.int64)
    for part in parts(geometry, voxels):
        views = parallel_views(part.geometry, part.grid)
        lo, hi = detector_rows(views, part.geometry)
        base, channel = view_places(part.geometry, views)
        for number, segment in enumerate(part.geometry.segments):
            for entry in np.flatnonzero(views.segment == number):
                low, high = base[entry] + channel[number].min(), base[entry] + channel[number].max()
                view = np.arange(math.floor(low) - TAPS // 2 + 1, math.floor(high) + TAPS // 2 + 1)
                if segment.periodic:
                    view %= segment.count
                else:  # taps are kept inside
                    view = np.unique(np.clip(view, 0, segment.count - 1))
                    view = np.arange(min(view[0], segment.count - TAPS), max(view[-1], TAPS - 1) + 1)
                view = segment.first + segment.stride * view
                row_lo[view] = np.minimum(row_lo[view], lo[entry])
                row_hi[view] = np.maximum(row_hi[view], hi[entry])
    row_lo[row_hi == 0] = 0
    return row_lo, row_hi
