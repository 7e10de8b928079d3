"""Phantoms from a plain volume of labels, as other programs write them, and a table of what the labels mean."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from twinlab.phantom.build import OUTSIDE, RESERVED_ORGANS, assemble
from twinlab.physics import materials
from twinlab.schema import InputError, refuse

_WHERE = "from_raw"
_ORDER = re.compile(r"(-?[xyz])(-?[xyz])(-?[xyz])")
_FIRST_FREE = 256  # organ id of a label 0 that is no air: labels are bytes


def from_raw(
    volume: str | Path | np.ndarray,
    *,
    spacing_mm: float | Sequence[float],
    table: Mapping[int, Sequence[Any]],
    shape: Sequence[int] | None = None,
    order: str = "zyx",
    origin_mm: Sequence[float] | None = None,
    name: str = "",
    source: str = "",
) -> xr.Dataset:
    """Phantom from a raw volume of one byte per voxel and a table of its labels.

    Parameters
    ----------
    volume : path or (i, j, k) array of uint8
        A file without header, or the labels themselves.
    spacing_mm : float or (z, y, x), units mm
    table : mapping of label to (material, density[, organ])
        Material: a key of :mod:`twinlab.physics.materials`; density in g/cm3; organ: a name. Labels of one
        organ name make one organ. Without a name, air is outside the body and other labels are organs named
        after their material.
    shape : (i, j, k), optional
        Voxels along the axes of the file, slowest first; needed with a file.
    order : str
        The axes of the volume from slowest to fastest, with a minus where an axis runs towards the negative:
        ``"zyx"`` is what most programs write, ``"z-yx"`` has y reversed. x to the patient's left, y to
        posterior, z to the head.
    origin_mm : (z, y, x), optional, units mm
        Centre of the voxel with the least coordinates; by default the middle of the volume is at 0.
    name, source : str
        What the phantom is called and where it is from; by default the file's name.

    Returns
    -------
    Dataset
        A Phantom. Organ ids are the (least) labels of the organs, 0 outside the body.

    Raises
    ------
    InputError
        A label that the table lacks, a density not above 0, an unknown material, a file of the wrong size,
        an array of another type, or axes that are not x, y and z.

    Examples
    --------
    >>> import numpy as np
    >>> table = {0: ("air", 0.001205), 1: ("water", 1.0, "tank")}
    >>> tank = from_raw(np.ones((2, 3, 4), np.uint8), spacing_mm=10.0, table=table, name="tank")
    >>> tank.sizes["x"], str(tank["organ_name"].values[-1])
    (4, 'tank')
    """
    labels = _oriented(_read(volume, shape), order)
    steps = _spacing(spacing_mm)
    rows = {k: _row(k, row) for k, row in table.items()}
    _complete(labels, rows)
    names = ["air", *sorted({row[0] for row in rows.values()} - {"air"})]
    material, organ = np.zeros(256, np.uint8), np.zeros(256, np.uint16)
    density = np.zeros(256, np.float32)
    ids = _organ_ids(rows)
    for k, (made_of, value, part) in rows.items():
        material[k], density[k], organ[k] = names.index(made_of), value, ids[part]
    stem = Path(volume).stem if isinstance(volume, str | Path) else "raw"
    return assemble(
        material=material[labels],
        density=density[labels],
        organ=organ[labels],
        material_names=names,
        organ_names={**RESERVED_ORGANS, **{number: part for part, number in ids.items()}},
        **_coordinates(labels.shape, steps, origin_mm),
        name=name or stem,
        source=source or f"raw volume {stem}",
        attrs={f"d{axis}_mm": step for axis, step in zip("zyx", steps, strict=True)},
    )


def _read(volume: str | Path | np.ndarray, shape: Sequence[int] | None) -> np.ndarray:
    """Labels in the order of the file."""
    if isinstance(volume, np.ndarray):
        if volume.dtype != np.uint8 or volume.ndim != 3 or volume.size == 0:
            refuse(_WHERE, "an array of uint8 with three axes", f"{volume.dtype} of shape {volume.shape}")
        if shape is not None and tuple(shape) != volume.shape:
            refuse(f"{_WHERE}: shape", f"that of the array, {volume.shape}", tuple(shape))
        return volume
    path = Path(volume)
    if not path.is_file():
        refuse(_WHERE, "a file of one byte per voxel, or an array", f"no file {path}")
    if shape is None or len(shape) != 3 or not all(int(n) == n and n > 0 for n in shape):
        refuse(f"{_WHERE}: shape", "three numbers of voxels above 0 with a file", shape)
    size = math.prod(int(n) for n in shape)
    if path.stat().st_size != size:
        got = f"{path.stat().st_size} bytes in {path}"
        refuse(_WHERE, f"{size} bytes for shape {tuple(shape)}", got)
    return np.fromfile(path, np.uint8).reshape([int(n) for n in shape])


def _oriented(labels: np.ndarray, order: str) -> np.ndarray:
    """Labels with the axes z, y, x, all ascending."""
    match = _ORDER.fullmatch(order)
    axes = list(match.groups()) if match else []
    plain = [axis[-1] for axis in axes]
    if sorted(plain) != ["x", "y", "z"]:
        refuse(f"{_WHERE}: order", "x, y and z once each, as in 'zyx' or 'z-yx'", repr(order))
    turned = labels[tuple(slice(None, None, -1 if axis[0] == "-" else 1) for axis in axes)]
    return np.ascontiguousarray(turned.transpose([plain.index(axis) for axis in "zyx"]))


def _spacing(spacing_mm: float | Sequence[float]) -> tuple[float, float, float]:
    steps = np.asarray(spacing_mm, float)
    if steps.size not in (1, 3) or not (np.isfinite(steps).all() and (steps > 0).all()):
        refuse(f"{_WHERE}: spacing_mm", "one positive number or (z, y, x)", spacing_mm)
    dz, dy, dx = (float(v) for v in np.broadcast_to(steps, (3,)))
    return dz, dy, dx


def _row(label: int, row: Sequence[Any]) -> tuple[str, float, str]:
    """Material, density and organ of a label."""
    where = f"{_WHERE}: table, label {label}"
    if not isinstance(label, Real) or label not in range(256):
        refuse(where, "a label of 0 to 255", repr(label))
    if isinstance(row, str) or len(row) not in (2, 3):
        refuse(where, "(material, density) or (material, density, organ)", row)
    key, value = str(row[0]), row[1]
    try:
        materials.get(key)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    if not (number and math.isfinite(value) and value > 0):
        refuse(where, "a density above 0 g/cm3", value)
    organ = str(row[2]) if len(row) == 3 else (RESERVED_ORGANS[OUTSIDE] if key == "air" else key)
    return key, float(value), organ


def _complete(labels: np.ndarray, rows: Mapping[int, tuple[str, float, str]]) -> None:
    counts = np.bincount(labels.ravel(), minlength=256)
    missing = [int(k) for k in np.flatnonzero(counts) if int(k) not in rows]
    if missing:
        voxels = ", ".join(f"{k} ({counts[k]} voxels)" for k in missing[:10])
        more = f" and {len(missing) - 10} more" if len(missing) > 10 else ""
        refuse(f"{_WHERE}: table", "a row for every label in the volume", f"none for {voxels}{more}")


def _organ_ids(rows: Mapping[int, tuple[str, float, str]]) -> dict[str, int]:
    """Id of each organ name: its least label, 0 for outside."""
    ids = {RESERVED_ORGANS[OUTSIDE]: OUTSIDE}
    for label in sorted(rows):
        ids.setdefault(rows[label][2], label or _FIRST_FREE)
    return ids


def _coordinates(
    shape: Sequence[int], steps: Sequence[float], origin_mm: Sequence[float] | None
) -> dict[str, np.ndarray]:
    if origin_mm is None:
        origin_mm = [-0.5 * (n - 1) * step for n, step in zip(shape, steps, strict=True)]
    if len(origin_mm) != 3 or not np.isfinite(np.asarray(origin_mm, float)).all():
        refuse(f"{_WHERE}: origin_mm", "three finite numbers (z, y, x)", origin_mm)
    return {
        axis: first + step * np.arange(n)
        for axis, n, step, first in zip("zyx", shape, steps, origin_mm, strict=True)
    }
