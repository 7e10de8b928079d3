"""Few energies in place of many: nodes and weights that reproduce polychromatic transmission."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.linalg import qr

from twinlab.ct.basis import mass_paths
from twinlab.physics.attenuation import mass_attenuation

QUADRATURE_ERROR = 2e-5  # relative, of the mean signal

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Quadrature:
    """A few energies and weights that stand for a spectrum: node (n,), weight and weight2 (n, n_channel)."""

    node: NDArray[np.intp]
    weight: Array
    weight2: Array
    error: float


def energy_quadrature(mu: Array, spectrum: Array, spectrum2: Array, paths: Array) -> Quadrature:
    """Nodes and weights so that few exponentials replace the sum over all energies.

    The nodes are the energies whose attenuation curves span those of all energies (QR with column pivoting of
    the transmission over training paths); the weights are fitted for every channel by least squares of
    relative errors. The number of nodes grows until paths between the training ones meet
    ``QUADRATURE_ERROR``.

    Parameters
    ----------
    mu : array (n_basis, n_energy)
    spectrum, spectrum2 : array (n_channel, n_energy)
        Weights of first and second moment.
    paths : array (n_path, n_basis)
        Line integrals to be covered.
    """
    rng = np.random.default_rng(0)  # test paths: mixtures of training paths
    mixture = rng.dirichlet(np.full(4, 0.5), size=400)
    test = np.einsum("nm,nmk->nk", mixture, paths[rng.integers(0, len(paths), size=(400, 4))])
    transmission, tested = np.exp(-paths @ mu), np.exp(-test @ mu)
    true, true2 = transmission @ spectrum.T, transmission @ spectrum2.T
    true_tested = tested @ spectrum.T
    importance = np.sqrt(spectrum.mean(axis=0))
    matrix = transmission * importance / true.mean(axis=1, keepdims=True)
    _, pivot = qr(matrix, mode="r", pivoting=True)
    few = np.unique(
        np.linspace(0, len(spectrum) - 1, 9).astype(int)
    )  # channels that decide the number of nodes
    for count in range(6, min(33, mu.shape[1] + 1)):
        node = np.sort(pivot[:count])
        weight = _fit(transmission[:, node], true[:, few])
        if np.abs(tested[:, node] @ weight / true_tested[:, few] - 1.0).max() <= QUADRATURE_ERROR:
            break
    weight = _fit(transmission[:, node], true)
    error = float(np.abs(tested[:, node] @ weight / true_tested - 1.0).max())
    return Quadrature(node, weight, _fit(transmission[:, node], true2), error)


def _fit(columns: Array, true: Array) -> Array:
    """Weights (node, channel) that reproduce ``true`` (path, channel) best in relative terms."""
    one = np.ones(columns.shape[0])
    return np.stack([np.linalg.lstsq(columns / t[:, None], one, rcond=1e-9)[0] for t in true.T], axis=1)


def training_paths(paths: xr.Dataset, chord_cm: float) -> Array:
    """Basis line integrals that the scan's materials can give, none among them, without and with an extra's chord.

    Returns array (path, basis + 1); the last column is the chord.
    """
    names = [str(name) for name in paths["mixed_material"].to_numpy()]
    mu = mass_attenuation([*names, "water"], paths["energy"].to_numpy())
    coefficients = np.linalg.lstsq(paths["basis_mu"].to_numpy().T, mu.T, rcond=None)[0].T
    training = np.vstack([np.zeros(coefficients.shape[1]), mass_paths(names) @ coefficients])
    chords = (0.0, chord_cm) if chord_cm > 0 else (0.0,)
    return np.vstack([np.column_stack([training, np.full(len(training), chord)]) for chord in chords])
