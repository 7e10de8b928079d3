"""Figures of the heart's mechanics: Land's problems under refinement, sensitivities, one Newton iteration, a beat.

    python benchmarks/heart_mechanics.py [land] [settings] [iteration] [beat]

Prints markdown rows; times are processor seconds of this process (set NUMBA_NUM_THREADS=1 for one core).
"""

from __future__ import annotations

import sys
import time

import numpy as np

from twinlab.cardiac import mechanics
from twinlab.cardiac.mechanics.assembly import Assembler
from twinlab.cardiac.mechanics.linear import factorised
from twinlab.cardiac.mechanics.steps import rest


def land(refinements: tuple[int, ...] = (1, 2, 3)) -> None:
    """Tips and apices of the three problems."""
    for problem in (1, 2, 3):
        for refinement in refinements:
            row(problem, refinement)


def settings() -> None:
    """How the answers depend on the treatment of the volume."""
    for problem in (1, 2, 3):
        for kappa in (50.0, 100.0, 1000.0):
            row(problem, 1, formulation="penalty", kappa_kpa=kappa)


def row(problem: int, refinement: int, **keywords: object) -> None:
    """Solve and print one row."""
    start = time.process_time()
    try:
        attrs = mechanics.land(problem, refinement=refinement, solver="superlu", **keywords).attrs  # type: ignore[arg-type]
    except mechanics.MechanicsError as error:
        print(f"| {problem} | {refinement} | {keywords} | {error} |", flush=True)
        return
    names = ["tip_z_mm"] if problem == 1 else ["apex_endo_mm", "apex_epi_mm"]
    values = " / ".join(f"{attrs[name]:.3f}" for name in names)
    print(
        f"| {problem} | {attrs['tets']} tets | {keywords or 'mixed'} | {values} mm | "
        f"J >= {attrs['smallest_volume_ratio']:.2f} | {time.process_time() - start:.1f} s |",
        flush=True,
    )


def iteration() -> None:
    """Assembly and factorisation of about 5,000 tetrahedra."""
    heart = mechanics.ellipsoid(cells=(2, 12, 36))
    body = mechanics.body(heart, law=mechanics.guccione(), frame=mechanics.ellipsoid_frame(heart))
    assembler = Assembler(body)
    field, nothing = rest(assembler).field, np.zeros(len(body.tet))
    assembler(field, np.ones(1), nothing, None, tangent=True)
    for solver in ("superlu", "pardiso"):
        start = time.process_time()
        now, matrix = assembler(field, np.ones(1), nothing, None, tangent=True)
        middle = time.process_time()
        factorised(matrix, solver)(assembler.free(now.force))
        end = time.process_time()
        size = f"{len(body.tet)} tets, {body.n_free} unknowns"
        print(f"| {size} | assembly {middle - start:.2f} s | {solver} {end - middle:.2f} s |", flush=True)


def beat(cells: tuple[int, int, int] = (2, 12, 12), step_ms: float = 10.0) -> None:
    """A ventricle against a Windkessel with two valves, backward Euler, 800 ms."""
    start = time.process_time()
    heart = mechanics.ellipsoid(cells=cells, short_mm=(24.0, 34.0), long_mm=(62.0, 72.0), base_mm=18.0)
    body = mechanics.body(
        heart, law=mechanics.guccione(), active=mechanics.ActiveLaw(steepness=6.0),
        frame=mechanics.ellipsoid_frame(heart, endo_deg=60, epi_deg=-60),
        springs=[mechanics.Springs("epicardium", 5e-4)],
    )  # fmt: skip
    twitch = mechanics.Twitch(np.zeros(len(body.tet)), peak_kpa=120.0)
    ventricle = mechanics.Ventricle(body, twitch, solver="superlu")
    ventricle.volume(8.0, 0.0, steps=4)
    ventricle.commit()
    full = volume = ventricle.volume_ml
    artery, dt = 75.0, step_ms / 1000
    volumes, pressures = [], []
    for now in np.arange(step_ms, 800.0, step_ms):
        after = volume
        for _ in range(20):
            p, slope = ventricle.pressure(after, float(now))
            out = max(p - artery, 0.0) / 0.02 - max(8.0 - p, 0.0) / 0.05
            off = after - volume + dt * out
            if abs(off) < 1e-6:
                break
            after -= off / (1 + dt * slope * (50.0 * (p > artery) + 20.0 * (p < 8.0)))
        ventricle.commit()
        volume = after
        artery += dt * (max(out, 0.0) - artery / 1.1) / 1.4
        volumes.append(volume)
        pressures.append(p)
    print(
        f"| {len(body.tet)} tets, {body.n_free} unknowns | EDV {full:.1f} ml, ESV {min(volumes):.1f} ml, "
        f"EF {100 * (1 - min(volumes) / full):.1f} %, maximum {max(pressures):.1f} mmHg | "
        f"{time.process_time() - start:.0f} s |"
    )


if __name__ == "__main__":
    chosen = sys.argv[1:] or ["land", "settings", "iteration", "beat"]
    for name in chosen:
        {"land": land, "settings": settings, "iteration": iteration, "beat": beat}[name]()
