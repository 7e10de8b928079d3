"""Beats of a patient's twin in a notebook: quick heart, finite elements, what-if and answers at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from twinlab.cardiac import circulation, mechanics, twin
from twinlab.cardiac.electro import Velocity
from twinlab.cardiac.geometry import add_scar, to_mesh, to_voxels
from twinlab.report.heart_figures import readable

COLUMNS: Mapping[str, str] = {
    "qrs_duration": "QRS [ms]",
    "lv_ef": "EF [%]",
    "stroke_volume": "stroke volume [ml]",
    "systemic_systolic": "systolic [mmHg]",
    "wasted_work_fraction": "wasted work",
    "shortening_sd": "spread of shortening [ms]",
}
SHOWN: Mapping[str, str] = {
    "qrs_duration": "QRS [ms]",
    "lv_ef": "EF [points]",
    "stroke_volume": "stroke volume [ml]",
    "wasted_work_fraction": "wasted work",
}
PEAK_KPA = (40.0, 300.0)  # range in which the peak tension is sought
_TIMED = 20

_COMPARED = {
    "lv_edv": "ml", "lv_esv": "ml", "lv_ef": "%", "stroke_volume": "ml", "systemic_systolic": "mmHg",
    "systemic_diastolic": "mmHg", "lv_pressure_ed": "mmHg", "lv_dpdt_max": "mmHg/s", "global_fibre_strain": "%",
}  # fmt: skip


_ELEMENTS_ONLY = {
    "global_longitudinal_strain": "%", "global_circumferential_strain": "%", "systolic_shortening_sd": "ms",
}  # fmt: skip


def virtual_heart(
    heart: xr.Dataset, maps: Mapping[str, xr.DataArray], *, heart_rate_bpm: float
) -> twin.VirtualHeart:
    """The quick heart of a mesh and its activation maps.

    Parameters
    ----------
    heart : Dataset
        With ``aha_segment`` (tet).
    maps : mapping of pacing to DataArray (z, y, x)
        From :func:`twinlab.cardiac.twin.activations` at the default velocity.
    heart_rate_bpm : float
    """
    corner = heart["tet"].to_numpy()
    by_tet = {name: to_mesh(field, heart).to_numpy()[corner].mean(axis=1) for name, field in maps.items()}
    times = twin.segment_times(
        by_tet,
        heart["aha_segment"].to_numpy(),
        heart["wall"].to_numpy(),
        velocity_mm_per_ms=Velocity().along_mm_per_ms,
    )
    measured = heart.attrs.get("measured_lv_wall_ml")
    return twin.VirtualHeart(
        times, heart_rate_bpm=heart_rate_bpm, wall_ml=None if measured is None else float(measured)
    )


def model(virtual: twin.VirtualHeart, pacing: str) -> Callable[[xr.Dataset], xr.Dataset]:
    """The quick heart as a function of its inputs, with progress."""
    return lambda inputs: twin.beats(virtual, inputs, pacing=pacing, progress=True)


def both_hearts(
    virtual: twin.VirtualHeart,
    found: twin.Calibration,
    pacing: str,
    *,
    cells: tuple[int, int, int],
    matches: int,
    beats: int = 4,
) -> tuple[xr.Dataset, xr.Dataset]:
    """The posterior's mean as muscle patches and as finite elements in the same circulation.

    The elements' peak tension is sought for the stroke volume of the patches, by ``matches`` halvings of its range on
    the logarithm: contractility means another thing in both.

    Returns
    -------
    quick, solid : Dataset
        ``solid`` has attr ``peak_kpa``.
    """
    mean = {str(k): float(found.posterior[k].mean()) for k in found.posterior}
    quick = twin.one_beat(virtual, mean, pacing)
    if quick is None:
        raise RuntimeError("both_hearts: no beat at the posterior's mean")
    wall = virtual.wall_ml or float(circulation.muscle_patches("three_walls")["patch_wall_volume"][:17].sum())
    mesh, frame = twin.fitted_left_ventricle(cavity_ml=float(quick["lv_edv"]), wall_ml=wall, cells=cells)
    times = virtual.segment_time["segment_activation"].sel(pacing=pacing).to_numpy()
    times = (
        times
        * float(virtual.segment_time.attrs["velocity_mm_per_ms"])
        / mean["conduction_velocity_mm_per_ms"]
    )
    late = times[np.maximum(mesh["aha_segment"].to_numpy().astype(int) - 1, 0)]
    settings: dict[str, Any] = {
        "parameters": twin.circulation_of(virtual, mean),
        "frame": frame,
        "end_diastolic_mmhg": float(quick["lv_pressure_ed"]),
        "start": np.asarray(quick.attrs["state"], float),
        "beats": beats,
    }
    aim, low, high = float(quick["stroke_volume"]), *np.log(PEAK_KPA)
    best: xr.Dataset | None = None
    for _ in range(matches):
        middle = 0.5 * (low + high)
        solid = twin.beat_3d(mesh, late, peak_kpa=float(np.exp(middle)), **settings).assign_attrs(
            peak_kpa=float(np.exp(middle))
        )
        gap = float(solid["stroke_volume"]) - aim
        if best is None or abs(gap) < abs(float(best["stroke_volume"]) - aim):
            best = solid
        low, high = (middle, high) if gap < 0 else (low, middle)
    assert best is not None
    return quick, best


def posterior_loops(
    virtual: twin.VirtualHeart, found: twin.Calibration, pacing: str, *, most: int
) -> xr.DataArray:
    """Volume and pressure of the left ventricle, (case, quantity, time), at draws of the posterior."""
    table = found.posterior.isel(draw=slice(0, most)).to_dataframe().to_dict("records")
    ran = [twin.one_beat(virtual, row, pacing) for row in table]
    return xr.DataArray(
        np.array([_loop(one) for one in ran if one is not None]), dims=("case", "quantity", "time")
    )


def _loop(beat: xr.Dataset) -> np.ndarray:
    where = {"compartment": "left_ventricle"}
    return np.stack([beat[k].sel(where).to_numpy() for k in ("compartment_volume", "compartment_pressure")])


def difference_rows(quick: xr.Dataset, solid: xr.Dataset) -> list[dict[str, Any]]:
    """Both hearts side by side: the only estimate of what the model's form is worth; then strains of elements only."""
    shared = [
        {
            "measure": f"{readable(name)} [{unit}]",
            "muscle patches": float(quick[name]),
            "finite elements": float(solid[name]),
            "difference": float(solid[name]) - float(quick[name]),
        }
        for name, unit in _COMPARED.items()
        if name in quick and name in solid
    ]
    alone = [
        {
            "measure": f"{readable(name)} [{unit}]",
            "muscle patches": np.nan,
            "finite elements": float(solid[name]),
            "difference": np.nan,
        }
        for name, unit in _ELEMENTS_ONLY.items()
        if name in solid
    ]
    return shared + alone


def deformed(solid: xr.Dataset) -> dict[str, tuple[xr.Dataset, np.ndarray]]:
    """The curved elements at end diastole and at end systole with their fibre strain."""
    volume = solid["compartment_volume"].sel(compartment="left_ventricle").to_numpy()
    clock, shapes = solid["shape_time"].to_numpy(), solid["displacement"].to_numpy()
    strain = solid["fibre_strain"].to_numpy()
    found = {}
    for title, at, field in (
        ("end diastole", volume.argmax(), np.zeros_like(strain)),
        ("end systole", volume.argmin(), strain),
    ):
        k = int(np.abs(clock - float(solid["time"][int(at)])).argmin())
        point, tet = mechanics.subdivided(
            solid["point"].to_numpy() + shapes[k], solid["element"].to_numpy(), order=4
        )
        shape = xr.Dataset({"point": (("node", "axis"), point), "tet": (("tet", "corner"), tet)})
        found[title] = (shape, np.repeat(field, len(tet) // len(field)))
    return found


def scarred_map(
    heart: xr.Dataset, pacing: str, scar: Sequence[str], *, voxel_mm: float
) -> dict[str, xr.DataArray]:
    """Activation with a transmural scar in some segments that conducts slowly, named ``"<pacing>, scar"``."""
    voxels = to_voxels(add_scar(heart, segments=[int(n) for n in scar]), spacing_mm=voxel_mm)
    return {f"{pacing}, scar": twin.activations(voxels, [pacing])[pacing]}


def scenarios(
    lead_pacings: Sequence[str], scar: Sequence[str], *, scar_pacing: str | None = None
) -> dict[str, twin.Scenario]:
    """What is tried: every left lead, contractility, afterload, a scar (slow, with a map of :func:`scarred_map`)."""
    tried = {
        f"lead: {name.split('+')[-1].strip().replace('_', ' ')}": twin.Scenario(pacing=name)
        for name in lead_pacings
    }
    return tried | {
        "contractility + 20 %": twin.Scenario({"contractility_scale": 1.2}),
        "contractility - 20 %": twin.Scenario({"contractility_scale": 0.8}),
        "afterload + 20 %": twin.Scenario({"resistance_scale": 1.2}),
        "afterload - 20 %": twin.Scenario({"resistance_scale": 0.8}),
        f"scar in {', '.join(scar)}": twin.Scenario(scar=tuple(scar), pacing=scar_pacing),
    }


def best_lead_words(answers: xr.Dataset) -> str:
    """Which lead helps, with its interval, and whether the leads can be told apart."""
    names = [n for n in map(str, answers["scenario"].to_numpy()) if n.startswith("lead: ")]
    gain = answers.sel(scenario=names, output="stroke_volume")
    order = np.argsort(-gain["change"].to_numpy())
    best = gain.isel(scenario=int(order[0]))
    of = f"Of {len(order)} left leads, " if len(order) > 1 else "The lead "
    words = (
        f"{of}{str(best['scenario'].values).removeprefix('lead: ')} changes stroke volume"
        f"{' most' if len(order) > 1 else ''}: {float(best['change']):+.1f} ml "
        f"({float(best['change_low']):+.1f} to {float(best['change_high']):+.1f})"
    )
    if len(order) == 1:
        return f"{words}."
    second = gain.isel(scenario=int(order[1]))
    apart = float(best["change_low"]) > float(second["change_high"])
    return f"{words}; its interval {'lies above' if apart else 'overlaps'} that of the next."


def interactive(
    virtual: twin.VirtualHeart, found: twin.Calibration, pacings: Sequence[str], *, runs: int, seed: int
) -> tuple[twin.QuickAnswer, float, float]:
    """Surrogates around the posterior's mean, the time of an answer in ms, and the error of whole loops.

    Returns
    -------
    answer : QuickAnswer
    took_ms : float
        Median of twenty answers.
    curve_error : float
        Root mean square error of reduced loops on fresh runs, over the loops' range.
    """
    mean = {str(k): float(found.posterior[k].mean()) for k in found.posterior}
    factors = {"contractility_scale": (0.8, 1.2), "resistance_scale": (0.8, 1.2)}
    answer = twin.quick_answer(
        virtual,
        mean,
        factors=factors,
        pacings=pacings,
        runs=runs,
        fresh=max(6, runs // 2),
        seed=seed,
        progress=True,
    )
    asked = xr.Dataset({k: ("case", [1.0]) for k in factors})
    spent = []
    for _ in range(_TIMED):
        started = time.perf_counter()
        twin.predict(answer.surrogate[pacings[0]], asked)
        spent.append(1e3 * (time.perf_counter() - started))
    return answer, float(np.median(spent)), _curve_error(virtual, mean, factors, pacings[0], runs, seed)


def _curve_error(
    virtual: twin.VirtualHeart,
    mean: Mapping[str, float],
    factors: Mapping[str, tuple[float, float]],
    pacing: str,
    runs: int,
    seed: int,
) -> float:
    sets = []
    for n, own in ((runs, seed), (max(4, runs // 4), seed + 1)):
        asked = twin.design(factors, n=n, seed=own)
        rows = [{k: v * float(asked[k][i]) if k in asked else v for k, v in mean.items()} for i in range(n)]
        ran = [twin.one_beat(virtual, row, pacing) for row in rows]
        good = [i for i, one in enumerate(ran) if one is not None]
        curves = np.array([_loop(ran[i]) for i in good])
        sets.append((asked.isel(case=good), xr.DataArray(curves, dims=("case", "quantity", "time"))))
    (x, y), (x_new, y_new) = sets
    got, _ = twin.predict_curves(twin.reduce_curves(x, y, bounds=factors, seed=seed), x_new)
    reach = np.ptp(y_new.to_numpy(), axis=(0, 2))
    gap = (got.to_numpy() - y_new.to_numpy()) / reach[None, :, None]
    return float(np.sqrt((gap**2).mean()))


def error_rows(answer: twin.QuickAnswer) -> list[dict[str, Any]]:
    """Error of the surrogate on fresh runs, by pacing and output."""
    return [
        {
            "pacing": str(pacing),
            "output": readable(str(output)),
            "error (rms)": float(answer.error["rmse"].sel(pacing=pacing, output=output)),
            "spread of the runs": float(answer.error["spread"].sel(pacing=pacing, output=output)),
        }
        for pacing in answer.error["pacing"].to_numpy()
        for output in answer.error["output"].to_numpy()
    ]


def headline(found: twin.Calibration, answers: xr.Dataset, conduction: str) -> str:
    """The report in one sentence."""
    velocity = found.summary.sel(parameter="conduction_velocity_mm_per_ms")
    ef = answers.sel(scenario="as is", output="lv_ef")
    return (
        f"{conduction[:1].upper()}{conduction[1:]}: EF {float(ef['value']):.0f} % ({float(ef['low']):.0f} to "
        f"{float(ef['high']):.0f}), conduction {float(velocity['mean']):.2f} m/s. " + best_lead_words(answers)
    )
