"""DLP to effective dose: published factors, their order in age, and the phantom they belong to."""

import pytest

from twinlab import dose
from twinlab.dose.conversion import AGES
from twinlab.dose.tables import rows
from twinlab.schema import InputError

REGIONS = ("head", "neck", "head and neck", "chest", "abdomen and pelvis", "trunk")


def phantom(region, age):
    return 32 if age == "adult" and region in ("chest", "abdomen and pelvis", "trunk") else 16


# Lee et al., Med Phys 39:2129 (2012), table XII (row Shrimpton et al.), which quotes them independently.
@pytest.mark.parametrize(
    ("region", "values"),
    [
        ("head", (0.0110, 0.0067, 0.0040, 0.0032, 0.0021)),
        ("chest", (0.0390, 0.0260, 0.0180, 0.0130, 0.0140)),
        ("abdomen and pelvis", (0.0490, 0.0300, 0.0200, 0.0150, 0.0150)),
        ("trunk", (0.0440, 0.0280, 0.0190, 0.0140, 0.0150)),
    ],
)
def test_published_factors(region, values):
    got = [dose.k_factor(region, age=age, phantom_cm=phantom(region, age)) for age in AGES]
    assert got == list(values)


def test_table_is_whole_and_falls_with_age():
    table = rows("dlp_k_factors.csv")
    assert {(r["region"], r["age"]) for r in table} == {(r, a) for r in REGIONS for a in AGES}
    assert len(table) == 30
    for region in REGIONS:
        values = [dose.k_factor(region, age=age, phantom_cm=phantom(region, age)) for age in AGES[:4]]
        assert values == sorted(values, reverse=True)
    for age in AGES:  # the neck holds the thyroid: head < head and neck < neck
        head, both, neck = (
            dose.k_factor(r, age=age, phantom_cm=16) for r in ("head", "head and neck", "neck")
        )
        assert head < both < neck


def test_effective_dose_carries_its_origin():
    got = dose.effective_dose_from_dlp(400.0, region="chest", phantom_cm=32)
    assert float(got) == pytest.approx(5.6)
    assert got.attrs["units"] == "mSv"
    assert (got.attrs["edition"], got.attrs["phantom_cm"]) == ("AAPM 96", 32)


@pytest.mark.parametrize(("age", "wrong"), [("adult", 16), ("5 years", 32)])
def test_a_dlp_of_another_phantom_is_refused(age, wrong):
    with pytest.raises(InputError, match="the phantom of this factor"):
        dose.effective_dose_from_dlp(100.0, region="chest", age=age, phantom_cm=wrong)


def test_wrong_inputs():
    with pytest.raises(InputError, match="one of head and neck"):
        dose.k_factor("thorax", phantom_cm=32)
    with pytest.raises(InputError, match="newborn"):
        dose.k_factor("chest", age="7", phantom_cm=16)
    with pytest.raises(InputError, match="AAPM 96"):
        dose.k_factor("chest", phantom_cm=32, edition="EUR 16262")
    with pytest.raises(InputError, match="0 or more"):
        dose.effective_dose_from_dlp(-1.0, region="chest", phantom_cm=32)
