"""The CUDA projector without a device (PTX, simulator), and with one."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest

from twinlab.kernels import cuda_project
from twinlab.kernels.device import missing
from twinlab.kernels.general_rays import project_tilted
from twinlab.kernels.project import project_reference
from twinlab.schema import InputError


def case():
    rng = np.random.default_rng(0)
    scan = {
        "spacing_mm": (4.0, 8.0, 7.0),
        "origin_mm": (-15.0, -30.0, -31.0),
        "view_angle_rad": np.array([0.0, 0.4, 2.2]),
        "source_z_mm": np.array([-3.0, 0.3, 4.0]),
        "source_to_isocentre_mm": 570.0,
        "source_to_detector_mm": 1040.0,
        "isocentre_mm": (0.7, -0.4),
        "fan_angle_rad": np.linspace(-0.08, 0.09, 5),
        "row_mm": np.array([-20.3, 0.2, 20.1]),
        "row_lo": np.array([0, 1, 0]),
        "focal_shift_mm": np.array([[1.2, -4.0, 0.5], [-1.2, 4.0, -0.5], [1.2, -4.0, 0.5]]),
    }
    return rng.random((2, 8, 9, 10), dtype=np.float32), scan


def test_compiles_to_ptx_in_single_precision(hopper):
    from numba import cuda, float32

    volume, line, table = float32[:, :, :, ::1], float32[::1], float32[:, ::1]
    signature = (volume, line, float32[:, :, ::1], table, line, volume)
    ptx, _ = cuda.compile_ptx(cuda_project.kernel(), signature, cc=(9, 0), fastmath=True)
    assert ".entry" in ptx
    assert re.findall(r"^\s*[a-z.0-9]*\.f64.*$", ptx, flags=re.M) == []
    assert ".local" not in ptx  # nothing kept in local memory


_SIMULATE = """
import sys
sys.path.insert(0, {here!r})
import numpy as np
from test_project_cuda import case
from twinlab.kernels.cuda_project import project_cuda
volumes, scan = case()
np.save({out!r}, [project_cuda(volumes, **scan), project_cuda(volumes, **scan, tilt_rad=0.3)])
"""


def test_kernel_in_the_simulator_agrees_with_the_cpu(tmp_path):
    pytest.importorskip("numba_cuda", reason="numba-cuda is not installed (extra: test)")
    out = tmp_path / "paths.npy"
    code = _SIMULATE.format(here=os.path.dirname(__file__), out=str(out))
    environment = {**os.environ, "NUMBA_ENABLE_CUDASIM": "1", "NUMBA_DISABLE_JIT": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    volumes, scan = case()
    exact = [project_reference(volumes, **scan), project_tilted(volumes, **scan, tilt_rad=0.3)]
    # float32 coordinates of 1,000 mm: 6e-5 mm at each of some ten boundaries of a path of 70 mm
    assert np.abs(np.load(out) - exact).max() < 1e-4 * np.max(exact)


@pytest.mark.gpu
def test_gpu_equals_cpu():
    reason = missing()
    if reason:
        pytest.skip(reason)
    volumes, scan = case()
    exact = project_reference(volumes, **scan)
    assert np.abs(cuda_project.project_cuda(volumes, **scan) - exact).max() < 1e-4 * exact.max()


def test_without_a_device_it_says_so():
    if not missing():
        pytest.skip("a CUDA device is here")
    volumes, scan = case()
    with pytest.raises(InputError, match="a CUDA device"):
        cuda_project.project_cuda(volumes, **scan)
