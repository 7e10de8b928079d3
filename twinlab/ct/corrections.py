"""Water correction: from the logarithm of polychromatic readings to a line integral of one energy.

Behind a bowtie every fan angle has its own spectrum, so every channel has its own polynomial, fitted to the
scanner's model for 0 to 50 cm of water. Water then reads its attenuation at one reference energy everywhere.
"""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from twinlab.ct.detector import detected_spectrum
from twinlab.kernels.spectral import correct_row
from twinlab.physics.attenuation import linear_attenuation_per_mm
from twinlab.physics.materials import get as material
from twinlab.scanner import Protocol
from twinlab.schema import label

LONGEST_MM = 500.0
REFERENCE_MM = 200.0
TERMS = 8  # residual below 1e-5 of the line integral over 0 to 50 cm

Array = NDArray[np.float64]


def water_logarithm(protocol: Protocol, length_mm: ArrayLike) -> Array:
    """``-log(signal / air signal)`` behind water, shape (length, channel)."""
    energy, spectrum = detected_spectrum(protocol)
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
        Tube voltage, filters, bowtie and detector count; the exposure does not.

    Returns
    -------
    Dataset
        ``water_polynomial`` (channel, power) and ``raw_max`` (channel): ``projection = raw * sum_i c_i
        (raw/raw_max)**i``, a straight line beyond ``raw_max`` (50 cm of water). Attrs ``reference_kev``,
        ``mu_water_per_mm``, ``residual`` (largest error of the fit, absolute, of the projection).
    """
    length = np.linspace(0.0, LONGEST_MM, 251)[1:]
    raw = water_logarithm(protocol, length)
    middle = int(np.argmin(np.abs(protocol.scanner.fan_angles_rad())))
    mu_water = float(water_logarithm(protocol, [REFERENCE_MM])[0, middle] / REFERENCE_MM)
    target = mu_water * length
    raw_max = raw[-1].copy()
    x = raw / raw_max
    coefficients = np.empty((raw.shape[1], TERMS))
    residual = 0.0
    for channel in range(raw.shape[1]):
        powers = np.vander(x[:, channel], TERMS, increasing=True) * raw[:, channel, None]
        coefficients[channel] = np.linalg.lstsq(powers, target, rcond=None)[0]
        residual = max(residual, float(np.abs(powers @ coefficients[channel] - target).max()))
    return xr.Dataset(
        {
            "water_polynomial": label("water_polynomial", coefficients),
            "raw_max": xr.DataArray(
                raw_max, dims="channel", attrs={"units": "1", "long_name": "range of the fit"}
            ),
        },
        attrs={
            "reference_kev": _energy_of(mu_water),
            "mu_water_per_mm": mu_water,
            "water_density_g_cm3": material("water").density_g_cm3,
            "residual": residual,
        },
    )


def _energy_of(mu_water_per_mm: float) -> float:
    """Energy [keV] at which water has an attenuation (it falls steadily)."""
    energy = np.arange(20.0, 150.0, 0.1)
    mu = linear_attenuation_per_mm("water", energy)
    return float(np.interp(-mu_water_per_mm, -mu, energy))


def loop_tables(correction: xr.Dataset) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Polynomial (power, channel) and range (channel) as the compiled loop takes them."""
    polynomial = correction["water_polynomial"].to_numpy().T
    return np.ascontiguousarray(polynomial, np.float32), correction["raw_max"].to_numpy().astype(np.float32)


def correct_rays(raw: Array, correction: xr.Dataset, *, channel: NDArray[np.intp]) -> Array:
    """Water-corrected projections of a list of rays, shape (ray,): :func:`water_correction` in float64."""
    polynomial = correction["water_polynomial"].to_numpy()[channel]
    raw_max = correction["raw_max"].to_numpy()[channel]
    power = np.arange(polynomial.shape[1])
    terms = polynomial * np.minimum(raw / raw_max, 1.0)[:, None] ** power
    inside = np.minimum(raw, raw_max) * terms.sum(1)
    return inside + (terms * (power + 1)).sum(1) * np.maximum(raw - raw_max, 0.0)


def apply_correction(raw: ArrayLike, correction: xr.Dataset, *, channel: int) -> Array:
    """Water-corrected projections of one channel, for inspection; scans use the same compiled function."""
    polynomial, limit = loop_tables(correction)
    values = np.asarray(raw, np.float32)
    n = values.size
    result, work = np.empty(n, np.float32), np.empty((2, n), np.float32)
    correct_row(
        values,
        np.repeat(polynomial[:, [channel]], n, axis=1),
        np.full(n, limit[channel]),
        work[0],
        result,
        work[1],
    )
    return result.astype(float)
