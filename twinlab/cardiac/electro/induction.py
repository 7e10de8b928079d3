"""Induction of re-entry by a train of stimuli and an early extra one (S1-S2), and its detection."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from twinlab.cardiac.electro.propagation import monodomain
from twinlab.cardiac.electro.stimuli import Stimulus
from twinlab.cardiac.electro.tissue import excitable
from twinlab.schema import refuse

RETURNS = 2  # activations of one place after S2: the second cannot come from S2 itself


def induce(
    voxels: xr.Dataset,
    *,
    s1: Stimulus,
    s2: Stimulus,
    coupling_ms: float,
    beats: int = 1,
    cycle_ms: float = 600.0,
    watch_ms: float = 600.0,
    **settings: Any,
) -> xr.Dataset:
    """Train of S1, one S2 after the last S1, then wait for what comes back.

    Parameters
    ----------
    voxels : Dataset
        As for :func:`twinlab.cardiac.electro.monodomain`.
    s1, s2 : Stimulus
        Where; their times are set here.
    coupling_ms : float
        From the last S1 to S2.
    beats, cycle_ms
        Number of S1 and their interval.
    watch_ms : float
        Simulated time after S2.
    **settings
        Of :func:`twinlab.cardiac.electro.monodomain`.

    Returns
    -------
    Dataset
        As of the monodomain run, with attributes ``reentry`` (bool), ``returned_share`` (of the muscle outside
        S2 that was active twice or more after it), ``captured`` (S2 activated anything) and
        ``sustained`` (active in the last fifth of the time watched).

    Raises
    ------
    InputError
        As of the run; times that are no times.
    """
    if not (coupling_ms > 0 and watch_ms > 0 and beats >= 1):
        refuse(
            "induce", "positive coupling_ms and watch_ms, one beat or more", (coupling_ms, watch_ms, beats)
        )
    starts = [k * cycle_ms for k in range(beats)]
    second = starts[-1] + coupling_ms
    stimuli = [s1.at(t) for t in starts] + [s2.at(second)]
    end = second + watch_ms
    run = monodomain(voxels, stimuli=stimuli, end_ms=end, **settings)
    muscle = np.isfinite(run["activation_time"].values)
    extra = run["beat_count"].values - beats
    last = run["last_activation_time"].values
    came_back = muscle & (extra >= RETURNS) & ~_reached(voxels, s2, settings)
    run.attrs |= {
        "s2_ms": second,
        "captured": bool((last[muscle] > second).any()),
        "returned_share": float(came_back.sum() / max(1, muscle.sum())),
        "reentry": bool(came_back.sum() > 0.02 * muscle.sum()),
        "sustained": bool((last[muscle] > end - 0.2 * watch_ms).any()),
    }
    return run


def _reached(voxels: xr.Dataset, s2: Stimulus, settings: dict[str, Any]) -> np.ndarray:
    """Voxels that S2 lifts itself: where it meets refractory muscle it counts as a beat before the first wave."""
    names = ("conductivity", "chi_per_mm", "cm_uf_per_mm2", "border", "core")
    muscle = excitable(voxels, where="induce", **{k: settings[k] for k in names if k in settings})
    lifted = np.zeros(len(muscle.nodes))
    lifted[s2.nodes(muscle)[0]] = 1.0
    return np.nan_to_num(muscle.to_voxels(lifted)) > 0


def scan_coupling(
    voxels: xr.Dataset, couplings_ms: Sequence[float], *, stop: bool = True, **settings: Any
) -> list[xr.Dataset]:
    """Induction at each of several couplings; with ``stop``, until one re-enters (see :func:`induce`)."""
    runs = []
    for coupling in couplings_ms:
        runs.append(induce(voxels, coupling_ms=coupling, **settings))
        if stop and runs[-1].attrs["reentry"]:
            break
    return runs
