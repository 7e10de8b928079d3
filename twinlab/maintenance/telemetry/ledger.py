"""The rows that were read, what became of them, and why."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

ROW, VALUE, NOTE = "row set aside", "value set aside", "noted"
FIELDS = ("file", "row", "column", "value", "reason", "action")


class Ledger:
    """Rows of all files, those still used, and the table of what was set aside.

    Attributes
    ----------
    table : DataFrame
        ``file``, ``row``, and the values of each column; float64, datetime64[ns] or str.
    raw : DataFrame
        The same cells as they stood in the files.
    used : array of bool (row,)
        Rows that nothing speaks against so far.

    Parameters
    ----------
    raw : DataFrame
    columns_of : mapping
        Known columns that each file has.
    """

    def __init__(self, raw: pd.DataFrame, columns_of: Mapping[str, Collection[str]]) -> None:
        self.raw = raw
        self._columns_of = columns_of
        self.table = raw[["file", "row"]].copy()
        self.used = np.ones(len(raw), bool)
        self._entries: list[pd.DataFrame] = []

    def has(self, column: str) -> NDArray[np.bool_]:
        """Rows whose file has this column."""
        files = [file for file, columns in self._columns_of.items() if column in columns]
        return self.raw["file"].isin(files).to_numpy()

    def sort(self, order: NDArray[np.intp]) -> None:
        """Put the rows in another order."""
        self.raw = self.raw.iloc[order].reset_index(drop=True)
        self.table = self.table.iloc[order].reset_index(drop=True)
        self.used = self.used[order]

    def set_aside(self, where: NDArray[Any], column: str, reason: Any) -> None:
        """Set aside whole rows.

        Parameters
        ----------
        where : array of bool (row,), or of indices
        column : str
            Which cell speaks against them; "" for the row as a whole.
        reason : str or sequence of str
            One for all, or one each.
        """
        index = self._write(where, column, reason, ROW)
        self.used[index] = False

    def blank(self, where: NDArray[Any], column: str, reason: Any) -> None:
        """Set aside one value of some rows: it becomes NaN, the rows stay."""
        index = self._write(where, column, reason, VALUE)
        values = self.table[column].to_numpy(copy=True)
        values[index] = np.nan
        self.table[column] = values

    def note(self, file: str, row: int, column: str, value: Any, reason: str) -> None:
        """Say something of a file or row of which nothing is set aside; row 0 is the file as a whole."""
        entry = (file, row, column, str(value), reason, NOTE)
        self._entries.append(pd.DataFrame([entry], columns=FIELDS))

    def _write(self, where: NDArray[Any], column: str, reason: Any, action: str) -> NDArray[np.intp]:
        index = np.flatnonzero(where) if np.asarray(where).dtype == bool else np.asarray(where, np.intp)
        if index.size:
            cells = self.raw.iloc[index]
            shown = cells[column].map(_shown) if column in cells else ""
            entry = {"file": cells["file"], "row": cells["row"], "column": column, "value": shown}
            self._entries.append(
                pd.DataFrame({**entry, "reason": reason, "action": action}, index=cells.index)
            )
        return index

    def quarantine(self) -> pd.DataFrame:
        """All that was set aside or noted, by file and row."""
        if not self._entries:
            return pd.DataFrame(columns=list(FIELDS)).astype({"row": int})
        found = pd.concat(self._entries, ignore_index=True)
        return found.sort_values(["file", "row"], kind="stable", ignore_index=True)[list(FIELDS)]


def _shown(value: Any) -> str:
    text = "" if value is None else str(value)
    return text if len(text) <= 80 else text[:77] + "..."
