"""Cavities: their surface, rim and lid, volume, its gradient and second derivative."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr

from twinlab.cardiac.mechanics.quadrature import face_tables
from twinlab.kernels.heart_faces import faces
from twinlab.schema import refuse

OPEN, CLOSED = face_tables()
SURFACES = {"epicardium": 1, "lv": 2, "rv": 3, "base": 4}


@dataclass(frozen=True)
class Cavity:
    """A pressed surface.

    With ``closed`` the rim is closed by a cone to the mean of its nodes, which is free of volume as seen from
    there; the pressure on that lid then pulls on the rim, and the tangent is symmetric. Without, the pressure
    acts on the surface alone.
    """

    name: str
    facet: np.ndarray
    rim: np.ndarray
    closed: bool

    def centre(self, here: np.ndarray) -> np.ndarray:
        """Middle of the rim (3,); the origin where there is none or the surface is open."""
        return here[self.rim].mean(0) if self.closed and len(self.rim) else np.zeros(3)

    def volume_mm3(self, here: np.ndarray) -> float:
        """Enclosed volume at the places ``here`` (node, 3) of the nodes."""
        force, block = np.empty((len(self.facet), 18)), np.empty((0, 18, 18))
        return -faces(here, self.centre(here), self.facet, CLOSED, False, force, block)

    def gradient(
        self, here: np.ndarray, block: np.ndarray | None = None, rim_block: np.ndarray | None = None
    ) -> tuple[np.ndarray, float]:
        """Force of a unit pressure on the muscle, (node, 3) in mm2, and the volume in mm3.

        Parameters
        ----------
        here : (node, 3)
        block : (facet, 18, 18), optional
            Gets minus the derivative of the force, what the tangent needs.
        rim_block : (3 rim, 3 rim), optional
            Gets that of the moving middle of the rim.
        """
        force = np.empty((len(self.facet), 18))
        wanted = block is not None
        into = block if block is not None else np.empty((0, 18, 18))
        table = CLOSED if self.closed else OPEN
        volume = -faces(here, self.centre(here), self.facet, table, wanted, force, into)
        total = np.zeros_like(here)
        np.add.at(total, self.facet.ravel(), -force.reshape(-1, 3))
        if self.closed and len(self.rim):
            if rim_block is not None and block is not None:
                self._rim_tangent(block, rim_block)
            total[self.rim] -= total.sum(0) / len(self.rim)
        return total, volume

    def _rim_tangent(self, block: np.ndarray, rim_block: np.ndarray) -> None:
        """The middle of the rim moves with the rim: columns summed, shared among its nodes."""
        n = len(self.rim)
        column = np.zeros((int(self.facet.max()) + 1, 3, 3))
        np.add.at(
            column,
            self.facet.ravel(),
            block.reshape(-1, 6, 3, 6, 3).sum(1).transpose(0, 2, 1, 3).reshape(-1, 3, 3),
        )
        sums = column[self.rim] / n
        whole = column.sum(0) / n**2
        tangent = (
            -sums.transpose(1, 0, 2)[None] - sums.transpose(0, 2, 1)[:, :, None, :] + whole[None, :, None, :]
        )
        rim_block[:] = tangent.reshape(3 * n, 3 * n)


def cavity(heart: xr.Dataset, name: str | int, *, closed: bool = True) -> Cavity:
    """Cavity or other pressed surface of a quadratic mesh.

    Parameters
    ----------
    heart : Dataset
    name : {"lv", "rv", "epicardium", "base"} or a number of ``facet_surface``
    closed : bool
        See :class:`Cavity`.

    Raises
    ------
    InputError
        The mesh has no such surface, or its rim is not one loop (a hole in the surface).
    """
    code = SURFACES.get(name, name) if isinstance(name, str) else name
    facet = np.asarray(heart["facet"])[np.asarray(heart["facet_surface"]) == code]
    if len(facet) == 0:
        have = sorted(set(np.asarray(heart["facet_surface"]).tolist()))
        refuse("cavity", f"facets of surface {name!r}", f"surfaces {have}")
    edge = np.stack([facet[:, [0, 1, 3]], facet[:, [1, 2, 4]], facet[:, [0, 2, 5]]]).reshape(-1, 3)
    _, first, count = np.unique(edge[:, 2], return_index=True, return_counts=True)
    loose = edge[first[count == 1]]
    if closed and len(loose):
        _, times = np.unique(loose[:, :2], return_counts=True)
        if np.any(times != 2) or _loops(loose[:, :2]) != 1:
            refuse(
                "cavity",
                f"surface {name!r} with one rim, so that one lid closes it",
                f"{_loops(loose[:, :2])} rims",
            )
    return Cavity(str(name), facet.astype(np.int32), np.unique(loose), closed)


def _loops(edge: np.ndarray) -> int:
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    _, compact = np.unique(edge, return_inverse=True)
    compact = compact.reshape(edge.shape)
    n = int(compact.max()) + 1
    graph = coo_matrix((np.ones(len(edge)), (compact[:, 0], compact[:, 1])), shape=(n, n))
    return int(connected_components(graph, directed=False)[0])
