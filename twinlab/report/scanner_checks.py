"""Figures and tables of an acceptance test: inserts, resolution, slice profile."""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr

from twinlab.phantom.recipes import Recipe
from twinlab.quality.scanner_checks import region_mean, spectral_hu
from twinlab.report.style import COLOURS, Plot, axes
from twinlab.scanner import Protocol


def insert_table(hu: xr.DataArray, recipe: Recipe, protocol: Protocol) -> pd.DataFrame:
    """Inserts of a recipe: CT number shown, and the one that their attenuation gives.

    Parameters
    ----------
    hu : DataArray, dims (z, y, x), units HU
        Slices through the inserts.
    recipe : Recipe
        Its cylinders whose names begin with ``insert`` are read within two thirds of their radius.
    protocol : Protocol
    """
    rows = []
    for shape in recipe.shapes:
        if shape.name.startswith("insert"):
            c, radius = shape.centre_mm, getattr(shape, "diameter_mm", 0.0) / 3
            found = region_mean(hu, x_mm=c.x, y_mm=c.y, radius_mm=radius)
            known = spectral_hu(recipe, shape.name, protocol)
            name = shape.name.removeprefix("insert_").replace("_", " ")
            rows.append(
                {"insert": name, "image [HU]": found, "theory [HU]": known, "difference [HU]": found - known}
            )
    return pd.DataFrame(rows)


def resolution(mtf: xr.DataArray, model: xr.DataArray, profile: xr.DataArray, *, slice_mm: float) -> Plot:
    """Modulation transfer beside its model, and the profile of a thin disc beside the slice asked for.

    Parameters
    ----------
    mtf, model : DataArray, dims (frequency)
    profile : DataArray, dims (z), units HU
        Above its surroundings.
    slice_mm : float
        Width of the box that the slice should be.
    """
    plot, ax = axes(1, 2, width_in=9.0, height_in=3.4)
    left, right = ax[0]
    left.plot(model["frequency"], model, color=COLOURS[1], label="kernel and channel")
    left.plot(mtf["frequency"], mtf, "o", color=COLOURS[0], markersize=3.5, label="rod")
    left.set_xlabel("Spatial frequency [1/mm]")
    left.set_ylabel("Modulation transfer")
    left.set_ylim(0, 1.05)
    left.legend()
    relative = profile / float(profile.max())
    middle = float((profile["z"] * relative).sum() / relative.sum())
    right.plot(profile["z"] - middle, relative, color=COLOURS[0], label="disc")
    edge = np.array([-slice_mm, -slice_mm / 2, -slice_mm / 2, slice_mm / 2, slice_mm / 2, slice_mm])
    right.plot(edge, [0, 0, 1, 1, 0, 0], color=COLOURS[1], label="slice asked for")
    right.set_xlabel("z from the disc [mm]")
    right.set_ylabel("Slice sensitivity")
    right.legend()
    largest = float(np.abs(mtf - model).max())
    return plot.say(
        f"Modulation transfer of a rod, within {largest:.3f} of its model, and slice profile of a disc."
    )
