"""A fleet day by day under a rule of replacement: wear, failures, repairs, spare parts, planned work.

One call runs all rules on all seeds. A task is a rule on a seed; tasks share nothing, so that the result does not
depend on the number of threads, and all rules meet the same units, workload and other failures.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit, prange

from twinlab.kernels.fleet_clock import clinic_hours, next_engineer
from twinlab.kernels.fleet_watch import SMOOTH, STATE, failure_chance, observe
from twinlab.kernels.fleet_wear import grown, new_unit, normals, stream, used_unit
from twinlab.kernels.philox import DEVICE, draw

RUN_TO_FAILURE, CALENDAR, AGE, CONDITION, PREDICTIVE = range(5)
# columns of the record of a fleet: clinic hours lost, numbers of events, hours of work, hours of the clinic
LOST_WEAR, LOST_OTHER, LOST_PLANNED, OTHERS, VISITS, WORK_REPAIR, WORK_PLANNED, CLINIC = range(8)
RECORD = 8
FAILED, ASKED, EMERGENCY, LOST = range(4)  # columns of a part's demands: events, and clinic hours lost
DEMANDS = 4
_REPAIR = np.uint64(0xFFFFFFF0)  # step of a unit's stream for the draws of its repair
_TRIES = 512


class Site(NamedTuple):
    """Workload and logistics that all scanners share."""

    scanners: int
    settle: int  # days before counting begins
    days: int  # days in all
    workload_spread: float  # sd of the logarithm of a scanner's workload
    window: int  # days between service windows
    order: int  # days to order a part for planned work
    response: float  # hours, as all below
    diagnosis: float
    repair_spread: float  # sd of the logarithm of diagnosis and repair
    courier: float
    emergency: float
    replenish: float  # days until a used spare is replaced on the shelf
    set_up: float  # of a planned visit
    other_rate: float  # failures without wear, 1 a day of use
    other_hours: float
    oldest: float  # days of use by which every unit has failed


class Parts(NamedTuple):
    """Arrays (part,)."""

    work: np.ndarray  # hours to replace it
    stock: np.ndarray  # spares on the shelf


class Units(NamedTuple):
    """The units at work: arrays (scanner, mode) or, where said, (scanner, part)."""

    number: np.ndarray  # (scanner, part) how many were there before
    installed: np.ndarray  # (scanner, part) day
    ordered: np.ndarray  # (scanner, part) day on which planned work was decided, -1: not
    level: np.ndarray
    onset: np.ndarray
    rate: np.ndarray
    seen: np.ndarray
    clock: np.ndarray  # days of use since installation
    steps: np.ndarray  # random numbers drawn by the unit so far
    state: np.ndarray  # (scanner, mode, STATE) of the watcher


class Sums(NamedTuple):
    """What is counted, filled in."""

    record: np.ndarray  # (RECORD,)
    failures: np.ndarray  # (mode,)
    planned: np.ndarray  # (part,)
    demands: np.ndarray  # (part, DEMANDS)


@njit(**DEVICE)
def _install(units, modes, part, scanner, number, day, k0, k1):
    """Fresh units of all modes of a part."""
    n = modes.part.size
    units.number[scanner, part] = number
    units.installed[scanner, part] = day
    units.ordered[scanner, part] = -1.0
    for m in range(n):
        if modes.part[m] == part:
            onset, rate, seen = new_unit(modes, m, stream(scanner, m, number, n), k0, k1)
            units.onset[scanner, m], units.rate[scanner, m], units.seen[scanner, m] = onset, rate, seen
            units.level[scanner, m], units.clock[scanner, m] = 0.0, 0.0
            units.steps[scanner, m] = 2
            for i in range(STATE):
                units.state[scanner, m, i] = 0.0


@njit(**DEVICE)
def _begin(units, modes, part, scanner, oldest, pace, k0, k1):
    """A part as a fleet that ran to failure for long holds it.

    Ages are even from 0 to ``oldest``; a part that would have failed by then is refused. What remains has the
    density of the age in a renewal process, the survival function over its mean.
    """
    n = modes.part.size
    for attempt in range(_TRIES):
        a, _, _, _ = draw(np.uint64(1 + attempt), stream(scanner, n, 1 + part, n), k0, k1)
        age = a * oldest
        works = True
        for m in range(n):
            if modes.part[m] == part:
                level, onset, rate, seen = used_unit(modes, m, age, stream(scanner, m, attempt, n), k0, k1)
                units.level[scanner, m], units.onset[scanner, m] = level, onset
                units.rate[scanner, m], units.seen[scanner, m] = rate, seen
                units.clock[scanner, m], units.steps[scanner, m] = age, 2
                works = works and level < 1.0
        if works:
            units.number[scanner, part] = attempt
            units.installed[scanner, part] = -age / pace
            return
    _install(units, modes, part, scanner, _TRIES, 0.0, k0, k1)


@njit(**DEVICE)
def _use(units, modes, watch, watched, part, scanner, use, k0, k1):
    """A day of use of a part: the mode that failed (-1: none) and when, as a share of the day's work."""
    n = modes.part.size
    failed, when = -1, 1.0
    for m in range(n):
        if modes.part[m] != part:
            continue
        clock = units.clock[scanner, m]
        growing = clock + use > units.onset[scanner, m]
        if growing or watched:
            history = stream(scanner, m, units.number[scanner, part], n)
            a, b, c, d = draw(np.uint64(units.steps[scanner, m]), history, k0, k1)
            z, error = normals(a, b)
            if growing:
                level = grown(
                    units.level[scanner, m],
                    clock,
                    use,
                    units.onset[scanner, m],
                    units.rate[scanner, m],
                    modes.ripple[m],
                    z,
                    c,
                )
                units.level[scanner, m] = level
                if level >= 1.0 and d < when:
                    failed, when = m, d
            if watched:
                reading = modes.noise[m] * error
                if units.seen[scanner, m]:
                    reading += units.level[scanner, m]
                observe(
                    units.state[scanner, m],
                    reading,
                    use,
                    watch.noise[m],
                    watch.wander[m],
                    watch.rate[m],
                    watch.rate_variance[m],
                )
        units.clock[scanner, m] = clock + use
        units.steps[scanner, m] += 1
    return failed, when


@njit(**DEVICE)
def _repair(site, hours, work, shelf, ordered, failed_at, history, k0, k1):
    """Diagnosis, part and work after a failure.

    Returns
    -------
    tuple
        Time at which the scanner works again [h], hours of work, whether a spare was asked of the shelf, whether
        there was none. ``shelf`` (spare,) holds the times at which spares are there.
    """
    a, b, _, _ = draw(_REPAIR, history, k0, k1)
    z1, z2 = normals(a, b)
    diagnosis = site.diagnosis * math.exp(site.repair_spread * z1)
    repair = work * math.exp(site.repair_spread * z2)
    known = next_engineer(failed_at + site.response, hours) + diagnosis
    there = known + site.courier
    own = 24.0 * (ordered + site.order)  # a part that had been ordered for planned work
    asked, short = False, False
    if ordered >= 0.0 and own <= there:
        there = max(known, own)
    else:
        asked, short = True, True
        for i in range(shelf.size):
            if short and shelf[i] <= known:
                shelf[i] = known + 24.0 * site.replenish
                short = False
        if short:
            there = known + site.emergency
    return next_engineer(there, hours) + repair, diagnosis + repair, asked, short


@njit(**DEVICE)
def _due(units, modes, watch, kind, limit, threshold, part, scanner, day, ahead):
    """Whether the rule asks to replace the part at the coming window: from ages and indicators alone."""
    if kind == CALENDAR:
        return day - units.installed[scanner, part] >= limit
    for m in range(modes.part.size):
        if modes.part[m] != part:
            continue
        if kind == AGE and units.clock[scanner, m] >= limit:
            return True
        if kind == CONDITION and units.state[scanner, m, SMOOTH] > threshold:
            return True
        if kind == PREDICTIVE and failure_chance(units.state[scanner, m], ahead, watch.wander[m]) > threshold:
            return True
    return False


@njit(**DEVICE)
def _visit(units, modes, parts, site, hours, scanner, day, close, counted, sums, k0, k1):
    """Planned work of the parts that are due and there, from the clinic's closing on; when it ends, h."""
    work = 0.0
    for p in range(parts.work.size):
        ordered = units.ordered[scanner, p]
        if ordered >= 0.0 and ordered + site.order <= day:
            work += parts.work[p]
            if counted:
                sums.planned[p] += 1.0
            _install(units, modes, p, scanner, units.number[scanner, p] + 1, day, k0, k1)
    if work == 0.0:
        return 0.0
    work += site.set_up
    if counted:
        sums.record[VISITS] += 1.0
        sums.record[WORK_PLANNED] += work
        lost = clinic_hours(close + work, hours) - clinic_hours(close, hours)
        sums.record[LOST_PLANNED] += lost
    return close + work


@njit(**DEVICE)
def _day(units, modes, parts, site, hours, watch, watched, shelf, scanner, day, pace, down, sums, k0, k1):
    """Clinic hours of a day: use, failures and their repair; when the scanner works again, h."""
    n = modes.part.size
    opens = 24.0 * day + hours.open
    begins = max(opens, down)
    free = opens + hours.clinic[day % 7] - begins
    counted = day >= site.settle
    if counted:
        sums.record[CLINIC] += hours.clinic[day % 7]
    if free <= 0.0:
        return down
    use = pace * free * 7.0 / hours.before[7]
    for p in range(parts.work.size):
        mode, when = _use(units, modes, watch, watched, p, scanner, use, k0, k1)
        if mode < 0:
            continue
        at = max(begins + when * free, down)
        history = stream(scanner, mode, units.number[scanner, p], n)
        ends, work, asked, short = _repair(
            site, hours, parts.work[p], shelf[p], units.ordered[scanner, p], at, history, k0, k1
        )
        down = ends
        _install(units, modes, p, scanner, units.number[scanner, p] + 1, math.floor(ends / 24.0), k0, k1)
        if counted:
            sums.failures[mode] += 1.0
            sums.record[WORK_REPAIR] += work
            lost = clinic_hours(ends, hours) - clinic_hours(at, hours)
            sums.record[LOST_WEAR] += lost
            sums.demands[p, LOST] += lost
            sums.demands[p, FAILED] += 1.0
            sums.demands[p, ASKED] += asked
            sums.demands[p, EMERGENCY] += short
    a, b, c, d = draw(np.uint64(1024 + day), stream(scanner, n, 0, n), k0, k1)
    if a < site.other_rate * use:
        z, _ = normals(b, c)
        at = max(begins + d * free, down)
        ends = at + site.other_hours * math.exp(site.repair_spread * z)
        down = ends
        if counted:
            sums.record[OTHERS] += 1.0
            sums.record[LOST_OTHER] += clinic_hours(ends, hours) - clinic_hours(at, hours)
    return down


@njit(cache=True, error_model="numpy")  # allocates, which DEVICE functions cannot
def _fleet(modes, parts, site, hours, watch, kind, limit, threshold, k0, k1, sums):
    """One fleet under one rule, summed into ``sums``."""
    n, count, scanners = modes.part.size, parts.work.size, site.scanners
    watched = kind >= CONDITION
    shelf = np.full((count, max(1, int(parts.stock.max()))), np.inf)
    for p in range(count):
        shelf[p, : int(parts.stock[p])] = -1.0
    units = Units(
        np.zeros((scanners, count), np.int64),
        np.zeros((scanners, count)),
        np.full((scanners, count), -1.0),
        np.zeros((scanners, n)),
        np.zeros((scanners, n)),
        np.zeros((scanners, n)),
        np.zeros((scanners, n), np.bool_),
        np.zeros((scanners, n)),
        np.zeros((scanners, n), np.int64),
        np.zeros((scanners, n, STATE)),
    )
    pace, down = np.empty(scanners), np.full(scanners, -1.0)
    for s in range(scanners):
        a, b, _, _ = draw(np.uint64(0), stream(s, n, 0, n), k0, k1)
        z, _ = normals(a, b)
        # mean 1 whatever the spread
        pace[s] = math.exp(site.workload_spread * z - 0.5 * site.workload_spread**2)
        for p in range(count):
            _begin(units, modes, p, s, site.oldest, pace[s], k0, k1)
    for day in range(site.days):
        for s in range(scanners):
            down[s] = _day(
                units,
                modes,
                parts,
                site,
                hours,
                watch,
                watched,
                shelf,
                s,
                day,
                pace[s],
                down[s],
                sums,
                k0,
                k1,
            )
            if kind == RUN_TO_FAILURE:
                continue
            phase = (day + s) % site.window
            if phase == site.window - site.order:  # the last day to order for the next window
                ahead = pace[s] * (site.order + site.window)
                for p in range(count):
                    if units.ordered[s, p] < 0.0 and _due(
                        units, modes, watch, kind, limit[p], threshold, p, s, day, ahead
                    ):
                        units.ordered[s, p] = day
            close = 24.0 * day + hours.open + hours.clinic[day % 7]
            if phase == 0 and down[s] <= close:
                ends = _visit(
                    units, modes, parts, site, hours, s, day, close, day >= site.settle, sums, k0, k1
                )
                down[s] = max(down[s], ends)


@njit(cache=True, parallel=True, nogil=True)
def run_fleets(modes, parts, site, hours, watch, kinds, limits, thresholds, keys, sums):
    """Every rule on every seed.

    Parameters
    ----------
    modes, parts, site, hours, watch
        :class:`~twinlab.kernels.fleet_wear.Modes`, :class:`Parts`, :class:`Site`,
        :class:`~twinlab.kernels.fleet_clock.Hours`, :class:`~twinlab.kernels.fleet_watch.Watch`.
    kinds : array (rule,) of int
    limits : array (rule, part)
        Days of the calendar or of use.
    thresholds : array (rule,)
        Of the smoothed indicator, or of the probability.
    keys : array (seed, 2) of uint64
    sums : Sums
        With leading axes (rule, seed); filled in.
    """
    rules, seeds = kinds.size, keys.shape[0]
    for task in prange(rules * seeds):
        r, s = task // seeds, task % seeds
        one = Sums(sums.record[r, s], sums.failures[r, s], sums.planned[r, s], sums.demands[r, s])
        _fleet(
            modes,
            parts,
            site,
            hours,
            watch,
            kinds[r],
            limits[r],
            thresholds[r],
            keys[s, 0],
            keys[s, 1],
            one,
        )
