"""A simulated scanner: workload, interlock, failures, repeatability, and that protocols change wear."""

import math

import numpy as np
import pytest
import xarray as xr
from scipy.stats import kstest

from twinlab.ct.electronics import Faults
from twinlab.kernels import wear_loop
from twinlab.maintenance.wear import (
    Exam,
    TubeWear,
    Value,
    image_effects,
    load_clinic,
    load_scanner_wear,
    load_tube_wear,
    simulate_scanner,
    workload,
)
from twinlab.maintenance.wear.clinic import drive
from twinlab.maintenance.wear.detector_faults import dead_cells, detector_life
from twinlab.scanner import for_patient, load_protocol, protocol_folder
from twinlab.scanner.geometry import n_rotations
from twinlab.schema import InputError, check, load_yaml

TELEMETRY = (
    "kv", "tube_current_ma", "exposure_s", "rotation_time_s", "filament_current_a", "anode_heat_kj",
    "oil_temperature_c", "output_ratio", "arcs", "vibration_mm_s", "gantry_vibration_mm_s", "slip_ring_errors",
    "coolant_flow_l_min", "dead_channels", "gain_drift_percent",
)  # fmt: skip
STATE = (
    "filament_mass_loss", "filament_diameter_ratio", "track_roughness_um", "bearing_wear", "focal_spot_factor",
    "arc_rate_per_1000_scans", "detector_gain_drift_percent", "dead_channel_count", "slip_ring_wear",
    "gantry_bearing_wear", "coolant_fouling", "exposure_seconds", "failed",
)  # fmt: skip


@pytest.fixture(scope="module")
def month():
    scans = workload(days=45, seed=2)
    return scans, simulate_scanner(scans, seed=2)


def test_every_number_has_a_source_or_is_a_prior_with_a_spread():
    for model in (load_tube_wear(), load_scanner_wear()):
        for name in model.names():
            number = getattr(model, name)
            assert number.source.startswith("prior") or len(number.source) > 20, name
            assert not number.source.startswith("prior") or number.spread is not None, name


def test_a_prior_without_a_spread_is_refused(tmp_path):
    text = (protocol_folder() / "wear" / "generic_tube.yaml").read_text(encoding="utf-8")
    bad = tmp_path / "tube.yaml"
    bad.write_text(text.replace("{value: 4.0, spread: 0.1,", "{value: 4.0,"), encoding="utf-8")
    with pytest.raises(InputError, match=r"rise_power.*spread: expected a number with source 'prior'"):
        load_tube_wear(bad)
    bad.write_text(text + "colour: red\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"colour: expected one of .* got an unknown key"):
        load_tube_wear(bad)
    with pytest.raises(InputError, match=r"one of .*generic_tube"):
        load_tube_wear("nonesuch")


def test_parts_are_drawn_about_their_medians():
    tube = load_tube_wear()
    drawn = tube.draw(4000, seed=1, scanner="A")
    logs = np.log(drawn["bearing_life_s"] / tube.bearing_life_s.value)
    assert abs(np.median(logs)) < 4.0 * 1.25 * 0.35 / math.sqrt(4000)
    assert logs.std() == pytest.approx(0.35, rel=4.0 / math.sqrt(2 * 4000))
    assert tube.draw(3, seed=1, scanner="A")["bearing_life_s"] == pytest.approx(drawn["bearing_life_s"][:3])
    assert tube.median()["bearing_life_s"] == tube.bearing_life_s.value
    assert not np.isclose(drawn["bearing_life_s"][0], tube.draw(1, seed=1, scanner="B")["bearing_life_s"][0])


def test_workload_keeps_clinic_hours_and_begins_the_same_however_long(month):
    scans, _ = month
    check(scans, "kv", "tube_current_ma", "exposure_s", "rotation_time_s", where="test")
    hour = scans["time"].dt.hour + scans["time"].dt.minute / 60.0
    assert hour.min() >= 7.0
    assert hour.max() < 20.5  # the last patient's exam ends after the doors close
    table = scans[["time", "exam"]].to_dataframe()
    per_day = table.groupby(table["time"].dt.normalize())["exam"].nunique()
    weekend = per_day.index.dayofweek >= 5
    weekdays, ends = per_day.to_numpy()[~weekend], per_day.to_numpy()[weekend]
    # Poisson: 60 and 18 a day; four standard errors
    assert weekdays.mean() == pytest.approx(60.0, abs=4.0 * math.sqrt(60.0 / weekdays.size))
    assert ends.mean() == pytest.approx(18.0, abs=4.0 * math.sqrt(18.0 / ends.size))
    short = workload(days=10, seed=2)
    n = short.sizes["scan"]
    xr.testing.assert_equal(short, scans.isel(scan=slice(n)))
    other = workload(days=10, seed=3)
    assert other.sizes["scan"] != n or not (other["time"].to_numpy() == short["time"].to_numpy()).all()


def test_workload_asks_what_the_protocols_ask():
    for key in ("abdomen_pelvis", "low_dose_chest", "head_axial", "liver_arterial"):
        exam = Exam(
            protocol=key, share=1, length_mm=300, length_sd_mm=0, dw_mm=260, dw_sd_mm=0, source="test"
        )
        plan = drive(exam)
        protocol = for_patient(load_protocol(key), dw_mm=260.0)
        assert plan.current_ma(np.array([260.0]))[0] == pytest.approx(protocol.tube_current_ma, rel=1e-9)
        turns = n_rotations(protocol, z_range_mm=(0.0, 300.0))
        # rotations are whole views; the line through two long ranges misses that by half a view
        assert plan.exposure_s(np.array([300.0]))[0] == pytest.approx(
            turns * protocol.rotation_time_s, rel=2e-3
        )
    with pytest.raises(InputError, match="one tube voltage"):
        drive(exam.model_copy(update={"protocol": "dual_energy_abdomen"}))


def test_telemetry_and_state_are_those_of_the_registry(month):
    scans, (telemetry, state) = month
    check(telemetry, *TELEMETRY, where="test")
    check(state, *STATE, where="test")
    assert state["output_factor"].dims == ("day",)
    assert set(telemetry.coords) >= {"time", "scanner", "tube"}
    assert telemetry["time"].dtype == np.dtype("datetime64[ns]")
    assert (np.diff(telemetry["time"].to_numpy()) > np.timedelta64(0, "s")).all()
    assert telemetry.sizes["scan"] + telemetry.attrs["lost_scans"] == scans.sizes["scan"]
    assert state.sizes["day"] == 45
    total = float(telemetry["exposure_s"].sum())
    assert float(state["exposure_seconds"][-1]) == pytest.approx(total, rel=1e-9)
    rows = np.isnan(telemetry["gantry_vibration_mm_s"]) == (telemetry["rotation_time_s"] == 0.0)
    assert rows.all()


def test_same_seed_same_scanner_other_seed_another(month):
    scans, first = month
    again, other = simulate_scanner(scans, seed=2), simulate_scanner(scans, seed=3)
    xr.testing.assert_identical(first.telemetry, again.telemetry)
    xr.testing.assert_identical(first.state, again.state)
    one, two = (run.telemetry["filament_current_a"].to_numpy()[:200] for run in (first, other))
    assert not np.allclose(one, two)


def test_heat_of_the_first_exposure(month):
    scans, (telemetry, _) = month
    energy = float(scans["kv"][0] * scans["tube_current_ma"][0] * scans["exposure_s"][0]) / 1000.0
    # 2.4 kW for 4 s into a cold anode: a thousandth leaves it within the exposure
    assert float(telemetry["anode_heat_kj"][0]) == pytest.approx(energy, rel=2e-3)


def mix(protocol, **changes):
    exam = Exam(
        protocol=protocol,
        changes=changes,
        share=1.0,
        length_mm=320.0,
        length_sd_mm=0.0,
        dw_mm=275.0,
        dw_sd_mm=20.0,
        source="test",
    )
    return load_clinic().with_exams(exam)


def test_protocols_change_wear():
    """Thin slices at high mA against low dose: same chests, same hours."""
    worn = {}
    for name, clinic in (
        ("thin", mix("adult_chest", tube_current_ma=600.0, slice_thickness_mm=0.625)),
        ("low", mix("low_dose_chest")),
    ):
        worn[name] = simulate_scanner(workload(clinic, days=30), spread=0.0).state.isel(day=-1)
    thin, low = worn["thin"], worn["low"]
    assert float(thin["exposure_seconds"]) == pytest.approx(float(low["exposure_seconds"]), rel=1e-6)
    # evaporation goes with the 1.7th power of the current or steeper: 600 against 50 mA is more than 12^1.7 = 68
    assert float(thin["filament_mass_loss"]) > 60.0 * float(low["filament_mass_loss"])
    fresh = load_tube_wear().new_roughness_um.value
    assert float(thin["track_roughness_um"]) - fresh > 100.0 * (float(low["track_roughness_um"]) - fresh)
    assert float(thin["bearing_wear"]) > 1.5 * float(low["bearing_wear"])
    assert float(thin["output_factor"]) < float(low["output_factor"])


def test_interlock_waits_for_the_anode_to_cool():
    """Thirty scans of 48 kW in a row are more than the anode holds."""
    clinic = mix("adult_chest", tube_current_ma=400.0)
    clinic = clinic.with_exams(clinic.exams[0].model_copy(update={"phases": 30}))
    clinic = clinic.model_copy(update={"pause_s": Value(value=8.0, source="prior", spread=0.0)})
    scans = workload(clinic, days=1, exams_per_day=12.0, start="2026-01-05")
    telemetry, state = simulate_scanner(scans, spread=0.0)
    limit = load_tube_wear().anode_limit_kj.value
    assert float(telemetry["anode_heat_kj"].max()) <= limit
    assert float(telemetry["anode_heat_kj"].max()) > 0.95 * limit
    assert float(state["interlock_delay_s"][0]) > 600.0
    assert float(telemetry["oil_temperature_c"].max()) < load_tube_wear().oil_limit_c.value + 15.0
    # a tube with twice the capacity does the same scans sooner
    big = load_tube_wear().with_values(anode_j_k=8400.0, anode_limit_kj=10000.0, oil_limit_c=200.0)
    quick = simulate_scanner(scans, tube=big, spread=0.0).telemetry
    assert quick["time"][-1] < telemetry["time"][-1]


@pytest.mark.parametrize(
    ("cause", "tube", "parts"),
    [
        ("filament", {"mass_loss_limit": 2e-4}, {}),
        ("bearing", {"bearing_life_s": 700.0}, {}),
        ("track", {"output_limit": 0.9995}, {}),
        ("arcing", {"arc_rate_per_s": 0.05, "fatal_arc_share": 0.02}, {}),
        ("slip_ring", {}, {"slip_ring_life_rotations": 1e4}),
        ("cooling", {}, {"fouling_per_day": 0.2}),
        ("detector", {}, {"dead_scale_days": 1.0}),
    ],
)
def test_each_part_fails_and_is_replaced(cause, tube, parts):
    scans = workload(days=12, exams_per_day=40.0)
    result = simulate_scanner(
        scans,
        tube=load_tube_wear().with_values(**tube),
        parts=load_scanner_wear().with_values(**parts),
        spread=0.0,
    )
    failed = result.state["failed"].to_numpy()
    assert cause in failed
    assert set(failed) <= {"", cause}
    assert result.telemetry.attrs["lost_scans"] > 0
    first = int(np.flatnonzero(failed == cause)[0])
    serials = np.unique(result.telemetry["tube"])
    of_tube = cause in ("filament", "bearing", "track", "arcing")
    assert (len(serials) > 1) == of_tube
    hidden = result.state
    if of_tube:
        assert float(hidden["exposure_seconds"][first]) > float(hidden["exposure_seconds"][first + 1])
        assert serials[0] == "CT-1-T1"
    if cause == "slip_ring":
        assert float(hidden["slip_ring_wear"][first]) >= 1.0 > float(hidden["slip_ring_wear"][first + 1])
    if cause == "detector":
        assert int(hidden["dead_channel_count"][first]) == 12
        assert int(hidden["dead_channel_count"][first + 1]) < 12
        # the new detector is calibrated, and other cells of it are dead
        assert float(hidden["detector_gain_drift_percent"][first + 1]) == 0.0
        old, new = (image_effects(hidden, day=d, shape=(16, 96)) for d in (first, first + 1))
        assert (new["channel_gain"] == 1.0).all()
        assert not set(map(tuple, new["dead_cell"].to_numpy())) <= set(
            map(tuple, old["dead_cell"].to_numpy())
        )
    stopped = simulate_scanner(
        scans,
        tube=load_tube_wear().with_values(**tube),
        parts=load_scanner_wear().with_values(**parts),
        spread=0.0,
        stop_at_failure=True,
    )
    assert stopped.state.sizes["day"] == first + 1
    assert stopped.state["failed"][-1] == cause


def test_generator_lowers_the_current_and_keeps_the_focal_spot_from_melting():
    clinic = mix("adult_chest", tube_current_ma=750.0)
    scans = workload(clinic, days=1, exams_per_day=30.0, start="2026-01-05")
    telemetry, state = simulate_scanner(scans, spread=0.0)
    chests = int((scans["rotation_time_s"] > 0.0).sum())
    assert telemetry.attrs["reduced_scans"] == chests
    assert telemetry.attrs["lost_scans"] == 0
    power = telemetry["kv"] * telemetry["tube_current_ma"]
    assert float(power.max()) == pytest.approx(1000.0 * load_tube_wear().max_power_kw.value)
    # a lower limit of the spot makes scans wait for a colder anode, and one that a cold anode has above it ends them
    cautious = load_tube_wear().with_values(track_limit_c=2200.0)
    assert float(state["interlock_delay_s"][0]) == 0.0
    waited = simulate_scanner(scans, tube=cautious, spread=0.0)
    assert float(waited.state["interlock_delay_s"][0]) > 0.0
    never = simulate_scanner(
        scans, tube=load_tube_wear().with_values(track_limit_c=1500.0), spread=0.0
    ).telemetry
    assert (never["rotation_time_s"] == 0.0).all()
    assert never.attrs["lost_scans"] >= chests


def test_arcs_are_a_poisson_process_whose_rate_rises():
    """Time rescaling: under the integrated rate the arrivals of arcs are uniform."""
    tube = load_tube_wear().with_values(
        arc_rate_per_s=0.02, fatal_arc_share=1e-12, roughening_um_s=0.03, output_limit=0.1
    )
    scans = workload(days=20, exams_per_day=40.0)
    telemetry, state = simulate_scanner(scans, tube=tube, spread=0.0)
    rate = state["arc_rate_per_1000_scans"].to_numpy()
    assert rate[-1] > 2.0 * rate[0]
    seconds = telemetry["exposure_s"].to_numpy()
    day = (
        (telemetry["time"] - telemetry["time"][0].dt.floor("D")) / np.timedelta64(1, "D")
    ).to_numpy().astype(int)  # fmt: skip
    power = tube.arc_kv_power.value
    drive_of = seconds * (telemetry["kv"].to_numpy() / 120.0) ** power
    per_second = rate / rate[0] * 1.0
    # rate at the end of the day before, the mean of both ends within a day
    start = np.concatenate([[per_second[0]], per_second[:-1]])
    exposure = np.cumsum(drive_of * 0.5 * (start + per_second)[day])
    arcs = telemetry["arcs"].to_numpy()
    clock = np.repeat(exposure, arcs) / exposure[-1]
    assert arcs.sum() > 300
    assert kstest(clock, "uniform").pvalue > 1e-3


def test_filament_current_falls_over_a_tubes_life():
    """At the same mA and kV; the mass loss follows from the fall."""
    tube = load_tube_wear().with_values(free_share=40.0)
    telemetry, state = simulate_scanner(workload(days=40, exams_per_day=40.0), tube=tube, spread=0.0)
    same = telemetry.isel(scan=np.isclose(telemetry["tube_current_ma"], 350.0))
    table = same[["time", "filament_current_a"]].to_dataframe()
    daily = table.groupby(table["time"].dt.normalize())["filament_current_a"].mean()
    day = (daily.index - daily.index[0].normalize()).days
    start = np.concatenate([[0.0], state["filament_mass_loss"].to_numpy()])
    lost = 0.5 * (start[:-1] + start[1:])[day]
    assert 0.03 < lost[-1] < 0.1
    # d ln I = 1.42 d ln d and mass goes with d^2: 0.71; with noise of 0.4 % over the root of some 15 scans a day the
    # slope has a standard error of about 0.01
    slope, _ = np.polyfit(np.log(1.0 - lost), np.log(daily.to_numpy()), 1)
    assert slope == pytest.approx(0.71, abs=0.04)


def test_faults_of_a_detector_grow_and_fit_the_ct_simulation(month):
    _, (_, state) = month
    shape = (16, 96)
    worse = state.assign(dead_channel_count=state["dead_channel_count"] + state["day"] // 5)
    before: set[tuple[int, ...]] = set()
    for day in (9, 20, 33, 41):
        effects = image_effects(worse, day=day, shape=shape)
        cells = set(map(tuple, effects["dead_cell"].to_numpy().tolist()))
        assert before <= cells
        assert len(cells) == int(worse["dead_channel_count"][day])
        before = cells
        gain = effects["channel_gain"].to_numpy()
        Faults(gain=gain, dead=tuple(sorted(cells))).check(shape)
        since = day % 14
        expected = float(state["detector_gain_drift_percent"][day])
        # rms over 3 boards and 1536 cells: boards alone leave it uncertain by half
        assert 100.0 * gain.std() == pytest.approx(expected, rel=0.6), since
    again = image_effects(worse, day=41, shape=shape)
    np.testing.assert_array_equal(again["channel_gain"], effects["channel_gain"])
    today, tomorrow = (image_effects(state, day=d, shape=shape)["channel_gain"] for d in (11, 12))
    assert np.corrcoef(today.to_numpy().ravel(), tomorrow.to_numpy().ravel())[0, 1] > 0.8
    assert (image_effects(state, day=14, shape=shape)["channel_gain"] == 1.0).all()
    with pytest.raises(InputError, match="day: expected 0 to 44"):
        image_effects(state, day=45, shape=shape)
    with pytest.raises(InputError, match="shape"):
        image_effects(state, day=4, shape=(0, 5))


def test_cells_die_by_the_power_law():
    parts = load_scanner_wear().draw(1, seed=0, scanner="A", spread=0.0)[0]
    counts = [detector_life(parts, days=1, seed=s, scanner="A").dead(900.0) for s in range(400)]
    expected = (900.0 / 500.0) ** 1.3
    assert np.mean(counts) == pytest.approx(expected, abs=4.0 * math.sqrt(expected / 400))
    assert len(np.unique(dead_cells(50, (8, 10), seed=1, scanner="A", unit=0), axis=0)) == 50
    assert len(dead_cells(99, (8, 10), seed=1, scanner="A", unit=0)) == 80


def test_workloads_that_cannot_be_are_refused(month):
    scans, _ = month
    with pytest.raises(InputError, match="days: expected 1 or more"):
        workload(days=0)
    with pytest.raises(InputError, match="start: expected a day"):
        workload(days=1, start="2026-01-01 10:00")
    both = xr.concat([scans, workload(days=2, scanner="CT-2")], "scan")
    with pytest.raises(InputError, match="scans of one scanner"):
        simulate_scanner(both)
    with pytest.raises(InputError, match="ascending in time"):
        simulate_scanner(scans.isel(scan=slice(None, None, -1)))
    with pytest.raises(InputError, match="exposure above 0"):
        simulate_scanner(scans.assign(exposure_s=scans["exposure_s"] * 0.0))
    with pytest.raises(InputError, match=r"one of .*wire_diameter_m"):
        load_tube_wear().with_values(colour=1.0)


def test_record_of_the_loop_and_model_agree():
    names = set(load_tube_wear().names())
    assert names == {n for n, f in TubeWear.model_fields.items() if f.annotation.__name__ == "Value"}
    assert len(wear_loop.DAY_COLUMNS) == 13
    assert set(load_yaml(protocol_folder() / "wear" / "generic_tube.yaml")) >= names
