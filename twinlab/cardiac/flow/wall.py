"""Wall shear stress from velocities next to the wall."""

from __future__ import annotations

import itertools

import numpy as np

from twinlab.cardiac.flow.grid import Grid, wall_cells

_REACH = 2.3  # voxels


def wall_shear_stress(
    grid: Grid, velocity_m_per_s: np.ndarray, *, voxel_mm: float, viscosity_pa_s: float
) -> tuple[np.ndarray, np.ndarray]:
    """Shear stress of the wall at the cells that touch it.

    Around every such cell the velocity along the wall is fitted by ``u = a d + b d^2`` in the distance d from the wall
    (least squares over the cells within 2.3 voxels); the stress is ``mu a``. A parabola is met exactly.

    Parameters
    ----------
    grid : Grid
    velocity_m_per_s : array (3, cell)
        x, y, z.
    voxel_mm, viscosity_pa_s : float

    Returns
    -------
    cells : int array (wall cell,)
        Numbers of the cells.
    stress : array (wall cell, 3)
        Pa, x, y, z: the drag of the flow on the wall.
    """
    numbers = wall_cells(grid)
    gradient = np.gradient(grid.distance)
    centre = grid.cells[:, numbers]
    normal = np.array([g[tuple(centre)] for g in gradient[::-1]]).T  # x, y, z
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
    size = np.array(grid.distance.shape)[:, None]
    moment = np.zeros((3, len(numbers)))  # sums of d^2, d^3, d^4
    right = np.zeros((2, len(numbers), 3))
    reach = range(-2, 3)
    for shift in itertools.product(reach, reach, reach):
        if sum(s * s for s in shift) > _REACH**2:
            continue
        there = centre + np.array(shift)[:, None]
        ok = ((there >= 0) & (there < size)).all(axis=0)
        held = tuple(np.clip(there, 0, size - 1))
        number = np.where(ok, grid.index[held], -1)
        inside = number >= 0
        u = velocity_m_per_s[:, number[inside]].T
        n = normal[inside]
        u = u - (u * n).sum(axis=1, keepdims=True) * n
        d = -grid.distance[held][inside]
        for k in range(3):
            moment[k, inside] += d ** (k + 2)
        right[0, inside] += d[:, None] * u
        right[1, inside] += d[:, None] ** 2 * u
    det = moment[0] * moment[2] - moment[1] ** 2
    good = det > 1e-9 * np.maximum(moment[0] * moment[2], 1e-30)
    slope = np.where(
        good[:, None],
        (moment[2][:, None] * right[0] - moment[1][:, None] * right[1]) / np.where(good, det, 1.0)[:, None],
        right[0] / np.maximum(moment[0], 1e-12)[:, None],
    )
    return numbers, viscosity_pa_s * slope / (voxel_mm * 1e-3)
