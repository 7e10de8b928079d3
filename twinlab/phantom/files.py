"""Keep Phantoms, and Datasets that travel with them, on disk as netCDF."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from twinlab.phantom.build import check_phantom
from twinlab.schema import InputError, refuse


def save(phantom: xr.Dataset, path: str | Path) -> Path:
    """Write a Phantom as compressed netCDF; the file appears only when it is whole.

    Raises
    ------
    InputError
        Not a Phantom.
    """
    check_phantom(phantom, where="save")
    squeeze = {"zlib": True, "complevel": 1, "shuffle": True}
    return write_netcdf(phantom, path, encoding=dict.fromkeys(("material", "density", "organ"), squeeze))


def write_netcdf(data: xr.Dataset, path: str | Path, *, encoding: Mapping[str, Any]) -> Path:
    """Write a Dataset whole or not at all: a reader never meets a file half written."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        data.to_netcdf(partial, engine="h5netcdf", encoding=dict(encoding))
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def read_netcdf(path: str | Path, *, where: str, what: str) -> xr.Dataset:
    """Read a netCDF file into memory.

    Raises
    ------
    InputError
        No such file, or no netCDF.
    """
    path = Path(path)
    if not path.is_file():
        refuse(where, what, f"no file {path}")
    try:
        with xr.open_dataset(path, engine="h5netcdf") as opened:
            return opened.load()
    except (OSError, ValueError) as error:
        raise InputError(f"{where}: expected a netCDF file; got {path} ({error})") from error


def load(path: str | Path) -> xr.Dataset:
    """Read a Phantom written by :func:`save` into memory.

    Raises
    ------
    InputError
        No such file, or no Phantom in it.
    """
    phantom = read_netcdf(path, where="load", what="a Phantom file")
    for name in ("material_name", "organ_name"):
        if name in phantom:
            phantom[name] = phantom[name].astype(object)
    phantom.attrs = {
        k: v.tolist() if isinstance(v, np.ndarray | np.generic) else v for k, v in phantom.attrs.items()
    }
    check_phantom(phantom, where=f"load({path})")
    return phantom
