"""Radiographs, localisers and cone-beam images: exact chords, known spectra, known noise, water at 0 HU."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import xarray as xr
from scan_cases import small_phantom, small_protocol

from twinlab.ct import acquire, line_integrals, reconstruct
from twinlab.ct.detector import efficiency
from twinlab.ct.localiser import scout
from twinlab.ct.radiography import radiograph, radiograph_paths
from twinlab.ct.stand import Radiography, on_gantry
from twinlab.phantom import Recipe, from_recipe, load_recipe
from twinlab.physics.attenuation import linear_attenuation_per_mm, mass_attenuation
from twinlab.physics.materials import get as material
from twinlab.physics.spectra import tube_spectrum
from twinlab.scanner import Sampling, load_protocol, load_scanner, trajectory
from twinlab.schema import InputError

PANEL = {
    "shape": "flat",
    "n_channels": 40,
    "n_rows": 24,
    "channel_pitch_mm": 8.0,
    "row_pitch_mm": 9.0,
    "absorber_material": "cesium_iodide",
    "absorber_thickness_mm": 0.6,
    "electronic_noise_kev": 500.0,
}
TUBE = {
    "anode_angle_deg": 12.0,
    "filters": {"aluminum": 3.0},
    "kv_stations": [70, 120],
    "max_tube_current_ma": 800,
}


def stand(**changes):
    """An oblique panel, off centre, seen from the side."""
    data = {
        "tube": TUBE,
        "detector": PANEL,
        "kv": 100.0,
        "mas": 2.0,
        "source_mm": {"x": -300.0, "y": -900.0, "z": 120.0},
        "panel_mm": {"x": 60.0, "y": 450.0, "z": -30.0},
        "right": {"x": 2.0, "y": 0.5, "z": 0.1},
        "up": {"x": -0.05, "y": 0.0, "z": 1.0},
    }
    return Radiography.make(data | changes)


def body(**changes):
    data = {
        "name": "two_solids",
        "title": "A ball in a box",
        "source": "made for a test",
        "spacing_mm": {"x": 2.0, "y": 2.0, "z": 2.0},
        "size_mm": {"x": 160.0, "y": 120.0, "z": 140.0},
        "shapes": [
            {"shape": "box", "name": "block", "material": "water", "size_mm": {"x": 120, "y": 80, "z": 100}},
            {
                "shape": "ellipsoid",
                "name": "ball",
                "material": "bone_cortical",
                "diameter_mm": {"x": 40, "y": 40, "z": 40},
                "centre_mm": {"x": 20, "y": 6, "z": -12},
            },
        ],
    }
    return Recipe.make(data | changes)


def masses(paths):
    """Mass of each material on the rays, from the basis: (material, row, channel)."""
    names = list(dict.fromkeys(str(n) for n in paths["mixed_material"].to_numpy()))
    mu = mass_attenuation(names, paths["energy"].to_numpy())
    coefficients = np.linalg.lstsq(paths["basis_mu"].to_numpy().T, mu.T, rcond=None)[0]
    return names, np.einsum("km,krc->mrc", np.linalg.pinv(coefficients).T, paths["path"].to_numpy()[:, 0])


def test_the_geometry_of_a_panel_is_what_was_said():
    s = stand()
    cells = s.cell_centres_mm()
    assert cells.shape == (24, 40, 3)
    np.testing.assert_allclose(cells.mean(axis=(0, 1)), s.panel_mm.array, atol=1e-9)
    np.testing.assert_allclose(np.linalg.norm(cells[0, 1] - cells[0, 0]), 8.0)
    np.testing.assert_allclose(np.linalg.norm(cells[1, 0] - cells[0, 0]), 9.0)
    right, up, normal = s.axes
    np.testing.assert_allclose(s.axes @ s.axes.T, np.eye(3), atol=1e-12)
    assert normal @ (s.panel_mm.array - s.source_mm.array) == pytest.approx(s.distance_mm)
    # the solid angle of the panel by a fine sum over each cell
    way = cells[3, 7] - s.source_mm.array
    fine = (np.arange(40) - 19.5) / 40
    r = way + 8.0 * fine[:, None, None] * right + 9.0 * fine[None, :, None] * up
    exact = (r @ normal / np.linalg.norm(r, axis=-1) ** 3).mean() * 72.0
    assert s.solid_angle_sr()[3, 7] == pytest.approx(exact, rel=1e-4)


def test_solids_have_exact_chords():
    s, recipe = stand(), body()
    names, found = masses(radiograph_paths(recipe, s, n_basis=3))
    cells = s.cell_centres_mm()
    d = cells - s.source_mm.array
    d /= np.linalg.norm(d, axis=-1, keepdims=True)
    o = s.source_mm.array - np.array([20, 6, -12])
    b = d @ o
    ball = 2 * np.sqrt(np.maximum(b * b - (o @ o - 400.0), 0)) / 10
    bone = found[names.index("bone_cortical")] / material("bone_cortical").density_g_cm3
    assert ball.max() > 3.9
    np.testing.assert_allclose(bone, ball, atol=2e-4)  # float32 of the basis integrals
    t0, t1 = np.full(d.shape[:2], -np.inf), np.full(d.shape[:2], np.inf)
    for axis, half in enumerate((60.0, 40.0, 50.0)):
        near = (-np.sign(d[..., axis]) * half - s.source_mm.array[axis]) / d[..., axis]
        far = (np.sign(d[..., axis]) * half - s.source_mm.array[axis]) / d[..., axis]
        t0, t1 = np.maximum(t0, near), np.minimum(t1, far)
    block = np.maximum(t1 - t0, 0) / 10 - ball
    water = found[names.index("water")] / material("water").density_g_cm3
    np.testing.assert_allclose(water, block, atol=1e-3)


def test_voxels_approach_the_solids_that_they_sample():
    """RMS of the chord 0.40 % of the longest at 2 mm voxels, half of it at 1 mm: the voxels' own error."""
    s = stand()
    exact = radiograph_paths(body(), s, n_basis=3)["path"].to_numpy()
    errors = []
    for size in (2.0, 1.0):
        paths = radiograph_paths(from_recipe(body(), spacing_mm=size), s, n_basis=3)
        assert paths["path"].shape == exact.shape
        error = paths["path"].to_numpy() - exact
        errors.append(float(np.sqrt((error[0] ** 2).mean()) / exact[0].max()))
    assert errors[0] < 0.005
    assert errors[1] < 0.65 * errors[0]


def test_a_view_of_the_gantry_is_a_radiograph():
    """Same rays through the general path and through that of the scanner, and the same signals."""
    protocol = small_protocol(shape="flat", bowtie="none", n_channels=32)
    angle = 37.0
    path = trajectory(protocol, z_range_mm=(-4, 4), isocentre_mm=(6.0, -9.0), start_angle_deg=angle)
    scan = line_integrals(small_phantom(), protocol, path.isel(view=[0]), n_basis=3)
    z = float(path["source_z"][0])
    view = on_gantry(protocol, view_angle_deg=angle, source_z_mm=z, isocentre_mm=(6.0, -9.0))
    single = radiograph_paths(small_phantom(), view, n_basis=3)
    largest = float(np.abs(scan["path"]).max())
    assert np.abs(single["path"].to_numpy() - scan["path"].to_numpy()).max() < 1e-4 * largest  # float32
    shot = radiograph(single, view, seed=3)
    assert shot.attrs["mas"] == pytest.approx(protocol.mas / 36)
    from twinlab.ct import detected

    np.testing.assert_allclose(shot["signal"], detected(scan, protocol)["signal"], rtol=2e-4)


def test_signals_are_the_sum_over_the_spectrum():
    s, recipe = stand(added_filters={"copper": 0.1}), body()
    out = radiograph(recipe, s, seed=1, noise=False)
    names, mass = masses(radiograph_paths(recipe, s, n_basis=3))
    spectrum = tube_spectrum(
        kv=100, anode_angle_deg=12, filters={"aluminum": 3.0, "copper": 0.1}, bin_width_kev=1.0
    )
    energy = spectrum["energy"].to_numpy()
    eta = efficiency(s.protocol(), energy)
    mu = mass_attenuation(names, energy)
    photons = spectrum.to_numpy() * s.solid_angle_sr()[..., None] * 1e6
    signal = (photons * eta * energy * np.exp(-np.einsum("mrc,me->rce", mass, mu))).sum(-1)
    second = (photons * eta * energy**2 * np.exp(-np.einsum("mrc,me->rce", mass, mu))).sum(-1)
    # basis of 2e-4, quadrature of 2e-5
    np.testing.assert_allclose(out["signal"][0], signal, rtol=1e-3)
    np.testing.assert_allclose(out["signal_variance"][0], second, rtol=2e-3)
    air = (photons * eta * energy).sum(-1)
    np.testing.assert_allclose(out["air_signal"], air, rtol=1e-4)
    np.testing.assert_allclose(out["transmission"][0], signal / air, rtol=1e-3)
    assert out["reading"].attrs["units"] == "keV"


def test_noise_has_the_variance_of_its_model_and_its_own_seed():
    s = stand(mas=0.02)
    clean = radiograph(body(), s, seed=5, noise=False)
    shots = np.stack(
        [radiograph(clean, s, seed=5, realisation=i)["reading"].to_numpy()[0] for i in range(300)]
    )
    variance = 0.02 * clean["signal_variance"].to_numpy()[0] + 500.0**2
    # 300 shots of 960 cells: 0.26 % on the mean ratio
    assert (shots.var(axis=0, ddof=1) / variance).mean() == pytest.approx(1.0, abs=0.01)
    pull = (shots.mean(axis=0) - clean["reading"].to_numpy()[0]) / np.sqrt(variance / 300)
    assert np.abs(pull).max() < 5.0
    again = radiograph(body(), s, seed=5, realisation=7)["reading"].to_numpy()[0]
    np.testing.assert_array_equal(again, shots[7])
    assert (radiograph(clean, s, seed=6)["reading"].to_numpy()[0] != shots[0]).all()


def test_scatter_is_added_with_its_noise():
    s = stand()
    paths = radiograph_paths(body(), s)
    primary = radiograph(paths, s, seed=1, noise=False)
    level = 0.1 * primary["air_signal"].to_numpy()
    flat = radiograph(paths, s, seed=1, noise=False, scatter=level)
    np.testing.assert_allclose(flat["signal"][0] - primary["signal"][0], level, rtol=1e-5)
    np.testing.assert_allclose(flat["air_signal"], primary["air_signal"])
    half = radiograph(paths, s, seed=1, noise=False, scatter=lambda d: 0.5 * d["signal"].to_numpy())
    np.testing.assert_allclose(half["signal"], 1.5 * primary["signal"], rtol=1e-5)
    np.testing.assert_allclose(half["signal_variance"], 1.5 * primary["signal_variance"], rtol=1e-5)
    with pytest.raises(InputError, match="scatter"):
        radiograph(paths, s, seed=1, scatter=np.zeros((3, 4)))


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"right": {"x": 1.0}, "up": {"x": 1.0, "z": 1.0}}, "right angles"),
        ({"source_mm": {"x": 100.0, "y": 450.0, "z": -30.0}, "right": {"x": 1.0}, "up": {"z": 1.0}}, "plane"),
        ({"detector": PANEL | {"shape": "arc"}}, "flat"),
        ({"kv": 140.0}, "70 to 120"),
        ({"mas": 0.0}, "mas"),
    ],
)
def test_impossible_stands_are_refused(changes, word):
    with pytest.raises(InputError, match=word):
        stand(**changes)


def test_other_wrong_input_is_refused():
    with pytest.raises(InputError, match="seed"):
        radiograph(body(), stand(), seed=-1)
    with pytest.raises(InputError, match="material"):
        radiograph(xr.Dataset(), stand(), seed=1)
    with pytest.raises(InputError, match="bowtie"):
        on_gantry(small_protocol(shape="flat"))


def test_a_scout_shows_water_where_it_is():
    recipe = body(
        shapes=[
            {
                "shape": "cylinder",
                "name": "rod",
                "material": "water",
                "diameter_mm": 60.0,
                "length_mm": 40.0,
                "centre_mm": {"x": 25.0, "z": 10.0},
            }
        ],
        size_mm={"x": 200.0, "y": 100.0, "z": 100.0},
    )
    protocol = small_protocol()
    out = scout(recipe, protocol, z_range_mm=(-40, 40), step_mm=4.0, seed=1, noise=False)
    assert out["scout"].dims == ("z", "channel")
    assert out["scout"].attrs["units"] == "1"
    inside = (out["z"] > -8) & (out["z"] < 28)
    assert out["scout"].where(~((out["z"] > -14) & (out["z"] < 34))).max() < 0.01
    line = out["scout"].where(inside).mean("z")
    centre = float((line * out["lateral"]).sum() / line.sum())
    # magnification of the chord's centre: half of the rod is nearer; 1 mm
    assert centre == pytest.approx(25.0, abs=1.0)
    expected = linear_attenuation_per_mm("water", [70.0])[0] * 60.0
    assert float(line.max()) == pytest.approx(60.0 * out.attrs["mu_water_per_mm"], rel=0.03)
    assert float(line.max()) == pytest.approx(expected, rel=0.1)
    lateral = scout(
        recipe, protocol, z_range_mm=(-40, 40), step_mm=4.0, view_angle_deg=90, seed=1, noise=False
    )
    across = lateral["scout"].where(inside).mean("z")
    assert float((across * out["lateral"]).sum() / across.sum()) == pytest.approx(0.0, abs=1.0)
    fine = protocol.replace(sampling=Sampling(view=2))  # localisers take the middle of a reading
    options = {"z_range_mm": (-8, 8), "step_mm": 4.0, "seed": 1, "noise": False}
    assert scout(recipe, fine, **options)["scout"].equals(scout(recipe, protocol, **options)["scout"])
    with pytest.raises(InputError, match="z_range_mm"):
        scout(recipe, protocol, z_range_mm=(4, 4), seed=1)


def small_cbct(**detector):
    """The bench protocol with its whole panel in cells eight times as wide, and a quarter of the views."""
    scanner = load_scanner("bench_flat_panel")
    panel = {"n_channels": 128, "n_rows": 96, "channel_pitch_mm": 3.104, "row_pitch_mm": 3.104, **detector}
    small = scanner.model_copy(
        update={"detector": scanner.detector.model_copy(update=panel), "views_per_rotation": 180}
    )
    width = small.max_collimation_mm
    return load_protocol(
        "bench_cbct", scanner=small, collimation_mm=width, slice_thickness_mm=2.1, reconstruction_fov_mm=200
    )


def rings(image, x, edges):
    """Mean of each slice between the radii, shape (ring, z)."""
    r = np.hypot(*np.meshgrid(x, x))
    pairs = itertools.pairwise(edges)
    return np.array([image.to_numpy()[:, (r >= lo) & (r < hi)].mean(axis=1) for lo, hi in pairs])


@pytest.mark.parametrize("channel_offset", [0.0, 0.25])
def test_cone_beam_water_is_zero_from_phantom_to_image(channel_offset):
    """A long 16 cm water cylinder by the functions of every scan, 60 mm off the middle plane too.

    3 mm cells alias by 1 HU where opposite rays coincide, and not with a quarter of a cell's offset.
    """
    protocol = small_cbct(channel_offset=channel_offset)
    water = {"shape": "cylinder", "name": "w", "material": "water", "diameter_mm": 160.0, "length_mm": 300.0}
    recipe = body(shapes=[water], size_mm={"x": 200.0, "y": 200.0, "z": 300.0})
    projections = acquire(
        line_integrals(recipe, protocol, trajectory(protocol, z_range_mm=(-2, 2))),
        protocol,
        seed=1,
        noise=False,
    )
    x = np.linspace(-66, 66, 23)
    grid = {"x": x, "y": x, "z": np.array([-60.0, 0.0, 60.0])}
    image = reconstruct(projections, protocol, grid=grid, kernel="smooth", slice_thickness_mm=2.1)
    assert np.abs(rings(image, x, (0, 20, 45, 66))).max() < (0.1 if channel_offset else 1.5)


@pytest.mark.slow
def test_the_bench_protocol_images_water_at_its_own_cells():
    """16 rows of the panel as it is, 720 views, 20 cm of water: within 0.2 HU everywhere."""
    scanner = load_scanner("bench_flat_panel")
    protocol = load_protocol("bench_cbct", collimation_mm=16 * scanner.row_pitch_isocentre_mm)
    path = trajectory(protocol, z_range_mm=(-1, 1))
    paths = line_integrals(load_recipe("water_cylinder_20cm"), protocol, path)
    assert paths.attrs["truncated"] == 0.0
    x = np.arange(-92.0, 93.0, 2.0)
    grid = {"x": x, "y": x, "z": np.array([-0.5, 0.0, 0.5])}
    image = reconstruct(acquire(paths, protocol, seed=1, noise=False), protocol, grid=grid)
    assert np.abs(rings(image, x, (0, 15, 40, 70, 92))).max() < 0.2
