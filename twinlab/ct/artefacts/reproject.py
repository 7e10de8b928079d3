"""Project a reconstructed volume along the rays of the scan that it came from."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from twinlab.ct.gantry import geometry_of
from twinlab.kernels.columns import prepare
from twinlab.kernels.cuda_project import project_cuda
from twinlab.kernels.device import Device, resolve
from twinlab.kernels.project import project
from twinlab.schema import refuse, spacing

FloatArray = NDArray[np.float32]


def reproject(
    volumes: FloatArray,
    image: xr.DataArray,
    projections: xr.Dataset,
    *,
    slice_mm: float | None = None,
    device: Device = "auto",
) -> FloatArray:
    """Line integrals of volumes on an image's grid, for every ray of a scan.

    Rays that pass above or below the image meet copies of its first or last slice: dense structures (bone,
    inserts) go on in z far more often than they end there.

    Parameters
    ----------
    volumes : float32 array (n, z, y, x)
        Zero in the corner (0, 0, 0): outside the grid there is nothing.
    image : DataArray, dims (z, y, x)
        Gives the grid, mm.
    projections : Dataset
        Gives the geometry.
    slice_mm : float, optional
        Height of the slice when there is only one. Default: that of the whole beam.
    device : "auto", "cpu" or "cuda"
        Where rays are traced; both agree to 1e-4 of the longest path, except for rays along a face.

    Returns
    -------
    float32 array (n, view, row, channel)
        Value times length in cm.

    Raises
    ------
    InputError
        The grid is uneven, the volumes are not on it, or there is no CUDA device for ``device="cuda"``.
    """
    if volumes.shape[1:] != image.shape:
        refuse("reproject", f"volumes of shape (n, {', '.join(map(str, image.shape))})", volumes.shape)
    geometry = geometry_of(projections, where="reproject")
    dy, dx = (spacing(image[axis], where="reproject") for axis in ("y", "x"))
    row = np.asarray(projections["row"], float)
    source_z = np.asarray(projections["source_z"], float)
    corner = max(float(np.abs(image[axis]).max()) for axis in ("x", "y")) * math.sqrt(2.0)
    spread = np.abs(row).max() * (1.0 + corner / geometry.radius_mm) + geometry.row_step_mm
    low, high = float(source_z.min() - spread), float(source_z.max() + spread)
    z = np.asarray(image["z"], float)
    dz = (slice_mm or high - low) if z.size == 1 else spacing(image["z"], where="reproject")
    below = max(0, math.ceil((z[0] - 0.5 * dz - low) / dz))
    above = max(0, math.ceil((high - z[-1] - 0.5 * dz) / dz))
    padded = np.pad(volumes, ((0, 0), (below, above), (0, 0), (0, 0)), mode="edge")
    flat = "u" in projections.coords
    rays: dict[str, Any] = {
        "spacing_mm": (dz, dy, dx),
        "origin_mm": (z[0] - below * dz, float(image["y"][0]), float(image["x"][0])),
        "view_angle_rad": projections["view_angle"].to_numpy(),
        "source_z_mm": source_z,
        "source_to_isocentre_mm": geometry.radius_mm,
        "source_to_detector_mm": geometry.detector_mm,
        "isocentre_mm": geometry.isocentre_mm,
        "fan_angle_rad": None if flat else projections["fan_angle"].to_numpy(),
        "u_mm": projections["u"].to_numpy() if flat else None,
        "row_mm": row,
        "row_lo": None if "row_lo" not in projections else projections["row_lo"].to_numpy(),
        "row_hi": None if "row_hi" not in projections else projections["row_hi"].to_numpy(),
    }
    if resolve(device, where="reproject") == "cuda":
        return project_cuda(padded, **rays)
    return project(prepare(padded), **rays)
