"""Lifetime attributable risk: published sums, interpolation, hand sums, intervals, statements."""

from __future__ import annotations

import numpy as np
import pytest
from made_doses import organ_table

from twinlab import dose
from twinlab.dose.tables import rows
from twinlab.schema import InputError, check

AGES = (0, 5, 10, 15, 20, 30, 40, 50, 60, 70, 80)
# BEIR VII table 12D-1, rows "All cancers".
ALL = {
    "female": (4777, 3376, 2611, 2063, 1647, 1065, 887, 740, 586, 410, 215),
    "male": (2564, 1815, 1445, 1182, 977, 685, 647, 592, 489, 343, 173),
}
BOTH = ("Stomach", "Colon", "Liver", "Lung", "Bladder", "Other", "Thyroid", "Leukemia")
SITES = {"male": (*BOTH, "Prostate"), "female": (*BOTH, "Breast", "Uterus", "Ovary")}


@pytest.mark.parametrize("sex", ["male", "female"])
def test_sites_sum_to_all_cancers(sex):
    for age, want in zip(AGES, ALL[sex], strict=True):
        total = sum(dose.risk_per_100_mgy(site, sex=sex, age=age) for site in SITES[sex])
        assert total == pytest.approx(want, abs=0.5)  # the report rounds thyroid above 50 years to tenths


def test_table_falls_with_age_and_intervals_hold_the_estimate():
    for sex, sites in SITES.items():
        for site in sites:
            values = [dose.risk_per_100_mgy(site, sex=sex, age=a) for a in AGES]
            if site not in ("Prostate", "Ovary", "Breast", "Thyroid", "Other"):
                assert values == sorted(values, reverse=True)
    for row in rows("beir7_intervals.csv"):
        assert float(row["low"]) < float(row["estimate"]) < float(row["high"])
    # sites without leukaemia against "All solid": the report rounds to two digits
    for letter, want in (("M", 800), ("F", 1310)):
        parts = [
            float(r["estimate"])
            for r in rows("beir7_intervals.csv")
            if r["sex"] == letter and r["site"] not in ("Leukemia", "All solid")
        ]
        assert sum(parts) == pytest.approx(want, rel=0.03)


def test_ages_between():
    assert dose.risk_per_100_mgy("Lung", sex="female", age=25) == pytest.approx((346 + 242) / 2)
    assert dose.risk_per_100_mgy("Thyroid", sex="male", age=65) == pytest.approx((0.3 + 0.1) / 2)


def tissues(sex="female", **extra):
    made = {
        "lung_left": (10.0, 0.2, 900.0),
        "breast_left": (20.0, 0.5, 250.0),
        "liver": (5.0, 0.1, 1400.0),
        "esophagus": (8.0, 0.4, 35.0),
    }
    return dose.tissue_doses(organ_table(made | extra), sex=sex)


def test_risk_by_hand():
    out = dose.lifetime_risk(tissues(), age=30)
    check(out, "risk", "risk_sd", "risk_low", "risk_high", "risk_dose", "risk_total", where="test")
    lung, breast, liver = (float(out["risk"].sel(cancer_site=s)) for s in ("Lung", "Breast", "Liver"))
    assert (lung, breast, liver) == pytest.approx((24.2, 50.6, 0.5))
    # "Other": twelve remainder tissues without the uterus, and three more; one of fifteen is inside
    other = float(out["risk"].sel(cancer_site="Other"))
    assert other == pytest.approx(2.07 * 8.0 / 15)
    assert float(out["risk_total"]) == pytest.approx(lung + breast + liver + other)
    assert np.isnan(float(out["risk"].sel(cancer_site="Leukemia")))
    assert set(out.attrs["missing"].split(", ")) == {
        "Stomach", "Colon", "Uterus", "Ovary", "Bladder", "Thyroid", "Leukemia",
    }  # fmt: skip
    assert float(out["risk_sd"].sel(cancer_site="Lung")) == pytest.approx(24.2 * 0.02)
    assert float(out["risk_total_sd"]) == pytest.approx(
        24.2 * 0.02 + 50.6 * 0.025 + 0.5 * 0.02 + other * 0.05
    )


def test_intervals_scale():
    out = dose.lifetime_risk(tissues(), age=30)
    lung = out.sel(cancer_site="Lung")
    assert float(lung["risk_low"] / lung["risk"]) == pytest.approx(120 / 300)
    assert float(lung["risk_high"] / lung["risk"]) == pytest.approx(780 / 300)
    # no marrow: the total is solid cancers, "factor of two" either way
    assert float(out["risk_total_low"] / out["risk_total"]) == pytest.approx(690 / 1310)
    assert float(out["risk_total_high"] / out["risk_total"]) == pytest.approx(2490 / 1310)


def test_men_have_no_breast_in_the_table():
    out = dose.lifetime_risk(tissues("male"), age=30)
    assert "Breast" not in out["cancer_site"]
    assert "Prostate" in out.attrs["missing"]


def test_statements_are_printed():
    out = dose.lifetime_risk(tissues(), age=30)
    text = repr(out)
    assert "past_dose:  must not decide a justification" in text
    assert "no threshold, no go or no-go" in text
    assert "not one person" in text
    assert "AAPM PP 25-C" in out.attrs["statement"]
    assert "clinical grounds" in out.attrs["statement"]


def test_wrong_inputs():
    with pytest.raises(InputError, match="0 to 80 years"):
        dose.lifetime_risk(tissues(), age=90)
    with pytest.raises(InputError, match="one of Stomach"):
        dose.risk_per_100_mgy("Breast", sex="male", age=30)
    with pytest.raises(InputError, match="male or female"):
        dose.risk_per_100_mgy("Lung", sex="x", age=30)
    with pytest.raises(InputError, match="tissue_dose"):
        dose.lifetime_risk(organ_table({"liver": (1.0, 0.1, 1.0)}), age=30)
