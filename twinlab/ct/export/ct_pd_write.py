"""Write projections as DICOM-CT-PD-like files (:mod:`twinlab.ct.export.ct_pd_tags` has the geometry)."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import PYDICOM_IMPLEMENTATION_UID, CTImageStorage, ExplicitVRLittleEndian

import twinlab
from twinlab.ct.detector import detected_spectrum
from twinlab.ct.export.ct_pd_tags import CREATORS, SPOT_MODES, TAGS
from twinlab.ct.export.storage import decimal, short, uid
from twinlab.scanner import Protocol, cell_solid_angle
from twinlab.schema import check, refuse

_STEPS = 65535
_REFERENCE_AREA_MM2 = 1e6  # one steradian at 1 m
_MEDIA = "twinlab simulated projections"


def write_ct_pd(projections: xr.Dataset, folder: str | Path, *, protocol: Protocol) -> list[Path]:
    """Write projections as DICOM-CT-PD-like files, one a view.

    Values are stored in 16 bits over the range of the whole scan (``RescaleSlope``: 2e-4 for a range of 12).
    As in the public library, the image of a file is the transposed view: DICOM rows are detector columns.

    Parameters
    ----------
    projections : Dataset
        From :func:`twinlab.ct.acquire`: ``projection``, ``view_angle``, ``source_z``; ``focal_shift`` and
        ``tube_current`` where present.
    folder : path
        Made when missing; must hold nothing.
    protocol : Protocol

    Returns
    -------
    list of Path

    Raises
    ------
    InputError
        Geometry is missing, values are not finite, the folder holds files; or the gantry leans or there are
        two tube voltages, which the format cannot tell.

    References
    ----------
    Chen B et al. (2015) Development and validation of an open data format for CT projection data. Med Phys
    42:6964. Moen TR et al. (2021) Low-dose CT image and projection dataset. Med Phys 48:902, table IV.
    """
    check(projections, "projection", "view_angle", "source_z", where="write_ct_pd")
    if projections.attrs.get("gantry_tilt_deg"):
        refuse(
            "write_ct_pd", "an upright gantry", f"a tilt of {projections.attrs['gantry_tilt_deg']:g} degrees"
        )
    if "tube_kv" in projections or protocol.second_kv is not None:
        refuse("write_ct_pd", "one tube voltage", "two")
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        refuse("write_ct_pd", "a new or empty folder", folder)
    values = projections["projection"].transpose("view", "row", "channel").to_numpy()
    low, high = float(values.min()), float(values.max())
    if not math.isfinite(low) or not math.isfinite(high):
        refuse("write_ct_pd", "finite projections", f"{low:g} to {high:g}")
    slope = float(decimal(max(high - low, 1e-6) / (_STEPS - 1)))
    low = float(decimal(low))
    common = _common(projections, protocol, slope, low)
    told = ("projection", "view_angle", "source_z", "focal_shift", "tube_current")
    made_of = [projections[name] for name in told if name in projections]
    series = uid("projections", made_of, protocol, twinlab.__version__)
    common.StudyInstanceUID, common.SeriesInstanceUID = uid("study of", series), series
    shift = _shifts(projections)
    current = _current(projections, protocol)
    quanta = _quanta_per_mas(protocol) / protocol.scanner.views_per_rotation * protocol.rotation_time_s
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for i, view in enumerate(values):
        one = Dataset(common)
        one.InstanceNumber = i + 1
        one.SOPInstanceUID = uid("view", series, i)
        one.XRayTubeCurrent = round(float(current[i]))
        _put(one, "PhotonStatistics", [float(q) for q in quanta * current[i]])
        phi = -float(projections["view_angle"][i]) % (2.0 * math.pi)
        _put(one, "DetectorFocalCenterAngularPosition", phi)
        _put(one, "DetectorFocalCenterAxialPosition", float(projections["source_z"][i]))
        for name, value in zip(("Angular", "Axial", "Radial"), shift[i], strict=True):
            tag = f"Source{name}{'Distance' if name == 'Radial' else 'Position'}Shift"
            _put(one, tag, float(value))
        stored = np.rint((view[::-1].T - low) / slope).astype(np.uint16)
        one.PixelData = np.ascontiguousarray(stored).tobytes()
        paths.append(_save(one, folder / f"view{i + 1:06d}.dcm"))
    return paths


def _put(d: Dataset, name: str, value: Any) -> None:
    tag, kind = TAGS[name]
    d.add_new(tag, kind, value)


def _common(projections: xr.Dataset, protocol: Protocol, slope: float, low: float) -> Dataset:
    scanner, detector = protocol.scanner, protocol.scanner.detector
    n_row, n_channel = projections.sizes["row"], projections.sizes["channel"]
    d = Dataset()
    d.SOPClassUID, d.Modality = CTImageStorage, "CT"
    d.ImageType = ["DERIVED", "PRIMARY", "OTHER"]
    d.Manufacturer, d.ManufacturerModelName = "twinlab", short(scanner.key, 64)
    d.SoftwareVersions = f"twinlab {twinlab.__version__}"
    d.SeriesDescription, d.PatientName = _MEDIA, "SIMULATED"
    d.PatientID, d.ProtocolName = "SIM", short(protocol.key, 64)
    d.KVP, d.ExposureTime = decimal(protocol.kv), round(1000.0 * protocol.rotation_time_s)
    d.DataCollectionDiameter = decimal(scanner.scan_fov_mm)
    attrs = projections.attrs
    d.DataCollectionCenterPatient = [float(attrs[f"isocentre_{a}_mm"]) for a in "xy"] + [0.0]
    d.SpiralPitchFactor = float(protocol.pitch)
    d.TotalCollimationWidth = float(protocol.collimation_mm)
    d.SamplesPerPixel, d.PhotometricInterpretation = 1, "MONOCHROME2"
    d.Rows, d.Columns = n_channel, n_row
    d.BitsAllocated = d.BitsStored = 16
    d.HighBit, d.PixelRepresentation = 15, 0
    d.RescaleSlope, d.RescaleIntercept, d.RescaleType = decimal(slope), decimal(low), "US"
    for group, creator in CREATORS.items():
        d.add_new((group, 0x0010), "LO", creator)
    flat = "u" in projections.coords
    channel = np.asarray(projections["u" if flat else "fan_angle"], float)
    pitch = (channel[-1] - channel[0]) / (n_channel - 1) * (1.0 if flat else scanner.source_to_detector_mm)
    zero = 1.0 - channel[0] / (channel[-1] - channel[0]) * (n_channel - 1)
    values: dict[str, Any] = {
        "NumberofDetectorRows": n_row,
        "NumberofDetectorColumns": n_channel,
        "DetectorElementTransverseSpacing": float(pitch),
        "DetectorElementAxialSpacing": float(detector.row_pitch_mm),
        "DetectorShape": "FLAT" if flat else "CYLINDRICAL",
        "DetectorFocalCenterRadialDistance": float(attrs["source_to_isocentre_mm"]),
        "ConstantRadialDistance": float(attrs["source_to_detector_mm"]),
        "DetectorCentralElement": [float(zero), (n_row + 1) / 2.0],
        "FlyingFocalSpotMode": SPOT_MODES[protocol.flying_focal_spot],
        "NumberofSourceAngularSteps": int(attrs["views_per_rotation"]),
        "NumberofSpectra": 1,
        "SpectrumIndex": 1,
        "TypeofProjectionData": str(attrs["mode"]).upper(),
        "TypeofProjectionGeometry": "CONEBEAM" if flat else "FANBEAM",
        **{name: "YES" for name in TAGS if name.endswith("CorrectionFlag") or name == "LogFlag"},
        "WaterAttenuationCoefficient": decimal(attrs["mu_water_per_mm"]),
    }
    for name, value in values.items():
        _put(d, name, value)
    return d


def _current(projections: xr.Dataset, protocol: Protocol) -> NDArray[np.float64]:
    if "tube_current" in projections:
        return np.asarray(projections["tube_current"], float)
    mas = float(projections.attrs.get("mas", protocol.mas))
    return np.full(projections.sizes["view"], mas / protocol.rotation_time_s)


def _quanta_per_mas(protocol: Protocol) -> NDArray[np.float64]:
    """Noise-equivalent quanta of each channel of the middle row without an object, per mAs: mean^2 / variance."""
    energy, spectrum = detected_spectrum(protocol)
    detector = protocol.scanner.detector
    cell = cell_solid_angle(protocol, row_mm=[0.0]).to_numpy()[0] * _REFERENCE_AREA_MM2
    effective = spectrum.sum(axis=1) ** 2 / (spectrum @ energy) * detector.electronics.swank_factor
    return np.asarray(effective * cell * detector.fill_factor)


def _shifts(projections: xr.Dataset) -> NDArray[np.float64]:
    """Angle [rad, growing with phi], z [mm] and radius [mm] by which the focal spot is off, (view, 3)."""
    if "focal_shift" not in projections:
        return np.zeros((projections.sizes["view"], 3))
    tangential, radial, z = np.asarray(projections["focal_shift"], float).T
    radius = float(projections.attrs["source_to_isocentre_mm"])
    turn = np.arctan2(tangential, radius + radial)
    return np.stack([-turn, z, np.hypot(tangential, radius + radial) - radius], axis=1)


def _save(d: Dataset, path: Path) -> Path:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = d.SOPClassUID, d.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = PYDICOM_IMPLEMENTATION_UID
    FileDataset(str(path), d, file_meta=meta, preamble=b"\0" * 128).save_as(path, enforce_file_format=True)
    return path
