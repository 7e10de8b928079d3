"""Exact line integrals along rays that share nothing: parallel beams, tilted gantries, single segments.

Points are (x, y, z) in mm. Each ray runs through :func:`twinlab.kernels.rays.siddon` by itself, in float64.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit, prange

from twinlab.kernels.deflection import Focus
from twinlab.kernels.project import cone
from twinlab.kernels.rays import siddon
from twinlab.kernels.threads import one_parallel_region
from twinlab.schema import refuse

_CM = 0.1  # cm per mm
_BLOCK = 64  # rays of one task


@njit(cache=True, parallel=True)
def _segments(values, low, size, start, end, out):
    nk, n = out.shape
    volumes = values.transpose((3, 0, 1, 2))
    for block in prange((n + _BLOCK - 1) // _BLOCK):
        integral = np.zeros(nk, np.float64)
        for i in range(block * _BLOCK, min((block + 1) * _BLOCK, n)):
            integral[:] = 0.0
            siddon(
                volumes, low[0], low[1], low[2], size[0], size[1], size[2], start[i, 2], start[i, 1],
                start[i, 0], end[i, 2], end[i, 1], end[i, 0], integral,
            )  # fmt: skip
            for k in range(nk):
                out[k, i] = _CM * integral[k]


@njit(cache=True, parallel=True)
def _cone(values, low, size, source, axes, channels, rows, row_lo, row_hi, out):
    nk, nv, nr, nc = out.shape
    volumes = values.transpose((3, 0, 1, 2))
    for task in prange(nv * nr):
        i, r = task // nr, task % nr
        if r < row_lo[i] or r >= row_hi[i]:
            continue
        integral = np.zeros(nk, np.float64)
        sx, sy, sz = source[i]
        for c in range(nc):
            ex = (
                sx + channels[c, 0] * axes[i, 0, 0] + channels[c, 1] * axes[i, 1, 0] + rows[r] * axes[i, 2, 0]
            )
            ey = (
                sy + channels[c, 0] * axes[i, 0, 1] + channels[c, 1] * axes[i, 1, 1] + rows[r] * axes[i, 2, 1]
            )
            ez = (
                sz + channels[c, 0] * axes[i, 0, 2] + channels[c, 1] * axes[i, 1, 2] + rows[r] * axes[i, 2, 2]
            )
            integral[:] = 0.0
            siddon(
                volumes, low[0], low[1], low[2], size[0], size[1], size[2], sz, sy, sx, ez, ey, ex, integral
            )
            for k in range(nk):
                out[k, i, r, c] = _CM * integral[k]


def frames(focus: Focus, view_angle_rad, source_z_mm, isocentre_mm, tilt_rad: float = 0.0):
    """Focal spots and directions of the views of one displacement, in the frame of the patient.

    The gantry turns about an axis that leans by ``tilt_rad`` in the y-z plane; above 0, its anterior side is
    nearer to the feet. The table moves along the patient's z.

    Returns
    -------
    source : array (n_view, 3)
        x, y, z [mm].
    axes : array (n_view, 3, 3)
        Unit vectors: along the central ray, across it (towards growing channels), along rows.
    channels : array (n_channel, 2)
        Way [mm] from the focal spot to each channel along the first two.
    """
    angle = np.asarray(view_angle_rad, float) + focus.turn
    s, c, zero, one = np.sin(angle), np.cos(angle), np.zeros(angle.size), np.ones(angle.size)
    axes = np.array([[-s, c, zero], [c, s, zero], [zero, zero, one]])  # (axis, xyz, view)
    spot = np.array([focus.radius * s, -focus.radius * c, np.full(angle.size, focus.rise)])
    lean = np.array(
        [
            [1.0, 0.0, 0.0],
            [0.0, math.cos(tilt_rad), -math.sin(tilt_rad)],
            [0.0, math.sin(tilt_rad), math.cos(tilt_rad)],
        ]
    )
    centre = np.array([zero + isocentre_mm[0], zero + isocentre_mm[1], np.asarray(source_z_mm, float)])
    source = np.ascontiguousarray((lean @ spot + centre).T)
    channels = np.column_stack([focus.lengths * focus.along, focus.lengths * focus.across])
    return source, np.ascontiguousarray(np.einsum("pq,aqv->vap", lean, axes)), channels


def trace(
    volumes: np.ndarray,
    *,
    spacing_mm: tuple[float, float, float],
    origin_mm: tuple[float, float, float],
    start_mm: np.ndarray,
    end_mm: np.ndarray,
) -> np.ndarray:
    """Line integrals along segments.

    Parameters
    ----------
    volumes : float32 array (n_basis, nz, ny, nx)
        Values, g/cm3; 0 outside.
    spacing_mm, origin_mm : tuple (z, y, x)
        Voxel size, and centre of voxel 0.
    start_mm, end_mm : array (n, 3)
        x, y, z.

    Returns
    -------
    float32 array (n_basis, n)
        g/cm2.

    Raises
    ------
    InputError
        Shapes do not fit.

    Examples
    --------
    >>> cube = np.ones((1, 10, 10, 10), np.float32)
    >>> trace(cube, spacing_mm=(1, 1, 1), origin_mm=(0.5, 0.5, 0.5), start_mm=[[-9, 5.2, 5.2]], end_mm=[[19, 5.2, 5.2]])
    array([[1.]], dtype=float32)
    """
    values, low, size = _grid(volumes, spacing_mm, origin_mm)
    start, end = (np.ascontiguousarray(p, float) for p in (start_mm, end_mm))
    if start.ndim != 2 or start.shape[1:] != (3,) or start.shape != end.shape:
        refuse("trace", "start_mm and end_mm (n, 3)", (start.shape, end.shape))
    out = np.zeros((values.shape[-1], start.shape[0]), np.float32)
    with one_parallel_region():
        _segments(values, low, size, start, end, out)
    return out


def project_parallel(
    volumes: np.ndarray,
    *,
    spacing_mm: tuple[float, float, float],
    origin_mm: tuple[float, float, float],
    view_angle_rad: np.ndarray,
    u_mm: np.ndarray,
    row_mm: np.ndarray,
    isocentre_mm: tuple[float, float] = (0.0, 0.0),
) -> np.ndarray:
    """Line integrals of a parallel beam across z.

    The ray of lateral position ``u`` and height ``z`` in the view of angle ``b`` goes through
    ``(x0 + u cos b, y0 + u sin b, z)`` along ``(-sin b, cos b, 0)``: the limit of :func:`project` for a distant
    focal spot.

    Parameters
    ----------
    volumes, spacing_mm, origin_mm
        See :func:`trace`.
    view_angle_rad : array (n_view,)
    u_mm : array (n_channel,)
    row_mm : array (n_row,)
        z of the rows, not relative to a source.
    isocentre_mm : tuple (x, y)

    Returns
    -------
    float32 array (n_basis, n_view, n_row, n_channel)
        g/cm2.

    Raises
    ------
    InputError
        Shapes do not fit.
    """
    values, low, size = _grid(volumes, spacing_mm, origin_mm)
    angle, u, rows = (np.atleast_1d(np.asarray(a, float)) for a in (view_angle_rad, u_mm, row_mm))
    s, c = np.sin(angle)[:, None], np.cos(angle)[:, None]
    corners = [[low[1 + i] + n * size[1 + i] * values.shape[1 + i] for n in (0, 1)] for i in (0, 1)]
    reach = sum(max(abs(p - o) for p in side) for side, o in zip(corners, isocentre_mm[::-1], strict=True))
    shape = (angle.size, rows.size, u.size)
    x, y, z = (
        np.broadcast_to(p, shape)
        for p in (
            (isocentre_mm[0] + u * c)[:, None],
            (isocentre_mm[1] + u * s)[:, None],
            rows[:, None],
        )
    )
    way = np.stack(np.broadcast_arrays(-s[:, None], c[:, None], 0.0), -1) * (reach + 1.0)
    middle = np.stack([x, y, z], -1)
    start, end = (middle - way).reshape(-1, 3), (middle + way).reshape(-1, 3)
    out = np.zeros((values.shape[-1], start.shape[0]), np.float32)
    with one_parallel_region():
        _segments(values, low, size, start, end, out)
    return out.reshape(-1, *shape)


def project_tilted(
    volumes: np.ndarray,
    *,
    tilt_rad: float,
    spacing_mm: tuple[float, float, float],
    origin_mm: tuple[float, float, float],
    **scan: Any,
) -> np.ndarray:
    """As :func:`twinlab.kernels.project.project` for a gantry that leans (see :func:`frames`), ray by ray."""
    values, low, size = _grid(volumes, spacing_mm, origin_mm)
    rays = cone(spacing_mm=spacing_mm, **scan)
    out = np.zeros((values.shape[-1], *rays.shape), np.float32)
    for focus in rays.foci:
        seen = focus.views
        source, axes, channels = frames(
            focus, rays.angles[seen], rays.source_z[seen], rays.isocentre, tilt_rad
        )
        part = np.zeros((values.shape[-1], seen.size, *out.shape[2:]), np.float32)
        with one_parallel_region():
            _cone(
                values, low, size, source, axes, channels, rays.rows - focus.rise, rays.row_lo[seen],
                rays.row_hi[seen], part,
            )  # fmt: skip
        out[:, seen] = part
    return out


def _grid(volumes, spacing_mm, origin_mm):
    """Volumes with the basis next to each other in memory, lower corner and voxel size."""
    volumes = np.asarray(volumes, np.float32)
    if volumes.ndim != 4 or volumes.size == 0:
        refuse("volumes", "(n_basis, nz, ny, nx), not empty", f"shape {volumes.shape}")
    if min(spacing_mm) <= 0:
        refuse("spacing_mm", "positive voxel sizes", spacing_mm)
    size = tuple(map(float, spacing_mm))
    low = tuple(float(o) - 0.5 * s for o, s in zip(origin_mm, size, strict=True))
    return np.ascontiguousarray(np.moveaxis(volumes, 0, -1)), low, size
