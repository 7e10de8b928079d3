"""Where the source and the flat panel of a radiograph stand, and how the tube is driven."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat, model_validator

from twinlab.phantom.shapes import Point
from twinlab.scanner import Detector, Protocol, Scanner, Tube
from twinlab.scanner.models import NO_BOWTIE
from twinlab.schema import Model, refuse

Array = NDArray[np.float64]
_SQUARE = 1e-6


class Radiography(Model):
    """Where source and panel stand, and the exposure.

    ``panel_mm`` is the middle of the panel; its channels grow along ``right`` and its rows along ``up`` (any
    length, at right angles).
    """

    key: str = "radiograph"
    tube: Tube
    detector: Detector
    kv: PositiveFloat
    mas: PositiveFloat
    added_filters: dict[str, PositiveFloat] = Field(
        default_factory=dict, description="flat filters besides the tube's [mm]"
    )
    source_mm: Point
    panel_mm: Point
    right: Point
    up: Point

    @model_validator(mode="after")
    def _stands(self) -> Self:
        if self.detector.shape != "flat":
            raise ValueError(f"detector: expected a flat one; got shape {self.detector.shape!r}")
        right, up = self.right.array, self.up.array
        size = np.linalg.norm(right) * np.linalg.norm(up)
        if size == 0 or abs(right @ up) > _SQUARE * size:
            raise ValueError(
                f"right and up: expected two directions at right angles; got {right.tolist()} and {up.tolist()}"
            )
        if self.distance_mm < 1.0:
            raise ValueError(
                f"source_mm: expected 1 mm or more off the panel's plane; got {self.distance_mm:.3g} mm"
            )
        low, high = self.tube.kv_stations[0], self.tube.kv_stations[-1]
        if not low <= self.kv <= high:
            raise ValueError(f"kv: expected {low:g} to {high:g} kV; got {self.kv:g}")
        return self

    @property
    def axes(self) -> Array:
        """Unit vectors (x, y, z) along channels, along rows, and from the source to the panel, shape (3, 3)."""
        right, up = (v.array / np.linalg.norm(v.array) for v in (self.right, self.up))
        normal = np.cross(right, up)
        towards = normal @ (self.panel_mm.array - self.source_mm.array)
        return np.array([right, up, normal * (1.0 if towards >= 0 else -1.0)])

    @property
    def distance_mm(self) -> float:
        """Distance of the source from the panel's plane."""
        return float(self.axes[2] @ (self.panel_mm.array - self.source_mm.array))

    def cells_mm(self) -> tuple[Array, Array]:
        """Positions of channels and of rows along the panel, from its middle, mm."""
        d = self.detector
        channel = (np.arange(d.n_channels) - (d.n_channels - 1) / 2 + d.channel_offset) * d.channel_pitch_mm
        return channel, (np.arange(d.n_rows) - (d.n_rows - 1) / 2) * d.row_pitch_mm

    def cell_centres_mm(self) -> Array:
        """Centres of all cells (x, y, z), shape (row, channel, 3), mm."""
        channel, row = self.cells_mm()
        right, up, _ = self.axes
        return self.panel_mm.array + row[:, None, None] * up + channel[:, None] * right

    def solid_angle_sr(self) -> Array:
        """Solid angle of each cell at the source, shape (row, channel): area times cosine over distance squared."""
        way = np.linalg.norm(self.cell_centres_mm() - self.source_mm.array, axis=-1)
        return self.detector.channel_pitch_mm * self.detector.row_pitch_mm * self.distance_mm / way**3

    def protocol(self) -> Protocol:
        """A scanner of these parts that sees the panel head on: what the detector model asks for."""
        detector = self.detector.model_copy(update={"channel_offset": 0.0})
        filters = dict(self.tube.filters)
        for name, thickness in self.added_filters.items():
            filters[name] = filters.get(name, 0.0) + thickness
        scanner = Scanner(
            key=self.key, name=self.key, sources=("radiography",),
            source_to_isocentre_mm=self.distance_mm / 2, source_to_detector_mm=self.distance_mm,
            views_per_rotation=4, detector=detector, tube=self.tube.model_copy(update={"filters": filters}),
        )  # fmt: skip
        return Protocol(
            key=self.key, title=self.key, scanner=scanner, mode="axial", kv=self.kv, tube_current_ma=1.0,
            rotation_time_s=1.0, collimation_mm=scanner.max_collimation_mm,
            slice_thickness_mm=scanner.row_pitch_isocentre_mm, slice_interval_mm=1.0,
            reconstruction_fov_mm=0.5 * scanner.scan_fov_mm, bowtie=NO_BOWTIE,
            ctdi_phantom_cm=16, sources=("radiography",),
        )  # fmt: skip


def on_gantry(
    protocol: Protocol,
    *,
    view_angle_deg: float = 0.0,
    source_z_mm: float = 0.0,
    isocentre_mm: tuple[float, float] = (0.0, 0.0),
) -> Radiography:
    """One view of a cone-beam scanner as a radiograph.

    Parameters
    ----------
    protocol : Protocol
        Of a flat panel; a view gets ``mas / views_per_rotation``.
    view_angle_deg, source_z_mm
        See :func:`twinlab.scanner.trajectory`.
    isocentre_mm : (x, y)

    Raises
    ------
    InputError
        The detector is not flat, or the protocol has a bowtie.
    """
    if protocol.bowtie != NO_BOWTIE:
        refuse("on_gantry", "a protocol without bowtie", repr(protocol.bowtie))
    scanner, b = protocol.scanner, np.radians(view_angle_deg)
    outward = np.array([np.sin(b), -np.cos(b), 0.0])
    centre = np.array([*isocentre_mm, source_z_mm])
    source = centre + scanner.source_to_isocentre_mm * outward
    panel = source - scanner.source_to_detector_mm * outward
    data = {
        "key": f"{scanner.key}_view", "tube": scanner.tube, "detector": scanner.detector, "kv": protocol.kv,
        "mas": protocol.mas / scanner.views_per_rotation, "source_mm": _point(source),
        "panel_mm": _point(panel), "right": _point([np.cos(b), np.sin(b), 0.0]), "up": _point([0.0, 0.0, 1.0]),
    }  # fmt: skip
    return Radiography.make(data, where="on_gantry")


def _point(values: Any) -> dict[str, float]:
    return dict(zip("xyz", (float(v) for v in values), strict=True))
