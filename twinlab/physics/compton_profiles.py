"""Compton profiles of atomic shells: how the electrons that scatter photons move."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import xraylib

from twinlab.schema import refuse

FINE_STRUCTURE = 1.0 / 137.035999  # atomic unit of momentum over mc
PZ_MAX = 100.0  # atomic units: the end of xraylib's tables; iodine's K shell has 3 % of its electrons beyond
_SHELLS = 31
# subshells of one orbital, j = l - 1/2 and l + 1/2: where the table has one of them only, it stands for both
_PAIRS = (
    (2, 3),
    (5, 6),
    (7, 8),
    (10, 11),
    (12, 13),
    (14, 15),
    (17, 18),
    (19, 20),
    (21, 22),
    (24, 25),
    (26, 27),
)
_PARTNER = {**dict(_PAIRS), **{b: a for a, b in _PAIRS}}


class Shell(NamedTuple):
    """Electrons of one shell of an atom."""

    number: int  # xraylib's
    electrons: float
    binding_kev: float


@lru_cache(maxsize=128)
def shells(z: int) -> tuple[Shell, ...]:
    """Occupied shells of element ``z`` (1 to 92), from the inside out; free binding energies are 0.

    Raises
    ------
    InputError
        No such element.
    """
    if not 1 <= int(z) <= 92:
        refuse("compton_profiles: z", "an atomic number from 1 to 92", z)
    found = []
    for index in range(_SHELLS):
        electrons = _or_zero(xraylib.ElectronConfig, z, index)
        if electrons > 0:
            found.append(Shell(index, electrons, _or_zero(xraylib.EdgeEnergy, z, index)))
    return tuple(found)


def profile(z: int, shell: Shell, pz: np.ndarray) -> np.ndarray:
    """Compton profile of one electron of a shell, per atomic unit, at momenta |pz| up to ``PZ_MAX``.

    References
    ----------
    Biggs F, Mendelsohn L B, Mann J B 1975, At. Data Nucl. Data Tables 16:201 (data of xraylib).
    """
    pz = np.minimum(np.abs(pz), PZ_MAX)
    number = shell.number
    if _or_zero(xraylib.ComptonProfile_Partial, z, number, 0.0) <= 0:  # carbon's outermost, for one
        number = _PARTNER.get(number, number)
    return np.array([_or_zero(xraylib.ComptonProfile_Partial, z, number, float(p)) for p in pz])


def inverse_profile(z: int, shell: Shell, steps: int) -> np.ndarray:
    """|pz| / mc at even steps of the cumulative profile of a shell, shape (steps,)."""
    grid = np.concatenate([[0.0], np.geomspace(1e-3, 0.999 * PZ_MAX, 600)])
    density = profile(z, shell, grid)
    whole = np.concatenate([[0.0], np.cumsum(0.5 * (density[1:] + density[:-1]) * np.diff(grid))])
    if whole[-1] <= 0:  # a shell without a table: its electrons rest
        return np.zeros(steps)
    # the last step would reach to the table's end: half a step is its median
    place = np.minimum(np.linspace(0.0, 1.0, steps), 1.0 - 0.25 / steps)
    return np.interp(place, whole / whole[-1], grid) * FINE_STRUCTURE


def _or_zero(function: object, *args: float) -> float:
    try:
        return float(function(*args))  # type: ignore[operator]
    except ValueError:  # the element has no such shell
        return 0.0
