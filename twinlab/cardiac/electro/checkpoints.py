"""State of a long run in a file, so that an interrupted run goes on where it was."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np

from twinlab.cardiac.electro.loops import State
from twinlab.kernels.heart_marks import Marks
from twinlab.schema import refuse

_ARRAYS = ("v", "y", "awake", "rest_v", "rest_y", "old", "increment")


def digest(*parts: Any) -> str:
    """Fingerprint of what a run depends on: arrays by their bytes, all else by its text."""
    total = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            total.update(f"{part.shape}{part.dtype}".encode())
            total.update(np.ascontiguousarray(part).tobytes())
        else:
            total.update(repr(part).encode())
    return total.hexdigest()


def save_state(path: Path, state: State, mark: str) -> None:
    """Write a state; the file is replaced at once, so that it is whole whenever the run stops."""
    content: dict[str, Any] = {name: getattr(state, name) for name in _ARRAYS}
    content |= {f"marks_{name}": values for name, values in state.marks._asdict().items()}
    content |= {"samples": np.asarray(state.samples), "step": state.step, "iterations": state.iterations}
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    with part.open("wb") as stream:
        np.savez(stream, digest=mark, **content)
    os.replace(part, path)


def load_state(path: Path, mark: str) -> State | None:
    """State of a run of the same digest, None where there is no file.

    Raises
    ------
    InputError
        The file belongs to a run with other settings, or is no checkpoint.
    """
    if not path.is_file():
        return None
    try:
        with np.load(path) as content:
            data = dict(content)
            same = str(data["digest"]) == mark
            state = State(
                step=int(data["step"]),
                **{name: data[name] for name in _ARRAYS},
                marks=Marks(*(data[f"marks_{name}"] for name in Marks._fields)),
                samples=list(data["samples"]),
                iterations=int(data["iterations"]),
            )
    except (KeyError, ValueError, OSError, EOFError) as error:
        refuse("monodomain: checkpoint", "a file of an earlier run", f"{path.name}: {error}")
    if not same:
        refuse("monodomain: checkpoint", "a file of a run with the same settings", f"{path.name} of another")
    return state
