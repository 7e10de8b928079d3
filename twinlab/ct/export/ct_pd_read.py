"""Read DICOM-CT-PD-like files (:mod:`twinlab.ct.export.ct_pd_tags` has the geometry)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import xarray as xr
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from twinlab.ct.export.ct_pd_tags import TAGS
from twinlab.schema import label, refuse


def read_ct_pd(folder: str | Path) -> xr.Dataset:
    """Read DICOM-CT-PD-like files as projections that :func:`twinlab.ct.reconstruct` takes.

    Files are ordered by instance number. Angles are unwrapped; both layouts of the image are understood.

    Returns
    -------
    Dataset
        ``projection`` (view, row, channel), ``view_angle``, ``source_z``, ``focal_shift`` where the focal
        spot flies; geometry and ``mu_water_per_mm`` in attrs.

    Raises
    ------
    InputError
        No such files, or tags are missing.

    Limits
    ------
    Files of scanners may count columns from the other end (Moen et al. speak of two vendors); what is read
    here is the published definition.
    """
    folder = Path(folder)
    headers = []
    for path in sorted(folder.glob("*.dcm")) if folder.is_dir() else []:
        try:
            headers.append(pydicom.dcmread(path))
        except (InvalidDicomError, OSError) as error:
            refuse("read_ct_pd", "DICOM files", f"{path.name} ({error})")
    if not headers or any(TAGS["DetectorShape"][0] not in h for h in headers):
        refuse("read_ct_pd", "a folder of DICOM-CT-PD files", folder)
    headers.sort(key=lambda h: int(h.InstanceNumber))
    first = headers[0]
    n_row, n_channel = _get(first, "NumberofDetectorRows"), _get(first, "NumberofDetectorColumns")
    values = np.empty((len(headers), n_row, n_channel), np.float32)
    for i, h in enumerate(headers):
        pixels = h.pixel_array if h.pixel_array.shape == (n_row, n_channel) else h.pixel_array.T
        if n_row == n_channel:
            pixels = h.pixel_array.T
        values[i] = (pixels * float(h.RescaleSlope) + float(h.RescaleIntercept))[::-1]
    return _dataset(headers, values)


def _get(d: Dataset, name: str) -> Any:
    tag = TAGS[name][0]
    if tag not in d:
        refuse("read_ct_pd", f"tag {name}", "none")
    return d[tag].value


def _dataset(headers: Sequence[Dataset], values: NDArray[np.float32]) -> xr.Dataset:
    first = headers[0]
    _, n_row, n_channel = values.shape
    detector, radius = (
        float(_get(first, "ConstantRadialDistance")),
        float(_get(first, "DetectorFocalCenterRadialDistance")),
    )
    pitch = float(_get(first, "DetectorElementTransverseSpacing"))
    row_pitch = float(_get(first, "DetectorElementAxialSpacing"))
    column, row = (float(v) for v in _get(first, "DetectorCentralElement"))
    position = (np.arange(n_channel) + 1.0 - column) * pitch
    flat = str(_get(first, "DetectorShape")) == "FLAT"
    coords = {
        "row": (row - np.arange(n_row, 0, -1.0)) * row_pitch,
        "u" if flat else "fan_angle": ("channel", position if flat else position / detector),
    }
    angle = -np.unwrap([float(_get(h, "DetectorFocalCenterAngularPosition")) for h in headers])
    source_z = [float(_get(h, "DetectorFocalCenterAxialPosition")) for h in headers]
    x, y = (float(v) for v in first.get("DataCollectionCenterPatient", [0.0, 0.0, 0.0])[:2])
    out = xr.Dataset(
        {
            "projection": label("projection", values, coords),
            "view_angle": label("view_angle", angle),
            "source_z": label("source_z", source_z),
        },
        attrs={
            "source_to_isocentre_mm": radius,
            "source_to_detector_mm": detector,
            "row_pitch_mm": row_pitch,
            "isocentre_x_mm": x,
            "isocentre_y_mm": y,
            "mode": str(_get(first, "TypeofProjectionData")).lower(),
            "views_per_rotation": int(_get(first, "NumberofSourceAngularSteps")),
            "mu_water_per_mm": float(_get(first, "WaterAttenuationCoefficient")),
            "kv": float(first.KVP),
        },
    )
    return _with_shift(out, headers, radius)


def _with_shift(out: xr.Dataset, headers: Sequence[Dataset], radius: float) -> xr.Dataset:
    if str(_get(headers[0], "FlyingFocalSpotMode")) == "FFSNONE":
        return out
    turn, z, further = (
        np.array([float(_get(h, name)) for h in headers])
        for name in ("SourceAngularPositionShift", "SourceAxialPositionShift", "SourceRadialDistanceShift")
    )
    distance = radius + further
    shift = np.stack([-distance * np.sin(turn), distance * np.cos(turn) - radius, z], axis=1)
    return out.assign(focal_shift=label("focal_shift", shift, {"shift_axis": ["tangential", "radial", "z"]}))
