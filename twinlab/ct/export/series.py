"""CT images as a DICOM series (CT Image Storage) that says of itself that it is simulated."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import PYDICOM_IMPLEMENTATION_UID, CTImageStorage, ExplicitVRLittleEndian

import twinlab
from twinlab.ct.export.exposure import slice_current_ma
from twinlab.ct.export.headers import (
    exposure_time_s,
    orientation,
    put_acquisition,
    put_equipment,
    put_patient,
    put_pixels,
    put_series,
    tilt_deg,
)
from twinlab.ct.export.storage import EXTENDED_INTERCEPT, Stored, decimal, decimals, short, store, uid
from twinlab.keys import content_key
from twinlab.scanner import Protocol
from twinlab.schema import check, refuse, spacing

_LARGEST_AXIS = 65535
_SAME_MAS = 1e-3  # mAs of image and protocol: rounding


def write_dicom(
    image: xr.DataArray,
    folder: str | Path,
    *,
    protocol: Protocol,
    phantom: xr.Dataset | None = None,
    projections: xr.Dataset | None = None,
    ctdi_vol_mgy: float | None = None,
    patient_name: str | None = None,
    patient_id: str | None = None,
    series_number: int = 1,
    series_description: str | None = None,
    body_part: str | None = None,
    when: dt.datetime | None = None,
    window_hu: tuple[float, float] = (40.0, 400.0),
) -> list[Path]:
    """Write an image as a CT series, one file a slice, from the feet upwards.

    All values are stored: 16 bits unsigned, in steps of 1 HU from -8192 HU (larger steps when metal does not
    fit); NaN becomes padding. UIDs are made of the content, so writing the same image again gives the same
    files. Slices of a tilted gantry (attr ``gantry_tilt_deg``) carry their orientation: the image's ``y``
    runs along the tilted plane through the isocentre, ``z`` is that of the table.

    Parameters
    ----------
    image : DataArray ``hu``, dims (z, y, x)
        From :func:`twinlab.ct.reconstruct`; attrs ``kernel`` and ``slice_thickness_mm`` are used where present,
        ``gantry_tilt_deg`` and ``isocentre_y_mm`` too, else those of ``projections`` (the tilt also of the
        protocol).
    folder : path
        Made when missing; must hold nothing.
    protocol : Protocol
    phantom : Dataset, optional
        What was scanned: its name goes into the headers. Patient, study and frame of reference follow from the image's
        attr ``phantom``, else from the key of this, else from ``patient_id``, else from the image's content.
    projections : Dataset, optional
        Projections or trajectory, for the isocentre and for ``tube_current`` (view): the current of each slice
        is the mean over the views that cover it.
    ctdi_vol_mgy : float, optional
        Default: from the scanner's published CTDIw, where there is one for this tube voltage.
    patient_name, patient_id, series_description : str, optional
    series_number : int
    body_part : str, optional
        Defined term of DICOM PS3.16 annex L, of an unpaired part. Default: from the protocol's key.
    when : datetime, optional
        Study and content date; default none, so that equal content gives equal files.
    window_hu : (centre, width)

    Returns
    -------
    list of Path
        In the order of z.

    Raises
    ------
    InputError
        The image is no CT image on an even grid, the folder holds files, the protocol has no current or contradicts
        what the image says of its scan (attrs ``scanner``, ``kv``, ``mas``), or a tilted image has no pivot.

    References
    ----------
    DICOM PS3.3, A.3 CT Image IOD, C.7.6.2 Image Plane, C.8.2.1 CT Image.
    """
    check(image, "hu", where="write_dicom")
    return write_series(
        image, folder, protocol=protocol, phantom=phantom, projections=projections, ctdi_vol_mgy=ctdi_vol_mgy,
        patient_name=patient_name, patient_id=patient_id, series_number=series_number,
        series_description=series_description, body_part=body_part, when=when, window=window_hu,
    )  # fmt: skip


def write_series(
    image: xr.DataArray,
    folder: str | Path,
    *,
    protocol: Protocol,
    phantom: xr.Dataset | None,
    projections: xr.Dataset | None,
    ctdi_vol_mgy: float | None,
    patient_name: str | None,
    patient_id: str | None,
    series_number: int,
    series_description: str | None,
    body_part: str | None,
    when: dt.datetime | None,
    window: tuple[float, float],
    scale: tuple[float, float] = (1.0, EXTENDED_INTERCEPT),
    kind: str = "",
    finish: Callable[[Dataset, Stored], None] | None = None,
) -> list[Path]:
    """As :func:`write_dicom`, of any values; ``scale`` is their step and intercept.

    ``kind`` tells series of equal values apart; ``finish`` changes the headers that all slices share, before they
    are written.
    """
    if not isinstance(protocol, Protocol):
        refuse("write_dicom: protocol", "the Protocol of the scan", type(protocol).__name__)
    _refuse_other_scan(image, protocol, projections)
    image = _placed(image.transpose("z", "y", "x"), protocol, projections)
    steps = _steps(image, protocol)
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        refuse("write_dicom", "a new or empty folder", folder)
    z = np.asarray(image["z"], float)
    current = slice_current_ma(z, protocol, projections=projections)
    stored = store(image.to_numpy(), step=scale[0], intercept=scale[1])
    scanned = image.attrs.get("phantom") or _key(phantom) or patient_id or content_key(image, length=16)
    identity = identity_of(phantom, patient_name, patient_id, scanned=str(scanned))
    study = uid("study", identity, str(when))
    told = (series_number, series_description, body_part, ctdi_vol_mgy, window, str(when))
    made_of = (image, str(sorted(image.attrs.items())), protocol, current, twinlab.__version__)
    series = uid("series", *made_of, identity, told, *((kind,) if kind else ()))
    common = Dataset()
    put_patient(common, identity, study, when)
    put_series(common, protocol, series, series_number, series_description, body_part, when)
    put_equipment(common, protocol)
    put_acquisition(common, image, steps, protocol, ctdi_vol_mgy)
    put_pixels(common, image, steps, stored, window)
    if finish is not None:
        finish(common, stored)
    common.FrameOfReferenceUID = uid("frame", identity)
    common.PositionReferenceIndicator = ""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for k in range(z.size):
        one = Dataset(common)
        _slice(one, image, k, float(current[k]), protocol)
        one.SOPInstanceUID = uid("slice", series, k)
        one.PixelData = stored.pixels[k].tobytes()
        paths.append(save(one, folder / f"CT{k + 1:05d}.dcm"))
    return paths


def _refuse_other_scan(image: xr.DataArray, protocol: Protocol, projections: xr.Dataset | None) -> None:
    """Refuse a protocol that contradicts what the image says of its scan."""
    told = image.attrs
    if told.get("scanner", protocol.scanner.key) != protocol.scanner.key:
        refuse("write_dicom: protocol", f"scanner {told['scanner']}, as the image says", protocol.scanner.key)
    stations = (protocol.kv,) if protocol.second_kv is None else (protocol.kv, protocol.second_kv)
    if float(told.get("kv", protocol.kv)) not in stations:
        refuse("write_dicom: protocol", f"{told['kv']:g} kV, as the image says", f"{protocol.kv:g} kV")
    modulated = projections is not None and "tube_current" in projections
    if "mas" not in told or modulated or protocol.second_kv is not None:
        return
    if not math.isclose(told["mas"], protocol.mas, rel_tol=_SAME_MAS):
        expected = f"{told['mas']:g} mAs, as the image says (projections= of a modulated tube current)"
        refuse("write_dicom: protocol", expected, f"{protocol.mas:g} mAs")


def _placed(image: xr.DataArray, protocol: Protocol, projections: xr.Dataset | None) -> xr.DataArray:
    """The image with its tilt and pivot told: its own, else those of the scan."""
    scan = {} if projections is None else projections.attrs
    told = {"gantry_tilt_deg": float(scan.get("gantry_tilt_deg", protocol.gantry_tilt_deg)), **image.attrs}
    if "isocentre_y_mm" not in told and "isocentre_y_mm" in scan:
        told["isocentre_y_mm"] = float(scan["isocentre_y_mm"])
    if told["gantry_tilt_deg"] and "isocentre_y_mm" not in told:
        got = f"a tilt of {told['gantry_tilt_deg']:g} degrees and no pivot"
        refuse("write_dicom", "attr 'isocentre_y_mm' of a tilted image (or projections=)", got)
    return image.assign_attrs(told)


def _steps(image: xr.DataArray, protocol: Protocol) -> tuple[float, float, float]:
    if min(image.shape) < 1 or max(image.shape) > _LARGEST_AXIS:
        refuse("write_dicom", f"an image of 1 to {_LARGEST_AXIS} voxels along each axis", image.shape)
    dy, dx = (spacing(image[axis], where="write_dicom") for axis in ("y", "x"))
    thickness = float(image.attrs.get("slice_thickness_mm", protocol.slice_thickness_mm))
    dz = spacing(image["z"], where="write_dicom") if image.sizes["z"] > 1 else thickness
    return dz, dy, dx


def identity_of(
    phantom: xr.Dataset | None, name: str | None, number: str | None, *, scanned: str = ""
) -> dict[str, str]:
    """Name, number, study and key of what was scanned, as headers take them.

    ``scanned`` tells apart what was scanned where the phantom is not given.
    """
    attrs: Mapping[str, Any] = {} if phantom is None else phantom.attrs
    known = str(attrs.get("name") or "phantom")
    key = scanned or _key(phantom)
    return {
        "name": short(name, 64, keep="^") if name else f"SIMULATED^{short(known, 50)}",
        "id": short(number, 64) if number else short(f"SIM-{key or 'NONE'}", 64),
        "what": short(f"Simulated scan of {known}", 64),
        "key": key,
    }


def _key(phantom: xr.Dataset | None) -> str:
    return "" if phantom is None else str(phantom.attrs.get("key") or "")


def _slice(d: Dataset, image: xr.DataArray, k: int, current_ma: float, protocol: Protocol) -> None:
    z, x = float(image["z"][k]), float(image["x"][0])
    _, column = orientation(tilt_deg(image))
    pivot = float(image.attrs.get("isocentre_y_mm", 0.0))
    corner = np.array([x, pivot, z]) + (float(image["y"][0]) - pivot) * column
    d.SOPClassUID = CTImageStorage
    d.InstanceNumber = k + 1
    d.ImagePositionPatient = decimals(*corner)
    d.SliceLocation = decimal(z)
    d.XRayTubeCurrent = round(current_ma)
    exposure = current_ma * exposure_time_s(protocol)
    d.Exposure, d.ExposureInuAs = round(exposure), round(1000.0 * exposure)


def save(d: Dataset, path: Path) -> Path:
    """Write a dataset with its file header, explicit little endian."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = d.SOPClassUID, d.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID, meta.ImplementationVersionName = PYDICOM_IMPLEMENTATION_UID, "TWINLAB"
    FileDataset(str(path), d, file_meta=meta, preamble=b"\0" * 128).save_as(path, enforce_file_format=True)
    return path
