"""What happens where a photon may collide: nothing, absorption, scattering; scalar functions of CPU and GPU."""

from __future__ import annotations

import numpy as np
from numba import njit

from twinlab.kernels.bound_electrons import bound, bound_cosine
from twinlab.kernels.philox import INLINE
from twinlab.kernels.sampling import energy_ratio, incoherent, incoherent_angle, rayleigh, rotate
from twinlab.kernels.transport_data import CUTOFF_KEV, ENERGY_UNIT_KEV, MAX_DEPOSITS, unpack

_ZERO = np.float32(0.0)
_ONE = np.float32(1.0)
_TWO = np.float32(2.0)
_UNIT = np.float32(ENERGY_UNIT_KEV)
_PER_UNIT = np.float32(1.0 / ENERGY_UNIT_KEV)
_CUTOFF = np.int64(CUTOFF_KEV / ENERGY_UNIT_KEV)
_FULL = np.int32(MAX_DEPOSITS - 1)
_I0 = np.int32(0)
_I1 = np.int32(1)
_32 = np.uint64(32)
_NONE = np.uint64(0)
_REGIONS = np.int64(65536)

NOTHING, SCATTERED, ABSORBED, REJECTED, COHERENT = (np.int32(i) for i in range(5))  # see attempt
VIRTUAL = -65536 * 3  # place of a collision that was none
STRAIGHT = np.float32(2.0)  # cosine where the direction stays


@njit(**INLINE)
def fluoresce(pick, material, e, row, f, tables):
    """Energy of the K photon that follows a photoelectric absorption, 0 when there is none.

    ``pick`` is a uniform in (0, 1). The vacancy's other energy (electrons, lines of outer shells) stays.
    """
    for k in range(tables.line.shape[1]):
        if tables.line[material, k] == 0:
            break
        share = tables.line_share[material, k, row]
        share += f * (tables.line_share[material, k, row + 1] - share)
        if pick < share:
            line = tables.line[material, k]
            return line if line < e else np.int64(0)
    return np.int64(0)


@njit(**INLINE)
def interact(x, y, z, e, row, f, flat, record, top, b, c, d, grid, tables, step, history, k0, k1):
    """What happens at a tentative collision.

    Parameters
    ----------
    x, y, z : float32
        Position of the collision, mm.
    e : int64
        Energy, ``ENERGY_UNIT_KEV``.
    row, f, flat, record, top
        As from :func:`twinlab.kernels.transport_track.advance`.
    b, c, d : float32
        Unused uniforms.
    step, history, k0, k1 : uint64
        Stream of more random numbers.

    Returns
    -------
    place : int64
        See :func:`locate`; negative in the air around, ``VIRTUAL`` when nothing happened.
    lost, left : int64
        Energy deposited there, and that of the photon after it: 0 when it is absorbed.
    cosine : float32
        Of the angle by which the photon is scattered, ``STRAIGHT`` when it goes on.
    step : uint64
    """
    place, material, density = locate(x, y, z, flat, record, grid)
    kind, left, cosine, share = attempt(e, row, f, material, density, top, b, c, d, tables)
    if unfinished(kind, tables):
        left, cosine, step = finish(
            kind, left, cosine, share, e, row, f, material, c, d, tables, step, history, k0, k1
        )
    return np.int64(VIRTUAL) if kind == NOTHING else place, e - left, left, cosine, step


@njit(**INLINE)
def attempt(e, row, f, material, density, top, b, c, d, tables):
    """What a collision is, and its outcome where that needs no loop: then a loop over photons is vectorised.

    Returns
    -------
    kind : int32
        ``NOTHING``, ``ABSORBED``, ``SCATTERED``, or ``REJECTED`` and ``COHERENT``, which :func:`finish` carries out.
    left : int64
        Energy of the photon afterwards.
    cosine : float32
        Of its deflection, ``STRAIGHT`` for none.
    share : float32
        A uniform that is left where the photon was absorbed.
    """
    cross = tables.cross
    m, k = np.uint64(material), np.uint64(row)
    n = np.uint64(row + _I1)
    total = cross[m, k, 0]
    total += f * (cross[m, n, 0] - total)
    photo = cross[m, k, 1]
    photo += f * (cross[m, n, 1] - photo)
    inelastic = cross[m, k, 2]
    inelastic += f * (cross[m, n, 2] - inelastic)
    pick = b * top
    nothing = pick >= total * density
    pick /= density
    absorbed = pick < photo
    energy = np.float32(e) * _UNIT
    angle, accepted = incoherent_angle(energy, tables.scatter[m], c, d)
    slowed = min(np.int64(energy * energy_ratio(energy, angle) * _PER_UNIT), e)
    stopped = slowed < _CUTOFF
    slowed = np.int64(0) if stopped else slowed
    angle = STRAIGHT if stopped else angle
    kind = SCATTERED if accepted else REJECTED
    kind = kind if pick < inelastic else COHERENT
    kind = ABSORBED if absorbed else kind
    kind = NOTHING if nothing else kind
    left = slowed if kind == SCATTERED else e
    left = np.int64(0) if kind == ABSORBED else left
    return kind, left, angle if kind == SCATTERED else STRAIGHT, pick / photo


@njit(**INLINE)
def unfinished(kind, tables):
    """Whether :func:`finish` has something to do."""
    known = (kind == ABSORBED) & (tables.line.shape[1] == 0)
    return (
        (kind >= REJECTED)
        | ((kind == SCATTERED) & (tables.shell.shape[1] > 0))
        | ((kind == ABSORBED) & (not known))
    )


@njit(**INLINE)
def finish(kind, left, cosine, share, e, row, f, material, c, d, tables, step, history, k0, k1):
    """Carry out what :func:`attempt` left open; returns energy, cosine and next free step."""
    if kind == ABSORBED:
        return fluoresce(share, material, e, row, f, tables), _TWO * c - _ONE, step
    energy = np.float32(e) * _UNIT
    if kind == COHERENT:
        area = tables.cross[material, row, 3]
        area += f * (tables.cross[material, row + 1, 3] - area)
        cosine, step = rayleigh(energy, area, tables.inverse_area[material], c, d, step, history, k0, k1)
        return e, cosine, step
    if (
        tables.shell.shape[1] > 0
    ):  # the same two uniforms again: the angle tried for electrons at rest does not count
        cosine, step = bound_cosine(energy, row, f, material, tables, c, d, step, history, k0, k1)
        ratio = energy_ratio(energy, cosine)
        ratio, step = bound(energy, cosine, ratio, material, tables, step, history, k0, k1)
    else:
        cosine, ratio, step = incoherent(energy, tables.scatter[material], c, d, step, history, k0, k1)
    left = min(np.int64(energy * ratio * _PER_UNIT), e)
    if left < _CUTOFF:
        return np.int64(0), STRAIGHT, step
    return left, cosine, step


@njit(**INLINE)
def collide(
    x, y, z, u, v, w, e, row, f, flat, record, top, b, c, d, turn, grid, tables, step, history, k0, k1
):
    """:func:`interact`, and the new direction instead of the cosine; ``turn`` is an unused uniform."""
    place, lost, left, cosine, step = interact(
        x, y, z, e, row, f, flat, record, top, b, c, d, grid, tables, step, history, k0, k1
    )
    u, v, w = deflect(u, v, w, cosine, turn)
    return place, lost, left, u, v, w, step


@njit(**INLINE)
def deflect(u, v, w, cosine, turn):
    """Direction after a collision; no branch in it, so that a loop over photons is vectorised."""
    a, b, c = rotate(u, v, w, min(cosine, _ONE), turn)
    straight = cosine > _ONE
    return u if straight else a, v if straight else b, w if straight else c


@njit(**INLINE)
def locate(px, py, pz, flat, record, grid):
    """Place (voxel index x 65536 + region), material and density at a point.

    ``flat`` is the index of its voxel (``OUTSIDE`` in the air around), and ``record`` that of its block; when
    that has a density, the block is uniform and no voxel need be fetched. Among solids the index and the
    region are 0 outside and k + 1 in row k of ``grid.rod``.
    """
    if flat < 0 or record >> _32 != _NONE:
        material, region, density = unpack(record)
        return flat * _REGIONS + region, material, density
    if grid.kind[0] == 0:
        material, region, density = unpack(grid.voxel[np.uint64(flat)])
        return flat * _REGIONS + region, material, density
    rod = grid.rod
    for k in range(
        rod.shape[0] - 1, -1, -1
    ):  # row 0 holds all others; where later rows overlap, the last wins
        dx = px - rod[k, 0]
        dy = py - rod[k, 1]
        if rod[k, 8] > _ZERO:
            within = abs(dx) < rod[k, 2] and abs(dy) < rod[k, 8]
        else:
            within = dx * dx + dy * dy < rod[k, 2] * rod[k, 2]
        if within and rod[k, 3] <= pz < rod[k, 4]:
            return np.int64(k + 1) * (_REGIONS + 1), np.int32(rod[k, 5]), rod[k, 6]
    return np.int64(0), _I0, grid.air_density[0]


@njit(**INLINE)
def deposit(place, e, n, outside, places, energies):
    """Append a deposit (a full list adds to its last entry); returns the deposits and the energy in air."""
    if e == 0:
        return n, outside
    if place < 0:
        return n, outside + e
    if n > 0 and places[n - _I1] == place:
        energies[n - _I1] += e
        return n, outside
    if n > _FULL:
        energies[_FULL] += e
        return n, outside
    places[n] = place
    energies[n] = e
    return n + _I1, outside
