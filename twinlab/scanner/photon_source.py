"""Sources of a transport run: a point with a field, a tube on its path, and the beam of a protocol."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from twinlab.kernels.sampling import alias_table
from twinlab.kernels.transport_data import CUTOFF_KEV, ENERGY_MAX_KEV, Source
from twinlab.kernels.transport_source import BEAM_VALUES, FIELD, GANTRY, STATION_VALUES
from twinlab.scanner.collimation import Beam, half_slope, passed
from twinlab.scanner.models import NO_BOWTIE, Protocol
from twinlab.schema import refuse

FAN_BINS = 128  # a bin is below 0.5 degrees: bowties are given per degree
CONE_BINS = 16  # where the beam varies along z: heel over 40 mm is 1 % a bin
BIN_WIDTH_KEV = 1.0
LEAST_OPEN = 1e-3  # views whose blades pass less than this share of the beam count as closed
_FAR = 1e9
_SR = 1e6  # photons/mm2 at 1 m per photon/sr


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
        kind=np.array([FIELD, 1, 1], np.int32),
        geometry=geometry.astype(np.float32),
        probability=probability,
        alias=alias,
        energy=energy,
        view_probability=one[0],
        view_alias=one[1],
        stations=np.zeros((1, STATION_VALUES), np.float32),
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
    """CT tube on its path, with the same beam at every cone angle.

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
    beam = Beam(
        fluence=np.asarray(fluence)[np.newaxis],
        energy_kev=np.asarray(energy_kev, float),
        bin_width_kev=bin_width_kev,
        fan_low_rad=fan_low_rad,
        fan_step_rad=fan_step_rad,
        sine=float(half_width_mm / np.hypot(half_width_mm, radius_mm)),
        radius_mm=radius_mm,
        isocentre_mm=isocentre_mm,
        view=view,
        weight=view_weight,
    )
    return joined([(beam, 1.0)])


def joined(beams: Sequence[tuple[Beam, float]]) -> tuple[Source, float]:
    """One source of all tubes of a scan.

    Parameters
    ----------
    beams : sequence of (Beam, float)
        With the mAs of each over its views.

    Returns
    -------
    source : Source
    photons : float
        Photons into the collimated fields, for these mAs.

    Raises
    ------
    InputError
        Beams of different energy bins, or blades that never open.
    """
    energy = np.unique(np.concatenate([np.round(beam.energy_kev, 6) for beam, _ in beams]))
    cones = {beam.fluence.shape[:2] for beam, _ in beams}
    if len(cones) > 1 or len({beam.bin_width_kev for beam, _ in beams}) > 1:
        refuse("source", "beams in the same bins of angle and energy", sorted(cones))
    plain = len(beams) == 1 and beams[0][0].slope is None  # without blades, which the kernel then skips
    tables, rows, stations, weights, photons = [], [], [], [], 0.0
    for number, (beam, mas) in enumerate(beams):
        place = np.searchsorted(energy, np.round(beam.energy_kev, 6))
        fluence = np.zeros((*beam.fluence.shape[:2], energy.size))
        fluence[..., place] = beam.fluence
        n_cone = len(fluence)
        tables.append(alias_table(fluence))
        rows.append(_geometry(beam, n_cone))
        open_share = passed(beam)
        keep = slice(None) if open_share is None else open_share > LEAST_OPEN
        weight = np.asarray(beam.weight, float)
        number_of = float(np.sum(beam.fluence) * _SR * beam.fan_step_rad * 2 * beam.sine) / n_cone * mas
        if open_share is not None:
            number_of *= float((weight[keep] * open_share[keep]).sum() / weight.sum())
            weight = weight * open_share
        stations.append(_stations(beam, number)[keep, : 4 if plain else STATION_VALUES])
        weights.append(weight[keep])
        photons += number_of
        if len(beams) > 1 and weight[keep].sum() > 0:
            weights[-1] = weight[keep] * (number_of / weight[keep].sum())
    if not photons > 0:
        refuse("source", "a beam that leaves the collimator", "blades closed in all views")
    view_probability, view_alias = alias_table(np.concatenate(weights))
    source = Source(
        kind=np.array([GANTRY, len(beams), next(iter(cones))[0]], np.int32),
        geometry=np.concatenate(rows).astype(np.float32),
        probability=np.concatenate([table[0] for table in tables]),
        alias=np.concatenate([table[1] for table in tables]),
        energy=_energies(energy, beams[0][0].bin_width_kev),
        view_probability=view_probability,
        view_alias=view_alias,
        stations=np.ascontiguousarray(np.concatenate(stations), dtype=np.float32),
    )
    return source, photons


def _geometry(beam: Beam, n_cone: int) -> np.ndarray:
    """Values of a beam as :func:`twinlab.kernels.transport_source.emit` reads them."""
    values = [
        beam.radius_mm, *beam.isocentre_mm, beam.fan_low_rad, beam.fan_step_rad, -beam.sine,
        2 * beam.sine / n_cone, beam.spot_mm[1], beam.spot_mm[0], 1.0 / beam.blade_mm, float(beam.straight),
        beam.tilt_rad,
    ]  # fmt: skip
    assert len(values) == BEAM_VALUES
    return np.array(values)


def _stations(beam: Beam, number: int) -> np.ndarray:
    n = len(beam.view)
    # many turns of a helix would cost float32 digits of the angle
    turned = np.column_stack([np.mod(beam.view[:, 0], 2 * np.pi), beam.view[:, 1:]])
    slope = np.tile([-_FAR, _FAR], (n, 1)) if beam.slope is None else beam.slope
    return np.column_stack([turned, np.full(n, number), slope])


def protocol_beam(
    protocol: Protocol,
    view: np.ndarray,
    *,
    isocentre_mm: tuple[float, float],
    relative_mas: np.ndarray | None = None,
    slope: np.ndarray | None = None,
    tilt_rad: float = 0.0,
) -> Beam:
    """Beam of one tube: what the scanner's fluence is over cone angle, fan angle and energy.

    Parameters
    ----------
    protocol, view, isocentre_mm, relative_mas
        As for :func:`beam_source`.
    slope : (view, 2) array, optional
        Where the blades stand in each view: tangents of the cone angles between which the beam passes.
    tilt_rad : float
        Lean of the gantry about the isocentre; above 0 its anterior side is nearer to the feet.

    Raises
    ------
    InputError
        ``relative_mas`` or ``slope`` of another length.
    """
    scanner = protocol.scanner
    channel = scanner.fan_angles_rad()
    half_pitch = 0.5 * (channel[1] - channel[0])
    edge = np.linspace(channel[0] - half_pitch, channel[-1] + half_pitch, FAN_BINS + 1)
    half, spot, blade = half_slope(protocol)
    straight = scanner.detector.shape == "flat"
    if slope is None and (spot[1] > 0 or straight):
        slope = np.tile([-half, half], (len(view), 1))
    reach = half + (0.5 * spot[1] / blade if spot[1] > 0 else 0.0)
    width = reach * scanner.source_to_isocentre_mm
    sine = float(width / np.hypot(width, scanner.source_to_isocentre_mm))
    fan = 0.5 * (edge[1:] + edge[:-1])
    bowtie = None if protocol.bowtie == NO_BOWTIE else scanner.bowties[protocol.bowtie]
    cone = None
    if scanner.tube.heel or (bowtie is not None and bowtie.varies_with_cone):
        cone = np.arcsin(sine * ((2 * np.arange(CONE_BINS) + 1) / CONE_BINS - 1))
    from twinlab.scanner.beam import (
        beam_fluence,
    )  # here, because the tube's model takes half a second to load

    fluence = beam_fluence(protocol, bin_width_kev=BIN_WIDTH_KEV, fan_angle_rad=fan, cone_angle_rad=cone)
    values = fluence.values.reshape(-1, FAN_BINS, fluence.sizes["energy"])
    energy = fluence["energy"].values
    # photons of the first keV bins never leave the tube, and the transport starts at the cut-off
    keep = (energy - 0.5 * BIN_WIDTH_KEV >= CUTOFF_KEV) & (values.sum(axis=(0, 1)) > 0)
    weight = np.ones(len(view)) if relative_mas is None else np.asarray(relative_mas, dtype=float)
    if weight.shape != (len(view),):
        refuse("relative_mas", f"one value per view ({len(view)})", f"shape {weight.shape}")
    if slope is not None and slope.shape != (len(view), 2):
        refuse("slope", f"two values per view ({len(view)})", f"shape {slope.shape}")
    return Beam(
        fluence=values[:, :, keep],
        energy_kev=energy[keep],
        bin_width_kev=BIN_WIDTH_KEV,
        fan_low_rad=float(edge[0]),
        fan_step_rad=float(edge[1] - edge[0]),
        sine=sine,
        radius_mm=scanner.source_to_isocentre_mm,
        isocentre_mm=isocentre_mm,
        view=view,
        weight=weight,
        spot_mm=spot,
        blade_mm=blade,
        straight=straight,
        tilt_rad=float(tilt_rad),
        slope=slope,
    )


def beam_source(
    protocol: Protocol,
    view: np.ndarray,
    *,
    isocentre_mm: tuple[float, float],
    relative_mas: np.ndarray | None = None,
) -> tuple[Source, float]:
    """Transport source of a protocol with one tube and an upright gantry.

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
    beam = protocol_beam(protocol, view, isocentre_mm=isocentre_mm, relative_mas=relative_mas)
    return joined([(beam, 1.0)])
