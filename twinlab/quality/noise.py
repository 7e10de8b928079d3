"""Noise magnitude and noise power spectrum of repeated uniform regions."""

from __future__ import annotations

import numpy as np
import xarray as xr

from twinlab.schema import label, refuse, spacing


def noise_hu(repeats: xr.DataArray) -> xr.DataArray:
    """Standard deviation over repeated images, pixel by pixel.

    Structure that is the same in all repeats (anatomy, cupping) does not count as noise.

    Parameters
    ----------
    repeats : DataArray, dims (repeat, ...), units HU
        Independent noise realisations of one object.

    Returns
    -------
    DataArray, dims without ``repeat``, units HU

    Raises
    ------
    InputError
        No ``repeat`` dim, or fewer than two repeats.
    """
    _check_repeats(repeats, "noise_hu")
    sd = repeats.std("repeat", ddof=1)
    sd.attrs.update(units="HU", long_name="noise standard deviation over repeats")
    return sd.rename("noise")


def nps(rois: xr.DataArray) -> xr.DataArray:
    """Noise power spectrum of repeated regions of one object.

    ``NPS(fy, fx) = dy dx / (Ny Nx) <|FFT(roi - mean over repeats)|^2> n / (n - 1)`` [1]_. The mean over
    repeats is taken away, not a fitted trend, so anatomy and cupping do not leak into the spectrum, and the
    factor ``n / (n - 1)`` makes the estimate unbiased.

    Parameters
    ----------
    rois : DataArray, dims (repeat, y, x), units HU
        ``y``, ``x``: even pixel centres in mm.

    Returns
    -------
    DataArray, dims (fy, fx), units HU2 mm2
        Two-sided, ascending 1/mm; ``nps.sum() * dfy * dfx`` is the mean variance of the region.

    Raises
    ------
    InputError
        A dim is missing, fewer than two repeats, or an uneven grid.

    References
    ----------
    .. [1] ICRU Report 87 (2012), Radiation dose and image-quality assessment in CT, section 4.
    """
    _check_repeats(rois, "nps")
    for dim in ("y", "x"):
        if dim not in rois.dims:
            refuse("nps", "dims (repeat, y, x)", rois.dims)
    if rois.ndim != 3:
        refuse("nps", "dims (repeat, y, x)", rois.dims)
    rois = rois.transpose("repeat", "y", "x")
    dy, dx = spacing(rois["y"], where="nps"), spacing(rois["x"], where="nps")
    n, ny, nx = rois.shape
    noise = np.asarray(rois, dtype=float)
    noise = noise - noise.mean(axis=0)
    power = (np.abs(np.fft.fft2(noise)) ** 2).sum(axis=0) / (n - 1) * dy * dx / (ny * nx)
    fy, fx = np.fft.fftshift(np.fft.fftfreq(ny, dy)), np.fft.fftshift(np.fft.fftfreq(nx, dx))
    return label("nps", np.fft.fftshift(power), {"fy": fy, "fx": fx}, repeats=n)


def nps_radial(spectrum: xr.DataArray, *, bin_width_per_mm: float | None = None) -> xr.DataArray:
    """Average of a noise power spectrum over rings of spatial frequency.

    Each ring is reported at the mean frequency of the samples in it, not at its index.

    Parameters
    ----------
    spectrum : DataArray, dims (fy, fx), units HU2 mm2
        From :func:`nps`.
    bin_width_per_mm : float, optional
        Width of a ring in 1/mm; the coarser of the two frequency steps by default.

    Returns
    -------
    DataArray, dims (frequency), units HU2 mm2
        Up to the smaller of the two Nyquist frequencies.

    Raises
    ------
    InputError
        Uneven frequencies, or a width that is not positive.
    """
    step = max(spacing(spectrum["fy"], where="nps_radial"), spacing(spectrum["fx"], where="nps_radial"))
    width = step if bin_width_per_mm is None else bin_width_per_mm
    if width <= 0:
        refuse("nps_radial", "a positive bin_width_per_mm", width)
    fy, fx = np.meshgrid(spectrum["fy"], spectrum["fx"], indexing="ij")
    radius = np.hypot(fy, fx).ravel()
    limit = min(float(np.abs(spectrum["fy"]).max()), float(np.abs(spectrum["fx"]).max()))
    index = np.floor(radius / width + 0.5).astype(int)
    keep = radius <= limit
    count = np.bincount(index[keep])
    filled = count > 0
    total = np.bincount(index[keep], weights=np.asarray(spectrum.transpose("fy", "fx"), float).ravel()[keep])
    frequency = np.bincount(index[keep], weights=radius[keep])
    return label(
        "nps_radial", (total[filled] / count[filled]), {"frequency": frequency[filled] / count[filled]}
    )


def _check_repeats(data: xr.DataArray, where: str) -> None:
    if "repeat" not in data.dims:
        refuse(where, "a dim 'repeat' of independent noise realisations", data.dims)
    if data.sizes["repeat"] < 2:
        refuse(where, "two repeats or more", data.sizes["repeat"])
