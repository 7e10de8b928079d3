"""The scan as a linear operator: image in units of water to line integrals, and its exact transpose.

The image grid is padded along z until every ray that crosses the wanted slices stays inside it, so that no
ray carries attenuation that no voxel can explain (the long-object problem).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from twinlab.ct.gantry import geometry_of
from twinlab.kernels import cuda_memory
from twinlab.kernels.cuda_adjoint import adjoint_on_device
from twinlab.kernels.cuda_project import project_on_device
from twinlab.kernels.device import Device, namespace, resolve
from twinlab.kernels.project import detector_rays, project
from twinlab.kernels.project_adjoint import project_adjoint
from twinlab.schema import check, refuse

Array = NDArray[Any]
ALL = slice(None)
_MM_PER_CM = 10.0


@dataclass(frozen=True)
class System:
    """A scan and a grid as a linear operator between arrays.

    Attributes
    ----------
    forward : callable (image, views=ALL) -> projections
        ``image`` (z, y, x) in units of water (1 is water, 0 vacuum) on the padded grid; projections (view,
        row, channel). ``views`` is a slice of the operator's views.
    adjoint : callable (projections, views=ALL) -> image
        Transpose of ``forward``.
    put : callable (array) -> array
        A NumPy array as ``forward`` and ``adjoint`` take it: float32, of CuPy where they run on a CUDA device.
    z, y, x : array
        Voxel centres of the padded grid [mm].
    wanted : slice
        The slices that were asked for, within ``z``.
    views : int array
        Views of the Dataset that cross the wanted slices; ``row_lo``, ``row_hi``: their rows.
    shape, spacing_mm : tuple (z, y, x)
        Of the padded grid.
    row_mm : float
        Height of a detector row at the isocentre.
    mu_water_per_mm : float
    """

    forward: Callable[..., Array]
    adjoint: Callable[..., Array]
    put: Callable[[Array], Any]
    z: NDArray[np.float64]
    y: NDArray[np.float64]
    x: NDArray[np.float64]
    wanted: slice
    views: NDArray[np.int64]
    row_lo: NDArray[np.int64]
    row_hi: NDArray[np.int64]
    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    row_mm: float
    mu_water_per_mm: float

    def take(self, data: Array) -> Array:
        """The operator's views of an array (view, row, channel), rows outside the windows zeroed."""
        part = np.array(data[self.views], np.float32)
        row = np.arange(part.shape[1])
        part[(row < self.row_lo[:, None]) | (row >= self.row_hi[:, None])] = 0.0
        return part


def system(
    projections: xr.Dataset,
    grid: Mapping[str, Any],
    *,
    slice_mm: float | None = None,
    device: Device = "cpu",
) -> System:
    """Operator of a scan for a grid.

    Parameters
    ----------
    projections : Dataset
        As from :func:`twinlab.ct.acquire`; only geometry and ``mu_water_per_mm`` are used.
    grid : mapping
        ``z``, ``y``, ``x``: even, ascending voxel centres [mm]. It must hold the whole body in the plane.
    slice_mm : float, optional
        Voxel height when ``z`` is a single slice; default one detector row at the isocentre.
    device : "cpu", "cuda" or "auto"
        Where both directions run and their arrays live.

    Returns
    -------
    System

    Raises
    ------
    InputError
        Geometry or grid cannot be used, the gantry is tilted, no ray crosses the slices, or there is no CUDA
        device for ``device="cuda"``.
    """
    where = "iterative"
    place = resolve(device, where=where)
    geometry = geometry_of(projections, where=where)
    mu_water = projections.attrs.get("mu_water_per_mm")
    if mu_water is None or not float(mu_water) > 0:
        refuse(where, "attribute 'mu_water_per_mm' above zero", mu_water)
    if float(projections.attrs.get("gantry_tilt_deg", 0.0)) != 0.0:
        refuse(where, "a gantry that is not tilted", projections.attrs["gantry_tilt_deg"])
    height = geometry.row_at_isocentre_mm if slice_mm is None else float(slice_mm)
    axes = {name: axis(grid, name, height) for name in ("z", "y", "x")}
    z, y, x = (axes[name][0] for name in ("z", "y", "x"))
    dz, dy, dx = (axes[name][1] for name in ("z", "y", "x"))
    flat = geometry.flat
    channel = np.asarray(projections["u" if flat else "fan_angle"], float)
    rays = {"u_mm": channel} if flat else {"fan_angle_rad": channel}
    lengths = detector_rays(source_to_detector_mm=geometry.detector_mm, **rays)[2]
    x0, y0 = geometry.isocentre_mm
    reach = math.hypot(np.abs(x - x0).max() + 0.5 * dx, np.abs(y - y0).max() + 0.5 * dy)
    if reach >= geometry.radius_mm:
        refuse(where, f"a grid within {geometry.radius_mm:g} mm of the isocentre", f"{reach:.0f} mm")
    near, far = (geometry.radius_mm - reach) / lengths.max(), (geometry.radius_mm + reach) / lengths.min()
    row = np.asarray(projections["row"], float)
    source_z = np.asarray(projections["source_z"], float)
    lo, hi, low, high = _windows(source_z, row, near, far, (z[0] - 0.5 * dz, z[-1] + 0.5 * dz))
    if "row_lo" in projections:
        lo = np.maximum(lo, np.asarray(projections["row_lo"], np.int64))
        hi = np.minimum(hi, np.asarray(projections["row_hi"], np.int64))
    views = np.flatnonzero(hi > lo)
    if views.size == 0:
        refuse(where, "slices inside the scanned range", f"z from {z[0]:g} to {z[-1]:g} mm")
    below = max(math.ceil((z[0] - 0.5 * dz - low) / dz - 1e-6), 0)
    above = max(math.ceil((high - z[-1] - 0.5 * dz) / dz - 1e-6), 0)
    padded = z[0] + dz * np.arange(-below, z.size + above)
    scan = {
        "spacing_mm": (dz, dy, dx),
        "origin_mm": (padded[0], y[0], x[0]),
        "source_to_isocentre_mm": geometry.radius_mm,
        "source_to_detector_mm": geometry.detector_mm,
        "isocentre_mm": geometry.isocentre_mm,
        "row_mm": row,
        **rays,
    }
    per_view = {
        "view_angle_rad": np.asarray(projections["view_angle"], float)[views],
        "source_z_mm": source_z[views],
        "row_lo": lo[views],
        "row_hi": hi[views],
    }
    if "focal_shift" in projections:
        per_view["focal_shift_mm"] = np.asarray(projections["focal_shift"], float)[views]
    shape = (padded.size, y.size, x.size)
    maps, put = (_maps_on_device, _put_on_device) if place == "cuda" else (_maps, _put)
    forward, adjoint = maps(scan, per_view, shape, np.float32(_MM_PER_CM * float(mu_water)))
    return System(
        forward, adjoint, put, padded, y, x, slice(below, below + z.size), views, lo[views], hi[views], shape,
        (dz, dy, dx), geometry.row_at_isocentre_mm, float(mu_water),
    )  # fmt: skip


def _maps(
    scan: dict[str, Any], per_view: dict[str, Array], shape: tuple[int, int, int], scale: np.float32
) -> tuple[Callable[..., Array], Callable[..., Array]]:
    def forward(image: Array, views: slice = ALL) -> Array:
        chosen: dict[str, Any] = {name: values[views] for name, values in per_view.items()}
        paths = project(np.asarray(image, np.float32)[None], **scan, **chosen)[0]
        paths *= scale
        return paths

    def adjoint(data: Array, views: slice = ALL) -> Array:
        chosen: dict[str, Any] = {name: values[views] for name, values in per_view.items()}
        image = project_adjoint(np.asarray(data, np.float32)[None], shape=shape, **scan, **chosen)[0]
        image *= scale
        return image

    return forward, adjoint


def _put(values: Array) -> Array:
    return np.asarray(values, np.float32)


def _maps_on_device(
    scan: dict[str, Any], per_view: dict[str, Array], shape: tuple[int, int, int], scale: np.float32
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    factor = float(scale)

    def forward(image: Any, views: slice = ALL) -> Any:
        chosen: dict[str, Any] = {name: values[views] for name, values in per_view.items()}
        xp = namespace(image)
        paths = project_on_device(xp.reshape(image, (1, *image.shape)), **scan, **chosen)
        return factor * xp.reshape(paths, paths.shape[:3])

    def adjoint(data: Any, views: slice = ALL) -> Any:
        chosen: dict[str, Any] = {name: values[views] for name, values in per_view.items()}
        xp = namespace(data)
        image = adjoint_on_device(xp.reshape(data, (*data.shape, 1)), shape=shape, **scan, **chosen)
        return factor * xp.reshape(image, shape)

    return forward, adjoint


def _put_on_device(values: Array) -> Any:
    return cuda_memory.algebra(cuda_memory.put(_put(values)))


def axis(grid: Mapping[str, Any], name: str, single: float) -> tuple[NDArray[np.float64], float]:
    """Voxel centres and their step, checked."""
    if name not in grid:
        refuse("iterative", "a grid with coordinates z, y, x in mm", sorted(map(str, grid)))
    values = np.atleast_1d(np.asarray(grid[name], float))
    if values.ndim != 1 or not np.isfinite(values).all() or values.size == 0:
        refuse("iterative", f"finite voxel centres {name}", values)
    if values.size == 1:
        if name != "z":
            refuse("iterative", f"two voxels or more along {name}", values.size)
        return values, single
    step = (values[-1] - values[0]) / (values.size - 1)
    if step <= 0 or np.abs(np.diff(values) - step).max() > 1e-3 * abs(step):
        refuse("iterative", f"even, ascending voxel centres {name}", values)
    return values, float(step)


def _windows(
    source_z: Array, row: Array, near: float, far: float, bounds: tuple[float, float]
) -> tuple[NDArray[np.int64], NDArray[np.int64], float, float]:
    """Rows of each view that cross a range of z within the grid, and the z range that those rays pass."""
    ends = np.stack([row * near, row * far])
    low = source_z[:, None] + ends.min(axis=0)
    high = source_z[:, None] + ends.max(axis=0)
    crosses = (low < bounds[1]) & (high > bounds[0])
    some = crosses.any(axis=1)
    lo = np.where(some, crosses.argmax(axis=1), 0).astype(np.int64)
    hi = np.where(some, row.size - crosses[:, ::-1].argmax(axis=1), 0).astype(np.int64)
    if not some.any():
        return lo, hi, bounds[0], bounds[1]
    return lo, hi, float(low[crosses].min()), float(high[crosses].max())


def readings(projections: xr.Dataset, scan: System, *, weighted: bool) -> tuple[Array, Array]:
    """Projections and their weights, on the operator's views.

    Parameters
    ----------
    projections : Dataset
    scan : System
    weighted : bool
        Inverse variances; else 1 for each reading that was computed.

    Raises
    ------
    InputError
        ``projection`` is missing or not finite; weights are wanted and there is no variance, or none above 0.
    """
    check(projections, "projection", where="iterative")
    order = ("view", "row", "channel")
    data = scan.take(projections["projection"].transpose(*order).to_numpy())
    if not np.isfinite(data).all():
        refuse("iterative", "finite projections", f"{np.count_nonzero(~np.isfinite(data))} that are not")
    if not weighted:
        return data, scan.take(np.ones(projections["projection"].transpose(*order).shape, np.float32))
    if "variance" not in projections:
        refuse(
            "iterative: method 'pwls'", "a variable 'variance', the weights", sorted(map(str, projections))
        )
    check(projections, "variance", where="iterative")
    variance = scan.take(projections["variance"].transpose(*order).to_numpy())
    if not np.isfinite(variance).all() or variance.min() < 0 or variance.max() <= 0:
        refuse("iterative: method 'pwls'", "variances above 0", f"{variance.min():g} to {variance.max():g}")
    weights = np.zeros_like(variance)
    np.divide(1.0, variance, out=weights, where=variance > 0)
    return data, weights
