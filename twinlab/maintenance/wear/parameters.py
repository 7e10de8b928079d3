"""Parameters of wear in YAML: every number has a source or is called a prior, and a spread over a fleet."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, NonNegativeFloat, model_validator

from twinlab.maintenance.wear.streams import stream
from twinlab.scanner.library import library_file
from twinlab.schema import Model, refuse

PRIOR = "prior"
W = TypeVar("W", bound="Wear")


class Value(Model):
    """One number: what it is in the median machine, where it comes from, how machines differ.

    Attributes
    ----------
    value : float
        Median over machines.
    source : str
        A citation, or a text that begins with the word "prior": chosen, not measured.
    spread : float, optional
        Standard deviation of the logarithm over machines. A prior must tell it; 0 is the same in all.
    """

    value: float
    source: str = Field(min_length=5)
    spread: NonNegativeFloat | None = None

    @model_validator(mode="after")
    def _priors_have_a_spread(self) -> Self:
        if self.source.startswith(PRIOR) and self.spread is None:
            raise ValueError("spread: expected a number with source 'prior'; got none")
        if self.spread and self.value <= 0.0:
            raise ValueError(f"value: expected above 0 with a spread; got {self.value:g}")
        return self


class Wear(Model):
    """Parameters of one kind of part. Fields of :class:`Value` become columns of :meth:`draw`."""

    key: str
    title: str
    sources: tuple[str, ...] = Field(min_length=1)
    notes: str = ""

    @classmethod
    def names(cls) -> list[str]:
        """Names of the numbers."""
        return [name for name, field in cls.model_fields.items() if field.annotation is Value]

    def median(self) -> NDArray[np.void]:
        """One record of the medians: a structured array of shape (1,), float64 fields."""
        return self.draw(1, seed=0, scanner="", spread=0.0)

    def draw(self, n: int, *, seed: int, scanner: str, spread: float = 1.0) -> NDArray[np.void]:
        """Machines from the spreads: log-normal about the medians, independent.

        Parameters
        ----------
        n : int
            Successive parts in one scanner.
        seed : int
        scanner : str
            Name; with the seed and the parameter's name the key of the random numbers.
        spread : float
            Factor on all spreads: 0 gives the median machine.

        Returns
        -------
        structured array (n,)
            Field names of the model, float64.
        """
        table = np.zeros(n, dtype=[(name, np.float64) for name in self.names()])
        for name in self.names():
            number: Value = getattr(self, name)
            z = stream(seed, scanner, f"{self.key}.{name}").standard_normal(n)
            table[name] = number.value * np.exp(spread * (number.spread or 0.0) * z)
        return table

    def with_values(self, **values: float) -> Self:
        """The same with other medians.

        Raises
        ------
        InputError
            Unknown names.
        """
        data: dict[str, Any] = {name: getattr(self, name) for name in type(self).model_fields}
        for name, value in values.items():
            if name not in self.names():
                refuse(f"{self.key}: with_values", f"one of {', '.join(self.names())}", name)
            data[name] = {**data[name].model_dump(), "value": value}
        return type(self).make(data, where=self.key)


class TubeWear(Wear):
    """A rotating-anode tube. Units as in :mod:`twinlab.kernels.wear_filament` and its neighbours."""

    wire_diameter_m: Value
    emitting_area_m2: Value
    perveance: Value
    free_share: Value
    preheat_s: Value
    mass_loss_limit: Value
    anode_j_k: Value
    housing_j_k: Value
    anode_emissivity: Value
    anode_area_m2: Value
    bearing_w_k: Value
    anode_limit_kj: Value
    oil_limit_c: Value
    max_power_kw: Value
    track_limit_c: Value
    spot_width_m: Value
    spot_length_m: Value
    track_radius_m: Value
    rotor_hz: Value
    track_effusivity: Value
    band_resistance_k_w: Value
    new_roughness_um: Value
    roughening_um_s: Value
    rise_power: Value
    peak_power: Value
    output_loss_at_1_um: Value
    output_loss_power: Value
    output_limit: Value
    bearing_life_s: Value
    bearing_activation_ev: Value
    bearing_heat_share: Value
    rotor_overhead_s: Value
    vibration_new_mm_s: Value
    vibration_growth: Value
    arc_rate_per_s: Value
    arc_kv_power: Value
    arc_loss_growth: Value
    arc_track_growth: Value
    fatal_arc_share: Value
    spot_loss_growth: Value
    spot_wobble: Value
    tube_downtime_h: Value


class ScannerWear(Wear):
    """What wears in a scanner beside its tube: cooler, slip ring, gantry, detector; and its sensors."""

    room_c: Value
    coolant_flow_l_min: Value
    cooler_w_k: Value
    fouling_per_day: Value
    fouling_flow_share: Value
    service_interval_days: Value
    cooling_downtime_h: Value
    gantry_overhead_s: Value
    idle_rotation_s: Value
    slip_ring_life_rotations: Value
    slip_ring_errors_per_s: Value
    slip_ring_error_growth: Value
    brush_service_limit: Value
    slip_ring_downtime_h: Value
    gantry_life_rotations: Value
    gantry_vibration_mm_s: Value
    gantry_vibration_growth: Value
    gain_drift_percent_per_root_day: Value
    gain_drift_module_share: Value
    calibration_interval_days: Value
    dead_scale_days: Value
    dead_power: Value
    dead_limit: Value
    detector_downtime_h: Value
    filament_current_noise: Value
    oil_noise_c: Value
    output_noise: Value
    vibration_noise: Value
    flow_noise: Value
    heat_noise: Value


def load_tube_wear(key_or_path: str | Path = "generic_tube") -> TubeWear:
    """Parameters of a tube by key in ``protocols/wear``, or from a YAML file.

    Raises
    ------
    InputError
        No such file, unknown keys, or a number without a source.
    """
    return read(TubeWear, key_or_path)


def load_scanner_wear(key_or_path: str | Path = "generic_scanner") -> ScannerWear:
    """Parameters of a scanner's other parts by key in ``protocols/wear``, or from a YAML file.

    Raises
    ------
    InputError
        No such file, unknown keys, or a number without a source.
    """
    return read(ScannerWear, key_or_path)


def read(model: type[Any], key_or_path: str | Path) -> Any:
    """A model from ``protocols/wear`` by key, or from a path."""
    return model.read(library_file(key_or_path, folder="wear", where="wear parameters"))
