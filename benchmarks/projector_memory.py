"""Peak memory of projecting a phantom of 1,024 x 1,024 x 800 voxels in blocks of views.

    python benchmarks/projector_memory.py [--slices 800] [--across 1024] [--views 8]

Only the slices that a block of views sees are laid out for the projector (``twinlab.ct.volume``). Prints the bytes of
the phantom, of the basis laid out whole, and the peak of the process.
"""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np
import xarray as xr

from twinlab.ct.paths import line_integrals, prepare_phantom
from twinlab.scanner import load_protocol, trajectory
from twinlab.schema import label


def tall(slices: int, across: int) -> xr.Dataset:
    """Body ellipse of four materials in 0.4 mm voxels, made slice by slice."""
    x = (np.arange(across) - (across - 1) / 2) * 400.0 / across
    z = (np.arange(slices) - (slices - 1) / 2) * 0.5
    yy, xx = np.meshgrid(x, x, indexing="ij")
    plane = np.zeros((across, across), np.uint8)
    plane[(xx / 170) ** 2 + (yy / 120) ** 2 < 1] = 1
    plane[((np.abs(xx) - 75) / 55) ** 2 + (yy / 85) ** 2 < 1] = 2
    plane[xx**2 + (yy - 80) ** 2 < 18**2] = 3
    material = np.empty((slices, across, across), np.uint8)
    density = np.empty(material.shape, np.float32)
    rng = np.random.default_rng(0)
    for k in range(slices):
        material[k] = plane
        density[k] = np.float32([0.001205, 1.05, 0.26, 1.6])[plane]
        density[k][plane > 0] *= np.float32(rng.uniform(0.95, 1.05))
    return xr.Dataset(
        {
            "material": label("material", material, {"z": z, "y": x, "x": x}),
            "density": label("density", density),
            "material_name": label("material_name", ["air", "muscle", "lung", "bone_cortical"]),
        }
    )


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--slices", type=int, default=800)
    parser.add_argument("--across", type=int, default=1024)
    parser.add_argument("--views", type=int, default=8, help="in a block; three blocks are projected")
    options = parser.parse_args()
    phantom = tall(options.slices, options.across)
    protocol = load_protocol("liver_arterial")
    half = 0.25 * options.slices - 30.0
    path = trajectory(protocol, z_range_mm=(-half, half))
    volume = prepare_phantom(phantom, protocol, n_basis=4)
    voxels = phantom["material"].size
    print(
        f"phantom {5 * voxels / 1e9:.2f} GB, basis of {volume.n_basis} laid out whole {16 * voxels / 1e9:.2f} GB"
    )
    for first in (0, path.sizes["view"] // 2, path.sizes["view"] // 2 + options.views):
        block = path.isel(view=slice(first, first + options.views))
        start = time.perf_counter()
        paths = line_integrals(phantom, protocol, block, volume=volume)
        seconds = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        longest = float(paths["path"][0].max())
        print(
            f"views {first} to {first + options.views - 1}: {seconds:.1f} s, longest path {longest:.1f} g/cm2, "
            f"peak {peak:.2f} GB",
            flush=True,
        )


if __name__ == "__main__":
    main()
