"""CTDI of beams wider than the pencil chamber bears: free in air, the standard's rule, and what CTDI100 misses."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr

from twinlab.dose.body import MGY_PER_KEV_G
from twinlab.dose.ctdi_phantom import Chamber, chamber_kerma, holes_mm
from twinlab.dose.indices import ctdi, one_rotation
from twinlab.phantom.transport_grid import AIR_DENSITY
from twinlab.physics.attenuation import cross_sections
from twinlab.scanner import Protocol, Scanner
from twinlab.scanner.beam import REFERENCE_DISTANCE_MM, beam_fluence
from twinlab.schema import label, refuse

WIDE_MM = 40.0  # nominal width up to which CTDI100 is measured as it is
REFERENCE_MM = 20.0  # width at which wider beams are measured, or the widest below it
_LONG_MM = 900.0


def ctdi_air(machine: Protocol | Scanner, **beam: Any) -> float:
    """CTDI free in air at the isocentre, mGy per 100 mAs, of the whole beam.

    Air kerma on the axis of rotation integrated along z over the beam, over its nominal width. With the
    fluence ``f`` at 1 m and the distance ``d`` of the focal spot, a beam of half width ``h`` gives
    ``int f (1 m)^2 / (d^2 + z^2) dz = f (1 m)^2 2 atan(h / d) / d``.

    Parameters
    ----------
    machine : Protocol or Scanner
    **beam
        ``kv``, ``bowtie`` and ``collimation_mm`` as in :func:`ctdi`.

    Returns
    -------
    float
        Without scatter in air (below 1 %), with its attenuation.

    Raises
    ------
    InputError
        A beam that the scanner does not have.

    References
    ----------
    IEC 60601-2-44:2009 + Amd 1:2012, 201.3.214 (free in air).
    """
    if isinstance(machine, Scanner):
        beam = {"phantom_cm": 32, **beam}
    protocol = one_rotation(machine, **beam)
    spectrum = beam_fluence(protocol, fan_angle_rad=[0.0])
    energy = spectrum["energy"].to_numpy()
    keep = energy >= 1.0
    air = cross_sections("air", energy[keep])
    distance = protocol.scanner.source_to_isocentre_mm
    through = np.exp(-air["total"].to_numpy() * AIR_DENSITY * distance / 10.0)
    kerma = np.sum(spectrum.to_numpy()[0, keep] * through * energy[keep] * air["mu_en"].to_numpy())
    half = 0.5 * (protocol.collimation_mm + protocol.scanner.over_beaming_mm)
    per_mm = kerma * 100.0 * MGY_PER_KEV_G * REFERENCE_DISTANCE_MM**2 * 2.0 * math.atan(half / distance)
    return float(100.0 * per_mm / distance / protocol.collimation_mm)


def reference_collimation_mm(scanner: Scanner) -> float:
    """Width at which CTDI100 of wide beams is measured: 20 mm, or the widest that the detector opens below."""
    pitch = scanner.row_pitch_isocentre_mm
    rows = int(min(math.floor(REFERENCE_MM / pitch + 0.1), scanner.detector.n_rows))
    return rows * pitch


def ctdi_wide(machine: Protocol | Scanner, **options: Any) -> xr.Dataset:
    """CTDI100 of a beam wider than 40 mm by the rule of the standard.

    ``CTDI100(N T) = CTDI100(ref) x CTDI_air(N T) / CTDI_air(ref)``, with the reference width of 20 mm or the
    widest below it. Beams up to 40 mm are given as :func:`ctdi` gives them.

    Parameters
    ----------
    machine : Protocol or Scanner
    **options
        Those of :func:`ctdi`.

    Returns
    -------
    Dataset
        As :func:`ctdi`, for the wide beam; attrs ``reference_mm`` and ``air_ratio``.

    Raises
    ------
    InputError
        As :func:`ctdi`.

    References
    ----------
    IEC 60601-2-44:2009 + Amd 1:2012, 201.3.203; IAEA Human Health Reports 5 (2011).
    """
    names = ("kv", "phantom_cm", "bowtie", "collimation_mm")
    beam = {name: options[name] for name in names if options.get(name) is not None}
    protocol = one_rotation(machine, **beam)
    if protocol.collimation_mm <= WIDE_MM:
        return ctdi(machine, **options)
    width = reference_collimation_mm(protocol.scanner)
    index = ctdi(machine, **{**options, "collimation_mm": width})
    air = {k: v for k, v in beam.items() if k != "phantom_cm" or isinstance(machine, Scanner)}
    ratio = ctdi_air(machine, **air) / ctdi_air(machine, **{**air, "collimation_mm": width})
    scaled = ("ctdi100_centre", "ctdi100_periphery", "ctdi_w")
    for name in (*scaled, *(f"{n}_sd" for n in scaled)):
        index[name] = label(name, float(index[name]) * ratio)
    for name in ("output_factor", "output_factor_sd"):
        if not math.isnan(float(index["ctdi_w_published"])):
            index[name] = label(name, float(index[name]) / ratio)
    index.attrs |= {"collimation_mm": protocol.collimation_mm, "reference_mm": width, "air_ratio": ratio}
    return index


def ctdi_efficiency(
    machine: Protocol | Scanner,
    *,
    kv: float | None = None,
    phantom_cm: int | None = None,
    bowtie: str | None = None,
    collimation_mm: float | None = None,
    length_mm: float = _LONG_MM,
    histories: int = 2_000_000,
    seed: int = 1,
    chamber: Chamber | None = None,
    progress: Callable[[int], object] | None = None,
) -> xr.Dataset:
    """Share of the dose of one rotation that a 100 mm chamber catches in a long phantom.

    Parameters
    ----------
    machine, kv, phantom_cm, bowtie, collimation_mm, histories, seed, chamber, progress
        As in :func:`ctdi`.
    length_mm : float
        Of the phantom and of the integration that stands for infinity.

    Returns
    -------
    Dataset
        ``ctdi_efficiency_centre`` and ``ctdi_efficiency_periphery`` with ``_sd``.

    Raises
    ------
    InputError
        As :func:`ctdi`, or a length of the phantom not above that of the chamber.

    References
    ----------
    Boone JM (2007) The trouble with CTDI100. Med Phys 34:1364.
    """
    protocol = one_rotation(
        machine, kv=kv, phantom_cm=phantom_cm, bowtie=bowtie, collimation_mm=collimation_mm
    )
    usual = chamber or Chamber()
    if not length_mm > usual.length_mm:
        refuse("ctdi_efficiency: length_mm", f"more than the chamber's {usual.length_mm:g} mm", length_mm)
    size = protocol.ctdi_phantom_cm if phantom_cm is None else phantom_cm
    mean, sd = chamber_kerma(
        protocol,
        phantom_cm=size,
        holes=holes_mm(size),
        chamber=Chamber(usual.radius_mm, length_mm, usual.wall_mm, usual.wall_material),
        histories=histories,
        seed=seed,
        phantom_length_mm=length_mm,
        lengths_mm=(usual.length_mm, length_mm),
        progress=progress,
    )
    # inner part and tails are scored by different flights: nearly independent
    inner, tail = mean[:, 0], mean[:, 1] - mean[:, 0]
    inner_sd, tail_sd = sd[:, 0], np.sqrt(np.maximum(sd[:, 1] ** 2 - sd[:, 0] ** 2, 0.0))
    out: dict[str, float] = {}
    for name, at in (("centre", slice(0, 1)), ("periphery", slice(1, None))):
        a, b = inner[at].sum(), tail[at].sum()
        share = a / (a + b)
        spread = math.hypot(math.sqrt((inner_sd[at] ** 2).sum()) / a, math.sqrt((tail_sd[at] ** 2).sum()) / b)
        out[f"ctdi_efficiency_{name}"] = float(share)
        out[f"ctdi_efficiency_{name}_sd"] = float(share * (1 - share) * spread)
    return xr.Dataset(
        {name: label(name, value) for name, value in out.items()},
        attrs={"phantom_cm": size, "length_mm": length_mm, "histories": histories, "seed": seed},
    )
