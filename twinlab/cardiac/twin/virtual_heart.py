"""The quick heart: activation times of the segments, muscle patches and closed loop, a fraction of a second a case."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import xarray as xr
from tqdm import tqdm

from twinlab.cardiac.circulation import ClosedLoop, muscle_patches, parameter_set, patch_heart, with_scar
from twinlab.schema import InputError, refuse

INPUTS: Mapping[str, tuple[float, float]] = {
    "conduction_velocity_mm_per_ms": (0.3, 1.0),
    "wall_area_scale": (0.6, 1.7),
    "contractility_scale": (0.3, 1.8),
    "stiffness_scale": (0.4, 3.0),
    "resistance_scale": (0.5, 2.0),
    "compliance_scale": (0.4, 2.0),
    "blood_volume_scale": (0.75, 1.35),
}
"""What a heart is made of, and the range in which it is sought. Scales count in the healthy set."""

OUTPUTS = (
    "qrs_duration", "lv_edv", "lv_esv", "lv_ef", "stroke_volume", "systemic_systolic", "systemic_diastolic",
    "lv_pressure_ed", "lv_dpdt_max", "global_fibre_strain", "shortening_sd", "septal_to_lateral_delay",
    "wasted_work_fraction",
)  # fmt: skip

_ATRIA_TO_VENTRICLES_MS = 160.0  # activation of the ventricles in the healthy loop's beat
_HEALTHY_BEAT_MS = 60e3 / 70.0
_MOST_EF = 90.0  # beyond, a sphere of muscle has closed upon itself and the model does not hold


@dataclass(frozen=True)
class VirtualHeart:
    """What of a heart does not vary from case to case.

    Attributes
    ----------
    segment_time : Dataset
        From :func:`segment_times`: ``segment_activation`` (pacing, patch) and ``qrs_duration`` (pacing), ms, at the
        conduction velocity in attr ``velocity_mm_per_ms``.
    heart_rate_bpm : float
    wall_ml : float, optional
        Muscle of the left ventricle with the septum, from the image; default that of the healthy heart.
    scar : sequence of str
        AHA segments without active stress.
    steps_per_beat : int
    """

    segment_time: xr.Dataset
    heart_rate_bpm: float = 70.0
    wall_ml: float | None = None
    scar: Sequence[str] = field(default_factory=tuple)
    steps_per_beat: int = 200


def segment_times(
    activation: Mapping[str, np.ndarray], segment: np.ndarray, wall: np.ndarray, *, velocity_mm_per_ms: float
) -> xr.Dataset:
    """Mean activation time of every AHA segment and of the right wall, and the QRS duration, by pacing.

    Parameters
    ----------
    activation : mapping of pacing to array, ms
        Activation times of one grid or mesh, NaN where there is no muscle or nothing arrives.
    segment : array of int, the same shape
        AHA segment, 0 elsewhere.
    wall : array of int, the same shape
        1 left free wall, 2 septum, 3 right free wall, 0 none.
    velocity_mm_per_ms : float
        Conduction velocity along the fibres behind the maps; times go as its inverse.

    Returns
    -------
    Dataset, dims (pacing, patch)

    Raises
    ------
    InputError
        Shapes that differ, or a segment that nothing reaches.
    """
    names = [str(n) for n in range(1, 18)] + ["R1"]
    rows, durations = [], []
    for pacing, values in activation.items():
        times = np.asarray(values, float)
        if not times.shape == np.shape(segment) == np.shape(wall):
            refuse(f"segment_times: {pacing}", f"an array of shape {np.shape(segment)}", times.shape)
        seen = np.isfinite(times)
        first = float(times[seen].min()) if seen.any() else np.nan
        parts = [seen & (segment == n) for n in range(1, 18)] + [seen & (wall == 3)]
        empty = [n for n, part in zip(names, parts, strict=True) if not part.any()]
        if empty:
            refuse(
                f"segment_times: {pacing}",
                "activation in all segments and the right wall",
                f"none in {empty}",
            )
        rows.append([float(times[part].mean()) - first for part in parts])
        durations.append(float(times[seen & (wall > 0)].max()) - first)
    return xr.Dataset(
        {
            "segment_activation": (("pacing", "patch"), np.array(rows), {"units": "ms"}),
            "qrs_duration": ("pacing", np.array(durations), {"units": "ms"}),
        },
        coords={"pacing": list(activation), "patch": names},
        attrs={"velocity_mm_per_ms": float(velocity_mm_per_ms)},
    )


def beats(
    heart: VirtualHeart,
    inputs: xr.Dataset,
    *,
    pacing: str = "intrinsic",
    progress: bool = False,
) -> xr.Dataset:
    """Periodic beats of many hearts.

    Parameters
    ----------
    heart : VirtualHeart
    inputs : Dataset, dims (case)
        Some of :data:`INPUTS`; the rest is that of the healthy heart (scales 1, velocity of the map).
    pacing : str
        One of ``heart.segment_time``'s.
    progress : bool

    Returns
    -------
    Dataset, dims (case)
        :data:`OUTPUTS`. Cases that could not be computed, do not repeat from beat to beat, do not eject, or that no
        heart does (empty at end systole), are NaN.

    Raises
    ------
    InputError
        Unknown inputs or pacing.
    """
    missing = [k for k in ("segment_activation", "qrs_duration") if k not in heart.segment_time]
    if missing or "velocity_mm_per_ms" not in heart.segment_time.attrs:
        refuse(
            "beats: heart.segment_time", "what segment_times gives", f"no {', '.join(missing) or 'velocity'}"
        )
    if not inputs.sizes.get("case"):
        refuse("beats: inputs", "a case or more", f"dims {dict(inputs.sizes)}")
    unknown = [str(k) for k in inputs if k not in INPUTS]
    if unknown:
        refuse("beats: inputs", f"some of {', '.join(INPUTS)}", unknown[0])
    if pacing not in heart.segment_time["pacing"].to_numpy():
        refuse("beats: pacing", f"one of {heart.segment_time['pacing'].to_numpy().tolist()}", repr(pacing))
    table = inputs.to_dataframe().to_dict("records")
    # the kernels release the interpreter's lock; map keeps the order
    with ThreadPoolExecutor(2) as pool:
        jobs = pool.map(lambda row: one_beat(heart, row, pacing), table)
        rows = list(tqdm(jobs, total=len(table), desc="beats", disable=not progress))
    values = np.array(
        [[np.nan] * len(OUTPUTS) if r is None else [float(r[k]) for k in OUTPUTS] for r in rows]
    )
    values[~(values[:, OUTPUTS.index("lv_ef")] < _MOST_EF)] = np.nan
    return xr.Dataset({name: ("case", values[:, i]) for i, name in enumerate(OUTPUTS)})


def one_beat(heart: VirtualHeart, row: Mapping[str, float], pacing: str) -> xr.Dataset | None:
    """Traces and measures of one heart (see :func:`beats`); None where there is no periodic beat that ejects."""
    times = heart.segment_time.sel(pacing=pacing)
    own = float(heart.segment_time.attrs["velocity_mm_per_ms"])
    slower = own / float(row.get("conduction_velocity_mm_per_ms", own))
    loop, quicker = _loop(heart, row)
    patches = _patches(heart, row, quicker)
    patches["patch_activation"][:] = (
        quicker * _ATRIA_TO_VENTRICLES_MS
        + slower * times["segment_activation"].sel(patch=patches["patch"]).to_numpy()
    )
    try:
        found = patch_heart(patches, loop, steps_per_beat=heart.steps_per_beat, tolerance_ml=5e-3)
    except InputError:
        return None
    if not found.attrs["periodic"]:
        return None
    return found.assign(qrs_duration=slower * float(times["qrs_duration"]))


def circulation_of(heart: VirtualHeart, row: Mapping[str, float]) -> ClosedLoop:
    """The closed loop of one heart (see :func:`beats`)."""
    return _loop(heart, row)[0]


def _patches(heart: VirtualHeart, row: Mapping[str, float], quicker: float) -> xr.Dataset:
    patches = muscle_patches("three_walls")
    left = patches["patch_wall"].to_numpy() < 2
    volume = patches["patch_wall_volume"].to_numpy().copy()
    if heart.wall_ml is not None:
        volume *= heart.wall_ml / volume[left].sum()
    patches["patch_wall_volume"][:] = volume
    patches["patch_reference_area"][:] = patches["patch_reference_area"] * row.get("wall_area_scale", 1.0)
    patches["patch_contractility"][:] = patches["patch_contractility"] * row.get("contractility_scale", 1.0)
    patches["patch_stiffness"][:] = patches["patch_stiffness"] * row.get("stiffness_scale", 1.0)
    patches["patch_duration"][:] = np.maximum(100.0, patches["patch_duration"] * quicker)
    return with_scar(patches, list(heart.scar)) if heart.scar else patches


def _loop(heart: VirtualHeart, row: Mapping[str, float]) -> tuple[ClosedLoop, float]:
    """The circulation at the heart rate, and by what factor its atria and twitches are quicker."""
    base = parameter_set("healthy")
    quicker = min(1.0, 60e3 / heart.heart_rate_bpm / _HEALTHY_BEAT_MS)
    changes = {
        "heart_rate_bpm": heart.heart_rate_bpm,
        "stressed_volume_ml": base.stressed_volume_ml * row.get("blood_volume_scale", 1.0),
        "systemic.artery_resistance_mmhg_s_per_ml": base.systemic.artery_resistance_mmhg_s_per_ml
        * row.get("resistance_scale", 1.0),
        "systemic.artery_compliance_ml_per_mmhg": base.systemic.artery_compliance_ml_per_mmhg
        * row.get("compliance_scale", 1.0),
    }
    for chamber in ("left_atrium", "left_ventricle", "right_atrium", "right_ventricle"):
        for part in ("onset_s", "contraction_s", "relaxation_s"):
            changes[f"{chamber}.{part}"] = quicker * getattr(getattr(base, chamber), part)
    return base.with_(changes), quicker
