"""A fleet in YAML: every number with its source, priors with how far they may lie off."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from pydantic import Field, PositiveInt, model_validator

from twinlab.scanner.library import library_file
from twinlab.schema import Model, refuse

PRIOR = "prior"


class Figure(Model):
    """One number.

    Attributes
    ----------
    value : float
    source : str
        A citation, or a text that begins with the word "prior": chosen, not measured.
    low, high : float, optional
        About a 90 % range of belief; a prior must tell it.
    """

    value: float = Field(ge=0.0)
    source: str = Field(min_length=5)
    low: float | None = Field(default=None, ge=0.0)
    high: float | None = Field(default=None, ge=0.0)

    @model_validator(mode="after")
    def _priors_tell_their_range(self) -> Self:
        if (self.low is None) != (self.high is None):
            raise ValueError("expected low and high, or neither")
        if self.low is None and self.source.startswith(PRIOR):
            raise ValueError("expected low and high with source 'prior'; got none")
        if self.low is not None and self.high is not None and not self.low <= self.value <= self.high:
            raise ValueError(
                f"expected low <= value <= high; got {self.low:g}, {self.value:g}, {self.high:g}"
            )
        return self


class ClinicHours(Model):
    """When scanners scan, and how much."""

    open_hour: Figure
    weekday_hours: Figure
    saturday_hours: Figure
    sunday_hours: Figure
    patients_per_hour: Figure
    workload_spread: Figure

    @property
    def hours(self) -> list[float]:
        """Clinic hours of each day, Monday first."""
        return [self.weekday_hours.value] * 5 + [self.saturday_hours.value, self.sunday_hours.value]


class FailureMode(Model):
    """One way to fail; times in days of use."""

    part: str
    onset_shape: Figure
    onset_days: Figure
    growth_days: Figure
    spread: Figure
    ripple: Figure
    noise: Figure
    seen: Figure


class Part(Model):
    """What is replaced."""

    cost: Figure
    work_hours: Figure
    interval_days: Figure
    stock: Figure


class Service(Model):
    """Engineers."""

    response_hours: Figure
    diagnosis_hours: Figure
    repair_spread: Figure
    engineer_from: Figure
    engineer_to: Figure
    engineer_days: Figure
    window_days: Figure
    set_up_hours: Figure
    other_per_year: Figure
    other_hours: Figure


class Supply(Model):
    """Parts on their way."""

    courier_hours: Figure
    emergency_hours: Figure
    planned_days: Figure
    replenish_days: Figure


class Money(Model):
    """Costs."""

    lost_day: Figure
    planned_share: Figure
    cancelled_share: Figure
    engineer_hour: Figure
    after_hours_factor: Figure
    emergency_order: Figure
    holding_share: Figure
    monitoring_year: Figure


class Fleet(Model):
    """A fleet: its scanners, how they fail, who repairs them, what it costs."""

    key: str
    title: str
    scanners: PositiveInt
    clinic: ClinicHours
    modes: dict[str, FailureMode] = Field(min_length=1)
    parts: dict[str, Part] = Field(min_length=1)
    service: Service
    supply: Supply
    money: Money
    sources: tuple[str, ...] = Field(min_length=1)
    notes: str = ""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        used = {mode.part for mode in self.modes.values()}
        if used != set(self.parts):
            raise ValueError(f"expected every part to have a mode and every mode a part; got {sorted(used)}")
        if sum(self.clinic.hours) <= 0 or self.clinic.open_hour.value + max(self.clinic.hours) > 24:
            raise ValueError("expected clinic hours within a day")
        if not 1 <= self.supply.planned_days.value < self.service.window_days.value:
            raise ValueError("expected planned_days of at least 1 and below window_days")
        for name, mode in self.modes.items():
            if min(mode.growth_days.value, mode.noise.value, mode.onset_shape.value) <= 0:
                raise ValueError(f"{name}: expected growth_days, noise and onset_shape above 0")
            if mode.seen.value > 1:
                raise ValueError(f"{name}: expected seen at most 1; got {mode.seen.value:g}")
        return self

    def figures(self) -> Iterator[tuple[str, Figure]]:
        """Every number with its place, as in ``modes.filament.seen``."""
        yield from _figures(self, "")

    def replaced(self, place: str, value: float, *, source: str = "") -> Self:
        """The same fleet with another value, and source if given, at one place; low and high give way if need be.

        Raises
        ------
        InputError
            No such place, or a value that does not fit.
        """
        known = dict(self.figures())
        if place not in known:
            refuse("Fleet.replaced", f"one of {', '.join(known)}", place)
        data = self.model_dump()
        spot: Any = data
        for key in place.split("."):
            spot = spot[key]
        spot["value"] = value
        spot["source"] = source or spot["source"]
        if spot["low"] is not None:
            spot["low"], spot["high"] = min(spot["low"], value), max(spot["high"], value)
        return type(self).make(data, where=f"{self.key}, {place}")


def load_fleet(key_or_path: str | Path = "reference") -> Fleet:
    """Fleet by key in ``protocols/fleet``, or from a YAML file.

    Raises
    ------
    InputError
        No such file, unknown keys, or a number without a source.
    """
    return Fleet.read(library_file(key_or_path, folder="fleet", where="load_fleet"))


def _figures(model: Model, place: str) -> Iterator[tuple[str, Figure]]:
    for name in type(model).model_fields:
        part = getattr(model, name)
        if isinstance(part, Figure):
            yield place + name, part
        elif isinstance(part, Model):
            yield from _figures(part, f"{place}{name}.")
        elif isinstance(part, dict):
            for key, inner in part.items():
                yield from _figures(inner, f"{place}{name}.{key}.")
