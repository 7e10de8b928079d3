"""Transport in the voxels of a Phantom, and what it leaves in organs and voxels."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from numbers import Integral
from typing import Any

import numpy as np
import xarray as xr

from twinlab.dose.body import (
    MGY_PER_KEV_G,
    ScoredBody,
    organ_masses,
    organ_table,
    scored_body,
    transport_inputs,
)
from twinlab.dose.engine import Engine
from twinlab.dose.until import check_goal, run_until
from twinlab.kernels.transport import Tally, mean_sd
from twinlab.kernels.transport_data import ENERGY_UNIT_KEV, Source
from twinlab.phantom.build import OUTSIDE
from twinlab.schema import label, refuse

LEAST_HISTORIES = 1000


def check_histories(histories: int, where: str) -> None:
    """Refuse runs whose uncertainty would mean nothing, and numbers that are no count of histories."""
    if not isinstance(histories, Integral) or histories < LEAST_HISTORIES:
        refuse(f"{where}: histories", f"a whole number of {LEAST_HISTORIES} or more", repr(histories))


def check_output_factor(output_factor: float, where: str) -> None:
    """Refuse factors that no tube can have."""
    if not 0.0 < output_factor < math.inf:
        refuse(f"{where}: output_factor", "above 0", output_factor)


def check_seed(seed: int, where: str) -> None:
    """Refuse what the generator does not take."""
    if not isinstance(seed, Integral) or not 0 <= seed < 2**64:
        refuse(f"{where}: seed", "a whole number from 0 to 2**64 - 1", repr(seed))


def scored_dose(
    phantom: xr.Dataset,
    source_in: Callable[[np.ndarray, np.ndarray], tuple[Source, float, float]],
    *,
    histories: int,
    seed: int,
    output_factor: float,
    z_range_mm: tuple[float, float],
    voxel_map: bool,
    extend_mm: float,
    block: int | None,
    progress: Callable[[int], object] | None,
    where: str,
    until: Mapping[str, float] | None = None,
    engine: Engine | None = None,
) -> xr.Dataset:
    """Organ doses and dose map of a source.

    Parameters
    ----------
    phantom : Dataset
    source_in : callable
        Called with the corner (z, y, x) and the size (z, y, x) of the grid, mm; returns the source in the box
        coordinates of that corner, its photons, and how far the world's air reaches beyond the grid [mm].
    histories, seed, output_factor, voxel_map, extend_mm, block, progress, until
        See :func:`twinlab.dose.simulate`.
    z_range_mm : (float, float)
        What ``organ_coverage`` counts as inside.
    where : str
        Named in errors.
    engine : Engine, optional

    Returns
    -------
    Dataset
        Doses in mGy; attrs histories, seed, photons, output_factor, and the energy balance.
    """
    engine = engine or Engine()
    engine.check(where)
    check_histories(histories, where)
    check_output_factor(output_factor, where)
    if not 0.0 <= extend_mm < math.inf:
        refuse(f"{where}: extend_mm", "0 mm or more", extend_mm)
    if block is not None and block < 1:
        refuse(f"{where}: block", "1 voxel or more", block)
    scored = scored_body(phantom, extend_mm=extend_mm, where=where)
    if until is not None:
        check_goal(until, list(scored.region_of()), where)
    source, photons, reach_mm = source_in(scored.corner_mm, scored.size_mm)
    tables, grid = transport_inputs(
        scored, reach_mm=reach_mm, block=block, fluorescence=engine.fluorescence, doppler=engine.doppler
    )

    def followed(first: int, count: int) -> Tally:
        return engine.run(
            grid,
            tables,
            source,
            histories=count,
            seed=seed,
            n_region=scored.ids.size,
            first_history=first,
            voxel_map=voxel_map,
            progress=progress,
            beam_mm=(z_range_mm[0] - scored.corner_mm[0], z_range_mm[1] - scored.corner_mm[0]),
        )

    if until is None:
        tally = followed(0, histories)
    else:
        regions = scored.region_of()
        goals = {regions[organ]: (organ, goal) for organ, goal in until.items()}
        tally = run_until(followed, goals, most=histories, show=progress is None)
    photons = photons * output_factor
    out = _organ_doses(scored, tally, photons, z_range_mm)
    if until is not None:
        out.attrs["until"] = ", ".join(f"{organ} {100 * goal:g} %" for organ, goal in until.items())
    if voxel_map:
        out = out.assign(_maps(scored, tally, photons).data_vars)
    emitted, escaped, air, deposited = (tally.energy[:4] * ENERGY_UNIT_KEV).tolist()
    told: dict[str, Any] = {
        "histories": int(tally.histories),
        "seed": int(seed),
        "photons": float(photons),
        "output_factor": float(output_factor),
        "extend_mm": float(extend_mm),
        "estimator": engine.estimator,
        "fluorescence": int(engine.fluorescence),
        "doppler": int(engine.doppler),
        "splitting": int(engine.splitting),
        "forcing": int(engine.forcing),
        "phantom": str(phantom.attrs.get("name", "")),
        "emitted_kev": emitted,
        "deposited_kev": deposited,
        "deposited_air_kev": air,
        "escaped_kev": escaped,
    }
    return out.assign_attrs(told)


def _organ_doses(
    scored: ScoredBody, tally: Tally, photons: float, z_range_mm: tuple[float, float]
) -> xr.Dataset:
    mean, sd = mean_sd(tally.region, tally.histories)
    masses = organ_masses(scored)
    per_kev = photons * MGY_PER_KEV_G / np.maximum(masses["organ_mass"].values, 1e-30)
    keep = scored.organs
    return organ_table(masses, mean[keep] * per_kev, sd[keep] * per_kev, z_range_mm=z_range_mm)


def _maps(scored: ScoredBody, tally: Tally, photons: float) -> xr.Dataset:
    """Dose and its sd on the grid of the given phantom; NaN outside the body."""
    scores = tally.voxel.reshape(*scored.region.shape, 2)[scored.inside]
    mean, sd = mean_sd(scores, tally.histories)
    density = scored.given["density"].values
    scale = photons * MGY_PER_KEV_G / scored.voxel_cm3
    factor = np.where(scored.given["organ"].values != OUTSIDE, scale / np.maximum(density, 1e-6), np.nan)
    coords = {axis: scored.given[axis].values for axis in "zyx"}
    return xr.Dataset(
        {
            "dose": label("dose", (mean * factor).astype(np.float32), coords, outside_body="NaN: not scored"),
            "dose_sd": label("dose_sd", (sd * factor).astype(np.float32), coords),
        }
    )
