"""Photons in a counting sensor, Poisson numbers and pulses in time, against formulas and against each other."""

import numba
import numpy as np
import pytest
from pulse_events import count_pulses
from scipy import stats
from scipy.special import erf

from twinlab.ct.spectral.pile_up import piled_up, recorded_rate, summed_bins
from twinlab.ct.spectral.response import counting_response, simulated_response
from twinlab.ct.spectral.sensor import sensor_of
from twinlab.kernels import philox
from twinlab.kernels.counting import HEIGHT_STEP_KEV
from twinlab.kernels.counts import draw_counts
from twinlab.scanner.parts import Detector


def detector(*, pixel=0.3, cell=0.6, cloud=0.02, noise=3.0, thresholds=(20, 35, 65, 70), thickness=1.6):
    return Detector.make(
        {
            "shape": "arc",
            "n_channels": 2,
            "n_rows": 1,
            "channel_pitch_mm": cell,
            "row_pitch_mm": cell,
            "absorber_material": "cadmium_telluride",
            "absorber_thickness_mm": thickness,
            "counting": {
                "thresholds_kev": thresholds,
                "pixel_mm": pixel,
                "charge_cloud_mm": cloud,
                "energy_noise_kev": noise,
            },
        }
    )


@pytest.mark.parametrize(("energy", "pixel"), [(30.0, 0.3), (60.0, 0.225), (100.0, 0.3), (100.0, 0.5)])
def test_monte_carlo_and_integration_agree(energy, pixel):
    model = detector(pixel=pixel, cell=2 * pixel)
    found = simulated_response(model, energy, n_photons=400_000, seed=3)
    exact = counting_response(model, energy_kev=energy, points=32_768).isel(energy=0)
    # 4.5 sigma of the Monte Carlo; the integration itself is good for about 1 per mille of the largest bin
    slack = 1e-3 * float(exact["response"].max())
    off = np.abs(found["response"] - exact["response"]).to_numpy()
    assert (off < 4.5 * found["response_sd"].to_numpy() + slack).all(), (off, found["response_sd"].to_numpy())
    product, other = exact["response_product"].to_numpy(), found["response_product"].to_numpy()
    # products are rare counts (0, 1, 2 per photon): Poisson errors of their sums, doubled for pairs counted twice
    error = np.sqrt(2.0 * np.maximum(product, 1e-5) / 400_000)
    assert (np.abs(product - other) < 5 * error + 2 * slack).all()
    heights = np.stack([found["pulse_height"].to_numpy(), exact["pulse_height"].to_numpy()]) * HEIGHT_STEP_KEV
    counted = heights[:, 20:].reshape(2, -1)[:, : 2 * (heights.shape[1] // 2 - 20)].reshape(2, -1, 2).sum(2)
    many = counted[1] > 2e-4
    chi = (counted[0] - counted[1])[many] / np.sqrt(counted[1][many] / 400_000)
    assert (chi**2).mean() < 2.0, (chi**2).mean()  # 1 within statistics; the integration adds a little


def test_charge_sharing_alone_is_an_area():
    """Below both K edges and nearly without noise, a pixel counts where its share of the charge is enough."""
    model = detector(pixel=0.2, cell=0.2, cloud=0.03, noise=0.02, thresholds=(5, 12.5, 17.5))
    found = counting_response(model, energy_kev=25.0, points=65_536)["response"].to_numpy()[:, 0]
    x = (np.arange(2000) + 0.5) / 2000 * 0.8 - 0.4  # everywhere around a pixel from -0.1 to 0.1
    one = 0.5 * (erf((0.1 - x) / 0.03 / 2**0.5) - erf((-0.1 - x) / 0.03 / 2**0.5))
    share = 25.0 * np.outer(one, one)
    above = np.array([(share > t).mean() * 0.8**2 / 0.2**2 for t in (5, 12.5, 17.5)])
    sensor = sensor_of(model)
    stopped = -np.expm1(-sensor.mu[100] * sensor.thickness)
    incoherent = sensor.share[100, 0]
    expected = stopped * np.append(above[:-1] - above[1:], above[-1])
    assert found == pytest.approx(expected, abs=stopped * incoherent + 2e-3)


@pytest.mark.parametrize("line", [2, 3])
def test_escape_of_tellurium_fluorescence_from_a_thick_sensor(line):
    """Share of photons whose K photon leaves through the face: half of (1 - m/M ln(1 + M/m)) of those sent."""
    energy, sensor = 60.0, sensor_of(detector())
    sent, element, chance, mu_line = sensor.line[line]
    model = detector(
        pixel=40.0,
        cell=40.0,
        cloud=0.0,
        noise=0.05,
        thickness=6.0,
        thresholds=(energy - sent - 0.4, energy - sent + 0.4),
    )
    found = simulated_response(model, energy, n_photons=400_000, seed=8)["response"].to_numpy()[0]
    mu = sensor.mu[240]
    born = sensor.share[240, 1 + int(element)] * chance
    escaped = 0.5 * (1.0 - mu_line / mu * np.log(1.0 + mu / mu_line))
    assert found == pytest.approx(
        born * escaped, abs=4 * np.sqrt(found / 400_000) + 1e-4
    )  # edge of the pixel


def test_large_pixels_see_the_absorbed_energy_with_noise_only():
    model = detector(pixel=40.0, cell=40.0, cloud=0.0, noise=2.0, thickness=6.0, thresholds=(20, 59, 61))
    found = counting_response(model, energy_kev=60.0, points=8192).isel(energy=0)
    peak = found["response"].to_numpy()[1:].sum()
    sensor = sensor_of(model)
    full = peak / stats.norm.sf((59 - 60) / 2.0)
    # what is missing from the peak has escaped: fluorescence and scatter, some per cent at 60 keV
    assert 0.90 < full < -np.expm1(-sensor.mu[240] * 6.0)
    assert float(found["response_product"][1:].sum()) < 0.005  # no neighbours


@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="needs two threads (NUMBA_NUM_THREADS)")
def test_threads_do_not_matter():
    found, before = [], numba.get_num_threads()
    try:
        for n in (1, 2):
            numba.set_num_threads(n)
            one = simulated_response(detector(), 70.0, n_photons=20_000, seed=1)
            found.append(
                (
                    one["pulse_height"].to_numpy(),
                    counting_response(detector(), energy_kev=[70.0, 80.0], points=256),
                )
            )
    finally:
        numba.set_num_threads(before)
    assert np.array_equal(found[0][0], found[1][0])
    assert found[0][1].identical(found[1][1])


def drawn(means, products, *, seed, first_view=0, shared=(), n_channel=100):
    """Counts of rays (quantity, ray) in views of one row; ``shared`` lists (down, along, b, c, factor)."""
    shape = (-1, means.shape[1] // n_channel, 1, n_channel)
    counts = np.empty(means.shape, np.float32)
    views = shape[1]
    places = np.array([row[:4] for row in shared], np.int64).reshape(-1, 4)
    draw_counts(
        means.reshape(len(means), *shape[1:]), products.reshape(len(products), *shape[1:]), places,
        np.array([row[4] for row in shared], float), first_view, np.uint64(2), *philox.key(seed),
        np.zeros(views, np.int64), np.ones(views, np.int64), counts.reshape(len(means), *shape[1:]),
    )  # fmt: skip
    return counts


def test_neighbours_share_photons():
    """Two bins of neighbouring channels vary together by what is asked, and each as before."""
    n, mean = 100_000, np.array([40.0, 15.0])
    means = np.float32(np.repeat(mean[:, None], n, 1))
    pairs = np.float32(np.repeat([[44.0], [2.0], [15.0]], n, 1))
    root = np.sqrt(40.0 * 15.0)
    shared = [(0, 1, 0, 0, 3.0 / 40.0), (0, 1, 0, 1, 1.0 / root), (0, 1, 1, 0, 1.0 / root)]
    counts = drawn(means, pairs, seed=3, shared=shared)
    assert counts.mean(1) == pytest.approx(mean, abs=4.5 * np.sqrt(44 / n) * 1.2)
    view = counts.reshape(2, -1, 100)
    inside, beside, far = view[..., :-2], view[..., 1:-1], view[..., 2:]
    own = np.array([[44.0, 2.0], [2.0, 15.0]])
    for other, wanted in ((inside, own), (beside, [[3.0, 1.0], [1.0, 0.0]]), (far, np.zeros((2, 2)))):
        found = np.cov(inside.reshape(2, -1), other.reshape(2, -1))[:2, 2:]
        # neighbours among the samples repeat a little of each other: 1.2
        assert found == pytest.approx(np.array(wanted), abs=4.5 * 1.2 * 44.0 * np.sqrt(2 / n))


@pytest.mark.parametrize("mean", [0.3, 4.0, 9.9, 10.1, 60.0, 3000.0])
def test_poisson_numbers(mean):
    n = 40_000
    means = np.full((1, n), mean, np.float32)
    counts = drawn(means, means, seed=5)
    assert counts.mean() == pytest.approx(mean, abs=4.5 * np.sqrt(mean / n))
    assert counts.var() == pytest.approx(mean, abs=4.5 * np.sqrt((2 * mean**2 + mean) / n))
    edges = np.unique(stats.poisson.ppf(np.linspace(0.02, 0.98, 13), mean))
    chance = np.diff(np.concatenate([[0.0], stats.poisson.cdf(edges, mean), [1.0]]))
    seen = np.bincount(np.searchsorted(edges, counts[0]), minlength=chance.size)
    assert stats.chisquare(seen, n * chance).pvalue > 1e-4


def test_counts_have_the_covariance_asked_for():
    mean = np.array([30.0, 12.0, 4.0])
    covariance = np.array([[38.0, 3.0, 1.0], [3.0, 13.0, 0.5], [1.0, 0.5, 4.0]])
    n = 60_000
    products = np.array([covariance[b, c] for b in range(3) for c in range(b, 3)])
    means, pairs = np.float32(np.repeat(mean[:, None], n, 1)), np.float32(np.repeat(products[:, None], n, 1))
    counts = drawn(means, pairs, seed=1, first_view=10**8)
    assert np.array_equal(counts, np.round(counts))
    assert counts.mean(1) == pytest.approx(mean, abs=4.5 * np.sqrt(38 / n))
    found = np.cov(counts)
    error = np.sqrt((covariance**2 + np.outer(np.diag(covariance), np.diag(covariance))) / n)
    assert (np.abs(found - covariance) < 4.5 * error + 0.01).all()
    again = drawn(means[:, :100], pairs[:, :100], seed=1, first_view=10**8 + 5)
    assert np.array_equal(
        again, counts[:, 500:600]
    )  # a ray's noise is its own, whatever block it is drawn in


HEIGHTS = np.where((np.arange(200) >= 40) & (np.arange(200) < 160), 1.0, 0.0)  # 20 to 80 keV, even
THRESHOLDS = np.array([20.0, 40.0, 60.0, 90.0])


def pulses(load, paralysable, n=400_000):
    recorded, elapsed = np.zeros((8, 4), np.int64), np.zeros(8)
    cumulative = np.cumsum(HEIGHTS) / HEIGHTS.sum()
    count_pulses(
        load, n // 8, cumulative, HEIGHT_STEP_KEV, THRESHOLDS, paralysable, *philox.key(9), recorded, elapsed
    )
    return recorded.sum(0), elapsed.sum()


@pytest.mark.parametrize("law", ["nonparalysable", "paralysable"])
@pytest.mark.parametrize("load", [0.02, 0.3])
def test_rates_follow_the_dead_time_laws(law, load):
    recorded, elapsed = pulses(load, law == "paralysable")
    rate = recorded.sum() / elapsed
    # the laws are exact; 400,000 pulses give the rate to 0.16 %
    assert rate == pytest.approx(
        recorded_rate(np.asarray(load), 1.0, law=law), rel=4 / np.sqrt(recorded.sum())
    )


@pytest.mark.parametrize("law", ["nonparalysable", "paralysable"])
@pytest.mark.parametrize("load", [0.02, 0.1])
def test_spectra_are_distorted_as_to_first_order(law, load):
    recorded, elapsed = pulses(load, law == "paralysable")
    bins = np.array([40.0, 40.0, 40.0, 0.0])
    plain = load * elapsed * bins / bins.sum()
    expected = piled_up(plain, 1.0 / elapsed, summed_bins(HEIGHTS, THRESHOLDS), law=law)
    # three pulses and more, load^2 / 2 of all, are what the model leaves out
    assert recorded == pytest.approx(expected, abs=4.5 * np.sqrt(recorded.max()) + load**2 * recorded.sum())
    assert recorded[3] > 0.2 * load * recorded.sum()  # sums above the tube voltage are there
