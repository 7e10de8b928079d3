"""Parts of a scanner: detector, tube, bowtie, and published output."""

from __future__ import annotations

from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, field_validator, model_validator

from twinlab.schema import Model

FloatArray = NDArray[np.floating[Any]]
SPEKPY_KV = (40.0, 150.0)


class Lag(Model):
    """One exponential of the afterglow: share of the signal, and its time constant."""

    fraction: float = Field(gt=0.0, lt=1.0)
    time_ms: PositiveFloat


class Electronics(Model):
    """What a scintillating detector does to the absorbed energy on its way to a number. All off by default."""

    swank_factor: float = Field(
        default=1.0, gt=0.0, le=1.0, description="mean^2 / mean square of the light per absorbed keV"
    )
    crosstalk_channel: float = Field(
        default=0.0,
        ge=0.0,
        lt=0.25,
        description="share of a cell's signal that each neighbour in the row gets",
    )
    crosstalk_row: float = Field(default=0.0, ge=0.0, lt=0.25, description="the same across rows")
    lag: tuple[Lag, ...] = ()
    kev_per_count: PositiveFloat | None = Field(
        default=None, description="step of the digitiser; none: analogue"
    )
    saturation_kev: PositiveFloat | None = Field(default=None, description="largest reading, absorbed energy")


class AntiscatterGrid(Model):
    """Septa focused on the focal spot, between cells."""

    material: str
    septum_mm: PositiveFloat
    height_mm: PositiveFloat
    two_dimensional: bool = Field(default=False, description="septa between rows too")


class PhotonCounting(Model):
    """A direct-converting, photon-counting sensor."""

    thresholds_kev: tuple[PositiveFloat, ...] = Field(min_length=1)
    pixel_mm: PositiveFloat = Field(description="side of the physical pixel; a cell sums whole pixels")
    charge_cloud_mm: NonNegativeFloat = Field(
        description="standard deviation of the charge cloud, in each axis"
    )
    energy_noise_kev: NonNegativeFloat = Field(description="standard deviation of a registered energy")
    dead_time_ns: NonNegativeFloat = 0.0
    pile_up: Literal["paralysable", "nonparalysable"] = "nonparalysable"

    @field_validator("thresholds_kev")
    @classmethod
    def _ascending(cls, thresholds: tuple[float, ...]) -> tuple[float, ...]:
        if list(thresholds) != sorted(set(thresholds)):
            raise ValueError("expected ascending thresholds")
        return thresholds


class FlyingFocalSpot(Model):
    """How far the focal spot is deflected to either side of its rest, and the ways it can fly."""

    in_plane_mm: NonNegativeFloat = Field(default=0.0, description="along the rotation, half of the way")
    z_mm: NonNegativeFloat = Field(default=0.0, description="along z, half of the way")
    radial_mm: NonNegativeFloat = Field(
        default=0.0, description="away from the isocentre with +z (slope of the target), half of the way"
    )


class SecondSource(Model):
    """The second tube and detector of a dual-source scanner, on the same gantry."""

    angle_deg: float = Field(gt=0.0, lt=180.0, description="ahead of the first")
    n_channels: PositiveInt
    channel_offset: float = Field(default=0.0, ge=-1.0, le=1.0)
    filters: dict[str, PositiveFloat] = Field(description="flat filters [mm]")


class Detector(Model):
    """Cells of the detector, measured at the detector."""

    shape: Literal["arc", "flat"]
    n_channels: int = Field(gt=1)
    n_rows: int = Field(gt=0)
    channel_pitch_mm: PositiveFloat
    row_pitch_mm: PositiveFloat
    channel_offset: float = Field(
        default=0.0, description="shift of the array [channels]; up to half of them: an offset panel"
    )
    absorber_material: str
    absorber_thickness_mm: PositiveFloat
    fill_factor: float = Field(default=1.0, gt=0.0, le=1.0)
    electronic_noise_kev: float = Field(default=0.0, ge=0.0, description="rms per reading, absorbed energy")
    electronics: Electronics = Electronics()
    grid: AntiscatterGrid | None = None
    counting: PhotonCounting | None = Field(default=None, description="none: integrates energy")

    @model_validator(mode="after")
    def _offset_in_array(self) -> Self:
        if abs(self.channel_offset) > self.n_channels / 2:
            raise ValueError(
                f"channel_offset: expected at most half of the {self.n_channels} channels; "
                f"got {self.channel_offset:g}"
            )
        return self


class Tube(Model):
    """X-ray tube and its flat filters."""

    anode_angle_deg: float = Field(gt=0.0, lt=90.0)
    filters: dict[str, PositiveFloat] = Field(description="flat filters between target and bowtie [mm]")
    kv_stations: tuple[float, ...] = Field(min_length=1)
    max_tube_current_ma: PositiveFloat
    focal_spot_mm: tuple[NonNegativeFloat, NonNegativeFloat] = Field(
        default=(0.0, 0.0),
        description="width (along the rotation) and length (along z), as seen from the isocentre",
    )
    flying_focal_spot: FlyingFocalSpot | None = None
    heel: bool = Field(default=False, description="spectrum and output vary along z with the take-off angle")

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
