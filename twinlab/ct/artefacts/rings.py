"""Rings: cells whose gain has drifted since the last air calibration, found in the projections and taken out."""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.ndimage import median_filter
from scipy.signal import savgol_filter

from twinlab.schema import check, refuse

DOME = (
    0.005  # of projection: by more the median of 15 cells does not miss the top of a body of 10 cm or wider
)


def ring_correction(
    projections: xr.Dataset, *, channels: int = 15, rows: int = 9, blocks: int = 48
) -> xr.Dataset:
    """Projections without the constant error of single cells.

    A cell whose gain is off by a factor g adds ``-log(g)`` to all its readings: a stripe along the views, a
    ring in the image (an arc in a helical scan). What a median over neighbouring cells leaves of a
    projection is edges of the object and the errors of cells; edges move from view to view, so that the
    median over the scan is the error. The median over cells keeps monotone slopes: the rim of a centred
    object is not taken for a ring.

    Parameters
    ----------
    projections : Dataset
        ``projection`` (view, row, channel); ``row_lo`` and ``row_hi`` where some rows were left out.
    channels, rows : int
        Odd sides of the median's window; at most the rows there are.
    blocks : int
        Means of so many stretches of views stand for the scan: quicker, and less noisy, than every view.

    Returns
    -------
    Dataset
        As ``projections``; attr ``ring_correction`` is the root mean square of what was taken out.

    Raises
    ------
    InputError
        Window sides that are not odd, or fewer than two windows of channels.

    Limits
    ------
    Errors common to many neighbouring cells (a whole module, a drift over the fan) stay, and so does what a
    median over one window cannot tell: a third of the rings of a detector of one row, a fifth with eight. A
    thin cylinder in the very centre of rotation looks like faulty cells and is dimmed. The water correction
    stretches the error by its slope, which differs by a few per cent over the views. Medians and parabolas are
    SciPy's: this runs on the processor.

    References
    ----------
    Sijbers J, Postnov A (2004) Reduction of ring artefacts in high resolution micro-CT reconstructions.
    Phys Med Biol 49:N247; Raven C (1998) Rev Sci Instrum 69:2978 (stripes in the sinogram).
    """
    check(projections, "projection", where="ring_correction")
    values = projections["projection"]
    n_row, n_channel = values.sizes["row"], values.sizes["channel"]
    if channels < 3 or channels % 2 == 0 or rows < 1 or rows % 2 == 0 or 2 * channels + 1 > n_channel:
        refuse(
            "ring_correction",
            f"odd channels (3 to {(n_channel - 1) // 2}) and odd rows (1 or more)",
            (channels, rows),
        )
    window = (min(rows, n_row - 1 + n_row % 2), channels)
    left = [residual(mean, window) for mean in block_means(projections, blocks)]
    error = np.nan_to_num(np.nanmedian(left, axis=0)).astype(np.float32)
    corrected = projections.assign(projection=values.copy(data=values.to_numpy() - error))
    corrected.attrs["ring_correction"] = float(np.sqrt((error**2).mean()))
    return corrected


def residual(mean: NDArray[np.float32], window: tuple[int, int]) -> NDArray[np.float32]:
    """What a median over neighbouring cells leaves of a mean projection (row, channel).

    The median of a dome is lower than its top; taking local parabolas off first mends that, but makes up
    errors at the rim of an object. There, where both residuals part, the plain one counts.
    """
    flat = mean - savgol_filter(mean, 2 * window[1] + 1, 2, axis=1, mode="nearest")
    plain, curved = (v - median_filter(v, size=window, mode="nearest") for v in (mean, flat))
    far = max(DOME, 6.0 * float(np.nanmedian(np.abs(plain))))
    return np.where(np.abs(curved - plain) < far, curved, plain).astype(np.float32)


def block_means(projections: xr.Dataset, blocks: int) -> list[NDArray[np.float32]]:
    """Mean projection of stretches of views, each (row, channel); NaN in rows that no view computed."""
    values = projections["projection"].to_numpy()
    row = np.arange(values.shape[1])
    low, high = (projections[n].to_numpy() if n in projections else None for n in ("row_lo", "row_hi"))
    means = []
    for views in np.array_split(np.arange(values.shape[0]), min(blocks, values.shape[0])):
        if low is None or high is None:
            means.append(values[views].mean(axis=0))
            continue
        seen = (row >= low[views, None]) & (row < high[views, None])
        total = np.where(seen[:, :, None], values[views], 0.0).sum(axis=0)
        count = seen.sum(axis=0)[:, None]
        means.append(np.where(count > 0, total / np.maximum(count, 1), np.nan).astype(np.float32))
    return means
