from __future__ import annotations

import numpy as np
import pydicom
import pytest
from pydicom.uid import RLELossless, generate_uid

from twinlab.phantom import read_series
from twinlab.schema import InputError


def expected(series, hu):
    z, y, x = np.meshgrid(hu["z"], hu["y"], hu["x"], indexing="ij")
    return series.hu_at(np.stack([x, y, z], axis=-1))


def test_slices_are_sorted_by_place_not_by_name(series):
    series.write(shuffle=True)
    hu = read_series(series.folder)
    assert hu.shape == (12, 24, 32)
    np.testing.assert_allclose(hu["z"], 100 + 2.5 * np.arange(12))
    np.testing.assert_allclose(hu["y"], -18 + 1.5 * np.arange(24))
    np.testing.assert_allclose(hu["x"], -20 + 1.25 * np.arange(32))
    np.testing.assert_array_equal(hu, expected(series, hu))
    assert hu.attrs["kv"] == 120
    assert hu.attrs["units"] == "HU"


@pytest.mark.parametrize(
    ("row", "column", "advance"),
    [
        ((1, 0, 0), (0, 1, 0), -1),
        ((-1, 0, 0), (0, 1, 0), 1),
        ((1, 0, 0), (0, -1, 0), 1),
        ((-1, 0, 0), (0, -1, 0), -1),
    ],
)
def test_reversed_prone_and_feet_first_series_give_the_same_patient(series, row, column, advance):
    series.row, series.column = np.array(row, float), np.array(column, float)
    series.advance = np.array([0, 0, advance * 2.5])
    series.write()
    hu = read_series(series.folder)
    for axis in "zyx":
        assert (np.diff(hu[axis]) > 0).all()
    np.testing.assert_array_equal(hu, expected(series, hu))


def test_rescale_differs_from_slice_to_slice(series):
    for k in range(series.n):
        series.slice(k, RescaleSlope=0.5 + 0.25 * (k % 2), RescaleIntercept=-1000.0 - k)
    hu = read_series(series.folder)
    # stored as whole numbers of up to 0.75 HU
    np.testing.assert_allclose(hu, expected(series, hu), atol=0.375 + 1e-3)


@pytest.mark.parametrize(("value", "raw"), [(63536, -2000), (-2000, -2000), (-1024, -1024)])
def test_padding_is_marked_however_it_is_written(series, value, raw):
    for k in range(series.n):
        hu = series.hu_at(series.points(k))
        hu[:4, :5] = raw - 1024.0
        path = series.slice(k, hu=hu)
        data = pydicom.dcmread(path)
        data.add_new("PixelPaddingValue", "US" if value > 0 else "SS", value)
        data.save_as(path)
    out = read_series(series.folder)
    assert (out[:, :4, :5] == -2048).all()
    assert float(out[:, 4:, 5:].min()) > -1000


def test_padding_with_the_value_of_tissue_counts_only_at_the_corners(series):
    for k in range(series.n):
        hu = np.full((series.rows, series.columns), 40.0)
        hu[:3, :3] = hu[10, 10] = 0.0
        path = series.slice(k, hu=hu)
        data = pydicom.dcmread(path)
        data.add_new("PixelPaddingValue", "SS", 1024)
        data.save_as(path)
    out = read_series(series.folder)
    assert (out[:, :3, :3] == -2048).all()
    assert (out[:, 10, 10] == 0).all()


def test_noise_in_air_and_lung_is_no_padding(series):
    """Low-dose images of large patients reach far below -1050 HU; the mean must not be pulled to -2048."""
    rng = np.random.default_rng(3)
    for k in range(series.n):
        hu = np.rint(rng.normal(-950.0, 60.0, (series.rows, series.columns)))
        hu[:4, :5] = -2000.0
        series.slice(k, hu=hu)
    out = read_series(series.folder)
    assert (out[:, :4, :5] == -2048).all()
    rest = out.values[:, 5:, 6:]
    assert (rest < -1050).sum() > 20
    # three standard errors of the mean
    assert rest.mean() == pytest.approx(-950.0, abs=3 * 60.0 / np.sqrt(rest.size))


def test_scouts_other_modalities_and_stray_files_are_passed_over(series):
    series.write()
    series.slice(
        0, name="scout", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"], SeriesInstanceUID=generate_uid()
    )
    series.slice(0, name="plan", Modality="RTSTRUCT", SeriesInstanceUID=generate_uid())
    (series.folder / "notes.txt").write_text("not an image")
    assert read_series(series.folder).shape == (12, 24, 32)


def test_folder_without_ct_says_what_is_in_it(series, tmp_path):
    series.slice(0, Modality="MR")
    (series.folder / "notes.txt").write_text("not an image")
    with pytest.raises(InputError, match="expected a folder with CT images; got 1 modality MR, 1 not DICOM"):
        read_series(series.folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="an empty folder"):
        read_series(tmp_path / "empty")
    with pytest.raises(InputError, match="no such folder"):
        read_series(tmp_path / "nowhere")


def test_mixed_series_are_listed_and_one_can_be_picked(series):
    series.write()
    first = series.uid
    series.uid = generate_uid()
    for k in range(5):
        series.slice(k, name=f"other{k}")
    with pytest.raises(InputError, match="2 mixed series") as caught:
        read_series(series.folder)
    assert f"{first}: 12 images" in str(caught.value)
    assert f"{series.uid}: 5 images" in str(caught.value)
    assert read_series(series.folder, series_uid=series.uid).shape == (5, 24, 32)
    with pytest.raises(InputError, match="got 1"):
        read_series(series.folder, series_uid="1.2.3")


def test_missing_slice_is_named_or_interpolated(series):
    series.write(skip=(4,))
    with pytest.raises(InputError, match="missing slices at 110 mm"):
        read_series(series.folder)
    with pytest.warns(UserWarning, match="interpolated 1 slices"):
        hu = read_series(series.folder, repair="interpolate")
    assert hu.attrs["repaired_z_mm"] == [110.0]
    # the object is linear in z; its values are rounded
    np.testing.assert_allclose(hu, expected(series, hu), atol=1.0)


def test_wide_gaps_are_not_invented(series):
    series.write(skip=(4, 5, 6))
    with pytest.raises(InputError, match="gaps of 2 slices at most"):
        read_series(series.folder, repair="interpolate")


def test_uneven_steps_are_refused_or_interpolated(series):
    series.write()
    series.slice(3, name="im003", ImagePositionPatient=[-20.0, -18.0, 100 + 2.5 * 3.4],
                 hu=series.hu_at(series.points(3) + [0, 0, 1.0]))  # fmt: skip
    with pytest.raises(InputError, match=r"uneven steps from 1\.5 to 3\.5 mm"):
        read_series(series.folder)
    with pytest.warns(UserWarning, match="uneven"):
        hu = read_series(series.folder, repair="interpolate")
    np.testing.assert_allclose(hu, expected(series, hu), atol=1.0)  # as above
    with pytest.raises(InputError, match="repair"):
        read_series(series.folder, repair="guess")


def test_equal_duplicates_count_once_and_different_ones_are_refused(series):
    series.write()
    series.slice(2, name="again")
    with pytest.warns(UserWarning, match="1 slices given twice"):
        hu = read_series(series.folder)
    np.testing.assert_array_equal(hu, expected(series, hu))
    series.slice(2, name="again", hu=np.zeros((24, 32)))
    with pytest.raises(InputError, match="different slices at 105 mm"):
        read_series(series.folder)


@pytest.mark.parametrize("degrees", [-12.0, 20.0])
def test_tilted_gantry_is_resampled_onto_upright_axes(series, degrees):
    angle = np.radians(degrees)
    series.column = np.array([0.0, np.cos(angle), -np.sin(angle)])
    series.tags["GantryDetectorTilt"] = degrees
    series.write()
    hu = read_series(series.folder)
    inside = hu.values > -1000
    assert inside.mean() > 0.5
    assert np.diff(hu["z"]) == pytest.approx(2.5)
    # linear object, linear interpolation: only the rounding of stored values is left; voxels half outside the
    # slices are mixed with nothing, so the rim is left out
    core = (
        inside
        & np.roll(inside, 1, 0)
        & np.roll(inside, -1, 0)
        & np.roll(inside, 1, 1)
        & np.roll(inside, -1, 1)
    )
    assert np.abs(hu.values - expected(series, hu))[core & (np.abs(hu.values) < 900)].max() < 1.5


def test_sheared_stack_of_upright_slices_is_straightened(series):
    series.advance = np.array([0.0, 0.5, 2.5])
    series.write()
    hu = read_series(series.folder)
    y = hu["y"].values
    inner = (y > -18 + 11 * 0.5 + 1.5) & (y < -18 + 23 * 1.5 - 1.5)
    np.testing.assert_allclose(hu.values[:, inner], expected(series, hu)[:, inner], atol=1.0)


def test_tilt_tag_against_upright_slices_needs_a_word(series):
    series.tags["GantryDetectorTilt"] = 15.0
    series.write()
    with pytest.raises(InputError, match="tilt tag of 15 degrees"):
        read_series(series.folder)
    assert read_series(series.folder, ignore_tilt_tag=True).shape == (12, 24, 32)


def test_oblique_and_reformatted_series_are_refused(series):
    turn = np.radians(10)
    series.row = np.array([np.cos(turn), np.sin(turn), 0])
    series.column = np.array([-np.sin(turn), np.cos(turn), 0])
    series.write()
    with pytest.raises(InputError, match="oblique"):
        read_series(series.folder)


def test_coronal_series_are_refused(series):
    series.column, series.advance = np.array([0, 0, -1.0]), np.array([0, 2.5, 0])
    series.write()
    with pytest.raises(InputError, match="oblique"):
        read_series(series.folder)


@pytest.mark.parametrize(
    ("tags", "word"),
    [
        ({"RescaleSlope": None}, "RescaleSlope"),
        ({"ImagePositionPatient": None}, "ImagePositionPatient"),
        ({"PixelSpacing": [2.0, 2.0]}, "one PixelSpacing"),
        ({"RescaleType": "OD"}, "RescaleType OD"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.2.1"}, "enhanced multi-frame"),
        ({"ImagePositionPatient": [-15.0, -18.0, 105.0]}, "aside"),
    ],
)
def test_files_that_cannot_be_used_are_named(series, tags, word):
    series.write()
    series.slice(2, name="im002", **tags)
    with pytest.raises(InputError, match=word):
        read_series(series.folder)


def test_one_slice_is_no_series(series):
    series.slice(0)
    with pytest.raises(InputError, match="two slices or more"):
        read_series(series.folder)


def test_compressed_pixels_are_read_and_broken_ones_named(series):
    series.write()
    path = series.folder / "im005"
    data = pydicom.dcmread(path)
    data.compress(RLELossless)
    data.save_as(path)
    hu = read_series(series.folder)
    np.testing.assert_array_equal(hu, expected(series, hu))
    data = pydicom.dcmread(series.folder / "im006")
    data.PixelData = data.PixelData[:100]
    data.save_as(series.folder / "im006")
    with pytest.raises(InputError, match="im006"):
        read_series(series.folder)
