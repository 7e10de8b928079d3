"""Rings: cells whose gain has drifted since the last air calibration, found in the projections and taken out."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from twinlab.ct.artefacts.neighbours import median, nan_median, parabolas
from twinlab.kernels.device import namespace
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
        ``projection`` (view, row, channel), of any array library; ``row_lo`` and ``row_hi`` where some rows were
        left out.
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
    stretches the error by its slope, which differs by a few per cent over the views.

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
    data = values.data
    xp = namespace(data)
    left = [residual(mean, window) for mean in block_means(projections, blocks)]
    error = nan_median(xp.stack(left, axis=-1))
    error = xp.where(xp.isnan(error), xp.zeros_like(error), error)
    corrected = projections.assign(projection=values.copy(data=data - error))
    corrected.attrs["ring_correction"] = float(xp.sqrt(xp.mean(error**2)))
    return corrected


def residual(mean: Any, window: tuple[int, int]) -> Any:
    """What a median over neighbouring cells leaves of a mean projection (row, channel).

    The median of a dome is lower than its top; taking local parabolas off first mends that, but makes up
    errors at the rim of an object. There, where both residuals part, the plain one counts.
    """
    xp = namespace(mean)
    flat = mean - parabolas(mean, channels=2 * window[1] + 1)
    plain, curved = (v - median(v, rows=window[0], channels=window[1]) for v in (mean, flat))
    far = max(DOME, 6.0 * float(nan_median(xp.reshape(xp.abs(plain), (-1,)))))
    return xp.where(xp.abs(curved - plain) < far, curved, plain)


def block_means(projections: xr.Dataset, blocks: int) -> list[Any]:
    """Mean projection of stretches of views, each (row, channel); NaN in rows that no view computed."""
    values = projections["projection"].data
    xp = namespace(values)
    row = np.arange(values.shape[1])
    low, high = (projections[n].to_numpy() if n in projections else None for n in ("row_lo", "row_hi"))
    means = []
    for views in np.array_split(np.arange(values.shape[0]), min(blocks, values.shape[0])):
        own = values[int(views[0]) : int(views[-1]) + 1, ...]
        if low is None or high is None:
            means.append(xp.mean(own, axis=0))
            continue
        seen = (row >= low[views, None]) & (row < high[views, None])
        total = xp.sum(xp.where(xp.asarray(seen[:, :, None]), own, xp.zeros_like(own)), axis=0)
        count = xp.asarray(seen.sum(axis=0)[:, None].astype(np.float32))
        nothing = xp.asarray(xp.nan, dtype=total.dtype)
        means.append(xp.where(count > 0, total / xp.where(count > 0, count, 1.0), nothing))
    return means
