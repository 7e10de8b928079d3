"""Radiographs and localisers as DICOM: values, place, and what dciodvfy says of them."""

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
from test_radiography import body, stand

from twinlab.ct import scout
from twinlab.ct.export import write_localiser, write_radiograph
from twinlab.ct.radiography import radiograph
from twinlab.phantom import read_series
from twinlab.schema import InputError


@pytest.fixture(scope="module")
def shot():
    return radiograph(body(), stand(), seed=1)


def test_readings_come_back_the_right_way_up(shot, tmp_path):
    path = write_radiograph(shot, tmp_path / "a" / "dx.dcm", setup=stand())
    h = pydicom.dcmread(path)
    reading = shot["reading"].to_numpy()[0]
    step = float(h.Sensitivity)
    np.testing.assert_allclose(h.pixel_array[::-1] * step, reading, atol=0.51 * step)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(path)))[0], h.pixel_array)
    assert h.pixel_array.max() == 65535
    assert list(h.PatientOrientation) == ["LP", "F"]
    assert [float(v) for v in h.ImagerPixelSpacing] == [9.0, 8.0]
    assert (float(h.KVP), int(h.ExposureInuAs), h.Manufacturer) == (100.0, 2000, "twinlab")
    assert "imulated" in h.ImageComments


def test_identifiers_follow_the_content(shot, tmp_path):
    first, again, other = (
        write_radiograph(data, tmp_path / f"{i}.dcm", setup=stand())
        for i, data in enumerate((shot, shot, radiograph(shot, stand(), seed=2)))
    )
    assert first.read_bytes() == again.read_bytes()
    assert pydicom.dcmread(first).SOPInstanceUID != pydicom.dcmread(other).SOPInstanceUID


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy (dicom3tools) is not installed")
def test_dciodvfy_finds_nothing(shot, tmp_path):
    path = write_radiograph(shot, tmp_path / "dx.dcm", setup=stand(), when=dt.datetime(2026, 1, 2, 3, 4, 5))
    done = subprocess.run(["dciodvfy", "-new", str(path)], capture_output=True, text=True, check=False)
    assert [line for line in done.stderr.splitlines() if line.startswith(("Error", "Warning"))] == []


@pytest.mark.parametrize("angle_deg", [0.0, 90.0])
def test_a_localiser_lies_where_the_patient_is(tmp_path, angle_deg):
    """A ball at a known place is seen there in patient coordinates; our importer passes localisers over."""
    where = {"x": 20.0, "y": -30.0, "z": 12.0}
    ball = {"shape": "ellipsoid", "name": "b", "material": "water", "diameter_mm": 40.0, "centre_mm": where}
    recipe = body(shapes=[ball], size_mm={"x": 160.0, "y": 160.0, "z": 120.0})
    protocol = small_protocol(bowtie="none", n_channels=256)
    lines = scout(
        recipe, protocol, z_range_mm=(-40, 40), step_mm=4.0, view_angle_deg=angle_deg, seed=1, noise=False
    )
    path = write_localiser(
        lines, tmp_path / "scout" / "l.dcm", protocol=protocol, when=dt.datetime(2026, 1, 2)
    )
    read = sitk.ReadImage(str(path))
    values = sitk.GetArrayFromImage(read)[0] / 1000.0
    values[values < 0.1] = 0.0  # air
    assert values.max() == pytest.approx(float(lines["scout"].max()), rel=0.05)
    j, i = np.mgrid[: values.shape[0], : values.shape[1]]
    middle = (float((i * values).sum() / values.sum()), float((j * values).sum() / values.sum()))
    x, y, z = read.TransformContinuousIndexToPhysicalPoint((*middle, 0.0))
    # what lies nearer to the tube is magnified; rows are parallel in z
    seen, true, nearer = (x, where["x"], -where["y"]) if angle_deg == 0 else (y, where["y"], where["x"])
    assert seen == pytest.approx(true * 541.0 / (541.0 - nearer), abs=0.5)
    assert z == pytest.approx(where["z"], abs=0.5)
    with pytest.raises(InputError, match="CT localizer"):
        read_series(tmp_path / "scout")
    if shutil.which("dciodvfy"):
        done = subprocess.run(["dciodvfy", "-new", str(path)], capture_output=True, text=True, check=False)
        found = [line for line in done.stderr.splitlines() if line.startswith(("Error", "Warning"))]
        # US, unspecified, is a defined term of PS3.3 C.11.1.1.2 that this program does not know in CT
        assert [line for line in found if "RescaleType" not in line] == []


def test_other_data_are_refused(shot, tmp_path):
    with pytest.raises(InputError, match="reading"):
        write_radiograph(xr.Dataset(), tmp_path / "a.dcm", setup=stand())
    with pytest.raises(InputError, match="readings"):
        write_radiograph(shot.isel(row=slice(0, 3)), tmp_path / "a.dcm", setup=stand())
    with pytest.raises(InputError, match="above 0"):
        write_radiograph(shot.assign(reading=shot["reading"] * 0), tmp_path / "a.dcm", setup=stand())
