"""Seconds and peak memory of every stage of the main job.

    python benchmarks/main_job.py [params/04_protocol_study/standard.yaml]

Runs the study from nothing in a temporary folder, stage by stage in this process, and prints a table. Peak
memory is the resident high-water mark of each stage (Linux).
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

import dask
from dask.callbacks import Callback

from twinlab.study import engine, load, plan
from twinlab.study.layout import Layout


def _reset_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def _peak_gib() -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 2**20
    return float("nan")


def main() -> None:
    study = load(sys.argv[1] if len(sys.argv) > 1 else "params/04_protocol_study/standard.yaml")
    rows: list[tuple[str, float, float]] = []
    began = 0.0

    def start(*_: object) -> None:
        nonlocal began
        _reset_peak()
        began = time.perf_counter()

    def end(key: object, *_: object) -> None:
        rows.append((str(key), time.perf_counter() - began, _peak_gib()))

    with tempfile.TemporaryDirectory() as folder:
        layout = Layout(study, folder)
        work = plan(study, outputs=folder)
        expected = {stage.name: stage.seconds for stage in work.stages}
        tasks, _ = engine.graph(layout, work)
        with Callback(pretask=start, posttask=end):
            dask.compute(*tasks.values(), scheduler="threads", num_workers=1, optimize_graph=False)
    print(f"{study.name}: {os.cpu_count()} cores\n")
    print("| stage | seconds | planned | peak memory, GiB |\n| --- | ---: | ---: | ---: |")
    cases = [row for row in rows if row[0].startswith("case ")]
    for name, seconds, peak in [row for row in rows if not row[0].startswith("case ")]:
        print(f"| {name} | {seconds:.1f} | {expected.get(name, 0):.1f} | {peak:.2f} |")
    print(
        f"| {len(cases)} cases | {sum(row[1] for row in cases):.1f} | | {max(row[2] for row in cases):.2f} |"
    )
    print(
        f"| all | {sum(row[1] for row in rows):.1f} | {work.seconds:.1f} | {max(row[2] for row in rows):.2f} |"
    )


if __name__ == "__main__":
    main()
