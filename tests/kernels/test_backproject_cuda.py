"""The CUDA back-projection without a device (PTX, simulator, another array namespace), and with one."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from typing import Any

import array_api_strict
import cuda_on_processor
import numpy as np
import pytest
import xarray as xr

from twinlab.ct import recon, slab
from twinlab.ct.recon import reconstruct
from twinlab.kernels import cuda_backproject as gpu
from twinlab.kernels.device import missing
from twinlab.schema import InputError, label


def cases() -> dict[str, dict[str, Any]]:
    """Arguments of small reconstructions: a helix with flying focal spot, a truncated body, an offset panel."""
    views, rows, channels = 12, 4, 16
    rng = np.random.default_rng(4)
    attrs = {
        "mode": "helical", "views_per_rotation": views, "source_to_isocentre_mm": 570.0,
        "source_to_detector_mm": 1040.0, "isocentre_x_mm": 1.0, "isocentre_y_mm": -2.0, "mu_water_per_mm": 0.02,
    }  # fmt: skip

    def scan(n: int, z: np.ndarray, u: str, start: float, **more: Any) -> xr.Dataset:
        pitch = 8.0 / (1.0 if u == "u" else 1040.0)
        return xr.Dataset(
            {
                "view_angle": label("view_angle", 0.3 + 2 * np.pi / views * np.arange(n)),
                "source_z": label("source_z", z),
                "projection": label("projection", 1.0 + rng.random((n, rows, channels))),
            },
            coords={
                "row": (np.arange(rows) - 1.5) * 4.0,
                u: ("channel", (np.arange(channels) - start) * pitch),
            },
            attrs=attrs | more,
        )

    # pitch 0.8; in front of and behind the slices there is half a turn and the fan
    helix = scan(30, 0.8 * 8.77 * (np.arange(30) - 14.5) / views, "fan_angle", 7.3)
    shift = np.resize([[1.0, 0.5, 0.3], [-1.0, -0.5, -0.3]], (30, 3))
    flying = helix.assign(focal_shift=(("view", "shift_axis"), shift))
    panel = scan(views, np.zeros(views), "u", 4.0, mode="axial")
    rotation = scan(views, np.zeros(views), "fan_angle", 7.3, mode="axial")
    grid = {"z": [-0.5, 2.0], "y": np.array([-8.0, -2.0, 3.0]), "x": np.array([-6.0, 1.0, 9.0])}
    # rays reach 4.39 mm high on the axis and 4.23 mm beside it; the upper slice begins at 4.30 mm
    edge = {"z": [0.0, 5.396], "x": [-6.0, 150.0]}
    return {
        "flying": {"projections": flying, "grid": grid, "truncation": "ignore"},
        "truncated": {"projections": rotation, "grid": grid, "truncation": "extrapolate"},
        "panel": {"projections": panel, "grid": grid, "truncation": "ignore"},
        "unseen": {"projections": rotation, "grid": grid | edge, "truncation": "ignore"},
    }  # fmt: skip


# of the image's range. Positions on tens of points carry 2e-6 of a step in float32, and an image of noise changes by
# its range from step to step; sums over twelve views. Measured 6e-7, the CPU's own float32 image 4e-7
TOLERANCE = 5e-6


def agree(image: np.ndarray, exact: np.ndarray) -> None:
    assert (np.isnan(image) == np.isnan(exact)).all()
    assert np.nanmax(np.abs(image - exact)) < TOLERANCE * np.ptp(exact[np.isfinite(exact)])


_SIMULATE = """
import sys, warnings
sys.path.insert(0, {here!r})
warnings.simplefilter("ignore")
import numpy as np
from test_backproject_cuda import cases
from twinlab.ct.recon import reconstruct
np.savez({out!r}, **{{name: reconstruct(**cases()[name], device="cuda").values for name in {names!r}}})
"""


@pytest.mark.filterwarnings("ignore:reconstruct")
def test_kernels_in_the_simulator_agree_with_the_cpu(tmp_path):
    pytest.importorskip("numba_cuda", reason="numba-cuda is not installed (extra: test)")
    out = tmp_path / "images.npz"
    names = ["flying", "panel"]  # threads of Python are slow: the other cases run below
    code = _SIMULATE.format(here=os.path.dirname(__file__), out=str(out), names=names)
    environment = {**os.environ, "NUMBA_ENABLE_CUDASIM": "1", "NUMBA_DISABLE_JIT": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    images = np.load(out)
    for name in names:
        agree(images[name], reconstruct(**cases()[name], dtype=np.float64).values)


@pytest.fixture
def on_processor(monkeypatch):
    """``device="cuda"`` runs the kernels' text on the processor, in their single precision."""
    cuda_on_processor.use(monkeypatch)
    monkeypatch.setattr(recon, "resolve", lambda device, where: device)
    monkeypatch.setattr(slab, "_DEVICE_BYTES", 1 << 20)  # several blocks of angles


def clinical(rows: int, views: int, channels: int, size_mm: float) -> xr.Dataset:
    """Helix of pitch 0.9, rows of 0.6 mm and channels of 0.55 mm at the isocentre; a cylinder off centre."""
    radius, detector = 570.0, 1040.0
    feed = 0.9 * rows * 0.6
    angle = 2 * np.pi / views * np.arange(int(3.2 * views))
    fan = (np.arange(channels) - 0.5 * (channels - 1) + 0.25) * 0.55 / radius
    theta = angle[:, None] - fan
    t = radius * np.sin(fan) - 20 * np.cos(theta) + 9 * np.sin(theta)
    chord = 2 * np.sqrt(np.maximum(size_mm**2 - t**2, 0))
    data = np.repeat(0.02 * chord[:, None, :], rows, axis=1)
    data *= 1 + 0.002 * np.random.default_rng(1).standard_normal(data.shape)  # texture everywhere
    return xr.Dataset(
        {
            "view_angle": label("view_angle", angle),
            "source_z": label("source_z", feed * (angle / (2 * np.pi) - 1.6)),
            "projection": label("projection", data),
        },
        coords={"row": (np.arange(rows) - 0.5 * (rows - 1)) * 0.6 * detector / radius, "fan_angle": ("channel", fan)},
        attrs={
            "mode": "helical", "views_per_rotation": views, "source_to_isocentre_mm": radius,
            "source_to_detector_mm": detector, "isocentre_x_mm": 0.0, "isocentre_y_mm": 0.0,
            "mu_water_per_mm": 0.02,
        },
    )  # fmt: skip


@pytest.mark.filterwarnings("ignore:reconstruct")
@pytest.mark.parametrize("name", cases())
def test_kernels_in_single_precision_agree_with_the_cpu(on_processor, name):
    case = cases()[name]
    exact = reconstruct(**case, device="cpu", dtype=np.float64).values
    assert np.isnan(exact).any() == (name == "unseen")
    agree(reconstruct(**case, device="cuda").values, exact)


def clinical_difference(views: int, plane: np.ndarray) -> float:
    """Largest difference between device and CPU, HU, of a sharp image of a cylinder with noise."""
    data = clinical(rows=8, views=views, channels=400, size_mm=80.0)
    options: dict[str, Any] = {"grid": {"z": [-0.6, 0.0, 0.7], "y": plane, "x": plane}, "kernel": "sharp"}
    device = reconstruct(data, device="cuda", **options).values
    return float(np.abs(device - reconstruct(data, device="cpu", **options).values).max())


# HU. 3e-5 of a step at positions of 700 points, at edges of 1,000 HU, averaged over angles. Measured 0.008 at 128 x 128
# and 500 views; 512 x 512 over 350 mm, 900 channels and 984 views have 0.019 at the worst voxel, 0.001 RMS
CLINICAL_HU = 0.02


def test_a_clinical_image_is_that_of_the_cpu(on_processor):
    assert clinical_difference(views=60, plane=np.linspace(-95, 95, 32)) < CLINICAL_HU


@pytest.mark.gpu
@pytest.mark.filterwarnings("ignore:reconstruct")
def test_gpu_equals_cpu():
    reason = missing()
    if reason:
        pytest.skip(reason)
    for case in cases().values():
        agree(
            reconstruct(**case, device="cuda").values,
            reconstruct(**case, device="cpu", dtype=np.float64).values,
        )
    assert clinical_difference(views=984, plane=np.linspace(-95, 95, 256)) < CLINICAL_HU


def signature(kernel: Any) -> tuple[Any, ...]:
    """Types that the kernel is launched with."""
    from numba import boolean, float32, int64

    f1, f2, f3, f4 = float32[::1], float32[:, ::1], float32[:, :, ::1], float32[:, :, :, ::1]
    i1, i2, i3 = int64[::1], int64[:, ::1], int64[:, :, ::1]
    return {
        gpu.shift_kernel: (f3, i2, boolean[::1], i1, i1, f1, f2, f2, f2, i1, i1, f3),
        gpu.sum_kernel: (f3, i1, i1, i1, i1, i1, int64, int64, f1, f3),
        gpu.resample_kernel: (
            f3, i2, f2, i1, i2, i3, f1, int64, f1, f1, int64, f1, float32, boolean, boolean, f4,
        ),
        gpu.back_kernel: (f4, f2, f2, f1, f1, f1, f3),
    }[kernel]  # fmt: skip


@pytest.mark.parametrize("capability", [(8, 0), (9, 0)], ids=["ampere", "hopper"])
@pytest.mark.parametrize("name", ["shift_kernel", "sum_kernel", "resample_kernel", "back_kernel"])
def test_compiles_to_ptx_in_single_precision(hopper, tmp_path, name, capability):
    from numba import cuda

    kernel = getattr(gpu, name)
    ptx, _ = cuda.compile_ptx(kernel, signature(kernel), cc=capability)
    assert ".entry" in ptx
    assert re.findall(r"^\s*[a-z.0-9]*\.f64.*$", ptx, flags=re.M) == []
    assert ".local" not in ptx  # nothing kept in local memory
    if shutil.which("ptxas"):
        (tmp_path / "kernel.ptx").write_text(ptx)
        command = [
            "ptxas",
            "-v",
            f"-arch=sm_{capability[0]}0",
            str(tmp_path / "kernel.ptx"),
            "-o",
            str(tmp_path / "out"),
        ]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
        assert "0 bytes spill stores, 0 bytes spill loads" in said
        # 64 registers: 1,024 threads of a multiprocessor's 65,536 registers hide the latency of memory
        assert int(re.search(r"Used (\d+) registers", said)[1]) <= 64


def test_filter_is_the_same_in_any_array_namespace():
    rng = np.random.default_rng(0)
    parallel = rng.standard_normal((5, 3, 7), dtype=np.float32)
    matrices = rng.standard_normal((2, 8, 12), dtype=np.float32)
    strict = array_api_strict.asarray
    for kind in (np.array([1, 0, 1, 1, 0]), np.array([1, 1, 1, 1, 1])):
        expected = np.einsum("erc,ect->ert", parallel, matrices[kind, :7, 2:11].astype(float))
        assert gpu.filter_rows(parallel, matrices, kind, 2, 11) == pytest.approx(
            expected, abs=1e-5
        )  # float32
        other = gpu.filter_rows(strict(parallel), strict(matrices), kind, 2, 11)
        assert type(other).__module__.startswith("array_api_strict")
        assert np.asarray(other) == pytest.approx(expected, abs=1e-5)


def test_what_the_device_cannot_do_is_refused():
    case = cases()["panel"]
    with pytest.raises(InputError, match="dtype float32 on 'cuda'"):
        reconstruct(**case, device="cuda", dtype=np.float64)
    with pytest.raises(InputError, match="'auto', 'cpu' or 'cuda'"):
        reconstruct(**case, device="gpu")
    if missing():
        with pytest.raises(InputError, match="a CUDA device"):
            reconstruct(**case, device="cuda")


def test_auto_is_the_cpu_without_a_device(monkeypatch):
    monkeypatch.setattr("twinlab.kernels.device.missing", lambda: "no CUDA device")
    case = cases()["panel"]
    assert (reconstruct(**case).values == reconstruct(**case, device="cpu").values).all()


def test_auto_is_the_cpu_in_double_precision(monkeypatch):
    monkeypatch.setattr("twinlab.kernels.device.missing", lambda: "")  # even where there is a device
    case = cases()["panel"] | {"dtype": np.float64}
    assert (reconstruct(**case).values == reconstruct(**case, device="cpu").values).all()
