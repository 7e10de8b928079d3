"""Read telemetry of scanners: what is good is returned, what is not is set aside with its reason."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import xarray as xr

from twinlab.maintenance.telemetry import cells, clock
from twinlab.maintenance.telemetry.columns import KEYS, MEASURED
from twinlab.maintenance.telemetry.ledger import NOTE, ROW, VALUE, Ledger
from twinlab.maintenance.telemetry.ranges import read_values, stuck_sensors, whole_or_float
from twinlab.maintenance.telemetry.raw_files import MALFORMED, Note, read_raw, telemetry_files
from twinlab.schema import label, refuse


class Reading(NamedTuple):
    """What was read, and what became of every row.

    Attributes
    ----------
    scans : Dataset, dim scan
        Good entries, ascending in time: coordinates ``time`` (UTC), ``scanner``, ``tube`` and all variables of
        :func:`telemetry_schema`, NaN where nothing was recorded or a value was set aside.
    quarantine : DataFrame
        ``file``, ``row``, ``column``, ``value``, ``reason``, ``action``: "row set aside", "value set aside" (NaN in
        ``scans``) or "noted". Row 0 is a file as a whole.
    rows_read, rows_quarantined : int
        ``rows_read = scans.sizes["scan"] + rows_quarantined``.
    files : int
    """

    scans: xr.Dataset
    quarantine: pd.DataFrame
    rows_read: int
    rows_quarantined: int
    files: int

    @property
    def report(self) -> str:
        """What was read and set aside, in one paragraph."""
        scans, table = self.scans, self.quarantine
        names = sorted(set(scans["scanner"].to_numpy().tolist()))
        shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        period = " to ".join(str(t)[:10] for t in scans["time"].to_numpy()[[0, -1]])
        words = [
            f"{self.files} file{'s' * (self.files != 1)} with {self.rows_read} rows: {scans.sizes['scan']} scans of "
            f"{len(names)} scanner{'s' * (len(names) != 1)} ({shown}), {period}, are used; "
            f"{self.rows_quarantined} rows are set aside."
        ]
        for action, title in ((ROW, "Rows set aside"), (VALUE, "Values set aside"), (NOTE, "Noted")):
            found = table[table["action"] == action]
            if len(found):
                words.append(f"{title}: {_counted(found)}.")
        return " ".join(words)


def _counted(entries: pd.DataFrame, most: int = 6) -> str:
    plain = entries["reason"].str.replace(r"[;:] .*", "", regex=True)
    kinds = (
        entries["column"].where(entries["column"] == "", entries["column"] + ": ") + plain
    ).value_counts()
    words = [f"{count} x {kind}" for kind, count in kinds.head(most).items()]
    rest = int(kinds.iloc[most:].sum())
    return ", ".join(words) + (f", and {rest} of other kinds" if rest else "")


def read_telemetry(
    paths: str | Path | Sequence[str | Path],
    *,
    zone: str = "UTC",
    scanner: str | None = None,
    tube: str | None = None,
    stuck_run: int = 30,
    gap_days: float = 7.0,
    leap_days: float = 400.0,
) -> Reading:
    """Telemetry from CSV and Parquet files with the columns of :func:`telemetry_schema`.

    Nothing is repaired or guessed. A row with a required value that cannot be used is set aside; of another column
    only the value is. What is looked for: rows of another shape, text and impossible numbers, units other than the
    column's, missing and unknown columns, times without meaning, clocks that go back or leap, repeated scans, scans
    at one time with different values, serials of tubes that come back, sensors that are stuck, gaps.

    Parameters
    ----------
    paths : path or sequence of paths
        Files ending with .csv (separated by comma, semicolon or tab, UTF-8) or .parquet, or folders of them. Many
        scanners in a file and many files of a scanner are allowed.
    zone : str
        IANA name of the zone of times that carry none. In a file that has times with an offset too they are set aside.
    scanner, tube : str, optional
        For files that lack these columns.
    stuck_run : int
        A sensor is stuck that shows the same value in so many scans which differ (and in ten times its usual run).
    gap_days : float
        Longer times without scans are noted.
    leap_days : float
        A longer time without scans is a leap of the clock: of the parts on both sides the one with fewer scans is
        set aside.

    Returns
    -------
    Reading
        ``scans`` (Dataset), ``quarantine`` (DataFrame), counts, and ``report`` in words.

    Raises
    ------
    InputError
        No such file, another format, pyarrow missing for Parquet, a zone or limit without meaning, or no row at all
        that can be used: then the commonest reasons are said.

    Limits
    ------
    Units are told by range only: oil in degF is found when some of it is hotter than 95, a vibration in another unit
    usually not. A leap of the clock shorter than ``leap_days`` that is never undone looks like a gap, and is noted.
    """
    if stuck_run < 3 or not 0 < gap_days <= leap_days:
        refuse(
            "read_telemetry",
            "stuck_run of 3 or more and 0 < gap_days <= leap_days",
            (stuck_run, gap_days, leap_days),
        )
    frames, notes, columns_of = _frames(telemetry_files(paths), zone, {"scanner": scanner, "tube": tube})
    if not frames:
        refuse("read_telemetry", "a file with rows", "; ".join(f"{n[0]}: {n[4]}" for n in notes[:5]))
    raw = pd.concat(frames, ignore_index=True)
    ledger = Ledger(raw, columns_of)
    for note in notes:
        ledger.note(*note)
    _read_keys(ledger)
    read_values(ledger)
    clock.clock_jumps(ledger)
    ledger.sort(np.lexsort((ledger.table["scanner"], ledger.table["time"])))
    clock.duplicates(ledger)
    clock.gaps(ledger, gap_days=gap_days, leap_days=leap_days)
    clock.tubes_that_return(ledger)
    stuck_sensors(ledger, shortest_run=stuck_run)
    quarantine = ledger.quarantine()
    if not ledger.used.any():
        reasons = _counted(quarantine[quarantine["action"] == ROW], most=3)
        refuse("read_telemetry", "at least one row that can be used", f"{len(raw)} rows, none; {reasons}")
    kept = int(ledger.used.sum())
    return Reading(_dataset(ledger), quarantine, len(raw), len(raw) - kept, len(columns_of))


def _frames(
    files: list[Path], zone: str, given: dict[str, str | None]
) -> tuple[list[pd.DataFrame], list[Note], dict[str, set[str]]]:
    """Raw frames with times read, notes on files, and which known columns each file has."""
    frames, notes, columns_of = [], [], {}
    for path in files:
        name = str(path)
        frame, own = read_raw(path, name)
        if name in columns_of:
            notes.append((name, 0, "", "", "file named more than once, read once"))
            continue
        notes += own
        columns_of[name] = set(frame.columns)
        if not len(frame):
            continue
        for column, value in given.items():
            if column not in frame and value is not None:
                frame[column] = value
                columns_of[name].add(column)
        if "time" in frame:
            utc, reason, naive = cells.times(frame["time"], zone)
            some = naive.any() and (~naive & (reason == "")).any()
            reason[naive & some] = "time without offset in a file that has times with one"
            if naive.any() and not some:
                notes.append((name, 0, "time", "", f"times without offset are taken as {zone}"))
            frame["time"] = frame["time"].astype(object)
            frame = frame.assign(utc=utc, time_reason=reason)
        frames.append(frame)
    return frames, notes, columns_of


def _read_keys(ledger: Ledger) -> None:
    """Shape of rows, time, scanner and tube."""
    raw, n = ledger.raw, len(ledger.raw)
    whole = (raw[MALFORMED] == "").to_numpy()
    ledger.set_aside(~whole, "", raw[MALFORMED][~whole].tolist())
    for name in KEYS:
        present = ledger.has(name)
        ledger.set_aside(~present & whole, name, "missing column")
        if name == "time":
            ledger.table[name] = raw["utc"] if present.any() else np.full(n, np.datetime64("NaT", "ns"))
            reason = raw["time_reason"].fillna("") if present.any() else pd.Series([""] * n)
            bad = present & whole & (reason != "").to_numpy()
            ledger.set_aside(bad, name, reason[bad].tolist())
        else:
            ledger.table[name] = cells.names(raw[name]) if present.any() else ""
            ledger.set_aside(present & whole & (ledger.table[name] == "").to_numpy(), name, f"no {name}")


def _dataset(ledger: Ledger) -> xr.Dataset:
    part = ledger.table[ledger.used]
    coords = {
        "time": ("scan", part["time"].to_numpy("datetime64[ns]")),
        "scanner": ("scan", part["scanner"].to_numpy().astype(str)),
        "tube": ("scan", part["tube"].to_numpy().astype(str)),
    }
    fields = {c.name: label(c.name, whole_or_float(part[c.name].to_numpy(), c.kind)) for c in MEASURED}
    return xr.Dataset(fields, coords=coords)
