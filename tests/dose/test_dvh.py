"""Dose-volume histograms against closed forms, and the share of noise in them."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from made_doses import organ_table

from twinlab import dose
from twinlab.phantom import assemble
from twinlab.schema import InputError, check, label


def scene(values: np.ndarray, sd: np.ndarray, *, density: np.ndarray | None = None):
    """Organ 1 ("liver") in the lower half of a cube of 20 voxels of 2 mm, organ 2 ("lung") above."""
    n = 20
    organ = np.full((n, n, n), 2)
    organ[: n // 2] = 1
    c = np.arange(n) * 2.0
    phantom = assemble(
        material=np.ones((n, n, n), np.uint8),
        density=np.ones((n, n, n)) if density is None else density,
        organ=organ,
        material_names=["air", "water"],
        organ_names={1: "liver", 2: "lung"},
        z=c,
        y=c,
        x=c,
        name="cube",
        source="made for this test",
    )
    table = organ_table({"liver": (1.0, 0.1, 32.0), "lung": (1.0, 0.1, 32.0)})
    coords = {"z": c, "y": c, "x": c}
    maps = {"dose": label("dose", values, coords), "dose_sd": label("dose_sd", sd, coords)}
    return table.assign(maps), phantom


def test_gas_does_not_stretch_the_levels():
    """Voxels of gas hold doses of single events, far above those of tissue: levels end with the tissue's."""
    values = np.full((20, 20, 20), 4.0)
    density = np.ones((20, 20, 20))
    values[5], density[5] = 600.0, 0.0012
    out = dose.dose_volume_histogram(*scene(values, np.zeros_like(values), density=density))
    assert float(out["dose_level"][-1]) == 4.0


@pytest.fixture(scope="module")
def ramp():
    """Organ 1: doses 0.0025, 0.0075 ... 9.9975 / 10 of each once (a ramp from 0 to 10 mGy); organ 2: 4 mGy."""
    values = np.full((20, 20, 20), 4.0)
    values[:10] = ((np.arange(4000) + 0.5) / 400).reshape(10, 20, 20)
    return scene(values, np.zeros_like(values))


def test_ramp(ramp):
    levels = np.linspace(0, 12, 49)
    out = dose.dose_volume_histogram(
        *ramp, levels_mgy=levels, threshold_mgy=[2.5, 4.0], volume_percent=[2, 50, 98]
    )
    check(out, "dvh", "dvh_differential", "dvh_mean", "dvh_near_maximum", "dvh_noise_share", where="test")
    liver = out.sel(organ_id=1)
    # one voxel in 4000: 2.5e-4
    np.testing.assert_allclose(liver["dvh"], np.clip(1 - levels / 10, 0, 1), atol=2.6e-4)
    np.testing.assert_allclose(liver["dvh_differential"][:40], 0.1, atol=2e-3)
    assert float((liver["dvh_differential"] * 0.25).sum()) == pytest.approx(1.0, abs=1e-12)
    assert float(liver["dvh_mean"]) == pytest.approx(5.0)
    np.testing.assert_allclose(liver["dvh_dose_at"], [9.8, 5.0, 0.2], atol=2.6e-3)
    np.testing.assert_allclose(liver["dvh_volume_above"], [0.75, 0.6], atol=2.6e-4)
    # 0.03 cm3 are 3.75 voxels of 0.008 cm3: the fourth from the top
    assert float(liver["dvh_near_maximum"]) == pytest.approx((4000 - 3.5) / 400)
    assert float(liver["dvh_volume"]) == pytest.approx(32.0)
    assert float(liver["dvh_noise_share"]) == 0.0


def test_even_dose_is_a_step(ramp):
    out = dose.dose_volume_histogram(*ramp, organs=["lung"], levels_mgy=[0, 3.9, 4.0, 4.1])
    np.testing.assert_array_equal(out["dvh"].values[0], [1, 1, 1, 0])
    assert np.isnan(out["dvh_noise_share"]).all()  # no spread at all
    assert list(out["organ_name"].values) == ["lung"]


def test_noise_share():
    """Even dose with noise: all of the width is noise. A ramp of variance 1/12 with noise of 0.25: 3/7."""
    rng = np.random.default_rng(1)
    sd = np.full((20, 20, 20), 0.25)
    values = 5.0 + rng.normal(0, 0.25, sd.shape)
    values[10:] += np.linspace(0, 1, 4000).reshape(10, 20, 20)
    out = dose.dose_volume_histogram(*scene(values, sd))
    # the variance of 4000 normal numbers is known to sqrt(2 / 4000) = 2.2 %
    assert float(out["dvh_noise_share"].sel(organ_id=1)) == pytest.approx(1.0, abs=0.07)
    assert float(out["dvh_noise_share"].sel(organ_id=2)) == pytest.approx(3 / 7, abs=0.04)


def test_gas_and_unscored_voxels_are_left_out():
    values = np.full((20, 20, 20), 4.0)
    density = np.ones_like(values)
    density[0], values[0] = 0.01, 1000.0
    values[1] = np.nan
    out = dose.dose_volume_histogram(*scene(values, np.zeros_like(values), density=density))
    assert float(out["dvh_mean"].sel(organ_id=1)) == 4.0
    assert float(out["dvh_volume"].sel(organ_id=1)) == pytest.approx(32.0 * 0.8)


def test_an_organ_without_voxels_is_nan(ramp):
    table, phantom = ramp
    emptied = phantom.assign(
        organ=label("organ", phantom["organ"].values.clip(2), dict(phantom["organ"].coords))
    )
    out = dose.dose_volume_histogram(table, emptied)
    assert np.isnan(out["dvh"].sel(organ_id=1)).all()
    assert float(out["dvh_volume"].sel(organ_id=1)) == 0.0


def test_wrong_inputs(ramp):
    table, phantom = ramp
    assert isinstance(table, xr.Dataset)
    with pytest.raises(InputError, match="voxel_map=True"):
        dose.dose_volume_histogram(table.drop_vars("dose"), phantom)
    with pytest.raises(InputError, match="names among liver, lung"):
        dose.dose_volume_histogram(table, phantom, organs=["heart"])
    with pytest.raises(InputError, match="ascending"):
        dose.dose_volume_histogram(table, phantom, levels_mgy=[2.0, 1.0])
    with pytest.raises(InputError, match="the grid of the dose"):
        dose.dose_volume_histogram(table.isel(z=slice(0, 5)), phantom)
