"""Change the grid of a Phantom without losing mass: resample, crop, extend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numba
import numpy as np
import xarray as xr

from twinlab.phantom.build import (
    AIR_DENSITY_G_CM3,
    BODY,
    EXTENSION,
    OUTSIDE,
    RESERVED_ORGANS,
    assemble,
    check_phantom,
    material_names,
    organ_names,
)
from twinlab.schema import refuse, spacing


def resample(phantom: xr.Dataset, *, spacing_mm: float | Sequence[float]) -> xr.Dataset:
    """Phantom on voxels of another size over the same volume.

    Density is averaged by overlapping volume, so mass is conserved to rounding; the material is the one with
    the largest mass in the voxel, the organ the one with the largest volume. Where the extent is no multiple
    of the new size, the grid stands over by the same length at both ends, and what stands over is air.

    Parameters
    ----------
    phantom : Dataset
        A Phantom.
    spacing_mm : float or (z, y, x), units mm

    Returns
    -------
    Dataset
        A Phantom; ``attrs["resampled_from"]`` is the key of the one it came from.

    Raises
    ------
    InputError
        Not a Phantom, or a spacing that is not positive.
    """
    where = "resample"
    old = check_phantom(phantom, where=where)
    steps = np.asarray(spacing_mm, float)
    if steps.size not in (1, 3) or not (steps > 0).all():
        refuse(where, "spacing_mm as one positive number or (z, y, x)", spacing_mm)
    steps = np.broadcast_to(steps, (3,))
    coords = {}
    for axis, before, step in zip("zyx", old, steps, strict=True):
        values = phantom[axis].values
        extent = before * values.size
        count = max(1, int(np.ceil(extent / step - 1e-6)))
        coords[axis] = (values[0] + values[-1]) / 2 + (np.arange(count) - (count - 1) / 2) * step
    return resample_to(phantom, **coords, steps=(float(steps[0]), float(steps[1]), float(steps[2])))


def resample_to(
    phantom: xr.Dataset,
    *,
    z: np.ndarray,
    y: np.ndarray,
    x: np.ndarray,
    steps: tuple[float, float, float] | None = None,
) -> xr.Dataset:
    """Phantom on a given grid (see :func:`resample`); what lies beyond the phantom is air.

    Parameters
    ----------
    phantom : Dataset
        A Phantom.
    z, y, x : array_like, units mm
        Voxel centres, even and ascending.
    steps : (z, y, x), optional, units mm
        Voxel size; needed only for an axis of one voxel.

    Raises
    ------
    InputError
        Not a Phantom, or a coordinate is not even and ascending.
    """
    where = "resample_to"
    old = check_phantom(phantom, where=where)
    new = {a: np.asarray(v, float) for a, v in zip("zyx", (z, y, x), strict=True)}
    if steps is None:
        dz, dy, dx = (spacing(xr.DataArray(v, dims=a, name=a), where=where) for a, v in new.items())
        steps = (dz, dy, dx)
    spans: list[Any] = [
        _overlap(phantom[a].values, o, new[a], s) for a, o, s in zip("zyx", old, steps, strict=True)
    ]
    ids = phantom["organ_id"].values
    rank = np.zeros(int(ids.max()) + 1, np.uint16)
    rank[ids] = np.arange(ids.size)
    arguments: tuple[Any, ...] = (
        phantom["material"].values,
        phantom["density"].values,
        rank[phantom["organ"].values],
        *spans[0],
        *spans[1],
        *spans[2],
        len(phantom["material_name"]),
        ids.size,
        int(rank[OUTSIDE]),
        AIR_DENSITY_G_CM3,
    )
    material, density, organ = _average(*arguments)
    return _again(
        phantom,
        material,
        density,
        ids[organ],
        new,
        resampled_from=phantom.attrs.get("key", ""),
        **{f"d{a}_mm": s for a, s in zip("zyx", steps, strict=True)},
    )


def _overlap(
    old: np.ndarray, old_step: float, new: np.ndarray, new_step: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """First old voxel, count and weights (share of the new voxel) of each new voxel along one axis."""
    edge = old[0] - old_step / 2
    low = (new - new_step / 2 - edge) / old_step
    high = low + new_step / old_step
    first = np.clip(np.floor(low + 1e-9), 0, old.size).astype(np.int64)
    last = np.clip(np.ceil(high - 1e-9), 0, old.size).astype(np.int64)
    count = np.maximum(last - first, 0)
    weights = np.zeros((new.size, max(1, int(count.max()))))
    for k in range(weights.shape[1]):
        covered = np.minimum(high, first + k + 1) - np.maximum(low, first + k)
        weights[:, k] = np.where(k < count, np.maximum(covered, 0.0), 0.0) * old_step / new_step
    return first, count, weights


@numba.njit(cache=True, parallel=True)
def _average(  # type: ignore[no-untyped-def]
    material, density, organ, z0, zn, zw, y0, yn, yw, x0, xn, xw, n_materials, n_organs, outside, air
):
    shape = (z0.size, y0.size, x0.size)
    out_material = np.zeros(shape, np.uint8)
    out_density = np.empty(shape, np.float32)
    out_organ = np.empty(shape, np.uint16)
    for k in numba.prange(shape[0]):
        mass_of = np.zeros(n_materials)
        share_of = np.zeros(n_organs)
        for j in range(shape[1]):
            for i in range(shape[2]):
                mass_of[:] = 0.0
                share_of[:] = 0.0
                total, volume = 0.0, 0.0
                for c in range(zn[k]):
                    for b in range(yn[j]):
                        w_zy = zw[k, c] * yw[j, b]
                        for a in range(xn[i]):
                            w = w_zy * xw[i, a]
                            at = (z0[k] + c, y0[j] + b, x0[i] + a)
                            mass = w * density[at]
                            mass_of[material[at]] += mass
                            share_of[organ[at]] += w
                            total += mass
                            volume += w
                beyond = max(1.0 - volume, 0.0)
                mass_of[0] += beyond * air
                share_of[outside] += beyond
                out_density[k, j, i] = total + beyond * air
                out_material[k, j, i] = np.argmax(mass_of)
                out_organ[k, j, i] = np.argmax(share_of)
    return out_material, out_density, out_organ


def crop(
    phantom: xr.Dataset,
    *,
    z_mm: tuple[float, float] | None = None,
    y_mm: tuple[float, float] | None = None,
    x_mm: tuple[float, float] | None = None,
    margin_mm: float | None = None,
) -> xr.Dataset:
    """Part of a Phantom: voxels whose centre lies in the ranges, or the body's bounding box.

    Parameters
    ----------
    phantom : Dataset
        A Phantom.
    z_mm, y_mm, x_mm : (low, high), optional, units mm
    margin_mm : float, optional
        Cut y and x to the box of all that is not ``outside``, with this margin.

    Raises
    ------
    InputError
        Not a Phantom, or a range that holds no voxel.
    """
    steps = check_phantom(phantom, where="crop")
    ranges = {"z": z_mm, "y": y_mm, "x": x_mm}
    cut: dict[str, slice] = {}
    for axis, limits in ranges.items():
        values = phantom[axis].values
        if limits is None:
            continue
        inside = np.flatnonzero((values >= limits[0]) & (values <= limits[1]))
        if inside.size == 0:
            refuse("crop", f"{axis} range that meets {values[0]:g} to {values[-1]:g} mm", limits)
        cut[axis] = slice(int(inside[0]), int(inside[-1]) + 1)
    part = phantom.isel(cut)
    if margin_mm is not None:
        solid = part["organ"].values != OUTSIDE
        if not solid.any():
            refuse("crop", "a range with some body in it", "air only")
        for axis, step, over in (("y", steps[1], (0, 2)), ("x", steps[2], (0, 1))):
            hit = np.flatnonzero(solid.any(axis=over))
            pad = int(np.ceil(margin_mm / step))
            part = part.isel({axis: slice(max(0, int(hit[0]) - pad), int(hit[-1]) + 1 + pad)})
    new = {a: part[a].values for a in "zyx"}
    return _again(
        phantom,
        part["material"].values,
        part["density"].values,
        part["organ"].values,
        new,
        **{f"d{a}_mm": s for a, s in zip("zyx", steps, strict=True)},
    )


def extend(phantom: xr.Dataset, *, length_mm: float) -> xr.Dataset:
    """Repeat the first and last slice outwards, so that photons scatter as in a longer body.

    The repeated body carries the label 1002, ``extension``, so that no organ gains mass.

    Parameters
    ----------
    phantom : Dataset
        A Phantom.
    length_mm : float
        Added at each end (rounded up to whole slices).

    Raises
    ------
    InputError
        Not a Phantom, or a negative length.
    """
    steps = check_phantom(phantom, where="extend")
    if not length_mm >= 0:
        refuse("extend", "length_mm of 0 or more", length_mm)
    count = int(np.ceil(length_mm / steps[0] - 1e-9))
    if count == 0:
        return phantom
    pad = ((count, count), (0, 0), (0, 0))
    material, density, organ = (
        np.pad(phantom[n].values, pad, mode="edge") for n in ("material", "density", "organ")
    )
    for end in (slice(0, count), slice(-count, None)):
        organ[end][organ[end] != OUTSIDE] = EXTENSION
    z = phantom["z"].values
    z = np.concatenate(
        [z[0] - steps[0] * np.arange(count, 0, -1), z, z[-1] + steps[0] * np.arange(1, count + 1)]
    )
    low, high = phantom.attrs.get("imaged_z_mm", (z[count] - steps[0] / 2, z[-count - 1] + steps[0] / 2))
    new = {"z": z, "y": phantom["y"].values, "x": phantom["x"].values}
    return _again(phantom, material, density, organ, new, imaged_z_mm=[float(low), float(high)])


def _again(
    phantom: xr.Dataset,
    material: np.ndarray,
    density: np.ndarray,
    organ: np.ndarray,
    coords: dict[str, np.ndarray],
    **attrs: Any,
) -> xr.Dataset:
    kept = {k: v for k, v in phantom.attrs.items() if k not in {"name", "source", "key"}}
    return assemble(
        material=material,
        density=density,
        organ=organ,
        material_names=material_names(phantom),
        organ_names={**RESERVED_ORGANS, **organ_names(phantom), BODY: "body"},
        **coords,
        name=phantom.attrs["name"],
        source=phantom.attrs["source"],
        attrs={**kept, **attrs},
    )
