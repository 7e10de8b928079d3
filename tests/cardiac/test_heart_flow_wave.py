"""The pulse wave: speed, shape, friction and reflection against the linear theory."""

import math

import numpy as np
import pytest

from twinlab.cardiac.circulation import Windkessel, windkessel
from twinlab.cardiac.flow import ElasticVessel, moens_korteweg, pulse_wave
from twinlab.schema import InputError

# as the single pulse of Boileau 2015: a long tube of 10 mm radius, wave speed about 6 m/s
TUBE = {"length_mm": 2000.0, "radius_mm": 10.0, "thickness_mm": 1.5, "young_kpa": 400.0}


def pulse(time_ms):
    """A small Gaussian, so that the linear theory holds to its share of the wave speed, 1e-4."""
    return 0.05 * np.exp(-(((time_ms - 60.0) / 18.0) ** 2))


def test_a_pulse_travels_at_the_wave_speed_and_keeps_its_shape():
    vessel = ElasticVessel(**TUBE, viscosity_pa_s=0.0)
    speed = moens_korteweg(young_kpa=400.0, thickness_mm=1.5, radius_mm=10.0)
    assert vessel.wave_speed_m_per_s == speed
    worst = []
    for cells in (400, 800):
        result = pulse_wave(vessel, inflow_ml_per_s=pulse, duration_ms=400.0, cells=cells)
        at = result.wave_pressure.sel(position=1500.0, method="nearest")
        exact = vessel.impedance_mmhg_s_per_ml * pulse(at.time.values - float(at.position) / speed)
        worst.append(np.abs(at.values - exact).max() / exact.max())
    assert worst[1] < 0.005
    assert worst[0] / worst[1] > 3.0  # order two


@pytest.mark.parametrize("ratio", [0.0, 0.5, 1.0, 3.0, None])
def test_reflection_at_a_resistance(ratio):
    vessel = ElasticVessel(**TUBE, viscosity_pa_s=0.0)
    z = vessel.impedance_mmhg_s_per_ml
    end = None if ratio is None else ratio * z
    result = pulse_wave(
        vessel, inflow_ml_per_s=pulse, duration_ms=700.0, cells=400, resistance_mmhg_s_per_ml=end
    )
    at = result.wave_pressure.sel(position=1000.0, method="nearest")
    back = at.sel(time=slice(430.0, 700.0))
    expected = 0.0 if ratio is None else (ratio - 1) / (ratio + 1)
    size = back.values[np.abs(back.values).argmax()] / float(at.sel(time=slice(0, 400)).max())
    assert size == pytest.approx(expected, abs=0.02)


def test_end_obeys_the_three_element_windkessel():
    vessel = ElasticVessel(**TUBE, viscosity_pa_s=0.0)
    z = vessel.impedance_mmhg_s_per_ml
    load = {"resistance_mmhg_s_per_ml": z, "peripheral_mmhg_s_per_ml": 6 * z, "compliance_ml_per_mmhg": 0.5}
    result = pulse_wave(vessel, inflow_ml_per_s=pulse, duration_ms=1500.0, cells=200, **load)
    last = result.isel(position=-1)
    same = Windkessel(
        resistance_mmhg_s_per_ml=6 * z, compliance_ml_per_mmhg=0.5, characteristic_mmhg_s_per_ml=z
    )
    expected = windkessel(last.wave_flow.values, dt_ms=1.0, load=same, start_mmhg=0.0)
    # the last cell's centre is half a cell, 1 ms, before the end
    assert np.abs(last.wave_pressure.values - expected).max() < 0.03 * expected.max()


def test_friction_damps_as_the_linear_theory_says():
    thick = ElasticVessel(**TUBE, viscosity_pa_s=0.02, profile=2.0)
    thin = ElasticVessel(**TUBE, viscosity_pa_s=0.0)
    runs = [pulse_wave(v, inflow_ml_per_s=pulse, duration_ms=400.0, cells=400) for v in (thick, thin)]
    places = [r.wave_pressure.sel(position=1500.0, method="nearest") for r in runs]
    speed, area = thick.wave_speed_m_per_s, math.pi * 0.01**2
    time = np.arange(4000) * 1e-3
    spectrum = np.fft.rfft(pulse(time * 1e3))
    omega = 2 * np.pi * np.fft.rfftfreq(time.size, 1e-3)
    friction = 2 * 4 * math.pi * 0.02 / 1060.0 / area
    wave = np.sqrt(omega**2 - 1j * omega * friction) / speed
    x = float(places[0].position) * 1e-3
    impedance = np.zeros_like(wave)
    impedance[1:] = 1060.0 * speed**2 * wave[1:] / (omega[1:] * area) / 133.322e6
    exact = np.fft.irfft(spectrum * impedance * np.exp(-1j * wave * x), time.size)
    exact -= exact[:20].mean()
    got = places[0].values
    assert got.max() < 0.97 * float(places[1].max())
    assert got.max() == pytest.approx(exact.max(), rel=0.02)


def test_refuses_what_cannot_be():
    vessel = ElasticVessel(**TUBE)
    with pytest.raises(InputError, match="cells"):
        pulse_wave(vessel, inflow_ml_per_s=pulse, duration_ms=10.0, cells=5)
    with pytest.raises(InputError, match="both or neither"):
        pulse_wave(vessel, inflow_ml_per_s=pulse, duration_ms=10.0, compliance_ml_per_mmhg=1.0)
    soft = ElasticVessel(**{**TUBE, "young_kpa": 2.0})
    with pytest.raises(InputError, match="stiffer wall"):
        pulse_wave(soft, inflow_ml_per_s=lambda t: 0 * t - 300.0, duration_ms=300.0)
