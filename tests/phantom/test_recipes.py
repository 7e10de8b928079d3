from __future__ import annotations

import re

import numpy as np
import pytest

from twinlab.phantom import check_phantom, from_recipe, list_recipes, load_recipe, organ_table, resample
from twinlab.phantom.recipes import Recipe
from twinlab.schema import InputError


def solids(*shapes: dict, size: float = 60.0, spacing: float = 1.0, **more: object) -> Recipe:
    return Recipe.make(
        {
            "name": "made_up",
            "title": "made up",
            "source": "test",
            "spacing_mm": {"x": spacing, "y": spacing, "z": spacing},
            "size_mm": {"x": size, "y": size, "z": size},
            "shapes": list(shapes),
            **more,
        }
    )


SPHERE = {
    "shape": "ellipsoid", "name": "ball", "material": "water", "density_g_cm3": 1.0, "organ": "ball",
    "diameter_mm": 40, "centre_mm": {"x": 0.3, "y": -0.2, "z": 0.1},
}  # fmt: skip


def mass_g(phantom) -> float:
    dz, dy, dx = check_phantom(phantom, where="test")
    return float(phantom["density"].sum(dtype=float)) * dz * dy * dx / 1000


def test_every_recipe_in_the_folder_reads():
    assert {"water_cylinder_20cm", "water_cylinder_32cm", "ctdi_16cm", "ctdi_32cm", "qc_20cm"} <= set(
        list_recipes()
    )
    for name in list_recipes():
        assert load_recipe(name).name == name


@pytest.mark.parametrize(
    ("name", "diameter_cm", "length_cm"), [("water_cylinder_20cm", 20, 20), ("ctdi_32cm", 32, 15)]
)
def test_cylinder_mass_is_the_analytic_one(name, diameter_cm, length_cm):
    phantom = from_recipe(name, spacing_mm=(5, 2, 2))
    solid = np.pi / 4 * diameter_cm**2 * length_cm
    if name.startswith("ctdi"):
        want = (solid - 5 * np.pi / 4 * 1.31**2 * 15) * 1.19
    else:
        want = solid
    air = (phantom["density"].size * 0.020 - solid) * 0.001205
    # 4^3 sub-samples a surface voxel leave 0.1 % on the volume of a cylinder of 100 voxels across
    assert mass_g(phantom) == pytest.approx(want + air, rel=2e-3)


def test_sphere_volume_converges_and_partial_volume_can_be_off():
    analytic = np.pi / 6 * 4.0**3
    soft = from_recipe(solids(SPHERE))
    hard = from_recipe(solids(SPHERE), partial_volume=False)
    air = 6.0**3 - analytic
    # 64 points in each of ~7,500 surface voxels: statistical error below 0.1 %
    assert mass_g(soft) == pytest.approx(analytic + air * 0.001205, rel=1e-3)
    # by centres only, the error of a ball of 40 voxels stays within 1 %
    assert mass_g(hard) == pytest.approx(analytic + air * 0.001205, rel=1e-2)
    assert set(np.unique(hard["density"])) == {np.float32(0.001205), np.float32(1.0)}


def test_later_shapes_cover_earlier_ones_and_organs_are_named():
    core = {
        **SPHERE,
        "name": "core",
        "material": "pmma",
        "density_g_cm3": 1.19,
        "organ": "core",
        "diameter_mm": 20,
    }
    phantom = from_recipe(solids(SPHERE, core))
    table = organ_table(phantom).set_index(organ_id="organ_name")
    # volumes by majority of voxels: 1 % for a ball of 20 voxels across
    assert float(table["volume"].sel(organ_id="core")) == pytest.approx(np.pi / 6 * 8, rel=1e-2)
    middle = phantom.sel(x=0, y=0, z=0, method="nearest")
    assert float(middle["density"]) == pytest.approx(1.19)
    assert str(phantom["material_name"].values[int(middle["material"])]) == "pmma"


def test_prism_slices_equal_the_full_painting():
    rod = {**SPHERE, "shape": "cylinder", "length_mm": 33.3, "diameter_mm": 21.7}
    ball = {**SPHERE, "name": "tiny", "diameter_mm": 0.01, "centre_mm": {"x": 29, "y": 29, "z": 0}}
    forced = [{**ball, "name": f"tiny{z}", "centre_mm": {"x": 29, "y": 29, "z": z}} for z in range(-30, 31)]
    quick, full = from_recipe(solids(rod)), from_recipe(solids(rod, *forced))
    np.testing.assert_allclose(quick["density"], full["density"], atol=1e-6)  # the tiny balls weigh nothing


def test_chords_of_each_solid_are_exact():
    origin = np.array([[-100.0, 0.0, 0.0], [-100.0, 12.0, 0.0], [-100.0, 50.0, 0.0]])
    along = np.tile([1.0, 0.0, 0.0], (3, 1))
    tube = {"shape": "cylinder", "name": "tube", "material": "water", "diameter_mm": 40, "length_mm": 50}
    box = {"shape": "box", "name": "box", "material": "water", "size_mm": {"x": 30, "y": 20, "z": 10}}
    ball = {
        "shape": "ellipsoid",
        "name": "ball",
        "material": "water",
        "diameter_mm": {"x": 30, "y": 40, "z": 10},
    }
    rod = {
        "shape": "rod", "name": "rod", "material": "water", "diameter_mm": 2,
        "from_mm": {"x": -10, "y": -10}, "to_mm": {"x": 10, "y": 10},
    }  # fmt: skip
    recipe = solids(tube, box, ball, rod)
    chords = np.array([s.chord(origin, along) for s in recipe.shapes])
    np.testing.assert_allclose(chords[0], [40, 32, 0], atol=1e-9)
    np.testing.assert_allclose(chords[1], [30, 0, 0], atol=1e-9)
    np.testing.assert_allclose(chords[2], [30, 30 * 0.8, 0], atol=1e-9)
    np.testing.assert_allclose(chords[3], [2 * np.sqrt(2), 0, 0], atol=1e-9)


def test_painted_path_lengths_share_the_outer_chord():
    outer = {"shape": "cylinder", "name": "outer", "material": "water", "diameter_mm": 40, "length_mm": 50}
    inner = {**outer, "name": "inner", "diameter_mm": 10}
    touching = {**outer, "name": "edge", "diameter_mm": 4, "centre_mm": {"x": -19}}
    rng = np.random.default_rng(1)
    target = rng.uniform(-15, 15, (200, 3))
    start = rng.normal(size=(200, 3))
    start *= 200 / np.linalg.norm(start, axis=1, keepdims=True)
    direction = (target - start) / np.linalg.norm(target - start, axis=1, keepdims=True)
    recipe = solids(outer, inner, touching)
    lengths = recipe.path_lengths(start, direction)
    t = (np.arange(40000) + 0.5) * 0.01
    for ray in (0, 50, 199):
        points = start[ray] + t[:, None] * direction[ray]
        owner = np.full(t.size, -1)
        for k, shape in enumerate(recipe.shapes):
            owner[shape.contains(points)] = k
        # sampled every 0.01 mm: each of at most six crossings is off by half a step
        np.testing.assert_allclose(lengths[:, ray], [(owner == k).sum() * 0.01 for k in range(3)], atol=0.06)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"shapes": []}, "shapes"),
        ({"colour": "red"}, "colour"),
        ({"shapes": [{**SPHERE, "diameter_mm": -1}]}, "diameter_mm"),
        ({"shapes": [SPHERE, SPHERE]}, "once"),
        ({"spacing_mm": {"x": 0, "y": 1, "z": 1}}, "spacing_mm"),
    ],
)
def test_wrong_recipes_are_refused_in_one_line(change, word):
    data = {**solids(SPHERE).model_dump(), **change}
    with pytest.raises(InputError, match=word) as caught:
        Recipe.make(data)
    assert "\n" not in str(caught.value)


def test_unknown_recipe_and_material_name_the_known_ones():
    with pytest.raises(InputError, match="ctdi_32cm"):
        from_recipe("no_such_phantom")
    with pytest.raises(InputError, match="unobtainium"):
        from_recipe(solids({**SPHERE, "material": "unobtainium"}))
    with pytest.raises(InputError, match="spacing_mm"):
        from_recipe(solids(SPHERE), spacing_mm=-1)


@pytest.mark.parametrize("spacing", [2.0, 3.7, (5.0, 1.3, 0.7)])
def test_resampling_conserves_mass_centre_and_matter(spacing):
    phantom = from_recipe(solids(SPHERE))
    coarse = resample(phantom, spacing_mm=spacing)
    steps = check_phantom(coarse, where="test")
    assert steps == pytest.approx(tuple(np.broadcast_to(spacing, 3)))
    overhang = (coarse["density"].size * np.prod(steps) - 60.0**3) / 1000 * 0.001205
    # exact but for float32 densities
    assert mass_g(coarse) == pytest.approx(mass_g(phantom) + overhang, rel=1e-5)
    for axis, want in zip("xyz", (0.3, -0.2, 0.1), strict=True):
        centre = float((coarse["density"] * coarse[axis]).sum() / coarse["density"].sum())
        assert centre == pytest.approx(want, abs=0.02)  # the air around pulls by its share of the mass, 0.7 %
    assert set(np.unique(coarse["material_name"])) == {"air", "water"}


@pytest.mark.parametrize(
    ("shape", "says"),
    [
        (
            {"shape": "cylinder", "diameter_mm": 1, "length_mm": 3, "color": "red"},
            r"r\.yaml: shapes\.0\.cylinder\.color: expected one of name, .*diameter_mm, .*axis; got an unknown key",
        ),
        (
            {"shape": "box", "size_mm": {"w": 3}},
            r"r\.yaml: shapes\.0\.box\.size_mm\.w: expected one of x, y, z; got an unknown key",
        ),
        (
            {"shape": "cube"},
            r"r\.yaml: shapes\.0\.shape: expected one of cylinder, box, ellipsoid, rod, cone; got 'cube'",
        ),
        (
            {"diameter_mm": 1},
            r"r\.yaml: shapes\.0: expected a key 'shape'; got name, material, diameter_mm",
        ),
    ],
)
def test_a_wrong_shape_is_named_once_and_nothing_else(shape, says):
    size = {"x": 10.0, "y": 10.0, "z": 10.0}
    recipe = {"name": "r", "title": "r", "source": "test", "spacing_mm": size, "size_mm": size}
    shapes = [{"name": "a", "material": "water", **shape}]
    with pytest.raises(InputError) as caught:
        Recipe.make({**recipe, "shapes": shapes}, where="r.yaml")
    assert re.fullmatch(says, str(caught.value))
