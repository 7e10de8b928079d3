"""K fluorescence and bound electrons in the transport, against xraylib's yields, lines and Compton profiles."""

from __future__ import annotations

import math

import numba
import numpy as np
import pytest
import xraylib

from twinlab.kernels import transport
from twinlab.kernels.bound_electrons import bound
from twinlab.kernels.sampling import ELECTRON_REST_KEV
from twinlab.kernels.transport_collision import fluoresce
from twinlab.kernels.transport_data import ENERGY_UNIT_KEV, energy_position
from twinlab.phantom import transport_tables as table_module
from twinlab.phantom.transport_grid import voxel_grid
from twinlab.scanner.photon_source import field_source

MATERIALS = ["air", "water", "iodine", "blood+iodine_32mg_ml"]


@pytest.fixture(scope="module")
def tables():
    return table_module.build(MATERIALS)


@numba.njit
def _lines(n, material, e, row, f, tables):
    got = np.empty(n, np.int64)
    for i in range(n):
        got[i] = fluoresce(np.float32((i + 0.5) / n), material, e, row, f, tables)
    return got


@numba.njit
def _ratios(n, energy, cosine, free, material, tables):
    got = np.empty(n)
    zero = np.uint64(0)
    for i in range(n):
        got[i], _ = bound(energy, cosine, free, material, tables, zero, np.uint64(i), np.uint64(3), zero)
    return got


@pytest.mark.parametrize("energy", [34.0, 60.0, 120.0])
def test_iodine_sends_out_the_lines_and_yields_of_xraylib(tables, energy):
    e = np.int64(round(energy / ENERGY_UNIT_KEV))
    row, f = energy_position(np.float32(energy))
    got = _lines(100_000, MATERIALS.index("iodine"), e, row, f, tables) * ENERGY_UNIT_KEV
    k_shell = xraylib.CS_Photo_Partial(53, xraylib.K_SHELL, energy) / xraylib.CS_Photo_Total(53, energy)
    # 1e-4: linear interpolation of the share between nodes 0.5 % apart
    assert (got > 0).mean() == pytest.approx(k_shell * xraylib.FluorYield(53, xraylib.K_SHELL), rel=1e-3)
    alpha = got[(got > 0) & (got < 30)]
    assert alpha.mean() == pytest.approx(
        xraylib.LineEnergy(53, xraylib.KA_LINE), abs=0.02
    )  # LINE: mean of group
    rate = xraylib.RadRate(53, xraylib.KA_LINE)
    # xraylib's groups leave out lines of the outermost shells, below 1 % of the rate
    assert alpha.size / (got > 0).sum() == pytest.approx(rate, abs=0.01)


def test_nothing_fluoresces_below_the_edge(tables):
    e = np.int64(round(32.9 / ENERGY_UNIT_KEV))
    row, f = energy_position(np.float32(32.9))
    assert not _lines(1000, MATERIALS.index("iodine"), e, row, f, tables).any()


def _sphere(tables, material=3):
    """Sphere of 40 mm in water of 200 mm, regions 1 water, 2 sphere."""
    centre = (np.arange(40) - 19.5) * 5.0
    r = np.sqrt(centre[:, None, None] ** 2 + centre[None, :, None] ** 2 + centre[None, None, :] ** 2)
    region = np.where(r < 20, 2, np.where(r < 100, 1, 0))
    kind = np.array([0, 1, material])[region]
    density = np.array([0.0012, 1.0, 1.1])[region]
    return voxel_grid(kind, density, region, tables, spacing_mm=(5.0, 5.0, 5.0), reach_mm=700.0)


def _beam(energy):
    return field_source(
        energy,
        position_mm=np.array([100.0, -500.0, 100.0]),
        corner_mm=np.array([70.0, 0.0, 70.0]),
        edges_mm=np.array([[60.0, 0.0, 0.0], [0.0, 0.0, 60.0]]),
    )


def test_fluorescence_leaves_an_iodine_sphere():
    """32 mg/ml, 60 keV: what the sphere loses is what its K photons carry out, and energy is conserved."""
    n, dose = 60_000, []
    for follow in (False, True):
        tables = table_module.build(MATERIALS, fluorescence=follow)
        tally = transport.run(_sphere(tables), tables, _beam(60.0), histories=n, seed=3, n_region=3)
        emitted, escaped, outside, deposited = tally.energy[:4]
        assert emitted == escaped + outside + deposited == tally.region[:, 0].sum() + escaped + outside
        dose.append(transport.mean_sd(tally.region[2], n))
    (local, sd_local), (carried, sd_carried) = dose
    # our own 4e6 histories give -18.6 +- 0.24 %: guards against change; 4 sd of this run, and of that
    assert abs(carried / local - 0.814) < 4 * math.hypot(sd_local, sd_carried) / local + 0.01


def test_below_the_edge_fluorescence_changes_nothing():
    """33 keV photons never fill a K vacancy of iodine: the runs are the same to the last bit."""
    got = []
    for follow in (False, True):
        tables = table_module.build(["air", "water", "iodine"], fluorescence=follow)
        grid = _sphere(tables, material=2)
        got.append(transport.run(grid, tables, _beam(32.9), histories=3000, seed=1, n_region=3).region)
    np.testing.assert_array_equal(*got)


def _predicted(energy, cosine, parts):
    """E' and its density for electrons of given (z, atoms), E' J(p) / transfer of Ribberfors (1975)."""
    out = np.linspace(0.5, 0.9999, 6001) * energy
    transfer = np.sqrt(energy**2 + out**2 - 2 * energy * out * cosine)
    p = (energy * out * (1 - cosine) - ELECTRON_REST_KEV * (energy - out)) / transfer / ELECTRON_REST_KEV
    per_kev = out / transfer
    density = np.zeros_like(out)
    for z, atoms in parts:
        for shell in range(4):
            try:
                electrons, edge = xraylib.ElectronConfig(z, shell), xraylib.EdgeEnergy(z, shell)
                profile = [xraylib.ComptonProfile_Partial(z, shell, abs(v) * 137.035999) for v in p]
            except ValueError:
                continue
            density += atoms * electrons * np.array(profile) * (out < energy - edge) * per_kev
    return out, density


@pytest.mark.parametrize("energy", [30.0, 80.0])
def test_doppler_broadening_follows_the_compton_profiles(energy):
    """Spectrum at 90 degrees in water: quantiles and full width at half maximum."""
    tables = table_module.build(["air", "water"], doppler=True)
    n = 40_000
    free = np.float32(1 / (1 + energy / ELECTRON_REST_KEV))
    got = np.sort(energy * _ratios(n, np.float32(energy), np.float32(0.0), free, 1, tables))
    out, density = _predicted(energy, 0.0, [(1, 2.0), (8, 1.0)])
    cumulative = np.cumsum(density) / density.sum()
    for q in (0.05, 0.25, 0.5, 0.75, 0.95):
        want = np.interp(q, cumulative, out)
        slope = density[np.searchsorted(out, want)] / (density.sum() * (out[1] - out[0]))
        # 4 sd of a sample quantile, and 127 steps of the inverse profiles
        assert abs(got[int(q * n)] - want) < 4 * math.sqrt(q * (1 - q) / n) / slope + 0.01 * (energy - want)
    mean = (out * density).sum() / density.sum()
    # without the factor of moving electrons the photon keeps 0.2 % less: 20 sd
    assert abs(got.mean() - mean) < 4 * got.std() / math.sqrt(n) + 2e-4 * mean
    above = out[density > density.max() / 2]
    width = above[-1] - above[0]
    bins = np.arange(got[0], got[-1], width / 12)
    count, _ = np.histogram(got, bins)
    count = np.convolve(count, np.ones(3) / 3, mode="same")
    top = bins[:-1][count > count.max() / 2]
    # a bin on each side, and the smoothing
    assert abs(top[-1] - top[0] + width / 12 - width) < 0.2 * width


def test_doppler_conserves_energy_and_moves_the_dose_little():
    n, dose = 60_000, []
    for doppler in (False, True):
        tables = table_module.build(MATERIALS, doppler=doppler)
        tally = transport.run(_sphere(tables), tables, _beam(60.0), histories=n, seed=5, n_region=3)
        emitted, escaped, outside, deposited = tally.energy[:4]
        assert emitted == escaped + outside + deposited
        dose.append(transport.mean_sd(tally.region[1], n))
    (still, sd_still), (moving, sd_moving) = dose
    # at 4e6 histories the energy in the water grows by 0.35 +- 0.06 %
    assert abs(moving / still - 1) < 4 * math.hypot(sd_still, sd_moving) / still + 0.005
