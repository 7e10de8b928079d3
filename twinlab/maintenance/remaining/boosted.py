"""Gradient-boosted trees on the features of a history."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinlab.maintenance.remaining.features import features
from twinlab.maintenance.remaining.histories import WHERE, Array, Histories
from twinlab.schema import refuse

ROWS = 8000


@dataclass
class Boosted:
    """LightGBM with squared error, several seeds averaged.

    Rows of one unit resemble each other, so only about ``rows`` of them are learned from, spread evenly over
    every unit; each has the weight of its place as a cut.

    References
    ----------
    G. Ke et al., "LightGBM: a highly efficient gradient boosting decision tree", NeurIPS 2017.
    """

    trees: int = 800
    leaves: int = 16
    rate: float = 0.025
    least: int = 60
    share: float = 0.3
    seeds: int = 1
    rows: int = ROWS
    threads: int = 1
    models: list[Any] = field(default_factory=list, repr=False)

    def fit(self, units: Histories, target: Array, weight: Array, *, seed: int) -> Boosted:
        """Learn ``target`` (row) with the weights of the rows."""
        lightgbm = _lightgbm()
        chosen = thinned(units, weight, self.rows, seed)
        x, y, w = features(units)[chosen], target[chosen], weight[chosen]
        data = lightgbm.Dataset(x, y, weight=w / w.mean(), params={"max_bin": 63, "verbose": -1})
        self.models = []
        for i in range(self.seeds):
            settings = {
                "objective": "l2",
                "learning_rate": self.rate,
                "num_leaves": self.leaves,
                "min_child_samples": self.least,
                "feature_fraction": self.share,
                "bagging_fraction": 0.6,
                "bagging_freq": 1,
                "lambda_l2": 5.0,
                "num_threads": self.threads,
                "deterministic": True,
                "force_row_wise": True,
                "seed": seed * 1000 + i,
                "verbose": -1,
            }
            self.models.append(lightgbm.train(settings, data, self.trees))
        return self

    def predict(self, units: Histories) -> Array:
        """Prediction at every row, shape (row,)."""
        x = features(units)
        return np.mean([m.predict(x, num_threads=self.threads) for m in self.models], axis=0)


def thinned(units: Histories, weight: Array, rows: int, seed: int) -> NDArray[np.int64]:
    """About ``rows`` evenly spaced rows that have weight, with another phase in each unit."""
    step = max(1, round(len(weight) / rows))
    phase = np.random.default_rng(seed).integers(step, size=len(units))
    place = np.arange(len(weight)) - np.repeat(units.start[:-1], units.lengths)
    return np.flatnonzero(((place + np.repeat(phase, units.lengths)) % step == 0) & (weight > 0))


def _lightgbm() -> Any:
    try:
        import lightgbm
    except ImportError:
        refuse(WHERE, 'lightgbm: pip install "twinlab[maintenance]"', "not installed")
    return lightgbm
