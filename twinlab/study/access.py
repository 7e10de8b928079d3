"""Read back what a study made on the way: patient, dose map, credits."""

from __future__ import annotations

from pathlib import Path

import xarray as xr

from twinlab import phantom as tp
from twinlab import sample
from twinlab.schema import refuse
from twinlab.study import store
from twinlab.study.layout import Layout
from twinlab.study.models import Study
from twinlab.study.optimise import Recommendation
from twinlab.study.patient import SMALL


def patient_voxels(study: Study, *, outputs: str | Path | None = None) -> xr.Dataset:
    """Phantom of the study's patient on the grid of the dose.

    Raises
    ------
    InputError
        The study has not been run.
    """
    file = Layout(study, outputs).phantom() / "dose.nc"
    if not file.is_file():
        refuse("patient_voxels", "a study that was run", f"no {file}")
    return tp.load(file)


def dose_map(
    study: Study, recommendation: Recommendation, *, outputs: str | Path | None = None
) -> xr.Dataset:
    """``dose`` and ``dose_sd`` (z, y, x) in mGy at the recommended setting, of the study's first seed.

    Raises
    ------
    InputError
        The study has not been run with this kV and pitch.
    """
    file = Layout(study, outputs).dose(recommendation.kv, recommendation.pitch, study.seed[0])
    if not file.is_file():
        refuse("dose_map", "a setting of a study that was run", f"no {file}")
    stored = store.read(file)
    with xr.set_options(keep_attrs=True):
        return stored[["dose", "dose_sd"]] * (recommendation.mas / float(stored.attrs["rotation_mas"]))


def credits(study: Study) -> list[str]:
    """Attributions that the licence of the study's patient asks for."""
    name = study.patient.removesuffix("-small") if study.patient == SMALL else study.patient
    return [sample.SAMPLES[name].credit] if name in sample.SAMPLES else []
