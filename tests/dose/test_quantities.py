"""All dose quantities of one run in one Dataset: what is there, what is left out, one tube output."""

from __future__ import annotations

import numpy as np
import pytest

from twinlab import dose
from twinlab.phantom import assemble
from twinlab.scanner import current_of_slices, load_protocol, trajectory
from twinlab.schema import InputError
from twinlab.variables import VARIABLES


@pytest.fixture(scope="module")
def protocol():
    return load_protocol("abdomen_pelvis").replace(tube_current_ma=200.0)


@pytest.fixture(scope="module")
def phantom():
    """Trunk of water: liver, uterus, a rib with bone, skin; 24 cm wide, 20 cm long, voxels of 1 cm."""
    c = (np.arange(28) - 13.5) * 10.0
    z = np.arange(20) * 10.0 + 5.0
    y, x = np.meshgrid(c, c, indexing="ij")
    r = np.hypot(x, y)
    organ = np.where(r < 120, 1000, 0)
    organ[(r < 120) & (r >= 108)] = 1001
    organ[np.hypot(x - 40, y) < 30] = 1
    organ[np.hypot(x + 40, y) < 30] = 2
    organ[np.hypot(x, y - 80) < 20] = 3
    organ = np.broadcast_to(organ, (20, 28, 28)).copy()
    organ[:3][organ[:3] < 1000] = np.where(organ[:3][organ[:3] < 1000] > 0, 1000, 0)
    bone = organ == 3
    return assemble(
        material=np.where(bone, 2, organ > 0).astype(np.uint8),
        density=np.where(bone, 1.4, np.where(organ > 0, 1.0, 0.0012)),
        organ=organ,
        material_names=["air", "water", "bone_rib"],
        organ_names={
            0: "outside",
            1: "liver",
            2: "uterus",
            3: "rib_left_1",
            1000: "body",
            1001: "skin",
        },
        z=z,
        y=c,
        x=c,
        name="trunk",
        source="made for this test",
    )


@pytest.fixture(scope="module")
def run(phantom, protocol):
    return dose.simulate(
        phantom, protocol, z_range_mm=(40.0, 160.0), histories=40_000, output_factor=0.9, extend_mm=0.0
    )


@pytest.fixture(scope="module")
def index(protocol):
    return dose.ctdi(protocol, histories=40_000)


@pytest.fixture(scope="module")
def everything(run, phantom, protocol, index):
    return dose.quantities(
        run, phantom, protocol, sex="female", age=40, ctdi=index, dlp_region="abdomen and pelvis"
    )


def test_every_variable_is_registered_and_labelled(everything):
    for name, variable in everything.data_vars.items():
        assert name in VARIABLES
        assert variable.attrs["units"] == VARIABLES[name].units
        assert variable.attrs["long_name"]


def test_every_statistical_figure_has_its_sd(everything):
    for name in everything.data_vars:
        if name.endswith(("_dose", "_mean", "dlp")) and f"{name}_sd" in VARIABLES:
            assert f"{name}_sd" in everything
    for name in ("risk", "risk_total", "effective_dose_one_sex", "tissue_dose", "dlp", "ssde_mean"):
        value, sd = everything[name], everything[f"{name}_sd"]
        known = np.isfinite(value.values)
        assert (sd.values[known] >= 0).all()


def test_parts_are_those_of_the_functions(everything, run, phantom, protocol):
    skeleton = dose.marrow_dose(run, phantom, protocol=protocol)
    tissues = dose.tissue_doses(run, sex="female", skeleton=skeleton)
    np.testing.assert_array_equal(everything["tissue_dose"], tissues["tissue_dose"])
    assert float(everything["red_marrow_dose"]) == float(skeleton["red_marrow_dose"])
    assert float(everything["fetal_dose"]) == float(run["organ_dose"].sel(organ_id=2))
    assert float(everything["risk_total"]) == float(dose.lifetime_risk(tissues, age=40)["risk_total"])
    histogram = dose.dose_volume_histogram(run, phantom)
    np.testing.assert_array_equal(everything["dvh"], histogram["dvh"])
    assert everything.attrs["left_out"] == "nothing"
    assert everything.attrs["histories"] == 40_000


def test_indices_belong_to_the_output_of_the_run(everything, protocol, index):
    """CTDIvol from the simulated CTDIw times the run's output factor, 0.9; DLP: table travel with beam on."""
    want = 0.9 * float(index["ctdi_w"]) * protocol.effective_mas / 100.0
    assert float(everything["ctdi_vol_mean"]) == pytest.approx(want, rel=1e-12)
    published = dose.dlp(protocol, index, z_range_mm=(40.0, 160.0))
    assert float(everything["dlp"]) == pytest.approx(
        published * 0.9 / float(index["output_factor"]), rel=1e-12
    )
    assert float(everything["effective_dose_dlp"]) == pytest.approx(0.015 * float(everything["dlp"]))
    relative = float(index["ctdi_w_sd"] / index["ctdi_w"])
    assert float(everything["dlp_sd"] / everything["dlp"]) == pytest.approx(relative)
    inside = everything["ssde"].values[np.isfinite(everything["ssde"])]
    assert float(everything["ssde_mean"]) == pytest.approx(inside.mean())


def test_a_run_scaled_to_the_published_ctdi_has_its_index(run, phantom, protocol, index):
    """Then the sd of the factor belongs to the doses, not to CTDIvol, which is the published number."""
    assert np.isfinite(float(index["ctdi_w_published"]))
    scaled = run.assign_attrs(output_factor=float(index["output_factor"]))
    out = dose.quantities(scaled, phantom, protocol, sex="female", ctdi=index)
    want = float(index["ctdi_w_published"]) * protocol.effective_mas / 100.0
    assert float(out["ctdi_vol_mean"]) == pytest.approx(want, rel=1e-12)
    assert float(out["dlp_sd"]) == 0.0
    relative = float(index["ctdi_w_sd"] / index["ctdi_w"])
    assert out.attrs["output_factor_relative_sd"] == pytest.approx(relative)


def test_current_of_a_trajectory(run, phantom, protocol, index):
    """CTDIvol, DLP and SSDE follow the current of the scan, not the protocol's; more where there is more of it."""
    path = trajectory(protocol, z_range_mm=(40.0, 160.0))
    ma = protocol.tube_current_ma
    path = current_of_slices(path, z_mm=[90.0, 110.0], tube_current_ma=[ma, 3 * ma])
    weight = path["tube_current"].to_numpy()
    bare = run.drop_vars(["dose", "dose_sd"])
    scan = bare.assign_attrs(effective_mas=protocol.effective_mas * weight.mean() / ma)
    one = dose.quantities(bare, phantom, protocol, sex="male", ctdi=index)
    out = dose.quantities(scan, phantom, protocol, sex="male", ctdi=index, trajectory=path)
    assert float(out["dlp"] / one["dlp"]) == pytest.approx(weight.mean() / ma)
    ends = [float((out["ctdi_vol"] / one["ctdi_vol"]).sel(z=z, method="nearest")) for z in (50.0, 150.0)]
    # beams of slices 40 mm from the ramp still see some of its 20 mm
    assert ends == pytest.approx([1.0, 3.0], rel=0.05)


def test_organ_dose_is_near_ssde(everything):
    """SSDE claims the mean dose in the middle of the scan within 20 % (AAPM 204)."""
    liver = float(everything["organ_dose"].sel(organ_id=1))
    assert liver == pytest.approx(float(everything["ssde_mean"]), rel=0.25)


def test_the_print_says_what_it_is_not_for(everything):
    text = repr(everything)
    assert "must not decide a justification" in text
    assert "no go or no-go" in text


def test_what_is_not_given_is_named(run, phantom, protocol):
    bare = run.drop_vars(["dose", "dose_sd"]).isel(organ_id=[0])
    out = dose.quantities(bare, phantom, protocol, sex="male")
    for what in ("no labelled bone", "no voxel map", "no ctdi given", "no uterus", "no age given"):
        assert what in out.attrs["left_out"]
    assert "dlp" not in out


def test_children_are_told_that_values_are_adult(run, phantom, protocol):
    out = dose.quantities(run, phantom, protocol, sex="female", age=7)
    assert "patient 7 years" in out.attrs["tissues: adult_values"]


def test_histograms_of_chosen_organs(run, phantom, protocol):
    out = dose.quantities(run, phantom, protocol, sex="female", histograms=["liver"])
    assert np.isfinite(out["dvh"].sel(organ_id=1)).all()
    assert np.isnan(out["dvh"].sel(organ_id=2)).all()


def test_wrong_inputs(run, phantom, protocol, index):
    bare = run.drop_vars(["dose", "dose_sd"])
    with pytest.raises(InputError, match="voxel map"):
        dose.quantities(bare, phantom, protocol, sex="male", histograms=["liver"])
    plain = bare.copy()
    plain.attrs = {}
    with pytest.raises(InputError, match="output_factor, z_low_mm"):
        dose.quantities(plain, phantom, protocol, sex="male", ctdi=index)
    with pytest.raises(InputError, match="a ctdi with it"):
        dose.quantities(bare, phantom, protocol, sex="male", dlp_region="chest")
    with pytest.raises(InputError, match="kv"):
        dose.quantities(bare, phantom, protocol.replace(kv=100.0), sex="male", ctdi=index)
    with pytest.raises(InputError, match="phantom of this factor"):
        dose.quantities(
            bare, phantom, protocol, sex="male", ctdi=index, dlp_region="abdomen and pelvis", dlp_age="1 year"
        )
