"""Print figures of drift charts and daily checks: run lengths, noise, resolution, rings, days of alarm.

Run from anywhere: ``python tests/maintenance/print_drift_figures.py`` (about a minute on one quiet core).
"""

from __future__ import annotations

import math

import numpy as np
import xarray as xr
from scipy.optimize import brentq

from twinlab.ct.filters import apertures_mm, mtf
from twinlab.maintenance.drift import (
    Design,
    average_run_length,
    baseline,
    cusum,
    ewma,
    first_alarm,
    simulated_run_length,
)
from twinlab.schema import label
from twinlab.study import check_days, daily_protocol


def worn(day: int, *, output: float = 1.0, spot: float = 1.0, gain: np.ndarray | None = None) -> xr.Dataset:
    """Effects of wear on a day."""
    fields = {
        "output_factor": label("output_factor", output),
        "focal_spot_factor": label("focal_spot_factor", [spot]).isel(day=0),
    }
    if gain is not None:
        fields["channel_gain"] = label("channel_gain", gain)
    return xr.Dataset(fields, attrs={"day": day})


def run_lengths() -> None:
    """Markov chain beside simulation and the published number."""
    rows = (
        ("shewhart", 0.0, Design(), 370.4), ("ewma", 0.0, Design(), 500), ("ewma", 1.0, Design(), 10.3),
        ("cusum", 0.0, Design(cusum_limit=4.0), 168), ("cusum", 0.0, Design(), 465), ("cusum", 1.0, Design(), 10.4),
    )  # fmt: skip
    for chart, shift, design, published in rows:
        chain = average_run_length(chart, shift=shift, design=design)
        mean, sd = simulated_run_length(chart, shift=shift, design=design, runs=20_000)
        limit = design.cusum_limit if chart == "cusum" else ""
        simulated = f"simulated {mean:.2f} +- {sd:.2f}"
        print(f"{chart} {limit} shift {shift:g}: chain {chain:.2f}, {simulated}, published {published}")


def noise_and_resolution() -> None:
    """Output of 0.8; focal spots 1.5 and 2 times as wide; drifted gains."""
    setting = daily_protocol()
    found = check_days([worn(0), worn(1, output=0.8)], protocol=setting, repeats=8)
    noise, sd = found["qc_noise"].to_numpy(), found["qc_noise_sd"].to_numpy()
    ratio = noise[1] / noise[0]
    print(
        f"noise at output 0.8: {ratio:.4f} +- {ratio * math.hypot(*(sd / noise)):.4f}, wanted {1 / math.sqrt(0.8):.4f}"
    )
    factors = (1.0, 1.5, 2.0)
    days = [worn(k, spot=s, output=100.0) for k, s in enumerate(factors)]
    seen = check_days(days, protocol=setting, repeats=2, common_noise=True)["qc_mtf50"].to_numpy()
    for factor, value in zip(factors, seen, strict=True):
        width = apertures_mm(setting.scanner)[1] * factor
        model = brentq(
            lambda f, w=width: mtf("sharp", f) * (1 + 2 * np.cos(2 * np.pi * f * w / 3)) / 3 - 0.5, 0.1, 1.0
        )
        print(f"focal spot x {factor:g}: 50 % at {value:.4f} /mm, model {model:.4f}")
    shape = setting.row_positions_mm().size, setting.scanner.detector.n_channels
    walk = np.random.default_rng(1).standard_normal(shape)
    drift = [worn(k, gain=1.0 + 0.01 * p * walk) for k, p in enumerate((0.3, 0.6))]
    for calibration in ("none", "daily"):
        rings = check_days(drift, protocol=setting, repeats=3, calibration=calibration)
        pairs = zip(rings["qc_rings"].to_numpy(), rings["qc_rings_sd"].to_numpy(), strict=True)
        print(
            f"rings, calibration {calibration}, gains off by 0.3 and 0.6 %:",
            *(f"{v:.2f} +- {s:.2f} HU" for v, s in pairs),
        )


def alarms() -> None:
    """Output that falls by 0.5 % a day after 30 days."""
    output = np.concatenate([np.ones(30), 1.0 - 0.005 * np.arange(1, 41)])
    setting = daily_protocol(rows=1, views=123, focal_points=1)
    noise = check_days([worn(k, output=o) for k, o in enumerate(output)], protocol=setting, repeats=2)[
        "qc_noise"
    ]
    limits = baseline(noise, last_day=29)
    crossed = int(np.argmax(1.0 / np.sqrt(output) > 1.1))
    days = {
        name: first_alarm(chart(noise, limits), after=29)
        for name, chart in (("CUSUM", cusum), ("EWMA", ewma))
    }
    print(f"output falls from day 30: {days}, noise 10 % above its level from day {crossed}")


if __name__ == "__main__":
    run_lengths()
    noise_and_resolution()
    alarms()
