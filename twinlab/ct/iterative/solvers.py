"""Methods as generators: each ``next`` is one iteration and gives the image and its cost.

They know a scan only as two callables, ``forward(image, views)`` and ``adjoint(projections, views)`` with
``views`` a slice of the first axis of the projections, and work in the namespace of their arrays.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from twinlab.ct.iterative.priors import Prior
from twinlab.kernels.device import namespace

Array = Any
ALL = slice(None)
_LEAST = 1e-6  # of the largest sum: voxels and rays with less are left alone


class Step(NamedTuple):
    """State after an iteration."""

    image: Array
    cost: float


def half_square(values: Array, weight: Array) -> float:
    """``sum(weight * values**2) / 2`` in double precision."""
    xp = namespace(values)
    return 0.5 * float(xp.sum(weight * values * values, dtype=xp.float64))


def _inverse(values: Array) -> Array:
    """Reciprocals; 0 where a value is next to nothing."""
    xp = namespace(values)
    least = _LEAST * float(xp.max(values))
    seen = values > least
    return xp.where(seen, 1.0 / xp.where(seen, values, xp.ones_like(values)), xp.zeros_like(values))


def subset_order(n: int) -> list[int]:
    """Order of the subsets in which successive ones lie far apart: bit reversal, cut to ``n``.

    References
    ----------
    Guan, Gordon, Phys Med Biol 39 (1994) 2005 (multilevel access).

    Examples
    --------
    >>> subset_order(6)
    [0, 4, 2, 1, 5, 3]
    """
    bits = max(1, math.ceil(math.log2(n))) if n > 1 else 1
    reverse = [int(f"{i:0{bits}b}"[::-1], 2) for i in range(1 << bits)]
    return [i for i in reverse if i < n]


def sart(
    forward: Callable[..., Array],
    adjoint: Callable[..., Array],
    data: Array,
    weight: Array,
    image: Array,
    *,
    subsets: int = 1,
    relaxation: float = 1.0,
    nonnegative: bool = True,
    row_sums: Array | None = None,
) -> Iterator[Step]:
    """SIRT (one subset) and ordered-subset SART: ``x += relaxation C A' R (y - A x)``.

    ``R`` and ``C`` are the inverse row and column sums of the subset. The cost is ``|y - A x|_R^2 / 2``: with
    one subset and a relaxation below 2 it never grows. With more, it is summed over the subsets as they come.

    Parameters
    ----------
    data, weight : array (view, ...)
        ``weight`` 0 takes a ray out.
    row_sums : array (view, ...), optional
        ``A 1``, when it is known.

    References
    ----------
    Gilbert, J Theor Biol 36 (1972) 105. Andersen, Kak, Ultrason Imaging 6 (1984) 81. Wang, Jiang, J X-Ray
    Sci Technol 12 (2004) 169.
    """
    xp = namespace(data, image)
    if row_sums is None:
        row_sums = forward(xp.ones_like(image), ALL)
    ray = _inverse(row_sums) * xp.where(weight > 0, xp.ones_like(weight), xp.zeros_like(weight))
    seen = xp.where(weight > 0, xp.ones_like(weight), xp.zeros_like(weight))
    parts = [slice(m, None, subsets) for m in subset_order(subsets)]
    column = [_inverse(adjoint(seen[part, ...], part)) for part in parts]
    while True:
        cost = 0.0
        for part, inverse in zip(parts, column, strict=True):
            residual = data[part, ...] - forward(image, part)
            cost += half_square(residual, ray[part, ...])
            image = image + relaxation * inverse * adjoint(ray[part, ...] * residual, part)
            if nonnegative:
                image = xp.clip(image, min=0.0)
        if subsets == 1:
            cost = half_square(data - forward(image, ALL), ray)
        yield Step(image, cost)


def cgls(
    forward: Callable[..., Array], adjoint: Callable[..., Array], data: Array, weight: Array, image: Array
) -> Iterator[Step]:
    """Conjugate gradients for least squares, cost ``|y - A x|_W^2 / 2``, which never grows.

    References
    ----------
    Hestenes, Stiefel, J Res Natl Bur Stand 49 (1952) 409; Bjorck, Numerical Methods for Least Squares Problems
    (1996), algorithm 7.4.1.
    """
    xp = namespace(data, image)
    residual = data - forward(image, ALL)
    gradient = adjoint(weight * residual, ALL)
    way = gradient
    power = float(xp.sum(gradient * gradient, dtype=xp.float64))
    while True:
        if power > 0:
            along = forward(way, ALL)
            step = power / (2.0 * half_square(along, weight))
            image = image + step * way
            residual = residual - step * along
            gradient = adjoint(weight * residual, ALL)
            new = float(xp.sum(gradient * gradient, dtype=xp.float64))
            way = gradient + (new / power) * way
            power = new
        yield Step(image, half_square(residual, weight))


def pwls(
    forward: Callable[..., Array],
    adjoint: Callable[..., Array],
    data: Array,
    weight: Array,
    image: Array,
    *,
    prior: Prior,
    subsets: int = 1,
    nonnegative: bool = True,
    row_sums: Array | None = None,
) -> Iterator[Step]:
    """Penalised weighted least squares by separable quadratic surrogates with Nesterov's momentum.

    Cost ``|y - A x|_W^2 / 2 + penalty``. With one subset it is exact (``A x`` is carried along) and never
    grows: a step that would raise it is taken back and the momentum starts anew. With more subsets the data
    term is summed over the subsets as they come, and there is no such guarantee.

    References
    ----------
    Erdogan, Fessler, Phys Med Biol 44 (1999) 2835 (ordered subsets, surrogates). Beck, Teboulle, SIAM J
    Imaging Sci 2 (2009) 183 (proximal momentum). Kim, Ramani, Fessler, IEEE Trans Med Imaging 34 (2015) 167
    (ordered subsets with momentum). O'Donoghue, Candes, Found Comput Math 15 (2015) 715 (restart).
    """
    if row_sums is None:
        row_sums = forward(namespace(data, image).ones_like(image), ALL)
    curvature = adjoint(weight * row_sums, ALL) + prior.curvature
    inverse = _inverse(curvature)
    xp = namespace(image)
    # voxels that nothing sees keep their value; the proximal step wants a weight above 0 there as well
    metric = xp.where(inverse > 0, curvature, xp.full_like(curvature, float(xp.max(curvature))))
    problem = (forward, adjoint, data, weight, image, prior, inverse, metric, nonnegative)
    return _monotone(*problem) if subsets == 1 else _ordered(*problem, subsets)


def _monotone(
    forward: Callable[..., Array], adjoint: Callable[..., Array], data: Array, weight: Array, image: Array,
    prior: Prior, inverse: Array, metric: Array, nonnegative: bool,
) -> Iterator[Step]:  # fmt: skip
    shadow = forward(image, ALL)
    cost = half_square(data - shadow, weight) + prior.value(image)
    ahead, ahead_shadow, t = image, shadow, 1.0
    while True:
        slope = adjoint(weight * (ahead_shadow - data), ALL) + prior.gradient(ahead)
        new = prior.prox(ahead - inverse * slope, metric, nonnegative)
        new_shadow = forward(new, ALL)
        new_cost = half_square(data - new_shadow, weight) + prior.value(new)
        if new_cost > cost:
            ahead, ahead_shadow, t = image, shadow, 1.0
            yield Step(image, cost)
            continue
        t_next = 0.5 * (1.0 + math.sqrt(1.0 + 4.0 * t * t))
        factor = (t - 1.0) / t_next
        ahead = new + factor * (new - image)
        ahead_shadow = new_shadow + factor * (new_shadow - shadow)
        image, shadow, cost, t = new, new_shadow, new_cost, t_next
        yield Step(image, cost)


def _ordered(
    forward: Callable[..., Array], adjoint: Callable[..., Array], data: Array, weight: Array, image: Array,
    prior: Prior, inverse: Array, metric: Array, nonnegative: bool, subsets: int,
) -> Iterator[Step]:  # fmt: skip
    parts = [slice(m, None, subsets) for m in subset_order(subsets)]
    ahead, t = image, 1.0
    while True:
        cost = 0.0
        for part in parts:
            residual = forward(ahead, part) - data[part, ...]
            cost += half_square(residual, weight[part, ...])
            slope = subsets * adjoint(weight[part, ...] * residual, part) + prior.gradient(ahead)
            new = prior.prox(ahead - inverse * slope, metric, nonnegative)
            t_next = 0.5 * (1.0 + math.sqrt(1.0 + 4.0 * t * t))
            ahead = new + ((t - 1.0) / t_next) * (new - image)
            image, t = new, t_next
        yield Step(image, cost + prior.value(image))
