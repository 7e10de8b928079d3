"""Stimuli: where, when and how strongly current enters the muscle."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import xarray as xr

from twinlab.cardiac.electro.tissue import Tissue, wall_depth
from twinlab.schema import refuse


@dataclass(frozen=True)
class Stimulus:
    """Current in a region of the muscle, in mV/ms (current over membrane capacitance), during a time in ms."""

    select: Callable[[Tissue], np.ndarray]
    name: str
    start_ms: float = 0.0
    duration_ms: float = 2.0
    amplitude_mv_per_ms: float = 50.0

    def at(self, start_ms: float) -> Stimulus:
        """The same at another time."""
        return replace(self, start_ms=start_ms)

    def nodes(self, muscle: Tissue) -> tuple[np.ndarray, np.ndarray]:
        """Numbers of the nodes that it reaches and their shares of its strength.

        Raises
        ------
        InputError
            None; or duration and start that are no times.
        """
        if not (self.duration_ms > 0 and self.start_ms >= 0 and np.isfinite(self.amplitude_mv_per_ms)):
            refuse(f"stimulus {self.name}", "start 0 or later, a positive duration, a finite amplitude", self)
        share = np.asarray(self.select(muscle), dtype=float)
        found = np.flatnonzero(share > 0)
        if not found.size:
            refuse(f"stimulus {self.name}", "a region with muscle that conducts", "no node in it")
        return found, share[found]


def sphere_stimulus(centre_mm: tuple[float, float, float], radius_mm: float, **when: float) -> Stimulus:
    """Stimulus of the nodes within a sphere (x, y, z in mm): a pacing site.

    ``when`` takes ``start_ms``, ``duration_ms`` and ``amplitude_mv_per_ms``. The node next to the centre always
    belongs to it, so that a small lead on a coarse grid still reaches muscle up to a voxel away.
    """
    centre = np.asarray(centre_mm, dtype=float)

    def select(muscle: Tissue) -> np.ndarray:
        square = ((muscle.position_mm() - centre) ** 2).sum(axis=1)
        reach = max(radius_mm**2, min(square.min(), 3.0 * muscle.h_mm**2)) + 1e-9
        return square <= reach

    return Stimulus(select, f"sphere {tuple(centre_mm)} {radius_mm}", **when)


def box_stimulus(
    lower_mm: tuple[float, float, float], upper_mm: tuple[float, float, float], **when: float
) -> Stimulus:
    """Stimulus of a box (x, y, z in mm).

    A node takes part by the share of its trilinear element function in the box, so that the current does not depend
    on how grid and box meet; at a free surface let the box reach beyond it by a voxel.
    """
    lower, upper = np.asarray(lower_mm, dtype=float), np.asarray(upper_mm, dtype=float)

    def select(muscle: Tissue) -> np.ndarray:
        place, h = muscle.position_mm(), muscle.h_mm
        return np.prod(_below((upper - place) / h) - _below((lower - place) / h), axis=1)

    return Stimulus(select, f"box {tuple(lower_mm)} {tuple(upper_mm)}", **when)


def _below(t: np.ndarray) -> np.ndarray:
    """Share of the hat function on (-1, 1) that lies below ``t``."""
    t = np.clip(t, -1.0, 1.0)
    return np.where(t < 0.0, 0.5 * (1.0 + t) ** 2, 1.0 - 0.5 * (1.0 - t) ** 2)


def mask_stimulus(mask: xr.DataArray, **when: float) -> Stimulus:
    """Stimulus of all corners of the voxels of a mask (z, y, x) on the heart's grid."""

    def select(muscle: Tissue) -> np.ndarray:
        if mask.shape != muscle.weight.shape:
            refuse("mask_stimulus", f"a mask of the heart's grid {muscle.weight.shape}", mask.shape)
        return muscle.node_mean(np.asarray(mask, dtype=float)) > 0.0

    return Stimulus(select, "mask", **when)


def surface_stimulus(surface: str = "endocardium", *, depth: float = 0.15, **when: float) -> Stimulus:
    """Stimulus of the layer at the endocardium or epicardium, by ``transmural`` of the voxels.

    ``depth`` is the share of the wall that it reaches into.
    """
    if surface not in ("endocardium", "epicardium"):
        refuse("surface_stimulus", "'endocardium' or 'epicardium'", repr(surface))

    def select(muscle: Tissue) -> np.ndarray:
        if "transmural" not in muscle.voxels:
            refuse("surface_stimulus", "voxels with 'transmural'", sorted(map(str, muscle.voxels)))
        t = muscle.node_mean(wall_depth(muscle.voxels, muscle.weight > 0, where="surface_stimulus"))
        return t <= depth if surface == "endocardium" else t >= 1.0 - depth

    return Stimulus(select, surface, **when)
