"""Photon transport beside PENELOPE's, as pypenred runs it: one geometry, spectrum and beam, one thread each.

    python benchmarks/peers/pypenred.py PYTHON

PYTHON is an interpreter whose environment holds ``pypenred`` (AGPL; it is run as a separate program). Electrons are
absorbed where they start; both end photons at 1 keV and score energy by material, in voxels of one size. twinlab also
follows photons through the air between source and grid. Neither speed contains the preparation (pypenred's is its own
count of user time); both are the best of three, taken in turn.
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
REPEATS = 3
PEER = "pypenred, photons only"


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
    """Print the speeds, their ratios, and the energy left in the water."""
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
    cases = {"twinlab": own.water(), "twinlab, Doppler broadening": own.water(doppler=True)}
    rates = dict.fromkeys((*cases, PEER), 0.0)
    left = {}
    for _ in range(REPEATS):
        for name, case in cases.items():
            rates[name] = max(rates[name], own.best(own.run_water(case), HISTORIES, repeats=1))
        theirs = run_worker(sys.argv[1], "run_pypenred.py", job, threads=1)
        rates[PEER] = max(rates[PEER], float(theirs["rate"]))
        left[PEER] = float(theirs["kev_per_history"])
    for name, case in cases.items():
        tally = transport.run(*case, histories=HISTORIES, seed=1, n_region=2)
        left[name] = transport.mean_sd(tally.region, HISTORIES)[0][1]
    print("| program | histories/s/core | over pypenred | keV per history in water |\n|---|---|---|---|")
    for name, rate in rates.items():
        print(f"| {name} | {rate:.3g} | {rate / rates[PEER]:.2f} | {left[name]:.2f} |")


if __name__ == "__main__":
    main()
