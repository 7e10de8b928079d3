"""What a study is: patient, task, grid of protocols, engine settings. One YAML file, one flat mapping."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from pydantic import Field, PositiveFloat, PositiveInt, field_validator, model_validator

from twinlab.ct.sampling import sub_samples
from twinlab.scanner import load_protocol
from twinlab.scanner.models import Kernel, Protocol
from twinlab.schema import InputError, Model, load_yaml, refuse


class Study(Model):
    """A grid of protocols on one patient, with a detection task. Lengths mm, doses mGy."""

    name: str = Field("study", pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", description="folder-safe name")
    patient: str = Field(description="sample patient, DICOM folder, NIfTI file, or phantom recipe")
    labels: str = Field("", description="NIfTI label map, for a NIfTI patient")
    legend: str = Field("", description="CSV of label names, for a NIfTI patient")
    protocol: str = Field(description="key or file of the protocol that the grid varies")
    scan_range_mm: tuple[float, ...] = Field((), description="z from, z to; empty: all of the images")
    kv: tuple[PositiveFloat, ...] = Field(min_length=1, description="tube voltage [kV]")
    mas: tuple[PositiveFloat, ...] = Field(min_length=1, description="tube current x rotation time [mA s]")
    pitch: tuple[PositiveFloat, ...] = Field(min_length=1, description="table feed / collimation")
    kernel: tuple[Kernel, ...] = Field(min_length=1, description="reconstruction kernels")
    seed: tuple[int, ...] = Field((1,), min_length=1, description="each is a full repetition")
    lesion_organ: str = Field(description="organ label in which the lesion sits")
    lesion_centre_mm: tuple[float, ...] = Field((), description="x, y, z; empty: middle of the organ")
    lesion_diameter_mm: PositiveFloat = Field(description="of the sphere")
    lesion_contrast_hu: float = Field(0.0, description="density contrast, the same at all kV [HU]")
    lesion_iodine_mg_ml: float = Field(0.0, ge=0, description="iodine taken up beyond the organ's [mg/ml]")
    n_positions: PositiveInt = Field(1, description="places of the lesion around its centre")
    position_spread_mm: PositiveFloat = Field(
        20.0, description="greatest distance from the first place, in x and y"
    )
    roi_size_mm: PositiveFloat = Field(40.0, description="region that the observer sees")
    roi_pixel_mm: PositiveFloat = Field(0.7, description="its pixel")
    eye_filter: bool = Field(True, description="NPWE observer; without: NPW")
    viewing_distance_mm: PositiveFloat = Field(500.0, description="from eye to display")
    display_magnification: PositiveFloat = Field(1.0, description="display mm per patient mm")
    dprime_target: PositiveFloat = Field(description="detectability needed")
    confidence: float = Field(0.95, ge=0.5, lt=1, description="to prefer one setting to another")
    dose_metric: str = Field(
        "body", description="organ whose dose is minimised; body: all tissue in the scan"
    )
    histories: PositiveInt = Field(description="photons per kV and pitch")
    ctdi_histories: PositiveInt = Field(2_000_000, description="photons per CTDI phantom")
    dose_voxel_mm: PositiveFloat = Field(4.0, description="voxel of the dose calculation")
    ct_voxel_mm: PositiveFloat = Field(1.0, description="in-plane voxel of the phantom that is scanned")

    @field_validator("kv", "mas", "pitch", "kernel", "seed")
    @classmethod
    def _each_once(cls, values: tuple[Any, ...]) -> tuple[Any, ...]:
        if len(set(values)) != len(values):
            raise ValueError("expected each value once")
        return values

    @model_validator(mode="after")
    def _sensible(self) -> Self:
        if len(self.lesion_centre_mm) not in (0, 3):
            raise ValueError("lesion_centre_mm: expected x, y, z or nothing")
        if len(self.scan_range_mm) not in (0, 2) or (
            self.scan_range_mm and self.scan_range_mm[0] >= self.scan_range_mm[1]
        ):
            raise ValueError("scan_range_mm: expected two ascending values or nothing")
        if self.lesion_contrast_hu == 0 and self.lesion_iodine_mg_ml == 0:
            raise ValueError("expected a lesion with lesion_contrast_hu or lesion_iodine_mg_ml")
        if self.roi_size_mm < 2.5 * self.lesion_diameter_mm:
            raise ValueError(
                "roi_size_mm: expected at least 2.5 lesion diameters, to hold the blurred lesion"
            )
        return self

    @cached_property
    def base_protocol(self) -> Protocol:
        """The protocol that the grid varies, read once.

        Raises
        ------
        InputError
            Unknown protocol.
        """
        return load_protocol(self.protocol)

    def protocol_at(
        self, *, kv: float, pitch: float, kernel: str | None = None, mas: float | None = None
    ) -> Protocol:
        """One protocol of the grid; without ``mas``, at the smallest of the grid.

        Raises
        ------
        InputError
            The scanner cannot do this.
        """
        base = self.base_protocol
        changes: dict[str, Any] = {"kv": kv, "kernel": kernel or self.kernel[0]}
        if base.mode == "helical":
            changes["pitch"] = pitch
        current = (min(self.mas) if mas is None else mas) / base.rotation_time_s
        return base.replace(tube_current_ma=current, **changes)

    def reachable(self, mas: float) -> bool:
        """Whether the tube gives this mAs in the protocol's rotation time."""
        base = self.base_protocol
        return mas / base.rotation_time_s <= base.scanner.tube.max_tube_current_ma

    def beams(self) -> Iterator[tuple[float, float, int]]:
        """(kV, pitch, seed): what needs a run of its own; mAs and kernel come from it by algebra."""
        return itertools.product(self.kv, self.pitch, self.seed)

    def validate_grid(self) -> None:
        """Check every protocol of the grid before any work.

        Raises
        ------
        InputError
            The first setting that the scanner cannot do, or no mAs that the tube can give.
        """
        base = self.base_protocol
        if len(sub_samples(base)) > 1 or base.second_kv is not None:
            refuse(
                f"study {self.name}: protocol",
                "one with a sampling of 1 and one tube voltage (ct.scan_phantom averages over sampling points)",
                f"{base.key} with {len(sub_samples(base))} sampling points, second_kv {base.second_kv}",
            )
        if base.mode == "axial" and self.pitch != (1.0,):
            refuse(f"study {self.name}: pitch", "[1.0] with an axial protocol", list(self.pitch))
        if not self.reachable(min(self.mas)):
            tube = base.scanner.tube
            refuse(
                f"study {self.name}: mas",
                f"at least one value up to {tube.max_tube_current_ma * base.rotation_time_s:g} mA s "
                f"({tube.max_tube_current_ma:g} mA x {base.rotation_time_s:g} s)",
                list(self.mas),
            )
        for kv, pitch in itertools.product(self.kv, self.pitch):
            self.protocol_at(kv=kv, pitch=pitch)


def load(source: str | Path | Mapping[str, Any]) -> Study:
    """Study from a YAML file or a mapping, its grid checked.

    Parameters
    ----------
    source : path or mapping
        Fields of :class:`Study`; some may stand apart under ``options``, as in the notebook's parameters.

    Raises
    ------
    InputError
        Unknown or wrong fields, unknown protocol, or a protocol that the scanner cannot do.
    """
    data = dict(source) if isinstance(source, Mapping) else load_yaml(source)
    where = "study" if isinstance(source, Mapping) else str(source)
    options = data.pop("options", None) or {}
    if not isinstance(options, Mapping):
        refuse(f"{where}: options", "a mapping of further settings", type(options).__name__)
    twice = sorted(set(options) & set(data))
    if twice:
        refuse(f"{where}: options", "settings that do not stand beside it", ", ".join(map(str, twice)))
    study = Study.make({**data, **options}, where=where)
    try:
        study.validate_grid()
    except InputError as error:
        raise InputError(f"study {study.name}: {error}") from None
    return study
