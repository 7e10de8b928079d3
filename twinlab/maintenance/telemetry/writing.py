"""Write telemetry in the documented columns, so that reading gives back the same bits."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from twinlab.maintenance.telemetry.cells import EMPTY
from twinlab.maintenance.telemetry.columns import BY_NAME, COLUMNS, KEYS
from twinlab.maintenance.telemetry.raw_files import SUFFIXES, pyarrow_module
from twinlab.schema import check, refuse


def write_telemetry(scans: xr.Dataset, path: str | Path) -> Path:
    """Write telemetry as CSV or Parquet, by the ending of the name.

    Parameters
    ----------
    scans : Dataset, dim scan
        Coordinates ``time`` (UTC), ``scanner``, ``tube``; variables of :func:`telemetry_schema`. Those that are not
        there get no column.
    path : path
        Ending with .csv or .parquet. An existing file is replaced.

    Returns
    -------
    Path

    Raises
    ------
    InputError
        Another ending, a missing coordinate or required variable, a variable that files have no column for, a scan
        without time, or a name with a line break.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        refuse("write_telemetry", f"a file ending with {' or '.join(SUFFIXES)}", str(path))
    columns = _columns(scans)
    if path.suffix.lower() == ".csv":
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(zip(*(_texts(values) for values in columns.values()), strict=True))
        path.write_text(text.getvalue(), encoding="utf-8", newline="\n")
    else:
        parquet, arrow = pyarrow_module("pyarrow.parquet"), pyarrow_module("pyarrow")
        arrays = {name: _arrow(arrow, values) for name, values in columns.items()}
        parquet.write_table(arrow.table(arrays), path)
    return path


def _columns(scans: xr.Dataset) -> dict[str, Any]:
    """Values of every column that is there, in the order of the schema."""
    required = [c.name for c in COLUMNS if c.required and c.name not in KEYS]
    check(scans, *required, where="write_telemetry")
    missing = [name for name in KEYS if name not in scans.coords]
    if missing:
        refuse("write_telemetry", f"coordinates {', '.join(KEYS)}", f"none of {', '.join(missing)}")
    unknown = sorted(str(name) for name in scans if name not in BY_NAME)
    if unknown:
        refuse("write_telemetry", "variables that files have a column for", f"{', '.join(unknown)}")
    columns = {c.name: scans[c.name].to_numpy() for c in COLUMNS if c.name in scans.variables}
    for name, values in columns.items():
        if values.shape != (scans.sizes.get("scan"),):
            refuse("write_telemetry", f"{name} with dims ('scan',)", scans[name].dims)
    if np.isnat(columns["time"].astype("datetime64[ns]")).any():
        refuse("write_telemetry", "a time for every scan", "NaT")
    for name in ("scanner", "tube"):
        columns[name] = columns[name].astype(str)
        odd = [v for v in set(columns[name].tolist()) if _unreadable(v)]
        if odd:
            refuse(
                "write_telemetry",
                f"names of {name}: text in one line that does not mean nothing",
                repr(odd[0]),
            )
    return columns


def _unreadable(name: str) -> bool:
    return name != name.strip() or name.lower() in EMPTY or "\n" in name or "\r" in name


def _texts(values: Any) -> list[str]:
    """Shortest texts that give the same bits back; empty for NaN."""
    if values.dtype.kind == "M":
        return [f"{t}Z" for t in np.datetime_as_string(values.astype("datetime64[ns]"))]
    if values.dtype.kind == "f":
        return ["" if v != v else repr(v) for v in values.astype(float).tolist()]
    return list(map(str, values.tolist()))


def _arrow(arrow: Any, values: Any) -> Any:
    if values.dtype.kind == "M":
        return arrow.array(values.astype("datetime64[ns]"), type=arrow.timestamp("ns", tz="UTC"))
    return arrow.array(values.tolist() if values.dtype.kind in "OU" else values)
