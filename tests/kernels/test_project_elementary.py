"""Vectorised elementary functions and noisy readings against numpy and theory."""

import numba
import numpy as np
import pytest

from twinlab.kernels.elementary import cosine_of_turns, exp32, log32
from twinlab.kernels.readings import FEW_QUANTA, correct_row, draw_readings, take_logarithm
from twinlab.kernels.spectral import polychromatic


@numba.njit
def mapped(function, values):
    out = np.empty_like(values)
    for i in range(values.size):
        out[i] = function(values[i])
    return out


def test_exponential():
    x = np.linspace(-85.0, 87.0, 200_001).astype(np.float32)
    assert (
        np.abs(mapped(exp32, x) / np.exp(x.astype(float)) - 1).max() < 3e-7
    )  # as documented: float32 rounding
    assert mapped(exp32, np.float32([-1e4]))[0] < 1e-37


def test_logarithm():
    x = np.concatenate([np.geomspace(1e-37, 1e37, 200_001), np.linspace(0.5, 2.0, 100_000)]).astype(
        np.float32
    )
    true = np.log(x.astype(float))
    # relative, except that next to 1 the argument's own rounding is all there is
    assert (np.abs(mapped(log32, x) - true) / np.maximum(np.abs(true), 1e-7)).max() < 3e-7


def test_cosine():
    x = np.linspace(0.0, 1.0, 100_001).astype(np.float32)
    assert np.abs(mapped(cosine_of_turns, x) - np.cos(2 * np.pi * x.astype(float))).max() < 1e-6


def read(mean_quanta, energy, electronic, *, n=200_000, mas=2.0, seed=(3, 4), realisation=0):
    """Linear readings: projection of a unit polynomial taken back to signal."""
    shape = (n // 500, 5, 100)
    signal = np.full(shape, mean_quanta * energy / mas, np.float32)
    second = np.full(shape, mean_quanta * energy**2 / mas, np.float32)
    air = np.full(shape[1:], 1e5, np.float32)
    polynomial, raw_max = np.zeros((1, 2, 100), np.float32), np.full((1, 100), 30.0, np.float32)
    polynomial[0, 0] = 1.0
    rows = np.zeros(shape[0], np.int64), np.full(shape[0], shape[1])
    projection, variance = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    exposure, noise = np.full(shape[0], mas, np.float32), np.float32(electronic)
    keys = np.uint64(realisation), np.uint64(seed[0]), np.uint64(seed[1])
    draw_readings(signal, second, exposure, noise, True, 0, *keys, *rows, projection)
    take_logarithm(
        signal, second, air, exposure, noise, polynomial, raw_max, *rows, projection, projection, variance
    )
    return mas * 1e5 * np.exp(-projection.astype(float)), variance


@pytest.mark.parametrize("quanta", [3.0, 20.0, 49.0, 51.0, 1000.0])
def test_quantum_noise_has_poisson_mean_and_variance(quanta):
    value, _ = read(quanta, 60.0, 0.0)
    n = value.size
    # The floor at a tenth of a quantum lifts the empty readings: 0.1 * P(0), 0.005 quanta at a mean of 3
    mean = quanta + 0.1 * np.exp(-quanta)
    assert value.mean() / 60.0 == pytest.approx(mean, abs=4 * np.sqrt(quanta / n))  # 4 sigma
    assert value.var() / 3600.0 == pytest.approx(
        quanta, rel=4 * np.sqrt((2 + 1 / quanta) / n) + 0.015 * (quanta < 5)
    )


def test_third_moment_is_poisson_below_few_quanta():
    value, _ = read(9.0, 60.0, 0.0)
    quanta = value / 60.0
    skew = ((quanta - quanta.mean()) ** 3).mean() / quanta.std() ** 3
    assert skew == pytest.approx(1 / 3, abs=0.03)  # 1/sqrt(9); 4 sigma of 200,000 samples is 0.024
    assert FEW_QUANTA > 9


def test_electronic_noise_adds_in_variance():
    value, variance = read(400.0, 60.0, 900.0)
    n = value.size
    expected = 400.0 * 3600.0 + 900.0**2
    assert value.var() == pytest.approx(expected, rel=4 * np.sqrt(2 / n))
    assert variance.mean() == pytest.approx(expected / (400.0 * 60.0) ** 2, rel=1e-5)
    value, _ = read(20.0, 60.0, 300.0)
    clipped = value[value > 31]  # the floor is 30 keV: 2 % of these readings lie below
    assert clipped.size / value.size == pytest.approx(0.995, abs=0.006)


def test_normals_are_normal():
    value, _ = read(4000.0, 60.0, 0.0)
    z = (value / 60.0 - 4000.0) / np.sqrt(4000.0)
    n = z.size
    assert ((z**3).mean(), (z**4).mean()) == pytest.approx((0.0, 3.0), abs=4 * np.sqrt(96 / n))
    lagged = (z.ravel()[1:] * z.ravel()[:-1]).mean()
    assert abs(lagged) < 4 / np.sqrt(n)


def test_streams_are_named_by_seed_and_realisation():
    first, _ = read(1000.0, 60.0, 10.0, n=10_000)
    assert np.array_equal(read(1000.0, 60.0, 10.0, n=10_000)[0], first)
    for other in (
        read(1000.0, 60.0, 10.0, n=10_000, realisation=1)[0],
        read(1000.0, 60.0, 10.0, n=10_000, seed=(3, 5))[0],
        read(1000.0, 60.0, 10.0, n=10_000, seed=(9, 4))[0],
    ):
        assert abs(np.corrcoef(first.ravel(), other.ravel())[0, 1]) < 0.04  # 4 sigma


def test_correction_is_its_polynomial_and_straight_beyond():
    polynomial = np.array([[1.0], [0.3], [0.05]], np.float32).repeat(6, axis=1)
    raw = np.array([-0.2, 0.0, 1.0, 5.0, 10.0, 13.0], np.float32)
    x, value, slope = (np.empty(6, np.float32) for _ in range(3))
    correct_row(raw, polynomial, np.full(6, 10.0, np.float32), x, value, slope)

    def cubic(r):
        return r * (1 + 0.3 * (r / 10) + 0.05 * (r / 10) ** 2)

    def gradient(r):
        return 1 + 0.6 * (r / 10) + 0.15 * (r / 10) ** 2

    inside = np.minimum(raw, 10.0)
    assert slope == pytest.approx(gradient(inside), rel=1e-6)
    assert value == pytest.approx(cubic(inside) + gradient(inside) * (raw - inside), rel=1e-6, abs=1e-7)


@pytest.mark.parametrize("n_basis", [1, 4, 6])
def test_polychromatic_sum(n_basis):
    rng = np.random.default_rng(0)
    path = (rng.random((n_basis, 3, 4, 17)) * 5).astype(np.float32)
    mu = np.zeros((5, max(n_basis, 4)), np.float32)
    mu[:, :n_basis] = rng.random((5, n_basis)) * 0.2
    weight, weight2 = rng.random((2, 1, 5, 17)).astype(np.float32)
    gain = rng.random((4, 17)).astype(np.float32)
    lo, hi = np.array([0, 1, 2]), np.array([4, 3, 2])
    signal, second = np.empty((2, 3, 4, 17), np.float32)
    polychromatic(path, mu, weight, weight2, gain, lo, hi, signal, second)
    row = np.arange(4)
    seen = ((row >= lo[:, None]) & (row < hi[:, None]))[..., None]
    exponent = np.einsum("kvrc,qk->qvrc", path.astype(float), mu[:, :n_basis]) * seen
    for found, w in ((signal, weight), (second, weight2)):
        assert found == pytest.approx(gain * np.einsum("qvrc,qc->vrc", np.exp(-exponent), w[0]), rel=2e-6)
