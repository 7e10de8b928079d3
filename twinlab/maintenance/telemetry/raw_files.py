"""CSV and Parquet files as they stand: one cell each, nothing judged but the shape of rows."""

from __future__ import annotations

import csv
import difflib
import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from twinlab.maintenance.telemetry.columns import BY_NAME
from twinlab.schema import refuse

SUFFIXES = (".csv", ".parquet")
MALFORMED = "malformed"  # column of the reason why a row has no cells
Note = tuple[str, int, str, str, str]  # file, row, column, value, reason


def telemetry_files(paths: str | Path | Sequence[str | Path]) -> list[Path]:
    """Files that are meant: those named, and those of both formats in folders that are named.

    Raises
    ------
    InputError
        A path does not exist, a file is of another format, or there is none.
    """
    asked = [paths] if isinstance(paths, (str, Path)) else list(paths)
    found: list[Path] = []
    for path in map(Path, asked):
        if path.is_dir():
            found += sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES)
        elif not path.is_file():
            refuse("read_telemetry", "a file or folder that exists", str(path))
        elif path.suffix.lower() not in SUFFIXES:
            refuse("read_telemetry", f"files ending with {' or '.join(SUFFIXES)}", str(path))
        else:
            found.append(path)
    if not found:
        refuse("read_telemetry", f"at least one file ending with {' or '.join(SUFFIXES)}", str(paths))
    return found


def read_raw(path: Path, name: str) -> tuple[pd.DataFrame, list[Note]]:
    """Cells of a file under the known columns, with ``file``, ``row`` and ``malformed``.

    ``row`` is the line of a CSV file (the header is 1) and the number of the row of a Parquet file, from 1.

    Returns
    -------
    (DataFrame, list)
        Of a file without rows an empty frame; notes on the file: unknown or repeated columns, unreadable.
    """
    try:
        header, cells, row, bad = _parquet(path) if path.suffix.lower() == ".parquet" else _csv(path)
    except (OSError, ValueError) as error:
        words = " ".join(str(error).split())[:200]
        return pd.DataFrame(), [(name, 0, "", "", f"file cannot be read: {words}")]
    notes = _notes_on_columns(header, name)
    if not len(row):
        reason = "empty file" if not header else "no rows below the header"
        notes.append((name, 0, "", "", reason))
    once = [k for k, h in enumerate(header) if h in BY_NAME and header.count(h) == 1]
    data: dict[str, Any] = {"file": name, "row": row, **{header[k]: cells[k] for k in once}, MALFORMED: bad}
    return pd.DataFrame(data, index=range(len(row))), notes


def _notes_on_columns(header: list[str], name: str) -> list[Note]:
    notes = []
    for column in dict.fromkeys(header):
        if column not in BY_NAME:
            near = difflib.get_close_matches(column.lower(), BY_NAME, n=1, cutoff=0.6)
            hint = f"; is it {near[0]}?" if near else ""
            notes.append((name, 0, column, "", f"unknown column, not read{hint}"))
        elif header.count(column) > 1:
            notes.append((name, 0, column, "", "column appears more than once, none of them read"))
    return notes


def _csv(path: Path) -> tuple[list[str], list[Any], Any, Any]:
    """Header, cells by column, line numbers, and what is wrong with whole lines ("" if nothing)."""
    wide = path.read_bytes()[:2] in (b"\xff\xfe", b"\xfe\xff")  # as some office programs export
    text = path.read_text(encoding="utf-16" if wide else "utf-8-sig", errors="replace")
    lines = [(k, line) for k, line in enumerate(text.split("\n"), start=1) if line.strip("\r \t\0")]
    if not lines:
        return [], [], np.zeros(0, int), np.zeros(0, object)
    first = lines[0][1]
    separator = max(",;\t", key=first.count)
    header = [h.strip() for h in _fields(first, separator) or []]
    rows, bad = [], []
    for _, line in lines[1:]:
        fields = _fields(line, separator)
        if fields is not None and len(fields) == len(header):
            bad.append("")
        else:
            count = "quotes that do not close" if fields is None else f"{len(fields)} fields"
            bad.append(f"expected {len(header)} fields as in the header; got {count}")
            fields = [""] * len(header)
        rows.append(fields)
    columns = [_objects(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in header]
    return header, columns, np.array([k for k, _ in lines[1:]], int), _objects(bad)


def _fields(line: str, separator: str) -> list[str] | None:
    line = line.rstrip("\r")
    if '"' not in line:
        return line.split(separator)
    try:  # line by line: a quote that does not close costs one row, not the rest of the file
        return next(csv.reader([line], delimiter=separator, strict=True))
    except csv.Error:
        return None


def _objects(values: Any) -> Any:
    column = np.empty(len(values), object)
    column[:] = values
    return column


def _parquet(path: Path) -> tuple[list[str], list[Any], Any, Any]:
    parquet = pyarrow_module("pyarrow.parquet")
    table = parquet.ParquetFile(path).read()
    columns = [_cells(column) for column in table.columns]
    row = np.arange(1, table.num_rows + 1)
    return list(table.column_names), columns, row, _objects([""] * table.num_rows)


def _cells(column: Any) -> Any:
    """Cells of a Parquet column: float64 of plain numbers, times as they are, else objects."""
    values = column.to_pandas()
    if isinstance(values.dtype, pd.CategoricalDtype):
        values = values.astype(object)
    if values.dtype.kind in "iuf":
        return values.to_numpy(np.float64)
    return values


def pyarrow_module(name: str) -> Any:
    """A module of pyarrow, which only Parquet files need."""
    try:
        return importlib.import_module(name)
    except ImportError:
        refuse("telemetry: Parquet files", 'pyarrow (pip install "twinlab[maintenance]")', "no pyarrow")
