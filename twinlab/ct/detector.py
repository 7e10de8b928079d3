"""Energy-integrating detector: mean and variance of what a cell absorbs, for any line integrals.

The mean absorbed energy of a reading is ``sum_E N(E) eta(E) E exp(-sum_k p_k mu_k(E))``. Photons are
Poisson and each absorbed one gives its energy, so the variance is the same sum with ``E**2`` (compound
Poisson). All energy of an absorbed photon counts: escape of fluorescence, optical spread (Swank) and
cross-talk are left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import qr

from twinlab.ct.basis import mass_paths
from twinlab.kernels.spectral import add_object, polychromatic
from twinlab.kernels.threads import one_parallel_region
from twinlab.physics.attenuation import mass_attenuation
from twinlab.physics.materials import get as material
from twinlab.scanner import Protocol, beam_fluence, cell_solid_angle
from twinlab.schema import check, label, refuse

QUADRATURE_ERROR = 2e-5  # relative, of the mean signal
_REFERENCE_AREA_MM2 = 1e6  # one steradian at 1 m

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Extra:
    """A small object that is not in the phantom, on some rays (a lesion, a wire).

    Attributes
    ----------
    chord_cm : array
        Lengths inside it: dense with dims (view, row, channel), or one per entry of ``ray``.
    energy_kev, mu_per_cm : array (n_energy,)
        Its attenuation minus that of what it replaces; interpolated.
    ray : int array, optional
        Flat indices into (view, row, channel).
    """

    chord_cm: np.ndarray
    energy_kev: np.ndarray
    mu_per_cm: np.ndarray
    ray: np.ndarray | None = None

    def listed(self, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        """Flat ray indices and chords.

        Raises
        ------
        InputError
            Shapes do not fit the scan, or a ray is outside it.
        """
        chord = np.asarray(self.chord_cm, np.float32)
        if self.ray is None:
            if chord.shape != shape:
                refuse("Extra.chord_cm", f"shape {shape} (view, row, channel), or ray indices", chord.shape)
            ray = np.flatnonzero(chord)
            return ray, chord.ravel()[ray]
        ray = np.asarray(self.ray, np.int64)
        if ray.shape != chord.shape or ray.ndim != 1:
            refuse("Extra.ray", f"one index per chord {chord.shape}", ray.shape)
        if ray.size and (ray.min() < 0 or ray.max() >= np.prod(shape)):
            refuse("Extra.ray", f"flat indices below {np.prod(shape)}", f"{ray.min()} to {ray.max()}")
        return ray, chord


def efficiency(protocol: Protocol, energy_kev: ArrayLike) -> Array:
    """Probability that a photon that meets the absorber interacts in it, shape (energy,)."""
    detector = protocol.scanner.detector
    absorber = material(detector.absorber_material)
    depth = absorber.density_g_cm3 * detector.absorber_thickness_mm / 10.0
    return -np.expm1(-mass_attenuation(absorber, np.asarray(energy_kev, float))[0] * depth)


def detected_spectrum(
    protocol: Protocol, *, moment: int = 1, bin_width_kev: float = 1.0
) -> tuple[Array, Array]:
    """Energies [keV], and absorbed ``E**moment`` per channel and energy without an object.

    Returns
    -------
    energy_kev : array (n_energy,)
    spectrum : array (n_channel, n_energy), keV**moment / (mm2 mAs)
        At 1 m from the focal spot.
    """
    fluence = beam_fluence(protocol, bin_width_kev=bin_width_kev)
    energy = fluence["energy"].to_numpy()
    values = np.asarray(fluence.to_numpy(), float)
    used = values.max(axis=0) > 1e-9 * values.max()
    energy = energy[used]
    return energy, values[:, used] * efficiency(protocol, energy) * energy**moment


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


def _training_paths(paths: xr.Dataset, chord_cm: float) -> Array:
    """Basis line integrals that the scan's materials can give, without and with an extra's longest chord.

    Returns array (path, basis + 1); the last column is the chord.
    """
    names = [str(name) for name in paths["mixed_material"].to_numpy()]
    mu = mass_attenuation([*names, "water"], paths["energy"].to_numpy())
    coefficients = np.linalg.lstsq(paths["basis_mu"].to_numpy().T, mu.T, rcond=None)[0].T
    training = mass_paths(names) @ coefficients
    chords = (0.0, chord_cm) if chord_cm > 0 else (0.0,)
    return np.vstack([np.column_stack([training, np.full(len(training), chord)]) for chord in chords])


def detected(
    paths: xr.Dataset, protocol: Protocol, *, output_factor: float = 1.0, extra: Extra | None = None
) -> xr.Dataset:
    """Mean and quantum variance of the readings of a scan, per mAs of a view.

    Parameters
    ----------
    paths : Dataset
        From :func:`twinlab.ct.scan.line_integrals`.
    protocol : Protocol
        Gives tube voltage, filters, bowtie and detector; its geometry must be that of ``paths``.
    output_factor : float
        Photons of the real tube per photon of the model (from CTDI).
    extra : Extra, optional
        A further object on some rays.

    Returns
    -------
    Dataset
        ``signal`` and ``signal_variance`` (view, row, channel), ``air_signal`` (row, channel), view
        geometry and attrs of ``paths``; ``electronic_noise_kev`` in attrs. Readings differ from a sum over
        1 keV bins by 2e-5 at most (attr ``quadrature_error``) on the paths of
        :func:`twinlab.ct.basis.mass_paths`.

    Raises
    ------
    InputError
        The paths are of another detector, or ``output_factor`` is not positive.
    """
    check(paths, "path", "view_angle", "source_z", "mixing", where="detected")
    shape = paths["path"].shape[1:]
    fan = protocol.scanner.fan_angles_rad()
    rows = np.asarray(paths["row"].to_numpy(), float)
    if shape[2] != fan.size or protocol.scanner.key != paths.attrs.get("scanner"):
        refuse(
            "detected", f"paths through scanner {protocol.scanner.key!r}", repr(paths.attrs.get("scanner"))
        )
    if not output_factor > 0:
        refuse("detected: output_factor", "a number above 0", output_factor)
    energy, spectrum = detected_spectrum(protocol)
    spectrum2 = spectrum * energy
    names = [str(name) for name in paths["mixed_material"].to_numpy()]
    mu = paths["mixing"].to_numpy() @ mass_attenuation(names, energy)
    rule = energy_quadrature(mu, spectrum, spectrum2, _training_paths(paths, 0.0)[:, :-1])
    gain = _gain(protocol, rows) * output_factor
    path = paths["path"].to_numpy()
    signal, second = np.empty(shape, np.float32), np.empty(shape, np.float32)
    window = paths["row_lo"].to_numpy(), paths["row_hi"].to_numpy()
    with one_parallel_region():
        polychromatic(path, *_tables(mu, rule), gain.astype(np.float32), *window, signal, second)
    if extra is not None:
        mu_extra = np.interp(energy, extra.energy_kev, extra.mu_per_cm)
        training = _training_paths(paths, float(np.max(extra.chord_cm, initial=0.0)))
        rule_extra = energy_quadrature(np.vstack([mu, mu_extra]), spectrum, spectrum2, training)
        ray, chord = extra.listed(shape)
        at_nodes = mu_extra[rule_extra.node].astype(np.float32)
        with one_parallel_region():
            add_object(path, *_tables(mu, rule_extra), ray, chord, at_nodes, signal, second)
    fields: dict[str, Any] = {name: paths[name] for name in ("view_angle", "source_z", "row_lo", "row_hi")}
    coords = {name: paths[name] for name in ("row", "fan_angle", "u") if name in paths.coords}
    return xr.Dataset(
        {
            **fields,
            "signal": label("signal", signal, coords),
            "signal_variance": label("signal_variance", second, coords),
            "air_signal": label("air_signal", gain * spectrum.sum(axis=1), coords),
        },
        attrs={
            **paths.attrs,
            "kv": float(protocol.kv),
            "bowtie": protocol.bowtie,
            "output_factor": float(output_factor),
            "electronic_noise_kev": float(protocol.scanner.detector.electronic_noise_kev),
            "quadrature_nodes": int(rule.node.size),
            "quadrature_error": rule.error,
        },
    )


def _gain(protocol: Protocol, rows: Array) -> Array:
    """Fluence at 1 m to photons per cell, shape (row, channel)."""
    angle = cell_solid_angle(protocol, row_mm=rows).to_numpy()
    return np.asarray(angle * _REFERENCE_AREA_MM2 * protocol.scanner.detector.fill_factor)


def _tables(mu: Array, rule: Quadrature) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Attenuation at the nodes (node, basis or 4) and weights (node, channel) for the compiled loops."""
    nodes = np.zeros((rule.node.size, max(mu.shape[0], 4)), np.float32)
    nodes[:, : mu.shape[0]] = mu[:, rule.node].T
    return nodes, rule.weight.astype(np.float32), rule.weight2.astype(np.float32)
