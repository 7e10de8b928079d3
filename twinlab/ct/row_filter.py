"""Filter matrices of the positions of the focal spot: one, or two whose readings interleave, to a row.

With an in-plane flying focal spot two positions read every parallel angle at offsets half a channel apart. Both
readings together are one row of twice the sampling: each position's matrix is its half of the spline through
all samples, so that the sum of both is filtered up to the Nyquist frequency of the two.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinlab.ct.filters import Kernel, filter_matrix
from twinlab.ct.gantry import Geometry
from twinlab.ct.source_path import Segment

BEYOND = 0.3  # of half the detector: how far truncated rows are continued
APART = 0.25  # of a channel: least distance between interleaved samples

# Lengths of the matrix products are multiples of it, padded with zeros: OpenBLAS splits a sum into halves, which it
# rounds to whole vectors on one thread but not on several, and only then are both the same to the last bit.
EVEN = 32

Shift = tuple[float, float, float]


@dataclass(frozen=True)
class _Rows:
    """What a filter matrix depends on; the geometry without its views."""

    geometry: Geometry
    kernel: Kernel
    shift_mm: Shift
    beside_mm: Shift | None
    half: int
    extrapolate: bool
    dtype: str


def even(length: int) -> int:
    """Length of a product, not below a given one."""
    return -(-length // EVEN) * EVEN


def beyond_channels(geometry: Geometry) -> tuple[int, int]:
    """Channels by which truncated rows are continued on each side; none where opposite views take over."""
    n = math.ceil(BEYOND * 0.5 * geometry.n_channels)
    if not geometry.offset_panel:
        return n, n
    ends = geometry.fan_angle_rad[[0, -1]]
    return (0, n) if ends[1] > -ends[0] else (n, 0)


def _offsets(geometry: Geometry, shift_mm: Shift) -> NDArray[np.float64]:
    """Offsets t of the channels' rays from a displaced focal spot, mm."""
    distance, ahead = geometry.focus(shift_mm)
    return np.asarray(distance * np.sin(geometry.ray_angle(shift_mm) + ahead), dtype=np.float64)


def beside(geometry: Geometry, shift_mm: Shift) -> Shift | None:
    """The position of the focal spot whose samples lie between those of a given one, of the same height.

    None: no such position, or its samples come nearer than a quarter of a channel to the given ones, so that
    they add little: then positions are filtered each by itself and averaged.
    """
    near = [s for s in geometry.shifts_mm if s != shift_mm and abs(s[2] - shift_mm[2]) < 1e-6]
    if len(near) != 1:
        return None
    place = geometry.channel_position(_offsets(geometry, near[0]), shift_mm) % 1.0
    between = (place.min() > APART) and (place.max() < 1.0 - APART)
    return near[0] if between else None


def _matrix(rows: _Rows) -> NDArray[Any]:
    """Matrix (channel, t) of a row to filtered parallel samples ``-half .. half``, with zeros at both ends."""
    g, step = rows.geometry, rows.geometry.parallel_step_mm
    t = _offsets(g, rows.shift_mm)[[0, -1]]
    beyond = beyond_channels(g) if rows.extrapolate else (0, 0)
    low = int(np.floor(t[0] / step)) - 2 - 3 * beyond[0]
    high = int(np.ceil(t[1] / step)) + 3 + 3 * beyond[1]
    position = g.channel_position(step * np.arange(low, high, dtype=np.float64), rows.shift_mm)
    between = (
        None if rows.beside_mm is None else g.channel_position(_offsets(g, rows.beside_mm), rows.shift_mm)
    )
    matrix = filter_matrix(
        rows.kernel, channel_position=position, first=low, n_channels=g.n_channels, step_mm=step,
        out=(-rows.half, rows.half + 1), beyond=beyond, between=between,
    )  # fmt: skip
    if between is not None:
        matrix *= 2.0  # the mean of both positions is taken
    padded = np.zeros((even(g.n_channels), matrix.shape[0] + EVEN - 1), dtype=rows.dtype)
    padded[: g.n_channels, : matrix.shape[0]] = matrix.T
    return padded


@lru_cache(maxsize=4)
def _stack(rows: tuple[_Rows, ...]) -> NDArray[Any]:
    """Matrices of all positions of the focal spot; kept."""
    stack = np.stack([_matrix(r) for r in rows])
    stack.flags.writeable = False
    return stack


def matrices(
    geometry: Geometry, kernel: Kernel, *, half: int, extrapolate: bool, dtype: np.dtype[Any]
) -> NDArray[Any]:
    """Filter matrices (position of the focal spot, channel, t), in the order of ``geometry.shifts_mm``.

    Parameters
    ----------
    geometry : Geometry
    kernel : Kernel
    half : int
        Filtered samples are ``-half .. half`` parallel steps from the isocentre.
    extrapolate : bool
        Rows go on beyond the detector's ends.
    dtype : dtype

    Returns
    -------
    ndarray, read only
        The mean over the positions of the products with their rows is the filtered row, 1/mm. Zeros follow the last
        channel and sample, so that products may have lengths of :func:`even`.
    """
    path = Segment(0, 0, 0.0, 0.0, 0.0, geometry.segments[0].periodic, 1.0)
    bare = replace(geometry, segments=(path,), n_views=0, first_row_mm=0.0, tilt_rad=0.0)
    return _stack(
        tuple(
            _Rows(bare, kernel, s, beside(geometry, s), half, extrapolate, dtype.str)
            for s in geometry.shifts_mm
        )
    )
