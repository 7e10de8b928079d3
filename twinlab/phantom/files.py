"""Keep Phantoms on disk as netCDF."""

from __future__ import annotations

import os
from pathlib import Path

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
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    squeeze = {"zlib": True, "complevel": 1, "shuffle": True}
    try:
        phantom.to_netcdf(
            partial, engine="h5netcdf", encoding=dict.fromkeys(("material", "density", "organ"), squeeze)
        )
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def load(path: str | Path) -> xr.Dataset:
    """Read a Phantom written by :func:`save` into memory.

    Raises
    ------
    InputError
        No such file, or no Phantom in it.
    """
    path = Path(path)
    if not path.is_file():
        refuse("load", "a Phantom file", f"no file {path}")
    try:
        with xr.open_dataset(path, engine="h5netcdf") as opened:
            phantom = opened.load()
    except (OSError, ValueError) as error:
        raise InputError(f"load: expected a netCDF file; got {path} ({error})") from error
    for name in ("material_name", "organ_name"):
        if name in phantom:
            phantom[name] = phantom[name].astype(object)
    phantom.attrs = {
        k: v.tolist() if isinstance(v, np.ndarray | np.generic) else v for k, v in phantom.attrs.items()
    }
    check_phantom(phantom, where=f"load({path})")
    return phantom
