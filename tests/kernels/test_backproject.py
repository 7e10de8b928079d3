"""Back-projection kernels against explicit geometry and plain sums."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numba import njit

from twinlab.kernels.backproject import back_project, back_project_adjoint, parallel_place
from twinlab.kernels.rebinning import shift_views, shift_views_adjoint, sum_rows, sum_rows_adjoint
from twinlab.kernels.resample import column, inverse_weights, meet, resample, resample_adjoint
from twinlab.kernels.vector import read, reread, write


@pytest.mark.parametrize("flat", [False, True])
def test_ray_through_a_point_is_that_of_the_gantry(flat: bool) -> None:
    """Build the ray from source and detector cell, take a point on it, and ask the kernels back."""
    radius, detector = 570.0, 1040.0
    beta, fan, v, part, source_z, slope = 2.2, -0.17, 13.0, 0.61, -4.0, 3.0
    source = np.array([radius * math.sin(beta), -radius * math.cos(beta)])
    d, e = np.array([-math.sin(beta), math.cos(beta)]), np.array([math.cos(beta), math.sin(beta)])
    way = detector * (d + math.tan(fan) * e) if flat else detector * (math.cos(fan) * d + math.sin(fan) * e)
    x, y = source + part * way
    theta = beta - fan
    ray = np.array([math.cos(theta), math.sin(theta)])
    i, f, j, g = parallel_place(x, y, ray, (0.5, 4.0), -2000, -2000)
    t, s = 0.5 * (i + f - 2000), 4.0 * (j + g - 2000)
    assert t == pytest.approx(radius * math.sin(fan), abs=1e-9)
    # source z at fan angle 0 of this parallel angle; rows of 1 mm, the first at the source's height
    table = np.array([source_z - slope * fan, slope, radius, detector, 0.0])
    height, root = meet(t, table, fan)
    start, scale = column(s, height, root, table, 0, flat)
    # the point lies part * v above the source; rounding
    assert start + (source_z + part * v) * scale == pytest.approx(v, rel=1e-12)


THETA = np.array([0.0, math.pi, 0.5 * math.pi])
UNKNOWN = (np.empty((0, 0, 0)), (0, 0))
T_STEP, S_STEP, FIRST_T, FIRST_S, N_T, N_S = 0.5, 3.0, -12, -3, 26, 7


def scene(n_slices: int = 8, shares: bool = False) -> dict[str, Any]:
    """Two angles, the first seen twice, rows of 1 mm at the isocentre, three slices and padding."""
    rows = 10
    row_weight = np.linspace(0.5, 1.0, rows)
    total = np.concatenate([[0.0], np.cumsum(row_weight)])
    side = np.array([1, -1, 1])
    lowest = np.where(side > 0, FIRST_T, 1 - FIRST_T - N_T)
    window = np.stack([side, lowest, np.zeros(3, int), np.full(3, rows)], axis=1)
    source = np.array([[z, 0.3, 500.0, 500.0, rows / 2] for z in (0.0, 1.5, 0.2)])
    half = 30
    bounds = -1.5 + np.arange(8.0)
    grid = np.tile([FIRST_T, FIRST_S], (2, 1))
    return {
        "common": (
            window, source, np.array([0, 2, 3]), grid, np.tile([0, N_T], (2, N_S, 1)),
            np.arcsin(T_STEP * np.arange(-half, half + 1) / 500.0), -half, (T_STEP, S_STEP), bounds,
        ),
        "even": (-1.5, 1.0),
        "weighting": (1, np.append(total, total[-1]), 1e-6, False, shares),
        "place": (
            np.array([[1.0, 0.0], [0.0, 1.0]]), grid, (T_STEP, S_STEP), np.array([-3.0, 0.5, 4.0]),
            np.array([-2.0, 1.0]),
        ),
        "sums": np.append(total, total[-1]),
        "points": np.zeros((2, N_S, N_T, n_slices)),
        "image": np.zeros((2, 3, n_slices)),
    }  # fmt: skip


@pytest.mark.parametrize(("shares", "expected"), [(False, 2.0), (True, 3.0)])
@pytest.mark.parametrize("even", [True, False])
def test_a_constant_comes_back_whatever_the_weights(shares: bool, expected: float, even: bool) -> None:
    c = scene(shares=shares)
    sums = np.tile(c["sums"], (3, N_T, 1))
    resample(sums, *c["common"], c["even"] if even else (0.0, 0.0), *c["weighting"], *UNKNOWN, c["points"])
    back_project(c["points"], *c["place"], c["image"])
    # two angles, each normalised: 1 + 1; as shares three entries add up
    assert c["image"][..., :3] == pytest.approx(np.full((2, 3, 3), expected), abs=1e-12)


def test_a_linear_function_of_t_is_interpolated_exactly() -> None:
    c = scene()
    t = np.stack([T_STEP * (lowest + np.arange(N_T)) for lowest in c["common"][0][:, 1]])
    t[1] *= -1.0  # the opposite direction sees -t
    resample(t[..., None] * c["sums"], *c["common"], c["even"], *c["weighting"], *UNKNOWN, c["points"])
    back_project(c["points"], *c["place"], c["image"])
    x, y = c["place"][3:]
    expected = np.repeat((x[None, :] + y[:, None])[..., None], 3, axis=2)
    # t = x at angle 0, y at a quarter turn
    assert c["image"][..., :3] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("shares", [False, True])
def test_transposes_agree_with_their_maps(shares: bool) -> None:
    rng = np.random.default_rng(0)
    c = scene(shares=shares)
    sums = rng.standard_normal((3, N_T, 12))
    sums[..., 11] = sums[..., 10]
    resample(sums, *c["common"], c["even"], *c["weighting"], *UNKNOWN, c["points"])
    back_project(c["points"], *c["place"], c["image"])
    template = rng.standard_normal(c["image"].shape)
    template[..., 3:] = 0.0
    points, back, unseen = np.zeros_like(c["points"]), np.zeros_like(sums), np.zeros(2, np.int64)
    back_project_adjoint(template, *c["place"], points)
    resample_adjoint(points, *c["common"], *c["weighting"], unseen, back)
    # double precision: rounding
    expected = (c["image"] * template)[..., :3].sum()
    assert expected == pytest.approx((sums * back).sum(), rel=1e-10)
    assert not unseen.any()


@njit
def _shift_right(a: np.ndarray, b: np.ndarray) -> None:
    for k in range(a.size):
        write(b, k, reread(b, k, 1) + read(a, k, 1), 1)
    for k in range(a.size - 1):
        write(a, k + 1, read(b, k, 2), 2)


def test_stages_that_feed_each_other_stay_in_order() -> None:
    a, b = np.arange(100.0), np.ones(100)
    _shift_right(a, b)
    assert (b == np.arange(100.0) + 1).all()
    assert (a[1:] == np.arange(1.0, 100.0)).all()


def test_weights_that_are_the_same_at_every_angle_need_no_look_up() -> None:
    c = scene()
    window, source, group, grid, span, fan, fan_first, steps, bounds = c["common"]
    pair, row_sums, least, flat, _ = c["weighting"]
    sums = np.random.default_rng(5).standard_normal((3, N_T, 12))
    sums[..., 11] = sums[..., 10]
    one = (window[:2], source[:2], group[:2], grid[:1], span[:1], fan, fan_first, steps, bounds)
    looked_up, known = c["points"][:1], np.empty((N_S, N_T, 8))
    resample(sums[:2], *one, c["even"], *c["weighting"], *UNKNOWN, looked_up)
    inverse_weights(
        window[:2],
        source[:2],
        fan,
        fan_first,
        steps,
        bounds,
        pair,
        row_sums,
        least,
        flat,
        (FIRST_T, FIRST_S),
        known,
    )
    told = np.zeros_like(looked_up)
    resample(sums[:2], *one, c["even"], *c["weighting"], known, (FIRST_T, FIRST_S), told)
    # double precision: rounding
    assert np.isfinite(told[..., :3]).all()
    assert told[..., :3] == pytest.approx(looked_up[..., :3], rel=1e-9, abs=1e-12)


def test_running_sums_and_their_transpose() -> None:
    rng = np.random.default_rng(1)
    filtered, weight = rng.standard_normal((7, 5)), rng.uniform(0.5, 1, 8)
    window = (
        np.array([2]),
        np.array([1]),
        np.array([3]),
        np.array([1]),
        np.array([8]),
        np.array([0]),
        2,
        4,
        weight,
    )
    sums = np.empty((1, 3, 9))
    sum_rows(filtered, *window, sums)
    row = np.clip(np.arange(1, 8) - 2, 0, 3)  # margins repeat the edge rows
    assert sums[0, :, 1:8] == pytest.approx(
        np.cumsum(filtered[2 + row, 1:4].T * weight[1:8], axis=1), abs=1e-12
    )
    assert (sums[..., 8] == sums[..., 7]).all()
    other, back = rng.standard_normal(sums.shape), np.zeros_like(filtered)
    sum_rows_adjoint(other, *window, back)
    assert (sums[..., 1:8] * other[..., 1:8]).sum() == pytest.approx((filtered * back).sum(), rel=1e-10)


@pytest.mark.parametrize("periodic", [False, True])
def test_shift_over_views_and_its_transpose(periodic: bool) -> None:
    rng = np.random.default_rng(2)
    data = rng.standard_normal((26, 3, 5))
    n = 7
    segments, circle = np.array([[1, 12, 2]]), np.array([periodic])  # every other view from view 1 on
    segment, base = np.zeros(n, np.int64), np.linspace(-0.4, 11.3, n)
    channel, share = np.array([[-0.3, -0.1, 0.0, 0.1, 0.3]]), rng.uniform(size=(n, 5))
    lo, hi, cone = np.zeros(n, np.int64), np.full(n, 3), rng.uniform(0.9, 1, (3, 5))
    out = np.zeros((3 * n + 1, 5))  # the entries' rows follow each other from the second line on
    places = (segments, circle, segment, base, channel, share, lo, hi, cone, 1 + 3 * np.arange(n))
    shift_views(data, *places, out)
    x = np.arange(26.0)[:, None, None]
    quintic = 1e-4 * (x - 8.0) ** 5 + np.zeros_like(data)
    exact = np.zeros_like(out)
    shift_views(quintic, *places, exact)
    # six points reproduce a polynomial of degree five, one-sided at the ends of an open path
    place = 1.0 + 2.0 * (base[2] + channel[0])
    assert exact[8] == pytest.approx(cone[1] * share[2] * 1e-4 * (place - 8.0) ** 5, rel=1e-9)
    if not periodic:
        place = 1.0 + 2.0 * (base[0] + channel[0])
        assert exact[2] == pytest.approx(cone[1] * share[0] * 1e-4 * (place - 8.0) ** 5, rel=1e-9)
    other, back = rng.standard_normal(out.shape), np.zeros_like(data)
    shift_views_adjoint(other, *places, back)
    assert (out * other).sum() == pytest.approx((data * back).sum(), rel=1e-10)
