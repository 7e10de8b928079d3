"""Elastic support of the heart by its surroundings: pericardium and great vessels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr

from twinlab.cardiac.mechanics.cavities import SURFACES
from twinlab.cardiac.mechanics.quadrature import quadratic_shape, quadratic_slope, triangle_rule
from twinlab.schema import refuse


@dataclass(frozen=True)
class Springs:
    """Springs on a surface: stiffness along the normal and along the surface, kPa per mm.

    The traction on the reference surface is ``-(k_n N N + k_t (I - N N)) u`` with the reference normal N
    (Robin condition; Pfaller 2019, Biomech Model Mechanobiol 18, 503, the springs of its equation 8).
    """

    surface: str
    normal_kpa_mm: float = 0.0
    along_kpa_mm: float = 0.0


def spring_blocks(heart: xr.Dataset, springs: Springs) -> tuple[np.ndarray, np.ndarray]:
    """Facets (facet, 6) of the surface and their stiffness (facet, 18, 18), kPa mm.

    Raises
    ------
    InputError
        Negative stiffness, or a surface that the mesh does not have.
    """
    if springs.normal_kpa_mm < 0 or springs.along_kpa_mm < 0:
        refuse("springs", "stiffness not below zero", springs)
    code = SURFACES.get(springs.surface, springs.surface)
    facet = np.asarray(heart["facet"])[np.asarray(heart["facet_surface"]) == code]
    if len(facet) == 0:
        refuse("springs", "a surface of the mesh", springs.surface)
    at, weight = triangle_rule()
    shape, slope = quadratic_shape(at), quadratic_slope(at)
    sides = np.einsum("fai,qak->fqki", np.asarray(heart["point"], float)[facet], slope)
    area = np.cross(sides[:, :, 0], sides[:, :, 1])
    size = np.linalg.norm(area, axis=-1)
    across = area[..., :, None] * area[..., None, :] / size[..., None, None] ** 2
    stiff = springs.along_kpa_mm * np.eye(3) + (springs.normal_kpa_mm - springs.along_kpa_mm) * across
    block = np.einsum("q,fq,qa,qb,fqij->faibj", weight, size, shape, shape, stiff)
    return facet, block.reshape(len(facet), 18, 18)
