"""Track lengths against collisions: the same means, smaller spread where few photons collide."""

from __future__ import annotations

import numpy as np
import pytest

from twinlab.kernels import transport
from twinlab.phantom import transport_tables as table_module
from twinlab.phantom.transport_grid import Rod, cylinder_grid, voxel_grid
from twinlab.scanner.photon_source import field_source
from twinlab.schema import InputError

HISTORIES = 250_000
SKIN, LUNG = 1, 4


def _body(tables):
    """Box with skin, fat, bone, lung, iodine blood and other parts: regions 0 (air) to 10."""
    shape = (20, 30, 30)
    z, y, x = np.indices(shape)
    region = np.full(shape, 2)
    region[(x < 1) | (y < 1) | (x > 28) | (y > 28)] = SKIN
    region[(y > 4) & (y < 8)] = 3
    region[(x > 4) & (x < 12) & (y > 9) & (y < 20)] = LUNG
    region[(x > 17) & (x < 25) & (y > 9) & (y < 20)] = 5
    region[(abs(x - 14) < 2) & (abs(y - 14) < 2)] = 6
    region[(abs(x - 14) < 2) & (y > 20) & (y < 27)] = 7
    region[(z > 12) & (region == 2)] = 8
    region[(z < 4) & (region == 5)] = 9
    region[(abs(x - 21) < 2) & (abs(y - 23) < 2)] = 10
    region[0, :, :] = 0
    material = np.array([0, 1, 1, 3, 2, 2, 4, 3, 1, 1, 1])[region]
    density = np.array([0.0012, 1.09, 0.95, 1.7, 0.26, 0.4, 1.1, 1.4, 1.0, 1.05, 1.03])[region]
    return voxel_grid(material, density, region, tables, spacing_mm=(8.0, 8.0, 8.0), reach_mm=500.0)


@pytest.fixture(scope="module", params=[False, True], ids=["at rest", "bound"])
def runs(request):
    names = ["air", "water", "lung", "schneider_18", "blood+iodine_10mg_ml"]
    tables = table_module.build(names, doppler=request.param)
    source = field_source(
        np.array([35.0, 60.0, 90.0]),
        np.array([1.0, 2.0, 1.0]),
        position_mm=np.array([120.0, -400.0, 80.0]),
        corner_mm=np.array([0.0, 0.0, 0.0]),
        edges_mm=np.array([[240.0, 0.0, 0.0], [0.0, 0.0, 160.0]]),
    )
    grid = _body(tables)
    # seeds of their own: the estimates are independent
    return [
        transport.run(
            grid, tables, source, histories=HISTORIES, seed=k + 1, n_region=11, voxel_map=True, estimator=name
        )
        for k, name in enumerate(transport.ESTIMATORS)
    ]


def test_ten_regions_agree(runs):
    (a, sd_a), (b, sd_b) = (transport.mean_sd(tally.region, HISTORIES) for tally in runs)
    off = (a - b) / np.hypot(sd_a, sd_b)
    assert (np.abs(off[1:]) < 3).all(), off
    # ten values of unit variance: 99.9 % point of chi2
    assert (off[1:] ** 2).sum() < 29.6


def test_thin_and_light_regions_gain(runs):
    (a, sd_a), (b, sd_b) = (transport.mean_sd(tally.region, HISTORIES) for tally in runs)
    gain = ((sd_a / a) / (sd_b / b)) ** 2
    assert gain[SKIN] > 1.5
    assert gain[LUNG] > 1.2
    assert (gain[1:] > 0.8).all()


def test_voxels_add_up_to_regions(runs):
    for tally in runs:
        assert tally.voxel[:, 0].sum() == tally.region[:, 0].sum()
        emitted, escaped, outside, deposited = tally.energy[:4]
        assert emitted == escaped + outside + deposited
    (a, sd_a), (b, sd_b) = (transport.mean_sd(tally.voxel, HISTORIES) for tally in runs)
    # voxels get five collisions each: their map, weighted by the smoother one, has slope one against it
    square = (b**2 - sd_b**2).sum()  # without what noise adds to it
    slope = (a * b).sum() / square
    sd = np.sqrt((sd_a**2 * b**2).sum()) / square
    assert sd < 0.01
    assert abs(slope - 1) < 4 * sd


def test_deposits_of_a_voxel_are_joined_before_squaring():
    """One voxel is one region, whose histories are joined exactly."""
    tables = table_module.build(["air", "water"])
    one = np.ones((1, 1, 1))
    grid = voxel_grid(one, one, np.zeros((1, 1, 1)), tables, spacing_mm=(300.0, 300.0, 300.0), reach_mm=100.0)
    source = field_source(
        60.0,
        position_mm=np.array([-20.0, 150.0, 150.0]),
        corner_mm=np.array([0.0, 150.0, 150.0]),
        edges_mm=np.zeros((2, 3)),
    )
    tally = transport.run(
        grid, tables, source, histories=3000, seed=1, n_region=1, voxel_map=True, estimator="track_length"
    )
    np.testing.assert_array_equal(tally.voxel[0], tally.region[0])


def test_refusals():
    tables = table_module.build(["air", "water"])
    grid, _ = cylinder_grid([Rod(0.0, 0.0, 100.0, 0.0, 100.0, 1, 1.0)], tables, reach_mm=300.0)
    source = field_source(
        60.0, position_mm=np.zeros(3), corner_mm=np.array([10.0, 0, 0]), edges_mm=np.zeros((2, 3))
    )
    with pytest.raises(InputError, match="solids"):
        transport.run(grid, tables, source, histories=10, seed=1, n_region=2, estimator="track_length")
    with pytest.raises(InputError, match="collision"):
        transport.run(grid, tables, source, histories=10, seed=1, n_region=2, estimator="guess")
    with pytest.raises(InputError, match="1 or more"):
        transport.run(grid, tables, source, histories=0, seed=1, n_region=2)
