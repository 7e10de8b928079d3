"""Doses weighted from a patient's response beside full runs of the same protocols."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from twinlab import dose
from twinlab.report.dose_validation import sectors
from twinlab.scanner import load_protocol

RANGE_MM = (-30.0, 30.0)


def response_table(
    *, histories: int, seed: int = 1, progress: Callable[[int], object] | None = None
) -> pd.DataFrame:
    """Organ doses of three protocols from one response, and from full runs, in a phantom of ten sectors.

    Parameters
    ----------
    histories : int
        Of the response: 64 or more for each of its cells, some 400,000 in all. Full runs take half as many.
    seed : int
    progress : callable, optional
        Called with the histories just done.

    Returns
    -------
    DataFrame
        By protocol: weighted mean over the organs of the difference and its sd, mean square of differences over their
        sd, and processor time of the weighting and of the full run.
    """
    body = sectors()
    usual = load_protocol("abdomen_pelvis").replace(tube_current_ma=200.0)
    protocols = {
        "as it is": usual,
        "pitch 0.516, 20 mm": usual.replace(pitch=0.516, collimation_mm=20.0),
        "axial": usual.replace(mode="axial", pitch=1.0),
    }
    options: dict[str, Any] = {"z_range_mm": RANGE_MM}
    response = dose.response_matrix(body, usual, histories=histories, seed=seed, progress=progress, **options)
    rows = []
    for k, (name, protocol) in enumerate(protocols.items()):
        began = time.process_time()
        quick = dose.from_response(response, protocol, **options)
        weighted = time.process_time()
        full = dose.simulate(
            body,
            protocol,
            histories=histories // 2,
            seed=seed + 1 + k,
            voxel_map=False,
            progress=progress,
            **options,
        )
        ended = time.process_time()
        off = (quick.organ_dose / full.organ_dose - 1).values
        sd = np.hypot(quick.organ_dose_sd / quick.organ_dose, full.organ_dose_sd / full.organ_dose).values
        weight = 1 / sd**2
        rows.append(
            {
                "protocol": name,
                "mean difference [%]": 100 * float(weight @ off / weight.sum()),
                "sd [%]": 100 * float(weight.sum() ** -0.5),
                "mean square over sd": float(((off / sd) ** 2).mean()),
                "weighting [ms]": 1000 * (weighted - began),
                "full run [s]": ended - weighted,
            }
        )
    return pd.DataFrame(rows)


def largest_difference(table: pd.DataFrame) -> tuple[float, float]:
    """Largest mean difference of :func:`response_table` as a share, and its sd."""
    row = table.loc[table["mean difference [%]"].abs().idxmax()]
    return abs(float(row["mean difference [%]"])) / 100, float(row["sd [%]"]) / 100
