"""Scattering by bound electrons: cross section, angles and energies against quadrature of the Compton profiles."""

from __future__ import annotations

import math

import numba
import numpy as np
import pytest
import xraylib
from scipy.constants import physical_constants
from scipy.integrate import quad

from twinlab.kernels.bound_electrons import bound_cosine
from twinlab.kernels.philox import draw
from twinlab.kernels.sampling import ELECTRON_REST_KEV, KEV_ANGSTROM
from twinlab.kernels.transport_collision import SCATTERED, finish
from twinlab.kernels.transport_data import ENERGY_UNIT_KEV, energy_grid, energy_position
from twinlab.kernels.transport_forced import expected
from twinlab.kernels.transport_forced_angles import angles_of, bound_scatter_of
from twinlab.phantom import transport_tables as table_module
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


def _of(table, energy):
    """Cross sections (total, photoelectric, that and incoherent) or absorption of a material at an energy."""
    row, f = energy_position(np.float32(energy))
    return table[row] + f * (table[row + 1] - table[row])


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
    photo, inc = _of(tables.cross[1], energy)[1:3]
    inc -= photo
    kept = _of(tables.absorption[1], energy)
    # 4 sd, and cross sections between nodes: 2e-4 of absorption, which at 12 keV is 20 times the recoil's share
    wide = 4 * got.std() / math.sqrt(n) + 3e-4 * kept / inc
    assert abs(got.mean() - (kept - photo) / inc) < wide


@pytest.mark.parametrize("energy", [15.0, 60.0, 140.0])
def test_expected_photons_of_forced_detection_are_all(tables, energy):
    half, weight = np.polynomial.legendre.leggauss(1000)
    half = 0.5 * (half + 1.0)
    got = _expected((1 - 2 * half**2).astype(np.float32), np.float32(energy), 1, tables, angles_of(tables))
    total, photo, inelastic = _of(tables.cross[1], energy)[:3]
    # tables over momentum transfer
    assert (got * 4 * np.pi * half * weight).sum() == pytest.approx((inelastic - photo) / total, rel=1e-3)


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


def _slower(z, table, momentum):
    """Integral of a shell's profile from 0 to a momentum in atomic units; the tables' splines are not smooth."""
    return quad(
        lambda p: xraylib.ComptonProfile_Partial(z, table, p), 0, min(momentum, 99.9), epsrel=1e-4, limit=200
    )[0]


def _impulse_approximation(atoms, energy):
    """Incoherent cross section, cm2/g: the differential one of Brusa et al. (1996) over all angles."""
    radius = 100 * physical_constants["classical electron radius"][0]
    rest = 1e3 * physical_constants["electron mass energy equivalent in MeV"][0]
    atomic = physical_constants["inverse fine-structure constant"][0]  # mc in units of the profiles
    shells = []
    for z, number in atoms:
        for k in range(4):
            try:
                electrons, bound = xraylib.ElectronConfig(z, k), xraylib.EdgeEnergy(z, k)
            except ValueError:
                continue
            table = 2 if (z, k) == (6, 3) else k  # carbon's p electrons have one profile
            shells.append((number * electrons, bound, z, table, _slower(z, table, 99.9)))

    def rate(theta):
        away = 1 - math.cos(theta)
        ratio = 1 / (1 + energy / rest * away)
        free = ratio**2 * (ratio + 1 / ratio - math.sin(theta) ** 2)
        total = 0.0
        for electrons, bound, z, table, whole in shells:
            product = energy * (energy - bound) * away
            most = (product - rest * bound) / (rest * math.sqrt(2 * product + bound**2)) * atomic
            total += electrons * (0.5 + math.copysign(0.5 * _slower(z, table, abs(most)) / whole, most))
        return 0.5 * radius**2 * free * total * 2 * math.pi * math.sin(theta)

    grams = sum(number * xraylib.AtomicWeight(z) for z, number in atoms)
    return physical_constants["Avogadro constant"][0] / grams * quad(rate, 1e-6, math.pi, epsrel=1e-5)[0]


@pytest.mark.parametrize("energy", [10.0, 20.0, 56.0, 128.0])
@pytest.mark.parametrize(("name", "atoms"), [("water", [(1, 2), (8, 1)]), ("pmma", [(1, 8), (6, 5), (8, 2)])])
def test_cross_section_is_the_integral_of_the_profiles(name, atoms, energy):
    cross = table_module.build([name], doppler=True).cross[0]
    got = 10.0 * (_of(cross, energy)[2] - _of(cross, energy)[1])
    # 64 angles and 600 steps of the profiles: 2e-4; composition by weight: 1e-4
    assert got == pytest.approx(_impulse_approximation(atoms, energy), rel=5e-4)


@pytest.mark.parametrize("material", [1, 2])
def test_cross_section_tends_to_the_tabulated_one(tables, material):
    """Bindings matter ever less; the other parts stay as they are, and the total is their sum."""
    still = table_module.build(MATERIALS, fluorescence=False).cross[material]
    cross = tables.cross[material]
    np.testing.assert_array_equal(cross[:, [1, 3]], still[:, [1, 3]])
    coherent, same = (c[:, 0] - c[:, 2] for c in (cross, still))
    assert (np.abs(coherent - same) <= 1e-6 * still[:, 0]).all()
    ratio = ((cross[:, 2] - cross[:, 1]) / (still[:, 2] - still[:, 1]))[energy_grid() > 30.0]
    assert abs(ratio - 1.0).max() < 0.01  # water at 30 keV: +0.9 %
    assert abs(ratio[-1] - 1.0) < 0.002  # of iodine the table itself differs by 0.5 % from its S(x, Z)
