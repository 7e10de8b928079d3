"""Photon transport: histories per second and core in water, CTDI phantom and, where given, a patient.

    python benchmarks/transport.py [phantom.nc]

CPU seconds of one thread, so that other programs on the machine count little.
"""

from __future__ import annotations

import os

os.environ.setdefault("NUMBA_NUM_THREADS", "1")  # before numba is imported: the figure is per core

import sys
import time
from collections.abc import Callable

import numpy as np

from twinlab import dose
from twinlab.kernels import transport
from twinlab.phantom import load
from twinlab.phantom.transport_grid import voxel_grid
from twinlab.phantom.transport_tables import build
from twinlab.physics.spectra import tube_spectrum
from twinlab.scanner import load_protocol
from twinlab.scanner.photon_source import field_source


def best(work: Callable[[int], object], histories: int, *, repeats: int = 3) -> float:
    """Histories per CPU second, best of some repeats, after one call to compile."""
    work(1000)
    seconds = []
    for _ in range(repeats):
        start = time.process_time()
        work(histories)
        seconds.append(time.process_time() - start)
    return histories / min(seconds)


def water(block: int, *, voxel_map: bool = False) -> Callable[[int], object]:
    """120 kV fan of 40 mm on 32 cm of water in 128 x 128 x 150 voxels."""
    tables = build(["air", "water"])
    c = (np.arange(128) - 63.5) * 2.7
    inside = np.hypot(*np.meshgrid(c, c, indexing="ij")) < 160
    material = np.broadcast_to(inside, (150, 128, 128)).astype(np.uint8)
    density = np.where(material > 0, 1.0, 0.001205)
    grid = voxel_grid(
        material, density, material, tables, spacing_mm=(2.0, 2.7, 2.7), reach_mm=800.0, block=block
    )
    spectrum = tube_spectrum(kv=120, anode_angle_deg=7, filters={"aluminum": 6.0})
    middle = 64 * 2.7
    source = field_source(
        spectrum["energy"].values,
        spectrum.values,
        position_mm=np.array([middle, middle - 600, 150.0]),
        corner_mm=np.array([middle - 170, middle, 130.0]),
        edges_mm=np.array([[340.0, 0.0, 0.0], [0.0, 0.0, 40.0]]),
    )
    return lambda n: transport.run(grid, tables, source, histories=n, seed=1, n_region=2, voxel_map=voxel_map)


def main() -> None:
    """Print the table."""
    print("| case | histories/s/core |\n|---|---|")
    for block in (4, 8, 16):
        print(f"| water 32 cm, 120 kV, blocks of {block} | {best(water(block), 200_000):.3g} |")
    print(f"| the same with dose map, blocks of 8 | {best(water(8, voxel_map=True), 200_000):.3g} |")
    protocol = load_protocol("abdomen_pelvis").replace(tube_current_ma=200.0)
    for size in (16, 32):
        work = lambda n, size=size: dose.ctdi(protocol, phantom_cm=size, histories=n)  # noqa: E731
        print(f"| CTDI {size} cm, 120 kV | {best(work, 300_000):.3g} |")
    if len(sys.argv) > 1:
        phantom = load(sys.argv[1])
        z = phantom["z"].values
        for block in (2, 4, 8, 16):
            work = lambda n, block=block: dose.simulate(  # noqa: E731
                phantom, protocol, z_range_mm=(z[0], z[-1]), histories=n, block=block, voxel_map=False
            )
            few, many = 1000, 500_000
            work(few)
            start = time.process_time()
            work(few)
            setup = time.process_time() - start
            start = time.process_time()
            work(many)
            rate = (many - few) / (time.process_time() - start - setup)
            print(f"| patient, blocks of {block} (preparation {setup:.2f} s) | {rate:.3g} |")


if __name__ == "__main__":
    main()
