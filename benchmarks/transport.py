"""Photon transport: histories per second of processor time on one thread, and what its options cost.

    python benchmarks/transport.py [phantom.nc]

Water: 32 cm in 128 x 128 x 150 voxels, 120 kV fan, 10 mm. The phantom, where given, is scanned over its length.
"""

from __future__ import annotations

import os

os.environ.setdefault("NUMBA_NUM_THREADS", "1")  # before numba is imported: the figure is per core

import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from twinlab import dose
from twinlab.kernels import transport
from twinlab.kernels.transport_data import Grid, Source, Tables
from twinlab.kernels.transport_splitting import Splitting
from twinlab.phantom import load
from twinlab.phantom.transport_grid import voxel_grid
from twinlab.phantom.transport_tables import build
from twinlab.physics.spectra import tube_spectrum
from twinlab.scanner import load_protocol
from twinlab.scanner.photon_source import field_source

VOXELS = (150, 128, 128)
SPACING_MM = (2.0, 2.7, 2.7)
RADIUS_MM = 160.0
SOURCE_MM = 600.0  # before the axis
FAN_MM = (340.0, 10.0)  # of the field at the axis


ORGANS = (
    "humerus_left", "thyroid_gland", "clavicula_left", "vertebrae_C7", "lung_upper_lobe_left", "heart",
    "liver", "spleen", "kidney_left", "vertebrae_L1",
)  # fmt: skip


def spectrum() -> tuple[np.ndarray, np.ndarray]:
    """120 kV through 6 mm of aluminium: bin centres (keV) and weights."""
    made = tube_spectrum(kv=120, anode_angle_deg=7, filters={"aluminum": 6.0})
    return made["energy"].values, made.values


def inside() -> np.ndarray:
    """Voxels of the cylinder, (z, y, x)."""
    centre = (np.arange(VOXELS[1]) - 0.5 * (VOXELS[1] - 1)) * SPACING_MM[1]
    disc = np.hypot(*np.meshgrid(centre, centre, indexing="ij")) < RADIUS_MM
    return np.broadcast_to(disc, VOXELS)


def water(block: int = 8, *, doppler: bool = False) -> tuple[Grid, Tables, Source]:
    """Geometry, tables and source of the water cylinder."""
    tables = build(["air", "water"], doppler=doppler)
    material = inside().astype(np.uint8)
    density = np.where(material > 0, 1.0, 0.001205)
    grid = voxel_grid(material, density, material, tables, spacing_mm=SPACING_MM, reach_mm=800.0, block=block)
    middle, height = 0.5 * VOXELS[1] * SPACING_MM[1], 0.5 * VOXELS[0] * SPACING_MM[0]
    source = field_source(
        *spectrum(),
        position_mm=np.array([middle, middle - SOURCE_MM, height]),
        corner_mm=np.array([middle - FAN_MM[0] / 2, middle, height - FAN_MM[1] / 2]),
        edges_mm=np.array([[FAN_MM[0], 0.0, 0.0], [0.0, 0.0, FAN_MM[1]]]),
    )
    return grid, tables, source


def best(work: Callable[[int], object], histories: int, *, repeats: int = 3) -> float:
    """Histories per CPU second, best of some repeats, after one call to compile."""
    work(1000)
    seconds = []
    for _ in range(repeats):
        start = time.process_time()
        work(histories)
        seconds.append(time.process_time() - start)
    return histories / min(seconds)


def run_water(case: tuple[Grid, Tables, Source], **options: object) -> Callable[[int], object]:
    """A run of the water cylinder of a given number of histories."""
    return lambda n: transport.run(*case, histories=n, seed=1, n_region=2, **options)  # type: ignore[arg-type]


_SECOND = """
import time
start = time.perf_counter()
from twinlab.kernels import transport
from twinlab.phantom.transport_tables import build
imported = time.perf_counter()
tables = build(["air", "water", "muscle", "lung", "liver", "schneider_18", "blood+iodine_10mg_ml"])
built = time.perf_counter()
import numpy as np
from twinlab.phantom.transport_grid import voxel_grid
from twinlab.scanner.photon_source import field_source
one = np.ones((4, 4, 4))
grid = voxel_grid(one, one, one * 0, tables, spacing_mm=(9.0, 9.0, 9.0), reach_mm=99.0)
source = field_source(60.0, position_mm=np.zeros(3), corner_mm=np.ones(3), edges_mm=np.zeros((2, 3)))
ready = time.perf_counter()
transport.run(grid, tables, source, histories=1, seed=1, n_region=1)
end = time.perf_counter()
print(f"{imported - start:.2f} {built - imported:.2f} {end - ready:.2f} {end - start:.2f}")
"""


def start_up() -> str:
    """Seconds of a second process: import, tables, cached code, and all until the first history is done."""
    times = [
        subprocess.run([sys.executable, "-c", _SECOND], capture_output=True, text=True, check=True).stdout
        for _ in range(3)
    ]
    return min(times, key=lambda line: float(line.split()[-1])).strip()


_SCALING = """
import sys, time
sys.path.insert(0, sys.argv[1])
import transport as benchmark
work = benchmark.run_water(benchmark.water())
work(1000)
start = time.perf_counter()
work(2_000_000)
print(2_000_000 / (time.perf_counter() - start))
"""


def wall(threads: int) -> float:
    """Histories per second of wall time on some threads, best of three."""
    env = {**os.environ, "NUMBA_NUM_THREADS": str(threads)}
    call = [sys.executable, "-c", _SCALING, os.path.dirname(os.path.abspath(__file__))]
    return max(
        float(subprocess.run(call, capture_output=True, text=True, check=True, env=env).stdout)
        for _ in range(3)
    )


def patient(path: str, block: int | None) -> float:
    """Histories per CPU second in a phantom scanned over its length, organs scored, preparation taken off."""
    phantom = load(path)
    protocol = load_protocol("abdomen_pelvis").replace(tube_current_ma=200.0)
    z = phantom["z"].values

    def work(n: int) -> float:
        start = time.process_time()
        dose.simulate(phantom, protocol, z_range_mm=(z[0], z[-1]), histories=n, block=block, voxel_map=False)
        return time.process_time() - start

    few, many = 1000, 2_000_000
    work(few)
    setup = min(work(few) for _ in range(2))
    return (many - few) / (min(work(many) for _ in range(2)) - setup)


def merits(path: str, histories: int = 400_000, repeats: int = 3) -> None:
    """Gain in 1 / (variance x time) by splitting: organs of a phantom of which the lowest 100 mm are scanned."""
    phantom = load(path)
    protocol = load_protocol("abdomen_pelvis").replace(tube_current_ma=200.0)
    z = phantom["z"].values
    low, high = float(z[0]) + 20.0, float(z[0]) + 120.0
    edge = low - (float(z[0]) - 100.0)  # in the box of the body, which the engine extends by 100 mm
    plain = transport.run
    steps: tuple[float, ...] = (0.0, 80.0, 60.0, 45.0)
    seconds = dict.fromkeys(steps, np.inf)
    results = {}
    for again in range(repeats + 1):
        for step in steps:
            rule = Splitting(edge - 20.0, edge + 120.0, step, 8) if step else None

            def run(*args: object, step: float = step, rule: Splitting | None = rule, **options: Any) -> Any:
                start = time.process_time()
                tally = plain(*args, **options, splitting=rule)  # type: ignore[arg-type]
                if options["histories"] == histories:  # the first calls compile
                    seconds[step] = min(seconds[step], time.process_time() - start)
                return tally

            transport.run = run  # the dose engine has no option for it  # type: ignore[assignment]
            results[step] = dose.simulate(
                phantom, protocol, z_range_mm=(low, high), voxel_map=False, seed=int(step) + 1,
                histories=histories if again else 1000,
            )  # fmt: skip
    transport.run = plain
    first = results[0.0]
    relative = {step: (r["organ_dose_sd"] / r["organ_dose"]).values for step, r in results.items()}
    print("\n| organ | mGy | inside | sd, % |", " | ".join(f"{s:g} mm" for s in steps[1:]), "|")
    print("|---|---|---|---|" + "---|" * len(steps[1:]))
    for k in np.argsort(first["organ_dose"].values):
        if first["organ_name"].values[k] not in ORGANS:
            continue
        gains = [(relative[0.0][k] / relative[s][k]) ** 2 * seconds[0.0] / seconds[s] for s in steps[1:]]
        told = [first[v].values[k] for v in ("organ_name", "organ_dose", "organ_coverage")]
        cells = " | ".join(f"{g:.2f}" for g in gains)
        print(f"| {told[0]} | {told[1]:.3g} | {told[2]:.2f} | {100 * relative[0.0][k]:.1f} | {cells} |")
    print("time:", {f"{s:g}": round(t / seconds[0.0], 2) for s, t in seconds.items()})


def main() -> None:
    """Print the table."""
    print("| case | histories/s/core |\n|---|---|")
    for block in (4, 8, 16):
        print(f"| water 32 cm, blocks of {block} | {best(run_water(water(block)), 500_000):.3g} |")
    case = water()
    print(f"| with dose map | {best(run_water(case, voxel_map=True), 500_000):.3g} |")
    print(f"| with Doppler broadening | {best(run_water(water(doppler=True)), 500_000):.3g} |")
    print(f"| track lengths | {best(run_water(case, estimator='track_length'), 300_000):.3g} |")
    one, two = wall(1), wall(2)
    print(f"| 1 and 2 threads, wall time | {one:.3g}, {two:.3g}: {two / one:.2f} |")
    print(f"| second process: import, tables, cached code, until the first history, s | {start_up()} |")
    protocol = load_protocol("abdomen_pelvis").replace(tube_current_ma=200.0)
    for size in (16, 32):
        work = lambda n, size=size: dose.ctdi(protocol, phantom_cm=size, histories=n)  # noqa: E731
        print(f"| CTDI {size} cm, 120 kV | {best(work, 300_000):.3g} |")
    if len(sys.argv) > 1:
        for side in (None, 4, 6, 8, 10):
            print(f"| patient, blocks of {side or 'the default'} | {patient(sys.argv[1], side):.3g} |")
        merits(sys.argv[1])


if __name__ == "__main__":
    main()
