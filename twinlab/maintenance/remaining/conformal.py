"""Conformal intervals of remaining life, Mondrian by the predicted life, calibrated on cuts of unseen units.

What is exchangeable is the unit, not the row: a new unit, cut at random, resembles a training unit that the
model has not seen and that is cut at random in the same way. Every held-out unit therefore counts once, its
weight spread over its possible cuts, and the quantile is taken of the pooled distribution [1]_; predictions
come from models that did not see the unit (CV+ [2]_, with one quantile around the final model's prediction).

.. [1] R. Dunn, L. Wasserman, A. Ramdas, "Distribution-free prediction sets for two-layer hierarchical models",
   J. Am. Stat. Assoc. 118 (2023) 2491 (pooling CDFs).
.. [2] R. F. Barber et al., "Predictive inference with the jackknife+", Ann. Statist. 49 (2021) 486.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from twinlab.maintenance.remaining.histories import WHERE, Array
from twinlab.schema import refuse


@dataclass(frozen=True)
class Intervals:
    """How far the truth lies from the prediction, in bins of the prediction.

    Attributes
    ----------
    edges : ndarray, shape (bin - 1,)
        Predictions that part the bins.
    below, above : ndarray, shape (bin,)
        Reach of the interval, cycles.
    cap : float
        An upper end at the cap means "the cap or more".
    """

    edges: Array
    below: Array
    above: Array
    cap: float
    level: float

    def around(self, predicted: ArrayLike) -> tuple[Array, Array]:
        """Lower and upper ends."""
        middle = np.clip(np.asarray(predicted, float), 0.0, self.cap)
        which = np.searchsorted(self.edges, middle, side="right")
        lower = np.clip(middle - self.below[which], 0.0, self.cap)
        return lower, np.clip(middle + self.above[which], 0.0, self.cap)


def fit_intervals(
    predicted: ArrayLike,
    truth: ArrayLike,
    weight: ArrayLike,
    *,
    level: float = 0.9,
    cap: float = 125.0,
    bins: int = 5,
) -> Intervals:
    """Intervals from predictions for units that the model had not seen.

    Parameters
    ----------
    predicted, truth, weight : array_like, shape (row,)
        Every possible cut of every held-out unit; the weights of a unit sum to one.
    level : float
        Nominal coverage, in each bin and so over all.
    bins : int
        At most; each holds as much weight, and at least 10 units' worth.

    Raises
    ------
    InputError
        A level outside 0 to 1, or fewer than 10 units.
    """
    p = np.clip(np.asarray(predicted, float), 0.0, cap)
    t, w = np.minimum(np.asarray(truth, float), cap), np.asarray(weight, float)
    if not 0.0 < level < 1.0:
        refuse(WHERE, "a coverage between 0 and 1", level)
    if w.sum() < 10:
        refuse(WHERE, "10 units or more to calibrate on", f"{w.sum():.1f}")
    count = int(np.clip(w.sum() // 10, 1, bins))
    edges = np.unique([weighted_quantile(p, w, i / count) for i in range(1, count)])
    which = np.searchsorted(edges, p, side="right")
    reach = np.array(
        [weighted_quantile(np.abs(t - p)[which == i], w[which == i], level) for i in range(len(edges) + 1)]
    )
    return Intervals(edges, reach, reach, cap, level)


def weighted_quantile(values: Array, weight: Array, share: float) -> float:
    """Smallest value that at least ``share`` of the weight does not exceed."""
    order = np.argsort(values, kind="stable")
    total = np.cumsum(weight[order])
    place = np.searchsorted(total, share * total[-1] * (1 - 1e-12))
    return float(values[order][min(place, len(order) - 1)])
