"""Photons on the detector: energy per bin that primary and scattered photons leave there.

The history is that of :func:`twinlab.kernels.transport_history.trace` without its deposits; what leaves the
object is followed to the detector, an arc around the focal spot or a flat panel.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit, prange

from twinlab.kernels.philox import INLINE, draw_five, key
from twinlab.kernels.sampling import free_path
from twinlab.kernels.transport_collision import VIRTUAL, collide
from twinlab.kernels.transport_data import ENERGY_UNIT_KEV, Grid, Source, Tables, energy_position
from twinlab.kernels.transport_source import emit
from twinlab.kernels.transport_tally import square
from twinlab.kernels.transport_track import box, fly, inverse

PARTS = 64  # of the histories: fixed, so that sums do not depend on the number of threads
N_TANGENT = 64  # angles of the grid's table
PRIMARY, SCATTER = 0, 1

_ZERO = np.float32(0.0)
_ONE = np.float32(1.0)
_UNIT = np.float32(ENERGY_UNIT_KEV)
_PER_UNIT = np.float32(1.0 / ENERGY_UNIT_KEV)
_NEXT = np.uint64(1)


class Screen(NamedTuple):
    """The detector of one view, in the coordinates of the grid."""

    flat: np.ndarray  # (1,) int32: 1 a panel, 0 an arc around the focal spot
    place: np.ndarray  # (6,) float32: focal spot x, y, z; unit vector to the isocentre x, y; distance, mm
    edge: (
        np.ndarray
    )  # (4,) float32: first channel edge, bin width (rad or mm); first row edge, bin width (mm)
    bins: np.ndarray  # (2,) int32: channel bins, row bins
    response: np.ndarray  # (energy,) float32: share of a photon's energy that counts, on the energy grid
    tangent: np.ndarray  # (2,) float32: largest tangent across and along z of the tables below
    across: np.ndarray  # (energy, N_TANGENT) float32: grid's transmission over the tangent in the plane
    along: np.ndarray  # (energy, N_TANGENT) float32: the same across rows


@njit(**INLINE)
def follow(history, k0, k1, grid, tables, source):
    """Last position, direction, energy and number of collisions of a photon; energy 0 when it is absorbed."""
    x, y, z, u, v, w, e, step = emit(source, history, k0, k1)
    collisions = 0
    size = grid.size
    while True:
        row, f = energy_position(np.float32(e) * _UNIT)
        iu, iv, iw = inverse(u), inverse(v), inverse(w)
        start, stop = box(x, y, z, iu, iv, iw, _ZERO, _ZERO, _ZERO, size[0], size[1], size[2])
        if stop <= start:  # around the grid there is nothing, as in the projector
            return x, y, z, u, v, w, e, collisions
        a, b, c, d, turn = draw_five(step, history, k0, k1)
        step += _NEXT
        t, flat, record, top, _ = fly(x, y, z, u, v, w, iu, iv, iw, start, stop, free_path(a), row, grid)
        if flat < 0:
            return x, y, z, u, v, w, e, collisions
        x += t * u
        y += t * v
        z += t * w
        place, _, e, u, v, w, step = collide(
            x, y, z, u, v, w, e, row, f, flat, record, top, b, c, d, turn, grid, tables, step, history, k0, k1
        )  # fmt: skip
        if e == 0:
            return x, y, z, u, v, w, e, collisions
        if place != VIRTUAL:
            collisions += 1


@njit(**INLINE)
def strike(x, y, z, u, v, w, screen):
    """Channel and row bin that a photon meets (-1: none), and the tangents of its incidence."""
    p = screen.place
    dx, dy = x - p[0], y - p[1]
    level = u * u + v * v
    if level <= _ZERO:
        return -1, -1, _ZERO, _ZERO
    forward, sideways = u * p[3] + v * p[4], v * p[3] - u * p[4]
    if screen.flat[0] == 1:
        if forward <= _ZERO:
            return -1, -1, _ZERO, _ZERO
        t = (p[5] - dx * p[3] - dy * p[4]) / forward
        hx, hy = dx + t * u, dy + t * v
        place = p[4] * hx - p[3] * hy
        out, aside = forward, sideways
    else:
        half = dx * u + dy * v
        root = half * half - level * (dx * dx + dy * dy - p[5] * p[5])
        if root < _ZERO:
            return -1, -1, _ZERO, _ZERO
        t = (math.sqrt(root) - half) / level
        hx, hy = dx + t * u, dy + t * v
        place = math.atan2(p[4] * hx - p[3] * hy, p[3] * hx + p[4] * hy)
        out, aside = (u * hx + v * hy) / p[5], (v * hx - u * hy) / p[5]
    if t < _ZERO or out <= _ZERO:
        return -1, -1, _ZERO, _ZERO
    height = z + t * w - p[2]
    i = math.floor((place - screen.edge[0]) / screen.edge[1])
    j = math.floor((height - screen.edge[2]) / screen.edge[3])
    if i < 0 or j < 0 or i >= screen.bins[0] or j >= screen.bins[1]:
        return -1, -1, _ZERO, _ZERO
    # septa point to the focal spot: a primary photon has no tangent in the plane, and height / distance along z
    return i, j, abs(aside / out), abs(w / out - height / p[5])


@njit(**INLINE)
def passed(table, row, tangent, largest):
    """Transmission of the grid at an energy node and a tangent; the last column beyond the table."""
    place = min(tangent / largest, _ONE) * np.float32(N_TANGENT - 1)
    k = min(int(place), N_TANGENT - 2)
    f = place - np.float32(k)
    return table[row, k] + f * (table[row, k + 1] - table[row, k])


@njit(cache=True, nogil=True, parallel=True)
def _run(first, count, k0, k1, grid, tables, source, screen, scores):
    for part in prange(PARTS):
        low = first + part * count // PARTS
        high = first + (part + 1) * count // PARTS
        own = scores[part]
        for h in range(low, high):
            x, y, z, u, v, w, e, collisions = follow(np.uint64(h), k0, k1, grid, tables, source)
            if e <= 0:
                continue
            i, j, across, along = strike(x, y, z, u, v, w, screen)
            if i < 0:
                continue
            energy = np.float32(e) * _UNIT
            row, f = energy_position(energy)
            got = screen.response[row] + f * (screen.response[row + 1] - screen.response[row])
            kind = PRIMARY
            if collisions > 0:
                kind = SCATTER
                got *= passed(screen.across, row, across, screen.tangent[0])
                got *= passed(screen.along, row, along, screen.tangent[1])
            score = np.int64(energy * got * _PER_UNIT)
            own[kind, j, i, 0] += score
            own[kind, j, i, 1] += square(score, np.uint64(h))


def run_screen(
    grid: Grid,
    tables: Tables,
    source: Source,
    screen: Screen,
    *,
    histories: int,
    seed: int,
    first_history: int = 0,
) -> np.ndarray:
    """Scores of a view: sums and sums of squares per bin, as :func:`twinlab.kernels.transport.mean_sd` takes them.

    Parameters
    ----------
    grid, tables, source : Grid, Tables, Source
        The world's air is left out: photons are free outside the grid.
    screen : Screen
        Primary photons are scored without the anti-scatter grid.
    histories, first_history : int
    seed : int
        A history depends on (seed, its index) only; the result is the same for any number of threads.

    Returns
    -------
    (2, row, channel, 2) int64
        Primary and scattered photons.
    """
    k0, k1 = key(seed)
    scores = np.zeros((PARTS, 2, int(screen.bins[1]), int(screen.bins[0]), 2), np.int64)
    _run(first_history, histories, k0, k1, grid, tables, source, screen, scores)
    return scores.sum(axis=0)
