"""Scanner and Protocol: frozen, validated descriptions of a machine and of how it is driven."""

from __future__ import annotations

import math
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat, field_validator, model_validator

from twinlab.scanner import geometry
from twinlab.schema import Model, refuse

FloatArray = NDArray[np.floating[Any]]
Kernel = Literal["smooth", "standard", "sharp", "ramp"]
NO_BOWTIE = "none"
SPEKPY_KV = (40.0, 150.0)


class Detector(Model):
    """Cells of the detector, measured at the detector."""

    shape: Literal["arc", "flat"]
    n_channels: int = Field(gt=1)
    n_rows: int = Field(gt=0)
    channel_pitch_mm: PositiveFloat
    row_pitch_mm: PositiveFloat
    channel_offset: float = Field(default=0.0, ge=-1.0, le=1.0, description="shift of the array [channels]")
    absorber_material: str
    absorber_thickness_mm: PositiveFloat
    fill_factor: float = Field(default=1.0, gt=0.0, le=1.0)
    electronic_noise_kev: float = Field(default=0.0, ge=0.0, description="rms per reading, absorbed energy")


class Tube(Model):
    """X-ray tube and its flat filters."""

    anode_angle_deg: float = Field(gt=0.0, lt=90.0)
    filters: dict[str, PositiveFloat] = Field(description="flat filters between target and bowtie [mm]")
    kv_stations: tuple[float, ...] = Field(min_length=1)
    max_tube_current_ma: PositiveFloat

    @field_validator("kv_stations")
    @classmethod
    def _stations_in_range(cls, stations: tuple[float, ...]) -> tuple[float, ...]:
        low, high = SPEKPY_KV
        if list(stations) != sorted(set(stations)) or stations[0] < low or stations[-1] > high:
            raise ValueError(f"expected ascending kV stations within {low:g} to {high:g}")
        return stations


class Bowtie(Model):
    """Path length through the beam-shaping filter along the ray of each fan angle.

    Angles are one side from 0 or both sides; a one-sided table is mirrored.
    """

    material: str
    fan_angle_deg: tuple[float, ...] = Field(min_length=2)
    thickness_mm: tuple[float, ...]
    note: str = ""

    @model_validator(mode="after")
    def _a_table(self) -> Self:
        if len(self.fan_angle_deg) != len(self.thickness_mm):
            raise ValueError(
                f"expected as many thicknesses as fan angles ({len(self.fan_angle_deg)}), "
                f"not {len(self.thickness_mm)}"
            )
        if any(b <= a for a, b in zip(self.fan_angle_deg, self.fan_angle_deg[1:], strict=False)):
            raise ValueError("expected ascending fan angles")
        if min(self.thickness_mm) < 0:
            raise ValueError("expected thicknesses of 0 mm or more")
        if self.fan_angle_deg[0] > 0:
            raise ValueError("expected a table that starts at fan angle 0 or below")
        return self

    def path_mm(self, fan_angle_rad: FloatArray) -> FloatArray:
        """Path through the filter at fan angles (rad), linear in the table, constant beyond its ends."""
        angle = np.rad2deg(np.asarray(fan_angle_rad, dtype=float))
        if self.fan_angle_deg[0] >= 0.0:
            angle = np.abs(angle)
        return np.interp(angle, self.fan_angle_deg, self.thickness_mm)


class CtdiEntry(Model):
    """One published CTDI100 set, as the source gives it."""

    kv: PositiveFloat
    phantom_cm: Literal[16, 32]
    bowtie: str
    collimation_mm: PositiveFloat | None = None
    centre_mgy_per_100mas: PositiveFloat | None = None
    periphery_mgy_per_100mas: PositiveFloat | None = None
    centre_to_periphery: PositiveFloat | None = None
    ctdi_w_mgy_per_100mas: PositiveFloat | None = None
    source: str
    verified: bool = Field(description="read in the source itself, not second-hand")
    note: str = ""


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
    bowties: dict[str, Bowtie] = Field(default_factory=dict)
    ctdi_w_mgy_per_100mas: dict[Literal["16", "32"], dict[float, PositiveFloat]] = Field(default_factory=dict)
    ctdi_published: tuple[CtdiEntry, ...] = ()
    over_beaming_mm: float = Field(
        default=0.0, ge=0.0, description="z width beyond the collimation, at isocentre"
    )
    rotation_times_s: tuple[PositiveFloat, ...] = ()
    notes: str = ""

    @model_validator(mode="after")
    def _detector_behind_isocentre(self) -> Self:
        if self.source_to_detector_mm <= self.source_to_isocentre_mm:
            raise ValueError("expected source_to_detector_mm greater than source_to_isocentre_mm")
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
        """Diameter of the circle that every view sees completely, mm."""
        half = float(np.abs(self.fan_angles_rad()[[0, -1]]).min())
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
        scanner.n_rows_for(self.collimation_mm)
        return self

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
