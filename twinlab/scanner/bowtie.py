"""A model bowtie, for scanners whose filter is not published."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from twinlab.physics.attenuation import mass_attenuation
from twinlab.physics.materials import get as material
from twinlab.schema import refuse

DESIGN_ENERGY_KEV = 65.0


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
