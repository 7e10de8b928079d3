"""A localiser as a DICOM image (CT Image Storage, LOCALIZER), so that viewers can draw slices on it."""

from __future__ import annotations

import datetime as dt
import math
from pathlib import Path

import numpy as np
import xarray as xr
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage

import twinlab
from twinlab.ct.export.headers import SIMULATED, put_equipment, put_patient, put_series
from twinlab.ct.export.series import identity_of, save
from twinlab.ct.export.storage import decimal, decimals, uid
from twinlab.scanner import Protocol
from twinlab.schema import check, refuse, spacing

_STEP = 1e-3  # of the line integral, the unit of stored values; 0 to 65 is far beyond any patient


def write_localiser(
    localiser: xr.Dataset,
    path: str | Path,
    *,
    protocol: Protocol,
    phantom: xr.Dataset | None = None,
    isocentre_mm: tuple[float, float] = (0.0, 0.0),
    when: dt.datetime | None = None,
) -> Path:
    """Write a localiser: thousandths of line integrals, the head up, the patient's left on the right.

    Columns are resampled linearly to an even pitch at the isocentre, where the image lies. Study and frame of
    reference are those of series of the same phantom.

    Parameters
    ----------
    localiser : Dataset
        From :func:`twinlab.ct.scout`.
    path : path
        File to write.
    protocol : Protocol
    phantom : Dataset, optional
    isocentre_mm : (x, y)
    when : datetime, optional

    Raises
    ------
    InputError
        No localiser, or uneven lines.

    References
    ----------
    DICOM PS3.3, C.8.2.1.1.1 (LOCALIZER).
    """
    check(localiser, "scout", where="write_localiser")
    values = localiser["scout"].to_numpy()
    if not np.isfinite(values).all() or values.max() > 65.0:
        refuse("write_localiser", "finite line integrals up to 65", f"{values.min():g} to {values.max():g}")
    step = spacing(localiser["z"], where="write_localiser")
    lateral = localiser["lateral"].to_numpy()
    even = np.linspace(lateral[0], lateral[-1], lateral.size)
    lines = np.stack([np.interp(even, lateral, line) for line in values[::-1]])
    pixels = np.rint(np.maximum(lines, 0.0) / _STEP).astype(np.uint16)
    turn = math.radians(float(localiser.attrs["view_angle_deg"]))
    across = np.array([math.cos(turn), math.sin(turn), 0.0])
    top = np.array([*isocentre_mm, float(localiser["z"][-1])])
    identity = identity_of(phantom, None, None)
    series = uid("localiser", localiser["scout"], localiser.attrs, protocol, identity, str(when))
    d = Dataset()
    put_patient(d, identity, uid("study", identity, str(when)), when)
    put_series(d, protocol, series, 0, "Localiser (simulated)", None, when)
    put_equipment(d, protocol)
    d.SOPClassUID, d.SOPInstanceUID = CTImageStorage, uid("localiser image", series)
    d.FrameOfReferenceUID, d.PositionReferenceIndicator = uid("frame", identity), ""
    d.ImageType = ["DERIVED", "PRIMARY", "LOCALIZER"]
    d.DerivationDescription = f"{SIMULATED}; made by twinlab {twinlab.__version__}"
    d.ImageComments, d.AcquisitionNumber, d.InstanceNumber = SIMULATED, 1, 1
    d.KVP = decimal(float(localiser.attrs["kv"]))
    d.ExposureInuAs = round(1000.0 * float(localiser.attrs["mas"]))
    d.ImageOrientationPatient = decimals(*across, 0.0, 0.0, -1.0)
    d.ImagePositionPatient = decimals(*(top + even[0] * across))
    d.PixelSpacing = decimals(step, even[1] - even[0])
    d.SliceThickness = decimal(protocol.reconstruction_fov_mm)
    d.SamplesPerPixel, d.PhotometricInterpretation = 1, "MONOCHROME2"
    d.Rows, d.Columns = pixels.shape
    d.BitsAllocated = d.BitsStored = 16
    d.HighBit, d.PixelRepresentation = 15, 0
    d.RescaleIntercept, d.RescaleSlope, d.RescaleType = "0", "1", "US"
    top_value = max(float(pixels.max()), 1.0)
    d.WindowCenter, d.WindowWidth = decimal(top_value / 2), decimal(top_value)
    d.BurnedInAnnotation, d.LossyImageCompression = "NO", "00"
    d.PixelData = pixels.tobytes()
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    return save(d, path)
