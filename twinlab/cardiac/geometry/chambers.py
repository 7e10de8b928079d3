"""Chambers of the heart in a contrast CT: blood by two classes, basins of the distance to muscle, the left wall."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage

from twinlab.cardiac.geometry.masks import CAVITY_MIN_ML, Mask, volume_ml
from twinlab.cardiac.geometry.solids import Array

CONTRAST_HU = 120.0
"""Least difference between blood and muscle for chambers to be told apart; they differ by 10 HU without contrast."""

LEFT_MUSCLE_SHARE = 0.5
"""Share of muscle in a basin's surroundings from which on it belongs to the left ventricle: the only chamber with a
thick wall all around. The right ventricle and the atria reach a third at most."""

_NECK_MM = 2.5  # basins are joined over necks whose half width is less than this below theirs
_SHELL_MM = 6.0
_FAT_HU = 20.0
_THICKEST_MM = 25.0
_PAPILLARY_MM = 7.0
_THICK_MM = 4.5  # muscle of the left wall; walls of the atria have 2 mm
_SURROUNDINGS_MM = 10.0


@dataclass(frozen=True)
class Chambers:
    """Masks on an even grid, and what was measured on the way.

    Attributes
    ----------
    left, right, left_wall, others : ndarray of bool
        Cavities of the ventricles (``right`` may be empty), muscle of the left one, further blood.
    threshold_hu, contrast_hu : float
        Between blood and muscle; difference of their medians.
    spread : float
        Half the change of the left cavity when the threshold goes from 40 to 60 % of the way, share.
    """

    left: Mask
    right: Mask
    left_wall: Mask
    others: Mask
    threshold_hu: float
    contrast_hu: float
    spread: float


def two_classes(values: Array) -> tuple[float, float, float]:
    """Threshold half-way between the medians of two classes (Otsu 1979), and the medians."""
    counts, edges = np.histogram(values, 256)
    centres = 0.5 * (edges[1:] + edges[:-1])
    weight, mean = np.cumsum(counts), np.cumsum(counts * centres)
    between = (mean[-1] * weight / weight[-1] - mean) ** 2 / np.maximum(weight * (weight[-1] - weight), 1)
    split = centres[between.argmax()]
    low, high = float(np.median(values[values < split])), float(np.median(values[values >= split]))
    return 0.5 * (low + high), low, high


def find_chambers(hu: Array, heart: Mask, vessels: Mask, step_mm: float) -> Chambers | str:
    """Left and right ventricle in a CT on an even grid, or why they cannot be told apart.

    Parameters
    ----------
    hu : ndarray, shape (z, y, x)
    heart : ndarray of bool
    vessels : ndarray of bool
        Parts of the heart's mask that are no chamber (pulmonary artery).
    step_mm : float

    Notes
    -----
    Blood is what is brighter than half-way between two classes (Otsu). Basins of the distance to its edge
    (watershed) are chambers, joined where the neck between them is hardly narrower than they are. The left ventricle
    is what has muscle all around; the right one has, of the others, most muscle that it shares with the left.
    """
    threshold, muscle_hu, blood_hu = two_classes(np.clip(hu[heart & ~vessels], -100, 800))
    contrast = blood_hu - muscle_hu
    if contrast < CONTRAST_HU:
        return f"blood and muscle differ by {contrast:.0f} HU, {CONTRAST_HU:.0f} are needed"
    smooth = ndimage.gaussian_filter(hu, 1.0 / step_mm)
    blood = ndimage.binary_opening((smooth > threshold) & heart & ~vessels)
    muscle = heart & ~blood & ~vessels & (smooth > _FAT_HU)
    basins = _basins(blood, step_mm)
    around = round(_SHELL_MM / step_mm)
    count = np.bincount(basins.ravel())
    big = [i for i in range(1, count.size) if count[i] * step_mm**3 / 1000 > 5]
    walled = np.zeros_like(blood)
    for i in big:
        basin = basins == i
        shell = ndimage.binary_dilation(basin, iterations=around) & ~basin & ~blood
        if (muscle & shell).sum() > LEFT_MUSCLE_SHARE * max(int(shell.sum()), 1):
            walled |= basin
    left = _walled(walled, muscle, step_mm)
    if volume_ml(left, step_mm) < CAVITY_MIN_ML:
        return f"no chamber of {CAVITY_MIN_ML:.0f} ml or more with muscle all around"
    left = _closed(left, _PAPILLARY_MM / step_mm) & heart & ~(blood & ~left)
    near_left = ndimage.distance_transform_edt(~left) * step_mm < _THICKEST_MM
    right = np.zeros_like(blood)
    best = 0
    for i in big:
        basin = basins == i
        if 2 * int((basin & left).sum()) > count[i]:
            continue
        basin &= ~left
        shared = int((ndimage.binary_dilation(basin, iterations=around) & muscle & near_left).sum())
        if shared > best and volume_ml(basin, step_mm) >= CAVITY_MIN_ML:
            best, right = shared, basin
    others = blood & ~left & ~right
    edge = ndimage.binary_dilation(left, iterations=2) & ~others & ~right & heart
    core = ndimage.binary_erosion(left, iterations=2)
    bright = smooth[edge & ~core]
    ends = [int((bright > threshold + side * 0.1 * contrast).sum()) for side in (-1, 1)]
    spread = 0.5 * (ends[0] - ends[1]) / max(int(left.sum()), 1)
    wall = seen_wall(left, muscle, step_mm)
    return Chambers(left, _largest(right), wall, others, threshold, contrast, float(spread))


def _basins(blood: Mask, step_mm: float) -> NDArray[np.int64]:
    depth = ndimage.gaussian_filter(ndimage.distance_transform_edt(blood) * step_mm, 1.5 / step_mm)
    image = sitk.GetImageFromArray((-depth).astype(np.float32))
    found = sitk.MorphologicalWatershed(image, level=_NECK_MM, markWatershedLine=False, fullyConnected=False)
    return np.asarray(sitk.GetArrayFromImage(found), dtype=np.int64) * blood


def _walled(basins: Mask, muscle: Mask, step_mm: float) -> Mask:
    """The one piece that has most thick muscle around it, without an atrium that hangs on a wide valve."""
    reach = _THICK_MM / 2 / step_mm
    core = ndimage.distance_transform_edt(muscle) > reach
    thick = ndimage.distance_transform_edt(~core) <= 1.5 * reach + 1
    marked, pieces = ndimage.label(basins)
    best, left = 0.0, np.zeros_like(basins)
    for i in range(1, pieces + 1):
        piece = marked == i
        shell = ndimage.binary_dilation(piece, iterations=2) & ~piece
        share = float((shell & thick).sum() / shell.sum())
        if volume_ml(piece, step_mm) >= CAVITY_MIN_ML and share > best:
            best, left = share, piece
    shell = ndimage.binary_dilation(left, iterations=2) & ~left
    sigma = _SURROUNDINGS_MM / step_mm
    with_muscle = ndimage.gaussian_filter((shell & thick).astype(np.float32), sigma)
    every = ndimage.gaussian_filter(shell.astype(np.float32), sigma)
    return _largest(left & (with_muscle > 0.5 * every))


def _largest(mask: Mask) -> Mask:
    marked, count = ndimage.label(mask)
    if count < 2:
        return mask
    return np.asarray(marked == int(np.bincount(marked.ravel())[1:].argmax()) + 1)


def _closed(mask: Mask, radius: float) -> Mask:
    """Mask with gaps narrower than twice the radius filled (papillary muscles count as cavity)."""
    grown = ndimage.distance_transform_edt(~mask) <= radius
    return np.asarray(ndimage.distance_transform_edt(grown) > radius) | mask


def seen_wall(left: Mask, muscle: Mask, step_mm: float) -> Mask:
    """Muscle that is reached from the left cavity straight through muscle: not the right free wall behind blood."""
    distance, nearest = ndimage.distance_transform_edt(~left, return_indices=True)
    places = np.argwhere(muscle & ~left & (distance * step_mm <= _THICKEST_MM))
    target = nearest[:, places[:, 0], places[:, 1], places[:, 2]].T
    allowed = muscle | left
    seen = np.ones(len(places), dtype=bool)
    for share in np.linspace(0.05, 0.95, 19):
        on_way = np.rint(places + share * (target - places)).astype(int)
        seen &= allowed[on_way[:, 0], on_way[:, 1], on_way[:, 2]]
    wall = np.zeros_like(left)
    found = places[seen]
    wall[found[:, 0], found[:, 1], found[:, 2]] = True
    return _largest(ndimage.binary_opening(wall))
