"""Run by pypenred's own interpreter: photons only in a voxel file, histories per second of one thread."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path


def main() -> None:
    """Read a job (JSON) and save the speed and the energy left in the first material."""
    import numpy as np
    import pyPenred

    job = json.loads(Path(sys.argv[1]).read_text())
    simulation = pyPenred.simulation
    for name, made_of in job["materials"].items():
        parts = [tuple(part) for part in made_of["composition"]]
        simulation.materials.create(name, made_of["density"], parts, f"{name}.mat")
    voxels = np.load(job["voxels"])
    with Path("grid.vox").open("w", encoding="ascii") as stream:
        stream.write(" ".join(map(str, voxels.shape[::-1])) + "\n")
        stream.write(" ".join(map(str, job["spacing_cm"])) + "\n")
        stream.write("".join(np.where(voxels.ravel(), "1 1.0\n", "2 1.0\n")))
    with Path("spectrum.dat").open("w", encoding="ascii") as stream:
        for energy, weight in zip(np.load(job["energy_ev"]), np.load(job["weight"]), strict=True):
            stream.write(f"{energy:.1f} {weight:.6e}\n")
        stream.write(f"{np.load(job['energy_ev'])[-1] + 1000.0:.1f} -1\n")
    simulation.setConfigurationLog("config.log")
    simulation.setSimulationLog("simulation.log")
    run = simulation.create()
    run.configure(job["config"])
    run.simulate(False)
    said = Path("simulation.log").read_text()
    tally = Path("material-th0-materialEnergyDeposition.dat").read_text()
    rate = float(re.findall(r"Histories per second and thread: (\S+)", said)[-1])
    left = float(re.findall(r"^\s*1\s+(\S+)", tally, flags=re.M)[0])
    np.savez("result.npz", rate=rate, kev_per_history=left / 1000.0)


if __name__ == "__main__":
    main()
