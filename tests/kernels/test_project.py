"""The row-bundle projector against one ray at a time, and its edge cases."""

import threading

import numba
import numpy as np
import pytest

from twinlab.kernels import columns as columns_module
from twinlab.kernels import project as project_module
from twinlab.kernels.columns import prepare, prepare_materials
from twinlab.kernels.general_rays import trace
from twinlab.kernels.project import project, project_reference
from twinlab.schema import InputError

# float32 sums of some hundred terms, and differences of slab integrals: a few units in the last place of the
# largest integral
ROUNDING = 1e-6

ARC = {"fan_angle_rad": np.linspace(-0.42, 0.43, 45)}
FLAT = {"u_mm": np.linspace(-450.0, 460.0, 45)}


def body(n_basis=4, nz=9, ny=30, nx=34, *, outside=0.0012, seed=0):
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:ny, 0:nx]
    inside = ((x - nx / 2) / (0.40 * nx)) ** 2 + ((y - ny / 2) / (0.30 * ny)) ** 2 < 1
    volumes = np.full((n_basis, nz, ny, nx), outside, np.float32)
    volumes[:, :, inside] = rng.random((n_basis, nz, int(inside.sum())), dtype=np.float32)
    return volumes


def geometry(n_view=24, n_row=11, *, row_step=9.0, **detector):
    return {
        "spacing_mm": (4.0, 8.0, 7.0),
        "origin_mm": (-15.0, -118.0, -121.0),
        "view_angle_rad": np.linspace(0.0, 7.0, n_view),
        "source_z_mm": np.linspace(-45.0, 50.0, n_view),  # beyond both ends of the volume
        "source_to_isocentre_mm": 570.0,
        "source_to_detector_mm": 1040.0,
        "isocentre_mm": (3.0, -2.0),
        "row_mm": (np.arange(n_row) - (n_row - 1) / 2) * row_step,
        **detector,
    }


def agree(volumes, scan):
    fast, exact = project(volumes, **scan), project_reference(volumes, **scan)
    assert exact.max() > 0
    assert np.abs(fast - exact).max() <= ROUNDING * exact.max()
    return fast


@pytest.mark.parametrize("detector", [ARC, FLAT], ids=["arc", "flat"])
@pytest.mark.parametrize("n_basis", [1, 2, 3, 4, 6])
def test_equals_one_ray_at_a_time(detector, n_basis):
    agree(body(n_basis), geometry(**detector))


@pytest.mark.parametrize("detector", [ARC, FLAT], ids=["arc", "flat"])
def test_large_cone_and_thin_slabs(detector):
    scan = geometry(n_row=15, row_step=40.0, **detector)
    scan["spacing_mm"] = (0.7, 8.0, 7.0)
    agree(body(2, nz=60), scan)


def test_axis_parallel_views_and_rows_on_planes():
    scan = geometry(n_view=5, n_row=9, fan_angle_rad=np.array([-0.05, 0.0, 0.05]))
    scan["view_angle_rad"] = np.arange(5) * np.pi / 2
    scan["isocentre_mm"] = (0.3, -0.2)
    scan["source_z_mm"] = np.array(
        [-17.0, -1.0, 3.0, 19.0, 0.0]
    )  # on planes between slabs, and on the end faces
    agree(body(2), scan)


def test_rays_outside_the_volume_see_nothing():
    volumes = body(2, outside=0.0)
    scan = geometry(**ARC)
    scan["source_z_mm"] = np.full(24, 500.0)
    assert project(volumes, **scan).max() == 0.0
    scan = geometry(fan_angle_rad=np.linspace(0.6, 0.9, 8))
    assert project(volumes, **scan).max() == 0.0


def test_source_inside_the_volume():
    scan = geometry(**ARC)
    scan["source_to_isocentre_mm"] = 60.0
    agree(body(3), scan)


def test_detector_inside_the_volume():
    scan = geometry(**ARC)
    scan["source_to_detector_mm"] = 590.0
    agree(body(3), scan)


def test_empty_volume_is_its_background():
    volumes = np.full((2, 5, 20, 20), 0.5, np.float32)
    agree(volumes, geometry(**ARC))


def test_object_off_centre_and_hollow():
    volumes = np.zeros((1, 6, 30, 34), np.float32)
    volumes[0, 1, 3:6, 4:9] = 1.0
    volumes[0, 4, 20:22, 25] = 2.0
    agree(volumes, geometry(**FLAT))


@pytest.mark.parametrize("detector", [ARC, FLAT], ids=["arc", "flat"])
def test_displaced_focal_spots_keep_the_detector_where_it_is(detector):
    volumes, scan = body(2), geometry(**detector)
    shift = np.array([[3.0, -5.0, 1.1], [-3.0, 5.0, -1.1], [0.0, 0.0, 0.0]])[np.arange(24) % 3]
    found = project(volumes, **scan, focal_shift_mm=shift)
    angle, z = scan["view_angle_rad"], scan["source_z_mm"]
    radial = np.stack([np.sin(angle), -np.cos(angle)], -1)
    tangential = np.stack([np.cos(angle), np.sin(angle)], -1)
    spot = scan["isocentre_mm"] + 570.0 * radial
    moved = spot + shift[:, :1] * tangential + shift[:, 1:2] * radial
    if detector is ARC:
        forward, lateral = 1040.0 * np.cos(ARC["fan_angle_rad"]), 1040.0 * np.sin(ARC["fan_angle_rad"])
    else:
        forward, lateral = np.full(45, 1040.0), FLAT["u_mm"]
    cell = spot[:, None] - forward[:, None] * radial[:, None] + lateral[:, None] * tangential[:, None]
    shape = (24, 11, 45)
    start = np.stack(
        np.broadcast_arrays(*(moved[:, None, None, i] for i in (0, 1)), (z + shift[:, 2])[:, None, None]), -1
    )
    end_z = np.broadcast_to((z[:, None] + scan["row_mm"])[..., None], shape)
    end = np.stack([*(np.broadcast_to(cell[:, None, :, i], shape) for i in (0, 1)), end_z], -1)
    exact = trace(
        volumes,
        spacing_mm=scan["spacing_mm"],
        origin_mm=scan["origin_mm"],
        start_mm=np.broadcast_to(start, (*shape, 3)).reshape(-1, 3),
        end_mm=end.reshape(-1, 3),
    ).reshape(2, *shape)
    assert np.abs(found - exact).max() <= ROUNDING * exact.max()
    assert np.abs(found - project(volumes, **scan)).max() > 0.01 * exact.max()
    # one shift for all views is the same as each view's own
    same = project(volumes, **scan, focal_shift_mm=shift[0])
    assert np.array_equal(same[:, ::3], found[:, ::3])


def test_rows_of_one_side_cross_many_slabs_between_objects():
    """Passages where a ray is in no cell at all, far outside the slabs that the next cells' rows can see."""
    rng = np.random.default_rng(8)
    volumes = np.zeros((1, 240, 30, 34), np.float32)
    volumes[:, :, 2:4, 5:30] = rng.random((1, 240, 2, 25))
    volumes[:, :, 25:28, 5:30] = rng.random((1, 240, 3, 25))
    scan = geometry(**ARC)
    scan.update(spacing_mm=(0.2, 8.0, 7.0), view_angle_rad=np.linspace(-0.3, 0.3, 24))
    scan.update(row_mm=np.linspace(78.0, 80.0, 3), source_z_mm=np.full(24, -50.0))
    agree(volumes, scan)
    scan.update(row_mm=np.linspace(-80.0, -78.0, 3), source_z_mm=np.full(24, 70.0))
    agree(volumes, scan)


def test_row_window_computes_those_rows_only():
    volumes, scan = body(3), geometry(**ARC)
    whole = project(volumes, **scan)
    rng = np.random.default_rng(5)
    lo = rng.integers(0, 11, 24)
    hi = np.minimum(lo + rng.integers(0, 6, 24), 11)
    part = project(volumes, **scan, row_lo=lo, row_hi=hi)
    row = np.arange(11)
    chosen = (row >= lo[:, None]) & (row < hi[:, None])
    assert chosen.any()
    assert not chosen.all()
    # a narrower window changes the order of additions
    assert np.abs(part - whole)[:, chosen].max() <= ROUNDING * whole.max()
    assert np.abs(part[:, ~chosen]).max() == 0.0


def test_materials_give_the_same_as_volumes():
    rng = np.random.default_rng(6)
    material = rng.integers(0, 3, (7, 30, 34)).astype(np.uint8)
    material[:, :5] = 0
    density = np.where(material == 0, 0.0012, 1.0 + 0.1 * rng.random(material.shape)).astype(np.float32)
    coefficients = rng.random((3, 4)).astype(np.float32)
    volumes = np.moveaxis(coefficients[material] * density[..., None], -1, 0)
    scan = geometry(**ARC)
    direct = project(prepare_materials(material, density, coefficients=coefficients), **scan)
    through = project(np.ascontiguousarray(volumes), **scan)
    assert np.abs(direct - through).max() <= ROUNDING * through.max()


def test_prepared_columns_hold_the_occupied_box_only():
    volumes = np.zeros((2, 5, 40, 50), np.float32)
    volumes[:, 2, 10:13, 20:24] = 1.0
    prepared = prepare(volumes)
    assert prepared.corner == (10, 20)
    assert prepared.occupied.shape == (3, 4)
    assert prepared.values.shape == (
        12,
        columns_module.ALIGN,
    )  # (5 + 2) slabs of 2, rounded up to a cache line


def test_blocks_do_not_matter(monkeypatch):
    volumes, scan = body(2), geometry(**ARC)
    whole = project(volumes, **scan)
    monkeypatch.setattr(project_module, "CHANNEL_BLOCK", 7)
    monkeypatch.setattr(project_module, "VIEW_BLOCK", 5)
    assert np.array_equal(project(volumes, **scan), whole)


@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="needs two threads (NUMBA_NUM_THREADS)")
def test_threads_do_not_matter():
    before = numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        one = project(body(2), **geometry(**ARC))
        numba.set_num_threads(2)
        assert np.array_equal(project(body(2), **geometry(**ARC)), one)
    finally:
        numba.set_num_threads(before)


def test_concurrent_calls_are_safe():
    volumes, scan = prepare(body(2)), geometry(**ARC)
    expected, found = project(volumes, **scan), []
    threads = [threading.Thread(target=lambda: found.append(project(volumes, **scan))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert all(np.array_equal(f, expected) for f in found)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"u_mm": np.zeros(2)}, "either fan_angle_rad"),
        ({"row_mm": np.array([1.0, 0.0])}, "ascending"),
        ({"spacing_mm": (0.0, 1.0, 1.0)}, "positive"),
        ({"row_lo": np.zeros(3, int)}, "row_lo, row_hi of 24 views"),
        ({"focal_shift_mm": np.ones((3, 3))}, "focal_shift_mm"),
        ({"focal_shift_mm": np.array([0.0, -600.0, 0.0])}, "radial shift above -570"),
    ],
)
def test_refuses(change, message):
    with pytest.raises(InputError, match=message):
        project(body(1), **{**geometry(**ARC), **change})


def test_refuses_shapes():
    with pytest.raises(InputError, match="n_basis, nz, ny, nx"):
        prepare(np.zeros((3, 3)))
    with pytest.raises(InputError, match="material below 1"):
        prepare_materials(np.ones((2, 2, 2), np.uint8), np.ones((2, 2, 2)), coefficients=np.ones((1, 2)))
