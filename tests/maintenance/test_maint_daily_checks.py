"""Daily checks of a worn scanner: each kind of wear shows where and by as much as it must."""

from __future__ import annotations

import math

import numpy as np
import pytest
import xarray as xr
from scipy.optimize import brentq

from twinlab.ct.filters import apertures_mm, mtf
from twinlab.maintenance import wear
from twinlab.maintenance.drift import baseline, cusum, first_alarm
from twinlab.schema import InputError, check, label
from twinlab.study import check_days, daily_checks, daily_protocol, worn_days

QUICK = daily_protocol(rows=2, views=164)
N_ROW, N_CHANNEL = QUICK.row_positions_mm().size, QUICK.scanner.detector.n_channels


def worn(day=0, *, output=1.0, spot=1.0, gain=None, dead=()):
    """Effects of wear on a day."""
    fields = {
        "output_factor": label("output_factor", output),
        "focal_spot_factor": label("focal_spot_factor", [spot]).isel(day=0),
    }
    if gain is not None:
        fields["channel_gain"] = label("channel_gain", gain)
    if dead:
        fields["dead_cell"] = label("dead_cell", np.array(dead))
    return xr.Dataset(fields, attrs={"day": day})


def drifted(percent, seed=1):
    return 1.0 + 0.01 * percent * np.random.default_rng(seed).standard_normal((N_ROW, N_CHANNEL))


def test_a_lower_output_raises_noise_and_nothing_else():
    found = check_days([worn(0), worn(1, output=0.8)], protocol=QUICK, repeats=4)
    new, old = found.isel(day=0), found.isel(day=1)
    ratio = (old["qc_noise"] / new["qc_noise"]).item()
    # readings behind 20 cm of water are far above the electronic noise, so that quanta alone count
    sd = math.hypot(
        (new["qc_noise_sd"] / new["qc_noise"]).item(), (old["qc_noise_sd"] / old["qc_noise"]).item()
    )
    assert sd < 0.02
    assert ratio == pytest.approx(1.0 / math.sqrt(0.8), abs=3.5 * sd)
    for name in ("qc_water", "qc_uniformity", "qc_mtf50", "qc_mtf10"):
        spread = math.hypot(new[f"{name}_sd"].item(), old[f"{name}_sd"].item())
        assert (old[name] - new[name]).item() == pytest.approx(0.0, abs=3.5 * spread), name
    for name in found:
        check(found, str(name), where="test")


def test_a_wider_focal_spot_lowers_resolution_as_the_blur_of_the_protocol_says():
    """So many quanta that noise plays no part; transfer of kernel and three points of the spot."""
    factors = (1.0, 2.0)
    days = [worn(k, spot=s, output=100.0) for k, s in enumerate(factors)]
    found = check_days(days, protocol=daily_protocol(rows=1), repeats=2, common_noise=True)[
        "qc_mtf50"
    ].to_numpy()

    def transfer(frequency, factor):
        width = apertures_mm(QUICK.scanner)[1] * factor
        return mtf("sharp", frequency) * (1.0 + 2.0 * np.cos(2.0 * np.pi * frequency * width / 3.0)) / 3.0

    wanted = np.array([brentq(lambda f, s=s: transfer(f, s) - 0.5, 0.1, 1.0) for s in factors])
    assert (np.diff(found) < 0).all()
    # 0.6 % seen: the steps of channels and views blur a little besides
    assert found / found[0] == pytest.approx(wanted / wanted[0], rel=0.012)
    assert found == pytest.approx(wanted, rel=0.025)


def test_drifted_gains_make_rings_and_calibration_removes_them():
    days = [worn(0), worn(1, gain=drifted(0.3)), worn(2, gain=drifted(0.6))]
    before = check_days(days, protocol=QUICK, repeats=2, common_noise=True)["qc_rings"].to_numpy()
    after = check_days(days, protocol=QUICK, repeats=2, common_noise=True, calibration="daily")
    assert before[2] / before[1] == pytest.approx(
        2.0, rel=0.1
    )  # the logarithm is nearly linear; noise is the rest
    assert before[1] > 10 * after["qc_rings"].to_numpy().max()
    for name in ("qc_water", "qc_noise", "qc_mtf50"):
        assert after[name][2].item() == pytest.approx(after[name][0].item(), abs=1e-6), (
            name
        )  # nothing of it is left


def test_dead_cells_are_seen_until_they_are_interpolated():
    cells = [(0, N_CHANNEL // 2 + 30), (1, N_CHANNEL // 2 - 55)]
    days = [worn(0), worn(1, dead=cells, gain=np.ones((N_ROW, N_CHANNEL)))]
    before = check_days(days, protocol=QUICK, repeats=2, common_noise=True)["qc_rings"].to_numpy()
    after = check_days(days, protocol=QUICK, repeats=2, common_noise=True, calibration="daily")
    assert before[1] > 50.0
    assert after["qc_rings"][1].item() < 1.0
    assert after["qc_water"][1].item() == pytest.approx(after["qc_water"][0].item(), abs=0.5)


def test_cells_of_the_whole_detector_are_cut_to_the_open_rows():
    detector = QUICK.scanner.detector
    gain = np.ones((detector.n_rows, N_CHANNEL))
    first = (detector.n_rows - N_ROW) // 2
    gain[first : first + N_ROW] = drifted(0.5)
    whole = daily_checks._effects_of(worn(gain=gain, dead=[(0, 7), (first + 1, 9)]), QUICK)
    assert (whole["gain"] == drifted(0.5)).all()
    assert whole["dead"] == [(1, 9)]
    assert daily_checks._effects_of(worn(dead=[(first, 3)]), QUICK)["dead"] == [(0, 3)]


@pytest.fixture(scope="module")
def decline():
    """Twenty-one days as new, then output falls by 1.8 % a day."""
    setting = daily_protocol(rows=1, views=123, focal_points=1)
    output = np.concatenate([np.ones(21), 1.0 - 0.018 * np.arange(1, 12)])
    days = [worn(k, output=o) for k, o in enumerate(output)]
    return output, check_days(days, protocol=setting, repeats=2)


def test_cusum_sees_the_drift_before_the_tolerance_is_crossed(decline):
    output, found = decline
    limits = baseline(found["qc_noise"], last_day=20)
    alarm = first_alarm(cusum(found["qc_noise"], limits), after=20)
    # constancy tests allow noise to change by 10 % (IEC 61223-2-6, second-hand)
    crossed = float(np.argmax(1.0 / np.sqrt(output) > 1.1))
    assert 21 <= alarm <= crossed - 3
    seen = found["day"].to_numpy()[found["qc_noise"].to_numpy() > 1.1 * limits.mean]
    assert alarm < seen.min()


def test_standard_uncertainties_are_the_scatter_from_day_to_day(decline):
    found = decline[1].isel(day=slice(0, 21))
    for name in ("qc_water", "qc_noise", "qc_uniformity", "qc_mtf50", "qc_mtf10"):
        scatter = found[name].std(ddof=1).item()
        claimed = float(np.sqrt((found[f"{name}_sd"] ** 2).mean()))
        # 21 days know the scatter to 16 %, and the estimate itself is from few places
        assert 0.6 < scatter / claimed < 1.6, (name, scatter, claimed)


def test_days_of_a_simulated_scanner():
    """From a workload through wear to images: drift grows until the next calibration, and daily ones keep it away."""
    state = wear.simulate_scanner(wear.workload(days=30, seed=3, exams_per_day=10.0), seed=3).state
    state = state.assign(output_factor=100.0 * state["output_factor"])  # quanta without number: no noise
    days = worn_days(state, [0, 1, 27], QUICK)
    assert days[2]["channel_gain"].shape == (QUICK.scanner.detector.n_rows, N_CHANNEL)
    before = check_days(days, protocol=QUICK, repeats=2, common_noise=True)["qc_rings"].to_numpy()
    after = check_days(days, protocol=QUICK, repeats=2, common_noise=True, calibration="daily")["qc_rings"]
    drift = state["detector_gain_drift_percent"].sel(day=[0, 1, 27]).to_numpy()
    assert drift[0] == 0.0
    assert before[0] < before[1] < before[2]
    assert after[2].item() < 0.2 * before[2]
    # a random walk: rings grow with its size, up to which rings are hit
    assert before[2] / before[1] == pytest.approx(drift[2] / drift[1], rel=0.5)


def test_equal_days_are_scanned_once_and_kept(tmp_path, monkeypatch):
    setting = daily_protocol(rows=1, views=123, focal_points=1)
    scanned = []
    plain = daily_checks._check
    monkeypatch.setattr(daily_checks, "_check", lambda *a, **k: scanned.append(1) or plain(*a, **k))
    days = [worn(0, output=0.97), worn(1, output=0.97), worn(2, spot=1.001, output=0.97)]
    first = check_days(days, protocol=setting, repeats=2, common_noise=True, outputs=tmp_path)
    assert len(scanned) == 1  # steps of 1 % of the focal spot
    assert len(list((tmp_path / "cache").glob("daily-*.json"))) == 1
    monkeypatch.setattr(daily_checks, "_MEASURED", {})
    again = check_days(days, protocol=setting, repeats=2, common_noise=True, outputs=tmp_path)
    assert len(scanned) == 1
    xr.testing.assert_identical(first, again)
    own = check_days(days[:2], protocol=setting, repeats=2)
    assert len(scanned) == 3
    assert own["qc_noise"][0] != own["qc_noise"][1]


def test_refuses():
    for call, words in (
        (lambda: check_days([], protocol=QUICK), "one Dataset a day"),
        (lambda: check_days([worn(3), worn(3)], protocol=QUICK), "ascending"),
        (lambda: check_days([worn(0)], protocol=QUICK, repeats=1), "repeats"),
        (lambda: check_days([worn(0)], protocol=QUICK, calibration="weekly"), "calibration"),
        (lambda: check_days([worn(0, output=0.0)], protocol=QUICK), "output_factor"),
        (lambda: check_days([worn(0, gain=np.ones((5, 7)))], protocol=QUICK), "cells"),
        (lambda: daily_protocol("adult_chest"), "axial"),
    ):
        with pytest.raises(InputError, match=words):
            call()
