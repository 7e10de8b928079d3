"""Chords of a sphere against the distance of each ray from its centre, worked out ray by ray."""

import numpy as np
import pytest
import xarray as xr

from twinlab.quality.lesion import roi_grid, sphere_chords
from twinlab.schema import InputError

R, D = 541.0, 949.0


def geometry(shape: str) -> xr.Dataset:
    fan = (np.arange(80) - 39.25) * 1.1 / D
    channel = {"u": ("channel", fan * D)} if shape == "flat" else {"fan_angle": ("channel", fan)}
    return xr.Dataset(
        {"view_angle": ("view", np.linspace(0.1, 7.0, 9)), "source_z": ("view", np.linspace(-9, 11, 9))},
        coords={**channel, "row": (np.arange(16) - 7.5) * 1.2},
        attrs={
            "source_to_isocentre_mm": R,
            "source_to_detector_mm": D,
            "isocentre_x_mm": 3.0,
            "isocentre_y_mm": -4.0,
        },
    )


@pytest.mark.parametrize("shape", ["arc", "flat"])
def test_chords_equal_the_brute_force(shape):
    g = geometry(shape)
    centre, radius = np.array([12.0, -9.0, 2.0]), 6.0
    chords = sphere_chords(g, centre_mm=tuple(centre), radius_mm=radius)
    found = np.zeros((9, 16, 80))
    found[chords.view, chords.row, chords.channel] = chords.length_mm
    expected = np.zeros_like(found)
    for i, (b, zs) in enumerate(zip(g.view_angle.values, g.source_z.values, strict=True)):
        source = np.array([3.0 + R * np.sin(b), -4.0 - R * np.cos(b), zs])
        d, e = np.array([-np.sin(b), np.cos(b), 0]), np.array([np.cos(b), np.sin(b), 0])
        for c, fan in enumerate(g["u" if shape == "flat" else "fan_angle"].values):
            plane = D * d + fan * e if shape == "flat" else D * (np.cos(fan) * d + np.sin(fan) * e)
            for r, v in enumerate(g.row.values):
                ray = plane + np.array([0, 0, v])
                ray /= np.linalg.norm(ray)
                off = np.linalg.norm(np.cross(centre - source, ray))
                expected[i, r, c] = 2 * np.sqrt(max(radius**2 - off**2, 0))
    assert (expected > 0).sum() > 200
    # both are closed forms in float64; near-tangent rays lose digits in the square root
    assert found == pytest.approx(expected, abs=1e-5)


def test_sphere_in_the_tube_is_refused():
    with pytest.raises(InputError, match="gantry"):
        sphere_chords(geometry("arc"), centre_mm=(3 + R * np.sin(0.1), -4 - R * np.cos(0.1), 0), radius_mm=5)


def test_roi_has_a_pixel_at_its_centre():
    grid = roi_grid((10.0, -20.0, 5.0), size_mm=24, pixel_mm=0.7)
    assert 10.0 in grid["x"]
    assert -20.0 in grid["y"]
    assert grid["x"].size % 2 == 1
