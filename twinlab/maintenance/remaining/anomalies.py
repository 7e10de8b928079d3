"""Anomalies: rows whose sensors lie away from those of healthy units in the same operating condition."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from twinlab.maintenance.remaining.conditions import Conditions, fit_conditions
from twinlab.maintenance.remaining.cuts import unit_folds
from twinlab.maintenance.remaining.features import smooth
from twinlab.maintenance.remaining.histories import WHERE, Array, Histories
from twinlab.schema import label, refuse

MEMORY = 10  # rows over which sensors are smoothed: an anomaly of wear lasts
ROWS = 500  # healthy rows are much alike, and the determinant is slow beyond
BEGIN = 10  # rows before the smoothing has settled


@dataclass(frozen=True)
class Anomalies:
    """A detector with a threshold set on healthy rows of units that it had not seen."""

    conditions: Conditions
    sensors: NDArray[np.int64]
    detector: Any
    threshold: float
    false_alarm: float

    def score(self, units: Histories) -> xr.DataArray:
        """How far each row is beyond the threshold: above 0 is an alarm.

        Returns
        -------
        DataArray, dims (row,)
            With coordinates ``unit`` and ``cycle``; the first ten rows of a unit are NaN, while the smoothing
            settles.
        """
        level = _smoothed(self.conditions.apply(units))[:, self.sensors]
        value = _oddity(self.detector, level) - self.threshold
        value[_place(units) < BEGIN] = np.nan
        coords = {"unit": ("row", units.units[units.unit_index]), "cycle": ("row", units.cycle)}
        return label("anomaly_score", value, coords, false_alarm=self.false_alarm)


def fit_anomalies(
    units: Histories,
    *,
    healthy: NDArray[np.bool_],
    method: Literal["isolation_forest", "robust_covariance"] = "isolation_forest",
    false_alarm: float = 0.01,
    folds: int = 5,
    seed: int = 0,
) -> Anomalies:
    """Learn what healthy looks like.

    The threshold is the quantile ``1 - false_alarm`` of the scores of healthy rows of units that were held out,
    each unit with the same weight, so that a unit never seen raises a false alarm on that share of its healthy
    rows.

    Parameters
    ----------
    units : Histories
    healthy : ndarray of bool, shape (row,)
        Rows that are taken as healthy (:func:`early_rows`).
    method : str
        Isolation forest [1]_, or distance from the minimum covariance determinant [2]_.
    false_alarm : float
        Share of healthy rows that may raise an alarm.

    Raises
    ------
    InputError
        Fewer units than folds, a rate outside 0 to 0.5, too few healthy rows, or scikit-learn is missing.

    References
    ----------
    .. [1] F. T. Liu, K. M. Ting, Z.-H. Zhou, "Isolation forest", ICDM 2008.
    .. [2] P. J. Rousseeuw, K. van Driessen, "A fast algorithm for the minimum covariance determinant
       estimator", Technometrics 41 (1999) 212.
    """
    healthy = np.asarray(healthy, bool)
    if healthy.shape != units.cycle.shape:
        refuse(WHERE, f"healthy or not for each of {len(units.cycle)} rows", healthy.shape)
    if not 0.0 < false_alarm < 0.5:
        refuse(WHERE, "a false alarm rate between 0 and 0.5", false_alarm)
    used = healthy & (_place(units) >= BEGIN)
    if used.sum() < 20 * units.sensors.shape[1]:
        refuse(WHERE, "20 healthy rows a sensor, each behind the tenth of its unit", int(used.sum()))
    # conditions and the choice of sensors once, for all: scores of detectors on other sensors do not compare
    conditions = fit_conditions(units, seed=seed)
    level = _smoothed(conditions.apply(units))
    sensors = _moving(level[used])
    level = level[:, sensors]
    fold = unit_folds(len(units), folds, seed=seed)[units.unit_index]
    scores, weights = [], []
    for i in range(folds):
        learn, judge = used & (fold != i), used & (fold == i)
        scores.append(_oddity(_learn(level[learn], method, seed), level[judge]))
        inside = units.unit_index[judge]
        weights.append(1.0 / np.bincount(inside)[inside])
    detector = _learn(level[used], method, seed)
    score, weight = np.concatenate(scores), np.concatenate(weights)
    order = np.argsort(score)
    total = np.cumsum(weight[order]) / weight.sum()
    threshold = float(score[order][np.searchsorted(total, 1.0 - false_alarm)])
    return Anomalies(conditions, sensors, detector, threshold, false_alarm)


def early_rows(units: Histories, share: float = 0.3) -> NDArray[np.bool_]:
    """The first ``share`` of each life, taken as healthy; for units that were run to failure."""
    return _place(units) < np.repeat(share * units.lengths, units.lengths)


def _moving(level: Array) -> NDArray[np.int64]:
    """Sensors that are not stuck most of the time: a stuck one has no covariance to be far from."""
    quarter, three = np.quantile(level, [0.25, 0.75], axis=0)
    sensors = np.flatnonzero(three - quarter > 0.7 * level.std(axis=0))
    if not sensors.size:
        refuse(WHERE, "a sensor that moves while healthy", "only stuck ones")
    return sensors


def _learn(level: Array, method: str, seed: int) -> Any:
    return _detector(method, seed).fit(level[:: max(1, len(level) // ROWS)])


def _place(units: Histories) -> NDArray[np.int64]:
    return np.arange(len(units.cycle)) - np.repeat(units.start[:-1], units.lengths)


def _smoothed(units: Histories) -> Array:
    return np.concatenate([smooth(piece, MEMORY) for piece in units.pieces()])


def _oddity(detector: Any, values: Array) -> Array:
    return -np.asarray(detector.decision_function(values), float)


def _detector(method: str, seed: int) -> Any:
    try:
        from sklearn.covariance import EllipticEnvelope
        from sklearn.ensemble import IsolationForest
    except ImportError:
        refuse(WHERE, 'scikit-learn: pip install "twinlab[maintenance]"', "not installed")
    if method == "isolation_forest":
        return IsolationForest(n_estimators=200, max_samples=256, random_state=seed, n_jobs=1)
    if method == "robust_covariance":
        return EllipticEnvelope(support_fraction=0.9, random_state=seed)
    return refuse(WHERE, "method isolation_forest or robust_covariance", repr(method))
