"""NASA C-MAPSS turbofan run-to-failure sets FD001 to FD004, from the user's folder.

Public domain: A. Saxena, K. Goebel, "Turbofan Engine Degradation Simulation Data Set", NASA Prognostics Data
Repository, 2008.
"""

from __future__ import annotations

import gzip
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from twinlab.maintenance.remaining.histories import Array, Histories, histories
from twinlab.schema import refuse

SETTINGS = ("altitude", "mach", "throttle")
SENSORS = (
    "T2", "T24", "T30", "T50", "P2", "P15", "P30", "Nf", "Nc", "epr", "Ps30", "phi", "NRf", "NRc", "BPR",
    "farB", "htBleed", "Nf_dmd", "PCNfR_dmd", "W31", "W32",
)  # fmt: skip
NAMES = ("FD001", "FD002", "FD003", "FD004")
COLUMNS = ("unit", "cycle", *SETTINGS, *SENSORS)
VARIABLE = "TWINLAB_CMAPSS"


@dataclass(frozen=True)
class Cmapss:
    """One set: engines run to failure, engines cut before it, and the life that was left at the cut."""

    name: str
    train: Histories
    test: Histories
    rul: Array


def read_cmapss(name: str, folder: str | Path | None = None) -> Cmapss:
    """Read one of the four sets.

    Parameters
    ----------
    name : str
        FD001, FD002, FD003 or FD004.
    folder : path, optional
        Where ``train_FD001.txt`` and its fellows lie, plain or gzipped; else the environment variable
        TWINLAB_CMAPSS says it.

    Returns
    -------
    Cmapss
        ``rul`` in cycles, one a test engine, in the order of ``test.units``.

    Raises
    ------
    InputError
        Folder or file missing, file broken, or numbers of engines that differ between the files.

    References
    ----------
    Saxena, Goebel, Simon, Eklund, "Damage propagation modeling for aircraft engine run-to-failure simulation",
    PHM 2008 (sensor names: table 2).
    """
    if name not in NAMES:
        refuse("C-MAPSS", f"a set of {NAMES}", repr(name))
    where = _folder(folder)
    train = _engines(where, f"train_{name}.txt")
    test = _engines(where, f"test_{name}.txt")
    rul = _numbers(where, f"RUL_{name}.txt", 1)[:, 0]
    if len(rul) != len(test):
        refuse("C-MAPSS", f"one remaining life for each of {len(test)} test engines", f"{len(rul)} lives")
    if (rul < 0).any():
        refuse("C-MAPSS", f"remaining lives of 0 or more in RUL_{name}.txt", rul.min())
    return Cmapss(name, train, test, rul)


def _folder(folder: str | Path | None) -> Path:
    given = folder or os.environ.get(VARIABLE)
    if not given:
        refuse("C-MAPSS", f"folder=... or the environment variable {VARIABLE} (data: NASA, free)", "neither")
    path = Path(given).expanduser()
    if not path.is_dir():
        refuse("C-MAPSS", "a folder with train_FD001.txt and its fellows", str(path))
    return path


def _numbers(folder: Path, name: str, columns: int) -> Array:
    plain, packed = folder / name, folder / f"{name}.gz"
    path = plain if plain.is_file() else packed
    if not path.is_file():
        refuse("C-MAPSS", f"{name} or {name}.gz", f"neither in {folder}")
    try:
        with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
            table = pd.read_csv(file, sep=r"\s+", header=None, dtype=float)
    except (OSError, EOFError, ValueError) as error:
        first = str(error).strip().splitlines()[0]
        refuse("C-MAPSS", f"{path.name} as numbers between blanks", f"{type(error).__name__}: {first}")
    if table.shape[1] != columns:
        refuse("C-MAPSS", f"{columns} columns in {path.name}", table.shape[1])
    values = table.to_numpy(float)
    bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if bad.size:
        refuse("C-MAPSS", f"whole rows in {path.name}", f"row {bad[0] + 1} with a number missing")
    return values


def _engines(folder: Path, name: str) -> Histories:
    values = _numbers(folder, name, len(COLUMNS))
    table = pd.DataFrame(values, columns=list(COLUMNS)).astype({"unit": int})
    engines = histories(table, sensors=SENSORS, settings=SETTINGS)
    whole = np.concatenate([np.arange(1, n + 1) for n in engines.lengths])
    if not np.array_equal(engines.cycle, whole):
        row = int(np.flatnonzero(engines.cycle != whole)[0])
        unit = engines.units[engines.unit_index[row]]
        refuse("C-MAPSS", f"cycles 1, 2, 3... of every engine in {name}", f"a gap in engine {unit}")
    return engines
