"""Scan with a photon-counting detector: counts by energy bin, air calibration, logarithms, water correction."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from twinlab.ct.corrections import LONGEST_MM, REFERENCE_MM, fit_polynomials
from twinlab.ct.detector import one_voltage
from twinlab.ct.electronics import Faults, check_seed, loops_on
from twinlab.ct.sampling import sub_samples
from twinlab.ct.scan import mas_per_view
from twinlab.ct.spectral.counted import bin_spectra, noise_growth, without_pile_up
from twinlab.ct.spectral.counter import counter
from twinlab.kernels import cuda_memory as memory
from twinlab.kernels.device import Device, namespace, resolve
from twinlab.kernels.threads import one_parallel_region
from twinlab.physics.attenuation import linear_attenuation_per_mm
from twinlab.scanner import Protocol, beam_knots_mm, row_weights
from twinlab.schema import check, label, refuse

_BLOCK_BYTES = 64 << 20

Array = NDArray[np.float64]
Floats = NDArray[np.float32]


def acquire_counts(
    paths: xr.Dataset,
    protocol: Protocol,
    *,
    seed: int,
    realisation: int = 0,
    output_factor: float = 1.0,
    noise: bool = True,
    mas: float | None = None,
    faults: Faults | None = None,
    device: Device = "auto",
) -> xr.Dataset:
    """Counts by energy bin of one scan with a photon-counting detector.

    Mean counts are ``sum_E N(E) R(bin, E) exp(-path)`` with the response of
    :func:`twinlab.ct.spectral.counting_response`, changed by pile-up. Noise has the mean and the covariance
    between bins of photons that may be counted more than once (compound Poisson); counts are whole numbers.

    Parameters
    ----------
    paths : Dataset
        From :func:`twinlab.ct.line_integrals`.
    protocol : Protocol
        Its scanner has a photon-counting detector.
    seed, realisation : int
        Name the noise, which is the same for any thread count and order.
    output_factor : float
        Photons of the real tube per photon of the model (from CTDI).
    noise : bool
        False: mean counts.
    mas : float, optional
        Tube current times rotation time; see :func:`twinlab.ct.acquire`. A ``tube_current`` (view) of the
        trajectory is followed, with this mean.
    faults : Faults, optional
        ``gain``, ``dead`` cells (their transmission interpolated where ``repaired``) and ``air_views``.
    device : "auto", "cpu" or "cuda"
        Where energies are summed and counts drawn, with the same random numbers.

    Returns
    -------
    Dataset
        ``counts`` (bin, view, row, channel) and ``air_counts`` (bin, row, channel), both for views of the mean
        exposure; ``view_exposure`` (view) relative to it; ``count_correlation`` (bin, other_bin); geometry,
        ``kv``, ``mas``, ``seed``, ``quadrature_error`` in attrs. Rows that were not computed are 0.

    Raises
    ------
    InputError
        The detector integrates energy, or has parts that only integrating ones have; the exposure, seed or paths
        do not fit; two tube voltages; more sampling points than ``paths`` has.

    Limits
    ------
    Covariance of neighbouring cells by charge sharing and fluorescence is drawn with the strength that it has
    behind 20 cm of water; the loss of resolution that goes with it is left out. The variance after pile-up is that
    of a Poisson process of the recorded rate, which is too large by ``(1 + load)**2`` for a nonparalysable counter.
    No scatter: see :func:`twinlab.ct.scan_phantom`.
    """
    where = resolve(device, where="acquire_counts")
    check(paths, "path", "view_angle", "source_z", "mixing", where="acquire_counts")
    one_voltage(paths, protocol, where="acquire_counts")
    _fits(paths, protocol)
    check_seed(seed, realisation, where="acquire_counts")
    per_view = mas_per_view(paths, protocol, mas=mas)
    mean = float(per_view.mean(dtype=float))
    reader = counter(
        paths, protocol, mas=mean, seed=seed, realisation=realisation, noise=noise, output_factor=output_factor,
        faults=faults, device=where,
    )  # fmt: skip
    shape = paths["path"].shape[1:]
    counts = np.zeros((reader.tables.n_bin, *shape), np.float32)
    window = paths["row_lo"].to_numpy(), paths["row_hi"].to_numpy()
    for views in _blocks(shape, reader.n_moments):
        reader.count(
            reader.moments(paths.isel(view=views)), mas=per_view[views], first_view=views.start,
            window=(window[0][views], window[1][views]), counts=counts[:, views],
        )  # fmt: skip
    data, attrs = reader.described(counts, paths, per_view)
    kept = ("view_angle", "source_z", "row_lo", "row_hi", "focal_shift", "tube_current")
    fields = {name: paths[name] for name in kept if name in paths}
    return xr.Dataset({**fields, **data}, attrs={**paths.attrs, **attrs})


def _fits(paths: xr.Dataset, protocol: Protocol) -> None:
    n_channel = protocol.scanner.detector.n_channels
    if paths["path"].shape[3] != n_channel or protocol.scanner.key != paths.attrs.get("scanner"):
        expected = f"paths through scanner {protocol.scanner.key!r}"
        refuse("acquire_counts", expected, repr(paths.attrs.get("scanner")))
    points = len(sub_samples(protocol))
    if points > 1 and "sample" not in paths.attrs:
        expected = "line integrals of one stated sample, or a protocol with a sampling of 1 (ct.scan_phantom averages)"
        refuse("acquire_counts: paths", expected, f"a protocol with {points} sampling points")


def _blocks(shape: tuple[int, ...], n_quantity: int) -> Iterator[slice]:
    step = max(1, _BLOCK_BYTES // (4 * n_quantity * shape[1] * shape[2]))
    for start in range(0, shape[0], step):
        yield slice(start, min(start + step, shape[0]))


def bin_projections(counts: xr.Dataset, protocol: Protocol, *, device: Device = "auto") -> list[xr.Dataset]:
    """Water-corrected projections of each bin, as if it were a scan of its own.

    Parameters
    ----------
    counts : Dataset
        From :func:`acquire_counts` or :func:`twinlab.ct.scan_phantom`; of some views, ``counts.isel(view=...)``,
        where memory is short.
    protocol : Protocol
    device : "auto", "cpu" or "cuda"
        Where pile-up is undone and logarithms are taken.

    Returns
    -------
    list of Dataset, one for each bin
        ``projection`` and ``variance`` (view, row, channel) with geometry, ``mu_water_per_mm`` and
        ``threshold_kev`` in attrs: what :func:`twinlab.ct.reconstruct` takes.

    Raises
    ------
    InputError
        No counts, or the detector integrates energy.

    Limits
    ------
    Readings of less than a tenth of a count are raised to it before the logarithm. ``variance`` is linear
    propagation about the reading itself. Pile-up is undone with the detector's own model first.
    """
    where = resolve(device, where="bin_projections")
    check(counts, "counts", "air_counts", "count_correlation", where="bin_projections")
    counts = without_pile_up(counts, protocol, device=where)
    return [_projections(counts, protocol, slice(b, b + 1), where) for b in range(counts.sizes["bin"])]


def threshold_projections(
    counts: xr.Dataset, protocol: Protocol, *, threshold: int = 0, device: Device = "auto"
) -> xr.Dataset:
    """Water-corrected projections of all counts above a threshold, as a counter with this one alone gives them.

    Parameters
    ----------
    counts : Dataset
        From :func:`acquire_counts` or :func:`twinlab.ct.scan_phantom`.
    protocol : Protocol
    threshold : int
        Its number: 0 for all counts, which have the least noise.
    device : "auto", "cpu" or "cuda"
        Where pile-up is undone and logarithms are taken.

    Returns
    -------
    Dataset
        As one of :func:`bin_projections`.

    Raises
    ------
    InputError
        No counts, the detector integrates energy, or it has no such threshold.
    """
    where = resolve(device, where="threshold_projections")
    check(counts, "counts", "air_counts", "count_correlation", where="threshold_projections")
    n_bin = counts.sizes["bin"]
    if not 0 <= threshold < n_bin:
        refuse("threshold_projections: threshold", f"0 to {n_bin - 1}", threshold)
    counts = without_pile_up(counts, protocol, device=where)
    return _projections(counts, protocol, slice(int(threshold), n_bin), where)


def summed(counts: Any, correlation: Array) -> tuple[Any, Any]:
    """Sum of the counts of some bins (bin, ...), and its variance, in any array namespace."""
    xp = namespace(counts)
    variance = xp.zeros_like(counts[0, ...])
    for b, c in itertools.product(range(counts.shape[0]), repeat=2):
        shared = counts[b, ...] if b == c else xp.sqrt(counts[b, ...] * counts[c, ...])
        variance = variance + float(correlation[b, c]) * shared
    return xp.sum(counts, axis=0), variance


def _projections(
    counts: xr.Dataset, protocol: Protocol, bins: slice, where: Literal["cpu", "cuda"]
) -> xr.Dataset:
    """Projections of the sum of neighbouring bins; pile-up is undone already."""
    spectra = bin_spectra(protocol)
    polynomial, raw_max, mu_water = _water_polynomials(
        protocol, spectra.energy_kev, spectra.bins[bins].sum(axis=0)
    )
    projection, variance = _logarithms(counts, protocol, bins, polynomial, raw_max, where)
    coords = {name: counts[name] for name in ("row", "fan_angle", "u") if name in counts.coords}
    kept = ("view_angle", "source_z", "row_lo", "row_hi", "focal_shift")
    attrs = {
        "mu_water_per_mm": mu_water, "threshold_kev": float(counts["threshold"][bins.start]), "bin": bins.start
    }  # fmt: skip
    return xr.Dataset(
        {
            **{name: counts[name] for name in kept if name in counts},
            "projection": label("projection", projection, coords),
            "variance": label("variance", variance, coords),
        },
        attrs={**counts.attrs, **attrs},
    )


def _logarithms(
    counts: xr.Dataset,
    protocol: Protocol,
    bins: slice,
    polynomial: Floats,
    raw_max: Floats,
    where: Literal["cpu", "cuda"],
) -> tuple[Floats, Floats]:
    """Logarithm of the sum of some bins against air, corrected for water, and its variance."""
    window = counts["row_lo"].to_numpy(), counts["row_hi"].to_numpy()
    exposure = counts["view_exposure"].to_numpy().astype(np.float32)
    every = counts["counts"].to_numpy()
    there = where == "cuda"
    if there:
        every = memory.algebra(memory.put(every))
    xp = namespace(every)
    reading, second = summed(every[bins, ...], counts["count_correlation"].to_numpy()[bins, bins])
    second = second * noise_growth(every, protocol)
    air = np.ascontiguousarray(counts["air_counts"].to_numpy()[bins].sum(axis=0))
    scale = xp.asarray(exposure)[:, None, None]  # the kernel multiplies by the exposure of the view
    inputs = [reading / scale, second / scale]
    projection: Any = np.zeros(reading.shape, np.float32)
    variance: Any = np.zeros(reading.shape, np.float32)
    if there:
        projection, variance, reading, *inputs = map(memory.there, (projection, variance, reading, *inputs))
    with one_parallel_region():
        loops_on(where).take_logarithm(
            *inputs, air, exposure, np.float32(0.0), polynomial, raw_max, *window, reading, projection,
            variance,
        )  # fmt: skip
    return (projection.copy_to_host(), variance.copy_to_host()) if there else (projection, variance)


def _water_polynomials(
    protocol: Protocol, energy_kev: Array, spectrum: Array
) -> tuple[Floats, Floats, float]:
    """Water correction of a spectrum (knot, channel, energy).

    Polynomials (row or 1, power, channel), range (row or 1, channel) and mu of water at the reference energy [1/mm].
    """
    length = np.linspace(0.0, LONGEST_MM, 251)[1:]
    water = linear_attenuation_per_mm("water", energy_kev)
    middle = int(np.argmin(np.abs(protocol.scanner.fan_angles_rad())))
    central = spectrum[len(spectrum) // 2, middle]
    reference = -np.log(np.exp(-REFERENCE_MM * water) @ central / central.sum()) / REFERENCE_MM
    polynomial, raw_max = [], []
    for own in spectrum:
        raw = -np.log(np.exp(-np.outer(length, water)) @ own.T / own.sum(axis=1))
        fitted = fit_polynomials(raw, reference * length)
        polynomial.append(fitted[0].T)
        raw_max.append(fitted[1])
    between = row_weights(beam_knots_mm(protocol), protocol.row_positions_mm())
    table = np.einsum("rk,kpc->rpc", between, polynomial)
    return (
        np.ascontiguousarray(table, np.float32), (between @ np.array(raw_max)).astype(np.float32), float(reference)
    )  # fmt: skip
