"""Walls of a heart as level sets: signed distances of the outside, of the cavities and of the base plane."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from twinlab.schema import refuse

Array = NDArray[np.float64]
LevelSet = Callable[[Array], Array]

EPICARDIUM, LV_ENDOCARDIUM, RV_ENDOCARDIUM, BASE = 1, 2, 3, 4
"""Values of ``facet_surface``."""

SURFACES = {
    "epicardium": EPICARDIUM,
    "lv_endocardium": LV_ENDOCARDIUM,
    "rv_endocardium": RV_ENDOCARDIUM,
    "base": BASE,
}


@dataclass(frozen=True)
class Solid:
    """The muscle between the outside of the heart and its cavities, below the base plane.

    Attributes
    ----------
    outside : callable
        Points (n, 3) in mm to signed distances in mm, positive inside the epicardium.
    cavities : mapping of int to callable
        Same for each cavity, by its value of ``facet_surface``; positive inside the cavity.
    base_point_mm, base_normal : ndarray, shape (3,)
        Plane of the base; the normal points out of the heart.
    septum_direction : ndarray, shape (3,)
        From the left ventricle towards the right, in the base plane.
    low_mm, high_mm : ndarray, shape (3,)
        Box that holds the muscle.
    volumes_ml : mapping of str to float
        Exact volumes below the base plane: ``lv``, ``rv`` (when there is one) and ``wall``.
    attrs : mapping
        What the heart made from it shall tell of its source.
    """

    outside: LevelSet
    cavities: dict[int, LevelSet]
    base_point_mm: Array
    base_normal: Array
    septum_direction: Array
    low_mm: Array
    high_mm: Array
    volumes_ml: dict[str, float]
    attrs: dict[str, Any] = field(default_factory=dict)

    def below_base(self, points: Array) -> Array:
        """Distance of points (n, 3) from the base plane, positive on the side of the apex, mm."""
        return -(points - self.base_point_mm) @ self.base_normal

    def levels(self, points: Array) -> dict[int, Array]:
        """Signed distances of the curved surfaces by ``facet_surface``, each positive on the muscle's side."""
        found = {EPICARDIUM: self.outside(points)}
        found.update({surface: -inside(points) for surface, inside in self.cavities.items()})
        return found

    def muscle(self, points: Array) -> Array:
        """Level set of the muscle without the base plane, positive inside, mm."""
        return np.minimum.reduce(list(self.levels(points).values()))

    def placed(self, origin_mm: Array, rotation: Array, **attrs: Any) -> Solid:
        """The solid in another pose: a point p of this one goes to ``origin_mm + rotation @ p``."""
        origin, turn = np.asarray(origin_mm, dtype=float), np.asarray(rotation, dtype=float)
        if not np.allclose(turn @ turn.T, np.eye(3), atol=1e-9) or np.linalg.det(turn) < 0:
            refuse("Solid.placed", "a proper rotation matrix", turn.tolist())

        def moved(level: LevelSet) -> LevelSet:
            return lambda points: level((points - origin) @ turn)

        ends = np.stack([self.low_mm, self.high_mm])
        corners = np.array(
            [[ends[i, 0], ends[j, 1], ends[k, 2]] for i in (0, 1) for j in (0, 1) for k in (0, 1)]
        )
        corners = origin + corners @ turn.T
        return replace(
            self,
            outside=moved(self.outside),
            cavities={surface: moved(level) for surface, level in self.cavities.items()},
            base_point_mm=origin + turn @ self.base_point_mm,
            base_normal=turn @ self.base_normal,
            septum_direction=turn @ self.septum_direction,
            low_mm=corners.min(axis=0),
            high_mm=corners.max(axis=0),
            attrs={**self.attrs, **attrs},
        )


def ellipsoid(centre_mm: Array, radii_mm: Array) -> LevelSet:
    """Distance to an ellipsoid along z, y, x axes, positive inside; exact on the surface to first order.

    ``d = k (1 - k) / |grad k^2 / 2|`` with ``k = |(p - c) / r|``: the value of the implicit function over its
    gradient, which is the distance up to terms of second order in it.
    """
    centre, radii = np.asarray(centre_mm, dtype=float), np.asarray(radii_mm, dtype=float)
    smallest = float(radii.min())

    def level(points: Array) -> Array:
        q = (points - centre) / radii
        k = np.sqrt((q * q).sum(axis=1))
        slope = np.sqrt(((q / radii) ** 2).sum(axis=1))
        return np.where(k > 1e-6, k * (1.0 - k) / np.maximum(slope, 1e-9), smallest)

    return level


def union(one: LevelSet, two: LevelSet, *, blend_mm: float = 1e-6) -> LevelSet:
    """Level set of what lies in any of two bodies, the crease filled over about ``blend_mm``."""
    return lambda points: -_rounded(-one(points), -two(points), blend_mm)


def difference(level: LevelSet, taken: LevelSet, *, blend_mm: float = 1e-6) -> LevelSet:
    """Level set of what lies in the first body and not in the second, the edge rounded over about ``blend_mm``."""
    return lambda points: _rounded(level(points), -taken(points), blend_mm)


def _rounded(one: Array, two: Array, width: float) -> Array:
    """Smaller of two distances, less up to a quarter of ``width`` where they are nearly alike."""
    return np.minimum(one, two) - np.maximum(width - np.abs(one - two), 0.0) ** 2 / (4 * width)


def measured_ml(solid: Solid, *, step_mm: float) -> dict[str, float]:
    """Volumes of cavities and muscle below the base, from level sets on a grid, ml.

    A point counts by the share of a grid step that lies inside: second order in the step.
    """
    normal = solid.base_normal
    across = np.cross(normal, solid.septum_direction)
    frame = np.stack([solid.septum_direction, across / np.linalg.norm(across), -normal])
    ends = np.stack([solid.low_mm, solid.high_mm])
    corners = np.array([[ends[i, 0], ends[j, 1], ends[k, 2]] for i in (0, 1) for j in (0, 1) for k in (0, 1)])
    there = (corners - solid.base_point_mm) @ frame.T
    low, high = there.min(axis=0), there.max(axis=0)
    low[2] = 0.0  # the base; the first layer is half a step below it
    axes = [np.arange(a + step_mm / 2, b + step_mm, step_mm) for a, b in zip(low, high, strict=True)]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    points = solid.base_point_mm + grid @ frame

    def inside_ml(level: LevelSet) -> float:
        return float(np.clip(0.5 + level(points) / step_mm, 0.0, 1.0).sum() * step_mm**3 / 1000.0)

    names = {LV_ENDOCARDIUM: "lv", RV_ENDOCARDIUM: "rv"}
    found = {names[surface]: inside_ml(level) for surface, level in solid.cavities.items()}
    found["wall"] = inside_ml(solid.outside) - sum(found.values())
    return found


def sampled(values: Array, first_mm: Array, spacing_mm: float) -> LevelSet:
    """Level set given on an even grid, interpolated trilinearly; beyond the grid its nearest value.

    Parameters
    ----------
    values : ndarray, shape (z, y, x)
        Signed distances, mm.
    first_mm : ndarray, shape (3,)
        x, y, z of the first voxel.
    spacing_mm : float
    """
    first = np.asarray(first_mm, dtype=float)

    def level(points: Array) -> Array:
        index = ((points - first) / spacing_mm).T[::-1]
        found: Array = ndimage.map_coordinates(values, index, order=1, mode="nearest")
        return found

    return level
