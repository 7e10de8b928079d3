"""Where and how long the tube of a CT protocol radiates, and on what it is centred."""

from __future__ import annotations

import numpy as np
import xarray as xr

from twinlab.scanner import Protocol, trajectory
from twinlab.schema import refuse


def stations(
    protocol: Protocol, *, z_range_mm: tuple[float, float], start_angle_deg: float = 0.0
) -> tuple[np.ndarray, float]:
    """Where the tube radiates, continuously, and for how many mAs.

    Parameters
    ----------
    protocol : Protocol
    z_range_mm : (float, float)
        Imaged range; the trajectory adds over-ranging in helical mode.
    start_angle_deg : float

    Returns
    -------
    view : (view, 4) array
        Gantry angle [rad] and table position [mm] in the middle of a view, and how far both move in it.
    mas : float
        Of the whole scan.
    """
    path = trajectory(protocol, z_range_mm=z_range_mm, start_angle_deg=start_angle_deg)
    views = int(path.attrs["views_per_rotation"])
    n = path.sizes["view"]
    feed = protocol.feed_mm / views if protocol.mode == "helical" else 0.0
    view = np.stack(
        [
            path["view_angle"].values,
            path["source_z"].values,
            np.full(n, 2 * np.pi / views),
            np.full(n, feed),
        ],
        axis=1,
    )
    return view, protocol.mas * n / views


def default_isocentre(phantom: xr.Dataset) -> tuple[float, float]:
    """Middle of the body's bounding box in x and y, mm: where a technologist centres the patient."""
    body: np.ndarray = np.any(phantom["organ"].values > 0, axis=0)
    if not body.any():
        refuse("dose: phantom", "a body (organ labels above 0)", "none")
    y = phantom["y"].values[np.any(body, axis=1)]
    x = phantom["x"].values[np.any(body, axis=0)]
    return 0.5 * float(x[0] + x[-1]), 0.5 * float(y[0] + y[-1])
