"""Water correction: from the logarithm of polychromatic readings to a line integral of one energy.

Behind a bowtie every fan angle has its own spectrum, so every channel has its own polynomial, fitted to the
scanner's model for 0 to 50 cm of water. Water then reads its attenuation at one reference energy everywhere.
Where the beam also varies over the rows (heel, inclined rays through the bowtie), so do the polynomials.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from twinlab.ct.detector import detected_spectrum
from twinlab.kernels.device import host, namespace
from twinlab.keys import content_key
from twinlab.physics.attenuation import linear_attenuation_per_mm
from twinlab.physics.materials import get as material
from twinlab.scanner import Protocol, beam_knots_mm, row_weights
from twinlab.schema import label

LONGEST_MM = 500.0
REFERENCE_MM = 200.0
NEWTON = 6  # steps that undo a correction
TERMS = 8  # residual below 1e-5 of the line integral over 0 to 50 cm

_KEPT = 64
_CALIBRATED: dict[str, xr.Dataset] = {}

Array = NDArray[np.float64]


def water_logarithm(protocol: Protocol, length_mm: ArrayLike, *, row_mm: float = 0.0) -> Array:
    """``-log(signal / air signal)`` behind water in a row of the detector, shape (length, channel)."""
    energy, spectrum = detected_spectrum(protocol, row_mm=row_mm)
    mu = linear_attenuation_per_mm("water", energy)
    transmitted = np.exp(-np.multiply.outer(np.asarray(length_mm, float), mu)) @ spectrum.T
    return -np.log(transmitted / spectrum.sum(axis=1))


def water_correction(protocol: Protocol) -> xr.Dataset:
    """Polynomials that take the measured logarithm to the line integral of water at a reference energy.

    The reference is the energy at which water's attenuation equals the mean one over the first 20 cm on the
    central ray, so that the correction is small there.

    Parameters
    ----------
    protocol : Protocol
        Tube voltage, filters, bowtie, heel and detector count; the exposure does not. Kept in memory, so that
        a beam is calibrated once in a session.

    Returns
    -------
    Dataset
        ``water_polynomial`` (channel, power) and ``raw_max`` (channel): ``projection = raw * sum_i c_i
        (raw/raw_max)**i``, a straight line beyond ``raw_max`` (50 cm of water); dims (row, channel, power) and
        (row, channel) where the beam varies over the rows. Attrs ``reference_kev``, ``mu_water_per_mm``,
        ``residual`` (largest error of the fit, absolute, of the projection).
    """
    scanner = protocol.scanner
    bowtie = scanner.bowties.get(protocol.bowtie)
    key = content_key(
        protocol.kv, protocol.collimation_mm, scanner.tube, bowtie or "", scanner.detector,
        scanner.source_to_detector_mm,
    )  # fmt: skip
    if key not in _CALIBRATED:
        if len(_CALIBRATED) >= _KEPT:
            _CALIBRATED.pop(next(iter(_CALIBRATED)))
        _CALIBRATED[key] = _calibrate(protocol)
    return _CALIBRATED[key].copy(deep=True)


def _calibrate(protocol: Protocol) -> xr.Dataset:
    """Fit in the rows of :func:`twinlab.scanner.beam_knots_mm`, and put the other rows between them."""
    knots = beam_knots_mm(protocol)
    length = np.linspace(0.0, LONGEST_MM, 251)[1:]
    middle = int(np.argmin(np.abs(protocol.scanner.fan_angles_rad())))
    mu_water = float(water_logarithm(protocol, [REFERENCE_MM])[0, middle] / REFERENCE_MM)
    fits = [
        fit_polynomials(water_logarithm(protocol, length, row_mm=row), mu_water * length) for row in knots
    ]
    coefficients, raw_max = np.stack([fit[0] for fit in fits]), np.stack([fit[1] for fit in fits])
    residual = max(fit[2] for fit in fits)
    rows: tuple[str, ...] = ()
    if knots.size == 1:
        coefficients, raw_max = coefficients[0], raw_max[0]
    else:
        rows = ("row",)
        between = row_weights(knots, protocol.row_positions_mm())
        coefficients = np.einsum("rk,kcp->rcp", between, coefficients)
        raw_max = between @ raw_max
    attrs = {"units": "1", "long_name": "range of the fit"}
    return xr.Dataset(
        {
            "water_polynomial": label("water_polynomial", coefficients, dims=(*rows, "channel", "power")),
            "raw_max": xr.DataArray(raw_max, dims=(*rows, "channel"), attrs=attrs),
        },
        attrs={
            "reference_kev": _energy_of(mu_water),
            "mu_water_per_mm": mu_water,
            "water_density_g_cm3": material("water").density_g_cm3,
            "residual": residual,
        },
    )


def fit_polynomials(raw: Array, target: Array) -> tuple[Array, Array, float]:
    """Polynomials (channel, power) from ``raw`` (length, channel) to ``target`` (length,), range, residual."""
    raw_max = raw[-1].copy()
    x = raw / raw_max
    coefficients = np.empty((raw.shape[1], TERMS))
    residual = 0.0
    for channel in range(raw.shape[1]):
        powers = np.vander(x[:, channel], TERMS, increasing=True) * raw[:, channel, None]
        coefficients[channel] = np.linalg.lstsq(powers, target, rcond=None)[0]
        residual = max(residual, float(np.abs(powers @ coefficients[channel] - target).max()))
    return coefficients, raw_max, residual


def _energy_of(mu_water_per_mm: float) -> float:
    """Energy [keV] at which water has an attenuation (it falls steadily)."""
    energy = np.arange(20.0, 150.0, 0.1)
    mu = linear_attenuation_per_mm("water", energy)
    return float(np.interp(-mu_water_per_mm, -mu, energy))


def loop_tables(correction: xr.Dataset) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Polynomial (spectrum, power, channel) and range (spectrum, channel) as the compiled loop takes them."""
    polynomial = correction["water_polynomial"].to_numpy()
    raw_max = correction["raw_max"].to_numpy()
    if polynomial.ndim == 2:
        polynomial, raw_max = polynomial[np.newaxis], raw_max[np.newaxis]
    tables = np.swapaxes(polynomial, 1, 2)
    return np.ascontiguousarray(tables, np.float32), raw_max.astype(np.float32)


def correct_rays(raw: Any, correction: xr.Dataset, *, channel: Any = None) -> Any:
    """Water-corrected projections: :func:`water_correction` in float64.

    Parameters
    ----------
    raw : array (view, row, channel), or (ray,) with ``channel``
        Logarithms against air, of any namespace, as the result.
    correction : Dataset
    channel : int array (ray,), optional
        Channels of a list of rays; in the middle row, where the correction varies over the rows.
    """
    coefficients, limit = _tables_at(raw, correction, channel)
    return _corrected(raw, coefficients, limit)[0]


def undo_correction(projection: Any, correction: xr.Dataset) -> tuple[Any, Any]:
    """Logarithms behind water-corrected projections, and the slope of the correction there.

    Newton's method; the slope changes little, so that :data:`NEWTON` steps reach rounding.

    Parameters
    ----------
    projection : array (view, row, channel)
        Of any namespace, as the results.
    correction : Dataset
        From :func:`water_correction`.
    """
    xp = namespace(projection)
    coefficients, limit = _tables_at(projection, correction, None)
    target = xp.astype(projection, xp.float64)
    raw, slope = target / coefficients[0], xp.ones_like(target)
    for _ in range(NEWTON):
        value, slope = _corrected(raw, coefficients, limit)
        raw = raw - (value - target) / slope
    return raw, slope


def _tables_at(rays: Any, correction: xr.Dataset, channel: Any) -> tuple[list[Any], Any]:
    """Coefficients by power, and the ranges, as arrays that broadcast with rays."""
    xp = namespace(rays)
    polynomial, raw_max = correction["water_polynomial"].to_numpy(), correction["raw_max"].to_numpy()
    if channel is not None:
        if polynomial.ndim == 3:
            polynomial, raw_max = polynomial[len(polynomial) // 2], raw_max[len(raw_max) // 2]
        at = host(channel)
        polynomial, raw_max = polynomial[at], raw_max[at]
    powers = [xp.asarray(np.ascontiguousarray(polynomial[..., n])) for n in range(polynomial.shape[-1])]
    return powers, xp.asarray(raw_max)


def _corrected(raw: Any, coefficients: list[Any], limit: Any) -> tuple[Any, Any]:
    """Corrected projections and their slopes: a straight line beyond the range of the fit."""
    xp = namespace(raw)
    x = xp.minimum(raw / limit, xp.ones_like(limit))
    value, slope = xp.zeros_like(x), xp.zeros_like(x)
    for coefficient in reversed(coefficients):
        slope = slope * x + value
        value = value * x + coefficient
    slope = value + x * slope
    return value * xp.minimum(raw, limit) + slope * xp.clip(raw - limit, min=0.0), slope
