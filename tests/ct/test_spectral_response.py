"""The response of a counting detector: trends that are known, what it is made of, how it is kept."""

import numpy as np
import pytest

from twinlab.ct.spectral import counting_response, piled_up, recorded_rate, simulated_response
from twinlab.ct.spectral.pile_up import summed_bins
from twinlab.ct.spectral.response import ENERGY_KEV
from twinlab.ct.spectral.sensor import pixels_of_cell, sensor_of
from twinlab.kernels.pulses import restore_rays
from twinlab.scanner import load_scanner
from twinlab.schema import InputError


def detector(**counting):
    scanner = load_scanner("generic_photon_counting")
    pixel = counting.get("pixel_mm", 0.3)
    sides = {"channel_pitch_mm": 2 * pixel, "row_pitch_mm": 2 * pixel}
    own = scanner.detector.counting.model_copy(update=counting)
    return scanner.detector.model_copy(update={**sides, "counting": own})


@pytest.fixture(scope="module")
def pixels():
    """Pulse heights of 60 keV photons for pixels from 225 to 500 um."""
    return {
        pixel: counting_response(detector(pixel_mm=pixel), energy_kev=60.0, points=16_384).isel(energy=0)
        for pixel in (0.225, 0.3, 0.4, 0.5)
    }


def test_larger_pixels_have_more_in_the_peak_and_fewer_counts_in_all(pixels):
    """Charge sharing and fluorescence act at the border: what they take from the peak falls as 1 / pixel."""
    peak, tail, events = [], [], []
    for found in pixels.values():
        height, density = found["height"].to_numpy(), found["pulse_height"].to_numpy()
        peak.append(density[(height > 51) & (height < 69)].sum() * 0.5)
        tail.append(density[(height >= 20) & (height <= 51)].sum() * 0.5)
        events.append(float(found["response"].sum()))
    ratio = np.array(peak) / np.array(tail)
    assert (np.diff(ratio) > 0).all()  # the trend of all published pixel detectors without correction
    assert 0.5 < ratio[0] < 0.7  # 225 um: more in the tail than in the peak
    assert 1.3 < ratio[-1] < 1.7
    assert (np.diff(events) < 0).all()  # fewer photons are counted twice
    stopped = -np.expm1(-sensor_of(detector()).mu[240] * 1.6)
    lost = stopped - np.array(peak)
    # a border of fixed width loses as 1 / pixel; that of 225 um is not narrow, its corners count once: 35 %
    assert lost[0] / lost[-1] == pytest.approx(0.5 / 0.225, rel=0.35)


def test_fluorescence_shows_at_its_energies(pixels):
    found = pixels[0.3]
    height, density = found["height"].to_numpy(), found["pulse_height"].to_numpy()
    at = {e: density[np.argmin(np.abs(height - e))] for e in (15.0, 24.0, 29.0, 34.0, 45.0, 60.0)}
    # Cd and Te K lines (23.1, 27.4 keV) in neighbours, and what they leave behind (36.9, 32.6 keV)
    assert at[24.0] > 1.15 * at[15.0]
    assert at[34.0] > 1.04 * at[29.0]
    assert at[34.0] > 1.5 * at[45.0]
    assert at[60.0] > 4 * at[45.0]


def test_peak_has_the_width_of_the_noise():
    found = counting_response(detector(pixel_mm=5.0, charge_cloud_mm=0.0), energy_kev=80.0, points=4096)
    height, density = found["height"].to_numpy(), found["pulse_height"].to_numpy()[:, 0]
    peak = (height > 76) & (height < 92)
    # from 1.3 sigma below the peak upwards only the peak is there: a truncated Gaussian of 3 keV
    assert height[peak][np.argmax(density[peak])] == pytest.approx(80.0, abs=0.5)
    above = density[height > 80.25].sum()
    half = (height > 80.25) & (height < 80.0 + 3.0 * 1.1774 + 0.25)
    assert density[half].sum() / above == pytest.approx(2 * (0.5 - 0.1195), abs=0.02)  # within FWHM/2: 76.1 %


def test_no_more_charge_than_came(pixels):
    for found in pixels.values():
        energy = float((found["height"] * found["pulse_height"]).sum() * 0.5)
        sensor = sensor_of(detector())
        stopped = -np.expm1(-sensor.mu[240] * sensor.thickness)
        # all that stops, less escape through the two faces: 5 to 10 % of 60 keV in 1.6 mm CdTe
        assert 0.85 * 60.0 * stopped < energy < 60.0 * stopped


def test_kept_response_is_the_one_integrated(tmp_path, monkeypatch):
    monkeypatch.setenv("TWINLAB_CACHE", str(tmp_path))
    own = detector(energy_noise_kev=2.75)
    first = counting_response(own, points=64)
    assert len(list((tmp_path / "response").glob("*.npz"))) == 1
    assert first["energy"].to_numpy() == pytest.approx(ENERGY_KEV)
    from twinlab.ct.spectral import response

    response._kept.cache_clear()
    again = counting_response(detector(energy_noise_kev=2.75, dead_time_ns=50.0), points=64)
    assert again.identical(first)
    assert len(list((tmp_path / "response").glob("*.npz"))) == 1  # pile-up is no part of it
    response._kept.cache_clear()


def test_cells_are_whole_pixels():
    plain = load_scanner("generic_photon_counting").detector
    assert pixels_of_cell(plain) == (2, 2)
    assert sensor_of(plain).pixel == pytest.approx([0.6831 / 2, 0.72984 / 2])


@pytest.mark.parametrize("law", ["nonparalysable", "paralysable"])
def test_pile_up_can_be_undone_and_keeps_its_array_library(law):
    import array_api_strict

    heights = np.exp(-0.5 * ((np.arange(300) * 0.5 - 55.0) / 18.0) ** 2)
    sums = summed_bins(heights, np.array([20.0, 35.0, 65.0, 70.0]))
    assert sums.sum(axis=0) == pytest.approx(np.ones((4, 4)))
    counts = np.random.default_rng(1).uniform(10.0, 100.0, (4, 5, 6))
    counts[:, 0, 0] = 0.0
    load = float(0.4 / counts.sum(axis=0).max())
    recorded = piled_up(counts, load, sums, law=law)
    assert (recorded.sum(axis=0) <= counts.sum(axis=0)).all()
    assert recorded.sum(axis=0) == pytest.approx(
        np.asarray(recorded_rate(counts.sum(axis=0) * load, 1.0, law=law)) / load
    )
    flat = recorded.reshape(4, -1).astype(np.float32)
    found = np.empty_like(flat)
    restore_rays(flat, load, sums, law == "paralysable", found)
    assert found.reshape(counts.shape) == pytest.approx(counts, rel=2e-5)  # steps end at 1e-6; float32
    strict = array_api_strict.asarray(counts)
    assert np.asarray(piled_up(strict, load, sums, law=law)) == pytest.approx(recorded)


def test_refuses():
    with pytest.raises(InputError, match="integrates energy"):
        counting_response(load_scanner("ge_lightspeed_vct").detector)
    with pytest.raises(InputError, match="power of 2"):
        counting_response(detector(), points=100)
    with pytest.raises(InputError, match="10 to 150"):
        counting_response(detector(), energy_kev=[5.0])
    with pytest.raises(InputError, match="one photon"):
        simulated_response(detector(), 60.0, n_photons=0, seed=0)
    with pytest.raises(InputError, match="paralysable"):
        recorded_rate(np.ones(2), 1.0, law="none")
