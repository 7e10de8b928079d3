"""The beam: photons behind the tube's filters and the bowtie, and photons per detector cell."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from twinlab.physics.attenuation import mass_attenuation, mass_energy_absorption
from twinlab.physics.materials import get as material
from twinlab.physics.spectra import tube_spectrum
from twinlab.scanner.geometry import cell_solid_angle
from twinlab.scanner.models import NO_BOWTIE, Protocol
from twinlab.schema import label, refuse

REFERENCE_DISTANCE_MM = 1000.0
LEAST_TAKE_OFF_DEG = 1.0
KNOT_STEP = 0.2  # of the logarithm of the take-off angle
NOTHING = 1e-30  # photons/mm2/mAs; below, numbers turn subnormal and slow every loop that meets them


def beam_fluence(
    protocol: Protocol,
    *,
    bin_width_kev: float = 1.0,
    fan_angle_rad: ArrayLike | None = None,
    cone_angle_rad: ArrayLike | None = None,
) -> xr.DataArray:
    """Photons behind flat filters and bowtie over the fan, without an object.

    The tube's heel counts where ``tube.heel`` is set (:func:`take_off_angle_rad`), the longer path of inclined
    rays through a bowtie where that is given by its shape or ``oblique``. Flat filters are taken as thick for
    every ray as on the central one. Scatter from the filters is not included.

    Parameters
    ----------
    protocol : Protocol
    bin_width_kev : float
        Width of the energy bins, keV.
    fan_angle_rad : array_like, optional
        Fan angles, rad. Default: the detector's channels.
    cone_angle_rad : array_like, optional
        Angles out of the plane of rotation, rad, above 0 towards +z. Default: the plane of rotation.

    Returns
    -------
    DataArray ``beam_fluence``, dims (fan_angle, energy), 1/(mm2 mAs)
        At 1 m from the focal spot, across the ray; with ``cone_angle_rad`` dims (cone_angle, fan_angle,
        energy).

    Raises
    ------
    InputError
        Angles that are not a line of finite numbers within +-90 degrees, or rays below the target's surface.
    """
    scanner = protocol.scanner
    fan = _angles("fan_angle_rad", scanner.fan_angles_rad() if fan_angle_rad is None else fan_angle_rad)
    cone = _angles("cone_angle_rad", 0.0 if cone_angle_rad is None else cone_angle_rad)
    values, energy = _tube_fluence(protocol, fan, cone, bin_width_kev)
    if protocol.bowtie != NO_BOWTIE:
        bowtie = scanner.bowties[protocol.bowtie]
        mu_per_mm = (
            mass_attenuation(bowtie.material, energy)[0] * material(bowtie.material).density_g_cm3 / 10.0
        )
        path = np.stack([bowtie.path_mm(fan, cone_angle_rad=float(angle)) for angle in cone])
        values = values * np.exp(-path[:, :, np.newaxis] * mu_per_mm)
    values = np.where(values < NOTHING, 0.0, values)
    attrs: dict[str, Any] = {
        "kv": float(protocol.kv),
        "bowtie": protocol.bowtie,
        "bin_width_kev": float(bin_width_kev),
    }
    coords = {"fan_angle": fan, "energy": energy}
    if cone_angle_rad is None:
        return label("beam_fluence", values[0], coords, **attrs)
    dims = ("cone_angle", "fan_angle", "energy")
    return label("beam_fluence", values, {"cone_angle": cone, **coords}, dims=dims, **attrs)


def _angles(name: str, values: ArrayLike) -> np.ndarray:
    angles = np.atleast_1d(np.asarray(values, float))
    if angles.ndim != 1 or not np.isfinite(angles).all() or np.abs(angles).max(initial=0.0) >= np.pi / 2:
        refuse(f"beam_fluence: {name}", "one dimension of angles within +-pi/2", values)
    return angles


def _tube_fluence(
    protocol: Protocol, fan: np.ndarray, cone: np.ndarray, bin_width_kev: float
) -> tuple[np.ndarray, np.ndarray]:
    """Fluence behind the flat filters (cone, fan, energy), and energies."""
    tube = protocol.scanner.tube
    beam: dict[str, Any] = {"kv": protocol.kv, "filters": tube.filters, "bin_width_kev": bin_width_kev}
    if not tube.heel:
        spectrum = tube_spectrum(anode_angle_deg=tube.anode_angle_deg, **beam)
        energy = spectrum["energy"].to_numpy()
        return np.broadcast_to(spectrum.to_numpy(), (cone.size, fan.size, energy.size)), energy
    take_off = take_off_angle_rad(tube.anode_angle_deg, fan_angle_rad=fan, cone_angle_rad=cone[:, np.newaxis])
    lowest = np.rad2deg(take_off.min())
    if lowest < LEAST_TAKE_OFF_DEG:
        refuse(
            f"{protocol.scanner.key}: heel",
            f"rays at least {LEAST_TAKE_OFF_DEG:g} degrees above the target's surface",
            f"{lowest:.2g} (anode angle {tube.anode_angle_deg:g})",
        )
    # spectra change slowly with the take-off angle: a parabola in its logarithm through three knots
    place = np.log(np.rad2deg(take_off) / tube.anode_angle_deg) / KNOT_STEP
    number = np.arange(np.rint(place.min()) - 1, np.rint(place.max()) + 2)
    knots = tube.anode_angle_deg * np.exp(KNOT_STEP * number)
    spectra = [tube_spectrum(anode_angle_deg=float(angle), **beam) for angle in knots]
    values = np.stack([spectrum.to_numpy() for spectrum in spectra])
    return _parabola(values, place - number[0]), spectra[0]["energy"].to_numpy()


def _parabola(values: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Values between even knots, at places in steps from the first, by the parabola through the three nearest."""
    i = np.clip(np.rint(place).astype(int), 1, len(values) - 2)
    t = (place - i)[..., np.newaxis]
    below, here, above = values[i - 1], values[i], values[i + 1]
    return np.maximum(here + 0.5 * t * (above - below) + 0.5 * t * t * (above - 2.0 * here + below), 0.0)


def take_off_angle_rad(
    anode_angle_deg: float, *, fan_angle_rad: ArrayLike = 0.0, cone_angle_rad: ArrayLike = 0.0
) -> np.ndarray:
    """Angle between a ray and the target's surface, rad.

    The anode lies on the side of -z: rays towards +z leave the target more steeply, cross less of it and are
    more, and softer. With anode angle a, ``sin(take-off) = sin a cos(fan) cos(cone) + cos a sin(cone)``. SpekPy's
    spectrum off the axis is that of an anode of the take-off angle [1]_.

    Parameters
    ----------
    anode_angle_deg : float
    fan_angle_rad, cone_angle_rad : array_like
        Broadcast against each other.

    References
    ----------
    .. [1] Poludniowski G et al. (2021) Technical Note: SpekPy v2.0. Med Phys 48:3630.

    Examples
    --------
    >>> round(float(np.rad2deg(take_off_angle_rad(7.0, cone_angle_rad=np.deg2rad(2.0)))), 9)
    9.0
    """
    anode = np.deg2rad(anode_angle_deg)
    fan, cone = np.asarray(fan_angle_rad, float), np.asarray(cone_angle_rad, float)
    return np.asarray(
        np.arcsin(np.sin(anode) * np.cos(fan) * np.cos(cone) + np.cos(anode) * np.sin(cone)), float
    )


def heel_factor(protocol: Protocol, *, cone_angle_rad: ArrayLike) -> np.ndarray:
    """Air kerma over the cone angle on the central channel, relative to the plane of rotation.

    1 everywhere where the tube has no heel and the bowtie no obliquity.

    Parameters
    ----------
    protocol : Protocol
    cone_angle_rad : array_like, shape (n,)

    Returns
    -------
    ndarray, shape (n,)
    """
    cone = np.concatenate([[0.0], np.atleast_1d(np.asarray(cone_angle_rad, float))])
    beam = beam_fluence(protocol, fan_angle_rad=[0.0], cone_angle_rad=cone)
    energy = beam["energy"].to_numpy()
    kerma = beam.to_numpy()[:, 0] @ (energy * mass_energy_absorption("air", energy)[0])
    return np.asarray(kerma[1:] / kerma[0], float)


def beam_knots_mm(protocol: Protocol) -> np.ndarray:
    """Rows [mm at the detector] between which the beam's spectrum is interpolated by :func:`row_weights`.

    The middle alone where the beam is the same in every row.
    """
    bowtie = protocol.scanner.bowties.get(protocol.bowtie)
    if not protocol.scanner.tube.heel and (bowtie is None or not bowtie.varies_with_cone):
        return np.zeros(1)
    edge = max(abs(float(protocol.row_positions_mm()[-1])), 1.0)
    return edge * np.array([-1.0, -0.5, 0.0, 0.5, 1.0])


def row_weights(knot_mm: ArrayLike, row_mm: ArrayLike) -> np.ndarray:
    """Weights (row, knot) of the polynomial through all knots; one row of 1 for a single knot."""
    knot, row = np.asarray(knot_mm, float), np.asarray(row_mm, float)
    if knot.size == 1:
        return np.ones((1, 1))
    others = ~np.eye(knot.size, dtype=bool)
    factors = [
        np.prod((row[:, None] - knot[others[k]]) / (knot[k] - knot[others[k]]), axis=1)
        for k in range(knot.size)
    ]
    return np.stack(factors, axis=1)


def photons_per_cell(
    protocol: Protocol, *, bin_width_kev: float = 1.0, row_mm: float | None = None
) -> xr.DataArray:
    """Mean number of photons that meet each detector cell in one view, without an object.

    ``fluence(1 m) * (1 m)^2 * solid angle * fill factor * mAs per view``; the detector's efficiency is not
    in it.

    Parameters
    ----------
    protocol : Protocol
        With a tube current.
    bin_width_kev : float
        Width of the energy bins, keV.
    row_mm : float, optional
        Row position at the detector, mm. Default: the middle of the detector. Other rows scale as
        :func:`twinlab.scanner.cell_solid_angle`.

    Returns
    -------
    DataArray ``photons``, dims (channel, energy)
        Coordinate ``fan_angle`` (channel), rad.

    Raises
    ------
    InputError
        The protocol has a quality reference only.
    """
    fluence = beam_fluence(protocol, bin_width_kev=bin_width_kev)
    angle = cell_solid_angle(protocol, row_mm=[0.0 if row_mm is None else row_mm])
    per_view = protocol.mas / protocol.scanner.views_per_rotation
    cell = angle.to_numpy()[0] * REFERENCE_DISTANCE_MM**2 * protocol.scanner.detector.fill_factor * per_view
    return label(
        "photons",
        fluence.to_numpy() * cell[:, np.newaxis],
        {"fan_angle": ("channel", fluence["fan_angle"].to_numpy()), "energy": fluence["energy"].to_numpy()},
        bin_width_kev=float(bin_width_kev),
    )
