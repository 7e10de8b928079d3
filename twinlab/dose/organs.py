"""Dose map and organ doses of a CT scan of a Phantom."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import xarray as xr

from twinlab.dose.beam import default_isocentre, stations
from twinlab.kernels.transport import Tally, mean_sd, run
from twinlab.kernels.transport_data import ENERGY_UNIT_KEV
from twinlab.phantom import check_phantom, extend, organ_names
from twinlab.phantom import transport_tables as table_module
from twinlab.phantom.build import EXTENSION, OUTSIDE
from twinlab.phantom.transport_grid import voxel_grid
from twinlab.scanner import Protocol
from twinlab.scanner.photon_source import beam_source
from twinlab.schema import label, refuse

MGY_PER_KEV_G = 1.602176634e-10  # keV/g in mGy
SCATTER_MM = (
    100.0  # of body beyond the images: 150 mm more change the end slices by 0.6 % (docs/methods/dose.md)
)


@dataclass(frozen=True)
class _Scored:
    """The extended phantom as the transport scores it."""

    ids: np.ndarray  # organ ids, in the order of the regions
    region: np.ndarray  # (z, y, x) uint16
    inside: slice  # slices of the phantom as given
    mass_g: np.ndarray  # by region


def _regions(phantom: xr.Dataset, given: xr.Dataset, voxel_cm3: float) -> _Scored:
    ids, region = np.unique(phantom["organ"].values, return_inverse=True)
    region = region.reshape(phantom["organ"].shape).astype(np.uint16)
    mass = (
        np.bincount(region.ravel(), weights=phantom["density"].values.ravel(), minlength=ids.size) * voxel_cm3
    )
    first = int(np.argmin(np.abs(phantom["z"].values - float(given["z"][0]))))
    return _Scored(ids, region, slice(first, first + given.sizes["z"]), mass)


def _check(phantom: xr.Dataset, z_range_mm: tuple[float, float], histories: int, dz: float) -> None:
    if histories < 1000:
        refuse("dose.simulate: histories", "1000 or more", histories)
    z = phantom["z"].values
    low, high = float(z[0]) - dz / 2, float(z[-1]) + dz / 2
    if not (z_range_mm[1] > low and z_range_mm[0] < high):
        refuse(
            "dose.simulate: z_range_mm", f"a range that meets the phantom, {low:g} to {high:g} mm", z_range_mm
        )


def simulate(
    phantom: xr.Dataset,
    protocol: Protocol,
    *,
    z_range_mm: tuple[float, float],
    histories: int,
    seed: int = 1,
    output_factor: float = 1.0,
    isocentre_mm: tuple[float, float] | None = None,
    voxel_map: bool = True,
    extend_mm: float = SCATTER_MM,
    start_angle_deg: float = 0.0,
    relative_mas: np.ndarray | None = None,
    block: int | None = None,
    progress: Callable[[int], object] | None = None,
) -> xr.Dataset:
    """Absorbed dose of a CT scan, by photon Monte Carlo in the phantom's voxels.

    Parameters
    ----------
    phantom : Dataset
        A Phantom; coarser voxels (2 to 4 mm) give the same organ doses in less memory.
    protocol : Protocol
        With a tube current.
    z_range_mm : (float, float)
        Imaged range; the tube's path adds over-ranging, the beam over-beaming.
    histories : int
        Photons followed; the sd falls as 1/sqrt(histories).
    seed : int
        The result is the same for any number of threads.
    output_factor : float
        Scales the modelled tube to a measured one: published over simulated CTDIw (:func:`ctdi`).
    isocentre_mm : (x, y), optional
        Axis of rotation; by default the middle of the body's bounding box.
    voxel_map : bool
        Also give ``dose`` and ``dose_sd`` per voxel (16 bytes a voxel).
    extend_mm : float
        Body repeated beyond both ends, so that scatter from outside the images is there.
    start_angle_deg : float
        Gantry angle of the first view.
    relative_mas : (view,) array, optional
        Tube current modulation over the views of ``trajectory``; the mean mAs is the protocol's.
    block : int, optional
        Voxels along a block of the majorant; by default about 20 mm, the fastest in bodies.
    progress : callable, optional
        Called with the number of histories just done.

    Returns
    -------
    Dataset
        ``organ_dose``, ``organ_dose_sd``, ``organ_mass``, ``organ_coverage``, ``organ_cut`` by organ_id
        (with coordinate ``organ_name``), ``dose`` and ``dose_sd`` (z, y, x) in mGy, for the mAs of the
        protocol. ``dose`` is NaN outside the body. attrs: histories, seed, mas, photons, output_factor,
        isocentre, emitted_kev = deposited_kev + deposited_air_kev + escaped_kev, seconds.

    Raises
    ------
    InputError
        Not a Phantom, a range that misses it, too few histories, a protocol without a tube current.

    Notes
    -----
    Electrons deposit where they are set free (range below 0.3 mm at 150 keV in tissue); fluorescence
    deposits at the site; no Doppler broadening; no table, no heel effect. See docs/methods/dose.md.
    """
    started = time.perf_counter()
    spacing = check_phantom(phantom, where="dose.simulate")
    _check(phantom, z_range_mm, histories, spacing[0])
    isocentre = default_isocentre(phantom) if isocentre_mm is None else tuple(map(float, isocentre_mm))
    view, mas = stations(protocol, z_range_mm=z_range_mm, start_angle_deg=start_angle_deg)
    body = extend(phantom, length_mm=extend_mm) if extend_mm > 0 else phantom
    voxel_cm3 = float(np.prod(spacing)) / 1000.0
    scored = _regions(body, phantom, voxel_cm3)
    corner = np.array([float(body[a][0]) - d / 2 for a, d in zip("zyx", spacing, strict=True)])
    view[:, 1] -= corner[0]
    centre = (isocentre[0] - corner[2], isocentre[1] - corner[1])
    source, per_mas = beam_source(protocol, view, isocentre_mm=centre, relative_mas=relative_mas)
    tables = table_module.build([str(m) for m in body["material_name"].values])
    beyond = max(0.0, -view[:, 1].min(), view[:, 1].max() - spacing[0] * body.sizes["z"])
    grid = voxel_grid(
        body["material"].values,
        body["density"].values,
        scored.region,
        tables,
        spacing_mm=spacing,
        reach_mm=protocol.scanner.source_to_isocentre_mm + beyond + 100.0,
        block=block or int(np.clip(round(20.0 / np.mean(spacing)), 2, 16)),
    )
    tally = run(
        grid,
        tables,
        source,
        histories=histories,
        seed=seed,
        n_region=scored.ids.size,
        voxel_map=voxel_map,
        progress=progress,
    )
    photons = per_mas * mas * output_factor
    out = _organ_table(phantom, scored, tally, photons * MGY_PER_KEV_G, z_range_mm)
    if voxel_map:
        maps = _maps(phantom, body, scored, tally, photons * MGY_PER_KEV_G / voxel_cm3)
        out = out.assign(maps.data_vars)
    emitted, escaped, air, deposited = (tally.energy[:4] * ENERGY_UNIT_KEV).tolist()
    out.attrs = {
        "histories": int(histories),
        "seed": int(seed),
        "mas": float(mas),
        "photons": float(photons),
        "output_factor": float(output_factor),
        "isocentre_x_mm": isocentre[0],
        "isocentre_y_mm": isocentre[1],
        "z_low_mm": float(z_range_mm[0]),
        "z_high_mm": float(z_range_mm[1]),
        "extend_mm": float(extend_mm),
        "protocol": protocol.key,
        "phantom": str(phantom.attrs.get("name", "")),
        "emitted_kev": emitted,
        "deposited_kev": deposited,
        "deposited_air_kev": air,
        "escaped_kev": escaped,
        "seconds": time.perf_counter() - started,
    }
    return out


def _organ_table(
    phantom: xr.Dataset, scored: _Scored, tally: Tally, scale: float, z_range_mm: tuple[float, float]
) -> xr.Dataset:
    """Doses, masses and coverage of the organs that the given phantom holds."""
    mean, sd = mean_sd(tally.region, tally.histories)
    keep = ~np.isin(scored.ids, [OUTSIDE, EXTENSION])
    names = organ_names(phantom)
    ids = scored.ids[keep]
    region = scored.region[scored.inside]
    density = phantom["density"].values
    z = phantom["z"].values
    weights = np.where((z >= z_range_mm[0]) & (z <= z_range_mm[1]), 1.0, 0.0)[:, None, None] * density
    n = scored.ids.size
    inside = np.bincount(region.ravel(), weights=weights.ravel(), minlength=n)
    whole = np.bincount(region.ravel(), weights=density.ravel(), minlength=n)
    ends = np.isin(np.arange(n), np.unique(region[[0, -1]]))
    coords = {"organ_id": ids, "organ_name": ("organ_id", [names.get(int(k), str(k)) for k in ids])}
    mass = scored.mass_g[keep]
    safe = np.maximum(mass, 1e-30)
    return xr.Dataset(
        {
            "organ_dose": label("organ_dose", mean[keep] * scale / safe, coords),
            "organ_dose_sd": label("organ_dose_sd", sd[keep] * scale / safe, coords),
            "organ_mass": label("organ_mass", mass, coords),
            "organ_coverage": label("organ_coverage", inside[keep] / np.maximum(whole[keep], 1e-30), coords),
            "organ_cut": label("organ_cut", ends[keep], coords),
        }
    )


def _maps(phantom: xr.Dataset, body: xr.Dataset, scored: _Scored, tally: Tally, scale: float) -> xr.Dataset:
    """Dose and its sd on the grid of the given phantom; NaN outside the body."""
    scores = tally.voxel.reshape(*body["organ"].shape, 2)[scored.inside]
    mean, sd = mean_sd(scores, tally.histories)
    density = phantom["density"].values
    factor = np.where(phantom["organ"].values != OUTSIDE, scale / np.maximum(density, 1e-6), np.nan)
    coords = {axis: phantom[axis].values for axis in "zyx"}
    return xr.Dataset(
        {
            "dose": label("dose", (mean * factor).astype(np.float32), coords, outside_body="NaN: not scored"),
            "dose_sd": label("dose_sd", (sd * factor).astype(np.float32), coords),
        }
    )
