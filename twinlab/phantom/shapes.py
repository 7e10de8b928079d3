"""Solids of the analytic phantoms: inside tests, distance bounds and exact chords of rays.

Points and directions are arrays of shape (..., 3) in the order x, y, z, in mm.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field, NonNegativeFloat, PositiveFloat, model_validator

from twinlab.kernels import solids as kernel
from twinlab.schema import Model

Form = tuple[int, np.ndarray, np.ndarray, tuple[float, float]]


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
    def form(self) -> Form:
        """The solid as the image of a unit one (see :class:`twinlab.kernels.solids.Solids`)."""

    def interval(self, origin: np.ndarray, direction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Entry and exit [mm] of rays ``origin + t * direction``; entry > exit where the ray misses.

        Parameters
        ----------
        origin, direction : ndarray, shape (n, 3)
            Directions of unit length.
        """
        return kernel.intervals(kernel.solids([self.form()]), origin, direction)

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

    def form(self) -> Form:
        """See :meth:`Solid.form`."""
        radius, half = self.diameter_mm / 2, self.length_mm / 2
        along = "xyz".index(self.axis)
        u, v = (radius * np.eye(3)[i] for i in range(3) if i != along)
        return kernel.CYLINDER, self.centre_mm.array, np.array([u, v, half * np.eye(3)[along]]), (1.0, 0.0)

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

    def form(self) -> Form:
        """See :meth:`Solid.form`."""
        return kernel.CUBE, self.centre_mm.array, np.diag(self.size_mm.array / 2), (1.0, 0.0)

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

    def form(self) -> Form:
        """See :meth:`Solid.form`."""
        return kernel.BALL, self.centre_mm.array, np.diag(self.radii), (1.0, 0.0)

    @property
    def z_span_mm(self) -> tuple[float, float]:
        """See :meth:`Solid.z_span_mm`."""
        return self.centre_mm.z - self.radii[2], self.centre_mm.z + self.radii[2]

    @model_validator(mode="after")
    def _positive(self) -> Self:
        if self.radii.min() <= 0:
            raise ValueError("expected diameter_mm with x, y and z above 0")
        return self


class _Oblique(Solid):
    """A round solid around the line between two points, in any direction."""

    from_mm: Point
    to_mm: Point

    def _frame(self) -> tuple[np.ndarray, np.ndarray, float]:
        a, b = self.from_mm.array + self.centre_mm.array, self.to_mm.array + self.centre_mm.array
        length = float(np.linalg.norm(b - a))
        return (a + b) / 2, (b - a) / length, length

    def _split(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Distance from the line, and place along it from the middle."""
        middle, axis, _ = self._frame()
        shifted = points - middle
        w = shifted @ axis
        return np.sqrt(np.maximum((shifted**2).sum(-1) - w * w, 0.0)), w

    def _axes(self, radius: float) -> tuple[np.ndarray, np.ndarray]:
        middle, axis, length = self._frame()
        across = np.cross(axis, np.eye(3)[np.argmin(np.abs(axis))])
        across /= np.linalg.norm(across)
        return middle, np.array([radius * across, radius * np.cross(axis, across), length / 2 * axis])

    @model_validator(mode="after")
    def _long(self) -> Self:
        if np.allclose(self.from_mm.array, self.to_mm.array):
            raise ValueError("expected from_mm and to_mm apart from each other")
        return self


class Rod(_Oblique):
    """Circular cylinder between two points, in any direction (wires, oblique inserts)."""

    shape: Literal["rod"] = "rod"
    diameter_mm: PositiveFloat

    def bound(self, points: np.ndarray) -> np.ndarray:
        """See :meth:`Solid.bound`."""
        radial, w = self._split(points)
        return np.maximum(radial - self.diameter_mm / 2, np.abs(w) - self._frame()[2] / 2)

    def form(self) -> Form:
        """See :meth:`Solid.form`."""
        return kernel.CYLINDER, *self._axes(self.diameter_mm / 2), (1.0, 0.0)

    @property
    def z_span_mm(self) -> tuple[float, float]:
        """See :meth:`Solid.z_span_mm`."""
        middle, axis, length = self._frame()
        half = abs(axis[2]) * length / 2 + math.sqrt(max(0.0, 1.0 - axis[2] ** 2)) * self.diameter_mm / 2
        return float(middle[2] - half), float(middle[2] + half)


class Cone(_Oblique):
    """Circular cone or frustum between two points; comes to a point where a diameter is 0."""

    shape: Literal["cone"] = "cone"
    from_diameter_mm: NonNegativeFloat
    to_diameter_mm: NonNegativeFloat = 0.0

    def bound(self, points: np.ndarray) -> np.ndarray:
        """See :meth:`Solid.bound`."""
        radial, w = self._split(points)
        length = self._frame()[2]
        start, end = self.from_diameter_mm / 2, self.to_diameter_mm / 2
        wall = radial - (start + end) / 2 - (end - start) * w / length
        return np.maximum(wall * length / math.hypot(length, end - start), np.abs(w) - length / 2)

    def form(self) -> Form:
        """See :meth:`Solid.form`."""
        start, end = self.from_diameter_mm / 2, self.to_diameter_mm / 2
        widest = max(start, end)
        return kernel.FRUSTUM, *self._axes(widest), ((start + end) / 2 / widest, (end - start) / 2 / widest)

    @property
    def z_span_mm(self) -> tuple[float, float]:
        """See :meth:`Solid.z_span_mm`."""
        _, axis, _ = self._frame()
        flat = math.sqrt(max(0.0, 1.0 - axis[2] ** 2)) / 2
        ends = [
            (float((point.array + self.centre_mm.array)[2]), flat * diameter)
            for point, diameter in ((self.from_mm, self.from_diameter_mm), (self.to_mm, self.to_diameter_mm))
        ]
        return min(z - r for z, r in ends), max(z + r for z, r in ends)

    @model_validator(mode="after")
    def _wide(self) -> Self:
        if max(self.from_diameter_mm, self.to_diameter_mm) == 0:
            raise ValueError("expected from_diameter_mm or to_diameter_mm above 0")
        return self


Shape = Annotated[Cylinder | Box | Ellipsoid | Rod | Cone, Field(discriminator="shape")]
