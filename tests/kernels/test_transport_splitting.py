"""Splitting beyond the beam: the same doses, surer far away."""

from __future__ import annotations

import numpy as np
import pytest

from twinlab.kernels import transport
from twinlab.kernels.transport_splitting import Splitting, steps
from twinlab.phantom import transport_tables as table_module
from twinlab.phantom.transport_grid import Rod, cylinder_grid, voxel_grid
from twinlab.scanner.photon_source import field_source
from twinlab.schema import InputError

HISTORIES = 100_000
RULE = Splitting(160.0, 260.0, 40.0, 6)
ENDS = (0, 9)  # of the ten slabs


def _case():
    """Block of soft tissue, bone and lung, 42 cm long; regions 1 to 10 are slabs along z; a field on 5 and 6."""
    tables = table_module.build(["air", "water", "lung", "schneider_18"])
    shape = (42, 24, 24)
    z, y, x = np.indices(shape)
    region = 1 + (z * 10) // 42
    material = np.where((x > 4) & (x < 10) & (y > 8) & (y < 18), 2, 1)
    material[(abs(x - 17) < 2) & (abs(y - 12) < 2)] = 3
    density = np.array([0.0012, 1.0, 0.3, 1.5])[material]
    grid = voxel_grid(material, density, region, tables, spacing_mm=(10.0, 10.0, 10.0), reach_mm=500.0)
    source = field_source(
        np.array([50.0, 80.0]),
        np.array([1.0, 1.0]),
        position_mm=np.array([120.0, -400.0, 210.0]),
        corner_mm=np.array([0.0, 0.0, 185.0]),
        edges_mm=np.array([[240.0, 0.0, 0.0], [0.0, 0.0, 50.0]]),
    )
    return grid, tables, source


@pytest.fixture(scope="module")
def runs():
    case = _case()
    # seeds of their own: the estimates are independent
    return [
        transport.run(*case, histories=HISTORIES, seed=k + 1, n_region=11, voxel_map=True, splitting=rule)
        for k, rule in enumerate((None, RULE))
    ]


def test_ten_regions_agree(runs):
    (a, sd_a), (b, sd_b) = (transport.mean_sd(tally.region[1:], HISTORIES) for tally in runs)
    off = (a - b) / np.hypot(sd_a, sd_b)
    assert (np.abs(off) < 3).all(), off
    # ten values of unit variance: 99.9 % point of chi2
    assert (off**2).sum() < 29.6


def test_far_regions_gain_and_those_in_the_beam_lose_nothing(runs):
    (a, sd_a), (b, sd_b) = (transport.mean_sd(tally.region[1:], HISTORIES) for tally in runs)
    gain = ((sd_a / a) / (sd_b / b)) ** 2
    assert (gain[list(ENDS)] > 1.5).all(), gain  # of the variance alone; 4e6 histories give 1.9 and 2.1
    assert (gain > 0.9).all(), gain


def test_energy_balances_on_average_and_voxels_add_up_to_regions(runs):
    emitted, escaped, outside, deposited = runs[1].energy[:4]
    # roulette and splitting move less energy than there is in the far regions: 4 sigma of all that is deposited
    _, sd = transport.mean_sd(runs[1].energy[3:5], HISTORIES)
    balance = (escaped + outside + deposited - emitted) * 2.0**-20 / HISTORIES
    assert abs(balance) < 4 * float(sd)
    voxel, region = runs[1].voxel, runs[1].region
    assert voxel[:, 0].sum() == region[:, 0].sum() == deposited


def test_independent_of_batches(runs):
    again = transport.run(
        *_case(), histories=20_000, seed=2, n_region=11, voxel_map=True, splitting=RULE, batch=7_000
    )
    whole = transport.run(*_case(), histories=20_000, seed=2, n_region=11, voxel_map=True, splitting=RULE)
    for a, b in zip(again[1:], whole[1:], strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    "rule", [(2.0, 1.0, 50.0, 4), (0.0, 1.0, 0.0, 4), (0.0, np.nan, 9.0, 4), (0.0, 1.0, 9.0, 40)]
)
def test_refuses_rules(rule):
    with pytest.raises(InputError, match="splitting"):
        steps(Splitting(*rule))


def test_refuses_solids_and_track_lengths():
    grid, tables, source = _case()
    solid, _ = cylinder_grid([Rod(0.0, 0.0, 100.0, 0.0, 100.0, 1, 1.0)], tables, reach_mm=300.0)
    with pytest.raises(InputError, match="voxels"):
        transport.run(solid, tables, source, histories=10, seed=1, n_region=2, splitting=RULE)
    with pytest.raises(InputError, match="collisions"):
        transport.run(
            grid, tables, source, histories=10, seed=1, n_region=11, estimator="track_length", splitting=RULE
        )
