"""The source of a CT protocol: tube on its trajectory, bowtie-shaped fan, collimated beam."""

from __future__ import annotations

import numpy as np
import xarray as xr

from twinlab.dose.sources import gantry_source
from twinlab.kernels.transport_data import CUTOFF_KEV, Source
from twinlab.scanner import Protocol, beam_fluence, trajectory
from twinlab.schema import refuse

FAN_BINS = 128  # a bin is below 0.5 degrees: bowties are given per degree
BIN_WIDTH_KEV = 1.0


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


def beam_source(
    protocol: Protocol,
    view: np.ndarray,
    *,
    isocentre_mm: tuple[float, float],
    relative_mas: np.ndarray | None = None,
) -> tuple[Source, float]:
    """Transport source of a protocol.

    Parameters
    ----------
    protocol : Protocol
    view : (view, 4) array
        As from :func:`stations`, table positions in the grid's box coordinates.
    isocentre_mm : (x, y)
        In the grid's box coordinates.
    relative_mas : (view,) array, optional
        mAs of the views relative to each other (tube current modulation); even by default.

    Returns
    -------
    source : Source
    photons_per_mas : float
        Photons into the collimated field per mAs.

    Raises
    ------
    InputError
        ``relative_mas`` of another length.
    """
    scanner = protocol.scanner
    channel = scanner.fan_angles_rad()
    half_pitch = 0.5 * (channel[1] - channel[0])
    edge = np.linspace(channel[0] - half_pitch, channel[-1] + half_pitch, FAN_BINS + 1)
    fluence = beam_fluence(protocol, bin_width_kev=BIN_WIDTH_KEV, fan_angle_rad=0.5 * (edge[1:] + edge[:-1]))
    energy = fluence["energy"].values
    # photons of the first keV bins never leave the tube, and the transport starts at the cut-off
    keep = (energy - 0.5 * BIN_WIDTH_KEV >= CUTOFF_KEV) & (fluence.values.sum(axis=0) > 0)
    weight = np.ones(len(view)) if relative_mas is None else np.asarray(relative_mas, dtype=float)
    if weight.shape != (len(view),):
        refuse("relative_mas", f"one value per view ({len(view)})", f"shape {weight.shape}")
    return gantry_source(
        fluence.values[:, keep],
        energy[keep],
        fan_low_rad=float(edge[0]),
        fan_step_rad=float(edge[1] - edge[0]),
        bin_width_kev=BIN_WIDTH_KEV,
        view=view,
        view_weight=weight,
        radius_mm=scanner.source_to_isocentre_mm,
        isocentre_mm=isocentre_mm,
        half_width_mm=0.5 * (protocol.collimation_mm + scanner.over_beaming_mm),
    )


def default_isocentre(phantom: xr.Dataset) -> tuple[float, float]:
    """Middle of the body's bounding box in x and y, mm: where a technologist centres the patient."""
    body: np.ndarray = np.any(phantom["organ"].values > 0, axis=0)
    if not body.any():
        refuse("dose: phantom", "a body (organ labels above 0)", "none")
    y = phantom["y"].values[np.any(body, axis=1)]
    x = phantom["x"].values[np.any(body, axis=0)]
    return 0.5 * float(x[0] + x[-1]), 0.5 * float(y[0] + y[-1])
