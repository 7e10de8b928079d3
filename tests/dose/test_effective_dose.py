"""Effective dose: even exposure, hand sums, sexes, coverage and assumptions."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from made_doses import organ_table

from twinlab import dose
from twinlab.schema import InputError, check


def body(sex: str, **doses: float) -> xr.Dataset:
    """All tissues of a body inside the images at 1 mGy (sd 0.1) but those given."""
    tissues = dose.tissue_doses(organ_table({"liver": (1.0, 0.1, 1500.0)}), sex=sex)
    names = tissues["tissue"].values
    tissues["tissue_dose"][:] = [doses.get(str(n), 1.0) for n in names]
    tissues["tissue_dose_sd"][:] = 0.1
    tissues["tissue_coverage"][:] = 1.0
    tissues.attrs["missing"] = ""
    return tissues


def test_even_exposure_gives_the_dose():
    out = dose.effective_dose(body("male"), body("female"))
    check(out, "effective_dose", "effective_dose_sd", "weight_covered", where="test")
    assert float(out["effective_dose"]) == pytest.approx(1.0, abs=1e-12)
    assert float(out["effective_dose_sd"]) == pytest.approx(0.1, abs=1e-12)
    assert float(out["weight_covered"]) == pytest.approx(1.0, abs=1e-12)
    assert float(out["tissue_contribution"].sum()) == pytest.approx(1.0, abs=1e-12)
    assert out.sizes["tissue"] == 15


def test_sexes_are_averaged():
    """Hand sum: breast 10 mGy in the woman, testes 5 mGy in the man, all else 1 mGy."""
    out = dose.effective_dose(body("male", gonads=5.0), body("female", breast=10.0))
    want = 1.0 + 0.12 * (10 - 1) / 2 + 0.08 * (5 - 1) / 2
    assert float(out["effective_dose"]) == pytest.approx(want, abs=1e-12)


def test_one_sex_is_named_as_such():
    out = dose.effective_dose_one_sex(body("female", breast=10.0))
    assert float(out["effective_dose_one_sex"]) == pytest.approx(1.0 + 0.12 * 9, abs=1e-12)
    assert "effective_dose" not in out
    assert "not effective dose" in out.attrs["kind"]


def test_partial_coverage_and_assumption():
    made = organ_table(
        {
            "lung_left": (10.0, 0.1, 1000.0),
            "heart": (13.0, 0.26, 800.0),
            "skin": (4.0, 0.2, 825.0),
        }
    )
    tissues = dose.tissue_doses(made, sex="male")
    out = dose.effective_dose_one_sex(tissues)
    # lung 0.12 whole, skin a quarter of 3300 g, heart one of thirteen remainder tissues
    want = 0.12 * 10 + 0.01 * 0.25 * 4 + 0.12 * 13 / 13
    assert float(out["effective_dose_contained"]) == pytest.approx(want, rel=1e-12)
    assert float(out["effective_dose_one_sex"]) == pytest.approx(want, rel=1e-12)
    assert float(out["weight_covered"]) == pytest.approx(0.12 + 0.0025 + 0.12 / 13, rel=1e-12)
    assert float(out["effective_dose_one_sex_sd"]) == pytest.approx(0.012 + 0.0005 + 0.12 * 0.26 / 13)
    more = dose.effective_dose_one_sex(tissues, assume_mgy={"breast": 8.0, "skin": 1.0})
    assert float(more["effective_dose_contained"]) == pytest.approx(want, rel=1e-12)
    assert float(more["effective_dose_one_sex"]) == pytest.approx(want + 0.12 * 8 + 0.0075, rel=1e-12)
    assert "breast 8 mGy" in more.attrs["assumed"]
    assert "breast" in more.attrs["missing"]


def test_missing_in_one_sex_counts_half():
    male = body("male")
    male["tissue_coverage"].loc[{"tissue": "breast"}] = 0.0
    male["tissue_dose"].loc[{"tissue": "breast"}] = np.nan
    out = dose.effective_dose(male, body("female"))
    assert float(out["effective_dose"]) == pytest.approx(0.94, abs=1e-12)
    assert float(out["weight_covered"]) == pytest.approx(0.94, abs=1e-12)


def test_wrong_inputs():
    with pytest.raises(InputError, match="male body"):
        dose.effective_dose(body("female"), body("female"))
    with pytest.raises(InputError, match="inside the images"):
        dose.effective_dose_one_sex(body("male", lung=float("nan")))
    with pytest.raises(InputError, match="tissues with a weight"):
        dose.effective_dose_one_sex(body("male"), assume_mgy={"spleen": 1.0})
    with pytest.raises(InputError, match="0 mGy or more"):
        dose.effective_dose_one_sex(body("male"), assume_mgy={"breast": -1.0})
    with pytest.raises(InputError, match="tissue_dose"):
        dose.effective_dose_one_sex(organ_table({"liver": (1.0, 0.1, 1.0)}))
