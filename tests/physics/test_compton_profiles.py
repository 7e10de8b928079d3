"""Compton profiles against xraylib's whole atoms and the normalisation to one electron."""

import numpy as np
import pytest
import xraylib

from twinlab.physics.compton_profiles import (
    FINE_STRUCTURE,
    PZ_MAX,
    bound_scatter,
    inverse_profile,
    profile,
    shells,
)
from twinlab.schema import InputError


@pytest.mark.parametrize("z", [1, 8, 20, 53])
def test_shells_hold_the_atoms_electrons_and_profile(z):
    assert sum(s.electrons for s in shells(z)) == pytest.approx(z, abs=1e-4)  # five digits in the tables
    pz = np.array([0.0, 0.5, 2.0, 10.0])
    whole = sum(s.electrons * profile(z, s, pz) for s in shells(z))
    want = [xraylib.ComptonProfile(z, float(p)) for p in pz]
    # both tables have three digits; splines of each
    np.testing.assert_allclose(whole, want, rtol=0.02)


@pytest.mark.parametrize(("z", "index"), [(1, 0), (8, 0), (8, 1), (53, 0)])
def test_profiles_hold_one_electron(z, index):
    grid = np.concatenate([[0.0], np.geomspace(1e-3, 0.999 * PZ_MAX, 800)])
    # half of it on each side; three digits of the table, and what iodine's K shell has beyond its end
    missing = 0.03 if (z, index) == (53, 0) else 0.005
    assert 2 * np.trapezoid(profile(z, shells(z)[index], grid), grid) == pytest.approx(1.0, abs=missing)


def test_hydrogen_has_the_analytic_median():
    """J(p) = 8 / (3 pi (1 + p^2)^3): half of the electron lies below |p| = 0.2962 atomic units."""
    p = np.linspace(0, 20, 200_001)
    cumulative = np.cumsum(8 / (3 * np.pi * (1 + p**2) ** 3)) * (p[1] - p[0]) * 2
    want = float(np.interp(0.5, cumulative, p))
    got = inverse_profile(1, shells(1)[0], 129)[64] / FINE_STRUCTURE
    assert got == pytest.approx(want, rel=0.02)  # the table's three digits


@pytest.mark.parametrize("energy", [20.0, 56.4, 120.0])
@pytest.mark.parametrize("z", [6, 8, 20])
def test_bound_scatter_is_the_integral_of_the_profiles(z, energy):
    """S by trapezoids over xraylib's profiles up to the momentum at which E' = E - U, found on a grid of E'."""
    angle = np.deg2rad([10.0, 25.0, 60.0, 150.0])
    cosine, x = np.cos(angle), energy / 12.398419843 * np.sin(angle / 2)
    grid = np.linspace(-99.9, 99.9, 40_001)
    want = np.zeros(angle.size)
    for index in range(7):  # up to M: all of calcium's but two electrons
        try:
            electrons, edge = xraylib.ElectronConfig(z, index), xraylib.EdgeEnergy(z, index)
        except ValueError:
            continue
        other = {2: 3, 3: 2, 5: 6, 6: 5}.get(index, index)
        table = index if _has_profile(z, index) else other
        density = np.array([xraylib.ComptonProfile_Partial(z, table, abs(float(p))) for p in grid])
        cumulative = np.cumsum(density) / density.sum()
        out = energy - edge
        transfer = np.sqrt(energy**2 + out**2 - 2 * energy * out * cosine)
        most = (energy * out * (1 - cosine) - 510.99895 * edge) / transfer / 510.99895 * 137.035999
        want += electrons * np.interp(most, grid, cumulative)
    rest = z - sum(s.electrons for s in shells(z) if s.number < 7)
    got = bound_scatter(z, energy, x)
    # calcium's outermost two: their share is between 0.5 and 1
    assert (got <= want + rest + 2e-3 * z).all()
    assert (got >= want + 0.4 * rest - 2e-3 * z).all()


def _has_profile(z, index):
    try:
        return xraylib.ComptonProfile_Partial(z, index, 0.0) > 0
    except ValueError:
        return False


def test_bound_scatter_of_hydrogen_without_binding_is_analytic():
    """Far above its binding energy: p_max = E sin(theta / 2) / mc, and the integral of hydrogen's profile is known."""
    x = np.array([0.2, 0.5, 1.0, 2.0])
    p = x * 12.398419843 / 510.99895 * 137.035999
    # primitive of 8 / (3 pi (1 + p^2)^3)
    below = 0.5 + 8 / (3 * np.pi) * (
        p / (4 * (1 + p**2) ** 2) + 3 * p / (8 * (1 + p**2)) + 0.375 * np.arctan(p)
    )
    binding = 0.5 * (0.0136 / (0.5 * 0.51099895e3 * (p / 137.035999) ** 2))  # first order of U over q^2 / 2m
    got = bound_scatter(1, 1e5, x)
    assert (got <= below + 1e-3).all()
    assert (got >= below - binding - 1e-3).all()


@pytest.mark.parametrize("z", [1, 6, 13, 53])
def test_all_electrons_scatter_at_large_momentum_transfer(z):
    # 100 per angstrom: momenta beyond the end of the tables; five digits in the tables of occupation
    assert bound_scatter(z, 1e4, 100.0) == pytest.approx(z, abs=1e-4)
    assert bound_scatter(z, 1e4, 0.0) < 0.05 * z


def test_refuses():
    with pytest.raises(InputError, match="atomic number"):
        shells(0)
