"""Tetrahedra inside a level set: lattice laid with a plane of its own on the base, warped, cut."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from twinlab.cardiac.geometry.solids import Array, Solid
from twinlab.kernels.heart_stuffing import NEAR_LONG, NEAR_SHORT, PAIRS, lattice, split_prisms

Ints = NDArray[np.int64]

_ROOT_STEPS = 8  # halvings of an edge at most, each with a secant: 1e-4 of an edge on smooth surfaces


def stuff(solid: Solid, *, h_mm: float) -> tuple[Array, Ints]:
    """Tetrahedra of the muscle (isosurface stuffing), watertight by construction.

    The lattice's (1, -1, 0) planes, which are unions of faces of its tetrahedra, are laid on the base plane: the
    base of the mesh is flat, its rim sharp.

    Parameters
    ----------
    solid : Solid
    h_mm : float
        Edge of a lattice cube, the longest edge of a tetrahedron well inside, mm.

    Returns
    -------
    points : ndarray, shape (node, 3), units mm
    tets : ndarray of int, shape (tet, 4), positively oriented

    References
    ----------
    Labelle F, Shewchuk J R (2007) Isosurface stuffing: fast tetrahedral meshes with good dihedral angles. ACM
    Trans. Graph. 26(3), 57.
    """
    frame = _frame(solid)
    places, tets = _lattice_over(solid, frame, h_mm)
    depth = places[:, 1] - places[:, 0]  # planes below the base; 0 on it
    tets = tets[(depth[tets] >= 0).all(axis=1)]
    used, tets = _renumbered(tets)
    places, depth = places[used], depth[used]
    points = solid.base_point_mm + (0.5 * h_mm) * (places @ frame.T)
    value = _values(solid, points, h_mm)
    tets = tets[(value[tets] > 0).any(axis=1)]
    long_edge = np.array([True, False, False, False, False, True])
    edges, is_long = _cut_edges(tets, value, long_edge)
    cut = _roots(solid, points, value, edges)
    moved = _warp(solid, points, value, edges, cut, is_long, depth == 0, h_mm)
    points[moved[0]], value[moved[0]] = moved[1], 0.0
    edges, is_long = _cut_edges(tets, value, long_edge)
    cut = _roots(solid, points, value, edges)
    return _cut(points, value, tets, edges, cut, is_long)


def _frame(solid: Solid) -> Array:
    """Columns: world directions of the lattice's axes, (1, -1, 0) / sqrt 2 along the base's normal."""
    normal = solid.base_normal / np.linalg.norm(solid.base_normal)
    side = solid.septum_direction - normal * (solid.septum_direction @ normal)
    side /= np.linalg.norm(side)
    other = np.cross(normal, side)
    half = np.sqrt(0.5)
    return np.stack([half * (normal + side), half * (side - normal), other], axis=1)


def _lattice_over(solid: Solid, frame: Array, h_mm: float) -> tuple[Ints, Ints]:
    """Lattice over the box of the solid, thinned to the tetrahedra that may meet the muscle."""
    ends = np.stack([solid.low_mm, solid.high_mm])
    corners = np.array([[ends[i, 0], ends[j, 1], ends[k, 2]] for i in (0, 1) for j in (0, 1) for k in (0, 1)])
    there = (corners - solid.base_point_mm) @ frame / (0.5 * h_mm)
    places, tets = lattice(np.floor(there.min(0)).astype(int) - 2, np.ceil(there.max(0)).astype(int) + 2)
    points = solid.base_point_mm + (0.5 * h_mm) * (places @ frame.T)
    near = ((points > solid.low_mm - h_mm) & (points < solid.high_mm + h_mm)).all(axis=1)
    near &= places[:, 1] - places[:, 0] >= 0
    return places, tets[near[tets].all(axis=1)]


def _renumbered(cells: Ints) -> tuple[Ints, Ints]:
    """Nodes in use, and the cells with their numbers among these."""
    used = np.unique(cells)
    number = np.full(int(used[-1]) + 1 if used.size else 1, -1)
    number[used] = np.arange(used.size)
    return used, number[cells]


def _values(solid: Solid, points: Array, h_mm: float) -> Array:
    value = solid.muscle(points)
    return np.where(np.abs(value) < 1e-6 * h_mm, 0.0, value)


def _cut_edges(tets: Ints, value: Array, long_edge: NDArray[np.bool_]) -> tuple[Ints, NDArray[np.bool_]]:
    """Edges from a corner inside to one outside, once each and sorted, and which of them are long ones."""
    pairs = tets[:, PAIRS].reshape(-1, 2)
    is_long = np.tile(long_edge, tets.shape[0])
    first, second = value[pairs[:, 0]], value[pairs[:, 1]]
    crossing = first * second < 0
    pairs, is_long = pairs[crossing], is_long[crossing]
    inner = np.where(first[crossing] > 0, pairs[:, 0], pairs[:, 1])
    outer = pairs.sum(axis=1) - inner
    _, once = np.unique(inner * value.size + outer, return_index=True)
    return np.stack([inner[once], outer[once]], axis=1), is_long[once]


def _roots(solid: Solid, points: Array, value: Array, edges: Ints) -> Array:
    """Share of the way from the inner corner at which an edge leaves the muscle (false position with halving)."""
    inner, way = points[edges[:, 0]], points[edges[:, 1]] - points[edges[:, 0]]
    low, high = np.zeros(len(edges)), np.ones(len(edges))
    f_low, f_high = value[edges[:, 0]].copy(), value[edges[:, 1]].copy()
    at = f_low / (f_low - f_high)
    for step in range(_ROOT_STEPS):
        f = solid.muscle(inner + at[:, None] * way)
        above = f > 0
        low, f_low = np.where(above, at, low), np.where(above, f, f_low)
        high, f_high = np.where(above, high, at), np.where(above, f_high, f)
        at = low + (high - low) * f_low / np.maximum(f_low - f_high, 1e-300)
        if step % 3 == 2:  # where one end of the bracket stays (kinks), a halving
            at = 0.5 * (low + high)
    return np.clip(at, 1e-6, 1 - 1e-6)


def _warp(
    solid: Solid,
    points: Array,
    value: Array,
    edges: Ints,
    cut: Array,
    is_long: NDArray[np.bool_],
    on_base: NDArray[np.bool_],
    h_mm: float,
) -> tuple[Ints, Array]:
    """Corners that the surface passes too near, and where on it they go."""
    length = np.where(is_long, h_mm, np.sqrt(0.75) * h_mm)
    near = np.where(is_long, NEAR_LONG, NEAR_SHORT)
    place = points[edges[:, 0]] + cut[:, None] * (points[edges[:, 1]] - points[edges[:, 0]])
    corner = np.concatenate([edges[:, 0], edges[:, 1]])
    share = np.concatenate([cut, 1 - cut])
    other = np.concatenate([edges[:, 1], edges[:, 0]])
    place, distance = np.concatenate([place, place]), share * np.concatenate([length, length])
    violates = share < np.concatenate([near, near])
    # A corner on the base stays on it: it moves along edges of the base, else along the level set's slope there.
    leaves = on_base[corner] & ~on_base[other]
    order = np.lexsort((distance, leaves, corner))
    order = order[violates[order]]
    corner, place, leaves = corner[order], place[order], leaves[order]
    first = np.flatnonzero(np.r_[True, corner[1:] != corner[:-1]]) if corner.size else corner
    corner, place, leaves = corner[first], place[first], leaves[first]
    place[leaves] = _slide_on_base(solid, points[corner[leaves]], h_mm)
    good = np.isfinite(place).all(axis=1)
    return corner[good], place[good]


def _slide_on_base(solid: Solid, start: Array, h_mm: float) -> Array:
    """Nearest points of the surface in the base plane (Newton); NaN where that is too far."""
    normal, here = solid.base_normal, start.copy()
    eps = 1e-4 * h_mm
    for _ in range(6):
        f = solid.muscle(here)
        slope = np.stack(
            [
                (solid.muscle(here + eps * axis) - solid.muscle(here - eps * axis)) / (2 * eps)
                for axis in np.eye(3)
            ],
            axis=1,
        )
        slope -= np.outer(slope @ normal, normal)
        here = here - slope * (f / np.maximum((slope**2).sum(axis=1), 1e-6))[:, None]
    bad = (np.abs(solid.muscle(here)) > 1e-3 * h_mm) | (np.linalg.norm(here - start, axis=1) > 0.45 * h_mm)
    here[bad] = np.nan
    return here


def _cut(
    points: Array, value: Array, tets: Ints, edges: Ints, cut: Array, is_long: NDArray[np.bool_]
) -> tuple[Array, Ints]:
    """Pieces of the tetrahedra inside the surface."""
    n = value.size
    made = points[edges[:, 0]] + cut[:, None] * (points[edges[:, 1]] - points[edges[:, 0]])
    everything = np.concatenate([points, made])
    key = edges[:, 0] * n + edges[:, 1]

    def crossing(inner: Ints, outer: Ints) -> tuple[Ints, NDArray[np.bool_]]:
        at = np.searchsorted(key, inner * n + outer)
        return n + at, is_long[at]

    sign = np.sign(value[tets]).astype(int)
    order = np.argsort(-sign, axis=1, kind="stable")  # inside first, outside last
    tets = np.take_along_axis(tets, order, axis=1)
    plus, minus = (sign > 0).sum(axis=1), (sign < 0).sum(axis=1)
    pieces = [tets[(plus > 0) & (minus == 0)]]
    for m in (1, 2, 3):
        one = tets[(plus == 1) & (minus == m)].copy()
        for c in range(4 - m, 4):
            one[:, c] = crossing(one[:, 0], one[:, c])[0]
        pieces.append(one)
    pieces += [
        _two_one(tets[(plus == 2) & (minus == 1)], everything, crossing),
        _two_two(tets[(plus == 2) & (minus == 2)], everything, crossing),
        _three_one(tets[(plus == 3) & (minus == 1)], everything, crossing),
    ]
    used, found = _renumbered(np.concatenate(pieces))
    return everything[used], _oriented(everything[used], found)


def _from_first(points: Array, p: Ints, q: Ints, at_p, at_q, long_p, long_q) -> NDArray[np.bool_]:  # type: ignore[no-untyped-def]
    """Whether the diagonal of side p, q, and their cuts runs from p to the cut of q.

    It depends on the side alone, so that both neighbours divide it alike: it meets the cut on the long edge; of
    two short edges it is the shorter one.
    """
    one = ((points[p] - points[at_q]) ** 2).sum(axis=1)
    two = ((points[q] - points[at_p]) ** 2).sum(axis=1)
    shorter = (one < two) | ((one == two) & (p < q))
    return np.where(long_p == long_q, shorter, long_q)


def _two_one(t: Ints, points: Array, crossing) -> Ints:  # type: ignore[no-untyped-def]
    p, q, zero, r = t.T
    (at_p, long_p), (at_q, long_q) = crossing(p, r), crossing(q, r)
    first = _from_first(points, p, q, at_p, at_q, long_p, long_q)
    one = np.where(first[:, None], np.stack([p, q, at_q, zero], 1), np.stack([p, q, at_p, zero], 1))
    two = np.where(first[:, None], np.stack([p, at_q, at_p, zero], 1), np.stack([q, at_q, at_p, zero], 1))
    return np.concatenate([one, two])


def _two_two(t: Ints, points: Array, crossing) -> Ints:  # type: ignore[no-untyped-def]
    p, q, r, s = t.T
    (pr, long_pr), (ps, long_ps) = crossing(p, r), crossing(p, s)
    (qr, long_qr), (qs, long_qs) = crossing(q, r), crossing(q, s)
    side_r = _from_first(points, p, q, pr, qr, long_pr, long_qr)
    side_s = ~_from_first(points, p, q, ps, qs, long_ps, long_qs)  # runs from the cut of p to q when true
    shorter = ((points[pr] - points[qs]) ** 2).sum(axis=1) < ((points[ps] - points[qr]) ** 2).sum(axis=1)
    inner = np.where(side_r == side_s, ~side_r, shorter)
    return split_prisms(np.stack([p, pr, ps, q, qr, qs], 1), np.stack([side_r, inner, side_s], 1))


def _three_one(t: Ints, points: Array, crossing) -> Ints:  # type: ignore[no-untyped-def]
    r = t[:, 3]
    cuts = [crossing(t[:, c], r) for c in range(3)]
    sides = []
    for s in range(3):
        e = (s + 1) % 3
        sides.append(_from_first(points, t[:, s], t[:, e], cuts[s][0], cuts[e][0], cuts[s][1], cuts[e][1]))
    return split_prisms(np.concatenate([t[:, :3], np.stack([c[0] for c in cuts], 1)], 1), np.stack(sides, 1))


def _oriented(points: Array, tets: Ints) -> Ints:
    a, b, c, d = (points[tets[:, k]] for k in range(4))
    wrong = np.einsum("ij,ij->i", np.cross(b - a, c - a), d - a) < 0
    tets[wrong] = tets[wrong][:, [1, 0, 2, 3]]
    return tets
