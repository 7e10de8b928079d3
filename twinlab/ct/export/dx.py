"""A radiograph as a DICOM image (Digital X-Ray Image Storage, for processing)."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import DigitalXRayImageStorageForProcessing

import twinlab
from twinlab.ct.export.headers import SIMULATED, put_equipment, put_patient
from twinlab.ct.export.series import identity_of, save
from twinlab.ct.export.storage import decimal, decimals, short, uid
from twinlab.ct.stand import Radiography
from twinlab.schema import check, refuse

_LARGEST = 65535


def write_radiograph(
    radiograph: xr.Dataset,
    path: str | Path,
    *,
    setup: Radiography,
    phantom: xr.Dataset | None = None,
    when: dt.datetime | None = None,
) -> Path:
    """Write the readings of one radiograph, linear in the absorbed energy, as a DX image for processing.

    Columns run along the panel's ``right``, rows against its ``up``, so that up is up. 65535 stands for the
    largest reading; ``Sensitivity`` is the energy of one step [keV]. UIDs are made of the content.

    Parameters
    ----------
    radiograph : Dataset
        From :func:`twinlab.ct.radiography.radiograph`.
    path : path
        File to write.
    setup : Radiography
        What it was taken with.
    phantom : Dataset, optional
        Its name and key identify the patient.
    when : datetime, optional

    Raises
    ------
    InputError
        No readings, readings of several views or another panel, or none above 0.

    References
    ----------
    DICOM PS3.3, A.26 Digital X-Ray Image IOD, C.8.11 DX modules.
    """
    check(radiograph, "reading", where="write_radiograph")
    shape = (1, setup.detector.n_rows, setup.detector.n_channels)
    reading = radiograph["reading"].to_numpy()
    if reading.shape != shape:
        refuse("write_radiograph", f"readings {shape} (view, row, channel)", reading.shape)
    largest = float(reading.max())
    if not np.isfinite(reading).all() or largest <= 0:
        refuse("write_radiograph", "finite readings, some above 0", f"{reading.min():g} to {largest:g}")
    step = largest / _LARGEST
    pixels = np.clip(np.rint(reading[0, ::-1] / step), 0, _LARGEST).astype(np.uint16)
    identity = identity_of(phantom, None, None)
    d = Dataset()
    put_patient(d, identity, uid("study", identity, str(when)), when)
    put_equipment(d, setup.protocol())
    d.ManufacturerModelName = short(setup.key, 64)
    content = (radiograph["reading"], setup, identity, str(when), twinlab.__version__)
    d.SeriesInstanceUID, d.SOPInstanceUID = uid("DX series", *content), uid("DX", *content)
    d.SOPClassUID = DigitalXRayImageStorageForProcessing
    _put_image(d, setup, step, when)
    d.Rows, d.Columns = pixels.shape
    d.PixelData = pixels.tobytes()
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    return save(d, path)


def _put_image(d: Dataset, setup: Radiography, step_kev: float, when: dt.datetime | None) -> None:
    right, up, _ = setup.axes
    d.Modality, d.PresentationIntentType = "DX", "FOR PROCESSING"
    d.SeriesNumber = d.InstanceNumber = d.AcquisitionNumber = 1
    if when is not None:
        d.SeriesDate = d.ContentDate = d.AcquisitionDate = when.strftime("%Y%m%d")
        d.SeriesTime = d.ContentTime = d.AcquisitionTime = when.strftime("%H%M%S")
    d.SeriesDescription, d.BodyPartExamined = "Simulated radiograph", "WHOLEBODY"
    d.ImageType = ["DERIVED", "PRIMARY", ""]
    d.DerivationDescription = f"{SIMULATED}; made by twinlab {twinlab.__version__}"
    d.ImageComments, d.BurnedInAnnotation = SIMULATED, "NO"
    d.ImageLaterality = "U"
    d.AnatomicRegionSequence = [_code("38266002", "SCT", "Entire body")]
    d.PatientOrientation = [letters(right), letters(-up)]
    d.SamplesPerPixel, d.PhotometricInterpretation = 1, "MONOCHROME2"
    d.BitsAllocated = d.BitsStored = 16
    d.HighBit, d.PixelRepresentation = 15, 0
    d.PixelIntensityRelationship, d.PixelIntensityRelationshipSign = "LIN", 1
    d.RescaleIntercept, d.RescaleSlope, d.RescaleType = "0", "1", "US"
    d.PresentationLUTShape, d.LossyImageCompression = "IDENTITY", "00"
    pitch = decimals(setup.detector.row_pitch_mm, setup.detector.channel_pitch_mm)
    d.ImagerPixelSpacing = d.DetectorElementSpacing = pitch
    d.DetectorType = "SCINTILLATOR"
    d.Sensitivity = decimal(step_kev)
    d.KVP, d.Exposure = decimal(setup.kv), round(setup.mas)
    d.ExposureInuAs = round(1000.0 * setup.mas)
    d.DistanceSourceToDetector = decimal(setup.distance_mm)
    d.AcquisitionContextSequence = []


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, scheme, meaning
    return code


def letters(direction: NDArray[np.float64]) -> str:
    """Direction as letters of the patient's sides, the strongest first: L or R, P or A, H or F.

    Examples
    --------
    >>> letters(np.array([0.0, 0.0, -1.0])), letters(np.array([0.9, 0.4, 0.0]))
    ('F', 'LP')
    """
    names = ("RL", "AP", "FH")
    order = np.argsort(-np.abs(direction), kind="stable")
    return "".join(names[i][int(direction[i] > 0)] for i in order if abs(direction[i]) > 0.1)
