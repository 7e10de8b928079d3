"""Results on disk: written whole or not at all, found by the key of their content."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import xarray as xr

from twinlab.schema import InputError


def outputs_root(root: str | Path | None = None) -> Path:
    """Folder of all outputs: the argument, else $TWINLAB_OUTPUTS, else ``outputs`` here."""
    return Path(root or os.environ.get("TWINLAB_OUTPUTS") or "outputs").resolve()


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Temporary file beside ``path`` that takes its place only when the block ends well.

    Raises
    ------
    InputError
        The disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.part-{os.getpid()}")
    try:
        yield temporary
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except OSError as error:
        if error.errno == 28:
            raise InputError(f"{path.parent}: expected free disk space; got a full disk") from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


def save(data: xr.Dataset, path: Path) -> None:
    """Write a Dataset as netCDF, atomically."""
    with atomic(path) as temporary:
        data.to_netcdf(temporary, engine="h5netcdf")


def read(path: Path, *, without: tuple[str, ...] = ()) -> xr.Dataset:
    """Read a Dataset into memory, some variables left out.

    Raises
    ------
    InputError
        The file is no netCDF (it is named, so that it can be removed).
    """
    try:
        with xr.open_dataset(path, engine="h5netcdf", drop_variables=without) as data:
            return data.load()
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: expected a netCDF file of a study; got {error}") from error


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """Temporary folder beside ``folder`` that takes its place only when the block ends well.

    Its name carries the process, so that what a killed process left can be told from what is being written.
    """
    temporary = folder.with_name(f".{folder.name}.part-{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        if not folder.is_dir():
            os.replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def save_json(data: Mapping[str, Any], path: Path) -> None:
    """Write a mapping as JSON, atomically."""
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(data, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def sweep(folder: Path) -> None:
    """Remove what killed processes of this machine left half-written in a folder."""
    for leftover in folder.glob(".*.part-*"):
        process = leftover.name.rsplit("-", 1)[1]
        if process.isdigit() and not Path(f"/proc/{process}").exists():
            if leftover.is_dir():
                shutil.rmtree(leftover, ignore_errors=True)
            else:
                leftover.unlink(missing_ok=True)
