"""Dose tables with chosen values, as dose.simulate would give them."""

from __future__ import annotations

import numpy as np
import xarray as xr

from twinlab.schema import label


def organ_table(rows: dict[str, tuple[float, float, float]], *, cut: tuple[str, ...] = ()) -> xr.Dataset:
    """Dataset of organs by name: (dose mGy, sd mGy, mass g)."""
    names = list(rows)
    dose, sd, mass = np.array([rows[n] for n in names]).T
    coords = {"organ_id": np.arange(1, len(names) + 1), "organ_name": ("organ_id", names)}
    values = {
        "organ_dose": dose,
        "organ_dose_sd": sd,
        "organ_mass": mass,
        "organ_cut": np.isin(names, cut),
        "organ_coverage": np.ones(len(names)),
    }
    return xr.Dataset({name: label(name, value, coords) for name, value in values.items()})
