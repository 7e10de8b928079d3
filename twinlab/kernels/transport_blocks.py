"""Majorants of the attenuation over blocks of voxels.

A block's bound must hold at every energy, whatever its materials. Storing a curve per block would be
large; blocks with like curves share a class, and the class's curve is the envelope of the densest voxel
of every material in it.
"""

from __future__ import annotations

import numpy as np
from numba import njit

_PROBE = (250, 550, 800)  # energy nodes (3.4, 15, 50 keV) where blocks are compared


@njit(cache=True)
def _densest(material, density, block, n_material):
    """Largest density of each material in each block, (bz, by, bx, material) float32."""
    nz, ny, nx = material.shape
    out = np.zeros(
        ((nz + block - 1) // block, (ny + block - 1) // block, (nx + block - 1) // block, n_material),
        np.float32,
    )
    for k in range(nz):
        for j in range(ny):
            for i in range(nx):
                m = material[k, j, i]
                if density[k, j, i] > out[k // block, j // block, i // block, m]:
                    out[k // block, j // block, i // block, m] = density[k, j, i]
    return out


def majorants(
    material: np.ndarray, density: np.ndarray, total: np.ndarray, *, block: int, step: float = 0.05
) -> tuple[np.ndarray, np.ndarray]:
    """Class of each block and majorant curve of each class.

    Parameters
    ----------
    material : (z, y, x) uint8
    density : (z, y, x) float32
        g/cm3.
    total : (material, energy) float32
        Attenuation per density, mm-1 per g/cm3.
    block : int
        Voxels along the edge of a block.
    step : float
        Relative width within which two blocks count as alike at the probe energies; it costs at most as
        much in virtual collisions.

    Returns
    -------
    block_class : (z, y, x) uint16
    majorant : (class, energy) float32
        mm-1; not below material's attenuation anywhere in the class's blocks.
    """
    dense = _densest(material, density, block, total.shape[0])
    flat = dense.reshape(-1, total.shape[0])
    curves = np.stack([(flat * total[:, node]).max(axis=1) for node in _PROBE], axis=1)
    width = step
    while True:
        codes = np.floor(np.log(np.maximum(curves, 1e-12)) / np.log1p(width)).astype(np.int64)
        _, member = np.unique(codes, axis=0, return_inverse=True)
        member = member.reshape(-1)
        n_class = int(member.max()) + 1
        if n_class <= 4096:
            break
        width *= 1.5
    bound = np.zeros((n_class, total.shape[0]), np.float32)
    np.maximum.at(bound, member, flat)
    majorant = np.zeros((n_class, total.shape[1]), np.float32)
    for m in range(total.shape[0]):
        np.maximum(majorant, bound[:, m, None] * total[m], out=majorant)
    # one part in 1e6 above, so that float32 rounding of an interpolated sum cannot cross the bound
    return member.reshape(dense.shape[:3]).astype(np.uint16), majorant * np.float32(1.000001)
