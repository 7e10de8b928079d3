"""A scanner's record as files have it, without faults; tests put them in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd


def record(
    n: int = 200, *, scanner: str = "CT1", seed: int = 0, start: str = "2025-03-01T07:00:00"
) -> pd.DataFrame:
    """Cells as text: one scan every two minutes or more, one tube."""
    rng = np.random.default_rng(seed)
    time = np.datetime64(start, "ms") + np.cumsum(rng.integers(120_000, 600_000, n)).astype("timedelta64[ms]")
    table = pd.DataFrame(
        {
            "time": [f"{t}Z" for t in time],
            "scanner": scanner,
            "tube": f"{scanner}-T1",
            "kv": rng.choice([80.0, 100.0, 120.0], n),
            "tube_current_ma": rng.uniform(50.0, 500.0, n).round(1),
            "exposure_s": rng.uniform(0.5, 9.0, n).round(3),
            "rotation_time_s": 0.5,
            "filament_current_a": rng.normal(4.6, 0.05, n),
            "oil_temperature_c": rng.normal(42.0, 4.0, n),
            "output_ratio": rng.normal(0.98, 0.01, n),
            "arcs": rng.poisson(0.1, n),
            "coolant_flow_l_min": rng.normal(14.0, 0.2, n),
        }
    )
    return table.astype(str)


def write(folder: Path, table: pd.DataFrame, name: str = "log.csv") -> Path:
    """The cells as a CSV file."""
    path = folder / name
    table.to_csv(path, index=False)
    return path
