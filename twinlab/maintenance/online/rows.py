"""Results of a day, and their labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from twinlab.kernels import wear_days
from twinlab.kernels import wear_filter as kernel
from twinlab.maintenance.online.day_table import Array
from twinlab.maintenance.online.model import FACTORS, TubeModel
from twinlab.maintenance.online.particles import Cloud, Future, quantiles
from twinlab.schema import label

QUANTILES = np.array([0.05, 0.25, 0.5, 0.75, 0.95])
SENSORS = ("filament_current", "vibration", "output", "arcs")
STATES = ("mass_loss_followed", "bearing_wear_followed", "output_followed")


def day_row(
    cloud: Cloud, model: TubeModel, ahead: Future, day: Array, seen: Array, before: tuple[Array, Array]
) -> dict[str, Any]:
    """What is kept of a day.

    Parameters
    ----------
    cloud, model, ahead
    day : float64 array (DAY_FEATURES,)
    seen : float64 array (particle, 4)
        What particles expected.
    before : (weights, variances)
        As they were before the day.
    """
    w = cloud.weights
    row: dict[str, Any] = {"remaining_days": quantiles(ahead.days, w, QUANTILES)}
    row["failure_share"] = np.bincount(ahead.causes, weights=w, minlength=len(kernel.CAUSES))
    for k, name in enumerate(STATES):
        row[name], row[f"{name}_sd"] = _moments(ahead.worn[:, k], w)
    factors = [_moments(cloud.particles[:, k], w) for k in range(kernel.STATICS)]
    row["factor_log"] = np.array([mean for mean, _ in factors])
    row["factor_log_sd"] = np.array([sd for _, sd in factors])
    row |= _sensors(model, day, seen, before)
    row["effective_particles"], row["log_evidence"] = cloud.effective, cloud.log_evidence
    return row


def _moments(values: Array, weights: Array) -> tuple[float, float]:
    mean = float(weights @ values)
    return mean, max(float(weights @ np.square(values - mean)), 0.0) ** 0.5


def _sensors(model: TubeModel, day: Array, seen: Array, before: tuple[Array, Array]) -> dict[str, Any]:
    """Values of a day's sensors and what was expected of them."""
    weights, variances = before
    c, value = model.constants, np.full(4, np.nan)
    counts = day[[wear_days.N_CURRENT, wear_days.N_VIBRATION, wear_days.N_OUTPUT]]
    value[0], value[1], value[2] = (
        np.exp(day[wear_days.CURRENT]),
        np.exp(day[wear_days.VIBRATION]),
        day[wear_days.OUTPUT],
    )
    if day[wear_days.WATCHED] > 0.0:
        value[3] = day[wear_days.ARCS]
    noise = np.square(c[[kernel.NOISE_CURRENT, kernel.NOISE_VIBRATION, kernel.NOISE_OUTPUT]])
    noise = noise / np.maximum(counts, 1.0) + np.append(variances, 0.0)
    moments = [_moments(seen[:, k], weights) for k in range(4)]
    mean = np.array([m for m, _ in moments])
    sd = np.sqrt(np.square(np.array([s for _, s in moments])) + np.append(noise, mean[3]))
    mean[:2] = np.exp(mean[:2])
    sd[:2] *= mean[:2]
    return {"sensor_value": value, "sensor_expected": mean, "sensor_expected_sd": sd}


def labelled(rows: list[dict[str, Any]], first: np.datetime64 | None, scanner: str) -> xr.Dataset:
    """Rows as one Dataset, dim day."""
    extra: dict[str, dict[str, Any]] = {
        "remaining_days": {"quantile": QUANTILES},
        "failure_share": {"cause": list(kernel.CAUSES)},
        "factor_log": {"factor": list(FACTORS)},
        "factor_log_sd": {"factor": list(FACTORS)},
        **{
            name: {"sensor": list(SENSORS)}
            for name in ("sensor_value", "sensor_expected", "sensor_expected_sd")
        },
    }
    names = [*STATES, *(f"{s}_sd" for s in STATES), *extra, "effective_particles", "log_evidence"]
    names += ["exposure_seconds", "restarted"]
    date = np.array([row["date"] for row in rows], "datetime64[D]")
    origin = first if first is not None else np.datetime64("1970-01-01", "D")
    day = ((date - origin) / np.timedelta64(1, "D")).astype(int)
    fields = {}
    for name in names:
        shape = (len(rows), *(len(v) for v in extra.get(name, {}).values()))
        values = np.array([row[name] for row in rows]).reshape(shape)
        fields[name] = label(name, values, {"day": day, **extra.get(name, {})})
    seconds = np.array([row["seconds_a_day"] for row in rows]).reshape(len(rows), 1)
    fields["remaining_seconds"] = label(
        "remaining_seconds",
        fields["remaining_days"].to_numpy() * seconds,
        {"day": day, **extra["remaining_days"]},
    )
    coords = {
        "date": ("day", date.astype("datetime64[ns]")),
        "tube": ("day", np.array([row["tube"] for row in rows], object)),
        "scanner": ("day", np.full(len(rows), scanner, object)),
    }
    return xr.Dataset(fields).assign_coords(coords)


def foreseen(ahead: Future, weights: Array, seconds_a_day: float, day: int) -> xr.Dataset:
    """Remaining life on one day."""
    days = quantiles(ahead.days, weights, QUANTILES)[None]
    share = np.bincount(ahead.causes, weights=weights, minlength=len(kernel.CAUSES))[None]
    coords = {"day": [day], "quantile": QUANTILES}
    return xr.Dataset(
        {
            "remaining_days": label("remaining_days", days, coords),
            "remaining_seconds": label("remaining_seconds", days * seconds_a_day, coords),
            "failure_share": label("failure_share", share, {"day": [day], "cause": list(kernel.CAUSES)}),
        }
    )
