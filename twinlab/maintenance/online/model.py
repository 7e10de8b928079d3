"""What is known of a tube before its telemetry: the declared priors, brought to a few factors on wear."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from twinlab.kernels import wear_days
from twinlab.kernels import wear_filter as kernel
from twinlab.maintenance.online.day_table import Array, sum_days, tubes_of
from twinlab.maintenance.wear import (
    Clinic,
    ScannerWear,
    TubeWear,
    load_clinic,
    load_scanner_wear,
    load_tube_wear,
    simulate_scanner,
    workload,
)
from twinlab.schema import refuse

PLAN_DAYS = 56
DRAWS = 600  # of the declared priors, for the factors' mean and covariance
SCANS_A_DRAW = 400
FLOOR_CURRENT, FLOOR_OUTPUT = 1e-4, 1e-4  # what a day's mean differs by, however many readings

FACTORS = (
    "evaporation", "vibration_trend", "roughening", "output_loss_at_1_um", "new_roughness_um", "arc_rate",
    "arc_loss_growth", "arc_track_growth", "unseen_work_score",
)  # fmt: skip


@dataclass(frozen=True)
class TubeModel:
    """Prior of a tube, its limits, its sensors and the clinic's usual day.

    Attributes
    ----------
    tube : structured array (1,)
        The median tube, whose stress a day's scans are reckoned for.
    room_k : float
    plan : float64 array (DAY_FEATURES,)
        Mean day of the clinic.
    usual_heat : (float, float)
        Oil [degC] and stored heat [kJ] of its mean scan.
    mean, root : float64 arrays (9,), (9, 9)
        Logarithms of the factors ``FACTORS`` (the last: normal score of the share of the usual work that is done
        while telemetry lacks): mean, and a square root of their covariance.
    given : float64 array (3, 10)
        Offset of log current, offset of log vibration, log of the vibration's rise at which a bearing seizes:
        constant and slopes on the factors.
    constants : float64 array
        See :mod:`twinlab.kernels.wear_filter`.
    """

    tube: NDArray[np.void]
    room_k: float
    plan: Array
    usual_heat: tuple[float, float]
    mean: Array
    root: Array
    given: Array
    constants: Array

    def conditional(self, factors: Array) -> Array:
        """Means of offsets and of the bearing's limit given factors: (..., 3)."""
        return np.asarray(self.given[:, 0] + factors @ self.given[:, 1:].T)

    @property
    def precision(self) -> Array:
        """Inverse covariance of the factors; 0 along what does not vary."""
        return np.asarray(np.linalg.pinv(self.root @ self.root.T, rcond=1e-10, hermitian=True))


def tube_model(
    clinic: str | Path | Clinic = "general_clinic",
    *,
    tube: str | Path | TubeWear = "generic_tube",
    parts: str | Path | ScannerWear = "generic_scanner",
    exams_per_day: float | None = None,
) -> TubeModel:
    """Prior of a tube in a clinic.

    The declared priors (``protocols/wear``) are drawn and their effect on a mean day of the clinic is reckoned with
    the simulator's physics; means and covariance of the logarithms make the prior of the filter's factors.

    Parameters
    ----------
    clinic, tube, parts : str, path or model
        Keys or files of ``protocols/wear``.
    exams_per_day : float, optional
        Mean of a weekday, instead of the clinic's.

    Raises
    ------
    InputError
        What the readers of ``protocols/wear`` refuse.
    """
    place = clinic if isinstance(clinic, Clinic) else load_clinic(clinic)
    own = tube if isinstance(tube, TubeWear) else load_tube_wear(tube)
    rest = parts if isinstance(parts, ScannerWear) else load_scanner_wear(parts)
    if exams_per_day is not None:
        if not exams_per_day > 0.0:
            refuse("tube_model: exams_per_day", "above 0", exams_per_day)
        changed = place.exams_per_day.model_copy(update={"value": float(exams_per_day)})
        place = place.model_copy(update={"exams_per_day": changed})
    return _model(place.model_dump_json(), own.model_dump_json(), rest.model_dump_json())


def mean_day(telemetry: xr.Dataset, days: int, tube: NDArray[np.void], room_k: float) -> Array:
    """Mean of some days' features, idle days included; slopes are means over scans."""
    _, (own, *_) = tubes_of(telemetry, where="mean_day")
    which = np.zeros(own.scans.shape[0], np.int64)
    heat = (float(np.nanmean(own.scans[:, 3])), float(np.nanmean(own.scans[:, 4])))
    total = sum_days(own.scans, which, 1, tube=tube, room_k=room_k, usual_heat=heat)[0]
    total[: wear_days.SCANS + 1] /= days
    return total


@lru_cache(maxsize=8)
def _model(clinic_json: str, tube_json: str, parts_json: str) -> TubeModel:
    clinic = Clinic.model_validate_json(clinic_json)
    tube, parts = TubeWear.model_validate_json(tube_json), ScannerWear.model_validate_json(parts_json)
    median, rest = tube.median(), parts.median()
    room_k = float(rest["room_c"][0]) + wear_days.KELVIN
    scans = workload(clinic, days=PLAN_DAYS, scanner="plan")
    seen = simulate_scanner(scans, tube=tube, parts=parts, spread=0.0).telemetry
    plan = mean_day(seen, PLAN_DAYS, median, room_k)
    _, (first, *_) = tubes_of(seen, where="tube_model")
    heat = (float(first.scans[:, 3].mean()), float(first.scans[:, 4].mean()))
    n = kernel.STATICS - 1
    every = max(1, first.scans.shape[0] // SCANS_A_DRAW)
    table = np.ascontiguousarray(first.scans[::every, :5])
    draws = tube.draw(DRAWS, seed=0, scanner="prior of the filter")
    logs = _log_factors(draws, median, table, room_k)
    mean, covariance = np.append(logs[:, :n].mean(axis=0), 0.0), np.zeros((n + 1, n + 1))
    whole = np.cov(logs.T)
    covariance[:n, :n], covariance[n, n] = whole[:n, :n], 1.0
    slope = whole[n:, :n] @ np.linalg.pinv(whole[:n, :n], rcond=1e-10, hermitian=True)
    left = np.maximum(np.diag(whole[n:, n:] - slope @ whole[:n, n:]), 0.0)
    given = np.column_stack([logs[:, n:].mean(axis=0) - slope @ mean[:n], slope, np.zeros(3)])
    values, vectors = np.linalg.eigh(covariance)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    constants = _constants(tube, median[0], rest[0], left)
    return TubeModel(median, room_k, plan, heat, mean, root, given, constants)


def _log_factors(draws: NDArray[np.void], median: NDArray[np.void], scans: Array, room_k: float) -> Array:
    """Logarithms by tube: the factors, offsets of current and vibration, rise of vibration at the end; (tube, 11)."""
    totals, reference = np.zeros((draws.size, 5)), np.zeros((1, 5))
    wear_days.total_stress(draws, scans, room_k, totals)
    wear_days.total_stress(median, scans, room_k, reference)
    ratio = np.log(totals[:, :4] / reference[:, :4])
    growth = np.log(draws["vibration_growth"])
    columns = [
        ratio[:, 0],
        ratio[:, 1] + growth,
        ratio[:, 2],
        *(np.log(draws[name]) for name in ("output_loss_at_1_um", "new_roughness_um")),
        ratio[:, 3],
        *(np.log(draws[name]) for name in ("arc_loss_growth", "arc_track_growth")),
        totals[:, 4] - reference[0, 4],
        np.log(draws["vibration_new_mm_s"]),
        growth,
    ]
    return np.column_stack(columns)


def _constants(tube: TubeWear, median: np.void, parts: np.void, left: Array) -> Array:
    constants = np.zeros(kernel.CONSTANTS)
    constants[kernel.LIMIT] = np.log(median["mass_loss_limit"])
    constants[kernel.LIMIT_SD] = max(tube.mass_loss_limit.spread or 0.0, 1e-4)
    constants[kernel.SEIZED_SD] = max(float(np.sqrt(left[2])), 1e-4)
    constants[kernel.OUTPUT_POWER] = median["output_loss_power"]
    constants[kernel.OUTPUT_LIMIT] = median["output_limit"]
    constants[kernel.FATAL] = median["fatal_arc_share"]
    constants[kernel.OFFSET_0], constants[kernel.OFFSET_1] = np.maximum(left[:2], 1e-12)
    constants[kernel.NOISE_CURRENT] = parts["filament_current_noise"]
    constants[kernel.NOISE_VIBRATION] = max(float(parts["vibration_noise"]), 1e-4)
    constants[kernel.NOISE_OUTPUT] = parts["output_noise"]
    constants[kernel.FLOOR_CURRENT], constants[kernel.FLOOR_OUTPUT] = FLOOR_CURRENT, FLOOR_OUTPUT
    return constants
