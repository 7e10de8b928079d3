"""Signals, detector chain and counts on a CUDA device: PTX, simulator, the kernels' text on the processor, a device."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import cuda_on_processor
import numpy as np
import pytest

from twinlab.kernels import (
    counts,
    cuda_counts,
    cuda_readings,
    cuda_signals,
    philox,
    pulses,
    readings,
    scintillator,
    spectral,
)
from twinlab.kernels.device import missing

PROCESSOR = {
    "polychromatic": spectral.polychromatic, "draw_readings": readings.draw_readings,
    "share_light": scintillator.share_light, "afterglow": scintillator.afterglow,
    "read_out": scintillator.read_out, "scale_cells": scintillator.scale_cells,
    "take_logarithm": readings.take_logarithm, "draw_counts": counts.draw_counts,
    "restore_rays": pulses.restore_rays,
}  # fmt: skip
DEVICE = {name: getattr(cuda_readings, name, None) for name in PROCESSOR}
DEVICE |= {"polychromatic": cuda_signals.polychromatic, "draw_counts": cuda_counts.draw_counts}
DEVICE["restore_rays"] = cuda_counts.restore_rays


def case(shape=(4, 3, 5), n_basis=5):
    """Rays of 5 basis functions, signals from 1 to 1,000 quanta, windows that cut rows, two exponentials of light."""
    rng = np.random.default_rng(3)
    f = np.float32
    n_view, n_row, n_channel = shape
    k0, k1 = philox.key(2**40 + 5)
    pairs = [(0, 1, 0, 0), (0, 1, 0, 1), (1, 0, 1, 1), (1, 1, 0, 0), (1, -1, 1, 0)]
    return {
        "path": rng.uniform(0, 2, (n_basis, *shape)).astype(f),
        "mu": rng.uniform(0.1, 0.4, (7, 8)).astype(f) * (np.arange(8) < n_basis).astype(f),
        "weight": rng.random((n_row, 7, n_channel), dtype=f),
        "weight2": rng.random((n_row, 7, n_channel), dtype=f) * f(60),
        "cell": rng.uniform(0.8, 1.2, (n_row, n_channel)).astype(f),
        "offset": rng.uniform(-2, 2, (n_row, n_channel)).astype(f),
        "signal": np.exp(rng.uniform(4, 11, shape)).astype(f),
        "energy": f(60.0),
        "mas": rng.uniform(0.5, 2, n_view).astype(f),
        "lo": np.array([0, 1, 0, 0] * n_view, np.int64)[:n_view],
        "hi": np.array([n_row, n_row, n_row - 1, n_row] * n_view, np.int64)[:n_view],
        "polynomial": np.concatenate([np.ones((1, 1, n_channel)), 0.05 * rng.random((1, 5, n_channel))], 1).astype(f),
        "share": np.array([0.1, 0.05], f), "decay": np.array([0.4, 0.9], f), "mean_decay": np.array([0.7, 0.95], f),
        "pause": np.where(np.arange(n_view)[:, None] == 2, [0.5, 0.8], 1.0).astype(f),
        "mean": np.exp(rng.uniform(-2, 5, (2, *shape))).astype(f),
        "places": np.array(pairs, np.int64), "factors": np.full(len(pairs), 0.03),
        "seed": (np.uint64(3), k0, k1),
        "sums": np.array([[[0.2, 0.0], [0.0, 0.0]], [[0.8, 1.0], [1.0, 1.0]]]),
    }  # fmt: skip


def chain(loops, put, back, c):
    """All loops once, in the order of a scan; their results on the host by name."""
    f, shape, window, found = np.float32, c["signal"].shape, (c["lo"], c["hi"]), {}
    empty = np.zeros(shape, f)
    first, second = put(empty), put(empty)
    tables = (c["mu"], c["weight"], c["weight2"], c["cell"])
    loops["polychromatic"](c["path"], *tables, *window, first, second)
    found["signal"], found["second"] = back(first), back(second)
    signal, quantum, value = put(c["signal"]), put(c["signal"] * c["energy"]), put(empty)
    loops["draw_readings"](signal, quantum, c["mas"], f(3.0), True, 6, *c["seed"], *window, value)
    found["drawn"] = back(value)
    for along in (False, True):
        loops["share_light"](value, f(0.06), f(0.88), f(0.94), along, *window)
    found["shared"] = back(value)
    held, last = np.full((2, *shape[1:]), f(5.0)), np.array([5, 3, 5] * shape[1], np.int64)[: shape[1]]
    loops["afterglow"](value, held, last, c["share"], c["decay"], c["mean_decay"], c["pause"], 6, *window)
    found["late"], found["held"], found["last"] = back(value), held, last
    loops["read_out"](
        value, c["cell"], c["offset"], f(20.0), f(40_000.0), f(0.0), True, 6, *c["seed"], *window
    )
    found["analogue"] = back(value)
    loops["scale_cells"](quantum, c["cell"])
    projection, variance = put(empty), put(empty)
    table, largest = c["polynomial"], np.full((1, shape[2]), f(6.0))
    loops["take_logarithm"](
        signal,
        quantum,
        1e5 * c["cell"],
        c["mas"],
        f(20.0),
        table,
        largest,
        *window,
        value,
        projection,
        variance,
    )
    found["projection"], found["variance"] = back(projection), back(variance)
    loops["read_out"](
        value, c["cell"], c["offset"], f(20.0), f(40_000.0), f(8.0), True, 6, *c["seed"], *window
    )
    found["rounded"] = back(value)
    mean = c["mean"]
    product = np.stack([mean[0] * f(1.1), f(0.1) * np.minimum(mean[0], mean[1]), mean[1]]).astype(f)
    drawn = put(np.zeros(mean.shape, f))
    loops["draw_counts"](put(mean), put(product), c["places"], c["factors"], 6, *c["seed"], *window, drawn)
    found["counts"] = back(drawn)
    for paralysable in (False, True):
        restored = put(np.zeros((2, mean[0].size), f))
        loops["restore_rays"](put(mean.reshape(2, -1)), 1e-3, c["sums"], paralysable, restored)
        found[f"restored {paralysable}"] = back(restored)
    return found


def on_processor(c):
    return chain(PROCESSOR, np.array, np.array, c)


def agree(found, exact):
    assert found.keys() == exact.keys()
    for name, values in exact.items():
        # float32, sums in another order and other exponentials: 1e-6 of a value, a few times in a row; the logarithm
        # near 0 errs by that of its argument
        close = np.isclose(found[name], values, rtol=2e-5, atol=2e-5)
        if name == "rounded":  # a value between two steps may fall on either side
            close |= np.isclose(np.abs(found[name] - values), 8.0, rtol=1e-4) & (
                np.cumsum(~close).reshape(close.shape) < 3
            )
        assert close.all(), (name, np.abs(found[name] - values).max())


def test_kernels_text_on_the_processor_agrees_with_the_loops(monkeypatch):
    cuda_on_processor.use(monkeypatch)
    c = case(shape=(12, 6, 40))
    exact = on_processor(c)
    from twinlab.kernels import cuda_memory as memory

    found = chain(DEVICE, memory.put, np.array, c)
    agree(found, exact)
    # the same Poisson numbers to the last one, and the same rows left alone
    np.testing.assert_array_equal(found["counts"], exact["counts"])
    np.testing.assert_array_equal(found["drawn"] == 0, exact["drawn"] == 0)
    few = c["mas"][:, None, None] * c["signal"] < 50 * c["energy"]
    assert 0.1 < few.mean() < 0.9  # both ways of drawing are in it
    monkeypatch.setattr(cuda_on_processor.cuda_memory, "launch", cuda_on_processor.launch_backwards)
    again = chain(DEVICE, memory.put, np.array, c)
    for name, values in found.items():
        np.testing.assert_array_equal(again[name], values)


def signatures():
    from numba import boolean, float32, float64, int64, uint64

    f, f1, f2, f3, f4 = (float32, float32[::1], float32[:, ::1], float32[:, :, ::1], float32[:, :, :, ::1])
    i1, i2, words, window = int64[::1], int64[:, ::1], (uint64, uint64, uint64), (int64[::1], int64[::1])
    d1, d3 = float64[::1], float64[:, :, ::1]
    return {  # kernel, its arguments, whether it computes in double precision on purpose
        "sums": (cuda_signals.sums, (f4, f2, f3, f3, f2, *window, f3, f3), False),
        "draw": (cuda_readings.draw, (f3, f3, f1, f, boolean, int64, *words, *window, f3), True),
        "share": (cuda_readings.share, (f3, f, f, f, boolean, *window, f3), False),
        "keep": (cuda_readings.keep, (f3, f3, i1, f1, f1, f1, f2, int64, *window), False),
        "convert": (cuda_readings.convert, (f3, f2, f2, f, f, f, boolean, int64, *words, *window), True),
        "scale": (cuda_readings.scale, (f3, f2), False),
        "logarithm": (cuda_readings.logarithm, (f3, f3, f2, f1, f, f3, f2, *window, f3, f3, f3), False),
        "count": (cuda_counts.count, (f4, f4, i2, d1, i2, int64, *words, *window, f4, f4), True),
        "restore": (cuda_counts.restore, (f2, float64, d3, boolean, d3, f2), True),
    }


@pytest.mark.parametrize("cc", [(8, 0), (9, 0)])
@pytest.mark.parametrize(
    "name", ["sums", "draw", "share", "keep", "convert", "scale", "logarithm", "count", "restore"]
)
def test_compiles_to_ptx(hopper, name, cc):
    from numba import cuda

    kernel, arguments, double = signatures()[name]
    ptx, _ = cuda.compile_ptx(kernel, arguments, cc=cc, fastmath=name == "sums")
    assert ".entry" in ptx
    assert f".target sm_{cc[0]}{cc[1]}" in ptx
    assert ".local" not in ptx  # nothing kept in local memory
    assert "atom." not in ptx
    if not double:
        assert re.findall(r"^\s*[a-z.0-9]*\.f64.*$", ptx, flags=re.M) == []


_SIMULATE = """
import sys
sys.path.insert(0, {here!r})
import numpy as np
from twinlab.kernels import elementary
elementary._bits_of_float = lambda value: np.float32(value).view(np.int32)  # compiled code has intrinsics for these
elementary._float_of_bits = lambda bits: np.int32(bits).view(np.float32)
import test_detector_cuda as t
from twinlab.kernels import cuda_memory as memory
with np.errstate(over="ignore"):
    found = t.chain(t.DEVICE, memory.put, lambda a: a.copy_to_host(), t.case(shape=(2, 3, 4)))
np.savez({out!r}, **found)
"""


def test_kernels_in_the_simulator_agree_with_the_cpu(tmp_path):
    pytest.importorskip("numba_cuda", reason="numba-cuda is not installed (extra: test)")
    out = tmp_path / "found.npz"
    code = _SIMULATE.format(here=os.path.dirname(__file__), out=str(out))
    environment = {**os.environ, "NUMBA_ENABLE_CUDASIM": "1", "NUMBA_DISABLE_JIT": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    with np.load(out) as found:
        agree(dict(found), on_processor(case(shape=(2, 3, 4))))


@pytest.mark.gpu
def test_gpu_equals_cpu():
    reason = missing()
    if reason:
        pytest.skip(reason)
    from twinlab.kernels import cuda_memory as memory

    c = case(shape=(24, 8, 200))
    found, exact = chain(DEVICE, memory.put, lambda a: a.copy_to_host(), c), on_processor(c)
    # a logarithm's last bit may decide about a photon: seldom, and then by few
    other = np.abs(found.pop("counts") - (counted := exact.pop("counts")))
    assert (other > 0).mean() < 1e-3
    assert other.max() <= 5 + 5 * np.sqrt(counted.max())
    agree(found, exact)
