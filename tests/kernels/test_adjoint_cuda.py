"""The transpose on CUDA without a device (PTX, simulator, the processor), and with one."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import Any

import cuda_on_processor
import numpy as np
import pytest

from twinlab.kernels import cuda_adjoint, cuda_project
from twinlab.kernels.cuda_adjoint import adjoint_on_device, project_adjoint_cuda
from twinlab.kernels.cuda_project import project_on_device
from twinlab.kernels.device import missing
from twinlab.kernels.project_adjoint import project_adjoint
from twinlab.schema import InputError

ARC = {"fan_angle_rad": np.linspace(-0.42, 0.43, 23)}
FLAT = {"u_mm": np.linspace(-450.0, 460.0, 23)}
SHAPE = (9, 30, 34)
# |<A x, y> - <x, A'y>| over |A x| |y|. Both directions take the same float32 lengths, so only sums round: measured
# below 3e-9 in single precision; the simulator's scalars are Python's. The figure wanted is 1e-5
DOT = 1e-7
# of the largest value, against the CPU's float64 lengths: positions of 1,000 mm carry 6e-5 mm in float32 at both ends
# of a path of some mm in a voxel, and a voxel sums some ten such errors of either sign; measured 1e-5
CPU = 3e-5


def geometry(n_view: int = 12, n_row: int = 7, **change: Any) -> dict[str, Any]:
    """A helix beyond both ends of the volume."""
    turns = np.linspace(0.0, 7.0, n_view)
    scan: dict[str, Any] = {
        "spacing_mm": (4.0, 8.0, 7.0),
        "origin_mm": (-15.0, -118.0, -121.0),
        "view_angle_rad": turns,
        "source_z_mm": np.linspace(-45.0, 50.0, n_view),
        "source_to_isocentre_mm": 570.0,
        "source_to_detector_mm": 1040.0,
        "isocentre_mm": (3.0, -2.0),
        "row_mm": (np.arange(n_row) - (n_row - 1) / 2) * 14.0,
    }
    whole = {"fan_angle_rad": None, "u_mm": None, "row_lo": None, "row_hi": None, "focal_shift_mm": None}
    return {**whole, **scan, **change}


def cases() -> dict[str, dict[str, Any]]:
    rng = np.random.default_rng(5)
    lo = rng.integers(0, 7, 12)
    window = {"row_lo": lo, "row_hi": np.minimum(lo + rng.integers(0, 5, 12), 7)}
    shift = np.where(np.arange(12)[:, None] % 2, 1.0, -1.0) * [4.0, 7.0, 3.0]
    # on planes between voxels: a ray belongs to one side, and both directions must take the same
    axes = {
        "view_angle_rad": np.arange(12) * np.pi / 2,
        "source_z_mm": np.full(12, 1.0),
        "isocentre_mm": (-5.5, 6.0),
    }
    return {
        "arc": geometry(**ARC),
        "flat": geometry(**FLAT),
        "descending": geometry(fan_angle_rad=ARC["fan_angle_rad"][::-1]),
        "windows": geometry(**ARC, **window),
        "flying": geometry(**ARC, focal_shift_mm=shift),
        "along axes": geometry(fan_angle_rad=np.linspace(-0.44, 0.44, 23), **axes),
        "inside": geometry(**ARC, source_to_isocentre_mm=60.0),
        "thin slabs": geometry(**FLAT, spacing_mm=(0.7, 8.0, 7.0)),
    }


def random_pair(
    scan: dict[str, Any], n_basis: int, shape: tuple[int, ...] = SHAPE
) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    channel = scan["u_mm"] if scan["fan_angle_rad"] is None else scan["fan_angle_rad"]
    rays = (scan["view_angle_rad"].size, scan["row_mm"].size, channel.size, n_basis)
    return tuple(rng.standard_normal(s).astype(np.float32) for s in ((n_basis, *shape), rays))  # type: ignore[return-value]


def mismatch(x: np.ndarray, y: np.ndarray, forward: np.ndarray, back: np.ndarray) -> float:
    forward, back = forward.astype(float), back.astype(float)
    return abs(np.vdot(forward, y) - np.vdot(x, back)) / (np.linalg.norm(forward) * np.linalg.norm(y))


@pytest.mark.parametrize("name", cases())
def test_it_is_the_transpose_and_that_of_the_cpu(monkeypatch, name):
    cuda_on_processor.use(monkeypatch)
    scan = cases()[name]
    x, y = random_pair(scan, n_basis=2)
    back = adjoint_on_device(y, shape=SHAPE, **scan)
    assert mismatch(x, y, project_on_device(x, **scan), back) < DOT
    exact = project_adjoint(np.ascontiguousarray(np.moveaxis(y, -1, 0)), shape=SHAPE, **scan)
    if name != "along axes":  # a ray in a face: float32 and float64 may take it to either side
        assert np.abs(back - exact).max() < CPU * np.abs(exact).max()


def test_a_leaning_gantry_has_its_transpose(monkeypatch):
    cuda_on_processor.use(monkeypatch)
    scan = geometry(**ARC, tilt_rad=0.3)
    x, y = random_pair(scan, n_basis=1)
    assert mismatch(x, y, project_on_device(x, **scan), adjoint_on_device(y, shape=SHAPE, **scan)) < DOT


def test_the_order_of_threads_does_not_matter(monkeypatch):
    """No two threads write to one place: backwards, the result is the same to the last bit."""
    cuda_on_processor.use(monkeypatch)
    scan = cases()["flying"]
    _, y = random_pair(scan, n_basis=1)
    once = adjoint_on_device(y, shape=SHAPE, **scan)
    monkeypatch.setattr("twinlab.kernels.cuda_memory.launch", cuda_on_processor.launch_backwards)
    assert np.array_equal(adjoint_on_device(y, shape=SHAPE, **scan), once)


def small() -> tuple[dict[str, Any], tuple[int, int, int]]:
    """Few rays and voxels: threads of the simulator are threads of Python."""
    shift = np.array([[1.2, -4.0, 0.5], [-1.2, 4.0, -0.5], [1.2, -4.0, 0.5]])
    scan = geometry(
        n_view=3, n_row=3, view_angle_rad=np.array([0.0, 0.4, 2.2]), source_z_mm=np.array([-3.0, 0.3, 4.0]),
        fan_angle_rad=np.linspace(-0.08, 0.09, 5), row_lo=np.array([0, 1, 0]), focal_shift_mm=shift,
        spacing_mm=(8.0, 16.0, 14.0), origin_mm=(-15.0, -30.0, -31.0), isocentre_mm=(0.7, -0.4),
    )  # fmt: skip
    return scan, (4, 5, 5)


_SIMULATE = """
import sys
sys.path.insert(0, {here!r})
import numpy as np
import test_adjoint_cuda as t
scan, shape = t.small()
x, y = t.random_pair(scan, 2, shape)
y = np.ascontiguousarray(np.moveaxis(y, -1, 0))
np.savez({out!r}, forward=t.cuda_project.project_cuda(x, **scan), back=t.project_adjoint_cuda(y, shape=shape, **scan))
"""


def test_kernel_in_the_simulator_is_the_transpose_of_the_projector_there(tmp_path):
    pytest.importorskip("numba_cuda", reason="numba-cuda is not installed (extra: test)")
    out = tmp_path / "both.npz"
    code = _SIMULATE.format(here=os.path.dirname(__file__), out=str(out))
    environment = {**os.environ, "NUMBA_ENABLE_CUDASIM": "1", "NUMBA_DISABLE_JIT": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    found = np.load(out)
    scan, shape = small()
    x, y = random_pair(scan, 2, shape)
    y = np.ascontiguousarray(np.moveaxis(y, -1, 0))
    assert mismatch(x, y, found["forward"], found["back"]) < DOT
    exact = project_adjoint(y, shape=shape, **scan)
    assert np.abs(found["back"] - exact).max() < CPU * np.abs(exact).max()


@pytest.mark.parametrize("capability", [(8, 0), (9, 0)], ids=["ampere", "hopper"])
@pytest.mark.parametrize("name", ["forward", "adjoint"])
def test_compiles_to_ptx_in_single_precision(hopper, name, capability):
    from numba import cuda, float32, int64

    line, table, cube, volume = float32[::1], float32[:, ::1], float32[:, :, ::1], float32[:, :, :, ::1]
    numbers = int64[::1]
    kernel, signature = {
        "forward": (cuda_project.kernel(), (volume, line, cube, table, line, volume)),
        "adjoint": (
            cuda_adjoint.gather, (volume, line, cube, table, line, numbers, line, numbers, numbers, volume)
        ),
    }[name]  # fmt: skip
    ptx, _ = cuda.compile_ptx(kernel, signature, cc=capability, fastmath=True)
    assert f".target sm_{capability[0]}0" in ptx
    assert re.findall(r"^\s*[a-z.0-9]*\.f64.*$", ptx, flags=re.M) == []
    assert ".local" not in ptx  # nothing kept in local memory
    assert "atom." not in ptx
    assert "red." not in ptx


@pytest.mark.gpu
@pytest.mark.parametrize("name", cases())
def test_gpu_equals_cpu(name):
    reason = missing()
    if reason:
        pytest.skip(reason)
    scan = cases()[name]
    x, y = random_pair(scan, n_basis=2)
    y = np.ascontiguousarray(np.moveaxis(y, -1, 0))
    back = project_adjoint_cuda(y, shape=SHAPE, **scan)
    assert np.array_equal(project_adjoint_cuda(y, shape=SHAPE, **scan), back)
    assert mismatch(x, y, cuda_project.project_cuda(x, **scan), back) < 1e-5  # divisions of fast mathematics
    if name != "along axes":
        exact = project_adjoint(y, shape=SHAPE, **scan)
        assert np.abs(back - exact).max() < CPU * np.abs(exact).max()


def test_what_cannot_be_done_is_refused(monkeypatch):
    scan = geometry(**ARC)
    _, y = random_pair(scan, n_basis=1)
    if missing():
        with pytest.raises(InputError, match="a CUDA device"):
            project_adjoint_cuda(np.moveaxis(y, -1, 0), shape=SHAPE, **scan)
    monkeypatch.setattr(cuda_adjoint, "missing", lambda: "")
    with pytest.raises(InputError, match="12, 7, 23"):
        project_adjoint_cuda(y, shape=SHAPE, **scan)
    cuda_on_processor.use(monkeypatch)
    with pytest.raises(InputError, match="90 degrees"):
        adjoint_on_device(y, shape=SHAPE, **{**scan, "fan_angle_rad": np.linspace(-1.0, 1.6, 23)})
