"""Parts of a scanner: detector, tube, bowtie, and published output."""

from __future__ import annotations

from itertools import pairwise
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
    """A beam-shaping filter, given in one of three ways.

    A table of the path along the ray at each fan angle (``thickness_mm``); a table of transmission at an
    effective energy; or a shape: a block with a flat face at ``distance_mm`` from the focal spot and the
    thickness ``thickness_mm`` at the lateral places ``lateral_mm``. Tables are one side from 0 or both sides; a
    one-sided table is mirrored.
    """

    material: str
    fan_angle_deg: tuple[float, ...] | None = Field(default=None, min_length=2)
    lateral_mm: tuple[float, ...] | None = Field(default=None, min_length=2)
    thickness_mm: tuple[float, ...] | None = None
    transmission: tuple[float, ...] | None = None
    energy_kev: PositiveFloat | None = Field(default=None, description="of the transmission")
    distance_mm: PositiveFloat | None = Field(default=None, description="focal spot to the flat face")
    oblique: bool = Field(
        default=False, description="rays inclined along z cross more of it; a shape always has this"
    )
    note: str = ""

    @model_validator(mode="after")
    def _one_table(self) -> Self:
        places = self.fan_angle_deg if self.lateral_mm is None else self.lateral_mm
        values = self.thickness_mm if self.transmission is None else self.transmission
        if places is None or values is None or (self.fan_angle_deg and self.lateral_mm):
            raise ValueError("expected fan_angle_deg or lateral_mm, with thickness_mm or transmission")
        if self.thickness_mm is not None and self.transmission is not None:
            raise ValueError("expected thickness_mm or transmission, not both")
        if (self.transmission is None) != (self.energy_kev is None):
            raise ValueError("expected energy_kev with transmission, and only with it")
        if (self.lateral_mm is None) != (self.distance_mm is None) or (self.lateral_mm and self.transmission):
            raise ValueError("expected distance_mm and thickness_mm with lateral_mm, and only with it")
        self._a_table(places, values)
        return self

    def _a_table(self, places: tuple[float, ...], values: tuple[float, ...]) -> None:
        if len(places) != len(values):
            raise ValueError(f"expected as many thicknesses as fan angles ({len(places)}), not {len(values)}")
        if any(b <= a for a, b in pairwise(places)):
            raise ValueError("expected ascending fan angles")
        if min(values) < 0:
            raise ValueError("expected thicknesses of 0 mm or more")
        if self.transmission is not None and not (min(values) > 0 and max(values) <= 1):
            raise ValueError("expected transmissions above 0, at most 1")
        if places[0] > 0:
            raise ValueError("expected a table that starts at fan angle 0 or below")

    @property
    def varies_with_cone(self) -> bool:
        """Rays inclined along z cross more of it."""
        return self.oblique or self.lateral_mm is not None

    def path_mm(self, fan_angle_rad: FloatArray, *, cone_angle_rad: float = 0.0) -> FloatArray:
        """Path through the filter at fan angles (rad), mm: linear in the table, constant beyond its ends."""
        from twinlab.scanner.bowtie import bowtie_path_mm  # needs physics, which descriptions do not

        return bowtie_path_mm(self, fan_angle_rad, cone_angle_rad=cone_angle_rad)


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
