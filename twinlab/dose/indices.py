"""CT dose index in the PMMA phantoms, simulated; CTDIvol, DLP and the factor to a measured tube output."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import xarray as xr

from twinlab.dose.ctdi_phantom import SIZES_CM, Chamber, chamber_kerma, holes_mm
from twinlab.scanner import Protocol, Scanner
from twinlab.scanner.geometry import n_rotations
from twinlab.schema import check, label, refuse


def one_rotation(
    machine: Protocol | Scanner,
    *,
    kv: float | None = None,
    phantom_cm: int | None = None,
    bowtie: str | None = None,
    collimation_mm: float | None = None,
) -> Protocol:
    """One axial rotation of the given beam; the standard phantom in it is that of the CTDIvol definition.

    Raises
    ------
    InputError
        A phantom of another size than 10, 16, 32 or 45 cm, or a beam that the scanner does not have.
    """
    if phantom_cm is not None:
        if phantom_cm not in SIZES_CM:
            refuse("dose.ctdi: phantom_cm", f"one of {SIZES_CM}", phantom_cm)
        phantom_cm = 16 if phantom_cm <= 16 else 32
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
    histories: int = 4_000_000,
    seed: int = 1,
    chamber: Chamber | None = None,
    plugged: bool = True,
    progress: Callable[[int], object] | None = None,
) -> xr.Dataset:
    """CTDI100 of one axial rotation in a PMMA phantom of 10, 16, 32 or 45 cm.

    Parameters
    ----------
    machine : Protocol or Scanner
        With a Protocol, its values hold where none is given; a Scanner needs kv, phantom_cm and bowtie.
    kv, phantom_cm, bowtie, collimation_mm : optional
        10 and 45 cm are for small and large patients; CTDIvol is defined with 16 and 32 cm.
    histories, seed : int
    chamber : Chamber, optional
        By default a cavity of 3.1 mm radius and 100 mm in 0.5 mm of C-552 plastic.
    plugged : bool
        One chamber at a time and the other holes filled, as measured: a quarter of the histories for the
        centre, the others for one place at the periphery. False: five chambers at once, so the periphery is scored in
        four places; chambers shadow each other by less than 1 %.
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
        kV outside the tube's stations, unknown bowtie, phantom or collimation, fewer than 1000 histories.

    Notes
    -----
    The cylinder and its chambers are exact, not voxels. Dose to air is the track-length estimate of
    collision kerma (mu_en/rho of air) in the cavity, averaged over 100 mm and divided by the beam's nominal
    width. Beams wider than 40 mm lose the scatter tails beyond 100 mm, as every measured CTDI100 does: see
    :func:`ctdi_wide`.

    References
    ----------
    IEC 60601-2-44; AAPM Report 96 (2008).
    """
    protocol = one_rotation(
        machine, kv=kv, phantom_cm=phantom_cm, bowtie=bowtie, collimation_mm=collimation_mm
    )
    if histories < 1000:
        refuse("dose.ctdi: histories", "1000 or more", histories)
    size = protocol.ctdi_phantom_cm if phantom_cm is None else phantom_cm
    holes = holes_mm(size)
    quarter = histories // 4
    runs = [(holes[:1], quarter), (holes[1:2], histories - quarter)]
    done, parts = 0, []
    for places, count in runs if plugged else [(holes, histories)]:
        parts.append(
            chamber_kerma(
                protocol,
                phantom_cm=size,
                holes=places,
                chamber=chamber or Chamber(),
                histories=count,
                seed=seed,
                first_history=done,  # the second run draws other random numbers
                progress=progress,
            )
        )
        done += count
    mean, sd = (np.concatenate([part[k][:, 0] for part in parts]) for k in (0, 1))
    return _result(protocol, size, mean, sd, histories, seed)


def _result(
    protocol: Protocol, phantom_cm: int, mean: np.ndarray, sd: np.ndarray, histories: int, seed: int
) -> xr.Dataset:
    """Weighted index of the chambers (centre first), and its ratio to the published one."""
    centre, centre_sd = float(mean[0]), float(sd[0])
    edge, edge_sd = float(mean[1:].mean()), float(np.sqrt((sd[1:] ** 2).sum()) / (len(sd) - 1))
    weighted_sd = float(np.hypot(centre_sd / 3, 2 * edge_sd / 3))
    published = published_ctdi_w(protocol.scanner, kv=protocol.kv, phantom_cm=phantom_cm)
    note = (
        "published for this phantom" if published is not None else "nothing published: modelled tube output"
    )
    result = xr.Dataset(
        {
            "ctdi100_centre": label("ctdi100_centre", centre),
            "ctdi100_centre_sd": label("ctdi100_centre_sd", centre_sd),
            "ctdi100_periphery": label("ctdi100_periphery", edge),
            "ctdi100_periphery_sd": label("ctdi100_periphery_sd", edge_sd),
            "ctdi_w": label("ctdi_w", centre / 3 + 2 * edge / 3),
            "ctdi_w_sd": label("ctdi_w_sd", weighted_sd),
        },
        attrs={
            "scanner": protocol.scanner.key,
            "kv": float(protocol.kv),
            "phantom_cm": int(phantom_cm),
            "bowtie": protocol.bowtie,
            "collimation_mm": float(protocol.collimation_mm),
            "histories": int(histories),
            "seed": int(seed),
        },
    )
    return with_reference(result, published, note)


def with_reference(result: xr.Dataset, ctdi_w_mgy: float | None, note: str) -> xr.Dataset:
    """The result of :func:`ctdi` with the CTDIw per 100 mAs that the machine is said to have (None: none)."""
    weighted, sd = float(result["ctdi_w"]), float(result["ctdi_w_sd"])
    factor = 1.0 if ctdi_w_mgy is None else ctdi_w_mgy / weighted
    values = {
        "ctdi_w_published": math.nan if ctdi_w_mgy is None else ctdi_w_mgy,
        "output_factor": factor,
        "output_factor_sd": 0.0 if ctdi_w_mgy is None else factor * sd / weighted,
    }
    out = result.assign({name: label(name, value) for name, value in values.items()})
    out.attrs = {**result.attrs, "note": note}
    return out


def output_factor(ctdi_result: xr.Dataset) -> float:
    """Factor from the modelled tube's output to the published one; 1.0 when none is published.

    Raises
    ------
    InputError
        No result of :func:`ctdi`.
    """
    check(ctdi_result, "output_factor", where="output_factor: ctdi_result (of dose.ctdi)")
    return float(ctdi_result["output_factor"])


def ctdi_vol(
    protocol: Protocol,
    ctdi_result: xr.Dataset,
    *,
    published: bool = True,
    output_factor: float | None = None,
) -> float:
    """CTDIvol of a protocol, mGy: CTDIw x effective mAs / 100.

    Parameters
    ----------
    protocol : Protocol
        With a tube current.
    ctdi_result : Dataset
        From :func:`ctdi` for the same kV, bowtie, phantom and collimation.
    published : bool
        Scale to the published output (the ``output_factor``); False for the modelled tube.
    output_factor : float, optional
        Instead of that of the result, for a machine calibrated at another kV (:func:`calibrate`).

    Raises
    ------
    InputError
        The result is for another beam, or the protocol has two voltages.
    """
    check(ctdi_result, "ctdi_w", "output_factor", where="ctdi_vol: ctdi_result (of dose.ctdi)")
    if protocol.second_kv is not None:
        refuse(
            "ctdi_vol: protocol",
            "one voltage (CTDIvol of two is the sum over both, each with its own ctdi and mAs)",
            f"{protocol.kv:g} and {protocol.second_kv:g} kV in {protocol.key}",
        )
    for name, value in (
        ("scanner", protocol.scanner.key),
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
    if output_factor is None:
        output_factor = float(ctdi_result["output_factor"]) if published else 1.0
    if not 0.0 < output_factor < math.inf:
        refuse("ctdi_vol: output_factor", "above 0", output_factor)
    return float(ctdi_result["ctdi_w"]) * output_factor * protocol.effective_mas / 100.0


def scan_effective_mas(dose: xr.Dataset, protocol: Protocol) -> float:
    """Effective mAs of the scan that gave a dose: a trajectory's tube current may differ from the protocol's."""
    return float(dose.attrs.get("effective_mas", protocol.effective_mas))


def dlp(protocol: Protocol, ctdi_result: xr.Dataset, *, z_range_mm: tuple[float, float]) -> float:
    """Dose-length product, mGy cm: CTDIvol times the length exposed, over-ranging included.

    The length is the table travel with the beam on: rotations x feed.

    Parameters
    ----------
    protocol : Protocol
        With a tube current.
    ctdi_result : Dataset
        From :func:`ctdi` for the same beam.
    z_range_mm : (float, float)
        Imaged range.

    Raises
    ------
    InputError
        The result is for another beam, or the range is empty, reversed or not finite.

    References
    ----------
    AAPM Report 96 (2008).
    """
    length_cm = n_rotations(protocol, z_range_mm=z_range_mm) * protocol.feed_mm / 10.0
    return ctdi_vol(protocol, ctdi_result) * length_cm
