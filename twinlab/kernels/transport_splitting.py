"""Splitting and Russian roulette by the distance from the beam along z.

Importance doubles with every step beyond the beam. A photon that comes to a place of higher importance goes on as
two of half the weight; one that comes back goes on with double weight, or not at all. So organs that few scattered
photons reach are reached by many light ones. Weights are powers of two, 2^-level, and scores stay integers. All
copies belong to one history: what it leaves is added up before it is squared.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from twinlab.kernels.philox import INLINE
from twinlab.schema import refuse

DEPTH = 24  # of a history's waiting copies; when all places are taken, photons go on unsplit

_ZERO = np.float32(0.0)
_ONE = np.float32(1.0)
_MOST = 12


class Splitting(NamedTuple):
    """Where importance rises.

    Between ``low_mm`` and ``high_mm`` (z in the grid's box) it is 1; it doubles with every ``step_mm`` beyond, at
    most ``levels`` times.
    """

    low_mm: float
    high_mm: float
    step_mm: float = 80.0
    levels: int = 8


class Waiting(NamedTuple):
    """Photons of the slots' histories that wait for their turn, and the weight of those under way."""

    level: np.ndarray  # (slot,) int64: weight 2^-level
    entries: np.ndarray  # (slot,) int64: how many wait
    real: np.ndarray  # (slot, DEPTH, 6) float32: position and direction
    energy: np.ndarray  # (slot, DEPTH) int64
    entry_level: np.ndarray  # (slot, DEPTH) int64
    copies: np.ndarray  # (slot, DEPTH) int64


def steps(splitting: Splitting | None) -> np.ndarray:
    """The rule as the kernels read it: (1, 4) float32, or one dimension when there is none.

    The number of dimensions is part of the type: a loop without splitting is compiled without it.

    Raises
    ------
    InputError
        A range, a step or a number of levels that makes no sense.
    """
    if splitting is None:
        return np.zeros(4, np.float32)
    low, high, step, levels = splitting
    if not (np.isfinite([low, high]).all() and low <= high and step > 0):
        refuse("transport: splitting", "low_mm <= high_mm and step_mm > 0", splitting)
    if not 1 <= levels <= _MOST:
        refuse("transport: splitting", f"1 to {_MOST} levels", levels)
    return np.array([[low, high, 1.0 / step, levels]], np.float32)


@njit(**INLINE)
def importance(z, rule):
    """Binary logarithm of the importance of a place, int64."""
    beyond = max(max(rule[0] - z, z - rule[1]), _ZERO)
    return np.int64(min(beyond * rule[2], rule[3]))


@njit(cache=True)
def room(n_slot):
    """Waiting room of some slots."""
    return Waiting(
        np.zeros(n_slot, np.int64),
        np.zeros(n_slot, np.int64),
        np.zeros((n_slot, DEPTH, 6), np.float32),
        np.zeros((n_slot, DEPTH), np.int64),
        np.zeros((n_slot, DEPTH), np.int64),
        np.zeros((n_slot, DEPTH), np.int64),
    )


@njit(**INLINE)
def branch(waiting, j, x, y, z, u, v, w, e, pick, rule):
    """Split the photon of slot ``j``, or play roulette with it, where its weight does not fit its place.

    ``pick`` is a uniform in (0, 1). Returns whether the photon goes on.
    """
    level, wanted = waiting.level[j], importance(z, rule)
    if wanted < level:
        if pick * np.float32(np.int64(1) << (level - wanted)) >= _ONE:
            return False
        waiting.level[j] = wanted
        return True
    n = waiting.entries[j]
    if wanted > level and n < DEPTH:
        place = waiting.real[j, n]
        place[0], place[1], place[2], place[3], place[4], place[5] = x, y, z, u, v, w
        waiting.energy[j, n], waiting.entry_level[j, n] = e, wanted
        waiting.copies[j, n] = (np.int64(1) << (wanted - level)) - 1
        waiting.entries[j] = n + 1
        waiting.level[j] = wanted
    return True


@njit(**INLINE)
def recall(waiting, j):
    """Next photon that waits for slot ``j``: its position, direction and energy (0 when none does)."""
    n = waiting.entries[j] - 1
    if n < 0:
        waiting.level[j] = 0
        return _ZERO, _ZERO, _ZERO, _ZERO, _ZERO, _ONE, np.int64(0)
    waiting.copies[j, n] -= 1
    if waiting.copies[j, n] == 0:
        waiting.entries[j] = n
    waiting.level[j] = waiting.entry_level[j, n]
    place = waiting.real[j, n]
    return place[0], place[1], place[2], place[3], place[4], place[5], waiting.energy[j, n]
