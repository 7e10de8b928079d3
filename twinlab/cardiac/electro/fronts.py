"""Eikonal model: activation times from velocities alone, for quick what-if."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import xarray as xr

from twinlab.cardiac.electro.tissue import fibre_tensor, scar_scale, voxel_grid, wall_depth
from twinlab.kernels import heart_eikonal
from twinlab.schema import label, refuse


class Velocity(NamedTuple):
    """Conduction velocity along and across the fibre, mm/ms (= m/s); ``normal`` to the sheet."""

    along_mm_per_ms: float = 0.6
    across_mm_per_ms: float = 0.25
    normal_mm_per_ms: float | None = None


class Source(NamedTuple):
    """Start of a front: a point (x, y, z in mm), when, and the radius that starts at once."""

    point_mm: tuple[float, float, float]
    time_ms: float = 0.0
    radius_mm: float = 0.0


EXACT_VOXELS = 4.0  # within so many voxels of a source times are those of its own tensor, unless in scar


def eikonal(
    voxels: xr.Dataset,
    *,
    sources: Sequence[Source],
    velocity: Velocity = Velocity(),  # noqa: B008 (immutable)
    border: float = 0.5,
    core: float = 0.0,
    endocardial_factor: float = 1.0,
    endocardial_depth: float = 0.2,
) -> xr.Dataset:
    """Activation times of a front that moves with given velocities along and across the fibres.

    ``grad T . C grad T = 1`` with ``C = v_t^2 I + (v_l^2 - v_t^2) f f'``; the earliest of all sources counts.

    Parameters
    ----------
    voxels : Dataset
        ``wall`` (z, y, x), ``fibre``; optionally ``scar`` and ``sheet_normal``.
    sources : sequence of Source
        Each starts in the voxel of muscle next to its point, which must lie within two voxels.
    velocity : Velocity
    border, core : float
        Factor on the velocity in border zone and core of a scar; 0 lets no front pass.
    endocardial_factor, endocardial_depth : float
        Factor on the velocity in the inner share of the wall (by ``transmural``): a fast layer stands for the
        Purkinje network. 2 to 3 is usual; 1 has none.

    Returns
    -------
    Dataset
        ``activation_time`` (z, y, x) ms at voxel centres, NaN where no front comes.

    Raises
    ------
    InputError
        Unusable voxels, velocities or sources.

    Limits
    ------
    The front's curvature, its source and sink and refractoriness do not count; times are first arrivals.

    References
    ----------
    Franzone P C, Guerri L 1993, Math. Models Methods Appl. Sci. 3, 597 (eikonal model of the heart).
    Fu Z, Kirby R M, Whitaker R T 2013, SIAM J. Sci. Comput. 35, C473 (local solve on simplices, anisotropy).
    Lee A W C et al. 2019, J. Cardiovasc. Electrophysiol. 30, 2693 (fast endocardial layer).
    Bornemann F, Rasch C 2006, Comput. Vis. Sci. 9, 57 (Hopf-Lax update).
    """
    h, first, muscle = voxel_grid(voxels, where="eikonal")
    speeds = [s for s in velocity if s is not None]
    if not all(np.isfinite(s) and s > 0 for s in speeds) or not (border >= 0 and core >= 0):
        refuse("eikonal: velocity", "positive mm/ms; border and core 0 or more", (velocity, border, core))
    if not sources:
        refuse("eikonal: sources", "one or more", "none")
    scale = scar_scale(voxels, border, core)
    live = muscle & (scale > 0)
    if not live.any():
        refuse("eikonal: scar", "some muscle that conducts", "none")
    even = scale == 1.0
    if endocardial_factor != 1.0:
        if "transmural" not in voxels or not endocardial_factor > 0:
            refuse(
                "eikonal: endocardial_factor",
                "a positive factor and voxels with 'transmural'",
                endocardial_factor,
            )
        layer = wall_depth(voxels, muscle, where="eikonal") <= endocardial_depth
        scale = np.where(layer, scale * endocardial_factor, scale)
        even = even & ~layer
    # the metric is the inverse of the tensor: inverse squares along, across and normal
    inverse = [None if s is None else float(s) ** -2 for s in velocity]
    metric = fibre_tensor(voxels, muscle, *inverse, where="eikonal")  # type: ignore[arg-type]
    g = metric[live].astype(float) * (h / scale[live][:, None]) ** 2
    place = np.argwhere(live)
    number = np.full(tuple(s + 2 for s in live.shape), -1, np.int32)
    number[tuple((place + 1).T)] = np.arange(len(place), dtype=np.int32)
    around = place[:, None, :] + 1 + heart_eikonal.OFFSETS[None, :, ::-1]
    neighbour = number[around[..., 0], around[..., 1], around[..., 2]]
    times = np.full(len(place), heart_eikonal.FAR)
    centres = place[:, ::-1] * h + np.asarray(first)
    healthy = even[live]
    for k, s in enumerate(sources):
        _begin(times, centres, g / h**2, healthy, s, h, f"eikonal: source {k}")
    orders = np.stack(
        [
            np.lexsort((sx * place[:, 2], sy * place[:, 1], sz * place[:, 0]))
            for sz in (1, -1)
            for sy in (1, -1)
            for sx in (1, -1)
        ]
    ).astype(np.int32)
    sweeps = heart_eikonal.solve(times, neighbour, g, orders)
    if sweeps < 0:
        refuse("eikonal", "sweeps to settle", "none after 400 (a look at the fibres' smoothness may help)")
    out = np.full(live.shape, np.nan)
    out[live] = np.where(times < heart_eikonal.FAR, times, np.nan)
    coords = {a: voxels[a].values for a in "zyx" if a in voxels.coords}
    facts = {"sweeps": sweeps, "h_mm": h, "velocity_mm_per_ms": [float(s) for s in speeds]}
    return xr.Dataset({"activation_time": label("activation_time", out, coords)}, attrs=facts)


def _begin(
    times: np.ndarray,
    centres: np.ndarray,
    metric: np.ndarray,
    healthy: np.ndarray,
    source: Source,
    h: float,
    where: str,
) -> None:
    """Times around a source: its ball at once, then straight rays of the source voxel's tensor."""
    if not np.isfinite(source.time_ms):
        refuse(where, "a finite time", source.time_ms)
    offset = centres - np.asarray(source.point_mm, dtype=float)
    distance = np.sqrt((offset**2).sum(axis=1))
    nearest = int(distance.argmin())
    if distance[nearest] > 2.0 * h + source.radius_mm:
        refuse(where, "a point within two voxels of muscle that conducts", source.point_mm)
    x, y, z = offset.T
    m = metric[nearest]
    form = m[0] * x * x + m[1] * y * y + m[2] * z * z + 2.0 * (m[3] * x * y + m[4] * x * z + m[5] * y * z)
    ray = np.sqrt(np.maximum(form, 0.0))
    if source.radius_mm > 0:
        ray *= np.maximum(0.0, 1.0 - source.radius_mm / np.maximum(distance, 1e-12))
    near = (distance <= source.radius_mm + EXACT_VOXELS * h) & healthy
    near[nearest] = True
    times[near] = np.minimum(times[near], source.time_ms + ray[near])
