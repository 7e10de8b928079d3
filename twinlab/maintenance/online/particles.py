"""Particles of one tube: drawn from the prior, stepped by day, renewed under their history, asked for the future."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, log_ndtr, ndtri_exp

from twinlab.kernels import wear_days, wear_history
from twinlab.kernels import wear_filter as kernel
from twinlab.maintenance.online.day_table import Array
from twinlab.maintenance.online.model import TubeModel

LEAST_EFFECTIVE = 0.5  # share of particles below which they are renewed
MOVES, MOST_ROUNDS, WANTED_MOVES = 2, 5, 2.0  # in a round; rounds; accepted moves of a particle on average
WIDER = 1.15  # proposals over the particles' own spread, so that tails are reached
COLLAPSED, PARTS = 0.25, 8  # share of particles left by a day that is then told in parts
MOST_BLOCKS = 96  # of the history; then neighbours are joined, so that a block is short against a life


@dataclass
class History:
    """What sensors told, in blocks of days that grow longer with the tube's age.

    Attributes
    ----------
    blocks : float64 array (block, BLOCK)
    length : int
        Days of a full block.
    last : int
        Days in the last one.
    """

    blocks: Array = field(default_factory=lambda: np.zeros((0, wear_history.BLOCK)))
    length: int = 1
    last: int = 1

    def add(self, day: Array, stress: Array, noise: Array) -> None:
        """One day more."""
        if self.last >= self.length or not self.blocks.shape[0]:
            if self.blocks.shape[0] >= MOST_BLOCKS:
                self.blocks = self.blocks[0::2] + self.blocks[1::2]
                self.length *= 2
            self.blocks = np.concatenate([self.blocks, np.zeros((1, wear_history.BLOCK))])
            self.last = 0
        wear_history.add_to_block(self.blocks[-1], day, stress, noise)
        self.last += 1


@dataclass
class Cloud:
    """Weighted particles of one tube (columns of :mod:`twinlab.kernels.wear_filter`).

    Attributes
    ----------
    particles : float64 array (particle, PARTICLE)
    log_weights : float64 array (particle,)
        Normalised.
    variances : float64 array (2,)
        Of the offsets of current and vibration in every particle.
    stress : float64 array (STRESS,)
        Of the tube's life.
    history : History
    log_evidence : float
        Of all sensors so far.
    """

    particles: Array
    log_weights: Array
    variances: Array
    stress: Array
    history: History = field(default_factory=History)
    log_evidence: float = 0.0

    @property
    def weights(self) -> Array:
        """Sum 1."""
        return np.asarray(np.exp(self.log_weights))

    @property
    def effective(self) -> float:
        """Effective number of particles, ``1 / sum w^2``."""
        return float(1.0 / np.square(self.weights).sum())


def new_cloud(model: TubeModel, n: int, rng: np.random.Generator) -> Cloud:
    """Particles of a new tube, from the prior."""
    particles = np.zeros((n, kernel.PARTICLE))
    factors = model.mean + rng.standard_normal((n, kernel.STATICS)) @ model.root.T
    particles[:, : kernel.STATICS] = factors
    particles[:, kernel.CURRENT_OFFSET :] = model.conditional(factors)
    stress = np.zeros(kernel.STRESS)
    stress[kernel.POWER] = 1.0 + model.plan[wear_days.RATE_SLOPE]
    return Cloud(
        particles, np.full(n, -np.log(n)), model.constants[[kernel.OFFSET_0, kernel.OFFSET_1]], stress
    )


def strain(cloud: Cloud, day: Array, *, days: float = 1.0, missed: bool = False) -> None:
    """Add the stress of days like one to the tube's life."""
    first = kernel.MISSED if missed else kernel.SEEN
    cloud.stress[first : first + 3] += (
        days * day[[wear_days.THINNING, wear_days.BEARING, wear_days.ROUGHENING]]
    )


def step(cloud: Cloud, model: TubeModel, day: Array, rng: np.random.Generator) -> Array:
    """Advance by one day; what each particle expected of the sensors, float64 array (particle, 4).

    A day that would leave few particles (a new tube's first ones) is told in parts, each with a part of its weight,
    with moves between them.
    """
    noise = np.zeros(3)
    strain(cloud, day)
    kernel.sensor_noise(day, model.constants, noise)
    before = cloud.particles.copy(), cloud.log_weights.copy(), cloud.variances.copy(), cloud.log_evidence
    seen = _weigh(cloud, model, day, noise)
    if cloud.effective >= COLLAPSED * cloud.log_weights.size:
        cloud.history.add(day, cloud.stress, noise)
        return seen
    cloud.particles, cloud.log_weights, cloud.variances, cloud.log_evidence = before
    part, known = day.copy(), noise[noise > 0.0]
    part[[wear_days.ARCS, wear_days.WATCHED]] /= PARTS
    for _ in range(PARTS):
        _weigh(cloud, model, part, PARTS * noise)
        cloud.history.add(part, cloud.stress, PARTS * noise)
        renew_if_few(cloud, model, rng)
    # densities of the parts multiply to the day's but for their normalisation
    spread = 0.5 * (PARTS * np.log(2.0 * np.pi * PARTS * known) - np.log(2.0 * np.pi * known)).sum()
    arcs = PARTS * gammaln(part[wear_days.ARCS] + 1.0) - gammaln(day[wear_days.ARCS] + 1.0)
    cloud.log_evidence += float(spread + arcs + day[wear_days.ARCS] * np.log(PARTS))
    return seen


def _weigh(cloud: Cloud, model: TubeModel, day: Array, noise: Array) -> Array:
    seen = np.zeros((cloud.log_weights.size, 4))
    kernel.step(
        cloud.particles, cloud.log_weights, day, cloud.stress, noise, cloud.variances, model.constants, seen
    )
    highest = cloud.log_weights.max()
    total = highest + np.log(np.exp(cloud.log_weights - highest).sum())
    cloud.log_evidence += float(total)
    cloud.log_weights -= total
    return seen


def renew_if_few(cloud: Cloud, model: TubeModel, rng: np.random.Generator) -> None:
    """:func:`renew` when the effective number of particles is low."""
    if cloud.effective < LEAST_EFFECTIVE * cloud.log_weights.size:
        renew(cloud, model, rng)


def renew(cloud: Cloud, model: TubeModel, rng: np.random.Generator) -> float:
    """Resample, and move every particle under its whole history [1]_; accepted moves of a particle on average.

    A kernel on static parameters alone (Liu and West) lets factors that telemetry says little of collapse within a
    life; moves that leave the posterior as it is do not.

    References
    ----------
    .. [1] Gilks W R, Berzuini C (2001) Following a moving target. J. R. Stat. Soc. B 63:127; Chopin N (2002) A
       sequential particle filter method for static models. Biometrika 89:539.
    """
    n = cloud.log_weights.size
    chosen = np.zeros(n, np.int64)
    weights, factors = cloud.weights, cloud.particles[:, : kernel.STATICS]
    centre, root, inverse = _gaussian(factors, weights)
    kernel.systematic(weights, rng.uniform(), chosen)
    cloud.particles = cloud.particles[chosen]
    cloud.log_weights[:] = -np.log(n)
    moved = 0.0
    for _ in range(MOST_ROUNDS):
        moved += MOVES * wear_history.move(
            cloud.particles,
            cloud.history.blocks,
            cloud.stress,
            model.mean,
            model.precision,
            model.given,
            model.constants,
            centre,
            root,
            inverse,
            rng.standard_normal((n, MOVES, kernel.STATICS)),
            np.log(rng.uniform(size=(n, MOVES))),
        )
        if moved >= WANTED_MOVES:
            break
        centre, root, inverse = _gaussian(cloud.particles[:, : kernel.STATICS], cloud.weights)
    return float(moved)


def _gaussian(x: Array, weights: Array) -> tuple[Array, Array, Array]:
    """Mean, root of a somewhat wider covariance, and the root's inverse, of weighted rows."""
    centre = weights @ x
    centred = x - centre
    values, vectors = np.linalg.eigh((centred * weights[:, None]).T @ centred)
    sd = WIDER * np.sqrt(np.maximum(values, 0.0))
    sd[sd < 1e-7 * sd.max()] = 0.0  # directions in which nothing varies
    inverse = np.divide(1.0, sd, out=np.zeros_like(sd), where=sd > 0.0)
    return centre, np.ascontiguousarray(vectors * sd), np.ascontiguousarray((vectors * inverse).T)


@dataclass(frozen=True)
class Future:
    """Remaining life of each particle.

    Attributes
    ----------
    days : float64 array (particle,)
    causes : int64 array (particle,)
        Indices of ``twinlab.kernels.wear_filter.CAUSES``.
    worn : float64 array (particle, 3)
        Mass loss, bearing wear (1: seized), output at present.
    """

    days: Array
    causes: NDArray[np.int64]
    worn: Array


def future(cloud: Cloud, model: TubeModel, usual: Array, rng: np.random.Generator) -> Future:
    """Remaining life under a usual day, limits drawn beyond the present wear."""
    p, c = cloud.particles, model.constants
    n = p.shape[0]
    loss = np.maximum(-np.expm1(-2.0 * p[:, kernel.THINNED]), 1e-300)
    now = np.stack(
        [
            (np.log(loss) - c[kernel.LIMIT]) / c[kernel.LIMIT_SD],
            (np.log(np.maximum(p[:, kernel.TREND], 1e-300)) - p[:, kernel.LIMIT_MEAN]) / c[kernel.SEIZED_SD],
        ],
        axis=1,
    )
    u = np.stack(
        [(rng.permutation(n) + 0.5) / n for _ in range(3)], axis=1
    )  # even, so that quantiles hardly jitter
    z = beyond(now, u[:, :2])
    days, causes, worn = np.zeros(n), np.zeros(n, np.int64), np.zeros((n, 3))
    kernel.remaining(p, z, -np.log(u[:, 2]), usual, c, days, causes, worn)
    return Future(days, causes, worn)


def beyond(z: Array, u: Array) -> Array:
    """Standard normal numbers above ``z``: the one beyond which a share ``u`` of those above ``z`` lies."""
    return np.asarray(-ndtri_exp(np.log(np.maximum(u, 1e-300)) + log_ndtr(-z)))


def quantiles(values: Array, weights: Array, q: Array) -> Array:
    """Quantiles of weighted values, by the middle of each weight."""
    order = np.argsort(values, kind="stable")
    total = np.cumsum(weights[order]) - 0.5 * weights[order]
    return np.asarray(np.interp(q, total, values[order]))
