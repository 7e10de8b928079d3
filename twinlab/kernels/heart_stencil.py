"""Diffusion on the voxels of a muscle: trilinear elements, a 27-point stencil per node, conjugate gradients.

Nodes are the corners of the muscle's voxels, numbered along x, then y, then z. Nodes that share an element
and differ along x are then neighbours in number, so a stretch of nodes along x needs only nine places: where
its nine neighbouring lines begin. The product of a row runs along stretches and vectorises. Sums run over
chunks of fixed size in a fixed order: results do not depend on threads.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit, prange

from twinlab.kernels.threads import one_parallel_region

LONGEST = 128  # nodes of a stretch
MARGIN = LONGEST + 2  # idle entries at both ends of every vector: stretches may look past their neighbours
CHUNK = 64  # stretches


class Stencil(NamedTuple):
    """Operators of the diffusion step ``A (V' - V) = -dt K V``."""

    start: np.ndarray  # (stretch + 1,) int64: first entry of each stretch, then the end
    lead: np.ndarray  # (stretch, 9) int64: entry of the first node's neighbour of equal x in the nine lines
    system: np.ndarray  # (27, entry) float32: A
    stiffness: np.ndarray  # (27, entry) float32: dt K
    inverse: np.ndarray  # (entry,) float32: inverse diagonal of A


def reference_elements(share: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Mass (8, 8) and stiffness (6, 8, 8) matrices of the unit cube.

    Corners count along x, then y, then z; the stiffness is that of each entry of a symmetric tensor
    (xx, yy, zz, xy, xz, yz), off-diagonal entries counted twice. ``share`` of every one-dimensional mass is
    consistent, the rest lumped, as in :func:`twinlab.kernels.heart_lines.line`: with 0 and a tensor along the axes
    the stiffness is the differences of seven points.
    """
    mass = share * np.array([[2.0, 1.0], [1.0, 2.0]]) / 6.0 + (1.0 - share) * np.eye(2) / 2.0
    stiff = np.array([[1.0, -1.0], [-1.0, 1.0]])
    skew = np.array([[-0.5, -0.5], [0.5, 0.5]])  # integral of derivative of row times value of column

    def product(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        return np.einsum("ad,be,cf->cbafed", x, y, z).reshape(8, 8)

    def mixed(*parts: np.ndarray) -> np.ndarray:
        whole = product(*parts)
        return whole + whole.T

    return product(mass, mass, mass), np.array(
        [
            product(stiff, mass, mass),
            product(mass, stiff, mass),
            product(mass, mass, stiff),
            mixed(skew, skew.T, mass),
            mixed(skew, mass, skew.T),
            mixed(mass, skew, skew.T),
        ]
    )


@njit(cache=True, parallel=True, nogil=True)
def _assemble(nodes, tensor, weight, mass, stiff, m_out, k_out):
    nz, ny, nx = weight.shape
    for i in prange(nodes.shape[0]):
        z, y, x = nodes[i, 0], nodes[i, 1], nodes[i, 2]
        for corner in range(8):
            ez, ey, ex = z - 1 + (corner >> 2), y - 1 + ((corner >> 1) & 1), x - 1 + (corner & 1)
            if ez < 0 or ey < 0 or ex < 0 or ez >= nz or ey >= ny or ex >= nx:
                continue
            w = weight[ez, ey, ex]
            if w == 0.0:
                continue
            own = 7 - corner  # the node's corner in that voxel
            for other in range(8):
                dz = (other >> 2) - (own >> 2)
                dy = ((other >> 1) & 1) - ((own >> 1) & 1)
                dx = (other & 1) - (own & 1)
                column = 9 * (dz + 1) + 3 * (dy + 1) + dx + 1
                k = 0.0
                for q in range(6):
                    k += tensor[ez, ey, ex, q] * stiff[q, own, other]
                m_out[column, i + MARGIN] += w * mass[own, other]
                k_out[column, i + MARGIN] += w * k


@njit(cache=True, nogil=True)
def _stretches(number, nodes):
    """Cut the nodes into stretches whose nine lines run on without a break."""
    n = nodes.shape[0]
    start = np.empty(n + 1, np.int64)
    lead = np.empty((n, 9), np.int64)
    shift = np.zeros(9, np.int64)
    known = np.zeros(9, np.bool_)
    here = np.empty(9, np.int64)
    count = -1
    for i in range(n):
        z, y, x = nodes[i, 0], nodes[i, 1], nodes[i, 2]
        for q in range(9):
            here[q] = number[z + q // 3, y + q % 3, x + 1]  # the map of numbers has a margin of one
        fresh = i == 0 or nodes[i - 1, 0] != z or nodes[i - 1, 1] != y or nodes[i - 1, 2] != x - 1
        if not fresh:
            fresh = i - (start[count] - MARGIN) >= LONGEST
            for q in range(9):
                if here[q] >= 0 and known[q] and here[q] - i != shift[q]:
                    fresh = True
        if fresh:
            count += 1
            start[count] = i + MARGIN
            known[:] = False
            shift[:] = 0
        for q in range(9):
            if here[q] >= 0:
                known[q] = True
                shift[q] = here[q] - i
            lead[count, q] = start[count] + shift[q]
    start[count + 1] = n + MARGIN
    return start[: count + 2].copy(), lead[: count + 1].copy()


def assemble(
    number: np.ndarray, nodes: np.ndarray, tensor: np.ndarray, weight: np.ndarray, share: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Mass and stiffness matrices, in units of the voxel's volume.

    Parameters
    ----------
    number : ndarray (z + 2, y + 2, x + 2) of the node grid, int32
        Number of each node, -1 where there is none, with a margin of one.
    nodes : ndarray (node, 3) int32
        Place (z, y, x) of each node, in order of their numbers.
    tensor : ndarray (z, y, x, 6) float32
        Tensor of each voxel (xx, yy, zz, xy, xz, yz) over the voxel's side squared.
    weight : ndarray (z, y, x) float64
        Share of each voxel that is muscle, 0 outside.
    share : float
        Of the consistent mass in every direction; the rest is lumped.

    Returns
    -------
    start, lead : ndarray
        Stretches (see :class:`Stencil`).
    mass, stiffness : ndarray (27, node + 2 MARGIN) float32
    """
    n = len(nodes)
    start, lead = _stretches(number, nodes)
    rows, columns = np.zeros((2, 27, n + 2 * MARGIN), np.float32)
    mass, stiff = reference_elements(share)
    with one_parallel_region():
        _assemble(nodes, tensor, weight, mass, stiff, rows, columns)
    return start, lead, rows, columns


def stencil(
    start: np.ndarray, lead: np.ndarray, mass: np.ndarray, stiffness: np.ndarray, dt: float
) -> Stencil:
    """Operators of a Crank-Nicolson step; takes the memory of its arguments over."""
    stiffness *= np.float32(dt)
    mass += np.float32(0.5) * stiffness
    inverse = np.zeros(mass.shape[1], np.float32)
    inside = slice(MARGIN, -MARGIN)
    inverse[inside] = 1.0 / mass[13, inside]
    return Stencil(start, lead, mass, stiffness, inverse)


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "nsz", "reassoc"})
def _product(start, stop, lead, coefficient, x, out):
    """Rows of one stretch times a vector."""
    n = stop - start
    o = out[start:stop]
    for q in range(9):
        at = lead[q]
        left, here, right = x[at - 1 : at - 1 + n], x[at : at + n], x[at + 1 : at + 1 + n]
        a = coefficient[3 * q, start:stop]
        b = coefficient[3 * q + 1, start:stop]
        c = coefficient[3 * q + 2, start:stop]
        if q == 0:
            for t in range(n):
                o[t] = a[t] * left[t] + b[t] * here[t] + c[t] * right[t]
        else:
            for t in range(n):
                o[t] += a[t] * left[t] + b[t] * here[t] + c[t] * right[t]


@njit(cache=True, parallel=True, nogil=True, error_model="numpy", fastmath={"contract", "nsz", "reassoc"})
def _solve(v, s, delta, r, z, p, q, wide, tolerance, most):
    """Conjugate gradients with Jacobi preconditioner from the last step's increment; iterations and residual."""
    stretches = s.start.size - 1
    chunks = (stretches + CHUNK - 1) // CHUNK
    part = np.zeros(chunks)
    worst = np.zeros(chunks)
    for b in prange(chunks):
        first, last = b * CHUNK, min(stretches, (b + 1) * CHUNK)
        for k in range(first, last):
            _product(s.start[k], s.start[k + 1], s.lead[k], s.stiffness, v, wide)
            _product(s.start[k], s.start[k + 1], s.lead[k], s.system, delta, q)
        total, top = 0.0, np.float32(0.0)
        for i in range(s.start[first], s.start[last]):
            r[i] = np.float32(-wide[i]) - q[i]
            z[i] = s.inverse[i] * r[i]
            p[i] = z[i]
            total += np.float64(r[i] * z[i])
            top = max(top, abs(z[i]))
        part[b] = total
        worst[b] = top
    rho = part.sum()
    count = 0
    while worst.max() > tolerance and count < most:
        count += 1
        for b in prange(chunks):
            first, last = b * CHUNK, min(stretches, (b + 1) * CHUNK)
            for k in range(first, last):
                _product(s.start[k], s.start[k + 1], s.lead[k], s.system, p, q)
            total = 0.0
            for i in range(s.start[first], s.start[last]):
                total += np.float64(p[i] * q[i])
            part[b] = total
        alpha = np.float32(rho / part.sum())
        for b in prange(chunks):
            first, last = b * CHUNK, min(stretches, (b + 1) * CHUNK)
            total, top = 0.0, np.float32(0.0)
            for i in range(s.start[first], s.start[last]):
                delta[i] += alpha * p[i]
                r[i] -= alpha * q[i]
                z[i] = s.inverse[i] * r[i]
                total += np.float64(r[i] * z[i])
                top = max(top, abs(z[i]))
            part[b] = total
            worst[b] = top
        new = part.sum()
        beta = np.float32(new / rho)
        rho = new
        for b in prange(chunks):
            first, last = b * CHUNK, min(stretches, (b + 1) * CHUNK)
            for i in range(s.start[first], s.start[last]):
                p[i] = z[i] + beta * p[i]
    for b in prange(chunks):
        first, last = b * CHUNK, min(stretches, (b + 1) * CHUNK)
        for i in range(s.start[first], s.start[last]):
            v[i] += delta[i]
    return count, worst.max()


@njit(cache=True, parallel=True, nogil=True, error_model="numpy")
def _multiply(start, lead, coefficient, x, out):
    for k in prange(start.size - 1):
        _product(start[k], start[k + 1], lead[k], coefficient, x, out)


def multiply(start: np.ndarray, lead: np.ndarray, coefficient: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Product of a matrix (27, entry) with a vector (entry,)."""
    out = np.zeros_like(x)
    with one_parallel_region():
        _multiply(start, lead, coefficient, x, out)
    return out


class Work(NamedTuple):
    """Vectors of the solver; the increment is kept as the next step's first guess."""

    delta: np.ndarray
    r: np.ndarray
    z: np.ndarray
    p: np.ndarray
    q: np.ndarray
    wide: np.ndarray


def work(n: int) -> Work:
    """Vectors for so many nodes."""
    size = n + 2 * MARGIN
    return Work(*(np.zeros(size, np.float32) for _ in range(5)), np.zeros(size))  # type: ignore[call-arg]


def diffuse(v: np.ndarray, stencil: Stencil, work: Work, *, tolerance: float, most: int) -> tuple[int, float]:
    """One diffusion step in place.

    Parameters
    ----------
    v : ndarray (node + 2 MARGIN,) float64
        Potential, mV, with idle ends.
    stencil : Stencil
    work : Work
    tolerance : float
        Largest residual over the diagonal, mV.
    most : int
        Iterations at most.

    Returns
    -------
    iterations : int
    residual : float
        mV; above ``tolerance`` when the solver did not converge.
    """
    with one_parallel_region():
        return _solve(v, stencil, *work, tolerance, most)
