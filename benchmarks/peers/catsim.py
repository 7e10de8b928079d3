"""twinlab beside CatSim/XCIST (gecatsim): log projections, reconstructed inserts, and times, in one run.

    python benchmarks/peers/catsim.py --python PATH_TO_PYTHON_WITH_GECATSIM [--views 60] [--full] [--only accuracy]

gecatsim runs in its own process on the same spectrum (a file of ours), geometry, detector, materials (files of
our compositions) and phantoms: voxels of 1 mm, and exact cylinders. Its projector integrates over the cell
(distance-driven); ours follows the ray to the middle of the cell, or several with ``Sampling``. Times are
ratios of one run with the same number of threads: gecatsim's per view over ``--views`` views, ours over a
whole rotation; ``--full`` also gives gecatsim the whole FDK of 984 views to 512 x 512 x 8.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np
import xarray as xr
from catsim_files import (
    bin_centres,
    write_analytic,
    write_attenuation,
    write_materials,
    write_spectrum,
    write_voxels,
)  # fmt: skip
from foreign import run_worker
from peer_scan import (
    INSERTS,
    exact_scan,
    logarithms,
    phantom_recipe,
    protocol_like_catsim,
    rotation,
    voxel_phantom,
    water_corrected,
)  # fmt: skip

from twinlab import ct
from twinlab.ct.corrections import water_correction
from twinlab.phantom import from_recipe
from twinlab.scanner import Protocol, Sampling
from twinlab.schema import label

ENERGIES = 20
WATER = ("water, centre", "water, rim")
FOV_MM = 300.0
SLICE_MM = 1.0 * 540.0 / 950.0


def job_of(protocol: Protocol, folder: Path, **more: Any) -> dict[str, Any]:
    """What the worker needs to know of geometry, beam and detector."""
    scanner, detector = protocol.scanner, protocol.scanner.detector
    return {
        "sid": scanner.source_to_isocentre_mm, "sdd": scanner.source_to_detector_mm,
        "columns": detector.n_channels, "rows": detector.n_rows, "column_mm": detector.channel_pitch_mm,
        "row_mm": detector.row_pitch_mm, "column_offset": detector.channel_offset,
        "absorber": str(folder / detector.absorber_material), "absorber_mm": detector.absorber_thickness_mm,
        "fill": detector.fill_factor**0.5, "views_per_rotation": scanner.views_per_rotation,
        "spectrum": str(folder / "spectrum.dat"), "energies": ENERGIES, "mono_kev": -1, "oversampling": 1,
        "threads": numba.get_num_threads(), **more,
    }  # fmt: skip


def line(name: str, value: str, wanted: str = "") -> None:
    """One row of the table."""
    print(f"| {name} | {value} | {wanted} |", flush=True)


def rms_percent(theirs: np.ndarray, ours: np.ndarray) -> str:
    """RMS of the difference where there is an object, of the mean and of the largest logarithm."""
    inside = ours > 0.05
    rms = float(np.sqrt(np.mean((theirs - ours)[inside] ** 2)))
    return (
        f"{100 * rms / ours[inside].mean():.3f} % of the mean, {100 * rms / ours.max():.3f} % of the largest, "
        f"mean {100 * float((theirs - ours)[inside].mean() / ours[inside].mean()):+.3f} %"
    )


def projections(python: str, folder: Path, views: int) -> None:
    """Same phantoms, spectrum and geometry: logarithms of both programs."""
    protocol = protocol_like_catsim(views=views)
    write_files(folder, protocol)
    ours = {
        "Voxelized": logarithms(ct.line_integrals(voxel_phantom(), protocol, rotation(protocol)), protocol),
        "Analytic": logarithms(exact_scan(protocol), protocol),
    }
    files = {"Voxelized": "voxels.json", "Analytic": "cylinders.ppm"}
    fine = bin_centres(protocol).size
    for engine, file in files.items():
        for energies, table, text in (
            (fine, True, "1 keV bins, our attenuation"),
            (fine, False, "1 keV bins, its attenuation"),
            (ENERGIES, False, f"its {ENERGIES} bins, its attenuation"),
        ):
            job = job_of(protocol, folder, what="scan", engine=engine, views=views, energies=energies)
            job["phantom"] = str(folder / file)
            job["table"] = str(folder / "attenuation.npz") if table else ""
            theirs = run_worker(python, "run_catsim.py", job)["projection"]
            line(f"log projections, {engine.lower()}, {text}", rms_percent(theirs, ours[engine]), "0.5 %")


def inserts(python: str, folder: Path, *, full: bool) -> None:
    """Inserts in images made from both programs' projections by one reconstruction, and by both."""
    protocol = protocol_like_catsim()
    write_files(folder, protocol)
    job = job_of(protocol, folder, what="scan", views=984)
    theirs = {"exact cylinders": {"engine": "Analytic", "phantom": str(folder / "cylinders.ppm")}}
    ours = {"exact cylinders": logarithms(exact_scan(protocol), protocol)}
    if full:
        theirs["voxels"] = {"engine": "Voxelized", "phantom": str(folder / "voxels.json")}
        ours["voxels"] = logarithms(
            ct.line_integrals(voxel_phantom(), protocol, rotation(protocol)), protocol
        )
    for name, phantom in theirs.items():
        fine = bin_centres(protocol).size
        found = run_worker(python, "run_catsim.py", {**job, **phantom, "energies": fine})["projection"]
        mine = image(water_corrected(ours[name], protocol), protocol, slices=1)
        other = image(water_corrected(found, protocol), protocol, slices=1)
        off = {r: regions(other)[r] - hu for r, hu in regions(mine).items()}
        line(f"inserts, {name}, projections of each, our reconstruction", largest(off), "3 HU")
    size, slices = (512, 8) if full else (256, 2)
    corrected = water_corrected(ours["exact cylinders"], protocol).astype(np.float32)
    task = job_of(
        protocol, folder, what="reconstruct", views=984, projection=corrected, fov_mm=FOV_MM, size=size,
        slices=slices, slice_mm=SLICE_MM, kernel="standard",
    )  # fmt: skip
    done = run_worker(python, "run_catsim.py", task)
    mu = water_correction(protocol).attrs["mu_water_per_mm"]
    seconds, mine = best(lambda: image(corrected, protocol, slices=slices, size=size))
    other = mine.copy(data=1000 * (done["image"] / mu - 1))
    off = {r: regions(other)[r] - hu for r, hu in regions(mine).items()}
    line("inserts, one set of projections, reconstruction of each", largest(off), "3 HU")
    line(
        f"FDK of 984 views of 900 x 16 to {size} x {size} x {slices}",
        f"{float(done['seconds']):.1f} s, ours {seconds:.2f} s: {float(done['seconds']) / seconds:.1f} times",
        "20",
    )


def image(corrected: np.ndarray, protocol: Protocol, *, slices: int, size: int = 256) -> xr.DataArray:
    """Our reconstruction of corrected projections."""
    path = rotation(protocol)
    scanner, shape = protocol.scanner, corrected.shape
    coords = {"row": protocol.row_positions_mm(), "fan_angle": ("channel", scanner.fan_angles_rad())}
    scan = path.assign(
        projection=label("projection", np.asarray(corrected, np.float32), coords),
        row_lo=label("row_lo", np.zeros(shape[0], np.int64)),
        row_hi=label("row_hi", np.full(shape[0], shape[1])),
    )
    scan.attrs |= {
        "source_to_isocentre_mm": scanner.source_to_isocentre_mm,
        "source_to_detector_mm": scanner.source_to_detector_mm,
        "mu_water_per_mm": water_correction(protocol).attrs["mu_water_per_mm"],
    }
    plane = (np.arange(size) - (size - 1) / 2) * FOV_MM / size
    z = (np.arange(slices) - (slices - 1) / 2) * SLICE_MM
    return ct.reconstruct(scan, grid={"z": z, "y": plane, "x": plane}, slice_thickness_mm=SLICE_MM)


def regions(hu: xr.DataArray) -> dict[str, float]:
    """Mean CT number in the middle of every insert and of the water between them."""
    places = {s.name: (s.centre_mm.x, s.centre_mm.y) for s in phantom_recipe().shapes if s.name in INSERTS}
    places |= dict(zip(WATER, ((0.0, 0.0), (0.0, -105.0)), strict=True))
    middle = hu.isel(z=hu.sizes["z"] // 2)
    return {
        name: float(middle.where(np.hypot(hu.x - x, hu.y - y) < 7.0).mean())
        for name, (x, y) in places.items()
    }


def largest(off: dict[str, float]) -> str:
    """Largest difference, and all of them."""
    name = max(off, key=lambda n: abs(off[n]))
    return f"{off[name]:+.2f} HU ({name}); " + ", ".join(f"{n} {v:+.2f}" for n, v in off.items())


def best(run: Callable[[], Any], repeats: int = 2) -> tuple[float, Any]:
    """Best wall time [s] after one run that is not counted, and the last result."""
    result, seconds = run(), np.inf
    for _ in range(repeats):
        start = time.perf_counter()
        result = run()
        seconds = min(seconds, time.perf_counter() - start)
    return float(seconds), result


def speed(python: str, folder: Path, views: int) -> None:
    """Voxel scan at equal sampling and at gecatsim's default oversampling; one rotation with reconstruction."""
    protocol, voxels = protocol_like_catsim(), voxel_phantom()
    write_files(folder, protocol)
    path = rotation(protocol)
    seconds, ours = best(lambda: logarithms(ct.line_integrals(voxels, protocol, path), protocol))
    job = job_of(protocol, folder, what="scan", engine="Voxelized", phantom=str(folder / "voxels.json"))
    for count, shown, wanted in ((1, "none", "6"), (2, "2 in all five", "15")):
        done = run_worker(
            python, "run_catsim.py", {**job, "views": max(views // count**2, 4), "oversampling": count}
        )
        theirs = float(done["seconds_first_view"]) + 983 * float(done["seconds_per_view"])
        n = done["projection"].shape[0]
        line(
            f"voxel scan, 984 views, its oversampling: {shown}; ours: none",
            f"{theirs:.0f} s ({float(done['seconds_per_view']):.3f} a view over {n}), ours {seconds:.2f} s: "
            f"{theirs / seconds:.1f} times; differ by {rms_percent(done['projection'], ours[:n])}",
            wanted,
        )
    for sampling, text in ((Sampling(cell_channel=2, view=2), "2 x 2 over channel and view"),):
        fine = protocol.replace(sampling=sampling)
        again, sampled = best(lambda p=fine: averaged(voxels, p), 1)
        line(
            f"the same, ours: {text}",
            f"ours {again:.2f} s: {theirs / again:.1f} times; differ by {rms_percent(done['projection'], sampled[:n])}",
            "15",
        )
    seconds, _ = best(water_rotation, 1)
    line(
        "20 cm of water, 500 views, 7 slices of 512 x 512 (VITools 214 + 91 s)",
        f"{seconds:.1f} s",
        "15 s",
    )


def averaged(voxels: xr.Dataset, protocol: Protocol) -> np.ndarray:
    """Logarithm of readings averaged over the points of the protocol's ``sampling``."""
    total: Any = 0.0
    for sample in ct.sub_samples(protocol):
        signals = ct.detected(
            ct.line_integrals(voxels, protocol, rotation(protocol), sample=sample), protocol
        )
        total = total + sample.weight * signals["signal"].to_numpy()
    return np.log(signals["air_signal"].to_numpy() / total).astype(np.float32)


def water_rotation() -> xr.DataArray:
    """Noisy scan and image of 20 cm of water: 500 views, 7 slices."""
    protocol = protocol_like_catsim(views=500)
    plane = (np.arange(512) - 255.5) * 250 / 512
    grid = {"z": (np.arange(7) - 3) * SLICE_MM, "y": plane, "x": plane}
    water = from_recipe("water_cylinder_20cm", spacing_mm=1.0)
    half = protocol.collimation_mm / 2
    return ct.simulate(water, protocol, z_range_mm=(-half, half), seed=1, grid=grid)


def write_files(folder: Path, protocol: Protocol) -> None:
    """Materials, spectrum, attenuation and both forms of the phantom."""
    voxels = voxel_phantom()
    write_materials(folder, protocol, voxels)
    write_spectrum(folder, protocol)
    write_attenuation(folder, protocol, voxels, ENERGIES)
    write_voxels(folder, voxels)
    write_analytic(folder, phantom_recipe())


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--python", required=True, help="interpreter of the environment with gecatsim")
    parser.add_argument("--views", type=int, default=60)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--only", choices=("accuracy", "speed"))
    options = parser.parse_args()
    print("| case | figure | wanted |\n|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.only != "speed":
            projections(options.python, folder, options.views)
            inserts(options.python, folder, full=options.full)
        if options.only != "accuracy":
            speed(options.python, folder, options.views)


if __name__ == "__main__":
    main()
