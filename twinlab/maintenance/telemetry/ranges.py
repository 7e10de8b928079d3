"""Values of the measured columns: no numbers, impossible ones, those of another unit, sensors that are stuck."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from twinlab.maintenance.telemetry import cells
from twinlab.maintenance.telemetry.columns import MEASURED, MOST_KILOWATT, Column, Unit
from twinlab.maintenance.telemetry.ledger import Ledger
from twinlab.maintenance.telemetry.raw_files import MALFORMED

OUTSIDE = 0.05  # of a column's values impossible: the unit of the whole column is asked about
EXPLAINED = 0.98  # of them, and of all values, possible in another unit
SETTINGS = ("kv", "tube_current_ma", "exposure_s")

Floats = NDArray[np.float64]


def read_values(ledger: Ledger) -> None:
    """Fill the measured columns of the ledger; set aside what is no number or not possible."""
    whole = (ledger.raw[MALFORMED] == "").to_numpy()
    for column in MEASURED:
        present = ledger.has(column.name)
        if column.required:
            ledger.set_aside(~present & whole, column.name, "missing column")
        if not present.any():
            ledger.table[column.name] = np.nan
            continue
        raw = ledger.raw[column.name]
        values, wrong = cells.numbers(raw)
        ledger.table[column.name] = values
        reject = ledger.set_aside if column.required else ledger.blank
        reject(wrong, column.name, [cells.not_a_number(cell) for cell in raw[wrong]])
        if column.required:
            ledger.set_aside(present & whole & ~wrong & np.isnan(values), column.name, "no value")
        if column.kind == "count":
            ledger.blank(np.isfinite(values) & (np.rint(values) != values), column.name, "not a whole number")
        for rows in _recorders(ledger):
            index, reason = impossible(ledger.table[column.name].to_numpy()[rows], column)
            reject(rows[index], column.name, reason)
    watt = ledger.table["kv"].to_numpy() * ledger.table["tube_current_ma"].to_numpy()
    too_much = ledger.used & (watt / 1000.0 > MOST_KILOWATT)
    ledger.set_aside(too_much, "tube_current_ma", f"impossible with this kV: more than {MOST_KILOWATT:g} kW")


def _recorders(ledger: Ledger) -> list[NDArray[np.intp]]:
    """Rows by file and scanner: a wrong unit is that of one recorder."""
    groups = ledger.table.groupby(["file", "scanner"], sort=False).indices
    return list(groups.values())


def impossible(values: Floats, column: Column) -> tuple[NDArray[np.intp], list[str]]:
    """Indices of values that cannot be used, and why: each by itself, or all for the unit of the column.

    If values are impossible, and another unit explains nearly all, possible ones included, then none is
    used: some values of a wrong unit look right by chance.
    """
    finite = ~np.isnan(values)
    outside = finite & ~column.possible(values)
    if not outside.any():
        return np.zeros(0, np.intp), []
    if outside.sum() >= OUTSIDE * finite.sum():
        units = [u for u in column.mistakes if _explains(u, values[finite], values[outside], column)]
        if units:
            named = " or ".join(u.name for u in units)
            reason = (
                f"impossible in {column.units} for many scans of this scanner; the unit is likely {named}"
            )
            index = np.flatnonzero(finite)
            return index, [reason] * index.size
    index = np.flatnonzero(outside)
    return index, [_reason(v, column) for v in values[index]]


def _explains(unit: Unit, every: Floats, outside: Floats, column: Column) -> bool:
    return all(column.possible(converted(unit, v)).mean() >= EXPLAINED for v in (every, outside))


def converted(unit: Unit, values: Floats) -> Floats:
    """Values of another unit in that of the column."""
    return (values + unit.offset) * unit.scale


def _reason(value: float, column: Column) -> str:
    if not np.isfinite(value):
        return "not finite"
    units = "" if column.units == "1" else f" {column.units}"
    reason = f"impossible, expected {column.range}{units}"
    right = [(u.name, float(converted(u, np.array([value]))[0])) for u in column.mistakes]
    fits = [f"{name} ({v:.4g}{units})" for name, v in right if column.low <= v <= column.high]
    return f"{reason}; the unit may be {' or '.join(fits)}" if fits else reason


def stuck_sensors(ledger: Ledger, *, shortest_run: int) -> None:
    """Blank values that a sensor repeats while the scans differ; rows of the ledger ascend in time.

    A run of equal values counts from ``shortest_run`` on, and from ten times the usual run of this sensor, so that
    coarse but working sensors are left alone. Runs in which kV, mA and seconds are all the same prove nothing.
    """
    settings = ledger.table[list(SETTINGS)].to_numpy()
    for scanner_rows in ledger.table[ledger.used].groupby("scanner", sort=False).groups.values():
        rows = np.asarray(scanner_rows, np.intp)
        for column in (c for c in MEASURED if c.sensor):
            values = ledger.table[column.name].to_numpy()[rows]
            recorded = rows[~np.isnan(values)]
            for run in _long_runs(ledger.table[column.name].to_numpy()[recorded], shortest_run):
                index = recorded[run]
                if (settings[index] != settings[index[0]]).any():
                    ledger.blank(index, column.name, f"stuck sensor: {index.size} scans with the same value")


def _long_runs(values: Floats, shortest: int) -> list[slice]:
    if values.size < shortest:
        return []
    edge = np.concatenate([[0], np.flatnonzero(np.diff(values) != 0.0) + 1, [values.size]])
    length = np.diff(edge)
    others = np.delete(length, np.argmax(length))
    usual = float(np.median(others)) if others.size else 1.0
    least = max(shortest, 10.0 * usual)
    return [slice(int(edge[k]), int(edge[k + 1])) for k in np.flatnonzero(length >= least)]


def whole_or_float(values: Floats, kind: str) -> NDArray[np.float64] | NDArray[np.int64]:
    """Counts as int64 where none is missing."""
    return values.astype(np.int64) if kind == "count" and not pd.isna(values).any() else values
