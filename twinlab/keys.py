"""Keys of content: a hash of everything that determines a result, the package's own source included."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from pydantic import BaseModel


def content_key(*parts: Any, length: int = 16) -> str:
    """Hash of content: arrays, Datasets, models, plain values, in any nesting.

    Parameters
    ----------
    *parts
        Numpy arrays and xarray objects count with dtype, shape and bytes; mappings regardless of order.
    length : int
        Hexadecimal digits returned.

    Returns
    -------
    str
        Stable over processes, platforms of one byte order, and sessions.

    Examples
    --------
    >>> content_key({"a": 1, "b": 2.0}) == content_key({"b": 2.0, "a": 1})
    True
    """
    digest = hashlib.sha256()
    for part in parts:
        _feed(digest, part)
    return digest.hexdigest()[:length]


def _feed(digest: Any, part: Any) -> None:
    if isinstance(part, xr.DataArray):
        part = part.to_dataset(name=part.name or "array")
    if isinstance(part, xr.Dataset):
        digest.update(b"D")
        for name in sorted(map(str, part.variables)):
            variable = part.variables[name]
            _feed(digest, [name, list(map(str, variable.dims))])
            _feed(digest, variable.values)
    elif isinstance(part, np.ndarray):
        if part.dtype.kind in "OU":
            _feed(digest, [str(v) for v in part.ravel()])
        else:
            digest.update(f"A{part.dtype.str}{part.shape}".encode())
            digest.update(np.ascontiguousarray(part).view(np.uint8).data)
    elif isinstance(part, BaseModel):
        _feed(digest, part.model_dump(mode="json"))
    elif isinstance(part, Mapping):
        digest.update(b"M")
        for key in sorted(part, key=str):
            _feed(digest, str(key))
            _feed(digest, part[key])
    elif isinstance(part, (list, tuple)):
        digest.update(f"L{len(part)}".encode())
        for item in part:
            _feed(digest, item)
    elif isinstance(part, bytes):
        digest.update(b"B" + part)
    else:
        if isinstance(part, np.generic):
            part = part.item()
        if isinstance(part, float) and math.isfinite(part) and part == int(part):
            part = int(part)  # 120 and 120.0 kV are one protocol
        if isinstance(part, Path):
            part = str(part)
        digest.update(f"{type(part).__name__[0]}{json.dumps(part)};".encode())


@lru_cache(maxsize=1)
def source_key() -> str:
    """Hash of the package's own source, so that changed code never meets old results."""
    root = Path(__file__).parent
    files = sorted(
        p for p in root.rglob("*") if p.suffix in {".py", ".yaml", ".csv"} and "__pycache__" not in p.parts
    )
    return content_key([(p.relative_to(root).as_posix(), p.read_bytes()) for p in files])
