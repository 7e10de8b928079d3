"""Paths of the focal spot: which views belong to one helix, rotation or part of a rotation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from twinlab.schema import refuse

TAPS = 6  # Lagrange interpolation over views


@dataclass(frozen=True)
class Segment:
    """Evenly spaced views of one path: a helix, a rotation (periodic), or a part of one (short).

    Views ``first + stride * i`` for ``i < count``; a flying focal spot makes one segment of every displacement
    ``shift_mm`` (tangential, radial, z).
    """

    first: int
    count: int
    start_angle_rad: float
    start_z_mm: float
    slope_mm_per_rad: float
    periodic: bool
    step_rad: float
    stride: int = 1
    short: bool = False
    shift_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def place(self, angle: NDArray[np.float64]) -> NDArray[np.float64]:
        """Fractional index of view angles within the segment."""
        return np.asarray((angle - self.start_angle_rad) / self.step_rad, dtype=np.float64)


def segments_of(
    projections: xr.Dataset, views: int, mode: str, fan_ends: NDArray[np.float64], *, where: str
) -> tuple[Segment, ...]:
    """Segments of a scan.

    Parameters
    ----------
    projections : Dataset
        ``view_angle``, ``source_z`` and perhaps ``focal_shift``.
    views : int
        Per rotation.
    mode : str
        "helical" or "axial".
    fan_ends : array (2,)
        Fan angles of the first and last channel, rad.
    where : str
        Named in errors.

    Returns
    -------
    tuple of Segment

    Raises
    ------
    InputError
        The path is uneven or too short.
    """
    angle = np.asarray(projections["view_angle"], dtype=float)
    z = np.asarray(projections["source_z"], dtype=float)
    shifts, cycle = _cycle(projections, where=where)
    if mode == "helical":
        _check_even(angle, views, where=where)
        slope = (z[-1] - z[0]) / (angle[-1] - angle[0])
        error = np.abs(z - z[0] - slope * (angle - angle[0])).max()
        if error > 0.02:  # mm; far below a row
            refuse(where, "a helix of constant feed", f"source positions {error:.3g} mm off a straight line")
        pieces = [(0, angle.size, False, False)]
    elif mode == "axial":
        slope = 0.0
        pieces = _axial_pieces(angle, z, views, fan_ends, where=where)
    else:
        refuse(where, "mode 'helical' or 'axial'", repr(mode))
    step = 2.0 * math.pi / views
    segments = []
    for first, count, periodic, short in pieces:
        if periodic and count % cycle:
            refuse(where, f"a multiple of {cycle} views per rotation for the flying focal spot", count)
        for phase in range(cycle):
            start = first + phase
            path = float(angle[start]), float(z[start]), float(slope)
            n = len(range(phase, count, cycle))
            shift = shifts[start % cycle]
            segments.append(Segment(start, n, *path, periodic, cycle * step, cycle, short, shift))
    if min(s.count for s in segments) < TAPS:
        refuse(where, f"{TAPS} views or more of each position of the focal spot", angle.size)
    return tuple(segments)


def _axial_pieces(
    angle: NDArray[np.float64],
    z: NDArray[np.float64],
    views: int,
    fan_ends: NDArray[np.float64],
    *,
    where: str,
) -> list[tuple[int, int, bool, bool]]:
    """First view, count, whether periodic, whether short, of the rotations at each table position."""
    starts = np.concatenate(([0], np.flatnonzero(np.abs(np.diff(z)) > 1e-3) + 1, [z.size]))
    pieces = []
    for lo, hi in pairwise(int(s) for s in starts):
        n = hi - lo
        if n % views == 0:
            for first in range(lo, hi, views):
                _check_even(angle[first : first + views], views, where=where)
                pieces.append((first, views, True, False))
            continue
        _check_even(angle[lo:hi], views, where=where)
        needed = views * (0.5 + float(fan_ends[1] - fan_ends[0]) / (2.0 * math.pi))
        if n < needed:
            expected = f"half a rotation and the fan, {math.ceil(needed)} views, at each table position"
            refuse(where, expected, f"{n} views at z = {z[lo]:g}")
        pieces.append((lo, n, False, n < views))
    return pieces


def _cycle(projections: xr.Dataset, *, where: str) -> tuple[list[tuple[float, float, float]], int]:
    """Displacements of the focal spot in their cycle over the views, and its length."""
    if "focal_shift" not in projections:
        return [(0.0, 0.0, 0.0)], 1
    shift = np.asarray(projections["focal_shift"].transpose("view", "shift_axis"), dtype=float)
    for cycle in (1, 2, 4):
        if np.abs(shift[cycle:] - shift[:-cycle]).max(initial=0.0) < 1e-9:
            a, b, c = shift[:cycle].T
            return list(zip(a.tolist(), b.tolist(), c.tolist(), strict=True)), cycle
    refuse(where, "a focal spot that returns after 1, 2 or 4 views", "another cycle of focal_shift")


def _check_even(angle: NDArray[np.float64], views: int, *, where: str) -> None:
    if angle.size < TAPS:
        refuse(where, f"{TAPS} views or more", angle.size)
    step = 2.0 * math.pi / views
    error = np.abs(angle - angle[0] - step * np.arange(angle.size)).max() / step
    if error > 0.02:  # of a view: its effect on the image is far below the interpolation's
        expected = f"ascending view angles, {views} even steps per rotation"
        refuse(where, expected, f"angles {error:.2g} of a step off")


def parker_weight(
    view_angle: NDArray[np.float64], fan_angle: NDArray[np.float64], scanned_rad: float
) -> NDArray[np.float64]:
    """Share of a reading of a short scan; the two readings of one ray add up to 1.

    Parameters
    ----------
    view_angle : array
        From the first view, rad; readings outside 0 to ``scanned_rad`` have no weight.
    fan_angle : array
        Of the ray, rad; broadcast against ``view_angle``.
    scanned_rad : float
        Half a rotation and the fan, or more, below a rotation.

    References
    ----------
    Parker DL. Optimal short scan convolution reconstruction for fanbeam CT. Med Phys 9 (1982) 254-257, with
    the fan replaced by the angle scanned beyond half a rotation.
    """
    half = 0.5 * (scanned_rad - math.pi)
    ray = np.clip(fan_angle, -half + 1e-9, half - 1e-9)
    begin, end = 2.0 * (half + ray), math.pi + 2.0 * ray
    rising = np.sin(0.25 * math.pi * view_angle / (half + ray)) ** 2
    falling = np.sin(0.25 * math.pi * (scanned_rad - view_angle) / (half - ray)) ** 2
    weight = np.where(view_angle < begin, rising, np.where(view_angle > end, falling, 1.0))
    return np.where((view_angle < 0.0) | (view_angle > scanned_rad), 0.0, weight)


def overlap_weight(t_mm: NDArray[np.float64], overlap_mm: float, *, upper: bool) -> NDArray[np.float64]:
    """Share of a reading of an offset panel: 0 to 1 across the strip that opposite views see twice.

    Parameters
    ----------
    t_mm : array
        Offset of the ray from the axis of rotation, mm.
    overlap_mm : float
        Half width of the strip.
    upper : bool
        The panel reaches further towards positive ``t``.

    References
    ----------
    Cho PS, Johnson RH, Griffin TW. Cone-beam CT for radiotherapy applications. Phys Med Biol 40 (1995)
    1863-1883; Wang G. X-ray micro-CT with a displaced detector array. Med Phys 29 (2002) 1634-1636.
    """
    place = np.clip(t_mm / overlap_mm, -1.0, 1.0) * (1.0 if upper else -1.0)
    return np.asarray(np.sin(0.25 * math.pi * (1.0 + place)) ** 2, dtype=np.float64)
