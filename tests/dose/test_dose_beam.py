"""The sources: where photons start, where they go, how many."""

from __future__ import annotations

import math

import numba
import numpy as np
import pytest

from twinlab.dose.beam import stations
from twinlab.dose.body import MGY_PER_KEV_G
from twinlab.kernels import transport
from twinlab.kernels.transport_data import ENERGY_UNIT_KEV
from twinlab.kernels.transport_source import emit
from twinlab.phantom.transport_grid import Rod, cylinder_grid
from twinlab.phantom.transport_tables import build
from twinlab.physics import attenuation
from twinlab.scanner import beam_fluence, load_protocol
from twinlab.scanner.photon_source import beam_source, field_source, gantry_source
from twinlab.schema import InputError


@numba.njit
def _emit_many(source, n):
    out = np.empty((n, 7))
    for i in range(n):
        x, y, z, u, v, w, e, _ = emit(source, np.uint64(i), np.uint64(5), np.uint64(0))
        out[i, 0], out[i, 1], out[i, 2] = x, y, z
        out[i, 3], out[i, 4], out[i, 5], out[i, 6] = u, v, w, e
    return out


@pytest.fixture(scope="module")
def protocol():
    return load_protocol("abdomen_pelvis").replace(tube_current_ma=200.0)


def _gantry(**changes):
    values = {
        "fan_low_rad": -0.4,
        "fan_step_rad": 0.2,
        "bin_width_kev": 2.0,
        "view": np.array([[0.0, 10.0, 0.5, 4.0], [2.0, 50.0, 0.5, 4.0]]),
        "view_weight": np.array([1.0, 3.0]),
        "radius_mm": 500.0,
        "isocentre_mm": (100.0, 200.0),
        "half_width_mm": 20.0,
    }
    fluence = np.array([[1.0, 0.0], [2.0, 1.0], [2.0, 2.0], [0.0, 4.0]])
    return gantry_source(fluence, np.array([40.0, 80.0]), **{**values, **changes})


def test_gantry_source_geometry_and_weights():
    source, per_mas = _gantry()
    n = 60_000
    x, y, z, u, v, w, e = _emit_many(source, n).T
    # 12 photons/mm2/mAs over bins of 0.2 rad, 1e6 mm2 per sr, 2 x 20/500.4 of sine
    assert per_mas == pytest.approx(12 * 0.2 * 1e6 * 2 * 20 / math.hypot(500, 20), rel=1e-9)
    np.testing.assert_allclose(np.hypot(x - 100, y - 200), 500.0, atol=1e-3)  # float32 of 500 mm
    angle = np.arctan2(x - 100, -(y - 200))
    second = np.abs(angle - 2.0) < 0.2501
    assert second.mean() == pytest.approx(0.75, abs=0.0071)  # 4 sigma of a share of 60,000
    assert np.abs(angle[~second]).max() < 0.2501
    # angle and table move together within a view
    np.testing.assert_allclose(z[second], 50 + 8 * (angle[second] - 2.0), atol=1e-2)
    # fan angle from the lateral component along e = (cos b, sin b)
    fan = np.arctan2(u * np.cos(angle) + v * np.sin(angle), -u * np.sin(angle) + v * np.cos(angle))
    assert np.abs(w).max() <= 20 / math.hypot(500, 20) * (1 + 1e-6)
    assert w.mean() == pytest.approx(0.0, abs=4 * 0.04 / math.sqrt(3 * n))
    np.testing.assert_allclose(u * u + v * v + w * w, 1.0, atol=1e-6)
    kev = e * ENERGY_UNIT_KEV
    for k, (low, high) in enumerate(((1.0, 0.0), (2.0, 1.0), (2.0, 2.0), (0.0, 4.0))):
        inside = (fan > -0.4 + 0.2 * k) & (fan < -0.2 + 0.2 * k)
        for weight, centre in ((low, 40.0), (high, 80.0)):
            share = (inside & (np.abs(kev - centre) <= 1.0)).mean()
            # 4 sigma, and float32 fan angles on a bin's edge
            assert share == pytest.approx(weight / 12, abs=4 * math.sqrt(weight / 12 / n) + 1e-4)


def test_field_is_uniform_per_solid_angle():
    """Share of a quarter of an oblique field equals its share of the solid angle (arctangent formula)."""
    source = field_source(
        50.0,
        position_mm=np.zeros(3),
        corner_mm=np.array([0.0, 0.0, 100.0]),
        edges_mm=np.array([[200.0, 0.0, 0.0], [0.0, 200.0, 0.0]]),
    )
    n = 40_000
    _, _, _, u, v, w, _ = _emit_many(source, n).T

    def solid(a, b):
        return math.atan(a * b / (100 * math.sqrt(100**2 + a * a + b * b)))

    share = ((u / w < 1.0) & (v / w < 1.0)).mean()
    want = solid(100, 100) / solid(200, 200)
    assert share == pytest.approx(want, abs=4 * math.sqrt(want * (1 - want) / n))


def test_energies_outside_the_tables_are_refused():
    with pytest.raises(InputError, match="1 to 150 keV"):
        field_source(200.0, position_mm=np.zeros(3), corner_mm=np.ones(3), edges_mm=np.zeros((2, 3)))


def test_mas_of_a_scan(protocol):
    view, mas = stations(protocol, z_range_mm=(0.0, 200.0))
    assert mas == pytest.approx(protocol.mas * len(view) / protocol.scanner.views_per_rotation)
    # a helical path is gapless: each view ends where the next begins
    np.testing.assert_allclose(np.diff(view[:, 1]), view[0, 3], rtol=1e-6)
    np.testing.assert_allclose(np.diff(view[:, 0]), view[0, 2], rtol=1e-6)


def test_modulation_needs_one_value_per_view(protocol):
    view, _ = stations(protocol, z_range_mm=(0.0, 50.0))
    with pytest.raises(InputError, match="one value per view"):
        beam_source(protocol, view, isocentre_mm=(0.0, 0.0), relative_mas=np.ones(3))


def test_air_kerma_at_the_isocentre_is_absolute(protocol):
    """Without a phantom the chamber reads fluence x (1 m / R)^2 x E x mu_en/rho x beam width / length."""
    tables = build(["air"])
    radius, length = 10.0, 100.0
    rods = [
        Rod(0.0, 0.0, 60.0, -75.0, 75.0, 0, 1e-6),
        Rod(0.0, 0.0, radius, -length / 2, length / 2, 0, 1e-6, fluence=True),
    ]
    grid, low = cylinder_grid(rods, tables, reach_mm=700.0, air_density=1e-6)
    view = np.array([[0.0, -low[2], 2 * math.pi, 0.0]])
    source, per_mas = beam_source(protocol, view, isocentre_mm=(-low[0], -low[1]))
    n = 300_000
    tally = transport.run(grid, tables, source, histories=n, seed=1, n_region=3)
    mean, sd = transport.mean_sd(tally.fluence[1], n)
    volume = math.pi * radius**2 * length / 1000
    got, error = (v * per_mas * MGY_PER_KEV_G / volume for v in (mean, sd))
    fluence = beam_fluence(protocol, fan_angle_rad=[0.0])
    energy = fluence["energy"].values
    mu_en = attenuation.mass_energy_absorption("air", energy)[0]
    kerma = float((fluence.values[0] * energy * mu_en).sum()) * 100 * MGY_PER_KEV_G  # cm-2
    distance = protocol.scanner.source_to_isocentre_mm
    width = protocol.collimation_mm + protocol.scanner.over_beaming_mm
    want = kerma * (1000 / distance) ** 2 * width / length
    # 3 sigma, and 1 % for the bowtie over the chamber's 2 degrees
    assert abs(got - want) < 3 * error + 0.01 * want
