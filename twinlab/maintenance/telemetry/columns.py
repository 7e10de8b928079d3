"""Columns of telemetry files: names, types, possible values, and the units that are often written instead."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from twinlab.variables import VARIABLES

FIRST_TIME, LAST_TIME = np.datetime64("1985-01-01T00:00:00"), np.datetime64("2100-01-01T00:00:00")
MOST_KILOWATT = 200.0  # of tube voltage times current: no CT tube takes more than about 120


@dataclass(frozen=True)
class Unit:
    """A unit that may have been written instead: ``right = (given + offset) * scale``."""

    name: str
    scale: float
    offset: float = 0.0


@dataclass(frozen=True)
class Column:
    """One column of a file.

    Attributes
    ----------
    name : str
        As in the file; the unit is in the name.
    kind : "time", "text", "number" or "count"
        A count is a whole number.
    required : bool
        Without it a row is not used. Of other columns, only the value is set aside.
    low, high : float
        Least and greatest possible value. They are wide: a value outside is an error of recording.
    mistakes : tuple of Unit
        Units that are looked for when values are impossible.
    sensor : bool
        A measurement, which is never the same many times over while the scans differ.
    """

    name: str
    kind: Literal["time", "text", "number", "count"]
    required: bool = False
    low: float = 0.0
    high: float = np.inf
    mistakes: tuple[Unit, ...] = ()
    sensor: bool = False

    @property
    def units(self) -> str:
        """Unit as registered; empty for times and names."""
        return VARIABLES[self.name].units if self.name in VARIABLES else ""

    @property
    def meaning(self) -> str:
        """What the column holds."""
        return _MEANINGS.get(self.name) or VARIABLES[self.name].long_name

    def possible(self, values: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Values that can be; NaN is none of them."""
        return (values >= self.low) & (values <= self.high)

    @property
    def range(self) -> str:
        """Possible values in words."""
        if self.kind == "time":
            return "1985 to 2100"
        if self.kind == "text":
            return "not empty"
        return f"{self.low:g} to {self.high:g}"


_MEANINGS = {
    "time": "end of the exposure, ISO 8601 with offset or Z; without, UTC or the zone that the reader is told",
    "scanner": "name of the scanner, one for each tube of a dual-source scanner",
    "tube": "serial number of the tube; a change is a replacement",
}
_MILLI = 1e-3

COLUMNS: tuple[Column, ...] = (
    Column("time", "time", required=True),
    Column("scanner", "text", required=True),
    Column("tube", "text", required=True),
    Column("kv", "number", True, 40.0, 160.0, (Unit("V", _MILLI), Unit("MV", 1e3))),
    Column("tube_current_ma", "number", True, 2.0, 2000.0, (Unit("A", 1e3), Unit("uA", _MILLI))),
    Column("exposure_s", "number", True, 0.05, 120.0, (Unit("ms", _MILLI), Unit("us", 1e-6))),
    Column("rotation_time_s", "number", False, 0.0, 120.0, (Unit("ms", _MILLI),)),
    Column("filament_current_a", "number", False, 0.5, 20.0, (Unit("mA", _MILLI),), sensor=True),
    Column("anode_heat_kj", "number", False, 0.0, 10_000.0, (Unit("J", _MILLI),), sensor=True),
    Column(
        "oil_temperature_c", "number", False, 5.0, 95.0, (Unit("K", 1.0, -273.15), Unit("degF", 5 / 9, -32.0)),
        sensor=True,
    ),
    Column("output_ratio", "number", False, 0.2, 2.0, (Unit("%", 0.01),), sensor=True),
    Column("arcs", "count", False, 0.0, 10_000.0),
    Column("vibration_mm_s", "number", False, 0.0, 100.0, (Unit("um/s", _MILLI),), sensor=True),
    Column("gantry_vibration_mm_s", "number", False, 0.0, 100.0, (Unit("um/s", _MILLI),), sensor=True),
    Column("slip_ring_errors", "count", False, 0.0, 1e9),
    Column(
        "coolant_flow_l_min", "number", False, 0.0, 60.0, (Unit("l/h", 1 / 60), Unit("ml/min", _MILLI)),
        sensor=True,
    ),
    Column("dead_channels", "count", False, 0.0, 1e6),
    Column("gain_drift_percent", "number", False, 0.0, 100.0),
)  # fmt: skip

BY_NAME = {column.name: column for column in COLUMNS}
KEYS = ("time", "scanner", "tube")
MEASURED = tuple(column for column in COLUMNS if column.name not in KEYS)


def telemetry_schema() -> pd.DataFrame:
    """Table of the columns that a telemetry file may have, in the order in which they are written.

    Returns
    -------
    DataFrame
        Columns ``column``, ``unit``, ``required``, ``type``, ``possible``, ``meaning``.

    Examples
    --------
    >>> telemetry_schema().set_index("column").loc["kv", "possible"]
    '40 to 160'
    """
    rows = [(c.name, c.units, c.required, c.kind, c.range, c.meaning) for c in COLUMNS]
    return pd.DataFrame(rows, columns=["column", "unit", "required", "type", "possible", "meaning"])
