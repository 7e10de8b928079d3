"""Speed of the monodomain solver on the N-version slab, beside finitewave for the same work in one run.

    python benchmarks/heart_monodomain.py [--peer PYTHON] [--full] [--h 0.2] [--threads 1] [--sweep]

``--peer`` names the Python of an environment with finitewave (``pip install finitewave``). Short by default
(5 ms of simulated time); ``--full`` runs 70 ms. ``--sweep`` prints the nine points at 0.5, 0.2 and 0.1 mm instead.
Both programs get the same slab, nodes, cells, stimulus, time step and duration; ours is also timed with every cell
computed (no cell asleep) and with the solver for any geometry. Ratios are of processor time.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from typing import Any


def ours(h_mm: float, dt_ms: float, end_ms: float, **settings: Any) -> dict[str, float]:
    """Times of our run, compiled before."""
    from twinlab.cardiac import electro

    electro.n_version(h_mm, dt_ms, end_ms=2 * dt_ms, until_active=False, **settings)
    wall, work = time.perf_counter(), time.process_time()
    got = electro.n_version(h_mm, dt_ms, end_ms=end_ms, until_active=False, **settings)
    return {
        "seconds": time.perf_counter() - wall,
        "processor_s": time.process_time() - work,
        "p8_ms": float(got.site_activation_time.sel(site="P8")),
        "nodes": got.attrs["nodes"],
    }


def finitewave(python: str, job: dict[str, Any]) -> dict[str, float]:
    """Times of finitewave's run."""
    worker = os.path.join(os.path.dirname(__file__), "peers", "run_finitewave.py")
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(job, file)
        file.flush()
        done = subprocess.run([python, worker, file.name], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"finitewave failed: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def sweep(dt_ms: float) -> None:
    """Nine points on the paper's grids, with the consistent mass and with half of it lumped.

    No value for a vanishing step: with the consistent mass P8 passes below it before it comes back
    (docs/methods/heart_electro.md), so these grids show no order and Richardson's formula would say nothing.
    """
    from twinlab.cardiac import electro

    for mass, h in itertools.product(("consistent", "half"), (0.5, 0.2, 0.1)):
        work = time.process_time()
        got = electro.n_version(h, dt_ms, mass=mass).site_activation_time
        points = "  ".join(f"{s} {v:.2f}" for s, v in zip(got.site.values, got.values, strict=True))
        print(f"{mass} mass, h {h} mm: {points}   ({time.process_time() - work:.0f} s)", flush=True)


def main() -> None:
    """Print a table."""
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--peer")
    ask.add_argument("--full", action="store_true")
    ask.add_argument("--sweep", action="store_true")
    ask.add_argument("--h", type=float, default=0.2)
    ask.add_argument("--dt", type=float, default=0.01)
    ask.add_argument("--threads", type=int, default=1)
    asked = ask.parse_args()
    os.environ["NUMBA_NUM_THREADS"] = str(asked.threads)
    if asked.sweep:
        return sweep(asked.dt)
    from twinlab.cardiac.electro.tissue import NIEDERER

    end = 70.0 if asked.full else 5.0
    rows = {
        "twinlab": ours(asked.h, asked.dt, end),
        "twinlab, no cell asleep": ours(asked.h, asked.dt, end, sleep_mv=0.0),
        "twinlab, any geometry": ours(asked.h, asked.dt, end, solver="cg"),
    }
    if asked.peer:
        job = {
            "size_mm": [20.0, 7.0, 3.0],
            "h_mm": asked.h,
            "dt_ms": asked.dt,
            "end_ms": end,
            "diffusivity_mm2_per_ms": [s / 1.4 for s in NIEDERER[:2]],
            "stimulus_mm": 1.5,
            "stimulus_ms": 2.0,
            "stimulus_mv_per_ms": 50.0 / 1.4,
            "threads": asked.threads,
        }
        rows["finitewave"] = finitewave(asked.peer, job)
    last = rows["finitewave"]["processor_s"] if asked.peer else rows["twinlab"]["processor_s"]
    print(f"{end:g} ms at h {asked.h} mm, dt {asked.dt} ms, {asked.threads} thread(s)")
    for name, row in rows.items():
        speed = row["nodes"] * end / asked.dt / row["processor_s"] / 1e6
        print(
            f"{name:26} {row['processor_s']:8.2f} s processor {row['seconds']:8.2f} s wall "
            f"{speed:6.2f} M node-steps/s  x{last / row['processor_s']:.2f}  P8 {row['p8_ms']:.2f} ms"
        )


if __name__ == "__main__":
    main()
