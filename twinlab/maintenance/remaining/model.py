"""Remaining life: candidates judged on units they have not seen, the best or their blend, and its intervals."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from twinlab.maintenance.remaining.blending import blend, blend_unseen, shares
from twinlab.maintenance.remaining.boosted import Boosted
from twinlab.maintenance.remaining.conditions import Conditions, fit_conditions
from twinlab.maintenance.remaining.conformal import Intervals, fit_intervals
from twinlab.maintenance.remaining.convolution import RandomConvolutions
from twinlab.maintenance.remaining.cuts import cut_weights, unit_folds
from twinlab.maintenance.remaining.histories import WHERE, Array, Histories
from twinlab.maintenance.remaining.metrics import CAP, rmse
from twinlab.schema import label, refuse


class Candidate(Protocol):
    """A model of remaining life from histories whose sensors are deviations from their condition."""

    def fit(self, units: Histories, target: Array, weight: Array, *, seed: int) -> Candidate: ...

    def predict(self, units: Histories) -> Array: ...


CANDIDATES: dict[str, Callable[[], Candidate]] = {"boosted": Boosted, "convolutions": RandomConvolutions}


@dataclass(frozen=True)
class RemainingLife:
    """A fitted model.

    Attributes
    ----------
    conditions : Conditions
        Operating conditions of the training units.
    models : mapping of name to Candidate
        Every candidate, fitted on all training units.
    share : mapping of name to float
        How much each counts; those that do not count are left out.
    intervals : Intervals
        Conformal intervals.
    judged : DataFrame
        A row a candidate (and "blend"): RMSE in cross-validation, seconds of processor time, share.
    """

    conditions: Conditions
    models: Mapping[str, Candidate]
    share: Mapping[str, float]
    intervals: Intervals
    cap: float
    judged: pd.DataFrame

    def rows(self, units: Histories) -> Array:
        """Prediction at every row of every history, capped; shape (row,)."""
        plain = self.conditions.apply(units)
        found = {name: self.models[name].predict(plain) for name in self.share}
        return np.clip(blend(found, self.share), 0.0, self.cap)

    def predict(self, units: Histories) -> xr.Dataset:
        """Prediction at the end of every history.

        Returns
        -------
        Dataset, dims (unit,)
            ``remaining_life``, ``remaining_life_lower`` and ``remaining_life_upper`` in cycles, capped: an end
            at the cap means "that or more".
        """
        middle = self.rows(units)[units.last]
        lower, upper = self.intervals.around(middle)
        coords = {"unit": units.units}
        return xr.Dataset(
            {
                "remaining_life": label("remaining_life", middle, coords, cap=self.cap),
                "remaining_life_lower": label(
                    "remaining_life_lower", lower, coords, level=self.intervals.level
                ),
                "remaining_life_upper": label(
                    "remaining_life_upper", upper, coords, level=self.intervals.level
                ),
            }
        )


@dataclass(frozen=True)
class Unseen:
    """Predictions for every row of every training unit by models that did not see the unit."""

    predicted: dict[str, Array]
    truth: Array
    weight: Array
    fold: NDArray[np.int64]
    seconds: dict[str, float]


def predict_unseen(
    units: Histories,
    candidates: Mapping[str, Callable[[], Candidate]],
    *,
    weight: Array,
    cap: float = CAP,
    folds: int = 5,
    seed: int = 0,
) -> Unseen:
    """Cross-validation with whole units held out; conditions too are fitted without them."""
    fold = unit_folds(len(units), folds, seed=seed)
    target = np.minimum(units.life_left(), cap)
    found = {name: np.empty(len(target)) for name in candidates}
    seconds = dict.fromkeys(candidates, 0.0)
    for i in range(folds):
        learn, judge = np.flatnonzero(fold != i), np.flatnonzero(fold == i)
        rows, held = units.rows_of(learn), units.rows_of(judge)
        conditions = fit_conditions(units.take(learn), seed=seed)
        known, unknown = conditions.apply(units.take(learn)), conditions.apply(units.take(judge))
        for name, make in candidates.items():
            begun = time.process_time()
            model = make().fit(known, target[rows], weight[rows], seed=seed)
            found[name][held] = np.clip(model.predict(unknown), 0.0, cap)
            seconds[name] += time.process_time() - begun
    return Unseen(found, units.life_left(), weight, fold[units.unit_index], seconds)


def fit_remaining_life(
    units: Histories,
    *,
    lengths: ArrayLike | None = None,
    candidates: Mapping[str, Callable[[], Candidate]] | None = None,
    cap: float = CAP,
    level: float = 0.9,
    folds: int = 5,
    seed: int = 0,
    unseen: Unseen | None = None,
) -> RemainingLife:
    """Choose, fit and calibrate a model of remaining life on units that were run to failure.

    Parameters
    ----------
    units : Histories
        Run to failure: life ends with the last row.
    lengths : array_like of int, optional
        Rows of the histories that the model will meet; makes the cuts of the training units alike
        (:func:`cut_weights`).
    candidates : mapping of name to a maker of a model, optional
        Default: boosted trees and random convolutions.
    cap : float
        Life beyond it is not told apart: target, prediction and intervals end there, cycles.
    level : float
        Nominal coverage of the intervals.
    unseen : Unseen, optional
        What :func:`predict_unseen` gave for these units, cuts and candidates (more of them do no harm), if it is
        at hand; it is made otherwise.

    Returns
    -------
    RemainingLife
        The blend, or the one candidate that does better than it in cross-validation.

    Raises
    ------
    InputError
        Fewer than 10 units, units of fewer than 3 rows, or a package that is missing.
    """
    if len(units) < 10:
        refuse(WHERE, "10 units or more that were run to failure", len(units))
    candidates = CANDIDATES if candidates is None else candidates
    weight = cut_weights(units, lengths)
    if unseen is None:
        unseen = predict_unseen(units, candidates, weight=weight, cap=cap, folds=folds, seed=seed)
    predicted = {name: unseen.predicted[name] for name in candidates}
    truth = np.minimum(unseen.truth, cap)
    error = {n: rmse(p, truth, cap=cap, weight=weight) for n, p in predicted.items()}
    held = dict(predicted)
    if len(predicted) > 1:
        held["blend"] = blend_unseen(predicted, truth, weight, unseen.fold)
        error["blend"] = rmse(held["blend"], truth, cap=cap, weight=weight)
    best = min(error, key=error.__getitem__)
    share = shares(predicted, truth, weight) if best == "blend" else {best: 1.0}
    share = {name: part for name, part in share.items() if part > 0.0}
    conditions = fit_conditions(units, seed=seed)
    plain = conditions.apply(units)
    target = np.minimum(units.life_left(), cap)
    models = {name: make().fit(plain, target, weight, seed=seed) for name, make in candidates.items()}
    spent = {name: unseen.seconds[name] for name in candidates}
    judged = pd.DataFrame(
        {"rmse_cv": error, "share": pd.Series(share), "seconds_cv": pd.Series(spent)}
    ).fillna({"share": 0.0})
    intervals = fit_intervals(held[best], truth, weight, level=level, cap=cap)
    return RemainingLife(conditions, models, share, intervals, cap, judged)
