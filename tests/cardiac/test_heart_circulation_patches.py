"""Muscle patches: the sarcomere against its equations, walls against closed forms, and published directions."""

import math

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from twinlab.cardiac.circulation import (
    PatchVentricles,
    closed_loop,
    coupled,
    muscle_patches,
    parameter_set,
    patch_heart,
    with_scar,
)
from twinlab.cardiac.circulation.muscle import checked_table
from twinlab.kernels import heart_patch_loop as loop
from twinlab.kernels import heart_patches as kernel
from twinlab.kernels import heart_settle as settle
from twinlab.schema import InputError


@pytest.fixture(scope="module")
def healthy():
    return patch_heart(muscle_patches(segments=False))


def work_space(table):
    rows = np.zeros((loop.N_ROWS, len(table)))
    rows[loop.CONTRACTILE], rows[loop.LENGTH], rows[loop.AREA] = 0.5, 1.95, table[:, 1]
    rows[loop.NEW_CONTRACTILE] = 0.5
    return rows


def table_of(volume, area):
    return np.array([[volume, area, 0.0, 100.0, 7.0, 48.0, 32.0, 425.0]])


def test_isometric_twitch_follows_the_published_equations():
    sarcomere, patch = 2.2, table_of(100.0, 100.0)[0]

    def rate(t, y):
        length, c = y
        x = min(8.0, max(0.0, t / 48.0))
        rise = 0.02 * x**3 * (8 - x) ** 2 * math.exp(-x)
        end = 425.0 * (0.29 + 0.3 * length)
        return [
            ((sarcomere - length) / 0.04 - 1.0) * 0.007,
            math.tanh(4.0 * (length - 1.51) ** 2) * rise / 48.0
            + (0.02 - c) / (1.0 + math.exp((end - t) / 32.0)) / 32.0,
        ]

    times = np.arange(1.0, 601.0)
    exact = solve_ivp(rate, (0, 600), [2.16, 0.02], "LSODA", times, rtol=1e-8, atol=1e-10).y
    rows = np.zeros((loop.N_ROWS, 1))
    rows[loop.LENGTH], rows[loop.CONTRACTILE] = 2.16, 0.02
    strain, got = math.log(sarcomere / 2.0), []
    passive = kernel.fibre_stress(strain, 0.0, 2.16, patch, 1.0)[0]
    for time in times:
        loop.contract(patch[None], rows, time, 1.0, 1e6)
        stress, _, new = kernel.fibre_stress(
            strain, rows[loop.NEW_CONTRACTILE, 0], rows[loop.LENGTH, 0], patch, 1.0
        )
        rows[loop.NEW_LENGTH] = new
        loop.accept(rows)
        got.append(stress - passive)
    expected = 100.0 * exact[1] * (exact[0] - 1.51) * (sarcomere - exact[0]) / 0.04
    assert np.abs(got - expected).max() < 0.01 * expected.max()  # steps of 1 ms of first order


@pytest.mark.parametrize("volume", [60.0, 130.0])
def test_sphere_obeys_the_one_fibre_relation(volume):
    table = table_of(118.0, 107.0)
    rows = work_space(table)
    p, slope = np.zeros(2), np.zeros((2, 2))
    borders = np.array([0, 1, 1, 1])
    assert loop.trial(volume, 0.0, table, borders, rows, np.zeros(2), 1.0, p, slope)
    stress = rows[loop.STRESS, 0]
    arts = stress * math.log(1.0 + 118.0 / volume) / 3.0 / kernel.KPA_PER_MMHG  # Arts 1991
    # the wall's series in thickness over radius (Lumens 2009, eqs. 9 and 10) stops at the fourth power
    assert p[0] == pytest.approx(arts, rel=0.02)
    more = np.zeros(2)
    loop.trial(volume + 0.05, 0.0, table, borders, rows, np.zeros(2), 1.0, more, np.zeros((2, 2)))
    assert slope[0, 0] == pytest.approx((more[0] - p[0]) / 0.05, rel=5e-3)


def test_three_walls_with_an_idle_septum_are_one_sphere():
    half, idle = table_of(50.0, 60.0)[0], table_of(0.01, 30.0)[0]
    idle[3], idle[4] = 0.0, 1e-6
    table = np.array([half, idle, half])
    rows, junction = work_space(table), np.array([1.0, 3.2])
    p, slope = np.zeros(2), np.zeros((2, 2))
    assert loop.trial(70.0, 70.0, table, np.array([0, 1, 2, 3]), rows, junction, 1.0, p, slope)
    whole = table_of(100.0, 120.0)
    one, tangent = np.zeros(2), np.zeros((2, 2))
    loop.trial(140.0, 0.0, whole, np.array([0, 1, 1, 1]), work_space(whole), np.zeros(2), 1.0, one, tangent)
    assert p[0] == pytest.approx(one[0], rel=1e-3)
    assert p[1] == pytest.approx(p[0], rel=1e-6)
    assert abs(junction[0]) < 1e-3


def test_three_walls_have_the_derivative_of_their_pressures():
    patches = muscle_patches("three_walls", segments=False)
    table, borders, _ = checked_table(patches)
    rows, junction = work_space(table), np.array([35.0, 3.3])
    p, slope, q = np.zeros(2), np.zeros((2, 2)), np.zeros(2)
    assert loop.trial(120.0, 130.0, table, borders, rows, junction, 1.0, p, slope)
    for k in range(2):
        moved = [120.0, 130.0]
        moved[k] += 0.1
        assert loop.trial(*moved, table, borders, rows, junction, 1.0, q, np.zeros((2, 2)))
        np.testing.assert_allclose(slope[:, k], (q - p) / 0.1, rtol=0.01, atol=1e-3)


def test_healthy_hearts_keep_the_loops_figures(healthy):
    known = closed_loop()
    three = patch_heart(muscle_patches("three_walls", segments=False))
    for result in (healthy, three):
        assert result.attrs["periodic"]
        assert float(result.volume_imbalance) < 1e-5  # of a tolerance of 1e-4 ml
        assert 55 < float(result.lv_ef) < 70
        for name in ("lv_edv", "stroke_volume", "systemic_systolic", "systemic_diastolic"):
            assert float(result[name]) == pytest.approx(float(known[name]), rel=0.03), name  # fitted to them
        assert -25 < float(result.global_fibre_strain) < -12
    assert 45 < float(three.rv_ef) < 65


def test_patches_activated_at_once_are_one_patch(healthy):
    seventeen = patch_heart(muscle_patches())
    for name in ("lv_edv", "lv_esv", "lv_pressure_max", "lv_stroke_work"):
        assert float(seventeen[name]) == pytest.approx(float(healthy[name]), rel=1e-6), name
    np.testing.assert_allclose(seventeen.patch_strain[4], healthy.patch_strain[0], atol=1e-6)
    assert float(seventeen.shortening_sd) == 0.0
    assert float(seventeen.wasted_work_fraction) < 0.01


@pytest.mark.parametrize("kind", ["left_ventricle", "three_walls"])
def test_late_patches_are_stretched_before_and_pump_less_in_all(kind):
    patches = muscle_patches(kind)
    normal = patch_heart(patches)
    late = patches.copy(deep=True)
    delays = {str(n): 80.0 for n in (5, 6, 11, 12, 16)} | {str(n): 40.0 for n in (1, 4, 7, 10, 13, 15, 17)}
    for name, delay in delays.items():
        late.patch_activation.loc[{"patch": name}] += delay
    block = patch_heart(late)
    before = float(late.patch_activation.sel(patch="5"))
    stretch = block.patch_strain.sel(time=slice(0, before))
    # Prinzen 1999 (J Am Coll Cardiol 33:1735): early regions shorten early and do little or negative work, late ones
    # are stretched first and do up to about twice the normal work
    assert float(stretch.sel(patch="5").max()) > 0.03
    assert float(stretch.sel(patch="8").min()) < -0.05
    assert float(block.patch_work.sel(patch="8")) < 0.6 * float(normal.patch_work.sel(patch="8"))
    assert 1.2 < float(block.patch_work.sel(patch="5") / normal.patch_work.sel(patch="5")) < 3.0
    # left bundle branch block costs stroke volume 5 to 25 %, more than nothing with unchanged circulation
    assert 0.75 < float(block.stroke_volume / normal.stroke_volume) < 0.98
    assert float(block.lv_dpdt_max) < float(normal.lv_dpdt_max)
    assert float(block.shortening_sd) > float(normal.shortening_sd) + 30.0
    assert float(block.septal_to_lateral_delay) > float(normal.septal_to_lateral_delay) + 80.0
    assert float(block.wasted_work_fraction) > 0.1
    assert float(block.internal_stretch_fraction) > 0.15


def test_scar_does_no_work_and_costs_ejection():
    patches = muscle_patches()
    normal, scarred = patch_heart(patches), patch_heart(with_scar(patches, ["13", "14", "15", "16", "17"]))
    assert float(scarred.lv_ef) < float(normal.lv_ef) - 5
    assert abs(float(scarred.patch_work.sel(patch="17"))) < 0.05 * float(normal.patch_work.sel(patch="17"))
    assert float(scarred.patch_strain.sel(patch="17").min()) > float(normal.patch_strain.min()) / 2


@pytest.mark.parametrize("kind", ["left_ventricle", "three_walls"])
def test_put_into_the_loop_as_a_ventricle_they_give_the_same(kind):
    patches, p = muscle_patches(kind, segments=False), parameter_set()
    fast = patch_heart(patches, p, steps_per_beat=200, beats=2)
    inside = PatchVentricles(patches, period_ms=1000.0 * p.period_s)
    where = {"left": inside} if kind == "left_ventricle" else {"both": inside}
    slow = closed_loop(p, **where, steps_per_beat=200, beats=2)
    np.testing.assert_allclose(slow.compartment_volume, fast.compartment_volume, atol=1e-4)


@pytest.mark.parametrize("kind", ["left_ventricle", "three_walls"])
def test_extrapolated_beats_find_the_beat_that_plain_ones_run_to(kind):
    """Where 60 plain beats end, to what their drift (0.8 a beat at slowest) has left; the blood stays what it was."""
    patches = muscle_patches(kind, segments=False)
    plain = patch_heart(patches, steps_per_beat=100, beats=60)
    found = patch_heart(patches, steps_per_beat=100, tolerance_ml=1e-4)
    assert found.attrs["periodic"]
    assert found.attrs["beats"] < 20
    np.testing.assert_allclose(found.compartment_volume, plain.compartment_volume, atol=1e-3)
    total = found.compartment_volume.sum("compartment")
    np.testing.assert_allclose(total, parameter_set().stressed_volume_ml, rtol=1e-9)
    # the last beat goes on where the one before ended: its trace has no jump at the start
    start, steps = found.compartment_volume[:, 0], found.compartment_volume.diff("time")
    assert float(abs(found.compartment_volume[:, -1] - start).max()) <= 1e-4
    assert float(abs(steps[:, 0]).max()) <= float(abs(steps).max())


@pytest.mark.parametrize("kind", ["left_ventricle", "three_walls"])
@pytest.mark.parametrize("scale", [0.85, 1.7])
def test_small_and_dilated_hearts_beat(kind, scale):
    """The range of sizes: with a healthy heart's blood at first, dilated ones have no solution in their first step."""
    patches = muscle_patches(kind, segments=False)
    sized = patches.assign(patch_reference_area=patches.patch_reference_area * scale)
    found = patch_heart(sized, steps_per_beat=100, tolerance_ml=5e-3)
    assert found.attrs["periodic"]
    edv = float(found.lv_edv)
    assert edv < 120 if scale < 1 else edv > 250
    total = found.compartment_volume.sum("compartment")
    np.testing.assert_allclose(total, parameter_set().stressed_volume_ml, rtol=1e-9)


def test_shares_of_a_wall_that_are_not_found_are_no_tension():
    """A patch a thousand times as stiff and a slack one: no shares after sixty steps, and no number for them."""
    table = np.repeat(table_of(50.0, 50.0), 2, axis=0)
    table[1, 1], table[1, 4] = 0.05, 1000.0
    rows = work_space(table)
    tension, slope = kernel.wall_tension(
        300.0, 0.1, table, 0, 2, rows[loop.NEW_CONTRACTILE], rows[loop.LENGTH], 1.0, rows[loop.AREA],
        rows[loop.STRAIN], rows[loop.STRESS], rows[loop.NEW_LENGTH],
    )  # fmt: skip
    assert math.isnan(tension) == math.isnan(slope)
    if not math.isnan(tension):
        assert rows[loop.AREA].sum() == pytest.approx(300.0, rel=1e-6)


def test_the_extrapolation_solves_a_linear_map():
    """A map of three rates needs three differences; then the start is the fixed point."""
    rng = np.random.default_rng(0)
    fixed = np.concatenate([100.0 + rng.random(8), rng.random(4)])
    modes = rng.standard_normal((12, 3))
    back = np.linalg.pinv(modes)
    gain = modes @ np.diag([0.9, 0.5, -0.3]) @ back
    starts, ends = np.zeros((settle.DEPTH + 1, 12)), np.zeros((settle.DEPTH + 1, 12))
    state = fixed + modes @ [3.0, 1.0, 1.0]
    for _ in range(4):
        starts, ends = np.roll(starts, 1, axis=0), np.roll(ends, 1, axis=0)
        starts[0], ends[0] = state, fixed + gain @ (state - fixed)
        state = ends[0]
    out = np.empty(12)
    assert settle.extrapolated(starts, ends, 4, out)
    np.testing.assert_allclose(out, fixed, atol=1e-5)  # the ridge of 1e-10 keeps it from rounding
    # drifts that hardly change point far away: such a jump is not made
    starts[0], ends[0], starts[1], ends[1] = 100.0, 90.0, 110.1, 100.09
    assert not settle.extrapolated(starts, ends, 2, out)
    np.testing.assert_array_equal(out, ends[0])


def test_a_heart_that_closes_upon_itself_is_refused():
    patches = muscle_patches("three_walls", segments=False)
    with pytest.raises(InputError, match="ventricles that keep some blood"):
        patch_heart(
            patches.assign(patch_reference_area=patches.patch_reference_area * 0.6), steps_per_beat=100
        )


def test_a_heart_that_does_not_eject_is_refused():
    still = parameter_set().with_(
        {f"{side}_atrium.active_elastance_mmhg_per_ml": 0.0 for side in ("left", "right")}
    )
    patches = muscle_patches("three_walls", segments=False)
    with pytest.raises(InputError, match="a left ventricle that ejects"):
        patch_heart(patches.assign(patch_contractility=0.0 * patches.patch_contractility), still)


def test_a_stage_whose_valves_agree_with_no_pressures_is_no_solution(monkeypatch):
    """A step must not pass on volumes of a set of valves that contradicts its pressures."""
    stage = coupled.stage

    def unsure(*arguments):
        stage(*arguments)
        return False

    monkeypatch.setattr(coupled, "stage", unsure)
    inside = PatchVentricles(muscle_patches(segments=False), period_ms=1000.0 * parameter_set().period_s)
    with pytest.raises(coupled.CoupledError, match=r"no solution at 0\.000 ms"):
        closed_loop(left=inside, steps_per_beat=200, beats=2)


def test_refuses_patches_that_cannot_be():
    patches = muscle_patches()
    with pytest.raises(InputError, match="patch_contractility"):
        patch_heart(patches.assign(patch_contractility=-patches.patch_contractility))
    with pytest.raises(InputError, match="0, 1 and 2"):
        patch_heart(patches.assign(patch_wall=patches.patch_wall + 1))
    with pytest.raises(InputError, match="patch_rise"):
        patch_heart(patches.drop_vars("patch_rise"))
    with pytest.raises(InputError, match="with_scar"):
        with_scar(patches, ["99"])
    with pytest.raises(InputError, match="kind"):
        muscle_patches("biventricular")
