"""Transpose of the CUDA projector: one thread per voxel gathers the readings of all rays that cross it.

A ray that scatters its reading needs atomic sums, whose order and so whose rounding differ from run to run.
Here each voxel finds its rays instead: the shadow of its box on the detector bounds channels and rows, and
the length of each ray inside is that of the projector's step, from the same planes by the same arithmetic.
Every voxel is summed by one thread in the order of views, channels and rows: the result is the same each time.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from twinlab.kernels import cuda_memory as memory
from twinlab.kernels.cuda_project import bundles, corner_and_size
from twinlab.kernels.device import host, missing, namespace
from twinlab.kernels.rays import clip_axis
from twinlab.schema import refuse

cuda: Any  # a name of the module, because the simulator replaces it there
try:
    from numba import cuda
except ImportError:
    cuda = None

_CM = np.float32(0.1)
_ZERO, _HALF, _ONE = np.float32(0.0), np.float32(0.5), np.float32(1.0)
_FAR = np.float32(1.0e30)  # of the slope of a ray; times a distance still a number
_WIDER = np.float32(1.001)  # of a voxel's shadow, so that rounding of its edges loses no ray


@njit(cache=True)
def first_from(table, least, lo, hi):
    """First place from ``lo`` up to ``hi`` of an ascending table whose entry is not below ``least``; else ``hi``."""
    while lo < hi:
        middle = (lo + hi) // 2
        if table[middle] < least:
            lo = middle + 1
        else:
            hi = middle
    return lo


@njit(cache=True)
def slopes(offset, half, near, far):
    """Lowest and highest of ``(offset +- half) / distance`` for distances from ``near`` above 0 to ``far``."""
    low, high = offset - half, offset + half
    return low / (near if low < _ZERO else far), high / (far if high < _ZERO else near)


@njit(cache=True)
def length_inside(z0, y0, x0, dz, dy, dx, iz, iy, ix, sz, sy, sx, ez, ey, ex):
    """Length of a segment inside voxel (iz, iy, ix): the step that :func:`twinlab.kernels.rays.siddon` takes there."""
    vz, vy, vx = ez - sz, ey - sy, ex - sx
    left, right = x0 + np.float32(ix) * dx, x0 + np.float32(ix + 1) * dx
    first, last = clip_axis(sx, vx, left, right, _ZERO * sx, _ONE + _ZERO * sx)
    left, right = y0 + np.float32(iy) * dy, y0 + np.float32(iy + 1) * dy
    first, last = clip_axis(sy, vy, left, right, first, last)
    left, right = z0 + np.float32(iz) * dz, z0 + np.float32(iz + 1) * dz
    first, last = clip_axis(sz, vz, left, right, first, last)
    return max(last - first, _ZERO) * math.sqrt(vz * vz + vy * vy + vx * vx)


def gather(data, grid, views, channels, tangents, numbers, rows, row_lo, row_hi, out):
    """CUDA kernel, uncompiled, one thread per voxel and basis: adds to ``out`` (n_basis, nz, ny, nx).

    ``data`` (n_view, n_row, n_channel, n_basis); ``grid``, ``views`` and ``rows`` as for the projector
    (:func:`twinlab.kernels.cuda_project.kernel`). ``channels`` as well, in the order of ``tangents``, across over
    along the central ray; ``numbers``: their places in ``data``.
    """
    nz, ny, nx = out.shape[1], out.shape[2], out.shape[3]
    thread = cuda.grid(1)
    if thread >= out.shape[0] * nz * ny * nx:
        return
    ix, iy, iz, k = thread % nx, thread // nx % ny, thread // (nx * ny) % nz, thread // (nx * ny * nz)
    z0, y0, x0, dz, dy, dx = grid[0], grid[1], grid[2], grid[3], grid[4], grid[5]
    z, y, x = (
        z0 + (np.float32(iz) + _HALF) * dz,
        y0 + (np.float32(iy) + _HALF) * dy,
        x0 + (np.float32(ix) + _HALF) * dx,
    )
    hz, hy, hx = _HALF * _WIDER * dz, _HALF * _WIDER * dy, _HALF * _WIDER * dx
    total = _ZERO
    for i in range(views.shape[0]):
        sx, sy, sz = views[i, 0, 0], views[i, 0, 1], views[i, 0, 2]
        px, py, pz = x - sx, y - sy, z - sz
        ax, ay, az = views[i, 1, 0], views[i, 1, 1], views[i, 1, 2]  # along the central ray
        bx, by, bz = views[i, 2, 0], views[i, 2, 1], views[i, 2, 2]  # across it
        rx, ry, rz = views[i, 3, 0], views[i, 3, 1], views[i, 3, 2]  # along rows
        ahead, depth = px * ax + py * ay + pz * az, hx * abs(ax) + hy * abs(ay) + hz * abs(az)
        near, far = ahead - depth, ahead + depth
        if far <= _ZERO:
            continue
        left, right, below, above = -_FAR, _FAR, -_FAR, _FAR
        if near > _ZERO:  # else the focal spot lies beside or in the voxel, whose shadow is everywhere
            left, right = slopes(
                px * bx + py * by + pz * bz, hx * abs(bx) + hy * abs(by) + hz * abs(bz), near, far
            )
            below, above = slopes(
                px * rx + py * ry + pz * rz, hx * abs(rx) + hy * abs(ry) + hz * abs(rz), near, far
            )
        c = first_from(tangents, left, 0, tangents.size)
        while c < tangents.size and tangents[c] <= right:
            f, e = channels[c, 0], channels[c, 1]
            r, top = first_from(rows, below * f, row_lo[i], row_hi[i]), above * f
            while r < row_hi[i] and rows[r] <= top:
                a = rows[r]
                total += data[i, r, numbers[c], k] * length_inside(
                    z0, y0, x0, dz, dy, dx, iz, iy, ix, sz, sy, sx,
                    sz + f * az + e * bz + a * rz, sy + f * ay + e * by + a * ry, sx + f * ax + e * bx + a * rx,
                )  # fmt: skip
                r += 1
            c += 1
    out[k, iz, iy, ix] += _CM * total


def adjoint_on_device(
    data: Any,
    *,
    shape: tuple[int, int, int],
    spacing_mm: tuple[float, float, float],
    origin_mm: tuple[float, float, float],
    **scan: Any,
) -> Any:
    """As :func:`project_adjoint_cuda` from and to arrays that live on the device (CuPy's); without CuPy, of the host.

    Parameters
    ----------
    data : array (n_view, n_row, n_channel, n_basis)
        The order of :func:`twinlab.kernels.cuda_project.project_on_device`.

    Returns
    -------
    array (n_basis, nz, ny, nx)
    """
    xp, grid = namespace(data), corner_and_size(spacing_mm, origin_mm)
    image = memory.zeros((data.shape[3], *map(int, shape)))
    for bundle in bundles(spacing_mm=spacing_mm, **scan):
        if (bundle.channels[:, 0] <= 0).any():
            refuse("project_adjoint_cuda", "channels less than 90 degrees off the central ray", "some beyond")
        tangent = bundle.channels[:, 1] / bundle.channels[:, 0]
        order = np.argsort(tangent)
        whole = bundle.seen.size == data.shape[0]
        part = data if whole else xp.take(data, xp.asarray(bundle.seen), axis=0)
        tables = (bundle.views, bundle.channels[order], tangent[order], order, bundle.rows)
        windows = (bundle.row_lo, bundle.row_hi)
        memory.launch(
            gather, math.prod(image.shape), memory.there(part), grid, *map(memory.put, tables + windows), image,
            fastmath=True,
        )  # fmt: skip
    return memory.algebra(image)


def project_adjoint_cuda(
    data: np.ndarray,
    *,
    shape: tuple[int, int, int],
    spacing_mm: tuple[float, float, float],
    origin_mm: tuple[float, float, float],
    **scan: Any,
) -> np.ndarray:
    """As :func:`twinlab.kernels.project_adjoint.project_adjoint`, on the current CUDA device, in float32.

    ``scan``: the arguments of :func:`twinlab.kernels.cuda_project.bundles`;
    ``tilt_rad`` as in :func:`twinlab.kernels.cuda_project.project_cuda`, whose transpose this is: to rounding of
    single ray lengths (float32 positions of 1,000 mm: 6e-5 mm), which is also its difference from the CPU's.

    Raises
    ------
    InputError
        No CUDA device, or inconsistent input.
    """
    reason = missing()
    if reason:
        refuse("project_adjoint_cuda", "a CUDA device", reason)
    data = np.asarray(data, np.float32)
    fan = scan.get("fan_angle_rad")
    channel = scan.get("u_mm") if fan is None else fan
    expected = (np.size(scan["view_angle_rad"]), np.size(scan["row_mm"]), np.size(channel))  # type: ignore[arg-type]
    if data.ndim != 4 or data.shape[1:] != expected:
        refuse(
            "project_adjoint_cuda", f"data (n_basis, {', '.join(map(str, expected))})", f"shape {data.shape}"
        )
    image = adjoint_on_device(
        np.moveaxis(data, 0, -1), shape=shape, spacing_mm=spacing_mm, origin_mm=origin_mm, **scan
    )
    return host(image)
