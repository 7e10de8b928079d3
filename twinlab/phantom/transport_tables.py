"""Cross-section tables of the materials of a transport run."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import xraylib

from twinlab.kernels.bound_electrons import N_BOUND, N_P
from twinlab.kernels.sampling import ELECTRON_REST_KEV, KEV_ANGSTROM, N_A, N_X, X_MAX
from twinlab.kernels.transport_data import (
    CUTOFF_KEV,
    ENERGY_UNIT_KEV,
    N_ENERGY,
    PER_OCTAVE,
    Tables,
    energy_grid,
)
from twinlab.phantom import transport_electrons, transport_store
from twinlab.phantom.transport_store import Part
from twinlab.physics import attenuation, materials
from twinlab.physics.fluorescence import k_lines, k_share
from twinlab.physics.materials import Material

LINE_MIN_SHARE = 1e-3  # of an absorbed photon's energy: K lines that carry less are not followed
_FIRST_Z = 26  # iron: K photons below 6.4 keV go less than 0.5 mm in water
_SOURCES = (__file__, transport_electrons.__file__)
_ALIKE = ("scatter", "inverse_area")  # tables of one shape for every material
_ANGLE, _WEIGHT = np.polynomial.legendre.leggauss(64)  # of the half angle's sine
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
        x^2 (1/angstrom^2) at even steps of 1 - (1 - that integral)^(1/4): dense where F is small.
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
    inverse = np.interp(1.0 - np.linspace(1.0, 0.0, N_A) ** 4, integral, x2)
    return area.astype(np.float32), inverse.astype(np.float32), scatter.astype(np.float32)


@lru_cache(maxsize=128)
def _element_photo(z: int) -> np.ndarray:
    """Photoelectric cross section of an element at the nodes, mm-1 per g/cm3."""
    return np.array([xraylib.CS_Photo(z, float(e)) for e in energy_grid()]) / _MM_PER_CM


def _fluorescence(material: Material, photo: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """K lines that matter: energies (keV) and photons per photoelectric absorption, (n,) and (n, energy)."""
    energy = energy_grid()
    rows = []
    for z, moles in _atoms(material):
        if z < _FIRST_Z:
            continue
        vacancies = k_share(z, energy) * moles * xraylib.AtomicWeight(z) * _element_photo(z) / photo
        for line in k_lines(z):
            share = vacancies * line.photons_per_vacancy
            if (share * line.energy_kev / energy).max() > LINE_MIN_SHARE:
                rows.append((line.energy_kev, share))
    rows.sort(key=lambda row: -float(row[1].max()))
    return np.array([r[0] for r in rows]), np.array([r[1] for r in rows]).reshape(len(rows), energy.size)


def _recoil(scatter: np.ndarray, energy: np.ndarray) -> np.ndarray:
    """Mean share of the energy that incoherent scattering leaves to the electron, from S(x); (energy,)."""
    half = 0.5 * (_ANGLE + 1.0)  # sin(theta / 2)
    cosine = 1.0 - 2.0 * half**2
    e = energy[:, None]
    ratio = 1.0 / (1.0 + e / ELECTRON_REST_KEV * (1.0 - cosine))
    weight = half * _WEIGHT * ratio**2 * (ratio + 1.0 / ratio - (1.0 - cosine**2))
    weight = weight * np.interp(e / KEV_ANGSTROM * half, np.linspace(0.0, X_MAX, N_X), scatter)
    ratio = np.where(e * ratio < CUTOFF_KEV, 0.0, ratio)
    return (weight * (1.0 - ratio)).sum(axis=1) / weight.sum(axis=1)


def _one(material: Material) -> Part:
    """Tables of one material, fluorescence and shells included."""
    energy = energy_grid()
    data = attenuation.cross_sections(material, energy)
    photo, rayl, inc = (
        data[name].values / _MM_PER_CM for name in ("photoelectric", "rayleigh", "incoherent")
    )
    area, inverse, scatter = angular(material, energy)
    line, line_share = _fluorescence(material, photo)
    electrons = transport_electrons.tables(_atoms(material))
    kept = photo + inc * _recoil(scatter, energy)
    inc_bound = electrons.pop("incoherent") / _MM_PER_CM
    kept_bound = photo + inc_bound * electrons.pop("recoil")

    def cross(inc: np.ndarray) -> np.ndarray:
        # the total is the sum of its parts, so that every pick below it has an interaction
        return np.stack([photo + inc + rayl, photo, photo + inc, area], axis=1).astype(np.float32)

    return {
        "cross": cross(inc),
        "cross_bound": cross(inc_bound),
        "inverse_area": inverse,
        "scatter": scatter,
        "line": line,
        "line_share": line_share,
        **electrons,
        "kept": kept,
        "kept_bound": kept_bound,
        "fluorescent": photo * (line[:, None] * line_share).sum(axis=0) / energy,
        "mu_en": data["mu_en"].values,
        "mu_en_bound": data["mu_en"].values + (kept_bound - kept) * _MM_PER_CM,
    }


@lru_cache(maxsize=256)
def _known(key: str, made_of: Material | None) -> Part:
    material = materials.get(key) if made_of is None else made_of
    options = f"{N_A} {N_X} {N_P} {N_BOUND} {N_ENERGY} {PER_OCTAVE} {X_MAX}"
    return transport_store.fetch(material, options, lambda: _one(material), sources=_SOURCES)


def _part(name: str | Material) -> Part:
    if isinstance(name, str):
        return _known(name, None)
    options = f"{N_A} {N_X} {N_P} {N_BOUND} {N_ENERGY} {PER_OCTAVE} {X_MAX}"
    return transport_store.fetch(name, options, lambda: _one(name), sources=_SOURCES)


def _padded(arrays: list[np.ndarray], dtype: type) -> np.ndarray:
    """Stack arrays whose first lengths differ; what is missing repeats nothing: zeros."""
    most = max(a.shape[0] for a in arrays)
    out = np.zeros((len(arrays), most, *arrays[0].shape[1:]), dtype)
    for k, a in enumerate(arrays):
        out[k, : a.shape[0]] = a
    return out


def _lines(parts: list[Part], follow: bool) -> tuple[np.ndarray, np.ndarray]:
    """Energies of the followed lines in the fixed point of the transport, and their cumulative shares."""
    if not follow:
        return np.zeros((len(parts), 0), np.int64), np.zeros((len(parts), 0, N_ENERGY), np.float32)
    energy = _padded([np.round(p["line"] / ENERGY_UNIT_KEV) for p in parts], np.int64)
    return energy, _padded([np.cumsum(p["line_share"], axis=0) for p in parts], np.float32)


def _electrons(parts: list[Part], doppler: bool) -> dict[str, np.ndarray]:
    n = len(parts)
    if not doppler:
        return {
            "shell": np.zeros((n, 0, 2), np.float32),
            "momentum": np.zeros((n, 0, N_P), np.float32),
            "bound_scatter": np.zeros((n, 0, N_X), np.float32),
        }
    shell = _padded([p["shell"] for p in parts], np.float32)
    shell[:, :, 0][shell[:, :, 0] == 0] = 2.0  # shells that a material lacks are never reached
    return {
        "shell": shell,
        "momentum": _padded([p["momentum"] for p in parts], np.float32),
        "bound_scatter": np.ascontiguousarray(np.stack([p["bound_scatter"] for p in parts])),
    }


def build(
    names: Sequence[str | Material],
    *,
    kerma: str | Material = "air",
    fluorescence: bool = True,
    doppler: bool = False,
) -> Tables:
    """Tables of a list of materials; the first must be the world's air.

    Parameters
    ----------
    names : sequence of str or Material
        Keys of :mod:`twinlab.physics.materials`, or materials; their order is the index in the grid.
    kerma : str or Material
        Matter in which the scored fluence of chambers is turned to collision kerma.
    fluorescence : bool
        Follow K photons of elements from ``_FIRST_Z`` on where they can carry away more than
        ``LINE_MIN_SHARE`` of an absorbed photon's energy; else, and from lighter elements, the energy stays.
    doppler : bool
        Scatter at bound electrons that move as their shells' Compton profiles say (impulse approximation: cross
        section, angles and energies), instead of with the tabulated cross section, S(x, Z) and at rest.

    Returns
    -------
    Tables

    Raises
    ------
    InputError
        Unknown material.
    """
    parts = [_part(m) for m in names]
    line, share = _lines(parts, fluorescence)
    cross, kept, mu_en = (name + ("_bound" if doppler else "") for name in ("cross", "kept", "mu_en"))
    absorption = [p[kept] - (p["fluorescent"] if fluorescence else 0.0) for p in parts]
    stack = {name: np.ascontiguousarray(np.stack([p[name] for p in parts])) for name in _ALIKE}
    return Tables(
        cross=np.ascontiguousarray(np.stack([p[cross] for p in parts])),
        **stack,
        kerma=np.ascontiguousarray(_part(kerma)[mu_en], dtype=np.float32),
        line=line,
        line_share=share,
        **_electrons(parts, doppler),
        absorption=np.array(absorption, np.float32),
    )
