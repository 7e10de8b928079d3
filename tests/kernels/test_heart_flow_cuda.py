"""The lattice Boltzmann step for CUDA without a device (PTX, simulator), and with one."""

import os
import subprocess
import sys

import numpy as np
import pytest

from twinlab.kernels import heart_lattice_cuda
from twinlab.kernels.device import missing
from twinlab.kernels.heart_lattice import DIRECTIONS, MAGIC, WEIGHTS, run_steps
from twinlab.schema import InputError


def case():
    """A short tube with inlet and outlet, 6 steps."""
    from twinlab.cardiac.flow.grid import build_grid, find_ends

    y, x = np.mgrid[:9, :9]
    distance = np.broadcast_to((np.hypot(y - 4.2, x - 3.9) - 2.6)[None], (3, 9, 9)).copy()
    grid = build_grid(distance, ends=find_ends(distance, "z-"))
    forces = np.zeros((6, 3))
    forces[:, 0] = 1e-4
    rates = 1 / 0.8, 1 / (0.5 + MAGIC / 0.3)
    f = 0.01 * np.random.default_rng(0).random((19, grid.cells.shape[1]))
    inputs = (grid.source, grid.fraction, grid.kind, 0.02 * grid.value, np.linspace(0.2, 1, 6), forces, *rates,
              DIRECTIONS, WEIGHTS)  # fmt: skip
    return f, inputs


def test_compiles_to_ptx(hopper):
    from numba import cuda, float32, int32, int64

    line, table, links = float32[::1], float32[:, ::1], int32[:, ::1]
    signature = (table, table, links, line, int32[::1], line, line, table, line, int64, links, line)
    for cc in ((8, 0), (9, 0)):
        ptx, _ = cuda.compile_ptx(heart_lattice_cuda.kernel(), signature, cc=cc, fastmath=True)
        assert ".entry" in ptx


_SIMULATE = """
import sys
sys.path.insert(0, {here!r})
import numpy as np
from test_heart_flow_cuda import case
from twinlab.kernels.heart_lattice_cuda import run_steps_cuda
f, inputs = case()
np.save({out!r}, run_steps_cuda(f, *inputs))
"""


def test_kernel_in_the_simulator_agrees_with_the_cpu(tmp_path):
    pytest.importorskip("numba_cuda", reason="numba-cuda is not installed (extra: test)")
    out = tmp_path / "f.npy"
    code = _SIMULATE.format(here=os.path.dirname(__file__), out=str(out))
    environment = {**os.environ, "NUMBA_ENABLE_CUDASIM": "1", "NUMBA_DISABLE_JIT": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    f, inputs = case()
    exact = f.copy()
    run_steps(exact, np.zeros_like(f), *inputs)
    # single precision of values of 0.01 over 6 steps
    assert np.abs(np.load(out) - exact).max() < 2e-7


@pytest.mark.gpu
def test_gpu_equals_cpu():
    if missing():
        pytest.skip(missing())
    f, inputs = case()
    exact = f.copy()
    run_steps(exact, np.zeros_like(f), *inputs)
    assert np.abs(heart_lattice_cuda.run_steps_cuda(f, *inputs) - exact).max() < 2e-7


def test_without_a_device_it_says_so():
    if not missing():
        pytest.skip("a CUDA device is here")
    f, inputs = case()
    with pytest.raises(InputError, match="a CUDA device"):
        heart_lattice_cuda.run_steps_cuda(f, *inputs)
