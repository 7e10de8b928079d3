"""Eikonal fronts against exact times, entry points, electrocardiogram of fronts."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from twinlab.cardiac import electro
from twinlab.cardiac.electro.conduction_system import HEALTHY, LEADS
from twinlab.cardiac.electro.tissue import excitable
from twinlab.schema import InputError

FAST, SLOW = 0.6, 0.2


def _exact(voxels, point, fibre):
    """Time of a straight ray in an even medium."""
    z, y, x = np.meshgrid(voxels.z, voxels.y, voxels.x, indexing="ij")
    d = np.stack([x, y, z], -1) - np.asarray(point)
    f = np.asarray(fibre, float) / np.linalg.norm(fibre)
    along = d @ f
    across = (d**2).sum(-1) - along**2
    return np.sqrt(along**2 / FAST**2 + np.maximum(across, 0.0) / SLOW**2)


def _run(h, fibre, point=(2.0, 2.0, 2.0)):
    voxels = electro.slab((12.0, 8.0, 6.0), h, fibre=fibre)
    near = tuple(
        float(c.sel({a: p}, method="nearest"))
        for a, c, p in zip("xyz", (voxels.x, voxels.y, voxels.z), point, strict=True)
    )
    got = electro.eikonal(voxels, sources=[electro.Source(near)], velocity=electro.Velocity(FAST, SLOW))
    return got.activation_time.values, _exact(voxels, near, fibre), voxels


@pytest.mark.parametrize("fibre", [(1, 0, 0), (1, 1, 0), (1, 2, 3)])
def test_even_anisotropic_medium_is_exact_in_the_limit(fibre):
    """Velocities three to one, 0.5 mm: within 3 % of the longest time (first order; 1.2 to 1.6 % measured)."""
    got, exact, _ = _run(0.5, fibre)
    error = np.abs(got - exact).max() / exact.max()
    assert error < 0.03
    assert (got > exact - 1e-6).mean() > 0.999  # piecewise linear times are never early, but for rounding


def test_planar_front_along_the_grid_is_exact():
    """From a whole face along the axis: linear pieces hold a planar front, to the single precision of the tensors."""
    voxels = electro.slab((10.0, 2.0, 2.0), 0.5)
    faces = [
        electro.Source((0.25, y + 0.25, z + 0.25)) for y in np.arange(0, 2, 0.5) for z in np.arange(0, 2, 0.5)
    ]
    got = electro.eikonal(voxels, sources=faces, velocity=electro.Velocity(FAST, SLOW)).activation_time
    exact = (voxels.x - 0.25) / FAST
    np.testing.assert_allclose(got.values, np.broadcast_to(exact.values, got.shape), rtol=1e-6)


def test_earliest_source_counts_and_delays_add():
    voxels = electro.slab((10.0, 2.0, 2.0), 0.5)
    a, b = electro.Source((0.25, 0.25, 0.25)), electro.Source((9.75, 0.25, 0.25), 3.0)
    one = electro.eikonal(voxels, sources=[a]).activation_time
    two = electro.eikonal(voxels, sources=[b]).activation_time
    both = electro.eikonal(voxels, sources=[a, b]).activation_time
    np.testing.assert_allclose(both.values, np.minimum(one.values, two.values), atol=1e-9)
    assert float(two.min()) == pytest.approx(3.0)


def test_core_blocks_and_border_delays():
    voxels = electro.slab((10.0, 2.0, 1.0), 0.5)
    scar = np.zeros(voxels.wall.shape, np.uint8)
    scar[:, :, 8:12] = 2
    start = [electro.Source((0.25, 1.0, 0.5))]
    blocked = electro.eikonal(voxels.assign(scar=(("z", "y", "x"), scar)), sources=start).activation_time
    assert np.isnan(blocked.values[:, :, 12:]).all()
    free = electro.eikonal(voxels, sources=start).activation_time
    slow = electro.eikonal(
        voxels.assign(scar=(("z", "y", "x"), scar // 2)), sources=start, border=1.0 / 3.0
    ).activation_time
    delay = (slow - free).values[:, :, -1]
    # four voxels of 0.5 mm at a third of 0.6 mm/ms; the voxel beyond counts its own velocity on half its way
    np.testing.assert_allclose(delay, 2.0 / 0.2 - 2.0 / 0.6, rtol=0.05)


def test_fast_endocardial_layer():
    """A whole slab inside the layer: all times shorter by the factor; without ``transmural`` refused."""
    voxels = electro.slab((6.0, 2.0, 1.0), 0.5)
    start = [electro.Source((0.25, 0.25, 0.25))]
    plain = electro.eikonal(voxels, sources=start).activation_time
    with pytest.raises(InputError, match="transmural"):
        electro.eikonal(voxels, sources=start, endocardial_factor=2.0)
    fast = electro.eikonal(
        voxels.assign(transmural=0.0 * voxels.wall), sources=start, endocardial_factor=2.0
    ).activation_time
    # no straight rays around a source inside the layer: 5 % of the discretisation
    np.testing.assert_allclose(fast.values[:, :, 6:], plain.values[:, :, 6:] / 2.0, rtol=0.08)


def test_eikonal_against_monodomain():
    """Same slab, velocities of planar waves on the monodomain's grid: 10 % of the longest time in the mean square.

    What is left is the front's curvature near the small stimulus, which the eikonal model leaves out: it is early,
    at most by 12 % (measured 2.3 of 19.5 ms).
    """
    h = 0.25
    voxels = electro.slab((10.0, 4.0, 1.0), h)
    sigma = electro.Conductivity(0.1334, 0.0445)
    waves = [electro.planar_velocity(s, h, dt_ms=0.05) for s in sigma[:2]]
    corner = electro.sphere_stimulus((0.0, 0.0, 0.0), 1.0)
    reaction = electro.monodomain(
        voxels, stimuli=[corner], end_ms=60.0, dt_ms=0.05, conductivity=sigma, until_active=True
    ).activation_time
    source = electro.Source((0.125, 0.125, 0.125), float(reaction.values[0, 0, 0]), 1.0)
    front = electro.eikonal(voxels, sources=[source], velocity=electro.Velocity(*waves)).activation_time
    assert float(((front - reaction) ** 2).mean() ** 0.5) < 0.1 * float(reaction.max())
    assert float((front - reaction).max()) < 0.02 * float(reaction.max())


def _ring():
    """A thick ring with coordinates as the geometry gives them: depth by radius, height by z, angle around."""
    h = 2.0
    x = np.arange(-30.0, 30.1, h)
    z = np.arange(-20.0, 20.1, h)
    zz, yy, xx = np.meshgrid(z, x, x, indexing="ij")
    r = np.hypot(xx, yy)
    wall = (r > 18.0) & (r < 28.0)
    fibre = np.stack([-yy / r, xx / r, np.zeros_like(r)], -1)
    dims = ("z", "y", "x")
    return xr.Dataset(
        {
            "wall": (dims, wall.astype(np.uint8)),
            "fibre": ((*dims, "axis"), fibre.astype(np.float32)),
            "transmural": (dims, np.clip((r - 18.0) / 10.0, 0, 1)),
            "apicobasal": (dims, np.broadcast_to((zz + 20.0) / 40.0, r.shape)),
            "rotational": (dims, np.arctan2(yy, xx)),
        },
        coords={"z": z, "y": x, "x": x},
    )


def test_entry_points_lie_where_the_coordinates_say():
    ring = _ring()
    left = {k: e for k, e in HEALTHY.items() if e.ventricle == 0}
    sources = electro.entry_sources(ring, left)
    for source, entry in zip(sources, left.values(), strict=True):
        x, y, z = source.point_mm
        assert np.hypot(x, y) < 21.0  # endocardium
        assert z == pytest.approx(40.0 * entry.apicobasal - 20.0, abs=2.0)
        assert np.cos(np.arctan2(y, x) - entry.rotational_rad) > 0.98
    lateral = electro.locate(ring, LEADS["left_lateral"])
    assert np.hypot(*lateral[:2]) > 25.0
    with pytest.raises(InputError, match="muscle of ventricle 1"):
        electro.entry_sources(ring)
    with pytest.raises(InputError, match="transmural"):
        electro.locate(ring.drop_vars("transmural"), LEADS["left_lateral"])


def test_lead_field_of_a_planar_step_is_the_solid_angle():
    """A closed step of V has a potential of its solid angle; a whole even muscle none: ``K`` has no constant part.

    A thin sheet polarised through, seen from far: dipole moment ``sigma * V * area`` over ``4 pi sigma_b r^2``.
    """
    voxels = electro.slab((2.0, 2.0, 2.0), 0.5)
    muscle = excitable(voxels)
    far = {"e": (101.0, 1.0, 1.0)}
    w = electro.electrode_weights(muscle, far, intracellular_s_per_m=(0.17, 0.17))[0]
    assert abs(w.sum()) < 1e-6 * np.abs(w).sum()
    v = -muscle.position_mm()[:, 0]  # falls towards the electrode by 1 mV/mm: a wave coming
    dipole = 0.17 * 1.0 * 8.0
    assert w @ v == pytest.approx(
        dipole / (4 * np.pi * 0.2 * 100.0**2), rel=1e-3
    )  # positive; 2 mm seen at 100


def test_leads_and_qrs_of_a_ring():
    ring = _ring()
    t = electro.eikonal(ring, sources=[electro.Source((-22.0, 0.0, 0.0), 0.0, 4.0)]).activation_time
    places = electro.electrode_positions((0.0, 0.0, 0.0))
    ecg = electro.ecg_of_activation(ring, t, places, end_ms=420.0)
    leads = electro.twelve_leads(ecg)
    i, ii, iii = (leads.sel(lead=k) for k in ("I", "II", "III"))
    np.testing.assert_allclose((i + iii).values, ii.values, atol=1e-12)  # Einthoven
    np.testing.assert_allclose(leads.values[3:6].sum(axis=0), 0.0, atol=1e-12)  # Goldberger
    # front from right to left: lead I up in the QRS
    assert float(i.sel(time=slice(0, 60)).sum()) > 0
    total = float(t.max() - t.min())
    assert electro.qrs_duration(leads) == pytest.approx(total, abs=0.15 * total + 5.0)  # tail of the upstroke
    with pytest.raises(InputError, match="electrodes"):
        electro.twelve_leads(ecg.isel(electrode=slice(0, 4)))


def test_unreached_scar_makes_no_late_activation():
    """All else active at 30 ms, a block never: the record moves in that upstroke and then not before repolarisation."""
    slab = electro.slab((10.0, 8.0, 6.0), 1.0)
    times = np.full(slab["wall"].shape, 30.0)
    times[2:4, 2:6, 3:7] = np.nan
    activation = xr.DataArray(times, dims=("z", "y", "x"))
    ecg = electro.ecg_of_activation(slab, activation, {"A": (30.0, 4.0, 3.0)}, end_ms=250.0)
    rate = np.abs(np.gradient(ecg.values[0]))
    t = ecg["time"].values
    upstroke = rate[(t > 27) & (t < 36)].max()
    assert upstroke > 0
    assert rate[(t > 45) & (t < 220)].max() < 0.05 * upstroke  # the slow change of notch and plateau


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"sources": []}, "one or more"),
        ({"sources": [electro.Source((50.0, 0.0, 0.0))]}, "within two voxels"),
        ({"sources": [electro.Source((0.0, 0.0, 0.0), float("nan"))]}, "finite time"),
        ({"sources": [electro.Source((0.0, 0.0, 0.0))], "velocity": electro.Velocity(0.6, 0.0)}, "positive"),
    ],
)
def test_unusable_fronts_are_refused(settings, says):
    with pytest.raises(InputError, match=says):
        electro.eikonal(electro.slab((2.0, 1.0, 1.0), 0.5), **settings)
