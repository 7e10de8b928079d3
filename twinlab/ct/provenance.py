"""What an image says of the scan that it was made from."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import xarray as xr

from twinlab.ct.gantry import Geometry

MOST_PITCH = 1.5  # up to which the reconstruction of helices was examined
KEPT = (
    "scanner", "phantom", "kv", "second_kv", "mas", "bowtie", "output_factor", "seed", "realisation", "noise",
    "mu_water_per_mm", "reference_kev", "beyond_phantom", "kev",
)  # fmt: skip


def image_attrs(projections: xr.Dataset, geometry: Geometry) -> dict[str, Any]:
    """Attributes of an image: isocentre, tilt, field, and what its projections say of the scan.

    Parameters
    ----------
    projections : Dataset
    geometry : Geometry
        Of these projections.

    Returns
    -------
    dict
        ``isocentre_x_mm``, ``isocentre_y_mm``; ``gantry_tilt_deg`` where the gantry is tilted; ``field_mm``,
        the diameter of the circle around the isocentre that the detector sees from every direction of the
        half-turn; ``truncated_share``, the share of the rows read whose body reaches beyond the
        detector; and, where present,
        texts and numbers named in ``KEPT``.
    """
    scan = projections.attrs
    told = {name: scan[name] for name in KEPT if isinstance(scan.get(name), str | int | float | np.number)}
    if isinstance(scan.get("truncated"), int | float | np.number):
        told["truncated_share"] = float(scan["truncated"])
    told["isocentre_x_mm"], told["isocentre_y_mm"] = geometry.isocentre_mm
    if geometry.tilt_rad:
        told["gantry_tilt_deg"] = float(scan["gantry_tilt_deg"])
    told["field_mm"] = field_mm(geometry)
    return told


def field_mm(geometry: Geometry) -> float:
    """Diameter of the circle around the isocentre that is seen from every direction of the half-turn."""
    reach = []
    for shift in geometry.shifts_mm:
        distance, ahead = geometry.focus(shift)
        first, last = distance * np.sin(geometry.ray_angle(shift)[[0, -1]] + ahead)
        reach.append(max(-first, last) if geometry.offset_panel else min(-first, last))
    return 2.0 * max(float(min(reach)), 0.0)


def warn_pitch(geometry: Geometry, *, where: str) -> None:
    """Warn of a helix faster than the method was examined for."""
    width = geometry.n_rows * geometry.row_at_isocentre_mm
    pitch = 2.0 * math.pi * max(abs(s.slope_mm_per_rad) for s in geometry.segments) / width
    if pitch > MOST_PITCH * (1.0 + 1e-6):
        warnings.warn(
            f"{where}: a pitch of {pitch:.3g}, above {MOST_PITCH:g}, leaves rays unmeasured, so that CT numbers "
            "away from the isocentre are estimates",
            stacklevel=3,
        )
