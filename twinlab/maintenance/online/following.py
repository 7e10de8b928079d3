"""A tube followed as its telemetry arrives: its wear, its parameters and its remaining life, day by day."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import xarray as xr

from twinlab.kernels import wear_days
from twinlab.maintenance.online import saving
from twinlab.maintenance.online.day_table import DAY, Array, Tube, sum_days, tubes_of
from twinlab.maintenance.online.model import TubeModel, tube_model
from twinlab.maintenance.online.particles import Cloud, future, new_cloud, renew_if_few, step, strain
from twinlab.maintenance.online.rows import day_row, foreseen, labelled
from twinlab.maintenance.wear.streams import stream
from twinlab.schema import refuse

IDLE_DAYS = 3  # without scans: a closed clinic; beyond, telemetry is thought to be missing
FEWEST_PARTICLES = 100
MEMORY_DAYS, PLAN_WEIGHT = 365.0, 56.0  # of the usual day, which begins as the clinic's plan


class Follower:
    """The twin of one scanner's tube: feed telemetry, read remaining life.

    Parameters
    ----------
    model : TubeModel, optional
        From :func:`tube_model`; by default a generic tube in a general clinic.
    particles : int
    seed : int
        With the scanner, the tube and the day the key of all random numbers, so that telemetry in pieces gives what
        telemetry at once gives.
    exposure_before_s : float
        Scan-seconds of the first tube before its telemetry begins, spent as the clinic's plan has it.
    every_days : int
        Days between rows of the results; a tube's last day has one always.

    Raises
    ------
    InputError
        Too few particles, a negative seed or exposure.
    """

    def __init__(
        self,
        model: TubeModel | None = None,
        *,
        particles: int = 600,
        seed: int = 0,
        exposure_before_s: float = 0.0,
        every_days: int = 1,
    ) -> None:
        if particles < FEWEST_PARTICLES or seed < 0 or not exposure_before_s >= 0.0 or every_days < 1:
            refuse(
                "Follower",
                f"particles >= {FEWEST_PARTICLES}, seed and exposure_before_s >= 0, every_days >= 1",
                (particles, seed, exposure_before_s, every_days),
            )
        self.model = tube_model() if model is None else model
        self.n, self.seed = int(particles), int(seed)
        self.exposure_before_s, self.every = float(exposure_before_s), int(every_days)
        self.scanner, self.serial = "", ""
        self.tubes = 0
        self.first: np.datetime64 | None = None  # day of telemetry
        self.last: np.datetime64 | None = None  # day that is done
        self.cloud: Cloud | None = None
        self.usual = self.model.plan.copy()
        self.days_seen, self.seconds = 0.0, 0.0
        self.held: Tube | None = None  # scans of a day that may go on

    def feed(self, telemetry: xr.Dataset, *, close: bool = False) -> xr.Dataset:
        """Go on with telemetry; the last day is held back until a later one begins.

        Parameters
        ----------
        telemetry : Dataset, dim scan
            Of one scanner, after what was fed before. Variables beyond kV, mA and seconds may lack or be NaN.
        close : bool
            The last day is complete.

        Returns
        -------
        Dataset, dim day
            See :func:`follow`; of the days that were done.

        Raises
        ------
        InputError
            No telemetry, no useful sensor, several scanners, another scanner, or times before those fed.
        """
        scanner, tubes = tubes_of(telemetry, where="follow")
        if self.scanner and scanner != self.scanner:
            refuse("follow", f"telemetry of scanner {self.scanner}", scanner)
        first = tubes[0].date[0]
        begun = (
            self.held.date[0]
            if self.held is not None
            else (self.last + DAY if self.last is not None else first)
        )
        if first < begun:
            refuse("follow", f"telemetry from {begun} on, after what was fed", str(first))
        self.scanner = scanner
        if self.first is None:
            self.first = first
        rows: list[dict[str, object]] = []
        for number, tube in enumerate(self._joined(tubes)):
            whole = close or number < len(tubes) - 1
            rows += self._follow_tube(tube, whole)
        return labelled(rows, self.first, self.scanner)

    def close(self) -> xr.Dataset:
        """Do the day that was held back."""
        rows = [] if self.held is None else self._follow_tube(self.held, True)
        self.held = None
        return labelled(rows, self.first, self.scanner)

    def foresee(self, other: TubeModel | None = None) -> xr.Dataset:
        """Remaining life of the tube at work from now on.

        Parameters
        ----------
        other : TubeModel, optional
            Of the same tube in another clinic (:func:`tube_model`): its plan instead of the usual day so far.

        Returns
        -------
        Dataset, dim day (one)
            ``remaining_days`` and ``remaining_seconds`` (quantile), ``failure_share`` (cause).

        Raises
        ------
        InputError
            Nothing was fed, or not a whole day.
        """
        if self.cloud is None:
            refuse("foresee", "a day of telemetry", "none")
        usual = self.usual if other is None else other.plan
        rng = stream(self.seed, self.scanner, f"filter of {self.serial}", 0)
        ahead = future(self.cloud, self.model, usual, rng)
        return foreseen(ahead, self.cloud.weights, float(usual[wear_days.SECONDS]), self._day(self.last))

    def _day(self, date: np.datetime64 | None) -> int:
        assert date is not None
        assert self.first is not None
        return int((date - self.first) / DAY)

    def save(self, path: str | Path) -> None:
        """Write all that is needed to go on (an .npz file, see :func:`load_follower`)."""
        saving.save(self, path)

    def _joined(self, tubes: list[Tube]) -> list[Tube]:
        """The scans held back before the new ones."""
        held, self.held = self.held, None
        if held is None:
            return tubes
        if held.serial != tubes[0].serial:
            return [held, *tubes]
        first = Tube(
            held.serial,
            np.concatenate([held.date, tubes[0].date]),
            np.concatenate([held.scans, tubes[0].scans]),
        )
        return [first, *tubes[1:]]

    def _follow_tube(self, tube: Tube, whole: bool) -> list[dict[str, object]]:
        dates = np.unique(tube.date)
        if not whole:
            rest = tube.date == dates[-1]
            self.held = Tube(tube.serial, tube.date[rest], tube.scans[rest])
            tube, dates = Tube(tube.serial, tube.date[~rest], tube.scans[~rest]), dates[:-1]
        if not dates.size:
            return []
        restarted = tube.serial != self.serial
        if restarted:
            self._install(tube.serial, dates[0])
        model = self.model
        table = sum_days(
            tube.scans,
            np.searchsorted(dates, tube.date).astype(np.int64),
            dates.size,
            tube=model.tube,
            room_k=model.room_k,
            usual_heat=model.usual_heat,
        )
        rows = []
        for k, (date, day) in enumerate(zip(dates, table, strict=True)):
            last = whole and k == dates.size - 1
            row = self._do_day(date, day, write=last or int(self.days_seen) % self.every == 0)
            if row is not None:
                rows.append({**row, "restarted": restarted})
                restarted = False
        return rows

    def _install(self, serial: str, date: np.datetime64) -> None:
        """A tube begins: from the prior, whatever the one before was like."""
        rng = stream(self.seed, self.scanner, f"filter of {serial}")
        self.cloud = new_cloud(self.model, self.n, rng)
        self.seconds, self.days_seen = 0.0, 0.0
        if self.tubes == 0 and self.exposure_before_s > 0.0:
            self.seconds = self.exposure_before_s
            strain(self.cloud, self.model.plan, days=self.seconds / float(self.model.plan[wear_days.SECONDS]))
        self.serial, self.tubes = serial, self.tubes + 1
        self.last = date - DAY

    def _do_day(self, date: np.datetime64, day: Array, *, write: bool) -> dict[str, object] | None:
        assert self.cloud is not None
        assert self.last is not None
        number = int(date.astype("datetime64[D]").astype(np.int64))
        rng = stream(self.seed, self.scanner, f"filter of {self.serial}", number + 1_000_000)
        idle = int((date - self.last) / DAY) - 1
        if idle > 0:
            self._pass(idle)
        before = self.cloud.weights, self.cloud.variances.copy()
        seen = step(self.cloud, self.model, day, rng)
        self._remember(day, 1)
        self.seconds += float(day[wear_days.SECONDS])
        self.days_seen += 1.0
        self.last = date
        row = None
        if write:
            ahead = future(self.cloud, self.model, self.usual, rng)
            row = day_row(self.cloud, self.model, ahead, day, seen, before)
            row |= {"date": date, "tube": self.serial, "exposure_seconds": self.seconds}
            row |= {"seconds_a_day": float(self.usual[wear_days.SECONDS])}
        renew_if_few(self.cloud, self.model, rng)
        return row

    def _pass(self, idle: int) -> None:
        """Days without telemetry: a closed clinic, or an unknown share of the usual work."""
        assert self.cloud is not None
        if idle <= IDLE_DAYS:
            self._remember(np.zeros_like(self.usual), idle)
        else:
            strain(self.cloud, self.usual, days=idle, missed=True)
            self.seconds += 0.5 * idle * float(self.usual[wear_days.SECONDS])

    def _remember(self, day: Array, days: int) -> None:
        """Running mean of the usual day."""
        for _ in range(days):
            share = 1.0 / min(PLAN_WEIGHT + self.days_seen + 1.0, MEMORY_DAYS)
            sums = slice(0, wear_days.SCANS + 1)
            self.usual[sums] += share * (day[sums] - self.usual[sums])
            if day[wear_days.SCANS] > 0.0:
                slopes = slice(wear_days.RATE_SLOPE, wear_days.CURRENT_SLOPE + 1)
                self.usual[slopes] += share * (day[slopes] - self.usual[slopes])


def follow(
    telemetry: xr.Dataset,
    *,
    model: TubeModel | None = None,
    particles: int = 600,
    seed: int = 0,
    exposure_before_s: float = 0.0,
    every_days: int = 1,
) -> xr.Dataset:
    """State and remaining life of a scanner's tube, estimated as its telemetry arrives.

    A particle filter [1]_ whose particles are tubes that differ from the median one by constant factors, moved under
    their whole history when few are left [2]_; offsets of current and vibration are followed by a Kalman filter in
    each particle [3]_. Only telemetry is used. A sensor without a value gives no
    update; up to three days without scans are a closed clinic, longer times an unknown share of the usual work. A new
    serial is a new tube: it starts from the prior, with ``restarted``.

    Parameters
    ----------
    telemetry : Dataset, dim scan
        As from :func:`twinlab.maintenance.telemetry.read_telemetry`, of one scanner.
    model : TubeModel, optional
        From :func:`tube_model`; by default a generic tube in a general clinic.
    particles, seed, exposure_before_s, every_days
        See :class:`Follower`.

    Returns
    -------
    Dataset, dim day (days since the first scan)
        ``remaining_days``, ``remaining_seconds`` (quantile) under the usual day so far;
        ``failure_share`` (cause); ``mass_loss_followed``, ``bearing_wear_followed``, ``output_followed`` and the
        factors ``factor_log`` (factor), each with ``_sd``; ``sensor_value``, ``sensor_expected``,
        ``sensor_expected_sd`` (sensor); ``effective_particles``, ``log_evidence``, ``exposure_seconds``,
        ``restarted``; coordinates ``date``, ``tube``, ``scanner``.

    Raises
    ------
    InputError
        No telemetry, no useful sensor, several scanners, times that go back, or too few particles.

    References
    ----------
    .. [1] Kitagawa G (1996) J. Comput. Graph. Stat. 5:1.
    .. [2] Gilks W R, Berzuini C (2001) J. R. Stat. Soc. B 63:127; Chopin N (2002) Biometrika 89:539.
    .. [3] Doucet A, de Freitas N, Murphy K, Russell S (2000) Rao-Blackwellised particle filtering. Proc. UAI 176.
    """
    follower = Follower(
        model, particles=particles, seed=seed, exposure_before_s=exposure_before_s, every_days=every_days
    )
    return follower.feed(telemetry, close=True)


def load_follower(path: str | Path) -> Follower:
    """A follower from the file that :meth:`Follower.save` wrote.

    Raises
    ------
    InputError
        No such file, or another one.
    """
    return saving.load(path, Follower)
