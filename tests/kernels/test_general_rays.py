"""Rays one by one: segments, parallel beams, a gantry that leans."""

import numpy as np
import pytest

from twinlab.kernels.general_rays import project_parallel, project_tilted, trace
from twinlab.kernels.project import project_reference
from twinlab.phantom.shapes import Ellipsoid
from twinlab.schema import InputError

GRID = {"spacing_mm": (4.0, 8.0, 7.0), "origin_mm": (-15.0, -118.0, -121.0)}
SCAN = {
    **GRID,
    "view_angle_rad": np.linspace(0.0, 7.0, 7),
    "source_z_mm": np.linspace(-15.0, 20.0, 7),
    "source_to_isocentre_mm": 570.0,
    "source_to_detector_mm": 1040.0,
    "isocentre_mm": (3.0, -2.0),
    "row_mm": np.linspace(-40.0, 41.0, 7),
}
DETECTORS = {
    "arc": {"fan_angle_rad": np.linspace(-0.4, 0.41, 23)},
    "flat": {"u_mm": np.linspace(-300.0, 310.0, 23)},
}


@pytest.fixture(scope="module")
def volumes():
    return np.random.default_rng(0).random((3, 9, 30, 34), dtype=np.float32)


def test_segment_in_a_cube_is_its_length():
    cube = np.full((2, 10, 10, 10), 0.5, np.float32)
    start = np.array([[1.0, 2.0, 3.0], [-50.0, 5.0, 5.0], [5.0, 5.0, 5.0]])
    end = np.array([[7.0, 8.0, 6.0], [50.0, 5.0, 5.0], [5.0, 5.0, 5.0]])
    found = trace(cube, spacing_mm=(1, 1, 1), origin_mm=(0.5, 0.5, 0.5), start_mm=start, end_mm=end)
    assert found == pytest.approx(np.tile([0.45, 0.5, 0.0], (2, 1)), rel=1e-6)


@pytest.mark.parametrize("detector", list(DETECTORS))
def test_without_tilt_it_is_the_plain_scan(volumes, detector):
    shift = np.random.default_rng(1).choice([-1.3, 1.3], (7, 3))
    scan = {**SCAN, **DETECTORS[detector], "focal_shift_mm": shift, "row_lo": np.arange(7) % 3}
    found, exact = project_tilted(volumes, tilt_rad=0.0, **scan), project_reference(volumes, **scan)
    assert np.abs(found - exact).max() <= 1e-6 * exact.max()


def test_parallel_beam_is_a_distant_focal_spot(volumes):
    u, angle, heights = np.linspace(-100.0, 100.0, 31), [0.3, 1.2, 3.9], [0.3, 5.0]
    found = project_parallel(
        volumes, **GRID, view_angle_rad=angle, u_mm=u, row_mm=heights, isocentre_mm=(3.0, -2.0)
    )
    far = {
        **SCAN,
        "view_angle_rad": angle,
        "source_to_isocentre_mm": 1e7,
        "source_to_detector_mm": 1e7 + 500.0,
    }
    for row, z in enumerate(heights):
        far.update(source_z_mm=z, row_mm=[0.0], u_mm=u * (1.0 + 5e-5))
        # rays fan out by 1e-5 of the length of the volume
        assert (
            np.abs(found[:, :, row] - project_reference(volumes, **far)[:, :, 0]).max() < 1e-4 * found.max()
        )


def test_tilted_rays_meet_a_ball_where_it_is():
    # Where the middle of a small ball is seen tells the geometry: the gantry's frame turned about x.
    tilt, centre = 0.3, np.array([20.0, -31.0, 12.0])
    ball = Ellipsoid(
        name="ball", material="water", diameter_mm=12.0, centre_mm=dict(zip("xyz", centre, strict=True))
    )
    z, y, x = np.meshgrid(*((np.arange(120) - 59.5) for _ in range(3)), indexing="ij")
    inside = ball.contains(np.stack([x, y, z], -1)).astype(np.float32)[None]
    u, v = np.linspace(-130.0, 130.0, 261), np.linspace(-80.0, 80.0, 161)
    angle, table = np.array([0.0, 1.1, 2.9]), np.array([0.0, 4.0, -6.0])
    found = project_tilted(
        inside, tilt_rad=tilt, spacing_mm=(1, 1, 1), origin_mm=(-59.5, -59.5, -59.5), view_angle_rad=angle,
        source_z_mm=table, source_to_isocentre_mm=570.0, source_to_detector_mm=1040.0, u_mm=u, row_mm=v,
    )[0]  # fmt: skip
    for i in range(3):
        x0, y0, z0 = centre - [0.0, 0.0, table[i]]
        # into the gantry's frame: above 0 its anterior side (negative y) leans towards the feet (negative z)
        y0, z0 = np.cos(tilt) * y0 + np.sin(tilt) * z0, np.cos(tilt) * z0 - np.sin(tilt) * y0
        s, c = np.sin(angle[i]), np.cos(angle[i])
        depth = 570.0 + y0 * c - x0 * s
        mean = found[i].sum()
        assert (found[i] * u).sum() / mean == pytest.approx(1040.0 * (x0 * c + y0 * s) / depth, abs=0.2)
        assert (found[i] * v[:, None]).sum() / mean == pytest.approx(1040.0 * z0 / depth, abs=0.2)


def test_refuses():
    with pytest.raises(InputError, match="start_mm and end_mm"):
        trace(
            np.ones((1, 2, 2, 2)),
            spacing_mm=(1, 1, 1),
            origin_mm=(0, 0, 0),
            start_mm=np.ones((2, 3)),
            end_mm=np.ones(3),
        )
    with pytest.raises(InputError, match="n_basis, nz, ny, nx"):
        trace(
            np.ones((2, 2, 2)),
            spacing_mm=(1, 1, 1),
            origin_mm=(0, 0, 0),
            start_mm=np.ones((2, 3)),
            end_mm=np.ones((2, 3)),
        )
