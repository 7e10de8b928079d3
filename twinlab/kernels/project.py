"""Forward projection: exact line integrals of voxel volumes, for arc and flat detectors.

Two drivers give the same numbers: :func:`project_reference` follows every ray by itself (Siddon's method),
:func:`project` all rows of a detector channel together (:mod:`twinlab.kernels.bundle`), many times faster.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit, prange

from twinlab.kernels.bundle import all_events, bundles
from twinlab.kernels.columns import Columns, prepare
from twinlab.kernels.deflection import Focus, foci
from twinlab.kernels.rays import channel_direction, siddon, source_position
from twinlab.kernels.threads import one_parallel_region
from twinlab.schema import refuse

CHANNEL_BLOCK = 16  # channels and views of one task: neighbours share cells in cache
VIEW_BLOCK = 16
_CM = 0.1  # cm per mm


@njit(cache=True, parallel=True)
def _each_ray(
    volumes, low, size, angles, source_z, radius, iso, along, across, lengths, rows, row_lo, row_hi, out
):
    nk, nv, _, nc = out.shape
    for i in prange(nv):
        integral = np.zeros(nk, np.float64)
        sx, sy = source_position(angles[i], radius, iso[0], iso[1])
        sz = source_z[i]
        for r in range(row_lo[i], row_hi[i]):
            for c in range(nc):
                ux, uy = channel_direction(angles[i], along[c], across[c])
                integral[:] = 0.0
                siddon(
                    volumes, low[0], low[1], low[2], size[0], size[1], size[2],
                    sz, sy, sx, sz + rows[r], sy + lengths[c] * uy, sx + lengths[c] * ux, integral,
                )  # fmt: skip
                for k in range(nk):
                    out[k, i, r, c] = _CM * integral[k]


def detector_rays(
    *, source_to_detector_mm: float, fan_angle_rad: np.ndarray | None = None, u_mm: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Unit components along and across the central ray, and x-y distance to the detector [mm], per channel.

    Raises
    ------
    InputError
        Not exactly one of ``fan_angle_rad`` (arc) and ``u_mm`` (flat).
    """
    if (fan_angle_rad is None) == (u_mm is None):
        refuse("detector_rays", "either fan_angle_rad (arc) or u_mm (flat)", "both or none")
    if fan_angle_rad is not None:
        angle = np.atleast_1d(np.asarray(fan_angle_rad, float))
        return np.cos(angle), np.sin(angle), np.full(angle.shape, float(source_to_detector_mm))
    u = np.atleast_1d(np.asarray(u_mm, float))
    length = np.hypot(source_to_detector_mm, u)
    return source_to_detector_mm / length, u / length, length


class Cone(NamedTuple):
    """Rays of a scan, checked: what :func:`cone` makes of its arguments.

    Attributes
    ----------
    angles, source_z : arrays (n_view,)
    rows : array (n_row,)
    row_lo, row_hi : int arrays (n_view,)
        First row and end of rows of every view.
    isocentre : tuple (x, y)
    foci : list of Focus
        Views by the displacement of their focal spot, with the detector as seen from there.
    shape : tuple
        n_view, n_row, n_channel.
    """

    angles: np.ndarray
    source_z: np.ndarray
    rows: np.ndarray
    row_lo: np.ndarray
    row_hi: np.ndarray
    isocentre: tuple[float, float]
    foci: list[Focus]
    shape: tuple[int, int, int]


def cone(
    *,
    spacing_mm: tuple[float, float, float],
    view_angle_rad: np.ndarray,
    source_z_mm: np.ndarray,
    source_to_isocentre_mm: float,
    source_to_detector_mm: float,
    isocentre_mm: tuple[float, float] = (0.0, 0.0),
    fan_angle_rad: np.ndarray | None = None,
    u_mm: np.ndarray | None = None,
    row_mm: np.ndarray,
    row_lo: np.ndarray | None = None,
    row_hi: np.ndarray | None = None,
    focal_shift_mm: np.ndarray | None = None,
) -> Cone:
    """Rays of a scan with a focal spot, for all projectors and their transposes.

    Parameters
    ----------
    spacing_mm : tuple (z, y, x)
        Voxel size.
    view_angle_rad, source_z_mm : array (n_view,)
        Gantry angle and table position of the focal spot.
    source_to_isocentre_mm, source_to_detector_mm : float
    isocentre_mm : tuple (x, y)
    fan_angle_rad : array (n_channel,), optional
        For a detector on an arc around the focal spot.
    u_mm : array (n_channel,), optional
        Lateral position for a flat detector.
    row_mm : array (n_row,)
        Ascending row heights at the detector.
    row_lo, row_hi : int array (n_view,), optional
        Only rows ``row_lo <= row < row_hi`` of a view are seen.
    focal_shift_mm : array (n_view, 3) or (3,), optional
        Displacement of the focal spot: tangential (along growing view angle), radial (away from the
        isocentre) and z. The detector stays where it is.

    Raises
    ------
    InputError
        Inconsistent shapes, sizes or detector description.
    """
    angles = np.atleast_1d(np.asarray(view_angle_rad, float))
    source_z = np.ascontiguousarray(np.broadcast_to(np.asarray(source_z_mm, float), angles.shape))
    rows = np.atleast_1d(np.asarray(row_mm, float))
    if min(spacing_mm) <= 0 or source_to_isocentre_mm < 0:
        refuse("project", "positive voxel sizes and distances", (spacing_mm, source_to_isocentre_mm))
    if np.any(np.diff(rows) <= 0):
        refuse("project", "row_mm ascending", rows)
    lo = np.zeros(angles.size, np.int64) if row_lo is None else np.asarray(row_lo, np.int64)
    hi = np.full(angles.size, rows.size) if row_hi is None else np.asarray(row_hi, np.int64)
    if lo.shape != angles.shape or hi.shape != angles.shape or lo.min() < 0 or hi.max() > rows.size:
        refuse("project", f"row_lo, row_hi of {angles.size} views within 0..{rows.size}", (row_lo, row_hi))
    along, across, lengths = detector_rays(
        source_to_detector_mm=source_to_detector_mm, fan_angle_rad=fan_angle_rad, u_mm=u_mm
    )
    shifts = foci(
        focal_shift_mm, angles.size, source_to_isocentre_mm=float(source_to_isocentre_mm), along=along,
        across=across, lengths=lengths,
    )  # fmt: skip
    isocentre = (float(isocentre_mm[0]), float(isocentre_mm[1]))
    shape = (angles.size, rows.size, lengths.size)
    return Cone(angles, source_z, rows, lo, np.maximum(hi, lo), isocentre, list(shifts), shape)


def project(
    volumes: np.ndarray | Columns,
    *,
    spacing_mm: tuple[float, float, float],
    origin_mm: tuple[float, float, float],
    **scan: Any,
) -> np.ndarray:
    """Line integrals of volumes from the focal spot to every detector cell.

    Parameters
    ----------
    volumes : float32 array (n_basis, nz, ny, nx) or Columns
        Values, g/cm3; prepare once (:func:`twinlab.kernels.columns.prepare`) when projecting repeatedly.
    spacing_mm, origin_mm : tuple (z, y, x)
        Voxel size, and centre of voxel 0.
    **scan
        The other arguments of :func:`cone`.

    Returns
    -------
    float32 array (n_basis, n_view, n_row, n_channel)
        g/cm2: value times length in cm; 0 in rows that a view does not see. The same for any number of threads.

    Raises
    ------
    InputError
        Inconsistent shapes, sizes or detector description.
    """
    columns = volumes if isinstance(volumes, Columns) else prepare(volumes)
    rays = cone(spacing_mm=spacing_mm, **scan)
    grid = (tuple(map(float, spacing_mm)), tuple(map(float, origin_mm)))
    out = np.zeros((columns.shape[0], *rays.shape), np.float32)
    for focus in rays.foci:
        if focus.views.size == rays.angles.size:
            _one_focus(columns, *grid, rays, focus, out)
        else:
            part = np.zeros((out.shape[0], focus.views.size, *out.shape[2:]), np.float32)
            _one_focus(columns, *grid, rays, focus, part)
            out[:, focus.views] = part
    return out


def _one_focus(
    columns: Columns,
    spacing: tuple[float, ...],
    origin: tuple[float, ...],
    rays: Cone,
    focus: Focus,
    out: np.ndarray,
) -> None:
    """Fill ``out`` with the views of one displacement of the focal spot."""
    _, nz, ny, nx = columns.shape
    dz, dy, dx = spacing
    z0, y0, x0 = (o - 0.5 * s for o, s in zip(origin, spacing, strict=True))
    seen, iso = focus.views, rays.isocentre
    angles, source_z = rays.angles[seen] + focus.turn, rays.source_z[seen] + focus.rise
    rows, lo, hi = rays.rows - focus.rise, rays.row_lo[seen], rays.row_hi[seen]
    box = (x0 + columns.corner[1] * dx, y0 + columns.corner[0] * dy, dx, dy)
    # no cell of the box lies nearer to the focal spot than this fraction of the longest path
    ny_box, nx_box = columns.occupied.shape
    sx, sy = iso[0] + focus.radius * np.sin(angles), iso[1] - focus.radius * np.cos(angles)
    gap_x = np.maximum(np.maximum(box[0] - sx, sx - box[0] - nx_box * dx), 0.0)
    gap_y = np.maximum(np.maximum(box[1] - sy, sy - box[1] - ny_box * dy), 0.0)
    nearest = np.hypot(gap_x, gap_y) / focus.lengths.max() * (1.0 - 1e-9)
    with one_parallel_region():
        offset, fractions, row_of, slab_of, start = all_events(source_z, rows, lo, hi, z0, dz, nz, nearest)
        up = (rows > 0).astype(np.int32)
        bundles(
            columns.values, columns.occupied, columns.background, box,
            (x0, x0 + nx * dx, y0, y0 + ny * dy), (z0, dz, nz), angles, source_z,
            focus.radius, iso, focus.along, focus.across, focus.lengths, rows, lo, hi,
            offset, fractions, row_of, slab_of - up[row_of], start - up, CHANNEL_BLOCK, VIEW_BLOCK, out,
        )  # fmt: skip


def project_reference(
    volumes: np.ndarray,
    *,
    spacing_mm: tuple[float, float, float],
    origin_mm: tuple[float, float, float],
    **scan: Any,
) -> np.ndarray:
    """As :func:`project`, one ray at a time in float64: the yardstick, several times slower."""
    volumes = np.asarray(volumes, np.float32)
    if volumes.ndim != 4:
        refuse("project_reference", "volumes (n_basis, nz, ny, nx)", f"shape {volumes.shape}")
    rays = cone(spacing_mm=spacing_mm, **scan)
    size = tuple(map(float, spacing_mm))
    low = tuple(float(o) - 0.5 * s for o, s in zip(origin_mm, size, strict=True))
    out = np.zeros((volumes.shape[0], *rays.shape), np.float32)
    for focus in rays.foci:
        seen = focus.views
        part = np.zeros((volumes.shape[0], seen.size, *out.shape[2:]), np.float32)
        with one_parallel_region():
            _each_ray(
                volumes, low, size, rays.angles[seen] + focus.turn, rays.source_z[seen] + focus.rise, focus.radius,
                rays.isocentre, focus.along, focus.across, focus.lengths, rays.rows - focus.rise,
                rays.row_lo[seen], rays.row_hi[seen], part,
            )  # fmt: skip
        out[:, seen] = part
    return out
