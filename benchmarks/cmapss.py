"""Remaining life on NASA C-MAPSS: every candidate in cross-validation and on the test engines, one table.

    TWINLAB_CMAPSS=folder python benchmarks/cmapss.py [FD001 ...] [--torch] [--seed 0]

Convention: RMSE is capped at 125 cycles on both sides, prediction and truth; beside it the RMSE against the
truth as it is (the predictions end at 125) and the PHM 2008 score S against both. Candidates are chosen, blended
and calibrated on the training engines alone; the test engines' lives are read for this table only, their lengths
shape the cuts of the training engines. Seconds are of processor, choice by cross-validation and final fit included.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import numpy as np

from twinlab.maintenance.remaining import (
    CausalNetwork,
    coverage,
    cut_weights,
    early_rows,
    fit_anomalies,
    fit_health,
    fit_remaining_life,
    health_merits,
    predict_unseen,
    read_cmapss,
    rmse,
    s_score,
    unit_folds,
)
from twinlab.maintenance.remaining.cmapss import NAMES
from twinlab.maintenance.remaining.metrics import CAP
from twinlab.maintenance.remaining.model import CANDIDATES

BESIDE = Path(__file__).resolve().parents[2] / "shared" / "data" / "cmapss"


def learn(name: str, folder: str | Path, *, torch: bool, seed: int) -> tuple[int, int]:
    """Print the rows of one set; returns covered and all test engines for the default candidates."""
    data = read_cmapss(name, folder)
    makers = {**CANDIDATES, **({"network": CausalNetwork} if torch else {})}
    weight = cut_weights(data.train, data.test.lengths)
    unseen = predict_unseen(data.train, makers, weight=weight, cap=CAP, seed=seed)
    inside = 0
    for chosen in (CANDIDATES, makers) if torch else (makers,):
        begun = time.process_time()
        model = fit_remaining_life(
            data.train, lengths=data.test.lengths, candidates=chosen, seed=seed, unseen=unseen
        )
        seconds = time.process_time() - begun + sum(unseen.seconds[n] for n in chosen)
        if chosen is makers:
            plain = model.conditions.apply(data.test)
            for candidate, fitted in model.models.items():
                predicted = np.clip(fitted.predict(plain)[data.test.last], 0, CAP)
                cv, took = model.judged.loc[candidate, ["rmse_cv", "seconds_cv"]]
                print(f"{row(name, candidate, cv, predicted, data.rul)} | | {took:.0f} (CV) | |", flush=True)
        prediction = model.predict(data.test)
        lower, upper = (prediction[f"remaining_life_{end}"].to_numpy() for end in ("lower", "upper"))
        covered = coverage(lower, upper, np.minimum(data.rul, CAP))
        inside = inside or round(covered * len(data.rul))
        best = str(model.judged.rmse_cv.idxmin())
        title = f"**{best}**, {len(chosen)} candidates"
        text = row(name, title, model.judged.rmse_cv[best], prediction["remaining_life"].to_numpy(), data.rul)
        text += f"{100 * covered:.1f} % | {np.mean(upper - lower):.1f} | {seconds:.0f} | "
        print(text + ", ".join(f"{n} {s:.2f}" for n, s in model.share.items()) + " |", flush=True)
    return inside, len(data.rul)


def row(name: str, title: str, cv: float, predicted: np.ndarray, truth: np.ndarray) -> str:
    text = f"| {name} | {title} | {cv:.2f} | {rmse(predicted, truth, cap=CAP):.2f} "
    text += f"| {rmse(predicted, truth):.2f} | {s_score(predicted, truth, cap=CAP):.0f} "
    return text + f"| {s_score(predicted, truth):.0f} | "


def watch(name: str, folder: str | Path, *, seed: int) -> str:
    """Health on training engines held out; alarms on test engines, whose whole life is known by now."""
    data = read_cmapss(name, folder)
    fold = unit_folds(len(data.train), seed=seed)
    health = fit_health(data.train.take(np.flatnonzero(fold > 0)), seed=seed)
    held = data.train.take(np.flatnonzero(fold == 0))
    merits = health_merits(health.indicator(held))
    free = health_merits(health.indicator(held, monotone=False))["monotonicity"]
    text = f"| {name} | {merits['monotonicity']:.2f} ({free:.2f}) | {merits['trendability']:.2f} "
    text += f"| {merits['prognosability']:.2f} "
    left = data.test.life_left() + np.repeat(data.rul, data.test.lengths)
    healthy = data.test.cycle < 0.3 * (left + data.test.cycle)
    for method in ("isolation_forest", "robust_covariance"):
        found = fit_anomalies(data.train, healthy=early_rows(data.train), method=method, seed=seed)
        score = found.score(data.test).to_numpy()
        known = np.isfinite(score)
        false, seen = np.mean(score[healthy & known] > 0), np.mean(score[(left < 20) & known] > 0)
        text += f"| {100 * false:.1f} % | {100 * seen:.0f} % "
    return text + "|"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sets", nargs="*", default=NAMES)
    parser.add_argument("--torch", action="store_true", help="the network too (extra: torch)")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    folder = os.environ.get("TWINLAB_CMAPSS", BESIDE)
    print("| set | model | CV | capped | uncapped | S capped | S | coverage | width | s | shares |")
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    done = [learn(name, folder, torch=arguments.torch, seed=arguments.seed) for name in arguments.sets]
    inside, count = np.sum(done, axis=0)
    print(
        f"\n90 % intervals over all sets: {inside} of {count} test engines ({100 * inside / count:.1f} %)\n"
    )
    print(
        "| set | monotonicity (unforced) | trendability | prognosability | forest: false | seen | MCD: false | seen |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for name in arguments.sets:
        print(watch(name, folder, seed=arguments.seed), flush=True)


if __name__ == "__main__":
    main()
