"""A beat with prescribed pressure or volume of the cavities, quasi-static, step by step."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from tqdm import tqdm

from twinlab.cardiac.mechanics.steps import MechanicsError
from twinlab.cardiac.mechanics.ventricle import Ventricle
from twinlab.schema import label, refuse


def contract(
    ventricle: Ventricle,
    *,
    time_ms: Any,
    pressure_mmhg: Any = None,
    volume_ml: Any = None,
    progress: bool = False,
) -> xr.Dataset:
    """Balance of the muscle at every time, from the state that the ventricle is in.

    Parameters
    ----------
    ventricle : Ventricle
        It is left in the last balance.
    time_ms : (time,)
    pressure_mmhg, volume_ml : (time,) or (time, cavity)
        One of the two is given.
    progress : bool

    Returns
    -------
    Dataset, dims (time, node, axis, cavity, tet)
        ``displacement``, ``cavity_pressure`` (mmHg), ``cavity_volume`` (ml), ``active_tension`` (kPa, without the
        dependence on length).

    Raises
    ------
    InputError
        Both or neither history, or lengths that differ.
    MechanicsError
        A step without balance; ``history`` on the error is the Dataset up to there.
    """
    times = np.atleast_1d(np.asarray(time_ms, float))
    if (pressure_mmhg is None) == (volume_ml is None):
        refuse(
            "contract", "either pressure_mmhg or volume_ml", "both" if volume_ml is not None else "neither"
        )
    given = np.asarray(pressure_mmhg if volume_ml is None else volume_ml, float)
    n = len(ventricle.body.cavities)
    if given.shape not in ((len(times),), (len(times), n)) or not np.isfinite(given).all():
        refuse("contract", f"a finite history of {len(times)} times and {n} cavities", given.shape)
    given = given.reshape(len(times), -1) if given.ndim > 1 or n == 1 else np.repeat(given[:, None], n, 1)
    kept: list[tuple[np.ndarray, ...]] = []
    for time, value in zip(tqdm(times, desc="beat", disable=not progress), given, strict=True):
        try:
            target = value if n > 1 else float(value[0])
            if volume_ml is None:
                ventricle.volume(target, float(time))
            else:
                ventricle.pressure(target, float(time))
        except MechanicsError as error:
            error.history = _history(ventricle, times[: len(kept)], kept)  # type: ignore[attr-defined]
            raise
        ventricle.commit()
        kept.append(
            (
                ventricle.displacement_mm.copy(),
                np.atleast_1d(ventricle.pressure_mmhg),
                np.atleast_1d(ventricle.volume_ml),
                ventricle.tension_kpa(float(time)),
            )
        )
    return _history(ventricle, times, kept)


def _history(ventricle: Ventricle, times: np.ndarray, kept: list[tuple[np.ndarray, ...]]) -> xr.Dataset:
    body = ventricle.body
    n = len(body.cavities)
    shapes = ((len(body.point), 3), (n,), (n,), (len(body.tet),))
    parts = [np.stack([k[i] for k in kept]) if kept else np.empty((0, *s)) for i, s in enumerate(shapes)]
    coords = {"time": times, "cavity": list(body.names)}
    return xr.Dataset(
        {
            "displacement": label("displacement", parts[0], {"time": times}, dims=("time", "node", "axis")),
            "cavity_pressure": label("cavity_pressure", parts[1], coords, dims=("time", "cavity")),
            "cavity_volume": label("cavity_volume", parts[2], coords, dims=("time", "cavity")),
            "active_tension": label("active_tension", parts[3], {"time": times}, dims=("time", "tet")),
        },
        attrs={"solver": ventricle.solver, "formulation": "mixed" if body.mixed else "penalty"},
    )
