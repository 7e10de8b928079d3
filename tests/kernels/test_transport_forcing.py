"""Interaction forcing: the same doses in ten regions, and surer ones in targets that photons fly through."""

from __future__ import annotations

import numba
import numpy as np
import pytest

from twinlab.kernels import transport
from twinlab.kernels.transport_data import ENERGY_UNIT_KEV
from twinlab.kernels.transport_splitting import Splitting
from twinlab.phantom import transport_tables as table_module
from twinlab.phantom.transport_grid import Rod, cylinder_grid, voxel_grid
from twinlab.scanner.photon_source import field_source
from twinlab.schema import InputError


@pytest.fixture(scope="module")
def tables():
    return table_module.build(["air", "water"])


def _case(tables, density: float):
    """A box of water of uneven density in air, ten regions of 1 cm along the beam, some of the beam beside it."""
    shape = (12, 10, 12)
    material = np.ones(shape, np.uint8)
    rows = np.arange(10)[None, :, None]
    region = np.broadcast_to(rows, shape).astype(np.uint16)
    given = density * (1.0 + 0.5 * (rows % 3)) * np.ones(shape)
    grid = voxel_grid(material, given, region, tables, spacing_mm=(10.0, 10.0, 10.0), reach_mm=700.0, block=4)
    source = field_source(
        np.array([30.0, 70.0]), np.array([0.3, 0.7]),
        position_mm=np.array([60.0, -500.0, 60.0]),
        corner_mm=np.array([-10.0, 0.0, 20.0]),
        edges_mm=np.array([[140.0, 0.0, 0.0], [0.0, 0.0, 80.0]]),
    )  # fmt: skip
    return grid, tables, source


def _both(case, plain, forced):
    a = transport.run(*case, histories=plain, seed=1, n_region=10)
    b = transport.run(*case, histories=forced, seed=2, n_region=10, forcing=True, voxel_map=True)
    return a, b, transport.mean_sd(a.region, plain), transport.mean_sd(b.region, forced)


def _agree(tables, density, plain, forced):
    a, b, (mean_a, sd_a), (mean_b, sd_b) = _both(_case(tables, density), plain, forced)
    pull = (mean_b - mean_a) / np.hypot(sd_a, sd_b)
    assert np.abs(pull).max() < 3.2  # ten regions
    total, sd = (
        (mean_a.sum(), mean_b.sum()),
        [transport.mean_sd(t.energy[None, 3:5], t.histories)[1][0] for t in (a, b)],
    )
    assert abs(total[0] - total[1]) < 3 * np.hypot(*sd)
    emitted, escaped, outside, deposited = b.energy[:4]
    # each of some ten weighted energies of a history is rounded to half a unit of 2^-20 keV
    assert abs(emitted - escaped - outside - deposited) < 10 * b.histories
    assert b.voxel[:, 0].sum() == deposited == b.region[:, 0].sum()
    return (sd_a / sd_b) ** 2 * plain / forced


@pytest.mark.parametrize("density", [0.001, 0.05, 1.0])
def test_ten_regions_agree(tables, density):
    gain = _agree(tables, density, 400_000, 100_000)  # variance at equal histories
    if density < 0.01:  # 1 photon in 500 collides
        assert np.median(gain) > 30
    elif density < 0.1:
        assert np.median(gain) > 2


def test_ten_regions_agree_with_bound_electrons():
    _agree(table_module.build(["air", "water"], doppler=True), 0.05, 400_000, 100_000)


@pytest.mark.slow
@pytest.mark.parametrize("density", [0.001, 0.05, 1.0])
def test_ten_regions_agree_to_a_per_mille_of_the_box(tables, density):
    _agree(tables, density, 20_000_000, 3_000_000)


def test_the_same_for_any_number_of_threads_and_batches(tables):
    case, before = _case(tables, 0.05), numba.get_num_threads()
    more = {"histories": 6000, "seed": 5, "n_region": 10, "forcing": True}
    numba.set_num_threads(1)
    one = transport.run(*case, batch=2500, **more)
    numba.set_num_threads(before)
    two = transport.run(*case, **more)
    assert np.array_equal(one.region, two.region)
    assert np.array_equal(one.energy, two.energy)
    assert ENERGY_UNIT_KEV * one.energy[0] == pytest.approx(6000 * 58.0, rel=0.02)


def test_refused(tables):
    grid, _, source = _case(tables, 1.0)
    solids, _ = cylinder_grid([Rod(0.0, 0.0, 10.0, 0.0, 10.0, 1, 1.0)], tables, reach_mm=10.0)
    options = {"histories": 1000, "seed": 1, "n_region": 10, "forcing": True}
    for where, more in (
        (solids, {}),
        (grid, {"estimator": "track_length"}),
        (grid, {"splitting": Splitting(20.0, 100.0)}),
    ):
        with pytest.raises(InputError, match="forcing"):
            transport.run(where, tables, source, **options, **more)
