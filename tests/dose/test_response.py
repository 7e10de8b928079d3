"""Doses from the response of a patient against full runs; runs up to a goal."""

from __future__ import annotations

import time

import numpy as np
import pytest
import xarray as xr
from made_doses import water_trunk

from twinlab import dose
from twinlab.dose.cells import Cells, weights
from twinlab.dose.until import BLOCK
from twinlab.scanner import automatic_exposure, current_of_slices, load_protocol, trajectory
from twinlab.schema import InputError, check

RANGE = (60.0, 180.0)


@pytest.fixture(scope="module")
def protocol():
    return load_protocol("abdomen_pelvis").replace(tube_current_ma=200.0)


@pytest.fixture(scope="module")
def phantom():
    """Water, 28 by 20 cm across and 24 cm long, in 1 cm voxels: core, four quarters, an end."""
    return water_trunk(half_x_mm=140.0, half_y_mm=100.0, core=0.2**0.5, n_z=24, n_end=3)


@pytest.fixture(scope="module")
def response(phantom, protocol):
    return dose.response_matrix(phantom, protocol, z_range_mm=RANGE, histories=3_000_000, seed=5)


def _pulls(got: xr.Dataset, full: xr.Dataset) -> np.ndarray:
    return ((got.organ_dose - full.organ_dose) / np.hypot(got.organ_dose_sd, full.organ_dose_sd)).values


@pytest.mark.parametrize("change", ["as it is", "narrow and slow", "axial", "modulated", "closing blades"])
def test_as_a_full_run(response, phantom, protocol, change):
    """Within 3.5 sd for six organs and five protocols, 30 differences: one of 1,000 such sets would fail by chance."""
    more: dict = {}
    if change == "narrow and slow":
        protocol = protocol.replace(pitch=0.516, collimation_mm=20.0)
    elif change == "axial":
        protocol = protocol.replace(mode="axial", pitch=1.0)
    elif change == "modulated":
        protocol, path = automatic_exposure(phantom, load_protocol("abdomen_pelvis"), z_range_mm=RANGE)
        more = {"trajectory": path}
    elif change == "closing blades":
        more = {"dynamic_collimation": True}
    full = dose.simulate(
        phantom, protocol, z_range_mm=RANGE, histories=1_000_000, seed=3, voxel_map=False, **more
    )
    began = time.perf_counter()
    got = dose.from_response(response, protocol, z_range_mm=RANGE, **more)
    took = time.perf_counter() - began
    assert np.abs(_pulls(got, full)).max() < 3.5
    assert got.attrs["mas"] == pytest.approx(full.attrs["mas"])
    for name in ("organ_mass", "organ_coverage", "organ_cut"):
        np.testing.assert_allclose(got[name], full[name], rtol=1e-6)
    assert (got.organ_dose_sd > 0).all()
    print(f"{change}: {1e3 * took:.1f} ms, largest pull {np.abs(_pulls(got, full)).max():.1f}")


def test_labelled_and_linear(response, protocol):
    check(response, "organ_response", "organ_response_sd", "organ_mass_z", "cone_sine", where="test")
    one = dose.from_response(response, protocol, z_range_mm=RANGE)
    twice = dose.from_response(response, protocol.replace(tube_current_ma=400.0), z_range_mm=RANGE)
    np.testing.assert_allclose(twice.organ_dose, 2 * one.organ_dose, rtol=1e-12)
    np.testing.assert_allclose(twice.organ_dose_sd, 2 * one.organ_dose_sd, rtol=1e-12)


def test_the_mas_of_a_trajectory(response, protocol):
    """Its current counts, not the protocol's, and is told as effective mAs."""
    path = trajectory(protocol, z_range_mm=RANGE)
    path = current_of_slices(path, z_mm=[0.0], tube_current_ma=[2.5 * protocol.tube_current_ma])
    one = dose.from_response(response, protocol, z_range_mm=RANGE)
    more = dose.from_response(response, protocol, z_range_mm=RANGE, trajectory=path)
    # sums of 2e4 numbers in single precision: 6e-8 times the root of their number
    np.testing.assert_allclose(more.organ_dose, 2.5 * one.organ_dose, rtol=1e-5)
    assert one.attrs["effective_mas"] == pytest.approx(protocol.effective_mas)
    assert more.attrs["effective_mas"] == pytest.approx(2.5 * protocol.effective_mas)


def test_two_voltages(response, phantom):
    """A switched tube's dose is the sum of both voltages' at half the views."""
    protocol = load_protocol("abdomen_pelvis").replace(tube_current_ma=200.0, kv=120.0, second_kv=80.0)
    low = dose.response_matrix(
        phantom, protocol.replace(kv=80.0, second_kv=None), z_range_mm=RANGE, histories=3_000_000
    )
    both = dose.from_response([response, low], protocol, z_range_mm=RANGE)
    parts = [
        dose.from_response(one, protocol.replace(kv=kv, second_kv=None), z_range_mm=RANGE)
        for one, kv in ((response, 120.0), (low, 80.0))
    ]
    mean = (parts[0].organ_dose + parts[1].organ_dose) / 2
    # every second view is not quite half of every place
    np.testing.assert_allclose(both.organ_dose, mean, rtol=2e-3)


def test_refusals(response, phantom, protocol):
    with pytest.raises(InputError, match="120"):
        dose.from_response(response, protocol.replace(kv=80.0), z_range_mm=RANGE)
    with pytest.raises(InputError, match="path of the tube"):
        dose.from_response(response, protocol, z_range_mm=(-100.0, 180.0))
    with pytest.raises(InputError, match="histories"):
        dose.response_matrix(phantom, protocol, z_range_mm=RANGE, histories=1000)
    path = trajectory(protocol, z_range_mm=RANGE)
    with pytest.raises(InputError, match="gantry_tilt_deg: expected 0"):
        dose.from_response(
            response, protocol, z_range_mm=RANGE, trajectory=path.assign_attrs(gantry_tilt_deg=15.0)
        )
    moved = response.assign_attrs(isocentre_x_mm=30.0)
    with pytest.raises(InputError, match="isocentre_x_mm"):
        dose.from_response([response, moved], protocol, z_range_mm=RANGE)
    other = response.assign(organ_mass=response["organ_mass"] * 2)
    with pytest.raises(InputError, match="one phantom"):
        dose.from_response([response, other], protocol, z_range_mm=RANGE)
    with pytest.raises(InputError, match="several"):
        dose.from_response([], protocol, z_range_mm=RANGE)
    for wrong in ({"z_range_mm": (900.0, 950.0)}, {"isocentre_mm": (np.nan, 0.0)}, {"output_factor": 0.0}):
        with pytest.raises(InputError, match=next(iter(wrong))):
            dose.response_matrix(phantom, protocol, **{"z_range_mm": RANGE, "histories": 1_000_000, **wrong})
    narrow = dose.response_matrix(phantom, protocol, z_range_mm=RANGE, histories=2_000_000, max_width_mm=20.0)
    with pytest.raises(InputError, match="beam"):
        dose.from_response(narrow, protocol.replace(mode="axial", pitch=1.0), z_range_mm=RANGE)


def test_weights_keep_the_mas():
    cells = Cells(z_mm=np.arange(-50.0, 51.0, 10.0), n_sector=8, sine=np.linspace(-0.04, 0.04, 9))
    rng = np.random.default_rng(2)
    view = np.column_stack([rng.uniform(0, 30, 500), rng.uniform(-40, 40, 500), np.zeros(500), np.zeros(500)])
    mas = rng.uniform(0.1, 1.0, 500)
    half = 0.5 * (0.03 / np.sqrt(1 - 0.03**2))
    got = weights(cells, view, mas, np.array([[-half, half]]), blur=0.004)
    # the penumbra lets as much through outside as it takes inside
    covered = (got.sum(axis=(0, 1)) * np.diff(cells.sine)).sum()
    assert covered == pytest.approx(mas.sum() * 2 * half / np.hypot(1, half), rel=1e-3)
    place = (got.sum(axis=(1, 2)) / got.sum()) @ cells.z_mm
    assert place == pytest.approx((view[:, 1] * mas).sum() / mas.sum(), abs=1e-9)


def test_until_the_goal(phantom, protocol):
    goal = {"core": 0.006, "end": 0.02}
    sure = dose.simulate(
        phantom, protocol, z_range_mm=RANGE, histories=20_000_000, until=goal, voxel_map=False
    )
    reached = (sure.organ_dose_sd / sure.organ_dose).set_index(organ_id="organ_name")
    assert all(float(reached.sel(organ_id=organ)) <= value for organ, value in goal.items())
    assert sure.attrs["histories"] < 20_000_000
    assert sure.attrs["until"] == "core 0.6 %, end 2 %"
    assert sure.attrs["histories"] % BLOCK == 0
    whole = dose.simulate(
        phantom, protocol, z_range_mm=RANGE, histories=sure.attrs["histories"], voxel_map=False
    )
    np.testing.assert_array_equal(sure.organ_dose, whole.organ_dose)
    with pytest.raises(InputError, match="spleen"):
        dose.simulate(phantom, protocol, z_range_mm=RANGE, histories=10_000, until={"spleen": 0.01})
    with pytest.raises(InputError, match="uncertainties"):
        dose.simulate(phantom, protocol, z_range_mm=RANGE, histories=10_000, until={"core": 0.0})


def test_beam_beside_the_patient(phantom, protocol):
    with pytest.raises(InputError, match="isocentre"):
        dose.simulate(phantom, protocol, z_range_mm=RANGE, histories=10_000, isocentre_mm=(2000.0, 0.0))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("histories", 2e4),
        ("histories", float("nan")),
        ("seed", -1),
        ("output_factor", float("nan")),
        ("output_factor", -1.0),
        ("isocentre_mm", (float("nan"), 0.0)),
        ("isocentre_mm", (3.0,)),
        ("relative_mas", np.zeros(3431)),
        ("extend_mm", -5.0),
        ("block", -1),
        ("until", ["core"]),
        ("start_angle_deg", float("nan")),
    ],
)
def test_wrong_settings(phantom, protocol, name, value):
    """One line that names what is wrong, before any transport."""
    options = {"z_range_mm": RANGE, "histories": 20_000, "voxel_map": False, name: value}
    with pytest.raises(InputError, match="angles" if name == "start_angle_deg" else name) as caught:
        dose.simulate(phantom, protocol, **options)
    assert "\n" not in str(caught.value)
