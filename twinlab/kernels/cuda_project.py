"""Forward projection on a CUDA device: the scalar ray of :mod:`twinlab.kernels.rays`, one thread per ray.

The kernel calls the same function object as the reference driver on the CPU, in float32. Without a device it
is tested in the CUDA simulator and compiled to PTX.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from twinlab.kernels.deflection import foci
from twinlab.kernels.device import missing
from twinlab.kernels.general_rays import frames
from twinlab.kernels.project import detector_rays, geometry
from twinlab.kernels.rays import siddon
from twinlab.schema import refuse

cuda: Any  # a name of the module, because the simulator replaces it there
try:
    from numba import cuda
except ImportError:
    cuda = None

THREADS = 128
_CM = np.float32(0.1)
_ZERO = np.float32(0.0)


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


def project_cuda(
    volumes: np.ndarray,
    *,
    spacing_mm: tuple[float, float, float],
    origin_mm: tuple[float, float, float],
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
    tilt_rad: float = 0.0,
) -> np.ndarray:
    """As :func:`twinlab.kernels.project.project`, on the current CUDA device, in float32.

    ``tilt_rad`` as in :func:`twinlab.kernels.general_rays.project_tilted`. Rows outside a window are traced too,
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
    angles, source_z, rows, lo, hi = geometry(
        spacing_mm, view_angle_rad, source_z_mm, source_to_isocentre_mm, row_mm, row_lo, row_hi
    )
    along, across, lengths = detector_rays(
        source_to_detector_mm=source_to_detector_mm, fan_angle_rad=fan_angle_rad, u_mm=u_mm
    )
    grid = [*(o - 0.5 * s for o, s in zip(origin_mm, spacing_mm, strict=True)), *spacing_mm]
    volume, box = (cuda.to_device(np.asarray(a, np.float32)) for a in (volumes, grid))
    compiled = cuda.jit(kernel(), fastmath=True)
    result = np.zeros((volumes.shape[0], angles.size, rows.size, lengths.size), np.float32)
    shifts = foci(
        focal_shift_mm, angles.size, source_to_isocentre_mm=float(source_to_isocentre_mm), along=along,
        across=across, lengths=lengths,
    )  # fmt: skip
    for focus in shifts:
        seen = focus.views
        source, axes, channels = frames(focus, angles[seen], source_z[seen], isocentre_mm, tilt_rad)
        views = np.concatenate([source[:, None], axes], axis=1)
        inputs = [cuda.to_device(np.asarray(a, np.float32)) for a in (views, channels, rows - focus.rise)]
        part = cuda.device_array((seen.size, rows.size, lengths.size, volumes.shape[0]), np.float32)
        compiled[math.ceil(math.prod(part.shape[:3]) / THREADS), THREADS](volume, box, *inputs, part)
        result[:, seen] = np.moveaxis(part.copy_to_host(), -1, 0)
    row = np.arange(rows.size)
    result[:, (row < lo[:, None]) | (row >= hi[:, None])] = 0.0
    return result
