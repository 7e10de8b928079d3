"""Organ doses of any protocol from one transport run: the patient's response to every part of the tube's path.

Dose is a sum over the places of the tube and linear in mAs. So one run, cell by cell (table position, gantry
angle, cone angle), serves every pitch, collimation, start angle, range and tube current at a tube voltage.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import xarray as xr

from twinlab.dose.beam import check_isocentre, check_range
from twinlab.dose.body import MGY_PER_KEV_G, SCATTER_MM, organ_masses, scored_body, transport_inputs
from twinlab.dose.cells import Cells
from twinlab.dose.scoring import check_histories, check_output_factor, check_seed
from twinlab.kernels.transport import mean_sd
from twinlab.kernels.transport_cells import run_cells
from twinlab.kernels.transport_data import Source
from twinlab.kernels.transport_source import BEAM_VALUES
from twinlab.phantom import body_centre, check_phantom
from twinlab.scanner import Protocol
from twinlab.scanner.collimation import half_slope
from twinlab.scanner.geometry import over_range_mm
from twinlab.scanner.photon_source import CONE_BINS, joined, protocol_beam
from twinlab.schema import label, refuse

CELLS = ((5.0, 24), (10.0, 24), (10.0, 12), (20.0, 12))  # mm along the table, sectors: the first that fits
MAX_PITCH = 1.5  # whose over-ranging is provided for
LEAST_HISTORIES = 16  # of a cell; variances are summed over thousands of cells


def response_matrix(
    phantom: xr.Dataset,
    protocol: Protocol,
    *,
    z_range_mm: tuple[float, float],
    histories: int,
    seed: int = 1,
    output_factor: float = 1.0,
    isocentre_mm: tuple[float, float] | None = None,
    max_width_mm: float | None = None,
    cell_mm: float | None = None,
    n_sector: int | None = None,
    progress: Callable[[int], object] | None = None,
) -> xr.Dataset:
    """Organ doses per mAs from every cell of table position, gantry angle and cone angle.

    Parameters
    ----------
    phantom : Dataset
        A Phantom.
    protocol : Protocol
        Gives scanner, kV, bowtie and gantry tilt; its pitch, collimation and mAs do not matter.
    z_range_mm : (float, float)
        Imaged range within which protocols may lie; cells reach further by the over-ranging of a pitch of 1.5.
    histories : int
        In all, shared evenly between the cells.
    seed : int
    output_factor : float
        As for :func:`twinlab.dose.simulate`.
    isocentre_mm : (x, y), optional
    max_width_mm : float, optional
        Widest collimation; by default the scanner's.
    cell_mm : float, optional
        Length of a cell along the table: 5 mm where the histories suffice, otherwise 10 or 20.
    n_sector : int, optional
        Sectors of the gantry angle: 24 where the histories suffice, otherwise 12.
    progress : callable, optional
        Called with the number of histories just done.

    Returns
    -------
    Dataset
        ``organ_response``, ``organ_response_sd`` (organ_id, table_z, gantry_angle, cone): mGy per mAs that goes
        into the filled cell; ``organ_mass``, ``organ_cut`` (organ_id); ``organ_mass_z`` (organ_id, z); ``cone_sine``
        (cone_edge).

    Raises
    ------
    InputError
        As :func:`twinlab.dose.simulate`; fewer than 16 histories a cell.

    Notes
    -----
    Cells are strata with histories of their own, so variances of doses are sums over cells. What differs from
    a full run is that the source is even within a cell: 5 mm by 15 degrees, by default, shared linearly: doses vary
    little over that, but at the very ends of a scan.

    References
    ----------
    .. [1] Turner AC et al. (2010) The feasibility of a scanner-independent technique to estimate organ dose from
       MDCT scans. Med Phys 37:1816. There one number for a scan; here one for every part of its path.
    """
    started = time.perf_counter()
    spacing = check_phantom(phantom, where="dose.response_matrix")
    check_histories(histories, "dose.response_matrix")
    check_seed(seed, "dose.response_matrix")
    check_output_factor(output_factor, "dose.response_matrix")
    check_range(phantom, z_range_mm, spacing[0], "dose.response_matrix")
    isocentre = body_centre(phantom) if isocentre_mm is None else isocentre_mm
    check_isocentre(phantom, protocol, isocentre, "dose.response_matrix")
    widest = _widest(protocol, max_width_mm)
    for length, sectors in CELLS:
        cells = _cells(widest, z_range_mm, cell_mm or length, n_sector or sectors)
        number = math.prod(cells.shape)
        each = histories // number
        if each >= LEAST_HISTORIES:
            break
    else:
        least = LEAST_HISTORIES * number
        refuse("dose.response_matrix: histories", f"{least} or more for {number} cells", histories)
    scored = scored_body(phantom, extend_mm=SCATTER_MM, where="dose.response_matrix")
    reach = float(np.ptp(cells.z_mm)) + protocol.scanner.source_to_isocentre_mm
    tables, grid = transport_inputs(scored, reach_mm=reach)
    source, photons = _cell_source(widest, cells, scored.corner_mm, isocentre)
    scores = run_cells(
        grid, tables, source, histories=each, seed=seed, n_region=scored.ids.size, progress=progress
    )
    masses = organ_masses(scored)
    mass = np.maximum(masses["organ_mass"].values, 1e-30)
    scale = np.tile(photons, number // photons.size)[:, None] * (output_factor * MGY_PER_KEV_G) / mass
    coords = {
        "organ_id": masses["organ_id"].values,
        "table_z": cells.z_mm,
        "gantry_angle": cells.angle_rad,
    }
    names = ("organ_response", "organ_response_sd")
    values = {
        name: label(
            name, (part[:, scored.organs] * scale).T.reshape(-1, *cells.shape).astype(np.float32), coords
        )
        for name, part in zip(names, mean_sd(scores, each), strict=True)
    }
    values["cone_sine"] = label("cone_sine", cells.sine)
    return masses.assign(values).assign_attrs(
        **beam_identity(protocol),
        histories=each * number,
        seed=int(seed),
        output_factor=float(output_factor),
        isocentre_x_mm=float(isocentre[0]),
        isocentre_y_mm=float(isocentre[1]),
        extend_mm=SCATTER_MM,
        phantom=str(phantom.attrs.get("name", "")),
        seconds=time.perf_counter() - started,
    )


def beam_identity(protocol: Protocol) -> dict[str, object]:
    """What a response is for: scanner, kV, bowtie and tilt."""
    return {
        "scanner": protocol.scanner.key,
        "kv": float(protocol.kv),
        "bowtie": protocol.bowtie,
        "gantry_tilt_deg": float(protocol.gantry_tilt_deg),
    }


def _widest(protocol: Protocol, max_width_mm: float | None) -> Protocol:
    """The protocol with the widest beam, which decides the cone cells."""
    if protocol.scanner.detector.shape == "flat":
        refuse(
            "dose.response_matrix: protocol", "a detector on an arc", "a flat one, whose blades cut straight"
        )
    scanner = protocol.scanner
    # vendors round the width: a tenth of a row is forgiven
    width = scanner.max_collimation_mm + 0.05 * scanner.row_pitch_isocentre_mm
    width = width if max_width_mm is None else max_width_mm
    return protocol.replace(collimation_mm=width, second_kv=None)


def _cells(widest: Protocol, z_range_mm: tuple[float, float], cell_mm: float, n_sector: int) -> Cells:
    """Cells of the path that any protocol within the range may take; the cone is cut as the fluence is."""
    low, high = (float(z) for z in z_range_mm)
    if not (math.isfinite(low) and math.isfinite(high) and high > low):
        refuse("dose.response_matrix: z_range_mm", "(lower, upper) in mm", z_range_mm)
    if not (0.0 < cell_mm < math.inf and n_sector >= 4):
        refuse("dose.response_matrix: cells", "a length above 0 and 4 sectors or more", (cell_mm, n_sector))
    reach = over_range_mm(widest.replace(mode="helical", pitch=MAX_PITCH)) + widest.collimation_mm / 2
    n = math.ceil((high - low + 2 * reach) / cell_mm) + 1
    half, spot, blade = half_slope(widest)
    edge = half + 0.5 * spot[1] / blade
    return Cells(
        z_mm=(low + high) / 2 + (np.arange(n) - (n - 1) / 2) * cell_mm,
        n_sector=n_sector,
        sine=np.linspace(-1.0, 1.0, CONE_BINS + 1) * edge / math.hypot(1.0, edge),
    )


def _cell_source(
    widest: Protocol, cells: Cells, corner_mm: np.ndarray, isocentre_mm: tuple[float, float]
) -> tuple[Source, np.ndarray]:
    """Source with a station for each cell, each cone cell a beam; photons per mAs of each cone cell."""
    path = cells.path()
    centre = (isocentre_mm[0] - corner_mm[2], isocentre_mm[1] - corner_mm[1])
    tilt = math.radians(widest.gantry_tilt_deg)
    beam = protocol_beam(widest, path[:1, :4], isocentre_mm=centre, tilt_rad=tilt)
    parts = [
        replace(beam, fluence=beam.fluence[[min(k, len(beam.fluence) - 1)]], spot_mm=(0.0, 0.0), slope=None)
        for k in range(CONE_BINS)
    ]
    source, _ = joined([(part, 1.0) for part in parts])
    geometry = source.geometry.reshape(CONE_BINS, BEAM_VALUES).copy()
    geometry[:, 5], geometry[:, 6] = cells.sine[:-1], np.diff(cells.sine)
    stations = np.column_stack([path, np.full(len(path), -np.inf), np.full(len(path), np.inf)])
    stations[:, 1] -= corner_mm[0]
    photons = [float(part.fluence.sum()) * 1e6 * beam.fan_step_rad for part in parts] * np.diff(cells.sine)
    return (
        source._replace(geometry=geometry.ravel(), stations=np.ascontiguousarray(stations, dtype=np.float32)),
        np.asarray(photons),
    )
