"""Paths through bowties of any description, and a model for scanners whose filter is not published."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from twinlab.physics.attenuation import mass_attenuation
from twinlab.physics.materials import get as material
from twinlab.scanner.parts import Bowtie
from twinlab.schema import refuse

DESIGN_ENERGY_KEV = 65.0


def bowtie_path_mm(
    bowtie: Bowtie, fan_angle_rad: ArrayLike, *, cone_angle_rad: float = 0.0
) -> NDArray[np.floating[Any]]:
    """Path of rays through a bowtie, mm.

    A table of thickness is linear in the fan angle, one of transmission linear in its logarithm, both constant
    beyond their ends; ``oblique`` divides by the cosine of the cone angle. Through a shape (flat face at the
    distance d from the focal spot, thickness t at the lateral place x) a ray runs from d to the depth y where
    ``y - d = t(y tan(fan))``, and its path is ``(y - d) / (cos(fan) cos(cone))``.

    Parameters
    ----------
    bowtie : Bowtie
    fan_angle_rad : array_like, any shape
    cone_angle_rad : float
    """
    fan = np.asarray(fan_angle_rad, dtype=float)
    if bowtie.lateral_mm is not None:
        return _through_shape(bowtie, fan) / np.cos(cone_angle_rad)
    assert bowtie.fan_angle_deg is not None  # the model requires one of the two
    angle = np.rad2deg(fan)
    if bowtie.fan_angle_deg[0] >= 0.0:
        angle = np.abs(angle)
    path = np.interp(angle, np.asarray(bowtie.fan_angle_deg), thickness_mm(bowtie))
    return path / np.cos(cone_angle_rad) if bowtie.oblique else path


def thickness_mm(bowtie: Bowtie) -> NDArray[np.floating[Any]]:
    """Thicknesses of a bowtie's table, mm; from transmission by the attenuation at its energy."""
    if bowtie.transmission is None:
        return np.asarray(bowtie.thickness_mm, float)
    made_of = material(bowtie.material)
    mu_per_mm = mass_attenuation(made_of, np.array([bowtie.energy_kev]))[0, 0] * made_of.density_g_cm3 / 10.0
    return -np.log(np.asarray(bowtie.transmission)) / mu_per_mm


def _through_shape(bowtie: Bowtie, fan: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    """Path in the plane of rotation through a shape, by bisection of the depth of exit."""
    assert bowtie.distance_mm is not None
    thickness, near = thickness_mm(bowtie), bowtie.distance_mm
    low, high = np.zeros_like(fan), np.full_like(fan, float(thickness.max()))
    for _ in range(50):  # bisection to rounding
        depth = 0.5 * (low + high)
        lateral = (near + depth) * np.tan(fan)
        lateral = np.abs(lateral) if bowtie.lateral_mm and bowtie.lateral_mm[0] >= 0.0 else lateral
        inside = depth < np.interp(lateral, np.asarray(bowtie.lateral_mm), thickness)
        low, high = np.where(inside, depth, low), np.where(inside, high, depth)
    return 0.5 * (low + high) / np.cos(fan)


def equalising_path_mm(
    fan_angle_rad: ArrayLike,
    *,
    source_to_isocentre_mm: float,
    diameter_mm: float,
    strength: float,
    limit_mm: float,
    filter_material: str = "aluminum",
) -> NDArray[np.floating[Any]]:
    """Path through a filter that evens out a centred water cylinder, in part.

    ``raw = strength * mu_water / mu_filter * (diameter - chord(fan angle))`` at 65 keV, rounded off to
    ``limit_mm`` by ``raw / (1 + (raw / limit)^4)^(1/4)``. With strength 1 and no limit, filter and cylinder
    together attenuate the same along every ray [1]_; real filters equalise in part and level off near the
    edge of the fan, as measured profiles show [2]_.

    Parameters
    ----------
    fan_angle_rad : array_like
        rad, any shape.
    source_to_isocentre_mm, diameter_mm : float
        Distance of the focal spot; diameter of the cylinder, mm.
    strength : float
        0 (no filter) to 1 (complete).
    limit_mm : float
        Thickness that is never exceeded, mm.
    filter_material : str
        Key of the physics registry.

    Returns
    -------
    ndarray, shape of ``fan_angle_rad``, mm

    Raises
    ------
    InputError
        A length that is not positive or a strength outside 0 to 1.

    References
    ----------
    .. [1] Mail N et al. (2009) The influence of bowtie filtration on cone-beam CT image quality.
       Med Phys 36:22.
    .. [2] Whiting BR et al. (2014) Measurement of bow tie profiles in CT scanners using a real-time
       dosimeter. Med Phys 41:101915.
    """
    if not (source_to_isocentre_mm > 0 and diameter_mm > 0 and limit_mm > 0 and 0 <= strength <= 1):
        refuse(
            "equalising_path_mm",
            "positive lengths and a strength of 0 to 1",
            (source_to_isocentre_mm, diameter_mm, limit_mm, strength),
        )
    keys = ("water", filter_material)
    mu = mass_attenuation(keys, np.array([DESIGN_ENERGY_KEV]))[:, 0]
    mu = mu * [material(key).density_g_cm3 for key in keys]
    lateral = source_to_isocentre_mm * np.sin(np.asarray(fan_angle_rad, dtype=float))
    chord = 2.0 * np.sqrt(np.maximum((diameter_mm / 2.0) ** 2 - lateral**2, 0.0))
    raw = strength * mu[0] / mu[1] * (diameter_mm - chord)
    return raw / (1.0 + (raw / limit_mm) ** 4) ** 0.25
