"""Scan a phantom: readings and projections for any tube voltage, exposure and seed."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from twinlab.ct.corrections import water_correction
from twinlab.ct.detector import Extra, detected, one_voltage
from twinlab.ct.electronics import Faults, detector_chain
from twinlab.ct.sampling import sub_samples
from twinlab.kernels.device import Device, resolve
from twinlab.scanner import Protocol
from twinlab.schema import check, label, refuse


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
    faults: Faults | None = None,
    device: Device = "auto",
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
        Tube current times rotation time. Default: the protocol's, or that of ``tube_current`` (view) in
        ``paths``, which is followed from view to view.
    extra : Extra, optional
        A further object on some rays.
    signals : Dataset, optional
        From :func:`twinlab.ct.detector.detected` with the same arguments, to save its time in repeated scans.
    faults : Faults, optional
        Drifted, offset and dead cells, and the noise of the air scan (:mod:`twinlab.ct.electronics`).
    device : "auto", "cpu" or "cuda"
        Where signals are summed and readings drawn: the same random numbers on both, readings equal up to rounding.

    Returns
    -------
    Dataset
        ``projection`` and its ``variance`` (view, row, channel), ``view_angle``, ``source_z``; geometry,
        ``mu_water_per_mm``, ``reference_kev``, ``kv``, ``mas``, ``seed`` in attrs. CT number is
        ``1000 * (mu - mu_water) / mu_water``. Rows that were not computed are 0.

    Raises
    ------
    InputError
        The exposure, seed or detector does not fit, there are two tube voltages, or the protocol's ``sampling``
        has more points than ``paths``.

    Limits
    ------
    ``variance`` is linear error propagation: good above about 30 quanta a reading. Readings below a tenth
    of a mean quantum (or of the electronic noise, if greater) are raised to it before the logarithm, which
    biases projections of starved rays upwards, as on real scanners without further filtering. No scatter:
    see :func:`twinlab.ct.scan_phantom`.
    """
    where = resolve(device, where="acquire")
    one_voltage(paths, protocol, where="acquire")
    if signals is None:
        points = len(sub_samples(protocol))
        if points > 1 and "sample" not in paths.attrs:
            refuse(
                "acquire: paths",
                "line integrals of one stated sample, signals=, or a protocol with a sampling of 1 "
                "(ct.scan_phantom averages over the points)",
                f"a protocol with {points} sampling points",
            )
        signals = detected(paths, protocol, output_factor=output_factor, extra=extra, device=where)
    check(signals, "signal", "signal_variance", "air_signal", where="acquire: signals")
    per_view = mas_per_view(signals, protocol, mas=mas)
    exposure = float(np.mean(per_view, dtype=float)) * protocol.scanner.views_per_rotation
    correction = water_correction(protocol)
    chain = detector_chain(
        protocol, signals, correction, seed=seed, realisation=realisation, noise=noise, faults=faults,
        mas=exposure / protocol.scanner.views_per_rotation, device=where,
    )  # fmt: skip
    signal, second = signals["signal"].to_numpy(), signals["signal_variance"].to_numpy()
    if not chain.plain:
        signal, second = signal.copy(), second.copy()  # the chain spreads them in place
    # np.zeros, unlike zeros_like, leaves rows that nobody asked for out of memory
    projection, variance = np.zeros(signal.shape, np.float32), np.zeros(signal.shape, np.float32)
    window = signals["row_lo"].to_numpy(), signals["row_hi"].to_numpy()
    chain.read(
        signal, second, mas=per_view, first_view=0, window=window, projection=projection, variance=variance
    )
    coords = {name: signals[name] for name in ("row", "fan_angle", "u") if name in signals.coords}
    kept = ("view_angle", "source_z", "row_lo", "row_hi", "focal_shift", "tube_current")
    return xr.Dataset(
        {
            "projection": label("projection", projection, coords),
            "variance": label("variance", variance, coords),
            **{name: signals[name] for name in kept if name in signals},
        },
        attrs={
            **signals.attrs,
            **scan_attrs(correction, seed=seed, realisation=realisation, noise=noise),
            "mas": exposure if mas is None else float(mas),
        },
    )


def mas_per_view(views: xr.Dataset, protocol: Protocol, *, mas: float | None = None) -> NDArray[np.float32]:
    """mAs of every view: even, or following ``tube_current`` [mA] where the views have one.

    Parameters
    ----------
    views : Dataset
        A trajectory, line integrals or signals.
    protocol : Protocol
    mas : float, optional
        Mean mAs per rotation. Default: what ``tube_current`` gives, or the protocol's.

    Returns
    -------
    float32 array (view,)

    Raises
    ------
    InputError
        A mean or a view's current that is not above 0.
    """
    n_view, per_rotation = views.sizes["view"], protocol.scanner.views_per_rotation
    if "tube_current" in views:
        check(views, "tube_current", where="acquire")
        current = views["tube_current"].to_numpy().astype(float)
        if not (np.isfinite(current) & (current > 0)).all():
            refuse("acquire: tube_current", "above 0 mA in every view", f"{current.min():g}")
        mean = current.mean() * protocol.rotation_time_s if mas is None else float(mas)
        relative = current / current.mean()
    else:
        mean, relative = protocol.mas if mas is None else float(mas), np.ones(n_view)
    if not mean > 0:
        refuse("acquire: mas", "a number above 0", mas)
    return (mean / per_rotation * relative).astype(np.float32)


def scan_attrs(correction: xr.Dataset, *, seed: int, realisation: int, noise: bool) -> dict[str, Any]:
    """What names a scan's noise and its reference energy, for the attrs of projections."""
    return {
        "seed": int(seed),
        "realisation": int(realisation),
        "noise": int(noise),
        "reference_kev": correction.attrs["reference_kev"],
        "mu_water_per_mm": correction.attrs["mu_water_per_mm"],
    }
