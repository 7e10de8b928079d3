"""Seconds and peak memory of the reconstruction: helical regions and slabs, axial cone beams, a whole chest.

Run ``NUMBA_NUM_THREADS=2 python benchmarks/reconstruction.py``; ``--quick`` is short, ``--chest`` reconstructs
all 120 slices instead of 48. Seconds of the processor are printed beside those of the clock: on a busy machine
they tell more.
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

from twinlab.ct import slab
from twinlab.ct.recon import adjoint, needed_rows, reconstruct
from twinlab.kernels.device import Device
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


def axial_scan(*, views: int, channels: int, rows: int, field_mm: float) -> xr.Dataset:
    """Empty rotation that sees a field of view; 0.6 mm rows at the isocentre."""
    radius, detector = 570.0, 1040.0
    fan = math.asin(0.5 * field_mm / radius) * 1.02
    angle = 2 * math.pi / views * np.arange(views)
    return xr.Dataset(
        {
            "view_angle": label("view_angle", angle),
            "source_z": label("source_z", np.zeros(views)),
            "projection": label("projection", np.zeros((views, rows, channels), np.float32)),
        },
        coords={
            "row": (np.arange(rows) - 0.5 * (rows - 1)) * 0.6 * detector / radius,
            "fan_angle": ("channel", np.linspace(-fan, fan, channels)),
        },
        attrs={
            "mode": "axial", "views_per_rotation": views, "source_to_isocentre_mm": radius,
            "source_to_detector_mm": detector, "isocentre_x_mm": 0.0, "isocentre_y_mm": 0.0,
            "mu_water_per_mm": 0.02,
        },
    )  # fmt: skip


def even(count: int, step: float) -> np.ndarray:
    """Even positions around zero."""
    return (np.arange(count) - 0.5 * (count - 1)) * step


def stages(work: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    """Run, with the seconds of the processor that each kernel took; the rest is the filter, but for a little."""
    names = ("shift_views", "sum_rows", "resample", "back_project")
    kernels = {name: getattr(slab, name) for name in names}
    seconds = dict.fromkeys(names, 0.0)

    def clocked(name: str) -> Callable[..., None]:
        def run(*arguments: Any) -> None:
            start = time.process_time()
            kernels[name](*arguments)
            seconds[name] += time.process_time() - start

        return run

    try:
        for name in names:
            setattr(slab, name, clocked(name))
        start = time.process_time()
        result = work()
        rest = time.process_time() - start - sum(seconds.values())
        return result, {"shift_views": seconds["shift_views"], "filter and rest": rest, **seconds}
    finally:
        for name in names:
            setattr(slab, name, kernels[name])


def timed(name: str, work: Callable[[], Any]) -> float:
    """Run, print seconds of clock and processor, stages and peak memory; seconds of the clock."""
    start, busy = time.perf_counter(), time.process_time()
    _, parts = stages(work)
    seconds, busy = time.perf_counter() - start, time.process_time() - busy
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{name:<58} {seconds:8.2f} s   processor {busy:7.2f} s   peak {peak:6.0f} MB", flush=True)
    if busy > 1.0:
        print("    " + ", ".join(f"{key} {value:.2f}" for key, value in parts.items()), flush=True)
    return seconds


def cone_beams(device: Device) -> None:
    """Cone beams of one rotation that other programs were measured at (docs/methods/ct_recon.md)."""
    cases = (
        ("720 views of 900 x 32 to 512 x 512 x 32", 720, 900, 32, 32, 35.0, "RTK"),
        ("984 views of 900 x 16 to 512 x 512 x 8", 984, 900, 16, 8, 137.0, "XCIST"),
        ("500 views of 900 x 16 to 512 x 512 x 7", 500, 900, 16, 7, 91.0, "XCIST of VITools"),
    )
    for name, views, channels, rows, slices, other, program in cases:
        scan = axial_scan(views=views, channels=channels, rows=rows, field_mm=500.0)
        plane = even(512, 340.0 / 512)  # the rows see all corners
        grid = {"z": even(slices, 0.35 * rows / slices), "y": plane, "x": plane}
        seconds = timed(name, lambda scan=scan, grid=grid: reconstruct(scan, grid=grid, device=device))
        print(f"    {program} on 2 quiet cores {other:g} s: {other / seconds:.1f} times as long")


def chest(slices: int, device: Device) -> None:
    """64 rows of 0.6 mm, 1,000 views a turn, 332 mm: the projections are zeros, so that they take no memory."""
    radius, feed = 570.0, 38.4
    views = 10_000
    start = -0.5 * feed * views / 1000
    angle = 2 * math.pi / 1000 * np.arange(views)
    scan = axial_scan(views=1000, channels=736, rows=64, field_mm=500.0).drop_dims("view")
    scan = scan.assign(
        view_angle=label("view_angle", angle),
        source_z=label("source_z", start + feed * angle / (2 * math.pi)),
        projection=label("projection", np.zeros((views, 64, 736), np.float32)),
    ).assign_attrs(mode="helical", views_per_rotation=1000, source_to_isocentre_mm=radius)
    plane = even(512, 360.0 / 512)
    grid = {"z": even(slices, 332.0 / 120), "y": plane, "x": plane}
    name = f"chest: 10,000 views of 736 x 64 to 512 x 512 x {slices}"
    seconds = timed(name, lambda: reconstruct(scan, grid=grid, slice_thickness_mm=332.0 / 120, device=device))
    if slices < 120:
        print(f"    120 slices take {seconds * 120 / slices:.0f} s at this rate")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="256 x 256 x 8 instead of 512 x 512 x 20")
    parser.add_argument("--chest", action="store_true", help="all 120 slices of the chest")
    parser.add_argument(
        "--device", choices=("cpu", "cuda"), default="cpu", help="stages are those of the CPU"
    )
    options = parser.parse_args()
    device: Device = options.device
    size, slices = (256, 8) if options.quick else (512, 20)
    scan = chest_scan(length_mm=slices * 1.25)
    print(f"{numba.get_num_threads()} threads, projections {dict(scan['projection'].sizes)}")
    fine = (np.arange(64) - 31.5) * 0.7
    region = {"z": np.arange(3) * 2.5, "y": 40.0 + fine, "x": -60.0 + fine}
    step = 360.0 / size
    plane = (np.arange(size) - 0.5 * (size - 1)) * step
    voxels = {"z": (np.arange(slices) - 0.5 * (slices - 1)) * 1.25, "y": plane, "x": plane}
    few = {"z": np.array([0.0, 2.5]), "y": np.arange(2.0), "x": np.arange(2.0)}
    timed(
        "compile or load (2 x 2 x 2)",
        lambda: reconstruct(scan, grid=few, slice_thickness_mm=2.5, device=device),
    )
    timed(
        "compile or load the transpose",
        lambda: adjoint(np.ones((2, 2, 2)), scan, grid=few, slice_thickness_mm=2.5),
    )
    rows = needed_rows(scan, grid=region, slice_thickness_mm=2.5)
    n_rows = rows[1] - rows[0]
    print(f"    {(n_rows > 0).sum()} views, rows of {n_rows.sum() / scan.sizes['row']:.0f} whole views")
    for repeat in ("", ", again"):
        timed(
            f"reconstruct 64 x 64 x 3 of 2.5 mm{repeat}",
            lambda: reconstruct(scan, grid=region, slice_thickness_mm=2.5, device=device),
        )
    template = np.ones((3, 64, 64))
    timed("adjoint 64 x 64 x 3", lambda: adjoint(template, scan, grid=region, slice_thickness_mm=2.5))
    for thickness in (1.25, 5.0):
        name = f"reconstruct {size} x {size} x {slices} every 1.25 mm, {thickness:g} mm thick"
        timed(name, lambda t=thickness: reconstruct(scan, grid=voxels, slice_thickness_mm=t, device=device))
    if not options.quick:
        cone_beams(device)
        chest(120 if options.chest else 48, device)


if __name__ == "__main__":
    main()
