"""Forward projection on a CUDA device: the scalar ray of :mod:`twinlab.kernels.rays`, one thread per ray.

The kernel calls the same function object as the reference driver on the CPU, in float32. Without a device it
is tested in the CUDA simulator and compiled to PTX.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from twinlab.kernels import cuda_memory as memory
from twinlab.kernels.device import host, missing, namespace
from twinlab.kernels.general_rays import frames
from twinlab.kernels.project import cone
from twinlab.kernels.rays import siddon
from twinlab.schema import refuse

cuda: Any  # a name of the module, because the simulator replaces it there
try:
    from numba import cuda
except ImportError:
    cuda = None

_CM = np.float32(0.1)
_ZERO = np.float32(0.0)


@lru_cache
def kernel() -> Any:
    """The CUDA kernel, uncompiled: ``(volumes, grid, views, channels, rows, out)``, all float32.

    ``grid`` (6,): lower corner and voxel size (z, y, x). ``views`` (n_view, 4, 3): x, y, z of the focal spot and of
    the unit vectors along and across the central ray and along rows. ``channels`` (n_channel, 2): distance to the
    detector along the first two. ``out`` (n_view, n_row, n_channel, n_basis).
    """

    def project(volumes, grid, views, channels, rows, out):
        n_view, n_row, n_channel, n_basis = out.shape
        ray = cuda.grid(1)
        if ray >= n_view * n_row * n_channel:
            return
        c = ray % n_channel
        r = ray // n_channel % n_row
        view = views[ray // (n_channel * n_row)]
        f, e, a = channels[c, 0], channels[c, 1], rows[r]
        x, y, z = view[0, 0], view[0, 1], view[0, 2]
        result = out[ray // (n_channel * n_row), r, c]
        for k in range(n_basis):
            result[k] = _ZERO
        siddon(
            volumes, grid[0], grid[1], grid[2], grid[3], grid[4], grid[5], z, y, x,
            z + f * view[1, 2] + e * view[2, 2] + a * view[3, 2],
            y + f * view[1, 1] + e * view[2, 1] + a * view[3, 1],
            x + f * view[1, 0] + e * view[2, 0] + a * view[3, 0], result,
        )  # fmt: skip
        for k in range(n_basis):
            result[k] *= _CM

    return project


class Bundle(NamedTuple):
    """Rays of the views of one focal spot, as arrays of the host.

    Attributes
    ----------
    seen : int array
        Which views.
    views, channels, rows : arrays
        See :func:`kernel`.
    row_lo, row_hi : int arrays
        Rows of every view.
    """

    seen: np.ndarray
    views: np.ndarray
    channels: np.ndarray
    rows: np.ndarray
    row_lo: np.ndarray
    row_hi: np.ndarray


def bundles(*, tilt_rad: float = 0.0, **scan: Any) -> Iterator[Bundle]:
    """Rays of a scan, by displacement of the focal spot; ``scan`` as of :func:`twinlab.kernels.project.cone`."""
    rays = cone(**scan)
    for focus in rays.foci:
        seen = focus.views
        source, axes, channels = frames(
            focus, rays.angles[seen], rays.source_z[seen], rays.isocentre, tilt_rad
        )
        views = np.concatenate([source[:, None], axes], axis=1)
        yield Bundle(seen, views, channels, rays.rows - focus.rise, rays.row_lo[seen], rays.row_hi[seen])


def corner_and_size(spacing_mm: tuple[float, ...], origin_mm: tuple[float, ...]) -> Any:
    """``grid`` of :func:`kernel`, on the device."""
    return memory.put(
        [*(o - 0.5 * s for o, s in zip(origin_mm, spacing_mm, strict=True)), *map(float, spacing_mm)]
    )


def project_on_device(
    volumes: Any,
    *,
    spacing_mm: tuple[float, float, float],
    origin_mm: tuple[float, float, float],
    **scan: Any,
) -> Any:
    """As :func:`project_cuda` from and to arrays that live on the device (CuPy's); without CuPy, of the host.

    Returns
    -------
    array (n_view, n_row, n_channel, n_basis)
    """
    volume, grid = memory.there(volumes), corner_and_size(spacing_mm, origin_mm)
    parts, seen = [], []
    for bundle in bundles(spacing_mm=spacing_mm, **scan):
        shape = (bundle.seen.size, bundle.rows.size, len(bundle.channels))
        part = memory.empty((*shape, volumes.shape[0]))
        inputs = map(memory.put, (bundle.views, bundle.channels, bundle.rows))
        memory.launch(kernel(), math.prod(shape), volume, grid, *inputs, part, fastmath=True)
        paths = memory.algebra(part)
        xp, row = namespace(paths), np.arange(bundle.rows.size)
        unseen = (row < bundle.row_lo[:, None]) | (row >= bundle.row_hi[:, None])
        if unseen.any():
            paths = xp.where(xp.asarray(unseen)[:, :, None, None], xp.zeros_like(paths), paths)
        parts.append(paths)
        seen.append(bundle.seen)
    if len(parts) == 1:
        return parts[0]
    return xp.take(xp.concat(parts, axis=0), xp.asarray(np.argsort(np.concatenate(seen))), axis=0)


def project_cuda(
    volumes: np.ndarray,
    *,
    spacing_mm: tuple[float, float, float],
    origin_mm: tuple[float, float, float],
    **scan: Any,
) -> np.ndarray:
    """As :func:`twinlab.kernels.project.project`, on the current CUDA device, in float32.

    ``scan``: the arguments of :func:`bundles`; ``tilt_rad`` as in
    :func:`twinlab.kernels.general_rays.project_tilted`. Rows outside a window are traced too,
    and then set to 0.

    Line integrals agree with the CPU's to about 1e-4 of the largest, except for rays that graze a face.

    Raises
    ------
    InputError
        No CUDA device, or inconsistent input.
    """
    reason = missing()
    if reason:
        refuse("project_cuda", "a CUDA device", reason)
    volumes = np.ascontiguousarray(volumes, np.float32)
    if volumes.ndim != 4:
        refuse("project_cuda", "volumes (n_basis, nz, ny, nx)", f"shape {volumes.shape}")
    paths = project_on_device(volumes, spacing_mm=spacing_mm, origin_mm=origin_mm, **scan)
    return np.ascontiguousarray(np.moveaxis(host(paths), -1, 0))
