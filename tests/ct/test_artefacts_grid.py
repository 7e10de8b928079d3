"""Anti-scatter grid: shadows of its septa."""

from __future__ import annotations

import numpy as np
import pytest
from disc_scan import disc_protocol

from twinlab.ct.artefacts import grid_transmission, primary_transmission
from twinlab.physics.attenuation import linear_attenuation_per_mm
from twinlab.scanner import AntiscatterGrid
from twinlab.schema import InputError


def with_grid(**changes):
    setting = disc_protocol(120)
    parts = {"material": "tungsten", "septum_mm": 0.1, "height_mm": 20.0, **changes}
    detector = setting.scanner.detector.model_copy(update={"grid": AntiscatterGrid(**parts)})
    return setting.replace(scanner=setting.scanner.model_copy(update={"detector": detector}))


def test_opaque_septa_cast_their_geometric_shadow():
    setting = with_grid(septum_mm=0.3)
    detector = setting.scanner.detector
    pitch, active = detector.channel_pitch_mm, detector.channel_pitch_mm * np.sqrt(detector.fill_factor)
    # Edge on, a septum hides what of its thickness lies over active width: (0.3 - dead border) of it.
    lost = (0.3 - (pitch - active)) / active
    assert primary_transmission(setting, energy_kev=[60.0])[0] == pytest.approx(1 - lost, abs=2 / 400)
    # Inclined, a shift of s mm hides s more, until every exit point lies behind a septum.
    for shift in (0.1, 0.3, 0.5):
        passed = grid_transmission(setting, energy_kev=[60.0], tangent=[shift / 20.0])[0, 0]
        assert passed == pytest.approx(1 - lost - shift / active, abs=0.01), shift
    assert grid_transmission(setting, energy_kev=[60.0], tangent=[0.1])[0, 0] < 1e-3


def test_thin_septa_attenuate_exponentially():
    setting = with_grid(septum_mm=0.02)
    tangent, pitch = 0.5, setting.scanner.detector.channel_pitch_mm
    crossed = 20.0 * tangent / pitch  # septa per photon, on average
    path = 0.02 * np.hypot(1, tangent) / tangent
    mu = linear_attenuation_per_mm("tungsten", [60.0], density_g_cm3=19.3)[0]
    passed = grid_transmission(setting, energy_kev=[60.0], tangent=[tangent])[0, 0]
    # Nine or ten septa: between the two exponentials.
    assert np.exp(-mu * path * np.ceil(crossed)) < passed < np.exp(-mu * path * np.floor(crossed))


def test_septa_over_the_dead_border_cost_no_primary_photons():
    assert primary_transmission(with_grid(septum_mm=0.1), energy_kev=[60.0])[0] == 1.0


def test_rows_are_shielded_by_two_dimensional_grids_only():
    flat, crossed = with_grid(), with_grid(two_dimensional=True)
    oblique = {"energy_kev": [60.0], "tangent": [0.5], "direction": "row"}
    assert grid_transmission(flat, **oblique)[0, 0] == 1.0
    assert grid_transmission(crossed, **oblique)[0, 0] < 0.01
    assert grid_transmission(disc_protocol(120), energy_kev=[60.0], tangent=[1.0])[0, 0] == 1.0


def test_septa_as_thick_as_cells_are_refused():
    with pytest.raises(InputError, match="thinner than the cell"):
        grid_transmission(with_grid(septum_mm=1.5), energy_kev=[60.0], tangent=[0.0])
