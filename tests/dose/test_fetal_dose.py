"""Fetal dose: own label first, uterus as a surrogate, nothing from nowhere."""

import pytest
from made_doses import organ_table

from twinlab import dose
from twinlab.schema import InputError


def test_uterus_stands_for_the_embryo():
    out = dose.fetal_dose(organ_table({"uterus": (12.0, 0.3, 80.0), "liver": (20.0, 0.1, 1500.0)}))
    assert float(out["fetal_dose"]) == 12.0
    assert float(out["fetal_dose_sd"]) == 0.3
    assert out.attrs["surrogate"].startswith("uterus")
    assert "ICRP Publication 84" in out.attrs["statement"]


def test_own_label_comes_first():
    out = dose.fetal_dose(
        organ_table({"uterus": (12.0, 0.3, 80.0), "fetus": (9.0, 0.2, 500.0)}, cut=("fetus",))
    )
    assert float(out["fetal_dose"]) == 9.0
    assert (out.attrs["surrogate"], out.attrs["cut"]) == ("none", "True")


def test_no_uterus_is_refused():
    with pytest.raises(InputError, match="uterus or fetus inside the images"):
        dose.fetal_dose(organ_table({"liver": (20.0, 0.1, 1500.0), "uterus": (0.0, 0.0, 0.0)}))
