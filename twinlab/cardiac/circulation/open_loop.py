"""Open loop: two- and three-element Windkessel, driven by a flow or by a ventricle of given filling."""

from __future__ import annotations

import math

import numpy as np
import xarray as xr
from pydantic import Field

from twinlab.cardiac.circulation.coupled import Ventricle
from twinlab.cardiac.circulation.parameters import Chamber, Valve
from twinlab.kernels.heart_loop import activation
from twinlab.schema import Model, label, refuse


class Windkessel(Model):
    """Arterial load: peripheral resistance and compliance in parallel, behind a characteristic resistance.

    Attributes
    ----------
    resistance_mmhg_s_per_ml : float
        Peripheral.
    compliance_ml_per_mmhg : float
    characteristic_mmhg_s_per_ml : float
        0: two elements (Frank 1899); above: three (Westerhof 1971).
    venous_pressure_mmhg : float
        Behind the resistance.
    """

    resistance_mmhg_s_per_ml: float = Field(default=0.95, gt=0)
    compliance_ml_per_mmhg: float = Field(default=1.3, gt=0)
    characteristic_mmhg_s_per_ml: float = Field(default=0.0, ge=0)
    venous_pressure_mmhg: float = 0.0


def windkessel_impedance(load: Windkessel, frequency_hz: np.ndarray) -> np.ndarray:
    """Input impedance ``Zc + R / (1 + i w R C)``, mmHg s/ml.

    References
    ----------
    Westerhof N et al. 2009, Med Biol Eng Comput 47:131, eq. 2.

    Examples
    --------
    >>> complex(windkessel_impedance(Windkessel(resistance_mmhg_s_per_ml=1.0), np.array([0.0]))[0])
    (1+0j)
    """
    omega = 2.0 * np.pi * np.asarray(frequency_hz, float)
    r, c = load.resistance_mmhg_s_per_ml, load.compliance_ml_per_mmhg
    return load.characteristic_mmhg_s_per_ml + r / (1.0 + 1j * omega * r * c)


def windkessel(
    flow_ml_per_s: np.ndarray, *, dt_ms: float, load: Windkessel, start_mmhg: float | None = None
) -> np.ndarray:
    """Pressure at the inlet for a flow given at even times; exact for a flow that is linear between them.

    Parameters
    ----------
    flow_ml_per_s : array (n,)
        Inflow at the times ``0, dt_ms, ...``.
    dt_ms : float
    load : Windkessel
    start_mmhg : float, optional
        Pressure over the compliance at first. Default: the state that repeats, where the flow is one period of a
        periodic flow (the value that would follow the last is the first).

    Returns
    -------
    array (n,)
        Inlet pressure, mmHg.

    Raises
    ------
    InputError
        Fewer than two values, not finite, or a step that is not above 0.
    """
    flow = np.asarray(flow_ml_per_s, float)
    if flow.ndim != 1 or flow.size < 2 or not np.isfinite(flow).all():
        refuse("windkessel: flow", "two finite values or more in one row", f"shape {flow.shape}")
    if not dt_ms > 0:
        refuse("windkessel: dt_ms", "a step above 0", dt_ms)
    r, tau = load.resistance_mmhg_s_per_ml, load.resistance_mmhg_s_per_ml * load.compliance_ml_per_mmhg
    x = 1e-3 * dt_ms / tau
    keep = math.exp(-x)
    late = 1.0 - (1.0 - keep) / x  # weights of the two ends of a linear piece
    early = (1.0 - keep) / x - keep

    def run(first: float, last: int) -> np.ndarray:
        over = np.empty(last + 1)  # pressure over the compliance, above venous
        over[0] = first
        for k in range(last):
            now, then = flow[k], flow[(k + 1) % flow.size]
            over[k + 1] = keep * over[k] + r * (early * now + late * then)
        return over

    if start_mmhg is None:
        end = run(0.0, flow.size)[-1]
        first = end / (1.0 - keep**flow.size)
    else:
        first = start_mmhg - load.venous_pressure_mmhg
    over = run(first, flow.size - 1)
    return over + load.venous_pressure_mmhg + load.characteristic_mmhg_s_per_ml * flow


def ventricle_and_windkessel(
    ventricle: Chamber | Ventricle,
    *,
    load: Windkessel,
    filling_mmhg: float = 8.0,
    inlet: Valve | None = None,
    outlet: Valve | None = None,
    heart_rate_bpm: float = 70.0,
    start_volume_ml: float = 120.0,
    start_mmhg: float = 80.0,
    steps_per_beat: int = 800,
    beats: int = 20,
) -> xr.Dataset:
    """One ventricle between a constant filling pressure and a Windkessel; its last beat.

    Backward Euler with Newton on the volume. The inlet valve has 0.02 mmHg s/ml by default, more than in the closed
    loop, because there is no atrium that empties.

    Parameters
    ----------
    ventricle : Chamber or Ventricle
        An elastance, or anything with ``pressure``, ``commit``, ``rollback``.
    load : Windkessel
    filling_mmhg : float
        Pressure in front of the inlet valve.
    inlet, outlet : Valve, optional
    heart_rate_bpm, start_volume_ml, start_mmhg, steps_per_beat, beats
        ``start_mmhg``: pressure over the compliance at first.

    Returns
    -------
    Dataset
        ``ventricle_pressure``, ``ventricle_volume``, ``arterial_pressure``, ``aortic_flow`` (time, ms);
        ``stroke_volume``, ``lv_ef``, ``lv_edv``, ``lv_esv``; attrs ``change_ml`` over the last beat.

    Raises
    ------
    InputError
        Settings that cannot be, or no solution in a step (the reason is in the message).
    """
    if steps_per_beat < 50 or beats < 1:
        refuse("ventricle_and_windkessel", "50 steps_per_beat or more and a beat", (steps_per_beat, beats))
    for name, value in {"heart_rate_bpm": heart_rate_bpm, "start_volume_ml": start_volume_ml}.items():
        if not (np.isfinite(value) and value > 0):
            refuse(f"ventricle_and_windkessel: {name}", "a number above 0", value)
    if not np.isfinite([filling_mmhg, start_mmhg]).all():
        refuse("ventricle_and_windkessel", "finite filling_mmhg and start_mmhg", (filling_mmhg, start_mmhg))
    inlet = inlet or Valve(open_mmhg_s_per_ml=0.02)
    outlet = outlet or Valve()
    period, h = 60.0 / heart_rate_bpm, 60.0 / heart_rate_bpm / steps_per_beat
    r, c, z = load.resistance_mmhg_s_per_ml, load.compliance_ml_per_mmhg, load.characteristic_mmhg_s_per_ml
    volume, stored = start_volume_ml, start_mmhg
    rows, before = np.empty((steps_per_beat + 1, 4)), volume
    for beat in range(beats):
        before, rows[0] = volume, rows[-1]
        for k in range(steps_per_beat):
            time = beat * period + (k + 1) * h
            # pressure over the compliance after the step, linear in the outflow
            held = (stored + h / c * load.venous_pressure_mmhg / r) / (1.0 + h / (r * c))
            per_flow = h / c / (1.0 + h / (r * c))
            guess = volume
            for _ in range(50):
                p, slope = _pressure(ventricle, guess, time, period)
                fill = filling_mmhg - p
                g_in = 1.0 / (inlet.open_mmhg_s_per_ml if fill > 0 else inlet.closed_mmhg_s_per_ml)
                push = p - held
                g_out = 1.0 / (
                    (outlet.open_mmhg_s_per_ml if push > 0 else outlet.closed_mmhg_s_per_ml) + z + per_flow
                )
                wrong = guess - volume - h * (fill * g_in - push * g_out)
                update = wrong / (1.0 + h * slope * (g_in + g_out))
                guess -= max(-10.0, min(10.0, update))
                if abs(update) < 1e-9:
                    break
            else:
                refuse(
                    "ventricle_and_windkessel",
                    "a solution in every step (take more steps)",
                    f"none at {time:.4f} s",
                )
            if not isinstance(ventricle, Chamber):
                ventricle.commit()
            volume, flow = guess, push * g_out
            stored = held + per_flow * flow
            rows[k + 1] = p, volume, stored + z * flow, flow
    top, low = rows[:, 1].max(), rows[:, 1].min()
    coords = {"time": np.linspace(0.0, 1000.0 * period, steps_per_beat + 1)}
    names = ("ventricle_pressure", "ventricle_volume", "arterial_pressure", "aortic_flow")
    result = xr.Dataset({name: label(name, rows[:, k], coords) for k, name in enumerate(names)})
    for name, value in {
        "lv_edv": top,
        "lv_esv": low,
        "lv_ef": 100.0 * (top - low) / top,
        "stroke_volume": rows[1:, 3].sum() * h,
    }.items():
        result[name] = label(name, value)
    result.attrs["change_ml"] = abs(volume - before)
    return result


def _pressure(
    ventricle: Chamber | Ventricle, volume: float, time_s: float, period_s: float
) -> tuple[float, float]:
    if not isinstance(ventricle, Chamber):
        return ventricle.pressure(volume, 1000.0 * time_s)
    act = activation(time_s, ventricle.onset_s, ventricle.contraction_s, ventricle.relaxation_s, period_s)
    elastance = ventricle.passive_elastance_mmhg_per_ml + ventricle.active_elastance_mmhg_per_ml * act
    return elastance * (volume - ventricle.unstressed_volume_ml), elastance
