"""Decomposition in the projections: line integrals of basis materials, with their covariance."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from twinlab.ct.basis import mass_paths
from twinlab.ct.quadrature import energy_quadrature
from twinlab.ct.spectral.measurements import Measurements
from twinlab.kernels import cuda_decompose
from twinlab.kernels.decompose import TOGETHER, decompose_rays
from twinlab.kernels.decompose_ray import MOST
from twinlab.kernels.device import Device, resolve
from twinlab.kernels.threads import one_parallel_region
from twinlab.keys import content_key
from twinlab.physics.attenuation import mass_attenuation
from twinlab.schema import label, refuse

Array = NDArray[np.float64]
Floats = NDArray[np.float32]

_KEPT = 4
_MODELS: dict[str, _Model] = {}


def decompose(
    measurements: Measurements,
    *,
    materials: Sequence[str] = ("water", "iodine"),
    covariance: bool = True,
    device: Device = "auto",
) -> xr.Dataset:
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
    covariance : bool
        Return ``basis_covariance``, which takes more memory than all the rest.
    device : "auto", "cpu" or "cuda"
        Where rays are solved; the results agree within a small part of the noise. A CUDA device takes at most
        eight measurements.

    Returns
    -------
    Dataset
        ``basis_path`` (basis_material, view, row, channel) [g/cm2] and ``basis_covariance``
        (basis_material, other_material, view, row, channel), the bound of Cramer and Rao at the estimate;
        geometry and attrs of the rays. In attrs ``slow_rays``, the number of rays that took the way of few
        quanta (one by one, in float64; on a CUDA device all rays), and ``unconverged``, those of them that did
        not converge.

    Raises
    ------
    InputError
        Too few or too many materials, or materials that the spectra cannot tell apart; "cuda" without a CUDA
        device, or with more measurements than it takes.

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
    names, where = _checked(measurements, materials), _on(measurements, device)
    model = _model(measurements, names)
    shape = measurements.transmission.shape[1:]
    path = np.zeros((len(names), *shape), np.float32)
    views = shape[0] if covariance else 0
    spread = np.zeros((len(names), len(names), views, *shape[1:]), np.float32)
    slow, failed = np.zeros(shape[0], np.int64), np.zeros(shape[0], np.int64)
    geometry = measurements.geometry
    window = geometry["row_lo"].to_numpy(), geometry["row_hi"].to_numpy()
    precision = np.linalg.inv(measurements.correlation)
    known = measurements.transmission, measurements.quanta, model.mu, model.weight, precision
    found = path, spread, slow, failed
    if where == "cuda":
        cuda_decompose.decompose_rays(*known, *window, *found)
    else:
        half = np.linalg.cholesky(precision).astype(np.float32)
        with one_parallel_region():
            decompose_rays(*known, half, model.first, model.power, model.coefficient, *window, *found)
    coords: dict[str, Any] = {n: geometry[n] for n in ("row", "fan_angle", "u") if n in geometry.coords}
    coords["basis_material"] = list(names)
    data = {"basis_path": label("basis_path", path, coords)}
    if covariance:
        named = {**coords, "other_material": list(names)}
        data["basis_covariance"] = label("basis_covariance", spread, named)
    return geometry.assign(data).assign_attrs(unconverged=int(failed.sum()), slow_rays=int(slow.sum()))


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


def _on(measurements: Measurements, device: Device) -> Literal["cpu", "cuda"]:
    """Where to solve: "auto" leaves more measurements than a CUDA device takes to the processor."""
    where, most, n = (
        resolve(device, where="decompose"),
        cuda_decompose.MOST_MEASURED,
        len(measurements.spectra),
    )
    if where == "cuda" and n > most:
        if device == "cuda":
            refuse("decompose: device", f"at most {most} measurements on a CUDA device", n)
        return "cpu"
    return where


def _checked(measurements: Measurements, materials: Sequence[str]) -> tuple[str, ...]:
    names, n = tuple(materials), len(measurements.spectra)
    if not 2 <= len(names) <= min(n, MOST):
        refuse("decompose: materials", f"2 to {min(n, MOST)} for {n} measurements", len(names))
    shapes = {"transmission": measurements.transmission.shape, "quanta": measurements.quanta.shape}
    if len(set(shapes.values())) > 1 or measurements.transmission.shape[0] != n:
        refuse("decompose: measurements", f"{n} of one shape (measurement, view, row, channel)", shapes)
    slopes = np.empty((n, len(names)))
    for s, (energy, spectrum) in enumerate(measurements.spectra):
        flat = np.asarray(spectrum).reshape(-1, np.size(energy))
        middle = flat[len(flat) // 2]
        slopes[s] = mass_attenuation(list(names), energy) @ middle / middle.sum()
    singular = np.linalg.svd(slopes / np.linalg.norm(slopes, axis=0), compute_uv=False)
    if singular[-1] < 1e-4 * singular[0]:
        refuse(
            "decompose", f"spectra that tell {' and '.join(names)} apart", "spectra or materials too alike"
        )
    return names


@dataclass(frozen=True)
class _Model:
    """What the compiled loop takes, see :func:`twinlab.kernels.decompose.decompose_rays`."""

    mu: Floats
    weight: Floats
    first: Floats
    power: NDArray[np.int64]
    coefficient: Floats


def _model(measurements: Measurements, names: Sequence[str]) -> _Model:
    """The model of some measurements; the last ones are kept, for scans that are decomposed in parts."""
    flat = [part for spectrum in measurements.spectra for part in spectrum]
    key = content_key(list(names), flat, measurements.between, measurements.transmission.shape[3])
    if key not in _MODELS:
        if len(_MODELS) >= _KEPT:
            _MODELS.pop(next(iter(_MODELS)))
        _MODELS[key] = _fitted(measurements, names)
    return _MODELS[key]


def _fitted(measurements: Measurements, names: Sequence[str]) -> _Model:
    """Few energies that serve all measurements, and the polynomial from which rays start."""
    paths = _paths(names)
    energy = np.unique(np.concatenate([e for e, _ in measurements.spectra]))
    mu = mass_attenuation(list(names), energy)
    knots = measurements.between.shape[1]
    n_channel = measurements.transmission.shape[3]
    spectra = np.zeros((len(measurements.spectra), knots, n_channel, energy.size))
    for s, (own, spectrum) in enumerate(measurements.spectra):
        placed = np.asarray(spectrum).reshape(knots, n_channel, own.size)
        spectra[s][..., np.searchsorted(energy, own)] = placed / placed.sum(axis=2, keepdims=True)
    flat = spectra.reshape(-1, energy.size)
    rule = energy_quadrature(mu, flat, flat, paths)
    # the compiled loop takes nodes by fours: more of weight 0
    more = -rule.node.size % TOGETHER
    weight = np.pad(rule.weight.reshape(-1, len(spectra), knots, n_channel), ((0, more), *3 * ((0, 0),)))
    nodes = np.pad(mu[:, rule.node].T, ((0, more), (0, 0)))
    between = np.einsum("rk,qskc->rsqc", measurements.between, weight)
    middle = np.einsum("k,skce->sce", measurements.between.mean(axis=0), spectra)
    start = _start(middle, mu, paths)
    return _Model(
        np.ascontiguousarray(nodes, np.float32),
        np.ascontiguousarray(between, np.float32),
        *start,
    )


def _paths(names: Sequence[str]) -> Array:
    """Line integrals at which the model must hold, (path, material)."""
    paths = mass_paths(names)
    if "water" not in names:
        return paths[paths[:, -1] == 0.0, :-1]
    paths[:, list(names).index("water")] += paths[:, -1]
    return np.unique(paths[:, :-1], axis=0)


def _start(spectra: Array, mu: Array, paths: Array) -> tuple[Floats, NDArray[np.int64], Floats]:
    """Polynomials from logarithms to line integrals, for each channel by least squares over ``paths``.

    Their variables are as many combinations of the logarithms as there are materials: the linear estimates at
    the middle of the paths. Errors of some per cent, which two or three steps remove.
    """
    n_mat, n_channel = mu.shape[0], spectra.shape[1]
    degree = {2: 4, 3: 3}.get(n_mat, 2)
    power = np.array([p for p in itertools.product(range(degree + 1), repeat=n_mat) if 0 < sum(p) <= degree])
    through = np.exp(-paths @ mu)
    reading = np.einsum("sce,pe->csp", spectra, through)
    slope = np.einsum("sce,pe,ke->cskp", spectra, through, mu, optimize=True) / reading[:, :, np.newaxis]
    linear = np.linalg.pinv(
        slope[..., np.argsort(paths.sum(axis=1))[len(paths) // 2]]
    )  # (channel, material, s)
    variable = np.einsum("cks,csp->ckp", linear, -np.log(reading))
    terms = np.prod(variable[:, np.newaxis] ** power[np.newaxis, :, :, np.newaxis], axis=2)
    size = np.abs(terms).max(axis=2, keepdims=True)
    solved = np.linalg.pinv((terms / size).transpose(0, 2, 1), rcond=1e-7) @ paths
    coefficient = (solved / size).transpose(1, 2, 0)
    first = -linear.transpose(1, 2, 0)
    assert first.shape[2] == n_channel
    # logarithms of transmissions are negative: the sign of the combinations is turned
    return np.ascontiguousarray(first, np.float32), power, np.ascontiguousarray(coefficient, np.float32)
