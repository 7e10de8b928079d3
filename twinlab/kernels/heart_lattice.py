"""Lattice Boltzmann, D3Q19, two relaxation times, on the cells of a vessel only.

Populations are kept as deviations from rest (``f - w``), with the incompressible equilibrium (He and Luo 1997), so that
single precision serves on a GPU. Pull scheme: a cell gathers what the last collisions of its neighbours sent; where
the link comes from outside, ``source`` is negative and names the link:

- wall: interpolated bounce-back at the wall's true distance, in the central linear form whose steady state does not
  depend on the viscosity (Ginzburg, Verhaeghe and d'Humieres 2008); where there is no cell behind, in that of
  Bouzidi, Firdaouss and Lallemand 2001;
- inlet: bounce-back from a moving plane half a cell away; outlet: anti-bounce-back at a given pressure.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from twinlab.kernels.philox import DEVICE

# Directions in opposite pairs (2k - 1, 2k) after rest; x, y, z.
_HALF = [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (1, -1, 0), (1, 0, 1), (1, 0, -1), (0, 1, 1), (0, 1, -1)]
DIRECTIONS = np.array(
    [(0, 0, 0)] + [tuple(s * v for v in one) for one in _HALF for s in (1, -1)], dtype=np.int32
)
WEIGHTS = np.array([1 / 3] + [1 / 18] * 6 + [1 / 36] * 12)
MAGIC = 3.0 / 16.0  # a plane wall half way between cells is exact in Poiseuille flow (Ginzburg 2008)
WALL, INLET, OUTLET = 0, 1, 2


@njit(**DEVICE)
def opposite(i):
    """The direction opposite to ``i``."""
    if i == 0:
        return 0
    return i + 1 if i % 2 == 1 else i - 1


@njit(**DEVICE)
def momentum(f, node, directions, axis):
    """Momentum of a cell along an axis, without the force's half step."""
    total = f[0, node] * directions[0, axis]
    for i in range(1, 19):
        total += f[i, node] * directions[i, axis]
    return total


@njit(**DEVICE)
def arriving(f, i, node, source, fraction, kind, value, inflow, directions, weights):
    """Population that arrives at a cell in direction ``i``."""
    origin = source[i, node]
    if origin >= 0:
        return f[i, origin]
    link = -1 - origin
    back = opposite(i)
    sent = f[back, node]
    if kind[link] == INLET:
        return sent + inflow * value[link]
    if kind[link] == OUTLET:
        x, y, z = directions[i, 0], directions[i, 1], directions[i, 2]
        ux, uy, uz = (
            momentum(f, node, directions, 0),
            momentum(f, node, directions, 1),
            momentum(f, node, directions, 2),
        )
        along = x * ux + y * uy + z * uz
        even = value[link] + (9 * along * along - 3 * (ux * ux + uy * uy + uz * uz)) / 2
        return 2 * weights[i] * even - sent
    q = fraction[link]
    behind = source[back, node]
    if behind >= 0:
        share = (1 - 2 * q) / (1 + 2 * q)
        return sent + share * (f[back, behind] - f[i, node])
    if 2 * q >= 1:
        return (sent + (2 * q - 1) * f[i, node]) / (2 * q)
    return sent


@njit(**DEVICE)
def step_cell(
    f, out, node, source, fraction, kind, value, inflow, force, even_rate, odd_rate, directions, weights, held
):
    """Stream to one cell and collide there.

    Parameters
    ----------
    f, out : arrays (19, cell)
        Populations after the last and after this collision.
    node : int
    source : int array (19, cell)
        Cell that direction ``i`` comes from, or ``-1 - link``.
    fraction, kind, value : arrays (link,)
        Distance of the wall in links; wall, inlet or outlet; ``6 w (c . u)`` of an inlet, density deviation of an
        outlet.
    inflow : float
        Factor of all inlets now.
    force : array (3,)
        Per volume, lattice units.
    even_rate, odd_rate : float
        Relaxation rates; the even one is the viscosity's.
    directions, weights : arrays (19, 3), (19,)
    held : array (19,)
        Work space of this thread.
    """
    rho = force[0] * 0
    ux, uy, uz = force[0] / 2, force[1] / 2, force[2] / 2
    for i in range(19):
        g = arriving(f, i, node, source, fraction, kind, value, inflow, directions, weights)
        held[i] = g
        rho += g
        ux += g * directions[i, 0]
        uy += g * directions[i, 1]
        uz += g * directions[i, 2]
    square = 3 * (ux * ux + uy * uy + uz * uz) / 2
    pushed = ux * force[0] + uy * force[1] + uz * force[2]
    out[0, node] = (
        held[0]
        - even_rate * (held[0] - weights[0] * (rho - square))
        - (1 - even_rate / 2) * weights[0] * 3 * pushed
    )
    for i in range(1, 19, 2):
        w = weights[i]
        along = directions[i, 0] * ux + directions[i, 1] * uy + directions[i, 2] * uz
        push = directions[i, 0] * force[0] + directions[i, 1] * force[1] + directions[i, 2] * force[2]
        even = (held[i] + held[i + 1]) / 2
        odd = (held[i] - held[i + 1]) / 2
        even -= even_rate * (even - w * (rho + 9 * along * along / 2 - square))
        even += (1 - even_rate / 2) * w * (9 * along * push - 3 * pushed)
        odd -= odd_rate * (odd - 3 * w * along)
        odd += (1 - odd_rate / 2) * 3 * w * push
        out[i, node] = even + odd
        out[i + 1, node] = even - odd


@njit(cache=True, parallel=True)
def run_steps(f, g, source, fraction, kind, value, inflow, forces, even_rate, odd_rate, directions, weights):
    """As many steps as there are rows of ``forces`` (step, 3) and ``inflow`` (step,); an even number.

    The result lies in ``f``; ``g`` is of the same shape. Cells only read the step before, so that the result does not
    depend on the number of threads.
    """
    n = f.shape[1]
    blocks = (n + 255) // 256
    for pair in range(forces.shape[0] // 2):
        for block in prange(blocks):
            held = np.empty(19, f.dtype)
            for node in range(256 * block, min(n, 256 * (block + 1))):
                step_cell(f, g, node, source, fraction, kind, value, inflow[2 * pair], forces[2 * pair], even_rate,
                          odd_rate, directions, weights, held)  # fmt: skip
        for block in prange(blocks):
            held = np.empty(19, f.dtype)
            for node in range(256 * block, min(n, 256 * (block + 1))):
                step_cell(g, f, node, source, fraction, kind, value, inflow[2 * pair + 1], forces[2 * pair + 1],
                          even_rate, odd_rate, directions, weights, held)  # fmt: skip


def moments(f: np.ndarray, force: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Density deviation (cell,) and velocity (3, cell) of populations after a collision, lattice units.

    A collision adds the whole force to the momentum of what arrived, and the velocity is at its half: so half is taken
    off.
    """
    velocity = DIRECTIONS.T.astype(f.dtype) @ f - 0.5 * np.asarray(force, f.dtype)[:, None]
    return f.sum(axis=0), velocity
