"""Where the body is: table, clothes and padding are not part of it; lungs and airways are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from twinlab.schema import refuse

PADDING_HU = -2048.0
"""What readers write where the scanner reconstructed nothing."""

PADDED_BELOW_HU = -1050.0
"""No matter has a mean CT number below this (air is -1000); padding has, but so has noise in air and lung."""

CORE_HU, EDGE_HU = -300.0, -500.0
OPENING_MM, CLOSING_MM = 3.0, 3.0
THICK_MM = 15.0
"""A part of the body holds a ball of this radius; table tops, straps and blankets do not."""


def body_mask(
    hu: np.ndarray, *, spacing_mm: Sequence[float], labelled: np.ndarray | None = None
) -> np.ndarray:
    """Voxels of the body, air inside included.

    Above -300 HU, opened by 3 mm (parts the body from the table), thick parts only, grown by one voxel to
    the half-way CT number of the skin, closed by 3 mm, and holes filled slice by slice.

    Parameters
    ----------
    hu : ndarray, shape (z, y, x), units HU
    spacing_mm : (z, y, x)
    labelled : ndarray of bool, shape (z, y, x), optional
        Voxels with an organ label: always body.

    Returns
    -------
    ndarray of bool, shape (z, y, x)

    Raises
    ------
    InputError
        Nothing in the image is as dense as a body.
    """
    dense = hu > CORE_HU
    if not dense.any():
        refuse("body_mask", f"a body (voxels above {CORE_HU:g} HU)", f"at most {float(hu.max()):g} HU")
    pixels_open, pixels_close = (round(r / max(spacing_mm[1:])) for r in (OPENING_MM, CLOSING_MM))
    core = np.stack([_open(plane, pixels_open) for plane in dense])
    if not core.any():
        core = dense
    core = _thick_parts(core, spacing_mm)
    if labelled is not None:
        core |= labelled
    for k in range(hu.shape[0]):
        plane = core[k] | (grow(core[k]) & (hu[k] > EDGE_HU))
        core[k] = _filled(~_open(~plane, pixels_close))
    return core


def padded(plane: np.ndarray) -> np.ndarray:
    """Pixels of a slice in which the scanner reconstructed nothing.

    The field is a disc: what lies beyond it hangs together with a corner of the image. Pixels below -1050 HU that do
    not are noise in air or lung, and keep their value.

    Parameters
    ----------
    plane : ndarray, shape (y, x), units HU

    Returns
    -------
    ndarray of bool, shape (y, x)
    """
    return (plane == PADDING_HU) | from_corners(plane < PADDED_BELOW_HU)


def from_corners(mask: np.ndarray) -> np.ndarray:
    """The parts of a plane's mask that hold one of its corners."""
    corners = mask[:: mask.shape[0] - 1 or 1, :: mask.shape[1] - 1 or 1]
    if not corners.any():
        return np.zeros_like(mask)
    parts, _ = ndimage.label(mask)
    held = {int(parts[j, i]) for j in (0, -1) for i in (0, -1)} - {0}
    return np.isin(parts, list(held))


def grow(plane: np.ndarray, *, square: bool = False, beyond: bool = False) -> np.ndarray:
    """One-voxel dilation of a plane by a cross (or square); ``beyond`` is what lies outside the image."""
    wide = np.pad(plane, 1, constant_values=beyond)
    rows = wide[:, :-2] | wide[:, 1:-1] | wide[:, 2:] if square else wide[:, 1:-1]
    out = rows[:-2] | rows[1:-1] | rows[2:]
    if not square:
        out |= wide[1:-1, :-2]
        out |= wide[1:-1, 2:]
    return out


def _rounds(plane: np.ndarray, pixels: int) -> np.ndarray:
    """Dilation by an octagon, nearly a disc: crosses and squares in turn."""
    for k in range(pixels):
        plane = grow(plane, square=k % 2 == 1)
    return plane


def _open(plane: np.ndarray, pixels: int) -> np.ndarray:
    """In-plane opening; beyond the edge of the image there is more of the same."""
    if pixels == 0:
        return plane
    wide = np.pad(plane, pixels, mode="edge")
    wide = _rounds(~_rounds(~wide, pixels), pixels)
    return wide[pixels:-pixels, pixels:-pixels]


def _thick_parts(mask: np.ndarray, spacing_mm: Sequence[float]) -> np.ndarray:
    parts, count = ndimage.label(mask)
    if count <= 1:
        return mask
    sizes = np.bincount(parts.ravel(), minlength=count + 1)
    sizes[0] = 0
    keep = np.zeros(count + 1, bool)
    keep[sizes.argmax()] = True
    ball_voxels = 4 / 3 * np.pi * THICK_MM**3 / float(np.prod(spacing_mm))
    boxes = ndimage.find_objects(parts)
    for part in np.flatnonzero(sizes >= ball_voxels):
        if keep[part]:
            continue
        inside = np.pad(parts[boxes[part - 1]] == part, ((1, 1), (1, 1), (1, 1)))
        inside = np.stack([_filled(plane) for plane in inside])
        depth = ndimage.distance_transform_edt(inside, sampling=spacing_mm)
        keep[part] = depth.max() >= THICK_MM
    return keep[parts]


def _filled(plane: np.ndarray) -> np.ndarray:
    """Plane with its holes filled: background that does not reach the image's edge is inside."""
    parts, count = ndimage.label(~plane)
    open_air = np.zeros(count + 1, bool)
    for edge in (parts[0], parts[-1], parts[:, 0], parts[:, -1]):
        open_air[edge] = True
    open_air[0] = False
    return ~open_air[parts]


class Truncation(NamedTuple):
    """How much of the body the field of view cuts off.

    Attributes
    ----------
    fraction : float
        Share of the body's outline that lies on the rim of the reconstructed field (or the image's edge).
    slices : int
        Slices in which the body touches the rim.
    """

    fraction: float
    slices: int


def truncation(hu: np.ndarray, body: np.ndarray) -> Truncation:
    """Find where the body leaves the field of view.

    Parameters
    ----------
    hu : ndarray, shape (z, y, x), units HU
        With padding as read.
    body : ndarray of bool, shape (z, y, x)
    """
    outline = on_rim = slices = 0
    for plane, inside in zip(hu, body, strict=True):
        surface = inside & grow(~inside, beyond=True)
        rim = grow(padded(plane), square=True, beyond=True)
        # two voxels: the rim of a circle is jagged, and scanners blur it
        hit = int((surface & grow(rim)).sum())
        outline += int(surface.sum())
        on_rim += hit
        slices += hit > 3
    return Truncation(on_rim / outline if outline else 0.0, slices)


def skin_shell(
    body: np.ndarray, hu: np.ndarray, *, spacing_mm: Sequence[float], thickness_mm: float
) -> np.ndarray:
    """Outer shell of the body next to real air, in-plane; none where the field of view cuts the body.

    Parameters
    ----------
    body : ndarray of bool, shape (z, y, x)
    hu : ndarray, shape (z, y, x), units HU
        With padding as read.
    spacing_mm : (z, y, x)
    thickness_mm : float
        A voxel is skin when its centre is nearer than this to the surface.

    Returns
    -------
    ndarray of bool, shape (z, y, x)
    """
    # the surface lies half a voxel before the first voxel of air
    reach = thickness_mm + 0.5 * min(spacing_mm[1:])
    ny, nx = (int(np.floor(reach / step)) for step in spacing_mm[1:])
    dy, dx = np.mgrid[-ny : ny + 1, -nx : nx + 1]
    disc = (dy * spacing_mm[1]) ** 2 + (dx * spacing_mm[2]) ** 2 <= reach**2
    shell = np.zeros_like(body)
    if disc.sum() <= 1:
        return shell
    for k in range(body.shape[0]):
        air = ~body[k] & ~padded(hu[k])
        # only the air near the body counts, so the dilation runs on its outline alone
        edge = air & grow(body[k], square=True)
        shell[k] = _spread(edge, disc) & body[k]
    return shell


def _spread(mask: np.ndarray, disc: np.ndarray) -> np.ndarray:
    rows, columns = np.nonzero(mask)
    dy, dx = (d - s // 2 for d, s in zip(np.nonzero(disc), disc.shape, strict=True))
    out = np.zeros_like(mask)
    r, c = rows[:, None] + dy, columns[:, None] + dx
    ok = (r >= 0) & (r < mask.shape[0]) & (c >= 0) & (c < mask.shape[1])
    out[r[ok], c[ok]] = True
    return out
