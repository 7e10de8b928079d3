"""Windkessels: against their impedance and the exponential decay of diastole."""

import numpy as np
import pytest

from twinlab.cardiac.circulation import (
    Windkessel,
    parameter_set,
    ventricle_and_windkessel,
    windkessel,
    windkessel_impedance,
)
from twinlab.schema import InputError


@pytest.mark.parametrize("characteristic", [0.0, 0.05])
def test_periodic_pressure_has_the_analytic_impedance(characteristic):
    load = Windkessel(characteristic_mmhg_s_per_ml=characteristic, venous_pressure_mmhg=5.0)
    n, period = 2000, 0.8
    phase = np.arange(n) / n
    flow = 90.0 + 120.0 * np.cos(2 * np.pi * phase) + 40.0 * np.sin(6 * np.pi * phase)
    pressure = windkessel(flow, dt_ms=1000 * period / n, load=load)
    got = np.fft.rfft(pressure - 5.0)[[0, 1, 3]] / np.fft.rfft(flow)[[0, 1, 3]]
    exact = windkessel_impedance(load, np.array([0, 1, 3]) / period)
    # a cosine drawn in 2,000 straight pieces: (pi / 667)^2 / 3 = 7e-6 in the third harmonic
    assert np.abs(got / exact - 1).max() < 2e-5


def test_decays_exponentially_without_flow():
    load = Windkessel(resistance_mmhg_s_per_ml=1.1, compliance_ml_per_mmhg=1.5, venous_pressure_mmhg=4.0)
    time = np.arange(500) * 2e-3
    pressure = windkessel(np.zeros(500), dt_ms=2.0, load=load, start_mmhg=90.0)
    np.testing.assert_allclose(pressure, 4.0 + 86.0 * np.exp(-time / 1.65), rtol=1e-12)


def test_ventricle_on_a_windkessel_ejects_what_runs_off_and_decays_in_diastole():
    load = Windkessel()
    result = ventricle_and_windkessel(parameter_set().left_ventricle, load=load)
    assert result.attrs["change_ml"] < 1e-6
    stroke = float(result.lv_edv - result.lv_esv)
    assert float(result.stroke_volume) == pytest.approx(stroke, rel=2e-3)  # leak of closed valves
    mean = float(result.arterial_pressure[1:].mean())
    assert mean / load.resistance_mmhg_s_per_ml * 60 / 70 == pytest.approx(
        float(result.stroke_volume), rel=1e-3
    )
    late = result.arterial_pressure.sel(time=slice(650, 800))
    rate = -np.polyfit(late.time / 1000, np.log(late), 1)[0]
    tau = load.resistance_mmhg_s_per_ml * load.compliance_ml_per_mmhg
    assert rate * tau == pytest.approx(1.0, rel=2e-3)  # leak of closed valves and steps of 1 ms


def test_refuses_a_flow_that_cannot_be():
    with pytest.raises(InputError, match="two finite values"):
        windkessel(np.array([np.nan, 1.0]), dt_ms=1.0, load=Windkessel())
    with pytest.raises(InputError, match="dt_ms"):
        windkessel(np.ones(4), dt_ms=0.0, load=Windkessel())
