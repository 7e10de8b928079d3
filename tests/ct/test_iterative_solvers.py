"""The iterative methods on systems small enough to solve by other means: lsqr, linear algebra, L-BFGS."""

import itertools

import array_api_strict
import numpy as np
import pytest
import scipy.optimize
import scipy.sparse.linalg

from twinlab.ct.iterative import priors, solvers

SHAPE = (2, 4, 5)
SPACING = (2.0, 1.0, 1.0)
N = 40


class Dense:
    """A matrix as the solvers see a scan: 24 views of 5 rays."""

    def __init__(self, xp=np, dtype="float64", seed=3):
        rng = np.random.default_rng(seed)
        matrix = rng.random((24, 5, N)) * (rng.random((24, 5, N)) < 0.3)
        truth = 0.2 + rng.random(SHAPE)
        truth[0, :2] = 0.0
        weight = 0.5 + rng.random((24, 5)) * 2
        data = matrix @ truth.ravel() + rng.standard_normal((24, 5)) / np.sqrt(weight) * 0.3
        self.xp, self.matrix, self.full = xp, matrix, matrix.reshape(-1, N)
        kind = getattr(xp, dtype)
        self.own = xp.asarray(matrix, dtype=kind)
        self.data, self.weight = xp.asarray(data, dtype=kind), xp.asarray(weight, dtype=kind)
        self.start = xp.zeros(SHAPE, dtype=kind)
        self.rows = np.asarray(data).ravel(), np.asarray(weight).ravel()

    def forward(self, image, views):
        return self.own[views, ...] @ self.xp.reshape(image, (N,))

    def adjoint(self, data, views):
        part = self.own[views, ...]
        part = self.xp.reshape(part, (-1, N))
        return self.xp.reshape(self.xp.matrix_transpose(part) @ self.xp.reshape(data, (-1,)), SHAPE)

    @property
    def problem(self):
        return self.forward, self.adjoint, self.data, self.weight, self.start


def run(steps, n):
    images = list(itertools.islice(steps, n))
    return np.asarray(images[-1].image), np.array([step.cost for step in images])


def falls(cost):
    """Never grows, but for the last bits of a converged sum."""
    return bool(np.all(np.diff(cost) <= 1e-12 * cost[0]))


def prior_of(name, xp=np, beta=1.5, delta=0.1, dtype="float64"):
    strength = 0.5 + np.random.default_rng(4).random(SHAPE)
    return priors.make(
        name, xp.asarray(beta * strength, dtype=getattr(xp, dtype)), delta=delta, spacing_mm=SPACING
    )


def cost_of(dense, prior, vector):
    data, weight = dense.rows
    return 0.5 * np.sum(weight * (dense.full @ vector - data) ** 2) + prior.value(vector.reshape(SHAPE))


def test_cgls_finds_the_solution_of_lsqr():
    dense = Dense()
    data, weight = dense.rows
    root = np.sqrt(weight)
    expected = scipy.sparse.linalg.lsqr(root[:, None] * dense.full, root * data, atol=1e-14, btol=1e-14)[0]
    found, cost = run(solvers.cgls(*dense.problem), 60)
    assert falls(cost)
    assert np.abs(found.ravel() - expected).max() < 1e-8  # both are iterative, in float64
    assert cost[-1] == pytest.approx(0.5 * np.sum(weight * (dense.full @ expected - data) ** 2), rel=1e-12)


def test_cgls_stands_still_at_the_solution():
    dense = Dense()
    dense.data = dense.forward(dense.start + 1.0, slice(None))
    dense.start = dense.start + 1.0
    found, cost = run(solvers.cgls(*dense.problem), 3)
    assert np.array_equal(found, np.ones(SHAPE))
    assert cost.max() == 0.0


def test_sirt_converges_to_least_squares_weighted_by_row_sums():
    dense = Dense()
    root = 1.0 / np.sqrt(dense.full.sum(axis=1))
    expected = np.linalg.lstsq(root[:, None] * dense.full, root * dense.rows[0], rcond=None)[0]
    found, cost = run(solvers.sart(*dense.problem, relaxation=1.9, nonnegative=False), 6000)
    assert falls(cost)
    assert np.abs(found.ravel() - expected).max() < 1e-6  # geometric convergence: 1.9 of its slowest mode


def test_sirt_above_zero_never_raises_its_cost():
    dense = Dense()
    found, cost = run(solvers.sart(*dense.problem), 200)
    assert found.min() >= 0.0
    assert falls(cost)


def test_ordered_subsets_are_faster_than_sirt():
    dense = Dense()
    row_sums = dense.full.sum(axis=1)

    def true_cost(image):
        return 0.5 * np.sum((dense.rows[0] - dense.full @ image.ravel()) ** 2 / row_sums)

    sirt, _ = run(solvers.sart(*dense.problem), 4)
    ordered, _ = run(solvers.sart(*dense.problem, subsets=4), 4)
    assert true_cost(ordered) < 0.8 * true_cost(sirt)


def test_pwls_with_a_quadratic_prior_has_a_closed_form():
    dense, prior = Dense(), prior_of("quadratic")
    data, weight = dense.rows
    hessian = np.stack([prior.gradient(unit.reshape(SHAPE)).ravel() for unit in np.eye(N)])
    normal = dense.full.T @ (weight[:, None] * dense.full) + hessian
    expected = np.linalg.solve(normal, dense.full.T @ (weight * data))
    found, cost = run(solvers.pwls(*dense.problem, prior=prior, nonnegative=False), 400)
    assert falls(cost)
    assert np.abs(found.ravel() - expected).max() < 1e-6


def test_pwls_above_zero_agrees_with_nonnegative_least_squares():
    dense, prior = Dense(), prior_of("none")
    data, weight = dense.rows
    root = np.sqrt(weight)
    expected, _ = scipy.optimize.nnls(root[:, None] * dense.full, root * data)
    found, cost = run(solvers.pwls(*dense.problem, prior=prior), 1500)
    assert falls(cost)
    assert (expected == 0).any()  # the bound is at work
    assert np.abs(found.ravel() - expected).max() < 1e-5


@pytest.mark.parametrize("name", ["huber", "fair", "hyperbola"])
def test_pwls_with_edge_preserving_priors_agrees_with_lbfgs(name):
    dense, prior = Dense(), prior_of(name)
    best = scipy.optimize.minimize(
        lambda v: cost_of(dense, prior, v), np.full(N, 0.5), method="L-BFGS-B", bounds=[(0, None)] * N,
        options={"ftol": 1e-15, "gtol": 1e-10, "maxfun": 10**6, "maxiter": 10**5},
    )  # fmt: skip
    found, cost = run(solvers.pwls(*dense.problem, prior=prior), 600)
    assert falls(cost)
    assert cost[-1] == pytest.approx(best.fun, rel=1e-9)
    assert np.abs(found.ravel() - best.x).max() < 1e-4  # where L-BFGS stops: its gradient is numerical


def test_pwls_with_ordered_subsets_comes_near_the_solution_sooner():
    dense, prior = Dense(), prior_of("huber")
    best = run(solvers.pwls(*dense.problem, prior=prior), 600)[1][-1]
    one = run(solvers.pwls(*dense.problem, prior=prior), 5)[0]
    four = run(solvers.pwls(*dense.problem, prior=prior, subsets=4), 5)[0]
    excess = [cost_of(dense, prior, image.ravel()) - best for image in (one, four)]
    assert 0 < excess[1] < 0.5 * excess[0]


def test_total_variation_of_a_step_has_a_closed_form():
    """Denoising 4 voxels of 0 and 6 of 1: both levels move towards each other by the bound over their number."""
    data = np.array([0.0] * 4 + [1.0] * 6).reshape(1, 1, 10)
    prior = priors.make("tv", np.full((1, 1, 10), 0.6 * np.pi / 8), delta=0.5, spacing_mm=(1.0, 1.0, 1.0))
    steps = solvers.pwls(
        lambda image, views: image, lambda values, views: values, data, np.ones_like(data), np.zeros_like(data),
        prior=prior,
    )  # fmt: skip
    found, cost = run(steps, 100)
    assert falls(cost)
    expected = np.array([0.3 / 4] * 4 + [1.0 - 0.3 / 6] * 6)
    assert np.abs(found.ravel() - expected).max() < 1e-6


def test_total_variation_ends_below_its_smooth_neighbours():
    """No image of a smooth prior of the same bound, nor a change of one voxel, has a lower cost."""
    dense, prior = Dense(), prior_of("tv", delta=0.15)
    found, cost = run(solvers.pwls(*dense.problem, prior=prior), 2000)
    assert falls(cost)
    assert cost_of(dense, prior, found.ravel()) == pytest.approx(cost[-1], rel=1e-12)
    smooth = scipy.optimize.minimize(
        lambda v: cost_of(dense, prior, np.maximum(v, 0.0)), found.ravel(), method="Powell",
        options={"maxiter": 3},
    )  # fmt: skip
    assert smooth.fun > cost[-1] - 1e-5 * cost[-1]


@pytest.mark.parametrize("name", priors.NAMES)
def test_gradients_and_curvatures_of_the_priors(name):
    prior, rng = prior_of(name), np.random.default_rng(0)
    image, way = rng.random(SHAPE), rng.standard_normal(SHAPE)
    if name != "tv":
        h = 1e-6
        numerical = (prior.value(image + h * way) - prior.value(image - h * way)) / (2 * h)
        assert np.sum(prior.gradient(image) * way) == pytest.approx(numerical, rel=1e-6, abs=1e-9)
        # the surrogate lies above the penalty
        above = np.sum(prior.gradient(image) * way) + 0.5 * np.sum(prior.curvature * way**2)
        assert prior.value(image + way) <= prior.value(image) + above + 1e-12
    assert prior.value(np.full(SHAPE, 3.0)) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("name", ["huber", "fair", "hyperbola", "tv"])
def test_other_array_namespaces_give_the_same(name):
    found = []
    for xp in (np, array_api_strict):
        dense = Dense(xp)
        found.append(run(solvers.pwls(*dense.problem, prior=prior_of(name, xp), subsets=2), 3)[0])
    assert np.abs(found[1] - found[0]).max() < 1e-12
    strict = Dense(array_api_strict)
    for steps, same in (
        (solvers.cgls(*strict.problem), solvers.cgls(*Dense().problem)),
        (solvers.sart(*strict.problem, subsets=2), solvers.sart(*Dense().problem, subsets=2)),
    ):
        assert np.abs(run(steps, 3)[0] - run(same, 3)[0]).max() < 1e-12


def test_subsets_are_all_taken_and_far_apart():
    for n in range(1, 20):
        assert sorted(solvers.subset_order(n)) == list(range(n))
    assert solvers.subset_order(8) == [0, 4, 2, 6, 1, 5, 3, 7]
