"""Noise in images of patients: where the tissue is even, what is left of it in small regions."""

from __future__ import annotations

import numpy as np
import xarray as xr
from scipy.ndimage import gaussian_filter, gaussian_filter1d, minimum_filter, uniform_filter

from twinlab.schema import check, refuse, spacing

BIN_HU = 0.25
SMOOTH_BINS = 4.0  # of the histogram, before its highest place is read


def even_tissue(
    hu: xr.DataArray,
    *,
    low_hu: float = 0.0,
    high_hu: float = 150.0,
    smooth_mm: float = 2.0,
    margin_mm: float = 5.0,
) -> xr.DataArray:
    """Where soft tissue is, away from its edges.

    Thresholds act on smoothed slices, so that noise does not decide which voxels count.

    Parameters
    ----------
    hu : DataArray, dims (z, y, x), units HU
    low_hu, high_hu : float
        Soft tissue, with contrast medium in the liver.
    smooth_mm : float
        Standard deviation of the smoothing in the plane.
    margin_mm : float
        Distance from anything else, along y and x.

    Returns
    -------
    DataArray of bool, dims (z, y, x)

    Raises
    ------
    InputError
        Dims or units are others, uneven pixels, or an empty range.
    """
    check(hu.to_dataset(name="hu"), "hu", where="even_tissue")
    if not (low_hu < high_hu and smooth_mm >= 0 and margin_mm >= 0):
        refuse("even_tissue", "low_hu below high_hu and lengths of 0 or more", (low_hu, high_hu, smooth_mm))
    pixel = np.array([spacing(hu[axis], where="even_tissue") for axis in ("y", "x")])
    values = np.nan_to_num(hu.transpose("z", "y", "x").to_numpy().astype(float), nan=-1000.0)
    smooth = gaussian_filter(values, (0.0, *(smooth_mm / pixel)))
    soft = ((smooth > low_hu) & (smooth < high_hu)).astype(np.uint8)
    reach = (1, *(2 * np.ceil(margin_mm / pixel).astype(int) + 1))
    return xr.DataArray(minimum_filter(soft, reach) > 0, hu.coords, ("z", "y", "x"), name="even_tissue")


def local_sd(hu: xr.DataArray, *, side_mm: float = 6.0) -> xr.DataArray:
    """Standard deviation in a square around every pixel of a slice, of its own mean.

    Noise that is broader than the square is not seen; compare only images of one ``side_mm``.

    Parameters
    ----------
    hu : DataArray, dims (z, y, x), units HU
    side_mm : float
        Side of the square, rounded to an odd number of pixels, at least three.

    Returns
    -------
    DataArray ``local_sd``, dims (z, y, x), units HU

    Raises
    ------
    InputError
        Dims or units are others, or uneven pixels.
    """
    check(hu.to_dataset(name="hu"), "hu", where="local_sd")
    sides = [
        max(3, 2 * round((side_mm / spacing(hu[axis], where="local_sd") - 1) / 2) + 1) for axis in ("y", "x")
    ]
    values = hu.transpose("z", "y", "x").to_numpy().astype(float)
    n = sides[0] * sides[1]
    mean = uniform_filter(values, (1, *sides))
    variance = (uniform_filter(values**2, (1, *sides)) - mean**2) * n / (n - 1)
    sd = np.sqrt(np.maximum(variance, 0.0))
    attrs = {"units": "HU", "long_name": "standard deviation in a square"}
    return xr.DataArray(sd, hu.coords, ("z", "y", "x"), name="local_sd", attrs=attrs)


def tissue_noise(hu: xr.DataArray, where: xr.DataArray, *, side_mm: float = 6.0) -> float:
    """Noise of an image [HU]: the commonest standard deviation of small squares in even tissue.

    The mode is moved little by squares with vessels or edges, whose standard deviation is larger [1]_.

    Parameters
    ----------
    hu : DataArray, dims (z, y, x), units HU
        One image; or a difference of two, whose noise is then that of the difference.
    where : DataArray of bool, dims (z, y, x)
        From :func:`even_tissue`.
    side_mm : float
        Side of the squares.

    Raises
    ------
    InputError
        Fewer than 500 pixels of even tissue, or dims and units of another kind.

    References
    ----------
    .. [1] Christianson O, Winslow J, Frush DP, Samei E (2015) Automated technique to measure noise in clinical
       CT examinations. AJR 205:W93 (the idea; region and smoothing are ours).
    """
    chosen = np.asarray(where.transpose("z", "y", "x"), bool)
    if chosen.sum() < 500:
        refuse("tissue_noise: where", "500 pixels of even tissue or more", int(chosen.sum()))
    sd = local_sd(hu, side_mm=side_mm).to_numpy()[chosen]
    sd = sd[np.isfinite(sd)]
    count, edge = np.histogram(sd, np.arange(0.0, sd.max() + 2 * BIN_HU, BIN_HU))
    smooth = gaussian_filter1d(count.astype(float), SMOOTH_BINS)
    return float(edge[smooth.argmax()] + BIN_HU / 2)
