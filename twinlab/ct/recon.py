"""Weighted filtered back-projection of helical, axial and cone-beam scans on any grid, and its transpose.

See ``docs/methods/ct_recon.md``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import DTypeLike, NDArray

from twinlab.ct.field_edge import OutsideField, Truncation, in_field, is_truncated, say_truncated
from twinlab.ct.filters import Kernel
from twinlab.ct.filters import get as get_kernel
from twinlab.ct.gantry import geometry_of, grid_of
from twinlab.ct.provenance import image_attrs, warn_pitch
from twinlab.ct.rebin import needed_rows, parts, refuse_missing_rows
from twinlab.ct.slab import Plan, Slab
from twinlab.kernels.device import Device, resolve
from twinlab.schema import check, label, refuse

__all__ = ["adjoint", "needed_rows", "reconstruct"]


def reconstruct(
    projections: xr.Dataset,
    protocol: Any = None,
    *,
    grid: Mapping[str, Any],
    kernel: str | Kernel | None = None,
    slice_thickness_mm: float | None = None,
    truncation: Truncation = "extrapolate",
    outside_field: OutsideField = "extrapolated",
    dtype: DTypeLike = np.float32,
    device: Device = "auto",
) -> xr.DataArray:
    """Reconstruct CT numbers on a grid; linear in ``projection`` up to the constant -1000.

    Weighted filtered back-projection after cone-parallel rebinning: all data that a helix of any pitch up
    to 1.5 or axial rotations offer are used, normalised over conjugate rays and turns. The cost follows the
    grid: only the views and rows that it needs are touched (:func:`twinlab.ct.rebin.needed_rows`).

    Parameters
    ----------
    projections : Dataset
        ``projection`` (view, row, channel): line integrals of the attenuation coefficient, with the geometry
        that :func:`twinlab.ct.gantry.geometry_of` describes and the attr ``mu_water_per_mm``.
    protocol : Protocol, optional
        Gives ``kernel`` and ``slice_thickness_mm`` where these are not given.
    grid : mapping
        ``z``, ``y``, ``x``: ascending voxel centres, mm. Slices may have any distance.
    kernel : str or Kernel, optional
        "ramp", "smooth", "standard" (default) or "sharp", or one of :func:`twinlab.ct.filters.fit_kernel`.
    slice_thickness_mm : float, optional
        Full width at half maximum of the slice sensitivity profile; default one row at the isocentre.
    truncation : {"extrapolate", "refuse", "ignore"}
        Where the body reaches beyond the detector: continue the rows (and warn), refuse, or take them as they
        are.
    outside_field : {"extrapolated", "nan"}
        Voxels that the detector does not see from every direction: keep what the data there and the continued
        rows make of them, or NaN (padding in DICOM). :func:`adjoint` is the transpose of the former.
    dtype : dtype
        Of the computation, float32 or float64.
    device : "auto", "cpu" or "cuda"
        "auto": a CUDA device where there is one and ``dtype`` is float32. Images of both agree to some
        0.02 HU. ``projections`` and image are on the host in any case.

    Returns
    -------
    DataArray ``hu``, dims (z, y, x), units HU
        NaN where a voxel lies above or below what an axial or flat-panel scan sees from every direction of the
        half-turn. Beyond the circle of diameter ``field_mm`` (attr) around the isocentre the detector does not
        see a voxel from all directions: numbers there are no measurement, in air about -1000 HU. Where the grid
        reaches there, attr ``outside_field`` says what stands outside and ``outside_field_share`` how much of the
        image that is.
        Attr ``truncated`` is 1 where rows were continued; what is known of the scan is copied from
        ``projections`` (:func:`twinlab.ct.provenance.image_attrs`). With a tilted gantry (attr
        ``gantry_tilt_deg``) ``y`` lies in the tilted plane, around ``isocentre_y_mm``, and ``z`` is the table
        position of each slice's isocentre.

    Warns
    -----
    UserWarning
        Truncated rows are continued, or the pitch is above 1.5.

    Raises
    ------
    InputError
        Geometry, grid, kernel or slice cannot be used, rows that the grid needs were not computed, a whole slice
        lies outside the scanned range, or there is no CUDA device, or another dtype than float32, for
        ``device="cuda"``.

    References
    ----------
    Stierstorfer et al., Phys Med Biol 49 (2004) 2209-2218. Grass, Koehler, Proksa, Phys Med Biol 45 (2000)
    329-347 (cone-parallel rebinning of circular scans).
    """
    check(projections, "projection", where="reconstruct")
    if outside_field not in ("extrapolated", "nan"):
        refuse("reconstruct: outside_field", "'extrapolated' or 'nan'", repr(outside_field))
    place = _place(device, np.dtype(dtype))
    plan = _plan(projections, protocol, grid, kernel, slice_thickness_mm, dtype, where="reconstruct")
    warn_pitch(plan.geometry, where="reconstruct")
    projection = projections["projection"].transpose("view", "row", "channel")
    data = np.ascontiguousarray(projection, dtype=plan.dtype)
    mu_water = _mu_water(projections, where="reconstruct")
    image = np.empty((plan.grid.z.size, plan.grid.y.size, plan.grid.x.size), dtype=plan.dtype)
    _check_truncation(truncation, where="reconstruct")
    truncated = truncation != "ignore" and is_truncated(data, plan)
    if truncated:
        say_truncated(truncation, where="reconstruct")
        plan = replace(plan, extrapolate=True)
    for part in parts(plan.geometry, plan.grid):
        image[part.slices] = Slab(plan, part).forward(data, place)
    empty = np.isnan(image).all(axis=(1, 2))
    if empty.any():
        if not np.isfinite(data).all():
            refuse("reconstruct", "finite projections", "values that are not finite")
        z = plan.grid.z[empty]
        got = f"slices from z = {z[0]:g} to {z[-1]:g} mm outside it"
        refuse("reconstruct", "slices inside the scanned range", got)
    image *= 1000.0 / mu_water
    image -= 1000.0
    x0, y0 = plan.geometry.isocentre_mm
    coords: dict[str, Any] = {"z": plan.grid.z, "y": plan.grid.y + y0, "x": plan.grid.x + x0}
    attrs: dict[str, Any] = {
        **image_attrs(projections, plan.geometry),
        "kernel": plan.kernel.name,
        "slice_thickness_mm": plan.grid.thickness_mm,
        "truncated": int(truncated),
    }
    seen = in_field(plan)
    if not seen.all():
        attrs["outside_field"] = outside_field
        attrs["outside_field_share"] = round(1.0 - float(seen.mean()), 4)
        if outside_field == "nan":
            image[~seen] = np.nan
    return label("hu", image, coords, **attrs)


def adjoint(
    template: NDArray[Any] | xr.DataArray,
    projections: xr.Dataset,
    protocol: Any = None,
    *,
    grid: Mapping[str, Any],
    kernel: str | Kernel | None = None,
    slice_thickness_mm: float | None = None,
    truncation: Truncation = "ignore",
    dtype: DTypeLike = np.float32,
) -> NDArray[Any]:
    """Transpose of the linear map from ``projection`` to HU, applied to a template.

    The response of the template, ``sum(template * hu)``, to independent noise of the projections has the
    variance ``sum(adjoint(template)**2 * variance)``: exact noise propagation without realisations.

    Parameters
    ----------
    template : array, shape (z, y, x)
        On ``grid``, 1/HU for a dimensionless response.
    projections : Dataset
        Geometry and attr ``mu_water_per_mm``; ``projection`` itself is not read.
    protocol, grid, kernel, slice_thickness_mm, dtype
        As for :func:`reconstruct`. There is no ``device``: the transpose runs on the processor only.
    truncation : {"extrapolate", "refuse", "ignore"}
        "extrapolate": transpose of a reconstruction that continued the rows. Nothing is looked for here.

    Returns
    -------
    ndarray, shape (view, row, channel)
        Response per unit of projection; zero for rays that the template does not need.

    Raises
    ------
    InputError
        As :func:`reconstruct`; the template has another shape, or is not zero at a voxel that is not seen.
    """
    plan = _plan(projections, protocol, grid, kernel, slice_thickness_mm, dtype, where="adjoint")
    _check_truncation(truncation, where="adjoint")
    plan = replace(plan, extrapolate=truncation == "extrapolate")
    shape = (plan.grid.z.size, plan.grid.y.size, plan.grid.x.size)
    values = np.asarray(template, dtype=plan.dtype)
    if values.shape != shape:
        refuse("adjoint", f"a template of shape {shape}, as the grid", values.shape)
    values = values * plan.dtype.type(1000.0 / _mu_water(projections, where="adjoint"))
    g = plan.geometry
    out = np.zeros((g.n_views, g.n_rows, g.n_channels), dtype=plan.dtype)
    for part in parts(plan.geometry, plan.grid):
        Slab(plan, part).transpose(values[part.slices], out)
    return out


def _plan(
    projections: xr.Dataset,
    protocol: Any,
    grid: Mapping[str, Any],
    kernel: str | Kernel | None,
    slice_thickness_mm: float | None,
    dtype: DTypeLike,
    *,
    where: str,
) -> Plan:
    geometry = geometry_of(projections, where=where)
    if kernel is None:
        kernel = "standard" if protocol is None else protocol.kernel
    if slice_thickness_mm is None and protocol is not None:
        slice_thickness_mm = protocol.slice_thickness_mm
    chosen = get_kernel(kernel)
    voxels = grid_of(grid, geometry, slice_thickness_mm=slice_thickness_mm, where=where)
    refuse_missing_rows(projections, geometry, voxels, where=where)
    return Plan(geometry, voxels, chosen, np.dtype(dtype))


def _place(device: Device, dtype: np.dtype[Any]) -> str:
    """Where to compute: the GPU's kernels are in single precision only."""
    single = dtype == np.float32
    if device == "cuda" and not single:
        refuse("reconstruct: device", "dtype float32 on 'cuda'", f"dtype {dtype}")
    return resolve(device if single or device != "auto" else "cpu", where="reconstruct")


def _check_truncation(truncation: str, *, where: str) -> None:
    words = ("extrapolate", "refuse", "ignore")
    if truncation not in words:
        refuse(f"{where}: truncation", f"one of {', '.join(words)}", repr(truncation))


def _mu_water(projections: xr.Dataset, *, where: str) -> float:
    value = projections.attrs.get("mu_water_per_mm")
    if value is None or not float(value) > 0:
        refuse(where, "attribute 'mu_water_per_mm' above zero", value)
    return float(value)
