"""Bound electrons of a material for the transport: shells, scattering, energy that recoiling electrons keep.

All follow from the same Compton profiles, so that cross section, angles, energies and expected doses agree.
"""

from __future__ import annotations

import numpy as np

from twinlab.kernels.bound_electrons import N_BOUND, N_P, P_MOST, ROWS
from twinlab.kernels.sampling import ELECTRON_REST_KEV, KEV_ANGSTROM, N_X, X_MAX
from twinlab.kernels.transport_data import CUTOFF_KEV, PER_OCTAVE, energy_grid
from twinlab.physics.compton_profiles import bound_scatter, inverse_profile, shells

_NODE, _WEIGHT = np.polynomial.legendre.leggauss(64)  # of sin(theta / 2)
_STEP = 16  # of the energy grid between energies at which the mean recoil is worked out
_LEAST = 1e-6  # of S, in electrons: angles at which none is set free are drawn without end otherwise
_HALF = 0.5 * (_NODE + 1.0)  # sin(theta / 2)
_COSINE = 1.0 - 2.0 * _HALF**2
_RADIUS_CM = 2.8179403205e-13  # of the electron, classical (CODATA 2022)
_AVOGADRO = 6.02214076e23


def tables(atoms: list[tuple[int, float]]) -> dict[str, np.ndarray]:
    """Tables of one material from its elements.

    Parameters
    ----------
    atoms : list of (int, float)
        Atomic numbers and mol per gram.

    Returns
    -------
    dict
        ``shell`` (m, 2), cumulative share of the electrons and binding energy in keV; ``momentum`` (m, N_P), inverse
        profiles; ``bound_scatter`` (N_BOUND, N_X), electrons per gram-mole; all float32. ``incoherent`` (N_ENERGY,):
        cross section, cm2/g. ``recoil`` (N_ENERGY,): mean share of the energy that incoherent scattering leaves to
        the electron.
    """
    rows = [
        (moles * shell.electrons, shell.binding_kev, inverse_profile(z, shell, N_P))
        for z, moles in atoms
        for shell in shells(z)
    ]
    rows.sort(key=lambda row: -row[0])
    number, binding = (np.array([row[k] for row in rows]) for k in (0, 1))
    momentum = np.array([row[2] for row in rows])
    scatter = _scatter(atoms, _coarse()[:, None], np.linspace(0.0, X_MAX, N_X))
    return {
        "shell": np.column_stack([np.cumsum(number) / number.sum(), binding]).astype(np.float32),
        "momentum": momentum.astype(np.float32),
        "bound_scatter": scatter.astype(np.float32),
        "incoherent": _incoherent(atoms),
        "recoil": _recoil(atoms, number, binding, momentum),
    }


def _coarse() -> np.ndarray:
    """Energies of the rows of S, keV: every ``ROWS``-th of the energy grid, and one beyond its end."""
    octave, step = np.divmod(ROWS * np.arange(N_BOUND), PER_OCTAVE)
    return np.asarray(CUTOFF_KEV * 2.0**octave * (1.0 + step / PER_OCTAVE))


def _scatter(atoms: list[tuple[int, float]], energy: np.ndarray, x: np.ndarray) -> np.ndarray:
    found = sum(moles * bound_scatter(z, energy, x) for z, moles in atoms)
    return np.maximum(found, _LEAST * sum(moles for _, moles in atoms))


def _angles(atoms: list[tuple[int, float]], e: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """E'/E at rest and what scatters at the nodes, Klein-Nishina times S(E, x); of energies (n, 1), both (n, m)."""
    free = 1.0 / (1.0 + e / ELECTRON_REST_KEV * (1.0 - _COSINE))
    weight = 0.5 * _WEIGHT * _HALF * free**2 * (free + 1.0 / free - (1.0 - _COSINE**2))
    return free, weight * _scatter(atoms, e, e / KEV_ANGSTROM * _HALF)


def _incoherent(atoms: list[tuple[int, float]]) -> np.ndarray:
    """Cross section of incoherent scattering at the energy grid, cm2/g.

    The integral of the very distribution that angles are drawn from: d(cosine) is 4 half d(half).
    """
    _, weight = _angles(atoms, energy_grid()[:, None])
    return np.asarray(4.0 * np.pi * _RADIUS_CM**2 * _AVOGADRO * weight.sum(axis=1))


def _recoil(
    atoms: list[tuple[int, float]], number: np.ndarray, binding: np.ndarray, momentum: np.ndarray
) -> np.ndarray:
    """Mean share of the energy left to the electron, by quadrature of what the transport samples."""
    nodes = energy_grid()[::_STEP]
    nodes = np.append(nodes, energy_grid()[-1])
    e = nodes[:, None]
    free, weight = _angles(atoms, e)
    ratio = _mean_ratio(e, _COSINE, free, number, binding, momentum)
    share = (weight * (1.0 - ratio)).sum(axis=1) / weight.sum(axis=1)
    return np.interp(energy_grid(), nodes, share)


def _mean_ratio(
    e: np.ndarray,
    cosine: np.ndarray,
    free: np.ndarray,
    number: np.ndarray,
    binding: np.ndarray,
    momentum: np.ndarray,
) -> np.ndarray:
    """Mean E'/E by energy (n, 1) and cosine (m,): the formulas of ``kernels.bound_electrons.bound``, (n, m)."""
    transfer = np.maximum(1.0 + free * (free - 2.0 * cosine), 1e-12)
    slope = np.sqrt(transfer) * (1.0 + free * (free - cosine) / transfer)
    whole, mean = np.zeros_like(free), np.zeros_like(free)
    middle = 0.5 * (momentum[:, 1:] + momentum[:, :-1])
    for k, (electrons, least) in enumerate(zip(number, binding, strict=True)):
        for sign in (-1.0, 1.0):
            for p in middle[k]:
                t = p * p
                x, y = 1.0 - t * free * cosine, 1.0 - t * free**2
                broad = free / y * (x + sign * np.sqrt(np.maximum(x * x - y * (1.0 - t), 0.0)))
                held = (broad >= 0.0) & (e * broad <= e - least)
                share = electrons * held * np.maximum(1.0 + slope * sign * min(p, float(P_MOST)), 0.0)
                whole += share
                mean += share * np.where(e * broad < CUTOFF_KEV, 0.0, broad)
    return np.where(whole > 0.0, mean / np.maximum(whole, 1e-30), free)
