"""Majorants of the attenuation over blocks of voxels.

A block's bound must hold at every energy, whatever its materials. Storing a curve per block would be
large; blocks with like curves share a class, and the class's curve is the envelope of the densest voxel
of every material in it.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from twinlab.kernels.transport_data import energy_grid

MAX_CLASSES = 256  # a row of majorants at one energy then stays in the nearest cache
_PROBE_KEV = (3.4, 15.0, 50.0)  # where blocks are compared


@njit(cache=True)
def _survey(record, block, n_material):
    """Largest density of each material in each block, and the block's record: zero unless it is uniform."""
    nz, ny, nx = record.shape
    shape = ((nz + block - 1) // block, (ny + block - 1) // block, (nx + block - 1) // block)
    dense = np.zeros((*shape, n_material), np.float32)
    uniform = np.zeros(shape, np.uint64)
    mixed = np.zeros(shape, np.bool_)
    for k in range(nz):
        for j in range(ny):
            for i in range(nx):
                r = record[k, j, i]
                m = np.int64(r & np.uint64(0xFF))
                density = np.uint32(r >> np.uint64(32)).view(np.float32)
                at = (k // block, j // block, i // block)
                if density > dense[at[0], at[1], at[2], m]:
                    dense[at[0], at[1], at[2], m] = density
                if k % block == 0 and j % block == 0 and i % block == 0:
                    uniform[at] = r
                elif uniform[at] != r:
                    mixed[at] = True
    for k in range(shape[0]):
        for j in range(shape[1]):
            for i in range(shape[2]):
                if mixed[k, j, i]:
                    uniform[k, j, i] = 0
    return dense, uniform


def _classes(curves: np.ndarray, step: float) -> np.ndarray:
    """Class of each block: blocks whose bounds agree within a relative width at the probe energies."""
    width = step
    while True:
        codes = np.floor(np.log(np.maximum(curves, 1e-12)) / np.log1p(width)).astype(np.int64)
        _, member = np.unique(codes, axis=0, return_inverse=True)
        if int(member.max()) < MAX_CLASSES:
            return member.reshape(-1)
        width *= 1.2


def steps_bound(curves: np.ndarray) -> np.ndarray:
    """Bound over each energy step of curves that are linear between nodes; (energy step, class) float32."""
    bound = np.maximum(curves[:, :-1], curves[:, 1:]).T
    # one part in 1e6 above, so that float32 rounding of an interpolated sum cannot cross the bound
    return np.ascontiguousarray(bound * np.float32(1.000001), dtype=np.float32)


def majorants(
    record: np.ndarray, total: np.ndarray, *, block: int, step: float = 0.05
) -> tuple[np.ndarray, np.ndarray]:
    """Records of the blocks and majorants of their classes.

    Parameters
    ----------
    record : (z, y, x) uint64
        Of the voxels, see :class:`twinlab.kernels.transport_data.Grid`.
    total : (material, energy) float32
        Attenuation per density, mm-1 per g/cm3.
    block : int
        Voxels along the edge of a block.
    step : float
        Relative width within which two blocks count as alike at the probe energies; it costs at most as
        much in virtual collisions.

    Returns
    -------
    blocks : (z + 2, y + 2, x + 2) uint64
        With a rim of one block.
    majorant : (energy step, class) float32
        mm-1; not below any material's attenuation anywhere in the class's blocks and the energy step.
    """
    dense, uniform = _survey(record, block, total.shape[0])
    flat = dense.reshape(-1, total.shape[0])
    nodes = np.searchsorted(energy_grid(), _PROBE_KEV)
    curves = np.stack([(flat * total[:, node]).max(axis=1) for node in nodes], axis=1)
    member = _classes(curves, step)
    bound = np.zeros((int(member.max()) + 1, total.shape[0]), np.float32)
    np.maximum.at(bound, member, flat)
    majorant = np.zeros((bound.shape[0], total.shape[1]), np.float32)
    for m in range(total.shape[0]):
        np.maximum(majorant, bound[:, m, None] * total[m], out=majorant)
    blocks = uniform | (member.reshape(uniform.shape).astype(np.uint64) << np.uint64(24))
    return np.pad(blocks, 1), steps_bound(majorant)
