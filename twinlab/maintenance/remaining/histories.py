"""Histories of units: any table of unit, cycle, settings and sensors, checked once and kept as plain arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from twinlab.schema import refuse

Array = NDArray[np.float64]
WHERE = "remaining life"


@dataclass(frozen=True)
class Histories:
    """Rows of many units, one unit after the other, each ascending in time.

    Attributes
    ----------
    units : ndarray, shape (unit,)
        Names of the units.
    start : ndarray of int, shape (unit + 1,)
        First row of each unit; the last entry is the number of rows.
    cycle : ndarray, shape (row,)
        Age of the unit (cycles, days, scans: whatever life is counted in).
    sensors : ndarray, shape (row, sensor)
        What was measured.
    settings : ndarray, shape (row, setting)
        What the unit was asked to do; may have no columns.
    """

    units: NDArray
    start: NDArray[np.int64]
    cycle: Array
    sensors: Array
    settings: Array
    sensor_names: tuple[str, ...]
    setting_names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.units)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Rows of each unit."""
        return np.diff(self.start)

    @property
    def last(self) -> NDArray[np.int64]:
        """Row index of the last row of each unit."""
        return self.start[1:] - 1

    @property
    def unit_index(self) -> NDArray[np.int64]:
        """Index of the unit of each row."""
        return np.repeat(np.arange(len(self)), self.lengths)

    def pieces(self, values: NDArray | None = None) -> list[NDArray]:
        """Rows of ``values`` (the sensors, if not given) unit by unit."""
        return np.split(self.sensors if values is None else values, self.start[1:-1])

    def rows_of(self, which: ArrayLike) -> NDArray[np.int64]:
        """Row indices of some units, in the order asked for."""
        chosen = [np.arange(self.start[i], self.start[i + 1]) for i in np.asarray(which, int)]
        return np.concatenate(chosen) if chosen else np.empty(0, np.int64)

    def take(self, which: ArrayLike) -> Histories:
        """Some units only (indices into ``units``)."""
        which = np.asarray(which, int)
        rows = self.rows_of(which)
        return replace(
            self,
            units=self.units[which],
            start=np.concatenate([[0], np.cumsum(self.lengths[which])]),
            cycle=self.cycle[rows],
            sensors=self.sensors[rows],
            settings=self.settings[rows],
        )

    def cut(self, lengths: ArrayLike) -> Histories:
        """First ``lengths`` rows of each unit: what was known before."""
        lengths = np.asarray(lengths, int)
        if lengths.shape != (len(self),) or (lengths < 1).any() or (lengths > self.lengths).any():
            refuse(WHERE, "one cut a unit, from 1 row to its length", lengths)
        rows = np.concatenate([np.arange(a, a + n) for a, n in zip(self.start, lengths, strict=False)])
        return replace(
            self,
            start=np.concatenate([[0], np.cumsum(lengths)]),
            cycle=self.cycle[rows],
            sensors=self.sensors[rows],
            settings=self.settings[rows],
        )

    def life_left(self) -> Array:
        """Cycles to the last row of the unit, for units that were run to failure; shape (row,)."""
        return np.repeat(self.cycle[self.last], self.lengths) - self.cycle


def histories(
    table: pd.DataFrame,
    *,
    sensors: Sequence[str],
    settings: Sequence[str] = (),
    unit: str = "unit",
    cycle: str = "cycle",
) -> Histories:
    """Histories from a table with one row a unit and cycle.

    Engines of a benchmark and tubes of a hospital are the same here: name the columns.

    Parameters
    ----------
    table : DataFrame
        Rows in any order.
    sensors, settings : sequence of str
        Columns that were measured, and columns that say how the unit was used (may be none).
    unit, cycle : str
        Columns of the unit's name and of its age.

    Raises
    ------
    InputError
        A column is missing, is not a number, is not finite, or a unit has one cycle twice.

    Examples
    --------
    >>> table = pd.DataFrame({"unit": [7, 7, 9], "cycle": [2, 1, 1], "heat": [0.2, 0.1, 0.5]})
    >>> histories(table, sensors=["heat"]).sensors.ravel()
    array([0.1, 0.2, 0.5])
    """
    sensors, settings = tuple(sensors), tuple(settings)
    missing = [name for name in (unit, cycle, *sensors, *settings) if name not in table.columns]
    if missing:
        refuse(WHERE, f"columns {missing} in the table", f"columns {list(map(str, table.columns))}")
    if not len(table) or not sensors:
        refuse(WHERE, "a table with rows and at least one sensor", f"{len(table)} rows, sensors {sensors}")
    table = table.sort_values([unit, cycle], kind="stable")
    numbers = {}
    for name in (cycle, *sensors, *settings):
        numbers[name] = pd.to_numeric(table[name], errors="coerce").to_numpy(float)
        bad = np.flatnonzero(~np.isfinite(numbers[name]))
        if bad.size:
            value = table[name].iloc[bad[0]]
            refuse(WHERE, f"finite numbers in {name!r}", f"{bad.size} that are not, first {value!r}")
    names, counts = np.unique(table[unit].to_numpy(), return_counts=True)
    start = np.concatenate([[0], np.cumsum(counts)])
    inside = np.ones(len(table) - 1, bool)
    inside[start[1:-1] - 1] = False
    twice = np.flatnonzero((np.diff(numbers[cycle]) <= 0) & inside)
    if twice.size:
        name = table[unit].iloc[twice[0]]
        refuse(WHERE, "each cycle of a unit once", f"cycle {numbers[cycle][twice[0]]:g} twice in unit {name}")

    def columns(which: tuple[str, ...]) -> Array:
        return np.stack([numbers[n] for n in which], axis=1) if which else np.empty((len(table), 0))

    return Histories(names, start, numbers[cycle], columns(sensors), columns(settings), sensors, settings)
