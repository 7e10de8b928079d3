"""The GPU driver: it compiles without a GPU, its logic agrees with the CPU's, and on a GPU it gives the same."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import numpy as np
import pytest

from twinlab.kernels import transport, transport_cuda
from twinlab.kernels.transport_data import MAX_DEPOSITS
from twinlab.phantom import transport_tables as table_module
from twinlab.phantom.transport_grid import Rod, cylinder_grid, voxel_grid
from twinlab.scanner.photon_source import field_source


def _case():
    """Cube of water and iodine, with fluorescence and Doppler broadening, under a field of two energies."""
    tables = table_module.build(["air", "water", "iodine"], doppler=True)
    shape = (6, 6, 6)
    rng = np.random.default_rng(1)
    material = rng.integers(0, 3, shape)
    density = np.array([0.0012, 1.0, 0.05])[material]
    region = rng.integers(0, 4, shape)
    grid = voxel_grid(
        material, density, region, tables, spacing_mm=(20.0, 20.0, 20.0), reach_mm=300.0, block=3
    )
    source = field_source(
        np.array([40.0, 90.0]),
        np.array([1.0, 1.0]),
        position_mm=np.array([-200.0, 60.0, 60.0]),
        corner_mm=np.zeros(3),
        edges_mm=np.array([[0.0, 120.0, 0.0], [0.0, 0.0, 120.0]]),
    )
    return grid, tables, source


def _signature(grid, tables, source):
    from numba import typeof, types

    i8, u8 = types.int64, types.uint64
    scores = (i8[:, ::1], i8[:, :, ::1], i8[:, :, ::1], i8[:, ::1])
    return (i8, i8, u8, u8, *map(typeof, (grid, tables, source)), types.boolean, *scores)


@pytest.fixture
def hopper(monkeypatch):
    """numba-cuda asks the device for its compute capability even when it only compiles."""
    pytest.importorskip("numba_cuda", reason="numba-cuda is not installed (extra: test)")
    pytest.importorskip("cuda.bindings.nvrtc", reason="nvidia-cuda-nvrtc is not installed (extra: test)")
    from numba.cuda import dispatcher

    class Device:
        compute_capability = (9, 0)

    monkeypatch.setattr(dispatcher, "get_current_device", lambda: Device)


@pytest.mark.parametrize("cc", [(8, 0), (9, 0)])
def test_compiles_to_ptx_without_doubles(hopper, cc):
    from numba import cuda

    ptx, _ = cuda.compile_ptx(transport_cuda.kernel, _signature(*_case()), cc=cc, fastmath=True)
    assert ".entry" in ptx
    assert f".target sm_{cc[0]}{cc[1]}" in ptx
    assert ".f64" not in ptx
    # memory of a thread: the lists of deposits and rods, nothing else
    depot = [int(n) for n in re.findall(r"\.local .*__local_depot\d+\[(\d+)\]", ptx)]
    assert sum(depot) <= 8 * (2 * MAX_DEPOSITS + transport_cuda.MAX_RODS) + 64, depot


_SIMULATE = """
import sys
sys.path.insert(0, {here!r})
import numpy as np
import test_transport_cuda as t
from numba import cuda
from twinlab.kernels import transport_cuda as tc
from twinlab.kernels.philox import key
grid, tables, source = t._case()
k0, k1 = key(5)
shapes = [(tc.COPIES, 5), (tc.COPIES, 4, 2), (tc.COPIES, 1, 2), (grid.voxel.size, 2)]
scores = [np.zeros(s, np.int64) for s in shapes]
with np.errstate(over="ignore"):
    cuda.jit(tc.kernel)[1, 4](0, {n}, k0, k1, grid, tables, source, True, *scores)
print(*scores[0].sum(axis=0), *scores[1].sum(axis=0)[:, 0], scores[3][:, 0].sum())
"""


def test_kernel_in_the_simulator_agrees_with_the_cpu():
    """The kernel's logic in plain Python gives the integers of the CPU driver, to the last bit.

    Its functions use additions, products, quotients and roots only, which IEEE arithmetic defines exactly.
    """
    pytest.importorskip("numba_cuda", reason="numba-cuda is not installed (extra: test)")
    n = 60
    env = {**os.environ, "NUMBA_ENABLE_CUDASIM": "1", "NUMBA_DISABLE_JIT": "1"}
    code = _SIMULATE.format(here=os.path.dirname(__file__), n=n)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    got = np.array(done.stdout.split(), dtype=np.int64)
    cpu = transport.run(*_case(), histories=n, seed=5, n_region=4, voxel_map=True)
    emitted, escaped, outside, deposited = got[:4]
    assert emitted == escaped + outside + deposited
    np.testing.assert_array_equal(got[:5], cpu.energy)
    np.testing.assert_array_equal(got[5:9], cpu.region[:, 0])
    assert got[9] == cpu.voxel[:, 0].sum() == deposited


@pytest.mark.gpu
@pytest.mark.parametrize("geometry", ["voxels", "cylinder"])
def test_gpu_equals_cpu(geometry):
    reason = transport_cuda.available()
    if reason:
        pytest.skip(reason)
    grid, tables, source = _case()
    n_region = 4
    if geometry == "cylinder":
        rods = [
            Rod(60.0, 60.0, 60.0, 0.0, 120.0, 1, 1.0),
            Rod(60.0, 60.0, 10.0, 20.0, 100.0, 0, 0.0012, fluence=True),
        ]
        grid, _ = cylinder_grid(rods, tables, reach_mm=300.0)
        n_region = 3
    n = 200_000
    cpu = transport.run(grid, tables, source, histories=n, seed=5, n_region=n_region)
    gpu = transport_cuda.run(grid, tables, source, histories=n, seed=5, n_region=n_region)
    emitted, escaped, outside, deposited = gpu.energy[:4]
    assert emitted == escaped + outside + deposited
    # fast mathematics moves a few histories to another fate; what is left is far below the statistics
    for a, b in ((cpu.region, gpu.region), (cpu.fluence, gpu.fluence)):
        mean, sd = transport.mean_sd(a, n)
        other, _ = transport.mean_sd(b, n)
        assert (np.abs(mean - other) <= sd).all()


def test_dose_on_the_processor_does_not_import_cuda():
    """numba.cuda is a fifth of the processor time of the start."""
    code = "import sys, twinlab.dose.organs, twinlab.kernels.device as d; d.resolve('cpu', where='x'); "
    code += "sys.exit('numba.cuda' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 0
