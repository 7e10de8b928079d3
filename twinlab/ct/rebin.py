"""Geometry of the rebinning from fan to parallel rays: which views, rows and channels an image needs.

A ray of view angle ``b`` and fan angle ``g`` is the parallel ray of angle ``theta = b - g`` and offset
``t = R sin g``. All rows of the detector keep their cone angle: the result is cone-parallel.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from twinlab.schema import check, refuse, spacing

TAPS = 6  # Lagrange interpolation over views
HELICAL_MARGIN = 0.25  # most rows beyond the detector, as a fraction of it, that repeat its edge in fast helices
HELICAL_MARGIN_WEIGHT = 1e-3  # so low that they count only where nothing else sees the voxel
FULL_WEIGHT = 0.6  # |q| up to which a row counts fully


@dataclass(frozen=True)
class Segment:
    """Views that one source path covers: a helix, or one rotation of an axial scan (periodic)."""

    first: int
    count: int
    start_angle_rad: float
    start_z_mm: float
    slope_mm_per_rad: float
    periodic: bool


@dataclass(frozen=True)
class Geometry:
    """Geometry of a scan as the reconstruction needs it, read from a projections Dataset."""

    radius_mm: float
    detector_mm: float
    flat: bool
    isocentre_mm: tuple[float, float]
    views_per_rotation: int
    n_views: int
    n_rows: int
    first_row_mm: float
    row_step_mm: float
    n_channels: int
    first_channel: float  # rad (arc) or mm (flat)
    channel_step: float
    segments: tuple[Segment, ...]

    @property
    def angle_step_rad(self) -> float:
        """Angle between views, and between parallel projections."""
        return 2.0 * math.pi / self.views_per_rotation

    @property
    def parallel_step_mm(self) -> float:
        """Step of the filtered parallel projections: half a channel at the isocentre."""
        scale = self.radius_mm / self.detector_mm if self.flat else self.radius_mm
        return 0.5 * scale * self.channel_step

    @property
    def row_at_isocentre_mm(self) -> float:
        """Height of a detector row, scaled to the isocentre."""
        return self.row_step_mm * self.radius_mm / self.detector_mm

    @property
    def fan_angle_rad(self) -> NDArray[np.float64]:
        """Fan angle of the channels, shape (channel,)."""
        channel = self.first_channel + self.channel_step * np.arange(self.n_channels)
        return np.arctan(channel / self.detector_mm) if self.flat else channel

    def channel_position(self, t_mm: NDArray[np.float64]) -> NDArray[np.float64]:
        """Fractional channel index of parallel offsets ``t``."""
        angle = np.arcsin(np.clip(t_mm / self.radius_mm, -0.99, 0.99))
        coordinate = self.detector_mm * np.tan(angle) if self.flat else angle
        return (coordinate - self.first_channel) / self.channel_step

    def cone_cosine(self) -> NDArray[np.float64]:
        """Cosine of the cone angle, shape (row, channel): path in the plane per path along the ray."""
        row = self.first_row_mm + self.row_step_mm * np.arange(self.n_rows)
        scale = np.cos(self.fan_angle_rad) if self.flat else np.ones(self.n_channels)
        return 1.0 / np.hypot(1.0, row[:, None] / self.detector_mm * scale)

    @property
    def margin_rows(self) -> int:
        """Rows by which the weights reach beyond the detector on each side, to close the gaps of fast helices.

        At fan angle ``g`` the rays of opposite directions meet z windows ``C cos g`` wide together, their
        centres up to ``feed (1/2 + g/pi)`` apart; the margin bridges what is missing, on both windows.
        """
        if self.segments[0].periodic:
            return 0
        fan = float(np.abs(self.fan_angle_rad).max())
        feed = 2.0 * math.pi * abs(self.segments[0].slope_mm_per_rad)
        width = self.n_rows * self.row_at_isocentre_mm
        gap = feed * (0.5 + fan / math.pi) - width * math.cos(fan)
        rows = math.ceil(gap / (2.0 * math.cos(fan) * self.row_at_isocentre_mm) + 0.5)
        return min(max(rows, 0), math.ceil(HELICAL_MARGIN * self.n_rows))

    def row_weight(self) -> NDArray[np.float64]:
        """Weight of the rows with their margins, shape (row + 2 margin,): 1 inside, a squared cosine outwards.

        References
        ----------
        Stierstorfer et al.: Weighted FBP - a simple approximate 3D FBP algorithm for multislice spiral CT
        with good dose usage for arbitrary pitch, Phys Med Biol 49 (2004) 2209-2218.
        """
        q = np.abs(2.0 * np.arange(self.n_rows) + 1.0 - self.n_rows) / self.n_rows
        taper = np.clip((q - FULL_WEIGHT) / (1.0 - FULL_WEIGHT), 0.0, 1.0)
        weight = np.cos(0.5 * math.pi * taper) ** 2
        return np.pad(weight, self.margin_rows, constant_values=HELICAL_MARGIN_WEIGHT)


def geometry_of(projections: xr.Dataset, *, where: str = "reconstruct") -> Geometry:
    """Read and check the geometry of a projections Dataset (``projection`` itself is not needed).

    Parameters
    ----------
    projections : Dataset
        Variables ``view_angle`` (rad) and ``source_z`` (mm) over view; coordinates ``row`` (mm) and
        ``fan_angle`` (rad) or ``u`` (mm) over channel; attrs ``source_to_isocentre_mm``,
        ``source_to_detector_mm``, ``isocentre_x_mm``, ``isocentre_y_mm``, ``views_per_rotation``, ``mode``;
        ``row_pitch_mm`` for a detector of one row.

    Returns
    -------
    Geometry

    Raises
    ------
    InputError
        Something is missing, uneven, or a path that the method does not cover.
    """
    check(projections, "view_angle", "source_z", where=where)
    needed = ("source_to_isocentre_mm", "source_to_detector_mm", "isocentre_x_mm", "isocentre_y_mm")
    for name in (*needed, "views_per_rotation", "mode"):
        if name not in projections.attrs:
            refuse(where, f"attribute {name!r} of the projections", f"attributes {sorted(projections.attrs)}")
    attrs = projections.attrs
    flat = "fan_angle" not in projections.coords
    channel = "u" if flat else "fan_angle"
    for name in (channel, "row"):
        if name not in projections.coords:
            refuse(where, f"coordinate {name!r} of the projections", f"coordinates {sorted(map(str, projections.coords))}")
    row = np.asarray(projections["row"], dtype=float)
    if row.size == 1 and "row_pitch_mm" not in attrs:
        refuse(where, "attribute 'row_pitch_mm' for a detector of one row", f"attributes {sorted(attrs)}")
    views = int(attrs["views_per_rotation"])
    if views < 8 or views % 2:
        refuse(where, "an even number of views per rotation, 8 or more", attrs["views_per_rotation"])
    columns = np.asarray(projections[channel], dtype=float)
    return Geometry(
        radius_mm=float(attrs["source_to_isocentre_mm"]),
        detector_mm=float(attrs["source_to_detector_mm"]),
        flat=flat,
        isocentre_mm=(float(attrs["isocentre_x_mm"]), float(attrs["isocentre_y_mm"])),
        views_per_rotation=views,
        n_views=projections.sizes["view"],
        n_rows=row.size,
        first_row_mm=float(row[0]),
        row_step_mm=float(attrs["row_pitch_mm"]) if row.size == 1 else spacing(projections["row"], where=where),
        n_channels=columns.size,
        first_channel=float(columns[0]),
        channel_step=spacing(projections[channel], where=where),
        segments=_segments(projections, views, str(attrs["mode"]), where=where),
    )


def _segments(projections: xr.Dataset, views: int, mode: str, *, where: str) -> tuple[Segment, ...]:
    angle = np.asarray(projections["view_angle"], dtype=float)
    z = np.asarray(projections["source_z"], dtype=float)
    if mode == "helical":
        _check_even(angle, views, where=where)
        slope = (z[-1] - z[0]) / (angle[-1] - angle[0])
        error = np.abs(z - z[0] - slope * (angle - angle[0])).max()
        if error > 0.02:  # mm; far below a row
            refuse(where, "a helix of constant feed", f"source positions {error:.3g} mm off a straight line")
        return (Segment(0, angle.size, float(angle[0]), float(z[0]), float(slope), False),)
    if mode != "axial":
        refuse(where, "mode 'helical' or 'axial'", repr(mode))
    starts = np.concatenate(([0], np.flatnonzero(np.abs(np.diff(z)) > 1e-3) + 1, [z.size]))
    segments = []
    for lo, hi in zip(starts[:-1], starts[1:], strict=True):
        if (hi - lo) % views:
            refuse(where, f"whole rotations of {views} views at each table position", f"{hi - lo} views at z = {z[lo]:g}")
        for first in range(int(lo), int(hi), views):
            _check_even(angle[first : first + views], views, where=where)
            segments.append(Segment(first, views, float(angle[first]), float(z[first]), 0.0, True))
    return tuple(segments)


def _check_even(angle: NDArray[np.float64], views: int, *, where: str) -> None:
    if angle.size < TAPS:
        refuse(where, f"{TAPS} views or more", angle.size)
    step = 2.0 * math.pi / views
    error = np.abs(angle - angle[0] - step * np.arange(angle.size)).max() / step
    if error > 0.02:  # of a view: its effect on the image is far below the interpolation's
        refuse(where, f"ascending view angles, {views} even steps per rotation", f"angles {error:.2g} of a step off")


@dataclass(frozen=True)
class Grid:
    """Voxel centres relative to the isocentre (x, y) and absolute (z), with the slices' bounds."""

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    z: NDArray[np.float64]
    thickness_mm: float

    @property
    def radius_mm(self) -> float:
        """Largest distance of a voxel centre from the axis of rotation."""
        return float(np.hypot(np.abs(self.x).max(), np.abs(self.y).max()))

    def outline(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Points on the outline of the grid in the plane, relative to the isocentre."""
        x = np.linspace(self.x.min(), self.x.max(), 9)
        y = np.linspace(self.y.min(), self.y.max(), 9)
        px = np.concatenate([x, x, np.full(9, x[0]), np.full(9, x[-1])])
        py = np.concatenate([np.full(9, y[0]), np.full(9, y[-1]), y, y])
        return px, py


def grid_of(
    grid: Mapping[str, Any], geometry: Geometry, *, slice_thickness_mm: float | None, where: str = "reconstruct"
) -> Grid:
    """Check a grid of voxel centres against the scan.

    Parameters
    ----------
    grid : mapping
        ``z``, ``y``, ``x``: ascending voxel centres, mm.
    geometry : Geometry
    slice_thickness_mm : float or None
        Full width at half maximum of the slice profile; None: one detector row at the isocentre.

    Returns
    -------
    Grid

    Raises
    ------
    InputError
        A coordinate is missing or not ascending, the slice is thinner than a row, or voxels lie outside the
        source's circle.
    """
    for name in ("z", "y", "x"):
        if name not in grid:
            refuse(where, "a grid with coordinates z, y, x in mm", f"{sorted(map(str, grid))}")
        values = np.atleast_1d(np.asarray(grid[name], dtype=float))
        if values.ndim != 1 or values.size == 0 or not np.isfinite(values).all() or (np.diff(values) <= 0).any():
            refuse(where, f"ascending, finite voxel centres {name}", f"{values}")
    row = geometry.row_at_isocentre_mm
    thickness = row if slice_thickness_mm is None else float(slice_thickness_mm)
    if not thickness >= 0.9 * row:
        refuse(where, f"slices no thinner than a detector row at the isocentre ({row:.3g} mm)", f"{thickness:g} mm")
    x0, y0 = geometry.isocentre_mm
    x, y, z = (np.atleast_1d(np.asarray(grid[name], dtype=float)) for name in ("x", "y", "z"))
    result = Grid(x - x0, y - y0, z, max(thickness, row))
    if result.radius_mm > 0.9 * geometry.radius_mm:
        refuse(where, f"voxels within {0.9 * geometry.radius_mm:.0f} mm of the isocentre", f"{result.radius_mm:.0f} mm")
    return result


@dataclass(frozen=True)
class ParallelViews:
    """Parallel projections that contribute to a grid, sorted by half-turn angle; arrays over entries.

    ``group`` (half_turn + 1,) bounds the entries of each angle modulo pi. ``row_lo``, ``row_hi`` bound the
    rows, margins included, that the grid needs; ``shift`` is the index of the angle within its segment.
    """

    segment: NDArray[np.int64]
    shift: NDArray[np.int64]
    theta_rad: NDArray[np.float64]
    source_z_mm: NDArray[np.float64]
    slope_mm_per_rad: NDArray[np.float64]
    row_lo: NDArray[np.int64]
    row_hi: NDArray[np.int64]
    group: NDArray[np.int64]


def parallel_views(geometry: Geometry, grid: Grid) -> ParallelViews:
    """Parallel projections that see a grid, with the rows that each of them needs.

    Parameters
    ----------
    geometry : Geometry
    grid : Grid

    Returns
    -------
    ParallelViews
    """
    step = geometry.angle_step_rad
    columns: list[list[NDArray[np.float64]]] = []
    for number, segment in enumerate(geometry.segments):
        shift, theta = _angles(geometry, segment)
        z = segment.start_z_mm + segment.slope_mm_per_rad * (theta - segment.start_angle_rad)
        lo, hi = _row_range(geometry, grid, theta, z, segment.slope_mm_per_rad)
        half_turn = np.rint(theta / step).astype(np.int64) % (geometry.views_per_rotation // 2)
        slope = np.full(theta.size, segment.slope_mm_per_rad)
        columns.append([np.full(theta.size, number), shift, theta, z, slope, lo, hi, half_turn])
    joined = [np.concatenate(parts) for parts in zip(*columns, strict=True)]
    keep = joined[6] > joined[5]
    joined = [part[keep] for part in joined]
    order = np.lexsort((joined[2], joined[0], joined[7]))
    number, shift, theta, z, slope, lo, hi, half_turn = (part[order] for part in joined)
    group = np.searchsorted(half_turn, np.arange(geometry.views_per_rotation // 2 + 1))
    return ParallelViews(number, shift, theta, z, slope, lo, hi, group)


def _angles(geometry: Geometry, segment: Segment) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Whole multiples of the angular step whose rays all lie inside the segment."""
    step = geometry.angle_step_rad
    if segment.periodic:
        first = math.ceil(segment.start_angle_rad / step)
        number = np.arange(first, first + geometry.views_per_rotation)
    else:
        fan = geometry.fan_angle_rad
        end = segment.start_angle_rad + step * (segment.count - 1)
        first = math.ceil((segment.start_angle_rad - fan[0]) / step + TAPS // 2 - 1)
        last = math.floor((end - fan[-1]) / step - TAPS // 2)
        number = np.arange(first, last + 1)
    return number, number * step


def _row_range(
    geometry: Geometry, grid: Grid, theta: NDArray[np.float64], z: NDArray[np.float64], slope: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows, counted from the first margin row, onto which the grid projects; empty where it misses them."""
    px, py = grid.outline()
    cosine, sine = np.cos(theta)[:, None], np.sin(theta)[:, None]
    t = px * cosine + py * sine
    root = np.sqrt(geometry.radius_mm**2 - t**2)
    distance = root + py * cosine - px * sine
    scale = geometry.detector_mm / distance
    if geometry.flat:
        scale = scale * geometry.radius_mm / root
    source = z[:, None] + slope * np.arcsin(t / geometry.radius_mm)
    low = ((grid.z.min() - 0.5 * grid.thickness_mm - source) * scale).min(axis=1)
    high = ((grid.z.max() + 0.5 * grid.thickness_mm - source) * scale).max(axis=1)
    edge = geometry.first_row_mm - (0.5 + geometry.margin_rows) * geometry.row_step_mm
    total = geometry.n_rows + 2 * geometry.margin_rows
    # one row more on each side: extremes lie between the points of the outline
    lo = np.clip(np.floor((low - edge) / geometry.row_step_mm) - 1, 0, total).astype(np.int64)
    hi = np.clip(np.ceil((high - edge) / geometry.row_step_mm) + 1, 0, total).astype(np.int64)
    return lo, np.maximum(lo, hi)


def detector_rows(
    views: ParallelViews, geometry: Geometry
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Row windows without margins: first and last detector row (exclusive) that each entry reads."""
    lo = np.clip(views.row_lo - geometry.margin_rows, 0, geometry.n_rows - 1)
    hi = np.clip(views.row_hi - geometry.margin_rows, 1, geometry.n_rows)
    return lo, hi


def view_shift(geometry: Geometry, segment: Segment) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Interpolation over views: first tap (index of view less that of the angle) and weights per channel.

    Returns
    -------
    offset : ndarray of int, shape (channel,)
        View ``shift + offset + a`` of the segment meets tap ``a``.
    weight : ndarray, shape (6, channel)
        Lagrange weights; they sum to 1.
    """
    position = (geometry.fan_angle_rad - segment.start_angle_rad) / geometry.angle_step_rad
    whole = np.floor(position)
    fraction = position - whole
    nodes = np.arange(TAPS) - (TAPS // 2 - 1)
    weight = np.ones((TAPS, position.size))
    for a in range(TAPS):
        for b in range(TAPS):
            if a != b:
                weight[a] *= (fraction - nodes[b]) / (nodes[a] - nodes[b])
    return whole.astype(np.int64) + int(nodes[0]), weight


def needed_rows(
    projections: xr.Dataset, *, grid: Mapping[str, Any], slice_thickness_mm: float | None = None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Detector rows that a reconstruction on a grid reads, for each view.

    A simulation may leave all other rows out (any finite or NaN value: they are not touched).

    Parameters
    ----------
    projections : Dataset
        Geometry as for :func:`geometry_of`.
    grid : mapping
        ``z``, ``y``, ``x`` voxel centres, mm.
    slice_thickness_mm : float, optional
        As given to the reconstruction.

    Returns
    -------
    row_lo, row_hi : ndarray of int, shape (view,)
        Rows ``row_lo <= row < row_hi``; both 0 where the view is not needed.

    Raises
    ------
    InputError
        Geometry or grid cannot be used.
    """
    geometry = geometry_of(projections, where="needed_rows")
    voxels = grid_of(grid, geometry, slice_thickness_mm=slice_thickness_mm, where="needed_rows")
    views = parallel_views(geometry, voxels)
    lo, hi = detector_rows(views, geometry)
    row_lo = np.full(geometry.n_views, geometry.n_rows, dtype=np.int64)
    row_hi = np.zeros(geometry.n_views, dtype=np.int64)
    for number, segment in enumerate(geometry.segments):
        offset, _ = view_shift(geometry, segment)
        reach = np.arange(offset.min(), offset.max() + TAPS)
        for entry in np.flatnonzero(views.segment == number):
            view = views.shift[entry] + reach
            view = segment.first + (view % segment.count if segment.periodic else view)
            row_lo[view] = np.minimum(row_lo[view], lo[entry])
            row_hi[view] = np.maximum(row_hi[view], hi[entry])
    row_lo[row_hi == 0] = 0
    return row_lo, row_hi
