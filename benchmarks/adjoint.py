"""Seconds of the projector and of its transpose, and their scalar-product test.

Run ``NUMBA_NUM_THREADS=1 python benchmarks/adjoint.py``.
"""

from __future__ import annotations

import time

import numba
import numpy as np

from twinlab.kernels.columns import prepare
from twinlab.kernels.project import project
from twinlab.kernels.project_adjoint import project_adjoint

CASES = ((256, 40, 32, 100), (512, 64, 64, 40))  # pixels, slices, rows, views


def main() -> None:
    """Print the table."""
    print(f"{numba.get_num_threads()} threads")
    rng = np.random.default_rng(0)
    for n, slices, rows, views in CASES:
        volume = rng.random((1, slices, n, n), dtype=np.float32)
        step = 400.0 / n
        edge = -0.5 * (n - 1) * step
        scan = {
            "spacing_mm": (0.7, step, step), "origin_mm": (-0.35 * (slices - 1), edge, edge),
            "view_angle_rad": np.arange(views) * 2 * np.pi / views, "source_z_mm": np.zeros(views),
            "source_to_isocentre_mm": 541.0, "source_to_detector_mm": 949.0,
            "fan_angle_rad": (np.arange(888) - 443.25) * 1.0239 / 949,
            "row_mm": (np.arange(rows) - 0.5 * (rows - 1)) * 1.096,
        }  # fmt: skip
        columns = prepare(volume)
        seconds = []
        for _ in range(3):
            begin = time.perf_counter()
            forward = project(columns, **scan)
            middle = time.perf_counter()
            back = project_adjoint(forward, shape=volume.shape[1:], **scan)
            seconds.append((middle - begin, time.perf_counter() - middle))
        there, again = np.min(seconds, axis=0)
        error = (
            np.vdot(forward.astype(float), forward) / np.vdot(volume.astype(float), back.astype(float)) - 1.0
        )
        print(
            f"{n} x {n} x {slices}, {views} views of {rows} x 888: forward {there:.2f} s, transpose {again:.2f} s, "
            f"ratio {again / there:.2f}; <Ax, Ax> / <x, A'Ax> - 1 = {error:.1e}"
        )


if __name__ == "__main__":
    main()
