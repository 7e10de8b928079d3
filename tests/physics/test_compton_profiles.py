"""Compton profiles against xraylib's whole atoms and the normalisation to one electron."""

import numpy as np
import pytest
import xraylib

from twinlab.physics.compton_profiles import FINE_STRUCTURE, PZ_MAX, inverse_profile, profile, shells
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


def test_refuses():
    with pytest.raises(InputError, match="atomic number"):
        shells(0)
