"""The pieces of work of a study. Each writes one result, whole, and returns its path.

Every function takes the study, the root of all outputs as text (so that a worker elsewhere can use it) and the
results that it waits for, which dask passes and which it ignores: what a stage needs it reads from disk.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from twinlab import dose as td
from twinlab import phantom as tp
from twinlab.scanner import Protocol
from twinlab.schema import refuse
from twinlab.study import images, rays, store
from twinlab.study.layout import Layout
from twinlab.study.models import Study
from twinlab.study.patient import lesion_positions, load_patient

_OTHER_SEED = 1_000_003  # added to the seed of a check, whose histories must be others
_MOST_PULL = 6.0


def make_phantom(study: Study, root: str, *_: Any) -> str:
    """The patient on the grids of the scan and of the dose."""
    layout = Layout(study, root)
    native = load_patient(study)
    for seed in study.seed:
        lesion_positions(native, study, seed)  # refuses early
    dz, dy, dx = (
        float(abs(native[a].values[-1] - native[a].values[0]) / (native.sizes[a] - 1)) for a in "zyx"
    )
    wide = max(study.ct_voxel_mm, dx)
    scan = native if wide <= max(dx, dy) * 1.01 else tp.resample(native, spacing_mm=(dz, wide, wide))
    size = study.dose_voxel_mm
    with store.atomic_folder(layout.phantom()) as folder:
        x, y = tp.body_centre(native)  # one for scan and dose
        store.save_json({"x_mm": x, "y_mm": y}, folder / "isocentre.json")
        tp.save(native, folder / "native.nc")
        tp.save(scan, folder / "scan.nc")
        tp.save(tp.resample(native, spacing_mm=(max(size, dz), size, size)), folder / "dose.nc")
    return str(layout.phantom())


def make_ctdi(study: Study, root: str, kv: float, *_: Any) -> str:
    """CTDI of the scanner at one kV, per 100 mAs, with the factor that calibrates its output."""
    layout = Layout(study, root)
    protocol = study.protocol_at(kv=kv, pitch=study.pitch[0])
    data = td.ctdi(protocol, histories=study.ctdi_histories, seed=study.seed[0])
    store.save(data, layout.ctdi(kv))
    return str(layout.ctdi(kv))


def scan_range(study: Study, phantom: xr.Dataset) -> tuple[float, float]:
    """z range that the protocol covers, mm: the study's, else all slices of the images.

    Raises
    ------
    InputError
        The range asked for is not in the images.
    """
    z = phantom["z"].values
    half = abs(z[-1] - z[0]) / (z.size - 1) / 2
    lowest, highest = float(z.min() - half), float(z.max() + half)
    if not study.scan_range_mm:
        return lowest, highest
    low, high = study.scan_range_mm
    if low < lowest - 1 or high > highest + 1:
        refuse("scan_range_mm", f"a range in the images, {lowest:g} to {highest:g} mm", study.scan_range_mm)
    return low, high


def beam_at(study: Study, kv: float, pitch: float) -> Protocol:
    """The protocol at the least mAs of the grid: doses are linear in it."""
    protocol = study.protocol_at(kv=kv, pitch=pitch)
    return protocol.replace(tube_current_ma=min(study.mas) / protocol.rotation_time_s)


def make_response(study: Study, root: str, kv: float, seed: int, *_: Any) -> str:
    """Transport of one kV: organ doses from every part of the path that any pitch of the grid takes."""
    layout = Layout(study, root)
    phantom = tp.load(layout.phantom() / "dose.nc")
    protocol = study.protocol_at(kv=kv, pitch=study.pitch[0])
    data = td.response_matrix(
        phantom,
        protocol,
        z_range_mm=scan_range(study, phantom),
        histories=study.histories,
        seed=seed,
        output_factor=float(store.read(layout.ctdi(kv))["output_factor"]),
        isocentre_mm=rays.isocentre(layout),
        max_width_mm=protocol.collimation_mm,
    )
    data.attrs.pop("seconds")  # the only thing in it that differs from run to run
    data.attrs["z_range_mm"] = list(scan_range(study, phantom))
    store.save(data, layout.response(kv, seed))
    return str(layout.response(kv, seed))


def make_dose(study: Study, root: str, kv: float, pitch: float, seed: int, *_: Any) -> str:
    """Organ doses of one beam, from the response of its kV."""
    layout = Layout(study, root)
    response = store.read(layout.response(kv, seed))
    low, high = (float(z) for z in response.attrs["z_range_mm"])
    data = td.from_response(response, beam_at(study, kv, pitch), z_range_mm=(low, high))
    data.attrs["rotation_mas"] = min(study.mas)  # attrs["mas"] is that of the whole scan
    store.save(data, layout.dose(kv, pitch, seed))
    return str(layout.dose(kv, pitch, seed))


def make_dose_map(study: Study, root: str, kv: float, pitch: float, *_: Any) -> str:
    """Dose map of one beam by a full run, with other random numbers and estimator than the response it checks.

    Track lengths, with half the photons: organs are about as sure as by collisions with all of them, voxels four
    times as sure in less than twice the time.

    Raises
    ------
    InputError
        Organ doses of both differ by more than chance allows: nothing that rests on the response is to be used.
    """
    layout = Layout(study, root)
    phantom = tp.load(layout.phantom() / "dose.nc")
    seed = study.seed[0]
    data = td.simulate(
        phantom,
        beam_at(study, kv, pitch),
        z_range_mm=scan_range(study, phantom),
        histories=-(-study.histories // 2),
        estimator="track_length",
        seed=seed + _OTHER_SEED,
        output_factor=float(store.read(layout.ctdi(kv))["output_factor"]),
        isocentre_mm=rays.isocentre(layout),
        device="cpu",
    )
    data.attrs.pop("seconds")
    data.attrs["rotation_mas"] = min(study.mas)
    data = data.assign_attrs(spot_check(data, store.read(layout.dose(kv, pitch, seed))))
    store.save(data, layout.dose_map(kv, pitch))
    return str(layout.dose_map(kv, pitch))


def spot_check(full: xr.Dataset, fast: xr.Dataset) -> dict[str, float]:
    """How organ doses of a full run and of the response differ.

    Returns
    -------
    dict
        ``check_pull``: largest difference in standard uncertainties over the organs; ``check_percent``: mean
        difference by organ mass, per cent; ``check_percent_sd``.

    Raises
    ------
    InputError
        A difference beyond 6 sd and 3 %: chance among 100 organs reaches 4.
    """
    difference = (fast["organ_dose"] - full["organ_dose"]).values
    sd = np.maximum(np.hypot(fast["organ_dose_sd"].values, full["organ_dose_sd"].values), 1e-300)
    mass = full["organ_mass"].values
    body = float((full["organ_dose"].values * mass).sum())
    pull = np.abs(difference) / sd
    wrong = (pull > _MOST_PULL) & (np.abs(difference) > 0.03 * full["organ_dose"].values)
    if wrong.any():
        names = ", ".join(str(n) for n in full["organ_name"].values[wrong])
        refuse(
            "study: dose of the response against a full run", "differences within 6 sd", f"more for {names}"
        )
    return {
        "check_pull": float(pull.max()),
        "check_percent": 100.0 * float((difference * mass).sum()) / body,
        "check_percent_sd": 100.0 * float(np.sqrt(((sd * mass) ** 2).sum())) / body,
    }


def make_rays(study: Study, root: str, pitch: float, *_: Any) -> str:
    """Line integrals and ray variances that the lesion's region of interest needs."""
    return rays.make(Layout(study, root), pitch)


def make_quality(study: Study, root: str, pitch: float, seed: int, position: int, *_: Any) -> str:
    """Detectability and noise at one place of the lesion."""
    layout = Layout(study, root)
    store.save(images.detectability(layout, pitch, seed, position), layout.quality(pitch, seed, position))
    return str(layout.quality(pitch, seed, position))


def make_images(study: Study, root: str, kv: float, pitch: float, seed: int, *_: Any) -> str:
    """Noisy images of the lesion in its surroundings."""
    layout = Layout(study, root)
    store.save(images.examples(layout, kv, pitch, seed), layout.images(kv, pitch, seed))
    return str(layout.images(kv, pitch, seed))


def make_case(study: Study, root: str, case: dict[str, Any], *_: Any) -> str:
    """One case of the grid, put together from the stages."""
    from twinlab.study.collect import assemble_case

    layout = Layout(study, root)
    store.save(assemble_case(layout, **case), layout.case(**case))
    return str(layout.case(**case))
