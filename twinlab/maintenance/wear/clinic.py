"""A clinic: its hours, and the mix of exams that drive a scanner."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from twinlab.maintenance.wear.parameters import Value, read
from twinlab.scanner import Protocol, effective_mas_for, load_protocol
from twinlab.scanner.geometry import n_rotations
from twinlab.schema import Model, refuse

SMALLEST_MA = 10.0  # generators give no less


class Exam(Model):
    """One kind of exam: a protocol of the library and the patients that get it.

    Attributes
    ----------
    protocol : str
        Key or file (see :func:`twinlab.scanner.load_protocol`).
    changes : dict
        Fields of the protocol with other values, e.g. ``{tube_current_ma: 600}``.
    share : float
        Of all exams, up to a common factor.
    length_mm, length_sd_mm : float
        Imaged range.
    phases : int
        Scans of the range.
    dw_mm, dw_sd_mm : float
        Water-equivalent diameter of the patients.
    source : str
    """

    protocol: str
    changes: dict[str, Any] = Field(default_factory=dict)
    share: PositiveFloat
    length_mm: PositiveFloat
    length_sd_mm: NonNegativeFloat
    phases: PositiveInt = 1
    dw_mm: PositiveFloat
    dw_sd_mm: NonNegativeFloat
    source: str


class Clinic(Model):
    """Hours and exams of a clinic; hours in UTC."""

    key: str
    title: str
    exams_per_day: Value
    weekend_share: Value
    open_hour: Value
    close_hour: Value
    localisers: int = Field(ge=0)
    localiser_kv: Value
    localiser_ma: Value
    localiser_s: Value
    pause_s: Value
    turnover_s: Value
    exams: tuple[Exam, ...] = Field(min_length=1)
    sources: tuple[str, ...] = Field(min_length=1)
    notes: str = ""

    @model_validator(mode="after")
    def _open(self) -> Self:
        start, end = self.open_hour.value, self.close_hour.value
        if not 0.0 <= start < end <= 24.0:
            raise ValueError(f"close_hour: expected after open_hour within a day; got {start:g} to {end:g}")
        return self

    def with_exams(self, *exams: Exam) -> Self:
        """The clinic with other exams."""
        return self.model_copy(update={"exams": exams})


def load_clinic(key_or_path: str | Path = "general_clinic") -> Clinic:
    """A clinic by key in ``protocols/wear``, or from a YAML file.

    Raises
    ------
    InputError
        No such file, or one that describes no clinic.
    """
    clinic: Clinic = read(Clinic, key_or_path)
    return clinic


@dataclass(frozen=True)
class Drive:
    """What a protocol asks of the tube, as a function of the patient's size and the scanned length."""

    protocol: Protocol
    log_ma: tuple[float, float]  # intercept and slope over the water-equivalent diameter
    rotations: tuple[float, float]  # intercept and slope over the length, helical

    def current_ma(self, dw_mm: NDArray[np.float64]) -> NDArray[np.float64]:
        """Tube current, mA, within what the tube gives."""
        ma = np.exp(self.log_ma[0] + self.log_ma[1] * dw_mm)
        return np.asarray(np.clip(ma, SMALLEST_MA, self.protocol.scanner.tube.max_tube_current_ma))

    def exposure_s(self, length_mm: NDArray[np.float64]) -> NDArray[np.float64]:
        """Time with the beam on, s."""
        turns = self.rotations[0] + self.rotations[1] * length_mm
        if self.protocol.mode == "axial":
            turns = np.maximum(np.ceil(turns - 1e-3), 1.0)
        return np.asarray(turns * self.protocol.rotation_time_s)


def drive(exam: Exam) -> Drive:
    """Tube current and exposure time of an exam's protocol.

    :func:`twinlab.scanner.effective_mas_for` is log-linear in the diameter, and the rotations of a helical scan
    are linear in the length up to a view: two points each give them for all patients.

    Raises
    ------
    InputError
        No such protocol, or values that it cannot have.
    """
    protocol = load_protocol(exam.protocol, **exam.changes)
    if protocol.second_kv is not None:
        refuse(
            f"exam {exam.protocol}",
            "a protocol of one tube voltage (changes: {second_kv: null})",
            f"second_kv {protocol.second_kv:g}",
        )
    low, high = (
        np.log(effective_mas_for(protocol, dw_mm=d) * protocol.pitch / protocol.rotation_time_s)
        for d in (200.0, 300.0)
    )
    slope = float(high - low) / 100.0
    if protocol.mode == "axial":
        turns = (0.0, 1.0 / protocol.feed_mm)
    else:
        short, long = (n_rotations(protocol, z_range_mm=(0.0, r)) for r in (1000.0, 11_000.0))
        turns = (short - (long - short) / 10.0, (long - short) / 10_000.0)
    return Drive(protocol, (float(low) - 200.0 * slope, slope), turns)
