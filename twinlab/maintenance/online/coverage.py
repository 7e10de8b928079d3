"""Whether intervals of remaining life hold what they say: simulated tubes, drawn from the priors and followed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from twinlab.maintenance.online.following import follow
from twinlab.maintenance.online.model import tube_model
from twinlab.maintenance.online.rows import QUANTILES
from twinlab.maintenance.wear import TubeWear, load_scanner_wear, load_tube_wear, simulate_scanner, workload
from twinlab.schema import label, refuse

STEADY = {"dead_scale_days": 1e9, "slip_ring_life_rotations": 1e15, "fouling_per_day": 1e-9}
RATES = (
    "free_share",
    "roughening_um_s",
    "arc_rate_per_s",
)  # with the bearing's life, what sets a tube's pace


def quick_tube(pace: float, tube: str | TubeWear = "generic_tube") -> TubeWear:
    """A tube that wears so many times as fast, in every way: lives that are quick to simulate.

    Raises
    ------
    InputError
        A pace that is not positive.
    """
    if not pace > 0.0:
        refuse("quick_tube: pace", "above 0", pace)
    own = tube if isinstance(tube, TubeWear) else load_tube_wear(tube)
    values = {name: pace * getattr(own, name).value for name in RATES}
    return own.with_values(bearing_life_s=own.bearing_life_s.value / pace, **values)


def interval_coverage(
    n: int,
    *,
    ages: Sequence[int] = (30, 90, 180, 270, 360),
    tube: str | TubeWear | None = None,
    exams_per_day: float | None = None,
    days: int = 900,
    particles: int = 400,
    seed: int = 0,
) -> xr.Dataset:
    """Remaining life said and come out, of tubes drawn from the declared priors with all their spreads.

    Tubes are judged at fixed ages, as long as they are at work: there the intervals of a filter whose prior is right
    hold their share, which at fractions of a tube's own life, unknown at the time, they need not.

    Parameters
    ----------
    n : int
        Tubes.
    ages : sequence of int
        Days since installation, ascending.
    tube : str or TubeWear, optional
        By default one that wears six times as fast as the generic one, :func:`quick_tube`.
    exams_per_day : float, optional
    days : int
        Of the workload; tubes at work after it are left out, so take it long.
    particles, seed : int

    Returns
    -------
    Dataset, dims (stage, life, quantile)
        ``remaining_true`` (NaN: not at work any more), ``remaining_said`` (quantile), ``coverage`` of the interval from
        the lowest to the highest quantile (5 to 95 %) with its binomial ``coverage_sd``, ``interval_width`` (median),
        ``rank`` (quantiles below the truth, -1: not judged); coordinates ``age`` and ``judged`` (tubes) of each stage.

    Raises
    ------
    InputError
        No tubes, or ages that do not ascend within the days.
    """
    if n < 1 or not ages or list(ages) != sorted(set(ages)) or ages[0] < 1 or ages[-1] >= days:
        refuse(
            "interval_coverage", "tubes, and ages ascending from 1 to less than days", (n, tuple(ages), days)
        )
    own = quick_tube(6.0) if tube is None else tube
    model = tube_model(tube=own, exams_per_day=exams_per_day)
    parts = load_scanner_wear().with_values(**STEADY)
    scans = workload(days=days, exams_per_day=exams_per_day, seed=seed)
    truth, said = np.full((len(ages), n), np.nan), np.full((len(ages), n, QUANTILES.size), np.nan)
    for k in range(n):
        name = np.full(scans.sizes["scan"], f"tube-{k}", object)
        life = simulate_scanner(
            scans.assign_coords(scanner=("scan", name)),
            tube=own,
            parts=parts,
            seed=seed,
            stop_at_failure=True,
        )
        if not str(life.state["failed"][-1].item()):
            continue
        last = life.state.sizes["day"] - 1
        wanted = [age for age in ages if age < last]
        if not wanted:
            continue
        day = (
            life.telemetry["time"].to_numpy() - life.telemetry["time"].to_numpy()[0].astype("datetime64[D]")
        ) / (np.timedelta64(1, "D"))
        seen = life.telemetry.isel(scan=day < wanted[-1] + 1.0)
        found = follow(seen, model=model, particles=particles, seed=seed)
        for stage, age in enumerate(wanted):
            row = int(np.searchsorted(found["day"].to_numpy(), age, side="right")) - 1
            truth[stage, k] = last - age - 0.5  # it fails within its last day
            said[stage, k] = found["remaining_days"].to_numpy()[row]
    return _coverage(truth, said, ages)


def _coverage(truth: np.ndarray, said: np.ndarray, ages: Sequence[int]) -> xr.Dataset:
    judged = np.isfinite(truth)
    inside = (truth >= said[..., 0]) & (truth <= said[..., -1]) & judged
    count = np.maximum(judged.sum(axis=1), 1)
    share = inside.sum(axis=1) / count
    width = np.where(judged, said[..., -1] - said[..., 0], np.nan)
    rank = np.where(judged, (truth[..., None] > said).sum(axis=-1), -1)
    stage = {"age": ("stage", list(ages), {"units": "d"}), "judged": ("stage", judged.sum(axis=1))}
    middle = [
        float(np.median(row[ok])) if ok.any() else np.nan for row, ok in zip(width, judged, strict=True)
    ]
    return xr.Dataset(
        {
            "remaining_true": label("remaining_true", truth, stage),
            "remaining_said": label("remaining_said", said, {**stage, "quantile": QUANTILES}),
            "rank": label("rank", rank, stage),
            "coverage": label("coverage", share, stage),
            "coverage_sd": label("coverage_sd", np.sqrt(0.9 * 0.1 / count), stage),
            "interval_width": label("interval_width", middle, stage),
        }
    )
