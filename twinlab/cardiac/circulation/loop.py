"""The closed loop: one case with its traces, many cases as a table of measures."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from twinlab.cardiac.circulation.coupled import CoupledLoop, Ventricle, Ventricles
from twinlab.cardiac.circulation.parameters import ClosedLoop, parameter_set
from twinlab.kernels.heart_loop import N_TRACE, run_loop, run_many
from twinlab.kernels.heart_measures import measures_of
from twinlab.kernels.threads import one_parallel_region
from twinlab.schema import label, refuse
from twinlab.variables_heart import LOOP_MEASURES

COMPARTMENTS = (
    "left_atrium", "left_ventricle", "systemic_arteries", "systemic_veins",
    "right_atrium", "right_ventricle", "pulmonary_arteries", "pulmonary_veins",
)  # fmt: skip
LINKS = (
    "mitral", "aortic", "systemic_arteries", "systemic_veins",
    "tricuspid", "pulmonary_valve", "pulmonary_arteries", "pulmonary_veins",
)  # fmt: skip


def closed_loop(
    parameters: ClosedLoop | None = None,
    *,
    left: Ventricle | None = None,
    right: Ventricle | None = None,
    both: Ventricles | None = None,
    steps_per_beat: int = 800,
    beats: int | None = None,
    most_beats: int = 300,
    tolerance_ml: float | None = None,
    start: np.ndarray | None = None,
    progress: bool = False,
) -> xr.Dataset:
    """Beats of the closed loop until they repeat; the last beat with its measures.

    With elastances only, a two-stage diagonally implicit scheme of order two runs in compiled code. Ventricles put
    in (``left``, ``right`` or ``both``) are coupled by backward Euler steps with Newton on their volumes.

    Parameters
    ----------
    parameters : ClosedLoop, optional
        Default: :func:`~twinlab.cardiac.circulation.parameter_set` ``("healthy")``.
    left, right : Ventricle, optional
        Take the place of one ventricle's elastance (see :class:`~twinlab.cardiac.circulation.Ventricle`).
    both : Ventricles, optional
        Takes the place of both, which may then influence each other.
    steps_per_beat : int
    beats : int, optional
        Run exactly so many; default: until periodic.
    most_beats : int
        Stop here even if not periodic, with a warning and ``periodic`` False.
    tolerance_ml : float, optional
        Greatest change of any compartment's volume from beat to beat that counts as periodic; default 1e-5, with
        ventricles put in 0.02.
    start : array (12,), optional
        State to start from (``attrs["state"]`` of an earlier result): eight volumes, ml, in ring order, four
        flows, ml/s.
    progress : bool
        Show the beats (coupled ventricles only; the rest takes milliseconds).

    Returns
    -------
    Dataset
        ``compartment_pressure``, ``compartment_volume`` (compartment, time), ``link_flow`` (link, time) over the last
        beat, ``time`` in ms from its start; the measures of :data:`~twinlab.variables_heart.LOOP_MEASURES`.
        attrs: ``beats``, ``periodic``, ``change_ml`` (last change from beat to beat), ``state``, ``source``.

    Raises
    ------
    InputError
        Inconsistent arguments, or no consistent state of the valves in a step.
    CoupledError
        A step with a ventricle put in could not be solved.

    References
    ----------
    Regazzoni F et al. 2022, J Comput Phys 457:111083. Alexander R 1977, SIAM J Numer Anal 14:1006 (scheme).

    Examples
    --------
    >>> 55 < float(closed_loop().lv_ef) < 70
    True
    """
    parameters = parameter_set() if parameters is None else parameters
    coupled = left is not None or right is not None or both is not None
    if both is not None and (left is not None or right is not None):
        refuse("closed_loop", "either both= or left= and right=", "both and one of them")
    check_run(steps_per_beat, beats, most_beats)
    tolerance = tolerance_ml if tolerance_ml is not None else (0.02 if coupled else 1e-5)
    least = beats if beats is not None else 2
    most = beats if beats is not None else most_beats
    first = parameters.start() if start is None else np.array(start, float)
    if first.shape != (12,) or not np.isfinite(first).all():
        refuse("closed_loop: start", "12 finite numbers (eight volumes, four flows)", first.tolist())
    if coupled:
        loop = CoupledLoop(parameters.flat(), left=left, right=right, both=both)
        trace, passed, count, change = loop.run(
            first, steps_per_beat, least, most, -1.0 if beats else tolerance, progress
        )
    else:
        trace, passed = np.empty((steps_per_beat + 1, N_TRACE)), np.empty(8)
        count, change = run_loop(
            parameters.flat(), first, steps_per_beat, least, most, -1.0 if beats else tolerance, trace, passed
        )
        if count < 0:
            refuse(
                "closed_loop",
                "a consistent, finite state in every step (take more steps_per_beat or check the parameters)",
                f"none in beat {-count}",
            )
    if beats is None and change > tolerance:
        warnings.warn(
            f"closed_loop: not periodic after {count} beats (volumes still change by {change:.2g} ml)",
            stacklevel=2,
        )
    return loop_dataset(trace, passed, parameters, count, change, tolerance)


def closed_loop_many(
    table: pd.DataFrame,
    *,
    base: ClosedLoop | None = None,
    steps_per_beat: int = 400,
    beats: int | None = None,
    most_beats: int = 300,
    tolerance_ml: float = 1e-4,
) -> xr.Dataset:
    """Measures of many parameter sets, in parallel over cases; the same with any number of threads.

    Parameters
    ----------
    table : DataFrame
        One row a case; columns are dotted names of parameters (``parameter_names``), as
        ``left_ventricle.active_elastance_mmhg_per_ml``.
    base : ClosedLoop, optional
        Values of all other parameters; default the healthy set.
    steps_per_beat, beats, most_beats, tolerance_ml
        As :func:`closed_loop`.

    Returns
    -------
    Dataset
        The measures with the dim ``case`` (the table's index); ``periodic`` and ``beats`` (case). Cases that could not
        be computed are NaN with ``beats`` negative.

    Raises
    ------
    InputError
        Unknown column, or a value that cannot be, with its row.
    """
    base = parameter_set() if base is None else base
    check_run(steps_per_beat, beats, most_beats)
    if not len(table):
        refuse("closed_loop_many", "a table with a row or more", "none")
    sets = []
    for index, row in zip(table.index, table.to_dict("records"), strict=True):
        try:
            sets.append(base.with_({str(k): v for k, v in row.items()}))
        except ValueError as error:
            refuse(f"closed_loop_many: row {index!r}", "valid parameters", error)
    pars = np.array([one.flat() for one in sets])
    starts = np.array([one.start() for one in sets])
    least, most = (beats, beats) if beats is not None else (2, most_beats)
    values = np.full((len(sets), len(LOOP_MEASURES)), np.nan)
    count, change = np.zeros(len(sets), np.int64), np.zeros(len(sets))
    with one_parallel_region():
        tolerance = -1.0 if beats else tolerance_ml
        run_many(pars, starts, steps_per_beat, least, most, tolerance, values, count, change)
    coords = {"case": table.index.to_numpy()}
    result = xr.Dataset(
        {
            name: label(name, values[:, k], coords, dims=("case",))
            for k, (name, _, _) in enumerate(LOOP_MEASURES)
        }
    )
    result["beats"] = ("case", count)
    result["periodic"] = ("case", (count > 0) & (change <= tolerance_ml))
    return result


def check_run(steps_per_beat: int, beats: int | None, most_beats: int) -> None:
    if steps_per_beat < 50:
        refuse("closed_loop: steps_per_beat", "50 or more", steps_per_beat)
    if (beats is not None and beats < 2) or most_beats < 2:
        refuse("closed_loop: beats", "two or more (the first only leads in)", min(beats or 2, most_beats))


def loop_dataset(
    trace: np.ndarray, passed: np.ndarray, parameters: ClosedLoop, count: int, change: float, tolerance: float
) -> xr.Dataset:
    time = np.linspace(0.0, 1000.0 * parameters.period_s, len(trace))
    inside = {"compartment": list(COMPARTMENTS), "time": time}
    data: dict[str, Any] = {
        "compartment_pressure": label("compartment_pressure", trace[:, :8].T, inside),
        "compartment_volume": label("compartment_volume", trace[:, 8:16].T, inside),
        "link_flow": label("link_flow", trace[:, 16:].T, {"link": list(LINKS), "time": time}),
    }
    values = measures_of(trace, passed, parameters.period_s)
    for (name, _, _), value in zip(LOOP_MEASURES, values, strict=True):
        data[name] = label(name, value)
    result = xr.Dataset(data)
    result["time"].attrs.update(units="ms", long_name="time from the start of the beat")
    flows = trace[-1, [18, 19, 22, 23]]
    result.attrs.update(
        beats=count,
        periodic=bool(change <= tolerance),
        change_ml=change,
        state=np.concatenate([trace[-1, 8:16], flows]),
        source=parameters.source,
    )
    return result
