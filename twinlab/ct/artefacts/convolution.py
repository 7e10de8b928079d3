"""Scatter from the primary signal itself, by convolution, and its correction in projections."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from twinlab.ct.artefacts.scatter import air_signal, on_cells, scatter_by_transport
from twinlab.ct.corrections import correct_rays, water_correction
from twinlab.ct.detector import detected
from twinlab.ct.paths import line_integrals
from twinlab.keys import content_key
from twinlab.phantom.recipes import Recipe, from_recipe
from twinlab.scanner import Protocol, trajectory
from twinlab.schema import check, refuse

DIAMETERS_CM = (20.0, 32.0)
ROUNDS = 4  # primary from measured less scatter from primary: each round mends a tenth of the last
LEAST = 0.05  # share of a reading that is left to the primary whatever the estimate
_WIDTHS_MM = np.geomspace(20.0, 400.0, 25)
_EXPONENTS = np.arange(0.3, 1.25, 0.1)
_TABLE = np.linspace(-1.0, 16.0, 3401)  # of the logarithm, for the inverse of the water correction

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

    def __call__(self, signals: xr.Dataset) -> NDArray[np.float32]:
        """Scatter [keV/mAs] of every cell of some views, (view, row, channel), from ``signal``."""
        width = self.width_mm / self.channel_pitch_mm
        spread = self.amplitude * _spread(signals["signal"].to_numpy(), self.air, self.exponent, width)
        return np.asarray(np.broadcast_to(spread, signals["signal"].shape), np.float32)


def _spread(signal: Array, air: Array, exponent: float, width: float) -> Array:
    """Potential to scatter, mean over the rows, spread along the channels; (view, 1, channel)."""
    ratio = np.clip(signal / air, 1e-7, 1.0)
    potential = (-air * ratio**exponent * np.log(ratio)).mean(axis=1, keepdims=True)
    return np.asarray(gaussian_filter1d(potential, width, axis=-1, mode="constant"))


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
    the primary signal grows. Convolution and tables are SciPy's and NumPy's: this runs on the processor.
    """
    check(projections, "projection", where="scatter_correction")
    if projections.attrs.get("scanner") != protocol.scanner.key:
        scanner = projections.attrs.get("scanner")
        refuse("scatter_correction", f"projections of {protocol.scanner.key!r}", repr(scanner))
    air = air_signal(protocol, output_factor=float(projections.attrs.get("output_factor", 1.0)))
    tables = _water_tables(protocol)
    values = projections["projection"].to_numpy()
    reading = air * np.exp(-_through(values, tables, _TABLE))
    if isinstance(scatter, ScatterKernel):
        primary = reading
        for _ in range(ROUNDS):
            estimate = scatter(xr.Dataset({"signal": (("view", "row", "channel"), primary)}))
            primary = np.maximum(reading - estimate, LEAST * reading)
    else:
        primary = np.maximum(reading - on_cells(scatter, projections), LEAST * reading)
    raw = -np.log(np.maximum(primary / air, 1e-30))
    corrected = projections.assign(
        projection=projections["projection"].copy(
            data=_through(raw, np.broadcast_to(_TABLE, tables.shape), tables).astype(np.float32)
        )
    )
    corrected.attrs["scatter_corrected"] = float((1.0 - primary / reading).mean())
    return corrected


def _water_tables(protocol: Protocol) -> Array:
    """Water-corrected projections at the logarithms of ``_TABLE``, shape (channel, entry)."""
    correction = water_correction(protocol)
    channels = protocol.scanner.detector.n_channels
    return np.stack(
        [correct_rays(_TABLE, correction, channel=np.full(_TABLE.size, c)) for c in range(channels)]
    )


def _through(values: Array, known: Array, wanted: Array) -> Array:
    """Values (view, row, channel) taken channel by channel through a table from ``known`` to ``wanted``."""
    out = np.empty(values.shape)
    for channel in range(values.shape[-1]):
        target = wanted if wanted.ndim == 1 else wanted[channel]
        out[..., channel] = np.interp(values[..., channel], known[channel], target)
    return out
