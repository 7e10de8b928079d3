"""Tube current behind each slice of an image."""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from twinlab.scanner import Protocol
from twinlab.schema import check, refuse


def slice_current_ma(
    z_mm: NDArray[np.float64], protocol: Protocol, *, projections: xr.Dataset | None = None
) -> NDArray[np.float64]:
    """Mean tube current of the views whose beam covers each slice at the isocentre, mA.

    Parameters
    ----------
    z_mm : array (z,)
    protocol : Protocol
    projections : Dataset, optional
        Trajectory or projections: ``source_z`` (view), and ``tube_current`` (view) [mA] where the current
        was modulated.

    Returns
    -------
    array (z,)
        The protocol's current everywhere without a modulated one.

    Raises
    ------
    InputError
        A slice outside the beam of every view by more than one collimation, or a protocol without current.
    """
    if projections is None or "tube_current" not in projections:
        return np.full(z_mm.size, protocol.mas / protocol.rotation_time_s)
    check(projections, "source_z", where="slice_current_ma")
    current = np.asarray(projections["tube_current"], float)
    distance = np.abs(np.asarray(projections["source_z"], float) - z_mm[:, None])
    nearest = distance.min(axis=1)
    if nearest.max() > protocol.collimation_mm:
        worst = float(z_mm[int(nearest.argmax())])
        refuse("slice_current_ma", "slices that the scan covers", f"a slice at z = {worst:g} mm")
    # A slice at the very end may lie half a row outside: then its nearest views count.
    seen = distance <= np.maximum(protocol.collimation_mm / 2, nearest[:, None])
    return np.asarray((seen * current).sum(axis=1) / seen.sum(axis=1))
