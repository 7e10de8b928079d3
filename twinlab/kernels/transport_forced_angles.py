"""Densities of the scattering angles that the transport samples, per steradian, for expected scores.

They are made of the tables that the sampling itself reads, so both are one distribution whatever the data.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from twinlab.kernels.bound_electrons import ROWS
from twinlab.kernels.sampling import ELECTRON_REST_KEV, KEV_ANGSTROM, N_A, N_X, X_MAX
from twinlab.kernels.transport_data import Tables, energy_grid

N_F = 4096  # nodes of F^2 over x: steps of 0.003 per angstrom, a hundredth of the width of oxygen's
_NODE, _WEIGHT = np.polynomial.legendre.leggauss(256)  # of sin(theta / 2)
_X = np.linspace(0.0, X_MAX, N_X)


def bound_scatter_of(bound: np.ndarray, x: np.ndarray) -> np.ndarray:
    """S(E, x) of bound electrons as the sampling reads it, (N_ENERGY, n), from its rows (N_BOUND, N_X)."""
    node, share = np.divmod(np.arange(len(x)) / ROWS, 1.0)
    low, high = (
        np.array([np.interp(at, _X, bound[k]) for at, k in zip(x, node.astype(int) + up, strict=True)])
        for up in (0, 1)
    )
    return np.asarray(low + share[:, None] * (high - low))


class Angles(NamedTuple):
    """Factors of the densities; see :func:`twinlab.kernels.transport_forced.expected`."""

    form: np.ndarray  # (material, N_F) float32: F^2 over x up to ``X_MAX``, 1 at x = 0
    coherent: np.ndarray  # (material, energy) float32: 1/sr, of F^2 (1 + cos^2)
    incoherent: np.ndarray  # (material, energy) float32: 1/sr, of S(x) times Klein-Nishina's factor


def _coherent(inverse_area: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """F^2 over x, and its factor at every energy, from the inverse of the integral of F^2."""
    x2 = np.asarray(inverse_area, float)
    area = 1.0 - np.linspace(1.0, 0.0, N_A) ** 4
    step = np.diff(x2)
    density = np.where(step > 0, np.diff(area) / np.maximum(step, 1e-30), 0.0)
    middle = np.sqrt(0.5 * (x2[1:] + x2[:-1]))
    form = np.interp(np.linspace(0.0, X_MAX, N_F), middle, density)
    most = (energy_grid()[:, None] / KEV_ANGSTROM) ** 2  # x^2 of backward scattering
    x2 = np.minimum(x2, most)
    whole = 2.0 * x2 - 2.0 * x2**2 / most + 4.0 * x2**3 / (3.0 * most**2)  # integral of 1 + cos^2 over x^2
    factor = most[:, 0] / (4.0 * np.pi * (np.diff(whole, axis=1) * density).sum(axis=1))
    return form / form[0], factor * form[0]


def _incoherent(scatter: np.ndarray, bound: np.ndarray) -> np.ndarray:
    """Factor of S(x), or of S(E, x) where there is one, times Klein-Nishina's at every energy."""
    half = 0.5 * (_NODE + 1.0)
    away = 2.0 * half**2  # 1 - cosine
    e = energy_grid()[:, None]
    ratio = 1.0 / (1.0 + e / ELECTRON_REST_KEV * away)
    density = ratio**2 * (ratio + 1.0 / ratio - away * (2.0 - away))
    x = e / KEV_ANGSTROM * half
    density = density * (bound_scatter_of(bound, x) if bound.size else np.interp(x, _X, scatter))
    # a sphere's element is 8 pi half d(half), and half runs over half the nodes' interval
    return np.asarray(1.0 / (4.0 * np.pi * (half * _WEIGHT * density).sum(axis=1)))


def angles_of(tables: Tables) -> Angles:
    """Densities of the angles of some tables.

    Returns
    -------
    Angles
    """
    coherent = [_coherent(row) for row in tables.inverse_area]
    stack = (
        [form for form, _ in coherent],
        [factor for _, factor in coherent],
        [_incoherent(*rows) for rows in zip(tables.scatter, tables.bound_scatter, strict=True)],
    )
    return Angles(*(np.ascontiguousarray(rows, dtype=np.float32) for rows in stack))
