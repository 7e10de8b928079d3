"""Size of the patient as the scanner sees it."""

from __future__ import annotations

import numpy as np
import xarray as xr

from twinlab.phantom.build import OUTSIDE, check_phantom, material_names
from twinlab.phantom.hu import ct_scale
from twinlab.schema import label, refuse


def water_equivalent_diameter(phantom: xr.Dataset, *, kv: float = 120.0) -> xr.DataArray:
    """Diameter of the water cylinder that attenuates like each slice.

    ``Dw = 2 sqrt(A_w / pi)``, with ``A_w`` the sum over the body of ``mu/mu_water`` times the area of a
    voxel. [AAPM220]_

    Parameters
    ----------
    phantom : Dataset
        A Phantom. Voxels of organ ``outside`` do not count, as in the report's contour of the patient; solids
        of a test object count whatever their label.
    kv : float
        Tube voltage at which attenuation is compared.

    Returns
    -------
    DataArray, dims (z), units mm

    Raises
    ------
    InputError
        Not a Phantom, or kV outside 60 to 150.

    References
    ----------
    .. [AAPM220] AAPM Report 220, Use of Water Equivalent Diameter for Calculating Patient Size (2014), eq 3.
    """
    _, dy, dx = check_phantom(phantom, where="water_equivalent_diameter")
    relative = 1e-3 / ct_scale(float(kv)).density_per_hu(material_names(phantom))
    area = np.array(
        [
            (relative[material] * density)[organ != OUTSIDE].sum()
            for material, density, organ in zip(
                phantom["material"].values, phantom["density"].values, phantom["organ"].values, strict=True
            )
        ]
    )
    values = 2.0 * np.sqrt(area * dy * dx / np.pi)
    return label("water_equivalent_diameter", values, {"z": phantom["z"].values})


def body_centre(phantom: xr.Dataset) -> tuple[float, float]:
    """Middle of the body's bounding box in x and y, mm: where a technologist centres the patient.

    Parameters
    ----------
    phantom : Dataset
        A Phantom.

    Returns
    -------
    (float, float)
        x and y, mm.

    Raises
    ------
    InputError
        A phantom without a body.
    """
    body: np.ndarray = np.any(phantom["organ"].values > 0, axis=0)
    if not body.any():
        refuse("body_centre", "a body (organ labels above 0), or an isocentre_mm that is given", "none")
    y = phantom["y"].values[np.any(body, axis=1)]
    x = phantom["x"].values[np.any(body, axis=0)]
    return 0.5 * float(x[0] + x[-1]), 0.5 * float(y[0] + y[-1])
