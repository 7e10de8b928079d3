"""Size-specific dose estimate: CTDIvol made to fit the patient's size."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from twinlab.schema import refuse

#: Coefficients a, b of ``f = a exp(-b Dw)``, Dw in cm, by phantom diameter (AAPM Report 204, figure legends).
SSDE = {16: (1.874799, 0.03871313), 32: (3.704369, 0.03671937)}


def ssde_factor(dw_mm: ArrayLike, *, phantom_cm: int) -> NDArray[np.float64]:
    """SSDE over CTDIvol for a water-equivalent diameter.

    Parameters
    ----------
    dw_mm : array_like
        Water-equivalent diameter, mm, as from :func:`twinlab.phantom.water_equivalent_diameter`.
    phantom_cm : 16 or 32
        Phantom that the CTDIvol refers to.

    Returns
    -------
    ndarray of the shape given, 1

    Raises
    ------
    InputError
        Another phantom, or a diameter that is not positive.

    References
    ----------
    AAPM Report 204 (2011), with the water-equivalent diameter of Report 220 (2014).

    Examples
    --------
    >>> round(float(ssde_factor(320, phantom_cm=32)), 3)
    1.144
    """
    if phantom_cm not in SSDE:
        refuse("ssde_factor: phantom_cm", "16 or 32", phantom_cm)
    dw = np.asarray(dw_mm, float)
    if not (dw > 0).all():
        refuse("ssde_factor: dw_mm", "positive diameters", dw_mm)
    a, b = SSDE[phantom_cm]
    return a * np.exp(-b * dw / 10.0)
