"""The scans that a clinic plans: arrivals in its hours, exams by their share, exposures of each exam."""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from twinlab.maintenance.wear.clinic import Clinic, drive, load_clinic
from twinlab.maintenance.wear.streams import stream
from twinlab.schema import label, refuse

LOCALISER = "localiser"
FIELDS = ("kv", "tube_current_ma", "exposure_s", "rotation_time_s")
SHORTEST_MM, THINNEST_MM, THICKEST_MM = 20.0, 100.0, 600.0  # a normal law has tails that no patient has

Table = dict[str, NDArray[np.float64]]


def workload(
    clinic: str | Clinic = "general_clinic",
    *,
    days: int,
    scanner: str = "CT-1",
    seed: int = 0,
    start: str = "2026-01-01",
    exams_per_day: float | None = None,
) -> xr.Dataset:
    """Scans that a clinic plans on one scanner.

    Patients of a day are a Poisson number at uniform times of the opening hours, fewer at weekends, and wait until
    the one before has left the room (the last ones into the evening). Each exam takes its localisers and the phases
    of one protocol; tube current follows the patient's size as the protocol's exposure control has it, exposure
    time the length.

    Parameters
    ----------
    clinic : str or Clinic
        Key of ``protocols/wear``, path, or clinic.
    days : int
    scanner : str
        Name; with the seed the key of the random numbers. Days are drawn one by one, so that a longer workload
        begins like a shorter one.
    seed : int
    start : str
        First day (UTC).
    exams_per_day : float, optional
        Mean of a weekday, instead of the clinic's.

    Returns
    -------
    Dataset, dim (scan)
        ``kv``, ``tube_current_ma``, ``exposure_s`` (beam on), ``rotation_time_s`` (0 for localisers); coordinates
        ``time`` (planned start), ``scanner``, ``protocol``, ``exam`` (a running number).

    Raises
    ------
    InputError
        Fewer than one day, no exams, or an unknown clinic or protocol.
    """
    place = clinic if isinstance(clinic, Clinic) else load_clinic(clinic)
    mean = place.exams_per_day.value if exams_per_day is None else float(exams_per_day)
    if days < 1:
        refuse("workload: days", "1 or more", days)
    if not mean > 0.0:
        refuse("workload: exams_per_day", "above 0", mean)
    first = pd.Timestamp(start)
    if first is pd.NaT or first != first.normalize():
        refuse("workload: start", "a day (2026-01-01)", start)
    exams = _arrivals(place, first, days, mean, scanner, seed)
    scans = _exposures(place, exams)
    order = np.argsort(scans["planned_s"], kind="stable")
    time = np.datetime64(first, "ns") + np.round(scans["planned_s"][order] * 1e9).astype("timedelta64[ns]")
    names = np.array([LOCALISER, *(e.protocol for e in place.exams)], object)
    coords = {
        "time": ("scan", time),
        "scanner": ("scan", np.full(order.size, scanner, object)),
        "protocol": ("scan", names[scans["kind"][order].astype(int) + 1]),
        "exam": ("scan", scans["exam"][order].astype(int)),
    }
    return xr.Dataset(
        {name: label(name, scans[name][order]) for name in FIELDS},
        coords=coords,
        attrs={
            "clinic": place.key,
            "exams_per_day": mean,
            "days": days,
            "start": str(first.date()),
            "seed": seed,
        },
    )


def _arrivals(place: Clinic, first: pd.Timestamp, days: int, mean: float, scanner: str, seed: int) -> Table:
    """Arrival, kind, length and diameter of every exam, ascending."""
    share = np.array([e.share for e in place.exams])
    edge = np.cumsum(share / share.sum())
    rows = []
    for day in range(days):
        rng = stream(seed, scanner, "arrivals", day)
        weekend = (first.dayofweek + day) % 7 >= 5
        n = rng.poisson(mean * (place.weekend_share.value if weekend else 1.0))
        hours = np.sort(rng.uniform(place.open_hour.value, place.close_hour.value, n))
        which = np.minimum(np.searchsorted(edge, rng.uniform(size=n)), share.size - 1)
        rows.append(np.stack([(24.0 * day + hours) * 3600.0, which, *rng.standard_normal((3, n))]))
    arrival, which, z_length, z_width, z_pause = np.concatenate(rows, axis=1)
    if not arrival.size:
        refuse("workload", "at least one exam", f"none in {days} days")
    return {"arrival": arrival, "kind": which, "z_length": z_length, "z_width": z_width, "z_pause": z_pause}


def _exposures(place: Clinic, exams: Table) -> Table:
    """Localisers and phases of every exam, in order of exams."""
    pause = place.pause_s.value * np.exp((place.pause_s.spread or 0.0) * exams["z_pause"])
    exams = {**exams, "begin": _queued(place, exams, pause)}
    parts = [_localisers(place, exams, pause)]
    for k, exam in enumerate(place.exams):
        mine = np.flatnonzero(exams["kind"] == k)
        plan = drive(exam)
        length = np.maximum(exam.length_mm + exam.length_sd_mm * exams["z_length"][mine], SHORTEST_MM)
        width = np.clip(exam.dw_mm + exam.dw_sd_mm * exams["z_width"][mine], THINNEST_MM, THICKEST_MM)
        current, seconds = plan.current_ma(width), plan.exposure_s(length)
        for phase in range(exam.phases):
            step = place.localisers + phase
            parts.append(
                {
                    "planned_s": exams["begin"][mine] + step * pause[mine],
                    "kv": np.full(mine.size, plan.protocol.kv),
                    "tube_current_ma": current,
                    "exposure_s": seconds,
                    "rotation_time_s": np.full(mine.size, plan.protocol.rotation_time_s),
                    "kind": np.full(mine.size, float(k)),
                    "exam": mine.astype(float),
                }
            )
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _queued(place: Clinic, exams: Table, pause: NDArray[np.float64]) -> NDArray[np.float64]:
    """Start of every exam: at its arrival, or when the exam before has left the room."""
    phases = np.array([exam.phases for exam in place.exams])[exams["kind"].astype(int)]
    room = (place.localisers + phases) * pause + place.turnover_s.value
    before = np.concatenate([[0.0], np.cumsum(room)[:-1]])
    return np.asarray(np.maximum.accumulate(exams["arrival"] - before) + before)


def _localisers(place: Clinic, exams: Table, pause: NDArray[np.float64]) -> Table:
    """Views before each exam; kind -1."""
    n, m = exams["arrival"].size, place.localisers
    return {
        "planned_s": (exams["begin"][:, None] + np.arange(m) * pause[:, None]).ravel(),
        "kv": np.full(n * m, place.localiser_kv.value),
        "tube_current_ma": np.full(n * m, place.localiser_ma.value),
        "exposure_s": np.full(n * m, place.localiser_s.value),
        "rotation_time_s": np.zeros(n * m),
        "kind": np.full(n * m, -1.0),
        "exam": np.repeat(np.arange(n), m).astype(float),
    }
