"""Radiographs as DICOM DX images: values, orientation, and what dciodvfy says of them."""

from __future__ import annotations

import datetime as dt
import shutil
import subprocess

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
import xarray as xr
from test_radiography import body, stand

from twinlab.ct.export import write_radiograph
from twinlab.ct.radiography import radiograph
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


def test_other_data_are_refused(shot, tmp_path):
    with pytest.raises(InputError, match="reading"):
        write_radiograph(xr.Dataset(), tmp_path / "a.dcm", setup=stand())
    with pytest.raises(InputError, match="readings"):
        write_radiograph(shot.isel(row=slice(0, 3)), tmp_path / "a.dcm", setup=stand())
    with pytest.raises(InputError, match="above 0"):
        write_radiograph(shot.assign(reading=shot["reading"] * 0), tmp_path / "a.dcm", setup=stand())
