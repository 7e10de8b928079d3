"""A simulated scanner: its telemetry, and the hidden wear behind it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from twinlab.kernels import wear_loop as loop
from twinlab.maintenance.wear.detector_faults import (
    DetectorLife,
    detector_life,
    gain_drift_percent,
    latest_calibration,
)
from twinlab.maintenance.wear.parameters import ScannerWear, TubeWear, load_scanner_wear, load_tube_wear
from twinlab.maintenance.wear.streams import stream
from twinlab.schema import check, label, refuse

TUBES = 64  # drawn for one scanner; more are not worn out in any run worth its time
PLANNED = ("kv", "tube_current_ma", "exposure_s", "rotation_time_s")
TIME_STEP_NS = 1_000_000  # telemetry tells milliseconds

Array = NDArray[np.float64]


class Simulation(NamedTuple):
    """What :func:`simulate_scanner` returns: the log that a service sees, and the truth behind it."""

    telemetry: xr.Dataset
    state: xr.Dataset


def simulate_scanner(
    scans: xr.Dataset,
    *,
    tube: str | TubeWear = "generic_tube",
    parts: str | ScannerWear = "generic_scanner",
    seed: int = 0,
    spread: float = 1.0,
    stop_at_failure: bool = False,
) -> Simulation:
    """Wear of a scanner under a workload, with its telemetry.

    Heat, filament, track, bearing and arcs follow each exposure (:mod:`twinlab.kernels.wear_loop`); the generator
    lowers a tube current beyond its power, and delays a scan until its heat fits into the anode, the oil is cool and
    the focal spot stays below its limit; what does not fit within an hour is lost. A part that fails is replaced
    after its downtime, in which planned scans are lost.

    Parameters
    ----------
    scans : Dataset
        From :func:`workload`.
    tube : str or TubeWear
    parts : str or ScannerWear
    seed : int
        With the scanner's name the key of all random numbers: frailties, arcs, sensors' noise.
    spread : float
        Factor on the spreads over machines: 0 makes median machines.
    stop_at_failure : bool
        End with the day of the first failure.

    Returns
    -------
    Simulation
        ``telemetry`` (scan): the variables of :func:`twinlab.maintenance.telemetry.telemetry_schema`, of the scans
        that were done, NaN where nothing is recorded. ``state`` (day): hidden wear at the end of each day, of the
        worn part on the day on which it failed; attrs tell the calibration interval and the seed.

    Raises
    ------
    InputError
        No workload, one of two scanners, not ascending in time, or scans that no tube does.
    """
    check(scans, *PLANNED, where="simulate_scanner")
    scanner, first, plan = _plan(scans)
    tubes = (tube if isinstance(tube, TubeWear) else load_tube_wear(tube)).draw(
        TUBES, seed=seed, scanner=scanner, spread=spread
    )
    own = (parts if isinstance(parts, ScannerWear) else load_scanner_wear(parts)).draw(
        1, seed=seed, scanner=scanner, spread=spread
    )
    most_ma = 1000.0 * tubes["max_power_kw"][0] / plan[:, 1]
    reduced = int((plan[:, 2] > most_ma).sum())
    plan[:, 2] = np.minimum(plan[:, 2], most_ma)
    n_day = int(scans.attrs.get("days", np.ceil((plan[-1, 0] + plan[-1, 3]) / loop.DAY)))
    detectors = detector_life(own[0], days=n_day, seed=seed, scanner=scanner)
    uniform = stream(seed, scanner, "events").uniform(size=(plan.shape[0], 3))
    seen = np.full((plan.shape[0], loop.SCAN_COLUMNS), np.nan)
    days, causes = np.zeros((n_day, len(loop.DAY_COLUMNS))), np.zeros(n_day, np.int8)
    fails = np.array(detectors.fails) * loop.DAY
    loop.run(plan, uniform, tubes, own, fails, stop_at_failure, seen, days, causes)
    detectors = detectors.repaired(np.flatnonzero(causes == loop.DETECTOR))
    if stop_at_failure and causes.any():
        last = int(np.flatnonzero(causes)[0]) + 1
        days, causes = days[:last], causes[:last]
    telemetry = _telemetry(plan, seen, own[0], detectors, scanner, first, seed)
    telemetry.attrs["reduced_scans"] = reduced
    telemetry.attrs.update({k: scans.attrs[k] for k in ("clinic", "exams_per_day") if k in scans.attrs})
    return Simulation(telemetry, _state(plan, days, causes, tubes, own[0], detectors, scanner, first, seed))


def _plan(scans: xr.Dataset) -> tuple[str, np.datetime64, Array]:
    """Name of the scanner, day of installation, and the plan as the loop wants it."""
    names = np.unique(scans["scanner"].to_numpy().astype(str)) if "scanner" in scans.coords else np.empty(0)
    if names.size != 1:
        refuse("simulate_scanner: scans", "scans of one scanner", f"{names.size}")
    time = scans["time"].to_numpy()
    first = np.datetime64(scans.attrs.get("start", str(time[0])[:10]), "D")
    seconds = (time - first.astype("datetime64[ns]")) / np.timedelta64(1, "s")
    values = np.stack([seconds, *(scans[name].to_numpy().astype(float) for name in PLANNED)], axis=1)
    if not np.isfinite(values).all() or (np.diff(seconds) < 0.0).any() or seconds[0] < 0.0:
        refuse("simulate_scanner: scans", "finite values, ascending in time", "others")
    if (values[:, 1:4] <= 0.0).any() or (values[:, 4] < 0.0).any():
        refuse("simulate_scanner: scans", "kV, mA and exposure above 0", "others")
    return str(names[0]), first, np.ascontiguousarray(values)


def _telemetry(
    plan: Array,
    seen: Array,
    parts: Any,
    detectors: DetectorLife,
    scanner: str,
    first: np.datetime64,
    seed: int,
) -> xr.Dataset:
    """The log: sensors with their noise, of the scans that were done."""
    done = np.isfinite(seen[:, loop.END])

    def noise(purpose: str) -> Array:
        return stream(seed, scanner, f"noise {purpose}").standard_normal(done.size)[done]

    s, p = seen[done], plan[done]
    day = s[:, loop.END] / loop.DAY
    latest = _calibrated(parts, detectors, day)
    values = {
        "kv": p[:, 1],
        "tube_current_ma": p[:, 2],
        "exposure_s": p[:, 3],
        "rotation_time_s": p[:, 4],
        "filament_current_a": s[:, loop.CURRENT]
        * (1.0 + parts["filament_current_noise"] * noise("filament")),
        "anode_heat_kj": s[:, loop.HEAT] * (1.0 + parts["heat_noise"] * noise("heat")),
        "oil_temperature_c": s[:, loop.OIL] + parts["oil_noise_c"] * noise("oil"),
        "output_ratio": s[:, loop.OUTPUT] * (1.0 + parts["output_noise"] * noise("output")),
        "arcs": s[:, loop.ARCS].astype(np.int64),
        "vibration_mm_s": s[:, loop.VIBRATION] * np.exp(parts["vibration_noise"] * noise("vibration")),
        "gantry_vibration_mm_s": s[:, loop.GANTRY] * np.exp(parts["vibration_noise"] * noise("gantry")),
        "slip_ring_errors": s[:, loop.ERRORS].astype(np.int64),
        "coolant_flow_l_min": s[:, loop.FLOW] * (1.0 + parts["flow_noise"] * noise("flow")),
        "dead_channels": _counts(detectors, latest),
        "gain_drift_percent": gain_drift_percent(parts, np.floor(day) - latest),
    }
    end = np.round(s[:, loop.END] * 1e9 / TIME_STEP_NS).astype(np.int64) * TIME_STEP_NS
    number = s[:, loop.TUBE].astype(int)
    serials = np.array([f"{scanner}-T{k + 1}" for k in range(number.max(initial=0) + 1)], object)
    coords = {
        "time": ("scan", first.astype("datetime64[ns]") + end.astype("timedelta64[ns]")),
        "scanner": ("scan", np.full(end.size, scanner, object)),
        "tube": ("scan", serials[number]),
    }
    return xr.Dataset(
        {name: label(name, array) for name, array in values.items()},
        coords=coords,  # once: label would copy the names for every variable
        attrs={"seed": seed, "lost_scans": int((~done).sum())},
    )


def _calibrated(parts: Any, detectors: DetectorLife, day: NDArray[Any]) -> Array:
    interval = float(parts["calibration_interval_days"])
    return latest_calibration(day, interval_days=interval, starts=detectors.starts)


def _counts(detectors: DetectorLife, day: NDArray[Any]) -> NDArray[np.int64]:
    """Dead cells at times, of which many are equal."""
    distinct, back = np.unique(day, return_inverse=True)
    return np.array([detectors.dead(d) for d in distinct], np.int64)[back]


def _state(
    plan: Array,
    days: Array,
    causes: NDArray[np.int8],
    tubes: NDArray[np.void],
    parts: Any,
    detectors: DetectorLife,
    scanner: str,
    first: np.datetime64,
    seed: int,
) -> xr.Dataset:
    """Hidden wear by day, labelled."""
    day = np.arange(days.shape[0])
    column = dict(zip(loop.DAY_COLUMNS, days.T, strict=True))
    number = column.pop("tube_number").astype(int)
    # arcs in 1000 scans of this workload, from the rate at 120 kV
    power = tubes["arc_kv_power"][number % tubes.size]
    kv, share = np.unique(plan[:, 1], return_inverse=True)
    seconds = np.bincount(share, weights=plan[:, 3]) / plan.shape[0]
    per_scan = (seconds * (kv / 120.0) ** power[:, None]).sum(axis=1)
    column["arc_rate_per_1000_scans"] = 1000.0 * per_scan * column.pop("arc_rate_per_s")
    column["detector_gain_drift_percent"] = gain_drift_percent(
        parts, day - _calibrated(parts, detectors, day)
    )
    column["dead_channel_count"] = _counts(detectors, day + 1.0 - 1e-9)
    names = np.array(loop.CAUSES, object)
    coords = {
        "day": ("day", day),
        "date": ("day", first.astype("datetime64[ns]") + day.astype("timedelta64[D]")),
        "scanner": ("day", np.full(day.size, scanner, object)),
        "tube": ("day", np.array([f"{scanner}-T{k + 1}" for k in number], object)),
    }
    fields = {name: label(name, values, dims=("day",)) for name, values in column.items()}
    fields["output_factor"].attrs["long_name"] = "output per mAs over that of a new tube"
    fields["failed"] = label("failed", names[causes])
    attrs = {
        "seed": seed,
        "calibration_interval_days": float(parts["calibration_interval_days"]),
        "gain_drift_module_share": float(parts["gain_drift_module_share"]),
    }
    return xr.Dataset(fields, coords=coords, attrs=attrs)
