"""Coverage of intervals of remaining life: ``python benchmarks/remaining_life_coverage.py [tubes] [pace] [seed]``."""

from __future__ import annotations

import sys

import numpy as np
from scipy.stats import chi2

from twinlab.maintenance.online import interval_coverage, quick_tube


def main(n: int, pace: float, seed: int) -> None:
    """Print coverage and widths by age, and how evenly the truth falls between the quantiles."""
    unit = 360.0 / (pace / 6.0)
    ages = [max(1, round(unit * f)) for f in (0.08, 0.25, 0.5, 0.75, 1.0)]
    days = round(2.2 * unit) + 60
    found = interval_coverage(n, ages=ages, tube=quick_tube(pace), days=days, seed=seed)
    print(f"{n} tubes that wear {pace:g} times as fast, 90 % intervals of remaining life")
    for k, age in enumerate(ages):
        s = found.isel(stage=k)
        counts = np.bincount(s["rank"].to_numpy()[s["rank"].to_numpy() >= 0], minlength=6)
        share = np.diff([0.0, *found["quantile"].to_numpy(), 1.0]) * counts.sum()
        p = chi2.sf(float((np.square(counts - share) / share).sum()), 5)
        print(
            f"day {age:4d}: {int(s['judged'])} at work, coverage {float(s['coverage']):.3f} +- "
            f"{float(s['coverage_sd']):.3f}, width {float(s['interval_width']):.0f} d, between quantiles "
            f"{counts.tolist()}, even: p = {p:.2f}"
        )


if __name__ == "__main__":
    given = [*sys.argv[1:], *("100", "6", "0")[len(sys.argv) - 1 :]]
    main(int(given[0]), float(given[1]), int(given[2]))
