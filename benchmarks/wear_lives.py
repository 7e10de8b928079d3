"""Lives of simulated tubes, and the time of a scanner's three years: ``python benchmarks/wear_lives.py [tubes]``."""

from __future__ import annotations

import sys
import time
from collections import Counter

import numpy as np

from twinlab.maintenance.wear import simulate_scanner, tube_lives, workload


def main(n: int) -> None:
    """Print percentiles of lives, what ended them, and processor time."""
    scans = workload(days=1095)
    simulate_scanner(workload(days=2))  # compilation
    start = time.process_time()
    simulation = simulate_scanner(scans)
    took = time.process_time() - start
    print(
        f"3 years, {scans.sizes['scan']} scans: {took:.2f} s; arcs {int(simulation.telemetry['arcs'].sum())}"
    )
    lives = tube_lives(n, years=12.0, seed=5)
    years, million = lives["life_days"].to_numpy() / 365.25, lives["life_seconds"].to_numpy() / 1e6
    for q in (10, 25, 50, 75, 90):
        print(f"{q:3d} %: {np.percentile(years, q):5.2f} years, {np.percentile(million, q):5.2f} million s")
    print(f"0.5 to 1.6 million s: {np.mean((million > 0.5) & (million < 1.6)):.2f} of tubes; ", end="")
    print(
        f"4 to 8 years: {np.mean((years > 4.0) & (years < 8.0)):.2f}; {dict(Counter(lives['life_cause'].values))}"
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 60)
