"""twinlab beside RTK: forward projection and FDK of a flat panel, in one run.

    python benchmarks/peers/rtk.py --python PATH_TO_PYTHON_WITH_ITK_RTK [--full]

RTK runs in its own process and projects one volume; ours projects ``--basis`` volumes at a time. Both see the
same smooth volume, and both reconstruct the same projections with a plain ramp. Without ``--full`` everything
is smaller: the ratios then only show that it runs.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import xarray as xr
from foreign import run_worker

from twinlab import ct
from twinlab.kernels.project import project
from twinlab.schema import label

SID, SDD, MU = 1000.0, 1500.0, 0.02
SEEN_MM = 100.0  # from the axis: compared there


def volume(n: int, spacing: float) -> np.ndarray:
    """Smooth bumps inside a ball, (z, y, x), no symmetry."""
    axis = (np.arange(n) - (n - 1) / 2) * spacing
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij", sparse=True)
    scale = 0.5 * n * spacing
    ball = 1.0 / (1.0 + np.exp((np.sqrt(x**2 + y**2 + z**2) - 0.75 * scale) / (0.04 * scale)))
    bump = np.exp(
        -((x - 0.3 * scale) ** 2 + (y + 0.2 * scale) ** 2 + (z - 0.1 * scale) ** 2) / (0.1 * scale) ** 2
    )
    return (ball * (1.0 + 0.5 * bump)).astype(np.float32)


def timed(run: Callable[[], Any], repeats: int = 2) -> tuple[float, Any]:
    """Best wall time [s] after one run that is not counted, and the last result."""
    result, best = run(), np.inf
    for _ in range(repeats):
        start = time.perf_counter()
        result = run()
        best = min(best, time.perf_counter() - start)
    return float(best), result


def compare(
    name: str, seconds: float, theirs: float, difference: np.ndarray, scale: float, wanted: str
) -> None:
    """One row of the table."""
    rms = 100 * float(np.sqrt(np.mean(difference**2))) / scale
    print(
        f"| {name} | {theirs:.2f} s, ours {seconds:.2f} s: {theirs / seconds:.1f} times; "
        f"differ by {rms:.3f} % RMS | {wanted} |"
    )


def forward(python: str, *, n: int, views: int, columns: int, rows: int, pitch: float, basis: int) -> None:
    """Projection of n^3 voxels to a flat panel."""
    spacing = 300.0 / n
    values = volume(n, spacing)
    u, v = ((np.arange(k) - (k - 1) / 2) * pitch for k in (columns, rows))
    volumes = np.stack([values * (1.0 + 0.1 * k) for k in range(basis)])
    low = -0.5 * (n - 1) * spacing
    scan = {
        "spacing_mm": (spacing,) * 3, "origin_mm": (low,) * 3, "source_z_mm": 0.0, "u_mm": u, "row_mm": v,
        "view_angle_rad": 2 * np.pi * np.arange(views) / views, "source_to_isocentre_mm": SID,
        "source_to_detector_mm": SDD,
    }  # fmt: skip
    seconds, ours = timed(lambda: project(volumes, **scan))
    job = {
        "what": "project", "volume": values.transpose(1, 0, 2), "spacing": (spacing,) * 3, "views": views,
        "columns": columns, "rows": rows, "column_mm": pitch, "row_mm": pitch, **TURN,
    }  # fmt: skip
    done = run_worker(python, "run_rtk.py", job, threads=numba.get_num_threads())
    theirs = done["projection"] / 10.0  # mm to cm
    name = f"{n}^3 to {views} views of {columns} x {rows}, flat; ours {basis} volumes, RTK one"
    compare(name, seconds, float(done["seconds"]), theirs - ours[0], float(ours[0].max()), "4; 0.5 %")


def backward(
    python: str, *, size: int, slices: int, views: int, columns: int, rows: int, pitch: float
) -> None:
    """FDK of one set of projections."""
    n = 128
    spacing = 300.0 / n
    u, v = ((np.arange(k) - (k - 1) / 2) * pitch for k in (columns, rows))
    low = -0.5 * (n - 1) * spacing
    values = MU * volume(n, spacing)
    projection = project(
        values[None], spacing_mm=(spacing,) * 3, origin_mm=(low,) * 3, source_z_mm=0.0, u_mm=u, row_mm=v,
        view_angle_rad=2 * np.pi * np.arange(views) / views, source_to_isocentre_mm=SID, source_to_detector_mm=SDD,
    )[0] * 10.0  # fmt: skip
    voxel, step = 300.0 / size, pitch * SID / SDD
    plane = (np.arange(size) - (size - 1) / 2) * voxel
    z = (np.arange(slices) - (slices - 1) / 2) * step
    coords = {"row": v, "u": ("channel", u)}
    scan = xr.Dataset(
        {
            "projection": label("projection", projection, coords),
            "view_angle": label("view_angle", 2 * np.pi * np.arange(views) / views),
            "source_z": label("source_z", np.zeros(views)),
        },
        attrs={
            "mode": "axial", "views_per_rotation": views, "source_to_isocentre_mm": SID,
            "source_to_detector_mm": SDD, "isocentre_x_mm": 0.0, "isocentre_y_mm": 0.0, "mu_water_per_mm": MU,
        },
    )  # fmt: skip
    grid = {"z": z, "y": plane, "x": plane}
    seconds, hu = timed(lambda: ct.reconstruct(scan, grid=grid, kernel="ramp"), 1)
    job = {
        "what": "fdk", "projection": projection, "views": views, "column_mm": pitch, "row_mm": pitch,
        "size": (size, slices, size), "spacing": (voxel, step, voxel), **TURN,
    }  # fmt: skip
    done = run_worker(python, "run_rtk.py", job, threads=numba.get_num_threads())
    theirs = done["image"].transpose(1, 0, 2)
    ours = (hu.to_numpy() / 1000.0 + 1.0) * MU
    # where every view sees the voxel: beyond, RTK lacks what opposite views give ours
    reach = (0.5 * rows - 1.0) * pitch * (SID - SEEN_MM) / SDD
    seen = (
        np.isfinite(ours) & (np.hypot(plane[:, None], plane) < SEEN_MM) & (np.abs(z) < reach)[:, None, None]
    )
    name = f"FDK, {size} x {size} x {slices} from {views} views of {columns} x {rows}, flat"
    compare(
        name, seconds, float(done["seconds"]), (theirs - ours)[seen], float(ours[seen].max()), "10; 0.5 %"
    )


TURN = {"sid": SID, "sdd": SDD, "direction": -1.0, "start": 0.0}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--python", required=True, help="interpreter of the environment with itk-rtk")
    parser.add_argument("--basis", type=int, default=4)
    parser.add_argument("--full", action="store_true")
    options = parser.parse_args()
    print("| case | figure | wanted |\n|---|---|---|")
    if options.full:
        forward(options.python, n=256, views=360, columns=512, rows=384, pitch=1.2, basis=options.basis)
        backward(options.python, size=512, slices=32, views=720, columns=900, rows=32, pitch=0.8)
    else:
        forward(options.python, n=64, views=24, columns=128, rows=96, pitch=4.8, basis=options.basis)
        backward(options.python, size=128, slices=8, views=180, columns=400, rows=16, pitch=1.6)


if __name__ == "__main__":
    main()
