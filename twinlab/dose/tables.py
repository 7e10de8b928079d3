"""Published tables of dose quantities: package data with their sources, and patterns of organ labels."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from fnmatch import fnmatchcase
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from twinlab.schema import load_yaml, refuse

SEXES = ("male", "female")


@lru_cache(maxsize=8)
def rows(name: str) -> tuple[dict[str, str], ...]:
    """Rows of a CSV in ``dose/data``; lines that start with # say where the numbers are from."""
    text = (resources.files("twinlab.dose") / "data" / name).read_text(encoding="utf-8")
    return tuple(csv.DictReader(line for line in text.splitlines() if not line.startswith("#")))


@lru_cache(maxsize=8)
def mapping(name: str) -> dict[str, Any]:
    """A YAML of ``dose/data``."""
    with resources.as_file(resources.files("twinlab.dose") / "data" / name) as path:
        return load_yaml(Path(path))


def labelled(names: Sequence[str], patterns: Sequence[str]) -> np.ndarray:
    """Which names match one of the shell-style patterns; case, blanks and underscores alike.

    Examples
    --------
    >>> labelled(["Lung upper lobe left", "heart"], ["lung_*"]).tolist()
    [True, False]
    """
    plain = [name.strip().lower().replace(" ", "_") for name in names]
    return np.array([any(fnmatchcase(name, p) for p in patterns) for name in plain], dtype=bool)


def check_sex(sex: str, where: str) -> int:
    """0 for male, 1 for female.

    Raises
    ------
    InputError
        Another word.
    """
    if sex not in SEXES:
        refuse(f"{where}: sex", "male or female (reference values and tissues differ)", repr(sex))
    return SEXES.index(sex)
