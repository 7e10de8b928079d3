"""Scan a phantom: readings and projections for any tube voltage, exposure and seed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from twinlab.ct.corrections import loop_tables, water_correction
from twinlab.ct.detector import Extra, detected
from twinlab.ct.paths import line_integrals
from twinlab.kernels import philox
from twinlab.kernels.spectral import readings_to_projections
from twinlab.kernels.threads import one_parallel_region
from twinlab.scanner import Protocol
from twinlab.scanner import trajectory as plan_trajectory
from twinlab.schema import check, label, refuse

_NOISE_STREAM = np.uint64(0x6E6F6973)  # keeps the detector's random numbers apart from those of transport


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
        From :func:`twinlab.ct.line_integrals`.
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
        See :func:`twinlab.ct.line_integrals`, :func:`acquire` and :func:`twinlab.ct.recon.reconstruct`.
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
