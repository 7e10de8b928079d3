"""Attenuation basis: a few functions of energy that carry the attenuation of every material of a scan.

A line integral per material and a sum over energies per ray would cost tens of times more than they are
worth: mu/rho of body tissues is, to a relative error of transmission of 1e-4, a combination of three
functions of energy (four with iodine), found by a weighted singular value decomposition of the materials'
attenuation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from twinlab.physics.attenuation import mass_attenuation
from twinlab.physics.materials import get as material
from twinlab.schema import refuse

TOLERANCE = 2e-4  # relative error of transmission: below 0.05 HU in the middle of 32 cm of water
REFERENCE_KEV = 60.0
MATERIAL_DEPTH = 4.0  # mean free paths at 60 keV up to which each material stands behind water
TOTAL_DEPTH = 12.0
LONGEST_CM = 50.0

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Basis:
    """Attenuation basis of some materials.

    Attributes
    ----------
    material_names : tuple of str
    energy_kev : array (n_energy,)
    basis_mu : array (n_basis, n_energy), cm2/g
    coefficients : array (n_material, n_basis)
        ``mu/rho = coefficients @ basis_mu``.
    mixing : array (n_basis, n_material)
        ``basis_mu = mixing @ mu/rho``, at any energy.
    error : float
        Largest relative error of transmission over the paths of :func:`mass_paths`.
    """

    material_names: tuple[str, ...]
    energy_kev: Array
    basis_mu: Array
    coefficients: Array
    mixing: Array
    error: float


def attenuation_basis(
    material_names: Sequence[str], energy_kev: ArrayLike, weights: ArrayLike, n_basis: int
) -> tuple[Array, Array]:
    """Best basis of ``n_basis`` functions for the attenuation of some materials.

    Minimises ``sum_m,E (thickness_m * weight_E * error_mE)^2`` with the thickness that each material may
    have in a patient (see :func:`mass_paths`).

    Parameters
    ----------
    material_names : sequence of str
        Keys of :mod:`twinlab.physics.materials`.
    energy_kev : array (n_energy,)
    weights : array (n_energy,)
        How much an error of mu at each energy counts, 0 or more.
    n_basis : int
        At most the number of materials.

    Returns
    -------
    basis_mu : array (n_basis, n_energy), cm2/g
    coefficients : array (n_material, n_basis)
        mu/rho of material m is about ``sum_k coefficients[m, k] * basis_mu[k]``.

    Raises
    ------
    InputError
        ``n_basis`` out of range, or weights that are negative, all zero or of another shape.

    References
    ----------
    R. E. Alvarez and A. Macovski, Phys. Med. Biol. 21, 733 (1976) (two functions); L. A. Lehmann and
    R. E. Alvarez, in Digital Radiography (1986) (singular values of tissue attenuation).
    """
    mu = mass_attenuation(list(material_names), np.asarray(energy_kev, float))
    basis_mu, coefficients, _ = _decompose(mu, _thickest(material_names), weights, n_basis)
    return basis_mu, coefficients


def _decompose(mu: Array, thickness: Array, weights: ArrayLike, n_basis: int) -> tuple[Array, Array, Array]:
    weight = np.asarray(weights, float)
    if not 1 <= n_basis <= mu.shape[0]:
        refuse("attenuation_basis: n_basis", f"1 to {mu.shape[0]}, the number of materials", n_basis)
    if weight.shape != mu.shape[1:] or weight.min() < 0 or weight.max() <= 0:
        refuse("attenuation_basis: weights", f"{mu.shape[1]} values of 0 or more, not all 0", weight.shape)
    left, size, right = np.linalg.svd(thickness[:, None] * mu * weight, full_matrices=False)
    # A material twice in the list, or two of one composition, leave nothing for the last functions.
    n_basis = min(n_basis, int(np.count_nonzero(size > 1e-9 * size[0])))
    mixing = left[:, :n_basis].T * thickness / size[:n_basis, None]
    coefficients = (mu * weight) @ right[:n_basis].T
    scale = coefficients[np.argmax(thickness), 0]  # so that the first path of the lightest tissue is in g/cm2
    return scale * (mixing @ mu), coefficients / scale, scale * mixing


def _thickest(material_names: Sequence[str]) -> Array:
    """Largest mass thickness [g/cm2] of each material on a ray."""
    mu = mass_attenuation(list(material_names), [REFERENCE_KEV])[:, 0]
    density = np.array([material(name).density_g_cm3 for name in material_names])
    return np.minimum(MATERIAL_DEPTH / mu, LONGEST_CM * density)


def mass_paths(material_names: Sequence[str]) -> Array:
    """Rays on which a basis must hold: every material behind 0 to 50 cm of water.

    Each material stands at a quarter, half and the whole of 4 mean free paths at 60 keV (20 cm of soft
    tissue, 7 cm of cortical bone, 3 mm of copper), at most 50 cm; all in all at most 12 mean free paths.

    Parameters
    ----------
    material_names : sequence of str

    Returns
    -------
    array (n_path, n_material + 1), g/cm2
        The last column is water.
    """
    thickest = _thickest(material_names)
    paths = [
        np.append(share * thickest[m] * (np.arange(thickest.size) == m), water)
        for m in range(thickest.size)
        for water in (0.0, 10.0, 20.0, 30.0, 40.0, 50.0)
        for share in (0.25, 0.5, 1.0)
    ]
    mu = mass_attenuation([*material_names, "water"], [REFERENCE_KEV])[:, 0]
    return np.array([path for path in paths if path @ mu <= TOTAL_DEPTH])


def transmission_error(mu: Array, approximate: Array, spectra: Array, paths: Array) -> float:
    """Largest relative error of transmitted signal.

    Parameters
    ----------
    mu, approximate : array (n_material, n_energy), cm2/g
    spectra : array (n_spectrum, n_energy)
    paths : array (n_path, n_material), g/cm2
    """
    true = np.exp(-paths @ mu) @ spectra.T
    return float(np.abs(np.exp(-paths @ approximate) @ spectra.T / true - 1.0).max())


def spectral_weights(spectra: ArrayLike, energy_kev: ArrayLike) -> Array:
    """Weights of energies for a basis: root of the mean spectrum behind 0 to 45 cm of water."""
    water = mass_attenuation("water", np.asarray(energy_kev, float))[0]
    hardened = np.asarray(spectra, float)[:, None, :] * np.exp(
        -np.array([[0.0], [10.0], [25.0], [45.0]]) * water
    )
    return np.sqrt((hardened / hardened.sum(axis=2, keepdims=True)).mean(axis=(0, 1)))


def choose_basis(
    material_names: Sequence[str],
    *,
    energy_kev: ArrayLike,
    spectra: ArrayLike,
    n_basis: int | None = None,
    tolerance: float = TOLERANCE,
) -> Basis:
    """Smallest basis that meets a tolerance over all spectra and paths, or one of a given size.

    Parameters
    ----------
    material_names : sequence of str
        Materials present; repeated names are allowed.
    energy_kev : array (n_energy,)
    spectra : array (n_spectrum, n_energy)
        Detected spectra (weighted with efficiency and energy) of the tube voltages in question.
    n_basis : int, optional
    tolerance : float
        Relative error of transmission over :func:`mass_paths`.

    Raises
    ------
    InputError
        ``n_basis`` out of range.
    """
    names = tuple(material_names)
    energy, weighted = np.asarray(energy_kev, float), np.asarray(spectra, float)
    mu = mass_attenuation([*names, "water"], energy)
    paths = mass_paths(names)
    weights = spectral_weights(weighted, energy)
    thickness = _thickest(names)
    sizes = range(1, len(names) + 1) if n_basis is None else [n_basis]
    for size in sizes:
        basis_mu, coefficients, mixing = _decompose(mu[:-1], thickness, weights, size)
        # Water behind which the materials stand is exact: the error asked for is the materials' own.
        approximate = np.vstack([coefficients @ basis_mu, mu[-1]])
        error = transmission_error(mu, approximate, weighted, paths)
        if error <= tolerance:
            break
    return Basis(names, energy, basis_mu, coefficients, mixing, error)
