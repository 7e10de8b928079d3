"""Back-projection kernels against explicit geometry and plain sums."""

from __future__ import annotations

import math

import numpy as np
import pytest

from twinlab.kernels.backproject import back_project, back_project_adjoint, parallel_ray, rows_per_mm
from twinlab.kernels.rebinning import (
    filter_rows,
    filter_rows_adjoint,
    shift_views,
    shift_views_adjoint,
    sum_rows,
    sum_rows_adjoint,
)


@pytest.mark.parametrize("flat", [False, True])
def test_ray_through_a_point_is_that_of_the_gantry(flat: bool) -> None:
    """Build the ray from source and detector cell, take a point on it, and ask the kernel back."""
    radius, detector = 570.0, 1040.0
    beta, fan, v, part = 2.2, -0.17, 13.0, 0.61
    source = np.array([radius * math.sin(beta), -radius * math.cos(beta)])
    d, e = np.array([-math.sin(beta), math.cos(beta)]), np.array([math.cos(beta), math.sin(beta)])
    way = detector * (d + math.tan(fan) * e) if flat else detector * (math.cos(fan) * d + math.sin(fan) * e)
    x, y = source + part * way
    theta = beta - fan
    t, distance, root = parallel_ray(x, y, math.cos(theta), math.sin(theta), radius**2)
    assert t == pytest.approx(radius * math.sin(fan), abs=1e-9)
    assert distance == pytest.approx(part * np.linalg.norm(way), rel=1e-12)
    # the point lies part * v above the source; one row per mm of detector
    assert part * v * rows_per_mm(distance, root, detector, radius, flat) == pytest.approx(v, rel=1e-12)


def setup(n_t: int = 61) -> tuple[tuple, np.ndarray, np.ndarray]:
    """Two angles, the first seen twice, rows of 1 mm at the isocentre."""
    theta = np.array([0.0, math.pi, 0.5 * math.pi])
    rows = 10
    x, y = np.array([-3.0, 0.5, 4.0]), np.array([-2.0, 1.0])
    z = np.array([-1.0, 0.0, 1.0])
    row_weight = np.linspace(0.5, 1.0, rows)
    row_sums = np.concatenate([[0.0], np.cumsum(row_weight)])
    fan = np.arcsin(0.5 * (np.arange(n_t) - n_t // 2) / 500.0)
    common = (
        np.full(3, -(n_t // 2)), np.zeros(3, np.int64), np.full(3, rows), np.cos(theta), np.sin(theta),
        np.array([0.0, 1.5, 0.2]), np.full(3, 0.3), np.array([0, 2, 3]), x, y,
        np.append(z - 0.5, z[-1] + 0.5), 1, fan, -(n_t // 2), 2.0,
        (500.0, 500.0, rows / 2, False), row_sums, 1e-6,
    )  # fmt: skip
    return common, row_weight, np.zeros((2, 3, 3))


def test_a_constant_comes_back_whatever_the_weights() -> None:
    common, weight, image = setup()
    sums = np.tile(np.concatenate([[0.0], np.cumsum(weight)]), (3, 61, 1))
    back_project(sums, *common, image)
    # two angles, each normalised: 1 + 1
    assert image == pytest.approx(np.full((2, 3, 3), 2.0), abs=1e-12)


def test_a_linear_function_of_t_is_interpolated_exactly() -> None:
    common, weight, image = setup()
    t = 0.5 * (np.arange(61) - 30)
    sums = t[None, :, None] * np.concatenate([[0.0], np.cumsum(weight)])[None, None]
    sums = np.repeat(sums, 3, axis=0)
    sums[1] *= -1.0  # the opposite direction sees -t
    back_project(sums, *common, image)
    x, y = common[8], common[9]
    # t = x at angle 0, y at a quarter turn
    assert image == pytest.approx(np.repeat((x[None, :] + y[:, None])[..., None], 3, axis=2), abs=1e-12)


def test_transposes_agree_with_their_maps() -> None:
    rng = np.random.default_rng(0)
    common, _, image = setup()
    sums = rng.standard_normal((3, 61, 11))
    back_project(sums, *common, image)
    template, back, unseen = rng.standard_normal(image.shape), np.zeros_like(sums), np.zeros(2, np.int64)
    back_project_adjoint(template, *common, unseen, back)
    # double precision: rounding
    assert (image * template).sum() == pytest.approx((sums * back).sum(), rel=1e-10)
    assert not unseen.any()


def test_running_sums_and_their_transpose() -> None:
    rng = np.random.default_rng(1)
    filtered, weight = rng.standard_normal((1, 4, 3)), rng.uniform(0.5, 1, 8)
    window = (np.array([3]), np.array([1]), np.array([8]), np.array([0]), 2, 4, weight)
    sums = np.empty((1, 3, 8))
    sum_rows(filtered, *window, sums)
    row = np.clip(np.arange(1, 8) - 2, 0, 3)  # margins repeat the edge rows
    assert sums[0, :, 1:] == pytest.approx(np.cumsum(filtered[0][row].T * weight[1:8], axis=1), abs=1e-12)
    other, back = rng.standard_normal(sums.shape), np.empty_like(filtered)
    sum_rows_adjoint(other, *window, back)
    assert (sums[..., 1:] * other[..., 1:]).sum() == pytest.approx((filtered * back).sum(), rel=1e-10)


@pytest.mark.parametrize("periodic", [False, True])
def test_shift_over_views_and_its_transpose(periodic: bool) -> None:
    rng = np.random.default_rng(2)
    data = rng.standard_normal((12, 3, 5))
    shift = np.arange(12) if periodic else np.arange(4, 8)
    n = shift.size
    offset, weight = np.array([[-3, -2, -1, 0, 1]]), rng.uniform(size=(1, 2, 5))
    lo, hi = np.zeros(n, np.int64), np.full(n, 3)
    out = np.zeros((n, 3, 5))
    shift_views(
        data,
        np.array([0]),
        np.array([12]),
        np.array([periodic]),
        np.zeros(n, np.int64),
        shift,
        offset,
        weight,
        lo,
        hi,
        out,
    )
    view = (shift[2] + offset[0, 4] + np.arange(2)) % 12
    assert out[2, 1, 4] == pytest.approx((weight[0, :, 4] * data[view, 1, 4]).sum(), rel=1e-12)
    other, back = rng.standard_normal(out.shape), np.zeros_like(data)
    shift_views_adjoint(other, np.arange(n), int(shift[0]), 12, periodic, offset[0], weight[0], lo, hi, back)
    assert (out * other).sum() == pytest.approx((data * back).sum(), rel=1e-10)


def test_filter_is_a_matrix_product_and_has_its_transpose() -> None:
    rng = np.random.default_rng(3)
    parallel, cone = rng.standard_normal((2, 3, 5)), rng.uniform(0.9, 1, (4, 5))
    matrix = rng.standard_normal((5, 700))  # wider than a block
    lo, hi, first, n_t = np.array([0, 1]), np.array([3, 4]), np.array([2, 90]), np.array([600, 9])
    out = np.zeros((2, 3, 600))
    filter_rows(parallel, cone, np.pad(matrix, ((0, 3), (0, 0))), first, n_t, lo, hi, out)
    assert out[1, 2, :9] == pytest.approx((parallel[1, 2] * cone[3]) @ matrix[:, 90:99], abs=1e-12)
    assert out[0, 1] == pytest.approx((parallel[0, 1] * cone[1]) @ matrix[:, 2:602], abs=1e-12)
    other, back = rng.standard_normal(out.shape), np.empty_like(parallel)
    transposed = np.ascontiguousarray(np.pad(matrix.T, ((0, 8), (0, 0))))
    filter_rows_adjoint(other, cone, transposed, first, n_t, lo, hi, back)
    used = np.arange(600) < n_t[:, None, None]
    assert (out * other * used).sum() == pytest.approx((parallel * back).sum(), rel=1e-10)
