"""Points (t, s) along and across parallel rays, on which slice means are formed before back-projection."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from twinlab.ct.gantry import Geometry, Grid

SHIFT_ROWS = 0.34  # most rows by which a thin slice moves on the detector between two neighbours in s
STEP_LIMITS_MM = (2.0, 20.0)
_ROOM = 1e-6  # of a step: rounding


@dataclass(frozen=True)
class Points:
    """Points of every half-turn angle: arrays over angles.

    ``rays`` cosine and sine; ``first`` index of the first point in t and s; ``count`` how many; ``span``
    (angle, s, 2) the points in t that each line needs; ``steps`` (t, s) in mm.
    """

    rays: NDArray[np.float64]
    first: NDArray[np.int64]
    count: NDArray[np.int64]
    span: NDArray[np.int64]
    steps: tuple[float, float]


def step_along(geometry: Geometry, grid: Grid) -> float:
    """Step in s, mm.

    Interpolation between points blurs a slice by the rows that it moves between them, ``d`` at the edge of
    the detector, so its variance in z grows by at most ``d^2 / 6``: rows that matter the less the thicker the
    slice.
    """
    half = 0.5 * geometry.n_rows + geometry.margin_rows
    rows = max(1.0, grid.thickness_mm / geometry.row_at_isocentre_mm)
    step = SHIFT_ROWS * rows**0.5 * geometry.radius_mm / half
    return float(np.clip(step, *STEP_LIMITS_MM))


def points(geometry: Geometry, grid: Grid) -> Points:
    """Points that cover a grid at every parallel angle of the half-turn.

    Parameters
    ----------
    geometry : Geometry
    grid : Grid

    Returns
    -------
    Points
    """
    angle = geometry.angle_step_rad * np.arange(geometry.angles_per_rotation // 2)
    rays = np.column_stack([np.cos(angle), np.sin(angle)])
    steps = (geometry.parallel_step_mm, step_along(geometry, grid))
    x = np.array([grid.x[0], grid.x[-1], grid.x[-1], grid.x[0]])
    y = np.array([grid.y[0], grid.y[0], grid.y[-1], grid.y[-1]])
    t = (rays[:, :1] * x + rays[:, 1:] * y) / steps[0]
    s = (rays[:, :1] * y - rays[:, 1:] * x) / steps[1]
    first = np.stack([np.floor(c.min(axis=1) - _ROOM) for c in (t, s)], axis=1).astype(np.int64)
    last = np.stack([np.floor(c.max(axis=1) + _ROOM) + 1 for c in (t, s)], axis=1).astype(np.int64)
    count = last - first + 1
    return Points(rays, first, count, _spans(t, s, first, int(count[:, 1].max())), steps)


def _spans(
    t: NDArray[np.float64], s: NDArray[np.float64], first: NDArray[np.int64], n_s: int
) -> NDArray[np.int64]:
    """Range of points in t for each line of points: the rectangle of the grid, cut by the strip around it."""
    line = first[:, 1, None] + np.arange(n_s)
    low, high = np.full(line.shape, np.inf), np.full(line.shape, -np.inf)
    for a in range(4):
        b = (a + 1) % 4
        ta, tb, sa, sb = (c[:, None] for c in (t[:, a], t[:, b], s[:, a], s[:, b]))
        way = np.where(np.abs(sb - sa) < 1e-12, 1e-12, sb - sa)
        u, v = (line - 1.0 - _ROOM - sa) / way, (line + 1.0 + _ROOM - sa) / way
        enter, leave = np.maximum(np.minimum(u, v), 0.0), np.minimum(np.maximum(u, v), 1.0)
        for part in (enter, leave):
            place = np.where(enter <= leave, ta + part * (tb - ta), np.nan)
            low, high = np.fmin(low, place), np.fmax(high, place)
    some = high >= low
    span = np.zeros((*line.shape, 2), dtype=np.int64)
    span[..., 0] = np.where(some, np.floor(np.where(some, low, 0) - _ROOM) - first[:, :1], 0)
    span[..., 1] = np.where(some, np.floor(np.where(some, high, 0) + _ROOM) + 2 - first[:, :1], 0)
    return span
