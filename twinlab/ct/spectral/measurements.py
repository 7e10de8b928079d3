"""Measurements of several spectra along the same rays, in one form for bins, tube voltages and sources."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from twinlab.ct.corrections import undo_correction, water_correction
from twinlab.ct.detector import detected_spectrum
from twinlab.ct.spectral.counted import bin_spectra, noise_growth, without_pile_up
from twinlab.kernels.device import Device
from twinlab.scanner import Protocol, beam_knots_mm, row_weights
from twinlab.schema import check, refuse

Array = NDArray[np.float64]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Measurements:
    """Readings of the same rays with two or more spectra.

    Attributes
    ----------
    transmission : float32 array (measurement, view, row, channel)
        Readings relative to air.
    quanta : float32 array (measurement, view, row, channel)
        Effective quanta (mean squared over variance) of the ray without an object.
    spectra : list of (energy_kev, spectrum (knot, channel, energy)), one for each measurement
        Readings without an object by photon energy; any scale.
    between : array (row, knot)
        Weights of the rows of :func:`twinlab.scanner.beam_knots_mm`; (1, 1) where all rows are alike.
    correlation : array (measurement, measurement)
        Covariance of readings over the root of the product of their effective quanta.
    geometry : Dataset
        View geometry, windows and attrs of the rays.
    """

    transmission: Floats
    quanta: Floats
    spectra: list[tuple[Array, Array]]
    between: Array
    correlation: Array
    geometry: xr.Dataset


def measurements_of_bins(counts: xr.Dataset, protocol: Protocol, *, device: Device = "auto") -> Measurements:
    """Energy bins of a photon-counting scan as measurements, pile-up undone with the detector's own model.

    Parameters
    ----------
    counts : Dataset
        From :func:`twinlab.ct.spectral.acquire_counts`.
    protocol : Protocol
    device : "auto", "cpu" or "cuda"
        Where pile-up is undone.

    Raises
    ------
    InputError
        No counts, or the detector integrates energy.
    """
    check(counts, "counts", "air_counts", "view_exposure", "count_correlation", where="measurements_of_bins")
    counts = without_pile_up(counts, protocol, device=device)
    spectra = bin_spectra(protocol)
    exposure = counts["view_exposure"].to_numpy().astype(np.float32)[:, None, None]
    air = counts["air_counts"].to_numpy()[:, np.newaxis] * exposure
    return Measurements(
        (counts["counts"].to_numpy() / air).astype(np.float32),
        (air / noise_growth(counts["counts"].to_numpy(), protocol)).astype(np.float32),
        [(spectra.energy_kev, spectrum) for spectrum in spectra.bins],
        _between(counts, protocol),
        counts["count_correlation"].to_numpy().astype(float),
        _geometry(counts),
    )


def measurements_of_scans(scans: Sequence[tuple[xr.Dataset, Protocol]]) -> Measurements:
    """Scans of energy-integrating detectors at several tube voltages as measurements.

    Parameters
    ----------
    scans : sequence of (projections, protocol)
        From :func:`twinlab.ct.acquire` or :func:`twinlab.ct.simulate`'s projections, of the same rays: two
        rotations, or kV switching after :func:`twinlab.scanner.second.aligned`. Their water correction is
        undone.

    Raises
    ------
    InputError
        Fewer than two scans, scans of different rays, or a photon-counting detector.
    """
    if len(scans) < 2:
        refuse("measurements_of_scans", "two scans or more", len(scans))
    first = scans[0][0]
    transmission, quanta, spectra = [], [], []
    for projections, protocol in scans:
        check(projections, "projection", "view_angle", where="measurements_of_scans")
        if protocol.scanner.detector.counting is not None:
            refuse("measurements_of_scans", "energy-integrating detectors", protocol.scanner.key)
        if projections["projection"].shape != first["projection"].shape or not np.allclose(
            projections["view_angle"], first["view_angle"], atol=1e-6
        ):
            refuse("measurements_of_scans", "scans of the same rays", "other view angles or shapes")
        raw, slope = undo_correction(projections["projection"].to_numpy(), water_correction(protocol))
        through = np.exp(-raw)
        transmission.append(through.astype(np.float32))
        if "variance" in projections:
            variance = projections["variance"].to_numpy() / slope**2
            quanta.append((1.0 / np.maximum(variance * through, 1e-20)).astype(np.float32))
        else:
            quanta.append(np.ones(raw.shape, np.float32))
        spectra.append(knot_spectra(protocol))
    if len({spectrum.shape[:2] for _, spectrum in spectra}) > 1:
        refuse("measurements_of_scans", "beams that all vary over the rows, or all do not", "some of both")
    return Measurements(
        np.stack(transmission), np.stack(quanta), spectra, _between(first, scans[0][1]), np.eye(len(scans)),
        _geometry(first),
    )  # fmt: skip


def knot_spectra(protocol: Protocol) -> tuple[Array, Array]:
    """Energies, and detected spectra (knot, channel, energy) in the rows of :func:`twinlab.scanner.beam_knots_mm`."""
    found = [detected_spectrum(protocol, row_mm=float(row)) for row in beam_knots_mm(protocol)]
    return found[0][0], np.stack([spectrum for _, spectrum in found])


def _between(scan: xr.Dataset, protocol: Protocol) -> Array:
    return row_weights(beam_knots_mm(protocol), scan["row"].to_numpy())


def _geometry(scan: xr.Dataset) -> xr.Dataset:
    kept = ("view_angle", "source_z", "row_lo", "row_hi", "focal_shift")
    coords = {name: scan[name] for name in ("row", "fan_angle", "u") if name in scan.coords}
    return xr.Dataset({name: scan[name] for name in kept if name in scan}, coords=coords, attrs=scan.attrs)
