"""Worker that runs inside an environment with finitewave: the N-version slab for a while, described by a JSON file."""

from __future__ import annotations

import json
import sys
import time

import finitewave as fw
import numpy as np
from finitewave.cpuwave.stencil import AsymmetricStencil3D


def model(job: dict, end_ms: float) -> fw.TenTusscherPanfilov2006:
    """Slab with nodes at the same places as ours, inside finitewave's border of one cell."""
    h = job["h_mm"]
    shape = [round(s / h) + 3 for s in job["size_mm"]]
    tissue = fw.CardiacTissue(shape)
    tissue.fibers = np.zeros((*shape, 3))
    tissue.fibers[..., 0] = 1.0
    made = fw.TenTusscherPanfilov2006()
    made.cardiac_tissue = tissue
    made.dt, made.dr, made.t_max = job["dt_ms"], h, end_ms
    along, across = job["diffusivity_mm2_per_ms"]
    made.D_model = along
    made.stencil = AsymmetricStencil3D()
    made.stencil.D_al, made.stencil.D_ac = 1.0, across / along
    made.prog_bar = False
    reach = 1 + round(job["stimulus_mm"] / h) + 1
    stimuli = fw.StimSequence()
    stimuli.add_stim(
        fw.StimCurrentCoord(0.0, job["stimulus_mv_per_ms"], job["stimulus_ms"], 1, reach, 1, reach, 1, reach)
    )
    made.stim_sequence = stimuli
    return made


def run(job: dict) -> dict:
    """Seconds of the loop (compiled before, by two steps) and the activation time of the far corner, ms."""
    model(job, 2.0 * job["dt_ms"]).run(num_of_threads=job["threads"])
    task = model(job, job["end_ms"])
    tracker = fw.ActivationTimeTracker()
    tracker.threshold, tracker.step = 0.0, round(0.1 / job["dt_ms"])
    trackers = fw.TrackerSequence()
    trackers.add_tracker(tracker)
    task.tracker_sequence = trackers
    wall, work = time.perf_counter(), time.process_time()
    task.run(num_of_threads=job["threads"])
    return {
        "seconds": time.perf_counter() - wall,
        "processor_s": time.process_time() - work,
        "p8_ms": float(tracker.output[-2, -2, -2]),
        "nodes": int((task.cardiac_tissue.mesh == 1).sum()),
    }


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as stream:
        print(json.dumps(run(json.load(stream))))
