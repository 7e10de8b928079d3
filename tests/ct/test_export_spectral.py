"""Images of a photon-counting scan as DICOM: what they say they are, numbers read back, dciodvfy."""

from __future__ import annotations

import datetime as dt
import shutil
import subprocess

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from spectral_cases import coarse, inserts

from twinlab.ct import line_integrals, reconstruct
from twinlab.ct.export import read_iodine, write_dicom, write_spectral
from twinlab.ct.spectral import (
    decompose_images,
    monoenergetic_projections,
    virtual_monoenergetic,
    virtual_non_contrast,
)
from twinlab.phantom import read_series
from twinlab.physics.attenuation import mass_attenuation
from twinlab.scanner import load_protocol, trajectory
from twinlab.schema import InputError, label

WHEN = dt.datetime(2026, 1, 2, 3, 4, 5)
COORDS = {
    "z": 10.0 + 1.25 * np.arange(3),
    "y": -20.0 + 1.5 * np.arange(24),
    "x": -30.0 + 1.25 * np.arange(32),
}


@pytest.fixture(scope="module")
def protocol():
    return load_protocol("photon_counting_qc")


@pytest.fixture(scope="module")
def images():
    """Bins, monoenergetic and non-contrast image, iodine: of a patch of 8 mg/ml in water."""
    rng = np.random.default_rng(0)
    amount = np.zeros((3, 24, 32))
    amount[:, 8:16, 8:16] = 8.0
    bins = [
        label("hu", np.round(gain * amount + rng.normal(0, 20, amount.shape)), COORDS)
        for gain in (30.0, 20.0)
    ]
    iodine = label("iodine", amount - rng.normal(0, 0.3, amount.shape), COORDS, decomposition="projection")
    iodine[:, 0, 0] = np.nan
    water = label("basis_density", np.ones(amount.shape), COORDS)
    vmi = virtual_monoenergetic({"water": water, "iodine": iodine.fillna(0.0)}, 50.0)
    return {"bins": bins, "iodine": iodine, "vmi": vmi, "vnc": virtual_non_contrast(water)}


@pytest.fixture(scope="module")
def written(images, protocol, tmp_path_factory):
    folder = tmp_path_factory.mktemp("spectral")
    settings = {"protocol": protocol, "when": WHEN, "patient_id": "1"}
    for number, image in enumerate(images["bins"]):
        write_spectral(image, folder / f"bin{number}", energy_bin=number, **settings)
    for name in ("iodine", "vmi", "vnc"):
        write_spectral(images[name], folder / name, **settings)
    return folder


def headers(folder):
    return [pydicom.dcmread(path) for path in sorted(folder.glob("*.dcm"))]


def test_each_image_says_what_it_is(written, protocol):
    found = {path.name: headers(path)[0] for path in written.iterdir()}
    said = {
        name: (d.ImageType[3], d.RescaleType, d.SeriesDescription.split(",")[0]) for name, d in found.items()
    }
    assert said == {
        "bin0": ("ENERGY_BIN", "HU", "Bin 1: 20 to 35 keV"),
        "bin1": ("ENERGY_BIN", "HU", "Bin 2: 35 to 65 keV"),
        "iodine": ("MAT_SPECIFIC", "MGML", "Iodine mg/ml"),
        "vmi": ("VMI", "HU", "VMI 50 keV"),
        "vnc": ("MAT_REMOVED", "HU", "Virtual non-contrast"),
    }
    assert found["vmi"].MultienergyCTCharacteristicsSequence[0].MonoenergeticEnergyEquivalent == 50.0
    material = found["iodine"].MultienergyCTProcessingSequence[0].DecompositionMaterialSequence[0]
    assert material.MaterialCodeSequence[0].CodeValue == "44588005"  # iodine in SNOMED CT, as in CID 300
    point = material.MaterialAttenuationSequence[1]
    mu = mass_attenuation("iodine", [float(point.PhotonEnergy)])[0, 0]
    assert float(point.XRayMassAttenuationCoefficient) == pytest.approx(mu, rel=1e-9)
    assert (
        found["iodine"].RealWorldValueMappingSequence[0].MeasurementUnitsCodeSequence[0].CodeValue == "mg/mL"
    )
    for d in found.values():
        assert d.MultienergyCTAcquisition == "YES"
        scan = d.MultienergyCTAcquisitionSequence[0]
        cells = scan.MultienergyCTXRayDetectorSequence
        edges = [(float(c.NominalMinEnergy), float(c.NominalMaxEnergy)) for c in cells]
        assert edges == [(20, 35), (35, 65), (65, 70), (70, protocol.kv)]
        assert [p.ReferencedXRayDetectorIndex for p in scan.MultienergyCTPathSequence] == [1, 2, 3, 4]
        assert float(scan.CTXRayDetailsSequence[0].KVP) == protocol.kv
        assert scan.MultienergyCTXRaySourceSequence[0].SourceStartDateTime.startswith("20260102030405")


def test_a_reconstruction_of_monoenergetic_projections_says_its_energy(tmp_path):
    protocol = coarse("photon_counting_qc", channels=64, views=24)
    paths = line_integrals(inserts(spacing_mm=5.0)[0], protocol, trajectory(protocol, z_range_mm=(-0.2, 0.2)))
    rays = ("view", "row", "channel")
    water = paths["path"].sum("basis")
    basis = paths.drop_vars("path").assign(
        basis_path=label(
            "basis_path", np.stack([water, 0.0 * water]), {"basis_material": ["water", "iodine"]}
        ),
        basis_covariance=label("basis_covariance", np.zeros((2, 2, *water.transpose(*rays).shape)), {}),
    )
    grid = {"x": COORDS["x"], "y": COORDS["y"], "z": np.array([0.0])}
    image = reconstruct(monoenergetic_projections(basis, 65.0), protocol, grid=grid)
    assert image.attrs["kev"] == 65.0
    write_spectral(image, tmp_path, protocol=protocol, when=WHEN, patient_id="1")
    (header,) = headers(tmp_path)
    assert header.ImageType[3] == "VMI"
    assert header.MultienergyCTCharacteristicsSequence[0].MonoenergeticEnergyEquivalent == 65.0


def test_series_and_images_are_told_apart_and_lie_in_one_study(written):
    every = [d for path in written.iterdir() for d in headers(path)]
    assert len({d.SOPInstanceUID for d in every}) == len(every) == 15
    assert len({d.SeriesInstanceUID for d in every}) == 5
    assert len({d.StudyInstanceUID for d in every}) == len({d.FrameOfReferenceUID for d in every}) == 1


def test_the_same_values_in_two_bins_are_two_series(images, protocol, tmp_path):
    for number in (0, 1):
        settings = {"protocol": protocol, "when": WHEN, "patient_id": "1", "energy_bin": number}
        settings["series_description"] = "one of them"
        write_spectral(images["bins"][0], tmp_path / str(number), **settings)
    first, second = (headers(tmp_path / str(number)) for number in (0, 1))
    assert first[0].SeriesInstanceUID != second[0].SeriesInstanceUID
    assert not {d.SOPInstanceUID for d in first} & {d.SOPInstanceUID for d in second}


def test_numbers_come_back(written, images):
    for name, image in (("bin1", images["bins"][1]), ("vmi", images["vmi"]), ("vnc", images["vnc"])):
        back = read_series(written / name)
        for axis in "zyx":
            np.testing.assert_allclose(back[axis], image[axis], atol=1e-9)
        assert np.abs(back - image).max() <= 0.5 + 1e-3  # steps of 1 HU
    back = read_iodine(written / "iodine")
    for axis in "zyx":
        np.testing.assert_allclose(back[axis], images["iodine"][axis], atol=1e-9)
    assert np.abs(back - images["iodine"]).max() <= 0.005 + 1e-4  # steps of 0.01 mg/ml, float32
    np.testing.assert_array_equal(np.isnan(back), np.isnan(images["iodine"]))
    assert back.attrs["units"] == "mg ml-1"
    with pytest.raises(InputError, match="rescaled to HU; got RescaleType MGML"):
        read_series(written / "iodine")  # iodine is not taken for CT numbers
    with pytest.raises(InputError, match="one series in mg/ml"):
        read_iodine(written / "vmi")


def test_itk_reads_milligrams(written, images):
    one = sitk.GetArrayFromImage(sitk.ReadImage(str(written / "iodine" / "CT00001.dcm")))[0]
    seen = ~np.isnan(images["iodine"][0])
    np.testing.assert_allclose(one[seen], images["iodine"].to_numpy()[0][seen], atol=0.006)


def test_images_of_an_image_decomposition_say_so(images, protocol, tmp_path):
    made = decompose_images(images["bins"], [30.0, 20.0])
    write_spectral(made["hu"], tmp_path / "a", protocol=protocol, when=WHEN)
    write_spectral(made["iodine"], tmp_path / "b", protocol=protocol, when=WHEN)
    for name, term in (("a", "MAT_REMOVED"), ("b", "MAT_SPECIFIC")):
        first = headers(tmp_path / name)[0]
        assert first.ImageType[3] == term
        assert first.MultienergyCTProcessingSequence[0].DecompositionMethod == "IMAGE_BASED"


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy (dicom3tools) is not installed")
@pytest.mark.parametrize("name", ["bin0", "iodine", "vmi", "vnc"])
def test_dciodvfy_finds_nothing(written, name):
    path = written / name / "CT00002.dcm"
    done = subprocess.run(["dciodvfy", "-new", str(path)], capture_output=True, text=True, check=False)
    found = [line for line in done.stderr.splitlines() if line.startswith(("Error", "Warning"))]
    # a term of ours, as the standard has none for one bin; and one of the standard's that the program does not know
    known = ("defined term = <ENERGY_BIN>", "defined term = <MGML>")
    assert [line for line in found if not line.endswith(known)] == []


def test_what_is_not_told_is_refused(images, protocol, tmp_path):
    settings = {"protocol": protocol, "when": WHEN}
    for wrong, said in (
        ({"image": images["bins"][0]}, "a bin from 0 to 3, or an image that says what it shows; got None"),
        ({"image": images["bins"][0], "energy_bin": 4}, "got 4"),
        ({"image": images["vmi"], "energy_bin": 1}, "none with VMI 50 keV; got 1"),
        ({"image": images["vmi"], "when": None}, "date and time of the acquisition"),
        (
            {"image": images["vmi"], "protocol": load_protocol("bench_cbct")},
            "a photon-counting scan; got bench_cbct",
        ),
    ):
        with pytest.raises(InputError, match=said):
            write_spectral(**{**settings, "folder": tmp_path / "none", **wrong})
    assert not (tmp_path / "none").exists()
    with pytest.raises(InputError, match="hu"):
        write_dicom(images["iodine"], tmp_path / "none", protocol=protocol)
