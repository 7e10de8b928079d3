"""Photon transport against analytic answers: attenuation, free paths, angular means, conservation."""

from __future__ import annotations

import math

import numba
import numpy as np
import pytest
import xraylib

from twinlab.kernels import transport
from twinlab.kernels.philox import draw, key, philox4x32, philox7
from twinlab.kernels.sampling import KEV_ANGSTROM, alias_table, circle, compton, free_path, rayleigh, rotate
from twinlab.kernels.transport_blocks import majorants
from twinlab.kernels.transport_data import energy_grid, energy_position, pack, unpack
from twinlab.phantom import transport_tables as table_module
from twinlab.phantom.transport_grid import Rod, cylinder_grid, voxel_grid
from twinlab.physics import attenuation, materials
from twinlab.scanner.photon_source import field_source

MATERIALS = ["air", "water", "pmma", "aluminum", "iodine"]


@pytest.fixture(scope="module")
def tables():
    return table_module.build(MATERIALS)


@numba.njit
def _many_compton(n, energy, scatter, seed):
    cosine = np.empty(n)
    ratio = np.empty(n)
    zero = np.uint64(0)
    for i in range(n):
        c, r, _, _ = compton(np.float32(energy), scatter, zero, np.uint64(i), np.uint64(seed), zero)
        cosine[i] = c
        ratio[i] = r
    return cosine, ratio


@numba.njit
def _many_rayleigh(n, energy, area, inverse, seed):
    cosine = np.empty(n)
    zero = np.uint64(0)
    for i in range(n):
        history, key0 = np.uint64(i), np.uint64(seed)
        a, b, _, _ = draw(zero, history, key0, zero)
        c, _ = rayleigh(
            np.float32(energy), np.float32(area), inverse, a, b, zero + np.uint64(1), history, key0, zero
        )
        cosine[i] = c
    return cosine


def _pencil(energy, *, start=(-50.0, 0.0, 0.0), to=(1.0, 0.0, 0.0)):
    """Pencil beam along ``to``."""
    corner = np.array(start) + 10.0 * np.array(to)
    return field_source(energy, position_mm=np.array(start), corner_mm=corner, edges_mm=np.zeros((2, 3)))


def _slab(tables, material, density, thickness_mm, *, air_density=1e-9):
    shape = (8, 8, 8)
    edge = 4000.0  # so wide that nothing scattered sideways finds its way past the edge
    return voxel_grid(
        np.full(shape, material),
        np.full(shape, density, np.float32),
        np.zeros(shape),
        tables,
        spacing_mm=(edge / 8, edge / 8, thickness_mm / 8),
        reach_mm=500.0,
        block=4,
        air_density=air_density,
    )


def test_philox_known_answers():
    """Vectors published with the Random123 library."""
    full, z = np.uint64(0xFFFFFFFF), np.uint64(0)
    assert [int(v) for v in philox4x32(z, z, z, z, z, z)] == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    assert [int(v) for v in philox4x32(*[full] * 6)] == [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]
    pi = [np.uint64(v) for v in (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344, 0xA4093822, 0x299F31D0)]
    assert [int(v) for v in philox4x32(*pi)] == [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1]
    assert [int(v) for v in philox7(z, z, z, z, z, z)] == [0x5F6FB709, 0x0D893F64, 0x4F121F81, 0x4F730A48]
    assert [int(v) for v in philox7(*[full] * 6)] == [0x5207DDC2, 0x45165E59, 0x4D8EE751, 0x8C52F662]
    assert [int(v) for v in philox7(*pi)] == [0x4DFCCABA, 0x190A87F0, 0xC47362BA, 0xB6B5242A]


def test_uniform_open_interval_and_moments():
    values = np.array([draw(np.uint64(0), np.uint64(i), *key(7)) for i in range(5000)]).ravel()
    assert values.min() > 0.0
    assert values.max() < 1.0
    # 20,000 draws: sd of the mean 0.002, of the second moment 0.0021; 4 sigma
    assert abs(values.mean() - 0.5) < 0.0082
    assert abs((values**2).mean() - 1 / 3) < 0.0085


def test_alias_table_reproduces_weights():
    weights = np.array([0.0, 1.0, 5.0, 0.3, 2.0])
    probability, alias = alias_table(weights)
    got = np.zeros(5)
    for i in range(5):
        got[i] += probability[i]
        got[alias[i]] += 1 - probability[i]
    # float32 probabilities: one part in 1e6
    np.testing.assert_allclose(got / 5, weights / weights.sum(), atol=1e-6)


@pytest.mark.parametrize("bad", [[-1.0, 2.0], [0.0, 0.0], [np.nan, 1.0]])
def test_alias_table_refuses(bad):
    with pytest.raises(ValueError, match="finite weights"):
        alias_table(np.array(bad))


def test_energy_position_interpolates_mu(tables):
    """Interpolated attenuation stays within 2e-4 of xraylib away from edges (0.5 % steps, curvature E^-3)."""
    for energy in (1.7, 5.3, 20.1, 56.4, 119.9):
        i, f = energy_position(np.float32(energy))
        for m in ("water", "aluminum"):
            k = MATERIALS.index(m)
            got = (1 - f) * tables.cross[k, i, 0] + f * tables.cross[k, i + 1, 0]
            want = attenuation.mass_attenuation(m, [energy])[0, 0] / 10.0
            assert got == pytest.approx(want, rel=2e-4), (m, energy)


@pytest.mark.parametrize("energy", [5.0, 30.0, 56.4, 140.0])
def test_compton_angles_and_energy(tables, energy):
    """Means of cosine and energy ratio equal the integrals of Klein-Nishina x S(x, Z) over the sphere."""
    n = 60_000
    cosine, ratio = _many_compton(n, energy, tables.scatter[1], 3)
    c = np.linspace(-1, 1, 4001)
    k = energy / 510.99895
    r = 1 / (1 + k * (1 - c))
    x = energy / KEV_ANGSTROM * np.sqrt((1 - c) / 2)
    s = np.array([2 / 18.015 * _sf(1, v) + _sf(8, v) / 18.015 for v in x])
    w = r**2 * (r + 1 / r - 1 + c**2) * s
    for got, exact in ((cosine, c), (ratio, r)):
        mean = np.average(exact, weights=w)
        sd = math.sqrt(np.average((exact - mean) ** 2, weights=w) / n)
        # 4 sigma of the sample, and 2e-4 for the linear table of S (steps of 0.012 per angstrom)
        assert abs(got.mean() - mean) < 4 * sd + 2e-4


def _sf(z, x):
    return xraylib.SF_Compt(z, float(x)) if x > 0 else 0.0


def test_free_compton_energy_transfer():
    """With S = 1 the mean energy transfer is that of Klein and Nishina: 0.1385 at 100 keV.

    sigma_tr / sigma of the free electron, e.g. Attix (1986), table 7.1: mean T/hv = 0.138.
    """
    _, ratio = _many_compton(60_000, 100.0, np.ones(1024, np.float32), 5)
    assert 1 - ratio.mean() == pytest.approx(0.138, abs=0.001)  # 0.0004 statistical sd, 0.0005 of the table


@pytest.mark.parametrize("energy", [10.0, 30.0, 80.0, 140.0])
def test_rayleigh_angles(tables, energy):
    """Mean cosine equals the integral of F^2 (1 + cos^2)."""
    n = 400_000
    i = int(np.argmin(np.abs(energy_grid() - energy)))
    energy = float(energy_grid()[i])
    cosine = _many_rayleigh(n, energy, tables.cross[1, i, 3], tables.inverse_area[1], 4)
    t = np.linspace(0, math.pi, 6001)
    c = np.cos(t)
    x = energy / KEV_ANGSTROM * np.sin(t / 2)
    f2 = np.array([2 * xraylib.FF_Rayl(1, float(v)) ** 2 + xraylib.FF_Rayl(8, float(v)) ** 2 for v in x])
    w = f2 * (1 + c**2) * np.sin(t)
    mean = np.average(c, weights=w)
    sd = math.sqrt(np.average((c - mean) ** 2, weights=w) / n)
    # 4 sigma, and for 1024 steps of the inverse table 5e-4, or 0.2 % of 1 - cos where that is less
    assert abs(cosine.mean() - mean) < 4 * sd + min(5e-4, 2e-3 * (1 - mean))


def test_rotate_keeps_angle_and_length():
    rng = np.random.default_rng(0)
    for _ in range(200):
        d = rng.normal(size=3)
        d = (d / np.linalg.norm(d)).astype(np.float32)
        c = np.float32(rng.uniform(-1, 1))
        new = np.array(rotate(d[0], d[1], d[2], c, np.float32(rng.uniform())))
        assert np.linalg.norm(new) == pytest.approx(1.0, abs=1e-6)  # float32
        assert new @ d == pytest.approx(float(c), abs=2e-6)
    down = np.array(rotate(np.float32(0), np.float32(0), np.float32(-1), np.float32(0.5), np.float32(0.1)))
    assert down[2] == pytest.approx(-0.5, abs=1e-6)


@pytest.mark.parametrize(
    ("material", "energy", "thickness", "n"),
    [
        ("water", 60.0, 50.0, 40_000),
        ("water", 20.0, 20.0, 40_000),
        ("pmma", 100.0, 80.0, 40_000),
        ("aluminum", 40.0, 8.0, 20_000),
        ("iodine", 33.5, 0.1, 1500),  # few: the one majorant of this geometry is iodine's everywhere
    ],
)
def test_primary_fluence_behind_slab(tables, material, energy, thickness, n):
    """A detector rod behind a slab counts the unscattered photons: exp(-mu t), within 3 sigma."""
    k = MATERIALS.index(material)
    density = materials.get(material).density_g_cm3
    # cylinder along z: beam along its axis; a thin rod of near vacuum behind is met by primaries, and by
    # hardly any scatter because it lies 3 m away
    rods = [
        Rod(0.0, 0.0, 2000.0, 0.0, 4000.0, 0, 1e-9),
        Rod(0.0, 0.0, 2000.0, 10.0, 10.0 + thickness, k, density),
        Rod(0.0, 0.0, 5.0, 3900.0, 3910.0, 0, 1e-9, fluence=True),
    ]
    grid, low = cylinder_grid(rods, tables, reach_mm=100.0, air_density=1e-9)
    source = _pencil(energy, start=tuple(-low + [0.0, 0.0, -20.0]), to=(0.0, 0.0, 1.0))
    tally = transport.run(grid, tables, source, histories=n, seed=2, n_region=4)
    i, f = energy_position(np.float32(energy))
    per_photon = energy * ((1 - f) * tables.kerma[i] + f * tables.kerma[i + 1])  # 1 cm of track
    counted, sd = transport.mean_sd(tally.fluence[2], n)
    want = math.exp(-attenuation.mass_attenuation(material, [energy])[0, 0] * density * thickness / 10)
    # small-angle scatter into 1.3 mrad adds less than 2e-4 of the primaries
    assert abs(counted / per_photon - want) < 3 * sd / per_photon + 5e-4 * want


def test_fate_of_first_interaction(tables):
    """Deposits in an infinite slab: a 5 keV beam in water is absorbed; its mean energy is all deposited."""
    grid = _slab(tables, 1, 1.0, 4000.0)
    source = _pencil(5.0, start=(-20.0, 2000.0, 2000.0))
    tally = transport.run(grid, tables, source, histories=20_000, seed=1, n_region=1)
    emitted, escaped, outside, deposited = tally.energy[:4]
    assert emitted == escaped + outside + deposited
    # back-scatter: incoherent + coherent is 2 % of the cross section at 5 keV, half of it towards the front
    assert 0.98 < deposited / emitted < 1.0


def test_mean_free_path(tables):
    """Fraction interacting within a slab of one mean free path: 1 - 1/e (energy 10 keV, all stays local)."""
    mu = float(attenuation.mass_attenuation("iodine", [20.0])[0, 0]) * 4.93 / 10
    grid = _slab(tables, 4, 4.93, 1.0 / mu)
    source = _pencil(20.0, start=(-20.0, 2000.0, 2000.0))
    n = 50_000
    tally = transport.run(grid, tables, source, histories=n, seed=1, n_region=1)
    p = tally.energy[3] / tally.energy[0]
    photo = 0.985  # photoelectric share of iodine at 20 keV; the rest may leave the slab
    want = 1 - math.exp(-1)
    assert want * photo - 0.01 < p < want + 3 * math.sqrt(want * (1 - want) / n)


def test_energy_is_conserved_exactly_and_independent_of_threads_and_batches(tables):
    shape = (12, 10, 11)
    rng = np.random.default_rng(1)
    material = rng.integers(0, 4, shape)
    density = rng.uniform(0.001, 2.0, shape)
    region = rng.integers(0, 6, shape)
    grid = voxel_grid(material, density, region, tables, spacing_mm=(20.0, 15.0, 10.0), reach_mm=600.0)
    source = field_source(
        np.array([30.0, 60.0, 90.0]),
        np.array([1.0, 2.0, 1.0]),
        position_mm=np.array([-500.0, 75.0, 120.0]),
        corner_mm=np.array([0.0, 0.0, 0.0]),
        edges_mm=np.array([[0.0, 150.0, 0.0], [0.0, 0.0, 240.0]]),
        bin_width_kev=1.0,
    )
    before = numba.get_num_threads()
    runs = []
    try:
        for threads, batch in ((1, 30_000), (before, 30_000), (before, 7001)):
            numba.set_num_threads(threads)
            runs.append(
                transport.run(
                    grid, tables, source, histories=30_000, seed=9, n_region=6, voxel_map=True, batch=batch
                )
            )
    finally:
        numba.set_num_threads(before)
    emitted, escaped, outside, deposited = runs[0].energy[:4]
    assert emitted == escaped + outside + deposited  # integers: exact
    assert runs[0].voxel[:, 0].sum() == deposited == runs[0].region[:, 0].sum()
    for other in runs[1:]:
        for a, b in zip(runs[0][1:], other[1:], strict=True):
            np.testing.assert_array_equal(a, b)
    different = transport.run(grid, tables, source, histories=30_000, seed=10, n_region=6)
    assert different.energy[3] != deposited


def test_histories_continue(tables):
    """Tallies of two ranges of histories add up to the tally of both."""
    grid = _slab(tables, 1, 1.0, 200.0)
    source = _pencil(60.0, start=(-20.0, 2000.0, 2000.0))
    whole = transport.run(grid, tables, source, histories=4000, seed=3, n_region=1)
    first = transport.run(grid, tables, source, histories=1500, seed=3, n_region=1)
    rest = transport.run(grid, tables, source, histories=2500, seed=3, n_region=1, first_history=1500)
    np.testing.assert_array_equal(whole.region, first.region + rest.region)


def test_block_size_does_not_change_the_mean(tables):
    """Majorant blocks are a matter of speed: three sizes agree within statistics."""
    rng = np.random.default_rng(2)
    shape = (16, 16, 16)
    material = rng.integers(0, 4, shape)
    density = np.where(rng.uniform(size=shape) < 0.5, 0.001, rng.uniform(0.5, 2.0, shape))
    source = field_source(
        60.0,
        position_mm=np.array([-300.0, 80.0, 80.0]),
        corner_mm=np.array([0.0, 0.0, 0.0]),
        edges_mm=np.array([[0.0, 160.0, 0.0], [0.0, 0.0, 160.0]]),
    )
    got = []
    for block in (2, 5, 16):
        grid = voxel_grid(
            material,
            density,
            np.zeros(shape),
            tables,
            spacing_mm=(10.0, 10.0, 10.0),
            reach_mm=400.0,
            block=block,
        )
        tally = transport.run(grid, tables, source, histories=60_000, seed=4, n_region=1)
        got.append(transport.mean_sd(tally.region[0], 60_000))
    for mean, sd in got[1:]:
        assert abs(mean - got[0][0]) < 4 * math.hypot(sd, got[0][1])  # 4 sigma of two independent means


def test_majorant_holds_at_every_energy(tables):
    rng = np.random.default_rng(3)
    material = rng.integers(0, 5, (9, 10, 11)).astype(np.uint8)
    density = rng.uniform(0.0, 5.0, material.shape).astype(np.float32)
    total = np.ascontiguousarray(tables.cross[:, :, 0])
    blocks, majorant = majorants(pack(material, material, density), total, block=4)
    kind = ((blocks >> np.uint64(24)) & np.uint64(0xFF))[1:-1, 1:-1, 1:-1]
    kind = kind.repeat(4, 0).repeat(4, 1).repeat(4, 2)[:9, :10, :11]
    for node in range(0, total.shape[1] - 1, 37):
        assert (majorant[node, kind] >= density * total[material, node]).all()
        assert (majorant[node, kind] >= density * total[material, node + 1]).all()


def test_uniform_blocks_are_known_and_mixed_ones_are_not(tables):
    record = pack(*np.full((3, 8, 8, 8), 1))
    record[0, 0, 0] = pack(1, 2, [1.0])[0]
    blocks, _ = majorants(record, tables.cross[:, :, 0], block=4)
    material, region, density = unpack(blocks[2, 2, 2])
    assert (material, region, density) == (1, 1, 1.0)
    assert unpack(blocks[1, 1, 1])[2] == 0.0  # holds the odd voxel


@pytest.mark.parametrize("u", [2.0**-24, 1e-5, 0.3, 0.70710677, 0.70710683, 0.999, 1 - 2.0**-24])
def test_free_path_is_the_logarithm(u):
    assert free_path(np.float32(u)) == pytest.approx(-math.log(np.float32(u)), rel=3e-7)


def test_circle_is_cosine_and_sine():
    for turn in np.linspace(1e-6, 1 - 1e-6, 97).astype(np.float32):
        angle = 2 * math.pi * (float(turn) - 0.5)
        np.testing.assert_allclose(circle(turn), (math.cos(angle), math.sin(angle)), atol=6e-7)  # float32


def test_sd_is_right(tables):
    """Spread of 40 independent repeats agrees with the quoted sd: chi2 within its 99.9 % range."""
    grid = _slab(tables, 1, 1.0, 100.0)
    source = _pencil(60.0, start=(-20.0, 2000.0, 2000.0))
    n, repeats = 1500, 40
    values = []
    for k in range(repeats):
        tally = transport.run(grid, tables, source, histories=n, seed=100 + k, n_region=1)
        values.append(transport.mean_sd(tally.region[0], n))
    mean, sd = np.array(values).T
    chi2 = float(((mean - mean.mean()) ** 2 / sd**2).sum())
    assert 16.0 < chi2 < 72.0  # 39 degrees of freedom: 0.05 % and 99.9 % points 16.3 and 72.1


def test_voxel_sd_sums_to_region(tables):
    """A voxel that is the whole region has the region's sum of squares: deposits are joined per history."""
    shape = (1, 1, 1)
    grid = voxel_grid(
        np.ones(shape),
        np.ones(shape),
        np.zeros(shape),
        tables,
        spacing_mm=(300.0, 300.0, 300.0),
        reach_mm=100.0,
    )
    source = _pencil(60.0, start=(-20.0, 150.0, 150.0))
    tally = transport.run(grid, tables, source, histories=5000, seed=1, n_region=1, voxel_map=True)
    np.testing.assert_array_equal(tally.voxel[0], tally.region[0])


def test_seed_is_checked():
    with pytest.raises(ValueError, match="seed"):
        key(-1)
