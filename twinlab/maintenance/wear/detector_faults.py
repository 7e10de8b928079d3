"""Cells of a detector that die and cells whose gain drifts: how many, which, and by how much."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinlab.maintenance.wear.streams import stream

MODULE_CHANNELS = 32  # cells on one board, which drift together in part


@dataclass(frozen=True)
class DetectorLife:
    """Successive detectors of a scanner: when each starts, when its cells die, when it has too few [days]."""

    starts: tuple[float, ...]
    deaths: tuple[NDArray[np.float64], ...]
    fails: tuple[float, ...]

    def unit(self, day: float) -> int:
        """Which detector is at work at a time."""
        return int(np.searchsorted(self.starts, day, side="right")) - 1

    def repaired(self, days: NDArray[np.int64]) -> DetectorLife:
        """The same, each next detector at work from the day after a fault was found."""
        return replace(self, starts=(0.0, *(float(day) + 1.0 for day in days)))

    def dead(self, day: float) -> int:
        """Cells without signal at a time."""
        return int(np.searchsorted(self.deaths[self.unit(day)], day, side="right"))


def detector_life(parts: Any, *, days: int, seed: int, scanner: str) -> DetectorLife:
    """Lives of detectors: cells die by a power-law process, the unit is changed at the limit.

    Expected dead cells at age t are ``(t / scale)^power`` (a Poisson process with intensity that grows with age;
    drawn by inversion of unit exponential steps).

    Parameters
    ----------
    parts : record
        Of :meth:`ScannerWear.draw`.
    days : int
    seed : int
    scanner : str

    References
    ----------
    Rigdon S E, Basu A P 1989, J. Qual. Technol. 21, 251 (power-law process).
    """
    limit = round(float(parts["dead_limit"]))
    starts, fails = [0.0], list[float]()
    deaths: list[NDArray[np.float64]] = []
    while True:
        rng = stream(seed, scanner, "dead cells", len(deaths))
        steps = np.cumsum(rng.exponential(size=limit))
        ages = float(parts["dead_scale_days"]) * steps ** (1.0 / float(parts["dead_power"]))
        deaths.append(starts[-1] + ages)
        fails.append(float(deaths[-1][-1]))
        if fails[-1] >= days:
            return DetectorLife(tuple(starts), tuple(deaths), tuple(fails))
        starts.append(fails[-1] + float(parts["detector_downtime_h"]) / 24.0)


def latest_calibration(
    day: NDArray[Any], *, interval_days: float, starts: tuple[float, ...]
) -> NDArray[np.float64]:
    """Day of the latest air calibration: the regular ones, and that of each new detector."""
    regular = (
        np.floor(day / interval_days) * interval_days if interval_days > 0.0 else np.zeros(np.shape(day))
    )
    own = np.asarray(starts)[np.searchsorted(starts, day, side="right") - 1]
    return np.asarray(np.maximum(regular, own), float)


def gain_drift_percent(parts: Any, since_days: NDArray[np.float64]) -> NDArray[np.float64]:
    """Root mean square drift of the cells' gain, %: grows with the root of the days since calibration."""
    return np.asarray(parts["gain_drift_percent_per_root_day"] * np.sqrt(since_days), float)


def dead_cells(
    count: int, shape: tuple[int, int], *, seed: int, scanner: str, unit: int
) -> NDArray[np.int64]:
    """Row and channel of the dead cells of a detector, (cell, 2): a set that only grows with ``count``."""
    rng = stream(seed, scanner, "dead places", unit)
    size = shape[0] * shape[1]
    places: dict[int, None] = {}
    while len(places) < min(count, size):
        places[int(rng.integers(size))] = None  # one at a time, so that the first ones stay what they were
    flat = np.fromiter(places, np.int64, len(places))
    return np.stack(np.divmod(flat, shape[1]), axis=1)


def cell_gain(
    drift_percent: float,
    since_days: int,
    shape: tuple[int, int],
    *,
    module_share: float,
    seed: int,
    scanner: str,
    calibration: int,
) -> NDArray[np.float64]:
    """Gain of every cell over that at the latest calibration, (row, channel).

    A random walk over the days since: boards of 32 channels move together by ``module_share`` of the variance,
    cells by themselves for the rest, none on average. Scaled to ``drift_percent``, the walk's expected root mean
    square.
    """
    if since_days < 1 or drift_percent <= 0.0:
        return np.ones(shape)
    walk = np.zeros(shape)
    boards = -(-shape[1] // MODULE_CHANNELS)
    for day in range(since_days):
        rng = stream(seed, scanner, f"gain walk {calibration}", day)
        board = np.repeat(rng.standard_normal((1, boards)), MODULE_CHANNELS, axis=1)[:, : shape[1]]
        cell = rng.standard_normal(shape)
        walk += np.sqrt(module_share) * board + np.sqrt(1.0 - module_share) * cell
    walk -= walk.mean()  # a common change of all cells is taken out with the reference detector
    return np.asarray(1.0 + 0.01 * drift_percent * walk / np.sqrt(since_days))
