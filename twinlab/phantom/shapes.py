"""Solids of the analytic phantoms: inside tests, distance bounds and exact chords of rays.

Points and directions are arrays of shape (..., 3) in the order x, y, z, in mm.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field, PositiveFloat, model_validator

from twinlab.schema import Model


class Point(Model):
    """Position or extent by named axes [mm]."""

    x: float = 0.0
    y: float = 0.0
    z: float = 0.0

    @property
    def array(self) -> np.ndarray:
        """Shape (3,), order x, y, z [mm]."""
        return np.array([self.x, self.y, self.z])


class Solid(Model, ABC):
    """One painted solid: its matter and the organ it belongs to."""

    name: str
    material: str
    density_g_cm3: PositiveFloat | None = None
    organ: str | None = None
    centre_mm: Point = Point()

    @abstractmethod
    def bound(self, points: np.ndarray) -> np.ndarray:
        """Signed distance to the surface [mm], negative inside; its magnitude never exceeds the true one.

        Parameters
        ----------
        points : ndarray, shape (..., 3), units mm
        """

    def contains(self, points: np.ndarray) -> np.ndarray:
        """Whether points, shape (..., 3), lie inside."""
        return np.asarray(self.bound(points) <= 0.0)

    @abstractmethod
    def interval(self, origin: np.ndarray, direction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Entry and exit of rays ``origin + t * direction``; entry > exit where the ray misses.

        Parameters
        ----------
        origin, direction : ndarray, shape (n, 3)
            Directions of unit length give ``t`` in mm.
        """

    def chord(self, origin: np.ndarray, direction: np.ndarray) -> np.ndarray:
        """Length of rays of unit direction inside the solid [mm], shape (n,)."""
        start, stop = self.interval(origin, direction)
        return np.maximum(stop - start, 0.0)

    @property
    @abstractmethod
    def z_span_mm(self) -> tuple[float, float]:
        """Lowest and highest z of the solid [mm]."""

    @property
    def is_prism(self) -> bool:
        """Whether every cut across z inside ``z_span_mm`` is the same."""
        return False


def _slab(position: np.ndarray, speed: np.ndarray, half: float) -> tuple[np.ndarray, np.ndarray]:
    with np.errstate(divide="ignore", invalid="ignore"):
        a, b = (-half - position) / speed, (half - position) / speed
    still = speed == 0
    inside = np.abs(position) <= half
    low = np.where(still, np.where(inside, -np.inf, np.inf), np.minimum(a, b))
    high = np.where(still, np.where(inside, np.inf, -np.inf), np.maximum(a, b))
    return low, high


def _quadric(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Roots of ``a t2 + 2 b t + c <= 0`` as an interval."""
    disc = b * b - a * c
    root = np.sqrt(np.maximum(disc, 0.0))
    with np.errstate(divide="ignore", invalid="ignore"):
        low, high = (-b - root) / a, (-b + root) / a
    along = a < 1e-14
    low = np.where(along, np.where(c <= 0, -np.inf, np.inf), np.where(disc > 0, low, np.inf))
    high = np.where(along, np.where(c <= 0, np.inf, -np.inf), np.where(disc > 0, high, -np.inf))
    return low, high


class Cylinder(Solid):
    """Right circular cylinder along a coordinate axis."""

    shape: Literal["cylinder"] = "cylinder"
    diameter_mm: PositiveFloat
    length_mm: PositiveFloat
    axis: Literal["x", "y", "z"] = "z"

    def _split(self, vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        along = "xyz".index(self.axis)
        u, v = (i for i in range(3) if i != along)
        return vectors[..., u], vectors[..., v], vectors[..., along]

    def bound(self, points: np.ndarray) -> np.ndarray:
        """See :meth:`Solid.bound`."""
        u, v, w = self._split(points - self.centre_mm.array)
        return np.maximum(np.hypot(u, v) - self.diameter_mm / 2, np.abs(w) - self.length_mm / 2)

    def interval(self, origin: np.ndarray, direction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See :meth:`Solid.interval`."""
        u, v, w = self._split(origin - self.centre_mm.array)
        du, dv, dw = self._split(direction)
        low, high = _quadric(du * du + dv * dv, u * du + v * dv, u * u + v * v - (self.diameter_mm / 2) ** 2)
        bottom, top = _slab(w, dw, self.length_mm / 2)
        return np.maximum(low, bottom), np.minimum(high, top)

    @property
    def z_span_mm(self) -> tuple[float, float]:
        """See :meth:`Solid.z_span_mm`."""
        half = (self.length_mm if self.axis == "z" else self.diameter_mm) / 2
        return self.centre_mm.z - half, self.centre_mm.z + half

    @property
    def is_prism(self) -> bool:
        """See :meth:`Solid.is_prism`."""
        return self.axis == "z"


class Box(Solid):
    """Box along the coordinate axes."""

    shape: Literal["box"] = "box"
    size_mm: Point

    def bound(self, points: np.ndarray) -> np.ndarray:
        """See :meth:`Solid.bound`."""
        return (np.abs(points - self.centre_mm.array) - self.size_mm.array / 2).max(axis=-1)

    def interval(self, origin: np.ndarray, direction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See :meth:`Solid.interval`."""
        shifted, half = origin - self.centre_mm.array, self.size_mm.array / 2
        pairs = [_slab(shifted[..., i], direction[..., i], half[i]) for i in range(3)]
        return np.max([p[0] for p in pairs], axis=0), np.min([p[1] for p in pairs], axis=0)

    @property
    def z_span_mm(self) -> tuple[float, float]:
        """See :meth:`Solid.z_span_mm`."""
        return self.centre_mm.z - self.size_mm.z / 2, self.centre_mm.z + self.size_mm.z / 2

    @property
    def is_prism(self) -> bool:
        """See :meth:`Solid.is_prism`."""
        return True

    @model_validator(mode="after")
    def _positive(self) -> Self:
        if self.size_mm.array.min() <= 0:
            raise ValueError("expected size_mm with x, y and z above 0")
        return self


class Ellipsoid(Solid):
    """Ellipsoid along the coordinate axes; ``diameter_mm`` by axis, or one number for a sphere."""

    shape: Literal["ellipsoid"] = "ellipsoid"
    diameter_mm: Point | PositiveFloat

    @property
    def radii(self) -> np.ndarray:
        """Half axes [mm], order x, y, z."""
        d = self.diameter_mm
        return d.array / 2 if isinstance(d, Point) else np.full(3, d / 2)

    def bound(self, points: np.ndarray) -> np.ndarray:
        """See :meth:`Solid.bound`."""
        scaled = np.sqrt((((points - self.centre_mm.array) / self.radii) ** 2).sum(axis=-1))
        # the map that makes the ellipsoid a unit sphere stretches no length by more than 1/min(radii)
        return (scaled - 1.0) * self.radii.min()

    def interval(self, origin: np.ndarray, direction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See :meth:`Solid.interval`."""
        o, d = (origin - self.centre_mm.array) / self.radii, direction / self.radii
        return _quadric((d * d).sum(-1), (o * d).sum(-1), (o * o).sum(-1) - 1.0)

    @property
    def z_span_mm(self) -> tuple[float, float]:
        """See :meth:`Solid.z_span_mm`."""
        return self.centre_mm.z - self.radii[2], self.centre_mm.z + self.radii[2]

    @model_validator(mode="after")
    def _positive(self) -> Self:
        if self.radii.min() <= 0:
            raise ValueError("expected diameter_mm with x, y and z above 0")
        return self


class Rod(Solid):
    """Circular cylinder between two points, in any direction (wires, oblique inserts)."""

    shape: Literal["rod"] = "rod"
    from_mm: Point
    to_mm: Point
    diameter_mm: PositiveFloat

    def _frame(self) -> tuple[np.ndarray, np.ndarray, float]:
        a, b = self.from_mm.array + self.centre_mm.array, self.to_mm.array + self.centre_mm.array
        length = float(np.linalg.norm(b - a))
        return (a + b) / 2, (b - a) / length, length

    def bound(self, points: np.ndarray) -> np.ndarray:
        """See :meth:`Solid.bound`."""
        middle, axis, length = self._frame()
        shifted = points - middle
        w = shifted @ axis
        radial = np.sqrt(np.maximum((shifted**2).sum(-1) - w * w, 0.0))
        return np.maximum(radial - self.diameter_mm / 2, np.abs(w) - length / 2)

    def interval(self, origin: np.ndarray, direction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See :meth:`Solid.interval`."""
        middle, axis, length = self._frame()
        o = origin - middle
        w, dw = o @ axis, direction @ axis
        o_r, d_r = o - w[..., None] * axis, direction - dw[..., None] * axis
        low, high = _quadric(
            (d_r**2).sum(-1), (o_r * d_r).sum(-1), (o_r**2).sum(-1) - (self.diameter_mm / 2) ** 2
        )
        bottom, top = _slab(w, dw, length / 2)
        return np.maximum(low, bottom), np.minimum(high, top)

    @property
    def z_span_mm(self) -> tuple[float, float]:
        """See :meth:`Solid.z_span_mm`."""
        middle, axis, length = self._frame()
        half = abs(axis[2]) * length / 2 + math.sqrt(max(0.0, 1.0 - axis[2] ** 2)) * self.diameter_mm / 2
        return float(middle[2] - half), float(middle[2] + half)

    @model_validator(mode="after")
    def _long(self) -> Self:
        if np.allclose(self.from_mm.array, self.to_mm.array):
            raise ValueError("expected from_mm and to_mm apart from each other")
        return self


Shape = Annotated[Cylinder | Box | Ellipsoid | Rod, Field(discriminator="shape")]
