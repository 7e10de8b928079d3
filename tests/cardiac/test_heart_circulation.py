"""The closed loop: against published figures, an independent integration, and its own conservation laws."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy.integrate import solve_ivp

from twinlab.cardiac.circulation import (
    ClosedLoop,
    CoupledError,
    closed_loop,
    closed_loop_many,
    parameter_names,
    parameter_set,
)
from twinlab.schema import InputError

# Initial state of the published set: volumes in ring order (vessels: compliance times pressure) and four flows.
PUBLISHED_START = np.array(
    [87.183, 118.520, 1.372 * 87.675, 11.363 * 35.898, 86.833, 166.177, 20.0 * 19.545, 16.0 * 15.004]
    + [71.104, 94.039, 94.084, 473.279]
)


class Elastance:
    """An elastance as a ventricle from outside."""

    def __init__(self, chamber, period_s):
        self.chamber, self.period = chamber, period_s
        self.commits = self.rollbacks = 0

    def elastance(self, time_ms):
        c = self.chamber
        phase = (time_ms / 1000.0 - c.onset_s) % self.period
        act = 0.0
        if phase < c.contraction_s:
            act = 0.5 - 0.5 * math.cos(math.pi * phase / c.contraction_s)
        elif phase < c.contraction_s + c.relaxation_s:
            act = 0.5 + 0.5 * math.cos(math.pi * (phase - c.contraction_s) / c.relaxation_s)
        return c.passive_elastance_mmhg_per_ml + c.active_elastance_mmhg_per_ml * act

    def pressure(self, volume_ml, time_ms):
        e = self.elastance(time_ms)
        return e * (volume_ml - self.chamber.unstressed_volume_ml), e

    def commit(self):
        self.commits += 1

    def rollback(self):
        self.rollbacks += 1


class Pair:
    """Two elastances in the form of both ventricles at once."""

    def __init__(self, left, right):
        self.one = (left, right)

    def pressure(self, volume_ml, time_ms):
        p, e = zip(
            *(one.pressure(v, time_ms) for one, v in zip(self.one, volume_ml, strict=True)), strict=True
        )
        return np.array(p), np.diag(e)

    def commit(self):
        pass

    def rollback(self):
        pass


def test_published_set_gives_the_published_figures():
    result = closed_loop(parameter_set("regazzoni_2022"), start=PUBLISHED_START, beats=10)
    # The package circulation 0.4.0, Regazzoni2020, 10 beats by forward Euler of 1 ms, valves smoothed by an arctan:
    # its own error of first order and the smoothing are 0.1 %.
    expected = {
        "lv_edv": 136.843,
        "lv_esv": 66.988,
        "lv_ef": 51.047,
        "rv_edv": 181.545,
        "rv_esv": 111.696,
        "lv_pressure_max": 119.796,
        "systemic_systolic": 118.839,
        "systemic_diastolic": 79.863,
    }
    for name, value in expected.items():
        assert float(result[name]) == pytest.approx(value, rel=1e-3), name


def test_equals_an_independent_integration_with_error_control():
    p = parameter_set("regazzoni_2022")
    chambers = [Elastance(getattr(p, n), p.period_s) for n in ("left_atrium", "left_ventricle")]
    chambers += [Elastance(getattr(p, n), p.period_s) for n in ("right_atrium", "right_ventricle")]
    s, q = p.systemic, p.pulmonary

    def rate(t, y):
        la, lv, ra, rv, ps, pvs, pp, pvp, qs, qvs, qp, qvp = y
        pla, plv, pra, prv = (
            c.pressure(v, 1000 * t)[0] for c, v in zip(chambers, (la, lv, ra, rv), strict=True)
        )

        def valve(a, b):
            return (a - b) / (0.0075 if a > b else 75006.2)

        mv, av, tv, pv = valve(pla, plv), valve(plv, ps), valve(pra, prv), valve(prv, pp)
        return [
            qvp - mv, mv - av, qvs - tv, tv - pv,
            (av - qs) / s.artery_compliance_ml_per_mmhg, (qs - qvs) / s.vein_compliance_ml_per_mmhg,
            (pv - qp) / q.artery_compliance_ml_per_mmhg, (qp - qvp) / q.vein_compliance_ml_per_mmhg,
            (ps - pvs - s.artery_resistance_mmhg_s_per_ml * qs) / s.artery_inertance_mmhg_s2_per_ml,
            (pvs - pra - s.vein_resistance_mmhg_s_per_ml * qvs) / s.vein_inertance_mmhg_s2_per_ml,
            (pp - pvp - q.artery_resistance_mmhg_s_per_ml * qp) / q.artery_inertance_mmhg_s2_per_ml,
            (pvp - pla - q.vein_resistance_mmhg_s_per_ml * qvp) / q.vein_inertance_mmhg_s2_per_ml,
        ]  # fmt: skip

    y0 = [87.183, 118.52, 86.833, 166.177, 87.675, 35.898, 19.545, 15.004, 71.104, 94.039, 94.084, 473.279]
    times = np.linspace(0.8, 1.6, 161)
    exact = solve_ivp(rate, (0, 1.6), y0, "LSODA", times, rtol=1e-7, atol=1e-6, max_step=2e-3)
    ours = closed_loop(p, start=PUBLISHED_START, beats=2)
    inside = ours.compartment_volume.sel(compartment="left_ventricle")[::5]
    # steps of 1 ms, order two but for the switching of the valves
    assert np.abs(inside.values - exact.y[1]).max() < 0.02
    arteries = ours.compartment_pressure.sel(compartment="systemic_arteries")[::5]
    assert np.abs(arteries.values - exact.y[4]).max() < 0.05


def test_healthy_set_is_periodic_balanced_and_in_range():
    result = closed_loop()
    assert result.attrs["periodic"]
    assert float(result.volume_imbalance) < 1e-6
    total = result.compartment_volume.sum("compartment")
    assert np.ptp(total.values) < 1e-9 * float(total[0])
    ranges = {  # adults at rest: ESC 2022 and ASE 2015 reference ranges
        "lv_ef": (55, 70),
        "lv_edv": (100, 160),
        "rv_ef": (45, 70),
        "systemic_systolic": (105, 130),
        "systemic_diastolic": (65, 85),
        "pulmonary_mean": (8, 20),
        "left_atrial_mean": (4, 12),
        "right_atrial_mean": (0, 6),
        "lv_pressure_ed": (4, 12),
        "cardiac_output": (4, 8),
        "lv_dpdt_max": (1000, 2500),
        "lv_stroke_work": (0.7, 1.4),
    }
    for name, (low, high) in ranges.items():
        assert low < float(result[name]) < high, name


def test_halving_the_step_changes_little():
    coarse, fine = closed_loop(steps_per_beat=400), closed_loop(steps_per_beat=3200)
    for name in ("lv_edv", "lv_esv", "systemic_systolic", "lv_stroke_work"):
        assert float(coarse[name]) == pytest.approx(float(fine[name]), rel=5e-4), name


def test_a_ventricle_put_in_acts_as_the_elastance_it_is():
    p = parameter_set()
    known = closed_loop(p)
    start = known.attrs["state"]
    left = Elastance(p.left_ventricle, p.period_s)
    result = closed_loop(p, left=left, start=start, beats=2)
    for name in ("lv_edv", "lv_esv", "lv_pressure_max", "systemic_diastolic"):
        assert float(result[name]) == pytest.approx(float(known[name]), rel=5e-3), (
            name
        )  # backward Euler, 1 ms
    assert left.commits >= 1600
    pair = Pair(left, Elastance(p.right_ventricle, p.period_s))
    both = closed_loop(p, both=pair, start=start, beats=2)
    np.testing.assert_allclose(both.compartment_volume, result.compartment_volume, atol=1e-6)


def test_a_ventricle_that_fails_is_rolled_back_and_told():
    p = parameter_set()

    class Broken(Elastance):
        def pressure(self, volume_ml, time_ms):
            p, e = super().pressure(volume_ml, time_ms)
            return (math.nan if time_ms > 300.0 else p), e

    broken = Broken(p.left_ventricle, p.period_s)
    with pytest.raises(CoupledError, match="no solution at 30"):
        closed_loop(p, left=broken, beats=2, steps_per_beat=200)
    assert broken.rollbacks > 3


def test_many_cases_equal_single_ones_whatever_the_order():
    table = pd.DataFrame(
        {
            "systemic.artery_resistance_mmhg_s_per_ml": [0.7, 0.93, 1.3],
            "left_ventricle.active_elastance_mmhg_per_ml": [3.0, 2.6, 1.0],
        },
        index=["vasodilated", "usual", "failing"],
    )
    many = closed_loop_many(table)
    assert bool(many.periodic.all())
    again = closed_loop_many(table[::-1])
    assert np.array_equal(again.lv_ef.values[::-1], many.lv_ef.values)
    one = closed_loop(
        parameter_set().with_(table.loc["failing"].to_dict()), steps_per_beat=400, tolerance_ml=1e-4
    )
    assert float(many.lv_ef.sel(case="failing")) == float(one.lv_ef)
    assert float(many.lv_ef.sel(case="failing")) < 45 < float(many.lv_ef.sel(case="vasodilated"))


def test_starling_afterload_and_contractility_have_the_known_directions():
    base = parameter_set()
    table = pd.DataFrame(
        [
            {},
            {"stressed_volume_ml": base.stressed_volume_ml + 200.0},
            {"systemic.artery_resistance_mmhg_s_per_ml": 1.5},
            {"left_ventricle.active_elastance_mmhg_per_ml": 4.0},
        ]
    )
    for name in table:
        inner = base.model_dump()
        for part in name.split("."):
            inner = inner[part]
        table[name] = table[name].fillna(inner)
    many = closed_loop_many(table)
    sv, esv = many.stroke_volume.values, many.lv_esv.values
    assert sv[1] > sv[0] > sv[2]
    assert sv[3] > sv[0]
    assert esv[2] > esv[0] > esv[3]


def test_refuses_what_cannot_be():
    base = parameter_set()
    with pytest.raises(InputError, match="contract and relax within a beat"):
        base.with_({"heart_rate_bpm": 200.0})
    with pytest.raises(InputError, match="unknown_name"):
        base.with_({"systemic.unknown_name": 1.0})
    with pytest.raises(InputError, match="row 4"):
        closed_loop_many(pd.DataFrame({"heart_rate_bpm": [-1.0]}, index=[4]))
    with pytest.raises(InputError, match="healthy"):
        parameter_set("normal")
    with pytest.raises(InputError, match="either both"):
        closed_loop(left=object(), both=object())
    with pytest.raises(InputError, match="pressure, commit and rollback"):
        closed_loop(left=object())
    with pytest.warns(UserWarning, match="not periodic"):
        assert not closed_loop(most_beats=3).attrs["periodic"]
    assert "systemic.artery_resistance_mmhg_s_per_ml" in parameter_names(base)
    assert ClosedLoop.make(base.model_dump()) == base
