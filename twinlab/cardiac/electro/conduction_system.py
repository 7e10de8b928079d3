"""Where the ventricles are first activated: entry points of the conduction system and pacing leads.

Places are given in coordinates of the ventricles (transmural, apicobasal, rotational, ventricle), so that they
fit every heart that has them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import xarray as xr

from twinlab.cardiac.electro.fronts import Source
from twinlab.schema import refuse


class Entry(NamedTuple):
    """Place in ventricular coordinates and time: apicobasal 0 apex to 1 base, rotation 0 at the right ventricle."""

    ventricle: int  # 0 left, 1 right
    apicobasal: float
    rotational_rad: float
    time_ms: float
    transmural: float = 0.0
    radius_mm: float = 4.0


# After Durrer et al. 1970 (isolated human hearts): three left endocardial areas at 0 to 5 ms (high on the anterior
# wall beside the septum, central on the left of the septum, posterior paraseptal about a third from apex to
# base) and the right ventricle near the insertion of the anterior papillary muscle 5 to 10 ms later. Angles are
# fractions of a turn as the geometry counts them (see docs/methods/heart_electro.md), an estimate to be fitted.
HEALTHY = {
    "left_anterior": Entry(0, 0.65, 1.3, 0.0),
    "left_septal": Entry(0, 0.50, 0.0, 0.0),
    "left_posterior": Entry(0, 0.35, -1.3, 2.0),
    "right_anterior": Entry(1, 0.45, 0.4, 8.0),
}
LEFT_BUNDLE_BRANCH_BLOCK = {k: v for k, v in HEALTHY.items() if v.ventricle == 1}
RIGHT_BUNDLE_BRANCH_BLOCK = {k: v for k, v in HEALTHY.items() if v.ventricle == 0}
LEADS = {
    "right_apex": Entry(1, 0.10, 0.0, 0.0, 0.0, 2.0),
    "left_lateral": Entry(0, 0.50, 3.14, 0.0, 1.0, 2.0),
    "left_anterior": Entry(0, 0.50, 2.1, 0.0, 1.0, 2.0),
    "left_posterior": Entry(0, 0.50, -2.1, 0.0, 1.0, 2.0),
    "left_apical": Entry(0, 0.15, 3.14, 0.0, 1.0, 2.0),
}


def locate(voxels: xr.Dataset, entry: Entry) -> tuple[float, float, float]:
    """Position (x, y, z in mm) of the voxel whose ventricular coordinates come nearest to an entry's.

    Parameters
    ----------
    voxels : Dataset
        ``wall``, ``transmural``, ``apicobasal``, ``rotational`` (z, y, x); ``ventricle`` where there are two.
    entry : Entry

    Raises
    ------
    InputError
        Coordinates are missing, or no muscle lies near the wanted place.
    """
    needed = ("transmural", "apicobasal", "rotational")
    missing = [n for n in needed if n not in voxels]
    if missing:
        refuse("locate", f"voxels with {', '.join(needed)}", f"none of {', '.join(missing)}")
    inside = np.asarray(voxels["wall"]) > 0
    if "ventricle" in voxels:
        inside &= np.asarray(voxels["ventricle"]) == entry.ventricle
    else:
        inside &= (np.asarray(voxels["wall"]) == 3) == (entry.ventricle == 1)
    if not inside.any():
        refuse("locate", f"muscle of ventricle {entry.ventricle}", "none")
    turn = np.asarray(voxels["rotational"], dtype=float) - entry.rotational_rad
    along = np.asarray(voxels["apicobasal"], dtype=float)
    # a turn counts less near the apex, where its circle is small
    away = (
        (np.asarray(voxels["transmural"], dtype=float) - entry.transmural) ** 2
        + 4.0 * (along - entry.apicobasal) ** 2
        + np.clip(entry.apicobasal, 0.1, 1.0) * (2.0 - 2.0 * np.cos(turn))
    )
    away = np.where(inside & np.isfinite(away), away, np.inf)
    k = np.unravel_index(int(np.argmin(away)), away.shape)
    if not np.sqrt(away[k]) < 0.5:
        refuse("locate", f"muscle near {entry}", f"none within 0.5 (nearest {np.sqrt(away[k]):.2f})")
    z, y, x = (float(voxels[a][i]) for a, i in zip("zyx", k, strict=True))
    return x, y, z


def entry_sources(voxels: xr.Dataset, entries: dict[str, Entry] | None = None) -> list[Source]:
    """Sources of the eikonal model at entry points of the conduction system, by default :data:`HEALTHY`.

    References
    ----------
    Durrer D et al. 1970, Circulation 41, 899 (figures 2 to 5: earliest activated areas).
    Cardone-Noott L et al. 2016, Europace 18, iv4 (entry points of a model after Durrer).
    """
    chosen = HEALTHY if entries is None else entries
    if not chosen:
        refuse("entry_sources: entries", "one or more", "none")
    return [Source(locate(voxels, e), e.time_ms, e.radius_mm) for e in chosen.values()]
