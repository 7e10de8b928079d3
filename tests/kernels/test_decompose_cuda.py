"""Decomposition in the projections on a CUDA device: PTX, simulator, the kernel's text on the processor, a device."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import cuda_on_processor
import numpy as np
import pytest

from twinlab.kernels import cuda_decompose, decompose
from twinlab.kernels.device import missing


def case(shape=(6, 3, 40), n_meas=3, n_mat=2, quanta=1e5):
    """Rays through up to 12 g/cm2 of a soft material and less of others, read with Poisson noise; rows cut off."""
    rng, f = np.random.default_rng(5), np.float32
    energy = np.linspace(30.0, 120.0, 8)
    mu = np.stack(
        [
            0.15 + 0.3 * (40 / energy) ** 3,
            1.5 * (60 / energy) ** 2.8 * np.where(energy > 50, 1.0, 0.3),
            0.1 + 0.4 * (40 / energy) ** 3 * np.where(energy > 70, 4.0, 1.0),
        ],
        axis=1,
    )[:, :n_mat].astype(f)
    middle = np.linspace(40.0, 110.0, n_meas)
    spectrum = np.exp(-0.5 * ((energy - middle[:, None]) / 15.0) ** 2)
    spectrum /= spectrum.sum(axis=1, keepdims=True)
    by_row = spectrum * np.linspace(0.9, 1.1, shape[1])[:, None, None] ** np.arange(8)
    by_row /= by_row.sum(axis=2, keepdims=True)
    weight = np.repeat(by_row[..., None], shape[2], axis=3).astype(f)
    path = np.stack([rng.uniform(0, 12, shape), *(rng.uniform(0, 0.3, (n_mat - 1, *shape)))])
    through = np.exp(-np.einsum("qk,kvrc->qvrc", mu, path))
    mean = np.einsum("rsq,qvrc->svrc", by_row, through)
    linear = np.linalg.pinv(spectrum @ mu)
    precision = np.linalg.inv(0.95 * np.eye(n_meas) + 0.05)
    return {
        "transmission": (rng.poisson(mean * quanta) / quanta).astype(f),
        "quanta": np.full((n_meas, *shape), quanta, f),
        "mu": mu, "weight": weight, "precision": precision, "half": np.linalg.cholesky(precision).astype(f),
        "first": np.repeat(-linear[..., None], shape[2], axis=2).astype(f), "power": np.eye(n_mat, dtype=np.int64),
        "coefficient": np.repeat(np.eye(n_mat)[..., None], shape[2], axis=2).astype(f),
        "row_lo": np.array([1, 0] * shape[0], np.int64)[: shape[0]],
        "row_hi": np.array([shape[1], shape[1], shape[1] - 1] * shape[0], np.int64)[: shape[0]],
    }  # fmt: skip


def solved(function, c, *, covariance=True):
    """Results of a driver by name; the processor's takes a start too."""
    start = ("half", "first", "power", "coefficient")
    known = [c[name] for name in c if function is decompose.decompose_rays or name not in start]
    n_mat, shape = c["mu"].shape[1], c["quanta"].shape[1:]
    views = shape[0] if covariance else 0
    found = {"path": np.zeros((n_mat, *shape), np.float32)}
    found["covariance"] = np.zeros((n_mat, n_mat, views, *shape[1:]), np.float32)
    found |= {name: np.zeros(shape[0], np.int64) for name in ("slow", "failed")}
    function(*known, *found.values())
    return found


def agree(found, exact, c, *, part_of_noise, rtol):
    """Line integrals in units of the noise; the bound relative to its diagonal."""
    spread = exact["covariance"]
    noise = np.sqrt(np.einsum("kkvrc->kvrc", spread.astype(float)))
    assert (np.abs(found["path"] - exact["path"]) <= part_of_noise * noise + 1e-6).all()
    size = noise[:, None] * noise[None]
    assert (np.abs(found["covariance"] - spread) <= rtol * size).all()
    rows = np.arange(c["quanta"].shape[2])
    seen = (rows >= c["row_lo"][:, None]) & (rows < c["row_hi"][:, None])
    assert not found["path"][:, ~seen].any()  # left alone outside the windows
    np.testing.assert_array_equal(found["slow"], seen.sum(axis=1) * c["quanta"].shape[3])
    np.testing.assert_array_equal(found["failed"], exact["failed"])


@pytest.mark.parametrize(("n_meas", "n_mat", "quanta"), [(3, 2, 1e5), (4, 2, 20.0), (8, 3, 1e5)])
def test_kernels_text_on_the_processor_agrees_with_the_loop(monkeypatch, n_meas, n_mat, quanta):
    cuda_on_processor.use(monkeypatch)
    c = case(n_meas=n_meas, n_mat=n_mat, quanta=quanta)
    exact, found = (solved(d.decompose_rays, c) for d in (decompose, cuda_decompose))
    # float32 in rows against float64 one by one: 1e-4 of the noise, as docs/methods/spectral.md states; the bound is
    # the inverse of a matrix in float32, whose digits three materials cost (7e-6 with two, 3e-4 with three)
    agree(found, exact, c, part_of_noise=1e-4, rtol=1e-3)
    assert (exact["slow"].sum() > 0) == (quanta < 1e3)  # few quanta: the same function on both sides
    monkeypatch.setattr(cuda_decompose, "RAYS", 2 * 3 * 40)  # two views at a time
    monkeypatch.setattr(cuda_on_processor.cuda_memory, "launch", cuda_on_processor.launch_backwards)
    again = solved(cuda_decompose.decompose_rays, c)
    for name, values in found.items():
        np.testing.assert_array_equal(again[name], values)
    alone = solved(cuda_decompose.decompose_rays, c, covariance=False)
    np.testing.assert_array_equal(alone["path"], found["path"])


@pytest.mark.parametrize("cc", [(8, 0), (9, 0)])
def test_compiles_to_ptx(hopper, cc):
    from numba import cuda, float32, float64, int64, uint8

    f2, f4, f5 = float32[:, ::1], float32[:, :, :, ::1], float32[:, :, :, :, ::1]
    i1, u3 = int64[::1], uint8[:, :, ::1]
    arguments = (f4, f4, f2, f4, float64[:, ::1], i1, i1, f4, f5, u3)
    ptx, _ = cuda.compile_ptx(cuda_decompose.solve, arguments, cc=cc)
    assert ".entry" in ptx
    assert f".target sm_{cc[0]}{cc[1]}" in ptx
    # the thread's own memory is the work space and nothing else: 100 numbers in double precision
    local = [int(n) for n in re.findall(r"\.local .*\[(\d+)\]", ptx)]
    own = 8 * (4 + 4 * 4 + (3 + 4) * cuda_decompose.MOST_MEASURED + (2 * 4 + 1) * 4)
    assert sum(local) <= own + 64
    assert "atom." not in ptx


_SIMULATE = """
import sys
sys.path.insert(0, {here!r})
import numpy as np
import test_decompose_cuda as t
np.savez({out!r}, **t.solved(t.cuda_decompose.decompose_rays, t.case(shape=(2, 3, 4))))
"""


def test_kernel_in_the_simulator_agrees_with_the_cpu(tmp_path, monkeypatch):
    pytest.importorskip("numba_cuda", reason="numba-cuda is not installed (extra: test)")
    out = tmp_path / "found.npz"
    code = _SIMULATE.format(here=os.path.dirname(__file__), out=str(out))
    environment = {**os.environ, "NUMBA_ENABLE_CUDASIM": "1", "NUMBA_DISABLE_JIT": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    c = case(shape=(2, 3, 4))
    with np.load(out) as found:
        agree(dict(found), solved(decompose.decompose_rays, c), c, part_of_noise=1e-4, rtol=1e-3)
        cuda_on_processor.use(monkeypatch)
        exact = solved(
            cuda_decompose.decompose_rays, c
        )  # float64 on both sides: the rounding of what is stored
        agree(dict(found), exact, c, part_of_noise=1e-5, rtol=1e-6)


@pytest.mark.gpu
def test_gpu_equals_cpu():
    reason = missing()
    if reason:
        pytest.skip(reason)
    c = case(shape=(24, 8, 200))
    exact, found = (solved(d.decompose_rays, c) for d in (decompose, cuda_decompose))
    agree(found, exact, c, part_of_noise=1e-4, rtol=1e-3)
