"""Seconds and peak memory of the reconstruction: one chest-like helical scan, region and slab.

Run ``NUMBA_NUM_THREADS=2 OPENBLAS_NUM_THREADS=2 python benchmarks/reconstruction.py``; ``--quick`` is short.
"""

from __future__ import annotations

import argparse
import math
import resource
import time
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import xarray as xr

from twinlab.ct.recon import adjoint, needed_rows, reconstruct
from twinlab.schema import label


def chest_scan(
    *, length_mm: float, views: int = 984, channels: int = 888, rows: int = 64, pitch: float = 0.98
) -> xr.Dataset:
    """Noise in the geometry of a 64-row scanner, long enough to reconstruct ``length_mm``."""
    radius, detector = 541.0, 949.0
    row_pitch = 0.625 * detector / radius
    feed = pitch * rows * 0.625
    start = -0.5 * length_mm - 0.8 * feed - 20.0
    angle = 2 * math.pi / views * np.arange(math.ceil((length_mm + 1.6 * feed + 40.0) / feed * views))
    rng = np.random.default_rng(1)
    shape = (angle.size, rows, channels)
    return xr.Dataset(
        {
            "view_angle": label("view_angle", angle),
            "source_z": label("source_z", start + feed * angle / (2 * math.pi)),
            "projection": label("projection", rng.standard_normal(shape, dtype=np.float32)),
        },
        coords={
            "row": (np.arange(rows) - 0.5 * (rows - 1)) * row_pitch,
            "fan_angle": ("channel", (np.arange(channels) - 0.5 * (channels - 1) + 0.25) * 1.0239 / detector),
        },
        attrs={
            "mode": "helical", "views_per_rotation": views, "source_to_isocentre_mm": radius,
            "source_to_detector_mm": detector, "isocentre_x_mm": 0.0, "isocentre_y_mm": 0.0,
            "mu_water_per_mm": 0.02,
        },
    )  # fmt: skip


def timed(name: str, work: Callable[[], Any]) -> Any:
    """Run, print seconds and peak memory, hand the result on."""
    start = time.perf_counter()
    result = work()
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{name:<58} {seconds:8.2f} s   peak {peak:7.0f} MB", flush=True)
    return result


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="256 x 256 x 8 instead of 512 x 512 x 20")
    size, slices = (256, 8) if parser.parse_args().quick else (512, 20)
    scan = chest_scan(length_mm=slices * 1.25)
    print(f"{numba.get_num_threads()} threads, projections {dict(scan['projection'].sizes)}")
    fine = (np.arange(64) - 31.5) * 0.7
    region = {"z": np.arange(3) * 2.5, "y": 40.0 + fine, "x": -60.0 + fine}
    step = 360.0 / size
    plane = (np.arange(size) - 0.5 * (size - 1)) * step
    slab = {"z": (np.arange(slices) - 0.5 * (slices - 1)) * 1.25, "y": plane, "x": plane}
    few = {"z": np.array([0.0, 2.5]), "y": np.arange(2.0), "x": np.arange(2.0)}
    timed("compile or load (2 x 2 x 2)", lambda: reconstruct(scan, grid=few, slice_thickness_mm=2.5))
    timed(
        "compile or load the transpose",
        lambda: adjoint(np.ones((2, 2, 2)), scan, grid=few, slice_thickness_mm=2.5),
    )
    rows = timed("needed_rows of 64 x 64 x 3", lambda: needed_rows(scan, grid=region, slice_thickness_mm=2.5))
    n_rows = rows[1] - rows[0]
    print(f"    {(n_rows > 0).sum()} views, rows of {n_rows.sum() / scan.sizes['row']:.0f} whole views")
    for repeat in ("", ", again"):
        timed(
            f"reconstruct 64 x 64 x 3 of 2.5 mm{repeat}",
            lambda: reconstruct(scan, grid=region, slice_thickness_mm=2.5),
        )
    template = np.ones((3, 64, 64))
    timed("adjoint 64 x 64 x 3", lambda: adjoint(template, scan, grid=region, slice_thickness_mm=2.5))
    for thickness in (1.25, 5.0):
        name = f"reconstruct {size} x {size} x {slices} every 1.25 mm, {thickness:g} mm thick"
        timed(name, lambda t=thickness: reconstruct(scan, grid=slab, slice_thickness_mm=t))


if __name__ == "__main__":
    main()
