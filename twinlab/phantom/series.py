"""Geometry of a stack of slices: order, duplicates, gaps, tilt."""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np
import pydicom
from scipy import ndimage

from twinlab.phantom.nifti import AXIS_TOLERANCE
from twinlab.schema import refuse

SAME_PLACE_MM = 0.01
UNEVEN = 0.02
"""Share of a step by which steps may differ: headers give positions with few digits."""

MAX_MISSING = 2
MAX_TILT_DEG = 30.0
"""Gantries tilt no further."""

MAX_TURN_DEG = 2.0
"""Couch and cone-beam systems write turns of a fraction of a degree; more means a reformatted series."""


MIXED = 1e-3
"""Share of padding in a resampled voxel above which it counts as padding: less changes it by 1 HU at most."""


class Stack(NamedTuple):
    """Slices in order.

    Attributes
    ----------
    order : ndarray of int, shape (n,)
        Order of the slices as they were given, from low to high ``position_mm``.
    position_mm : ndarray, shape (n,)
        Along the slices' normal.
    origin : ndarray, shape (3,)
        Centre of the first pixel of the first slice.
    row, column, step : ndarray, shape (3,)
        Patient vectors [mm] of one pixel along a row, along a column, and of 1 mm along the normal (with the
        sideways shift of a sheared stack).
    """

    order: np.ndarray
    position_mm: np.ndarray
    origin: np.ndarray
    row: np.ndarray
    column: np.ndarray
    step: np.ndarray

    @property
    def upright(self) -> bool:
        """Whether all three axes run along the patient's."""
        return all(_sideways(v) <= AXIS_TOLERANCE for v in (self.row, self.column, self.step))


def _sideways(vector: np.ndarray) -> float:
    size = np.sort(np.abs(vector)) / np.linalg.norm(vector)
    return float(np.hypot(size[0], size[1]))


def order(headers: list[pydicom.Dataset], where: str) -> Stack:
    """Sort slices along their normal; refuse oblique ones and stacks that wander sideways.

    Raises
    ------
    InputError
        One slice only, slices not transverse (within a gantry's tilt), or not on one straight line.
    """
    if len(headers) < 2:
        refuse(where, "a series of two slices or more", f"{len(headers)}")
    cosines = np.array(headers[0].ImageOrientationPatient, float)
    row, column = cosines[:3], cosines[3:]
    if abs(row @ column) > AXIS_TOLERANCE or not np.allclose(
        [np.linalg.norm(row), np.linalg.norm(column)], 1, atol=1e-3
    ):
        refuse(where, "orientation by two unit vectors at right angles", cosines.tolist())
    normal = np.cross(row, column)
    turned = np.degrees(np.arcsin(np.clip([np.hypot(*row[1:]), np.hypot(column[0], normal[0])], 0, 1)))
    tilt = np.degrees(np.arccos(min(1.0, abs(normal[2]))))
    if turned.max() > MAX_TURN_DEG or abs(row[0]) < 0.5 or tilt > MAX_TILT_DEG:
        refuse(
            where,
            f"transverse slices (tilted by {MAX_TILT_DEG:g} degrees at most, turned by {MAX_TURN_DEG:g})",
            f"oblique {cosines.tolist()}",
        )
    corners = np.array([h.ImagePositionPatient for h in headers], float)
    along = corners @ normal
    index = np.argsort(along, kind="stable")
    along, corners = along[index], corners[index]
    length = along[-1] - along[0]
    if length < SAME_PLACE_MM:
        refuse(where, "slices at different places", f"{len(headers)} slices at {along[0]:g} mm")
    step = (corners[-1] - corners[0]) / length
    astray = np.abs(corners - corners[0] - (along - along[0])[:, None] * step).max(axis=1)
    spacing = np.array(headers[0].PixelSpacing, float)
    if astray.max() > 0.2 * spacing.min():
        worst = int(astray.argmax())
        refuse(
            where,
            "slices in one straight stack",
            f"a slice at {along[worst]:g} mm that is {astray[worst]:.3g} mm aside",
        )
    if abs(step[0]) > np.sin(np.radians(MAX_TURN_DEG)):
        refuse(
            where, "slices stacked along the table", f"a stack that shifts by {step[0]:.3g} mm in x per mm"
        )
    return Stack(index, along, corners[0], row * spacing[1], column * spacing[0], step)


def drop_duplicates(
    images: list[np.ndarray], position_mm: np.ndarray, where: str
) -> tuple[list[np.ndarray], np.ndarray]:
    """Slices at one place, once, with a warning, when they are equal.

    Raises
    ------
    InputError
        They differ.
    """
    keep = [0]
    for k in range(1, len(images)):
        if position_mm[k] - position_mm[keep[-1]] > SAME_PLACE_MM:
            keep.append(k)
        elif not np.array_equal(images[k], images[keep[-1]]):
            refuse(where, "one slice at each place", f"different slices at {position_mm[k]:g} mm")
    if len(keep) < len(images):
        warnings.warn(
            f"{where}: {len(images) - len(keep)} slices given twice, counted once", UserWarning, stacklevel=3
        )
    return [images[k] for k in keep], position_mm[keep]


def fill_gaps(
    images: list[np.ndarray], position_mm: np.ndarray, repair: str, where: str
) -> tuple[np.ndarray, np.ndarray, list[float]]:
    """Volume on even steps; missing slices are refused or interpolated.

    Returns
    -------
    values : ndarray, shape (n, rows, columns)
    position_mm : ndarray, shape (n,)
    repaired : list of float
        Positions that were interpolated.

    Raises
    ------
    InputError
        A slice is missing or steps are uneven and ``repair`` is not ``"interpolate"``, or a gap is too wide.
    """
    steps = np.diff(position_mm)
    step = float(np.median(steps))
    if np.abs(steps - step).max() <= UNEVEN * step:
        even = np.linspace(position_mm[0], position_mm[-1], position_mm.size)
        return np.stack(images), even, []
    missing = np.rint(steps / step).astype(int) - 1
    regular = np.abs(steps - (missing + 1) * step).max() <= UNEVEN * step
    if regular:
        gaps = [p + step * (m + 1) for p, n in zip(position_mm[:-1], missing, strict=True) for m in range(n)]
        what = (
            "missing slices at "
            + ", ".join(f"{g:g}" for g in gaps[:8])
            + (" ..." if len(gaps) > 8 else "")
            + " mm"
        )
    else:
        what = f"uneven steps from {steps.min():g} to {steps.max():g} mm"
    if repair != "interpolate":
        refuse(where, "evenly spaced slices (repair='interpolate' fills in)", what)
    if steps.max() > (MAX_MISSING + 1 + UNEVEN) * step:
        refuse(where, f"gaps of {MAX_MISSING} slices at most to interpolate", what)
    count = round((position_mm[-1] - position_mm[0]) / step) + 1
    even = np.linspace(position_mm[0], position_mm[-1], count)
    upper = np.clip(np.searchsorted(position_mm, even), 1, position_mm.size - 1)
    share = (even - position_mm[upper - 1]) / (position_mm[upper] - position_mm[upper - 1])
    share[np.abs(share) < UNEVEN] = 0.0
    share[np.abs(share - 1) < UNEVEN] = 1.0
    values = np.stack(
        [
            images[u - 1] * np.float32(1 - s) + images[u] * np.float32(s)
            for u, s in zip(upper, share, strict=True)
        ]
    )
    repaired = [float(p) for p, s in zip(even, share, strict=True) if 0 < s < 1]
    warnings.warn(f"{where}: interpolated {len(repaired)} slices; {what}", UserWarning, stacklevel=3)
    return values, even, repaired


def to_patient_axes(
    values: np.ndarray, position_mm: np.ndarray, stack: Stack, padding: float
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Volume on ascending x, y, z; tilted and sheared stacks are resampled linearly, ``padding`` outside."""
    slice_step = stack.step * (position_mm[-1] - position_mm[0]) / (len(values) - 1)
    if stack.upright:
        axes = [
            (stack.origin[2], slice_step[2]),
            (stack.origin[1], stack.column[1]),
            (stack.origin[0], stack.row[0]),
        ]
        coords = [start + step * np.arange(n) for (start, step), n in zip(axes, values.shape, strict=True)]
        for axis, along in enumerate(coords):
            if along[-1] < along[0]:
                values, coords[axis] = np.flip(values, axis), along[::-1]
        return np.ascontiguousarray(values), dict(zip("zyx", coords, strict=True))
    # patient (z, y, x) of voxel (k, j, i) is start + voxel_axes @ (k, j, i)
    voxel_axes = np.stack([slice_step[::-1], stack.column[::-1], stack.row[::-1]], axis=1)
    start = stack.origin[::-1]
    ends = np.array(np.meshgrid(*([0, n - 1] for n in values.shape), indexing="ij")).reshape(3, 8)
    corners = start + (voxel_axes @ ends).T
    normal = np.cross(stack.row, stack.column)
    pixels = [np.linalg.norm(stack.column), np.linalg.norm(stack.row)]
    steps = np.array([abs(slice_step @ normal / normal[2]), *pixels])
    low = corners.min(axis=0)
    counts = np.floor((corners.max(axis=0) - low) / steps + 1e-6).astype(int) + 1
    back = np.linalg.inv(voxel_axes)
    shape = tuple(map(int, counts))
    place = {"matrix": back * steps, "offset": back @ (low - start), "output_shape": shape, "order": 1}
    out = ndimage.affine_transform(values, mode="constant", cval=padding, **place)
    # beyond the slices there is nothing; what is mixed from padding and air is no matter either
    nothing = (values == padding).astype(np.float32)
    share = ndimage.affine_transform(nothing, mode="constant", cval=1.0, **place)
    out[share > MIXED] = padding
    return out, {a: low[i] + steps[i] * np.arange(counts[i]) for i, a in enumerate("zyx")}
