"""How CT numbers become stored pixel values without losing one, and DICOM's short texts and numbers."""

from __future__ import annotations

import uuid
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydicom.valuerep import DSfloat, format_number_as_ds

from twinlab.keys import content_key

EXTENDED_INTERCEPT = -8192.0
"""With steps of 1 HU, 16 bits then hold -8191 to 57343 HU: metal up to steel is inside."""

_LARGEST = 65535
_NAMESPACE = uuid.UUID("6f1d3c2e-4f0a-5a57-9d38-7c52d1f6a9b4")  # of no meaning but to be always the same


class Stored(NamedTuple):
    """Stored values and what turns them back.

    Attributes
    ----------
    pixels : uint16 array
        ``value = slope * pixels + intercept``; 0 is padding, where the image is NaN.
    slope, intercept : float
    padded : bool
        Whether some pixel is padding.
    """

    pixels: NDArray[np.uint16]
    slope: float
    intercept: float
    padded: bool


def store(hu: NDArray[Any], *, step: float = 1.0, intercept: float = EXTENDED_INTERCEPT) -> Stored:
    """CT numbers or concentrations as unsigned 16-bit values; none is clipped.

    The step is 1 HU with the intercept of scanners' extended scales, -8192 HU. Where values do not fit, the
    step doubles until it holds them and the intercept falls to the lowest value.

    Parameters
    ----------
    hu : array
        NaN marks what was not reconstructed.
    step, intercept : float
        In the units of the values.
    """
    finite = np.isfinite(hu)
    low = float(np.min(hu, where=finite, initial=np.inf)) if finite.any() else 0.0
    high = float(np.max(hu, where=finite, initial=-np.inf)) if finite.any() else 0.0
    slope = step
    if low < intercept + slope or high > intercept + _LARGEST * slope:
        while (high - low) / slope > _LARGEST - 2:
            slope *= 2.0
        intercept = (
            float(np.floor(low / step)) * step - slope
        )  # the lowest value stays above 0, which is padding
    pixels = np.zeros(hu.shape, np.uint16)
    for part, seen, out in zip(hu, finite, pixels, strict=True):  # slice by slice, to save memory
        out[...] = np.where(seen, np.rint((np.where(seen, part, 0.0) - intercept) / slope), 0.0)
    return Stored(pixels, slope, intercept, not bool(finite.all()))


def uid(*parts: Any) -> str:
    """UID of content under the root 2.25 (a UUID as one number): same content, same UID, 44 characters at most.

    References
    ----------
    DICOM PS3.5 annex B.2; RFC 4122 version 5.
    """
    return f"2.25.{uuid.uuid5(_NAMESPACE, content_key(*parts, length=64)).int}"


def decimal(value: float) -> DSfloat:
    """Decimal string of at most 16 characters, with as many digits as these hold."""
    number = float(value)
    return DSfloat(format_number_as_ds(number + 0.0))


def decimals(*values: float) -> list[DSfloat]:
    """Several of :func:`decimal`."""
    return [decimal(value) for value in values]


def short(text: str, length: int, *, keep: str = "") -> str:
    """Text for a DICOM string: no backslash (it parts values), no control characters, cut to length.

    ``keep``: of the signs that part names (``^`` and ``=``), those that stay.
    """
    refused = set("\\^=") - set(keep)
    kept = "".join(c if c.isprintable() and c not in refused else " " for c in text)
    return " ".join(kept.split())[:length].strip()
