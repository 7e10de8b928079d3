"""Forced detection: expected angles against quadrature, rays against exact depths, scores against counting."""

from __future__ import annotations

import numba
import numpy as np
import pytest
import xraylib

from twinlab.kernels.sampling import KEV_ANGSTROM
from twinlab.kernels.transport import mean_sd
from twinlab.kernels.transport_data import energy_grid, energy_position
from twinlab.kernels.transport_forced import depth, expected, run_forced
from twinlab.kernels.transport_forced_angles import angles_of
from twinlab.kernels.transport_scatter import N_TANGENT, Screen, run_screen
from twinlab.phantom import transport_tables as table_module
from twinlab.phantom.transport_grid import Rod, cylinder_grid, voxel_grid
from twinlab.physics.attenuation import cross_sections
from twinlab.scanner.photon_source import field_source
from twinlab.schema import InputError

MATERIALS = ["air", "water", "blood+iodine_32mg_ml"]


@pytest.fixture(scope="module")
def tables():
    return table_module.build(MATERIALS)


@numba.njit
def _expected(cosine, energy, row, f, material, tables, angles):
    got = np.empty((cosine.size, 3))
    for i in range(cosine.size):
        got[i, 0], got[i, 1], got[i, 2], _ = expected(cosine[i], energy, row, f, material, tables, angles)
    return got


@pytest.mark.parametrize("material", [1, 2])
@pytest.mark.parametrize("energy", [20.0, 60.0, 140.0])
def test_expected_photons_are_the_share_of_each_interaction(tables, energy, material):
    """Over the sphere they add up to the share of coherent and incoherent scattering and of K photons."""
    half, weight = np.polynomial.legendre.leggauss(2000)
    half = 0.5 * (half + 1.0)
    row, f = energy_position(np.float32(energy))
    got = _expected(
        (1 - 2 * half**2).astype(np.float32), np.float32(energy), row, f, material, tables, angles_of(tables)
    )
    sums = (got * (4 * np.pi * half * weight)[:, None]).sum(axis=0)
    data = cross_sections(MATERIALS[material], np.array([energy]))
    total = sum(float(data[name][0]) for name in ("photoelectric", "rayleigh", "incoherent"))
    # tables over energy (2e-4) and momentum transfer
    assert sums[0] == pytest.approx(float(data["incoherent"][0]) / total, rel=1e-3)
    assert sums[1] == pytest.approx(float(data["rayleigh"][0]) / total, rel=2e-3)
    assert (sums[2] > 0.05) == (material == 2 and energy > 33.2)


def test_coherent_angles_are_those_of_the_form_factors(tables):
    """Water, 60 keV: F^2 of hydrogen and oxygen straight from xraylib, against the small-angle density."""
    cosine = np.cos(np.deg2rad([2.0, 5.0, 10.0, 20.0, 40.0, 90.0]))
    row, f = energy_position(np.float32(60.0))
    got = _expected(cosine.astype(np.float32), np.float32(60.0), row, f, 1, tables, angles_of(tables))[:, 1]
    x = 60.0 / KEV_ANGSTROM * np.sqrt((1 - cosine) / 2)
    form = np.array([2 * xraylib.FF_Rayl(1, v) ** 2 + xraylib.FF_Rayl(8, v) ** 2 for v in x])
    want = form * (1 + cosine**2)
    # the inverse table from which the transport samples has some 2 % between its nodes in the tail
    assert np.allclose(got / got[0], want / want[0], rtol=0.02)


@numba.njit
def _depths(start, way, energy, grid, tables, most):
    got = np.empty(start.shape[0])
    for i in range(start.shape[0]):
        got[i] = depth(
            start[i, 0], start[i, 1], start[i, 2], way[i, 0], way[i, 1], way[i, 2], energy, grid, tables, most
        )
    return got


def _block(tables, shape=(12, 10, 14), spacing=(3.0, 5.0, 4.0)):
    """A box of two materials and uneven density with a layer of air."""
    random = np.random.default_rng(1)
    material = random.integers(1, 3, shape)
    material[:2] = 0
    density = np.where(material == 0, 0.0012, random.uniform(0.3, 1.5, shape))
    return material, density, voxel_grid(
        material, density, np.zeros(shape, np.uint16), tables, spacing_mm=spacing, reach_mm=900.0,
        air_density=1e-9,
    )  # fmt: skip


def test_rays_add_up_the_voxels_on_their_way(tables):
    """Against fine steps through the same voxels; where the sum is beyond the limit, it may end early."""
    material, density, grid = _block(tables)
    spacing = np.array([4.0, 5.0, 3.0])
    box = spacing * np.array(material.shape[::-1])
    random = np.random.default_rng(2)
    start = random.uniform(0.05, 0.95, (40, 3)) * box
    way = random.normal(size=(40, 3))
    way /= np.linalg.norm(way, axis=1, keepdims=True)
    way[:3] = np.eye(3)  # along the axes too
    args = start.astype(np.float32), way.astype(np.float32), np.float32(60.0), grid, tables
    got = _depths(*args, np.float32(1e9))
    row, f = energy_position(np.float32(60.0))
    mu = tables.cross[:, row, 0] * (1 - f) + tables.cross[:, row + 1, 0] * f
    t = (np.arange(20_000) + 0.5) * 0.005
    want = np.zeros(len(start))
    for i in range(len(start)):
        place = start[i] + t[:, None] * way[i]
        inside = ((place >= 0) & (place < box)).all(axis=1)
        x, y, z = (place[inside] // spacing).astype(int).T
        want[i] = (mu[material[z, y, x]] * density[z, y, x]).sum() * 0.005
    assert np.allclose(got, want, rtol=2e-3, atol=2e-4)
    short = _depths(*args, np.float32(0.3))
    assert np.array_equal(short[got < 0.3], got[got < 0.3])
    assert (short[got >= 0.3] >= 0.3).all()


def _screen(flat: bool, bins=(8, 3)) -> Screen:
    """A detector 400 mm from a source at y = -200, for the block; a grid that lets steep photons through less."""
    wide = 160.0 if flat else 0.4
    tangent = np.linspace(0.0, 3.0, N_TANGENT)
    passed = np.tile(np.exp(-tangent), (energy_grid().size, 1)).astype(np.float32)
    return Screen(
        flat=np.array([flat], np.int32),
        place=np.array([28.0, -200.0, 18.0, 0.0, 1.0, 400.0], np.float32),
        edge=np.array([-wide / 2, wide / bins[0], -40.0, 80.0 / bins[1]], np.float32),
        bins=np.array(bins, np.int32),
        response=np.linspace(1.0, 0.5, energy_grid().size).astype(np.float32),
        tangent=np.full(2, 3.0, np.float32),
        across=passed,
        along=passed,
    )


def _beam():
    return field_source(
        np.array([45.0, 90.0]), np.array([0.6, 0.4]),
        position_mm=np.array([28.0, -200.0, 18.0]),
        corner_mm=np.array([0.0, 0.0, 6.0]),
        edges_mm=np.array([[56.0, 0.0, 0.0], [0.0, 0.0, 30.0]]),
    )  # fmt: skip


def _agree(tables, flat, counted, forced, rays):
    grid = _block(tables)[2]
    a = mean_sd(run_screen(grid, tables, _beam(), _screen(flat), histories=counted, seed=1), counted)
    b = mean_sd(run_forced(grid, tables, _beam(), _screen(flat), histories=forced, seed=2, rays=rays), forced)
    with np.errstate(invalid="ignore"):  # cells without primary photons
        pull = (b[0] - a[0]) / np.hypot(a[1], b[1])
    total = b[0][1].sum() / a[0][1].sum() - 1, np.hypot(*(np.linalg.norm(v[1][1]) for v in (a, b)))
    return pull, total[0], total[1] / a[0][1].sum(), a, b


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("doppler", [False, True])
def test_same_scatter_as_counted(flat, doppler):
    """24 cells of two energies, K photons of iodine and a grid: 3 sd, and the sum of all."""
    tables = table_module.build(MATERIALS, doppler=doppler)
    pull, total, sd, a, b = _agree(tables, flat, 600_000, 30_000, 6)
    assert np.abs(pull[1]).max() < 3.3  # of 24 cells, four times
    assert abs(pull[0][a[0][0] > 0]).max() < 3.5
    assert abs(total) < 3 * sd
    assert sd < 0.015  # so the line before says something
    assert (b[1][1] / b[0][1]).mean() < 0.06


@pytest.mark.slow
@pytest.mark.parametrize(("flat", "doppler"), [(False, False), (True, False), (True, True)])
def test_same_scatter_as_counted_to_two_per_mille(flat, doppler):
    tables = table_module.build(MATERIALS, doppler=doppler)
    pull, total, sd, _, _ = _agree(tables, flat, 30_000_000, 1_000_000, 8)
    assert np.abs(pull[1]).max() < 3.3
    assert np.sqrt((pull[1] ** 2).mean()) < 1.4
    assert abs(total) < 3 * sd < 0.008


def test_the_same_for_any_number_of_threads_and_for_every_seed_another(tables):
    grid = _block(tables)[2]
    args, before = (grid, tables, _beam(), _screen(True)), numba.get_num_threads()
    found = []
    for threads in (1, before):
        numba.set_num_threads(threads)
        found.append(run_forced(*args, histories=2000, seed=5))
    assert np.array_equal(*found)
    assert not np.array_equal(found[0][1], run_forced(*args, histories=2000, seed=6)[1])


def test_refused(tables):
    solids, _ = cylinder_grid([Rod(0.0, 0.0, 10.0, 0.0, 10.0, 1, 1.0)], tables, reach_mm=10.0)
    for grid, rays, named in ((_block(tables)[2], 0, "rays"), (solids, 4, "voxels")):
        with pytest.raises(InputError, match=named):
            run_forced(grid, tables, _beam(), _screen(True), histories=100, seed=1, rays=rays)
