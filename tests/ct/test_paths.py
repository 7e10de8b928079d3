"""Line integrals of a scan: sub-samples, solids, tilt, windows over slices, geometry that makes no sense."""

import inspect

import numpy as np
import pytest
import xarray as xr
from scan_cases import small_phantom, small_protocol, small_trajectory

from twinlab.ct import paths as paths_module
from twinlab.ct import volume as volume_module
from twinlab.ct.paths import line_integrals, prepare_phantom
from twinlab.ct.sampling import Sample, sub_samples
from twinlab.ct.stream import scan_phantom
from twinlab.kernels.columns import prepare_materials
from twinlab.kernels.project import project_reference
from twinlab.phantom import from_recipe
from twinlab.phantom.recipes import Recipe
from twinlab.phantom.shapes import Cylinder, Ellipsoid
from twinlab.physics.attenuation import mass_attenuation
from twinlab.scanner import Protocol, trajectory
from twinlab.schema import InputError, label

ROUNDING = 2e-6  # float32 sums in another order


def protocol_with(*, protocol=None, scanner=None, tube=None, detector=None, **settings) -> Protocol:
    """The small protocol with other parts."""
    data = small_protocol(**settings).model_dump()
    data.update(protocol or {})
    data["scanner"].update(scanner or {})
    data["scanner"]["tube"].update(tube or {})
    data["scanner"]["detector"].update(detector or {})
    return Protocol.make(data)


def water_recipe(*shapes, size=(280.0, 280.0, 60.0), **more):
    cylinder = {
        "shape": "cylinder",
        "name": "water",
        "material": "water",
        "diameter_mm": 200,
        "length_mm": 400,
    }
    return Recipe.make(
        {
            "name": "made_up",
            "title": "made up",
            "source": "test",
            "spacing_mm": {"x": 2, "y": 2, "z": 2},
            "size_mm": dict(zip("xyz", size, strict=True)),
            "shapes": [cylinder, *shapes],
            **more,
        }
    )


ROD = {
    "shape": "cylinder",
    "name": "rod",
    "material": "bone_cortical",
    "diameter_mm": 50,
    "length_mm": 400,
    "centre_mm": {"x": 40},
}


def attenuation(paths: xr.Dataset) -> xr.DataArray:
    """Line integral of attenuation at each energy."""
    return xr.dot(
        paths["path"], paths["basis_mu"].sel(energy=[50.5, 70.5, 100.5], method="nearest"), dim="basis"
    )


def test_a_recipe_is_the_limit_of_its_voxels():
    protocol = small_protocol()
    path = small_trajectory(protocol).isel(view=slice(0, 36, 4))
    error = {}
    exact = attenuation(line_integrals(water_recipe(ROD), protocol, path))
    for step in (8.0, 4.0, 2.0):
        voxels = from_recipe(water_recipe(ROD), spacing_mm=(10.0, step, step))
        found = attenuation(line_integrals(voxels, protocol, path))
        error[step] = float(np.sqrt(((found - exact) ** 2).mean()) / exact.max())
    # voxels of mean density but of one material err at the border of bone and water; the rest falls with the voxel
    assert error[2.0] < 0.006
    assert error[2.0] < 0.5 * error[8.0]


def test_exact_chords_of_a_recipe():
    protocol = small_protocol()
    path = small_trajectory(protocol)
    paths = line_integrals(water_recipe(), protocol, path, n_basis=2)  # exact for two materials
    fan, row = paths["fan_angle"].to_numpy(), paths["row"].to_numpy()
    slant = np.sqrt(1.0 + (row[:, None] / 949.0) ** 2)
    chord = 2.0 * np.sqrt(np.maximum(100.0**2 - (541.0 * np.sin(fan)) ** 2, 0.0)) * slant
    mu = attenuation(paths).transpose("energy", "view", "row", "channel").to_numpy()
    energy = paths["energy"].sel(energy=[50.5, 70.5, 100.5], method="nearest")
    water, air = mass_attenuation(["water", "air"], energy)
    # the rest of the way through the box of air is known for the view along y
    middle = np.abs(fan) < 0.1
    ray = 280.0 / np.cos(fan) * slant
    expected = 0.1 * (water[:, None, None] * chord + 0.001205 * air[:, None, None] * (ray - chord))
    found = mu[:, 0][..., middle]
    # the requirement; float32 rounds to 1e-7
    assert np.abs(found - expected[..., middle]).max() < 1e-5 * expected.max()


def test_solids_on_voxels_replace_them():
    protocol = small_protocol()
    path = small_trajectory(protocol).isel(view=slice(0, 36, 5))
    phantom = small_phantom(("air", "water"), (0.001205, 1.0))
    plain = line_integrals(phantom, protocol, path)
    ball = Ellipsoid(
        name="ball", material="water", density_g_cm3=1.5, diameter_mm=30.0, centre_mm={"x": 20, "y": 10}
    )
    same = Ellipsoid(
        name="same", material="water", density_g_cm3=1.0, diameter_mm=30.0, centre_mm={"x": 20, "y": 10}
    )
    unchanged = line_integrals(phantom, protocol, path, objects=[same])
    assert np.abs(unchanged["path"] - plain["path"]).max() < ROUNDING * plain["path"].max()
    mixed = line_integrals(phantom, protocol, path, objects=[ball])
    # what it adds does not depend on what carries it
    empty = phantom.assign(density=phantom["density"] * 0.0)
    alone = line_integrals(empty, protocol, path, objects=[ball])
    assert np.abs(mixed["path"] - plain["path"] - alone["path"] / 3.0).max() < ROUNDING * plain["path"].max()


def test_solids_bring_their_material():
    phantom = small_phantom(("air", "water"), (0.001205, 1.0))
    protocol = small_protocol()
    rod = Cylinder(name="rod", material="iron", diameter_mm=5.0, length_mm=30.0)
    paths = line_integrals(phantom, protocol, small_trajectory(protocol), objects=[rod])
    assert "iron" in list(paths["mixed_material"].values)
    assert paths.attrs["basis_error"] < 5e-4


@pytest.mark.parametrize("shape", ["arc", "flat"])
def test_samples_are_the_scan_from_there(shape):
    phantom = small_phantom()
    plain = protocol_with(shape=shape, protocol={"mode": "helical", "pitch": 0.9})
    path = trajectory(plain, z_range_mm=(-6.0, 6.0))
    pitch, row = 820.0 / 64, 4.4
    # a cell moved by one whole cell is its neighbour
    moved = line_integrals(phantom, plain, path, sample=Sample(channel_fraction=1.0))["path"].to_numpy()
    middle = line_integrals(phantom, plain, path)["path"].to_numpy()
    assert np.abs(moved[..., :-1] - middle[..., 1:]).max() < ROUNDING * middle.max()
    moved = line_integrals(phantom, plain, path, sample=Sample(row_fraction=-1.0))["path"].to_numpy()
    assert np.abs(moved[:, :, 1:] - middle[:, :, :-1]).max() < ROUNDING * middle.max()
    # one whole view later is the next view, table and all
    later = line_integrals(phantom, plain, path, sample=Sample(view_fraction=1.0))["path"].to_numpy()
    assert np.abs(later[:, :-1] - middle[:, 1:]).max() < ROUNDING * middle.max()
    # focal spot up and cells with it: the table moved
    up = Sample(shift_mm=(0.0, 0.0, row), row_fraction=1.0)
    table = path.assign(source_z=path["source_z"] + row)
    table.attrs = path.attrs
    found, expected = line_integrals(phantom, plain, path, sample=up), line_integrals(phantom, plain, table)
    assert np.abs(found["path"] - expected["path"]).max() < ROUNDING * middle.max()
    assert pitch > 0


def test_lattice_of_samples():
    assert sub_samples(small_protocol()) == (Sample(),)
    protocol = protocol_with(
        protocol={"sampling": {"focal_width": 2, "focal_length": 3, "cell_channel": 2, "view": 2}},
        tube={"focal_spot_mm": (1.0, 1.2), "anode_angle_deg": 10.0},
        detector={"fill_factor": 0.81},
    )
    samples = sub_samples(protocol)
    assert len(samples) == 24
    assert sum(s.weight for s in samples) == pytest.approx(1.0)
    shift = np.array([s.shift_mm for s in samples])
    assert shift.mean(axis=0) == pytest.approx(np.zeros(3), abs=1e-12)
    assert np.unique(shift[:, 0]) == pytest.approx([-0.25, 0.25])
    assert np.unique(shift[:, 2]) == pytest.approx([-0.4, 0.0, 0.4])
    # on the slope of the target, 10 degrees from the central ray
    assert shift[:, 1] == pytest.approx(shift[:, 2] / np.tan(np.radians(10.0)))
    assert np.unique([s.channel_fraction for s in samples]) == pytest.approx([-0.225, 0.225])
    assert {s.row_fraction for s in samples} == {0.0}
    assert np.unique([s.view_fraction for s in samples]) == pytest.approx([-0.25, 0.25])


def test_flying_focal_spot_goes_through():
    spot = {"in_plane_mm": 1.5, "z_mm": 0.8, "radial_mm": 4.0}
    protocol = protocol_with(protocol={"flying_focal_spot": "both"}, tube={"flying_focal_spot": spot})
    path = small_trajectory(protocol)
    shift = path["focal_shift"].to_numpy()
    assert np.array_equal(
        shift[:4], [[1.5, 4.0, 0.8], [-1.5, 4.0, 0.8], [1.5, -4.0, -0.8], [-1.5, -4.0, -0.8]]
    )
    paths = line_integrals(small_phantom(), protocol, path)
    assert paths["focal_shift"].identical(path["focal_shift"])
    still = path.drop_vars("focal_shift")
    still.attrs = path.attrs
    by_hand = line_integrals(small_phantom(), protocol, still, sample=Sample(shift_mm=(-1.5, 4.0, 0.8)))
    assert np.array_equal(paths["path"][:, 1::4], by_hand["path"][:, 1::4])


def test_tilted_voxels_are_the_tilted_solids():
    protocol = protocol_with(
        protocol={"gantry_tilt_deg": 20.0}, scanner={"max_gantry_tilt_deg": 30.0}, n_rows=8
    )
    path = trajectory(protocol, z_range_mm=(-20.0, 20.0), isocentre_mm=(3.0, -4.0)).isel(view=slice(0, 72, 9))
    assert path.attrs["gantry_tilt_deg"] == 20.0
    ball = {
        "shape": "ellipsoid",
        "name": "ball",
        "material": "bone_cortical",
        "diameter_mm": 40,
        "centre_mm": {"y": 40, "z": 8},
    }
    # the water ends well inside the beam only when it leans
    recipe = water_recipe(ball, size=(240.0, 240.0, 240.0))
    exact = attenuation(line_integrals(recipe, protocol, path))
    voxels = from_recipe(recipe, spacing_mm=(2.0, 3.0, 3.0))
    found = attenuation(line_integrals(voxels, protocol, path))
    # 3 mm voxels: half a voxel at the rim of a chord of 200 mm
    assert float(np.sqrt(((found - exact) ** 2).mean()) / exact.max()) < 0.01
    upright = attenuation(
        line_integrals(voxels, small_protocol(n_rows=8), path.assign_attrs(gantry_tilt_deg=0.0))
    )
    assert float(np.sqrt(((upright - exact) ** 2).mean()) / exact.max()) > 0.03


@pytest.mark.parametrize("tilt", [0.0, 15.0])
def test_only_the_slices_in_view_are_laid_out(monkeypatch, tilt):
    mode = {"gantry_tilt_deg": tilt} if tilt else {"mode": "helical", "pitch": 1.0}
    protocol = protocol_with(protocol=mode, scanner={"max_gantry_tilt_deg": 30.0})
    phantom = small_phantom()
    rng = np.random.default_rng(0)
    density = np.repeat(phantom["density"].to_numpy(), 30, axis=0)
    density[density > 0.5] *= rng.uniform(0.8, 1.2, int((density > 0.5).sum())).astype(np.float32)
    tall = xr.Dataset(
        {
            "material": label("material", np.repeat(phantom["material"].to_numpy(), 30, axis=0)),
            "density": label("density", density),
            "material_name": phantom["material_name"],
        },
        coords={"z": np.arange(240) - 119.5, "y": phantom["y"], "x": phantom["x"]},
    )
    whole = trajectory(protocol, z_range_mm=(-60.0, 60.0))
    block = whole.isel(view=slice(30, 50))
    block.attrs = whole.attrs
    rows = (np.arange(20) % 2, 4)
    expected = line_integrals(tall, protocol, block, rows=rows)["path"]
    monkeypatch.setattr(volume_module, "WHOLE_BYTES", 0)
    seen = []
    lay_out = volume_module.Volume._volumes if tilt else volume_module.prepare_materials

    def spy(*args, **more):
        found = lay_out(*args, **more)
        seen.append(found.shape[1])
        return found

    if tilt:
        monkeypatch.setattr(volume_module.Volume, "_volumes", spy)
    else:
        monkeypatch.setattr(volume_module, "prepare_materials", spy)
    volume = prepare_phantom(tall, protocol)
    found = line_integrals(tall, protocol, block, rows=rows, volume=volume)["path"]
    assert max(seen) <= (176 if tilt else 80)
    assert float(np.abs(found - expected).max()) <= ROUNDING * float(expected.max())
    # the next block of the same slices is not laid out again
    line_integrals(tall, protocol, block, rows=rows, volume=volume)
    assert len(seen) == (2 if tilt else 1)


def test_many_views_are_projected_in_parts(monkeypatch):
    protocol = protocol_with(protocol={"mode": "helical", "pitch": 1.0})
    phantom = small_phantom().assign_coords(z=(np.arange(8) - 3.5) * 12.0)
    path = trajectory(protocol, z_range_mm=(-40.0, 40.0))
    shift = np.random.default_rng(0).choice([-1.0, 1.0], (path.sizes["view"], 3))
    path = path.assign(focal_shift=label("focal_shift", shift))
    expected = line_integrals(phantom, protocol, path)["path"]
    monkeypatch.setattr(volume_module, "WHOLE_BYTES", 0)
    monkeypatch.setattr(volume_module, "WINDOW_SLICES", 1)
    windows = []
    monkeypatch.setattr(
        volume_module,
        "prepare_materials",
        lambda m, *a, **k: (windows.append(len(m)), prepare_materials(m, *a, **k))[1],
    )
    found = line_integrals(phantom, protocol, path)["path"]
    assert len(windows) >= path.sizes["view"] // 64
    assert max(windows) < 8
    assert float(np.abs(found - expected).max()) <= ROUNDING * float(expected.max())


def test_truncation_is_said():
    wide = small_phantom(radius_mm=120.0)
    assert (
        line_integrals(wide, small_protocol(), small_trajectory(small_protocol())).attrs["truncated"] == 0.0
    )
    narrow = protocol_with(detector={"channel_pitch_mm": 4.0}, protocol={"reconstruction_fov_mm": 100.0})
    assert line_integrals(wide, narrow, small_trajectory(narrow)).attrs["truncated"] == 1.0
    # half of an offset panel ends inside the patient by design
    panel = protocol_with(
        shape="flat",
        detector={"channel_pitch_mm": 8.0, "channel_offset": 31.0},
        protocol={"reconstruction_fov_mm": 1.0},
    )
    assert line_integrals(wide, panel, small_trajectory(panel)).attrs["truncated"] == 0.0


def test_views_beyond_the_phantom_are_said():
    protocol = small_protocol()
    assert (
        line_integrals(small_phantom(), protocol, small_trajectory(protocol)).attrs["beyond_phantom"] == 0.0
    )
    path = trajectory(protocol, z_range_mm=(-4.0, 40.0))
    found = line_integrals(small_phantom(), protocol, path).attrs["beyond_phantom"]
    steps = path["source_z"].to_numpy().reshape(-1, 36)[:, 0]
    assert found == pytest.approx(np.mean(np.abs(steps) + 1.5 * 4.4 * 541 / 949 > 20.0))


def test_refuses_what_cannot_be_scanned():
    protocol = small_protocol()
    path = small_trajectory(protocol)
    with pytest.raises(InputError, match="the focal spot"):
        line_integrals(water_recipe({**ROD, "diameter_mm": 1100.0}), protocol, path)
    with pytest.raises(InputError, match="in the fan"):
        line_integrals(small_phantom().assign_coords(x=small_phantom()["x"] + 400.0), protocol, path)
    with pytest.raises(InputError, match="one row or more"):
        line_integrals(small_phantom(), protocol, path, rows=(2, 2))
    with pytest.raises(InputError, match="a view or more"):
        line_integrals(small_phantom(), protocol, path.isel(view=slice(0, 0)))
    for density in (np.nan, np.inf, -0.1):
        broken = small_phantom().copy(deep=True)
        broken["density"][0, 3, 3] = density
        with pytest.raises(InputError, match="finite density of 0 or more"):
            line_integrals(broken, protocol, path)
    with pytest.raises(InputError, match="device"):
        line_integrals(small_phantom(), protocol, path, device="gpu")


def test_device_keyword_takes_the_same_rays(monkeypatch):
    """The kernel itself runs in the simulator (tests/kernels); here it is asked with what it understands."""
    protocol = protocol_with(
        protocol={"flying_focal_spot": "z"}, tube={"flying_focal_spot": {"z_mm": 0.8, "radial_mm": 4.0}}
    )
    path = small_trajectory(protocol)
    signature = inspect.signature(volume_module.cuda_project.project_cuda)

    def on_the_cpu(volumes, *, tilt_rad, **scan):
        signature.bind(volumes, tilt_rad=tilt_rad, **scan)
        assert tilt_rad == 0.0
        return project_reference(volumes, **scan)

    monkeypatch.setattr(volume_module.cuda_project, "project_cuda", on_the_cpu)
    monkeypatch.setattr(paths_module, "resolve", lambda device, where: device)
    found = line_integrals(small_phantom(), protocol, path, device="cuda")["path"]
    expected = line_integrals(small_phantom(), protocol, path)["path"]
    assert float(np.abs(found - expected).max()) <= ROUNDING * float(expected.max())


def test_air_alone_is_no_object():
    air = small_phantom().assign(density=small_phantom()["density"] * 0.001)
    paths = line_integrals(air, small_protocol(), small_trajectory(small_protocol()))
    assert np.isfinite(paths["path"]).all()


def test_an_object_missed_along_z_is_said():
    protocol = small_protocol()
    path = small_trajectory(protocol)
    disc = {"shape": "cylinder", "name": "d", "material": "water", "diameter_mm": 200.0, "length_mm": 4.0}
    recipe = Recipe.make(water_recipe().model_dump() | {"shapes": [disc]})
    # every view sees the disc, and has rows at 3.8 mm above and below it: nothing to warn of
    assert line_integrals(recipe, protocol, path).attrs["beyond_phantom"] == 1.0
    far = path.assign(source_z=path["source_z"] + 60.0)
    for phantom in (recipe, small_phantom()):
        for scan in (
            lambda body: line_integrals(body, protocol, far),
            lambda body: scan_phantom(body, protocol, trajectory=far, seed=1, noise=False),
        ):
            with pytest.warns(UserWarning, match="misses the object"):
                assert scan(phantom).attrs["beyond_phantom"] == 1.0
