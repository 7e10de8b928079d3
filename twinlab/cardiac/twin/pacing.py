"""Activation of one heart under its own conduction, with a blocked bundle, and paced from leads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr

from twinlab.cardiac.electro import (
    Velocity,
    ecg_of_activation,
    eikonal,
    electrode_positions,
    entry_sources,
    twelve_leads,
)
from twinlab.cardiac.electro.conduction_system import (
    HEALTHY,
    LEADS,
    LEFT_BUNDLE_BRANCH_BLOCK,
    RIGHT_BUNDLE_BRANCH_BLOCK,
    Entry,
)
from twinlab.schema import refuse

INTRINSIC: Mapping[str, Mapping[str, Entry]] = {
    "intrinsic": HEALTHY,
    "left bundle branch block": LEFT_BUNDLE_BRANCH_BLOCK,
    "right bundle branch block": RIGHT_BUNDLE_BRANCH_BLOCK,
}


PURKINJE_FACTOR = 2.5
"""Velocity of the inner fifth of the wall where the conduction system works (healthy conduction only), over muscle."""

SCAR_FACTOR = 1.0 / 3.0
"""Velocity in the core of a scar over that of muscle: 0.2 of 0.6 m/s."""


def pacing_sites(name: str) -> dict[str, Entry]:
    """Where the excitation starts.

    Parameters
    ----------
    name : str
        A key of :data:`INTRINSIC`, leads, or both joined by `` + ``, as ``"right_apex + left_lateral"``, or
        ``"left bundle branch block + left_lateral"`` for a left lead that works with what conducts by itself.

    Raises
    ------
    InputError
        An unknown conduction or lead.
    """
    sites: dict[str, Entry] = {}
    for part in (p.strip() for p in name.split("+")):
        if part not in INTRINSIC and part not in LEADS:
            refuse("pacing", f"{', '.join(INTRINSIC)}, or leads ({', '.join(LEADS)}), joined by +", part)
        sites |= INTRINSIC.get(part) or {part: LEADS[part]}
    return sites


def activations(
    voxels: xr.Dataset,
    pacings: Sequence[str],
    *,
    velocity: Velocity = Velocity(),  # noqa: B008 (immutable)
    border: float = 0.5,
    core: float = SCAR_FACTOR,
) -> dict[str, xr.DataArray]:
    """Activation maps of the eikonal model, by pacing.

    Parameters
    ----------
    voxels : Dataset
        Voxel twin with fibres and ventricular coordinates.
    pacings : sequence of str
        See :func:`pacing_sites`.
    velocity : Velocity
    border, core : float
        Factor on the velocity in border zone and core of a scar on the voxels
        (:func:`twinlab.cardiac.geometry.add_scar`). With a core of 0 nothing passes, and a segment that nothing reaches
        is refused by :func:`segment_times`.

    Returns
    -------
    dict of pacing to DataArray (z, y, x), ms
        From the first activation on.

    Raises
    ------
    InputError
        An unknown pacing, or voxels that cannot be used.
    """
    sites = {name: pacing_sites(name) for name in pacings}
    found = {}
    for name, entries in sites.items():
        quick = PURKINJE_FACTOR if name == "intrinsic" else 1.0
        times = eikonal(
            voxels,
            sources=entry_sources(voxels, entries),
            velocity=velocity,
            endocardial_factor=quick,
            border=border,
            core=core,
        )["activation_time"]
        with xr.set_options(keep_attrs=True):
            found[name] = times - float(np.nanmin(times))
    return found


def electrocardiograms(
    voxels: xr.Dataset, maps: Mapping[str, xr.DataArray], *, end_ms: float = 450.0
) -> dict[str, xr.DataArray]:
    """Twelve leads of activation maps, electrodes on an average torso around this heart.

    Returns
    -------
    dict of pacing to DataArray (lead, time), mV
        Shape and duration mean something, amplitude little: the torso is infinite and even.
    """
    muscle = np.argwhere(voxels["wall"].to_numpy() > 0).mean(axis=0)
    z, y, x = (
        float(np.interp(m, np.arange(voxels.sizes[a]), voxels[a])) for m, a in zip(muscle, "zyx", strict=True)
    )
    places = electrode_positions((x, y, z))
    return {
        name: twelve_leads(ecg_of_activation(voxels, times, places, end_ms=end_ms))
        for name, times in maps.items()
    }
