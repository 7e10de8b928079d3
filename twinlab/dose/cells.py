"""Cells of a tube's path and cone, and how much of a protocol's tube output falls into each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinlab.schema import refuse

Array = NDArray[np.float64]
_SPOT_NODES = 8  # over the focal spot, as for the collimated beam


@dataclass(frozen=True)
class Cells:
    """Even cells of table position, gantry angle and sine of the cone angle.

    ``z_mm``: centres along the table. ``n_sector``: sectors of the gantry angle, the first centred on 0.
    ``sine``: edges of the cone cells.
    """

    z_mm: Array
    n_sector: int
    sine: Array

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of cells along z, gantry angle and cone."""
        return self.z_mm.size, self.n_sector, self.sine.size - 1

    @property
    def step_mm(self) -> float:
        """Length of a cell along the table, mm."""
        return float(self.z_mm[1] - self.z_mm[0])

    @property
    def angle_rad(self) -> Array:
        """Middles of the sectors, rad."""
        return np.asarray(np.arange(self.n_sector) * (2 * np.pi / self.n_sector), float)

    def path(self) -> NDArray[Any]:
        """All cells in order: (cell, 5) angle [rad], z [mm], their widths, and the number of the cone cell."""
        z, angle, cone = np.meshgrid(self.z_mm, self.angle_rad, np.arange(self.shape[2]), indexing="ij")
        turn = np.full(z.size, 2 * np.pi / self.n_sector)
        return np.stack([angle.ravel(), z.ravel(), turn, np.full(z.size, self.step_mm), cone.ravel()], axis=1)


def weights(cells: Cells, view: Array, view_mas: Array, slope: Array, *, blur: float = 0.0) -> Array:
    """mAs of a protocol by cell, times the part of the cone cell that its beam fills.

    The output of a view is shared between the two nearest cells along z and the two nearest sectors, linearly.

    Parameters
    ----------
    cells : Cells
    view : (view, 4) array
        Gantry angle [rad] and table position [mm] in the middle of a view, and how far both move in it.
    view_mas : (view,) array
        mAs of each view.
    slope : (view, 2) or (1, 2) array
        Tangents of the cone angle between which the blades are open.
    blur : float
        Length of the focal spot over the distance of the blades: width of the penumbra in the tangent.

    Returns
    -------
    (z, sector, cone) array, mAs

    Raises
    ------
    InputError
        The path or the beam leaves the cells.
    """
    place = (view[:, 1] - cells.z_mm[0]) / cells.step_mm
    if place.min() < -0.5 or place.max() > cells.z_mm.size - 0.5:
        ends = cells.z_mm[0] - cells.step_mm / 2, cells.z_mm[-1] + cells.step_mm / 2
        refuse(
            "dose response: path of the tube",
            f"within {ends[0]:g} to {ends[1]:g} mm, for which it was computed",
            f"{view[:, 1].min():g} to {view[:, 1].max():g} mm",
        )
    opening, group = np.unique(np.round(slope, 9), axis=0, return_inverse=True)
    group = np.broadcast_to(group.ravel(), len(view))
    out = np.zeros((*cells.shape[:2], len(opening)))
    turn = np.mod(view[:, 0], 2 * np.pi) / (2 * np.pi) * cells.n_sector
    place = np.clip(place, 0.0, cells.z_mm.size - 1.0)
    i, j = np.minimum(place.astype(int), cells.z_mm.size - 2), turn.astype(int)
    p, q = place - i, turn - j
    for di, share in ((0, 1 - p), (1, p)):
        for dj, part in ((0, 1 - q), (1, q)):
            np.add.at(out, (i + di, (j + dj) % cells.n_sector, group), view_mas * share * part)
    return np.asarray(out @ _filled(cells.sine, opening, blur))


def _filled(sine: Array, slope: Array, blur: float) -> Array:
    """Share of each cone cell that the blades pass, (opening, cone)."""
    reach = np.abs(slope).max() + blur / 2
    widest = sine[-1] / np.sqrt(1 - sine[-1] ** 2)
    if reach > widest * (1 + 1e-6):
        refuse(
            "dose response: beam",
            f"half as wide as {widest:.5g} of the distance of the isocentre, for which it was computed",
            f"{reach:.5g}",
        )
    node, weight = np.polynomial.legendre.leggauss(_SPOT_NODES if blur > 0 else 1)
    share = np.zeros((len(slope), sine.size - 1))
    for place, part in zip(0.5 * node * blur, 0.5 * weight, strict=True):
        low, high = ((slope[:, [k]] - place) / np.hypot(1.0, slope[:, [k]] - place) for k in (0, 1))
        share += part * np.maximum(np.minimum(sine[1:], high) - np.maximum(sine[:-1], low), 0.0)
    return np.asarray(share / np.diff(sine))
