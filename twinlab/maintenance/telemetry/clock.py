"""Order of the record: clocks that jump, gaps, scans recorded twice, tubes that come back."""

from __future__ import annotations

from bisect import bisect_right

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from twinlab.maintenance.telemetry.columns import MEASURED
from twinlab.maintenance.telemetry.ledger import Ledger

JUMPED = 0.1  # share of rows out of order above which a file is taken for unsorted
DAY = np.timedelta64(1, "D")

Index = NDArray[np.intp]


def longest_ascent(values: NDArray[np.int64]) -> Index:
    """Indices of a longest subsequence that does not descend (patience sorting, O(n log n))."""
    if (np.diff(values) >= 0).all():
        return np.arange(values.size)
    tails: list[int] = []
    places: list[int] = []
    before = np.full(values.size, -1, np.intp)
    for k, value in enumerate(values.tolist()):
        at = bisect_right(tails, value)
        if at:
            before[k] = places[at - 1]
        if at == len(tails):
            tails.append(value)
            places.append(k)
        else:
            tails[at], places[at] = value, k
    chain = [places[-1]]
    while before[chain[-1]] >= 0:
        chain.append(int(before[chain[-1]]))
    return np.array(chain[::-1], np.intp)


def clock_jumps(ledger: Ledger) -> None:
    """Set aside scans that break the order of their file: the clock was wrong there, or the row is out of place.

    Kept is a longest record that does not go back. A file in which more than a tenth of the rows break the order
    was not written in order of time: it is sorted, and that is noted.
    """
    time = ledger.table["time"].to_numpy().astype("datetime64[ns]").astype(np.int64)
    used = ledger.table[ledger.used]
    for (file, scanner), group in used.groupby(["file", "scanner"], sort=False).groups.items():
        rows = np.asarray(group, np.intp)
        kept = longest_ascent(time[rows])
        off = rows[np.setdiff1d(np.arange(rows.size), kept)]
        if off.size > JUMPED * rows.size:
            ledger.note(str(file), 0, "time", scanner, "rows are not in order of time: sorted")
        elif off.size:
            ledger.set_aside(
                off,
                "time",
                "clock jumped or row out of place: earlier than a row before it or later than one after",
            )


def gaps(ledger: Ledger, *, gap_days: float, leap_days: float) -> None:
    """Note times without scans; across a longer leap of the clock keep the part of the record with most scans.

    Rows ascend in time. Scans within a part have right intervals; which part has the right date nobody can tell.
    """
    time = ledger.table["time"].to_numpy().astype("datetime64[ns]")
    for scanner, rows in _by_scanner(ledger):
        step = np.diff(time[rows]) / DAY
        leap = np.flatnonzero(step > leap_days)
        parts = np.split(rows, leap + 1)
        main = max(parts, key=len)
        for part in parts:
            if part is not main:
                reason = f"clock leapt: more than {leap_days:g} days without a scan to the rest of the record"
                ledger.set_aside(part, "time", reason)
        for k in np.flatnonzero(np.diff(time[main]) / DAY > gap_days):
            where, days = ledger.table.iloc[main[k + 1]], (time[main[k + 1]] - time[main[k]]) / DAY
            reason = f"gap: {days:.4g} days without a scan of {scanner} before this one"
            ledger.note(
                where["file"], int(where["row"]), "time", np.datetime64(time[main[k + 1]], "s"), reason
            )


def duplicates(ledger: Ledger) -> None:
    """Set aside repeats of a scan, and all scans of one scanner at one time that differ in anything."""
    rows = np.flatnonzero(ledger.used)
    part = ledger.table.iloc[rows]
    twice = part.duplicated(["scanner", "time"], keep=False).to_numpy()
    if not twice.any():
        return
    rows, part = rows[twice], part[twice]
    columns = ["scanner", "time", "tube", *(c.name for c in MEASURED)]
    group = part.groupby(["scanner", "time"], sort=False).ngroup().to_numpy()
    # a scan is another one if any value differs; equal rows have one number of all their values
    kind = part.groupby(columns, sort=False, dropna=False).ngroup().to_numpy()
    kinds = pd.Series(kind).groupby(group).transform("nunique").to_numpy()
    ledger.set_aside(rows[kinds > 1], "time", "several scans of this scanner at this time, with other values")
    same, later = kinds == 1, pd.Series(kind).duplicated(keep="first").to_numpy()
    ledger.set_aside(rows[same & later], "time", "the same scan recorded again")


def tubes_that_return(ledger: Ledger) -> None:
    """Set aside the fewest scans, run by run, without which no serial comes back after its replacement."""
    for _, rows in _by_scanner(ledger):
        tube = pd.factorize(ledger.table["tube"].to_numpy()[rows])[0]
        kept = _without_returns(tube)
        ledger.set_aside(rows[~kept], "tube", "serial of a tube that was replaced before, or not yet in use")


def _without_returns(tube: Index) -> NDArray[np.bool_]:
    """Entries to keep so that equal ones are neighbours: smallest runs go first, among those that are mixed up."""
    kept = np.ones(tube.size, bool)
    while True:
        at = np.flatnonzero(kept)
        start = np.concatenate([[0], np.flatnonzero(np.diff(tube[at])) + 1])
        length = np.diff(np.append(start, at.size))
        own = tube[at[start]]
        first, last = np.full(tube.max() + 1, own.size), np.full(tube.max() + 1, -1)
        np.minimum.at(first, own, np.arange(own.size))
        np.maximum.at(last, own, np.arange(own.size))
        back = last > first
        if not back.any():
            return kept
        steps = np.zeros(own.size + 1, int)
        np.add.at(steps, first[back], 1)
        np.add.at(steps, last[back] + 1, -1)
        mixed = np.flatnonzero(np.cumsum(steps)[:-1] > 0)
        # one at a time; of very many, a fiftieth at a time, so that nonsense does not take for ever
        for k in mixed[np.argsort(length[mixed], kind="stable")[: max(1, mixed.size // 50)]]:
            kept[at[start[k] : start[k] + length[k]]] = False


def _by_scanner(ledger: Ledger) -> list[tuple[str, Index]]:
    groups = ledger.table[ledger.used].groupby("scanner", sort=False).groups
    return [(str(scanner), np.asarray(rows, np.intp)) for scanner, rows in groups.items()]
