"""Scatter from the primary signal itself, by convolution, and its correction in projections."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from twinlab.ct.artefacts.neighbours import gaussian
from twinlab.ct.artefacts.scatter import air_signal, on_cells, scatter_by_transport
from twinlab.ct.corrections import correct_rays, undo_correction, water_correction
from twinlab.ct.detector import detected
from twinlab.ct.paths import line_integrals
from twinlab.kernels.device import namespace
from twinlab.keys import content_key
from twinlab.phantom.recipes import Recipe, from_recipe
from twinlab.scanner import Protocol, trajectory
from twinlab.schema import check, refuse

DIAMETERS_CM = (20.0, 32.0)
ROUNDS = 4  # primary from measured less scatter from primary: each round mends a tenth of the last
LEAST = 0.05  # share of a reading that is left to the primary whatever the estimate
_WIDTHS_MM = np.geomspace(20.0, 400.0, 25)
_EXPONENTS = np.arange(0.3, 1.25, 0.1)
_RAYS = 2**22  # corrected at a time: a dozen arrays of them in float64 stay below 0.5 GB

Array = NDArray[np.floating]
_CALIBRATED: dict[str, tuple[float, float, float, float]] = {}


@dataclass(frozen=True)
class ScatterKernel:
    """Scatter as the primary signal's potential to scatter, spread along the channels.

    ``S = amplitude * G(width) * <air (signal/air)^exponent ln(air / signal)>_rows``: a ray scatters the more
    the more of it has been absorbed, and the scattered photons are absorbed like itself (exponent 1) or less,
    as they find shorter ways out.

    Attributes
    ----------
    amplitude, exponent : float
    width_mm : float
        Standard deviation of the Gaussian G at the detector.
    channel_pitch_mm : float
    air : array (row, channel), keV/mAs
    residual : float
        Root mean square of kernel less transport, over the primary signal, in the calibration.
    """

    amplitude: float
    exponent: float
    width_mm: float
    channel_pitch_mm: float
    air: NDArray[np.float64]
    residual: float

    def __call__(self, signals: xr.Dataset) -> Any:
        """Scatter [keV/mAs] of every cell of some views, (view, row, channel), from ``signal`` of any namespace."""
        return self.of(signals["signal"].data)

    def of(self, signal: Any) -> Any:
        """As a call, of the array (view, row, channel) itself."""
        xp, width = namespace(signal), self.width_mm / self.channel_pitch_mm
        spread = self.amplitude * _spread(signal, self.air, self.exponent, width)
        return xp.astype(xp.broadcast_to(spread, signal.shape), xp.float32)


def _spread(signal: Any, air: Array, exponent: float, width: float) -> Any:
    """Potential to scatter, mean over the rows, spread along the channels; (view, 1, channel)."""
    xp = namespace(signal)
    without = xp.asarray(air)
    ratio = xp.clip(signal / without, min=1e-7, max=1.0)
    return gaussian(xp.mean(-without * ratio**exponent * xp.log(ratio), axis=1, keepdims=True), width)


def scatter_kernel(
    protocol: Protocol, *, histories: int = 2_000_000, seed: int = 1, output_factor: float = 1.0
) -> ScatterKernel:
    """Kernel of a protocol, calibrated by photon transport in water cylinders of 20 and 32 cm.

    Parameters
    ----------
    protocol : Protocol
    histories : int
        Photons per cylinder.
    seed : int
    output_factor : float
        See :func:`twinlab.ct.detected`.

    Returns
    -------
    ScatterKernel
        Kept in memory: a beam is calibrated once in a session.

    References
    ----------
    Ohnesorge B, Flohr T, Klingenbeck-Regn K (1999) Efficient object scatter correction algorithm for third
    and fourth generation CT scanners. Eur Radiol 9:563. Siewerdsen J H et al. (2006) A simple, direct method
    for x-ray scatter estimation and correction in digital radiography and cone-beam CT. Med Phys 33:187.
    """
    air = air_signal(protocol, output_factor=output_factor)
    key = content_key(
        protocol.kv, protocol.collimation_mm, protocol.bowtie, protocol.scanner, histories, seed
    )
    if key not in _CALIBRATED:
        _CALIBRATED[key] = _calibrate(protocol, histories, seed)
    amplitude, exponent, width, residual = _CALIBRATED[key]
    pitch = protocol.scanner.detector.channel_pitch_mm
    return ScatterKernel(amplitude, exponent, width, pitch, air, residual)


def _calibrate(protocol: Protocol, histories: int, seed: int) -> tuple[float, float, float, float]:
    """Amplitude, exponent, width [mm] and residual that fit transport best, relative to the primary signal."""
    half = 0.49 * protocol.collimation_mm
    view = trajectory(protocol, z_range_mm=(-half, half)).isel(view=[0])
    air, pitch = air_signal(protocol), protocol.scanner.detector.channel_pitch_mm
    signals, targets, channels = [], [], []
    for diameter in DIAMETERS_CM:
        phantom = _cylinder(diameter)
        found = scatter_by_transport(
            phantom, protocol, view, seed=seed, views=1, histories=histories, smooth_bins=2.0
        )
        signals.append(detected(line_integrals(phantom, protocol, view), protocol)["signal"].to_numpy())
        targets.append(found["scatter"].mean("row").to_numpy()[0])
        channels.append(found["channel"].to_numpy())
    places = np.arange(air.shape[1])

    def binned(values: list[Array]) -> Array:
        return np.concatenate([np.interp(at, places, v) for at, v in zip(channels, values, strict=True)])

    primary = binned([s.mean(axis=1)[0] for s in signals])
    target = np.concatenate(targets) / primary  # what counts in the image
    best = (0.0, 1.0, 0.0, np.inf)
    for exponent in _EXPONENTS:
        for width in _WIDTHS_MM:
            x = binned([_spread(s, air, exponent, width / pitch)[0, 0] for s in signals]) / primary
            amplitude = float(x @ target / (x @ x))
            error = float(np.sqrt(np.mean((amplitude * x - target) ** 2)))
            if error < best[3]:
                best = (amplitude, float(exponent), float(width), error)
    return best


def _cylinder(diameter_cm: float) -> xr.Dataset:
    side = dict.fromkeys("xy", 10.0 * diameter_cm + 8.0)
    body = {
        "shape": "cylinder", "name": "body", "material": "water", "organ": "water",
        "diameter_mm": 10.0 * diameter_cm, "length_mm": 300.0,
    }  # fmt: skip
    recipe = {
        "name": f"water_{diameter_cm:g}cm", "title": "water cylinder", "source": "analytic",
        "spacing_mm": {"x": 4.0, "y": 4.0, "z": 10.0}, "size_mm": {**side, "z": 300.0}, "shapes": [body],
    }  # fmt: skip
    return from_recipe(Recipe.make(recipe, where="scatter_kernel"))


def scatter_correction(
    projections: xr.Dataset, protocol: Protocol, scatter: xr.DataArray | ScatterKernel
) -> xr.Dataset:
    """Projections with an estimate of scatter taken out of the readings.

    The water correction is undone, scatter subtracted from the readings, and the correction made again.

    Parameters
    ----------
    projections : Dataset
        From :func:`twinlab.ct.acquire` or :func:`twinlab.ct.scan_phantom`, water-corrected.
    protocol : Protocol
    scatter : DataArray or ScatterKernel
        ``scatter`` of :func:`scatter_by_transport`, or a kernel, which finds primary and scatter in turns.

    Returns
    -------
    Dataset
        As ``projections``; attr ``scatter_corrected`` is the mean share of the readings that was taken out.

    Raises
    ------
    InputError
        Projections or scatter of another scanner.

    Limits
    ------
    At most 95 % of a reading is taken for scatter. Noise of the readings stays: their variance relative to
    the primary signal grows. ``projection`` may be of any array library; it is corrected in float64.
    """
    check(projections, "projection", where="scatter_correction")
    if projections.attrs.get("scanner") != protocol.scanner.key:
        scanner = projections.attrs.get("scanner")
        refuse("scatter_correction", f"projections of {protocol.scanner.key!r}", repr(scanner))
    air = air_signal(protocol, output_factor=float(projections.attrs.get("output_factor", 1.0)))
    correction = water_correction(protocol)
    values = projections["projection"].data
    xp, n_view = namespace(values), values.shape[0]
    places = projections.assign_coords(view=projections["view"].to_numpy())
    step = max(1, _RAYS // max(air.size, 1))
    parts, taken = [], 0.0
    for first in range(0, n_view, step):
        views = slice(first, min(first + step, n_view))
        raw, _ = undo_correction(values[views, ...], correction)
        reading = xp.asarray(air) * xp.exp(-raw)
        primary = _primary(reading, scatter, places.isel(view=views))
        raw = -xp.log(xp.clip(primary / xp.asarray(air), min=1e-30))
        parts.append(xp.astype(correct_rays(raw, correction), xp.float32))
        taken += float(xp.sum(1.0 - primary / reading))
    corrected = projections.assign(projection=projections["projection"].copy(data=xp.concat(parts)))
    corrected.attrs["scatter_corrected"] = taken / (n_view * air.size)
    return corrected


def _primary(reading: Any, scatter: xr.DataArray | ScatterKernel, places: xr.Dataset) -> Any:
    """Readings less their scatter; ``places`` names views and cells."""
    xp = namespace(reading)
    least = LEAST * reading
    if not isinstance(scatter, ScatterKernel):
        return xp.maximum(reading - xp.asarray(on_cells(scatter, places)), least)
    primary = reading
    for _ in range(ROUNDS):
        primary = xp.maximum(reading - scatter.of(primary), least)
    return primary
