"""The quick heart, its personalisation and what-if: directions that physiology dictates, and known parameters found."""

import numpy as np
import pytest
import xarray as xr

from twinlab.cardiac.twin import (
    INPUTS,
    Scenario,
    VirtualHeart,
    beats,
    calibrate,
    design,
    predict_curves,
    quick_answer,
    reduce_curves,
    segment_times,
    virtual_cohort,
    what_if,
)
from twinlab.schema import InputError

pytest.importorskip("sklearn", reason="needs scikit-learn (extra heart)")

SEGMENTS = [str(n) for n in range(1, 18)] + ["R1"]
LATERAL = np.isin(SEGMENTS, ["5", "6", "11", "12", "16"])


def times(late_ms=90.0):
    """All at once, and with the lateral wall late."""
    rows = np.array([np.full(18, 20.0), 20.0 + late_ms * LATERAL])
    return xr.Dataset(
        {
            "segment_activation": (("pacing", "patch"), rows),
            "qrs_duration": ("pacing", [80.0, 80.0 + late_ms]),
        },
        coords={"pacing": ["intrinsic", "block"], "patch": SEGMENTS},
        attrs={"velocity_mm_per_ms": 0.6},
    )


HEART = VirtualHeart(times(), steps_per_beat=100)


def cases(**values):
    return xr.Dataset({k: ("case", np.asarray(v, float)) for k, v in values.items()})


def test_segment_times_are_means_from_the_first_activation():
    segment = np.repeat(np.arange(1, 19), 4).reshape(18, 2, 2)
    wall = np.where(segment == 18, 3, 1)
    segment = np.where(segment == 18, 0, segment)
    activation = 100.0 + np.arange(72.0).reshape(18, 2, 2)
    found = segment_times({"a": activation}, segment, wall, velocity_mm_per_ms=0.5)
    np.testing.assert_allclose(found["segment_activation"].values[0], 4 * np.arange(18) + 1.5)
    assert float(found["qrs_duration"][0]) == 71.0
    activation[:1] = np.nan
    with pytest.raises(InputError, match=r"none in \['1'\]"):
        segment_times({"a": activation}, segment, wall, velocity_mm_per_ms=0.5)


def test_slow_conduction_lengthens_the_qrs_and_nothing_else_does():
    found = beats(HEART, cases(conduction_velocity_mm_per_ms=[0.6, 0.3], contractility_scale=[1.0, 1.2]))
    np.testing.assert_allclose(found["qrs_duration"], [80.0, 160.0])


def test_answers_go_where_physiology_has_them_go():
    """Suga and Sagawa (1974): end-systolic volume falls with contractility, rises with afterload."""
    healthy = cases(contractility_scale=[1.0, 1.2, 1.0, 1.0], resistance_scale=[1.0, 1.0, 1.4, 1.0])
    healthy["blood_volume_scale"] = ("case", [1.0, 1.0, 1.0, 1.1])
    base, strong, loaded, filled = (beats(HEART, healthy).isel(case=i) for i in range(4))
    assert strong["lv_esv"] < base["lv_esv"] - 3.0
    assert strong["lv_ef"] > base["lv_ef"] + 2.0
    assert loaded["systemic_systolic"] > base["systemic_systolic"] + 5.0
    assert loaded["stroke_volume"] < base["stroke_volume"] - 2.0
    # Starling: more filling, more stroke volume
    assert filled["lv_edv"] > base["lv_edv"] + 3.0
    assert filled["stroke_volume"] > base["stroke_volume"] + 0.5


def test_a_late_lateral_wall_wastes_work_and_stroke_volume():
    inputs = cases(contractility_scale=[1.0])
    together, late = (beats(HEART, inputs, pacing=p).isel(case=0) for p in ("intrinsic", "block"))
    assert late["wasted_work_fraction"] > together["wasted_work_fraction"] + 0.05
    assert late["stroke_volume"] < together["stroke_volume"] - 1.0
    assert late["septal_to_lateral_delay"] > together["septal_to_lateral_delay"] + 20.0


def test_no_dilated_heart_of_the_range_is_lost():
    """Those are the ones that get a resynchronisation; the smallest may close upon themselves (EF above 90 %)."""
    inputs = design(INPUTS, n=32, seed=0)
    large = inputs.isel(case=inputs["wall_area_scale"].values > 1.3)
    found = beats(VirtualHeart(times()), large, pacing="block")
    assert np.isfinite(found["lv_ef"]).all()
    assert float(found["lv_edv"].max()) > 250.0


def test_what_if_is_paired_and_has_intervals():
    rng = np.random.default_rng(1)
    posterior = xr.Dataset({"contractility_scale": ("draw", rng.normal(1.0, 0.08, 9))})
    cohort = xr.Dataset({k: ("case", np.linspace(0.0, 100.0, 101)) for k in ("lv_ef",)})
    tried = {
        "stronger": Scenario({"contractility_scale": 1.15}),
        "resynchronised": Scenario(pacing="intrinsic"),
        "scar": Scenario(scar=("5", "6", "11", "12")),
    }
    answers = beats(HEART, posterior.rename(draw="case"), pacing="block")
    full = cohort.reindex(case=range(101)).assign(
        {k: ("case", np.linspace(0.0, 200.0, 101)) for k in answers if k != "lv_ef"}
    )
    found = what_if(HEART, posterior, tried, pacing="block", draws=9, cohort=full)
    ef = found.sel(output="lv_ef")
    assert list(found["scenario"].values) == ["as is", *tried]
    assert float(ef["change"].sel(scenario="as is")) == 0.0
    np.testing.assert_allclose(ef["value"].sel(scenario="as is"), answers["lv_ef"].mean())
    # draws differ by 8 % in contractility; paired, the effect is sure although the intervals overlap
    stronger = ef.sel(scenario="stronger")
    assert stronger["change_low"] > 0.0
    assert stronger["low"] < ef["high"].sel(scenario="as is")
    assert ef["change_low"].sel(scenario="resynchronised") > 0.0
    assert ef["change_high"].sel(scenario="scar") < 0.0
    np.testing.assert_allclose(ef["percentile"], ef["value"], atol=1.0)
    with pytest.raises(InputError, match="factors of"):
        what_if(HEART, posterior, {"x": Scenario({"stiffness_scale": 2.0})}, pacing="block")


def test_cohort_holds_plausible_hearts_only():
    box = {"contractility_scale": (0.4, 1.6), "resistance_scale": (0.6, 1.6)}
    inputs, outputs = virtual_cohort(HEART, n=12, bounds=box)
    assert 0 < outputs.sizes["case"] <= 12
    assert outputs.attrs["tried"] == 12
    assert inputs.sizes == outputs.sizes
    assert ((outputs["lv_ef"] >= 15) & (outputs["lv_ef"] <= 80)).all()


def test_quick_answers_state_their_error_on_fresh_runs():
    made = quick_answer(
        HEART,
        {"contractility_scale": 1.0, "resistance_scale": 1.0},
        factors={"contractility_scale": (0.8, 1.2), "resistance_scale": (0.8, 1.2)},
        pacings=["intrinsic"],
        outputs=("lv_ef", "systemic_systolic"),
        runs=16,
        fresh=6,
    )
    # a smooth function of two inputs; six fresh runs tell the error within a factor of two
    assert (made.error["rmse"] < 0.1 * made.error["spread"]).all()


def test_curves_of_two_modes_come_back_from_two_modes():
    box = {"a": (0.0, 1.0), "b": (-1.0, 1.0)}
    inputs = design(box, n=32)
    t = np.linspace(0.0, 1.0, 50)

    def curves(d):
        a, b = d["a"].values[:, None], d["b"].values[:, None]
        return xr.DataArray(a**2 * np.sin(6 * t) + a * b * t**2, dims=("case", "time"))

    made = reduce_curves(inputs, curves(inputs), bounds=box)
    assert made.modes.shape == (2, 50)
    assert made.lost < 1e-12
    fresh = design(box, n=16, seed=4)
    got, sd = predict_curves(made, fresh)
    # the coefficients are quadratic in the inputs, which the trend holds exactly
    np.testing.assert_allclose(got, curves(fresh), atol=1e-6)
    assert float(sd.max()) < 1e-2


def test_known_parameters_are_found():
    """A heart of known contractility and resistance; measurements as sure as an examination gives."""
    truth = cases(contractility_scale=[0.8], resistance_scale=[1.2])
    made = beats(HEART, truth).isel(case=0)
    told = {
        "lv_ef": (float(made["lv_ef"]), 3.0),
        "systemic_systolic": (float(made["systemic_systolic"]), 5.0),
    }
    found = calibrate(
        lambda d: beats(HEART, d),
        bounds={"contractility_scale": (0.5, 1.6), "resistance_scale": (0.6, 1.8)},
        measurements=told,
        runs=20,
        rounds=1,
        draws=12,
    )
    for name in truth:
        row = found.summary.sel(parameter=str(name))
        assert row["low"] < float(truth[name][0]) < row["high"]
        assert row["learnt"] > 0.5
    assert (np.abs(found.fit["pull"]) < 1.0).all()


def test_unknown_names_are_refused():
    with pytest.raises(InputError, match="inputs: expected some of"):
        beats(HEART, cases(magic=[1.0]))
    with pytest.raises(InputError, match="pacing: expected one of"):
        beats(HEART, cases(contractility_scale=[1.0]), pacing="both")
