"""Slices reconstructed together: from projections to attenuation and back, block by block of angles."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinlab.ct.filters import Kernel
from twinlab.ct.gantry import Geometry, Grid
from twinlab.ct.points import Points, points
from twinlab.ct.rebin import ParallelViews, Part, detector_rows, parallel_views, redundancy, view_places
from twinlab.ct.row_filter import even, matrices
from twinlab.ct.source_path import TAPS
from twinlab.kernels import cuda_backproject as gpu
from twinlab.kernels.backproject import back_project, back_project_adjoint
from twinlab.kernels.products import multiply
from twinlab.kernels.rebinning import shift_views, shift_views_adjoint, sum_rows, sum_rows_adjoint
from twinlab.kernels.resample import LANES, inverse_weights, resample, resample_adjoint
from twinlab.kernels.threads import one_parallel_region
from twinlab.schema import refuse

_BLOCK_BYTES = 96 << 20  # of running sums and points held at a time
_DEVICE_BYTES = 512 << 20  # the same on a CUDA device
_LEAST = 1e-4  # of a slice: less weight than that at any angle is "not seen"


@dataclass(frozen=True)
class Plan:
    """What every slab of a reconstruction shares; ``extrapolate``: rows go on beyond the detector's ends."""

    geometry: Geometry
    grid: Grid
    kernel: Kernel
    dtype: np.dtype[Any]
    extrapolate: bool = False


@dataclass(frozen=True)
class _Bounds:
    """Bounds of the slices, padded: ``pair`` from a slice's lower to its upper one; ``even`` first and step."""

    values: NDArray[np.float64]
    pair: int
    even: tuple[float, float]
    n_slices: int


def _bounds(z: NDArray[np.float64], thickness: float) -> _Bounds:
    """Bounds of slices centred at ``z``: even slices share theirs."""
    n = -(-z.size // LANES) * LANES
    lower, upper = z - 0.5 * thickness, z + 0.5 * thickness
    step = (z[-1] - z[0]) / max(z.size - 1, 1) or thickness
    pair = max(round(thickness / step), 1)
    even = np.abs(z - z[0] - step * np.arange(z.size)).max() < 1e-6 * thickness
    if even and pair <= z.size and abs(pair * step - thickness) < 1e-6 * thickness:
        shared = lower[0] + step * np.arange(-(-(z.size + pair) // LANES) * LANES)
        return _Bounds(shared, pair, (float(lower[0]), float(step)), n)
    both = [np.pad(part, (0, n - z.size), mode="edge") for part in (lower, upper)]
    return _Bounds(np.concatenate(both), n, (0.0, 0.0), n)


@dataclass(frozen=True)
class _Layout:
    """Where rows of a block lie among lines: ``start``, ``skip`` (entry,) first line and sample of each entry.

    ``products``: number of the filter matrix, its lines, its samples; ``shape`` of the filtered lines.
    """

    start: NDArray[np.int64]
    skip: NDArray[np.int64]
    products: list[tuple[int, slice, slice]]
    shape: tuple[int, int]


class Slab:
    """Slices reconstructed together: the plan's arrays, block by block of half-turn angles."""

    def __init__(self, plan: Plan, part: Part) -> None:
        g, dtype = part.geometry, plan.dtype
        self.plan, self.geometry, self.grid = plan, g, part.grid
        self.views: ParallelViews = parallel_views(g, self.grid)
        self.det_lo, self.det_hi = detector_rows(self.views, g)
        self.points: Points = points(g, self.grid)
        step = g.parallel_step_mm
        self.half = int(np.ceil(self.grid.radius_mm / step)) + 3
        self.fan = np.arcsin(np.clip(step * np.arange(-self.half, self.half + 1) / g.radius_mm, -1, 1))
        self.row_weight = g.row_weight().astype(dtype)
        sums = np.concatenate([[0.0], np.cumsum(g.row_weight())])
        self.row_sums = np.append(sums, sums[-1]).astype(dtype)
        self.z_middle = float(self.grid.z.mean())
        self.bounds = _bounds(self.grid.z - self.z_middle, plan.grid.thickness_mm)
        self.cone = g.cone_cosine().astype(dtype)
        self.base, self.channel = view_places(g, self.views)
        self.share = redundancy(g, self.views).astype(dtype)
        self.window, self.n_t, self.source = self._entries()
        self._known: tuple[NDArray[Any], tuple[int, int]] | None = None

    def _entries(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """Direction, windows and source of the entries, as :func:`twinlab.kernels.resample.resample` wants them."""
        v, g = self.views, self.geometry
        angle = np.repeat(np.arange(v.group.size - 1), np.diff(v.group))
        number = np.rint(v.theta_rad / g.angle_step_rad).astype(np.int64) % g.angles_per_rotation
        side = np.where(number == angle, 1, -1)
        first, n_t = self.points.first[angle, 0], self.points.count[angle, 0]
        window = np.stack([side, np.where(side > 0, first, 1 - first - n_t), v.row_lo, v.row_hi], axis=1)
        first_edge = 0.5 + g.margin_rows - g.first_row_mm / g.row_step_mm
        constant = np.array(
            [
                (g.focus(s)[0], (g.detector_mm + s[1]) / g.row_step_mm, first_edge + s[2] / g.row_step_mm)
                for s in (segment.shift_mm for segment in g.segments)
            ]
        )
        moving = np.stack([v.source_z_mm - self.z_middle, v.slope_mm_per_rad], axis=1)
        return window, n_t, np.hstack([moving, constant[v.segment]])

    def _blocks(self, most_bytes: int = _BLOCK_BYTES) -> Iterator[tuple[int, int]]:
        """Ranges of half-turn angles whose running sums and points fit the memory set aside."""
        group = self.views.group
        rows = int((self.views.row_hi - self.views.row_lo).max(initial=1)) + 2
        most = int(self.points.count[:, 0].max())
        columns = most * int(self.points.count[:, 1].max()) * self.bounds.n_slices
        size = most * rows * np.diff(group) + columns
        total = np.concatenate([[0], np.cumsum(size)]) * self.plan.dtype.itemsize
        lo = 0
        while lo < group.size - 1:
            hi = int(np.searchsorted(total, total[lo] + most_bytes, side="right")) - 1
            hi = min(max(hi, lo + 1), group.size - 1)
            yield lo, hi
            lo = hi

    def _entries_of(self, lo: int, hi: int) -> slice:
        return slice(int(self.views.group[lo]), int(self.views.group[hi]))

    def _common(self, lo: int, hi: int) -> tuple[Any, ...]:
        """Arguments that resampling and its transpose share, up to the bounds."""
        e, p = self._entries_of(lo, hi), self.points
        n_s = int(p.count[lo:hi, 1].max())
        return (
            self.window[e], self.source[e], self.views.group[lo : hi + 1] - e.start, p.first[lo:hi],
            np.ascontiguousarray(p.span[lo:hi, :n_s]), self.fan, -self.half, p.steps,
            self.bounds.values.astype(self.plan.dtype),
        )  # fmt: skip

    def _weighting(self) -> tuple[Any, ...]:
        g, least = self.geometry, _LEAST * self.grid.thickness_mm
        return self.bounds.pair, self.row_sums, least, g.flat, g.shares

    def _place(self, lo: int, hi: int) -> tuple[Any, ...]:
        """Arguments that back-projection and its transpose share."""
        p = self.points
        return p.rays[lo:hi], p.first[lo:hi], p.steps, self.grid.x, self.grid.y

    def _points_of(self, lo: int, hi: int) -> tuple[int, int, int, int]:
        """Shape of the array of points of some angles."""
        count = self.points.count[lo:hi].max(axis=0)
        return hi - lo, int(count[1]), int(count[0]), self.bounds.n_slices

    def _rows(self, entries: slice) -> Any:
        """Arguments that the sums over rows and their transpose share."""
        v, g = self.views, self.geometry
        return (
            self.n_t[entries], v.row_lo[entries], v.row_hi[entries], self.det_lo[entries], g.margin_rows,
            g.n_rows, self.row_weight,
        )  # fmt: skip

    def _views(self, entries: slice | None = None) -> tuple[Any, ...]:
        """Arguments of the interpolation over views and its transpose."""
        g, e = self.geometry, entries or slice(None)
        share = self.share[e] if self.share.shape[0] > 1 else self.share
        return (
            np.array([(s.first, s.count, s.stride) for s in g.segments]), np.array([s.periodic for s in g.segments]),
            self.views.segment[e], self.base[e], self.channel, share, self.det_lo[e], self.det_hi[e],
        )  # fmt: skip

    def _filter(self, entries: slice) -> Any:
        """Cosine of the cone angle, filter matrices, and each entry's matrix, first sample, samples and rows."""
        g, p = self.geometry, self.plan
        stack = matrices(g, p.kernel, half=self.half, extrapolate=p.extrapolate, dtype=p.dtype)
        shifts = g.shifts_mm
        kind = np.array([shifts.index(s.shift_mm) for s in g.segments])[self.views.segment[entries]]
        first = self.window[entries, 1] + self.half
        limits = self.det_lo[entries], self.det_hi[entries]
        return self.cone, stack, kind, first, self.n_t[entries], *limits

    def forward(self, data: NDArray[Any], device: str = "cpu") -> NDArray[Any]:
        """Attenuation per mm, shape (z, y, x), of projections (view, row, channel) on the host."""
        image = self._image_on_device(data) if device == "cuda" else self._image(data)
        image *= self.geometry.angle_step_rad
        return np.moveaxis(image, 2, 0)[: self.grid.z.size]

    def _image_on_device(self, data: NDArray[Any]) -> NDArray[Any]:
        """As :meth:`_image`, computed on a CUDA device; only the views that the slices need go there."""
        first, last = self._seen()
        projection = gpu.put(data[first:last])
        image = gpu.zeros((self.grid.y.size, self.grid.x.size, self.bounds.n_slices))
        for lo, hi in self._blocks(_DEVICE_BYTES):
            e = self._entries_of(lo, hi)
            values = gpu.points_on_device(
                projection, first, views=self._views(e), filtering=self._filter(e),
                rows=self._rows(e), common=self._common(lo, hi), weighting=self._weighting(),
                shape=self._points_of(lo, hi),
            )  # fmt: skip
            gpu.add_back_projection(values, self._place(lo, hi), image)
        return np.asarray(image.copy_to_host())

    def _seen(self) -> tuple[int, int]:
        """First and end view that the slices need, with those between."""
        low, high = self.geometry.n_views, 0
        for number, segment in enumerate(self.geometry.segments):
            own = self.base[self.views.segment == number]
            if own.size == 0:
                continue
            a, b = 0, segment.count - 1
            if not segment.periodic:
                # interpolation near the ends, and beyond them in short scans, takes the outermost views
                near = math.floor(own.min() + self.channel[number].min()) - TAPS
                far = math.ceil(own.max() + self.channel[number].max()) + TAPS
                a, b = min(max(near, 0), segment.count - TAPS), max(min(far, b), TAPS - 1)
            low = min(low, segment.first + segment.stride * a)
            high = max(high, segment.first + segment.stride * b + 1)
        return (low, high) if high else (0, 1)

    def _same_weights(self) -> tuple[NDArray[Any], tuple[int, int]]:
        """Inverse weights at all points and the first point's indices, where every angle has the same; else empty."""
        if self._known is None:
            group, p = self.views.group, self.points
            origin = int(p.first[:, 0].min()), int(p.first[:, 1].min())
            shape = (0, 0, 0)
            count = np.diff(group)
            if not self.geometry.shares and count.min(initial=1) > 0 and (count == count[0]).all():
                number = np.repeat(np.arange(count.size), count)
                order = np.lexsort((self.window[:, 0], self.views.segment, number))
                told = np.hstack([self.window[:, [0, 2, 3]], self.source])[order].reshape(count.size, -1)
                if np.abs(told - told[0]).max() == 0.0:
                    end = (p.first + p.count).max(axis=0)
                    shape = int(end[1]) - origin[1], int(end[0]) - origin[0], self.bounds.n_slices
            known = np.empty(shape, dtype=self.plan.dtype)
            if known.size:
                e = slice(int(group[0]), int(group[1]))
                common, weighting = self._common(0, 1), self._weighting()
                inverse_weights(
                    self.window[e], self.source[e], *common[5:], weighting[0], *weighting[1:4], origin, known
                )  # type: ignore[call-arg]
            self._known = known, origin
        return self._known

    def _layout(self, entries: slice) -> _Layout:
        """Lines for the rows of some entries: those of one filter matrix and direction side by side."""
        _, _, kind, first, n_t, det_lo, det_hi = self._filter(entries)
        which = 2 * kind + (self.window[entries, 0] > 0)
        order = np.argsort(which, kind="stable")
        end = np.cumsum((det_hi - det_lo)[order])
        start, skip = np.zeros_like(first), np.zeros_like(first)
        start[order] = end - (det_hi - det_lo)[order]
        products = []
        for number in np.unique(which):
            own = order[which[order] == number]
            lo, hi = int(first[own].min()), int((first + n_t)[own].max())
            hi = lo + even(hi - lo)
            skip[own] = first[own] - lo
            rows = slice(int(start[own[0]]), int(start[own[-1]] + (det_hi - det_lo)[own[-1]]))
            products.append((int(number) // 2, rows, slice(lo, hi)))
        n_lines, width = (
            int(end[-1]) if end.size else 0,
            max((p[2].stop - p[2].start for p in products), default=0),
        )
        return _Layout(start, skip, products, (n_lines, width))

    def _image(self, data: NDArray[Any]) -> NDArray[Any]:
        """Sum over all half-turn angles, shape (y, x, slices)."""
        g, v, dtype = self.geometry, self.views, self.plan.dtype
        image = np.zeros((self.grid.y.size, self.grid.x.size, self.bounds.n_slices), dtype=dtype)
        for lo, hi in self._blocks():
            e = self._entries_of(lo, hi)
            n, n_t = e.stop - e.start, int(self.n_t[e].max(initial=2))
            cone, filters, *_ = self._filter(e)
            at = self._layout(e)
            parallel = np.zeros((at.shape[0], even(g.n_channels)), dtype=dtype)
            filtered = np.empty(at.shape, dtype=dtype)
            sums = np.empty((n, n_t, int((v.row_hi[e] - v.row_lo[e]).max(initial=1)) + 2), dtype=dtype)
            values = np.empty(self._points_of(lo, hi), dtype=dtype)
            with one_parallel_region():
                shift_views(data, *self._views(e), cone, at.start, parallel)  # type: ignore[call-arg]
                for q, rows, t in at.products:
                    multiply(parallel[rows], filters[q, :, t], filtered[rows, : t.stop - t.start])
                sum_rows(filtered, at.start, at.skip, *self._rows(e), sums)  # type: ignore[call-arg]
                resample(
                    sums,
                    *self._common(lo, hi),
                    self.bounds.even,
                    *self._weighting(),
                    *self._same_weights(),
                    values,
                )  # type: ignore[call-arg]
                back_project(values, *self._place(lo, hi), image)  # type: ignore[call-arg]
        return image

    def transpose(self, template: NDArray[Any], out: NDArray[Any]) -> None:
        """Add the transpose of :meth:`forward`, applied to (z, y, x), to ``out`` (view, row, channel)."""
        g, v, dtype = self.geometry, self.views, self.plan.dtype
        columns = np.zeros((self.grid.y.size, self.grid.x.size, self.bounds.n_slices), dtype=dtype)
        columns[..., : self.grid.z.size] = np.moveaxis(template, 0, 2) * dtype.type(g.angle_step_rad)
        for lo, hi in self._blocks():
            e = self._entries_of(lo, hi)
            n, n_t = e.stop - e.start, int(self.n_t[e].max(initial=2))
            cone, filters, *_ = self._filter(e)
            at = self._layout(e)
            sums = np.zeros((n, n_t, int((v.row_hi[e] - v.row_lo[e]).max(initial=1)) + 2), dtype=dtype)
            filtered = np.zeros(at.shape, dtype=dtype)
            parallel = np.empty((at.shape[0], even(g.n_channels)), dtype=dtype)
            values = np.zeros(self._points_of(lo, hi), dtype=dtype)
            unseen = np.zeros(hi - lo, dtype=np.int64)
            with one_parallel_region():
                back_project_adjoint(columns, *self._place(lo, hi), values)  # type: ignore[call-arg]
                resample_adjoint(values, *self._common(lo, hi), *self._weighting(), unseen, sums)  # type: ignore[call-arg]
                sum_rows_adjoint(sums, at.start, at.skip, *self._rows(e), filtered)  # type: ignore[call-arg]
                if unseen.any():
                    expected = "a template that is zero where the scan does not see"
                    refuse("adjoint", expected, "voxels outside the scanned range")
                for q, rows, t in at.products:
                    multiply(filtered[rows, : t.stop - t.start], filters[q, :, t].T, parallel[rows])
                shift_views_adjoint(parallel, *self._views(e), cone, at.start, out)  # type: ignore[call-arg]
