"""What worn parts do to an image: output, focal spot, and cells that are dead or have drifted."""

from __future__ import annotations

import numpy as np
import xarray as xr

from twinlab.maintenance.wear.detector_faults import cell_gain, dead_cells, latest_calibration
from twinlab.schema import check, label, refuse


def image_effects(
    state: xr.Dataset, *, day: int, shape: tuple[int, int], seed: int | None = None
) -> xr.Dataset:
    """Effects of a scanner's wear on its images on one day.

    Dead cells are a set that grows with their number as long as the detector is the same; gains are a random walk
    since the latest calibration, so that consecutive days resemble each other. Cells whose death the last
    calibration has not seen are in the list too: whether they are repaired is the caller's choice.

    Parameters
    ----------
    state : Dataset
        From :func:`simulate_scanner`.
    day : int
        An entry of ``state``'s day.
    shape : (int, int)
        Rows and channels of the detector that is simulated.
    seed : int, optional
        Of the places of dead cells and of gains; by default that of the simulation.

    Returns
    -------
    Dataset
        ``output_factor`` and ``focal_spot_factor`` (scalars), ``channel_gain`` (row, channel), ``dead_cell``
        (cell, cell_axis: row, channel). In :mod:`twinlab.ct.electronics`:
        ``Faults(gain=e.channel_gain.to_numpy(), dead=tuple(map(tuple, e.dead_cell.to_numpy())))``; the output
        factor multiplies the one from CTDI, the focal spot factor the width of ``Tube.focal_spot_mm``.

    Raises
    ------
    InputError
        No such day, a shape without cells, or no simulated state.
    """
    names = ("focal_spot_factor", "dead_channel_count", "detector_gain_drift_percent")
    check(state, *names, where="image_effects")
    days = state["day"].to_numpy()
    if day not in days:
        refuse("image_effects: day", f"{days[0]} to {days[-1]}", day)
    if len(shape) != 2 or min(shape) < 1:
        refuse("image_effects: shape", "rows and channels, 1 or more each", shape)
    missing = [
        name for name in ("seed", "calibration_interval_days", "gain_drift_module_share")
        if name not in state.attrs
    ]  # fmt: skip
    if missing:
        refuse("image_effects: state", f"attrs {', '.join(missing)}, as from simulate_scanner", "none")
    key = int(state.attrs["seed"]) if seed is None else seed
    now = state.sel(day=day)
    scanner = str(now["scanner"].item())
    changed = days[(state["failed"].to_numpy() == "detector") & (days < day)]
    starts = (0.0, *(float(d) + 1.0 for d in changed))
    interval = float(state.attrs["calibration_interval_days"])
    latest = int(latest_calibration(np.array(day), interval_days=interval, starts=starts))
    gain = cell_gain(
        float(now["detector_gain_drift_percent"]),
        int(day) - latest,
        shape,
        module_share=state.attrs["gain_drift_module_share"],
        seed=key,
        scanner=scanner,
        calibration=latest,
    )
    count = int(now["dead_channel_count"])
    dead = dead_cells(count, shape, seed=key, scanner=scanner, unit=changed.size)
    axis = {"cell_axis": ["row", "channel"]}
    return xr.Dataset(
        {
            "output_factor": label(
                "output_factor",
                float(now["output_factor"]),
                long_name="output per mAs over that of a new tube",
            ),
            "focal_spot_factor": label("focal_spot_factor", [float(now["focal_spot_factor"])]).isel(day=0),
            "channel_gain": label("channel_gain", gain),
            "dead_cell": label("dead_cell", dead, axis),
        },
        attrs={"day": int(day), "scanner": scanner, "seed": key},
    )
