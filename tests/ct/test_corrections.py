"""Water correction: what is left of beam hardening in water; algebra of the corrections in any array namespace."""

import array_api_strict
import numpy as np
import pytest
from scan_cases import apply_correction, small_protocol

from twinlab.ct.artefacts.bone import mixed
from twinlab.ct.artefacts.metal import interpolate, prior_image
from twinlab.ct.corrections import correct_rays, water_correction, water_logarithm
from twinlab.physics.attenuation import linear_attenuation_per_mm


@pytest.mark.parametrize("kv", [80.0, 100.0, 120.0, 140.0])
def test_water_reads_its_reference_attenuation(kv):
    protocol = small_protocol(kv=kv)
    correction = water_correction(protocol)
    length = np.linspace(1.0, 500.0, 60)  # not the lengths of the fit
    raw = water_logarithm(protocol, length)
    for channel in (0, 10, 32, 63):
        found = apply_correction(raw[:, channel], correction, channel=channel)
        # 1e-4 of a line integral that reaches 10; 5e-5 over 20 cm of water is 0.013 HU
        assert found == pytest.approx(correction.attrs["mu_water_per_mm"] * length, abs=1e-4)
    assert correction.attrs["residual"] < 5e-5


def test_reference_energy_carries_the_reference_attenuation():
    attrs = water_correction(small_protocol()).attrs
    assert 55 < attrs["reference_kev"] < 75  # a 120 kV beam behind 20 cm of water
    mu = linear_attenuation_per_mm("water", [attrs["reference_kev"]])[0]
    assert mu == pytest.approx(attrs["mu_water_per_mm"], rel=1e-4)


def test_without_correction_water_would_cup():
    protocol = small_protocol()
    raw = water_logarithm(protocol, [20.0, 200.0, 400.0])[:, 32]
    per_mm = raw / np.array([20.0, 200.0, 400.0])
    # the beam hardens: what the correction is for, several per cent
    assert per_mm[0] > 1.03 * per_mm[1]
    assert per_mm[1] > 1.01 * per_mm[2]


def test_straight_beyond_50_cm():
    protocol = small_protocol()
    correction = water_correction(protocol)
    limit = float(correction["raw_max"][32])
    values = apply_correction(limit + np.array([0.0, 0.5, 1.0, 2.0]), correction, channel=32)
    slope = np.diff(values) / np.array([0.5, 0.5, 1.0])
    assert slope == pytest.approx(np.full(3, slope[0]), rel=1e-3)
    # the harder the beam, the closer to the reference: the slope exceeds 1 and stays sane
    assert 1.0 < slope[0] < 1.6


def same_in_a_strict_namespace(function, *arrays, rel=1e-12):
    """The function's result with NumPy, after a check that the array standard alone gives the same."""
    expected = function(*arrays)
    strict = function(*(array_api_strict.asarray(a) for a in arrays))
    assert type(strict).__module__.startswith("array_api_strict")
    assert np.asarray(strict) == pytest.approx(expected, rel=rel, nan_ok=True)
    return expected


def test_rays_are_corrected_in_any_array_namespace():
    protocol = small_protocol()
    correction = water_correction(protocol)
    channel = np.array([0, 10, 32, 63, 32])
    length = np.array([10.0, 200.0, 480.0, 300.0, 700.0])  # the last beyond the fit
    raw = water_logarithm(protocol, length)[np.arange(5), channel]
    found = same_in_a_strict_namespace(lambda r: correct_rays(r, correction, channel=channel), raw)
    assert found[:4] == pytest.approx(correction.attrs["mu_water_per_mm"] * length[:4], abs=1e-4)
    each = [apply_correction(r[None], correction, channel=c)[0] for r, c in zip(raw, channel, strict=True)]
    assert found == pytest.approx(each, rel=1e-5)  # the loop of the scan works in float32


def test_metal_is_bridged_in_any_array_namespace():
    rng = np.random.default_rng(0)
    values, trace = rng.random((3, 4, 37), dtype=np.float32), rng.random((3, 4, 37)) < 0.6
    trace[0, 0], trace[1, 1, :5], trace[2, 2, -9:] = True, True, True
    found = same_in_a_strict_namespace(interpolate, values, trace, rel=1e-6)
    for row, bad, line in zip(
        values.reshape(-1, 37), trace.reshape(-1, 37), found.reshape(-1, 37), strict=True
    ):
        place = np.arange(37)
        expected = row if bad.all() else np.interp(place, place[~bad], row[~bad])
        assert line == pytest.approx(expected, rel=1e-6)  # float32


def test_priors_and_mixtures_are_made_in_any_array_namespace():
    hu = np.array([-1000.0, -950.0, -700.0, 20.0, 250.0, 250.0, 800.0, 3000.0, np.nan], np.float32)
    metal = hu > 2500
    prior = same_in_a_strict_namespace(
        lambda h, m: prior_image(h, metal=m, soft_hu=(-400.0, 300.0), air_hu=-900.0), hu, metal, rel=1e-6
    )
    assert prior == pytest.approx([0.0, 0.0, 0.3, 1.0, 1.0, 1.0, 1.8, 1.0, 0.0], abs=1e-6)
    share = same_in_a_strict_namespace(lambda h: mixed(h, 150.0, 350.0), hu, rel=1e-6)
    assert share == pytest.approx([0.0, 0.0, 0.0, 0.0, 125.0, 125.0, 800.0, 3000.0, 0.0])
    told = same_in_a_strict_namespace(lambda h, c: mixed(h, 150.0, 350.0, c), hu, hu == 250.0)
    assert told == pytest.approx(np.where(hu == 250.0, 250.0, 0.0))
