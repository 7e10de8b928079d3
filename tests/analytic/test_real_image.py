"""The sample patient scanned again as its header says, against the image of the real scanner.

The header: GE LightSpeed Plus, 120 kV, 400 mA, STANDARD, 2.5 mm; distances those of our 64-row scanner. Rotation
time and pitch are not in it: 4,684 mAs in all and 332 mm of slices fit 0.5 s and 15 mm a rotation of 4 x 2.5 mm.
The phantom is made of the noisy image, so that noise comes from the difference of a noisy and a noise-free scan.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import xarray as xr
from image_transfer import pixel_frequency, with_mtf

from twinlab import ct
from twinlab.ct.filters import Kernel, mtf
from twinlab.quality.tissue_noise import even_tissue, tissue_noise
from twinlab.report.patients import Patient, PatientSource, patient
from twinlab.scanner import load_protocol, trajectory
from twinlab.schema import label

pytestmark = pytest.mark.sample
# The maker's STANDARD has no published transfer; 4.6 and 7.8 lp/cm are those of the wire in XCIST's own test of it.
# The noise of the original falls from 0.3 to 0.65 per mm as this kernel's does (liver 0.24, heart 0.34; kernel 0.28).
STANDARD = Kernel("like the original", 0.46, 0.78)
SCANS = ("noisy", "clean")
OUTPUT = 0.9  # published over modelled CTDIw of the scanner's class (docs/methods/dose.md)


def protocol(*, collimation_mm: float = 10.0, **changes):
    technique = {"kv": 120, "tube_current_ma": 400, "rotation_time_s": 0.5, "pitch": 1.5}
    return load_protocol("adult_chest", **technique, collimation_mm=collimation_mm, **changes)


def rescan(
    subject: Patient, z_mm: np.ndarray, setting, *, kernel: str, scans=SCANS
) -> dict[str, xr.DataArray]:
    """Original slices, and the same slices simulated with and without noise."""
    first, last = z_mm[0] - 30.0, z_mm[-1] + 30.0
    part, hu = subject.phantom.sel(z=slice(first, last)), subject.hu.sel(z=z_mm, method="nearest")
    path = trajectory(setting, z_range_mm=(z_mm[0] - 1.25, z_mm[-1] + 1.25))
    paths = ct.line_integrals(part, setting, path)
    signals = ct.detected(paths, setting, output_factor=OUTPUT)
    grid = {axis: hu[axis].to_numpy() for axis in ("z", "y", "x")}
    images = {"original": hu}
    for name in scans:
        scan = ct.acquire(paths, setting, seed=1, noise=name == "noisy", signals=signals)
        images[name] = ct.reconstruct(scan, setting, grid=grid, kernel=kernel)
    return images


def organ(subject: Patient, word: str, like: xr.DataArray) -> np.ndarray:
    names = subject.phantom["organ_name"]
    ids = [int(i) for i, n in zip(names["organ_id"], names.to_numpy(), strict=True) if word in str(n)]
    return np.isin(subject.phantom["organ"].sel(z=like["z"], method="nearest").to_numpy(), ids)


def median_difference(images, kernel: str, where: np.ndarray, *, scan: str = "noisy") -> float:
    """Median of |simulated - original|, the original seen through the simulated kernel."""
    original = with_mtf(images["original"], mtf(kernel, pixel_frequency(images["original"])))
    return float(np.median(np.abs(images[scan].to_numpy() - original.to_numpy())[where]))


def soft_tissue(hu: xr.DataArray, **sizes) -> np.ndarray:
    return even_tissue(hu, low_hu=-50.0, **sizes).to_numpy()


def test_small_copy_comes_back():
    """CI's twin: the averaged copy, half the views, one slice."""
    subject = patient("lidc-idri-0001-small")
    setting = protocol(slice_thickness_mm=5.0, collimation_mm=5)
    setting = setting.replace(scanner=setting.scanner.model_copy(update={"views_per_rotation": 492}))
    z = subject.hu["z"].to_numpy()
    near = z[[np.abs(z + 190.0).argmin()]]
    images = rescan(subject, near, setting, kernel="standard", scans=("noisy",))
    soft = soft_tissue(images["original"], margin_mm=0.0)
    lung = organ(subject, "lung", images["original"])
    assert soft.sum() > 1000
    assert lung.sum() > 1000
    # Wanted of the real image; seen here: see docs/methods/peers.md.
    assert median_difference(images, "standard", soft) < 10.0
    assert median_difference(images, "standard", lung) < 25.0


@pytest.mark.slow
@pytest.mark.parametrize(("z_mm", "name"), [(-240.0, "liver"), (-190.0, "heart")])
def test_full_image_and_its_noise_come_back(z_mm, name):
    subject = patient(PatientSource(patient="lidc-idri-0001", form="dicom"))
    setting = protocol(slice_thickness_mm=2.5)
    z = subject.hu["z"].to_numpy()
    nearest = int(np.abs(z - z_mm).argmin())
    images = rescan(subject, z[nearest - 1 : nearest + 2], setting, kernel="sharp")
    frequency = pixel_frequency(images["original"])
    own = mtf("sharp", frequency)
    found = {}
    for kernel in ("standard", "sharp"):
        part = {
            k: with_mtf(v.fillna(-1000.0), mtf(kernel, frequency), of=own)
            for k, v in images.items()
            if k != "original"
        }
        part["original"] = images["original"]
        found[f"soft {kernel}"] = median_difference(part, kernel, soft_tissue(images["original"]))
        found[f"lung {kernel}"] = median_difference(part, kernel, organ(subject, "lung", images["original"]))
        plain = np.abs(part["noisy"].to_numpy() - images["original"].to_numpy())
        found[f"soft {kernel}, original as it is"] = float(np.median(plain[soft_tissue(images["original"])]))
    noise = label(
        "hu", (images["noisy"] - images["clean"]).fillna(0.0).to_numpy(), dict(images["noisy"].coords)
    )
    transfer = np.exp(-math.log(2.0) * (frequency / STANDARD.mtf50_per_mm) ** STANDARD.exponent)
    where = even_tissue(images["original"])
    sd = tissue_noise(with_mtf(noise, transfer, of=own), where), tissue_noise(images["original"], where)
    print(name, {k: round(v, 1) for k, v in found.items()}, "noise", sd, round(sd[0] / sd[1], 3))
    assert found["soft standard"] < 10.0
    assert found["lung standard"] < 25.0
    # 20 % wanted. Seen 0.86 and 0.88 with anatomy in the original's part, and the table, which is not in the phantom.
    assert sd[0] / sd[1] == pytest.approx(1.0, abs=0.2)
