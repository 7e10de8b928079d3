"""Metal artefacts: normalised interpolation of the rays that met metal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from twinlab.ct.artefacts.reproject import reproject
from twinlab.ct.recon import reconstruct
from twinlab.kernels.device import Device, namespace
from twinlab.scanner import Protocol
from twinlab.schema import check, refuse

TOUCH_CM = 0.01  # of metal on a ray: from here on the ray is replaced
FLOOR = 0.05  # added to both sides of the normalisation, so that rays beside the patient divide by no zero

FloatArray = NDArray[np.floating[Any]]


def metal_correction(
    projections: xr.Dataset,
    protocol: Protocol,
    *,
    grid: Mapping[str, Any],
    metal_hu: float = 2500.0,
    soft_hu: tuple[float, float] = (-400.0, 300.0),
    air_hu: float = -900.0,
    device: Device = "auto",
) -> tuple[xr.Dataset, xr.DataArray]:
    """Projections as if metal were tissue, and where the metal is (NMAR).

    1. Metal is what exceeds ``metal_hu`` in a first image; its trace, all rays through it.
    2. Linear interpolation over the trace gives an image without the worst streaks.
    3. In it, air, soft tissue and metal are made flat: the prior image, which keeps bone and lung.
    4. Projections are divided by those of the prior, interpolated over the trace, and multiplied again.

    Parameters
    ----------
    projections : Dataset
        From :func:`twinlab.ct.acquire`.
    protocol : Protocol
    grid : mapping
        ``z``, ``y``, ``x`` of an image that holds the whole patient in x and y [mm].
    metal_hu : float
        CT number above which matter is metal.
    soft_hu : (float, float)
        Range that becomes water in the prior.
    air_hu : float
        Below, the prior is vacuum.
    device : "auto", "cpu" or "cuda"
        Of the two images, and of the projection of trace and prior.

    Returns
    -------
    projections : Dataset
        With replaced rays; attr ``metal_trace`` is their share.
    metal : DataArray of bool, dims (z, y, x)
        On ``grid``. Images show it again by ``corrected.where(~metal, first)``.

    Raises
    ------
    InputError
        Thresholds out of order, or no metal in the image.

    Limits
    ------
    What lies inside the trace is guessed: details between two implants come from the prior alone.

    References
    ----------
    Meyer E, Raupach R, Lell M, Schmidt B, Kachelriess M (2010) Normalized metal artifact reduction (NMAR)
    in computed tomography. Med Phys 37:5482.
    """
    check(projections, "projection", where="metal_correction")
    if not air_hu < soft_hu[0] < soft_hu[1] < metal_hu:
        refuse("metal_correction", "air_hu < soft_hu[0] < soft_hu[1] < metal_hu", (air_hu, soft_hu, metal_hu))
    first = reconstruct(projections, protocol, grid=grid, device=device)
    metal = (first > metal_hu).rename("metal").drop_attrs()
    if not metal.any():
        refuse(
            "metal_correction", f"CT numbers above {metal_hu:g} HU", f"{float(first.max()):.0f} HU at most"
        )
    thickness = protocol.slice_thickness_mm
    mask = metal.to_numpy().astype(np.float32)
    trace = reproject(mask[None], first, projections, slice_mm=thickness, device=device)[0] > TOUCH_CM
    measured = projections["projection"].to_numpy()
    bridged = _with(projections, interpolate(measured, trace))
    second = reconstruct(bridged, protocol, grid=grid, device=device).to_numpy()
    prior = prior_image(second, metal=mask > 0, soft_hu=soft_hu, air_hu=air_hu)
    per_cm = 10.0 * float(projections.attrs["mu_water_per_mm"])
    expected = (
        FLOOR + per_cm * reproject(prior[None], first, projections, slice_mm=thickness, device=device)[0]
    )
    ratio = interpolate((measured + FLOOR) / expected, trace)
    corrected = _with(projections, np.where(trace, ratio * expected - FLOOR, measured))
    corrected.attrs["metal_trace"] = float(trace.mean())
    return corrected, metal


def interpolate(values: Any, trace: Any) -> Any:
    """Values with those of the trace replaced by a line between its neighbours along the last axis.

    Rows that are all trace stay as they are; at an end the one neighbour counts. Arrays of any namespace.
    """
    xp, n = namespace(values, trace), values.shape[-1]
    place = xp.broadcast_to(xp.arange(n, dtype=xp.int64), trace.shape)
    none = xp.full_like(place, -1)
    before = _latest(xp.where(trace, none, place))
    after = n - 1 - xp.flip(_latest(xp.flip(xp.where(trace, none, n - 1 - place), axis=-1)), axis=-1)
    nothing = xp.all(trace, axis=-1, keepdims=True)
    before, after = xp.where(before < 0, after, before), xp.where(after >= n, before, after)
    before, after = (xp.clip(index, min=0, max=n - 1) for index in (before, after))
    low, high = (xp.take_along_axis(values, index, axis=-1) for index in (before, after))
    gap = xp.astype(xp.clip(after - before, min=1), values.dtype)
    line = low + xp.astype(place - before, values.dtype) / gap * (high - low)
    return xp.where(trace & ~nothing, line, values)


def _latest(index: Any) -> Any:
    """Greatest entry so far along the last axis, by doubling the reach: running maxima are not in the standard."""
    xp, n, reach = namespace(index), index.shape[-1], 1
    while reach < n:
        earlier = xp.concat([index[..., :1]] * reach + [index[..., :-reach]], axis=-1)
        index = xp.maximum(index, earlier)
        reach *= 2
    return index


def prior_image(hu: Any, *, metal: Any, soft_hu: tuple[float, float], air_hu: float) -> Any:
    """Attenuation relative to water, with air, soft tissue and metal made flat; arrays (z, y, x) of any namespace."""
    xp = namespace(hu)
    water, vacuum = xp.zeros_like(hu), xp.full_like(hu, -1000.0)
    hu = xp.where(xp.isnan(hu), vacuum, hu)
    hu = xp.where((hu >= soft_hu[0]) & (hu <= soft_hu[1]) | metal, water, hu)
    hu = xp.where(hu < air_hu, vacuum, hu)
    return 1.0 + hu / 1000.0


def _with(projections: xr.Dataset, values: FloatArray) -> xr.Dataset:
    data = values.astype(np.float32, copy=False)
    return projections.assign(projection=projections["projection"].copy(data=data))
