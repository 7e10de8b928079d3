"""Units that wear by a law that is known, for tests and for a first try without data."""

from __future__ import annotations

import numpy as np
import pandas as pd

from twinlab.schema import refuse

SENSORS = ("heat", "current", "vibration", "flow", "idle")
GAIN = np.array([1.0, 0.7, 1.2, -0.8, 0.0])  # answer of each sensor to wear; "idle" knows nothing of it


def synthetic_units(
    count: int = 60, *, seed: int, conditions: int = 1, noise: float = 0.05, life: float = 150.0
) -> pd.DataFrame:
    r"""Table of units run to failure: columns unit, cycle, load and five sensors.

    Wear ``w(t) = w0 + (1 - w0) (exp(3 t/T) - 1)/(exp(3) - 1)`` reaches 1 at the life ``T``, which is lognormal
    with a spread of 25 %; the start ``w0`` is up to 0.1. Sensors are ``level(load) + scale(load) (gain w +
    noise)``.

    Parameters
    ----------
    count : int
        Units.
    conditions : int
        Loads that the unit is switched between at random; each shifts and scales the sensors.
    noise : float
        Standard deviation of the sensors over their full swing.
    life : float
        Median life, cycles.
    """
    if count < 1 or conditions < 1:
        refuse("synthetic units", "1 unit and 1 condition or more", f"{count} and {conditions}")
    rng = np.random.default_rng(seed)
    level = rng.uniform(5, 50, (conditions, len(SENSORS)))
    scale = rng.uniform(0.5, 3.0, (conditions, len(SENSORS)))
    tables = []
    for unit in range(1, count + 1):
        end = max(int(life * np.exp(0.25 * rng.standard_normal())), 40)
        cycle = np.arange(1, end + 1)
        new = rng.uniform(0, 0.1)
        wear = new + (1 - new) * np.expm1(3.0 * cycle / end) / np.expm1(3.0)
        load = rng.integers(conditions, size=end)
        swing = wear[:, None] * GAIN + noise * rng.standard_normal((end, len(SENSORS)))
        table = pd.DataFrame(level[load] + scale[load] * swing, columns=list(SENSORS))
        table.insert(0, "load", 20.0 + 10.0 * load + 0.01 * rng.standard_normal(end))
        table.insert(0, "cycle", cycle)
        table.insert(0, "unit", unit)
        tables.append(table)
    return pd.concat(tables, ignore_index=True)
