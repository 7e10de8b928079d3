"""The patient of a study and the places of the lesion in it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import xarray as xr
from scipy import ndimage

from twinlab import phantom as tp
from twinlab import sample
from twinlab.keys import content_key
from twinlab.schema import refuse
from twinlab.study.models import Study

#: The sample patient at a coarser grid, for quick tests.
SMALL = "lidc-idri-0001-small"


def patient_key(study: Study) -> str:
    """Key of the patient's data: hashes of its files, or the pinned hash of a sample.

    Raises
    ------
    InputError
        There is no such patient.
    """
    source = Path(study.patient)
    if source.is_dir():
        files = sorted(p for p in source.rglob("*") if p.is_file())
        return content_key([(p.name, _digest(p)) for p in files])
    if source.is_file():
        extra = [Path(p) for p in (study.labels, study.legend) if p]
        return content_key([_digest(p) for p in (source, *extra)])
    if study.patient in tp.list_recipes():
        return content_key("recipe", tp.load_recipe(study.patient))
    known = [*sample.describe(), *sample.ALIASES, SMALL]
    if study.patient not in known:
        refuse(
            "patient",
            f"a DICOM folder or NIfTI file that is there, a sample ({', '.join(known)}) "
            f"or a recipe ({', '.join(tp.list_recipes())})",
            repr(study.patient),
        )
    if study.patient == SMALL:
        return content_key("small", sample.identity(SMALL.removesuffix("-small")))
    return content_key(sample.identity(study.patient))


def _digest(path: Path) -> str:
    if not path.is_file():
        refuse("patient", "a file", f"no file {path}")
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def load_patient(study: Study) -> xr.Dataset:
    """Phantom of the study's patient: DICOM folder, NIfTI file, or sample patient through pip.

    Raises
    ------
    InputError
        There is no such patient, or its images cannot be used.
    """
    source = Path(study.patient)
    if source.is_dir():
        return tp.from_dicom(source, labels=study.labels or None, legend=study.legend or None)
    if source.is_file():
        return tp.from_nifti(source, study.labels or None, legend=study.legend or None)
    if study.patient in tp.list_recipes():
        return tp.from_recipe(study.patient)
    return sample_phantom(study.patient)


def sample_phantom(name: str) -> xr.Dataset:
    """Phantom of a sample patient with its organ labels.

    Raises
    ------
    InputError
        Unknown sample, or pip cannot get it.
    """
    files = sample.small_patient() if name == SMALL else sample.patient(name)
    return tp.from_nifti(files.ct, files.labels, legend=files.legend)


def lesion_positions(phantom: xr.Dataset, study: Study, seed: int) -> list[tuple[float, float, float]]:
    """Places of the lesion: the first at the given centre or in the organ's middle, the others drawn around it.

    All lie in one axial slice, at least a lesion's radius and 3 mm inside the organ, and within
    ``position_spread_mm`` of the first in x and y.

    Parameters
    ----------
    phantom : Dataset
        With labels.
    study : Study
    seed : int

    Returns
    -------
    list of (x, y, z), mm

    Raises
    ------
    InputError
        No such organ, or no room for the lesion in it there.
    """
    names = {
        str(n): int(i) for n, i in zip(phantom["organ_name"].values, phantom["organ_id"].values, strict=True)
    }
    if study.lesion_organ not in names:
        refuse("lesion_organ", f"one of {', '.join(sorted(names))}", repr(study.lesion_organ))
    everywhere = np.asarray(phantom["organ"] == names[study.lesion_organ])
    if not everywhere.any():
        refuse("lesion_organ", f"voxels of {study.lesion_organ}", "none in these images")
    box = ndimage.find_objects(everywhere.astype(np.uint8))[
        0
    ]  # the distance transform is slow: the organ only
    box = tuple(slice(max(part.start - 1, 0), part.stop + 1) for part in box)
    inside = everywhere[box]
    phantom = phantom[["organ"]].isel(dict(zip("zyx", box, strict=True)))
    steps = [float(np.diff(phantom[axis].values).mean()) for axis in ("z", "y", "x")]
    depth = ndimage.distance_transform_edt(inside, sampling=steps)
    room = depth >= study.lesion_diameter_mm / 2 + 3.0
    if not room.any():
        refuse(
            "lesion",
            f"room for {study.lesion_diameter_mm:g} mm in {study.lesion_organ}",
            f"at most {2 * max(depth.max() - 3.0, 0):.0f} mm",
        )
    x, y, z = (phantom[axis].values for axis in ("x", "y", "z"))
    if study.lesion_centre_mm:
        cx, cy, cz = study.lesion_centre_mm
        iz, iy, ix = (int(np.abs(axis - c).argmin()) for axis, c in ((z, cz), (y, cy), (x, cx)))
        if not inside[iz, iy, ix]:
            refuse("lesion_centre_mm", f"a point in {study.lesion_organ}", f"{study.lesion_centre_mm}")
        centre = (float(cx), float(cy), float(cz))
    else:
        iz = int(room.sum((1, 2)).argmax())
        rows, columns = np.nonzero(room[iz])
        middle = np.argmin((y[rows] - y[rows].mean()) ** 2 + (x[columns] - x[columns].mean()) ** 2)
        centre = (float(x[columns[middle]]), float(y[rows[middle]]), float(z[iz]))
    rows, columns = np.nonzero(room[iz])
    near = (np.abs(x[columns] - centre[0]) <= study.position_spread_mm) & (
        np.abs(y[rows] - centre[1]) <= study.position_spread_mm
    )
    rows, columns = rows[near], columns[near]
    wanted = study.n_positions - 1
    if rows.size < wanted:
        refuse(
            "n_positions", f"room for {study.n_positions} lesions near {centre}", f"{rows.size + 1} places"
        )
    pick = np.random.default_rng([seed, 17]).choice(rows.size, wanted, replace=False)
    return [centre] + [(float(x[columns[i]]), float(y[rows[i]]), centre[2]) for i in pick]
