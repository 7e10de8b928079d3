"""Tube-current modulation: the square-root law, its mean and limits, one curve for image and dose."""

import numpy as np
import pytest

from twinlab import dose
from twinlab.ct.scan import mas_per_view
from twinlab.phantom import assemble
from twinlab.scanner import (
    current_of_slices,
    load_protocol,
    modulated,
    relative_mas,
    trajectory,
    water_width,
)
from twinlab.scanner.exposure import WATER_PER_MM
from twinlab.schema import InputError, label

LONG, SHORT, TILT = 160.0, 100.0, np.deg2rad(30.0)


@pytest.fixture(scope="module")
def phantom():
    """Elliptical cylinder of water, half axes 160 and 100 mm, the long one 30 degrees from x; thin above z = 0."""
    x = (np.arange(90) - 44.5) * 4.0
    z = (np.arange(12) - 5.5) * 20.0
    yy, xx = np.meshgrid(x, x, indexing="ij")
    along = xx * np.cos(TILT) + yy * np.sin(TILT)
    across = -xx * np.sin(TILT) + yy * np.cos(TILT)
    inside = (along / LONG) ** 2 + (across / SHORT) ** 2 < 1
    material = np.broadcast_to(inside, (12, 90, 90)).astype(np.uint8)
    density = np.where(material > 0, np.where(z > 0, 0.5, 1.0)[:, None, None], 0.001205)
    left = (material > 0) & (xx > 0)
    return assemble(
        material=material,
        density=density,
        organ=np.where(material > 0, np.where(left, 2, 1), 0),
        material_names=["air", "water"],
        organ_names={0: "outside", 1: "right half", 2: "left half"},
        z=z,
        y=x,
        x=x,
        name="ellipse",
        source="made for this test",
    )


@pytest.fixture(scope="module")
def protocol():
    return load_protocol("abdomen_pelvis").replace(tube_current_ma=200.0)


@pytest.fixture(scope="module")
def path(protocol):
    return trajectory(protocol, z_range_mm=(-60.0, 60.0))


@pytest.fixture(scope="module")
def width(phantom):
    return water_width(phantom)


def chord(angle):
    """Through the middle of the ellipse, along the central ray (-sin b, cos b) of view angle b."""
    along = -np.sin(angle) * np.cos(TILT) + np.cos(angle) * np.sin(TILT)
    across = np.sin(angle) * np.sin(TILT) + np.cos(angle) * np.cos(TILT)
    return 2.0 / np.sqrt((along / LONG) ** 2 + (across / SHORT) ** 2)


def test_width_is_that_of_the_ellipse_from_every_side(width):
    angle = width["angle"].to_numpy()
    expected = chord(angle)
    # the mean over 100 mm is below the middle's chord by 6 % at most (half axis 100 mm); 8 mm voxels blur
    found = width.isel(z=0).to_numpy()
    assert np.abs(found / expected - 0.965).max() < 0.035
    assert angle[int(found.argmax())] == pytest.approx(angle[int(expected.argmax())], abs=np.pi / 24 + 1e-9)
    np.testing.assert_allclose(width.isel(z=-1), 0.5 * found, rtol=0.01)  # half the density; air


def test_square_root_law(path, protocol, width):
    """Gies 1999: the current goes as the root of the attenuation when the strength is a half."""
    flat = width.isel(z=slice(0, 3)).assign_coords(z=[-100.0, 0.0, 100.0])
    curve = modulated(path, protocol, width=flat, angular=0.5, longitudinal=0.0, min_ma=1.0)
    turn = np.mod(path["view_angle"].to_numpy(), np.pi)
    seen = np.interp(turn, flat["angle"], flat[0], period=np.pi)
    attenuation = np.exp(WATER_PER_MM * seen)
    ratio = curve["tube_current"] / np.sqrt(attenuation)
    np.testing.assert_allclose(ratio, float(ratio[0]), rtol=1e-3)
    assert float(curve["tube_current"].max() / curve["tube_current"].min()) > 2.0


def test_root_of_the_attenuation_gives_least_noise(path, protocol, width):
    """Noise in the middle of an image is the mean of attenuation over current; Gies' exponent minimises it."""
    flat = width.isel(z=slice(0, 3)).assign_coords(z=[-100.0, 0.0, 100.0])
    noise = {}
    for strength in (0.0, 0.4, 0.5, 0.6, 1.0):
        curve = modulated(path, protocol, width=flat, angular=strength, longitudinal=0.0, min_ma=1.0)
        seen = np.interp(np.mod(path["view_angle"], np.pi), flat["angle"], flat[0], period=np.pi)
        noise[strength] = float(np.mean(np.exp(WATER_PER_MM * seen) / curve["tube_current"].to_numpy()))
    assert min(noise, key=noise.__getitem__) == 0.5
    assert noise[0.0] == pytest.approx(noise[1.0], rel=1e-6)  # symmetric about it
    assert noise[0.5] < 0.95 * noise[0.0]


@pytest.mark.parametrize("limits", [(1.0, None), (150.0, 260.0)])
def test_mean_and_limits(path, protocol, width, limits):
    low, high = limits
    curve = modulated(path, protocol, width=width, min_ma=low, max_ma=high)["tube_current"]
    assert float(curve.mean()) == pytest.approx(200.0, rel=1e-9)
    assert float(curve.min()) >= low
    assert float(curve.max()) <= (high or protocol.scanner.tube.max_tube_current_ma)
    # the dense half below gets more
    z = path["source_z"].to_numpy()
    assert float(curve[z < -30].mean()) > float(curve[z > 30].mean())


def test_strength_zero_is_a_fixed_current(path, protocol, width):
    curve = modulated(path, protocol, width=width, angular=0.0, longitudinal=0.0)["tube_current"]
    np.testing.assert_allclose(curve, 200.0, rtol=1e-9)


def test_current_of_slices(path):
    curve = current_of_slices(path, z_mm=[50.0, -50.0], tube_current_ma=[100.0, 300.0])["tube_current"]
    z = path["source_z"].to_numpy()
    np.testing.assert_allclose(curve, np.clip(200.0 - 2.0 * z, 100.0, 300.0))


def test_one_curve_drives_image_and_dose(phantom, path, protocol, width):
    """Current for lateral views only: the dose moves to the sides, and the readings' mAs follow the same curve."""
    side = np.abs(np.sin(path["view_angle"].to_numpy()))
    curve = path.assign(
        tube_current=label("tube_current", np.where(np.sin(path["view_angle"]) > 0.5, 560.0, 20.0))
    )
    curve["tube_current"] *= 200.0 / float(curve["tube_current"].mean())
    share = relative_mas(curve)
    assert share.mean() == pytest.approx(1.0)
    per_view = mas_per_view(curve, protocol)
    np.testing.assert_allclose(per_view / per_view.mean(), share, rtol=1e-6)
    # the dose of the whole scan is for the same mAs: mean current x time of all turns
    assert per_view.sum(dtype=float) == pytest.approx(protocol.mas * side.size / 984, rel=1e-6)
    given = {
        "z_range_mm": (-60.0, 60.0),
        "histories": 30_000,
        "seed": 1,
        "voxel_map": False,
        "extend_mm": 0.0,
    }
    even, shaped = (dose.simulate(phantom, protocol, relative_mas=r, **given) for r in (None, share))
    ratio = [float(run["organ_dose"][1] / run["organ_dose"][0]) for run in (even, shaped)]
    # even: not quite 1, the turns are not whole; tube on the side of +x (sin b > 0): the left half gets more
    assert ratio[0] == pytest.approx(1.0, abs=0.15)
    assert ratio[1] > 1.3 * ratio[0]
    assert shaped.attrs["mas"] == even.attrs["mas"]


def test_refuses(phantom, path, protocol, width):
    with pytest.raises(InputError, match="strengths"):
        modulated(path, protocol, width=width, angular=1.5)
    with pytest.raises(InputError, match="limits"):
        modulated(path, protocol, width=width, max_ma=100.0)
    with pytest.raises(InputError, match="tube_current"):
        relative_mas(path)
    with pytest.raises(InputError, match="above 0"):
        current_of_slices(path, z_mm=[0.0], tube_current_ma=[0.0])
    with pytest.raises(InputError, match="one current per slice"):
        current_of_slices(path, z_mm=[0.0, 1.0], tube_current_ma=[10.0])
    with pytest.raises(InputError, match="n_angle"):
        water_width(phantom, n_angle=1)
