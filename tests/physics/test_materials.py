"""Compositions: sums, sources, second copies, mixtures, solutions, errors."""

import json
from importlib import resources

import numpy as np
import pytest
import xraylib

from twinlab.physics import materials
from twinlab.schema import InputError

# Keys whose row is compared with the ICRU composition files that SpekPy ships (an independent copy).
SPEKPY = {
    "adipose": "Adipose Tissue (ICRU)",
    "blood": "Blood, Whole (ICRU)",
    "bone_cortical": "Bone, Cortical (ICRU)",
    "bone_spongiosa": "Skeletal Spongiosa (ICRU)",
    "brain": "Brain, Grey and White Matter (ICRU)",
    "breast": "Breast Tissue (ICRU)",
    "cartilage": "Skeletal Cartilage (ICRU)",
    "eye_lens": "Eye Lens (ICRU)",
    "gi_tract": "GI-tract Intestine (ICRU)",
    "heart_blood_filled": "Heart, Blood Filled (ICRU)",
    "kidney": "Kidney (ICRU)",
    "liver": "Liver (ICRU)",
    "lung": "Lung Inflated (ICRU)",
    "lung_tissue": "Lung Tissue (ICRU)",
    "lymph": "Lymph (ICRU)",
    "muscle": "Muscle Skeletal (ICRU)",
    "ovary": "Ovary (ICRU)",
    "pancreas": "Pancreas (ICRU)",
    "red_marrow": "Red Marrow Skeletal (ICRU)",
    "skin": "Skin (ICRU)",
    "spleen": "Spleen (ICRU)",
    "testes": "Testes (ICRU)",
    "thyroid": "Thyroid (ICRU)",
    "yellow_marrow": "Yellow Marrow, Skeletal (ICRU)",
}


@pytest.mark.parametrize("key", materials.names())
def test_every_material_is_whole_and_has_a_source(key):
    material = materials.get(key)
    assert material.key == key
    assert sum(material.composition.values()) == pytest.approx(1, abs=1e-12)
    assert len(material.source) > 10
    assert 0.0005 < material.density_g_cm3 < 25


def test_published_percents_sum_to_100():
    for row in materials._data("tissues")["tissues"].values():
        assert sum(row["mass_percent"].values()) == pytest.approx(100, abs=0.05)
    for row in materials._data("schneider2000")["segments"].values():
        assert sum(row["mass_percent"]) == pytest.approx(100, abs=0.1)  # the published sums' own rounding


@pytest.mark.parametrize(("key", "spekpy_name"), SPEKPY.items())
def test_icru_tissues_equal_second_copy(key, spekpy_name):
    path = resources.files("spekpy") / "data" / "matl_def" / f"{spekpy_name}.comp"
    copy = json.loads(path.read_text())["composition"]
    material = materials.get(key)
    assert material.density_g_cm3 == pytest.approx(copy["density"], rel=1e-6)
    expected = {xraylib.AtomicNumberToSymbol(z): w for z, w in copy["elements"]}
    assert material.composition == pytest.approx(expected, abs=1e-6)


def test_relative_electron_density_of_published_tissues():
    # ICRU 44 table 4.4 (electrons per cm3 / water's 3.343e23): muscle 3.48, cortical bone 5.95, adipose 3.18
    # lung 0.26 -> 0.862; two decimals published, so half a unit of the last one, 0.2 %.
    for key, electrons in {"muscle": 3.48, "bone_cortical": 5.95, "adipose": 3.18}.items():
        assert materials.get(key).relative_electron_density == pytest.approx(electrons / 3.343, rel=2e-3)


def test_schneider_segments_and_density():
    edges = materials.schneider_hu_edges()
    assert edges.size == 24
    assert np.all(np.diff(edges) > 0)
    assert materials.get("schneider_24").composition["Ca"] == pytest.approx(0.225)
    # Equations 17 to 21 of the paper at points within each piece.
    hu = np.array([-1000, -50, 20, 60, 500])
    published = [0.00121, 1.018 - 0.893e-3 * 50, 1.03, 1.003 + 1.169e-3 * 60, 1.017 + 0.592e-3 * 500]
    # 1e-3: the paper's coefficients are rounded, so its own pieces miss each other by up to this.
    assert materials.schneider_density_g_cm3(hu) == pytest.approx(published, rel=1e-3)


def test_solution_holds_the_stated_mass():
    blood, solution = materials.get("blood"), materials.get("blood+iodine_20mg_ml")
    assert solution.density_g_cm3 * solution.composition["I"] == pytest.approx(0.020, rel=1e-12)
    assert solution.density_g_cm3 == pytest.approx(blood.density_g_cm3 + 0.020)
    assert materials.get("blood+iodine_0mg_ml").composition == pytest.approx(blood.composition)


def test_mixture_conserves_mass_and_volume_and_its_key_rebuilds_it():
    mixed = materials.mix({"water": 0.25, "ethanol": 0.75})
    water, ethanol = materials.get("water"), materials.get("ethanol")
    volume = 0.25 / water.density_g_cm3 + 0.75 / ethanol.density_g_cm3
    assert mixed.density_g_cm3 == pytest.approx(1 / volume)
    assert mixed.composition["H"] == pytest.approx(
        0.25 * water.composition["H"] + 0.75 * ethanol.composition["H"]
    )
    nested = materials.mix({mixed.key: 0.5, "blood+iodine_5mg_ml": 0.5}, density_g_cm3=1.02)
    for material in (mixed, nested):
        assert materials.get(material.key) == material
    assert nested.density_g_cm3 == 1.02


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: materials.get("watr"), "near: water"),
        (lambda: materials.get("blood+iodin_5mg_ml"), "an element"),
        (lambda: materials.get("blod+iodine_5mg_ml"), "near: blood"),
        (lambda: materials.mix({"water": 0.5}), "sum to 1"),
        (lambda: materials.mix({"water": 1.5, "air": -0.5}), "above 0"),
        (lambda: materials.mix({"water": 1.0}, density_g_cm3=0.0), "density_g_cm3"),
        (lambda: materials.get("mix(water)"), "KEY=FRACTION"),
        (lambda: materials.get(3), "a material key"),
    ],
)
def test_wrong_input_is_one_clear_error(call, says):
    with pytest.raises(InputError, match=says):
        call()
