"""SSDE: factors of AAPM Report 204, slices with modulated current, means."""

import math

import numpy as np
import pytest

from twinlab import dose
from twinlab.dose import ssde_factor
from twinlab.scanner import load_protocol, trajectory
from twinlab.schema import InputError, label


# Report 204, tables 1D and 2D (effective diameter): printed to two or three digits.
@pytest.mark.parametrize(
    ("dw", "phantom", "factor"), [(320, 32, 1.144), (300, 32, 1.231), (200, 32, 1.777), (160, 16, 1.009)]
)
def test_published_factors(dw, phantom, factor):
    assert float(ssde_factor(dw, phantom_cm=phantom)) == pytest.approx(factor, abs=6e-4)


@pytest.mark.parametrize(("phantom", "a", "b"), [(16, 1.874799, 0.03871313), (32, 3.704369, 0.03671937)])
def test_formula(phantom, a, b):
    for dw_cm in np.linspace(8, 45, 38):
        want = a * math.exp(-b * dw_cm)
        assert float(ssde_factor(10 * dw_cm, phantom_cm=phantom)) == pytest.approx(want, rel=1e-9)


def test_other_phantoms_and_the_head_are_refused():
    with pytest.raises(InputError, match="16 or 32"):
        ssde_factor(300, phantom_cm=10)
    with pytest.raises(InputError, match="Report 293"):
        ssde_factor(150, phantom_cm=16, region="head")
    with pytest.raises(InputError, match="positive"):
        ssde_factor([100.0, 0.0], phantom_cm=16)


def diameters():
    z = np.arange(0.0, 200.0, 5.0)
    return label("water_equivalent_diameter", 250.0 + 0.5 * z, {"z": z})


def test_slices_and_mean():
    dw = diameters()
    out = dose.ssde(dw, ctdi_vol_mgy=8.0, phantom_cm=32, z_range_mm=(50.0, 150.0))
    inside = (dw["z"].values >= 50) & (dw["z"].values <= 150)
    want = 8.0 * 3.704369 * np.exp(-0.03671937 * dw.values / 10)
    np.testing.assert_allclose(out["ssde"].values[inside], want[inside], rtol=1e-9)
    assert np.isnan(out["ssde"].values[~inside]).all()
    assert float(out["ssde_mean"]) == pytest.approx(want[inside].mean(), rel=1e-9)
    assert float(out["ctdi_vol_mean"]) == pytest.approx(8.0, rel=1e-12)


def test_ctdi_vol_by_slice_from_image_headers():
    dw = diameters()
    index = 4.0 + 0.05 * dw["z"].values
    out = dose.ssde(dw, ctdi_vol_mgy=index, phantom_cm=16)
    want = index * 1.874799 * np.exp(-0.03871313 * dw.values / 10)
    np.testing.assert_allclose(out["ssde"].values, want, rtol=1e-9)
    assert float(out["ssde_mean"]) == pytest.approx(want.mean(), rel=1e-9)


def test_slices_without_body_do_not_count():
    dw = diameters()
    dw[:3] = 0.0
    out = dose.ssde(dw, ctdi_vol_mgy=8.0, phantom_cm=32)
    assert np.isnan(out["ssde"].values[:3]).all()
    assert np.isfinite(float(out["ssde_mean"]))


def test_modulated_current_gives_ctdi_vol_by_slice():
    """mAs rising linearly along z: CTDIvol(z) rises with it, and its mean stays (views are even in z)."""
    protocol = load_protocol("abdomen_pelvis").replace(tube_current_ma=200.0)
    z_range = (0.0, 300.0)
    at = trajectory(protocol, z_range_mm=z_range)["source_z"].values
    relative = 1.0 + 0.5 * (at - at.mean()) / (at.max() - at.mean())
    z = np.array([100.0, 150.0, 200.0])
    got = dose.ctdi_vol_of_slices(protocol, 10.0, z_mm=z, z_range_mm=z_range, relative_mas=relative)
    want = 10.0 * (1.0 + 0.5 * (z - at.mean()) / (at.max() - at.mean()))
    # the window of the collimation holds a whole number of views: half a view's feed
    np.testing.assert_allclose(got.values, want, rtol=1e-3)
    flat = dose.ctdi_vol_of_slices(protocol, 10.0, z_mm=[150.0, 5000.0], z_range_mm=z_range)
    assert float(flat[0]) == pytest.approx(10.0, rel=1e-12)
    assert np.isnan(float(flat[1]))


def test_wrong_inputs():
    protocol = load_protocol("abdomen_pelvis").replace(tube_current_ma=200.0)
    with pytest.raises(InputError, match="one a view"):
        dose.ctdi_vol_of_slices(protocol, 10.0, z_mm=[0.0], z_range_mm=(0, 100), relative_mas=[1.0, 1.0])
    with pytest.raises(InputError, match="0 or more"):
        dose.ctdi_vol_of_slices(protocol, -1.0, z_mm=[0.0], z_range_mm=(0, 100))
    with pytest.raises(InputError, match="one a slice"):
        dose.ssde(diameters(), ctdi_vol_mgy=[1.0, 2.0], phantom_cm=32)
    with pytest.raises(InputError, match="slices of the body"):
        dose.ssde(diameters(), ctdi_vol_mgy=1.0, phantom_cm=32, z_range_mm=(900.0, 950.0))
    with pytest.raises(InputError, match="for a slice of the scan"):
        dose.ssde(diameters(), ctdi_vol_mgy=np.full(40, np.nan), phantom_cm=32)
