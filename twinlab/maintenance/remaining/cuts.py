"""Where histories end: cuts of training units that look like the cuts that the model will meet."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from twinlab.maintenance.remaining.histories import WHERE, Array, Histories
from twinlab.schema import refuse

SHORTEST = 20


def cut_weights(units: Histories, lengths: ArrayLike | None = None, *, smoothing: float = 8.0) -> Array:
    r"""Weight of each row as the place of a cut; each unit's rows sum to one.

    A unit of life ``T`` is cut at length ``L < T``. Of all joint distributions of ``(T, L)`` the one of most
    entropy is taken whose margins are those seen: each training life counts once, and lengths are distributed
    as ``lengths`` (smoothed). It is found by iterative proportional fitting [1]_. Lengths are inputs; the
    remaining lives of the units that were cut play no part.

    Parameters
    ----------
    units : Histories
        Run to failure.
    lengths : array_like of int, optional
        Rows of the histories that the model will meet (the test units). Without them a cut is equally likely
        anywhere from row 20 to the last but one.
    smoothing : float
        Standard deviation in rows of the kernel that smooths the lengths.

    Returns
    -------
    ndarray, shape (row,)

    References
    ----------
    .. [1] W. E. Deming, F. F. Stephan, "On a least squares adjustment of a sampled frequency table when the
       expected marginal totals are known", Ann. Math. Statist. 11 (1940) 427.
    """
    life = units.lengths
    if (life < 3).any():
        refuse(WHERE, "training units of 3 rows or more", f"{life.min()} rows")
    span = int(life.max())
    place = np.arange(1, span + 1)
    open_ = place[None, :] < life[:, None]
    if lengths is None:
        table = (open_ & (place >= np.minimum(SHORTEST, life[:, None] - 1))).astype(float)
        table /= table.sum(axis=1, keepdims=True)
        return _rows(table, life)
    margin = _margin(np.asarray(lengths, int), span, smoothing)
    # a unit shorter than all cuts still needs a place: the last but one
    table = open_ * np.maximum(margin, 1e-12 * (place < span))
    for _ in range(200):
        table *= (len(life) ** -1.0) / table.sum(axis=1, keepdims=True)
        column = table.sum(axis=0)
        table *= np.divide(margin, column, out=np.ones(span), where=column > 0)
    table /= table.sum(axis=1, keepdims=True)
    return _rows(table, life)


def _margin(lengths: NDArray[np.int64], span: int, smoothing: float) -> Array:
    if lengths.ndim != 1 or not lengths.size or (lengths < 1).any():
        refuse(WHERE, "lengths of histories, 1 row or more", lengths)
    lengths = lengths[lengths < span] if (lengths < span).any() else np.array([span - 1])
    place = np.arange(1, span + 1)
    margin = np.exp(-0.5 * ((place[:, None] - lengths) / max(smoothing, 0.5)) ** 2).sum(axis=1)
    margin[place < lengths.min()] = 0.0  # nothing is asked of shorter histories
    margin[span - 1] = 0.0
    return margin / margin.sum()


def _rows(table: Array, life: NDArray[np.int64]) -> Array:
    return np.concatenate([table[i, :n] for i, n in enumerate(life)])


def draw_cuts(units: Histories, weight: ArrayLike, *, seed: int) -> NDArray[np.int64]:
    """One length a unit, drawn with the weights of :func:`cut_weights`; shape (unit,)."""
    rng = np.random.default_rng(seed)
    pieces = units.pieces(np.asarray(weight, float))
    return np.array([rng.choice(len(p), p=p / p.sum()) + 1 for p in pieces])


def unit_folds(count: int, folds: int = 5, *, seed: int = 0) -> NDArray[np.int64]:
    """Fold of each unit, so that no unit is both learned from and judged; shape (unit,).

    Raises
    ------
    InputError
        Fewer units than folds, or fewer than two folds.
    """
    if folds < 2 or count < folds:
        refuse(WHERE, "2 folds or more, and a unit in each", f"{folds} folds, {count} units")
    fold = np.empty(count, np.int64)
    fold[np.random.default_rng(seed).permutation(count)] = np.arange(count) % folds
    return fold
