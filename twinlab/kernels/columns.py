"""Volumes laid out for row-bundle projection: one contiguous column along z per (y, x) cell.

A column holds all basis values of a slab side by side, ``columns[cell, slab * n_basis + basis]``, with an
empty slab below and above the volume. The constant that surrounds the object (air) is taken out and kept
apart: it is added analytically, so only the box that the object occupies is stored and walked.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit, prange

from twinlab.kernels.lanes import LINE
from twinlab.kernels.threads import one_parallel_region
from twinlab.schema import refuse

ALIGN = LINE  # windows over a column start and end on multiples of a cache line


@dataclass(frozen=True)
class Columns:
    """Prepared volumes; made by :func:`prepare` or :func:`prepare_materials`.

    Attributes
    ----------
    values : float32 array (n_box_cells, stride)
        Value minus background; slab ``j`` of basis ``k`` at ``(j + 1) * n_basis + k``.
    occupied : uint8 array (ny_box, nx_box)
        0 where the whole column is background.
    background : float32 array (n_basis,)
        Constant value outside the box and in empty columns.
    shape : tuple of int
        ``(n_basis, nz, ny, nx)`` of the whole volume.
    corner : tuple of int
        ``(iy, ix)`` of the box in the volume.
    """

    values: np.ndarray
    occupied: np.ndarray
    background: np.ndarray
    shape: tuple[int, int, int, int]
    corner: tuple[int, int]


@njit(cache=True, parallel=True)
def _occupied(volumes, background):
    nk, nz, ny, nx = volumes.shape
    found = np.zeros((ny, nx), np.uint8)
    for iy in prange(ny):
        for k in range(nk):
            for iz in range(nz):
                for ix in range(nx):
                    if volumes[k, iz, iy, ix] != background[k]:
                        found[iy, ix] = 1
    return found


@njit(cache=True, parallel=True)
def _occupied_materials(material, density):
    nz, ny, nx = material.shape
    found = np.zeros((ny, nx), np.uint8)
    for iy in prange(ny):
        for iz in range(nz):
            for ix in range(nx):
                if material[iz, iy, ix] != material[0, 0, 0] or density[iz, iy, ix] != density[0, 0, 0]:
                    found[iy, ix] = 1
    return found


@njit(cache=True, parallel=True)
def _fill(volumes, background, y0, x0, values, nx_box):
    nk, nz = volumes.shape[:2]
    for row in prange(values.shape[0] // nx_box):
        for k in range(nk):
            for iz in range(nz):
                for ix in range(nx_box):
                    value = volumes[k, iz, y0 + row, x0 + ix] - background[k]
                    values[row * nx_box + ix, (iz + 1) * nk + k] = value


@njit(cache=True, parallel=True)
def _fill_materials(material, density, coefficients, background, y0, x0, values, nx_box):
    nz = material.shape[0]
    nk = coefficients.shape[1]
    for row in prange(values.shape[0] // nx_box):
        for iz in range(nz):
            for ix in range(nx_box):
                m = material[iz, y0 + row, x0 + ix]
                rho = density[iz, y0 + row, x0 + ix]
                for k in range(nk):
                    values[row * nx_box + ix, (iz + 1) * nk + k] = coefficients[m, k] * rho - background[k]


@njit(cache=True, parallel=True)
def _dense(density, threshold):
    """Slices, rows and columns of voxels that hold something denser."""
    nz, ny, nx = density.shape
    in_z, in_y, in_x = np.zeros(nz, np.uint8), np.zeros((nz, ny), np.uint8), np.zeros((nz, nx), np.uint8)
    for iz in prange(nz):
        for iy in range(ny):
            for ix in range(nx):
                if density[iz, iy, ix] > threshold:
                    in_z[iz] = in_y[iz, iy] = in_x[iz, ix] = 1
    return in_z, in_y, in_x


def extent(density: np.ndarray, threshold: float):
    """First and last index (z, y, x) of voxels denser than a threshold; None when there are none."""
    with one_parallel_region():
        in_z, in_y, in_x = _dense(density, threshold)
    places = [np.flatnonzero(p) for p in (in_z, in_y.any(axis=0), in_x.any(axis=0))]
    return tuple((int(p[0]), int(p[-1])) for p in places) if places[0].size else None


def _empty_columns(occupied, n_basis, nz):
    """Zeroed columns over the smallest box around the occupied cells (one cell when there is none)."""
    ys, xs = np.flatnonzero(occupied.any(axis=1)), np.flatnonzero(occupied.any(axis=0))
    y0, y1 = (ys[0], ys[-1] + 1) if ys.size else (0, 1)
    x0, x1 = (xs[0], xs[-1] + 1) if xs.size else (0, 1)
    stride = -(-(nz + 2) * n_basis // ALIGN) * ALIGN
    n_cells = (y1 - y0) * (x1 - x0)
    # columns begin with a cache line; one line behind the last, because vectors of basis values may reach beyond it
    room = np.zeros(n_cells * stride + 2 * ALIGN, np.float32)
    first = -room.ctypes.data // room.itemsize % ALIGN
    values = room[first : first + n_cells * stride].reshape(n_cells, stride)
    return values, (int(y0), int(x0)), np.ascontiguousarray(occupied[y0:y1, x0:x1])


def prepare(volumes: np.ndarray) -> Columns:
    """Lay out basis volumes for :func:`twinlab.kernels.project.project`.

    The background is the value of the first voxel; cells that differ from it anywhere along z are stored.

    Parameters
    ----------
    volumes : float32 array (n_basis, nz, ny, nx) or (nz, ny, nx)

    Raises
    ------
    InputError
        The array has another number of dimensions or is empty.
    """
    volumes = np.asarray(volumes, np.float32)
    if volumes.ndim == 3:
        volumes = volumes[None]
    if volumes.ndim != 4 or volumes.size == 0:
        refuse("prepare", "volumes (n_basis, nz, ny, nx), not empty", f"shape {volumes.shape}")
    background = volumes[:, 0, 0, 0].copy()
    with one_parallel_region():
        occupied = _occupied(volumes, background)
        values, corner, box = _empty_columns(occupied, volumes.shape[0], volumes.shape[1])
        _fill(volumes, background, corner[0], corner[1], values, box.shape[1])
    return Columns(values, box, background, volumes.shape, corner)


def prepare_materials(material: np.ndarray, density: np.ndarray, *, coefficients: np.ndarray) -> Columns:
    """As :func:`prepare` for ``coefficients[material, k] * density``, without making the basis volumes.

    Parameters
    ----------
    material : uint8 array (nz, ny, nx)
    density : float32 array (nz, ny, nx), g/cm3
    coefficients : array (n_material, n_basis)

    Raises
    ------
    InputError
        Shapes differ, or a material has no coefficients.
    """
    material, density = np.asarray(material), np.asarray(density, np.float32)
    coefficients = np.ascontiguousarray(coefficients, np.float32)
    if material.ndim != 3 or material.shape != density.shape or material.size == 0:
        refuse(
            "prepare_materials",
            "material and density of one shape (z, y, x)",
            (material.shape, density.shape),
        )
    if int(material.max()) >= coefficients.shape[0]:
        refuse("prepare_materials", f"material below {coefficients.shape[0]}", int(material.max()))
    background = coefficients[material[0, 0, 0]] * density[0, 0, 0]
    with one_parallel_region():
        occupied = _occupied_materials(material, density)
        values, corner, box = _empty_columns(occupied, coefficients.shape[1], material.shape[0])
        _fill_materials(
            material, density, coefficients, background, corner[0], corner[1], values, box.shape[1]
        )
    return Columns(values, box, background, (coefficients.shape[1], *material.shape), corner)
