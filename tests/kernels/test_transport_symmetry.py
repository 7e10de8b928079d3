"""Symmetry, reciprocity, half-value layers, and solids against voxels."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.optimize import brentq

from twinlab.kernels import transport
from twinlab.phantom import transport_tables as table_module
from twinlab.phantom.transport_grid import Box, Rod, cylinder_grid, voxel_grid
from twinlab.physics import attenuation
from twinlab.scanner.photon_source import field_source
from twinlab.schema import InputError


@pytest.fixture(scope="module")
def tables():
    return table_module.build(["air", "water", "aluminum"])


def _field(energy, weight=1.0, *, at, corner, edges):
    return field_source(
        energy,
        weight,
        position_mm=np.array(at, float),
        corner_mm=np.array(corner, float),
        edges_mm=np.array(edges, float),
    )


def test_mirror_and_turn_symmetry(tables):
    """A square field on a cube: its eight mirror images and turns get the same energy."""
    n = 60_000
    i = np.arange(10)
    octant = (
        (i[None, :, None] > 4) * 2
        + (i[None, None, :] > 4)
        + 4 * (np.abs(i[None, :, None] - 4.5) > np.abs(i[None, None, :] - 4.5))
    )
    region = np.broadcast_to(octant, (10, 10, 10))
    grid = voxel_grid(
        np.ones(region.shape), np.ones(region.shape), region, tables, spacing_mm=(20.0,) * 3, reach_mm=500.0
    )
    source = _field(70.0, at=(100, 100, -400), corner=(20, 20, 0), edges=[[160, 0, 0], [0, 160, 0]])
    tally = transport.run(grid, tables, source, histories=n, seed=2, n_region=8)
    mean, sd = transport.mean_sd(tally.region, n)
    # voxels on the diagonal count to the four regions that hold less than its other side
    for group in (slice(0, 4), slice(4, 8)):
        off = (mean[group] - mean[group].mean()) / sd[group]
        assert (off**2).sum() < 16.3  # 99.9 % point of chi2 with three degrees of freedom


def _isotropic_faces(energy, at):
    """Six square fields that together send photons from a point into all directions alike."""
    at = np.array(at, float)
    faces = []
    for axis in range(3):
        for sign in (-1.0, 1.0):
            edges = np.zeros((2, 3))
            edges[0, (axis + 1) % 3] = edges[1, (axis + 2) % 3] = 2.0
            corner = at - 1.0
            corner[axis] = at[axis] + sign
            faces.append(_field(energy, at=at, corner=corner, edges=edges))
    return faces


def test_reciprocity_in_water(tables):
    """Source and detector exchanged in water give the same absorbed energy, near the edge and in the middle.

    Specific absorbed fractions are reciprocal in a uniform medium that reaches far enough; 55 mm is the
    distance of the nearer place from a face, and what returns from beyond it is below 1 % here.

    References
    ----------
    Loevinger R, Berman M 1968, Phys. Med. Biol. 13:205.
    """
    shape = (25, 25, 25)
    places = {1: (12, 12, 12), 2: (12, 15, 16)}
    region = np.zeros(shape, np.uint16)
    for k, place in places.items():
        region[place] = k
    grid = voxel_grid(np.ones(shape), np.ones(shape), region, tables, spacing_mm=(12.0,) * 3, reach_mm=50.0)
    n, got = 30_000, []
    for source, detector in ((1, 2), (2, 1)):
        z, y, x = places[source]
        mean, variance = 0.0, 0.0
        for k, face in enumerate(_isotropic_faces(80.0, ((x + 0.5) * 12, (y + 0.5) * 12, (z + 0.5) * 12))):
            tally = transport.run(
                grid, tables, face, histories=n, seed=10 * source + k, n_region=3, estimator="track_length"
            )
            m, s = transport.mean_sd(tally.region[detector], n)
            mean += m / 6
            variance += (s / 6) ** 2
        got.append((mean, math.sqrt(variance)))
    (a, sd_a), (b, sd_b) = got
    assert abs(a - b) < 3 * math.hypot(sd_a, sd_b) + 0.01 * a


def test_half_value_layer(tables):
    """Half of the air kerma of a spectrum passes the layer that its attenuation data say."""
    energy = np.array([30.0, 50.0, 70.0, 100.0])
    weight = np.array([1.0, 2.0, 2.0, 1.0])
    mu = attenuation.linear_attenuation_per_mm("aluminum", energy)
    kerma = weight * energy * attenuation.mass_energy_absorption("air", energy)[0]
    layer = brentq(lambda t: (kerma * np.exp(-mu * t)).sum() / kerma.sum() - 0.5, 0.1, 50.0)
    n, read = 40_000, []
    for k, density in enumerate((1e-9, 2.699)):
        solids = [
            Rod(0.0, 0.0, 2000.0, 0.0, 4000.0, 0, 1e-9),
            Box(-1500.0, 1500.0, -1500.0, 1500.0, 10.0, 10.0 + layer, 2, density),
            Rod(0.0, 0.0, 5.0, 3900.0, 3910.0, 0, 1e-9, fluence=True),
        ]
        grid, low = cylinder_grid(solids, tables, reach_mm=100.0, air_density=1e-9)
        at = -low + [0.0, 0.0, -20.0]
        source = _field(energy, weight, at=at, corner=at + [0, 0, 10], edges=np.zeros((2, 3)))
        tally = transport.run(grid, tables, source, histories=n, seed=k + 1, n_region=4)
        read.append(transport.mean_sd(tally.fluence[2], n))
    (open_, sd_open), (half, sd_half) = read
    ratio = half / open_
    # scatter into 1.3 mrad adds below 2e-4
    assert abs(ratio - 0.5) < 3 * ratio * math.hypot(sd_open / open_, sd_half / half) + 3e-4


def test_boxes_equal_voxels(tables):
    """An aluminium box in a water box: exact solids and voxels with the same faces agree."""
    n = 60_000
    region = np.ones((10, 10, 10), np.uint16)
    region[3:6, 2:7, 4:9] = 2
    density = np.array([0.0, 1.0, 2.699])[region]
    voxels = voxel_grid(region, density, region, tables, spacing_mm=(20.0,) * 3, reach_mm=500.0)
    solids, _ = cylinder_grid(
        [
            Box(0.0, 200.0, 0.0, 200.0, 0.0, 200.0, 1, 1.0),
            Box(80.0, 180.0, 40.0, 140.0, 60.0, 120.0, 2, 2.699, fluence=True),
        ],
        tables,
        reach_mm=500.0,
    )
    source = _field(80.0, at=(100, 100, -400), corner=(0, 0, 0), edges=[[200, 0, 0], [0, 200, 0]])
    scores = [
        transport.mean_sd(transport.run(g, tables, source, histories=n, seed=k, n_region=3).region, n)
        for k, g in enumerate((voxels, solids))
    ]
    (a, sd_a), (b, sd_b) = scores
    assert (np.abs(a - b)[1:] < 3.3 * np.hypot(sd_a, sd_b)[1:]).all()  # 99.9 %


def test_chord_of_a_box(tables):
    """Photons along the axes and a diagonal score the box's thickness times E mu_en/rho."""
    outer = Box(-50.0, 50.0, -50.0, 50.0, -50.0, 50.0, 0, 1e-9)
    inner = Box(-10.0, 10.0, -20.0, 20.0, -30.0, 30.0, 0, 1e-9, fluence=True)
    grid, low = cylinder_grid([outer, inner], tables, reach_mm=300.0, air_density=1e-9)
    per_cm = 60.0 * np.interp(60.0, *_kerma(tables))
    for direction, cm in (
        ((1, 0, 0), 2.0),
        ((0, 1, 0), 4.0),
        ((0, 0, -1), 6.0),
        ((1, 1, 0), 2 * math.sqrt(2)),
    ):
        d = np.array(direction) / np.linalg.norm(direction)
        at = -low - 200.0 * d
        source = _field(60.0, at=at, corner=at + 10 * d, edges=np.zeros((2, 3)))
        tally = transport.run(grid, tables, source, histories=50, seed=1, n_region=3)
        got, _ = transport.mean_sd(tally.fluence[1], 50)
        assert got == pytest.approx(cm * per_cm, rel=1e-4)  # float32 at 300 mm


def _kerma(tables):
    from twinlab.kernels.transport_data import energy_grid

    return energy_grid(), tables.kerma


@pytest.mark.parametrize(
    "solid",
    [
        Box(0.0, 0.0, 0.0, 1.0, 0.0, 1.0, 0, 1.0),
        Rod(0.0, 0.0, 1.0, 0.0, 1.0, 7, 1.0),
        Rod(0.0, 0.0, 1.0, 0.0, 1.0, 1, float("nan")),
    ],
)
def test_bad_solids_are_refused(tables, solid):
    with pytest.raises(InputError, match="solid 0"):
        cylinder_grid([solid], tables, reach_mm=10.0)


@pytest.mark.parametrize(
    ("material", "density", "match"), [(9, 1.0, "material"), (1, -1.0, "density"), (1, np.nan, "density")]
)
def test_bad_voxels_are_refused(tables, material, density, match):
    shape = (2, 2, 2)
    with pytest.raises(InputError, match=match):
        voxel_grid(
            np.full(shape, material),
            np.full(shape, density),
            np.zeros(shape),
            tables,
            spacing_mm=(1.0, 1.0, 1.0),
            reach_mm=10.0,
        )
