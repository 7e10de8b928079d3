"""Solids of a patient's ventricles from masks: base plane, axes, level sets."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from twinlab.cardiac.geometry.masks import CAVITY_MIN_ML, Mask, smooth_level
from twinlab.cardiac.geometry.solids import (
    LV_ENDOCARDIUM,
    RV_ENDOCARDIUM,
    Array,
    LevelSet,
    Solid,
    measured_ml,
    sampled,
)
from twinlab.schema import refuse

LEFT_WALL_MIN_MM = 4.0
"""Thinnest left wall and septum: what the mask leaves thinner is filled up to it."""

_BELOW_VALVE = 0.1  # share of the orifice that may lie below the base plane


@dataclass(frozen=True)
class Axes:
    """Long axis of the left ventricle in the patient system.

    Attributes
    ----------
    apex_mm, base_mm : ndarray, shape (3,)
        Tip of the cavity, and middle of the base plane.
    normal : ndarray, shape (3,)
        From apex to base.
    septum : ndarray, shape (3,)
        From the left ventricle to the right, square to ``normal``.
    """

    apex_mm: Array
    base_mm: Array
    normal: Array
    septum: Array

    def lowered(self, by_mm: float) -> Axes:
        """The same axes with the base plane nearer to the apex."""
        return replace(self, base_mm=self.base_mm - by_mm * self.normal)


def places_mm(mask: Mask, coords: dict[str, Array]) -> Array:
    """Centres of true voxels, x y z, mm."""
    k, j, i = np.nonzero(mask)
    return np.stack([coords["x"][i], coords["y"][j], coords["z"][k]], axis=1)


def find_axes(left: Mask, orifice: Mask, right: Mask, coords: dict[str, Array], *, where: str) -> Axes:
    """Long axis from the cavity's orifice to the point farthest from it.

    Parameters
    ----------
    left : ndarray of bool
        Left cavity.
    orifice : ndarray of bool
        Voxels of the cavity that touch other blood, or no muscle.
    right : ndarray of bool
        Right cavity, or empty.
    coords : mapping of str to ndarray
    """
    if orifice.sum() < 20:
        refuse(where, "a left cavity that opens to an atrium or the aorta", "one closed on all sides")
    opening, cavity = places_mm(orifice, coords), places_mm(left, coords)
    middle = opening.mean(axis=0)
    far = np.linalg.norm(cavity - middle, axis=1)
    apex = cavity[far > np.quantile(far, 0.998)].mean(axis=0)
    normal = (middle - apex) / np.linalg.norm(middle - apex)
    height = np.quantile((opening - apex) @ normal, _BELOW_VALVE)
    if right.any():
        septum = places_mm(right, coords).mean(axis=0) - cavity.mean(axis=0)
    else:
        septum = np.array([-1.0, -0.5, 0.0])  # right ventricles lie to the right and in front
    septum -= normal * (septum @ normal)
    return Axes(apex, apex + height * normal, normal, septum / np.linalg.norm(septum))


def masked_solid(
    left: Mask,
    left_wall: Mask,
    right: Mask,
    axes: Axes,
    coords: dict[str, Array],
    *,
    rv_wall_mm: float,
    smooth_mm: float,
    where: str,
) -> Solid:
    """Solid of one or both ventricles: smoothed masks below the base plane, the right wall of given thickness.

    The right free wall is hardly thicker than a voxel: it is laid around the right cavity, not measured.
    """
    step = float(coords["z"][1] - coords["z"][0])
    grid = np.stack(np.meshgrid(coords["x"], coords["y"], coords["z"], indexing="ij"), axis=-1)
    depth = -((grid - axes.base_mm) @ axes.normal).transpose(2, 1, 0)
    below = depth > 0
    inner = smooth_level(left, step, smooth_mm=smooth_mm, keep=below)
    outer = smooth_level(left | left_wall, step, smooth_mm=smooth_mm, keep=below)
    outer = np.maximum(outer, inner + LEFT_WALL_MIN_MM)
    names = {LV_ENDOCARDIUM: inner}
    # Pieces beyond the base (aortic root, outflow tract) must not come back below it.
    right = right & ~_grown(left, LEFT_WALL_MIN_MM / step) & (depth > -8.0)
    right = _largest_below(right, below)
    if (right & below).sum() * step**3 / 1000 >= CAVITY_MIN_ML:
        chamber = smooth_level(right, step, smooth_mm=smooth_mm, keep=below)
        chamber = np.minimum(chamber, -(inner + LEFT_WALL_MIN_MM))
        outer = np.maximum(outer, chamber + rv_wall_mm)
        names[RV_ENDOCARDIUM] = chamber
    first = np.array([coords["x"][0], coords["y"][0], coords["z"][0]])

    def level(values: Array) -> LevelSet:
        return sampled(values, first, step)

    inside = places_mm((outer > -step) & below, coords)
    low, high = inside.min(axis=0) - step, inside.max(axis=0) + step
    bare = Solid(
        outside=level(outer),
        cavities={k: level(v) for k, v in names.items()},
        base_point_mm=axes.base_mm,
        base_normal=axes.normal,
        septum_direction=axes.septum,
        low_mm=low,
        high_mm=high,
        volumes_ml={},
    )
    found = measured_ml(bare, step_mm=0.8 * step)
    if found["lv"] < CAVITY_MIN_ML:
        refuse(
            where, f"a left cavity of {CAVITY_MIN_ML:.0f} ml or more below the base", f"{found['lv']:.1f} ml"
        )
    return Solid(**{**bare.__dict__, "volumes_ml": found})


def _grown(mask: Mask, voxels: float) -> Mask:
    return np.asarray(ndimage.distance_transform_edt(~mask) <= voxels)


def _largest_below(mask: Mask, below: Mask) -> Mask:
    """The mask without the parts whose share below the base is not the largest one."""
    marked, count = ndimage.label(mask)
    if count == 0:
        return mask
    sizes = np.bincount(marked[below], minlength=count + 1)
    sizes[0] = 0
    return np.asarray(marked == int(sizes.argmax()))


def pose(axes: Axes, base_height_mm: float) -> tuple[Array, Array]:
    """Origin and rotation that lay an idealised solid (x off the septum, z to the base) along the axes."""
    turn = np.stack([-axes.septum, np.cross(axes.normal, -axes.septum), axes.normal], axis=1)
    return axes.base_mm - base_height_mm * axes.normal, turn
