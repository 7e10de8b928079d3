"""Many photon histories on one CPU thread, some at once."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from twinlab.kernels.philox import DEVICE, INLINE, draw
from twinlab.kernels.transport_collision import STRAIGHT, deflect, finish, unfinished
from twinlab.kernels.transport_data import MAX_DEPOSITS
from twinlab.kernels.transport_lengths import CAPACITY, full, join, walk
from twinlab.kernels.transport_slots import (
    SLOTS,
    arrive,
    collide_all,
    deflect_all,
    fly_all,
    move,
    photons,
    prepare,
    wide,
)
from twinlab.kernels.transport_source import emit
from twinlab.kernels.transport_splitting import branch, importance, recall, room
from twinlab.kernels.transport_tally import (
    REGION,
    VOXEL,
    empty,
    square,
    tally,
    tally_along,
    tally_reached,
    tally_voxels,
)
from twinlab.kernels.transport_track import GONE, score_fluence

N_SCALAR = 5  # emitted, escaped, left in the world's air, deposited in the grid, its squares
_NEXT = np.uint64(1)
_ZERO = np.float32(0.0)
_FULL = np.int32(MAX_DEPOSITS - 1)


class Kept(NamedTuple):
    """What the slots' histories have left so far."""

    count: np.ndarray  # type: ignore[assignment] # (slot,) int32: deposits
    places: np.ndarray  # (slot, MAX_DEPOSITS) int64
    energies: np.ndarray  # (slot, MAX_DEPOSITS) int64
    rods: np.ndarray  # (slot, rod) int64: fluence scores
    left_in: np.ndarray  # (slot,) int64: in the grid, of histories whose photons are split
    along: np.ndarray  # (slot, region) int64: scores of regions, where deposits are not listed
    reached: np.ndarray  # (slot, region + 1) int64: number of regions with a score, and which
    keys: np.ndarray  # (slot, CAPACITY) int64: table of voxels, see transport_lengths.join
    values: np.ndarray
    used: np.ndarray
    n_used: np.ndarray  # (slot,) int64
    total: np.ndarray  # (region,) int64: of one history, while it is added up
    touched: np.ndarray  # (MAX_DEPOSITS,) int64
    listed: np.ndarray  # (SLOTS + 1,) int64: slots for which there is something to do


@njit(**INLINE)
def _branch(j, p, kept, k0, k1, rule, waiting, scalars, with_voxels):
    """Score a collision by its photon's weight, then split the photon or play roulette with it.

    Returns whether the photon goes on.
    """
    lost = (p.energy[j] - p.left[j]) >> waiting.level[j]
    if lost > 0:
        if p.place[j] < 0:
            scalars[2] += lost
        else:
            kept.left_in[j] += lost
            k = p.place[j] & REGION
            if kept.along[j, k] == 0:
                kept.reached[j, 0] += 1
                kept.reached[j, kept.reached[j, 0]] = k
            kept.along[j, k] += lost
            if with_voxels:
                kept.n_used[j] = join(
                    p.place[j] >> VOXEL, lost, kept.keys[j], kept.values[j], kept.used[j], kept.n_used[j]
                )
    e = p.left[j]
    if e == 0:
        return False
    if importance(p.z[j], rule) == waiting.level[j]:
        return True
    pick, _, _, _ = draw(p.step[j], p.history[j], k0, k1)
    p.step[j] += _NEXT
    p.u[j], p.v[j], p.w[j] = deflect(p.u[j], p.v[j], p.w[j], p.cosine[j], p.turn[j])
    p.cosine[j] = STRAIGHT
    return branch(waiting, j, p.x[j], p.y[j], p.z[j], p.u[j], p.v[j], p.w[j], e, pick, rule)


@njit(**INLINE)
def _branch_all(p, kept, k0, k1, rule, waiting, scalars, with_voxels, voxel_flat):
    """Collisions of photons that are split; returns how many histories are at their end, ``kept.listed``."""
    n = 0
    for j in range(SLOTS):
        if p.energy[j] == 0:
            continue
        if p.flat[j] == GONE:
            scalars[1] += p.energy[j] >> waiting.level[j]
        else:
            goes_on = _branch(j, p, kept, k0, k1, rule, waiting, scalars, with_voxels)
            if with_voxels and full(kept.n_used[j]):
                _empty_table(p.history[j], j, kept, voxel_flat)
            if goes_on:
                p.energy[j] = p.left[j]
                continue
        p.x[j], p.y[j], p.z[j], p.u[j], p.v[j], p.w[j], p.energy[j] = recall(waiting, j)
        p.cosine[j] = STRAIGHT
        if p.energy[j] == 0:
            scalars[3] += kept.left_in[j]
            scalars[4] += square(kept.left_in[j], p.history[j])
            kept.left_in[j] = 0
            kept.listed[n] = j
            n += 1
    return n


@njit(**INLINE)
def _empty_table(history, j, kept, voxel_flat):
    kept.n_used[j] = empty(history, kept.keys[j], kept.values[j], kept.used[j], kept.n_used[j], voxel_flat)


@njit(**INLINE)
def _start(n, following, high, p, kept, source, k0, k1, scalars):
    """New histories in the first ``n`` listed slots, as long as there are any; returns the next one."""
    for i in range(n):
        j = kept.listed[i]
        if following < high:
            history = np.uint64(following)
            p.x[j], p.y[j], p.z[j], p.u[j], p.v[j], p.w[j], e, p.step[j] = emit(source, history, k0, k1)
            p.history[j], p.energy[j], kept.count[j] = history, e, 0
            scalars[0] += e
            following += 1
    return following


@njit(**INLINE)
def _finish_all(p, tables, k0, k1, listed):
    """The collisions that :func:`collide_all` left open, one by one."""
    n = 0
    for j in range(SLOTS):
        listed[n] = j
        n += np.int64(unfinished(p.kind[j], tables) & (p.flat[j] != GONE) & (p.energy[j] > 0))
    for i in range(n):
        j = listed[i]
        p.left[j], p.cosine[j], p.step[j] = finish(
            p.kind[j], p.left[j], p.cosine[j], p.share[j], p.energy[j], p.row[j], p.f[j], p.material[j],
            p.c[j], p.d[j], tables, p.step[j], p.history[j], k0, k1,
        )  # fmt: skip


@njit(**INLINE)
def _deposit_all(p, kept, scalars):
    """Append what collisions leave to the histories' lists; returns how many are at their end, ``kept.listed``."""
    n = 0
    places, energies = kept.places, kept.energies
    for j in range(SLOTS):
        gone = p.flat[j] == GONE
        e = p.energy[j]
        left = np.int64(0) if gone else p.left[j]
        lost = np.int64(0) if gone else e - left
        inside = (p.place[j] >= 0) & (lost > 0)
        scalars[1] += e if gone else np.int64(0)
        scalars[2] += np.int64(0) if inside else lost
        k = kept.count[j]
        places[j, k], energies[j, k] = p.place[j], lost
        if k == _FULL and inside:  # a full list adds to its last entry
            energies[j, k - 1] += lost
        else:
            kept.count[j] = k + np.int32(inside)
        p.energy[j] = left
        kept.listed[n] = j
        n += np.int64((left == 0) & (e > 0))
    return n


@njit(**INLINE)
def _score_flights(p, kept, grid, tables, lengths, with_voxels, voxel_flat):
    """Fluence in rods, and track lengths where they are asked for."""
    for j in range(SLOTS):
        start = p.border[j] if p.stop[j] <= p.start[j] else p.start[j]
        if kept.rods.shape[1] > 0:
            score_fluence(
                p.x[j], p.y[j], p.z[j], p.u[j], p.v[j], p.w[j], start, p.t[j], p.energy[j], p.row[j], p.f[j],
                grid.rod, tables.kerma, kept.rods[j],
            )  # fmt: skip
        if lengths and start < p.t[j] and p.energy[j] > 0:
            kept.n_used[j] = walk(
                p.x[j], p.y[j], p.z[j], p.u[j], p.v[j], p.w[j], start, p.t[j], p.energy[j], p.row[j], p.f[j],
                grid, tables, kept.along[j], with_voxels, kept.keys[j], kept.values[j], kept.used[j], kept.n_used[j],
            )  # fmt: skip
            if with_voxels and full(kept.n_used[j]):
                _empty_table(p.history[j], j, kept, voxel_flat)


@njit(**INLINE)
def _add_up(history, j, kept, scalars, region, fluence, lengths, split, with_voxels, voxel_flat):
    """End of the history of a slot: its scores and their squares."""
    tally(
        history, kept.count[j], kept.places[j], kept.energies[j], kept.rods[j], scalars, region, fluence,
        kept.total, kept.touched, not (lengths or split),
    )  # fmt: skip
    if split:
        tally_reached(history, kept.along[j], kept.reached[j], region)
    elif lengths:
        tally_along(history, kept.along[j], region)
    if with_voxels:
        if lengths or split:
            _empty_table(history, j, kept, voxel_flat)
        else:
            tally_voxels(history, kept.count[j], kept.places[j], kept.energies[j], voxel_flat)


@njit(**DEVICE)
def _follow(
    low, high, k0, k1, grid, tables, source, scalars, region, fluence, lengths, with_voxels, voxel_flat, rule, law,
    kept, waiting,
):  # fmt: skip
    """:func:`follow` without the allocations, which would count references all along."""
    wide()
    split = rule.ndim == 2
    p = photons()
    for j in range(SLOTS):  # slots without a photon: they stand still and are never scored
        kept.listed[j] = j
        p.x[j] = p.y[j] = p.z[j] = p.u[j] = p.v[j] = _ZERO
        p.w[j] = np.float32(1.0)
        p.energy[j] = p.left[j] = 0
        p.step[j] = p.history[j] = np.uint64(0)
    following = _start(SLOTS, low, high, p, kept, source, k0, k1, scalars)
    active = following - low
    while active > 0:
        prepare(p, k0, k1, grid, tables)
        fly_all(p, grid)
        arrive(p, grid)
        if fluence.shape[0] > 0 or lengths:
            _score_flights(p, kept, grid, tables, lengths, with_voxels, voxel_flat)
        move(p)
        collide_all(p, grid, tables)
        _finish_all(p, tables, k0, k1, kept.listed)
        if split:
            n = _branch_all(p, kept, k0, k1, law, waiting, scalars, with_voxels, voxel_flat)
        else:
            n = _deposit_all(p, kept, scalars)
        deflect_all(p)
        for i in range(n):
            j = kept.listed[i]
            _add_up(p.history[j], j, kept, scalars, region, fluence, lengths, split, with_voxels, voxel_flat)
        before = following
        following = _start(n, following, high, p, kept, source, k0, k1, scalars)
        active += following - before - n


@njit(cache=True, nogil=True, error_model="numpy")
def follow(
    low, high, k0, k1, grid, tables, source, scalars, region, fluence, lengths, with_voxels, voxel_flat, rule
):
    """Follow a range of histories, ``SLOTS`` at a time, and add up their scores."""
    split = rule.ndim == 2
    n_region = region.shape[0] if lengths or split else 0
    n_join = CAPACITY if (lengths or split) and with_voxels else 0
    kept = Kept(
        np.zeros(SLOTS, np.int32),
        np.empty((SLOTS, MAX_DEPOSITS), np.int64),
        np.empty((SLOTS, MAX_DEPOSITS), np.int64),
        np.zeros((SLOTS, fluence.shape[0]), np.int64),
        np.zeros(SLOTS, np.int64),
        np.zeros((SLOTS, n_region), np.int64),
        np.zeros((SLOTS, n_region + 1), np.int64),
        np.full((SLOTS, n_join), np.int64(-1)),
        np.zeros((SLOTS, n_join), np.int64),
        np.zeros((SLOTS, n_join), np.int64),
        np.zeros(SLOTS, np.int64),
        np.zeros(region.shape[0], np.int64),
        np.empty(MAX_DEPOSITS, np.int64),
        np.empty(SLOTS + 1, np.int64),
    )
    _follow(
        low, high, k0, k1, grid, tables, source, scalars, region, fluence, lengths, with_voxels, voxel_flat,
        rule, rule.reshape(-1), kept, room(SLOTS if split else 0),
    )  # fmt: skip
