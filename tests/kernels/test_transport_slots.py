"""Photons under way together give what each gives alone, and the loops over them are vector code."""

from __future__ import annotations

import platform
import re

import numpy as np
import pytest
from numba import njit, typeof

from twinlab.kernels import transport
from twinlab.kernels.philox import DEVICE, key
from twinlab.kernels.transport_data import MAX_DEPOSITS
from twinlab.kernels.transport_history import trace
from twinlab.kernels.transport_slots import SLOTS, fly_all, photons
from twinlab.phantom.transport_grid import Rod, cylinder_grid, voxel_grid
from twinlab.phantom.transport_tables import build
from twinlab.scanner.photon_source import field_source


@njit
def _alone(histories, k0, k1, grid, tables, source, energy, region, fluence):
    """The histories one after the other, each by :func:`trace`."""
    places, energies = np.zeros(MAX_DEPOSITS, np.int64), np.zeros(MAX_DEPOSITS, np.int64)
    for h in range(histories):
        n, emitted, escaped, outside = trace(
            np.uint64(h), k0, k1, grid, tables, source, places, energies, fluence
        )
        energy[0] += emitted
        energy[1] += escaped
        energy[2] += outside
        for j in range(n):
            energy[3] += energies[j]
            region[places[j] & 0xFFFF] += energies[j]


def _voxels(air_density):
    """Blocks of several materials, some of them mixed, in air or near vacuum."""
    tables = build(["air", "water", "iodine"])
    rng = np.random.default_rng(3)
    material = np.kron(rng.integers(0, 2, (3, 4, 5)), np.ones((4, 4, 4), int))
    material[2:6, 3:9] = rng.integers(0, 3, (4, 6, 20))
    density = np.array([0.0012, 1.0, 0.05])[material]
    grid = voxel_grid(
        material, density, material, tables, spacing_mm=(9.0, 8.0, 7.0), reach_mm=300.0, block=4
    )
    return grid._replace(air_density=np.array([air_density], np.float32)), tables


def _solids(air_density):
    tables = build(["air", "water", "iodine"])
    rods = [
        Rod(0.0, 0.0, 60.0, 0.0, 100.0, 1, 1.0),
        Rod(20.0, 10.0, 5.0, 10.0, 90.0, 0, 0.0012, fluence=True),
    ]
    grid, _ = cylinder_grid(rods, tables, reach_mm=200.0, air_density=air_density)
    return grid, tables


@pytest.mark.parametrize("made", [_voxels, _solids])
@pytest.mark.parametrize("air_density", [0.0012, 1e-9])
def test_photons_together_are_photons_alone(made, air_density):
    """Every integer is the same: few histories and many, beams that partly miss, air and near vacuum."""
    grid, tables = made(air_density)
    source = field_source(
        np.array([30.0, 100.0]),
        np.array([1.0, 1.0]),
        position_mm=np.array([-150.0, 60.0, 50.0]),
        corner_mm=np.array([0.0, -30.0, -30.0]),
        edges_mm=np.array([[0.0, 180.0, 0.0], [0.0, 0.0, 170.0]]),
    )
    for histories in (1, SLOTS - 1, 5000):
        energy, region = np.zeros(4, np.int64), np.zeros(4, np.int64)
        fluence = np.zeros(grid.rod.shape[0], np.int64)
        _alone(histories, *key(5), grid, tables, source, energy, region, fluence)
        tally = transport.run(grid, tables, source, histories=histories, seed=5, n_region=4)
        np.testing.assert_array_equal(tally.energy[:4], energy)
        np.testing.assert_array_equal(tally.region[:, 0], region)
        np.testing.assert_array_equal(tally.fluence[:, 0], fluence)
        assert energy[0] == energy[1] + energy[2] + energy[3]


@pytest.mark.skipif(platform.machine() != "x86_64", reason="reads the assembler code of x86")
def test_flights_are_vector_code():
    """The loop that costs most: nothing is multiplied one by one. Its form decides, and it fails silently."""

    def fly(rest, grid):
        p = photons()
        for j in range(SLOTS):
            p.rest[j] = rest[j]
        fly_all(p, grid)
        for j in range(SLOTS):
            rest[j] = p.t[j]

    compiled = njit(**{**DEVICE, "cache": False})(fly)
    compiled.compile((typeof(np.zeros(1, np.float32)), typeof(_voxels(0.0012)[0])))
    (code,) = compiled.inspect_asm().values()
    assert re.search(r"v?mulps", code)
    assert not re.search(r"v?mulss", code)
