"""Flow in vessels: lattice Boltzmann against Poiseuille and Womersley, masks, guards."""

import numpy as np
import pytest

from twinlab.cardiac.flow import (
    Run,
    build_grid,
    find_ends,
    moens_korteweg,
    poiseuille_pressure_drop,
    poiseuille_wall_shear_stress,
    pulsatile,
    scale,
    steady,
    stenosis_pressure_drop,
    vessel,
    wall_shear_stress,
    womersley_number,
    womersley_profile,
)
from twinlab.schema import InputError

VISCOSITY, DENSITY = 0.0035, 1060.0


def pipe(radius, length, offset=(0.31, 0.17)):
    """Signed distance of a straight tube along z, in voxels, and the distance from its axis."""
    n = int(np.ceil(2 * radius)) + 5
    y, x = np.mgrid[:n, :n]
    r = np.hypot(y - (n - 1) / 2 - offset[0], x - (n - 1) / 2 - offset[1])
    return np.broadcast_to((r - radius)[None], (length, n, n)).copy(), r


def test_poiseuille_profile_and_shear_under_a_body_force():
    radius, voxel = 10.3, 0.4
    distance, r = pipe(radius, 3)
    grid = build_grid(distance, periodic=(0,))
    size = radius * voxel * 1e-3
    peak = 0.02
    gradient = 4 * VISCOSITY * peak / size**2
    run = Run(grid, scale(voxel_mm=voxel, peak_m_per_s=peak))
    assert steady(run, force_n_per_m3=(0.0, 0.0, gradient), tolerance=1e-6)
    u = run.velocity_m_per_s()
    rr = r[grid.cells[1], grid.cells[2]]
    exact = peak * (1 - (rr / radius) ** 2)
    # wall of order two at any place between cells: the issue asks for 1 % at a radius of 10 voxels
    assert np.abs(u[2] - exact).max() < 0.01 * peak
    assert u[2].sum() == pytest.approx(exact.sum(), rel=0.01)
    assert np.abs(u[:2]).max() < 1e-3 * peak  # of unlike walls around: the tube's axis lies between cells
    _, stress = wall_shear_stress(grid, u, voxel_mm=voxel, viscosity_pa_s=VISCOSITY)
    shear = stress[:, 2] / (0.5 * gradient * size)
    # fits over cells within 2.3 voxels, on a wall curved at 10 voxels
    assert shear.mean() == pytest.approx(1.0, abs=0.03)
    assert np.abs(shear - 1).max() < 0.07


def test_poiseuille_pressure_drop_between_inlet_and_outlet():
    radius, voxel, length, flow = 8.2, 0.5, 20, 0.1
    distance, _ = pipe(radius, length)
    ends = find_ends(distance, "z-")
    assert [(e.face, e.inlet) for e in ends] == [("z-", True), ("z+", False)]
    grid = build_grid(distance, ends=ends)
    mean = flow * 1e-6 / (ends[0].where.sum() * (voxel * 1e-3) ** 2)
    run = Run(grid, scale(voxel_mm=voxel, peak_m_per_s=2 * mean), mean_inflow_m_per_s=mean)
    assert steady(run)
    pressure, z = run.pressure_pa(), grid.cells[0]
    sections = np.array([pressure[z == k].mean() for k in range(length)])
    drop = (sections[5] - sections[14]) / 133.322387415
    exact = poiseuille_pressure_drop(flow, radius_mm=radius * voxel, length_mm=9 * voxel)
    assert drop == pytest.approx(exact, rel=0.01)
    ends_flow = run.through_ends()
    assert ends_flow[0] == pytest.approx(flow, rel=1e-9)
    assert -ends_flow[1] == pytest.approx(flow, rel=0.005)  # interpolated walls let a little through


@pytest.mark.parametrize("alpha", [4.0, pytest.param(8.0, marks=pytest.mark.slow)])
def test_womersley_profile(alpha):
    # The wall's error is (4/3 magic number - q^2) / 2 of the second derivative, q the part of the link up to the wall:
    # at most 1/8 (alpha / R)^2 of the core's velocity, so that 2 % take R = 2.6 alpha voxels.
    radius, voxel = 2.9 * alpha + 0.3, 0.4
    distance, r = pipe(radius, 3)
    grid = build_grid(distance, periodic=(0,))
    size = radius * voxel * 1e-3
    omega = VISCOSITY / DENSITY * (alpha / size) ** 2
    rr = r[grid.cells[1], grid.cells[2]] / radius
    force = 0.01 * DENSITY * omega
    run = Run(grid, scale(voxel_mm=voxel, peak_m_per_s=0.01, lattice_speed=0.05 if alpha < 6 else 0.03))
    period = 2 * np.pi / omega

    def push(phase):
        return np.stack([0 * phase, 0 * phase, force * np.cos(2 * np.pi * phase)], axis=1)

    cycles = 4 if alpha < 6 else 8
    phases, u = pulsatile(run, period_s=period, force_n_per_m3=push, cycles=cycles, phases=8)
    exact = force / (DENSITY * omega) * womersley_profile(rr[None], 2 * np.pi * phases[:, None], alpha=alpha)
    assert np.abs(u[:, 2] - exact).max() < 0.02 * np.abs(exact).max()


def test_womersley_has_its_limits():
    r = np.linspace(0, 1, 11)
    slow = womersley_profile(r, 0.0, alpha=0.1)
    np.testing.assert_allclose(slow, 0.1**2 * (1 - r**2) / 4, rtol=1e-3)  # quasi-steady Poiseuille
    assert womersley_profile(0.0, np.pi / 2, alpha=30.0) == pytest.approx(1.0, abs=1e-6)  # inviscid core
    assert womersley_number(radius_mm=10.0, frequency_hz=1.2) == pytest.approx(15.1, abs=0.1)


def test_closed_forms():
    assert poiseuille_wall_shear_stress(5.0, radius_mm=2.0) == pytest.approx(
        poiseuille_pressure_drop(5.0, radius_mm=2.0, length_mm=10.0) * 133.322387415 * 2.0 / (2 * 10.0)
    )
    # Young and Tsai: the viscous part is linear, the turbulent part square in the flow
    tube = {"radius_mm": 1.5, "throat_radius_mm": 0.9, "length_mm": 10.0}
    one, two, three = (stenosis_pressure_drop(q, **tube) for q in (1.0, 2.0, 3.0))
    assert three - 2 * two + one == pytest.approx(2 * (two - 2 * one) / 2, rel=1e-9)
    assert one > poiseuille_pressure_drop(1.0, radius_mm=1.5, length_mm=10.0)
    assert stenosis_pressure_drop(1.0, **tube, acceleration_ml_per_s2=10.0) > one
    # the classic formula: aorta, E 400 kPa, wall 2 mm, radius 12 mm: 5.6 m/s
    assert moens_korteweg(young_kpa=400.0, thickness_mm=2.0, radius_mm=12.0, poisson=0.0) == pytest.approx(
        5.61, abs=0.01
    )
    with pytest.raises(InputError, match="throat_radius_mm"):
        stenosis_pressure_drop(1.0, radius_mm=1.0, throat_radius_mm=2.0, length_mm=1.0)


def tube_mask(radius, length):
    return pipe(radius, length, (0.0, 0.0))[0] < 0


def test_vessel_from_a_mask_is_a_tube():
    radius, size, flow = 5.5, 1.0, 0.5
    mask = tube_mask(radius, 16)
    result = vessel(mask, spacing_mm=(size,) * 3, flow_ml_per_s=flow, progress=False)
    assert result.attrs["converged"]
    assert result.attrs["openings"] == ["inlet z-", "outlet z+"]
    assert result.attrs["imbalance"] < 0.01
    true = np.sqrt(mask[0].sum() / np.pi) * size
    exact = poiseuille_pressure_drop(flow, radius_mm=true, length_mm=(16 - 5) * size)
    # a wall from voxels, 11 across, between planes two voxels from the ends
    assert float(result.pressure_drop) == pytest.approx(exact, rel=0.06)
    shear = result.wall_shear_stress[5:11]
    assert float(shear.mean()) == pytest.approx(poiseuille_wall_shear_stress(flow, radius_mm=true), rel=0.08)
    assert float(result.flow_velocity.sel(axis="z").max()) == pytest.approx(
        2e-3 * flow / (np.pi * true**2) * 1e3, rel=0.05
    )


@pytest.mark.slow
def test_stenosis_costs_more_pressure():
    mask = tube_mask(7.2, 24)
    narrow = mask.copy()
    narrow[9:15] &= pipe(7.2, 24, (0.0, 0.0))[0][9:15] < -2.6
    runs = [
        vessel(m, spacing_mm=(1.0,) * 3, flow_ml_per_s=0.2, tolerance=1e-4, progress=False)
        for m in (mask, narrow)
    ]
    assert float(runs[1].pressure_drop) > 2.0 * float(runs[0].pressure_drop)
    assert float(runs[1].wall_shear_stress.max()) > 3.0 * float(runs[0].wall_shear_stress.max())


def test_refuses_masks_and_runs_that_cannot_be():
    mask = tube_mask(5.5, 12)
    given = {"spacing_mm": (1.0, 1.0, 1.0), "flow_ml_per_s": 1.0, "progress": False}
    closed = mask.copy()
    closed[-1] = False
    with pytest.raises(InputError, match="another face for the outflow"):
        vessel(closed, **given)
    with pytest.raises(InputError, match="inlet x-"):
        vessel(mask, **given, inlet="x-")
    two = np.concatenate([mask, mask], axis=2)
    with pytest.raises(InputError, match="2 pieces"):
        vessel(two, **given)
    hollow = mask.copy()
    hollow[5:7, 8, 8] = False
    with pytest.raises(InputError, match="1 holes"):
        vessel(hollow, **given)
    with pytest.raises(InputError, match="6 voxels across"):
        vessel(tube_mask(2.4, 12), **given)
    with pytest.raises(InputError, match="voxels of 0"):
        vessel(mask, **{**given, "flow_ml_per_s": 50.0})
    with pytest.raises(InputError, match="lattice_speed"):
        scale(voxel_mm=1.0, peak_m_per_s=0.01, lattice_speed=0.3)
    with pytest.raises(InputError, match="0 and 1"):
        vessel(mask.astype(float) * np.nan, **given)


def test_same_numbers_with_any_number_of_threads():
    import numba

    distance, _ = pipe(5.3, 6)
    grid = build_grid(distance, ends=find_ends(distance, "z-"))
    results = []
    for threads in (1, 2) if numba.config.NUMBA_NUM_THREADS > 1 else (1, 1):
        numba.set_num_threads(threads)
        run = Run(grid, scale(voxel_mm=0.5, peak_m_per_s=0.01), mean_inflow_m_per_s=0.005)
        run.advance(np.ones(40), np.zeros((40, 3)))
        results.append(run.populations.copy())
    numba.set_num_threads(numba.config.NUMBA_NUM_THREADS)
    assert np.array_equal(*results)
