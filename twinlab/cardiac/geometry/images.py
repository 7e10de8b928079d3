"""Hearts of patients: from a contrast CT with a mask of the heart, or from labels of chambers and muscle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import xarray as xr
from scipy import ndimage

from twinlab.cardiac.geometry.chambers import Chambers, find_chambers, seen_wall
from twinlab.cardiac.geometry.idealised import biventricular_solid, lv_solid
from twinlab.cardiac.geometry.masks import (
    CAVITY_MIN_ML,
    Mask,
    check_grid,
    check_same_grid,
    checked_mask,
    even_grid,
    on_even_grid,
    volume_ml,
)
from twinlab.cardiac.geometry.meshing import mesh_solid
from twinlab.cardiac.geometry.patient import Axes, find_axes, masked_solid, places_mm, pose
from twinlab.cardiac.geometry.solids import Array, Solid
from twinlab.schema import InputError, refuse

Path = Literal["auto", "chambers", "volumes", "size"]
Which = Literal["both", "left"]

SHARES = {"lv": 0.25, "rv": 0.27, "wall": 0.21}
"""Cavities and muscle of the ventricles as shares of the whole heart with its atria at the end of diastole: means of
both sexes of the UK Biobank's reference volumes (Petersen et al., J. Cardiovasc. Magn. Reson. 19:18, 2017: 145 and
156 ml, 67 and 81 ml for the atria, 82 ml of left muscle) with 40 ml of right muscle."""

APEX_DIRECTION = np.array([0.62, -0.62, -0.48])
"""Direction of the apex in a supine adult, used where the image does not show it: left, anterior, down."""

_STEP_MM = 1.5
_FINEST_MM = 0.75  # surfaces are smoothed over 2 mm: finer labels would cost gigabytes and say no more
_LOWER_MM = (0.0, 4.0, 8.0)  # base planes that are tried: outflow tracts may graze the first
_SURE = {
    "chambers": "cavities and left wall measured (lv_ml_spread: what the threshold leaves open); right wall assumed",
    "volumes": "volumes measured as for chambers, shape idealised",
    "size": "guessed from the size of the whole heart with shares of a population: 30 % either way",
}


def heart_from_ct(
    image: xr.DataArray,
    heart_mask: xr.DataArray,
    *,
    vessels: xr.DataArray | None = None,
    ventricles: Which = "both",
    path: Path = "auto",
    h_mm: float | None = None,
    rv_wall_mm: float = 4.0,
    smooth_mm: float = 2.0,
    layers: int = 3,
    layers_rv: int = 2,
    fill: bool = False,
) -> xr.Dataset:
    """Heart mesh from a CT and a mask of the whole heart.

    Three paths, the first that the image supports (``attrs["path"]``; ``attrs["path_reason"]`` says why no better
    one was taken):

    - ``chambers``: with contrast medium, blood by two classes, chambers by the watershed of the distance to muscle,
      the left ventricle as the one with muscle all around, its wall as the muscle seen straight from it. Surfaces
      are smoothed at constant volume; the base is a plane across the mitral orifice.
    - ``volumes``: the idealised geometry fitted to these volumes, laid along the measured axis.
    - ``size``: without contrast medium, the idealised geometry with a population's shares of the heart's volume.

    Parameters
    ----------
    image : DataArray, dims (z, y, x), units HU
    heart_mask : DataArray, dims (z, y, x)
        True (or not zero) in the heart, on the image's grid.
    vessels : DataArray, dims (z, y, x), optional
        Parts of the mask that are no chamber, as the pulmonary artery.
    ventricles : {"both", "left"}
    path : {"auto", "chambers", "volumes", "size"}
        "auto" takes the best that works; a named one is taken or refused.
    h_mm : float, optional, units mm
        Longest edge of an element well inside; else half the right wall, or 3 mm for the left ventricle alone.
    rv_wall_mm : float, units mm
        Thickness of the right free wall, which is not measured.
    smooth_mm : float, units mm
        Standard deviation of the smoothing of the surfaces.
    layers, layers_rv : int
        Elements across the walls, at least (gates, see ``mesh_solid``).
    fill : bool
        Close holes of the mask instead of refusing them.

    Returns
    -------
    Dataset
        Heart mesh; attrs ``path``, ``path_reason``, ``certainty``, ``measured_lv_ml``, ``measured_rv_ml``,
        ``measured_lv_wall_ml`` (before smoothing, below the base), ``threshold_hu``, ``contrast_hu``,
        ``lv_ml_spread`` (half the change of the left cavity when the threshold moves by a tenth of the contrast
        either way), ``base_lowered_mm``.

    Raises
    ------
    InputError
        Unequal grids, NaN, a mask that is empty, in pieces or has holes, a cavity below 20 ml, or a path that the
        image does not support.
    """
    where = "heart_from_ct"
    check_grid(image, where=where)
    _check_choices(where, path, ventricles, rv_wall_mm, smooth_mm)
    step = _STEP_MM
    masks = {"heart": heart_mask} | ({} if vessels is None else {"vessels": vessels})
    for mask in masks.values():
        check_grid(mask, where=where)
        check_same_grid(image, mask, where=where)
    solid_mask = checked_mask(heart_mask.values != 0, name="heart mask", where=where, fill=fill)
    whole = heart_mask.copy(data=solid_mask)
    coords = even_grid(whole, step_mm=step, margin_mm=10.0)
    heart = on_even_grid(whole, coords, beyond=0.0) > 0.5
    if volume_ml(heart, step) < 5 * CAVITY_MIN_ML:
        refuse(where, f"a heart of {5 * CAVITY_MIN_ML:.0f} ml or more", f"{volume_ml(heart, step):.0f} ml")
    other = np.zeros_like(heart)
    if vessels is not None:
        other = on_even_grid(vessels.copy(data=vessels.values != 0), coords, beyond=0.0) > 0.5
    hu = on_even_grid(image, coords, beyond=-1000.0)
    settings: dict[str, Any] = {"layers": layers}
    settings |= {"layers_rv": layers_rv, "h_mm": h_mm or 0.5 * rv_wall_mm} if ventricles == "both" else {}
    settings.setdefault("h_mm", h_mm or 3.0)
    found: Chambers | str = "path='size' was asked for"
    if path != "size":
        found = find_chambers(hu, heart, other, step)
    if isinstance(found, str):
        if path in ("chambers", "volumes"):
            refuse(where, f"an image that supports path={path!r}", found)
        solid = _by_size(heart, coords, ventricles, rv_wall_mm)
        return _told(mesh_solid(solid, **settings), "size", found, heart_ml=volume_ml(heart, step))
    right = found.right if ventricles == "both" else np.zeros_like(found.right)
    touching = ndimage.binary_dilation(found.others | (found.right & ~right), iterations=2)
    axes = find_axes(found.left, found.left & touching, found.right, coords, where=where)
    facts = {"threshold_hu": found.threshold_hu, "contrast_hu": found.contrast_hu}
    facts |= {"lv_ml_spread": found.spread}
    masks_of = (found.left, found.left_wall, right)
    return _heart(masks_of, axes, coords, path, settings, rv_wall_mm, smooth_mm, where, facts)


def heart_from_labels(
    labels: xr.DataArray,
    names: Mapping[str, int],
    *,
    ventricles: Which = "both",
    path: Literal["auto", "chambers", "volumes"] = "auto",
    h_mm: float | None = None,
    rv_wall_mm: float = 4.0,
    smooth_mm: float = 2.0,
    layers: int = 3,
    layers_rv: int = 2,
    fill: bool = False,
) -> xr.Dataset:
    """Heart mesh from labels of the left cavity, its muscle and, where there is one, the right cavity.

    Parameters
    ----------
    labels : DataArray of int, dims (z, y, x)
        Label map.
    names : mapping of str to int
        Labels of ``heart_ventricle_left`` and ``heart_myocardium``, and, when present, ``heart_ventricle_right`` and
        ``heart_atrium_left`` (the cavity opens where it touches the atrium, else where no muscle covers it).
    ventricles, path, h_mm, rv_wall_mm, smooth_mm, layers, layers_rv, fill
        As in :func:`heart_from_ct`; there is no path ``size``.

    Returns
    -------
    Dataset
        As of :func:`heart_from_ct`.

    Raises
    ------
    InputError
        Missing labels, masks that are empty, in pieces or have holes, or a cavity below 20 ml.
    """
    where = "heart_from_labels"
    check_grid(labels, where=where)
    _check_choices(where, path, ventricles, rv_wall_mm, smooth_mm)
    for name in ("heart_ventricle_left", "heart_myocardium"):
        if name not in names:
            refuse(where, f"a label of {name}", f"labels of {sorted(names)}")
    known = {
        name: labels.copy(data=labels.values == names[name])
        for name in (
            "heart_ventricle_left", "heart_myocardium", "heart_ventricle_right", "heart_atrium_left",
        )
        if name in names and (labels.values == names[name]).any()
    }  # fmt: skip
    for name in ("heart_ventricle_left", "heart_myocardium"):
        mask = known.get(name, labels.copy(data=np.zeros(labels.shape, bool)))
        known[name] = mask.copy(data=checked_mask(mask.values, name=name, where=where, fill=fill))
    everything = known["heart_ventricle_left"] | known["heart_myocardium"]
    if "heart_ventricle_right" in known:
        everything = everything | known["heart_ventricle_right"]
    finest = min(float(labels[a][1] - labels[a][0]) for a in "zyx")
    step = min(_STEP_MM, max(_FINEST_MM, finest))
    coords = even_grid(everything, step_mm=step, margin_mm=10.0)
    on = {name: on_even_grid(mask, coords, beyond=0.0) > 0.5 for name, mask in known.items()}
    left, wall = on["heart_ventricle_left"], on["heart_myocardium"]
    empty = np.zeros_like(left)
    every_right = on.get("heart_ventricle_right", empty)
    if volume_ml(left, step) < CAVITY_MIN_ML:
        refuse(where, f"a left cavity of {CAVITY_MIN_ML:.0f} ml or more", f"{volume_ml(left, step):.1f} ml")
    if "heart_atrium_left" in on:
        opens = ndimage.binary_dilation(on["heart_atrium_left"], iterations=2)
    else:
        opens = ~(left | ndimage.binary_dilation(wall | every_right, iterations=2))
        opens = ndimage.binary_dilation(opens, iterations=2)
    axes = find_axes(left, left & opens, every_right, coords, where=where)
    right = every_right if ventricles == "both" else empty
    if not right.any():  # a label of all muscle has the right free wall in it
        wall = seen_wall(left, wall, step)
    settings: dict[str, Any] = {"layers": layers, "h_mm": h_mm or (0.5 * rv_wall_mm if right.any() else 3.0)}
    if right.any():
        settings["layers_rv"] = layers_rv
    return _heart((left, wall, right), axes, coords, path, settings, rv_wall_mm, smooth_mm, where, {})


def _check_choices(where: str, path: str, ventricles: str, rv_wall_mm: float, smooth_mm: float) -> None:
    if path not in ("auto", "chambers", "volumes", "size"):
        refuse(where, "path auto, chambers, volumes or size", repr(path))
    if ventricles not in ("both", "left"):
        refuse(where, "ventricles both or left", repr(ventricles))
    if not 1.0 <= rv_wall_mm <= 20.0:
        refuse(where, "rv_wall_mm from 1 to 20", rv_wall_mm)
    if not 0.0 <= smooth_mm <= 10.0:
        refuse(where, "smooth_mm from 0 to 10", smooth_mm)


def _heart(
    masks: tuple[Mask, Mask, Mask],
    axes: Axes,
    coords: dict[str, Array],
    path: str,
    settings: dict[str, Any],
    rv_wall_mm: float,
    smooth_mm: float,
    where: str,
    facts: dict[str, Any],
) -> xr.Dataset:
    """Mesh of the masks themselves, or of the idealised shape with their volumes when that fails."""
    solids, said = [], []
    for drop in _LOWER_MM:
        lower = axes.lowered(drop)
        solid = masked_solid(*masks, lower, coords, rv_wall_mm=rv_wall_mm, smooth_mm=smooth_mm, where=where)
        solids.append(solid)
        if path == "volumes":
            break
        try:
            heart = mesh_solid(solid, **settings, tries=2)
        except InputError as error:
            said.append(str(error))
            continue
        facts |= _measured(masks, lower, coords) | {"base_lowered_mm": drop}
        return _told(heart, "chambers", "the image supports chambers" if drop == 0 else said[0], **facts)
    if path == "chambers":
        refuse(where, "chambers that can be meshed (or path='volumes')", " | ".join(said))
    facts |= _measured(masks, axes, coords)
    reason = " | ".join(said) or "path='volumes' was asked for"
    return _told(mesh_solid(_by_volumes(solids[0], axes, rv_wall_mm), **settings), "volumes", reason, **facts)


def _measured(masks: tuple[Mask, Mask, Mask], axes: Axes, coords: dict[str, Array]) -> dict[str, float]:
    """Volumes of the masks themselves below the base, ml."""
    step = float(coords["z"][1] - coords["z"][0])
    grid = np.stack(np.meshgrid(coords["x"], coords["y"], coords["z"], indexing="ij"), axis=-1)
    below = ((grid - axes.base_mm) @ axes.normal < 0).transpose(2, 1, 0)
    names = ("measured_lv_ml", "measured_lv_wall_ml", "measured_rv_ml")
    return {name: volume_ml(mask & below, step) for name, mask in zip(names, masks, strict=True)}


def _by_volumes(solid: Solid, axes: Axes, rv_wall_mm: float) -> Solid:
    volumes = solid.volumes_ml
    if "rv" in volumes:
        ideal = biventricular_solid(
            lv_cavity_ml=volumes["lv"],
            rv_cavity_ml=volumes["rv"],
            wall_ml=volumes["wall"],
            rv_wall_mm=rv_wall_mm,
        )
    else:
        ideal = lv_solid(cavity_ml=volumes["lv"], wall_ml=volumes["wall"])
    origin, turn = pose(axes, float(ideal.attrs["base_height_mm"]))
    return ideal.placed(origin, turn)


def _by_size(heart: Mask, coords: dict[str, Array], ventricles: str, rv_wall_mm: float) -> Solid:
    """Idealised ventricles with their apex at the heart's."""
    whole = volume_ml(heart, float(coords["z"][1] - coords["z"][0]))
    share = {name: whole * value for name, value in SHARES.items()}
    if ventricles == "both":
        ideal = biventricular_solid(
            lv_cavity_ml=share["lv"], rv_cavity_ml=share["rv"], wall_ml=share["wall"], rv_wall_mm=rv_wall_mm
        )
    else:
        ideal = lv_solid(cavity_ml=share["lv"], wall_ml=share["wall"] * 0.67)
    places = places_mm(heart, coords)
    direction = APEX_DIRECTION / np.linalg.norm(APEX_DIRECTION)
    along = places @ direction
    apex = places[along > np.quantile(along, 0.995)].mean(axis=0)
    normal = -direction
    septum = np.array([-1.0, -0.5, 0.0])
    septum -= normal * (septum @ normal)
    height = float(ideal.attrs["base_height_mm"])
    length = height + float(ideal.attrs["lv_long_mm"]) + float(ideal.attrs["lv_wall_mm"])
    axes = Axes(apex, apex + length * normal, normal, septum / np.linalg.norm(septum))
    origin, turn = pose(axes, height)
    return ideal.placed(origin, turn)


def _told(heart: xr.Dataset, path: str, reason: str, **facts: Any) -> xr.Dataset:
    source = "image" if path == "chambers" else f"image, {heart.attrs['source']}"
    heart.attrs.update(source=source, path=path, path_reason=reason, certainty=_SURE[path], **facts)
    return heart
