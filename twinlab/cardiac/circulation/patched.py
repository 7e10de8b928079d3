"""The closed loop with ventricles of muscle patches, and what their strains say."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import xarray as xr

from twinlab.cardiac.circulation.loop import check_run, loop_dataset
from twinlab.cardiac.circulation.muscle import HEALTHY_AREA, LATERAL, SEPTAL, checked_table, muscle_patches
from twinlab.cardiac.circulation.parameters import ClosedLoop, parameter_set
from twinlab.kernels.heart_loop import N_TRACE
from twinlab.kernels.heart_patch_loop import (
    AREA,
    CONTRACTILE,
    LENGTH,
    N_ROWS,
    accept,
    contract,
    run_patches,
    trial,
)
from twinlab.kernels.heart_patches import REFERENCE_AREA, REST
from twinlab.schema import label, refuse

_FIRST_LENGTH = 1.9  # um, contractile element
_FIRST_JUNCTION = (35.0, 3.3)  # ml, cm
_MOST_TAKEN = 0.6  # share of the vessels' blood that a first state may move into large ventricles


def _growth(table: np.ndarray, borders: np.ndarray) -> np.ndarray:
    """Volumes (2,) of left and right ventricle over those of the healthy one, by their reference areas."""
    area = table[:, REFERENCE_AREA]
    if borders[1] == borders[3]:
        return np.array([(area.sum() / HEALTHY_AREA["sphere"]) ** 1.5, 1.0])
    left, right = area[: borders[2]].sum(), area[borders[2] :].sum()
    return np.array([left / HEALTHY_AREA["left"], right / HEALTHY_AREA["right"]]) ** 1.5


def _fresh(table: np.ndarray, borders: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """State of the patches before the first step, and a junction of the heart's size."""
    rows = np.zeros((N_ROWS, len(table)))
    rows[CONTRACTILE], rows[LENGTH], rows[AREA] = REST, _FIRST_LENGTH, table[:, REFERENCE_AREA]
    left = float(_growth(table, borders)[0])
    return rows, np.array(_FIRST_JUNCTION) * [left, left ** (1 / 3)]


def _start(parameters: ClosedLoop, table: np.ndarray, borders: np.ndarray) -> np.ndarray:
    """First state of the loop with ventricles filled according to their size.

    With a healthy heart's 120 ml the walls of a dilated one would be slack, and its first step without a solution.
    """
    state = parameters.start()
    vessels = [2, 3, 6, 7]
    more = state[[1, 5]] * (_growth(table, borders) - 1.0)
    there = state[vessels].sum()
    share = min(1.0, _MOST_TAKEN * there / more.sum()) if more.sum() > 0.0 else 1.0
    state[[1, 5]] += share * more
    state[vessels] *= 1.0 - share * more.sum() / there
    return state


def patch_heart(
    patches: xr.Dataset | None = None,
    parameters: ClosedLoop | None = None,
    *,
    steps_per_beat: int = 400,
    beats: int | None = None,
    most_beats: int = 100,
    tolerance_ml: float = 1e-4,
) -> xr.Dataset:
    """Closed loop whose left ventricle, or both with the septum, are patches of muscle.

    Every patch has its own sarcomere (active stress by sliding of a contractile element against a series elastic one)
    and is a part of its wall: patches of a wall have one tension and one curvature and share its area.

    Parameters
    ----------
    patches : Dataset, optional
        See :func:`muscle_patches`, the default.
    parameters : ClosedLoop, optional
        Circulation and atria (default: the healthy set). The elastances of replaced ventricles do not count.
    steps_per_beat, beats, most_beats, tolerance_ml
        As :func:`closed_loop`; backward Euler. Unless ``beats`` is given, beats start from an extrapolation of the last
        few (:mod:`twinlab.kernels.heart_settle`), which finds the one that repeats in about a third of the time.

    Returns
    -------
    Dataset
        As :func:`closed_loop`, and: ``patch_strain`` (patch, time), fibre shortening as change of length over the
        length when the mitral valve closes; ``patch_stress`` (patch, time) kPa; ``patch_work`` (patch) mJ a beat;
        ``time_to_peak_shortening`` (patch) ms from the first activation; of the left ventricle's patches:
        ``shortening_sd`` ms, ``septal_to_lateral_delay`` ms (NaN without AHA segments), ``wasted_work_fraction``,
        ``internal_stretch_fraction``, ``global_fibre_strain``.

    Raises
    ------
    InputError
        Patches that cannot be, a step without a solution, or a heart that does not eject, or closes upon itself.

    References
    ----------
    Arts T et al. 1991, J Biomech 24:1009 (one fibre); Lumens J et al. 2009, Ann Biomed Eng 37:2234 (three walls,
    sarcomere); Walmsley J et al. 2015, PLoS Comput Biol 11:e1004284 (patches).
    """
    parameters = parameter_set() if parameters is None else parameters
    patches = muscle_patches() if patches is None else patches
    check_run(steps_per_beat, beats, most_beats)
    table, borders, order = checked_table(patches)
    rows, junction = _fresh(table, borders)
    trace, passed = np.zeros((steps_per_beat + 1, N_TRACE)), np.empty(8)
    muscle = np.zeros((2, steps_per_beat + 1, len(table)))
    least, most = (beats, beats) if beats is not None else (2, most_beats)
    first = _start(parameters, table, borders)
    count, change = run_patches(
        parameters.flat(), table, borders, first, rows, junction, steps_per_beat, least, most,
        -1.0 if beats else tolerance_ml, trace, passed, muscle,
    )  # fmt: skip
    if count < 0:
        refuse("patch_heart", "a solution in every step (take more steps_per_beat)", f"none in beat {-count}")
    if beats is None and change > tolerance_ml:
        warnings.warn(
            f"patch_heart: not periodic after {count} beats (volumes still change by {change:.2g} ml)",
            stacklevel=2,
        )
    result = loop_dataset(trace, passed, parameters, count, change, tolerance_ml)
    least_ml = float(result.compartment_volume.sel(compartment=["left_ventricle", "right_ventricle"]).min())
    if least_ml <= 0.0:
        refuse(
            "patch_heart",
            "ventricles that keep some blood (larger reference areas, or less contractility)",
            f"{least_ml:.1f} ml at the end of systole: walls that pass through each other",
        )
    back = np.argsort(order)
    return result.merge(_muscle(result, patches, muscle[:, :, back]), combine_attrs="override")


def _muscle(loop: xr.Dataset, patches: xr.Dataset, muscle: np.ndarray) -> xr.Dataset:
    strain, stress = muscle[0].T, muscle[1].T  # (patch, time), natural strain
    time = loop.time.values
    flow = loop.link_flow.values
    ejecting = np.flatnonzero(flow[1] > 1.0)
    if not ejecting.size:
        refuse(
            "patch_heart",
            "a left ventricle that ejects (more contractility or blood, less resistance)",
            f"at most {flow[1].max():.2g} ml/s through the aortic valve",
        )
    filling = np.flatnonzero(flow[0] > 1.0)
    closes = filling[filling < ejecting[0]][-1] if (filling < ejecting[0]).any() else 0
    later = filling[filling > ejecting[-1]]
    opens = later[0] if later.size else len(time) - 1
    engineering = np.exp(strain - strain[:, closes : closes + 1]) - 1.0
    first = float(patches.patch_activation.min())
    begin = int(np.searchsorted(time, max(first, 0.0)))
    peak = time[begin + np.argmin(engineering[:, begin:], axis=1)] - first
    volume = patches.patch_wall_volume.values
    power = -0.5 * (stress[:, 1:] + stress[:, :-1]) * np.diff(strain, axis=1) * volume[:, None]  # mJ a step
    inside = {"patch": patches.patch.values, "time": time}
    own = {"patch": patches.patch.values}
    data: dict[str, Any] = {
        "patch_strain": label("patch_strain", engineering, inside),
        "patch_stress": label("patch_stress", stress, inside),
        "patch_work": label("patch_work", power.sum(axis=1), own),
        "time_to_peak_shortening": label("time_to_peak_shortening", peak, own),
    }
    left = patches.patch_wall.values < 2
    systole = power[left][:, closes:opens]
    length = np.diff(np.exp(strain[left]), axis=1)[:, closes:opens]
    done, wasted = systole[systole > 0].sum(), -systole[systole < 0].sum()
    shortened, stretched = -length[length < 0].sum(), length[length > 0].sum()
    names = list(map(str, patches.patch.values))
    septal = [names.index(str(n)) for n in SEPTAL if str(n) in names]
    lateral = [names.index(str(n)) for n in LATERAL if str(n) in names]
    delay = peak[lateral].mean() - peak[septal].mean() if septal and lateral else np.nan
    share = volume[left] / volume[left].sum()
    values = {
        "shortening_sd": peak[left].std(),
        "septal_to_lateral_delay": delay,
        "wasted_work_fraction": wasted / done,
        "internal_stretch_fraction": stretched / shortened,
        "global_fibre_strain": 100.0 * (share @ engineering[left]).min(),
    }
    data |= {name: label(name, value) for name, value in values.items()}
    return xr.Dataset(data)


class PatchVentricles:
    """Patches of muscle as a ventricle for :func:`closed_loop`: ``left=`` with one wall, ``both=`` with three.

    Slower than :func:`patch_heart`, which gives the same; for the open loop, or where another part of the loop comes
    from outside.

    Parameters
    ----------
    patches : Dataset
        See :func:`muscle_patches`.
    period_ms : float
        Length of a beat.
    """

    def __init__(self, patches: xr.Dataset, *, period_ms: float) -> None:
        self._table, self._borders, _ = checked_table(patches)
        self._rows, self._junction = _fresh(self._table, self._borders)
        self._held = self._junction.copy()
        self._period, self._time, self._tried = period_ms, 0.0, 0.0

    def pressure(self, volume_ml: Any, time_ms: float) -> tuple[Any, Any]:
        """Trial pressures, mmHg, and derivatives: numbers with one wall, arrays (2,) and (2, 2) with three."""
        one = self._borders[1] == self._borders[3]
        left, right = (volume_ml, 0.0) if one else volume_ml
        dt = time_ms - self._time
        if dt <= 0.0:
            refuse("PatchVentricles: time_ms", f"a time after {self._time:g} ms", time_ms)
        contract(self._table, self._rows, time_ms, dt, self._period)
        p, dp = np.zeros(2), np.zeros((2, 2))
        good = trial(left, right, self._table, self._borders, self._rows, self._junction, dt, p, dp)
        if not good:
            p[:] = np.nan
        self._tried = time_ms
        return (float(p[0]), float(dp[0, 0])) if one else (p, dp)

    def commit(self) -> None:
        """Accept the last trial."""
        accept(self._rows)
        self._held, self._time = self._junction.copy(), self._tried

    def rollback(self) -> None:
        """Forget trials since the last commit."""
        self._junction = self._held.copy()
        self._rows[AREA] = self._table[:, REFERENCE_AREA]
