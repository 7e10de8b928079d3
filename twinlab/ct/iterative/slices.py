"""Slices of a wanted thickness from voxels that may be thinner: where the voxels lie, and their averages."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
_SAME = 1e-3  # relative: distances closer than this are one


def voxel_centres(z: Array, step: float, thickness: float) -> tuple[Array, float]:
    """Centres and height [mm] of voxels that fill slices of a thickness at even places ``z``.

    No voxel is thicker than a slice or than the distance of slices, and they reach as far as the outermost slices.
    """
    if abs(thickness / step - 1.0) < _SAME or z.size == 1:
        return z, thickness if z.size == 1 else step
    height = step / math.ceil(step / thickness - _SAME)
    beyond = max(math.ceil((thickness - height) / (2.0 * height) - _SAME), 0)
    n = round((z[-1] - z[0]) / height) + 1
    return z[0] + height * np.arange(-beyond, n + beyond), height


def averages(image: Array, voxel_z: Array, height: float, z: Array, thickness: float) -> Array:
    """Means of voxels over slices, each voxel by the length that the slice has of it; shape (slice, y, x)."""
    top = np.minimum(z[:, None] + 0.5 * thickness, voxel_z + 0.5 * height)
    bottom = np.maximum(z[:, None] - 0.5 * thickness, voxel_z - 0.5 * height)
    share = np.maximum(top - bottom, 0.0)
    share[share < _SAME * height] = 0.0
    share /= share.sum(axis=1, keepdims=True)
    return np.tensordot(share.astype(image.dtype), image, axes=1)


def at_heights(image: Array, z: Array, wanted: Array) -> Array:
    """Slices of an image at other places: linear between its own, the outermost repeated beyond them."""
    if z.size == 1:
        return np.repeat(image, wanted.size, axis=0)
    place = np.clip(np.interp(wanted, z, np.arange(z.size)), 0, z.size - 1)
    lower = np.minimum(place.astype(int), z.size - 2)
    share = (place - lower).astype(image.dtype)[:, None, None]
    return (1 - share) * image[lower] + share * image[lower + 1]
