"""Photon transport beside PENELOPE's, as pypenred runs it: one geometry, spectrum and beam, one thread each.

    python benchmarks/peers/pypenred.py PYTHON

PYTHON is an interpreter whose environment holds ``pypenred`` (AGPL; it is run as a separate program). Electrons are
absorbed where they start. pypenred's own count of user time leaves out its initialisation.
"""

from __future__ import annotations

import os

os.environ.setdefault("NUMBA_NUM_THREADS", "1")

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

import transport as own
from foreign import run_worker

from twinlab.kernels import transport

HISTORIES = 1_000_000


def _material(number: int, name: str) -> dict[str, object]:
    absorbed = {"electron": 1e6, "positron": 1e6, "gamma": 1e3}  # eV
    scattering = {"C1": 0.05, "C2": 0.05, "WCC": 1e3, "WCR": 1e3}
    return {"number": number, "filename": f"{name}.mat", "eabs": absorbed, **scattering}


def _config() -> dict[str, object]:
    """The beam of ``benchmarks/transport.py``, even per solid angle in a spherical rectangle."""
    cm = [0.1 * s for s in own.SPACING_MM[::-1]]
    middle = [0.5 * n * s for n, s in zip(own.VOXELS[::-1], cm, strict=True)]
    half_fan, half_width = (float(np.rad2deg(np.arctan(0.5 * f / own.SOURCE_MM))) for f in own.FAN_MM)
    beam = {
        "nhist": float(HISTORIES),
        "kpar": "gamma",
        "direction": {
            "type": "SOLID_ANGLE", "u": 0.0, "v": 0.0, "w": 1.0,
            "theta0": 90.0 - half_width, "theta1": 90.0 + half_width,
            "phi0": 90.0 - half_fan, "dphi": 2 * half_fan,
        },
        "energy": {"type": "FILE_SPECTRUM", "filename": "spectrum.dat"},
        "spatial": {
            "type": "POINT",
            "position": {"x": middle[0], "y": middle[1] - 0.1 * own.SOURCE_MM, "z": middle[2]},
        },
    }  # fmt: skip
    return {
        "sources": {"generic": {"beam": beam}},
        "geometry": {
            "type": "VOXEL", "filename": "grid.vox", "ascii": True,
            "enclosure-margin": 0.1, "enclosure-material": 2,
        },
        "materials": {"water": _material(1, "water"), "air": _material(2, "air")},
        "tallies": {"material": {"type": "EDEP_MAT", "nmat": 2}},
        "simulation": {"threads": 1, "dump-interval": 1e6},
    }  # fmt: skip


def main() -> None:
    """Print both speeds, their ratio, and the energy left in the water."""
    energy, weight = own.spectrum()
    job = {
        "config": _config(),
        "spacing_cm": [0.1 * s for s in own.SPACING_MM[::-1]],
        "voxels": own.inside().astype(np.uint8),
        "energy_ev": 1000.0 * (energy - 0.5),
        "weight": weight,
        "materials": {
            "water": {"density": 1.0, "composition": [[1, 0.111894], [8, 0.888106]]},
            "air": {
                "density": 0.001205,
                "composition": [[6, 0.000124], [7, 0.755268], [8, 0.231781], [18, 0.012827]],
            },
        },
    }
    case = own.water()
    ours = own.best(own.run_water(case), HISTORIES)
    tally = transport.run(*case, histories=HISTORIES, seed=1, n_region=2)
    mean, _ = transport.mean_sd(tally.region, HISTORIES)
    theirs = run_worker(sys.argv[1], "run_pypenred.py", job, threads=1)
    rate = float(theirs["rate"])
    print("| program | histories/s/core | keV per history in water |\n|---|---|---|")
    print(f"| twinlab, all physics | {ours:.3g} | {mean[1]:.2f} |")
    print(f"| pypenred, photons only | {rate:.3g} | {float(theirs['kev_per_history']):.2f} |")
    print(f"| ratio | {ours / rate:.2f} | {mean[1] / float(theirs['kev_per_history']):.4f} |")


if __name__ == "__main__":
    main()
