"""Images of one kernel seen through another, for tests that compare the two."""

import numpy as np
import xarray as xr

from twinlab.schema import spacing


def with_mtf(hu: xr.DataArray, transfer: np.ndarray | float, *, of: np.ndarray | float = 1.0) -> xr.DataArray:
    """Slices with another modulation transfer in the plane.

    Filtered back-projection is linear: an image of one kernel, filtered by the ratio of two transfers, is the
    image of the other, as far as neither pixels nor channels end the band first.

    Parameters
    ----------
    hu : DataArray, dims (z, y, x), units HU
    transfer, of : array (n_y, n_x), or float
        Wanted and present transfer at ``numpy.fft.fftfreq`` of the pixels (see :func:`pixel_frequency`).
    """
    values = hu.transpose("z", "y", "x").to_numpy().astype(float)
    ratio = np.asarray(transfer) / np.asarray(of)
    edge = -1000.0  # air around the slice, so that it does not wrap
    filtered = np.fft.ifft2(np.fft.fft2(values - edge, axes=(1, 2)) * ratio, axes=(1, 2)).real + edge
    return hu.transpose("z", "y", "x").copy(data=filtered.astype(hu.dtype))


def pixel_frequency(hu: xr.DataArray) -> np.ndarray:
    """Radial spatial frequency [1/mm] of the Fourier transform of a slice, shape (n_y, n_x)."""
    fy, fx = (
        np.fft.fftfreq(hu.sizes[axis], spacing(hu[axis], where="pixel_frequency")) for axis in ("y", "x")
    )
    return np.hypot(fy[:, None], fx[None, :])
