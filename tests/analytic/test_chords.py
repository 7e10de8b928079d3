"""Line integrals through a sphere and a box against their analytic chords.

The shapes are voxelised by volume fraction (a voxel holds the share of its volume that lies inside), as
partial volumes in an image are; the remaining error is then that of the voxels themselves.
"""

import numpy as np
import pytest

from twinlab.kernels.project import detector_rays, project

RADIUS_MM = 60.0
HALF_BOX_MM = np.array([38.25, 56.6, 42.4])  # z, y, x; off the voxels' faces
ISO = (4.0, -3.0)
DISTANCES = {"source_to_isocentre_mm": 541.0, "source_to_detector_mm": 949.0}
DETECTORS = {
    "arc": {"fan_angle_rad": np.linspace(-0.13, 0.13, 121)},
    "flat": {"u_mm": np.linspace(-125.0, 125.0, 121)},
}
ROWS = np.linspace(-112.0, 112.0, 31)
ANGLES = (
    np.linspace(0.0, 2 * np.pi, 13)[:-1] + np.pi / 12
)  # never along a face of the box, where a voxel of half the density is half the chord


def axis(spacing):
    n = int(np.ceil(2 * 62.0 / spacing))
    return (np.arange(n) - (n - 1) / 2) * spacing


def sphere_fraction(spacing):
    """Share of each voxel inside the sphere, by 7 x 7 x 7 points in voxels that its surface may cut."""
    centre = axis(spacing)
    z, y, x = np.meshgrid(centre, centre, centre, indexing="ij")
    distance = np.sqrt(z * z + y * y + x * x)
    fraction = (distance < RADIUS_MM).astype(np.float32)
    cut = np.abs(distance - RADIUS_MM) < 0.87 * spacing
    offset = ((np.arange(7) + 0.5) / 7 - 0.5) * spacing
    dz, dy, dx = (o.ravel() for o in np.meshgrid(offset, offset, offset, indexing="ij"))
    inside = (z[cut][:, None] + dz) ** 2 + (y[cut][:, None] + dy) ** 2 + (
        x[cut][:, None] + dx
    ) ** 2 < RADIUS_MM**2
    fraction[cut] = inside.mean(axis=1)
    return fraction


def box_fraction(spacing):
    """Share of each voxel inside the box, exactly."""
    centre = axis(spacing)
    shares = [np.clip((half + 0.5 * spacing - np.abs(centre)) / spacing, 0.0, 1.0) for half in HALF_BOX_MM]
    return np.einsum("i,j,k->ijk", *shares).astype(np.float32)


def rays(detector):
    """Starts and unit directions (view, row, channel, zyx), relative to the centre of the shapes."""
    along, across, length = detector_rays(
        source_to_detector_mm=DISTANCES["source_to_detector_mm"], **DETECTORS[detector]
    )
    s, c = np.sin(ANGLES)[:, None, None], np.cos(ANGLES)[:, None, None]
    radius = DISTANCES["source_to_isocentre_mm"]
    shape = (ANGLES.size, ROWS.size, length.size)
    start = np.stack(np.broadcast_arrays(np.zeros(shape), ISO[1] - radius * c, ISO[0] + radius * s), -1)
    towards = [ROWS[None, :, None], length * (along * c + across * s), length * (-along * s + across * c)]
    direction = np.stack(np.broadcast_arrays(*towards, np.zeros(shape))[:3], -1)
    return start, direction / np.linalg.norm(direction, axis=-1, keepdims=True)


def sphere_chord(detector):
    start, direction = rays(detector)
    along = (start * direction).sum(-1)
    off = (start**2).sum(-1) - along**2
    return 2.0 * np.sqrt(np.maximum(RADIUS_MM**2 - off, 0.0))


def box_chord(detector):
    start, direction = rays(detector)
    with np.errstate(divide="ignore"):
        near, far = (-HALF_BOX_MM - start) / direction, (HALF_BOX_MM - start) / direction
    first, last = np.minimum(near, far).max(-1), np.maximum(near, far).min(-1)
    return np.maximum(last - first, 0.0)


def rms_error(fraction, chord, detector, spacing):
    first = axis(spacing)[0]
    found = project(
        fraction,
        spacing_mm=(spacing,) * 3,
        origin_mm=(first,) * 3,
        view_angle_rad=ANGLES,
        source_z_mm=0.0,
        isocentre_mm=ISO,
        row_mm=ROWS,
        **DISTANCES,
        **DETECTORS[detector],
    )[0]
    return float(np.sqrt(np.mean((10.0 * found - chord) ** 2)) / chord.max())


@pytest.mark.parametrize("detector", ["arc", "flat"])
@pytest.mark.parametrize(
    ("voxelise", "chord"), [(sphere_fraction, sphere_chord), (box_fraction, box_chord)], ids=["sphere", "box"]
)
def test_chords_at_1_mm_and_convergence(voxelise, chord, detector):
    exact = chord(detector)
    error = {spacing: rms_error(voxelise(spacing), exact, detector, spacing) for spacing in (4.0, 2.0, 1.0)}
    # the requirement: 0.5 % RMS of the maximum at 1 mm
    assert error[1.0] < 0.005
    # Rays near the surface err by up to sqrt(radius * voxel), and their share falls as voxel / radius: the
    # RMS is proportional to the voxel. The box, whose faces fall at other shares of a voxel each time, is
    # less regular.
    assert error[1.0] < 0.4 * error[4.0]
    assert error[1.0] < 0.75 * error[2.0]


def test_projection_integrates_to_the_volume():
    # An absolute check of the scale: seen from 1 km, chords summed over a raster of rays give the volume. The
    # raster is not a multiple of the voxels, so that rays do not run along their faces; 2e-3 is its noise.
    step = 0.37
    u = np.arange(-65.0, 65.0, step)
    first = axis(2.0)[0]
    found = project(
        sphere_fraction(2.0),
        spacing_mm=(2.0,) * 3,
        origin_mm=(first,) * 3,
        view_angle_rad=[0.3],
        source_z_mm=0.0,
        source_to_isocentre_mm=1e6,
        source_to_detector_mm=1e6 + 100.0,
        u_mm=u,
        row_mm=u,
    )
    volume = 10.0 * step**2 * found.sum(dtype=float)
    assert volume == pytest.approx(4 / 3 * np.pi * RADIUS_MM**3, rel=2e-3)
