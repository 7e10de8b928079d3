"""Squares of small scores: unbiased, so that thin regions get a standard uncertainty."""

from __future__ import annotations

import numba
import numpy as np
import pytest

from twinlab.kernels import transport
from twinlab.kernels.transport_data import ENERGY_UNIT_KEV, SQUARE_UNIT
from twinlab.kernels.transport_tally import square
from twinlab.phantom import transport_tables as table_module
from twinlab.phantom.transport_grid import voxel_grid
from twinlab.scanner.photon_source import field_source


@numba.njit
def _squares(e, n):
    got = np.empty(n, np.int64)
    for h in range(n):
        got[h] = square(e, np.uint64(h))
    return got


@pytest.mark.parametrize("kev", [1e-4, 0.002, 0.0077, 0.05, 1.0, 150.0])
def test_mean_of_equal_squares(kev):
    n = 200_000
    e = np.int64(kev / ENERGY_UNIT_KEV)
    got = _squares(e, n)
    want = (int(e) * ENERGY_UNIT_KEV) ** 2 / SQUARE_UNIT
    assert set(np.unique(got)) <= {int(want), int(want) + 1}
    rest = want - int(want)
    assert abs(got.mean() - want) < 4 * np.sqrt(rest * (1 - rest) / n) + 1e-12 * want  # a share of ups


@pytest.mark.parametrize("options", [{"estimator": "track_length"}, {"forcing": True}])
def test_10_mm_of_air_has_its_uncertainty(options):
    """The sum of squares is that of exact scores, each of a run of its own, within the chance of the rounding."""
    tables = table_module.build(["air"])
    air = np.full((10, 1, 10), 0.0012)
    grid = voxel_grid(
        np.zeros(air.shape, int),
        air,
        np.ones(air.shape, int),
        tables,
        spacing_mm=(10.0, 10.0, 10.0),
        reach_mm=20.0,
    )
    source = field_source(
        60.0,
        position_mm=np.array([50.0, -100.0, 50.0]),
        corner_mm=np.array([0.0, 0.0, 0.0]),
        edges_mm=np.array([[100.0, 0.0, 0.0], [0.0, 0.0, 100.0]]),
    )
    n = 1000
    one = [
        transport.run(
            grid, tables, source, histories=1, first_history=h, seed=2, n_region=2, **options
        ).region[1, 0]
        for h in range(n)
    ]
    exact = np.array(one, float) * ENERGY_UNIT_KEV
    tally = transport.run(grid, tables, source, histories=n, seed=2, n_region=2, **options)
    assert tally.region[1, 0] == sum(map(int, one))
    units = exact**2 / SQUARE_UNIT
    rest = units - np.floor(units)
    assert abs(tally.region[1, 1] - units.sum()) <= 4 * np.sqrt((rest * (1 - rest)).sum())
    assert transport.mean_sd(tally.region[1], n)[1] > 0
