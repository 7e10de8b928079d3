"""One ray through one grid, against lengths worked out by hand."""

import math

import numpy as np
import pytest

from twinlab.kernels.rays import siddon

GRID = (-3.0, -2.0, -1.0, 1.5, 1.0, 0.5)  # lower corner and voxel size (z, y, x)


def trace(volume, start, end):
    out = np.zeros(volume.shape[0])
    siddon(volume, *GRID, *start, *end, out)
    return out


@pytest.fixture
def volume():
    return np.random.default_rng(1).random((2, 4, 4, 4)).astype(np.float32)


def test_parallel_to_each_axis(volume):
    # Along x through row z index 1, y index 2: all four voxels of 0.5 mm
    expected = 0.5 * volume[:, 1, 2, :].sum(axis=1, dtype=float)
    assert trace(volume, (-0.9, 0.3, -50.0), (-0.9, 0.3, 50.0)) == pytest.approx(expected, rel=1e-12)
    expected = 1.0 * volume[:, 1, :, 3].sum(axis=1, dtype=float)
    assert trace(volume, (-0.9, 50.0, 0.7), (-0.9, -50.0, 0.7)) == pytest.approx(expected, rel=1e-12)
    expected = 1.5 * volume[:, :, 0, 0].sum(axis=1, dtype=float)
    assert trace(volume, (-9.0, -1.5, -0.8), (9.0, -1.5, -0.8)) == pytest.approx(expected, rel=1e-12)


def test_a_ray_on_a_plane_belongs_to_the_voxel_above_it(volume):
    expected = 0.5 * volume[:, 2, 2, :].sum(axis=1, dtype=float)
    assert trace(volume, (0.0, 0.0, -9.0), (0.0, 0.0, 9.0)) == pytest.approx(expected, rel=1e-12)
    # the upper face of the grid is outside, the lower one inside
    assert trace(volume, (0.0, 2.0, -9.0), (0.0, 2.0, 9.0)).max() == 0.0
    assert trace(volume, (0.0, -2.0, -9.0), (0.0, -2.0, 9.0)).min() > 0.0


@pytest.mark.parametrize(
    ("start", "end"),
    [
        ((0.0, 0.0, -9.0), (0.0, 0.0, -2.0)),  # ends before the grid
        ((9.0, 0.0, -9.0), (9.0, 0.5, 9.0)),  # passes beside it
        ((0.0, 0.0, 9.0), (0.0, 0.0, 2.0)),
    ],
)
def test_outside_gives_nothing(volume, start, end):
    assert trace(volume, start, end).max() == 0.0


def test_start_and_end_inside_the_grid():
    ones = np.ones((1, 4, 4, 4), np.float32)
    start, end = np.array((-1.0, -1.2, -0.3)), np.array((1.7, 0.9, 0.55))
    assert trace(ones, start, end)[0] == pytest.approx(math.dist(start, end), rel=1e-12)


def test_segments_add_up_to_the_whole(volume):
    rng = np.random.default_rng(2)
    for _ in range(50):
        start, end = rng.normal(0, 4, 3), rng.normal(0, 4, 3)
        middle = start + rng.random() * (end - start)
        parts = trace(volume, start, middle) + trace(volume, middle, end)
        assert parts == pytest.approx(trace(volume, start, end), rel=1e-9, abs=1e-9)


def test_either_direction_gives_the_same(volume):
    rng = np.random.default_rng(3)
    for _ in range(50):
        start, end = rng.normal(0, 6, 3), rng.normal(0, 6, 3)
        assert trace(volume, start, end) == pytest.approx(trace(volume, end, start), rel=1e-9, abs=1e-9)


def test_against_brute_force_sampling(volume):
    start, end = np.array((-4.0, -3.0, -2.0)), np.array((3.7, 2.6, 1.4))
    n = 400_000
    points = start + (np.arange(n)[:, None] + 0.5) / n * (end - start)
    index = np.floor((points - GRID[:3]) / GRID[3:]).astype(int)
    inside = ((index >= 0) & (index < 4)).all(axis=1)
    expected = volume[(slice(None), *index[inside].T)].sum(axis=1, dtype=float) * math.dist(start, end) / n
    # each of about 12 boundaries is misplaced by up to a sample, 1e-5 of the length
    assert trace(volume, start, end) == pytest.approx(expected, rel=1e-4)
