"""Weighted filtered back-projection of helical, axial and cone-beam scans on any grid, and its transpose.

See ``docs/methods/ct_recon.md``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import DTypeLike, NDArray

from twinlab.ct.filters import filter_matrix
from twinlab.ct.filters import get as get_kernel
from twinlab.ct.gantry import Geometry, Grid, geometry_of, grid_of
from twinlab.ct.rebin import ParallelViews, detector_rows, needed_rows, parallel_views, slabs, view_shift
from twinlab.kernels.backproject import back_project, back_project_adjoint
from twinlab.kernels.rebinning import (
    filter_rows,
    filter_rows_adjoint,
    shift_views,
    shift_views_adjoint,
    sum_rows,
    sum_rows_adjoint,
)
from twinlab.kernels.threads import one_parallel_region
from twinlab.schema import check, label, refuse

__all__ = ["adjoint", "needed_rows", "reconstruct"]

_BLOCK_BYTES = 48 << 20  # of running sums held at a time
_LEAST = 1e-4  # of a slice: less weight than that at any angle is "not seen"


def reconstruct(
    projections: xr.Dataset,
    protocol: Any = None,
    *,
    grid: Mapping[str, Any],
    kernel: str | None = None,
    slice_thickness_mm: float | None = None,
    dtype: DTypeLike = np.float32,
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
    kernel : str, optional
        "ramp", "smooth", "standard" (default) or "sharp"; see :mod:`twinlab.ct.filters`.
    slice_thickness_mm : float, optional
        Full width at half maximum of the slice sensitivity profile; default one row at the isocentre.
    dtype : dtype
        Of the computation, float32 or float64.

    Returns
    -------
    DataArray ``hu``, dims (z, y, x), units HU
        NaN where an axial or flat-panel scan does not see the voxel from every direction of the half-turn.

    Raises
    ------
    InputError
        Geometry, grid, kernel or slice cannot be used, or a whole slice lies outside the scanned range.

    References
    ----------
    Stierstorfer et al., Phys Med Biol 49 (2004) 2209-2218. Grass, Koehler, Proksa, Phys Med Biol 45 (2000)
    329-347 (cone-parallel rebinning of circular scans).
    """
    check(projections, "projection", where="reconstruct")
    plan = _plan(projections, protocol, grid, kernel, slice_thickness_mm, dtype, where="reconstruct")
    projection = projections["projection"].transpose("view", "row", "channel")
    data = np.ascontiguousarray(projection, dtype=plan.dtype)
    mu_water = _mu_water(projections, where="reconstruct")
    image = np.empty((plan.grid.z.size, plan.grid.y.size, plan.grid.x.size), dtype=plan.dtype)
    for part in slabs(plan.geometry, plan.grid):
        image[part] = _Slab(plan, part).forward(data)
    empty = np.isnan(image).all(axis=(1, 2))
    if empty.any():
        z = plan.grid.z[empty]
        got = f"slices from z = {z[0]:g} to {z[-1]:g} mm outside it"
        refuse("reconstruct", "slices inside the scanned range", got)
    image *= 1000.0 / mu_water
    image -= 1000.0
    x0, y0 = plan.geometry.isocentre_mm
    coords = {"z": plan.grid.z, "y": plan.grid.y + y0, "x": plan.grid.x + x0}
    return label("hu", image, coords, kernel=plan.kernel, slice_thickness_mm=plan.grid.thickness_mm)


def adjoint(
    template: NDArray[Any] | xr.DataArray,
    projections: xr.Dataset,
    protocol: Any = None,
    *,
    grid: Mapping[str, Any],
    kernel: str | None = None,
    slice_thickness_mm: float | None = None,
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
        As for :func:`reconstruct`.

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
    shape = (plan.grid.z.size, plan.grid.y.size, plan.grid.x.size)
    values = np.asarray(template, dtype=plan.dtype)
    if values.shape != shape:
        refuse("adjoint", f"a template of shape {shape}, as the grid", values.shape)
    values = values * plan.dtype.type(1000.0 / _mu_water(projections, where="adjoint"))
    g = plan.geometry
    out = np.zeros((g.n_views, g.n_rows, g.n_channels), dtype=plan.dtype)
    for part in slabs(plan.geometry, plan.grid):
        _Slab(plan, part).transpose(values[part], out)
    return out


@dataclass(frozen=True)
class _Plan:
    geometry: Geometry
    grid: Grid
    kernel: str
    dtype: np.dtype[Any]


def _plan(
    projections: xr.Dataset,
    protocol: Any,
    grid: Mapping[str, Any],
    kernel: str | None,
    slice_thickness_mm: float | None,
    dtype: DTypeLike,
    *,
    where: str,
) -> _Plan:
    geometry = geometry_of(projections, where=where)
    if kernel is None:
        kernel = "standard" if protocol is None else protocol.kernel
    if slice_thickness_mm is None and protocol is not None:
        slice_thickness_mm = protocol.slice_thickness_mm
    get_kernel(kernel)
    voxels = grid_of(grid, geometry, slice_thickness_mm=slice_thickness_mm, where=where)
    return _Plan(geometry, voxels, kernel, np.dtype(dtype))


def _mu_water(projections: xr.Dataset, *, where: str) -> float:
    value = projections.attrs.get("mu_water_per_mm")
    if value is None or not float(value) > 0:
        refuse(where, "attribute 'mu_water_per_mm' above zero", value)
    return float(value)


@lru_cache(maxsize=4)
def _matrix(
    kernel: str, radius: float, detector: float, flat: bool, first: float, step: float, n_channels: int,
    parallel_step: float, half: int, dtype: str, transposed: bool,
) -> NDArray[Any]:  # fmt: skip
    """Matrix (channel, t) of a row to filtered parallel samples ``-half .. half``, or its transpose; kept."""
    geometry = Geometry(radius, detector, flat, (0.0, 0.0), 2, 0, 1, 0.0, 1.0, n_channels, first, step, ())
    fan = geometry.fan_angle_rad
    low = int(np.floor(radius * np.sin(fan[0]) / parallel_step)) - 2
    high = int(np.ceil(radius * np.sin(fan[-1]) / parallel_step)) + 3
    position = geometry.channel_position(parallel_step * np.arange(low, high, dtype=np.float64))
    matrix = filter_matrix(
        kernel, channel_position=position, first=low, n_channels=n_channels, step_mm=parallel_step,
        out=(-half, half + 1),
    )  # fmt: skip
    # zeros at the end let the products run in steps of eight
    padding = ((0, 8), (0, 0)) if transposed else ((0, 0), (0, -n_channels % 8))
    matrix = np.pad(matrix, padding).astype(dtype)
    matrix = matrix if transposed else np.ascontiguousarray(matrix.T)
    matrix.flags.writeable = False
    return matrix


class _Slab:
    """Slices reconstructed together: the plan's arrays, block by block of half-turn angles."""

    def __init__(self, plan: _Plan, part: slice) -> None:
        g, dtype = plan.geometry, plan.dtype
        self.plan = plan
        self.grid = Grid(plan.grid.x, plan.grid.y, plan.grid.z[part], plan.grid.thickness_mm)
        self.views: ParallelViews = parallel_views(g, self.grid)
        self.det_lo, self.det_hi = detector_rows(self.views, g)
        step = g.parallel_step_mm
        self.half = int(np.ceil(self.grid.radius_mm / step)) + 3
        self.fan = np.arcsin(np.clip(step * np.arange(-self.half, self.half + 1) / g.radius_mm, -1, 1))
        theta = self.views.theta_rad
        px, py = self.grid.outline()
        t = np.cos(theta)[:, None] * px + np.sin(theta)[:, None] * py
        self.t_first = np.floor(t.min(axis=1) / step).astype(np.int64) - 1
        self.n_t = np.ceil(t.max(axis=1) / step).astype(np.int64) + 2 - self.t_first
        self.row_weight = g.row_weight().astype(dtype)
        sums = np.concatenate([[0.0], np.cumsum(g.row_weight())])
        self.row_sums = sums.astype(dtype)
        self.z_middle = float(self.grid.z.mean())
        self.bounds, self.pair = _slice_bounds(self.grid.z - self.z_middle, plan.grid.thickness_mm)
        self.cone = g.cone_cosine().astype(dtype)
        self.shifts = [view_shift(g, segment) for segment in g.segments]

    def _blocks(self) -> Iterator[tuple[int, int]]:
        """Ranges of half-turn angles whose running sums fit the memory set aside."""
        group, rows = self.views.group, self.views.row_hi - self.views.row_lo
        size = self.plan.dtype.itemsize * (int(self.n_t.max(initial=1)) * (int(rows.max(initial=1)) + 1))
        entries = max(1, _BLOCK_BYTES // size)
        lo = 0
        while lo < group.size - 1:
            hi = int(np.searchsorted(group, group[lo] + entries, side="right")) - 1
            hi = min(max(hi, lo + 1), group.size - 1)
            yield lo, hi
            lo = hi

    def _common(self, entries: slice, lo: int, hi: int) -> Any:
        """Arguments that back-projection and transpose share."""
        v, g = self.views, self.plan.geometry
        detector_rows_ = g.detector_mm / g.row_step_mm
        first_edge = 0.5 + g.margin_rows - g.first_row_mm / g.row_step_mm
        return (
            self.t_first[entries], v.row_lo[entries], v.row_hi[entries], np.cos(v.theta_rad[entries]),
            np.sin(v.theta_rad[entries]), v.source_z_mm[entries] - self.z_middle, v.slope_mm_per_rad[entries],
            v.group[lo : hi + 1] - v.group[lo], self.grid.x, self.grid.y, self.bounds.astype(self.plan.dtype),
            self.pair, self.fan, -self.half, 1.0 / g.parallel_step_mm,
            (g.radius_mm, detector_rows_, first_edge, g.flat), self.row_sums, _LEAST * self.grid.thickness_mm,
        )  # fmt: skip

    def _rows(self, entries: slice) -> Any:
        """Arguments that the sums over rows and their transpose share."""
        v, g = self.views, self.plan.geometry
        return (
            self.n_t[entries], v.row_lo[entries], v.row_hi[entries], self.det_lo[entries], g.margin_rows,
            g.n_rows, self.row_weight,
        )  # fmt: skip

    def _weights(self) -> tuple[NDArray[np.int64], NDArray[Any]]:
        offset = np.stack([shift[0] for shift in self.shifts])
        weight = np.stack([shift[1] for shift in self.shifts]).astype(self.plan.dtype)
        return offset, weight

    def _filter(self, entries: slice, *, transposed: bool) -> Any:
        """Arguments of the filter or its transpose."""
        g = self.plan.geometry
        matrix = _matrix(
            self.plan.kernel, g.radius_mm, g.detector_mm, g.flat, g.first_channel, g.channel_step, g.n_channels,
            g.parallel_step_mm, self.half, self.plan.dtype.str, transposed,
        )  # fmt: skip
        first = self.t_first[entries] + self.half
        return self.cone, matrix, first, self.n_t[entries], self.det_lo[entries], self.det_hi[entries]

    def forward(self, data: NDArray[Any]) -> NDArray[Any]:
        """Attenuation per mm, shape (z, y, x), of projections (view, row, channel)."""
        g, v, dtype = self.plan.geometry, self.views, self.plan.dtype
        offset, weight = self._weights()
        first = np.array([s.first for s in g.segments])
        count = np.array([s.count for s in g.segments])
        periodic = np.array([s.periodic for s in g.segments])
        image = np.zeros((self.grid.y.size, self.grid.x.size, self.grid.z.size), dtype=dtype)
        for lo, hi in self._blocks():
            e = slice(int(v.group[lo]), int(v.group[hi]))
            n = e.stop - e.start
            det_lo, det_hi = self.det_lo[e], self.det_hi[e]
            n_det = int((det_hi - det_lo).max(initial=1))
            n_t = int(self.n_t[e].max(initial=2))
            parallel = np.empty((n, n_det, g.n_channels), dtype=dtype)
            filtered = np.empty((n, n_det, n_t), dtype=dtype)
            sums = np.empty((n, n_t, int((v.row_hi[e] - v.row_lo[e]).max(initial=1)) + 1), dtype=dtype)
            with one_parallel_region():
                shift_views(
                    data, first, count, periodic, v.segment[e], v.shift[e], offset, weight, det_lo, det_hi,
                    parallel,
                )  # fmt: skip
                filter_rows(parallel, *self._filter(e, transposed=False), filtered)  # type: ignore[call-arg]
                sum_rows(filtered, *self._rows(e), sums)  # type: ignore[call-arg]
                back_project(sums, *self._common(e, lo, hi), image)  # type: ignore[call-arg]
        image *= g.angle_step_rad
        return np.moveaxis(image, 2, 0)

    def transpose(self, template: NDArray[Any], out: NDArray[Any]) -> None:
        """Add the transpose of :meth:`forward`, applied to (z, y, x), to ``out`` (view, row, channel)."""
        g, v, dtype = self.plan.geometry, self.views, self.plan.dtype
        columns = np.ascontiguousarray(np.moveaxis(template, 0, 2)) * dtype.type(g.angle_step_rad)
        n_det = int((self.det_hi - self.det_lo).max(initial=1))
        parallel = np.zeros((v.theta_rad.size, n_det, g.n_channels), dtype=dtype)
        for lo, hi in self._blocks():
            e = slice(int(v.group[lo]), int(v.group[hi]))
            n = e.stop - e.start
            n_t = int(self.n_t[e].max(initial=2))
            sums = np.zeros((n, n_t, int((v.row_hi[e] - v.row_lo[e]).max(initial=1)) + 1), dtype=dtype)
            filtered = np.empty((n, n_det, n_t), dtype=dtype)
            unseen = np.zeros(hi - lo, dtype=np.int64)
            with one_parallel_region():
                back_project_adjoint(columns, *self._common(e, lo, hi), unseen, sums)  # type: ignore[call-arg]
                sum_rows_adjoint(sums, *self._rows(e), filtered)  # type: ignore[call-arg]
            if unseen.any():
                expected = "a template that is zero where the scan does not see"
                refuse("adjoint", expected, "voxels outside the scanned range")
            with one_parallel_region():
                filter_rows_adjoint(filtered, *self._filter(e, transposed=True), parallel[e])  # type: ignore[call-arg]
        self._shift_back(parallel, out)

    def _shift_back(self, parallel: NDArray[Any], out: NDArray[Any]) -> None:
        v, dtype = self.views, self.plan.dtype
        for number, segment in enumerate(self.plan.geometry.segments):
            entries = np.flatnonzero(v.segment == number)
            if entries.size == 0:
                continue
            first = int(v.shift[entries].min())
            n = segment.count if segment.periodic else int(v.shift[entries].max()) - first + 1
            entry_of = np.full(n, -1, dtype=np.int64)
            entry_of[(v.shift[entries] - first) % n] = entries
            offset, weight = self.shifts[number]
            part = out[segment.first : segment.first + segment.count]
            with one_parallel_region():
                shift_views_adjoint(
                    parallel, entry_of, first, segment.count, segment.periodic, offset, weight.astype(dtype),
                    self.det_lo, self.det_hi, part,
                )  # fmt: skip


def _slice_bounds(z: NDArray[np.float64], thickness: float) -> tuple[NDArray[np.float64], int]:
    """Bounds of the slices, and how far a slice's upper one follows its lower one: even slices share theirs."""
    lower, upper = z - 0.5 * thickness, z + 0.5 * thickness
    if z.size > 1:
        step = (z[-1] - z[0]) / (z.size - 1)
        pair = round(thickness / step)
        even = np.abs(z - z[0] - step * np.arange(z.size)).max() < 1e-6 * thickness
        if even and 1 <= pair <= z.size and abs(pair * step - thickness) < 1e-6 * thickness:
            return lower[0] + step * np.arange(z.size + pair), pair
    return np.concatenate([lower, upper]), z.size
