"""Figures of merit of predicted remaining life."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from twinlab.maintenance.remaining.histories import WHERE
from twinlab.schema import refuse

CAP = 125.0


def rmse(
    predicted: ArrayLike, truth: ArrayLike, *, cap: float | None = None, weight: ArrayLike | None = None
) -> float:
    """Root mean square error in cycles; with ``cap`` both prediction and truth are capped at it.

    Examples
    --------
    >>> rmse([100, 120], [103, 190], cap=125)
    4.123...
    """
    p, t, w = _pair(predicted, truth, weight)
    if cap is not None:
        p, t = np.clip(p, 0, cap), np.minimum(t, cap)
    return float(np.sqrt(np.average((p - t) ** 2, weights=w)))


def s_score(
    predicted: ArrayLike, truth: ArrayLike, *, cap: float | None = None, weight: ArrayLike | None = None
) -> float:
    """Score of the PHM 2008 challenge: late predictions cost more than early ones.

    ``S = sum(exp(-d/13) - 1 if d < 0 else exp(d/10) - 1)``, ``d = predicted - truth`` in cycles. With
    ``weight`` the weighted mean, which times the number of units compares with S.

    References
    ----------
    Saxena, Goebel, Simon, Eklund, PHM 2008, section on the scoring of the challenge.
    """
    p, t, w = _pair(predicted, truth, weight)
    if cap is not None:
        p, t = np.clip(p, 0, cap), np.minimum(t, cap)
    late = p - t
    cost = np.expm1(np.where(late < 0, -late / 13.0, late / 10.0))
    return float(cost.sum() if weight is None else np.average(cost, weights=w))


def coverage(
    lower: ArrayLike, upper: ArrayLike, truth: ArrayLike, *, weight: ArrayLike | None = None
) -> float:
    """Share of truths inside their intervals, ends included."""
    low, t, w = _pair(lower, truth, weight)
    high, _, _ = _pair(upper, truth, weight)
    return float(np.average((low <= t) & (t <= high), weights=w))


def _pair(a: ArrayLike, b: ArrayLike, weight: ArrayLike | None):  # type: ignore[no-untyped-def]
    first, second = np.asarray(a, float), np.asarray(b, float)
    if first.shape != second.shape or first.ndim != 1 or not first.size:
        refuse(WHERE, "as many predictions as truths, one or more", f"{first.shape} and {second.shape}")
    return first, second, None if weight is None else np.asarray(weight, float)
