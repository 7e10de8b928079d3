"""How fast phantoms are projected and turned into projections.

    python benchmarks/projector.py [--views 128] [--spacing-z-mm 2.5] [--reference]
    python benchmarks/projector.py --peers

Patient-sized phantom of 512 x 512 x 133 voxels (body ellipse with lungs, spine and contrast-filled vessel),
888 x 64 detector cells. With ``--peers`` the cases that other programs were timed on: 256 x 256 x 64 voxels to
900 x 16 cells with readings (CatSim: 45 to 69 ms a view on two cores), 256^3 voxels to 512 x 384 cells of a flat
panel (RTK, one material: 152 to 168 s for 360 views on two cores), the exact solids of a test object, and rays one
by one. Prints a table; the first call of each stage, which may compile, is not counted. CPU time is that of all
threads together: on a busy machine it is steadier than wall time.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numba
import numpy as np
import xarray as xr

from twinlab.ct.detector import detected
from twinlab.ct.paths import line_integrals, prepare_phantom
from twinlab.ct.scan import acquire
from twinlab.kernels.columns import prepare, prepare_materials
from twinlab.kernels.general_rays import project_tilted
from twinlab.kernels.project import project, project_reference
from twinlab.phantom import load_recipe
from twinlab.scanner import Protocol, load_protocol, trajectory
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


def row(name: str, run: Callable[[], Any], *, views: int, of: int | None = None) -> Any:
    """Print wall and CPU time of one case per view (and for ``of`` views); returns its last result."""
    result, wall, cpu = run(), np.inf, np.inf
    for _ in range(3):
        start, used = time.perf_counter(), time.process_time()
        result = run()
        wall = min(wall, time.perf_counter() - start)
        cpu = min(cpu, time.process_time() - used)
    whole = "" if of is None else f"   {wall * of / views:7.1f} s for {of} views"
    print(
        f"{name:44s} {1e3 * wall / views:8.2f} ms/view wall {1e3 * cpu / views:8.2f} CPU{whole}", flush=True
    )
    return result


def clinical(n_channels: int, n_rows: int) -> Protocol:
    """Axial protocol of a clinical scanner with another number of cells."""
    data = load_protocol("head_axial").model_dump()
    data["scanner"]["detector"].update(n_channels=n_channels, n_rows=n_rows)
    pitch = data["scanner"]["detector"]["row_pitch_mm"]
    shrink = data["scanner"]["source_to_isocentre_mm"] / data["scanner"]["source_to_detector_mm"]
    return Protocol.make({**data, "collimation_mm": n_rows * pitch * shrink})


def peers(views: int) -> None:
    """Cases that other programs were timed on."""
    protocol = clinical(900, 16)
    path = trajectory(protocol, z_range_mm=(-3.0, 3.0)).isel(view=slice(0, views))
    phantom = patient(64, 256, 256, 1.0)
    volume = prepare_phantom(phantom, protocol)
    print(f"{numba.get_num_threads()} threads, {views} views")

    def scan(matter: Any, prepared: Any = None) -> xr.Dataset:
        return line_integrals(matter, protocol, path, volume=prepared)

    paths = row(f"256 x 256 x 64 to 900 x 16, K={volume.n_basis}", lambda: scan(phantom, volume), views=views)
    row("  and readings at all energies", lambda: detected(scan(phantom, volume), protocol), views=views)
    row("  readings alone", lambda: detected(paths, protocol), views=views)
    recipe = load_recipe("qc_20cm")
    solid = prepare_phantom(recipe, protocol)
    row(f"qc_20cm, {len(recipe.shapes)} solids, exact, to 900 x 16", lambda: scan(recipe, solid), views=views)
    cube = np.random.default_rng(0).random((4, 256, 256, 256), dtype=np.float32)
    y, x = np.mgrid[-127.5:128, -127.5:128]
    cube[:, :, (x / 120) ** 2 + (y / 100) ** 2 > 1] = 0.0
    views = min(views, 24)
    flat = {
        "spacing_mm": (1.0, 1.0, 1.0),
        "origin_mm": (-127.5, -127.5, -127.5),
        "view_angle_rad": np.arange(views) * 2 * np.pi / 360,
        "source_z_mm": 0.0,
        "source_to_isocentre_mm": 1000.0,
        "source_to_detector_mm": 1536.0,
        "u_mm": np.arange(512) - 255.5,
        "row_mm": np.arange(384) - 191.5,
    }
    for n_basis in (1, 4):
        columns = prepare(cube[:n_basis])
        row(f"256^3 to flat 512 x 384, K={n_basis}", partial(project, columns, **flat), views=views, of=360)
    few = {**flat, "view_angle_rad": flat["view_angle_rad"][:2]}
    row("  ray by ray (as a tilted gantry)", lambda: project_tilted(cube, tilt_rad=0.1, **few), views=2)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--views", type=int, default=128)
    parser.add_argument("--spacing-z-mm", type=float, default=2.5)
    parser.add_argument("--reference", action="store_true", help="also time one ray at a time (slow)")
    parser.add_argument("--peers", action="store_true", help="the cases that other programs were timed on")
    options = parser.parse_args()
    if options.peers:
        peers(options.views)
        return
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
