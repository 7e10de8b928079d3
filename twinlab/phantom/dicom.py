"""CT series from DICOM files, ordered by their geometry and checked before they are believed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import SimpleITK as sitk
import xarray as xr
from pydicom.errors import InvalidDicomError

from twinlab.phantom import series
from twinlab.phantom.body import PADDED_BELOW_HU, PADDING_HU, from_corners, padded
from twinlab.schema import InputError, label, refuse

ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2.1"
TILT_DEG = 0.1
"""Gantry tilt below this moves no voxel of a body by more than 0.5 mm."""

_NEEDED = ("Rows", "Columns", "PixelSpacing", "ImageOrientationPatient", "ImagePositionPatient")


def read_series(
    folder: str | Path,
    *,
    series_uid: str | None = None,
    repair: str = "none",
    ignore_tilt_tag: bool = False,
) -> xr.DataArray:
    """One CT series of a folder, on ascending patient axes (x left, y posterior, z head).

    Slices are sorted by position along their normal, whatever their names and numbers. Scout views and other
    modalities are passed over. Slices given twice count once. A tilted gantry (or a sheared stack, or
    a turn of up to 2 degrees) is resampled onto upright axes by linear interpolation.

    Parameters
    ----------
    folder : path
        Searched with its sub-folders.
    series_uid : str, optional
        Picks one of several series.
    repair : {"none", "interpolate"}
        What to do with missing slices (up to two in a row) and uneven steps: refuse, or interpolate linearly.
    ignore_tilt_tag : bool
        Believe upright orientations although the tilt tag says otherwise (straightened by the scanner).

    Returns
    -------
    DataArray, dims (z, y, x), units HU
        -2048 where the scanner reconstructed nothing. Attributes: ``kv`` (0 when not told), ``series_uid``,
        ``contrast``, ``repaired_z_mm``.

    Raises
    ------
    InputError
        No folder, no CT in it, several series, an unsupported file, an oblique or contradictory geometry,
        a missing slice, slices that differ at one place.
    """
    where = f"read_series({folder})"
    if repair not in ("none", "interpolate"):
        refuse(where, "repair 'none' or 'interpolate'", repr(repair))
    files = _one_series(_ct_files(Path(folder), where), series_uid, where)
    _check_alike([header for _, header in files], where)
    stack = series.order([header for _, header in files], where)
    tilt = max(abs(float(header.get("GantryDetectorTilt", 0) or 0)) for _, header in files)
    if tilt > TILT_DEG and stack.upright and not ignore_tilt_tag:
        refuse(
            where,
            "orientations that agree with the gantry tilt (ignore_tilt_tag=True believes the orientations)",
            f"a tilt tag of {tilt:g} degrees and upright slices",
        )
    images = [_pixels_hu(files[i][0], files[i][1], where) for i in stack.order]
    images, positions = series.drop_duplicates(images, stack.position_mm, where)
    values, positions, repaired = series.fill_gaps(images, positions, repair, where)
    del images
    values, coords = series.to_patient_axes(values, positions, stack, PADDING_HU)
    header = files[0][1]
    return label(
        "hu",
        values,
        coords,
        kv=float(header.get("KVP") or 0.0),
        series_uid=str(header.SeriesInstanceUID),
        contrast=str(header.get("ContrastBolusAgent") or ""),
        repaired_z_mm=repaired,
    )


def _ct_files(folder: Path, where: str) -> list[tuple[Path, pydicom.Dataset]]:
    if not folder.is_dir():
        refuse(where, "a folder of DICOM files", "no such folder")
    found: list[tuple[Path, pydicom.Dataset]] = []
    others: Counter[str] = Counter()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        try:
            header = pydicom.dcmread(path, stop_before_pixels=True)
        except (InvalidDicomError, EOFError, OSError):
            others["not DICOM"] += 1
            continue
        modality = str(header.get("Modality", "none"))
        if modality != "CT":
            others[f"modality {modality}"] += 1
        elif "LOCALIZER" in [str(v).upper() for v in header.get("ImageType", [])]:
            others["CT localizer"] += 1
        elif header.get("SOPClassUID") == ENHANCED_CT:
            refuse(
                where,
                "single-frame CT images",
                f"{path.name}, an enhanced multi-frame CT, which is not supported",
            )
        else:
            found.append((path, header))
    if not found:
        what = ", ".join(f"{n} {kind}" for kind, n in sorted(others.items())) or "an empty folder"
        refuse(where, "a folder with CT images", what)
    return found


def _one_series(
    files: list[tuple[Path, pydicom.Dataset]], series_uid: str | None, where: str
) -> list[tuple[Path, pydicom.Dataset]]:
    counts = Counter(str(header.get("SeriesInstanceUID", "none")) for _, header in files)
    listing = "; ".join(f"{uid}: {n} images" for uid, n in counts.most_common())
    if series_uid is not None:
        if series_uid not in counts:
            refuse(where, f"one of the series {listing}", series_uid)
        return [f for f in files if str(f[1].SeriesInstanceUID) == series_uid]
    if len(counts) > 1:
        refuse(where, "one series (series_uid= picks one)", f"{len(counts)} mixed series: {listing}")
    return files


def _check_alike(headers: list[pydicom.Dataset], where: str) -> None:
    for header in headers:
        missing = [tag for tag in (*_NEEDED, "RescaleSlope", "RescaleIntercept") if header.get(tag) is None]
        if missing:
            refuse(where, "images with geometry and rescale tags", f"image without {', '.join(missing)}")
        if str(header.get("RescaleType", "HU")).upper() not in ("HU", "US", "UNSPECIFIED"):
            refuse(where, "images rescaled to HU", f"RescaleType {header.RescaleType}")
        if int(header.get("SamplesPerPixel", 1)) != 1:
            refuse(where, "images of one sample per pixel", header.SamplesPerPixel)
    for tag in ("Rows", "Columns", "PixelSpacing", "ImageOrientationPatient"):
        values = np.array([np.atleast_1d(np.asarray(h.get(tag), float)) for h in headers])
        if np.ptp(values, axis=0).max() > 1e-4:
            kinds = sorted({tuple(row) for row in values.tolist()})
            refuse(where, f"one {tag} in the series", "; ".join(map(str, kinds[:4])))


def _pixels_hu(path: Path, header: pydicom.Dataset, where: str) -> np.ndarray:
    slope, intercept = float(header.RescaleSlope), float(header.RescaleIntercept)
    try:
        full = pydicom.dcmread(path)
        raw = full.pixel_array
    except (RuntimeError, ValueError, AttributeError, TypeError, KeyError) as error:
        syntax = getattr(header.file_meta.get("TransferSyntaxUID"), "name", "unknown transfer syntax")
        return _decode_by_itk(path, f"{where}, {path.name} ({syntax})", str(error).splitlines()[0])
    hu = raw.astype(np.float32) * np.float32(slope) + np.float32(intercept)
    if hu.shape != (int(header.Rows), int(header.Columns)):
        refuse(where, f"{header.Rows} x {header.Columns} pixels in {path.name}", hu.shape)
    padding = _padding(header, raw)
    if padding is not None:
        # a padding value may also be that of some tissue; air cut off at -1024 next to a corner keeps its value
        hu[padding & ((hu < PADDED_BELOW_HU) | from_corners(padding))] = PADDING_HU
    hu[padded(hu)] = PADDING_HU
    return hu


def _decode_by_itk(path: Path, where: str, reason: str) -> np.ndarray:
    """Compressed images for which pydicom has no plug-in: GDCM within SimpleITK reads most, and rescales.

    Broken pixel data do not come here: GDCM fills them up in silence.
    """
    try:
        if "missing dependencies" not in reason:
            raise RuntimeError(reason)
        hu = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))[0].astype(np.float32)
    except RuntimeError:
        raise InputError(f"{where}: expected pixel data that can be decoded; got {reason}") from None
    hu[padded(hu)] = PADDING_HU
    return np.asarray(hu)


def _padding(header: pydicom.Dataset, raw: np.ndarray) -> np.ndarray | None:
    value = header.get("PixelPaddingValue")
    if value is None:
        return None
    bits = int(header.get("BitsAllocated", 16))
    signed = int(header.get("PixelRepresentation", 0)) == 1

    def number(v: Any) -> int:  # the tag may be written unsigned for signed pixels
        v = int(v)
        return v - (1 << bits) if signed and v >= 1 << (bits - 1) else v

    limit = number(header.get("PixelPaddingRangeLimit", value))
    low, high = sorted((number(value), limit))
    return np.asarray((raw >= low) & (raw <= high))
