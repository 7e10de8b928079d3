"""Random convolutions over a history, and ridge regression on them: a sequence model without training steps.

As ROCKET [1]_, with two changes for histories that are cut anywhere: half of the kernels are stretched over the
whole history so far (their taps lie at equal shares of its length), the rest have fixed dilations; and each
kernel is read once, at the cut, through a soft threshold that also knows the age.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from twinlab.maintenance.remaining.boosted import thinned
from twinlab.maintenance.remaining.features import smooth
from twinlab.maintenance.remaining.histories import Array, Histories

TAPS = 7
DILATIONS = (4, 8, 16)
MEMORY = 20  # rows over which sensors are smoothed before the kernels see them
STEEP = 1.5


@dataclass
class RandomConvolutions:
    """Ridge regression on thresholds of random causal convolutions.

    Attributes
    ----------
    kernels : int
        Half stretched over the history, a sixth at each fixed dilation.
    ridge : float
        Penalty, in units of a row's weight.

    References
    ----------
    .. [1] A. Dempster, F. Petitjean, G. I. Webb, "ROCKET: exceptionally fast and accurate time series
       classification using random convolutional kernels", Data Min. Knowl. Discov. 34 (2020) 1454.
    """

    kernels: int = 1200
    ridge: float = 1000.0
    rows: int = 10000
    _weights: list[Array] = field(default_factory=list, repr=False)
    _age: Array = field(default_factory=lambda: np.empty(0), repr=False)
    _bias: Array = field(default_factory=lambda: np.empty(0), repr=False)
    _mean: Array = field(default_factory=lambda: np.empty(0), repr=False)
    _slope: Array = field(default_factory=lambda: np.empty(0), repr=False)
    _offset: float = 0.0
    _long: float = 1.0

    def fit(self, units: Histories, target: Array, weight: Array, *, seed: int) -> RandomConvolutions:
        """Learn ``target`` (row) with the weights of the rows."""
        rng = np.random.default_rng(seed)
        chosen = thinned(units, weight, self.rows, seed)
        taps = [block[chosen] for block in _taps(units)]
        age = units.cycle[chosen]
        self._long = float(age.std()) + 1e-12
        count = [self.kernels // 2] + [self.kernels // (2 * len(DILATIONS))] * len(DILATIONS)
        self._weights = [_kernels(rng, len(units.sensor_names), k) for k in count]
        for block, kernel in zip(taps, self._weights, strict=True):
            kernel /= (block @ kernel).std(axis=0) + 1e-12
        total = sum(count)
        self._age = rng.normal(size=total) * (rng.random(total) < 0.5)
        raw = self._raw(taps, age)
        level = rng.uniform(0.03, 0.97, total)
        self._bias = np.array([np.quantile(raw[:, i], q) for i, q in enumerate(level)])
        x, y = np.tanh(STEEP * (raw - self._bias)), target[chosen]
        w = weight[chosen] / weight[chosen].mean()
        self._mean, self._offset = np.average(x, axis=0, weights=w), float(np.average(y, weights=w))
        x = (x - self._mean) * np.sqrt(w)[:, None]
        gram = x.T @ x + self.ridge * np.eye(total)
        self._slope = np.linalg.solve(gram, x.T @ ((y - self._offset) * np.sqrt(w)))
        return self

    def predict(self, units: Histories) -> Array:
        """Prediction at every row, shape (row,)."""
        x = np.tanh(STEEP * (self._raw(_taps(units), units.cycle) - self._bias))
        return (x - self._mean) @ self._slope + self._offset

    def _raw(self, taps: list[Array], age: Array) -> Array:
        found = np.hstack([block @ kernel for block, kernel in zip(taps, self._weights, strict=True)])
        return found + self._age * (age / self._long)[:, None]


def _taps(units: Histories) -> list[Array]:
    """Smoothed sensors where the taps of the kernels lie; a block a dilation, shape (row, sensor*tap)."""
    blocks: list[list[Array]] = [[] for _ in range(1 + len(DILATIONS))]
    back = np.arange(TAPS)
    for piece in units.pieces():
        level, place = smooth(piece, MEMORY), np.arange(len(piece))[:, None]
        where = [np.round(place * back / (TAPS - 1)).astype(int)]
        where += [np.maximum(place - d * back, 0) for d in DILATIONS]
        for block, rows in zip(blocks, where, strict=True):
            block.append(level[rows].transpose(0, 2, 1).reshape(len(piece), -1))
    return [np.concatenate(block) for block in blocks]


def _kernels(rng: np.random.Generator, sensors: int, count: int) -> Array:
    """Random kernels on random sensors, every other one blind to the level; shape (sensor*tap, kernel)."""
    kernels = np.zeros((count, sensors, TAPS))
    for i in range(count):
        chosen = rng.choice(sensors, size=min(sensors, int(rng.integers(1, 13))), replace=False)
        weight = rng.normal(size=(len(chosen), TAPS))
        kernels[i, chosen] = weight - (weight.mean(axis=1, keepdims=True) if i % 2 else 0.0)
    return kernels.reshape(count, -1).T
