"""The detector's chain against a Monte Carlo of single quanta, and each of its parts against what it means."""

import numpy as np
import pytest
from scan_cases import small_phantom, small_protocol, small_trajectory

from twinlab.ct import acquire, detected, line_integrals, scan_phantom, water_correction
from twinlab.ct.detector import detected_spectrum, dqe, efficiency
from twinlab.ct.electronics import Faults, detector_chain, lag_response
from twinlab.scanner import beam_fluence, cell_solid_angle, photons_per_cell
from twinlab.schema import InputError

SWANK, CHANNEL, ROW, STEP = 0.9, 0.06, 0.03, 40.0
LAGS = [{"fraction": 0.1, "time_ms": 40.0}, {"fraction": 0.05, "time_ms": 200.0}]
MEAN_QUANTA = 300.0


def with_detector(protocol, **changes):
    detector = protocol.scanner.detector
    if "electronics" in changes:
        changes["electronics"] = type(detector.electronics).make(changes["electronics"])
    changed = detector.model_copy(update=changes)
    return protocol.replace(scanner=protocol.scanner.model_copy(update={"detector": changed}))


@pytest.fixture(scope="module")
def protocol():
    return small_protocol()


@pytest.fixture(scope="module")
def paths(protocol):
    return line_integrals(small_phantom(), protocol, small_trajectory(protocol))


@pytest.fixture(scope="module")
def glowing():
    """All effects, no bowtie, so that every cell of a row has the same spectrum."""
    return with_detector(
        small_protocol(bowtie="none", noise_kev=300.0),
        electronics={
            "swank_factor": SWANK,
            "crosstalk_channel": CHANNEL,
            "crosstalk_row": ROW,
            "lag": LAGS,
            "kev_per_count": STEP,
        },
    )


def moments(readings):
    """Mean, variance, and correlation with the next channel, row and view, of readings (view, row, channel)."""
    inner = readings[:, :, 1:-1] - readings[:, :, 1:-1].mean()
    variance = (inner**2).mean()
    nexts = [
        (inner[:, :, 1:] * inner[:, :, :-1]).mean(),
        (inner[:, 1:] * inner[:, :-1]).mean(),
        (inner[1:] * inner[:-1]).mean(),
    ]
    return np.array([readings[:, :, 1:-1].mean(), variance, *np.array(nexts) / variance])


def monte_carlo(protocol, mean_quanta, n_view, n_row, n_channel):
    """Each quantum by itself: its energy, its light (gamma distributed), its light's way into cells and views."""
    rng = np.random.default_rng(1)
    energy, spectrum = detected_spectrum(protocol, moment=0)
    chance = spectrum[0] / spectrum[0].sum()
    shape = SWANK / (1.0 - SWANK)  # of a gamma variable with mean^2 / mean square = SWANK
    light = np.zeros((n_view, n_row, n_channel))
    for e, p in zip(energy, chance, strict=True):
        quanta = rng.poisson(mean_quanta * p, light.shape)
        # the sum of n gamma variables of one scale is a gamma variable of n times the shape
        light += np.where(quanta > 0, rng.gamma(np.maximum(quanta, 1) * shape, e / shape), 0.0)
    for axis, share in ((2, CHANNEL), (1, ROW)):
        given = share * light
        spread = light.copy()
        front, back = [slice(None)] * 3, [slice(None)] * 3
        front[axis], back[axis] = slice(1, None), slice(None, -1)
        for a, b in ((front, back), (back, front)):
            spread[tuple(a)] += given[tuple(b)]
            spread[tuple(b)] -= given[tuple(b)]
        light = spread
    view_ms = 1000.0 / 36
    out, stores = np.empty_like(light), np.zeros((len(LAGS), *light.shape[1:]))
    fine = 400  # light comes evenly within a view: many small steps
    for view in range(n_view):
        emitted = np.zeros(light.shape[1:])
        for k, lag in enumerate(LAGS):
            # a store that is filled evenly and emptied at the rate 1/tau, by small steps of both
            keep = np.exp(-view_ms / fine / lag["time_ms"])
            powers = keep ** np.arange(fine)
            end = stores[k] * keep**fine + lag["fraction"] * light[view] / fine * powers.sum()
            emitted += stores[k] + lag["fraction"] * light[view] - end
            stores[k] = end
        out[view] = light[view] * (1 - sum(lag["fraction"] for lag in LAGS)) + emitted
    out += rng.normal(0.0, 300.0, out.shape)
    return np.rint(out / STEP) * STEP


def test_readings_have_the_moments_of_single_quanta(glowing):
    n_view, n_row, n_channel = 220, 4, 64
    air = detected(line_integrals(small_phantom(), glowing, small_trajectory(glowing)), glowing)
    chain = detector_chain(glowing, air, water_correction(glowing), seed=5, mas=1.0)
    _, first = detected_spectrum(glowing)
    energy, count = detected_spectrum(glowing, moment=0)
    mean = MEAN_QUANTA * float(first[0].sum() / count[0].sum())
    square = MEAN_QUANTA * float((count[0] * energy**2).sum() / count[0].sum())
    signal = np.full((n_view, n_row, n_channel), mean, np.float32)
    second = np.full(signal.shape, square / SWANK, np.float32)
    reading = np.zeros_like(signal)
    window = np.zeros(n_view, np.int64), np.full(n_view, n_row)
    chain.readings(
        signal, second, mas=np.ones(n_view, np.float32), first_view=0, window=window, reading=reading
    )
    # behind the build-up of the afterglow (5 % with 7 views)
    found = moments(reading[40:].astype(float))
    expected = moments(monte_carlo(glowing, MEAN_QUANTA, n_view, n_row, n_channel)[40:])
    # 180 x 4 x 62 correlated readings on either side: sd of the mean 0.06 %, of the variance 1.0 %, of a
    # correlation 0.007; three sd of the difference
    assert found[0] == pytest.approx(expected[0], rel=0.003)
    assert found[1] == pytest.approx(expected[1], rel=0.042)
    assert found[2:] == pytest.approx(expected[2:], abs=0.03)
    assert found[2] > 0.05  # neighbours are correlated
    air_moments = float(air["air_variance"][0, 0] / air["air_signal"][0, 0])
    assert air_moments == pytest.approx(square / SWANK / mean, rel=1e-4)  # what the scan itself uses


def test_variance_is_that_of_many_scans(paths):
    glowing = with_detector(
        small_protocol(),
        electronics={"swank_factor": SWANK, "crosstalk_channel": CHANNEL, "crosstalk_row": ROW,
                     "lag": LAGS, "kev_per_count": STEP},
    )  # fmt: skip
    signals = detected(paths, glowing)
    quiet = acquire(paths, glowing, seed=5, noise=False, signals=signals)
    runs = np.stack(
        [
            acquire(paths, glowing, seed=5, realisation=i, signals=signals)["projection"].to_numpy()[10:]
            for i in range(60)
        ]
    )
    ratio = runs.var(axis=0, ddof=1) / quiet["variance"].to_numpy()[10:]
    # the afterglow of the past is taken as strong as the present one: right where the view changes slowly. At edges
    # it is not, hence the middle of the channels; the sd of their mean is 1 % with the correlations
    assert ratio[:, :, 20:44].mean() == pytest.approx(1.0, abs=0.04)


def test_swank_factor_divides_the_quantum_variance(paths, protocol):
    noisy = with_detector(protocol, electronics={"swank_factor": 0.8})
    plain, more = detected(paths, protocol), detected(paths, noisy)
    assert more["signal"].identical(plain["signal"]) or np.array_equal(more["signal"], plain["signal"])
    np.testing.assert_allclose(more["signal_variance"], plain["signal_variance"] / 0.8, rtol=1e-5)


def test_dqe_of_a_narrow_spectrum_is_absorption_times_swank(protocol):
    """Behind 3 mm of copper a spectrum is narrow: what is left is efficiency, fill factor and Swank factor."""
    narrow = with_detector(
        small_protocol(kv=80.0, bowtie="none", noise_kev=0.0),
        electronics={"swank_factor": 0.8},
        fill_factor=0.7,
    )
    tube = narrow.scanner.tube.model_copy(update={"filters": {"copper": 3.0}})
    narrow = narrow.replace(scanner=narrow.scanner.model_copy(update={"tube": tube}))
    beam = beam_fluence(narrow)[32]
    absorbed = float(np.average(efficiency(narrow, beam["energy"].to_numpy()), weights=beam))
    found = float(dqe(narrow)[32])
    # the spread of energies left, 4 keV rms at 70, takes 0.5 %
    assert found == pytest.approx(0.7 * 0.8 * absorbed, rel=0.01)


def test_dqe_is_that_of_readings(protocol, paths):
    """From the signals of the scan and the photons of the beam, which are computed apart."""
    signals = detected(paths, protocol)
    row = float(protocol.row_positions_mm()[1])
    photons = photons_per_cell(protocol, row_mm=row).sum("energy").to_numpy()
    mas = protocol.mas / 36
    mean, second = (mas * signals[name][1].to_numpy() for name in ("air_signal", "air_variance"))
    np.testing.assert_allclose(dqe(protocol), mean**2 / (second + 200.0**2) / photons, rtol=1e-6)
    dim = protocol.replace(tube_current_ma=0.01)
    assert (dqe(dim, water_mm=300.0) < dqe(protocol, water_mm=300.0)).all()  # electronic noise


def test_light_is_kept_not_lost(glowing):
    response = lag_response(glowing, 4000)
    assert response.sum() == pytest.approx(1.0, abs=1e-9)
    view_ms = 1000.0 / 36
    late = response[200:260]  # only the slow exponential is left
    assert np.diff(np.log(late)) == pytest.approx(np.full(59, -view_ms / 200.0), rel=1e-6)


def test_afterglow_and_crosstalk_leave_even_readings_alone(glowing):
    flat = line_integrals(small_phantom(("air", "air"), (1e-9, 1e-9)), glowing, small_trajectory(glowing))
    scan = acquire(flat, glowing, seed=0, noise=False)["projection"].to_numpy()
    build_up = -np.log(np.cumsum(lag_response(glowing, 36)))
    # the beam was off before: the first views miss the late light (water correction: slope near 1 at 0)
    assert scan[:, 1, 32] == pytest.approx(build_up, rel=0.06, abs=2e-5)
    assert np.ptp(scan[20], axis=0).max() < 1e-5  # rows and channels alike: the air scan has the cross-talk


def test_crosstalk_blurs_by_its_shares(protocol, paths):
    shared = with_detector(protocol, electronics={"crosstalk_channel": 0.1, "crosstalk_row": 0.05})
    signals = detected(paths, shared)
    image = signals["signal"].to_numpy()
    image[:] = 1e-3
    image[0, 1, 30] = 1.0
    chain = detector_chain(shared, signals, water_correction(shared), seed=0, noise=False, mas=1.0)
    reading = np.zeros_like(image)
    window = np.zeros(36, np.int64), np.full(36, 4)
    chain.readings(image, image, mas=np.ones(36, np.float32), first_view=0, window=window, reading=reading)
    spread = (reading[0] - 1e-3) / (1.0 - 1e-3)
    expected = np.outer([0.05, 0.9, 0.05, 0.0], [0.1, 0.8, 0.1])
    np.testing.assert_allclose(spread[:, 29:32], expected, atol=1e-6)
    assert spread.sum() == pytest.approx(1.0, abs=1e-5)


def test_saturation_and_digitiser(protocol, paths):
    readings = detected(paths, protocol)["signal"].to_numpy() * 200.0 / 36
    limit = 0.5 * float(readings.max())
    limited = with_detector(protocol, electronics={"saturation_kev": limit})
    scan = acquire(paths, limited, seed=1, noise=False)
    free = acquire(paths, protocol, seed=1, noise=False)
    full = readings > 1.0001 * limit
    found, expected = scan["projection"].to_numpy(), free["projection"].to_numpy()
    assert (found[full] > expected[full]).all()
    np.testing.assert_allclose(found[~full], expected[~full], atol=1e-5)
    coarse = with_detector(small_protocol(noise_kev=0.0), electronics={"kev_per_count": 1e6})
    signals = detected(paths, coarse)
    chain = detector_chain(coarse, signals, water_correction(coarse), seed=0, mas=200 / 36)
    reading = np.zeros(signals["signal"].shape, np.float32)
    window = np.zeros(36, np.int64), np.full(36, 4)
    chain.readings(
        signals["signal"].to_numpy(), signals["signal_variance"].to_numpy(),
        mas=np.full(36, 200 / 36, np.float32), first_view=0, window=window, reading=reading,
    )  # fmt: skip
    assert np.abs(reading / 1e6 - np.rint(reading / 1e6)).max() < 1e-2
    # readings of 0 counts are lifted off the logarithm's floor
    starved = acquire(paths, coarse, seed=1, mas=1.0)
    assert np.isfinite(starved["projection"]).all()
    assert np.isfinite(starved["variance"]).all()


def test_gain_drift_shifts_the_logarithm(protocol, paths):
    gain = np.ones((4, 64))
    gain[2, 20] = 0.97
    plain = acquire(paths, protocol, seed=1, noise=False)["projection"]
    drifted = acquire(paths, protocol, seed=1, noise=False, faults=Faults(gain=gain))["projection"]
    change = (drifted - plain).to_numpy()
    mask = np.ones((4, 64), bool)
    mask[2, 20] = False
    assert np.abs(change[:, mask]).max() == 0.0
    # times the slope of the water correction, 1.0 to 1.2
    assert 1.0 < change[:, 2, 20].min() / -np.log(0.97) < change[:, 2, 20].max() / -np.log(0.97) < 1.25


def test_dead_cells_are_interpolated(protocol, paths):
    dead = ((1, 30), (1, 31), (0, 0), (3, 63))
    plain = acquire(paths, protocol, seed=1)["projection"].to_numpy()
    repaired = acquire(paths, protocol, seed=1, faults=Faults(dead=dead, offset_kev=np.zeros((4, 64))))
    found = repaired["projection"].to_numpy()
    np.testing.assert_allclose(found[:, 1, 30], (2 * found[:, 1, 29] + found[:, 1, 32]) / 3, rtol=1e-5)
    np.testing.assert_allclose(found[:, 1, 31], (found[:, 1, 29] + 2 * found[:, 1, 32]) / 3, rtol=1e-5)
    np.testing.assert_array_equal(found[:, 0, 0], found[:, 0, 1])
    np.testing.assert_array_equal(found[:, 3, 63], found[:, 3, 62])
    left = acquire(paths, protocol, seed=1, noise=False, faults=Faults(dead=dead, repaired=False))
    assert (left["projection"][:, 1, 30] > plain[:, 1, 30] + 1.0).all()  # black


def test_noise_of_the_air_scan_stays_in_every_view(protocol, paths):
    views = 50
    plain = acquire(paths, protocol, seed=1, noise=False)["projection"]
    noisy = acquire(paths, protocol, seed=1, noise=False, faults=Faults(air_views=views))["projection"]
    pattern = (noisy - plain).to_numpy()
    # the same in every view but for the slope of the water correction
    assert np.corrcoef(pattern[0].ravel(), pattern[17].ravel())[0, 1] > 0.99
    signals = detected(paths, protocol)
    mas = 200.0 / 36 * views
    mean = mas * signals["air_signal"].to_numpy()
    relative = np.sqrt(mas * signals["air_variance"].to_numpy() + views * 200.0**2) / mean
    expected = np.sqrt((relative**2).mean())
    edge = plain.to_numpy()[0] < 0.01  # rays beside the object: slope near 1
    assert pattern[0][edge].std() == pytest.approx(expected, rel=0.35)  # 4 x about 20 cells


def test_effects_leave_the_plain_chain_bit_identical(protocol, paths):
    plain = acquire(paths, protocol, seed=9)
    assert plain.identical(acquire(paths, protocol, seed=9, faults=Faults()))


def test_faults_are_checked(protocol, paths):
    for faults, word in (
        (Faults(gain=np.ones((3, 64))), "gain"),
        (Faults(offset_kev=np.full((4, 64), np.nan)), "offset_kev"),
        (Faults(dead=((4, 0),)), "dead"),
        (Faults(air_views=0), "air_views"),
        (Faults(dead=tuple((0, c) for c in range(64))), "all dead"),
    ):
        with pytest.raises(InputError, match=word):
            scan_phantom(
                small_phantom(), protocol, trajectory=small_trajectory(protocol), seed=0, faults=faults
            )


def test_air_signal_is_the_sum_over_energies(protocol, paths):
    signals = detected(paths, protocol)
    energy, spectrum = detected_spectrum(protocol)
    gain = cell_solid_angle(protocol).to_numpy() * 1e6
    np.testing.assert_allclose(signals["air_variance"], gain * (spectrum @ energy), rtol=1e-6)


def test_a_repaired_cell_has_the_variance_of_a_mean_of_its_neighbours(paths, protocol):
    signals = detected(paths, protocol)
    dead = ((1, 20), (2, 30), (2, 31), (3, 0))
    plain, fixed = (
        acquire(paths, protocol, seed=1, noise=False, signals=signals, faults=faults)["variance"].to_numpy()
        for faults in (Faults(dead=((0, 63),)), Faults(dead=(*dead, (0, 63))))
    )
    # neighbours are independent without cross-talk
    expected = {
        (1, 20): 0.25 * (plain[:, 1, 19] + plain[:, 1, 21]),
        (2, 30): (4 * plain[:, 2, 29] + plain[:, 2, 32]) / 9,
        (2, 31): (plain[:, 2, 29] + 4 * plain[:, 2, 32]) / 9,
        (3, 0): plain[:, 3, 1],
    }
    for (row, channel), variance in expected.items():
        np.testing.assert_allclose(fixed[:, row, channel], variance, rtol=1e-5)  # float32


@pytest.mark.parametrize("seed", [None, 1.5, "1", -1, 2**64])
def test_refuses_what_is_no_seed(paths, protocol, seed):
    with pytest.raises(InputError, match="seed"):
        acquire(paths, protocol, seed=seed)
