"""Parameters of the closed loop: validated, with units in the names, and the named sets."""

from __future__ import annotations

from typing import Any

import numpy as np
from pydantic import Field, model_validator

from twinlab.kernels.heart_loop import N_PARAMETERS
from twinlab.schema import Model, refuse


class Chamber(Model):
    """A chamber by time-varying elastance: ``pressure = (active * activation(t) + passive) * (volume - unstressed)``.

    Attributes
    ----------
    active_elastance_mmhg_per_ml, passive_elastance_mmhg_per_ml : float
    contraction_s, relaxation_s : float
        Durations of the rise and fall of activation (half cosines).
    onset_s : float
        When contraction starts in the beat; times past the beat's end wrap around.
    unstressed_volume_ml : float
    """

    active_elastance_mmhg_per_ml: float = Field(ge=0)
    passive_elastance_mmhg_per_ml: float = Field(gt=0)
    contraction_s: float = Field(gt=0)
    relaxation_s: float = Field(gt=0)
    onset_s: float = Field(ge=0)
    unstressed_volume_ml: float = Field(ge=0)


class Valve(Model):
    """A valve: an ideal diode with two resistances."""

    open_mmhg_s_per_ml: float = Field(default=0.0075, gt=0)
    closed_mmhg_s_per_ml: float = Field(default=75006.2, gt=0)

    @model_validator(mode="after")
    def _closes(self) -> Valve:
        if self.closed_mmhg_s_per_ml < self.open_mmhg_s_per_ml:
            raise ValueError("expected a closed resistance above the open one")
        return self


class Bed(Model):
    """Arteries and veins of one circulation: resistance, compliance and inertance of both."""

    artery_resistance_mmhg_s_per_ml: float = Field(gt=0)
    artery_compliance_ml_per_mmhg: float = Field(gt=0)
    vein_resistance_mmhg_s_per_ml: float = Field(gt=0)
    vein_compliance_ml_per_mmhg: float = Field(gt=0)
    artery_inertance_mmhg_s2_per_ml: float = Field(gt=0)
    vein_inertance_mmhg_s2_per_ml: float = Field(gt=0)


class ClosedLoop(Model):
    """Closed loop of four chambers, four valves and two circulations.

    Attributes
    ----------
    heart_rate_bpm : float
    left_atrium, left_ventricle, right_atrium, right_ventricle : Chamber
    mitral, aortic, tricuspid, pulmonary_valve : Valve
    systemic, pulmonary : Bed
    stressed_volume_ml : float
        Blood volume that stretches: of the chambers, and compliance times pressure of the vessels. The loop
        keeps it.
    source : str
        Where the set comes from.

    References
    ----------
    Regazzoni F et al. 2022, J Comput Phys 457:111083, section 2.3 (equations); Blanco P J, Feijoo R A 2010,
    Mecanica Computacional 29:5887 (elastance).
    """

    heart_rate_bpm: float = Field(gt=20, lt=300)
    left_atrium: Chamber
    left_ventricle: Chamber
    right_atrium: Chamber
    right_ventricle: Chamber
    mitral: Valve = Valve()
    aortic: Valve = Valve()
    tricuspid: Valve = Valve()
    pulmonary_valve: Valve = Valve()
    systemic: Bed
    pulmonary: Bed
    stressed_volume_ml: float = Field(gt=0)
    source: str = "user"

    @model_validator(mode="after")
    def _fits_in_a_beat(self) -> ClosedLoop:
        beat = 60.0 / self.heart_rate_bpm
        for name in CHAMBERS:
            chamber = getattr(self, name)
            if chamber.contraction_s + chamber.relaxation_s > beat:
                raise ValueError(
                    f"expected {name} to contract and relax within a beat of {beat:.3f} s"
                    f" (shorten both at this heart rate); got {chamber.contraction_s + chamber.relaxation_s:.3f} s"
                )
        return self

    @property
    def period_s(self) -> float:
        """Length of a beat."""
        return 60.0 / self.heart_rate_bpm

    def flat(self) -> np.ndarray:
        """Parameters as the kernels take them (:mod:`twinlab.kernels.heart_loop`)."""
        values = [self.period_s]
        for name in (*CHAMBERS, *VALVES, "systemic", "pulmonary"):
            values += list(getattr(self, name).model_dump().values())
        assert len(values) == N_PARAMETERS
        return np.array(values)

    def with_(self, changes: dict[str, float]) -> ClosedLoop:
        """A copy with some values changed; keys are dotted names, as ``"systemic.artery_resistance_mmhg_s_per_ml"``.

        Raises
        ------
        InputError
            Unknown name or a value that cannot be.
        """
        data: dict[str, Any] = self.model_dump()
        for key, value in changes.items():
            inner = data
            *path, last = str(key).split(".")
            for part in path:
                inner = inner.get(part, {})
            if last not in inner or isinstance(inner[last], dict):
                refuse("closed loop", f"a parameter ({', '.join(parameter_names(self))})", repr(key))
            inner[last] = value
        return ClosedLoop.make(data)

    def start(self) -> np.ndarray:
        """A first state (12,) of the stressed volume: volumes in ring order, ml, and four flows, ml/s.

        Chambers hold fixed shares of a usual heart, vessels share the rest at usual pressures; the beats
        run until it does not matter.
        """
        volume = np.array([80.0, 120.0, 0.0, 0.0, 80.0, 130.0, 0.0, 0.0])
        beds = (self.systemic, self.pulmonary)
        for k, (bed, arteries, veins) in enumerate(zip(beds, (85.0, 18.0), (25.0, 12.0), strict=True)):
            volume[2 + 4 * k] = arteries * bed.artery_compliance_ml_per_mmhg
            volume[3 + 4 * k] = veins * bed.vein_compliance_ml_per_mmhg
        vessels = [2, 3, 6, 7]
        rest = self.stressed_volume_ml - volume[[0, 1, 4, 5]].sum()
        if rest <= 0.2 * volume[vessels].sum():
            volume *= self.stressed_volume_ml / volume.sum()
        else:
            volume[vessels] *= rest / volume[vessels].sum()
        return np.concatenate([volume, np.full(4, 70.0)])


CHAMBERS = ("left_atrium", "left_ventricle", "right_atrium", "right_ventricle")
VALVES = ("mitral", "aortic", "tricuspid", "pulmonary_valve")


def parameter_names(parameters: ClosedLoop) -> list[str]:
    """Dotted names of all numbers of a set, in the order of the model."""
    names = []
    for key, value in parameters.model_dump().items():
        if isinstance(value, dict):
            names += [f"{key}.{inner}" for inner in value]
        elif key != "source":
            names.append(key)
    return names


def _chamber(
    active: float, passive: float, rise: float, fall: float, onset: float, unstressed: float
) -> Chamber:
    return Chamber(
        active_elastance_mmhg_per_ml=active,
        passive_elastance_mmhg_per_ml=passive,
        contraction_s=rise,
        relaxation_s=fall,
        onset_s=onset,
        unstressed_volume_ml=unstressed,
    )


def _bed(ra: float, ca: float, rv: float, cv: float, la: float, lv: float) -> Bed:
    return Bed(
        artery_resistance_mmhg_s_per_ml=ra,
        artery_compliance_ml_per_mmhg=ca,
        vein_resistance_mmhg_s_per_ml=rv,
        vein_compliance_ml_per_mmhg=cv,
        artery_inertance_mmhg_s2_per_ml=la,
        vein_inertance_mmhg_s2_per_ml=lv,
    )


def _regazzoni_2022() -> ClosedLoop:
    systemic = _bed(0.733, 1.372, 0.32, 11.363, 0.005, 0.0005)
    pulmonary = _bed(0.046, 20.0, 0.0015, 16.0, 0.0005, 0.0005)
    chambers = 87.183 + 118.520 + 86.833 + 166.177  # initial state of the set
    vessels = 1.372 * 87.675 + 11.363 * 35.898 + 20.0 * 19.545 + 16.0 * 15.004
    return ClosedLoop(
        heart_rate_bpm=75.0,
        left_atrium=_chamber(0.07, 0.18, 0.17, 0.17, 0.9, 4.0),
        left_ventricle=_chamber(4.482, 0.170, 0.25, 0.40, 0.1, 42.0),
        right_atrium=_chamber(0.06, 0.07, 0.17, 0.17, 0.9, 4.0),
        right_ventricle=_chamber(0.200, 0.029, 0.25, 0.40, 0.1, 16.0),
        systemic=systemic,
        pulmonary=pulmonary,
        stressed_volume_ml=chambers + vessels,
        source="Regazzoni et al. 2022 (J Comput Phys 457:111083), values and initial state as the package"
        " circulation 0.4.0 states them",
    )


def _healthy() -> ClosedLoop:
    return ClosedLoop(
        heart_rate_bpm=70.0,
        left_atrium=_chamber(0.12, 0.194, 0.12, 0.15, 0.03, 4.0),
        left_ventricle=_chamber(2.64, 0.0655, 0.28, 0.17, 0.16, 8.0),
        right_atrium=_chamber(0.06, 0.07, 0.12, 0.15, 0.03, 4.0),
        right_ventricle=_chamber(0.429, 0.0289, 0.28, 0.17, 0.16, 20.0),
        systemic=_bed(0.931, 1.43, 0.12, 30.0, 0.005, 0.0005),
        pulmonary=_bed(0.0636, 4.04, 0.015, 16.0, 0.0005, 0.0005),
        stressed_volume_ml=1090.0,
        source="fitted by least squares to usual adult values at rest (end-diastolic volumes 130 and 145 ml,"
        " EF 60 %, 120/78 and 22/10 mmHg, mean atrial 8 and 4 mmHg); equations of Regazzoni et al. 2022",
    )


SETS = {"regazzoni_2022": _regazzoni_2022, "healthy": _healthy}


def parameter_set(name: str = "healthy") -> ClosedLoop:
    """A named set of parameters.

    Parameters
    ----------
    name : {"healthy", "regazzoni_2022"}

    Raises
    ------
    InputError
        Unknown name.

    Examples
    --------
    >>> parameter_set("regazzoni_2022").left_ventricle.unstressed_volume_ml
    42.0
    """
    if name not in SETS:
        refuse("parameter_set", " or ".join(map(repr, SETS)), repr(name))
    return SETS[name]()
