"""Pacing of the twin, and its left ventricle of finite elements."""

import numpy as np
import pytest
import xarray as xr

from twinlab.cardiac import circulation, geometry, mechanics
from twinlab.cardiac.electro.conduction_system import HEALTHY, LEADS, LEFT_BUNDLE_BRANCH_BLOCK
from twinlab.cardiac.twin import activations, beat_3d, fitted_left_ventricle, pacing_sites
from twinlab.cardiac.twin.finite_elements import _turned, _upright
from twinlab.schema import InputError


def test_pacing_joins_conduction_and_leads():
    assert pacing_sites("intrinsic") == HEALTHY
    found = pacing_sites("left bundle branch block + left_lateral")
    assert found == {**LEFT_BUNDLE_BRANCH_BLOCK, "left_lateral": LEADS["left_lateral"]}
    with pytest.raises(InputError, match="joined by \\+; got nowhere"):
        pacing_sites("intrinsic + nowhere")


def test_scar_that_conducts_slowly_delays_what_lies_behind_it():
    """A heart all of scar is slower by its factor; one in two segments delays them and nothing comes earlier."""
    heart = geometry.coordinates(
        geometry.fibres(geometry.idealised_lv(cavity_ml=120, wall_ml=130, h_mm=6, layers=1))
    )
    segment = geometry.aha_segments(heart).to_numpy()
    grid = {"spacing_mm": 3.0}
    plain = geometry.to_voxels(heart, **grid)
    lead = "left_lateral"
    before = activations(plain, [lead])[lead].to_numpy()
    whole = plain.assign(scar=plain["scar"].copy(data=2 * (plain["wall"].to_numpy() > 0)))
    slower = activations(whole, [lead])[lead].to_numpy()
    late = before > 20.0
    # healthy muscle near the lead takes straight rays, scar is swept from the lead: an offset that does not grow
    assert np.polyfit(before[late], slower[late], 1)[0] == pytest.approx(3.0, rel=0.03)
    scarred = geometry.add_scar(heart, segments=[3, 9], border_mm=3.0)  # septum, far from the lead
    after = activations(geometry.to_voxels(scarred, **grid), [lead])[lead].to_numpy()
    inside = plain["wall"].to_numpy() > 0
    assert (after[inside] >= before[inside] - 1e-6).all()
    by_tet = [
        geometry.to_mesh(plain["wall"].copy(data=t), heart).to_numpy()[heart["tet"].to_numpy()].mean(axis=1)
        for t in (before, after)
    ]
    delay = by_tet[1] - by_tet[0]
    assert delay[np.isin(segment, [3, 9])].mean() > 8.0
    assert abs(delay[np.isin(segment, [5, 6, 11, 12])]).max() < 1.0  # before the scar
    dead = activations(geometry.to_voxels(scarred, **grid), [lead], core=0.0)[lead].to_numpy()
    assert np.isnan(dead[inside]).any()


def test_the_fitted_ventricle_has_the_patients_volumes_and_segments():
    heart, frame = fitted_left_ventricle(cavity_ml=100.0, wall_ml=90.0, cells=(1, 4, 8))
    solid = mechanics.body(heart, law=mechanics.neo_hookean(mu_kpa=1.0))
    # curved elements of second order: volumes within a percent at this size
    assert solid.measure.sum() / 1000.0 == pytest.approx(90.0, rel=0.01)
    cavity = mechanics.Ventricle(solid, lambda _: np.zeros(heart.sizes["tet"])).volume_ml
    assert cavity == pytest.approx(100.0, rel=0.01)
    assert set(np.unique(heart["aha_segment"])) == set(range(1, 18))
    np.testing.assert_allclose(
        frame @ np.swapaxes(frame, -1, -2), np.broadcast_to(np.eye(3), frame.shape), atol=1e-9
    )
    with pytest.raises(InputError, match="wall_ml from"):
        fitted_left_ventricle(cavity_ml=100.0, wall_ml=-5.0)


def test_any_pose_is_turned_upright_and_back():
    heart, _ = fitted_left_ventricle(cavity_ml=80.0, wall_ml=80.0, cells=(1, 2, 4))
    turn = np.array([[0.0, -1.0, 0.0], [0.0, 0.0, -1.0], [1.0, 0.0, 0.0]])
    lying = _turned(heart, turn)
    upright = _upright(lying)
    base = (
        lying["point"].to_numpy()[np.unique(lying["facet"].to_numpy()[lying["facet_surface"] == 4])]
        @ upright.T
    )
    assert np.ptp(base[:, 2]) < 1e-6
    back = _turned(_turned(lying, upright), upright.T)
    np.testing.assert_allclose(back["point"], lying["point"], atol=1e-9)


def test_a_mesh_without_fibres_or_base_is_refused():
    heart, _ = fitted_left_ventricle(cavity_ml=80.0, wall_ml=80.0, cells=(1, 2, 4))
    activation = np.zeros(heart.sizes["tet"])
    with pytest.raises(InputError, match="a mesh with fibres"):
        beat_3d(heart, activation)
    bare = heart.assign(facet_surface=xr.zeros_like(heart["facet_surface"]))
    frame = mechanics.ellipsoid_frame(heart, endo_deg=60.0, epi_deg=-60.0)
    with pytest.raises(InputError, match="a base"):
        beat_3d(bare, activation, frame=frame)


def test_a_beat_of_elements_tells_its_strains_and_its_dyssynchrony():
    """Shortening along, around and along fibres; late segments are stretched and shorten later."""
    heart, frame = fitted_left_ventricle(cavity_ml=100.0, wall_ml=90.0, cells=(1, 3, 6))
    start = np.array(circulation.closed_loop().attrs["state"])
    start[1] = 95.0
    lateral = np.isin(heart["aha_segment"].to_numpy(), [5, 6, 11, 12, 16])
    late = beat_3d(
        heart, 60.0 * lateral, frame=frame, start=start, steps_per_beat=50, beats=2, end_diastolic_mmhg=10.0
    )
    for name in ("fibre", "longitudinal", "circumferential"):
        assert -30.0 < float(late[f"global_{name}_strain"]) < -3.0
    volume = late["compartment_volume"].sel(compartment="left_ventricle")
    # the mean over the muscle is that of the segments weighted by their muscle, at the emptiest moment
    lowest = float(late["time"][int(volume.to_numpy().argmin())])
    low = int(np.abs(late["shape_time"].to_numpy() - lowest).argmin())
    segments = late["segment_strain"].isel(shape_time=low)
    assert float(segments.min()) < float(late["global_fibre_strain"]) / 100 < float(segments.max())
    assert (
        float(late["systolic_shortening_sd"]) > 40.0
    )  # a third of the muscle 60 ms late; together: see below
    early = late["segment_strain"].sel(shape_time=slice(None, 220.0)).max("shape_time")
    assert float(early.sel(segment=6)) > 0.0  # stretched by the septum before it is activated itself


@pytest.mark.slow
def test_a_beat_of_elements_balances_and_answers_to_tension():
    """Volume that enters the coupled ventricle leaves it; more tension, more stroke volume."""
    heart, frame = fitted_left_ventricle(cavity_ml=100.0, wall_ml=90.0, cells=(1, 3, 6))
    start = np.array(circulation.closed_loop().attrs["state"])
    start[1] = 95.0
    strokes = []
    for peak in (80.0, 120.0):
        found = beat_3d(
            heart,
            np.zeros(heart.sizes["tet"]),
            frame=frame,
            start=start,
            steps_per_beat=60,
            beats=6,
            peak_kpa=peak,
            end_diastolic_mmhg=10.0,
        )
        strokes.append(float(found["stroke_volume"]))
        assert float(found["systolic_shortening_sd"]) < 25.0  # activated at once; a step is 14 ms
        volume = found["compartment_volume"]
        # the loop is closed: eight compartments keep their sum (Newton ends at 1e-6 ml a step)
        total = volume.sum("compartment")
        assert float(total.max() - total.min()) < 1e-3
        assert found.sizes["shape_time"] >= 60
        last = found["point"].to_numpy() + found["displacement"].to_numpy()[-1]
        shape = mechanics.body(
            heart.assign(point=heart["point"].copy(data=last)), law=mechanics.neo_hookean(mu_kpa=1.0)
        )
        at_end = float(volume.sel(compartment="left_ventricle")[-1])
        inside = mechanics.Ventricle(shape, lambda _: np.zeros(heart.sizes["tet"])).volume_ml
        assert inside == pytest.approx(at_end, rel=1e-4)  # shapes are kept in single precision
    assert strokes[1] > strokes[0] + 2.0  # the direction, well beyond the last beat's change
