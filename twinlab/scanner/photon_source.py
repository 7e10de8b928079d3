"""Sources of a transport run: a point with a field, a tube on its path, and the beam of a protocol."""

from __future__ import annotations

import numpy as np

from twinlab.kernels.sampling import alias_table
from twinlab.kernels.transport_data import CUTOFF_KEV, ENERGY_MAX_KEV, Source
from twinlab.kernels.transport_source import FIELD, GANTRY
from twinlab.scanner.beam import beam_fluence
from twinlab.scanner.models import Protocol
from twinlab.schema import refuse

FAN_BINS = 128  # a bin is below 0.5 degrees: bowties are given per degree
BIN_WIDTH_KEV = 1.0


def _energies(centre_kev: np.ndarray, width_kev: float) -> np.ndarray:
    centre = np.atleast_1d(np.asarray(centre_kev, dtype=float))
    low = centre - 0.5 * width_kev
    if low.min() < 1.0 or low.max() + width_kev > ENERGY_MAX_KEV + 1e-6:
        refuse("source", "energies from 1 to 150 keV", f"{low.min():g} to {low.max() + width_kev:g}")
    return np.stack([low, np.full_like(low, width_kev)], axis=1).astype(np.float32)


def field_source(
    energy_kev: np.ndarray | float,
    weight: np.ndarray | float = 1.0,
    *,
    position_mm: np.ndarray,
    corner_mm: np.ndarray,
    edges_mm: np.ndarray,
    bin_width_kev: float = 0.0,
) -> Source:
    """Point source, uniform per solid angle within a parallelogram; a pencil when its edges are zero.

    Parameters
    ----------
    energy_kev, weight : (n,) arrays
        Bin centres and relative numbers of photons.
    position_mm : (3,) array
        x, y, z in the grid's box coordinates.
    corner_mm, edges_mm : (3,), (2, 3) arrays
        Corner of the field in the same coordinates, and its two edge vectors.
    bin_width_kev : float
        Energies are uniform within a bin.

    Returns
    -------
    Source

    Raises
    ------
    InputError
        Energies outside 1 to 150 keV.
    """
    energy = _energies(np.asarray(energy_kev), bin_width_kev)
    probability, alias = alias_table(np.broadcast_to(weight, energy.shape[:1]))
    relative = np.asarray(corner_mm, dtype=float) - position_mm
    normal = np.cross(edges_mm[0], edges_mm[1])
    length = float(np.linalg.norm(normal))
    distance = abs(relative @ normal) / length if length > 0 else float(np.linalg.norm(relative))
    geometry = np.concatenate([position_mm, relative, edges_mm[0], edges_mm[1], [distance * (1 + 1e-6)]])
    one = alias_table(np.ones(1))
    return Source(
        kind=np.array([FIELD], np.int32),
        geometry=geometry.astype(np.float32),
        probability=probability,
        alias=alias,
        energy=energy,
        view_probability=one[0],
        view_alias=one[1],
        stations=np.zeros((1, 4), np.float32),
    )


def gantry_source(
    fluence: np.ndarray,
    energy_kev: np.ndarray,
    *,
    fan_low_rad: float,
    fan_step_rad: float,
    bin_width_kev: float,
    view: np.ndarray,
    view_weight: np.ndarray,
    radius_mm: float,
    isocentre_mm: tuple[float, float],
    half_width_mm: float,
) -> tuple[Source, float]:
    """CT tube on its path.

    Parameters
    ----------
    fluence : (fan_angle, energy) array
        Photons/mm2/mAs per energy bin at 1 m, in the middle of even fan-angle bins.
    energy_kev : (energy,) array
        Bin centres.
    fan_low_rad, fan_step_rad : float
        Lower edge of the first fan-angle bin, and the width of a bin.
    bin_width_kev : float
    view : (view, 4) array
        Gantry angle [rad], table position [mm, grid's box coordinates], and how far both move in the view.
    view_weight : (view,) array
        Relative mAs of the views.
    radius_mm : float
        Focal spot to isocentre.
    isocentre_mm : (x, y)
        In the grid's box coordinates.
    half_width_mm : float
        Half the beam's width along z at the isocentre.

    Returns
    -------
    source : Source
    photons_per_mas : float
        Photons that the source sends into the field per mAs.

    Notes
    -----
    A fluence at 1 m is a number per solid angle (1e-6 sr/mm2). The field is even in the sine of the cone
    angle, so its solid angle is fan angle times the difference of the sines.
    """
    sine = half_width_mm / np.hypot(half_width_mm, radius_mm)
    probability, alias = alias_table(fluence)
    view_probability, view_alias = alias_table(view_weight)
    # many turns of a helix would cost float32 digits of the angle
    turned = np.column_stack([np.mod(view[:, 0], 2 * np.pi), view[:, 1:]])
    geometry = [radius_mm, isocentre_mm[0], isocentre_mm[1], fan_low_rad, fan_step_rad, -sine, 2 * sine]
    source = Source(
        kind=np.array([GANTRY], np.int32),
        geometry=np.array(geometry, np.float32),
        probability=probability,
        alias=alias,
        energy=_energies(energy_kev, bin_width_kev),
        view_probability=view_probability,
        view_alias=view_alias,
        stations=np.ascontiguousarray(turned, dtype=np.float32),
    )
    return source, float(np.sum(fluence) * 1e6 * fan_step_rad * 2 * sine)


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
