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
from twinlab.study.stages import make_dose_map


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
    """``dose`` and ``dose_sd`` (z, y, x) in mGy at the recommended setting, by a full run of the transport.

    The run is made here where it is not there yet: half of ``study.histories`` photons, by track length.

    Returns
    -------
    Dataset
        attrs ``check_pull``, ``check_percent``, ``check_percent_sd``: how the organ doses of this run and those
        of the study, which come from the patient's response, differ.

    Raises
    ------
    InputError
        The study has not been run with this kV and pitch, or both differ by more than chance allows.
    """
    layout = Layout(study, outputs)
    kv, pitch = recommendation.kv, recommendation.pitch
    if not layout.dose(kv, pitch, study.seed[0]).is_file():
        refuse("dose_map", "a setting of a study that was run", f"{kv:g} kV, pitch {pitch:g}")
    if not layout.dose_map(kv, pitch).is_file():
        make_dose_map(study, str(layout.root), kv, pitch)
    stored = store.read(layout.dose_map(kv, pitch))
    scale = recommendation.mas / float(stored.attrs["rotation_mas"])
    maps = stored[["dose", "dose_sd"]]
    with xr.set_options(keep_attrs=True):
        return (maps * scale).assign_attrs({k: v for k, v in stored.attrs.items() if k.startswith("check_")})


def credits(study: Study) -> list[str]:
    """Attributions that the licence of the study's patient asks for."""
    name = study.patient.removesuffix("-small") if study.patient == SMALL else study.patient
    return [sample.SAMPLES[name].credit] if name in sample.SAMPLES else []
