"""Tube-current modulation: the square-root law, its mean and limits, one curve for image and dose."""

import numpy as np
import pydicom
import pytest

from twinlab import dose
from twinlab.ct.export.series import write_dicom
from twinlab.ct.scan import mas_per_view
from twinlab.phantom import assemble, water_equivalent_diameter
from twinlab.scanner import (
    automatic_exposure,
    current_of_series,
    current_of_slices,
    effective_mas_for,
    load_protocol,
    modulated,
    organ_based,
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


def test_organ_based_current(path, protocol):
    """A quarter of the current over the anterior 120 degrees, 1.375 of it elsewhere, the mean kept."""
    curve = organ_based(path, protocol)["tube_current"].to_numpy()
    front = np.cos(path["view_angle"].to_numpy()) > 0.5 - 1e-9  # within 60 degrees of the front
    assert np.unique(np.round(curve, 9)).size == 2
    np.testing.assert_allclose(curve[front], 50.0)
    assert curve.mean() == pytest.approx(200.0, rel=1e-12)
    # whole turns have a third of the views in the arc: (1 - 1/12) / (2/3); this scan is not whole turns
    share = front.mean()
    np.testing.assert_allclose(curve[~front], 200.0 * (1 - 0.25 * share) / (1 - share))
    turn = organ_based(path.isel(view=slice(0, 984)), protocol)["tube_current"].to_numpy()
    assert turn.max() == pytest.approx(200.0 * 1.375, rel=2e-3)  # 328 views and the arc's edges
    # on top of a curve, within a range, without compensation
    shaped = path.assign(tube_current=label("tube_current", 100.0 + path["source_z"].to_numpy()))
    only = organ_based(
        shaped,
        protocol,
        arc_deg=180.0,
        level=0.6,
        centre_deg=180.0,
        z_range_mm=(-20.0, 20.0),
        compensate=False,
    )
    ratio = only["tube_current"].to_numpy() / shaped["tube_current"].to_numpy()
    low = (np.abs(path["source_z"].to_numpy()) <= 20.0) & (np.cos(path["view_angle"].to_numpy()) < -1e-9)
    np.testing.assert_allclose(ratio[low], 0.6)
    np.testing.assert_allclose(ratio[~low & (np.abs(np.cos(path["view_angle"])) > 1e-9)], 1.0)


def test_organ_based_refuses(path, protocol):
    with pytest.raises(InputError, match="level of 0 to 1"):
        organ_based(path, protocol, level=1.5)
    with pytest.raises(InputError, match="views in the arc"):
        organ_based(path, protocol, z_range_mm=(500.0, 600.0))
    with pytest.raises(InputError, match="at most 250 mA"):
        organ_based(path, protocol, max_ma=250.0)


def test_automatic_exposure_is_one_call(phantom, width):
    """Mean current from the patient's size and the quality reference, its course from the attenuation."""
    reference = load_protocol("abdomen_pelvis")
    assert reference.quality_reference_mas is not None
    plan, curve = automatic_exposure(phantom, reference, z_range_mm=(-60.0, 60.0))
    diameter = water_equivalent_diameter(phantom, kv=reference.kv)
    mean = float(diameter.sel(z=slice(-60.0, 60.0)).mean())
    assert plan.effective_mas == pytest.approx(effective_mas_for(reference, dw_mm=mean), rel=1e-9)
    current = plan.mas / plan.rotation_time_s
    assert float(curve["tube_current"].mean()) == pytest.approx(current, rel=1e-6)
    by_hand = modulated(trajectory(plan, z_range_mm=(-60.0, 60.0)), plan, width=width)
    np.testing.assert_array_equal(curve["tube_current"], by_hand["tube_current"])
    with pytest.raises(InputError, match="slices of"):
        automatic_exposure(phantom, reference, z_range_mm=(500.0, 600.0))


def test_current_from_the_headers_of_a_series(tmp_path, path, protocol):
    """Headers written from one curve give it back, slice by slice; the dose gets its mAs."""
    z = np.arange(-50.0, 51.0, 10.0)
    pixel = (np.arange(16) - 7.5) * 20.0
    image = label("hu", np.zeros((z.size, 16, 16), np.float32), {"z": z, "y": pixel, "x": pixel})
    rising = path.assign(tube_current=label("tube_current", 200.0 + path["source_z"].to_numpy()))
    files = write_dicom(image, tmp_path / "series", protocol=protocol, projections=rising)
    found = current_of_series(path, tmp_path / "series")["tube_current"].to_numpy()
    inside = np.abs(path["source_z"].to_numpy()) < 40.0
    # headers have whole mA, and each slice the mean over the beam that crosses it
    np.testing.assert_allclose(found[inside], rising["tube_current"].to_numpy()[inside], atol=1.5)
    header = pydicom.dcmread(files[3])
    del header.XRayTubeCurrent
    header.save_as(files[3])
    with pytest.raises(InputError, match="none in 1 of 11"):
        current_of_series(path, tmp_path / "series")
    with pytest.raises(InputError, match="no such folder"):
        current_of_series(path, tmp_path / "nothing")


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
