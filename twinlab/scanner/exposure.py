"""Exposure control: the tube current that a patient of given size gets."""

from __future__ import annotations

import math

from twinlab.scanner.models import Protocol
from twinlab.schema import refuse

WATER_PER_MM = 0.0193
"""Linear attenuation of water at the effective energy (about 70 keV) behind a patient at 120 kV, 1/mm."""


def effective_mas_for(protocol: Protocol, *, dw_mm: float) -> float:
    """Effective mAs (``mas / pitch``) for a patient of a water-equivalent diameter.

    A protocol with a fixed tube current gives its own. One with ``quality_reference_mas`` gives::

        reference * exp(strength * mu_water * (dw - dw_reference))

    Strength 1 keeps the noise of the reference patient, 0 the mAs; 0.5, the square root of the attenuation,
    is the least noise for a given total [1]_ and close to what automatic systems do in practice [2]_.

    Parameters
    ----------
    protocol : Protocol
    dw_mm : float
        Water-equivalent diameter of the patient (AAPM report 220), mean over the range, mm.

    Raises
    ------
    InputError
        ``dw_mm`` is not a diameter of 50 to 700 mm.

    References
    ----------
    .. [1] Gies M et al. (1999) Dose reduction in CT by anatomically adapted tube current modulation I.
       Med Phys 26:2235.
    .. [2] McCollough CH, Bruesewitz MR, Kofler JM (2006) CT dose reduction and dose management tools.
       RadioGraphics 26:503.
    """
    if not 50.0 <= dw_mm <= 700.0:
        refuse("effective_mas_for: dw_mm", "50 to 700 mm", f"{dw_mm:g}")
    if protocol.quality_reference_mas is None:
        return protocol.effective_mas
    assert protocol.quality_reference_dw_mm is not None  # the model requires it with the reference
    excess = dw_mm - protocol.quality_reference_dw_mm
    return protocol.quality_reference_mas * math.exp(protocol.exposure_strength * WATER_PER_MM * excess)


def for_patient(protocol: Protocol, *, dw_mm: float) -> Protocol:
    """The protocol with the tube current that a patient gets (unchanged when the current is fixed).

    Raises
    ------
    InputError
        The patient needs more than the tube gives, or ``dw_mm`` is no diameter.
    """
    if protocol.quality_reference_mas is None:
        return protocol
    mas = effective_mas_for(protocol, dw_mm=dw_mm) * protocol.pitch
    return protocol.replace(tube_current_ma=mas / protocol.rotation_time_s)
