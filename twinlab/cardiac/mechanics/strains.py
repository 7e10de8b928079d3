"""Strains of the muscle: along the fibre, along and around the ventricle, and thickening of the wall."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from twinlab.cardiac.geometry import aha_segments
from twinlab.cardiac.mechanics.bodies import Body
from twinlab.schema import label, refuse


def strain(body: Body, displacement_mm: Any, *, reference_mm: Any = None) -> xr.Dataset:
    """Engineering strains of every tetrahedron against a reference state, and their means over the muscle.

    A stretch is the length of a material line now over its length in the reference (end-diastole in the clinic).
    Thickening follows from the normal of the wall (``1/|F^-T n|``), so that shear does not count as thickness.

    Parameters
    ----------
    body : Body
        Its mesh must have ``transmural`` and ``apicobasal`` for all but the strain along the fibre.
    displacement_mm : (node, 3) or (time, node, 3)
    reference_mm : (node, 3), optional
        Displacement of the reference state; the unloaded body by default.

    Returns
    -------
    Dataset
        ``fibre_strain``, ``longitudinal_strain``, ``circumferential_strain``, ``wall_thickening`` (tet,) or
        (time, tet), and as attributes (one state) or variables with ``_mean`` (time,) their means by volume:
        the global strains.

    Raises
    ------
    InputError
        Displacements of another mesh.

    Notes
    -----
    The means are over all muscle. Global longitudinal strain by ultrasound follows a line in the middle of the wall or
    at the endocardium, where shortening is greater: compare with that through the layers, not with the mean.
    """
    moved = np.asarray(displacement_mm, float)
    times = moved.ndim == 3
    moved = moved if times else moved[None]
    if moved.shape[1:] != body.point.shape or not np.isfinite(moved).all():
        refuse("strain", f"a finite displacement of {len(body.point)} nodes", moved.shape)
    ground = np.zeros_like(body.point) if reference_mm is None else np.asarray(reference_mm, float)
    volume = body.measure.sum(1)
    middle = _at_middle(body)
    before = _gradients(body, middle, ground)
    lines: dict[str, np.ndarray] = {"fibre_strain": np.broadcast_to([1.0, 0, 0], (len(body.tet), 3))}
    wall = None
    if "transmural" in body.heart and "apicobasal" in body.heart:
        wall, along, around = directions(body)
        lines.update(longitudinal_strain=along, circumferential_strain=around)
    rows: dict[str, list[np.ndarray]] = {name: [] for name in lines}
    if wall is not None:
        rows["wall_thickening"] = []
    for one in moved:
        now = _gradients(body, middle, one)
        for name, line in lines.items():
            rows[name].append(_length(now, line) / _length(before, line) - 1)
        if wall is not None:
            rows["wall_thickening"].append(_thickness(now, wall) / _thickness(before, wall) - 1)
    result = xr.Dataset()
    for name, values in rows.items():
        stacked = np.stack(values)
        mean = stacked @ volume / volume.sum()
        if times:
            result[name] = label(name, stacked, dims=("time", "tet"))
            result[f"{name}_mean"] = xr.DataArray(mean, dims="time", attrs={"units": "1"})
        else:
            result[name] = label(name, stacked[0])
            result.attrs[f"{name}_mean"] = float(mean[0])
    return result


def directions(body: Body) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Unit normal of the wall, direction from apex to base and around (tet, 3), in the frame of the fibres."""
    transmural = np.asarray(body.heart["transmural"], float)
    apicobasal = np.asarray(body.heart["apicobasal"], float)
    gradient = _at_middle(body)
    through = np.einsum("eak,ea->ek", gradient, transmural[body.tet])
    along = np.einsum("eak,ea->ek", gradient, apicobasal[body.tet])
    wall = through / np.maximum(np.linalg.norm(through, axis=1, keepdims=True), 1e-30)
    along = along - (along * wall).sum(1, keepdims=True) * wall
    along /= np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-30)
    return wall, along, np.cross(wall, along)


def segment_means(body: Body, values: Any, *, segment: Any = None) -> xr.DataArray:
    """Mean by volume of values (tet,) or (time, tet) in each of the 17 segments.

    Parameters
    ----------
    body : Body
    values : (tet,) or (time, tet)
    segment : (tet,), optional
        Segment of each tetrahedron, 1 to 17; else that of :func:`twinlab.cardiac.geometry.aha_segments`.

    Returns
    -------
    DataArray, dims (time, segment) or (segment,)
        NaN where a segment has no tetrahedra.
    """
    number = np.asarray(aha_segments(body.heart) if segment is None else segment)
    array, volume = np.asarray(values, float), body.measure.sum(1)
    if number.shape != volume.shape or array.shape[-1] != len(volume):
        refuse(
            "segment_means", f"values and segments of {len(volume)} tetrahedra", (array.shape, number.shape)
        )
    member = (number[:, None] == np.arange(1, 18)) * volume[:, None]
    with np.errstate(invalid="ignore"):
        means = array @ member / member.sum(0)
    dims = ("time", "segment") if array.ndim == 2 else ("segment",)
    return xr.DataArray(means, dims=dims, coords={"segment": np.arange(1, 18)}, attrs={"units": "1"})


def _gradients(body: Body, middle: np.ndarray, moved: np.ndarray) -> np.ndarray:
    """Mean deformation gradient of each tetrahedron (tet, 3, 3), second axis in the frame of the fibres."""
    return np.einsum("eai,eak->eik", (body.point + moved)[body.tet], middle)


def _at_middle(body: Body) -> np.ndarray:
    """Mean gradients of the shape functions (tet, 10, 3)."""
    weight = body.measure / body.measure.sum(1, keepdims=True)
    return np.einsum("eq,eqak->eak", weight, body.gradient)


def _length(f: np.ndarray, line: np.ndarray) -> np.ndarray:
    return np.linalg.norm(np.einsum("eik,ek->ei", f, line), axis=1)


def _thickness(f: np.ndarray, wall: np.ndarray) -> np.ndarray:
    return 1 / np.linalg.norm(np.linalg.solve(np.swapaxes(f, 1, 2), wall[..., None])[..., 0], axis=1)
