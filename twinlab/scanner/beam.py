"""The beam: photons behind the tube's filters and the bowtie, and photons per detector cell."""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from twinlab.physics.attenuation import mass_attenuation
from twinlab.physics.materials import get as material
from twinlab.physics.spectra import tube_spectrum
from twinlab.scanner.geometry import cell_solid_angle
from twinlab.scanner.models import NO_BOWTIE, Protocol
from twinlab.schema import label, refuse

REFERENCE_DISTANCE_MM = 1000.0
NOTHING = 1e-30  # photons/mm2/mAs; below, numbers turn subnormal and slow every loop that meets them


def beam_fluence(
    protocol: Protocol, *, bin_width_kev: float = 1.0, fan_angle_rad: ArrayLike | None = None
) -> xr.DataArray:
    """Photons behind flat filters and bowtie over the fan, without an object.

    The bowtie tables give the path along the ray at each fan angle, so no obliquity is applied in the fan.
    Across the rows the path grows by 1 / cos(cone angle), 0.2 % at the edge of 40 mm and 0.9 % at 160 mm,
    which is left out, as is the heel effect. Scatter from the bowtie is not included.

    Parameters
    ----------
    protocol : Protocol
    bin_width_kev : float
        Width of the energy bins, keV.
    fan_angle_rad : array_like, optional
        Fan angles, rad. Default: the detector's channels.

    Returns
    -------
    DataArray ``beam_fluence``, dims (fan_angle, energy), 1/(mm2 mAs)
        At 1 m from the focal spot, across the ray.

    Raises
    ------
    InputError
        Fan angles that are not a line of finite numbers within +-90 degrees.
    """
    scanner = protocol.scanner
    fan = (
        scanner.fan_angles_rad() if fan_angle_rad is None else np.atleast_1d(np.asarray(fan_angle_rad, float))
    )
    if fan.ndim != 1 or not np.isfinite(fan).all() or np.abs(fan).max(initial=0.0) >= np.pi / 2:
        refuse("beam_fluence: fan_angle_rad", "one dimension of angles within +-pi/2", fan_angle_rad)
    tube = scanner.tube
    spectrum = tube_spectrum(
        kv=protocol.kv,
        anode_angle_deg=tube.anode_angle_deg,
        filters=tube.filters,
        bin_width_kev=bin_width_kev,
    )
    energy = spectrum["energy"].to_numpy()
    values = np.broadcast_to(spectrum.to_numpy(), (fan.size, energy.size))
    if protocol.bowtie != NO_BOWTIE:
        bowtie = scanner.bowties[protocol.bowtie]
        mu_per_mm = (
            mass_attenuation(bowtie.material, energy)[0] * material(bowtie.material).density_g_cm3 / 10.0
        )
        values = values * np.exp(-bowtie.path_mm(fan)[:, np.newaxis] * mu_per_mm)
    return label(
        "beam_fluence",
        np.where(values < NOTHING, 0.0, values),
        {"fan_angle": fan, "energy": energy},
        kv=float(protocol.kv),
        bowtie=protocol.bowtie,
        bin_width_kev=float(bin_width_kev),
    )


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
