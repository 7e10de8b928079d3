"""Detectability of a known signal by the non-prewhitening observer with an eye filter (NPWE).

Three ways to one number: from a noise power spectrum (:func:`dprime_fourier`), from template responses of
image ensembles (:func:`dprime_from_responses`), and, for a linear reconstruction, exactly, by carrying the
template back to the detector where the noise of the rays is independent (:func:`dprime_linear`).

References
----------
.. [1] Burgess, J. Opt. Soc. Am. A 11 (1994) 1237: NPW observer with an eye filter.
.. [2] AAPM Report 233 (2019), Performance evaluation of CT systems, section on d'.
.. [3] Barrett, Myers, Foundations of Image Science (2004), ch. 13: linear observers and their uncertainty.
"""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from twinlab.schema import refuse, spacing

#: Viewing conditions behind the eye filter; printed with every d' that uses it.
VIEWING_DISTANCE_MM = 500.0
DISPLAY_MAGNIFICATION = 1.0


def eye_filter(
    frequency_per_mm: ArrayLike,
    *,
    viewing_distance_mm: float = VIEWING_DISTANCE_MM,
    magnification: float = DISPLAY_MAGNIFICATION,
) -> NDArray[np.float64]:
    """Human contrast sensitivity ``E(f) = f^1.5 exp(-0.98 f^0.68)``, f in cycles per degree, maximum 1.

    Parameters
    ----------
    frequency_per_mm : array_like
        Spatial frequency in the patient, 1/mm, of any shape.
    viewing_distance_mm : float
        From eye to display.
    magnification : float
        Millimetres on the display per millimetre in the patient.

    Returns
    -------
    ndarray of the shape given
        Zero at zero frequency: a uniform shift of the image is no signal.

    Raises
    ------
    InputError
        A distance or magnification that is not positive.

    References
    ----------
    AAPM Report 233, eq. for the eye filter, after Eckstein et al., Opt. Express 11 (2003) 460.
    """
    if viewing_distance_mm <= 0 or magnification <= 0:
        refuse("eye_filter", "positive distance and magnification", (viewing_distance_mm, magnification))
    mm_per_degree = viewing_distance_mm * np.tan(np.pi / 180)
    f = np.abs(np.asarray(frequency_per_mm, float)) / magnification * mm_per_degree
    peak = (1.5 / (0.98 * 0.68)) ** (1 / 0.68)
    return (f / peak) ** 1.5 * np.exp(-0.98 * (f**0.68 - peak**0.68))


def npwe_template(signal: xr.DataArray, *, eye: bool = True, **viewing: float) -> xr.DataArray:
    """Template of the NPWE observer for a known signal: the signal seen twice through the eye filter.

    Parameters
    ----------
    signal : DataArray, dims (..., y, x)
        Expected difference of the images with and without the object; even pixel centres in mm.
    eye : bool
        Without it the template is the signal itself (NPW).
    **viewing
        As in :func:`eye_filter`.

    Returns
    -------
    DataArray of the same dims and coordinates

    Raises
    ------
    InputError
        Uneven grid.
    """
    if not eye:
        return signal.copy()
    signal = signal.transpose(..., "y", "x")
    fy = np.fft.fftfreq(signal.sizes["y"], spacing(signal["y"], where="npwe_template"))
    fx = np.fft.fftfreq(signal.sizes["x"], spacing(signal["x"], where="npwe_template"))
    weight = eye_filter(np.hypot(fy[:, None], fx[None, :]), **viewing) ** 2
    seen = np.fft.ifft2(np.fft.fft2(np.asarray(signal, float)) * weight).real
    return signal.copy(data=seen)


def dprime_fourier(
    signal: xr.DataArray, spectrum: xr.DataArray, *, eye: bool = True, **viewing: float
) -> float:
    """NPWE detectability in stationary noise.

    ``d'^2 = [sum |S|^2 E^2 df]^2 / sum |S|^2 E^4 NPS df`` [2]_, with S the Fourier transform of the signal.

    Parameters
    ----------
    signal : DataArray, dims (y, x), units HU
        Expected difference of the images with and without the object.
    spectrum : DataArray, dims (fy, fx), units HU2 mm2
        Noise power spectrum on the same grid, from :func:`twinlab.quality.nps`.
    eye : bool
        Use the eye filter; without it the observer is NPW.
    **viewing
        As in :func:`eye_filter`.

    Raises
    ------
    InputError
        The two grids differ.
    """
    signal, spectrum = signal.transpose("y", "x"), spectrum.transpose("fy", "fx")
    dy, dx = spacing(signal["y"], where="dprime_fourier"), spacing(signal["x"], where="dprime_fourier")
    fy = np.fft.fftshift(np.fft.fftfreq(signal.sizes["y"], dy))
    fx = np.fft.fftshift(np.fft.fftfreq(signal.sizes["x"], dx))
    if signal.shape != spectrum.shape or not (
        np.allclose(fy, spectrum["fy"]) and np.allclose(fx, spectrum["fx"])
    ):
        refuse("dprime_fourier", f"a spectrum on the signal's grid {signal.shape}", spectrum.shape)
    power = np.abs(np.fft.fftshift(np.fft.fft2(np.asarray(signal, float))) * dy * dx) ** 2
    e2 = eye_filter(np.hypot(fy[:, None], fx[None, :]), **viewing) ** 2 if eye else np.ones_like(power)
    df = (fy[1] - fy[0]) * (fx[1] - fx[0])
    top = (power * e2).sum() * df
    bottom = (power * e2**2 * np.asarray(spectrum, float)).sum() * df
    if bottom <= 0:
        refuse("dprime_fourier", "noise power where the signal is", "none")
    return float(top / np.sqrt(bottom))


def dprime_from_responses(present: ArrayLike, absent: ArrayLike) -> tuple[float, float]:
    """Detectability and its standard uncertainty from the template responses of two image ensembles.

    ``d' = (mean1 - mean0) / sqrt((var1 + var0) / 2)``, multiplied by the small-sample factor
    ``1 - 3 / (4 nu - 1)``, which makes it unbiased for normal responses (Hedges 1981).

    Parameters
    ----------
    present, absent : array_like, shape (n1,), (n0,)
        Responses to images with and without the object.

    Returns
    -------
    dprime, standard_uncertainty : float

    Raises
    ------
    InputError
        Fewer than two responses in a class, or no spread at all.
    """
    a, b = np.asarray(present, float).ravel(), np.asarray(absent, float).ravel()
    if min(a.size, b.size) < 2:
        refuse("dprime_from_responses", "two responses or more in each class", (a.size, b.size))
    spread = np.sqrt((a.var(ddof=1) + b.var(ddof=1)) / 2)
    if not spread > 0:
        refuse("dprime_from_responses", "responses that vary", "constant responses")
    nu = a.size + b.size - 2
    value = (a.mean() - b.mean()) / spread * (1 - 3 / (4 * nu - 1))
    uncertainty = np.sqrt(1 / a.size + 1 / b.size + value**2 / (2 * nu))
    return float(value), float(uncertainty)


def dprime_linear(adjoint: NDArray, signal: NDArray, variance: NDArray) -> tuple[float, float, float]:
    """Detectability of a fixed template after a linear reconstruction, without sampling noise.

    With image = R p, a template t answers ``t.R p = (R^T t).p``. Rays are independent, so the variance of
    the answer is ``sum (R^T t)^2 var(p)``, exact for any position, anatomy and bowtie, where a noise power
    spectrum holds only for stationary noise.

    Parameters
    ----------
    adjoint : ndarray
        ``R^T t``, one value per ray.
    signal : ndarray of the same shape
        Expected change of the projections by the object.
    variance : ndarray of the same shape
        Variance of the projections.

    Returns
    -------
    dprime, mean_response, sd_response : float
        Responses in the units of template x image.

    Raises
    ------
    InputError
        Shapes differ.
    """
    if not adjoint.shape == signal.shape == variance.shape:
        refuse("dprime_linear", "three arrays of one shape", (adjoint.shape, signal.shape, variance.shape))
    a = adjoint.astype(float).ravel()
    mean = float(a @ signal.astype(float).ravel())
    sd = float(np.sqrt((a * a) @ variance.astype(float).ravel()))
    return (mean / sd if sd > 0 else float("inf")), mean, sd
