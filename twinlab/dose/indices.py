"""CT dose index in the PMMA phantoms, simulated; CTDIvol, DLP and the factor to a measured tube output."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import xarray as xr

from twinlab.dose.organs import MGY_PER_KEV_G
from twinlab.kernels.transport import mean_sd, run
from twinlab.phantom import transport_tables as table_module
from twinlab.phantom.transport_grid import AIR_DENSITY, Rod, cylinder_grid
from twinlab.physics import materials
from twinlab.scanner import Protocol, Scanner
from twinlab.scanner.geometry import n_rotations
from twinlab.scanner.photon_source import beam_source
from twinlab.schema import label, refuse

PHANTOM_LENGTH_MM = 150.0  # IEC 60601-2-44: at least 140 mm
CHAMBER_LENGTH_MM = 100.0
CAVITY_RADIUS_MM = 3.1  # a pencil chamber of 3 cm3 and 100 mm
DEPTH_MM = 10.0  # of the peripheral holes' axes under the surface
_VIEWS = 360


def _axial(
    machine: Protocol | Scanner,
    kv: float | None,
    phantom_cm: int | None,
    bowtie: str | None,
    collimation_mm: float | None,
) -> Protocol:
    """One axial rotation of the given beam."""
    if isinstance(machine, Protocol):
        changes: dict[str, object] = {"mode": "axial", "pitch": 1.0}
        if kv is not None:
            changes["kv"] = kv
        if phantom_cm is not None:
            changes["ctdi_phantom_cm"] = phantom_cm
        if bowtie is not None:
            changes["bowtie"] = bowtie
        if collimation_mm is not None:
            changes["collimation_mm"] = collimation_mm
        return machine.replace(**changes)
    if kv is None or phantom_cm is None or bowtie is None:
        refuse("dose.ctdi", "kv, phantom_cm and bowtie with a Scanner", f"{kv}, {phantom_cm}, {bowtie}")
    width = machine.max_collimation_mm if collimation_mm is None else collimation_mm
    return Protocol.make(
        {
            "key": "ctdi",
            "title": "CTDI",
            "scanner": machine,
            "mode": "axial",
            "kv": kv,
            "tube_current_ma": min(100.0, machine.tube.max_tube_current_ma),
            "rotation_time_s": 1.0,
            "collimation_mm": width,
            "slice_thickness_mm": width,
            "slice_interval_mm": width,
            "reconstruction_fov_mm": min(250.0, machine.scan_fov_mm),
            "bowtie": bowtie,
            "ctdi_phantom_cm": phantom_cm,
            "sources": ("one rotation for CTDI",),
        }
    )


def published_ctdi_w(scanner: Scanner, *, kv: float, phantom_cm: int) -> float | None:
    """Published CTDIw per 100 mAs of a scanner; between published kV by the power law through neighbours.

    Returns
    -------
    float or None
        mGy per 100 mAs; None when nothing is published, or kv lies outside the published ones.
    """
    table = scanner.ctdi_w_mgy_per_100mas.get(str(phantom_cm), {})
    known = sorted((float(k), float(v)) for k, v in table.items())
    if not known or not known[0][0] <= kv <= known[-1][0]:
        return None
    if kv in dict(known):
        return dict(known)[kv]
    x, y = np.log(np.array(known)).T
    return float(np.exp(np.interp(math.log(kv), x, y)))


def ctdi(
    machine: Protocol | Scanner,
    *,
    kv: float | None = None,
    phantom_cm: int | None = None,
    bowtie: str | None = None,
    collimation_mm: float | None = None,
    histories: int = 2_000_000,
    seed: int = 1,
    cavity_radius_mm: float = CAVITY_RADIUS_MM,
    progress: Callable[[int], object] | None = None,
) -> xr.Dataset:
    """CTDI100 of one axial rotation in a PMMA phantom of 16 or 32 cm.

    Parameters
    ----------
    machine : Protocol or Scanner
        With a Protocol, its values hold where none is given; a Scanner needs kv, phantom_cm and bowtie.
    kv, phantom_cm, bowtie, collimation_mm : optional
    histories, seed : int
    cavity_radius_mm : float
        Air cavity of the pencil chamber.
    progress : callable, optional

    Returns
    -------
    Dataset
        ``ctdi100_centre``, ``ctdi100_periphery``, ``ctdi_w`` (mGy per 100 mAs) with ``_sd``;
        ``ctdi_w_published`` (NaN when none), ``output_factor`` = published / simulated (1 when none) and its
        sd. attrs: kv, phantom_cm, bowtie, collimation_mm, histories, seed, note.

    Raises
    ------
    InputError
        kV outside the tube's stations, unknown bowtie, phantom or collimation.

    Notes
    -----
    The cylinder and its five air cavities are exact, not voxels. Dose to air is the track-length estimate of
    collision kerma (mu_en/rho of air) in the cavities, averaged over 100 mm and divided by the beam's nominal
    width. The chamber's wall counts as PMMA. Beams wider than 40 mm lose the scatter tails beyond 100 mm, as
    every measured CTDI100 does.

    References
    ----------
    IEC 60601-2-44; AAPM Report 96 (2008).
    """
    protocol = _axial(machine, kv, phantom_cm, bowtie, collimation_mm)
    radius = 5.0 * protocol.ctdi_phantom_cm
    pmma = materials.get("pmma")
    half, reach = PHANTOM_LENGTH_MM / 2, CHAMBER_LENGTH_MM / 2
    rods = [Rod(0.0, 0.0, radius, -half, half, 1, pmma.density_g_cm3)]
    ring = radius - DEPTH_MM
    for x, y in [(0.0, 0.0), (ring, 0.0), (0.0, ring), (-ring, 0.0), (0.0, -ring)]:
        rods.append(Rod(x, y, cavity_radius_mm, -reach, reach, 0, AIR_DENSITY, fluence=True))
    tables = table_module.build(["air", pmma])
    grid, low = cylinder_grid(rods, tables, reach_mm=protocol.scanner.source_to_isocentre_mm + 100.0)
    step = 2 * np.pi / _VIEWS
    view = np.stack(
        [np.arange(_VIEWS) * step, np.full(_VIEWS, -low[2]), np.full(_VIEWS, step), np.zeros(_VIEWS)], axis=1
    )
    source, per_mas = beam_source(protocol, view, isocentre_mm=(-low[0], -low[1]))
    tally = run(
        grid, tables, source, histories=histories, seed=seed, n_region=len(rods) + 1, progress=progress
    )
    mean, sd = mean_sd(tally.fluence, histories)
    volume = np.pi * cavity_radius_mm**2 * CHAMBER_LENGTH_MM / 1000.0
    scale = 100.0 * per_mas * MGY_PER_KEV_G / volume * CHAMBER_LENGTH_MM / protocol.collimation_mm
    return _result(protocol, mean[1:] * scale, sd[1:] * scale, histories, seed)


def _result(protocol: Protocol, mean: np.ndarray, sd: np.ndarray, histories: int, seed: int) -> xr.Dataset:
    """Weighted index of the five chambers (centre first), and its ratio to the published one."""
    centre, centre_sd = float(mean[0]), float(sd[0])
    edge, edge_sd = float(mean[1:].mean()), float(np.sqrt((sd[1:] ** 2).sum()) / 4)
    weighted = centre / 3 + 2 * edge / 3
    weighted_sd = float(np.hypot(centre_sd / 3, 2 * edge_sd / 3))
    published = published_ctdi_w(protocol.scanner, kv=protocol.kv, phantom_cm=protocol.ctdi_phantom_cm)
    factor = 1.0 if published is None else published / weighted
    values = {
        "ctdi100_centre": centre,
        "ctdi100_centre_sd": centre_sd,
        "ctdi100_periphery": edge,
        "ctdi100_periphery_sd": edge_sd,
        "ctdi_w": weighted,
        "ctdi_w_sd": weighted_sd,
        "ctdi_w_published": math.nan if published is None else published,
        "output_factor": factor,
        "output_factor_sd": 0.0 if published is None else factor * weighted_sd / weighted,
    }
    note = (
        "published for this phantom" if published is not None else "nothing published: modelled tube output"
    )
    return xr.Dataset(
        {name: label(name, value) for name, value in values.items()},
        attrs={
            "scanner": protocol.scanner.key,
            "kv": float(protocol.kv),
            "phantom_cm": int(protocol.ctdi_phantom_cm),
            "bowtie": protocol.bowtie,
            "collimation_mm": float(protocol.collimation_mm),
            "histories": int(histories),
            "seed": int(seed),
            "note": note,
        },
    )


def output_factor(ctdi_result: xr.Dataset) -> float:
    """Factor from the modelled tube's output to the published one; 1.0 when none is published."""
    return float(ctdi_result["output_factor"])


def ctdi_vol(protocol: Protocol, ctdi_result: xr.Dataset, *, published: bool = True) -> float:
    """CTDIvol of a protocol, mGy: CTDIw x effective mAs / 100.

    Parameters
    ----------
    protocol : Protocol
        With a tube current.
    ctdi_result : Dataset
        From :func:`ctdi` for the same kV, bowtie, phantom and collimation.
    published : bool
        Scale to the published output (the ``output_factor``); False for the modelled tube.

    Raises
    ------
    InputError
        The result is for another beam.
    """
    for name, value in (
        ("kv", protocol.kv),
        ("phantom_cm", protocol.ctdi_phantom_cm),
        ("bowtie", protocol.bowtie),
        ("collimation_mm", protocol.collimation_mm),
    ):
        if ctdi_result.attrs[name] != value:
            refuse(
                f"ctdi_vol: ctdi_result {name}",
                f"{value} of protocol {protocol.key}",
                ctdi_result.attrs[name],
            )
    factor = output_factor(ctdi_result) if published else 1.0
    return float(ctdi_result["ctdi_w"]) * factor * protocol.effective_mas / 100.0


def dlp(protocol: Protocol, ctdi_result: xr.Dataset, *, z_range_mm: tuple[float, float]) -> float:
    """Dose-length product, mGy cm: CTDIvol times the length exposed, over-ranging included.

    The length is the table travel with the beam on: rotations x feed (AAPM Report 96).
    """
    length_cm = n_rotations(protocol, z_range_mm=z_range_mm) * protocol.feed_mm / 10.0
    return ctdi_vol(protocol, ctdi_result) * length_cm
