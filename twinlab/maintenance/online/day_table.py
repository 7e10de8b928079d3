"""Telemetry of one tube in days: stress of the scans, means of the sensors, counts."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from twinlab.kernels import wear_days
from twinlab.schema import check, refuse

Array = NDArray[np.float64]
DAY = np.timedelta64(1, "D")
REQUIRED = ("kv", "tube_current_ma", "exposure_s")
SENSORS = ("filament_current_a", "vibration_mm_s", "output_ratio", "arcs")
HEAT = ("oil_temperature_c", "anode_heat_kj")


class Tube(NamedTuple):
    """Scans of one tube, in order.

    Attributes
    ----------
    serial : str
    date : datetime64[D] array (scan,)
    scans : float64 array (scan, 9)
        As :func:`twinlab.kernels.wear_days.sum_days` wants them, NaN where nothing was recorded.
    """

    serial: str
    date: NDArray[np.datetime64]
    scans: Array


def tubes_of(telemetry: xr.Dataset, *, where: str) -> tuple[str, list[Tube]]:
    """Name of the scanner, and its tubes one after the other.

    Raises
    ------
    InputError
        No telemetry, several scanners, not ascending in time, required values missing.
    """
    if not isinstance(telemetry, xr.Dataset) or not telemetry.sizes.get("scan"):
        refuse(where, "telemetry with at least one scan", "none")
    check(telemetry, *REQUIRED, where=where)
    missing = [name for name in ("time", "scanner", "tube") if name not in telemetry.coords]
    if missing:
        refuse(where, "coordinates time, scanner and tube", f"no {', '.join(missing)}")
    names = np.unique(telemetry["scanner"].to_numpy().astype(str))
    if names.size != 1:
        refuse(where, "one scanner (telemetry.where(telemetry.scanner == name, drop=True))", ", ".join(names))
    time = telemetry["time"].to_numpy().astype("datetime64[ns]")
    if np.isnat(time).any() or (np.diff(time) < np.timedelta64(0)).any():
        refuse(where, "telemetry ascending in time", "times that go back, or none")
    absent = np.full(time.size, np.nan)
    columns = [
        telemetry[name].to_numpy().astype(float) if name in telemetry else absent
        for name in (*REQUIRED, *HEAT, *SENSORS)
    ]
    scans = np.stack(columns, axis=1)
    if not (scans[:, :3] > 0.0).all():
        refuse(where, "kV, mA and exposure above 0 in every scan", "others (read_telemetry sets them aside)")
    if not np.isfinite(scans[:, 5:]).any():
        refuse(where, f"a sensor that tells wear: {', '.join(SENSORS)}", "none of them has a value")
    serial = telemetry["tube"].to_numpy().astype(str)
    starts = np.concatenate([[0], np.flatnonzero(serial[1:] != serial[:-1]) + 1, [serial.size]])
    date = time.astype("datetime64[D]")
    tubes = [Tube(str(serial[a]), date[a:b], scans[a:b]) for a, b in itertools.pairwise(starts)]
    return str(names[0]), tubes


def sum_days(
    scans: Array,
    which: NDArray[np.int64],
    n_day: int,
    *,
    tube: NDArray[np.void],
    room_k: float,
    usual_heat: tuple[float, float],
) -> Array:
    """Days of scans, float64 array (day, DAY_FEATURES).

    Parameters
    ----------
    scans : float64 array (scan, 9)
    which : int64 array (scan,)
        Day of each.
    n_day : int
    tube : structured array (1,)
    room_k : float
    usual_heat : (float, float)
        Oil [degC] and heat of the anode [kJ] where they were not recorded.
    """
    table = scans.copy()
    for column, usual in zip((3, 4), usual_heat, strict=True):
        table[:, column] = np.where(np.isfinite(table[:, column]), table[:, column], usual)
    days = np.zeros((n_day, wear_days.DAY_FEATURES))
    wear_days.sum_days(table, which.astype(np.int64), tube, room_k, days)
    return days
