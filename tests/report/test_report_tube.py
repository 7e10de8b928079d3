"""Pictures, tables and words of the tube's twin."""

import io

import numpy as np
import pytest
from matplotlib.image import imread

from twinlab.maintenance import online
from twinlab.maintenance.telemetry import write_telemetry
from twinlab.report import maintenance_tube as figures
from twinlab.report import maintenance_tube_tables as tube
from twinlab.schema import InputError
from twinlab.study import daily_protocol


@pytest.fixture(scope="module")
def log():
    place = tube.clinic_of("general_clinic", {})
    return tube.observe("", scanner="", clinic=place, exams_per_day=40.0, days=40, seed=2, beyond_days=40)


@pytest.fixture(scope="module")
def twin():
    return online.Follower(online.tube_model(exams_per_day=40.0), particles=150)


@pytest.fixture(scope="module")
def followed(log, twin):
    return twin.feed(log.telemetry, close=True)


def drawn(plot):
    picture = imread(io.BytesIO(plot.png()))[..., :3]
    assert plot.alt != "figure"
    return float((picture < 0.95).any(axis=-1).mean())


def test_figures_are_drawn(log, followed):
    course, shown = tube.busiest_day(log.telemetry)
    assert drawn(figures.working_day(course, shown, limits=tube.limits())) > 0.02
    assert drawn(figures.health(followed, log.state)) > 0.02
    assert drawn(figures.health(followed)) > 0.02
    assert drawn(figures.remaining_life(followed, failed_day=900.0)) > 0.1
    assert drawn(figures.remaining_life(followed)) > 0.1
    assert drawn(figures.sensors(followed)) > 0.02
    assert drawn(figures.sensors(followed, block=7)) > 0.02


def test_heat_of_a_day_is_kept(log):
    course, shown = tube.busiest_day(log.telemetry)
    assert tube.energy_gap(course) < 1e-9
    own = log.telemetry.isel(
        scan=log.telemetry.time.dt.strftime("%Y-%m-%d").to_numpy() == shown.attrs["date"]
    )
    given = float((own.kv * own.tube_current_ma * own.exposure_s).sum())
    assert float(course.given_j[-1]) == pytest.approx(given, rel=1e-9)
    # the tube is drawn, the model is the median one: conductances differ by some percent
    model = np.interp(shown.hour, course.hour, course.housing_temperature_c)
    assert abs(shown.oil_temperature_c.to_numpy() - model).max() < 4.0
    assert f"{given / 1e6:.0f} MJ" in tube.heat_words(course, shown)


def test_tables_and_words_say_what_was_found(log, followed):
    rows = {row["wear"]: row for row in tube.state_rows(followed, log.state)}
    lost = rows["Filament mass lost [%]"]
    assert lost["5 %"] < lost["followed"] < lost["95 %"]
    assert lost["simulated truth"] == pytest.approx(100 * float(log.state.filament_mass_loss.sel(day=39)))
    assert "simulated truth" not in tube.state_rows(followed, None)[0]
    assert tube.failed_day(log) is None
    low, high = followed.remaining_days.values[-1, [0, -1]]
    assert f"{low:.0f} to {high:.0f} days left" in tube.headline(followed, log)
    assert f"{low:.0f} to {high:.0f} days left" in tube.interval_words(followed)
    assert set(tube.surprise(followed)) == {"filament_current", "vibration", "output", "arcs"}
    assert "arcs" in tube.sensor_words(followed)


def test_truth_of_the_end_is_told(log):
    ended = log.state.copy(deep=True)
    ended["failed"][-1] = "filament"
    assert tube.failed_day(log._replace(state=ended)) == float(ended.day[-1])


def test_harder_exams_wear_more(twin, followed):
    usual = online.tube_model(exams_per_day=40.0)
    other = online.tube_model(tube.clinic_of("general_clinic", {"liver_arterial": 1.0}), exams_per_day=40.0)
    rows = tube.mix_rows(twin, usual, other)
    assert float(next(r for r in rows if r["quantity"].startswith("thinning"))["other mix"]) > 1.0
    assert "would last" in tube.mix_words(twin, usual, other)
    assert "-" in tube.mix_words(twin, usual, other)  # shorter


def test_shares_of_unknown_exams_are_refused():
    with pytest.raises(InputError, match="adult_chest"):
        tube.clinic_of("general_clinic", {"toe": 1.0})
    with pytest.raises(InputError, match="above 0"):
        tube.clinic_of("general_clinic", {"adult_chest": 0.0})


def test_own_telemetry_is_read_and_followed(log, tmp_path):
    place = tube.clinic_of("general_clinic", {})
    write_telemetry(log.telemetry.isel(scan=slice(0, 600)), tmp_path / "log.csv")
    own = tube.observe(str(tmp_path), scanner="CT-1", clinic=place, exams_per_day=40.0, days=3, seed=0)
    assert own.state is None
    assert own.telemetry.sizes["scan"] == 600
    assert "600 scans" in own.words
    found = online.follow(own.telemetry, particles=100)
    effects = tube.worn_effects(own, found, [0, 3], daily_protocol(rows=1, views=164))
    assert 0.95 < float(effects[1].output_factor) <= 1.0
    assert float(effects[1].focal_spot_factor) >= 1.0
    with pytest.raises(InputError, match="at least one scan"):
        online.follow(
            tube.observe(
                str(tmp_path), scanner="X", clinic=place, exams_per_day=40.0, days=3, seed=0
            ).telemetry
        )


def test_days_of_checks():
    assert tube.check_plan(100, baseline_days=20, later_days=2) == [*range(20), 60, 100]
    assert tube.check_plan(100, baseline_days=20, later_days=0) == [*range(20)]


def test_daily_checks_are_charted():
    values = _values(30)
    charts = tube.charts(values, last_day=19)
    assert drawn(figures.daily_checks(values, charts, baseline_days=20)) > 0.02
    words = tube.check_words(values, charts, baseline_days=20)
    assert words.startswith("First alarms: noise on day 2")
    assert "ct number" not in words.split("None")[0]
    quiet = {name: chart.assign(alarm=chart.alarm & False) for name, chart in charts.items()}
    assert "does not show" in tube.check_words(values, quiet, baseline_days=20)


@pytest.mark.slow
def test_image_of_a_worn_tube_has_more_noise(log, followed):
    protocol = daily_protocol(rows=1, views=123)
    effects = tube.worn_effects(log, followed, [39], protocol)[0]
    rows = tube.image_rows(effects, protocol, seed=1)
    noise = rows[0]
    assert noise["worn tube"] > noise["new"]  # common random numbers: less output, more noise


def _values(n):
    import xarray as xr

    from twinlab.schema import label

    rng, fields = np.random.default_rng(4), {}
    for name in figures.QC:
        value = 5.0 + rng.standard_normal(n)
        if name == "qc_noise":
            value[20:] += 3.0
        fields[name] = label(name, value, {"day": np.arange(n)})
        fields[f"{name}_sd"] = label(f"{name}_sd", np.ones(n), {"day": np.arange(n)})
    return xr.Dataset(fields)


def test_coverage_is_told():
    found = online.interval_coverage(
        2, ages=(5,), tube=online.quick_tube(60.0), exams_per_day=10.0, days=400, particles=100
    )
    rows = tube.coverage_rows(found)
    assert rows[0]["tubes at work"] == 2
    share, uncertain = tube.pooled(found)
    assert share in (0.0, 0.5, 1.0)
    assert uncertain == pytest.approx(np.sqrt(0.09 / 2))
    assert [source.key for source in tube.sources()] == ["generic_tube", "generic_scanner"]
