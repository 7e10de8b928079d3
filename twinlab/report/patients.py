"""A patient or test object by one name: sample, DICOM folder, NIfTI image, recipe or saved phantom."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import xarray as xr
from pydantic import Field, field_validator

from twinlab import phantom as phantoms
from twinlab import sample
from twinlab.phantom import nifti
from twinlab.schema import Model, label, refuse

SMALL = "lidc-idri-0001-small"


class PatientSource(Model):
    """Where a patient comes from.

    ``patient`` is a folder of one CT series, a NIfTI image, a recipe, a saved phantom (.nc), or a sample:
    ``lidc-idri-0001``, or ``lidc-idri-0001-small``, its averaged copy for quick runs.
    """

    patient: str
    labels: str = Field(default="", description="organ labels on the image's grid; samples bring their own")
    legend: str = Field(default="", description="CSV of the labels' names")
    kv: float = Field(default=0.0, ge=0.0, le=150.0, description="of the scan; 0: as the files say, else 120")
    form: Literal["", "nifti", "dicom"] = Field(default="", description="which copy of a sample")

    @field_validator("labels", "legend")
    @classmethod
    def _file(cls, path: str) -> str:
        if path and not Path(path).is_file():
            raise ValueError("expected a file that is there, or nothing")
        return path

    @field_validator("patient")
    @classmethod
    def _there(cls, name: str) -> str:
        known = [*sample.describe(), *sample.ALIASES, SMALL, *phantoms.list_recipes()]
        if name not in known and not Path(name).exists():
            raise ValueError(f"expected a folder, an image, a phantom, or one of {', '.join(known)}")
        return name

    @property
    def is_sample(self) -> bool:
        """Whether it comes through pip."""
        return self.patient == SMALL or self.patient in sample.SAMPLES or self.patient in sample.ALIASES


@dataclass(frozen=True)
class Patient:
    """Images and the phantom made of them."""

    hu: xr.DataArray
    phantom: xr.Dataset
    credit: str


def patient(source: PatientSource | str) -> Patient:
    """Images and phantom of a patient.

    Parameters
    ----------
    source : PatientSource or its ``patient``

    Returns
    -------
    Patient
        ``hu`` (z, y, x); for a recipe or a saved phantom the CT numbers that its matter shows.

    Raises
    ------
    InputError
        There is no such patient, or its images cannot be used.
    """
    given = source if isinstance(source, PatientSource) else PatientSource.make({"patient": str(source)})
    path, labels, legend, credit, name = Path(given.patient), given.labels, given.legend, "", given.patient
    if given.is_sample:
        small = given.patient == SMALL
        files = sample.small_patient() if small else sample.patient(given.patient, forms=_forms(given.form))
        path = files.dicom_folder if given.form == "dicom" and files.dicom_folder else files.ct
        labels, legend = str(files.labels or ""), str(files.legend or "")
        credit, name = files.credit, files.name
    if path.is_dir():
        hu = phantoms.read_series(path)
    elif path.name.endswith((".nii", ".nii.gz")):
        hu = phantoms.read_image(path)
    else:
        made = phantoms.load(path) if path.suffix == ".nc" else phantoms.from_recipe(name)
        return Patient(shown_hu(made, kv=given.kv or 120.0), made, str(made.attrs.get("source", "")))
    made = phantoms.from_image(
        hu,
        labels=nifti.read_labels(labels, like=hu) if labels else None,
        legend=legend or None,
        kv=given.kv or float(hu.attrs.get("kv") or 120.0),
        name=name if given.is_sample else path.name,
        source=credit or f"images in {path.name}",
    )
    return Patient(hu.assign_coords({axis: made[axis] for axis in ("z", "y", "x")}), made, credit)


def grid_distance_mm(one: xr.Dataset, other: xr.Dataset) -> float:
    """Largest distance between the voxel centres of two phantoms along an axis, mm.

    Raises
    ------
    InputError
        They have different numbers of voxels.
    """
    if dict(one["organ"].sizes) != dict(other["organ"].sizes):
        refuse("grid_distance_mm", f"voxels {dict(one['organ'].sizes)}", f"{dict(other['organ'].sizes)}")
    return max(float(abs(one[axis].values - other[axis].values).max()) for axis in ("z", "y", "x"))


def shown_hu(phantom: xr.Dataset, *, kv: float = 120.0) -> xr.DataArray:
    """CT numbers that a phantom's matter shows at a tube voltage, dims (z, y, x)."""
    names = [str(n) for n in phantom["material_name"].values]
    values = phantoms.tissue_to_hu(phantom["material"].values, phantom["density"].values, names, kv=kv)
    return label("hu", values, {axis: phantom[axis] for axis in ("z", "y", "x")}, kv=kv)


def _forms(form: str) -> list[str] | None:
    """The DICOM copy has no labels of its own: they come with the NIfTI."""
    return ["nifti", "dicom"] if form == "dicom" else None
