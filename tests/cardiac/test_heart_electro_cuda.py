"""GPU kernels of the monodomain step: they compile without a GPU, and their logic agrees with the processor's."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from twinlab.kernels import heart_cells, heart_cuda, heart_marks, heart_stencil


def _cells(model):
    """Forty cells over the range of the potential, half of them asleep, of all three kinds."""
    module = heart_cells.MODELS[model]
    n = 40
    tables = heart_cells.cell_tables(model, 0.02, 2.0)
    v = np.where(np.arange(n) % 2, np.linspace(-90.0, 40.0, n), module.REST_MV)
    y = np.repeat(module.REST[:, None], n, axis=1)
    kind = (np.arange(n) % 3).astype(np.uint8)
    awake = (np.arange(n) % 4 == 1).astype(np.uint8)
    rest = np.repeat(module.REST[:, None], 3, axis=1)
    before = np.full(3, module.REST_MV)
    return v, y, 0.02, kind, awake, before, before + 0.01, rest, 1e-3, tables


def _tissue():
    from twinlab.cardiac.electro import slab
    from twinlab.cardiac.electro.tissue import excitable

    muscle = excitable(slab((2.0, 1.5, 1.0), 0.5, fibre=(1.0, 1.0, 0.5)))
    parts = heart_stencil.assemble(
        muscle.number, muscle.nodes, muscle.tensor / np.float32(0.25), muscle.weight, 1.0
    )
    s = heart_stencil.stencil(*parts, 0.05)
    x = np.zeros(s.inverse.size)
    x[heart_stencil.MARGIN : -heart_stencil.MARGIN] = np.random.default_rng(3).normal(size=len(muscle.nodes))
    return s, x


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
def test_compiles_to_ptx(hopper, cc):
    from numba import cuda, typeof
    from numba.types import float64, int64

    v, y, _, kind, awake, before, after, rest, _, tables = _cells(0)
    types = [typeof(a) for a in (v, y)], [typeof(a) for a in (kind, awake, before, after, rest)]
    shape = (int64, *types[0], float64, *types[1], float64)
    last = (typeof(tables.potential), typeof(tables.rectifier), float64, typeof(tables.parameters))
    ptx, _ = cuda.compile_ptx(heart_cuda.react_kernel, (*shape, *last), cc=cc)
    assert f".target sm_{cc[0]}{cc[1]}" in ptx
    assert ".local" not in ptx or "__local_depot" not in ptx  # nothing spilt to memory of the thread's own
    s, x = _tissue()
    arrays = (heart_cuda.places(s), s.stiffness, x, x)
    ptx, _ = cuda.compile_ptx(heart_cuda.product_kernel, tuple(map(typeof, arrays)), cc=cc)
    assert ".entry" in ptx


_SIMULATE = """
import sys
sys.path.insert(0, {here!r})
import numpy as np
import test_heart_electro_cuda as t
from numba import cuda
from twinlab.kernels import heart_cuda as hc, heart_marks
out = []
for model in (0, 1):
    v, y, dt, kind, awake, before, after, rest, bound, tables = t._cells(model)
    for _ in range(3):
        cuda.jit(hc.react_kernel)[2, 32](
            model, v, y, dt, kind, awake, before, after, rest, bound, *tables)
    m, old, bad = heart_marks.marks(v.size), np.full(v.size, -90.0), np.zeros(1, np.int64)
    cuda.jit(hc.mark_kernel)[2, 32](v, old, 1.0, dt, 0.0, -70.0, *m, bad)
    out += [v, y.ravel(), awake, m.first_up, m.beats]
s, x = {tissue}
"""


def _simulated(code):
    env = {**os.environ, "NUMBA_ENABLE_CUDASIM": "1", "NUMBA_DISABLE_JIT": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=env, timeout=300)
    assert done.returncode == 0, done.stderr.decode()[-2000:]


def test_kernels_in_the_simulator_agree_with_the_processor(tmp_path):
    """Three steps of cells, marks and one product of a stencil: equal but for the order of contracted sums."""
    pytest.importorskip("numba_cuda", reason="numba-cuda is not installed (extra: test)")
    s, x = _tissue()
    np.savez(tmp_path / "in.npz", place=heart_cuda.places(s), matrix=s.stiffness, x=x)
    load = f"(np.load({str(tmp_path / 'in.npz')!r}), None)"
    code = _SIMULATE.format(here=os.path.dirname(__file__), tissue=load) + (
        "product = np.zeros_like(s['x'])\n"
        "cuda.jit(hc.product_kernel)[2, 64](s['place'], s['matrix'], s['x'], product)\n"
        f"np.savez({str(tmp_path / 'out.npz')!r}, *out, product=product)\n"
    )
    _simulated(code)
    got = np.load(tmp_path / "out.npz")
    k = 0
    for model in (0, 1):
        v, y, dt, kind, awake, before, after, rest, bound, tables = _cells(model)
        for _ in range(3):
            heart_cells.react_all(model, v, y, dt, kind, awake, before, after, rest, bound, tables)
        m = heart_marks.marks(v.size)
        heart_marks.mark_all(v, np.full(v.size, -90.0), 1.0, dt, 0.0, -70.0, m)
        for values in (v, y.ravel(), awake, m.first_up, m.beats):
            np.testing.assert_allclose(got[f"arr_{k}"], values, rtol=1e-9, atol=1e-12)
            k += 1
    wanted = heart_stencil.multiply(s.start, s.lead, s.stiffness, x)
    np.testing.assert_allclose(got["product"], wanted, rtol=1e-6, atol=1e-6)


def _run(device):
    from twinlab.cardiac import electro

    voxels = electro.slab((2.0, 1.0, 0.5), 0.5, fibre=(1.0, 1.0, 0.0))
    return electro.monodomain(
        voxels,
        stimuli=[electro.box_stimulus((-1.0,) * 3, (1.0, 1.5, 1.0))],
        end_ms=1.5,
        dt_ms=0.1,
        cell="bueno_epi",
        conductivity=electro.Conductivity(0.3, 0.1),
        sites_mm={"far": (2.0, 1.0, 0.5)},
        device=device,
    )


_WHOLE = """
import sys
sys.path.insert(0, {here!r})
import test_heart_electro_cuda as t
from twinlab.kernels import cuda_memory
cuda_memory.THREADS = 32  # a thread of the simulator is one of Python's
t._run("cuda").to_netcdf({out!r}, engine="h5netcdf")
"""


def test_run_in_the_simulator_agrees_with_the_processor(tmp_path):
    """Fifteen steps of a tiny sheet, through the same public function: 1e-3 mV and ms, the solver's tolerance."""
    pytest.importorskip("numba_cuda", reason="numba-cuda is not installed (extra: test)")
    import xarray as xr

    _simulated(_WHOLE.format(here=os.path.dirname(__file__), out=str(tmp_path / "out.nc")))
    got = xr.load_dataset(tmp_path / "out.nc", engine="h5netcdf")
    cpu = _run("cpu")
    assert got.attrs["solver"] == "cg on cuda"
    np.testing.assert_allclose(got.membrane_potential, cpu.membrane_potential, atol=1e-2)
    np.testing.assert_allclose(got.activation_time, cpu.activation_time, atol=1e-3)
    assert np.isfinite(cpu.activation_time.values[0, 0, 0])


@pytest.mark.gpu
def test_gpu_equals_cpu():
    from twinlab.kernels.device import missing

    if missing():
        pytest.skip(missing())
    got, cpu = _run("cuda"), _run("cpu")
    np.testing.assert_allclose(got.membrane_potential, cpu.membrane_potential, atol=1e-2)
    np.testing.assert_allclose(got.activation_time, cpu.activation_time, atol=1e-3)
