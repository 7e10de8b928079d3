"""Where arrays live and loops run: the processor or a CUDA device, named by one keyword.

Array algebra asks its inputs for their namespace (:func:`namespace`), so that CuPy arrays stay on the GPU;
loops are launched where :func:`resolve` says.
"""

from __future__ import annotations

from typing import Any, Literal

import array_api_compat
import numpy as np

from twinlab.schema import refuse

Device = Literal["auto", "cpu", "cuda"]


def missing() -> str:
    """Why no CUDA device can be used; empty when one can."""
    try:
        from numba import cuda
    except ImportError:
        return "numba-cuda is not installed (extra: gpu)"
    return "" if cuda.is_available() else "no CUDA device"


def resolve(device: Device, *, where: str) -> Literal["cpu", "cuda"]:
    """Device to run on: "auto" is the GPU when there is one.

    Raises
    ------
    InputError
        Another word, or "cuda" where there is no CUDA device.

    Examples
    --------
    >>> resolve("cpu", where="example")
    'cpu'
    """
    if device not in ("auto", "cpu", "cuda"):
        refuse(f"{where}: device", "'auto', 'cpu' or 'cuda'", repr(device))
    if device == "cpu":
        return "cpu"
    reason = missing()
    if device == "cuda" and reason:
        refuse(f"{where}: device", "a CUDA device", reason)
    return "cpu" if reason else "cuda"


def namespace(*arrays: Any) -> Any:
    """Array-API namespace of some arrays (NumPy, CuPy, torch): write algebra against it.

    Examples
    --------
    >>> import numpy as np
    >>> namespace(np.zeros(2)).__name__
    'array_api_compat.numpy'
    """
    return array_api_compat.array_namespace(*arrays)


def host(array: Any) -> np.ndarray:
    """An array of any namespace as one of NumPy, copied from the device where it lives there.

    Examples
    --------
    >>> host(np.ones(2))
    array([1., 1.])
    """
    return np.asarray(array.get() if array_api_compat.is_cupy_array(array) else array)
