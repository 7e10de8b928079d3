"""Scanner and Protocol: frozen, validated descriptions of a machine and of how it is driven."""

from __future__ import annotations

import math
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from twinlab.scanner import geometry
from twinlab.scanner.parts import Bowtie, CtdiEntry, Detector, SecondSource, Tube
from twinlab.schema import Model, refuse

FloatArray = NDArray[np.floating[Any]]
Kernel = Literal["smooth", "standard", "sharp", "ramp"]
NO_BOWTIE = "none"


class Sampling(Model):
    """Points over which a reading is averaged: on the focal spot, on the cell, in the time of a view."""

    focal_width: PositiveInt = 1
    focal_length: PositiveInt = 1
    cell_channel: PositiveInt = 1
    cell_row: PositiveInt = 1
    view: PositiveInt = 1


class Scanner(Model):
    """A CT scanner: distances, detector, tube, bowties and published output."""

    key: str
    name: str
    sources: tuple[str, ...] = Field(min_length=1)
    source_to_isocentre_mm: PositiveFloat
    source_to_detector_mm: PositiveFloat
    views_per_rotation: int = Field(gt=3)
    detector: Detector
    tube: Tube
    second_source: SecondSource | None = None
    max_gantry_tilt_deg: float = Field(default=0.0, ge=0.0, lt=45.0)
    bowties: dict[str, Bowtie] = Field(default_factory=dict)
    ctdi_w_mgy_per_100mas: dict[Literal["16", "32"], dict[float, PositiveFloat]] = Field(default_factory=dict)
    ctdi_published: tuple[CtdiEntry, ...] = ()
    over_beaming_mm: float = Field(
        default=0.0, ge=0.0, description="z width beyond the collimation, at isocentre"
    )
    collimator_distance_mm: PositiveFloat | None = Field(
        default=None, description="focal spot to the blades; with a focal spot, the beam has a penumbra"
    )
    dynamic_collimation: bool = Field(
        default=False, description="blades close at the ends of helical scans, outside the imaged range"
    )
    rotation_times_s: tuple[PositiveFloat, ...] = ()
    notes: str = ""

    @model_validator(mode="after")
    def _detector_behind_isocentre(self) -> Self:
        if self.source_to_detector_mm <= self.source_to_isocentre_mm:
            raise ValueError("expected source_to_detector_mm greater than source_to_isocentre_mm")
        if self.collimator_distance_mm is not None and not (
            self.collimator_distance_mm < self.source_to_isocentre_mm
        ):
            raise ValueError("expected collimator_distance_mm below source_to_isocentre_mm")
        if NO_BOWTIE in self.bowties:
            raise ValueError(f"expected no bowtie named {NO_BOWTIE!r}: the word stands for an open beam")
        return self

    def channel_positions_mm(self) -> FloatArray:
        """Lateral position of each channel centre at the detector (arc length or u), mm, ascending."""
        n = self.detector.n_channels
        return (np.arange(n) - (n - 1) / 2 + self.detector.channel_offset) * self.detector.channel_pitch_mm

    def fan_angles_rad(self) -> FloatArray:
        """Fan angle of each channel centre, rad, ascending, shape (channel,)."""
        position = self.channel_positions_mm() / self.source_to_detector_mm
        return position if self.detector.shape == "arc" else np.arctan(position)

    @property
    def row_pitch_isocentre_mm(self) -> float:
        """Row pitch projected to the isocentre, mm."""
        return self.detector.row_pitch_mm * self.source_to_isocentre_mm / self.source_to_detector_mm

    @property
    def max_collimation_mm(self) -> float:
        """Width of all rows at the isocentre, mm."""
        return self.detector.n_rows * self.row_pitch_isocentre_mm

    @property
    def scan_fov_mm(self) -> float:
        """Diameter of the circle that a full rotation sees completely, mm.

        A panel that is shifted by more than a channel (half fan) sees each ray of the outer ring from one of two
        opposite views: the farther edge counts.
        """
        edges = np.abs(self.fan_angles_rad()[[0, -1]])
        half = float(edges.min() if abs(self.detector.channel_offset) <= 1.0 else edges.max())
        return 2.0 * self.source_to_isocentre_mm * math.sin(half)

    def n_rows_for(self, collimation_mm: float) -> int:
        """Number of detector rows that a collimation opens.

        Raises
        ------
        InputError
            The collimation is wider than the detector or no whole number of rows.
        """
        rows = collimation_mm / self.row_pitch_isocentre_mm
        n = round(rows)
        # A tenth of a row is forgiven: vendors quote 40 mm for 64 rows that are 39.995 mm.
        if not 1 <= n <= self.detector.n_rows or abs(rows - n) > 0.1:
            refuse(
                f"{self.key}: collimation_mm",
                f"a whole number of rows of {self.row_pitch_isocentre_mm:.4g} mm, "
                f"1 to {self.detector.n_rows} (at most {self.max_collimation_mm:.6g} mm)",
                f"{collimation_mm:g} mm",
            )
        return n

    def row_positions_mm(self, collimation_mm: float | None = None) -> FloatArray:
        """Centres of the active rows at the detector, mm, ascending along z, shape (row,).

        Raises
        ------
        InputError
            See :meth:`n_rows_for`.
        """
        n = self.detector.n_rows if collimation_mm is None else self.n_rows_for(collimation_mm)
        return (np.arange(n) - (n - 1) / 2) * self.detector.row_pitch_mm


class Protocol(Model):
    """How a scanner is driven in one scan. Lengths along z are at the isocentre."""

    key: str
    title: str
    scanner: Scanner
    mode: Literal["helical", "axial"]
    kv: PositiveFloat
    tube_current_ma: PositiveFloat | None = None
    quality_reference_mas: PositiveFloat | None = Field(
        default=None, description="effective mAs (mas / pitch) that the reference patient gets"
    )
    quality_reference_dw_mm: PositiveFloat | None = Field(
        default=None, description="water-equivalent diameter of the reference patient"
    )
    exposure_strength: float = Field(
        default=0.5, ge=0.0, le=1.0, description="1: constant noise; 0: fixed mAs"
    )
    rotation_time_s: PositiveFloat
    pitch: PositiveFloat = 1.0
    interscan_delay_s: float = Field(default=0.0, ge=0.0, description="between axial rotations")
    collimation_mm: PositiveFloat
    slice_thickness_mm: PositiveFloat
    slice_interval_mm: PositiveFloat
    kernel: Kernel = "standard"
    reconstruction_fov_mm: PositiveFloat
    bowtie: str
    flying_focal_spot: Literal["off", "in_plane", "z", "both"] = "off"
    gantry_tilt_deg: float = Field(
        default=0.0, description="axial mode; above 0 the upper side of the gantry leans towards the feet"
    )
    second_kv: PositiveFloat | None = Field(
        default=None, description="second tube voltage: of every other view, or of the second source"
    )
    sampling: Sampling = Sampling()
    ctdi_phantom_cm: Literal[16, 32]
    task: str = ""
    notes: str = ""
    sources: tuple[str, ...] = Field(min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _pitch_is_said(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("mode") == "helical" and data.get("pitch") is None:
            raise ValueError("expected a pitch, which mode 'helical' needs")
        return data

    @model_validator(mode="after")
    def _drivable(self) -> Self:
        tube, scanner = self.scanner.tube, self.scanner
        low, high = tube.kv_stations[0], tube.kv_stations[-1]
        if not low <= self.kv <= high:
            stations = ", ".join(f"{kv:g}" for kv in tube.kv_stations)
            raise ValueError(
                f"kv: expected {low:g} to {high:g} kV (stations {stations} of {scanner.key}); got {self.kv:g}"
            )
        if (self.tube_current_ma is None) == (self.quality_reference_mas is None):
            raise ValueError("expected exactly one of tube_current_ma and quality_reference_mas")
        if self.quality_reference_mas is not None and self.quality_reference_dw_mm is None:
            raise ValueError("quality_reference_mas: expected quality_reference_dw_mm with it")
        if self.tube_current_ma is not None and self.tube_current_ma > tube.max_tube_current_ma:
            raise ValueError(
                f"tube_current_ma: expected at most {tube.max_tube_current_ma:g} mA ({scanner.key}); "
                f"got {self.tube_current_ma:g}"
            )
        if self.mode == "axial" and self.pitch != 1.0:
            raise ValueError(
                f"pitch: expected none with mode 'axial' (the table stands still); got {self.pitch:g}"
            )
        if self.mode == "helical" and not 0.1 <= self.pitch <= 3.5:
            raise ValueError(f"pitch: expected 0.1 to 3.5; got {self.pitch:g}")
        if self.bowtie != NO_BOWTIE and self.bowtie not in scanner.bowties:
            raise ValueError(
                f"bowtie: expected one of {', '.join([*scanner.bowties, NO_BOWTIE])}; got {self.bowtie!r}"
            )
        if self.reconstruction_fov_mm > scanner.scan_fov_mm * 1.01:  # vendors round the field of view up
            raise ValueError(
                f"reconstruction_fov_mm: expected at most the scan field of view "
                f"{scanner.scan_fov_mm:.4g} mm; got {self.reconstruction_fov_mm:g}"
            )
        row = scanner.row_pitch_isocentre_mm
        if self.slice_thickness_mm < 0.9 * row:  # 0.625 mm is said of rows that are a little more
            raise ValueError(
                f"slice_thickness_mm: expected at least one row at the isocentre ({row:.3g} mm, {scanner.key}); "
                f"got {self.slice_thickness_mm:g}"
            )
        scanner.n_rows_for(self.collimation_mm)
        self._equipped()
        return self

    def _equipped(self) -> None:
        """The scanner can do what goes beyond a plain scan."""
        scanner, tilt = self.scanner, self.gantry_tilt_deg
        if self.flying_focal_spot != "off" and scanner.tube.flying_focal_spot is None:
            raise ValueError(
                f"flying_focal_spot: expected 'off' ({scanner.key} has none); got {self.flying_focal_spot!r}"
            )
        if abs(tilt) > scanner.max_gantry_tilt_deg:
            raise ValueError(
                f"gantry_tilt_deg: expected at most {scanner.max_gantry_tilt_deg:g} ({scanner.key}); got {tilt:g}"
            )
        if tilt and self.mode == "helical":
            raise ValueError(f"gantry_tilt_deg: expected 0 with mode 'helical'; got {tilt:g}")
        low, high = scanner.tube.kv_stations[0], scanner.tube.kv_stations[-1]
        if self.second_kv is not None and not low <= self.second_kv <= high:
            raise ValueError(f"second_kv: expected {low:g} to {high:g} kV; got {self.second_kv:g}")

    def replace(self, **changes: Any) -> Self:
        """The protocol with other values, validated again.

        Setting one of ``tube_current_ma`` and ``quality_reference_mas`` clears the other.

        Raises
        ------
        InputError
            Unknown names or values that do not fit.
        """
        data: dict[str, Any] = {name: getattr(self, name) for name in type(self).model_fields}
        rivals = {"tube_current_ma": "quality_reference_mas", "quality_reference_mas": "tube_current_ma"}
        for name, rival in rivals.items():
            if changes.get(name) is not None and rival not in changes:
                data[rival] = None
        return type(self).make({**data, **changes}, where=f"protocol {self.key}")

    @property
    def mas(self) -> float:
        """Tube current x rotation time, mA s per rotation.

        Raises
        ------
        InputError
            The protocol has a quality reference only: see :func:`twinlab.scanner.for_patient`.
        """
        if self.tube_current_ma is None:
            refuse(
                f"protocol {self.key}: mas",
                "tube_current_ma (twinlab.scanner.for_patient(protocol, dw_mm=...) sets it for a patient)",
                f"quality_reference_mas {self.quality_reference_mas:g} without a patient",
            )
        return self.tube_current_ma * self.rotation_time_s

    @property
    def effective_mas(self) -> float:
        """``mas / pitch``, mA s."""
        return self.mas / self.pitch

    @property
    def feed_mm(self) -> float:
        """Table travel per rotation (helical) or between rotations (axial), mm."""
        return self.pitch * self.collimation_mm

    def row_positions_mm(self) -> FloatArray:
        """Centres of the rows that this collimation opens, at the detector, mm, shape (row,)."""
        return self.scanner.row_positions_mm(self.collimation_mm)

    def scan_time_s(self, z_range_mm: tuple[float, float]) -> float:
        """Time from first to last exposure over a range, over-ranging included, s."""
        rotations = geometry.n_rotations(self, z_range_mm=z_range_mm)
        delays = (rotations - 1) * self.interscan_delay_s if self.mode == "axial" else 0.0
        return rotations * self.rotation_time_s + delays
