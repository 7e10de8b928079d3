"""Residual and tangent of a whole body under cavity pressures, active tension and supports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp

from twinlab.cardiac.mechanics.bodies import Body
from twinlab.kernels.heart_tets import elements
from twinlab.kernels.threads import one_parallel_region

_DONE = np.empty((0, 34, 34))


@dataclass(frozen=True)
class Residual:
    """Forces that are out of balance (node, 4), their scale, volumes (mm3), the smallest volume ratio.

    ``force`` holds three forces a node (kPa mm2 = mN) and the volume equation (mm3); ``gradient`` is the force of a
    unit pressure in each cavity (cavity, node, 3).
    """

    force: np.ndarray
    scale: float
    volumes_mm3: np.ndarray
    gradient: np.ndarray
    lowest: float

    @property
    def usable(self) -> bool:
        """No element is turned inside out and nothing has overflowed."""
        return self.lowest > 0 and bool(np.isfinite(self.force).all())


class Assembler:
    """Buffers for the contributions of one body, filled again at every call."""

    def __init__(self, body: Body) -> None:
        self.body = body
        self.kept_step: Any = None  # the last factorised tangent, for the iteration to use again
        n = len(body.tet)
        self.force = np.empty((n, 34))
        self.values = np.zeros(sum(body.pattern.sizes))
        ends = np.cumsum(body.pattern.sizes)
        parts = np.split(self.values, ends[:-1])
        self.block = parts[0].reshape(n, 34, 34)
        parts[1][:] = body.spring_blocks.ravel()
        self.faces = [
            (
                parts[2 + 2 * k].reshape(-1, 18, 18),
                parts[3 + 2 * k].reshape(3 * len(c.rim), -1) if c.closed else None,
            )
            for k, c in enumerate(body.cavities)
        ]

    def __call__(
        self,
        field: np.ndarray,
        pressures_kpa: np.ndarray,
        tension_kpa: np.ndarray,
        dead: np.ndarray | None,
        *,
        tangent: bool,
    ) -> tuple[Residual, sp.csc_matrix | None]:
        """Residual, and the tangent of the free unknowns if wanted.

        Parameters
        ----------
        field : (node, 4)
            Displacement (mm) and pressure (kPa).
        pressures_kpa : (cavity,)
        tension_kpa : (tet,)
        dead : (node, 3), optional
            Forces that do not change, mN.
        tangent : bool
        """
        body = self.body
        here = body.point + field[:, :3]
        with one_parallel_region():
            lowest = elements(
                here, np.ascontiguousarray(field[:, 3]), body.tet, body.gradient, body.measure, body.hat, body.law.kind,
                body.parameters, tension_kpa, body.active.array(), body.kappa_kpa,
                body.stiffening_kpa, body.mixed, tangent, self.force,
                self.block if tangent else _DONE,
            )  # fmt: skip
        total = np.zeros_like(field)
        _add(total[:, :3], body.tet, self.force[:, :30])
        if body.mixed:
            total[:, 3] = np.bincount(
                body.tet[:, :4].ravel(), self.force[:, 30:].ravel(), minlength=len(total)
            )
        with np.errstate(over="ignore"):  # of an iterate that has run away
            scale = float(np.sqrt((total[:, :3] ** 2).sum())) if lowest > 0 else 0.0
        if len(body.spring_facets):
            moved = field[body.spring_facets, :3].reshape(-1, 18, 1)
            held = (body.spring_blocks @ moved)[:, :, 0]
            _add(total[:, :3], body.spring_facets, held)
            scale += float(np.linalg.norm(held))
        gradient = np.empty((len(body.cavities), len(field), 3))
        volumes = np.empty(len(body.cavities))
        for k, one in enumerate(body.cavities):
            block, rim = self.faces[k] if tangent else (None, None)
            gradient[k], volumes[k] = one.gradient(here, block, rim)
            total[:, :3] -= pressures_kpa[k] * gradient[k]
            scale += abs(float(pressures_kpa[k])) * float(np.linalg.norm(gradient[k]))
            if block is not None:
                block *= pressures_kpa[k]
                if rim is not None:
                    rim *= pressures_kpa[k]
        if dead is not None:
            total[:, :3] -= dead
            scale += float(np.linalg.norm(dead))
        result = Residual(total, scale, volumes, gradient, lowest)
        matrix = body.pattern.matrix(self.values) if tangent and result.usable else None
        return result, matrix

    def free(self, values: np.ndarray) -> np.ndarray:
        """Free part of (node, 4) or (node, 3) values, padded with zeros for the pressure."""
        unknown = self.body.unknown[:, : values.shape[1]]
        out = np.zeros(self.body.n_free)
        out[unknown[unknown >= 0]] = values[unknown >= 0]
        return out

    def spread(self, free: np.ndarray) -> np.ndarray:
        """(node, 4) values of the free unknowns, zero elsewhere."""
        unknown = self.body.unknown
        return np.where(unknown >= 0, free[unknown], 0.0)


def _add(total: np.ndarray, node: np.ndarray, force: np.ndarray) -> None:
    force = force.reshape(node.size, 3)
    for i in range(3):
        total[:, i] += np.bincount(node.ravel(), force[:, i], minlength=len(total))
