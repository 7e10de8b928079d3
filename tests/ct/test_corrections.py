"""Water correction: what is left of beam hardening in water, at every fan angle and tube voltage."""

import numpy as np
import pytest
from scan_cases import apply_correction, small_protocol

from twinlab.ct.corrections import water_correction, water_logarithm
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
