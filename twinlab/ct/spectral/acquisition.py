"""Scan with a photon-counting detector: counts by energy bin, air calibration, logarithms, water correction."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from twinlab.ct.corrections import LONGEST_MM, REFERENCE_MM, TERMS, fit_polynomials
from twinlab.ct.electronics import check_seed
from twinlab.ct.scan import mas_per_view
from twinlab.ct.spectral.counted import (
    CountTables,
    PileUp,
    bin_spectra,
    count_correlation,
    count_tables,
    mean_quantities,
    noise_growth,
    pile_up_of,
    without_pile_up,
)
from twinlab.kernels import philox
from twinlab.kernels.counts import draw_counts
from twinlab.kernels.readings import take_logarithm
from twinlab.kernels.threads import one_parallel_region
from twinlab.physics.attenuation import linear_attenuation_per_mm
from twinlab.scanner import Protocol
from twinlab.schema import check, label, refuse

_STREAM = np.uint64(0x70686F74)
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

    Returns
    -------
    Dataset
        ``counts`` (bin, view, row, channel) and ``air_counts`` (bin, row, channel), both for views of the mean
        exposure; ``view_exposure`` (view) relative to it; ``count_correlation`` (bin, other_bin); geometry,
        ``kv``, ``mas``, ``seed``, ``quadrature_error`` in attrs. Rows that were not computed are 0.

    Raises
    ------
    InputError
        The detector integrates energy; the exposure, seed or paths do not fit.

    Limits
    ------
    Counts of neighbouring cells are drawn independently: their covariance by charge sharing and fluorescence
    (offsets 1 to 3 of ``response_product``) is left out, as is the loss of resolution that goes with it. The
    variance after pile-up is that of a Poisson process of the recorded rate, which is too large by
    ``(1 + load)**2`` for a nonparalysable counter. No scatter, no heel.
    """
    check(paths, "path", "view_angle", "source_z", "mixing", where="acquire_counts")
    _fits(paths, protocol, seed, realisation, output_factor)
    exposure = mas_per_view(paths, protocol, mas=mas).astype(float)
    tables = count_tables(paths, protocol, output_factor=output_factor)
    pile_up = pile_up_of(protocol)
    shape = paths["path"].shape[1:]
    counts = np.zeros((tables.n_bin, *shape), np.float32)
    k0, k1 = philox.key(int(seed))
    for views in _blocks(shape, len(tables.air)):
        quantities = _recorded(paths.isel(view=views), tables, exposure[views], pile_up)
        if noise:
            flat = quantities.reshape(len(quantities), -1)
            drawn = np.empty((tables.n_bin, flat.shape[1]), np.float32)
            first = np.uint64(views.start * shape[1] * shape[2])
            with one_parallel_region():
                draw_counts(
                    flat[: tables.n_bin], flat[tables.n_bin :], first, np.uint64(int(realisation)), k0,
                    k1 ^ _STREAM, drawn,
                )  # fmt: skip
            quantities = drawn.reshape(-1, *quantities.shape[1:])
        counts[:, views] = quantities[: tables.n_bin]
    row = np.arange(shape[1])
    seen = (row >= paths["row_lo"].to_numpy()[:, None]) & (row < paths["row_hi"].to_numpy()[:, None])
    counts *= seen[np.newaxis, :, :, np.newaxis]
    mean_mas = float(exposure.mean())
    air = (tables.air * mean_mas).astype(np.float32)[:, np.newaxis]
    air = (air if pile_up is None else pile_up.apply(air, tables.n_bin))[: tables.n_bin, 0]
    return _dataset(paths, protocol, counts, air, exposure / mean_mas, {
        "output_factor": float(output_factor), "mas": mean_mas * protocol.scanner.views_per_rotation,
        "seed": int(seed), "realisation": int(realisation), "noise": int(noise),
        "quadrature_error": tables.error,
    })  # fmt: skip


def _fits(paths: xr.Dataset, protocol: Protocol, seed: int, realisation: int, output_factor: float) -> None:
    n_channel = protocol.scanner.detector.n_channels
    if paths["path"].shape[3] != n_channel or protocol.scanner.key != paths.attrs.get("scanner"):
        expected = f"paths through scanner {protocol.scanner.key!r}"
        refuse("acquire_counts", expected, repr(paths.attrs.get("scanner")))
    if not output_factor > 0:
        refuse("acquire_counts: output_factor", "a number above 0", output_factor)
    check_seed(seed, realisation, where="acquire_counts")


def _blocks(shape: tuple[int, ...], n_quantity: int) -> Iterator[slice]:
    step = max(1, _BLOCK_BYTES // (4 * n_quantity * shape[1] * shape[2]))
    for start in range(0, shape[0], step):
        yield slice(start, min(start + step, shape[0]))


def _recorded(paths: xr.Dataset, tables: CountTables, exposure: Array, pile_up: PileUp | None) -> Floats:
    """Means and products of the counts of some views, (quantity, view, row, channel)."""
    quantities = mean_quantities(paths, tables)
    quantities *= exposure.astype(np.float32)[:, np.newaxis, np.newaxis]
    np.maximum(quantities, 0.0, out=quantities)
    return quantities if pile_up is None else pile_up.apply(quantities, tables.n_bin)


def _dataset(
    paths: xr.Dataset, protocol: Protocol, counts: Floats, air: Floats, relative: Array, attrs: dict[str, Any]
) -> xr.Dataset:
    coords: dict[str, Any] = {n: paths[n] for n in ("row", "fan_angle", "u") if n in paths.coords}
    counting = protocol.scanner.detector.counting
    assert counting is not None
    coords["threshold"] = ("bin", list(counting.thresholds_kev))
    kept = ("view_angle", "source_z", "row_lo", "row_hi", "focal_shift", "tube_current", "tube_kv")
    fields = {name: paths[name] for name in kept if name in paths}
    correlation = count_correlation(bin_spectra(protocol))
    return xr.Dataset(
        {
            **fields,
            "counts": label("counts", counts, coords),
            "air_counts": label("air_counts", air, coords),
            "view_exposure": label("view_exposure", relative),
            "count_correlation": label("count_correlation", correlation),
        },
        attrs={**paths.attrs, "kv": float(protocol.kv), "bowtie": protocol.bowtie, **attrs},
    )


def bin_projections(counts: xr.Dataset, protocol: Protocol) -> list[xr.Dataset]:
    """Water-corrected projections of each bin, as if it were a scan of its own.

    Parameters
    ----------
    counts : Dataset
        From :func:`acquire_counts`.
    protocol : Protocol

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
    check(counts, "counts", "air_counts", "count_correlation", where="bin_projections")
    counts = without_pile_up(counts, protocol)
    growth = noise_growth(counts, protocol)
    dispersion = np.diagonal(counts["count_correlation"].to_numpy())
    window = counts["row_lo"].to_numpy(), counts["row_hi"].to_numpy()
    exposure = counts["view_exposure"].to_numpy().astype(np.float32)
    coords = {name: counts[name] for name in ("row", "fan_angle", "u") if name in counts.coords}
    kept = ("view_angle", "source_z", "row_lo", "row_hi", "focal_shift")
    fields = {name: counts[name] for name in kept if name in counts}
    scans = []
    for b, (polynomial, raw_max, mu_water) in enumerate(bin_corrections(protocol)):
        # the kernel multiplies by the exposure of the view
        signal = counts["counts"].to_numpy()[b] / exposure[:, None, None]
        projection, variance = np.zeros_like(signal), np.zeros_like(signal)
        with one_parallel_region():
            take_logarithm(
                signal, signal * np.float32(dispersion[b] * growth), counts["air_counts"].to_numpy()[b], exposure,
                np.float32(0.0), polynomial, raw_max, *window, counts["counts"].to_numpy()[b], projection,
                variance,
            )  # fmt: skip
        attrs = {"mu_water_per_mm": mu_water, "threshold_kev": float(counts["threshold"][b]), "bin": b}
        scans.append(
            xr.Dataset(
                {
                    **fields,
                    "projection": label("projection", projection, coords),
                    "variance": label("variance", variance, coords),
                },
                attrs={**counts.attrs, **attrs},
            )
        )
    return scans


def bin_corrections(protocol: Protocol) -> list[tuple[Floats, Floats, float]]:
    """Water correction of each bin: polynomials (1, power, channel), range (1, channel), mu of water [1/mm]."""
    spectra = bin_spectra(protocol)
    length = np.linspace(0.0, LONGEST_MM, 251)[1:]
    water = linear_attenuation_per_mm("water", spectra.energy_kev)
    middle = int(np.argmin(np.abs(protocol.scanner.fan_angles_rad())))
    out = []
    for spectrum in spectra.bins:
        air = spectrum.sum(axis=1)
        raw = -np.log(np.exp(-np.outer(length, water)) @ spectrum.T / air)
        reference = -np.log(np.exp(-REFERENCE_MM * water) @ spectrum[middle] / air[middle]) / REFERENCE_MM
        coefficients, raw_max, _ = fit_polynomials(raw, reference * length)
        polynomial = np.ascontiguousarray(coefficients.T[np.newaxis], np.float32)
        assert polynomial.shape[1] == TERMS
        out.append((polynomial, raw_max[np.newaxis].astype(np.float32), float(reference)))
    return out
