"""Whether a body, or an image, reaches beyond the field that the detector sees."""

from __future__ import annotations

import warnings
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from twinlab.ct.filters import EDGE_CHANNELS
from twinlab.ct.provenance import field_mm
from twinlab.ct.rebin import detector_rows, parallel_views, parts, view_places
from twinlab.ct.row_filter import beyond_channels
from twinlab.ct.slab import Plan
from twinlab.schema import refuse

Truncation = Literal["extrapolate", "refuse", "ignore"]
OutsideField = Literal["extrapolated", "nan"]

_SAMPLES = 64  # projections looked at in each slab
_BODY = 0.15  # line integral at the edge of the detector that counts as body: 7 mm of water
_ERRORS = 5.0  # standard errors by which it must exceed zero: noise alone is no body
_SHARE = 0.02  # of the projections that must show it


def is_truncated(data: NDArray[Any], plan: Plan) -> bool:
    """Whether the outermost channels see a body in more than a few projections that the grid needs."""
    seen, total = 0, 0
    sides = beyond_channels(plan.geometry)
    edges = [np.arange(EDGE_CHANNELS), plan.geometry.n_channels - 1 - np.arange(EDGE_CHANNELS)]
    for part in parts(plan.geometry, plan.grid):
        g = part.geometry
        views = parallel_views(g, part.grid)
        lo, hi = detector_rows(views, g)
        base, channel = view_places(g, views)
        for e in range(0, base.size, max(1, base.size // _SAMPLES)):
            segment = g.segments[views.segment[e]]
            rows = slice(lo[e], hi[e])
            for side, channels in zip(sides, edges, strict=True):
                place = round(base[e] + channel[views.segment[e], channels].mean())
                if side == 0 or not (segment.periodic or 0 <= place < segment.count):
                    continue
                view = segment.first + segment.stride * (place % segment.count)
                total += 1
                values = data[view, rows][:, channels]
                error = float(values.std()) / values.size**0.5
                seen += bool(values.mean() > max(_BODY, _ERRORS * error))
    return seen > _SHARE * total


def in_field(plan: Plan) -> NDArray[np.bool_]:
    """Voxels that the detector sees from every direction of the half-turn, shape (z, y, x)."""
    reach = 0.5 * field_mm(plan.geometry) * (1.0 + 1e-9)
    grid = plan.grid
    seen = np.empty((grid.z.size, grid.y.size, grid.x.size), dtype=bool)
    for part in parts(plan.geometry, grid):  # slices of a tilted gantry lie beside each other in its plane
        seen[part.slices] = np.hypot(part.grid.x, part.grid.y[:, None]) <= reach
    return seen


def say_truncated(truncation: Truncation, *, where: str) -> None:
    """Refuse a truncated scan, or warn that its rows are continued.

    Raises
    ------
    InputError
        ``truncation`` is "refuse".
    """
    if truncation == "refuse":
        refuse(where, "a body inside the field of the detector", "projections that are truncated at its edge")
    warnings.warn(
        f"{where}: the body reaches beyond the detector's field; its rows are continued, and CT numbers near "
        "the edge of the field are estimates",
        stacklevel=3,
    )
