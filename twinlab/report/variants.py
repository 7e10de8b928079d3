"""A scan under the settings that a protocol is most often changed in, and its water."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from twinlab import ct
from twinlab.phantom import from_recipe
from twinlab.scanner import Protocol


def at_protocols(
    paths: xr.Dataset, protocol: Protocol, *, grid: Mapping[str, Any], seed: int
) -> dict[str, xr.DataArray]:
    """Images as planned, at a quarter of the mAs, at the lowest tube voltage, and with the sharp kernel.

    Parameters
    ----------
    paths : Dataset
        Line integrals of the patient: they serve every voltage, exposure and kernel.
    protocol : Protocol
    grid : mapping
    seed : int
        Of the noise, the same in all four.

    Returns
    -------
    dict of str to DataArray ``hu``
        By a name that says what was changed.
    """
    low = protocol.scanner.tube.kv_stations[0]
    current = protocol.mas / protocol.rotation_time_s
    settings = {
        f"{protocol.kv:g} kV, {protocol.mas:.0f} mAs": protocol,
        f"{protocol.mas / 4:.0f} mAs": protocol.replace(tube_current_ma=current / 4),
        f"{low:g} kV": protocol.replace(kv=low),
        "sharp kernel": protocol.replace(kernel="sharp"),
    }
    return {
        name: ct.reconstruct(ct.acquire(paths, setting, seed=seed), setting, grid=grid)
        for name, setting in settings.items()
    }


def contrast_in(images: Mapping[str, xr.DataArray], box_mm: Sequence[float]) -> str:
    """90th percentile of CT numbers of each image in a region (right, left, front, back), in words."""
    right, left, front, back = box_mm
    parts = [
        f"{name} {float(image.sel(x=slice(right, left), y=slice(front, back)).quantile(0.9)):.0f} HU"
        for name, image in images.items()
    ]
    return f"A tenth of the marked region is brighter than: {'; '.join(parts)}."


def water_reads(protocol: Protocol, *, seed: int = 1) -> tuple[float, float]:
    """CT numbers of 20 cm of water without noise, centre and edge (70 to 90 mm from it) [HU]."""
    water = from_recipe("water_cylinder_20cm", spacing_mm=(8.0, 1.0, 1.0))
    across = np.arange(-99, 100, 2.0)
    grid = {"z": np.zeros(1), "y": across, "x": across}
    disc = ct.simulate(water, protocol, z_range_mm=(-1, 1), seed=seed, noise=False, grid=grid)
    radius = np.hypot(disc.x, disc.y)
    edge = disc.where((radius > 70) & (radius < 90))
    return float(disc.where(radius < 20).mean()), float(edge.mean())
