"""Masks from images: checks, even grids, smooth level sets of the same volume."""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import ndimage
from scipy.optimize import brentq

from twinlab.cardiac.geometry.solids import Array
from twinlab.schema import refuse, spacing

Mask = NDArray[np.bool_]

CAVITY_MIN_ML = 20.0
"""Smallest left cavity that is taken for a human ventricle."""

_SPECK = 0.01  # share of the mask that further pieces or holes may have before they are an error


def volume_ml(mask: Mask, step_mm: float) -> float:
    """Volume of a mask on a grid of equal steps, ml."""
    return float(mask.sum()) * step_mm**3 / 1000.0


def checked_mask(mask: Mask, *, name: str, where: str, fill: bool) -> Mask:
    """Largest piece of a mask without holes.

    Raises
    ------
    InputError
        Empty; further pieces or holes of more than 1 % of the volume (holes only without ``fill``).
    """
    total = int(mask.sum())
    if total == 0:
        refuse(where, f"a {name} with voxels", "an empty mask")
    marked, count = ndimage.label(mask)
    sizes = np.bincount(marked.ravel())[1:]
    if count > 1 and sizes.sum() - sizes.max() > _SPECK * total:
        refuse(
            where,
            f"one connected {name} (remove the other pieces)",
            f"{count} pieces, the largest with {100 * sizes.max() / total:.0f} % of the voxels",
        )
    mask = marked == int(sizes.argmax()) + 1
    full = ndimage.binary_fill_holes(mask)
    holes = int(full.sum() - mask.sum())
    if holes > _SPECK * total and not fill:
        refuse(
            where, f"a {name} without holes (fill=True closes them)", f"holes of {100 * holes / total:.0f} %"
        )
    return np.asarray(full, dtype=bool)


def check_grid(image: xr.DataArray, *, where: str) -> None:
    """Dims z, y, x with even ascending coordinates, and no NaN."""
    if tuple(image.dims) != ("z", "y", "x"):
        refuse(where, "dims ('z', 'y', 'x')", image.dims)
    for axis in "zyx":
        spacing(image[axis], where=where)
    if image.dtype.kind == "f" and not np.isfinite(image.values).all():
        refuse(where, "finite values", f"{int((~np.isfinite(image.values)).sum())} NaN or infinite voxels")


def check_same_grid(one: xr.DataArray, two: xr.DataArray, *, where: str) -> None:
    """Refuse two grids that differ by more than a hundredth of a voxel."""
    for axis in "zyx":
        a, b = one[axis].values, two[axis].values
        if a.shape != b.shape or np.abs(a - b).max() > 0.01 * spacing(one[axis], where=where):
            refuse(
                where,
                f"mask on the image's grid ({axis}: {a.size} from {a[0]:g} to {a[-1]:g} mm)",
                f"{b.size} from {b[0]:g} to {b[-1]:g} mm",
            )


def even_grid(box: xr.DataArray, *, step_mm: float, margin_mm: float) -> dict[str, Array]:
    """Coordinates of equal steps over the true voxels of a mask, with a margin, within its grid's reach."""
    coords = {}
    for axis in "zyx":
        others = [d for d in "zyx" if d != axis]
        hit = box[axis].values[box.any(others).values]
        coords[axis] = np.arange(hit.min() - margin_mm, hit.max() + margin_mm + step_mm, step_mm)
    return coords


def on_even_grid(image: xr.DataArray, coords: dict[str, Array], *, beyond: float) -> Array:
    """Image at the points of a grid, trilinear; ``beyond`` outside its own grid."""
    index = [(coords[a] - float(image[a][0])) / spacing(image[a]) for a in "zyx"]
    full = np.stack(np.meshgrid(*index, indexing="ij"))
    values = np.asarray(image.values, dtype=np.float32)
    out: Array = ndimage.map_coordinates(values, full, order=1, mode="constant", cval=beyond)
    return out


def smooth_level(mask: Mask, step_mm: float, *, smooth_mm: float, keep: Mask | None = None) -> Array:
    """Signed distance of a mask, smoothed, and shifted so that it encloses the mask's volume.

    A Gaussian over the signed distance takes the steps of the voxels away and draws curved surfaces inwards; the
    shift gives back what that takes, so that the volume stays within 0.1 %.

    Parameters
    ----------
    mask : ndarray of bool
    step_mm : float
    smooth_mm : float
        Standard deviation of the Gaussian; 0 leaves the distance as it is.
    keep : ndarray of bool, optional
        Where the volume is counted, else everywhere.

    Returns
    -------
    ndarray, shape as ``mask``, mm
        Positive inside.
    """
    distance = ndimage.distance_transform_edt(mask) - ndimage.distance_transform_edt(~mask)
    # The surface lies half a voxel outside the outermost centres inside.
    level: Array = step_mm * (distance - 0.5 * np.sign(distance))
    level = ndimage.gaussian_filter(level, smooth_mm / step_mm, mode="nearest")
    count = np.ones_like(mask) if keep is None else keep
    wanted = float((mask & count).sum())
    near = level[count]

    def missing(shift: float) -> float:
        return float(np.clip(0.5 + (near + shift) / step_mm, 0, 1).sum()) - wanted

    reach = 3.0 * step_mm + 2.0 * smooth_mm
    if missing(-reach) < 0 < missing(reach):
        level = level + brentq(missing, -reach, reach, xtol=1e-4)
    return level
