"""Where the focal spot is in each view, and what each detector cell sees of it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from twinlab.schema import label, refuse

if TYPE_CHECKING:
    from twinlab.scanner.models import Protocol

FloatArray = NDArray[np.floating]
SHIFT_AXES = ("tangential", "radial", "z")


def over_range_mm(protocol: Protocol) -> float:
    """Travel of the focal spot beyond each end of the imaged range, mm.

    Helical: half a rotation plus the full fan, ``feed * (pi + fan) / (2 pi)``: the slice at the end of the
    range then has the data of 180 degrees plus fan centred on it, twice over, as a rebinned reconstruction
    with interpolation in z needs. Axial: none.

    References
    ----------
    van der Molen AJ, Geleijns J (2007) Overranging in multisection CT. Radiology 242:208.
    """
    if protocol.mode == "axial":
        return 0.0
    fan = float(np.ptp(protocol.scanner.fan_angles_rad()))
    return protocol.feed_mm * (math.pi + fan) / (2.0 * math.pi)


def n_rotations(protocol: Protocol, *, z_range_mm: tuple[float, float]) -> float:
    """Number of rotations with the beam on: a whole number in axial mode.

    Raises
    ------
    InputError
        The range is empty, reversed or not finite.
    """
    z0, z1 = _range(z_range_mm)
    if protocol.mode == "axial":
        # 0.1 % of a step is forgiven: a 160 mm range is one rotation of 160 mm whatever the rounding.
        return max(1, math.ceil((z1 - z0) / protocol.feed_mm - 1e-3))
    views = protocol.scanner.views_per_rotation
    travel = z1 - z0 + 2.0 * over_range_mm(protocol)
    return math.ceil(travel / protocol.feed_mm * views - 1e-9) / views


def trajectory(
    protocol: Protocol,
    *,
    z_range_mm: tuple[float, float],
    start_angle_deg: float = 0.0,
    isocentre_mm: tuple[float, float] = (0.0, 0.0),
) -> xr.Dataset:
    """Angle and table position of the focal spot in every view.

    The focal spot of view angle ``b`` is at ``(x0 + R sin b, y0 - R cos b, source_z)``. Helical scans travel
    towards the head and reach :func:`over_range_mm` beyond the range at both ends. Axial scans take one
    rotation per collimation, centred on the range, with ``source_z`` constant in each; angles go on growing.

    Parameters
    ----------
    protocol : Protocol
    z_range_mm : (float, float)
        Range to be imaged, patient z, mm.
    start_angle_deg : float
        View angle of the first view.
    isocentre_mm : (float, float)
        x and y of the axis of rotation, mm.

    Returns
    -------
    Dataset, dim (view)
        ``view_angle`` [rad], ``source_z`` [mm], both of the undeflected focal spot, and with a flying one
        ``focal_shift`` (view, shift_axis) [mm]; attrs ``isocentre_x_mm``, ``isocentre_y_mm``, ``mode``,
        ``pitch``, ``feed_mm``, ``views_per_rotation``, ``gantry_tilt_deg``.

    Raises
    ------
    InputError
        The range is empty, reversed or not finite.
    """
    z0, z1 = _range(z_range_mm)
    views = protocol.scanner.views_per_rotation
    rotations = n_rotations(protocol, z_range_mm=z_range_mm)
    index = np.arange(round(rotations * views))
    source_z: np.ndarray
    middle = (z0 + z1) / 2.0
    if protocol.mode == "helical":
        source_z = middle + (index - (index.size - 1) / 2.0) * protocol.feed_mm / views
    else:
        source_z = middle + (index // views - (rotations - 1) / 2.0) * protocol.feed_mm
    angle = math.radians(start_angle_deg) + index * (2.0 * math.pi / views)
    variables = {
        "view_angle": label("view_angle", angle),
        "source_z": label("source_z", source_z.astype(float)),
    }
    if protocol.flying_focal_spot != "off":
        shift = focal_shifts(protocol, index.size)
        variables["focal_shift"] = label("focal_shift", shift, {"shift_axis": list(SHIFT_AXES)})
    return xr.Dataset(
        variables,
        attrs={
            "isocentre_x_mm": float(isocentre_mm[0]),
            "isocentre_y_mm": float(isocentre_mm[1]),
            "mode": protocol.mode,
            "pitch": float(protocol.pitch),
            "feed_mm": float(protocol.feed_mm),
            "views_per_rotation": views,
            "gantry_tilt_deg": float(protocol.gantry_tilt_deg),
        },
    )


def focal_shifts(protocol: Protocol, n_view: int) -> FloatArray:
    """Displacement of a flying focal spot in successive views, mm, shape (view, 3).

    "in_plane" goes to and fro along the rotation, "z" along z (and radially, on the slope of the target), "both"
    takes the four corners in turn: ``(+, +), (-, +), (+, -), (-, -)``. A tangential shift is along increasing view
    angle ``b``, ``(cos b, sin b)``; a radial one away from the isocentre, ``(sin b, -cos b)``.

    References
    ----------
    Kachelriess M, Knaup M, Penssel C, Kalender WA (2006) Flying focal spot (FFS) in cone-beam CT. IEEE Trans
    Nucl Sci 53:1238.
    """
    shift: FloatArray = np.zeros((n_view, 3))
    spot, way = protocol.scanner.tube.flying_focal_spot, protocol.flying_focal_spot
    if spot is None or way == "off":
        return shift
    index = np.arange(n_view)
    if way != "z":
        shift[:, 0] = spot.in_plane_mm * np.where(index % 2, -1.0, 1.0)
    if way != "in_plane":
        sign = np.where(index % 2 if way == "z" else index // 2 % 2, -1.0, 1.0)
        shift[:, 1], shift[:, 2] = spot.radial_mm * sign, spot.z_mm * sign
    return shift


def cell_solid_angle(protocol: Protocol, *, row_mm: ArrayLike | None = None) -> xr.DataArray:
    """Solid angle of each detector cell seen from the focal spot, sr.

    Small cells: area x cosine of incidence / distance^2. On the arc every channel of the central row has the
    distance ``source_to_detector_mm``; rows off centre fall as the cube of the cosine of the cone angle
    (0.2 % at the edge of 40 mm, 2.6 % at the edge of 160 mm).

    Parameters
    ----------
    protocol : Protocol
    row_mm : array_like, optional
        Row positions at the detector, mm. Default: the rows that the collimation opens.

    Returns
    -------
    DataArray, dims (row, channel)
        Coordinates ``row`` [mm at the detector] and ``fan_angle`` [rad].
    """
    scanner = protocol.scanner
    distance = scanner.source_to_detector_mm
    fan = scanner.fan_angles_rad()
    v = protocol.row_positions_mm() if row_mm is None else np.atleast_1d(np.asarray(row_mm, float))
    u = np.zeros_like(fan) if scanner.detector.shape == "arc" else distance * np.tan(fan)
    area = scanner.detector.channel_pitch_mm * scanner.detector.row_pitch_mm
    ray = np.sqrt(distance**2 + u[np.newaxis, :] ** 2 + v[:, np.newaxis] ** 2)
    return label("solid_angle", area * distance / ray**3, {"row": v, "fan_angle": ("channel", fan)})


def _range(z_range_mm: tuple[float, float]) -> tuple[float, float]:
    z0, z1 = (float(z) for z in z_range_mm)
    if not (math.isfinite(z0) and math.isfinite(z1) and z1 > z0):
        refuse("z_range_mm", "(lower, upper) in mm, finite, lower < upper", z_range_mm)
    return z0, z1
