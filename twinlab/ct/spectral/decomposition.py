"""Decomposition in the projections: line integrals of basis materials, with their covariance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from twinlab.ct.basis import mass_paths
from twinlab.ct.quadrature import energy_quadrature
from twinlab.ct.spectral.measurements import Measurements
from twinlab.kernels.decompose import MOST, decompose_rays
from twinlab.kernels.threads import one_parallel_region
from twinlab.physics.attenuation import mass_attenuation
from twinlab.schema import label, refuse

Array = NDArray[np.float64]


def decompose(measurements: Measurements, *, materials: Sequence[str] = ("water", "iodine")) -> xr.Dataset:
    """Line integrals of basis materials that explain the readings of each ray best.

    No polynomial and no calibration: the model of the scan itself is solved, by Fisher scoring of the
    quasi-likelihood (for independent Poisson counts: maximum likelihood). Bow-tie, filters and detector
    response are in it, so beam hardening by the basis materials is corrected.

    Parameters
    ----------
    measurements : Measurements
        From :func:`twinlab.ct.spectral.measurements_of_bins` or
        :func:`twinlab.ct.spectral.measurements_of_scans`.
    materials : sequence of str
        Two to four basis materials, at most as many as measurements. "iodine" stands for the element.

    Returns
    -------
    Dataset
        ``basis_path`` (basis_material, view, row, channel) [g/cm2] and ``basis_covariance``
        (basis_material, other_material, view, row, channel), the bound of Cramer and Rao at the estimate;
        geometry and attrs of the rays, ``unconverged`` (number of rays) in attrs.

    Raises
    ------
    InputError
        Too few or too many materials, or materials that the spectra cannot tell apart.

    Limits
    ------
    The model is that of the scan without scatter and cross-talk between cells: what these change is put down
    to materials. Readings with no quanta at all keep the line integral of a tenth of a quantum.

    References
    ----------
    Alvarez R E, Macovski A (1976) Phys Med Biol 21:733 (two materials). Schlomka J P et al. (2008) Phys Med
    Biol 53:4031 (maximum likelihood from photon-counting bins). McCullagh P (1983) Ann Stat 11:59
    (quasi-likelihood).
    """
    names = _checked(measurements, materials)
    mu, weight = _model(measurements.spectra, names)
    shape = measurements.transmission.shape[1:]
    path = np.zeros((len(names), *shape), np.float32)
    covariance = np.zeros((len(names), len(names), *shape), np.float32)
    failed = np.zeros(shape[0], np.int64)
    geometry = measurements.geometry
    window = geometry["row_lo"].to_numpy(), geometry["row_hi"].to_numpy()
    with one_parallel_region():
        decompose_rays(
            measurements.transmission, measurements.quanta, mu, weight, np.linalg.inv(measurements.correlation),
            *window, path, covariance, failed,
        )  # fmt: skip
    coords: dict[str, Any] = {n: geometry[n] for n in ("row", "fan_angle", "u") if n in geometry.coords}
    coords["basis_material"] = list(names)
    return geometry.assign(
        basis_path=label("basis_path", path, coords),
        basis_covariance=label("basis_covariance", covariance, {**coords, "other_material": list(names)}),
    ).assign_attrs(unconverged=int(failed.sum()))


def path_covariance(
    spectra: Sequence[tuple[ArrayLike, ArrayLike]],
    *,
    quanta: ArrayLike,
    path_g_cm2: ArrayLike,
    materials: Sequence[str] = ("water", "iodine"),
    correlation: ArrayLike | None = None,
) -> Array:
    """Bound of Cramer and Rao on the covariance of a ray's line integrals.

    Parameters
    ----------
    spectra : sequence of (energy_kev (energy,), spectrum (energy,))
        What each measurement reads without an object, by photon energy; any scale.
    quanta : array (measurement,)
        Effective quanta of the measurements without an object.
    path_g_cm2 : array (material,)
        Line integrals at which the bound is wanted.
    materials : sequence of str
    correlation : array (measurement, measurement), optional
        Default: independent measurements.

    Returns
    -------
    array (material, material), g2/cm4

    Raises
    ------
    InputError
        As many quanta as spectra and as many line integrals as materials are needed.

    References
    ----------
    Roessl E, Herrmann C (2009) Cramer-Rao lower bound of basis image noise in multiple-energy x-ray imaging.
    Phys Med Biol 54:1307.
    """
    n_air, at = np.asarray(quanta, float), np.asarray(path_g_cm2, float)
    if n_air.shape != (len(spectra),) or at.shape != (len(materials),):
        refuse(
            "path_covariance",
            f"{len(spectra)} quanta, {len(materials)} line integrals",
            (n_air.shape, at.shape),
        )
    slope, through = np.empty((n_air.size, at.size)), np.empty(n_air.size)
    for s, (energy, spectrum) in enumerate(spectra):
        mu = mass_attenuation(list(materials), np.asarray(energy, float))
        behind = np.asarray(spectrum, float) * np.exp(-at @ mu)
        through[s] = behind.sum() / np.sum(spectrum)
        slope[s] = mu @ behind / behind.sum()
    root = np.sqrt(n_air * through)
    precision = np.linalg.inv(np.eye(n_air.size) if correlation is None else np.asarray(correlation, float))
    return np.linalg.inv(slope.T @ (precision * np.outer(root, root)) @ slope)


def _checked(measurements: Measurements, materials: Sequence[str]) -> tuple[str, ...]:
    names, n = tuple(materials), len(measurements.spectra)
    if not 2 <= len(names) <= min(n, MOST):
        refuse("decompose: materials", f"2 to {min(n, MOST)} for {n} measurements", len(names))
    shapes = {"transmission": measurements.transmission.shape, "quanta": measurements.quanta.shape}
    if len(set(shapes.values())) > 1 or measurements.transmission.shape[0] != n:
        refuse("decompose: measurements", f"{n} of one shape (measurement, view, row, channel)", shapes)
    slopes = np.empty((n, len(names)))
    for s, (energy, spectrum) in enumerate(measurements.spectra):
        slopes[s] = (
            mass_attenuation(list(names), energy)
            @ spectrum[spectrum.shape[0] // 2]
            / spectrum[spectrum.shape[0] // 2].sum()
        )
    singular = np.linalg.svd(slopes / np.linalg.norm(slopes, axis=0), compute_uv=False)
    if singular[-1] < 1e-4 * singular[0]:
        refuse(
            "decompose", f"spectra that tell {' and '.join(names)} apart", "spectra or materials too alike"
        )
    return names


def _model(spectra: Sequence[tuple[Array, Array]], names: Sequence[str]) -> tuple[Array, Array]:
    """Attenuation (measurement, node, material) and weights (measurement, node, channel) of few energies."""
    paths = mass_paths(names)
    if "water" in names:
        paths[:, list(names).index("water")] += paths[:, -1]
        paths = paths[:, :-1]
    else:
        paths = paths[paths[:, -1] == 0.0, :-1]
    rules = []
    for energy, spectrum in spectra:
        mu = mass_attenuation(list(names), energy)
        rule = energy_quadrature(mu, spectrum, spectrum, paths)
        rules.append((mu[:, rule.node].T, rule.weight / spectrum.sum(axis=1)))
    n_node = max(len(mu) for mu, _ in rules)
    mu_all = np.zeros((len(rules), n_node, len(names)))
    weight_all = np.zeros((len(rules), n_node, rules[0][1].shape[1]))
    for s, (mu, weight) in enumerate(rules):
        mu_all[s, : len(mu)] = mu
        weight_all[s, : len(mu)] = weight
    return mu_all, weight_all
