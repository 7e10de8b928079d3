"""Geometry of a scan and of an image grid, as the reconstruction needs them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from twinlab.ct.source_path import Segment, segments_of
from twinlab.schema import check, refuse, spacing

PARALLEL_MM = 1e7  # source to isocentre, and to the detector, that stand for parallel rays
HALF_FAN = 0.05  # of the panel's width: a larger offset of its middle makes it an offset panel
HELICAL_MARGIN = (
    0.25  # most rows beyond the detector, as a fraction of it, that repeat its edge in fast helices
)
HELICAL_MARGIN_WEIGHT = 1e-3  # so low that they count only where nothing else sees the voxel
FULL_WEIGHT = 0.6  # |q| up to which a row counts fully


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
    tilt_rad: float = 0.0

    @property
    def offset_panel(self) -> bool:
        """Whether the detector is shifted so far that one side of the field is seen from one direction only."""
        ends = self.first_channel, self.first_channel + self.channel_step * (self.n_channels - 1)
        shifted = abs(ends[0] + ends[1]) > 2.0 * HALF_FAN * (ends[1] - ends[0])
        return shifted and all(s.periodic for s in self.segments)

    @property
    def shares(self) -> bool:
        """Whether opposite rays hold shares of a reading that add up (short scans, offset panels)."""
        return self.offset_panel or any(s.short for s in self.segments)

    @property
    def apart(self) -> bool:
        """Whether every table position is reconstructed by itself: opposite shares, tilted planes."""
        return self.shares or self.tilt_rad != 0.0

    @property
    def shifts_mm(self) -> tuple[tuple[float, float, float], ...]:
        """Displacements of the focal spot that occur, (tangential, radial, z)."""
        return tuple(sorted({s.shift_mm for s in self.segments}))

    @property
    def angles_per_rotation(self) -> int:
        """Parallel projections per rotation, an even number."""
        return self.views_per_rotation + self.views_per_rotation % 2

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
        """Fan angle of the channels seen from the focal spot at rest, shape (channel,)."""
        channel = self.first_channel + self.channel_step * np.arange(self.n_channels)
        return np.asarray(np.arctan(channel / self.detector_mm) if self.flat else channel, dtype=np.float64)

    def ray_angle(self, shift_mm: tuple[float, float, float]) -> NDArray[np.float64]:
        """Angle between the channels' rays and the central one, from a displaced focal spot, rad."""
        tangential, radial, _ = shift_mm
        fan = self.fan_angle_rad
        length = self.detector_mm / np.cos(fan) if self.flat else self.detector_mm
        across, along = length * np.sin(fan) - tangential, length * np.cos(fan) + radial
        return np.asarray(np.arctan2(across, along), dtype=np.float64)

    def focus(self, shift_mm: tuple[float, float, float]) -> tuple[float, float]:
        """Distance of a displaced focal spot from the isocentre, mm, and its angle seen from there, rad."""
        tangential, radial, _ = shift_mm
        return math.hypot(tangential, self.radius_mm + radial), math.atan2(
            tangential, self.radius_mm + radial
        )

    def channel_position(
        self, t_mm: NDArray[np.float64], shift_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)
    ) -> NDArray[np.float64]:
        """Fractional channel index of parallel offsets ``t``."""
        tangential, radial, _ = shift_mm
        distance, ahead = self.focus(shift_mm)
        angle = np.arcsin(np.clip(t_mm / distance, -0.99, 0.99)) - ahead
        if self.flat:
            coordinate = tangential + (self.detector_mm + radial) * np.tan(angle)
        else:  # where the ray meets the arc around the focal spot at rest
            along = radial * np.cos(angle) - tangential * np.sin(angle)
            beside = tangential**2 + radial**2 - self.detector_mm**2
            length = along + np.sqrt(along**2 - beside)
            x, y = tangential + length * np.sin(angle), length * np.cos(angle) - radial
            coordinate = np.arctan2(x, y)
        return np.asarray((coordinate - self.first_channel) / self.channel_step, dtype=np.float64)

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
        if self.shares:  # every ray is needed
            return np.ones(self.n_rows)
        taper = np.clip((q - FULL_WEIGHT) / (1.0 - FULL_WEIGHT), 0.0, 1.0)
        weight = np.cos(0.5 * math.pi * taper) ** 2
        return np.pad(weight, self.margin_rows, constant_values=HELICAL_MARGIN_WEIGHT)


def geometry_of(projections: xr.Dataset, *, where: str = "reconstruct") -> Geometry:
    """Read and check the geometry of a projections Dataset (``projection`` itself is not needed).

    Parameters
    ----------
    projections : Dataset
        Variables ``view_angle`` (rad) and ``source_z`` (mm) over view, ``focal_shift`` (view, shift_axis) in mm
        where the focal spot flies; coordinates ``row`` (mm) and ``fan_angle`` (rad) or ``u`` (mm) over channel,
        or ``t`` (mm, without the distances) for parallel rays; attrs ``source_to_isocentre_mm``,
        ``source_to_detector_mm``, ``isocentre_x_mm``, ``isocentre_y_mm``, ``views_per_rotation``, ``mode``;
        ``row_pitch_mm`` for a detector of one row; ``gantry_tilt_deg`` where the gantry is tilted.

    Returns
    -------
    Geometry

    Raises
    ------
    InputError
        Something is missing, uneven, or a path that the method does not cover.
    """
    check(projections, "view_angle", "source_z", where=where)
    attrs = projections.attrs
    coords = projections.coords
    parallel = "t" in coords
    distances = () if parallel else ("source_to_isocentre_mm", "source_to_detector_mm")
    for name in (*distances, "isocentre_x_mm", "isocentre_y_mm", "views_per_rotation", "mode"):
        if name not in attrs:
            refuse(where, f"attribute {name!r} of the projections", f"attributes {sorted(attrs)}")
    flat = "fan_angle" not in coords
    channel = "t" if parallel else "u" if flat else "fan_angle"
    for name in (channel, "row"):
        if name not in coords:
            names = sorted(map(str, coords))
            refuse(where, f"coordinate {name!r} of the projections", f"coordinates {names}")
    row = np.asarray(projections["row"], dtype=float)
    if row.size == 0 or projections.sizes["view"] == 0:
        refuse(where, "projections of at least one view and row", f"{dict(projections.sizes)}")
    if row.size == 1 and "row_pitch_mm" not in attrs:
        refuse(where, "attribute 'row_pitch_mm' for a detector of one row", f"attributes {sorted(attrs)}")
    views = int(attrs["views_per_rotation"])
    if views < 8:
        refuse(where, "8 views per rotation or more", attrs["views_per_rotation"])
    columns = np.asarray(projections[channel], dtype=float)
    radius, detector = (PARALLEL_MM,) * 2 if parallel else (float(attrs[name]) for name in distances)
    ends = np.arctan(columns[[0, -1]] / detector) if flat else columns[[0, -1]]
    segments = segments_of(projections, views, str(attrs["mode"]), ends, where=where)
    result = Geometry(
        radius_mm=radius,
        detector_mm=detector,
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
        segments=segments,
        tilt_rad=math.radians(float(attrs.get("gantry_tilt_deg", 0.0))),
    )
    if result.offset_panel and not columns[0] < 0.0 < columns[-1]:
        refuse(
            where,
            "an offset panel that covers the axis of rotation",
            f"channels {columns[0]:g} to {columns[-1]:g}",
        )
    return result


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
