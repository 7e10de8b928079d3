"""Penalties on differences between neighbouring voxels: what is known of an image before the scan.

Each voxel has a strength; a pair takes the geometric mean of its two. Arrays may live in any namespace.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from twinlab.kernels.device import namespace
from twinlab.schema import refuse

Array = Any
SMOOTH = ("quadratic", "huber", "fair", "hyperbola")
NAMES = (*SMOOTH, "tv", "none")
_TV_STEPS = 10  # dual steps per outer iteration; they go on from the last dual variable
# half of the neighbours: those behind in scan order (z, y, x); in-plane diagonals keep round things round
_OFFSETS = ((0, 0, 1), (0, 1, -1), (0, 1, 0), (0, 1, 1), (1, 0, 0))


@dataclass(frozen=True)
class Prior:
    """A penalty as the solvers need it.

    Attributes
    ----------
    value : callable (image) -> float
    gradient : callable (image) -> array
        Of the smooth part; zero for a penalty that is dealt with by ``prox``.
    curvature : array
        Diagonal that majorises the second derivative of the smooth part.
    prox : callable (image, weight, nonnegative) -> array
        ``argmin_x sum(weight (x - image)^2) / 2 + non-smooth part``, x at least 0 where asked.
    """

    value: Callable[[Array], float]
    gradient: Callable[[Array], Array]
    curvature: Array
    prox: Callable[[Array, Array, bool], Array]


def make(name: str, strength: Array, *, delta: float, spacing_mm: tuple[float, float, float]) -> Prior:
    """Penalty ``sum_jk w_jk sqrt(s_j s_k) psi(x_j - x_k)`` over pairs of neighbours.

    ``w`` is the in-plane voxel size over the distance. ``psi(t)`` is t^2 / 2 ("quadratic"), and for the edge-
    preserving ones the same near 0 and ``delta |t|`` beyond ``delta``: "huber", "fair", "hyperbola". "tv" is
    the total variation ``8/pi delta sum_j s_j |grad x|_j``, to which the edge-preserving ones tend for a small
    ``delta`` and in the mean over directions in the plane. "none": no penalty.

    Parameters
    ----------
    name : str
    strength : array (z, y, x)
    delta : float
        Of the units of the image.
    spacing_mm : tuple (z, y, x)

    Raises
    ------
    InputError
        Unknown name, or a delta that is not positive.

    References
    ----------
    Fessler, Rogers, IEEE Trans Image Process 5 (1996) 1346 (strengths that make resolution uniform). Rudin,
    Osher, Fatemi, Physica D 60 (1992) 259.
    """
    if name not in NAMES:
        refuse("iterative: prior", " or ".join(NAMES), repr(name))
    if not delta > 0:
        refuse("iterative: delta_hu", "a number above 0", delta)
    if name == "none":
        return Prior(lambda _: 0.0, lambda image: 0.0 * image, 0.0 * strength, _clip)
    if name == "tv":
        return _total_variation(strength * (delta * 8.0 / math.pi), spacing_mm)
    return _pairwise(name, strength, delta, spacing_mm)


def _clip(image: Array, weight: Array, nonnegative: bool) -> Array:
    return namespace(image).clip(image, min=0.0) if nonnegative else image


def _parts(offset: tuple[int, int, int]) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Slices of the two ends of all pairs with an offset."""
    here = tuple(slice(max(-o, 0), None if o <= 0 else -o) for o in offset)
    there = tuple(slice(max(o, 0), None if o >= 0 else o) for o in offset)
    return here, there


def _potential(name: str, delta: float) -> tuple[Callable[[Array], Array], Callable[[Array], Array]]:
    """psi and its derivative."""

    def value(t: Array) -> Array:
        xp = namespace(t)
        a = xp.abs(t)
        if name == "quadratic":
            return 0.5 * t * t
        if name == "huber":
            return xp.where(a <= delta, 0.5 * t * t, delta * a - 0.5 * delta**2)
        if name == "fair":
            return delta**2 * (a / delta - xp.log(1.0 + a / delta))
        return delta**2 * (xp.sqrt(1.0 + (t / delta) ** 2) - 1.0)

    def slope(t: Array) -> Array:
        xp = namespace(t)
        if name == "quadratic":
            return t
        if name == "huber":
            return xp.clip(t, min=-delta, max=delta)
        if name == "fair":
            return t / (1.0 + xp.abs(t) / delta)
        return t / xp.sqrt(1.0 + (t / delta) ** 2)

    return value, slope


def _pairwise(name: str, strength: Array, delta: float, spacing_mm: tuple[float, float, float]) -> Prior:
    xp = namespace(strength)
    root = xp.sqrt(strength)
    psi, slope = _potential(name, delta)

    def pairs() -> Iterator[tuple[Any, Any, Array]]:
        for offset in _OFFSETS:
            if any(abs(o) >= n for o, n in zip(offset, strength.shape, strict=True)):
                continue
            distance = math.hypot(*(o * s for o, s in zip(offset, spacing_mm, strict=True)))
            here, there = _parts(offset)
            yield here, there, (spacing_mm[2] / distance) * root[here] * root[there]

    def value(image: Array) -> float:
        total = 0.0
        for here, there, weight in pairs():
            total += float(xp.sum(weight * psi(image[there] - image[here]), dtype=xp.float64))
        return total

    def gradient(image: Array) -> Array:
        out = xp.zeros_like(image)
        for here, there, weight in pairs():
            pull = weight * slope(image[there] - image[here])
            out[there] = out[there] + pull
            out[here] = out[here] - pull
        return out

    curvature = xp.zeros_like(strength)
    for here, there, weight in pairs():
        curvature[there] = curvature[there] + 2.0 * weight
        curvature[here] = curvature[here] + 2.0 * weight
    return Prior(value, gradient, curvature, _clip)


def _total_variation(bound: Array, spacing_mm: tuple[float, float, float]) -> Prior:
    """Isotropic total variation, its proximal map by dual projected gradients with momentum.

    References
    ----------
    Beck, Teboulle, IEEE Trans Image Process 18 (2009) 2419 (algorithm FGP); Pock, Chambolle, ICCV 2011, lemma 2
    (the diagonal step lengths).
    """
    xp = namespace(bound)
    axes = [a for a in range(3) if bound.shape[a] > 1]
    scale = {a: spacing_mm[2] / spacing_mm[a] for a in axes}
    last = {a: tuple(slice(-1, None) if i == a else slice(None) for i in range(3)) for a in axes}
    ends = {a: _parts(tuple(int(i == a) for i in range(3))) for a in axes}  # type: ignore[arg-type]

    def differences(image: Array) -> list[Array]:
        found = []
        for a in axes:
            here, there = ends[a]
            step = xp.zeros_like(image)
            step[here] = scale[a] * (image[there] - image[here])
            found.append(step)
        return found

    def transpose(dual: list[Array], sign: float = -1.0) -> Array:
        out = xp.zeros_like(bound)
        for a, p in zip(axes, dual, strict=True):
            here, there = ends[a]
            out[there] = out[there] + scale[a] * p[here]
            out[here] = out[here] + sign * scale[a] * p[here]
        return out

    def magnitude(parts: list[Array]) -> Array:
        return xp.sqrt(sum((p * p for p in parts[1:]), parts[0] * parts[0]))

    def value(image: Array) -> float:
        return float(xp.sum(bound * magnitude(differences(image)), dtype=xp.float64))

    ones = [xp.ones_like(bound) for _ in axes]
    for a, p in zip(axes, ones, strict=True):
        p[last[a]] = 0.0 * p[last[a]]
    degree = transpose(ones, 1.0)
    kept: list[list[Array]] = []

    def prox(image: Array, weight: Array, nonnegative: bool) -> Array:
        # row sums of |G| W^-1 |G|': dual steps no longer than their inverses converge
        spread = degree / weight
        row_sum = xp.zeros_like(bound)
        for a in axes:
            here, there = ends[a]
            own = xp.zeros_like(bound)
            own[here] = scale[a] * (spread[here] + spread[there])
            row_sum = xp.maximum(row_sum, own)
        step = 1.0 / xp.where(row_sum > 0, row_sum, xp.ones_like(row_sum))
        dual = kept[0] if kept else [xp.zeros_like(bound) for _ in axes]
        ahead, t = dual, 1.0

        def primal(p: list[Array]) -> Array:
            return _clip(image - transpose(p) / weight, weight, nonnegative)

        for _ in itertools.repeat(None, _TV_STEPS):
            moved = [p + step * d for p, d in zip(ahead, differences(primal(ahead)), strict=True)]
            shrink = bound / xp.maximum(magnitude(moved), xp.maximum(bound, 1e-30 + 0.0 * bound))
            moved = [p * shrink for p in moved]
            t_next = 0.5 * (1.0 + math.sqrt(1.0 + 4.0 * t * t))
            factor = (t - 1.0) / t_next
            ahead = [m + factor * (m - p) for m, p in zip(moved, dual, strict=True)]
            dual, t = moved, t_next
        kept[:] = [dual]
        return primal(dual)

    return Prior(value, lambda image: 0.0 * image, 0.0 * bound, prox)
