"""Compton profiles of atomic shells: how the electrons that scatter photons move."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import xraylib

from twinlab.physics.attenuation import ELECTRON_REST_KEV, HC_KEV_ANGSTROM
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


@lru_cache(maxsize=1024)
def _cumulative(z: int, shell: Shell) -> tuple[np.ndarray, np.ndarray]:
    """|pz| in atomic units and the share of a shell's electrons that move more slowly than that."""
    grid = np.concatenate([[0.0], np.geomspace(1e-3, 0.999 * PZ_MAX, 600)])
    density = profile(z, shell, grid)
    whole = np.concatenate([[0.0], np.cumsum(0.5 * (density[1:] + density[:-1]) * np.diff(grid))])
    if whole[-1] <= 0:  # a shell without a table: its electrons rest
        return grid, np.ones(grid.size)
    return grid, whole / whole[-1]


def inverse_profile(z: int, shell: Shell, steps: int) -> np.ndarray:
    """|pz| / mc at even steps of the cumulative profile of a shell, shape (steps,)."""
    grid, whole = _cumulative(z, shell)
    # the last step would reach to the table's end: half a step is its median
    place = np.minimum(np.linspace(0.0, 1.0, steps), 1.0 - 0.25 / steps)
    return np.interp(place, whole, grid) * FINE_STRUCTURE


def share_below(z: int, shell: Shell, pz: np.ndarray) -> np.ndarray:
    """Share of a shell's electrons whose momentum along an axis is below ``pz`` (mc, of either sign)."""
    grid, whole = _cumulative(z, shell)
    pz = np.asarray(pz, float)
    return np.asarray(0.5 + 0.5 * np.sign(pz) * np.interp(np.abs(pz) / FINE_STRUCTURE, grid, whole))


def largest_momentum(energy_kev: np.ndarray, binding_kev: float, x: np.ndarray) -> np.ndarray:
    """Largest pz / mc of electrons that a photon can set free at a momentum transfer; inputs broadcast.

    Parameters
    ----------
    energy_kev : array
        Of the photon, above the binding energy.
    binding_kev : float
    x : array
        sin(theta / 2) / wavelength, 1/angstrom.

    References
    ----------
    Brusa D et al. 1996, Nucl. Instrum. Methods A 379:167, eq. 14; Ribberfors R, Berggren K-F 1982, Phys. Rev. A
    26:3325.
    """
    product = (
        2.0
        * (HC_KEV_ANGSTROM * np.asarray(x, float)) ** 2
        * (1.0 - binding_kev / np.asarray(energy_kev, float))
    )
    root = np.sqrt(2.0 * product + binding_kev**2)
    return np.asarray(
        (product - ELECTRON_REST_KEV * binding_kev) / (ELECTRON_REST_KEV * np.maximum(root, 1e-12))
    )


def bound_scatter(z: int, energy_kev: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Incoherent scattering function of an atom in the impulse approximation.

    The electrons of every shell that a photon of this energy can set free at this momentum transfer. Unlike Hubbell's
    S(x, Z) it depends on the energy, through the bindings; far above them both reach ``z``.

    Parameters
    ----------
    z : int
    energy_kev, x : array
        Photon energies, and sin(theta / 2) / wavelength in 1/angstrom; they broadcast.

    Returns
    -------
    array
        Electrons, 0 to ``z``.

    References
    ----------
    Ribberfors R, Berggren K-F 1982, Phys. Rev. A 26:3325; Brusa D et al. 1996, Nucl. Instrum. Methods A 379:167.
    """
    energy, x = np.broadcast_arrays(np.asarray(energy_kev, float), np.asarray(x, float))
    found = np.zeros(energy.shape)
    for shell in shells(z):
        free = energy > shell.binding_kev
        above = np.where(free, energy, np.inf)
        share = share_below(z, shell, largest_momentum(above, shell.binding_kev, x))
        found += shell.electrons * np.where(free, share, 0.0)
    return found


def _or_zero(function: object, *args: float) -> float:
    try:
        return float(function(*args))  # type: ignore[operator]
    except ValueError:  # the element has no such shell
        return 0.0
