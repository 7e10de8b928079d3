"""Scattering by bound electrons: sampled angles and energies against quadrature of the Compton profiles."""

from __future__ import annotations

import math

import numba
import numpy as np
import pytest

from twinlab.kernels.bound_electrons import bound_cosine
from twinlab.kernels.philox import draw
from twinlab.kernels.sampling import ELECTRON_REST_KEV, KEV_ANGSTROM
from twinlab.kernels.transport_collision import SCATTERED, finish
from twinlab.kernels.transport_data import ENERGY_UNIT_KEV, energy_grid, energy_position
from twinlab.kernels.transport_forced import expected
from twinlab.kernels.transport_forced_angles import angles_of, bound_scatter_of
from twinlab.phantom import transport_tables as table_module
from twinlab.physics.attenuation import cross_sections
from twinlab.physics.compton_profiles import bound_scatter

MATERIALS = ["air", "water", "iodine"]
ATOMS = {1: [(1, 2.0), (8, 1.0)], 2: [(53, 1.0)]}


@pytest.fixture(scope="module")
def tables():
    return table_module.build(MATERIALS, fluorescence=False, doppler=True)


@numba.njit
def _cosines(n, energy, material, tables):
    got = np.empty(n)
    zero = np.uint64(0)
    row, f = energy_position(energy)
    for i in range(n):
        h = np.uint64(i)
        a, b, _, _ = draw(zero, h, np.uint64(3), zero)
        got[i], _ = bound_cosine(energy, row, f, material, tables, a, b, np.uint64(1), h, np.uint64(3), zero)
    return got


@numba.njit
def _left(n, e, energy, material, tables):
    """Energies after scattering, as the transport carries it out."""
    got = np.empty(n)
    zero = np.uint64(0)
    row, f = energy_position(energy)
    for i in range(n):
        h = np.uint64(i)
        _, _, c, d = draw(zero, h, np.uint64(7), zero)
        got[i], _, _ = finish(
            SCATTERED, e, c, c, e, row, f, material, c, d, tables, np.uint64(1), h, np.uint64(7), zero
        )
    return got


@numba.njit
def _expected(cosine, energy, material, tables, angles):
    got = np.empty(cosine.size)
    row, f = energy_position(energy)
    for i in range(cosine.size):
        got[i], _, _, _ = expected(cosine[i], energy, row, f, material, tables, angles)
    return got


def _density(energy, material):
    """Cosines and their density: Klein-Nishina times S(E, x) of the atoms, in double precision."""
    c = np.linspace(-1.0, 1.0, 20_001)
    ratio = 1.0 / (1.0 + energy / ELECTRON_REST_KEV * (1.0 - c))
    x = energy / KEV_ANGSTROM * np.sqrt(0.5 * (1.0 - c))
    s = sum(n * bound_scatter(z, energy, x) for z, n in ATOMS[material])
    density = ratio**2 * (ratio + 1.0 / ratio - (1.0 - c * c)) * s
    return c, density / density.sum()


@pytest.mark.parametrize("energy", [8.0, 21.3, 56.4, 140.0])
@pytest.mark.parametrize("material", [1, 2])
def test_angles_follow_the_profiles(tables, energy, material):
    """Mean cosine, and the photons that go forward, where binding matters."""
    n = 100_000
    got = _cosines(n, np.float32(energy), material, tables)
    c, density = _density(energy, material)
    # 4 sd, and the interpolation of S: 1e-3 of a cosine
    assert abs(got.mean() - (c * density).sum()) < 4 * got.std() / math.sqrt(n) + 1e-3
    for edge in (0.9, 0.5):
        share = density[c > edge].sum()
        assert abs((got > edge).mean() - share) < 4 * math.sqrt(share / n) + 1e-3


@pytest.mark.parametrize("energy", [12.0, 56.4, 140.0])
def test_mean_recoil_of_the_tables_is_that_of_the_sampling(tables, energy):
    """Track lengths and chambers of doppler=True expect what collisions leave."""
    n = 200_000
    got = (
        1.0
        - _left(n, np.int64(energy / ENERGY_UNIT_KEV), np.float32(energy), 1, tables)
        * ENERGY_UNIT_KEV
        / energy
    )
    data = cross_sections("water", np.array([energy]))
    photo, inc = (float(data[name][0]) / 10.0 for name in ("photoelectric", "incoherent"))
    row, f = energy_position(np.float32(energy))
    kept = tables.absorption[1, row] + f * (tables.absorption[1, row + 1] - tables.absorption[1, row])
    # 4 sd, and cross sections between nodes: 2e-4 of absorption, which at 12 keV is 20 times the recoil's share
    wide = 4 * got.std() / math.sqrt(n) + 3e-4 * kept / inc
    assert abs(got.mean() - (kept - photo) / inc) < wide


@pytest.mark.parametrize("energy", [15.0, 60.0, 140.0])
def test_expected_photons_of_forced_detection_are_all(tables, energy):
    half, weight = np.polynomial.legendre.leggauss(1000)
    half = 0.5 * (half + 1.0)
    got = _expected((1 - 2 * half**2).astype(np.float32), np.float32(energy), 1, tables, angles_of(tables))
    data = cross_sections("water", np.array([energy]))
    total = sum(float(data[name][0]) for name in ("photoelectric", "rayleigh", "incoherent"))
    # tables over energy (2e-4) and momentum transfer
    assert (got * 4 * np.pi * half * weight).sum() == pytest.approx(
        float(data["incoherent"][0]) / total, rel=1e-3
    )


@pytest.mark.parametrize("material", [1, 2])
def test_scattering_function_between_the_nodes(tables, material):
    energy = energy_grid()[:, None]
    x = energy / KEV_ANGSTROM * np.array([0.03, 0.1, 0.2, 0.35, 0.5, 0.7, 0.9, 1.0])
    want = sum(n * bound_scatter(z, energy, x) for z, n in ATOMS[material]) / sum(
        z * n for z, n in ATOMS[material]
    )
    got = bound_scatter_of(tables.bound_scatter[material], x)
    off = np.abs(got / got[-1, -1] * want[-1, -1] - want).max(axis=1)
    # of all electrons: what linear interpolation leaves where S bends most, near the outer shells' bindings
    assert off[energy_grid() >= 10.0].max() < 1e-3
    assert off.max() < 4e-3


def test_electrons_at_rest_have_no_such_tables():
    still = table_module.build(MATERIALS)
    assert still.bound_scatter.shape[1] == still.shell.shape[1] == 0


def test_cross_sections_do_not_change(tables):
    np.testing.assert_array_equal(tables.cross, table_module.build(MATERIALS, fluorescence=False).cross)
