"""How much each model counts: least squares on predictions for units that it has not seen."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from twinlab.maintenance.remaining.histories import Array

FIRM = 1e3  # weight of the equation "the shares sum to one", in units of the largest other one


def shares(predicted: Mapping[str, Array], truth: Array, weight: Array) -> dict[str, float]:
    """Shares of zero or more that sum to one and make the weighted square error least.

    Parameters
    ----------
    predicted : mapping of name to ndarray, shape (row,)
        For units that were held out.
    truth, weight : ndarray, shape (row,)

    References
    ----------
    L. Breiman, "Stacked regressions", Machine Learning 24 (1996) 49.
    """
    root = np.sqrt(weight / weight.sum())
    table = np.stack(list(predicted.values()), axis=1) * root[:, None]
    # through the normal matrix: as many equations as models, and the sum
    errors = table - (truth * root)[:, None]
    gram = errors.T @ errors
    factor = np.linalg.cholesky(gram + 1e-10 * np.trace(gram) * np.eye(len(gram)))
    firm = FIRM * np.abs(factor).max()
    system = np.vstack([factor.T, np.full((1, len(gram)), firm)])
    found, _ = nnls(system, np.concatenate([np.zeros(len(gram)), [firm]]))
    return dict(zip(predicted, (found / found.sum()).tolist(), strict=True))


def blend(predicted: Mapping[str, Array], share: Mapping[str, float]) -> Array:
    """Sum of the predictions with their shares."""
    return np.sum([share[name] * predicted[name] for name in share], axis=0)


def blend_unseen(
    predicted: Mapping[str, Array], truth: Array, weight: Array, fold: NDArray[np.int64]
) -> Array:
    """Blend of held-out predictions in which each fold's shares come from the other folds."""
    found = np.empty(len(truth))
    for i in np.unique(fold):
        other, own = fold != i, fold == i
        share = shares({n: p[other] for n, p in predicted.items()}, truth[other], weight[other])
        found[own] = blend({n: p[own] for n, p in predicted.items()}, share)
    return found
