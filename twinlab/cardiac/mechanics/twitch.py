"""Active tension of a twitch that starts with the electrical activation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from twinlab.schema import refuse


def tension(
    activation_ms: Any,
    time_ms: float,
    *,
    peak_kpa: Any = 100.0,
    delay_ms: float = 15.0,
    rise_ms: float = 80.0,
    fall_ms: float = 100.0,
    duration_ms: float = 400.0,
    period_ms: float | None = None,
) -> np.ndarray:
    """Tension ``peak tanh^2(s / rise) tanh^2((duration - s) / fall)`` at ``s`` after activation and delay.

    The dependence on length is that of :class:`twinlab.cardiac.mechanics.ActiveLaw`, which multiplies it in
    the element.

    Parameters
    ----------
    activation_ms : array
        Activation time; NaN (not reached) gives no tension.
    time_ms : float
    peak_kpa : float or array
        Tension of the isometric peak; 0 in scar.
    delay_ms, rise_ms, fall_ms, duration_ms : float
        Electromechanical delay, time constants, length of the twitch. The form is published, the default
        time constants are settings for 75 beats a minute.
    period_ms : float, optional
        Length of the beat, for time beyond it.

    Returns
    -------
    array like ``activation_ms``, kPa

    Raises
    ------
    InputError
        Negative peak or a time constant that is not above zero.

    References
    ----------
    Niederer, Plank, Chinchapatnam et al. 2011, Cardiovasc Res 89, 336, appendix (the model called tanh stress).

    Examples
    --------
    >>> tension(np.array([0.0, np.nan]), 10.0).tolist()
    [0.0, 0.0]
    """
    peak = np.asarray(peak_kpa, float)
    times = {"rise_ms": rise_ms, "fall_ms": fall_ms, "duration_ms": duration_ms}
    if min(times.values()) <= 0:
        refuse("tension", "time constants above zero", times)
    if not np.all(peak >= 0):
        refuse("tension", "peak_kpa not below zero", peak.min())
    s = time_ms - np.asarray(activation_ms, float) - delay_ms
    if period_ms is not None:
        if not period_ms >= duration_ms:
            refuse("tension", f"period_ms of at least the twitch ({duration_ms:g} ms)", period_ms)
        s = np.where(s >= 0, np.mod(s, period_ms), s)
    on = (s > 0) & (s < duration_ms)
    s = np.where(on, s, 0.0)
    return np.where(on, peak * np.tanh(s / rise_ms) ** 2 * np.tanh((duration_ms - s) / fall_ms) ** 2, 0.0)


@dataclass(frozen=True)
class Twitch:
    """Activation time (tet,) in ms and the arguments of :func:`tension`; calling it gives the tension at a time."""

    activation_ms: np.ndarray
    peak_kpa: Any = 100.0
    delay_ms: float = 15.0
    rise_ms: float = 80.0
    fall_ms: float = 100.0
    duration_ms: float = 400.0
    period_ms: float | None = None

    def __call__(self, time_ms: float) -> np.ndarray:
        """Tension (tet,) in kPa."""
        settings = {
            name: getattr(self, name) for name in self.__dataclass_fields__ if name != "activation_ms"
        }
        return tension(self.activation_ms, time_ms, **settings)


def per_tet(heart: xr.Dataset, values: Any) -> np.ndarray:
    """Values on tetrahedra: as given if (tet,), else the mean of the four corners; one number is repeated.

    Parameters
    ----------
    heart : Dataset
        Linear or quadratic mesh.
    values : float, (tet,) or (node,)
        Nodes may be those of the linear mesh. NaN in one corner is left out of the mean.

    Raises
    ------
    InputError
        Another number of values.
    """
    array = np.asarray(values, float)
    tet = np.asarray(heart["tet"])[:, :4]
    if array.ndim == 0:
        return np.full(len(tet), float(array))
    if array.shape == (len(tet),):
        return array
    if array.shape != (heart.sizes["node"],) and array.shape != (int(tet.max()) + 1,):
        refuse("per_tet", f"{len(tet)} values on tetrahedra or {heart.sizes['node']} on nodes", array.shape)
    there = np.isfinite(array[tet])
    total = np.where(there, array[tet], 0.0).sum(1)
    return np.where(there.any(1), total / np.maximum(there.sum(1), 1), np.nan)
