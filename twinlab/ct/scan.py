"""Scan a phantom: line integrals once, readings and projections for any tube voltage, exposure and seed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from twinlab.ct.basis import Basis, choose_basis
from twinlab.ct.corrections import loop_tables, water_correction
from twinlab.ct.detector import Extra, detected, detected_spectrum
from twinlab.kernels import philox
from twinlab.kernels.columns import prepare_materials
from twinlab.kernels.project import project
from twinlab.kernels.spectral import readings_to_projections
from twinlab.kernels.threads import one_parallel_region
from twinlab.scanner import Protocol
from twinlab.scanner import trajectory as plan_trajectory
from twinlab.schema import check, label, refuse, spacing

_NOISE_STREAM = np.uint64(0x6E6F6973)  # keeps the detector's random numbers apart from those of transport


def scan_basis(material_names: list[str], protocol: Protocol, *, n_basis: int | None = None) -> Basis:
    """Attenuation basis for some materials and all tube voltages of a protocol's scanner.

    Raises
    ------
    InputError
        ``n_basis`` out of range.
    """
    stations = protocol.scanner.tube.kv_stations
    found = [detected_spectrum(protocol.replace(kv=kv)) for kv in stations]
    energy = np.unique(np.concatenate([e for e, _ in found]))
    spectra = np.zeros((len(found), energy.size))
    for row, (own, spectrum) in zip(spectra, found, strict=True):
        row[np.searchsorted(energy, own)] = spectrum[spectrum.shape[0] // 2]
    return choose_basis(material_names, energy_kev=energy, spectra=spectra, n_basis=n_basis)


def line_integrals(
    phantom: xr.Dataset,
    protocol: Protocol,
    trajectory: xr.Dataset,
    *,
    n_basis: int | None = None,
    rows: tuple[Any, Any] | None = None,
) -> xr.Dataset:
    """Line integrals of an attenuation basis through a phantom, from every focal spot to every detector cell.

    They hold for every tube voltage, bowtie and exposure of the scanner.

    Parameters
    ----------
    phantom : Dataset
        ``material``, ``density`` (z, y, x) and ``material_name``. Outside its grid there is vacuum.
    protocol : Protocol
        Scanner and collimation.
    trajectory : Dataset
        From :func:`twinlab.scanner.trajectory`.
    n_basis : int, optional
        Number of basis functions. Default: as few as keep transmission right to 2e-4.
    rows : (row_lo, row_hi), optional
        Detector rows to compute, ``row_lo <= row < row_hi``: numbers, or one each per view.

    Returns
    -------
    Dataset
        ``path`` (basis, view, row, channel) [g/cm2], ``basis_mu`` (basis, energy), ``mixing``, ``row_lo`` and
        ``row_hi``, ``view_angle``, ``source_z``; coordinates ``row`` [mm at the detector], ``fan_angle``
        [rad] (arc) or ``u`` [mm] (flat); geometry in attrs, and ``basis_error``.

    Raises
    ------
    InputError
        A variable is missing or of other dims or units, a grid is uneven, rows are out of range.
    """
    check(phantom, "material", "density", "material_name", where="line_integrals")
    check(trajectory, "view_angle", "source_z", where="line_integrals")
    dz, dy, dx = (spacing(phantom[axis], where="line_integrals: phantom") for axis in ("z", "y", "x"))
    z0, y0, x0 = (float(phantom[axis][0]) for axis in ("z", "y", "x"))
    scanner, n_view = protocol.scanner, trajectory.sizes["view"]
    row_mm = protocol.row_positions_mm()
    row_lo, row_hi = _row_window(rows, n_view, row_mm.size)
    material = phantom["material"].to_numpy()
    present = np.flatnonzero(np.bincount(material.ravel()))
    names = [str(name) for name in phantom["material_name"].to_numpy()]
    if present[-1] >= len(names):
        refuse(
            "line_integrals", f"material below {len(names)}, the length of material_name", int(present[-1])
        )
    basis = scan_basis([names[m] for m in present], protocol, n_basis=n_basis)
    coefficients = np.zeros((len(names), basis.basis_mu.shape[0]), np.float32)
    coefficients[present] = basis.coefficients
    columns = prepare_materials(material, phantom["density"].to_numpy(), coefficients=coefficients)
    flat = scanner.detector.shape == "flat"
    channel = ("u", scanner.channel_positions_mm()) if flat else ("fan_angle", scanner.fan_angles_rad())
    isocentre = (float(trajectory.attrs["isocentre_x_mm"]), float(trajectory.attrs["isocentre_y_mm"]))
    path = project(
        columns,
        spacing_mm=(dz, dy, dx),
        origin_mm=(z0, y0, x0),
        view_angle_rad=trajectory["view_angle"].to_numpy(),
        source_z_mm=trajectory["source_z"].to_numpy(),
        source_to_isocentre_mm=scanner.source_to_isocentre_mm,
        source_to_detector_mm=scanner.source_to_detector_mm,
        isocentre_mm=isocentre,
        fan_angle_rad=None if flat else channel[1],
        u_mm=channel[1] if flat else None,
        row_mm=row_mm,
        row_lo=row_lo,
        row_hi=row_hi,
    )
    coords = {"row": row_mm, channel[0]: ("channel", channel[1])}
    return xr.Dataset(
        {
            "path": label("path", path, coords),
            "basis_mu": label("basis_mu", basis.basis_mu, {"energy": basis.energy_kev}),
            "mixing": label("mixing", basis.mixing, {"mixed_material": list(basis.material_names)}),
            "view_angle": trajectory["view_angle"],
            "source_z": trajectory["source_z"],
            "row_lo": label("row_lo", row_lo),
            "row_hi": label("row_hi", row_hi),
        },
        attrs={
            **trajectory.attrs,
            "scanner": scanner.key,
            "source_to_isocentre_mm": scanner.source_to_isocentre_mm,
            "source_to_detector_mm": scanner.source_to_detector_mm,
            "row_pitch_mm": scanner.detector.row_pitch_mm,
            "basis_error": basis.error,
            "phantom": str(phantom.attrs.get("key", "")),
        },
    )


def _row_window(rows: tuple[Any, Any] | None, n_view: int, n_row: int) -> tuple[np.ndarray, np.ndarray]:
    low, high = (0, n_row) if rows is None else rows
    try:
        lo = np.array(np.broadcast_to(np.asarray(low, np.int64), n_view))
        hi = np.array(np.broadcast_to(np.asarray(high, np.int64), n_view))
    except ValueError:
        refuse("rows", f"a number, or one per view ({n_view})", (np.shape(low), np.shape(high)))
    if lo.min(initial=0) < 0 or hi.max(initial=0) > n_row:
        refuse("rows", f"within 0 to {n_row}", f"{lo.min()} to {hi.max()}")
    return lo, np.maximum(lo, hi)


def acquire(
    paths: xr.Dataset,
    protocol: Protocol,
    *,
    seed: int,
    realisation: int = 0,
    output_factor: float = 1.0,
    noise: bool = True,
    mas: float | None = None,
    extra: Extra | None = None,
    signals: xr.Dataset | None = None,
) -> xr.Dataset:
    """Water-corrected projections of one scan, with quantum and electronic noise.

    Parameters
    ----------
    paths : Dataset
        From :func:`line_integrals`.
    protocol : Protocol
    seed, realisation : int
        Name the noise, which is the same for any thread count and order. Scans that share both share their
        random numbers (at another kV or mAs too), which steadies comparisons; give repeated scans
        different realisations.
    output_factor : float
        See :func:`twinlab.ct.detector.detected`.
    noise : bool
        False: expected readings.
    mas : float, optional
        Tube current times rotation time. Default: the protocol's.
    extra : Extra, optional
        A further object on some rays.
    signals : Dataset, optional
        From :func:`twinlab.ct.detector.detected` with the same arguments, to save its time in repeated scans.

    Returns
    -------
    Dataset
        ``projection`` and its ``variance`` (view, row, channel), ``view_angle``, ``source_z``; geometry,
        ``mu_water_per_mm``, ``reference_kev``, ``kv``, ``mas``, ``seed`` in attrs. CT number is
        ``1000 * (mu - mu_water) / mu_water``. Rows that were not computed are 0.

    Raises
    ------
    InputError
        The exposure, seed or detector does not fit.

    Limits
    ------
    ``variance`` is linear error propagation: good above about 30 quanta a reading. Readings below a tenth
    of a mean quantum (or of the electronic noise, if greater) are raised to it before the logarithm, which
    biases projections of starved rays upwards, as on real scanners without further filtering. No scatter.
    """
    exposure = protocol.mas if mas is None else float(mas)
    if not exposure > 0:
        refuse("acquire: mas", "a number above 0", mas)
    if not 0 <= int(seed) < 2**64 or not 0 <= int(realisation) < 2**64:
        refuse("acquire: seed and realisation", "integers from 0 to 2**64 - 1", (seed, realisation))
    if signals is None:
        signals = detected(paths, protocol, output_factor=output_factor, extra=extra)
    check(signals, "signal", "signal_variance", "air_signal", where="acquire: signals")
    correction = water_correction(protocol)
    k0, k1 = philox.key(int(seed))
    signal = signals["signal"].to_numpy()
    # np.zeros, unlike zeros_like, leaves rows that nobody asked for out of memory
    projection, variance = np.zeros(signal.shape, np.float32), np.zeros(signal.shape, np.float32)
    with one_parallel_region():
        readings_to_projections(
            signal, signals["signal_variance"].to_numpy(),
            signals["air_signal"].to_numpy().astype(np.float32), np.float32(exposure /
            protocol.scanner.views_per_rotation), np.float32(signals.attrs["electronic_noise_kev"]),
            bool(noise), np.uint64(int(realisation)), k0, k1 ^ _NOISE_STREAM, *loop_tables(correction),
            signals["row_lo"].to_numpy(), signals["row_hi"].to_numpy(), projection, variance,
        )  # fmt: skip
    coords = {name: signals[name] for name in ("row", "fan_angle", "u") if name in signals.coords}
    return xr.Dataset(
        {
            "projection": label("projection", projection, coords),
            "variance": label("variance", variance, coords),
            "view_angle": signals["view_angle"],
            "source_z": signals["source_z"],
            "row_lo": signals["row_lo"],
            "row_hi": signals["row_hi"],
        },
        attrs={
            **signals.attrs,
            "mas": exposure,
            "seed": int(seed),
            "realisation": int(realisation),
            "noise": int(noise),
            "reference_kev": correction.attrs["reference_kev"],
            "mu_water_per_mm": correction.attrs["mu_water_per_mm"],
        },
    )


def simulate(
    phantom: xr.Dataset,
    protocol: Protocol,
    *,
    z_range_mm: tuple[float, float],
    seed: int,
    grid: Mapping[str, Any],
    realisation: int = 0,
    output_factor: float = 1.0,
    noise: bool = True,
    isocentre_mm: tuple[float, float] = (0.0, 0.0),
    start_angle_deg: float = 0.0,
) -> xr.DataArray:
    """CT image of a phantom: scan, correct, reconstruct.

    Parameters
    ----------
    phantom : Dataset
    protocol : Protocol
    z_range_mm : (float, float)
        Range to be imaged.
    seed, realisation, output_factor, noise
        See :func:`acquire`.
    grid : mapping
        ``x``, ``y``, ``z``: voxel centres of the image [mm].
    isocentre_mm : (x, y)
    start_angle_deg : float

    Returns
    -------
    DataArray ``hu``, dims (z, y, x)

    Raises
    ------
    InputError
        See :func:`line_integrals`, :func:`acquire` and :func:`twinlab.ct.recon.reconstruct`.
    """
    from twinlab.ct.recon import reconstruct

    path = plan_trajectory(
        protocol, z_range_mm=z_range_mm, start_angle_deg=start_angle_deg, isocentre_mm=isocentre_mm
    )
    paths = line_integrals(phantom, protocol, path)
    projections = acquire(
        paths, protocol, seed=seed, realisation=realisation, output_factor=output_factor, noise=noise
    )
    return reconstruct(projections, protocol, grid=grid, kernel=protocol.kernel)
