"""Lives of tubes come out where they are told to be, because the priors were chosen so."""

import numpy as np
import pytest

from twinlab.maintenance.telemetry import read_telemetry, write_telemetry
from twinlab.maintenance.wear import load_tube_wear, simulate_scanner, tube_lives, workload
from twinlab.schema import InputError


def test_simulated_telemetry_passes_the_reader(tmp_path):
    telemetry = simulate_scanner(workload(days=20, exams_per_day=30.0, seed=4), seed=4).telemetry
    write_telemetry(telemetry, tmp_path / "log.csv")
    reading = read_telemetry(tmp_path / "log.csv")
    assert reading.rows_quarantined == 0
    assert reading.quarantine.empty
    for name in ("filament_current_a", "oil_temperature_c", "arcs", "gantry_vibration_mm_s"):
        np.testing.assert_allclose(reading.scans[name], telemetry[name], rtol=1e-12)
    assert (reading.scans["time"].to_numpy() == telemetry["time"].to_numpy()).all()


def test_short_lived_tubes_and_censored_ones():
    frail = load_tube_wear().with_values(mass_loss_limit=1.2e-3)
    lives = tube_lives(6, years=0.1, tube=frail, seed=1)
    assert set(lives["life_cause"].to_numpy()) <= {"filament", ""}
    failed = lives["life_failed"].to_numpy()
    assert failed.any()
    assert (lives["life_days"].to_numpy()[~failed] == 37.0).all()
    # all under the same scans: what is still at work has the most seconds
    seconds = lives["life_seconds"].to_numpy()
    assert seconds[failed].min() > 0.0
    assert (seconds <= tube_lives(1, years=0.1, seed=1)["life_seconds"].to_numpy()).all()
    with pytest.raises(InputError, match="n: expected 1 or more"):
        tube_lives(0)


@pytest.mark.slow
def test_lives_of_tubes_are_those_that_are_told():
    """0.5 to 1.6 million scan-seconds, 4 to 8 years: told second-hand, and what the priors are calibrated to."""
    lives = tube_lives(40, years=10.0, seed=5)
    years, seconds = lives["life_days"].to_numpy() / 365.25, lives["life_seconds"].to_numpy()
    assert lives["life_failed"].all()
    print(np.percentile(years, [10, 50, 90]), np.percentile(seconds, [10, 50, 90]))
    assert 4.0 < np.median(years) < 8.0
    assert 0.5e6 < np.median(seconds) < 1.6e6
    # the ranges are no quantiles of anything; that most tubes lie in that of seconds is all that can be asked
    assert np.mean((seconds > 0.5e6) & (seconds < 1.6e6)) > 0.6
