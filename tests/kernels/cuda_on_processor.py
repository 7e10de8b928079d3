"""CUDA kernels' text compiled for the processor: their logic and single precision at sizes beyond the simulator's."""

from __future__ import annotations

import inspect
import textwrap
from typing import Any

import numba
import numpy as np

from twinlab.kernels import cuda_backproject, cuda_memory


class _Array(np.ndarray):
    """Memory of the device: needs a copy before the host reads it."""

    def copy_to_host(self) -> np.ndarray:
        return np.array(self)


_COMPILED: dict[Any, Any] = {}


def _is_array(argument: Any) -> bool:
    """Not a scalar of NumPy, which has an ``__array__`` too."""
    return hasattr(argument, "__array__") and not isinstance(argument, np.generic)


def launch(kernel: Any, threads: int, *arguments: Any, fastmath: bool = False) -> None:
    """Run a kernel's text, compiled for the processor, thread after thread."""
    plain = [np.asarray(a) if _is_array(a) else a for a in arguments]
    _compiled(kernel)(0, threads, 1, *plain)


def launch_backwards(kernel: Any, threads: int, *arguments: Any, fastmath: bool = False) -> None:
    """As :func:`launch`, the last thread first."""
    plain = [np.asarray(a) if _is_array(a) else a for a in arguments]
    _compiled(kernel)(threads - 1, -1, -1, *plain)


def _compiled(kernel: Any) -> Any:
    if kernel not in _COMPILED:
        text = textwrap.dedent(inspect.getsource(kernel))
        head = f"def {kernel.__name__}("
        assert text.count(head) == text.count("cuda.grid(1)") == 1
        text = text.replace(head, head + "number, ").replace("cuda.grid(1)", "number")
        text = text.replace("cuda.local.array(", "numpy.empty(")
        space = {**kernel.__globals__, "numpy": np}
        exec(text, space)
        one = numba.njit(space[kernel.__name__])

        @numba.njit
        def every(first, end, step, *rest):
            for number in range(first, end, step):
                one(number, *rest)

        _COMPILED[kernel] = every
    return _COMPILED[kernel]


def use(monkeypatch: Any, algebra: Any = np.asarray) -> None:
    """Let all that runs on a CUDA device run here; ``algebra`` makes the arrays that stand for CuPy's."""
    monkeypatch.setattr(cuda_memory, "put", _put)
    monkeypatch.setattr(cuda_memory, "exactly", lambda values: np.array(values, order="C").view(_Array))
    monkeypatch.setattr(cuda_memory, "zeros", _zeros)
    monkeypatch.setattr(cuda_backproject, "put", _put)
    monkeypatch.setattr(cuda_backproject, "zeros", _zeros)
    monkeypatch.setattr(cuda_memory, "empty", lambda shape: np.full(shape, np.nan, np.float32).view(_Array))
    monkeypatch.setattr(cuda_memory, "launch", launch)
    monkeypatch.setattr(cuda_memory, "algebra", algebra)


def _zeros(shape: tuple[int, ...]) -> Any:
    return np.zeros(shape, np.float32).view(_Array)


def _put(values: Any) -> Any:
    array = np.asarray(values)
    kind = np.float32 if array.dtype.kind == "f" else array.dtype
    return np.array(array, kind, order="C").view(_Array)
