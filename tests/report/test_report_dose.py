"""Tables, words and figures of doses tell what the datasets hold, and never a number without what it lacks."""

from __future__ import annotations

import io

import numpy as np
import pytest
import xarray as xr
from PIL import Image

from twinlab import dose, scanner
from twinlab.report import current_tables, dose_figures, dose_tables
from twinlab.report.dose_validation import sectors
from twinlab.scanner.exposure import WATER_PER_MM
from twinlab.schema import InputError, label

RANGE = (-30.0, 30.0)


@pytest.fixture(scope="module")
def scan():
    """A modulated and a fixed scan of ten sectors, and what the notebook makes of them."""
    body = sectors()
    asked = scanner.load_protocol("abdomen_pelvis").replace(tube_current_ma=200.0)
    plan, path = scanner.automatic_exposure(body, asked, z_range_mm=RANGE)
    index = dose.ctdi(plan, histories=20_000)
    options = {"z_range_mm": RANGE, "histories": 60_000, "output_factor": dose.output_factor(index)}
    run = dose.simulate(body, plan, trajectory=path, seed=1, **options)
    fixed = dose.simulate(body, plan, isocentre_mm=(0.0, 0.0), seed=2, voxel_map=False, **options)
    found = dose.quantities(
        run,
        body,
        plan,
        sex="male",
        age=60,
        ctdi=index,
        dlp_region="abdomen and pelvis",
        relative_mas=scanner.relative_mas(path),
    )
    return {
        "body": body,
        "plan": plan,
        "path": path,
        "index": index,
        "run": run,
        "fixed": fixed,
        "all": found,
    }


@pytest.fixture(scope="module")
def noise(scan):
    z = scan["all"].z[np.isfinite(scan["all"].ssde)]
    return current_tables.relative_noise(scan["path"], scan["plan"], scanner.water_width(scan["body"]), z)


@pytest.fixture(scope="module")
def change(scan):
    return current_tables.current_table(scan["fixed"], scan["run"])


def test_soft_organs_are_shown_and_parts_said(scan):
    run = scan["run"]
    # all sectors reach the ends of the images; blood and cortical bone are no tissues of ICRP 103
    shown = dose_tables.shown_organs(run, scan["all"], sd_percent=50.0)
    names = [str(n) for n in shown.organ_name.values]
    assert "liver (part)" in names
    assert "lung (part)" in names
    assert not any("bone" in n for n in names)
    whole = run.assign(
        organ_cut=xr.zeros_like(run.organ_cut), organ_coverage=xr.ones_like(run.organ_coverage)
    )
    named = dose_tables.shown_organs(whole, scan["all"], names=["brain", "bone_cortical"])
    assert sorted(map(str, named.organ_name.values)) == ["bone_cortical", "brain"]
    with pytest.raises(InputError, match="shown_organs"):
        dose_tables.shown_organs(run, scan["all"], sd_percent=1e-6)


def test_organ_table_scales_to_mas_and_ctdivol(scan):
    per = dose.per_output(scan["run"], scan["plan"], scan["index"])
    table = dose_tables.organ_table(scan["run"], per, count=4)
    assert len(table) == 4
    assert (table["mass [g]"].diff().dropna() <= 0).all()
    mas, volume = scan["plan"].effective_mas, per.attrs["ctdi_vol_mgy"]
    value = {name: table[name].str.split(" ± ").str[0].astype(float) for name in table.columns[1:4]}
    dose_mgy = value["dose ± sd [mGy]"]
    np.testing.assert_allclose(value["per 100 effective mAs [mGy]"] * mas / 100, dose_mgy, rtol=0.02)
    np.testing.assert_allclose(value["per CTDIvol [mGy/mGy]"] * volume, dose_mgy, rtol=0.02)


def test_tissues_add_up_to_the_sum_that_is_said_with_what_it_lacks(scan):
    table = dose_tables.tissue_table(scan["all"])
    column = "weight x share x dose [mSv]"
    assert table["weight"].sum() == pytest.approx(1.0)
    assert table[column].sum() == pytest.approx(float(scan["all"].effective_dose_contained))
    assert table.loc[table["share inside"] == 0, column].isna().all()
    words = dose_tables.effective_words(scan["all"])
    assert f"{100 * float(scan['all'].weight_covered):.0f} % of the ICRP 103 weights" in words
    assert "wholly missing: " in words
    assert "breast" in words
    assert "not effective dose" in words


def test_words_name_organs_with_their_uncertainty(scan):
    words = dose_tables.organ_words(scan["run"], count=2)
    assert words.count(" ± ") == 2
    body = scan["body"].assign_attrs(enhanced_organs="kidney_left, a, b, c, d, e")
    assert "found in kidney left, a, b, c, d and 1 more labels." in dose_tables.highest_words(
        scan["run"], body
    )
    assert "Contrast" not in dose_tables.highest_words(scan["run"], scan["body"])
    assert "SSDE" in dose_tables.size_words(scan["all"], scan["path"])


def test_energy_of_a_run_is_kept(scan):
    lost, mapped = dose_tables.energy_balance(scan["run"], scan["body"])
    assert abs(lost) < 1e-12
    assert mapped == pytest.approx(1.0, abs=1e-5)


def test_change_by_modulation(scan, change):
    row = change.iloc[0]
    k = [str(n).replace("_", " ") for n in scan["run"].organ_name.values].index(row["organ"])
    a, b = (scan[name].isel(organ_id=k) for name in ("fixed", "run"))
    assert row["difference [%]"] == pytest.approx(100 * float(b.organ_dose / a.organ_dose - 1))
    spread = np.hypot(a.organ_dose_sd / a.organ_dose, b.organ_dose_sd / b.organ_dose)
    assert row["sd [%]"] == pytest.approx(100 * float(b.organ_dose / a.organ_dose * spread))
    assert (change["difference [%]"].diff().dropna() >= 0).all()
    shown = current_tables.current_rows(change)
    assert list(shown["organ"]) == list(change["organ"])
    assert shown["difference ± sd [%]"].str.contains(" ± ").all()
    with pytest.raises(InputError, match="seeds"):
        current_tables.current_table(scan["run"], scan["run"])
    with pytest.raises(InputError, match="organs"):
        current_tables.current_table(scan["fixed"], scan["run"].isel(organ_id=slice(3)))


def test_noise_of_the_square_root_law_is_the_closed_form(scan):
    """Mean variance over fixed current: <exp(mu w/2)>^2 / <exp(mu w)> for current as exp(mu w/2)."""
    angle = np.arange(180) * np.pi / 180
    width = 250 + 60 * np.cos(2 * angle)
    seen = label("water_width", np.tile(width, (3, 1)), {"z": [-50.0, 0.0, 50.0], "angle": angle})
    plan = scan["plan"]
    views = np.arange(720)
    turn = np.interp(views * np.pi / 360 % np.pi, np.append(angle, np.pi), np.append(width, width[0]))
    path = xr.Dataset(
        {
            "view_angle": label("view_angle", views * np.pi / 360),
            "source_z": label("source_z", np.linspace(-0.1, 0.1, 720)),
            "tube_current": label("tube_current", 100 * np.exp(0.5 * WATER_PER_MM * (turn - 250))),
        }
    )
    found = current_tables.relative_noise(path, plan, seen, [0.0])
    quanta = np.exp(WATER_PER_MM * (turn - 250))
    assert found.attrs["variance_ratio"] == pytest.approx(
        np.sqrt(quanta).mean() ** 2 / quanta.mean(), rel=1e-6
    )
    assert float(found.fixed[0]) == pytest.approx(1.0)
    with pytest.raises(InputError, match="slices that the beam covers"):
        current_tables.relative_noise(path, plan, seen, [400.0])


def test_words_on_current_say_whether_anything_is_sure(change, noise):
    words = current_tables.current_words(change.assign(sds=0.1), noise)
    assert "No organ of 10 differs by more than 3 sd" in words
    sure = change.assign(sds=[5.0] + [0.0] * 9)
    assert "1 of 10 organs differ" in current_tables.current_words(sure, noise)
    assert "% less mAs" in words or "% more mAs" in words


def test_risk_comes_with_interval_and_statement(scan):
    words = dose_tables.risk_words(scan["all"])
    assert "95 % subjective interval" in words
    assert "not on the dose from prior imaging" in words
    table = dose_tables.risk_table(scan["all"])
    last = table.iloc[-1]
    assert last["low"] < last["per 100,000"] < last["high"]
    none = scan["run"]
    assert len(dose_tables.risk_table(none)) == 0
    assert "no risk" in dose_tables.risk_words(none)


def drawn(plot) -> None:
    """The figure has a picture and words."""
    bundle, _ = plot._repr_mimebundle_()
    assert bundle["text/plain"] != "figure"

    assert min(Image.open(io.BytesIO(plot.png())).size) > 200


def test_figures_draw(scan, noise, change):
    drawn(dose_figures.along_patient(scan["all"], scan["path"], noise, ctdi_vol_mgy=8.0))
    drawn(dose_figures.differences(change.assign(sds=[5.0] + [0.0] * 9)))
    with pytest.raises(InputError, match="differences"):
        dose_figures.differences(change.iloc[:0])


def test_histograms_draw_and_say_how_much_is_noise(scan):
    dvh = dose.dose_volume_histogram(scan["run"], scan["body"], organs=["liver", "brain"])
    plot = dose_figures.histograms(dvh)
    drawn(plot)
    assert len(plot.axes[0].lines) == 2
    words = dose_figures.histogram_words(dvh)
    assert "statistical noise" in words
    quiet = dvh.assign(dvh_noise_share=dvh.dvh_noise_share * 0)
    assert "only the mean" not in dose_figures.histogram_words(quiet)


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        ({"organs": ["brian"]}, "brian"),
        ({"dlp_region": "thorax"}, "region"),
        ({"age": 130.0}, "age"),
        ({"sex": "both"}, "sex"),
    ],
)
def test_what_would_fail_later_is_refused_first(scan, wish, words):
    fine = {"sex": "male", "age": 60.0, "organs": ["brain"], "dlp_region": "chest"}
    dose_tables.check_wishes(scan["body"], scan["plan"], **fine)
    dose_tables.check_wishes(
        scan["body"], scan["plan"], **(fine | {"age": 0.0, "dlp_region": "", "organs": []})
    )
    with pytest.raises(InputError, match=words):
        dose_tables.check_wishes(scan["body"], scan["plan"], **(fine | wish))
