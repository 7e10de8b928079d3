"""Organ doses of a chest scan of the sample patient: how sure after a minute, and how fast from the response.

    python benchmarks/chest_dose.py [--histories 60e6] [--spacing 2] [--protocol adult_chest]

Prints the least sure organs that lie whole in the images and the beam, the time of the run, and the doses of the
response beside those of the full run. Times are of the machine at hand; the ratio holds everywhere.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from twinlab import dose, sample
from twinlab.phantom import from_nifti, resample, water_equivalent_diameter
from twinlab.scanner import for_patient, load_protocol

LEAST_G = 2.0  # smaller organs are a few voxels


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--histories", type=float, default=60e6)
    parser.add_argument("--spacing", type=float, default=2.0, help="voxels [mm]")
    parser.add_argument("--protocol", default="adult_chest")
    options = parser.parse_args()
    files = sample.patient()
    native = from_nifti(files.ct_nifti, files.labels_nifti, legend=files.legend_csv)
    phantom = resample(native, spacing_mm=(max(options.spacing, 2.5),) + (options.spacing,) * 2)
    low, high = float(phantom["z"][0]), float(phantom["z"][-1])
    protocol = for_patient(
        load_protocol(options.protocol), dw_mm=float(water_equivalent_diameter(native).mean())
    )
    more = {"z_range_mm": (low, high), "voxel_map": False, "device": "cpu"}
    dose.simulate(phantom, protocol, histories=1000, **more)  # compiles
    began = time.perf_counter()
    full = dose.simulate(phantom, protocol, histories=int(options.histories), **more)
    took = time.perf_counter() - began
    inside = (full.organ_coverage > 0.95) & ~full.organ_cut & (full.organ_mass > LEAST_G)
    relative = (full.organ_dose_sd / full.organ_dose).where(inside, drop=True).sortby("organ_id")
    order = np.argsort(relative.values)[::-1]
    print(
        f"| {options.histories:.3g} histories | {took:.1f} s | {options.histories / took:.3g} histories/s |"
    )
    print(f"| organs whole in images and beam, above {LEAST_G:g} g | {relative.size} | least sure: |")
    for k in order[:6]:
        name = str(relative.organ_name.values[k])
        mass = float(full.organ_mass.sel(organ_id=relative.organ_id[k]))
        print(f"| {name} | {mass:.0f} g | sd {100 * relative.values[k]:.2f} % |")
    began = time.perf_counter()
    response = dose.response_matrix(
        phantom, protocol, z_range_mm=(low, high), histories=int(options.histories), seed=2
    )
    print(f"| response | {time.perf_counter() - began:.1f} s | {dict(response.organ_response.sizes)} |")
    began = time.perf_counter()
    for _ in range(10):
        fast = dose.from_response(response, protocol, z_range_mm=(low, high))
    each = (time.perf_counter() - began) / 10
    ratio = (fast.organ_dose / full.organ_dose - 1).where(inside, drop=True)
    pull = (fast.organ_dose - full.organ_dose) / np.hypot(fast.organ_dose_sd, full.organ_dose_sd)
    pull = pull.where(inside, drop=True)
    worst = int(np.argmax(np.abs(ratio.values)))
    print(
        f"| doses of one protocol | {1e3 * each:.1f} ms | {took / each:.0f} times faster than the full run |"
    )
    print(
        f"| response less full run | mean {100 * float(ratio.mean()):+.2f} %, rms "
        f"{100 * float(np.sqrt((ratio**2).mean())):.2f} %, largest {100 * float(ratio[worst]):+.2f} % "
        f"({ratio.organ_name.values[worst]}) | rms of the pulls {float(np.sqrt((pull**2).mean())):.2f} |"
    )


if __name__ == "__main__":
    main()
