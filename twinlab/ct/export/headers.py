"""Headers of a CT image, module by module as the standard has them (DICOM PS3.3, A.3)."""

from __future__ import annotations

import datetime as dt
import math

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

import twinlab
from twinlab.ct.export.storage import Stored, decimal, decimals, short
from twinlab.scanner import Protocol

SIMULATED = "Simulated image: no patient was exposed"
_PHANTOM_CODES = {16: ("113690", "IEC Head Dosimetry Phantom"), 32: ("113691", "IEC Body Dosimetry Phantom")}
_BODY_PARTS = {
    "head": "HEAD",
    "chest": "CHEST",
    "abdomen_pelvis": "ABDOMENPELVIS",
    "abdomen": "ABDOMEN",
    "liver": "LIVER",
    "cardiac": "HEART",
}


def tilt_deg(image: xr.DataArray) -> float:
    """Tilt of the gantry that an image says it has, degrees."""
    return float(image.attrs.get("gantry_tilt_deg", 0.0))


def orientation(degrees: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Unit vectors (x, y, z) along a row and along a column of a slice.

    With a tilt above 0 the upper side of the gantry leans towards the feet: going to posterior within the
    plane leads towards the head.
    """
    tilt = math.radians(degrees)
    return np.array([1.0, 0.0, 0.0]), np.array([0.0, math.cos(tilt), math.sin(tilt)])


def put_patient(d: Dataset, identity: dict[str, str], study: str, when: dt.datetime | None) -> None:
    """Patient and study."""
    d.SpecificCharacterSet = "ISO_IR 192"
    d.PatientName, d.PatientID = identity["name"], identity["id"]
    d.PatientBirthDate = d.PatientSex = ""
    d.PatientComments = SIMULATED
    d.StudyInstanceUID, d.StudyID, d.AccessionNumber = study, short(identity["id"], 16), ""
    d.StudyDescription, d.ReferringPhysicianName = identity["what"], ""
    d.StudyDate, d.StudyTime = _date(when), _time(when)


def _date(when: dt.datetime | None) -> str:
    return "" if when is None else when.strftime("%Y%m%d")


def _time(when: dt.datetime | None) -> str:
    return "" if when is None else when.strftime("%H%M%S")


def put_series(
    d: Dataset,
    protocol: Protocol,
    series: str,
    number: int,
    description: str | None,
    body_part: str | None,
    when: dt.datetime | None,
) -> None:
    """Series; dates only where one is given."""
    d.Modality, d.SeriesInstanceUID, d.SeriesNumber = "CT", series, number
    d.SeriesDescription = short(description or f"{protocol.title} (simulated)", 64)
    d.ProtocolName, d.PatientPosition = short(protocol.key, 64), "HFS"
    d.BodyPartExamined = _body_part(protocol) if body_part is None else body_part
    if when is not None:
        d.SeriesDate = d.AcquisitionDate = d.ContentDate = _date(when)
        d.SeriesTime = d.AcquisitionTime = d.ContentTime = _time(when)


def _body_part(protocol: Protocol) -> str:
    found = (part for word, part in _BODY_PARTS.items() if word in protocol.key)
    return next(found, "WHOLEBODY")


def put_equipment(d: Dataset, protocol: Protocol) -> None:
    """Equipment: the program, with the scanner it simulates as model."""
    d.Manufacturer = "twinlab"
    d.ManufacturerModelName = short(protocol.scanner.key, 64)
    d.DeviceSerialNumber = "simulated"
    d.SoftwareVersions = f"twinlab {twinlab.__version__}"
    d.InstitutionName = ""


def put_acquisition(
    d: Dataset,
    image: xr.DataArray,
    steps: tuple[float, float, float],
    protocol: Protocol,
    ctdi_vol_mgy: float | None,
) -> None:
    """How the scan was driven and what the image is (CT Image module)."""
    scanner, helical = protocol.scanner, protocol.mode == "helical"
    d.ImageType = ["DERIVED", "PRIMARY", "AXIAL"]
    d.DerivationDescription = f"{SIMULATED}; made by twinlab {twinlab.__version__}"
    d.ImageComments = SIMULATED
    d.AcquisitionNumber = 1
    d.ScanOptions = "HELIX" if helical else "AXIAL"
    d.KVP = decimal(protocol.kv) if protocol.second_kv is None else ""  # empty where there is no one value
    d.DataCollectionDiameter = decimal(scanner.scan_fov_mm)
    d.ReconstructionDiameter = decimal(steps[2] * image.sizes["x"])
    d.DistanceSourceToDetector = decimal(scanner.source_to_detector_mm)
    d.DistanceSourceToPatient = decimal(scanner.source_to_isocentre_mm)
    d.GantryDetectorTilt = decimal(tilt_deg(image))
    d.RotationDirection = "CW"  # seen from the table, as view angles grow towards the patient's left
    d.ExposureTime = round(exposure_time_s(protocol) * 1000.0)
    d.FilterType = short(protocol.bowtie, 16)
    if max(scanner.tube.focal_spot_mm) > 0:
        d.FocalSpots = decimals(*sorted(scanner.tube.focal_spot_mm))
    d.ConvolutionKernel = short(str(image.attrs.get("kernel", protocol.kernel)), 16)
    d.RevolutionTime = float(protocol.rotation_time_s)
    d.SingleCollimationWidth = float(scanner.row_pitch_isocentre_mm)
    d.TotalCollimationWidth = float(protocol.collimation_mm)
    if helical:
        d.TableSpeed = protocol.feed_mm / protocol.rotation_time_s
        d.TableFeedPerRotation = float(protocol.feed_mm)
        d.SpiralPitchFactor = float(protocol.pitch)
    ctdi_vol = _ctdi_vol(protocol) if ctdi_vol_mgy is None else float(ctdi_vol_mgy)
    if ctdi_vol is not None:
        d.CTDIvol = ctdi_vol
        value, meaning = _PHANTOM_CODES[protocol.ctdi_phantom_cm]
        d.CTDIPhantomTypeCodeSequence = [put_code(Code(value, "DCM", meaning))]


def put_code(code: Code) -> Dataset:
    """Item of a code sequence."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = (
        code.value,
        code.scheme_designator,
        code.meaning,
    )
    return item


def exposure_time_s(protocol: Protocol) -> float:
    """Rotation time over pitch, as the standard has it for spiral scans; so ``Exposure`` is the effective mAs."""
    return protocol.rotation_time_s / protocol.pitch


def _ctdi_vol(protocol: Protocol) -> float | None:
    published = protocol.scanner.ctdi_w_mgy_per_100mas.get(str(protocol.ctdi_phantom_cm), {})
    per_100mas = published.get(float(protocol.kv))
    return None if per_100mas is None else per_100mas * protocol.effective_mas / 100.0


def put_pixels(
    d: Dataset,
    image: xr.DataArray,
    steps: tuple[float, float, float],
    stored: Stored,
    window_hu: tuple[float, float],
) -> None:
    """Pixels, their scale and their plane, but for the position."""
    d.SamplesPerPixel, d.PhotometricInterpretation = 1, "MONOCHROME2"
    d.Rows, d.Columns = image.sizes["y"], image.sizes["x"]
    d.PixelSpacing = decimals(steps[1], steps[2])
    d.SliceThickness = decimal(float(image.attrs.get("slice_thickness_mm", steps[0])))
    if image.sizes["z"] > 1:
        d.SpacingBetweenSlices = decimal(steps[0] * math.cos(math.radians(tilt_deg(image))))
    d.BitsAllocated = d.BitsStored = 16
    d.HighBit, d.PixelRepresentation = 15, 0
    if stored.padded:
        d.add_new("PixelPaddingValue", "US", 0)
    d.RescaleIntercept, d.RescaleSlope = decimal(stored.intercept), decimal(stored.slope)
    d.RescaleType = "HU"
    d.WindowCenter, d.WindowWidth = decimal(window_hu[0]), decimal(window_hu[1])
    d.BurnedInAnnotation = "NO"
    d.QualityControlImage = "NO"
    d.ContentQualification = "RESEARCH"
    d.LossyImageCompression = "00"
    d.ImageOrientationPatient = decimals(*np.concatenate(orientation(tilt_deg(image))))
