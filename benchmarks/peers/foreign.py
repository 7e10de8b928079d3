"""Run a worker script under another interpreter: a job as JSON in, arrays out, through a temporary folder."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np


def run_worker(
    python: str, worker: str, job: Mapping[str, Any], *, threads: int = 2
) -> dict[str, np.ndarray]:
    """Result arrays of one job.

    Parameters
    ----------
    python : str
        Interpreter of the environment where the other program is installed.
    worker : str
        Script beside this one.
    job : mapping
        What JSON can hold; arrays are written to ``.npy`` files and replaced by their paths.
    threads : int
        What the usual environment variables allow the other program.

    Raises
    ------
    RuntimeError
        The worker failed: the end of what it said.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sent: dict[str, Any] = {"results": str(folder / "results"), "folder": name}
        for key, value in job.items():
            if isinstance(value, np.ndarray):
                np.save(folder / f"{key}.npy", value)
                value = str(folder / f"{key}.npy")
            sent[key] = value
        (folder / "job.json").write_text(json.dumps(sent))
        count = str(threads)
        limits = {"OMP_NUM_THREADS": count, "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": count}
        done = subprocess.run(
            [python, str(Path(__file__).with_name(worker)), str(folder / "job.json")],
            cwd=folder, env={**os.environ, **limits}, capture_output=True, text=True,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"{worker}: {done.stderr[-2000:]}")
        with np.load(folder / "result.npz") as data:
            return {key: data[key] for key in data.files}
