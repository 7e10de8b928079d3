"""Worker that runs inside an environment with gecatsim: one scan or reconstruction described by a JSON file.

Started by ``catsim.py`` as ``python run_catsim.py JOB``; not for use by hand. Reads and writes files only in
the folder of the job.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import sys
import time
from pathlib import Path
from typing import Any

import gecatsim
import numpy as np


def configured(job: dict[str, Any]) -> Any:
    """A CatSim with the geometry, beam and detector of a job; no noise, no scatter, no bowtie."""
    ct = gecatsim.CatSim()
    ct.resultsName = job["results"]
    scanner, protocol, physics = ct.scanner, ct.protocol, ct.physics
    scanner.sid, scanner.sdd = job["sid"], job["sdd"]
    scanner.detectorColsPerMod, scanner.detectorRowsPerMod = 1, job["rows"]
    scanner.detectorColCount, scanner.detectorRowCount = job["columns"], job["rows"]
    scanner.detectorColSize, scanner.detectorRowSize = job["column_mm"], job["row_mm"]
    scanner.detectorColOffset, scanner.detectorPrefilter = job["column_offset"], []
    scanner.detectorMaterial, scanner.detectorDepth = job["absorber"], job["absorber_mm"]
    scanner.detectorColFillFraction = scanner.detectorRowFillFraction = job["fill"]
    scanner.focalspotShape = "Uniform"
    protocol.viewsPerRotation, protocol.viewCount = job["views_per_rotation"], job["views"]
    protocol.startViewId, protocol.stopViewId = 0, job["views"] - 1
    protocol.rotationDirection, protocol.startAngle = -1, 0  # clockwise in images with y downwards
    protocol.spectrumFilename, protocol.spectrumUnit_mm, protocol.spectrumUnit_mA = job["spectrum"], 1, 1
    protocol.bowtie, protocol.flatFilter, protocol.mA = [], [], 1000.0
    physics.enableQuantumNoise = physics.enableElectronicNoise = 0
    physics.energyCount, physics.monochromatic = job["energies"], job["mono_kev"]
    physics.disable_low_signal_correction = True
    n = job["oversampling"]
    physics.colSampleCount = physics.rowSampleCount = n
    physics.srcXSampleCount = physics.srcYSampleCount = physics.viewSampleCount = n
    if n == 1:
        scanner.focalspotWidth = scanner.focalspotLength = 1e-6
    return ct


def same_attenuation(table: str) -> None:
    """Let every model of the program take its attenuation coefficients from a table instead of its own."""
    with np.load(table) as data:
        energy, mu = data["energy_kev"], {n: data[n] for n in data.files if n != "energy_kev"}

    def get_mu(name: str, energies: Any) -> Any:
        wanted = np.asarray(energies, float)
        nearest = np.abs(energy - wanted[..., None]).argmin(-1)
        assert np.abs(energy[nearest] - wanted).max() < 1e-3, "an energy that is not in the table"
        return mu[Path(name).name][nearest].astype(np.float32)

    for user in (
        "Phantom_Voxelized",
        "Phantom_Analytic",
        "Detection_EI",
        "Detection_prefilter",
        "Xray_Filter",
    ):
        importlib.import_module(f"gecatsim.pyfiles.{user}").GetMu = get_mu  # type: ignore[attr-defined]


def scan(job: dict[str, Any]) -> dict[str, Any]:
    """Logarithm of air over phantom readings (view, row, column) and seconds of the views."""
    ct = configured(job)
    ct.phantom.callback = f"Phantom_{job['engine']}"
    ct.phantom.projectorCallback = f"C_Projector_{job['engine']}"
    ct.phantom.filename = job["phantom"]
    ct.phantom.projectorNumThreads = job["threads"]
    if job.get("table"):
        same_attenuation(job["table"])
    writer = importlib.import_module("gecatsim.pyfiles.WriteRawView")
    write, ticks = writer.WriteRawView, []

    def timed_write(cfg: Any, view: int) -> Any:
        done = write(cfg, view)
        ticks.append(time.perf_counter())
        return done

    ct.air_scan()
    writer.WriteRawView = timed_write  # type: ignore[attr-defined]
    start = time.perf_counter()
    ct.phantom_scan()
    shape = (job["views"], job["rows"], job["columns"])
    air = np.fromfile(job["results"] + ".air", np.float32).reshape(1, *shape[1:])
    readings = np.fromfile(job["results"] + ".scan", np.float32).reshape(shape)
    return {
        "projection": np.log(air / readings),
        "seconds_first_view": ticks[0] - start,
        "seconds_per_view": (ticks[-1] - ticks[0]) / max(len(ticks) - 1, 1),
    }


def reconstruct(job: dict[str, Any]) -> dict[str, Any]:
    """FDK image [1/mm], (slice, y, x), of given projections, and its seconds."""
    ct = configured(job)
    recon = ct.recon
    recon.fov, recon.imageSize = job["fov_mm"], job["size"]
    recon.sliceCount, recon.sliceThickness = job["slices"], job["slice_mm"]
    recon.kernelType, recon.unit, recon.startAngle = job["kernel"], "/mm", 0
    prep = np.load(job["projection"]).astype(np.float32)
    fdk = importlib.import_module("gecatsim.reconstruction.pyfiles.fdk_equiAngle").fdk_equiAngle
    start = time.perf_counter()
    image = fdk(ct.get_current_cfg(), prep)
    return {"image": np.moveaxis(image, 2, 0), "seconds": time.perf_counter() - start}


def main() -> None:
    """Carry out the job and leave ``result.npz`` beside it."""
    path = Path(sys.argv[1])
    job = json.loads(path.read_text())
    with contextlib.redirect_stdout(io.StringIO()):
        result = {"scan": scan, "reconstruct": reconstruct}[job["what"]](job)
    np.savez(path.with_name("result.npz"), **result)


if __name__ == "__main__":
    main()
