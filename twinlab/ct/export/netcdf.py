"""Projections as labelled, compressed netCDF files that lose nothing; images from netCDF."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

import twinlab
from twinlab.phantom.files import read_netcdf, write_netcdf
from twinlab.schema import check, refuse

FORMAT = "twinlab projections 1"
_CHUNK_BYTES = 1 << 20
_KEPT_AS_TEXT = ("mixed_material", "material_name")


def write_projections(projections: xr.Dataset, path: str | Path) -> Path:
    """Write projections, or what leads to them (paths, signals), with their whole geometry.

    Lossless: byte-shuffled and deflated in chunks of whole views. The file appears only when it is whole.

    Parameters
    ----------
    projections : Dataset
        From :func:`twinlab.ct.acquire` or any Dataset over (view, ...) with ``view_angle`` and ``source_z``.
        Attributes must be numbers, texts or lists of numbers; None is left out.
    path : path

    Returns
    -------
    Path

    Raises
    ------
    InputError
        No view geometry, or an attribute that netCDF cannot hold.

    References
    ----------
    netCDF-4 (HDF5) with units and long names after the CF conventions.
    """
    check(projections, "view_angle", "source_z", where="write_projections")
    out = projections.copy(deep=False)
    out.attrs = _plain(projections.attrs) | {"format": FORMAT, "twinlab_version": twinlab.__version__}
    encoding = {str(name): _encoding(variable) for name, variable in out.variables.items()}
    return write_netcdf(out, path, encoding=encoding)


def read_projections(path: str | Path) -> xr.Dataset:
    """Read projections written by :func:`write_projections` into memory, equal to what was written.

    Raises
    ------
    InputError
        No such file, or not of this format.
    """
    projections = read_netcdf(path, where="read_projections", what="a file of projections")
    if projections.attrs.get("format") != FORMAT:
        refuse(f"read_projections({path})", f"format {FORMAT!r}", repr(projections.attrs.get("format")))
    for name in ("format", "twinlab_version"):
        projections.attrs.pop(name, None)
    projections.attrs = {key: _native(value) for key, value in projections.attrs.items()}
    for variable in projections.variables.values():
        variable.encoding.clear()
        variable.attrs = {key: _native(value) for key, value in variable.attrs.items()}
    check(projections, "view_angle", "source_z", where=f"read_projections({path})")
    return projections


def read_image(path: str | Path) -> xr.DataArray:
    """CT image ``hu`` of a netCDF file, in memory.

    Raises
    ------
    InputError
        No such file, or no CT image in it.
    """
    found = read_netcdf(path, where="read_image", what="a netCDF file with a CT image")
    check(found, "hu", where=f"read_image({path})")
    image = found["hu"]
    image.attrs = {key: _native(value) for key, value in image.attrs.items()}
    return image


def _encoding(variable: xr.Variable) -> dict[str, Any]:
    if variable.dtype.kind not in "fiu" or variable.size < 256:
        return {"_FillValue": None} if variable.dtype.kind == "f" else {}
    encoding: dict[str, Any] = {"zlib": True, "complevel": 4, "shuffle": True}
    if variable.dtype.kind == "f":
        encoding["_FillValue"] = None
    if "view" in variable.dims:
        axis = variable.dims.index("view")
        chunk = list(variable.shape)
        per_view = variable.dtype.itemsize * variable.size // variable.shape[axis]
        chunk[axis] = min(variable.shape[axis], max(1, _CHUNK_BYTES // max(per_view, 1)))
        if axis > 0:  # one basis function a chunk
            chunk[:axis] = [1] * axis
        encoding["chunksizes"] = tuple(chunk)
    return encoding


def _plain(attrs: dict[Any, Any]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in attrs.items():
        if value is None:
            continue
        if isinstance(value, bool | np.bool_):
            value = int(value)
        numbers = isinstance(value, tuple | list | np.ndarray) and np.asarray(value).dtype.kind in "fiu"
        if not numbers and not isinstance(value, str | int | float | np.integer | np.floating):
            refuse("write_projections", f"attribute {key!r} as number, text or numbers", type(value).__name__)
        out[str(key)] = value
    return out


def _native(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value
