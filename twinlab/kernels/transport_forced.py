"""Forced detection: what every collision is expected to send to the detector, scored there and then.

From a collision some rays go to random places on the detector, one in each of as many equal parts of it. A ray
carries the photons that the collision is expected to scatter into the solid angle around its place (coherent,
incoherent and fluorescent, by the distributions that the transport samples), less those that the exact voxels on
its way stop. Rays whose score falls below a level play Russian roulette while they are traced, so that those that
matter little are not traced far. The photon itself goes on as if nothing had been scored.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit, prange

from twinlab.kernels.bound_electrons import bound, scatter_at
from twinlab.kernels.philox import DEVICE, INLINE, draw_five, key
from twinlab.kernels.sampling import ELECTRON_REST_KEV, KEV_ANGSTROM, N_X, X_MAX, free_path, linear
from twinlab.kernels.threads import one_parallel_region
from twinlab.kernels.transport_collision import VIRTUAL, collide, locate
from twinlab.kernels.transport_data import (
    CUTOFF_KEV,
    ENERGY_UNIT_KEV,
    SQUARE_UNIT,
    Grid,
    Source,
    Tables,
    energy_position,
    unpack,
)
from twinlab.kernels.transport_forced_angles import N_F, angles_of
from twinlab.kernels.transport_scatter import PARTS, PRIMARY, SCATTER, Screen, passed, strike
from twinlab.kernels.transport_source import emit
from twinlab.kernels.transport_track import box, fly, inverse
from twinlab.schema import refuse

PILOT = 2_000  # histories that find the level of the roulette; their scores do not count
_PILOT_FIRST = 2**40  # their indices: far from those of any run
LEVEL = 16.0  # of the roulette, in mean scores of a ray: of 1 to 200 tried the best or near it

_ZERO = np.float32(0.0)
_ONE = np.float32(1.0)
_TWO = np.float32(2.0)
_HALF = np.float32(0.5)
_UNIT = np.float32(ENERGY_UNIT_KEV)
_MC2 = np.float32(ELECTRON_REST_KEV)
_INV_HC = np.float32(1.0 / KEV_ANGSTROM)
_S_SCALE = np.float32((N_X - 1) / X_MAX)
_F_SCALE = np.float32((N_F - 1) / X_MAX)
_CUTOFF = np.float32(CUTOFF_KEV)
_ISOTROPIC = np.float32(0.25 / math.pi)
_NEXT = np.uint64(1)
_I0 = np.int32(0)
_I1 = np.int32(1)


@njit(**INLINE)
def _between(row_of_table, row, f):
    low = row_of_table[row]
    return low + f * (row_of_table[row + 1] - low)


@njit(**INLINE)
def expected(cosine, energy, row, f, material, tables, angles):
    """Photons per collision and steradian that go off at an angle.

    Parameters
    ----------
    cosine : float32
    energy : float32
        keV, before the collision; ``row`` and ``f`` its position.
    material : int32
    tables : Tables
    angles : Angles

    Returns
    -------
    incoherent, coherent, fluorescent : float32
    ratio : float32
        E'/E of incoherent scattering by an electron at rest.
    """
    cross = tables.cross
    total = cross[material, row, 0] + f * (cross[material, row + 1, 0] - cross[material, row, 0])
    photo = cross[material, row, 1] + f * (cross[material, row + 1, 1] - cross[material, row, 1])
    inelastic = cross[material, row, 2] + f * (cross[material, row + 1, 2] - cross[material, row, 2])
    x = energy * _INV_HC * math.sqrt(max(_HALF * (_ONE - cosine), _ZERO))
    ratio = _ONE / (_ONE + energy / _MC2 * (_ONE - cosine))
    free = ratio * ratio * (ratio + _ONE / ratio - (_ONE - cosine * cosine))
    if tables.shell.shape[1] > 0:
        incoherent = free * scatter_at(x, row, f, material, tables)
    else:
        incoherent = free * linear(tables.scatter[material], x * _S_SCALE)
    incoherent *= _between(angles.incoherent[material], row, f) * (inelastic - photo) / total
    coherent = (_ONE + cosine * cosine) * linear(angles.form[material], x * _F_SCALE)
    coherent *= _between(angles.coherent[material], row, f) * (total - inelastic) / total
    fluorescent = _ZERO
    for k in range(tables.line.shape[1]):  # shares are cumulative: the last line's is that of all
        if tables.line[material, k] > 0:
            fluorescent = _between(tables.line_share[material, k], row, f)
    return incoherent, coherent, fluorescent * _ISOTROPIC * photo / total, ratio


@njit(**INLINE)
def _line_energy(pick, share, material, e, row, f, tables):
    """Energy, keV, of one of the lines of a material, by their shares; 0 for one above the photon's own."""
    for k in range(tables.line.shape[1]):
        if pick * share < _between(tables.line_share[material, k], row, f):
            line = tables.line[material, k]
            return np.float32(line) * _UNIT if line < e else _ZERO
    return _ZERO


@njit(**INLINE)
def depth(x, y, z, u, v, w, energy, grid, tables, most):
    """Mean free paths from a point of the grid to its face, voxel by voxel; ends early beyond ``most``."""
    row, f = energy_position(energy)
    size, shape = grid.size, grid.shape
    iu, iv, iw = inverse(u), inverse(v), inverse(w)
    _, stop = box(x, y, z, iu, iv, iw, _ZERO, _ZERO, _ZERO, size[0], size[1], size[2])
    ix = min(max(np.int32(x * size[9]), _I0), shape[2] - _I1)
    iy = min(max(np.int32(y * size[10]), _I0), shape[1] - _I1)
    iz = min(max(np.int32(z * size[11]), _I0), shape[0] - _I1)
    ahead_x, ahead_y, ahead_z = iu > _ZERO, iv > _ZERO, iw > _ZERO
    tx = (np.float32(ix + np.int32(ahead_x)) * size[3] - x) * iu
    ty = (np.float32(iy + np.int32(ahead_y)) * size[4] - y) * iv
    tz = (np.float32(iz + np.int32(ahead_z)) * size[5] - z) * iw
    dx, dy, dz = size[3] * abs(iu), size[4] * abs(iv), size[5] * abs(iw)
    sx = np.int64(1) if ahead_x else np.int64(-1)
    sy = np.int64(shape[2]) if ahead_y else -np.int64(shape[2])
    sz = np.int64(shape[1]) * shape[2]
    sz = sz if ahead_z else -sz
    flat = (np.int64(iz) * shape[1] + iy) * shape[2] + ix
    sum_, t = _ZERO, _ZERO
    while True:
        material, _, density = unpack(grid.voxel[np.uint64(flat)])
        near = min(min(tx, ty), min(tz, stop))
        mu = tables.cross[material, row, 0]
        mu += f * (tables.cross[material, row + 1, 0] - mu)
        sum_ += mu * density * max(near - t, _ZERO)
        # rounding may bring a ray to the face a hair before its exit: it ends there
        if near >= stop or sum_ >= most:
            return sum_
        t = near
        if tx <= near:
            flat += sx
            tx += dx
            ix += np.int32(1) if ahead_x else np.int32(-1)
            if ix < 0 or ix >= shape[2]:
                return sum_
        elif ty <= near:
            flat += sy
            ty += dy
            iy += np.int32(1) if ahead_y else np.int32(-1)
            if iy < 0 or iy >= shape[1]:
                return sum_
        else:
            flat += sz
            tz += dz
            iz += np.int32(1) if ahead_z else np.int32(-1)
            if iz < 0 or iz >= shape[0]:
                return sum_


@njit(**INLINE)
def _target(a, b, part, rays, screen):
    """A random place in one of ``rays`` equal parts of the detector: cell, and position from the focal spot."""
    p = screen.place
    n = screen.bins[0] * screen.bins[1]
    at = (np.float32(part) + a) * (np.float32(n) / np.float32(rays))
    cell = min(np.int32(at), np.int32(n - 1))
    i, j = cell % screen.bins[0], cell // screen.bins[0]
    place = screen.edge[0] + (np.float32(i) + min(at - np.float32(cell), _ONE)) * screen.edge[1]
    height = screen.edge[2] + (np.float32(j) + b) * screen.edge[3]
    if screen.flat[0] == 1:
        return cell, p[5] * p[3] + place * p[4], p[5] * p[4] - place * p[3], height
    cosine, sine = math.cos(place), math.sin(place)
    return cell, p[5] * (cosine * p[3] + sine * p[4]), p[5] * (cosine * p[4] - sine * p[3]), height


@njit(**INLINE)
def _ray(
    x,
    y,
    z,
    u,
    v,
    w,
    e,
    row,
    f,
    material,
    part,
    rays,
    level,
    grid,
    tables,
    angles,
    screen,
    step,
    history,
    k0,
    k1,
):
    """Score of one ray, keV, its cell, and the next free step."""
    a, b, c, d, turn = draw_five(step, history, k0, k1)
    step += _NEXT
    p = screen.place
    cell, hx, hy, height = _target(a, b, part, rays, screen)
    nu, nv, nw = p[0] + hx - x, p[1] + hy - y, p[2] + height - z
    r = math.sqrt(nu * nu + nv * nv + nw * nw)
    nu, nv, nw = nu / r, nv / r, nw / r
    if screen.flat[0] == 1:
        out, aside = nu * p[3] + nv * p[4], nv * p[3] - nu * p[4]
        area = screen.edge[1] * screen.edge[3]
    else:
        out, aside = (nu * hx + nv * hy) / p[5], (nv * hx - nu * hy) / p[5]
        area = p[5] * screen.edge[1] * screen.edge[3]
    if out <= _ZERO:
        return cell, _ZERO, step
    cosine = min(max(u * nu + v * nv + w * nw, -_ONE), _ONE)
    energy = np.float32(e) * _UNIT
    incoherent, coherent, fluorescent, ratio = expected(cosine, energy, row, f, material, tables, angles)
    number = incoherent + coherent + fluorescent
    pick = d * number
    if pick < incoherent:
        if tables.shell.shape[1] > 0:
            ratio, step = bound(energy, cosine, ratio, material, tables, step, history, k0, k1)
        energy *= ratio
    elif pick >= incoherent + coherent:
        share = _between(tables.line_share[material, tables.line.shape[1] - 1], row, f)
        energy = _line_energy(turn, share, material, e, row, f, tables)
    if energy < _CUTOFF:
        return cell, _ZERO, step
    node, g = energy_position(energy)
    cells = np.float32(screen.bins[0] * screen.bins[1]) / np.float32(rays)
    score = number * cells * area * out / (r * r) * energy
    score *= screen.response[node] + g * (screen.response[node + 1] - screen.response[node])
    score *= passed(screen.across, node, abs(aside / out), screen.tangent[0])
    score *= passed(screen.along, node, abs(nw / out - height / p[5]), screen.tangent[1])
    least = c * level
    if score <= least:
        return cell, _ZERO, step
    most = math.log(score / max(least, np.float32(1e-30)))
    way = depth(x, y, z, nu, nv, nw, energy, grid, tables, most)
    if way >= most:
        return cell, _ZERO, step
    return cell, max(score * math.exp(-way), level), step


@njit(**DEVICE)
def follow_forced(history, k0, k1, grid, tables, source, screen, angles, rays, level, scores, touched):
    """Follow a photon and add what its collisions send to the cells to ``scores``.

    Parameters
    ----------
    rays : int
        At each collision.
    level : float32
        Of the roulette, keV.
    scores : (cell,) float64, added to
    touched : (cell,) int64, written
        Cells with a score, each once.

    Returns
    -------
    n : int64
        Cells touched.
    collisions : int64
    x, y, z, u, v, w, e
        Last state of the photon, as of :func:`twinlab.kernels.transport_scatter.follow`.
    """
    x, y, z, u, v, w, e, step = emit(source, history, k0, k1)
    n, collisions = np.int64(0), np.int64(0)
    size = grid.size
    while True:
        row, f = energy_position(np.float32(e) * _UNIT)
        iu, iv, iw = inverse(u), inverse(v), inverse(w)
        start, stop = box(x, y, z, iu, iv, iw, _ZERO, _ZERO, _ZERO, size[0], size[1], size[2])
        if stop <= start:
            return n, collisions, x, y, z, u, v, w, e
        a, b, c, d, turn = draw_five(step, history, k0, k1)
        step += _NEXT
        t, flat, record, top, _ = fly(x, y, z, u, v, w, iu, iv, iw, start, stop, free_path(a), row, grid)
        if flat < 0:
            return n, collisions, x, y, z, u, v, w, e
        x += t * u
        y += t * v
        z += t * w
        before, bu, bv, bw = e, u, v, w
        place, _, e, u, v, w, step = collide(
            x, y, z, u, v, w, e, row, f, flat, record, top, b, c, d, turn, grid, tables, step, history, k0, k1
        )  # fmt: skip
        if place != VIRTUAL:
            collisions += 1
            _, material, _ = locate(x, y, z, flat, record, grid)
            for part in range(rays):
                cell, score, step = _ray(
                    x, y, z, bu, bv, bw, before, row, f, material, part, rays, level,
                    grid, tables, angles, screen, step, history, k0, k1,
                )  # fmt: skip
                if score > _ZERO:
                    if scores[cell] == 0.0:
                        touched[n] = cell
                        n += 1
                    scores[cell] += score
        if e == 0:
            return n, collisions, x, y, z, u, v, w, e


@njit(cache=True, nogil=True, parallel=True)
def _run(first, count, k0, k1, grid, tables, source, screen, angles, rays, level, sums, traced):
    for part in prange(PARTS):
        low = first + part * count // PARTS
        high = first + (part + 1) * count // PARTS
        own = sums[part]
        n_cell = screen.bins[0] * screen.bins[1]
        scores = np.zeros(n_cell)
        touched = np.empty(n_cell, np.int64)
        for h in range(low, high):
            n, collisions, x, y, z, u, v, w, e = follow_forced(
                np.uint64(h), k0, k1, grid, tables, source, screen, angles, rays, level, scores, touched
            )
            traced[part] += collisions * rays
            for m in range(n):
                cell = touched[m]
                own[SCATTER, cell, 0] += scores[cell]
                own[SCATTER, cell, 1] += scores[cell] * scores[cell]
                scores[cell] = 0.0
            if e > 0 and collisions == 0:
                i, j, _, _ = strike(x, y, z, u, v, w, screen)
                if i >= 0:
                    energy = np.float32(e) * _UNIT
                    row, f = energy_position(energy)
                    got = np.float64(energy * _between(screen.response, row, f))
                    own[PRIMARY, j * screen.bins[0] + i, 0] += got
                    own[PRIMARY, j * screen.bins[0] + i, 1] += got * got


def run_forced(
    grid: Grid,
    tables: Tables,
    source: Source,
    screen: Screen,
    *,
    histories: int,
    seed: int,
    first_history: int = 0,
    rays: int = 8,
) -> np.ndarray:
    """Scores of a view with forced detection of scattered photons; primary ones are counted as they arrive.

    Parameters
    ----------
    grid, tables, source, screen, histories, seed, first_history
        As of :func:`twinlab.kernels.transport_scatter.run_screen`.
    rays : int
        To the detector, at each collision.

    Returns
    -------
    (2, row, channel, 2) float64
        As of ``run_screen``, in the same units; sums of 64 fixed parts, so the same for any number of threads.

    Raises
    ------
    InputError
        Fewer than one ray, or solids instead of voxels.

    References
    ----------
    Williamson J F 1987, Med. Phys. 14:567 (next-event estimators); Poludniowski G et al. 2009, Phys. Med. Biol.
    54:3847 (scatter in cone-beam images by fixed forced detection).
    """
    if rays < 1:
        refuse("run_forced: rays", "1 or more at each collision", rays)
    if int(grid.kind[0]) != 0:
        refuse("run_forced: grid", "voxels", "solids")
    k0, k1 = key(seed)
    angles = angles_of(tables)
    n_row, n_channel = int(screen.bins[1]), int(screen.bins[0])

    def run(first: int, count: int, level: float) -> tuple[np.ndarray, int]:
        sums, traced = np.zeros((PARTS, 2, n_row * n_channel, 2)), np.zeros(PARTS, np.int64)
        with one_parallel_region():
            _run(
                first, count, k0, k1, grid, tables, source, screen, angles, rays, np.float32(level), sums, traced
            )  # fmt: skip
        return sums.sum(axis=0), int(traced.sum())

    pilot, traced = run(_PILOT_FIRST, PILOT, 0.0)
    sums, _ = run(first_history, histories, LEVEL * pilot[SCATTER, :, 0].sum() / max(traced, 1))
    return sums.reshape(2, n_row, n_channel, 2) / np.array([ENERGY_UNIT_KEV, SQUARE_UNIT])
