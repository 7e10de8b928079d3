"""Put a Phantom together from arrays, and check one on entry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from twinlab.keys import content_key
from twinlab.schema import check, label, refuse, spacing

AIR_DENSITY_G_CM3 = 0.001205
"""Dry air near sea level at 20 degrees Celsius (NIST)."""

OUTSIDE, BODY, SKIN, EXTENSION = 0, 1000, 1001, 1002
RESERVED_ORGANS: Mapping[int, str] = {OUTSIDE: "outside", BODY: "body", SKIN: "skin", EXTENSION: "extension"}


def assemble(
    *,
    material: np.ndarray,
    density: np.ndarray,
    organ: np.ndarray,
    material_names: Sequence[str],
    organ_names: Mapping[int, str],
    z: np.ndarray,
    y: np.ndarray,
    x: np.ndarray,
    name: str,
    source: str,
    attrs: Mapping[str, Any] | None = None,
) -> xr.Dataset:
    """Phantom Dataset from voxel arrays; tables keep only what the voxels use.

    Parameters
    ----------
    material : ndarray of int, shape (z, y, x)
        Index into ``material_names``.
    density : ndarray, shape (z, y, x), units g/cm3
    organ : ndarray of int, shape (z, y, x)
        Key of ``organ_names``.
    material_names : sequence of str
        Names in the physics registry; the first is ``"air"``.
    organ_names : mapping of int to str
    z, y, x : ndarray, units mm
        Voxel centres, even and ascending.
    name, source : str
        What the phantom is called, and where it is from (citation).
    attrs : mapping, optional
        Further attributes (plain values).

    Returns
    -------
    Dataset
        ``material``, ``density``, ``organ`` and their tables; ``attrs["key"]`` is a hash of it all.

    Raises
    ------
    InputError
        The first material is not air, an index has no name, or a density is not above 0 or not finite.
    """
    where = f"phantom {name!r}"
    if not material_names or material_names[0] != "air":
        refuse(where, "'air' as the first material", list(material_names[:1]))
    if not np.isfinite(density).all() or density.min() <= 0:
        refuse(where, "densities finite and above 0", f"{np.nanmin(density)} to {np.nanmax(density)}")
    material, names = _used_materials(material, list(material_names), where)
    ids = np.flatnonzero(np.bincount(organ.ravel().astype(np.uint16, copy=False), minlength=1))
    unknown = [int(i) for i in ids if int(i) not in organ_names]
    if unknown:
        refuse(where, "a name for each organ label", f"labels without name {unknown}")
    ids = np.union1d(ids, [OUTSIDE]).astype(np.uint16)
    # to a nanometre: headers in text and in float32 then name one grid alike
    coords = {a: np.round(np.asarray(v, float), 6) + 0.0 for a, v in (("z", z), ("y", y), ("x", x))}
    organs = [organ_names.get(int(i), RESERVED_ORGANS.get(int(i), "")) for i in ids]
    phantom = xr.Dataset(
        {
            "material": label("material", material, coords),
            "density": label("density", density.astype(np.float32, copy=False), coords),
            "organ": label("organ", organ.astype(np.uint16, copy=False), coords),
            "material_name": label("material_name", np.array(names, dtype=object)),
            "organ_name": label("organ_name", np.array(organs, dtype=object), {"organ_id": ids}),
        },
    )
    phantom.attrs = {"name": name, "source": source, **(attrs or {}), "key": content_key(phantom)}
    return phantom


def _used_materials(material: np.ndarray, names: list[str], where: str) -> tuple[np.ndarray, list[str]]:
    counts = np.bincount(material.ravel().astype(np.uint8, copy=False), minlength=len(names))
    if counts.size > len(names):
        refuse(where, f"material indices below {len(names)}", int(counts.size - 1))
    keep = [i for i in range(len(names)) if i == 0 or counts[i]]
    table = np.zeros(256, dtype=np.uint8)
    table[keep] = np.arange(len(keep), dtype=np.uint8)
    return table[material], [names[i] for i in keep]


def check_phantom(phantom: xr.Dataset, *, where: str) -> tuple[float, float, float]:
    """Check that a Dataset is a Phantom; its voxel spacing comes back.

    Returns
    -------
    tuple of float
        Spacing along z, y, x [mm].

    Raises
    ------
    InputError
        A variable is missing or mislabelled, or a coordinate is not even and ascending.
    """
    if not isinstance(phantom, xr.Dataset):
        refuse(where, "a Phantom (Dataset)", type(phantom).__name__)
    check(phantom, "material", "density", "organ", "material_name", "organ_name", where=where)
    dz, dy, dx = (
        spacing(phantom[axis], where=where)
        if phantom.sizes[axis] > 1
        else float(phantom.attrs.get(f"d{axis}_mm", 1.0))
        for axis in "zyx"
    )
    return dz, dy, dx


def organ_names(phantom: xr.Dataset) -> dict[int, str]:
    """Organ table as a mapping of label to name."""
    return {
        int(i): str(n) for i, n in zip(phantom["organ_id"].values, phantom["organ_name"].values, strict=True)
    }


def material_names(phantom: xr.Dataset) -> list[str]:
    """Material table as a list of names."""
    return [str(n) for n in phantom["material_name"].values]


def organ_table(phantom: xr.Dataset) -> xr.Dataset:
    """Volume [cm3], mass [g] and mean density [g/cm3] of each organ inside the phantom.

    Returns
    -------
    Dataset, dims (organ_id)
        ``volume``, ``organ_mass``, ``mean_density``; ``organ_name`` beside them.
    """
    dz, dy, dx = check_phantom(phantom, where="organ_table")
    ids = phantom["organ_id"].values
    voxel_cm3 = dz * dy * dx / 1000.0
    size = int(ids.max()) + 1
    count = np.zeros(size)
    total = np.zeros(size)
    for organ, density in zip(phantom["organ"].values, phantom["density"].values, strict=True):
        count += np.bincount(organ.ravel(), minlength=size)
        total += np.bincount(organ.ravel(), weights=density.ravel(), minlength=size)
    volume, mass = count[ids] * voxel_cm3, total[ids] * voxel_cm3
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(volume > 0, mass / volume, 0.0)
    table = xr.Dataset(
        {
            "volume": (
                "organ_id",
                volume,
                {"units": "cm3", "long_name": "volume of the organ inside the phantom"},
            ),
            "organ_mass": label("organ_mass", mass, {"organ_id": ids}),
            "mean_density": ("organ_id", mean, {"units": "g cm-3", "long_name": "mean density of the organ"}),
            "organ_name": phantom["organ_name"],
        }
    )
    return table
