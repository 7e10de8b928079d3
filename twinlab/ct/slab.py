"""Slices reconstructed together: from projections to attenuation and back, block by block of angles."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinlab.ct.filters import filter_matrix
from twinlab.ct.gantry import Geometry, Grid
from twinlab.ct.points import Points, points
from twinlab.ct.rebin import ParallelViews, detector_rows, parallel_views, view_shift
from twinlab.kernels.backproject import back_project, back_project_adjoint
from twinlab.kernels.rebinning import (
    filter_rows,
    filter_rows_adjoint,
    shift_views,
    shift_views_adjoint,
    sum_rows,
    sum_rows_adjoint,
)
from twinlab.kernels.resample import LANES, resample, resample_adjoint
from twinlab.kernels.threads import one_parallel_region
from twinlab.schema import refuse

_BLOCK_BYTES = 96 << 20  # of running sums and points held at a time
_LEAST = 1e-4  # of a slice: less weight than that at any angle is "not seen"


@dataclass(frozen=True)
class Plan:
    """What every slab of a reconstruction shares."""

    geometry: Geometry
    grid: Grid
    kernel: str
    dtype: np.dtype[Any]


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


class Slab:
    """Slices reconstructed together: the plan's arrays, block by block of half-turn angles."""

    def __init__(self, plan: Plan, part: slice) -> None:
        g, dtype = plan.geometry, plan.dtype
        self.plan = plan
        self.grid = Grid(plan.grid.x, plan.grid.y, plan.grid.z[part], plan.grid.thickness_mm)
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
        self.shifts = [view_shift(g, segment) for segment in g.segments]
        self.window, self.n_t, self.source = self._entries()

    def _entries(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """Direction, windows and source of the entries, as :func:`twinlab.kernels.resample.resample` wants them."""
        v, g = self.views, self.plan.geometry
        angle = np.repeat(np.arange(v.group.size - 1), np.diff(v.group))
        number = np.rint(v.theta_rad / g.angle_step_rad).astype(np.int64) % g.angles_per_rotation
        side = np.where(number == angle, 1, -1)
        first, n_t = self.points.first[angle, 0], self.points.count[angle, 0]
        window = np.stack([side, np.where(side > 0, first, 1 - first - n_t), v.row_lo, v.row_hi], axis=1)
        first_edge = 0.5 + g.margin_rows - g.first_row_mm / g.row_step_mm
        constant = np.array([g.radius_mm, g.detector_mm / g.row_step_mm, first_edge])
        moving = np.stack([v.source_z_mm - self.z_middle, v.slope_mm_per_rad], axis=1)
        return window, n_t, np.hstack([moving, np.broadcast_to(constant, (angle.size, 3))])

    def _blocks(self) -> Iterator[tuple[int, int]]:
        """Ranges of half-turn angles whose running sums and points fit the memory set aside."""
        group = self.views.group
        rows = int((self.views.row_hi - self.views.row_lo).max(initial=1)) + 2
        most = int(self.points.count[:, 0].max())
        columns = most * int(self.points.count[:, 1].max()) * self.bounds.n_slices
        size = most * rows * np.diff(group) + columns
        total = np.concatenate([[0], np.cumsum(size)]) * self.plan.dtype.itemsize
        lo = 0
        while lo < group.size - 1:
            hi = int(np.searchsorted(total, total[lo] + _BLOCK_BYTES, side="right")) - 1
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
        return (
            self.bounds.pair,
            self.row_sums,
            _LEAST * self.grid.thickness_mm,
            self.plan.geometry.flat,
            False,
        )

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
        first = self.window[entries, 1] + self.half
        return self.cone, matrix, first, self.n_t[entries], self.det_lo[entries], self.det_hi[entries]

    def forward(self, data: NDArray[Any]) -> NDArray[Any]:
        """Attenuation per mm, shape (z, y, x), of projections (view, row, channel)."""
        g, v, dtype = self.plan.geometry, self.views, self.plan.dtype
        offset, weight = self._weights()
        first = np.array([s.first for s in g.segments])
        count = np.array([s.count for s in g.segments])
        periodic = np.array([s.periodic for s in g.segments])
        image = np.zeros((self.grid.y.size, self.grid.x.size, self.bounds.n_slices), dtype=dtype)
        for lo, hi in self._blocks():
            e = self._entries_of(lo, hi)
            n = e.stop - e.start
            det_lo, det_hi = self.det_lo[e], self.det_hi[e]
            n_det = int((det_hi - det_lo).max(initial=1))
            n_t = int(self.n_t[e].max(initial=2))
            parallel = np.empty((n, n_det, g.n_channels), dtype=dtype)
            filtered = np.empty((n, n_det, n_t), dtype=dtype)
            sums = np.empty((n, n_t, int((v.row_hi[e] - v.row_lo[e]).max(initial=1)) + 2), dtype=dtype)
            values = np.empty(self._points_of(lo, hi), dtype=dtype)
            with one_parallel_region():
                shift_views(
                    data, first, count, periodic, v.segment[e], v.shift[e], offset, weight, det_lo, det_hi,
                    parallel,
                )  # fmt: skip
                filter_rows(parallel, *self._filter(e, transposed=False), filtered)  # type: ignore[call-arg]
                sum_rows(filtered, *self._rows(e), sums)  # type: ignore[call-arg]
                resample(sums, *self._common(lo, hi), self.bounds.even, *self._weighting(), values)  # type: ignore[call-arg]
                back_project(values, *self._place(lo, hi), image)  # type: ignore[call-arg]
        image *= g.angle_step_rad
        return np.moveaxis(image, 2, 0)[: self.grid.z.size]

    def transpose(self, template: NDArray[Any], out: NDArray[Any]) -> None:
        """Add the transpose of :meth:`forward`, applied to (z, y, x), to ``out`` (view, row, channel)."""
        g, v, dtype = self.plan.geometry, self.views, self.plan.dtype
        columns = np.zeros((self.grid.y.size, self.grid.x.size, self.bounds.n_slices), dtype=dtype)
        columns[..., : self.grid.z.size] = np.moveaxis(template, 0, 2) * dtype.type(g.angle_step_rad)
        n_det = int((self.det_hi - self.det_lo).max(initial=1))
        parallel = np.zeros((v.theta_rad.size, n_det, g.n_channels), dtype=dtype)
        for lo, hi in self._blocks():
            e = self._entries_of(lo, hi)
            n = e.stop - e.start
            n_t = int(self.n_t[e].max(initial=2))
            sums = np.zeros((n, n_t, int((v.row_hi[e] - v.row_lo[e]).max(initial=1)) + 2), dtype=dtype)
            filtered = np.empty((n, n_det, n_t), dtype=dtype)
            values = np.zeros(self._points_of(lo, hi), dtype=dtype)
            unseen = np.zeros(hi - lo, dtype=np.int64)
            with one_parallel_region():
                back_project_adjoint(columns, *self._place(lo, hi), values)  # type: ignore[call-arg]
                resample_adjoint(values, *self._common(lo, hi), *self._weighting(), unseen, sums)  # type: ignore[call-arg]
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
