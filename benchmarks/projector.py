"""Seconds and peak memory of the forward model: line integrals, readings, projections.

    NUMBA_NUM_THREADS=2 python benchmarks/projector.py [--views 128] [--spacing-z-mm 2.5]

A patient-sized phantom of 512 x 512 x 133 voxels (body ellipse with lungs, spine and contrast-filled vessel),
888 x 64 detector cells. Prints a table; the first call of each stage, which may compile, is not counted.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import xarray as xr

from twinlab.ct.detector import detected
from twinlab.ct.paths import line_integrals
from twinlab.ct.scan import acquire
from twinlab.kernels.columns import prepare_materials
from twinlab.kernels.project import project, project_reference
from twinlab.scanner import load_protocol, trajectory
from twinlab.schema import label


def patient(nz: int, ny: int, nx: int, spacing_z_mm: float) -> xr.Dataset:
    """Body ellipse 310 x 220 mm with lungs, spine and aorta; density varies from voxel to voxel."""
    y, x = ((np.arange(n) - (n - 1) / 2) * 360.0 / n for n in (ny, nx))
    z = (np.arange(nz) - (nz - 1) / 2) * spacing_z_mm
    yy, xx = np.meshgrid(y, x, indexing="ij")
    plane = np.zeros((ny, nx), np.uint8)
    plane[(xx / 155) ** 2 + (yy / 110) ** 2 < 1] = 1
    plane[((np.abs(xx) - 70) / 50) ** 2 + (yy / 75) ** 2 < 1] = 2
    plane[xx**2 + (yy - 75) ** 2 < 18**2] = 3
    plane[(xx - 25) ** 2 + (yy - 45) ** 2 < 12**2] = 4
    material = np.broadcast_to(plane, (nz, ny, nx)).copy()
    names = ["air", "muscle", "lung", "bone_cortical", "blood+iodine_5mg_ml", "adipose"]
    rng = np.random.default_rng(0)
    density = np.float32([0.001205, 1.05, 0.26, 1.6, 1.065, 0.95])[material]
    density[material > 0] *= rng.uniform(0.9, 1.1, int((material > 0).sum())).astype(np.float32)
    return xr.Dataset(
        {
            "material": label("material", material, {"z": z, "y": y, "x": x}),
            "density": label("density", density),
            "material_name": label("material_name", names),
        }
    )


def timed(run: Callable[[], Any], repeats: int = 3) -> tuple[float, Any]:
    """Best wall time [s] of some repeats, after one that is not counted, and the last result."""
    result, best = run(), np.inf
    for _ in range(repeats):
        start = time.perf_counter()
        result = run()
        best = min(best, time.perf_counter() - start)
    return float(best), result


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--views", type=int, default=128)
    parser.add_argument("--spacing-z-mm", type=float, default=2.5)
    parser.add_argument("--reference", action="store_true", help="also time one ray at a time (slow)")
    options = parser.parse_args()
    protocol = load_protocol("liver_arterial")
    scanner = protocol.scanner
    phantom = patient(133, 512, 512, options.spacing_z_mm)
    whole = trajectory(protocol, z_range_mm=(-40.0, 40.0))
    first = (whole.sizes["view"] - options.views) // 2
    path = whole.isel(view=slice(first, first + options.views))
    path.attrs = whole.attrs
    rng = np.random.default_rng(0)
    coefficients = rng.random((6, 4)).astype(np.float32)
    material, density = phantom["material"].to_numpy(), phantom["density"].to_numpy()
    scan = {
        "spacing_mm": (options.spacing_z_mm, 360.0 / 512, 360.0 / 512),
        "origin_mm": tuple(float(phantom[a][0]) for a in "zyx"),
        "view_angle_rad": path["view_angle"].to_numpy(),
        "source_z_mm": path["source_z"].to_numpy(),
        "source_to_isocentre_mm": scanner.source_to_isocentre_mm,
        "source_to_detector_mm": scanner.source_to_detector_mm,
        "fan_angle_rad": scanner.fan_angles_rad(),
        "row_mm": protocol.row_positions_mm(),
    }
    rays = options.views * 64 * 888
    print(
        f"{numba.get_num_threads()} threads, {options.views} views of 888 x 64, slices of {options.spacing_z_mm} mm"
    )
    seconds, columns = timed(lambda: prepare_materials(material, density, coefficients=coefficients))
    print(f"prepare K=4             {seconds:8.2f} s        {columns.values.nbytes / 1e6:.0f} MB")
    seconds, _ = timed(lambda: project(columns, **scan))
    print(f"project K=4             {1e3 * seconds / options.views:8.2f} ms/view")
    window = {"row_lo": np.full(options.views, 28), "row_hi": np.full(options.views, 36)}
    seconds, _ = timed(lambda: project(columns, **scan, **window))
    print(f"project K=4, 8 rows     {1e3 * seconds / options.views:8.2f} ms/view")
    if options.reference:
        few = {**scan, "view_angle_rad": scan["view_angle_rad"][:4], "source_z_mm": scan["source_z_mm"][:4]}
        volumes = np.ascontiguousarray(np.moveaxis(coefficients[material] * density[..., None], -1, 0))
        seconds, _ = timed(lambda: project_reference(volumes, **few), 1)
        print(f"one ray at a time K=4   {1e3 * seconds / 4:8.2f} ms/view")
        del volumes
    paths = line_integrals(phantom, protocol, path, n_basis=4)
    seconds, signals = timed(lambda: detected(paths, protocol))
    print(f"detected K=4            {seconds / rays * 1e7:8.3f} s per 10 million rays")
    seconds, _ = timed(lambda: acquire(paths, protocol, seed=1, signals=signals))
    print(f"acquire from signals    {seconds / rays * 1e7:8.3f} s per 10 million rays")
    print(f"peak memory             {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:8.2f} GB")


if __name__ == "__main__":
    main()
