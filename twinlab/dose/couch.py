"""A patient table under a phantom: a flat slab that attenuates and scatters like a stated thickness of water."""

from __future__ import annotations

import numpy as np
import xarray as xr

from twinlab.phantom import assemble, check_phantom, material_names, organ_names
from twinlab.phantom.build import AIR_DENSITY_G_CM3
from twinlab.schema import refuse

LEAST_DENSITY = 0.01  # g/cm3: below, the slab would be air


def with_table(
    phantom: xr.Dataset,
    *,
    water_equivalent_mm: float,
    thickness_mm: float = 50.0,
    width_mm: float = 420.0,
    gap_mm: float = 0.0,
) -> xr.Dataset:
    """The phantom on a table, for the dose and for the image.

    Voxels of thin water behind the body (towards +y), over all slices, where they hold no organ. The grid
    grows to the back where it is too short. Images of patients often show their table as part of what is
    outside the body: use this where they do not.

    Parameters
    ----------
    phantom : Dataset
        A Phantom lying on its back.
    water_equivalent_mm : float
        Water that attenuates like the table, along y.
    thickness_mm, width_mm : float
        Of the slab, whole voxels; the width is about the middle of the body.
    gap_mm : float
        Between the rearmost voxel of the body and the slab (a mattress counts as air).

    Returns
    -------
    Dataset
        A Phantom with the same organs; attrs ``table_water_equivalent_mm``.

    Raises
    ------
    InputError
        Not a Phantom, no body, a size that is not above 0, or a table denser than water or as thin as air.

    Limits
    ------
    Flat, no concave shell of a dense skin around foam; the same at all energies as water.
    """
    _, dy, _ = check_phantom(phantom, where="with_table")
    sizes = (water_equivalent_mm, thickness_mm, width_mm)
    if not (min(sizes) > 0.0 and gap_mm >= 0.0 and np.isfinite([*sizes, gap_mm]).all()):
        refuse("with_table", "sizes above 0 mm and a gap of 0 mm or more", (*sizes, gap_mm))
    organ = phantom["organ"].to_numpy()
    body = organ > 0
    if not body.any():
        refuse("with_table: phantom", "a body (organ labels above 0)", "none")
    rows = max(1, round(thickness_mm / dy))
    density = water_equivalent_mm / (rows * dy)
    if not LEAST_DENSITY <= density <= 1.0:
        refuse("with_table: thickness_mm", f"a slab of {LEAST_DENSITY:g} to 1 g/cm3", f"{density:.3g} g/cm3")
    first = int(np.flatnonzero(body.any(axis=(0, 2)))[-1]) + 1 + round(gap_mm / dy)
    more = max(0, first + rows - organ.shape[1])
    pad = ((0, 0), (0, more), (0, 0))
    organ = np.pad(organ, pad)
    material = np.pad(phantom["material"].to_numpy(), pad)
    mass = np.pad(phantom["density"].to_numpy(), pad, constant_values=AIR_DENSITY_G_CM3)
    x, y = phantom["x"].to_numpy(), phantom["y"].to_numpy()
    across = np.flatnonzero(body.any(axis=(0, 1)))
    middle = 0.5 * (x[across[0]] + x[across[-1]])
    slab = np.zeros(organ.shape, bool)
    slab[:, first : first + rows, np.abs(x - middle) < 0.5 * width_mm] = True
    slab &= organ == 0
    names = material_names(phantom)
    names += [] if "water" in names else ["water"]
    material[slab], mass[slab] = names.index("water"), density
    return assemble(
        material=material,
        density=mass,
        organ=organ,
        material_names=names,
        organ_names=organ_names(phantom),
        z=phantom["z"].to_numpy(),
        y=np.concatenate([y, y[-1] + dy * np.arange(1, more + 1)]),
        x=x,
        name=str(phantom.attrs.get("name", "")),
        source=str(phantom.attrs.get("source", "")),
        attrs={
            **{k: v for k, v in phantom.attrs.items() if k not in ("name", "source", "key")},
            "table_water_equivalent_mm": float(water_equivalent_mm),
        },
    )
