"""K-shell fluorescence: which photons an atom sends out after it has absorbed one in its K shell."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import xraylib

from twinlab.physics.attenuation import ENERGY_RANGE_KEV
from twinlab.schema import refuse

_GROUPS = {
    "alpha": ("KL2", "KL3"),
    "beta": ("KM1", "KM2", "KM3", "KM4", "KM5", "KN1", "KN2", "KN3", "KP2", "KP3"),
}


class KLine(NamedTuple):
    """One group of K lines: its mean energy, and photons per vacancy of the K shell."""

    name: str
    energy_kev: float
    photons_per_vacancy: float


def k_edge_kev(z: int) -> float:
    """Energy of the K absorption edge of element ``z``, keV."""
    return float(xraylib.EdgeEnergy(_element(z), xraylib.K_SHELL))


def k_lines(z: int) -> tuple[KLine, KLine]:
    """K-alpha and K-beta of element ``z``, each as one line at its mean energy.

    Lines within a group lie 0.2 to 0.5 keV apart in the elements of X-ray sensors, far below what a counting
    detector resolves.

    Parameters
    ----------
    z : int
        Atomic number, 3 to 92.

    Returns
    -------
    (KLine, KLine)
        Their photons per vacancy add up to the K fluorescence yield.

    Raises
    ------
    InputError
        No such element.

    References
    ----------
    Krause M O (1979) J. Phys. Chem. Ref. Data 8:307 (yields); Schoonjans et al., Spectrochim. Acta B 66:776
    (2011) (xraylib, which holds them).

    Examples
    --------
    >>> round(sum(line.photons_per_vacancy for line in k_lines(48)), 2)
    0.84
    """
    z = _element(z)
    found = {}
    for name, lines in _GROUPS.items():
        known = [(_value(xraylib.RadRate, z, line), _value(xraylib.LineEnergy, z, line)) for line in lines]
        rate = np.array([r for r, e in known if r > 0 and e > 0])
        energy = np.array([e for r, e in known if r > 0 and e > 0])
        found[name] = (float(rate.sum()), float(rate @ energy / rate.sum()) if rate.size else 0.0)
    whole = sum(rate for rate, _ in found.values())
    yielded = float(xraylib.FluorYield(z, xraylib.K_SHELL))
    alpha, beta = (KLine(name, e, yielded * rate / whole) for name, (rate, e) in found.items())
    return alpha, beta


def k_share(z: int, energy_kev: np.ndarray) -> np.ndarray:
    """Share of the K shell in the photoelectric absorption of element ``z``, shape (energy,); 0 below the edge.

    Raises
    ------
    InputError
        No such element, or an energy outside 1 to 200 keV.
    """
    z, energy = _element(z), np.atleast_1d(np.asarray(energy_kev, float))
    low, high = ENERGY_RANGE_KEV
    if energy.min() < low or energy.max() > high:
        refuse("k_share", f"energies from {low:g} to {high:g} keV", f"{energy.min():g} to {energy.max():g}")
    edge = k_edge_kev(z)
    return np.array(
        [
            xraylib.CS_Photo_Partial(z, xraylib.K_SHELL, e) / xraylib.CS_Photo_Total(z, e)
            if e > edge
            else 0.0
            for e in energy
        ]
    )


def _element(z: int) -> int:
    if not 3 <= int(z) <= 92:
        refuse("fluorescence: z", "an atomic number from 3 to 92", z)
    return int(z)


def _value(function: object, z: int, line: str) -> float:
    try:
        return float(function(z, getattr(xraylib, f"{line}_LINE")))  # type: ignore[operator]
    except ValueError:  # the element has no such line
        return 0.0
