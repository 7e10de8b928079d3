"""Images of a photon-counting scan as DICOM: energy bins, iodine, virtual monoenergetic and non-contrast.

They are CT images with the Multi-energy CT Image module (DICOM supplement 188), one series for each image.
"""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pydicom
import xarray as xr
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from twinlab.ct.export.headers import exposure_time_s, put_code, tilt_deg
from twinlab.ct.export.series import write_series
from twinlab.ct.export.storage import EXTENDED_INTERCEPT, Stored, decimal, decimals, short
from twinlab.physics.attenuation import mass_attenuation
from twinlab.scanner import Protocol
from twinlab.schema import check, label, refuse

IODINE_STEP = 0.01
"""mg/ml; with the intercept of -100 mg/ml, 16 bits hold up to 555 mg/ml."""

_IODINE = Code("44588005", "SCT", "Iodine")
_MG_ML = Code("mg/mL", "UCUM", "mg/mL")
_HU = Code("[hnsf'U]", "UCUM", "Hounsfield unit")
_ENERGIES_KEV = (40.0, 70.0, 100.0, 140.0)
_METHODS = {"projection": "PROJECTION_BASED", "image": "IMAGE_BASED"}
_COUNTING = "photon-counting detector, all bins in every view"


class _Kind(NamedTuple):
    """What an image shows: fourth value of its type, words for the series, values' unit."""

    term: str
    words: str
    rescale_type: str = "HU"


def write_spectral(
    image: xr.DataArray,
    folder: str | Path,
    *,
    protocol: Protocol,
    when: dt.datetime,
    energy_bin: int | None = None,
    phantom: xr.Dataset | None = None,
    projections: xr.Dataset | None = None,
    ctdi_vol_mgy: float | None = None,
    patient_name: str | None = None,
    patient_id: str | None = None,
    series_number: int = 1,
    series_description: str | None = None,
    body_part: str | None = None,
    window: tuple[float, float] | None = None,
) -> list[Path]:
    """Write an image of a photon-counting scan as a CT series that says which image it is.

    Parameters
    ----------
    image : DataArray, dims (z, y, x)
        ``hu`` of one bin (with ``energy_bin``); ``hu`` with attr ``kev``, as of
        :func:`twinlab.ct.spectral.virtual_monoenergetic` or a reconstruction of
        :func:`twinlab.ct.spectral.monoenergetic_projections`; ``hu`` with attr ``removed_material`` (virtual
        non-contrast); or ``iodine`` [mg/ml], stored in steps of 0.01 mg/ml.
    folder, protocol, phantom, projections, ctdi_vol_mgy, patient_name, patient_id, series_number, body_part
        See :func:`twinlab.ct.export.write_dicom`. ``protocol`` has the photon-counting detector.
    when : datetime
        Of the acquisition: the standard wants the time in which each spectrum was on.
    energy_bin : int, optional
        Number of the bin, from 0; its thresholds go into the series description.
    series_description : str, optional
        Default: the bin's energies, keV, or material.
    window : (centre, width), optional
        Default: 40, 400 HU; 5, 10 mg/ml.

    Returns
    -------
    list of Path
        In the order of z.

    Raises
    ------
    InputError
        See :func:`twinlab.ct.export.write_dicom`; the detector integrates energy, or it is not told what the image
        shows.

    References
    ----------
    DICOM PS3.3, C.8.2.1.1.1 (Image Type), C.8.2.2 Multi-energy CT Image, C.11.1.1.2 (Rescale Type);
    PS3.17 annex JJJJ; supplement 188 (2018).
    """
    where = "write_spectral"
    if not isinstance(protocol, Protocol) or protocol.scanner.detector.counting is None:
        refuse(
            f"{where}: protocol", "the Protocol of a photon-counting scan", getattr(protocol, "key", protocol)
        )
    if not isinstance(when, dt.datetime):
        refuse(f"{where}: when", "date and time of the acquisition", repr(when))
    kind = _kind_of(image, protocol, energy_bin)
    iodine = kind.rescale_type == "MGML"

    def finish(header: Dataset, stored: Stored) -> None:
        header.ImageType = ["DERIVED", "PRIMARY", "AXIAL", kind.term]
        header.RescaleType = kind.rescale_type
        header.KVP = ""  # that of the source stands in its own sequence
        header.RealWorldValueMappingSequence = [_mapping(stored, iodine=iodine)]
        _put_multi_energy(header, image, protocol, when)
        if kind.term == "VMI":
            characteristics = Dataset()
            characteristics.MonoenergeticEnergyEquivalent = float(image.attrs["kev"])
            header.MultienergyCTCharacteristicsSequence = [characteristics]
        if image.attrs.get("decomposition") in _METHODS:
            header.MultienergyCTProcessingSequence = [_decomposition(image)]

    return write_series(
        image, folder, protocol=protocol, phantom=phantom, projections=projections, ctdi_vol_mgy=ctdi_vol_mgy,
        patient_name=patient_name, patient_id=patient_id, series_number=series_number,
        series_description=series_description or short(f"{kind.words}, {protocol.title} (simulated)", 64),
        body_part=body_part, when=when, window=window or ((5.0, 10.0) if iodine else (40.0, 400.0)),
        scale=(IODINE_STEP, -100.0) if iodine else (1.0, EXTENDED_INTERCEPT), kind=kind.words, finish=finish,
    )  # fmt: skip


def _kind_of(image: xr.DataArray, protocol: Protocol, energy_bin: int | None) -> _Kind:
    if image.attrs.get("units") == "mg ml-1":
        check(image, "iodine", where="write_spectral")
        kind = _Kind("MAT_SPECIFIC", "Iodine mg/ml", "MGML")
    else:
        check(image, "hu", where="write_spectral")
        if "removed_material" in image.attrs:
            kind = _Kind("MAT_REMOVED", "Virtual non-contrast")
        elif "kev" in image.attrs:
            kind = _Kind("VMI", f"VMI {float(image.attrs['kev']):g} keV")
        else:
            edges = _edges(protocol)
            if energy_bin is None or not 0 <= energy_bin < len(edges):
                expected = f"a bin from 0 to {len(edges) - 1}, or an image that says what it shows"
                refuse("write_spectral: energy_bin", expected, energy_bin)
            low, high = edges[energy_bin]
            return _Kind("ENERGY_BIN", f"Bin {energy_bin + 1}: {low:g} to {high:g} keV")
    if energy_bin is not None:
        refuse("write_spectral: energy_bin", f"none with {kind.words}", energy_bin)
    return kind


def _edges(protocol: Protocol) -> list[tuple[float, float]]:
    """Lower and upper energy of each bin; the last one ends at the tube voltage."""
    assert protocol.scanner.detector.counting is not None
    lower = [float(t) for t in protocol.scanner.detector.counting.thresholds_kev]
    return list(zip(lower, [*lower[1:], float(protocol.kv)], strict=True))


def _put_multi_energy(d: Dataset, image: xr.DataArray, protocol: Protocol, when: dt.datetime) -> None:
    """Multi-energy CT Image module: one source, a detector for each bin, a path for each pair of both."""
    scanner, source = protocol.scanner, Dataset()
    seconds = exposure_time_s(protocol)
    source.XRaySourceIndex, source.XRaySourceID = 1, "1"
    source.MultienergySourceTechnique = "CONSTANT_SOURCE"
    source.SourceStartDateTime = when.strftime("%Y%m%d%H%M%S.%f")
    source.SourceEndDateTime = (when + dt.timedelta(seconds=seconds)).strftime("%Y%m%d%H%M%S.%f")
    detectors, paths = [], []
    for index, (low, high) in enumerate(_edges(protocol), start=1):
        cell, path = Dataset(), Dataset()
        cell.XRayDetectorIndex, cell.XRayDetectorID = index, "1"
        cell.MultienergyDetectorType = "PHOTON_COUNTING"
        cell.XRayDetectorLabel = f"Bin {index}"
        cell.NominalMaxEnergy, cell.NominalMinEnergy = decimal(high), decimal(low)
        path.MultienergyCTPathIndex = index
        path.ReferencedXRaySourceIndex, path.ReferencedXRayDetectorIndex = 1, index
        detectors.append(cell)
        paths.append(path)
    every = [int(path.MultienergyCTPathIndex) for path in paths]
    one = Dataset()
    one.MultienergyAcquisitionDescription = _COUNTING
    one.MultienergyCTXRaySourceSequence = [source]
    one.MultienergyCTXRayDetectorSequence = detectors
    one.MultienergyCTPathSequence = paths
    one.CTExposureSequence = [_exposure(d, protocol, seconds)]
    one.CTXRayDetailsSequence = [_beam(protocol)]
    one.CTAcquisitionDetailsSequence = [_acquisition(image, protocol, every)]
    geometry = Dataset()
    geometry.ReferencedPathIndex = every
    geometry.DistanceSourceToDetector = decimal(scanner.source_to_detector_mm)
    geometry.DistanceSourceToDataCollectionCenter = float(scanner.source_to_isocentre_mm)
    one.CTGeometrySequence = [geometry]
    d.MultienergyCTAcquisition = "YES"
    d.MultienergyCTAcquisitionSequence = [one]


def _exposure(d: Dataset, protocol: Protocol, seconds: float) -> Dataset:
    """CT Exposure macro: the mean over the scan."""
    current = protocol.mas / protocol.rotation_time_s
    one = Dataset()
    one.ReferencedXRaySourceIndex = 1
    one.ExposureTimeInms = 1000.0 * seconds
    one.XRayTubeCurrentInmA, one.ExposureInmAs = current, current * seconds
    one.ExposureModulationType = "NONE"
    for name in ("CTDIvol", "CTDIPhantomTypeCodeSequence"):
        if name in d:
            setattr(one, name, getattr(d, name))
    return one


def _beam(protocol: Protocol) -> Dataset:
    """CT X-Ray Details macro of the only source."""
    tube, one = protocol.scanner.tube, Dataset()
    one.KVP = decimal(protocol.kv)
    one.FocalSpots = decimals(*sorted(tube.focal_spot_mm))
    one.FilterType = "MULTIPLE" if len(tube.filters) > 1 else "FLAT"
    one.FilterMaterial = [short(name.upper(), 16) for name in tube.filters] or ["NONE"]
    return one


def _acquisition(image: xr.DataArray, protocol: Protocol, every: list[int]) -> Dataset:
    one = Dataset()
    one.ReferencedPathIndex = every
    one.RotationDirection = "CW"
    one.RevolutionTime = float(protocol.rotation_time_s)
    one.SingleCollimationWidth = float(protocol.scanner.row_pitch_isocentre_mm)
    one.TotalCollimationWidth = float(protocol.collimation_mm)
    one.GantryDetectorTilt = decimal(tilt_deg(image))
    one.DataCollectionDiameter = decimal(protocol.scanner.scan_fov_mm)
    one.TableHeight = decimal(0.0)
    return one


def _mapping(stored: Stored, *, iodine: bool) -> Dataset:
    """Real-world values: stored values to HU, or to mg/ml of iodine."""
    one = Dataset()
    one.LUTExplanation = "Iodine concentration" if iodine else "CT number"
    one.LUTLabel = "IODINE" if iodine else "HU"
    one.add_new("RealWorldValueFirstValueMapped", "US", 1 if stored.padded else 0)
    one.add_new("RealWorldValueLastValueMapped", "US", 65535)
    one.RealWorldValueIntercept, one.RealWorldValueSlope = stored.intercept, stored.slope
    one.MeasurementUnitsCodeSequence = [put_code(_MG_ML if iodine else _HU)]
    return one


def _decomposition(image: xr.DataArray) -> Dataset:
    """Multi-energy CT Processing macro: iodine, with its attenuation at some energies [cm2/g]."""
    one, material, points = Dataset(), Dataset(), []
    for energy, mu in zip(_ENERGIES_KEV, mass_attenuation("iodine", np.array(_ENERGIES_KEV))[0], strict=True):
        point = Dataset()
        point.PhotonEnergy, point.XRayMassAttenuationCoefficient = decimal(energy), decimal(mu)
        points.append(point)
    material.MaterialCodeSequence = [put_code(_IODINE)]
    material.MaterialAttenuationSequence = points
    one.DecompositionMethod = _METHODS[image.attrs["decomposition"]]
    one.DecompositionMaterialSequence = [material]
    return one


def read_iodine(folder: str | Path) -> xr.DataArray:
    """Iodine from a series of :func:`write_spectral`, on its upright grid.

    Our importer of CT numbers, :func:`twinlab.phantom.read_series`, refuses such a series.

    Parameters
    ----------
    folder : path
        With the files of one series.

    Returns
    -------
    DataArray ``iodine``, dims (z, y, x), mg/ml
        NaN where nothing was reconstructed.

    Raises
    ------
    InputError
        No files, other images among them, or a tilted gantry.
    """
    where = f"read_iodine({folder})"
    headers = [pydicom.dcmread(path) for path in sorted(Path(folder).glob("*.dcm"))]
    if not headers:
        refuse(where, "DICOM files", "none")
    for d in headers:
        if d.get("RescaleType") != "MGML" or d.SeriesInstanceUID != headers[0].SeriesInstanceUID:
            refuse(where, "one series in mg/ml", f"RescaleType {d.get('RescaleType')}")
        if np.abs(np.array(d.ImageOrientationPatient, float) - [1, 0, 0, 0, 1, 0]).max() > 1e-6:
            refuse(where, "upright slices", "a tilted gantry")
    headers.sort(key=lambda d: float(d.ImagePositionPatient[2]))
    values = np.stack([_mapped(d) for d in headers])
    first = headers[0]
    x, y = (float(v) for v in first.ImagePositionPatient[:2])
    dy, dx = (float(v) for v in first.PixelSpacing)
    coords: dict[str, Any] = {
        "z": [float(d.ImagePositionPatient[2]) for d in headers],
        "y": y + dy * np.arange(first.Rows),
        "x": x + dx * np.arange(first.Columns),
    }
    beam = first.MultienergyCTAcquisitionSequence[0].CTXRayDetailsSequence[0]
    return label("iodine", values, coords, kv=float(beam.KVP), series_uid=str(first.SeriesInstanceUID))


def _mapped(d: Dataset) -> np.ndarray:
    mapping, raw = d.RealWorldValueMappingSequence[0], d.pixel_array.astype(np.float32)
    values = raw * float(mapping.RealWorldValueSlope) + float(mapping.RealWorldValueIntercept)
    return np.where(raw < float(mapping.RealWorldValueFirstValueMapped), np.nan, values).astype(np.float32)
