"""Triangle meshes by gVXR against exact chords, against voxels, and against gVXR's own polychromatic images."""

from __future__ import annotations

import numpy as np
import pytest
from scan_cases import small_phantom, small_protocol
from test_radiography import PANEL, body, small_cbct, stand

from twinlab.ct import acquire, line_integrals, reconstruct
from twinlab.ct.mesh import Mesh, checked, organ_surface, read_mesh, refined
from twinlab.ct.mesh_rays import mesh_lengths_cm, mesh_line_integrals, mesh_masses
from twinlab.ct.radiography import radiograph, radiograph_paths
from twinlab.phantom import from_recipe
from twinlab.physics.attenuation import linear_attenuation_per_mm
from twinlab.physics.spectra import tube_spectrum
from twinlab.scanner import trajectory
from twinlab.schema import InputError


def gvxr():
    module = pytest.importorskip("gvxrPython3", reason="gvxr is not installed (extra gvxr)")
    return module.gvxr


def sphere(radius, centre=(0.0, 0.0, 0.0), *, n=120, **fields):
    """Ball of about n rows of triangles, blown up to the volume of the ball that it stands for."""
    polar = np.linspace(0, np.pi, n + 1)[1:-1, None]
    azimuth = np.linspace(0, 2 * np.pi, 2 * n, endpoint=False)
    ring = np.stack(np.broadcast_arrays(np.sin(polar) * np.cos(azimuth), np.sin(polar) * np.sin(azimuth),
                                        np.cos(polar)), -1).reshape(-1, 3)  # fmt: skip
    vertices = np.concatenate([[[0, 0, 1.0]], ring, [[0, 0, -1.0]]])
    a = 1 + np.arange((n - 2) * 2 * n)
    right = a + 1 - 2 * n * ((a - 1) % (2 * n) == 2 * n - 1)
    sides = np.concatenate(
        [np.stack([a, a + 2 * n, right + 2 * n], 1), np.stack([a, right + 2 * n, right], 1)]
    )
    first = 1 + np.arange(2 * n)
    following = 1 + (np.arange(2 * n) + 1) % (2 * n)
    last = len(vertices) - 1
    bottom = (n - 2) * 2 * n
    caps = [
        np.stack([0 * first, first, following], 1),
        np.stack([0 * first + last, following + bottom, first + bottom], 1),
    ]
    mesh = Mesh(
        fields.pop("name", "ball"),
        vertices,
        np.concatenate([sides, *caps]),
        fields.pop("material", "water"),
        **fields,
    )
    grow = radius * (4 / 3 * np.pi / mesh.volume_mm3()) ** (1 / 3)
    return Mesh(
        mesh.name, grow * vertices + centre, mesh.triangles, mesh.material, mesh.density_g_cm3, mesh.inside
    )


def box(half, centre=(0.0, 0.0, 0.0), **fields):
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], float) * half + centre
    quads = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    triangles = np.array([t for a, b, c, d in quads for t in ((a, b, c), (a, c, d))])
    return Mesh(fields.pop("name", "block"), corners, triangles, fields.pop("material", "water"), **fields)


def ball_chords_cm(setup, radius, centre):
    d = setup.cell_centres_mm() - setup.source_mm.array
    d /= np.linalg.norm(d, axis=-1, keepdims=True)
    o = setup.source_mm.array - np.asarray(centre, float)
    return 2 * np.sqrt(np.maximum((d @ o) ** 2 - o @ o + radius**2, 0)) / 10


def fine(**changes):
    """The oblique stand with cells of 2 mm."""
    detector = PANEL | {"n_channels": 160, "n_rows": 108, "channel_pitch_mm": 2.0, "row_pitch_mm": 2.0}
    return stand(detector=detector, **changes)


def test_volumes_and_senses():
    assert sphere(30, n=40).volume_mm3() == pytest.approx(4 / 3 * np.pi * 30**3)
    assert box((3.0, 4.0, 5.0)).volume_mm3() == pytest.approx(8 * 60)


@pytest.mark.parametrize("longest", [2.0, 3.7, 9.0])
def test_refining_keeps_the_surface_closed_and_its_volume(longest):
    fine_box = refined(box((3.0, 4.0, 15.0)), longest)
    assert checked([fine_box])[0].volume_mm3() == pytest.approx(8 * 180)
    corners = fine_box.vertices[fine_box.triangles]
    assert np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=-1).max() <= longest
    areas = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1) / 2
    assert areas.min() > 0
    assert areas.sum() == pytest.approx(2 * (6 * 8 + 6 * 30 + 8 * 30))


def test_open_or_broken_meshes_are_refused():
    whole = box((3.0, 4.0, 5.0))
    cases = [
        ([Mesh("a", whole.vertices, whole.triangles[:-1], "water")], "closed surface"),
        ([Mesh("a", whole.vertices[:-1], whole.triangles, "water")], "corners 0 to 6"),
        ([Mesh("a", whole.vertices[:, :2], whole.triangles, "water")], "vertices"),
        ([whole, whole], "each name once"),
        ([], "one mesh or more"),
        ([Mesh("a", whole.vertices, whole.triangles, "water", inside="b")], "inside one of"),
    ]
    for meshes, word in cases:
        with pytest.raises(InputError, match=word):
            radiograph_paths(meshes, stand())


def test_faces_of_voxels_enclose_their_volume():
    phantom = from_recipe(body(), spacing_mm=4.0)
    with pytest.raises(InputError, match="organ_surface"):
        organ_surface(phantom, "spleen", material="water")
    surface = organ_surface(phantom, "body", material="water")
    voxels = int((phantom["organ"].to_numpy() == 1000).sum())
    assert surface.volume_mm3() == pytest.approx(voxels * 64.0)
    inside = phantom["density"].to_numpy()[phantom["organ"].to_numpy() == 1000]
    assert surface.density == pytest.approx(float(inside.mean()))
    low, high = surface.vertices.min(0), surface.vertices.max(0)
    np.testing.assert_allclose(low, (-60, -40, -52), atol=4)
    np.testing.assert_allclose(high, (60, 40, 52), atol=4)


def test_a_ball_has_its_chords():
    """RMS below 1e-4 of the diameter for 120 rows of triangles on an oblique panel; 2e-5 measured, of the facets."""
    gvxr()
    setup, centre = fine(), (20.0, 6.0, -12.0)
    found = mesh_lengths_cm([sphere(30.0, centre)], setup)[0]
    exact = ball_chords_cm(setup, 30.0, centre)
    assert exact.max() > 5.9
    error = found - exact
    assert np.sqrt((error**2).mean()) / 6.0 < 1e-4
    assert abs(found.sum() / exact.sum() - 1) < 1e-4
    for wrong in (found[::-1], found[:, ::-1]):  # neither rows nor channels are turned round
        assert np.sqrt(((wrong - exact) ** 2).mean()) / 6.0 > 0.02


def test_large_faces_have_their_chords_too():
    """A box of 12 triangles, whose faces gVXR would bend by 2 mm: within 0.02 mm on each of two faces."""
    gvxr()
    setup = fine()
    found = mesh_lengths_cm([box((60.0, 40.0, 50.0))], setup)[0]
    d = setup.cell_centres_mm() - setup.source_mm.array
    d /= np.linalg.norm(d, axis=-1, keepdims=True)
    source = np.broadcast_to(setup.source_mm.array, d.shape)
    exact = body().shapes[0].chord(source.reshape(-1, 3), d.reshape(-1, 3)).reshape(found.shape) / 10
    assert np.abs(found - exact).max() < 0.004
    with pytest.raises(InputError, match="outside the mesh's box"):
        mesh_lengths_cm([box((600.0, 4000.0, 500.0))], setup)


def test_clockwise_meshes_are_turned_round():
    gvxr()
    setup, whole = fine(), box((30.0, 20.0, 25.0))
    inverted = Mesh("block", whole.vertices, whole.triangles[:, ::-1], "water")
    np.testing.assert_array_equal(mesh_lengths_cm([inverted], setup), mesh_lengths_cm([whole], setup))


def test_nested_meshes_displace_each_other():
    """A bone ball in a water box, against exact solids: the same masses and the same radiograph."""
    gvxr()
    setup, centre = fine(), (20.0, 6.0, -12.0)
    meshes = [
        box((60.0, 40.0, 50.0)),
        sphere(20.0, centre, material="bone_cortical", inside="block"),
    ]
    names, masses = mesh_masses(meshes, setup)
    bone = masses[names.index("bone_cortical")] / meshes[1].density
    assert np.sqrt(((bone - ball_chords_cm(setup, 20.0, centre)) ** 2).mean()) / 4.0 < 1e-4
    vacuum = body(size_mm={"x": 2.0, "y": 2.0, "z": 2.0})  # air only where the box is, as around the meshes
    mine = radiograph(meshes, setup, seed=1, noise=False)
    solids = radiograph(vacuum, setup, seed=1, noise=False)
    assert mine["reading"].dims == solids["reading"].dims
    relative = mine["transmission"].to_numpy() / solids["transmission"].to_numpy() - 1
    # at the edge of the ball a facet of 0.5 mm costs 3 %; elsewhere the bases of the two differ by 4e-4
    assert np.sqrt((relative**2).mean()) < 3e-3
    assert np.median(np.abs(relative)) < 5e-4


def test_blocky_surfaces_equal_their_voxels():
    """The faces of voxels of one material against Siddon through the same voxels."""
    gvxr()
    phantom = small_phantom(names=("air", "water"), densities=(0.0, 1.0))
    from twinlab.ct.mesh import _faces

    setup = stand(detector=PANEL | {"n_channels": 60, "n_rows": 12})
    corners, triangles = _faces(phantom["material"].to_numpy() == 1)
    low = np.array([float(phantom[a][0]) - 2.5 for a in "xyz"])
    mesh = Mesh("cylinder", low + 5.0 * corners, triangles, "water")
    ours = radiograph_paths(phantom, setup, n_basis=1)["path"].to_numpy()[0, 0]
    found = mesh_lengths_cm([mesh], setup)[0]
    scale = ours.max() / found.max()
    # rays along faces and edges are the rasteriser's choice: single pixels
    assert np.median(np.abs(found * scale - ours)) / ours.max() < 1e-5
    assert (np.abs(found * scale - ours) > 1e-3 * ours.max()).mean() < 0.01


def test_a_cone_beam_scan_of_meshes_images_water_at_zero():
    """The same functions from line integrals on; paths within 1e-3 RMS of exact ones, water within 3 HU."""
    gvxr()
    protocol = small_cbct(n_rows=8, channel_offset=0.25)
    path = trajectory(protocol, z_range_mm=(-2, 2), start_angle_deg=20.0, isocentre_mm=(5.0, -3.0))
    ball = {"shape": "ellipsoid", "name": "ball", "material": "water", "diameter_mm": 140.0}
    exact = line_integrals(body(shapes=[ball], size_mm={"x": 2, "y": 2, "z": 2}), protocol, path, n_basis=2)
    meshes = mesh_line_integrals([sphere(70.0)], protocol, path, n_basis=2)
    assert meshes["path"].dims == exact["path"].dims
    error = meshes["path"].to_numpy()[0] - exact["path"].to_numpy()[0]
    assert np.sqrt((error**2).mean()) < 1e-3 * float(exact["path"][0].max())
    projections = acquire(meshes, protocol, seed=1, noise=False)
    x = np.linspace(-45, 45, 19)
    grid = {"x": x, "y": x, "z": np.array([0.0])}
    image = reconstruct(projections, protocol, grid=grid, kernel="smooth", slice_thickness_mm=2.1)
    inside = image.to_numpy()[0][np.hypot(*np.meshgrid(x, x)) < 45]
    assert abs(float(inside.mean())) < 1.0
    assert np.abs(inside).max() < 5.0
    with pytest.raises(InputError, match="bowtie"):
        mesh_line_integrals([sphere(70.0)], small_protocol(shape="flat"), path)
    with pytest.raises(InputError, match="upright"):
        mesh_line_integrals([sphere(70.0)], protocol, path.assign_attrs(gantry_tilt_deg=10.0))


@pytest.mark.parametrize("mono", [True, False])
def test_gvxr_itself_transmits_the_same(mono):
    """Its own Beer-Lambert sum over a spectrum, with the energies weighted as an ideal detector does."""
    engine = gvxr()
    setup = fine()
    ball = sphere(30.0, (20.0, 6.0, -12.0))
    spectrum = tube_spectrum(kv=100, anode_angle_deg=12, filters={"aluminum": 3.0}, bin_width_kev=2.0)
    energy = np.array([60.0]) if mono else spectrum["energy"].to_numpy()
    photons = np.array([1.0]) if mono else spectrum.to_numpy()
    length = mesh_lengths_cm([ball], setup)[0]
    mu = linear_attenuation_per_mm("water", energy) * 10
    weight = photons * energy
    expected = np.exp(-length[..., None] * mu) @ weight / weight.sum()
    # the same scene again, with gVXR's own spectrum (before the mesh) and cross sections
    engine.removePolygonMeshesFromXRayRenderer()
    engine.removePolygonMeshesFromSceneGraph()
    engine.resetBeamSpectrum()
    for e, n in zip(energy, photons / photons.sum(), strict=True):
        if n > 1e-6:
            engine.addEnergyBinToSpectrum(float(e), "keV", float(n))
    engine.makeTriangularMesh("own", ball.vertices.ravel(), ball.triangles.astype(np.uint32).ravel(), "mm")
    engine.setMixture("own", [1, 8], [0.111894, 0.888106])
    engine.setDensity("own", ball.density, "g/cm3")
    engine.addPolygonMeshAsInnerSurface("own")
    image = np.asarray(engine.computeXRayImage())
    found = image / image.max()
    # xraylib's cross sections against ours: 0.5 % of mu over 6 cm of water
    np.testing.assert_allclose(found, expected, rtol=0.01)


def test_files_of_triangles_are_read(tmp_path):
    meshio = pytest.importorskip("meshio", reason="meshio is not installed (extra mesh)")
    whole = box((3.0, 4.0, 5.0), (1.0, 2.0, 3.0))
    for ending in ("stl", "ply"):
        path = tmp_path / f"block.{ending}"
        meshio.write_points_cells(path, whole.vertices, [("triangle", whole.triangles)])
        back = read_mesh(path, material="water")
        assert back.name == "block"
        assert len(back.vertices) == 8
        assert back.volume_mm3() == pytest.approx(480, rel=1e-6)
    with pytest.raises(InputError, match="no file"):
        read_mesh(tmp_path / "none.stl", material="water")
