"""Calibration to a displayed CTDIvol, other kV from one, and doses per mAs and per CTDIvol."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from twinlab import dose
from twinlab.scanner import load_protocol, load_scanner
from twinlab.schema import InputError, check, label

# CTDIw in the 32 cm phantom relative to 120 kV. The first is the law CTDI proportional to kV^2.6 of 43 scanners of
# four makers (Elojeimy S et al. 2010, Radiat Prot Dosim 141:43, abstract, read). The second is one scanner's table
# (McNitt-Gray MF 2002, RadioGraphics 22:1541: 5.8, 11, 18 and 25 mGy), second-hand: verify.
PUBLISHED = {
    80: ((80 / 120) ** 2.6, 5.8 / 18),
    100: ((100 / 120) ** 2.6, 11 / 18),
    140: ((140 / 120) ** 2.6, 25 / 18),
}
BEAM = {"phantom_cm": 32, "bowtie": "body", "collimation_mm": 19.2}


def _relative(histories: int) -> dict[int, tuple[float, float]]:
    """CTDIw relative to 120 kV and its sd, of a machine calibrated at 120 kV to what it displays."""
    scanner = load_scanner("siemens_sensation_64")
    known = dose.calibrate(
        scanner, ctdi_vol_mgy=6.762, effective_mas=100.0, kv=120, histories=histories, **BEAM
    )
    factor = float(known["output_factor"])
    assert float(known["ctdi_w"]) * factor == pytest.approx(6.762)
    own = float(known["ctdi_w_sd"] / known["ctdi_w"])
    out = {}
    for kv in PUBLISHED:
        index = dose.ctdi(scanner, kv=kv, histories=histories, **BEAM)
        value = float(index["ctdi_w"]) * factor / 6.762
        out[kv] = value, value * float(np.hypot(own, index["ctdi_w_sd"] / index["ctdi_w"]))
    return out


def test_other_kv_from_one_quick():
    for kv, (value, sd) in _relative(300_000).items():
        for published in PUBLISHED[kv]:
            assert abs(value / published - 1) < 0.07 + 3 * sd / value, kv


@pytest.mark.slow
def test_other_kv_from_one():
    """Within 7 % of both published sets, which differ from each other by up to 8 %; ours is sure to 0.4 %.

    80 kV lies at the limit (-6.9 +- 0.2 % of kV^2.6 over four seeds): two sd are allowed, so that chance does not
    decide.
    """
    for kv, (value, sd) in _relative(30_000_000).items():
        assert sd < 0.004 * value
        for published in PUBLISHED[kv]:
            assert abs(value / published - 1) < 0.07 + 2 * sd / value, kv


def test_calibration_of_a_protocol():
    protocol = load_protocol("abdomen_pelvis").replace(tube_current_ma=200.0)
    known = dose.calibrate(protocol, ctdi_vol_mgy=8.74, effective_mas=103.1, histories=20_000)
    assert "displayed" in known.attrs["note"]
    # the machine then gives what it displays, at any mAs
    assert dose.ctdi_vol(protocol, known) == pytest.approx(8.74 / 103.1 * protocol.effective_mas)
    sd = float(known["output_factor_sd"] / known["output_factor"])
    assert sd == pytest.approx(float(known["ctdi_w_sd"] / known["ctdi_w"]))
    for wrong in ({"ctdi_vol_mgy": 0.0}, {"effective_mas": float("nan")}, {"phantom_cm": 10}):
        with pytest.raises(InputError, match="calibrate"):
            dose.calibrate(protocol, **{"ctdi_vol_mgy": 8.74, "effective_mas": 103.1, **wrong})


def _organs(protocol, factor: float) -> xr.Dataset:
    coords = {"organ_id": np.array([5, 6]), "organ_name": ("organ_id", ["liver", "none"])}
    return xr.Dataset(
        {
            "organ_dose": label("organ_dose", np.array([10.0, 0.0]) * factor, coords),
            "organ_dose_sd": label("organ_dose_sd", np.array([0.1, 0.0]) * factor, coords),
        },
        attrs={"output_factor": factor},
    )


def test_doses_per_mas_and_per_ctdivol():
    protocol = load_protocol("abdomen_pelvis").replace(tube_current_ma=200.0)
    index = dose.ctdi(protocol, histories=20_000)
    of_index = float(index["ctdi_w_sd"] / index["ctdi_w"])
    plain = dose.per_output(_organs(protocol, 1.0), protocol, index)
    check(plain, "organ_dose_per_100mas", "organ_dose_per_ctdivol", where="test")
    assert list(plain["organ_name"].values) == ["liver", "none"]
    per_mas = float(plain["organ_dose_per_100mas"][0])
    assert per_mas == pytest.approx(1000.0 / protocol.effective_mas)
    volume = dose.ctdi_vol(protocol, index, published=False)
    assert float(plain["organ_dose_per_ctdivol"][0]) == pytest.approx(10.0 / volume)
    # the model's own mAs is exact; CTDIvol brings its uncertainty along
    assert float(plain["organ_dose_per_100mas_sd"][0]) == pytest.approx(0.01 * per_mas)
    want = float(plain["organ_dose_per_ctdivol"][0]) * np.hypot(0.01, of_index)
    assert float(plain["organ_dose_per_ctdivol_sd"][0]) == pytest.approx(want)
    assert float(plain["organ_dose_per_ctdivol_sd"][1]) == 0.0
    # a calibrated tube changes the dose per mAs and not the dose per CTDIvol
    scaled = dose.per_output(_organs(protocol, 0.8), protocol, index)
    np.testing.assert_allclose(scaled["organ_dose_per_ctdivol"], plain["organ_dose_per_ctdivol"])
    np.testing.assert_allclose(scaled["organ_dose_per_100mas"], 0.8 * plain["organ_dose_per_100mas"])
    assert float(scaled["organ_dose_per_100mas_sd"][0]) == pytest.approx(
        0.8 * per_mas * np.hypot(0.01, of_index)
    )
    with pytest.raises(InputError, match="kv"):
        dose.per_output(_organs(protocol, 1.0), protocol.replace(kv=80), index)


def test_doses_of_a_trajectory_with_its_own_current():
    """Twice the protocol's current: twice the dose, the same dose per mAs and per CTDIvol."""
    protocol = load_protocol("abdomen_pelvis").replace(tube_current_ma=200.0)
    index = dose.ctdi(protocol, histories=20_000)
    one = dose.per_output(_organs(protocol, 1.0), protocol, index)
    doubled = _organs(protocol, 1.0).assign_attrs(effective_mas=2 * protocol.effective_mas)
    doubled["organ_dose"] = doubled["organ_dose"] * 2
    doubled["organ_dose_sd"] = doubled["organ_dose_sd"] * 2
    two = dose.per_output(doubled, protocol, index)
    for name in one.data_vars:
        np.testing.assert_allclose(two[name], one[name], rtol=1e-12)
    assert two.attrs["ctdi_vol_mgy"] == pytest.approx(2 * one.attrs["ctdi_vol_mgy"])


def test_ctdi_vol_is_of_one_scanner_and_voltage():
    protocol = load_protocol("abdomen_pelvis").replace(tube_current_ma=200.0)
    index = dose.ctdi(protocol, histories=20_000)
    with pytest.raises(InputError, match="scanner"):
        dose.ctdi_vol(protocol, index.assign_attrs(scanner="another"))
    with pytest.raises(InputError, match="one voltage"):
        dose.ctdi_vol(protocol.replace(second_kv=80.0), index)
    with pytest.raises(InputError, match="output_factor"):
        dose.ctdi_vol(protocol, index, output_factor=float("nan"))
    with pytest.raises(InputError, match=r"dose\.ctdi"):
        dose.output_factor(_organs(protocol, 1.0))
