"""Images as DICOM: read back by our importer and by GDCM, and examined by dciodvfy."""

from __future__ import annotations

import datetime as dt
import shutil
import subprocess

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
import xarray as xr
from scan_cases import small_protocol

from twinlab import cli
from twinlab.ct import acquire, line_integrals, reconstruct
from twinlab.ct.export import write_dicom
from twinlab.ct.export.storage import decimal, store, uid
from twinlab.phantom import Recipe, read_series
from twinlab.scanner import load_protocol, trajectory
from twinlab.schema import InputError, label

WHEN = dt.datetime(2026, 1, 2, 3, 4, 5)
Z = 100.0 + 1.25 * np.arange(6)
Y = -3.3 + 1.5 * (np.arange(24) - 11.5)
X = 7.1 + 1.25 * (np.arange(32) - 15.5)


def hu_at(z, y, x):
    """Whole numbers that differ along all axes; linear, so that linear resampling is exact."""
    return 100 + 4 * (x - X[0]) - 2 * (y - Y[0]) + 8 * (z - Z[0])


def made(*, tilt_deg=0.0, values=None, **attrs):
    z, y, x = np.meshgrid(Z, Y, X, indexing="ij")
    c, s = np.cos(np.radians(tilt_deg)), np.sin(np.radians(tilt_deg))
    hu = hu_at(z + s * y, c * y, x) if values is None else values
    attrs = {"kernel": "standard", "slice_thickness_mm": 1.25, **attrs}
    if tilt_deg:
        attrs = {"gantry_tilt_deg": tilt_deg, "isocentre_y_mm": 0.0, **attrs}
    return label("hu", hu.astype(np.float32), {"z": Z, "y": Y, "x": X}, **attrs)


@pytest.fixture(scope="module")
def chest():
    return load_protocol("adult_chest", tube_current_ma=200)


def test_our_importer_reads_the_same_grid_and_numbers(tmp_path, chest):
    image = made()
    paths = write_dicom(image, tmp_path / "out", protocol=chest)
    back = read_series(tmp_path / "out")
    assert len(paths) == 6
    for axis in "zyx":  # 16 characters of a decimal string hold 13 digits or more
        np.testing.assert_allclose(back[axis], image[axis], rtol=0, atol=1e-9)
    np.testing.assert_array_equal(back, image)
    assert back.attrs["kv"] == 120


def test_fractions_are_rounded_to_half_a_step(tmp_path, chest):
    values = np.random.default_rng(1).uniform(-1000, 3500, (6, 24, 32))
    write_dicom(made(values=values), tmp_path / "out", protocol=chest)
    assert np.abs(read_series(tmp_path / "out") - values).max() <= 0.5 + 1e-3


def test_itk_reads_the_same_grid_and_numbers(tmp_path, chest):
    image = made()
    write_dicom(image, tmp_path / "out", protocol=chest)
    names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(tmp_path / "out"))
    read = sitk.ReadImage(names)
    assert len(names) == 6
    np.testing.assert_allclose(read.GetOrigin(), (X[0], Y[0], Z[0]), atol=1e-9)
    np.testing.assert_allclose(read.GetSpacing(), (1.25, 1.5, 1.25), atol=1e-9)
    np.testing.assert_allclose(read.GetDirection(), np.eye(3).ravel(), atol=1e-12)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(read), image)


@pytest.mark.parametrize("tilt_deg", [-20.0, 12.5])
def test_a_tilted_gantry_keeps_every_voxel_in_its_place(tmp_path, tilt_deg):
    write_dicom(made(tilt_deg=tilt_deg), tmp_path / "out", protocol=small_protocol())
    back = read_series(tmp_path / "out")
    z, y, x = np.meshgrid(back["z"], back["y"], back["x"], indexing="ij")
    seen = back.to_numpy() > -1000  # beyond the slices there is padding
    assert seen.mean() > 0.3
    # 0.5 HU of rounding; positions are exact
    assert np.abs(back.to_numpy() - hu_at(z, y, x))[seen].max() <= 0.5 + 0.01


def test_itk_sees_the_tilted_plane(tmp_path):
    image = made(tilt_deg=15.0, isocentre_y_mm=0.0)
    paths = write_dicom(image, tmp_path / "out", protocol=small_protocol())
    one = sitk.ReadImage(str(paths[2]))
    for j, i in ((0, 0), (20, 5), (23, 31)):
        x, y, z = one.TransformIndexToPhysicalPoint((i, j, 0))
        assert float(image[2, j, i]) == pytest.approx(hu_at(z, y, x), abs=1e-3)
        assert sitk.GetArrayFromImage(one)[0, j, i] == pytest.approx(float(image[2, j, i]), abs=0.5)
    assert float(pydicom.dcmread(paths[0]).GantryDetectorTilt) == 15.0


def test_the_pivot_of_a_tilt_is_the_isocentre(tmp_path):
    image = made(tilt_deg=15.0, isocentre_y_mm=-40.0)
    header = pydicom.dcmread(write_dicom(image, tmp_path / "out", protocol=small_protocol())[0])
    aside = Y[0] + 40.0
    c, s = np.cos(np.radians(15.0)), np.sin(np.radians(15.0))
    expected = (X[0], -40.0 + c * aside, Z[0] + s * aside)
    np.testing.assert_allclose(header.ImagePositionPatient, expected, atol=1e-9)


@pytest.mark.parametrize("tilt_deg", [15.0, -15.0])
def test_a_ball_scanned_with_a_tilt_is_read_where_it_is(tmp_path, tilt_deg):
    """From solids through scan, image and files back to patient coordinates; a pivot taken for 0 errs by 15 mm."""
    base = small_protocol(n_channels=128, n_rows=8, bowtie="none")
    scanner = base.scanner.model_copy(update={"max_gantry_tilt_deg": 30.0})
    protocol = base.model_copy(update={"scanner": scanner, "gantry_tilt_deg": tilt_deg})
    centre = {"x": -30.0, "y": 50.0, "z": 4.0}
    ball = {"shape": "ellipsoid", "name": "b", "material": "water", "diameter_mm": 32.0, "centre_mm": centre}
    size = {"x": 200.0, "y": 200.0, "z": 200.0}
    made_of = {"name": "b", "title": "b", "source": "made for a test", "shapes": [ball], "size_mm": size}
    recipe = Recipe.make({**made_of, "spacing_mm": {"x": 2.0, "y": 2.0, "z": 2.0}})
    path = trajectory(protocol, z_range_mm=(-50, 50), isocentre_mm=(0.0, 60.0))
    projections = acquire(line_integrals(recipe, protocol, path), protocol, seed=1, noise=False)
    x = np.linspace(-60, 60, 41)
    grid = {"x": x, "y": x + 50.0, "z": np.arange(-40.0, 41.0, 2.5)}
    image = reconstruct(projections, protocol, grid=grid, kernel="smooth").fillna(-1000.0)
    write_dicom(image, tmp_path / "out", protocol=protocol)  # the image knows its pivot
    back = read_series(tmp_path / "out")
    water = (back > -500).to_numpy()
    z, y, x = np.meshgrid(back["z"], back["y"], back["x"], indexing="ij")
    found = [float(along[water].mean()) for along in (x, y, z)]
    # coarse cells of 3.6 mm and slices of 2.5 mm
    assert found == pytest.approx([centre["x"], centre["y"], centre["z"]], abs=2.0)


def test_metal_and_padding_are_stored_unclipped(tmp_path, chest):
    values = np.zeros((6, 24, 32))
    values[2, 5, 5], values[2, 5, 6] = 31_000.0, -7000.0
    values[:, 0, 0] = np.nan
    paths = write_dicom(made(values=values), tmp_path / "out", protocol=chest)
    header = pydicom.dcmread(paths[2])
    stored = header.pixel_array * float(header.RescaleSlope) + float(header.RescaleIntercept)
    assert (stored[5, 5], stored[5, 6]) == (31_000.0, -7000.0)
    assert header.pixel_array[0, 0] == header.PixelPaddingValue
    assert (read_series(tmp_path / "out")[:, 0, 0] == -2048).all()


@pytest.mark.parametrize(
    ("low", "high", "step"),
    [(-1000, 3071, 1), (-8191, 57_343, 1), (-8191.5, 0, 1), (-9000, 57_343, 2), (-20_000, 3e5, 8)],
)
def test_no_value_is_clipped_whatever_the_range(low, high, step):
    hu = np.array([low, 0.0, np.nan, high / 3, high])
    kept = store(hu[None])
    assert kept.pixels.shape == (1, 5)
    kept = kept._replace(pixels=kept.pixels[0])
    back = kept.pixels * kept.slope + kept.intercept
    assert kept.slope == step
    assert kept.padded
    assert list(kept.pixels == 0) == [False, False, True, False, False]
    assert np.nanmax(np.abs(back - hu)[[0, 1, 3, 4]]) <= step / 2


def test_headers_say_how_the_image_was_made(tmp_path):
    protocol = load_protocol("adult_chest", tube_current_ma=200, kv=120)
    source_z = np.linspace(60, 150, 200)
    current = 100.0 + 2.0 * (source_z - 60.0)
    views = xr.Dataset(
        {"source_z": label("source_z", source_z), "tube_current": ("view", current, {"units": "mA"})}
    )
    phantom = xr.Dataset(attrs={"name": "Somebody", "key": "abc123"})
    paths = write_dicom(
        made(), tmp_path / "out", protocol=protocol, projections=views, phantom=phantom, ctdi_vol_mgy=5.5
    )
    headers = [pydicom.dcmread(p) for p in paths]
    h = headers[3]
    assert h.Manufacturer == "twinlab"
    assert h.ManufacturerModelName == "ge_lightspeed_vct"
    assert list(h.ImageType) == ["DERIVED", "PRIMARY", "AXIAL"]
    assert "imulated" in h.DerivationDescription
    assert "imulated" in h.ImageComments
    assert (h.PatientName, h.PatientID) == ("SIMULATED^Somebody", "SIM-abc123")
    assert (h.KVP, h.ConvolutionKernel, h.FilterType, h.CTDIvol) == (120, "standard", "body", 5.5)
    assert h.SpiralPitchFactor == protocol.pitch
    assert h.TableFeedPerRotation / h.TotalCollimationWidth == pytest.approx(h.SpiralPitchFactor)
    assert h.DistanceSourceToDetector == pytest.approx(949.075)
    # the current grows linearly in z, so its mean over the beam is its value at the slice
    for z, header in zip(Z, headers, strict=True):
        assert header.XRayTubeCurrent == pytest.approx(100 + 2 * (z - 60), abs=2)
        ms = 1000 * protocol.rotation_time_s / protocol.pitch
        assert header.ExposureTime == round(ms)
        assert header.Exposure == pytest.approx(header.XRayTubeCurrent * ms / 1000, abs=1)
    assert [int(header.InstanceNumber) for header in headers] == [1, 2, 3, 4, 5, 6]


def test_published_ctdi_gives_ctdi_vol(tmp_path, chest):
    header = pydicom.dcmread(write_dicom(made(), tmp_path / "out", protocol=chest)[0])
    published = chest.scanner.ctdi_w_mgy_per_100mas["32"][120.0]
    assert header.CTDIvol == pytest.approx(published * chest.effective_mas / 100)
    assert header.CTDIPhantomTypeCodeSequence[0].CodeValue == "113691"


def test_identifiers_follow_the_content(tmp_path, chest):
    def headers(name, image, **more):
        return [pydicom.dcmread(p) for p in write_dicom(image, tmp_path / name, protocol=chest, **more)]

    first, again = headers("a", made(phantom="p")), headers("b", made(phantom="p"))
    other = headers("c", made(values=made().to_numpy() + 1.0, phantom="p"))
    assert [h.SOPInstanceUID for h in first] == [h.SOPInstanceUID for h in again]
    assert (tmp_path / "a" / "CT00001.dcm").read_bytes() == (tmp_path / "b" / "CT00001.dcm").read_bytes()
    assert first[0].SeriesInstanceUID != other[0].SeriesInstanceUID
    assert first[0].StudyInstanceUID == other[0].StudyInstanceUID
    assert first[0].FrameOfReferenceUID == other[0].FrameOfReferenceUID
    sharp = headers("d", made(kernel="sharp", phantom="p"))
    assert sharp[0].SeriesInstanceUID != first[0].SeriesInstanceUID
    uids = {h.SOPInstanceUID for h in (*first, *other)}
    assert len(uids) == 12
    assert all(pydicom.uid.UID(u).is_valid and len(u) <= 64 for u in uids)
    assert uid("x", 1) == uid("x", 1) != uid("x", 2)


def test_patient_and_study_follow_from_what_was_scanned(tmp_path, chest):
    def identity(name, image, **more):
        header = pydicom.dcmread(write_dicom(image, tmp_path / name, protocol=chest, **more)[0])
        return header.StudyInstanceUID, header.FrameOfReferenceUID, header.PatientID

    one, other = identity("a", made(phantom="p")), identity("b", made(phantom="q"))
    assert all(x != y for x, y in zip(one, other, strict=True))
    keyed = [xr.Dataset(attrs={"key": key}) for key in "pq"]
    assert identity("c", made(), phantom=keyed[0]) == identity("d", made() + 1.0, phantom=keyed[0]) == one
    assert identity("e", made(), phantom=keyed[1]) == other
    assert identity("f", made(), patient_id="1") == identity("g", made() + 1.0, patient_id="1")
    assert identity("h", made(), patient_id="1")[:2] != identity("i", made(), patient_id="2")[:2]
    assert identity("j", made())[0] != identity("k", made() + 1.0)[0]


def test_a_protocol_that_contradicts_the_image_is_refused(tmp_path, chest):
    true = {"scanner": chest.scanner.key, "kv": 120.0, "mas": chest.mas * (1.0 + 1e-7)}
    assert len(write_dicom(made(**true), tmp_path / "out", protocol=chest)) == 6
    for wrong, said in (
        ({"kv": 100.0}, r"expected 100 kV.*got 120 kV"),
        ({"mas": 3.0 * chest.mas}, rf"expected {3 * chest.mas:g} mAs.*got {chest.mas:g} mAs"),
        ({"scanner": "another"}, "expected scanner another.*got ge_lightspeed_vct"),
    ):
        with pytest.raises(InputError, match=said):
            write_dicom(made(**{**true, **wrong}), tmp_path / "none", protocol=chest)
    with pytest.raises(InputError, match="expected the Protocol of the scan; got NoneType"):
        write_dicom(made(), tmp_path / "none", protocol=None)
    image = made(tilt_deg=5.0)
    del image.attrs["isocentre_y_mm"]
    with pytest.raises(InputError, match="'isocentre_y_mm' of a tilted image"):
        write_dicom(image, tmp_path / "none", protocol=small_protocol())
    assert not (tmp_path / "none").exists()


def test_two_tube_voltages_are_not_told_as_one(tmp_path, chest):
    two = chest.model_copy(update={"second_kv": 140.0})
    assert pydicom.dcmread(write_dicom(made(), tmp_path / "out", protocol=two)[0]).KVP is None


def test_a_single_slice_can_be_written(tmp_path, chest):
    header = pydicom.dcmread(write_dicom(made()[2:3], tmp_path / "out", protocol=chest)[0])
    assert header.SliceThickness == 1.25
    assert header.ImagePositionPatient[2] == Z[2]


@pytest.mark.parametrize("value", [-1234.5678901234567, 1e-7 / 3, 0.1 + 0.2, -1 / 3e5, 123456789.123456789])
def test_decimal_strings_are_short_and_near(value):
    text = str(decimal(value))
    assert len(text) <= 16
    assert float(text) == pytest.approx(value, rel=1e-8)


def test_the_command_line_writes_a_series(tmp_path, capsys):
    made().to_netcdf(tmp_path / "image.nc", engine="h5netcdf")
    arguments = ["export", str(tmp_path / "image.nc"), str(tmp_path / "out"), "--protocol", "adult_chest"]
    assert cli._run(arguments) == 2  # the protocol follows the patient's size and has no current of its own
    assert "tube_current_ma" in capsys.readouterr().err
    assert cli._run([*arguments, "--ma", "150"]) == 0
    assert "6 slices" in capsys.readouterr().out
    np.testing.assert_array_equal(read_series(tmp_path / "out"), made())
    header = pydicom.dcmread(tmp_path / "out" / "CT00001.dcm")
    assert (header.XRayTubeCurrent, header.SliceThickness, header.ConvolutionKernel) == (
        150,
        1.25,
        "standard",
    )
    assert cli._run(["export", str(tmp_path / "none.nc"), *arguments[2:]]) == 2
    assert "no file" in capsys.readouterr().err


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy (dicom3tools) is not installed")
@pytest.mark.parametrize("key", ["adult_chest", "head_axial", "bench_cbct"])
@pytest.mark.parametrize("when", [WHEN, None])
def test_dciodvfy_finds_nothing(tmp_path, key, when):
    protocol = load_protocol(key) if key == "bench_cbct" else load_protocol(key, tube_current_ma=200)
    values = np.zeros((6, 24, 32))
    values[:, 0, 0] = np.nan
    image = made(
        values=values, **({"gantry_tilt_deg": 10.0, "isocentre_y_mm": 0.0} if key == "head_axial" else {})
    )
    for path in write_dicom(image, tmp_path / "out", protocol=protocol, when=when)[:2]:
        done = subprocess.run(["dciodvfy", "-new", str(path)], capture_output=True, text=True, check=False)
        found = [line for line in done.stderr.splitlines() if line.startswith(("Error", "Warning"))]
        if when is None:  # a date is not made up; without one a DICOMDIR cannot be built
            found = [line for line in found if "DICOMDIR" not in line or "Study" not in line]
        assert found == []


def test_what_cannot_be_written_is_refused(tmp_path, chest):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "note.txt").write_text("mine")
    with pytest.raises(InputError, match="new or empty folder"):
        write_dicom(made(), tmp_path / "full", protocol=chest)
    with pytest.raises(InputError, match="hu"):
        write_dicom(made().assign_attrs(units="mm-1"), tmp_path / "a", protocol=chest)
    uneven = made().assign_coords(z=[100, 101, 102, 103, 104, 106])
    with pytest.raises(InputError, match="even"):
        write_dicom(uneven, tmp_path / "b", protocol=chest)
    with pytest.raises(InputError, match="tube_current_ma"):
        write_dicom(made(), tmp_path / "c", protocol=load_protocol("adult_chest"))
    views = xr.Dataset(
        {"source_z": label("source_z", [500.0, 510.0]), "tube_current": ("view", [1.0, 2.0], {"units": "mA"})}
    )
    with pytest.raises(InputError, match="slices that the scan covers"):
        write_dicom(made(), tmp_path / "d", protocol=chest, projections=views)
    assert not any((tmp_path / name).exists() for name in "abcd")
