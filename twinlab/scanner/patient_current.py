"""The tube current that a patient gets or got: by automatic exposure control, or as the images' headers say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import xarray as xr

from twinlab.phantom import body_centre, dicom, series, water_equivalent_diameter
from twinlab.scanner.exposure import for_patient
from twinlab.scanner.geometry import trajectory
from twinlab.scanner.models import Protocol
from twinlab.scanner.modulation import current_of_slices, modulated, water_width
from twinlab.schema import refuse


def automatic_exposure(
    phantom: xr.Dataset,
    protocol: Protocol,
    *,
    z_range_mm: tuple[float, float],
    start_angle_deg: float = 0.0,
    isocentre_mm: tuple[float, float] | None = None,
    angular: float = 0.5,
    longitudinal: float = 0.5,
    min_ma: float = 10.0,
) -> tuple[Protocol, xr.Dataset]:
    """Protocol and trajectory of a patient under automatic exposure control.

    The mean current comes from the water-equivalent diameter over the range and the protocol's quality reference
    (:func:`twinlab.scanner.for_patient`; a protocol with a tube current keeps it), its course over the views from
    the patient's attenuation (:func:`twinlab.scanner.modulated`). Give both to the image and to the dose.

    Parameters
    ----------
    phantom : Dataset
        A Phantom.
    protocol : Protocol
    z_range_mm : (float, float)
        Imaged range.
    start_angle_deg : float
        See :func:`twinlab.scanner.trajectory`.
    isocentre_mm : (float, float), optional
        x, y of the axis of rotation; by default the middle of the body (:func:`twinlab.phantom.body_centre`), as
        the dose engine has it.
    angular, longitudinal, min_ma
        See :func:`twinlab.scanner.modulated`.

    Returns
    -------
    protocol : Protocol
        With the patient's mean tube current.
    trajectory : Dataset
        With ``tube_current`` (view), mA.

    Raises
    ------
    InputError
        Not a Phantom or one without a body, no slice in the range, or a current that the tube does not give.
    """
    diameter = water_equivalent_diameter(phantom, kv=protocol.kv)
    seen = diameter.where((diameter["z"] >= z_range_mm[0]) & (diameter["z"] <= z_range_mm[1]), drop=True)
    if not seen.size:
        z = phantom["z"].to_numpy()
        refuse("automatic_exposure: z_range_mm", f"slices of {z[0]:g} to {z[-1]:g} mm", z_range_mm)
    plan = for_patient(protocol, dw_mm=float(seen.mean()))
    centre = body_centre(phantom) if isocentre_mm is None else isocentre_mm
    path = trajectory(plan, z_range_mm=z_range_mm, start_angle_deg=start_angle_deg, isocentre_mm=centre)
    width = water_width(phantom)
    return plan, modulated(path, plan, width=width, angular=angular, longitudinal=longitudinal, min_ma=min_ma)


def current_of_series(
    trajectory: xr.Dataset, folder: str | Path, *, series_uid: str | None = None
) -> xr.Dataset:
    """Trajectory with the tube current that the headers of a CT series tell, slice by slice.

    Parameters
    ----------
    trajectory : Dataset
        From :func:`twinlab.scanner.trajectory`.
    folder : path
        DICOM files, searched with sub-folders as by :func:`twinlab.phantom.read_series`.
    series_uid : str, optional
        Picks one of several series.

    Returns
    -------
    Dataset
        With ``tube_current`` (view), mA: linear between slices, constant beyond them.

    Raises
    ------
    InputError
        No such series, oblique slices, or a slice without XRayTubeCurrent.

    Limits
    ------
    A header has one current per slice, the mean over the rotations behind it: the modulation within a rotation
    is not in it. Slices of a tilted gantry count where their middle is.
    """
    where = f"current_of_series({folder})"
    files = dicom._one_series(dicom._ct_files(Path(folder), where), series_uid, where)
    headers = [header for _, header in files]
    series.order(headers, where)
    missing = [str(path) for path, header in files if not float(header.get("XRayTubeCurrent") or 0.0) > 0.0]
    if missing:
        refuse(where, "XRayTubeCurrent above 0 mA in every slice", f"none in {len(missing)} of {len(files)}")
    z = [_middle_z(header) for header in headers]
    return current_of_slices(
        trajectory, z_mm=z, tube_current_ma=[float(header.XRayTubeCurrent) for header in headers]
    )


def _middle_z(header: pydicom.Dataset) -> float:
    """Patient z of the middle of a slice, mm."""
    cosines = np.array(header.ImageOrientationPatient, float)
    spacing = np.array(header.PixelSpacing, float)
    way = (
        0.5 * (header.Columns - 1) * spacing[1] * cosines[2]
        + 0.5 * (header.Rows - 1) * spacing[0] * cosines[5]
    )
    return float(header.ImagePositionPatient[2]) + float(way)
