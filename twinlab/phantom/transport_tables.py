"""Cross-section tables of the materials of a transport run."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import xraylib

from twinlab.kernels.sampling import KEV_ANGSTROM, N_A, N_X, X_MAX
from twinlab.kernels.transport_data import Tables, energy_grid
from twinlab.physics import attenuation, materials
from twinlab.physics.materials import Material

_MM_PER_CM = 10.0
_FINE = 4000  # steps of the integral of F^2


def _x_fine() -> np.ndarray:
    """Momentum transfers for the integral of F^2: dense where F changes, 1/angstrom."""
    return np.concatenate([[0.0], np.geomspace(1e-4, X_MAX, _FINE)])


@lru_cache(maxsize=128)
def _form_factor_squared(z: int) -> np.ndarray:
    return np.array([xraylib.FF_Rayl(z, float(x)) ** 2 for x in _x_fine()])


@lru_cache(maxsize=128)
def _scatter_function(z: int) -> np.ndarray:
    x = np.linspace(0.0, X_MAX, N_X)
    return np.array([0.0] + [xraylib.SF_Compt(z, float(v)) for v in x[1:]])


def _atoms(material: Material) -> list[tuple[int, float]]:
    """(atomic number, mol per gram) of each element."""
    parts = [(xraylib.SymbolToAtomicNumber(symbol), w) for symbol, w in material.composition.items() if w > 0]
    return [(z, w / xraylib.AtomicWeight(z)) for z, w in parts]


def angular(material: Material, energy_kev: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tables of the scattering angles, by the independent-atom model.

    Parameters
    ----------
    material : Material
    energy_kev : (n,) array

    Returns
    -------
    area : (n,) float32
        Integral of F^2 over x^2 up to the largest x^2 of each energy, relative to its whole.
    inverse_area : (N_A,) float32
        x^2 (1/angstrom^2) at even steps of that integral.
    scatter : (N_X,) float32
        S(x) per gram-mole, over x up to ``X_MAX``.

    References
    ----------
    Hubbell J H et al. 1975, J. Phys. Chem. Ref. Data 4:471; data of xraylib, Schoonjans T et al. 2011,
    Spectrochim. Acta B 66:776.
    """
    squared = np.sum([n * _form_factor_squared(z) for z, n in _atoms(material)], axis=0)
    scatter = np.sum([n * _scatter_function(z) for z, n in _atoms(material)], axis=0)
    x2 = _x_fine() ** 2
    integral = np.concatenate([[0.0], np.cumsum(0.5 * (squared[1:] + squared[:-1]) * np.diff(x2))])
    integral /= integral[-1]
    area = np.interp((np.asarray(energy_kev) / KEV_ANGSTROM) ** 2, x2, integral)
    inverse = np.interp(np.linspace(0.0, 1.0, N_A), integral, x2)
    return area.astype(np.float32), inverse.astype(np.float32), scatter.astype(np.float32)


def _one(material: Material) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    data = attenuation.cross_sections(material, energy_grid())
    photo, rayl, inc = (
        data[name].values / _MM_PER_CM for name in ("photoelectric", "rayleigh", "incoherent")
    )
    area, inverse, scatter = angular(material, energy_grid())
    # the total is the sum of its parts, so that every pick below it has an interaction
    cross = np.stack([photo + inc + rayl, photo, photo + inc, area], axis=1).astype(np.float32)
    return cross, inverse, scatter


@lru_cache(maxsize=256)
def _one_named(key: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return _one(materials.get(key))


def build(names: Sequence[str | Material], *, kerma: str | Material = "air") -> Tables:
    """Tables of a list of materials; the first must be the world's air.

    Parameters
    ----------
    names : sequence of str or Material
        Keys of :mod:`twinlab.physics.materials`, or materials; their order is the index in the grid.
    kerma : str or Material
        Matter in which the scored fluence of chambers is turned to collision kerma.

    Returns
    -------
    Tables

    Raises
    ------
    InputError
        Unknown material.
    """
    parts = [_one_named(m) if isinstance(m, str) else _one(m) for m in names]
    mu_en = attenuation.cross_sections(kerma, energy_grid())["mu_en"].values
    return Tables(
        cross=np.ascontiguousarray(np.stack([p[0] for p in parts])),
        scatter=np.ascontiguousarray(np.stack([p[2] for p in parts])),
        inverse_area=np.ascontiguousarray(np.stack([p[1] for p in parts])),
        kerma=np.ascontiguousarray(mu_en, dtype=np.float32),
    )
