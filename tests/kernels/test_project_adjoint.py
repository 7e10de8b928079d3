"""The transpose of the projector: dot products, a dense matrix, threads, windows."""

import numba
import numpy as np
import pytest

from twinlab.kernels import project_adjoint as adjoint_module
from twinlab.kernels.project import project
from twinlab.kernels.project_adjoint import project_adjoint
from twinlab.schema import InputError

ARC = {"fan_angle_rad": np.linspace(-0.42, 0.43, 23)}
FLAT = {"u_mm": np.linspace(-450.0, 460.0, 23)}
SHAPE = (9, 30, 34)
# float32: sums of some thousand terms of random sign relative to the product of norms; the figure wanted is 1e-5
TOLERANCE = 1e-6


def geometry(n_view=12, n_row=7, *, row_step=14.0, **detector):
    return {
        "spacing_mm": (4.0, 8.0, 7.0),
        "origin_mm": (-15.0, -118.0, -121.0),
        "view_angle_rad": np.linspace(0.0, 7.0, n_view),
        "source_z_mm": np.linspace(-45.0, 50.0, n_view),  # a helix beyond both ends of the volume
        "source_to_isocentre_mm": 570.0,
        "source_to_detector_mm": 1040.0,
        "isocentre_mm": (3.0, -2.0),
        "row_mm": (np.arange(n_row) - (n_row - 1) / 2) * row_step,
        **detector,
    }


def mismatch(scan, n_basis=1, seed=0):
    """|<A x, y> - <x, A'y>| over |A x| |y|, for random x and y of both signs."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n_basis, *SHAPE)).astype(np.float32)
    forward = project(x, **scan).astype(float)
    y = rng.standard_normal(forward.shape).astype(np.float32)
    back = project_adjoint(y, shape=SHAPE, **scan).astype(float)
    return abs(np.vdot(forward, y) - np.vdot(x, back)) / (np.linalg.norm(forward) * np.linalg.norm(y))


@pytest.mark.parametrize("detector", [ARC, FLAT], ids=["arc", "flat"])
@pytest.mark.parametrize("n_basis", [1, 3])
def test_dot_product_of_a_helix(detector, n_basis):
    assert mismatch(geometry(**detector), n_basis) < TOLERANCE


def test_dot_product_of_an_axial_scan_with_rays_along_the_axes():
    scan = geometry(n_view=8, **ARC)
    scan["view_angle_rad"] = np.arange(8) * np.pi / 4
    scan["source_z_mm"] = np.full(8, 1.0)  # on a plane between slabs
    assert mismatch(scan) < TOLERANCE


def test_dot_product_with_a_wide_cone_and_thin_slabs():
    scan = geometry(n_row=15, row_step=40.0, **FLAT)
    scan["spacing_mm"] = (0.7, 8.0, 7.0)
    assert mismatch(scan) < TOLERANCE


def test_dot_product_of_row_windows_and_sources_inside():
    rng = np.random.default_rng(5)
    lo = rng.integers(0, 7, 12)
    scan = geometry(**ARC)
    assert mismatch({**scan, "row_lo": lo, "row_hi": np.minimum(lo + rng.integers(0, 5, 12), 7)}) < TOLERANCE
    assert mismatch({**scan, "source_to_isocentre_mm": 60.0}) < TOLERANCE


def test_dot_product_of_a_flying_focal_spot():
    shift = np.where(np.arange(12)[:, None] % 2, 1.0, -1.0) * [4.0, 7.0, 3.0]
    assert mismatch(geometry(**ARC, focal_shift_mm=shift)) < TOLERANCE


def test_equals_the_transposed_matrix_of_the_projector():
    scan = geometry(n_view=4, n_row=3, row_step=30.0, fan_angle_rad=np.linspace(-0.2, 0.2, 5))
    shape = (3, 4, 5)
    scan.update(spacing_mm=(12.0, 50.0, 40.0), origin_mm=(-12.0, -75.0, -80.0))
    matrix = np.stack(
        [project(unit.reshape(1, *shape), **scan).ravel() for unit in np.eye(60, dtype=np.float32)]
    )
    data = np.random.default_rng(1).standard_normal((1, 4, 3, 5)).astype(np.float32)
    found = project_adjoint(data, shape=shape, **scan).ravel()
    # the projector takes differences of slab integrals: rounding of the longest paths, 22 cm
    assert np.abs(found - matrix @ data.ravel()).max() < 2e-6 * matrix.max() * np.abs(data).sum()


def test_columns_outside_stay_empty():
    inside = np.zeros(SHAPE[1:], bool)
    inside[10:20, 5:30] = True
    scan = geometry(**ARC)
    data = np.ones((1, 12, 7, 23), np.float32)
    part = project_adjoint(data, shape=SHAPE, inside=inside, **scan)
    whole = project_adjoint(data, shape=SHAPE, **scan)
    assert part[:, :, ~inside].max() == 0.0
    assert np.abs(part - whole)[:, :, inside].max() < 1e-5 * whole.max()  # other groups of cells: rounding


@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="needs two threads (NUMBA_NUM_THREADS)")
def test_threads_do_not_matter():
    scan, data = geometry(**ARC), np.random.default_rng(2).random((2, 12, 7, 23), np.float32)
    before = numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        one = project_adjoint(data, shape=SHAPE, **scan)
        numba.set_num_threads(2)
        assert np.array_equal(project_adjoint(data, shape=SHAPE, **scan), one)
    finally:
        numba.set_num_threads(before)


def test_strips_change_rounding_only(monkeypatch):
    scan, data = geometry(**ARC), np.random.default_rng(2).random((1, 12, 7, 23), np.float32)
    whole = project_adjoint(data, shape=SHAPE, **scan)
    monkeypatch.setattr(adjoint_module, "STRIPS", 3)
    monkeypatch.setattr(adjoint_module, "VIEW_BLOCK", 5)
    assert np.abs(project_adjoint(data, shape=SHAPE, **scan) - whole).max() < 1e-6 * whole.max()


def test_refuses_shapes():
    with pytest.raises(InputError, match="12, 7, 23"):
        project_adjoint(np.zeros((1, 12, 7, 22), np.float32), shape=SHAPE, **geometry(**ARC))
    with pytest.raises(InputError, match="inside of shape"):
        project_adjoint(
            np.zeros((1, 12, 7, 23), np.float32), shape=SHAPE, inside=np.ones((2, 2)), **geometry(**ARC)
        )
