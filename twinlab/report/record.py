"""What a result rests on: code, versions, seeds, machine, time."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import twinlab
from twinlab.keys import source_key

_PACKAGES = (
    "numpy", "scipy", "xarray", "dask", "numba", "llvmlite", "pydantic", "pydicom", "simpleitk", "spekpy",
    "xraylib", "h5netcdf", "matplotlib", "papermill", "nbconvert",
)  # fmt: skip


def collect(*, key: str, parameters: Mapping[str, Any], started: float, seconds: float) -> dict[str, Any]:
    """Everything needed to run it again and to judge where it came from.

    Parameters
    ----------
    key : str
        Content key of the run.
    parameters : mapping
        All parameters, defaults included.
    started : float
        Seconds since the epoch.
    seconds : float
        Wall time.

    Returns
    -------
    dict
        JSON-ready: ``key, started, seconds, parameters, seeds, twinlab, versions, machine``.
    """
    return {
        "key": key,
        "started": datetime.fromtimestamp(started, UTC).isoformat(timespec="seconds"),
        "seconds": round(seconds, 1),
        "parameters": dict(parameters),
        "seeds": {name: value for name, value in parameters.items() if "seed" in name.split("_")},
        "twinlab": {"version": twinlab.__version__, "source": source_key()},
        "versions": versions(),
        "machine": machine(),
    }


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on.

    Examples
    --------
    >>> versions()["python"].count(".")
    2
    """
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "absent"
    return found


def machine() -> dict[str, Any]:
    """Processor, cores that may be used, memory and system; no host or user name."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "processor": _processor(),
        "cores": cores,
        "memory_gib": _memory_gib(),
        "system": f"{platform.system()} {platform.release()}",
        "architecture": platform.machine(),
        "python": sys.implementation.name,
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (ValueError, OSError, AttributeError):
        return None
