"""CT images and label maps from NIfTI (and whatever else SimpleITK reads), by their geometry alone."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import xarray as xr

from twinlab.schema import InputError, label, refuse

AXIS_TOLERANCE = 1e-3
"""Largest sine between an image axis and a patient axis: 0.3 mm over a chest."""

GRID_TOLERANCE = 0.01
"""Share of a voxel by which the grids of an image and its labels may differ (rounded headers)."""


def read_image(path: str | Path) -> xr.DataArray:
    """CT image on ascending patient axes (x left, y posterior, z head), whatever order it is stored in.

    Returns
    -------
    DataArray, dims (z, y, x), units HU

    Raises
    ------
    InputError
        No such file, not an image of three dimensions, oblique to the patient's axes, or not in HU.
    """
    values, coords = _read(path, where="read_image")
    values = values.astype(np.float32, copy=False)
    if not np.isfinite(values).all():
        refuse(f"read_image({path})", "finite CT numbers", "NaN or infinite voxels")
    low, high = float(values.min()), float(values.max())
    if low > -200 or high < -200:
        refuse(
            f"read_image({path})", "CT numbers in HU (air near -1000, a body near 0)", f"{low:g} to {high:g}"
        )
    return label("hu", values, coords)


def read_labels(path: str | Path, *, like: xr.DataArray, cropped: bool = False) -> np.ndarray:
    """Label map on the very grid of an image.

    Parameters
    ----------
    path : str or path
    like : DataArray, dims (z, y, x)
        The image.
    cropped : bool
        Also take a map on another extent of the image's grid (one of the two was cropped): cut to the image, 0 where
        it has no voxel.

    Returns
    -------
    ndarray of uint16, shape as ``like``

    Raises
    ------
    InputError
        The map lies on another grid (both are told), or holds values that are no labels.
    """
    values, coords = _read(path, where="read_labels")
    ours = {a: like[a].values for a in "zyx"}
    if cropped:
        values, coords = _cut_to(values, coords, ours)
    if not _same_grid(coords, ours):
        refuse(
            f"read_labels({path})", f"labels on the image's grid, {_grid(ours)}", f"labels on {_grid(coords)}"
        )
    if values.dtype.kind == "f" and not np.array_equal(values, np.rint(values)):
        refuse(f"read_labels({path})", "whole numbers as labels", "fractions")
    low, high = float(values.min()), float(values.max())
    if low < 0 or high >= 1000:
        refuse(f"read_labels({path})", "labels from 0 to 999", f"{low:g} to {high:g}")
    return values.astype(np.uint16)


def read_legend(legend: str | Path | Mapping[int, str] | None, ids: np.ndarray) -> dict[int, str]:
    """Organ names of labels; without a legend, ``label_7`` and so on.

    Parameters
    ----------
    legend : path of a CSV, mapping or None
        CSV columns: the label as ``id``, ``label``, ``value`` or ``index``; the name as ``structure``,
        ``name``, ``organ`` or ``label_name``.
    ids : ndarray of int
        Labels in use.

    Raises
    ------
    InputError
        The file is missing or lacks a column, or a label in use has no name.
    """
    if legend is None:
        return {int(i): f"label_{int(i)}" for i in ids if i}
    names = dict(legend) if isinstance(legend, Mapping) else _legend_rows(Path(legend))
    missing = [int(i) for i in ids if i and int(i) not in names]
    if missing:
        refuse("legend", "a name for each label", f"labels {missing} without one")
    return {int(i): str(names[int(i)]) for i in ids if i}


def _legend_rows(path: Path) -> dict[int, str]:
    if not path.is_file():
        refuse("legend", "a CSV file", f"no file {path}")
    with path.open(encoding="utf-8-sig", newline="") as stream:
        rows = list(csv.DictReader(stream))
    columns = {c.strip().lower(): c for c in (rows[0] if rows else {}) if c}
    key = next((columns[c] for c in ("id", "label", "value", "index") if c in columns), None)
    name = next((columns[c] for c in ("structure", "name", "organ", "label_name") if c in columns), None)
    if key is None or name is None:
        refuse(f"legend {path}", "columns id and structure (or label, name)", list(columns))
    try:
        return {int(row[key]): row[name].strip() for row in rows}
    except (ValueError, TypeError) as error:
        raise InputError(f"legend {path}: expected whole numbers in column {key!r}; got {error}") from None


def _read(path: str | Path, *, where: str) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    path = Path(path)
    if not path.is_file():
        refuse(where, "an image file", f"no file {path}")
    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise InputError(f"{where}: expected an image that SimpleITK reads; got {path} ({reason})") from None
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        refuse(where, "one image of three dimensions", f"{path}: {image.GetDimension()} dimensions")
    return _to_patient_axes(image, f"{where}({path})")


def _to_patient_axes(image: sitk.Image, where: str) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    direction = np.array(image.GetDirection()).reshape(3, 3)  # columns: patient vector of image axes i, j, k
    nearest = np.abs(direction).argmax(axis=0)
    rest = np.abs(direction - np.eye(3)[:, nearest] * np.sign(direction[nearest, range(3)])).max()
    if sorted(nearest) != [0, 1, 2] or rest > AXIS_TOLERANCE:
        refuse(
            where, "image axes along the patient's axes", f"oblique axes {np.round(direction, 4).tolist()}"
        )
    values = sitk.GetArrayFromImage(image)  # axes k, j, i
    coords: dict[str, np.ndarray] = {}
    order: dict[str, int] = {}
    for image_axis, patient_axis in enumerate(nearest):
        count, step = image.GetSize()[image_axis], image.GetSpacing()[image_axis]
        sign = float(np.sign(direction[patient_axis, image_axis]))
        along = image.GetOrigin()[patient_axis] + sign * step * np.arange(count)
        array_axis = 2 - image_axis
        if sign < 0:
            values = np.flip(values, array_axis)
            along = along[::-1]
        name = "xyz"[patient_axis]
        coords[name], order[name] = along, array_axis
    values = np.ascontiguousarray(values.transpose([order[a] for a in "zyx"]))
    return values, {a: coords[a] for a in "zyx"}


def _same_grid(one: Mapping[str, np.ndarray], two: Mapping[str, np.ndarray]) -> bool:
    for axis in "zyx":
        a, b = one[axis], two[axis]
        if a.size != b.size:
            return False
        step = abs(b[1] - b[0]) if b.size > 1 else 1.0
        if np.abs(a - b).max() > GRID_TOLERANCE * step:
            return False
    return True


def _cut_to(
    values: np.ndarray, coords: dict[str, np.ndarray], ours: dict[str, np.ndarray]
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Values on our extent of a grid that both share, zeros where they have none; unchanged when they share none."""
    target, source = [], []
    for axis in "zyx":
        theirs, mine = coords[axis], ours[axis]
        if theirs.size < 2 or mine.size < 2:
            return values, coords
        step = mine[1] - mine[0]
        shift = (theirs[0] - mine[0]) / step
        whole = round(shift)
        drift = abs(theirs[1] - theirs[0] - step) * max(theirs.size, mine.size)
        if abs(shift - whole) > GRID_TOLERANCE or drift > GRID_TOLERANCE * step:
            return values, coords
        low, high = max(0, whole), min(mine.size, whole + theirs.size)
        if low >= high:
            return values, coords
        target.append(slice(low, high))
        source.append(slice(low - whole, high - whole))
    out = np.zeros([ours[a].size for a in "zyx"], dtype=values.dtype)
    out[tuple(target)] = values[tuple(source)]
    return out, ours


def _grid(coords: Mapping[str, np.ndarray]) -> str:
    parts = []
    for axis in "zyx":
        values = coords[axis]
        step = values[1] - values[0] if values.size > 1 else 0.0
        parts.append(f"{axis} {values.size} x {step:.4g} mm from {values[0]:.5g}")
    return ", ".join(parts)
