"""A study is refused before any work when it cannot be run."""

import pytest

from twinlab.schema import InputError
from twinlab.study import load

GOOD = {
    "name": "t",
    "patient": "lidc-idri-0001",
    "protocol": "liver_arterial",
    "kv": [80, 120],
    "mas": [50, 100],
    "pitch": [0.984],
    "kernel": ["standard"],
    "lesion_organ": "liver",
    "lesion_diameter_mm": 8,
    "lesion_iodine_mg_ml": 1.0,
    "dprime_target": 5,
    "histories": 1000,
}


def test_a_good_study_loads_and_is_equal_to_itself():
    assert load(GOOD) == load(dict(reversed(GOOD.items())))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kv": [80, 500]}, ["500", "140"]),
        ({"protocol": "no_such"}, ["no_such", "liver_arterial"]),
        ({"protocol": "realistic_chest"}, ["sampling", "ct.scan_phantom"]),
        ({"protocol": "dual_energy_abdomen"}, ["second_kv"]),
        ({"kV": [80]}, ["kV", "unknown"]),
        ({"mas": [100000]}, ["mas", "100000"]),
        ({"kv": [80, 80]}, ["kv", "once"]),
        ({"kernel": ["razor"]}, ["kernel", "razor"]),
        ({"lesion_iodine_mg_ml": 0}, ["lesion_contrast_hu"]),
        ({"lesion_diameter_mm": 30}, ["roi_size_mm"]),
        ({"scan_range_mm": [10, -10]}, ["scan_range_mm"]),
        ({"lesion_centre_mm": [1, 2]}, ["lesion_centre_mm"]),
        ({"pitch": [9.0]}, ["pitch", "9"]),
        ({"name": "../x"}, ["name"]),
    ],
)
def test_wrong_studies_are_refused_by_name(change, words):
    with pytest.raises(InputError) as error:
        load({**GOOD, **change})
    text = str(error.value)
    assert all(word in text for word in words), text
    assert "\n" not in text


def test_missing_field_is_named():
    with pytest.raises(InputError, match="lesion_organ: expected a value"):
        load({k: v for k, v in GOOD.items() if k != "lesion_organ"})


def test_options_stand_for_further_settings():
    assert load({**GOOD, "options": {"n_positions": 3}}).n_positions == 3


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"kv": [80]}, ["options", "kv"]),
        ({"n_place": 3}, ["n_place", "unknown"]),
        ([1], ["options", "mapping"]),
    ],
)
def test_wrong_options_are_refused(options, words):
    with pytest.raises(InputError) as error:
        load({**GOOD, "options": options})
    assert all(word in str(error.value) for word in words), str(error.value)
