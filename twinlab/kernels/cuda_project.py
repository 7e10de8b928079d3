"""Forward projection on a CUDA device: the scalar ray of :mod:`twinlab.kernels.rays`, one thread per ray.

The kernel calls the same function object as the reference driver on the CPU, in float32. Without a device it
is tested in the CUDA simulator and compiled to PTX.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

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

    ``grid`` (6,): lower corner and voxel size (z, y, x). ``views`` (n_view, 5): z, y, x of the focal spot, sine
    and cosine of the angle. ``channels`` (n_channel, 2): distance to the detector along and across the central
    ray. ``out`` (n_view, n_row, n_channel, n_basis).

    """

    def project(volumes, grid, views, channels, rows, out):
        n_view, n_row, n_channel, n_basis = out.shape
        ray = cuda.grid(1)
        if ray >= n_view * n_row * n_channel:
            return
        c = ray % n_channel
        r = ray // n_channel % n_row
        i = ray // (n_channel * n_row)
        z, y, x, sine, cosine = views[i, 0], views[i, 1], views[i, 2], views[i, 3], views[i, 4]
        along, across = channels[c, 0], channels[c, 1]
        result = out[i, r, c]
        for k in range(n_basis):
            result[k] = _ZERO
        siddon(
            volumes, grid[0], grid[1], grid[2], grid[3], grid[4], grid[5], z, y, x,
            z + rows[r], y + along * cosine + across * sine, x - along * sine + across * cosine, result,
        )  # fmt: skip
        for k in range(n_basis):
            result[k] *= _CM

    return project


def available() -> str:
    """Why no CUDA device can be used; empty when one can."""
    if cuda is None:
        return "numba-cuda is not installed (extra: gpu)"
    return "" if cuda.is_available() else "no CUDA device"


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
) -> np.ndarray:
    """As :func:`twinlab.kernels.project.project`, on the current CUDA device, in float32.

    Line integrals agree with the CPU's to about 1e-4 of the largest, except for rays that graze a face.

    Raises
    ------
    InputError
        No CUDA device, or inconsistent input.
    """
    reason = available()
    if reason:
        refuse("project_cuda", "a CUDA device", reason)
    volumes = np.ascontiguousarray(volumes, np.float32)
    if volumes.ndim != 4:
        refuse("project_cuda", "volumes (n_basis, nz, ny, nx)", f"shape {volumes.shape}")
    angles, source_z, rows, _, _ = geometry(
        spacing_mm, view_angle_rad, source_z_mm, source_to_isocentre_mm, row_mm, None, None
    )
    along, across, lengths = detector_rays(
        source_to_detector_mm=source_to_detector_mm, fan_angle_rad=fan_angle_rad, u_mm=u_mm
    )
    sine, cosine = np.sin(angles), np.cos(angles)
    source_y = isocentre_mm[1] - source_to_isocentre_mm * cosine
    source_x = isocentre_mm[0] + source_to_isocentre_mm * sine
    grid = [*(o - 0.5 * s for o, s in zip(origin_mm, spacing_mm, strict=True)), *spacing_mm]
    views = np.column_stack([source_z, source_y, source_x, sine, cosine])
    channels = np.column_stack([lengths * along, lengths * across])
    inputs = [cuda.to_device(np.asarray(a, np.float32)) for a in (volumes, grid, views, channels, rows)]
    shape = (angles.size, rows.size, lengths.size, volumes.shape[0])
    result = cuda.device_array(shape, np.float32)
    blocks = math.ceil(math.prod(shape[:3]) / THREADS)
    cuda.jit(kernel(), fastmath=True)[blocks, THREADS](*inputs, result)
    return np.ascontiguousarray(np.moveaxis(result.copy_to_host(), -1, 0))
