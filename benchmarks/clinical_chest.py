"""Seconds and peak memory of a clinical helical chest scan of the sample patient, from voxels to images.

    NUMBA_NUM_THREADS=2 python benchmarks/clinical_chest.py [--part 0.1] [--out scan.npy] [--effects]

512 x 512 x 133 voxels; 64 rows of 0.6 mm, 1,000 views a turn, about ten turns at pitch 0.95, 120 kV, quantum and
electronic noise, weighted filtered back-projection to 512 x 512 x 120. ``--part`` does that share of the turns and
slices around the middle, ``--effects`` adds heel, cross-talk, afterglow and digitiser, ``--out`` keeps the
projections in a file. Compilation is done before, on a few views.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np

from twinlab import ct, phantom, sample
from twinlab.scanner import Protocol, load_protocol, trajectory
from twinlab.scanner.parts import Electronics

ROW_MM, VIEWS, SLICES, SLICE_MM = 0.6, 1000, 120, 2.5


def chest(effects: bool) -> Protocol:
    """The adult chest protocol on 64 rows of 0.6 mm and 1,000 views a turn."""
    base = load_protocol("adult_chest")
    scanner = base.scanner
    row_mm = ROW_MM * scanner.source_to_detector_mm / scanner.source_to_isocentre_mm
    changes: dict[str, Any] = {"row_pitch_mm": row_mm}
    tube = scanner.tube
    if effects:
        changes["electronics"] = Electronics(
            swank_factor=0.95, crosstalk_channel=0.02, crosstalk_row=0.02, kev_per_count=20.0,
            lag=[{"fraction": 0.002, "time_ms": 3.0}, {"fraction": 0.001, "time_ms": 30.0}],
        )  # fmt: skip
        tube = tube.model_copy(update={"heel": True})
    detector = scanner.detector.model_copy(update=changes)
    scanner = scanner.model_copy(update={"detector": detector, "views_per_rotation": VIEWS, "tube": tube})
    return base.replace(scanner=scanner, collimation_mm=64 * ROW_MM, pitch=0.95, tube_current_ma=220)


def timed(name: str, run: Callable[[], Any], rows: list[tuple[str, float, float, float]]) -> Any:
    """Result of ``run``; wall time [s], processor time [s] and high-water mark [GiB] go into ``rows``."""
    Path("/proc/self/clear_refs").write_text("5")
    start, used = time.perf_counter(), time.process_time()
    result = run()
    seconds, used = time.perf_counter() - start, time.process_time() - used
    status = Path("/proc/self/status").read_text()
    peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    rows.append((name, seconds, used, peak / 2**20))
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", type=float, default=1.0, help="share of the scan, 0 to 1")
    parser.add_argument("--out", help="file for the projections (.npy)")
    parser.add_argument("--effects", action="store_true", help="heel, cross-talk, afterglow, digitiser")
    asked = parser.parse_args()
    protocol, rows = chest(asked.effects), []
    patient = timed("phantom", lambda: phantom.from_nifti(sample.patient().ct, kv=120.0), rows)
    patient = patient.drop_vars("organ")
    slices = max(round(asked.part * SLICES), 2)
    middle = float(patient["z"].mean())
    z = middle + (np.arange(slices) - (slices - 1) / 2) * SLICE_MM
    half = slices * SLICE_MM / 2
    centre = tuple(float(patient[axis].mean()) for axis in "xy")
    axis = (np.arange(512) - 255.5) * protocol.reconstruction_fov_mm / 512
    grid = {"z": z, "y": axis + centre[1], "x": axis + centre[0]}
    path = trajectory(protocol, z_range_mm=(middle - half, middle + half), isocentre_mm=centre)
    few = path.isel(view=slice(0, 16))
    timed("compilation", lambda: ct.scan_phantom(patient, protocol, trajectory=few, seed=1, n_basis=4), rows)
    scan = timed(
        "scan",
        lambda: ct.scan_phantom(patient, protocol, trajectory=path, seed=1, out=asked.out, progress=True),
        rows,
    )
    image = timed("reconstruction", lambda: ct.reconstruct(scan, protocol, grid=grid), rows)
    turns, shape = path.sizes["view"] / VIEWS, scan["projection"].shape
    print(f"{numba.get_num_threads()} threads; {turns:.1f} turns, projections {shape}, images {image.shape}")
    print(
        f"{np.prod(shape) / rows[2][1] / 1e6:.2f} million rays/s; basis error {scan.attrs['basis_error']:.1e}"
    )
    print("\n| stage | seconds | processor seconds | peak memory, GiB |\n| --- | ---: | ---: | ---: |")
    for name, seconds, used, peak in rows:
        print(f"| {name} | {seconds:.1f} | {used:.1f} | {peak:.2f} |")
    both = rows[2:]
    sums = [sum(row[k] for row in both) for k in (1, 2)]
    print(f"| scan and reconstruction | {sums[0]:.1f} | {sums[1]:.1f} | {max(row[3] for row in both):.2f} |")


if __name__ == "__main__":
    main()
