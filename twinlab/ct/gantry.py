"""Geometry of a scan and of an image grid, as the reconstruction needs them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from twinlab.schema import check, refuse, spacing

TAPS = 6  # Lagrange interpolation over views
HELICAL_MARGIN = (
    0.25  # most rows beyond the detector, as a fraction of it, that repeat its edge in fast helices
)
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
    def angles_per_rotation(self) -> int:
        """Parallel projections per rotation, an even number."""
        return self.views_per_rotation

    @property
    def angle_step_rad(self) -> float:
        """Angle between parallel projections."""
        return 2.0 * math.pi / self.angles_per_rotation

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
        return np.asarray(np.arctan(channel / self.detector_mm) if self.flat else channel, dtype=np.float64)

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

        At fan angle ``g`` the rays of opposite directions see z windows ``C cos g`` wide together, their
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
            names = sorted(map(str, projections.coords))
            refuse(where, f"coordinate {name!r} of the projections", f"coordinates {names}")
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
        row_step_mm=float(attrs["row_pitch_mm"])
        if row.size == 1
        else spacing(projections["row"], where=where),
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
    for lo, hi in pairwise(starts):
        if (hi - lo) % views:
            got = f"{hi - lo} views at z = {z[lo]:g}"
            refuse(where, f"whole rotations of {views} views at each table position", got)
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
        refuse(
            where,
            f"ascending view angles, {views} even steps per rotation",
            f"angles {error:.2g} of a step off",
        )


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
    grid: Mapping[str, Any],
    geometry: Geometry,
    *,
    slice_thickness_mm: float | None,
    where: str = "reconstruct",
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
        if (
            values.ndim != 1
            or values.size == 0
            or not np.isfinite(values).all()
            or (np.diff(values) <= 0).any()
        ):
            refuse(where, f"ascending, finite voxel centres {name}", f"{values}")
    row = geometry.row_at_isocentre_mm
    thickness = row if slice_thickness_mm is None else float(slice_thickness_mm)
    if not thickness >= 0.9 * row:
        expected = f"slices no thinner than a detector row at the isocentre ({row:.3g} mm)"
        refuse(where, expected, f"{thickness:g} mm")
    x0, y0 = geometry.isocentre_mm
    x, y, z = (np.atleast_1d(np.asarray(grid[name], dtype=float)) for name in ("x", "y", "z"))
    result = Grid(x - x0, y - y0, z, max(thickness, row))
    if result.radius_mm > 0.9 * geometry.radius_mm:
        reach = 0.9 * geometry.radius_mm
        refuse(where, f"voxels within {reach:.0f} mm of the isocentre", f"{result.radius_mm:.0f} mm")
    return result
