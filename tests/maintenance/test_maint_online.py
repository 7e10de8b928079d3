"""A tube followed as its telemetry arrives: against exact answers, and against what came out."""

import dataclasses
import math

import numpy as np
import pytest
import xarray as xr
from scipy.integrate import solve_ivp
from scipy.stats import chi2, truncnorm

from twinlab.kernels import wear_days, wear_history
from twinlab.kernels import wear_filter as kernel
from twinlab.maintenance.online import (
    Follower,
    follow,
    interval_coverage,
    load_follower,
    quick_tube,
    tube_model,
)
from twinlab.maintenance.online.coverage import STEADY
from twinlab.maintenance.online.particles import beyond, new_cloud, quantiles, renew, step
from twinlab.maintenance.wear import load_scanner_wear, simulate_scanner, workload
from twinlab.schema import InputError, check

PACE = 16.0  # a life of some 130 days
TUBE = quick_tube(PACE)
PARTS = load_scanner_wear().with_values(**STEADY)


def life(*, days=240, seed=3, spread=1.0, scanner="CT-1"):
    scans = workload(days=days, seed=1, scanner=scanner)
    return simulate_scanner(scans, tube=TUBE, parts=PARTS, seed=seed, spread=spread, stop_at_failure=True)


@pytest.fixture(scope="module")
def model():
    return tube_model(tube=TUBE, parts=PARTS)


@pytest.fixture(scope="module")
def simulated():
    return life()


@pytest.fixture(scope="module")
def followed(simulated, model):
    return follow(simulated.telemetry, model=model, particles=300)


# --- against exact answers


def vibration_days(n, *, slope, offset, noise, stress=1e-3, seed=0):
    """Days that tell vibration only, on which a bearing's rise is straight: ``offset + slope * stress * day``."""
    days = np.zeros((n, wear_days.DAY_FEATURES))
    rise = offset + slope * stress * np.arange(1, n + 1)
    days[:, wear_days.BEARING], days[:, wear_days.SCANS], days[:, wear_days.N_VIBRATION] = stress, 1.0, 1.0
    days[:, wear_days.VIBRATION] = rise + noise * np.random.default_rng(seed).standard_normal(n)
    return days


def test_filter_gives_what_kalmans_filter_gives_where_all_is_linear_and_gaussian(model):
    """State (offset, slope) with the same Gaussian prior and noise, by the textbook's matrices; 4 % of spread in the
    slope make its logarithm linear to 0.1 %."""
    spread, growth, noise, start = 0.04, math.log(2.0), 0.05, math.log(0.6)
    root = np.zeros((kernel.STATICS, kernel.STATICS))
    root[kernel.GROWTH, kernel.GROWTH] = spread
    mean = model.mean.copy()
    mean[kernel.GROWTH] = growth
    given = np.zeros((3, 1 + kernel.STATICS))
    given[1, 0], given[2, 0] = start, 50.0  # never seizes
    constants = model.constants.copy()
    constants[kernel.NOISE_VIBRATION], constants[kernel.OFFSET_1] = noise, 0.1**2
    linear = dataclasses.replace(model, root=root, mean=mean, given=given, constants=constants)
    days = vibration_days(120, slope=2.1, offset=start + 0.07, noise=noise, stress=0.01)

    cloud, rng, renewals = new_cloud(linear, 4000, np.random.default_rng(5)), np.random.default_rng(6), 0
    x, p, log_evidence = np.array([start, 2.0]), np.diag([0.1**2, (2.0 * spread) ** 2]), 0.0
    for k, day in enumerate(days):
        step(cloud, linear, day, rng)
        if cloud.effective < 2000:
            renew(cloud, linear, rng)
            renewals += 1
        h = np.array([1.0, 0.01 * (k + 1)])
        s, residual = h @ p @ h + noise**2, day[wear_days.VIBRATION] - h @ x
        log_evidence -= 0.5 * (math.log(2.0 * math.pi * s) + residual**2 / s)
        gain = p @ h / s
        x, p = x + gain * residual, p - np.outer(gain, h @ p)
    slope = np.exp(cloud.particles[:, kernel.GROWTH])
    got = cloud.weights @ slope
    sd = math.sqrt(cloud.weights @ (slope - got) ** 2)
    assert renewals > 0
    # 4000 particles: the mean to 2 % of its standard deviation, and 2 % for the logarithm; margins of 3 to 4 of them
    assert got == pytest.approx(x[1], abs=0.08 * math.sqrt(p[1, 1]))
    assert sd == pytest.approx(math.sqrt(p[1, 1]), rel=0.06)
    offset = cloud.weights @ cloud.particles[:, kernel.VIBRATION_OFFSET]
    assert offset == pytest.approx(x[0], abs=0.08 * math.sqrt(p[0, 0]))
    assert cloud.log_evidence == pytest.approx(log_evidence, abs=0.15)


def test_history_in_blocks_weighs_as_the_days_did(simulated, model):
    """Log weights by days and by the whole history differ by the same in all particles, offsets not at all."""
    from twinlab.maintenance.online.day_table import sum_days, tubes_of

    _, (tube,) = tubes_of(simulated.telemetry, where="test")
    dates = np.unique(tube.date)[:60]
    which = np.searchsorted(dates, tube.date[tube.date <= dates[-1]])
    table = sum_days(
        tube.scans[: which.size], which, 60, tube=model.tube, room_k=model.room_k, usual_heat=model.usual_heat
    )
    cloud = new_cloud(model, 200, np.random.default_rng(1))
    # near the median tube, so that no weight is too small to be compared
    cloud.particles[:, : kernel.STATICS] = model.mean + 0.02 * (
        cloud.particles[:, : kernel.STATICS] - model.mean
    )
    cloud.particles[:, kernel.CURRENT_OFFSET :] = model.conditional(cloud.particles[:, : kernel.STATICS])
    for day in table:
        _weigh_all(cloud, model, day)
    whole, again = np.zeros(200), cloud.particles.copy()
    args = (cloud.history.blocks, cloud.stress, model.mean, model.precision, model.given, model.constants)
    for k in range(200):
        whole[k] = wear_history.log_history(again[k], *args)
        score = again[k, : kernel.STATICS] - model.mean
        whole[k] += 0.5 * score @ model.precision @ score  # the particles were drawn from the prior
    assert np.ptp(cloud.log_weights - whole) < 1e-6 * np.ptp(whole)
    assert again == pytest.approx(cloud.particles, abs=1e-9)


def _weigh_all(cloud, model, day):
    """A step that keeps all particles, however few count."""
    from twinlab.maintenance.online.particles import _weigh, strain

    noise = np.zeros(3)
    strain(cloud, day)
    kernel.sensor_noise(day, model.constants, noise)
    _weigh(cloud, model, day, noise)
    cloud.history.add(day, cloud.stress, noise)


def test_thinning_in_closed_form_is_that_of_the_equation():
    power, factor = 2.8, 1.3
    got = solve_ivp(lambda _, r: -factor * r ** (1.0 - power), (0.0, 0.05), [1.0], rtol=1e-11, atol=1e-13)
    assert kernel.thinned(factor, 0.05, power) == pytest.approx(-math.log(got.y[0, -1]), rel=1e-8)
    assert kernel.thinned(factor, 1.0, power) == kernel.BURNT


def test_limits_are_drawn_beyond_the_present_wear():
    u = (np.arange(500) + 0.5) / 500
    for z in (-3.0, 0.0, 2.0, 8.0):
        got = np.sort(beyond(np.full(500, z), u))
        assert got == pytest.approx(truncnorm.ppf(u, z, np.inf), rel=1e-6, abs=1e-6)
    for z in (-2.0, 4.9, 5.1, 9.0):  # two formulas meet at 5
        from scipy.special import log_ndtr

        assert kernel.log_survival(z) == pytest.approx(log_ndtr(-z), rel=2e-3)


def test_quantiles_of_weighted_values():
    values, weights = np.array([3.0, 1.0, 2.0]), np.array([0.25, 0.25, 0.5])
    assert quantiles(values, weights, np.array([0.125, 0.5, 0.9])).tolist() == [1.0, 2.0, 3.0]
    chosen = np.zeros(4, np.int64)
    kernel.systematic(np.array([0.5, 0.25, 0.25, 0.0]), 0.5, chosen)
    assert chosen.tolist() == [0, 0, 1, 2]


def test_median_tube_wears_as_simulated_and_ends_on_the_day_foretold(model):
    """No spread in the tube, none in the limits: the stress of the day table is the simulator's, and so is the end."""
    sim = life(spread=0.0)
    constants = model.constants.copy()
    constants[[kernel.LIMIT_SD, kernel.SEIZED_SD]] = 1e-3
    certain = dataclasses.replace(model, root=model.root * 1e-3, constants=constants, mean=_median(model))
    found = follow(sim.telemetry, model=certain, particles=100)
    state = sim.state.sel(day=found.day)
    loss = found.mass_loss_followed / state.filament_mass_loss
    # wear of the day's mean: the wire's exponent of a new one, temperatures by noisy sensors
    assert float(abs(loss - 1)[20:].max()) < 0.01
    assert float(abs(found.output_followed - state.output_factor).max()) < 0.001
    assert float(abs(found.bearing_wear_followed / state.bearing_wear - 1)[20:].max()) < 0.04
    last = sim.state.sizes["day"] - 1
    assert sim.state.failed.values[-1] == "filament"
    halfway = found.remaining_days.sel(quantile=0.5).values[last // 2]
    assert halfway == pytest.approx(
        last - last // 2 - 0.5, rel=0.06
    )  # the weeks ahead have their own patients


def _median(model):
    mean = model.mean.copy()
    median = model.tube[0]
    mean[[kernel.EVAPORATION, kernel.ROUGHNESS, kernel.ARC_SCALE, kernel.UNSEEN]] = 0.0
    mean[kernel.GROWTH] = math.log(median["vibration_growth"])
    for place, name in (
        (kernel.LOSS_AT_1, "output_loss_at_1_um"),
        (kernel.NEW_UM, "new_roughness_um"),
        (kernel.ARC_LOSS, "arc_loss_growth"),
        (kernel.ARC_TRACK, "arc_track_growth"),
    ):
        mean[place] = math.log(median[name])
    return mean


# --- what it gives


def test_results_are_labelled_and_sure(followed):
    for name in followed.data_vars:
        check(followed, str(name), where="test")
    assert (np.diff(followed.remaining_days.values, axis=1) >= 0).all()
    assert followed.failure_share.sum("cause").values == pytest.approx(1.0)
    assert bool(followed.restarted[0])
    assert int(followed.restarted.sum()) == 1
    ratio = followed.remaining_seconds / followed.remaining_days
    assert float(ratio.isel(day=-1, quantile=0)) == pytest.approx(700, rel=0.2)  # scan-seconds of a day


def test_interval_tightens_and_state_is_found(followed, simulated):
    width = followed.remaining_days.isel(quantile=-1) - followed.remaining_days.isel(quantile=0)
    n = followed.sizes["day"]
    early, late = float(width[:3].mean()), float(width[n - 6 : n - 3].mean())
    assert late < 0.5 * early
    assert float(followed.factor_log_sd.sel(factor="evaporation")[-1]) < 0.1 * float(
        followed.factor_log_sd.sel(factor="evaporation")[0]
    )
    truth = simulated.state.filament_mass_loss.sel(day=followed.day)
    assert float(abs(followed.mass_loss_followed - truth).max()) < 0.002
    bearing = (followed.bearing_wear_followed - simulated.state.bearing_wear.sel(day=followed.day))[5:]
    assert float((abs(bearing) / followed.bearing_wear_followed_sd[5:]).max()) < 3.5


def test_sensors_come_as_expected(followed):
    z = (followed.sensor_value - followed.sensor_expected) / followed.sensor_expected_sd
    assert float(abs(z.mean("day")).max()) < 0.35  # 130 days, slightly correlated: 0.09 and a little
    assert float(abs(np.log(z.std("day"))).max()) < 0.35


def test_hidden_state_is_not_looked_at(simulated, model, followed):
    seen = simulated.telemetry.isel(scan=slice(0, 3000))
    told = seen.assign(filament_mass_loss=("scan", np.full(3000, 0.09)), bearing_wear=("scan", np.ones(3000)))
    a, b = (follow(t, model=model, particles=100) for t in (seen, told))
    xr.testing.assert_identical(a, b)


def test_telemetry_in_pieces_gives_what_telemetry_at_once_gives(simulated, model, tmp_path):
    seen = simulated.telemetry.isel(scan=slice(0, 9000))
    whole = follow(seen, model=model, particles=150, seed=4)
    follower = Follower(model, particles=150, seed=4)
    parts = []
    for k, piece in enumerate(
        (slice(0, 37), slice(37, 2500), slice(2500, 2501), slice(2501, 9000))
    ):  # within days
        parts.append(follower.feed(seen.isel(scan=piece)))
        follower.save(tmp_path / f"{k}.npz")
        follower = load_follower(tmp_path / f"{k}.npz")
    parts.append(follower.close())
    joined = xr.concat([p for p in parts if p.sizes["day"]], "day")
    xr.testing.assert_allclose(joined, whole, rtol=1e-12)
    assert joined.sizes == whole.sizes


def test_missing_sensors_and_days_give_no_update(simulated, model, followed):
    seen = simulated.telemetry
    blind = seen.assign(filament_current_a=seen.filament_current_a * np.nan, arcs=seen.arcs * np.nan)
    day = (seen.time.values - seen.time.values[0].astype("datetime64[D]")) / np.timedelta64(1, "D")
    lost = blind.isel(scan=(day < 40) | (day >= 60))
    found = follow(lost, model=model, particles=300)
    assert not ((found.day >= 40) & (found.day < 60)).any()
    prior = float(followed.factor_log_sd.sel(factor="evaporation")[0])
    at = {"factor": "evaporation"}
    assert float(found.factor_log_sd.sel(at)[30]) > 0.7 * prior  # nothing tells of the filament
    assert float(followed.factor_log_sd.sel(at)[30]) < 0.3 * prior
    truth = simulated.state.bearing_wear.sel(day=found.day)
    off = (abs(found.bearing_wear_followed - truth) / found.bearing_wear_followed_sd)[5:]
    assert float(off.max()) < 4.0  # over the gap too, whose work is unknown
    closed = blind.isel(scan=(day < 40) | (day >= 43))  # a long weekend is no gap
    assert np.isfinite(follow(closed, model=model, particles=100).remaining_days).all()
    quiet = blind.assign(output_ratio=blind.output_ratio * np.nan)
    heatless = quiet.drop_vars(["oil_temperature_c", "anode_heat_kj", "output_ratio"])
    assert np.isfinite(follow(heatless, model=model, particles=100).remaining_days).all()


def test_another_tube_is_followed_from_the_prior(simulated, model, followed):
    seen = simulated.telemetry
    first, second = seen.isel(scan=slice(0, 6000)), seen.isel(scan=slice(6000, 9000))
    both = xr.concat([first, second.assign_coords(tube=("scan", np.full(3000, "other", object)))], "scan")
    found = follow(both, model=model, particles=200)
    start = np.flatnonzero(found.restarted.values)
    assert start.size == 2
    assert found.tube.values[start[1]] == "other"
    assert float(found.mass_loss_followed[start[1]]) < 0.2 * float(found.mass_loss_followed[start[1] - 1])
    assert float(found.exposure_seconds[start[1]]) < 3000


def test_a_used_tube_has_less_life_left(simulated, model):
    seen = simulated.telemetry.isel(scan=slice(0, 500))
    new = follow(seen, model=model, particles=200)
    used = follow(
        seen, model=model, particles=200, exposure_before_s=40 * float(model.plan[wear_days.SECONDS])
    )
    gone = new.remaining_days.sel(quantile=0.5)[0] - used.remaining_days.sel(quantile=0.5)[0]
    assert float(gone) == pytest.approx(40, abs=12)


def test_half_the_work_lets_a_tube_live_twice_as_long(simulated, model):
    follower = Follower(model, particles=300)
    with pytest.raises(InputError, match="a day of telemetry"):
        follower.foresee()
    found = follower.feed(simulated.telemetry.isel(scan=slice(0, 6000)), close=True)
    usual, half = follower.foresee(), follower.foresee(tube_model(tube=TUBE, parts=PARTS, exams_per_day=30.0))
    assert usual.remaining_days.values == pytest.approx(
        found.remaining_days.values[-1:], rel=0.1
    )  # other draws
    assert int(usual.day[0]) == int(found.day[-1])
    longer = (half.remaining_days / usual.remaining_days).sel(quantile=0.5)[0]
    assert float(longer) == pytest.approx(2.0, rel=0.12)  # patients are a Poisson number
    for name in usual.data_vars:
        check(usual, str(name), where="test")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.isel(scan=slice(0, 0)), "at least one scan"),
        (lambda t: t.drop_vars(["filament_current_a", "vibration_mm_s", "output_ratio", "arcs"]), "sensor"),
        (lambda t: t.drop_vars("kv"), "kv"),
        (lambda t: t.isel(scan=slice(None, None, -1)), "ascending"),
        (lambda t: t.drop_vars("tube"), "no tube"),
        (lambda t: t.assign(kv=t.kv * 0), "above 0"),
        (
            lambda t: t.assign_coords(scanner=("scan", np.where(np.arange(t.sizes["scan"]) < 5, "A", "B"))),
            "one scanner",
        ),
    ],
)
def test_telemetry_that_cannot_be_followed_is_refused(simulated, model, change, words):
    with pytest.raises(InputError, match=words):
        follow(change(simulated.telemetry.isel(scan=slice(0, 20))), model=model)


def test_wrong_use_is_refused(simulated, model, tmp_path):
    seen = simulated.telemetry
    follower = Follower(model, particles=100)
    follower.feed(seen.isel(scan=slice(200, 600)))
    with pytest.raises(InputError, match="after what was fed"):
        follower.feed(seen.isel(scan=slice(0, 100)))
    with pytest.raises(InputError, match="scanner CT-1"):
        follower.feed(life(days=3, scanner="CT-2").telemetry)
    with pytest.raises(InputError, match="particles >= 100"):
        Follower(model, particles=5)
    with pytest.raises(InputError, match="exams_per_day"):
        tube_model(exams_per_day=0.0)
    with pytest.raises(InputError, match="ages ascending"):
        interval_coverage(3, ages=(50, 20))
    with pytest.raises(InputError, match="above 0"):
        quick_tube(0.0)
    with pytest.raises(InputError, match="no file"):
        load_follower(tmp_path / "none.npz")
    (tmp_path / "other.npz").write_bytes(b"PK no archive")
    with pytest.raises(InputError, match=r"Follower\.save"):
        load_follower(tmp_path / "other.npz")


# --- whether its intervals hold


def test_intervals_hold_in_a_few_tubes():
    found = interval_coverage(
        20, ages=(10, 70), tube=quick_tube(30.0), exams_per_day=40.0, days=400, particles=200, seed=2
    )
    judged = found.judged.to_numpy()
    assert judged[0] == 20
    # three standard deviations of a binomial count at 0.9: a test of sense, the slow one is of truth
    assert (found.coverage.to_numpy() >= 0.9 - 3 * found.coverage_sd.to_numpy()).all()
    assert float(found.interval_width[1]) < 0.85 * float(found.interval_width[0])


@pytest.mark.slow
def test_intervals_hold_what_they_say():
    """120 tubes with all declared spreads; at each age the truth falls evenly between the quantiles."""
    found = interval_coverage(120)
    share = np.diff(np.concatenate([[0.0], found["quantile"].to_numpy(), [1.0]]))
    for stage in range(found.sizes["stage"]):
        s = found.isel(stage=stage)
        assert abs(float(s.coverage) - 0.9) < 3 * float(s.coverage_sd), int(s.age)
        rank = s["rank"].to_numpy()
        counts = np.bincount(rank[rank >= 0], minlength=share.size)
        wanted = share * counts.sum()
        assert chi2.sf(float((np.square(counts - wanted) / wanted).sum()), share.size - 1) > 0.002, int(s.age)
    assert (np.diff(found.interval_width.to_numpy()) < 0).all()
