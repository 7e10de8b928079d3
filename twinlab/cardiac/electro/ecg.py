"""Pseudo-electrocardiogram: electrodes on an estimated torso, twelve leads, QRS duration."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import xarray as xr

from twinlab.cardiac.electro.cells import single_cell
from twinlab.cardiac.electro.lead_field import electrode_weights
from twinlab.cardiac.electro.tissue import excitable
from twinlab.schema import label, refuse

LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
ELECTRODES = ("RA", "LA", "LL", "V1", "V2", "V3", "V4", "V5", "V6")


def electrode_positions(
    heart_mm: tuple[float, float, float],
    *,
    midline_x_mm: float | None = None,
    chest_width_mm: float = 320.0,
    chest_depth_mm: float = 220.0,
    front_y_mm: float | None = None,
) -> dict[str, tuple[float, float, float]]:
    """Positions of nine electrodes on a torso of elliptical section around a heart.

    Parameters
    ----------
    heart_mm : tuple of float
        Centre of the ventricles: x to the left, y to posterior, z to the head.
    midline_x_mm : float, optional
        Of the sternum; by default 25 mm to the right of the heart's centre.
    chest_width_mm, chest_depth_mm : float
        Axes of the section.
    front_y_mm : float, optional
        Of the chest wall at the sternum; by default 55 mm in front of the heart's centre.

    Returns
    -------
    dict
        ``RA``, ``LA``, ``LL``, ``V1`` to ``V6``: (x, y, z) in mm. V1 and V2 at the fourth intercostal space beside
        the sternum, V4 to V6 a rib lower along the section at the midclavicular, anterior and middle axillary
        line, V3 between V2 and V4; limb electrodes at the shoulders and the left hip.

    Notes
    -----
    An estimate for an average adult. Give measured positions where there are any: precordial amplitudes change
    by tens of percent over a few centimetres.

    References
    ----------
    Kligfield P et al. 2007, Circulation 115, 1306 (placement of the electrodes).
    """
    x0 = heart_mm[0] - 25.0 if midline_x_mm is None else midline_x_mm
    front = heart_mm[1] - 55.0 if front_y_mm is None else front_y_mm
    a, b = 0.5 * chest_width_mm, 0.5 * chest_depth_mm
    if not (a > 0 and b > 0):
        refuse(
            "electrode_positions",
            "positive chest_width_mm and chest_depth_mm",
            (chest_width_mm, chest_depth_mm),
        )
    z = heart_mm[2]

    def skin(degrees: float, height: float) -> tuple[float, float, float]:
        """Point of the section, 0 at the sternum and 90 degrees at the left side."""
        t = np.radians(degrees)
        return float(x0 + a * np.sin(t)), float(front + b - b * np.cos(t)), float(z + height)

    out = {
        "RA": (x0 - a, front + b, z + 190.0),
        "LA": (x0 + a, front + b, z + 190.0),
        "LL": (x0 + 0.6 * a, front + b, z - 320.0),
        "V1": skin(-9.0, 25.0),
        "V2": skin(9.0, 25.0),
        "V4": skin(35.0, -10.0),
        "V5": skin(62.0, -10.0),
        "V6": skin(90.0, -10.0),
    }
    out["V3"] = skin(22.0, 7.5)
    return {name: out[name] for name in ELECTRODES}


def twelve_leads(pseudo_ecg: xr.DataArray) -> xr.DataArray:
    """Twelve leads from the potentials of the nine electrodes.

    Limb leads by Einthoven and Goldberger, chest leads against the mean of the limb electrodes (Wilson).

    Parameters
    ----------
    pseudo_ecg : DataArray, dims (electrode, time), mV

    Returns
    -------
    DataArray lead_ecg, dims (lead, time), mV

    Raises
    ------
    InputError
        An electrode is missing.
    """
    missing = sorted(set(ELECTRODES) - set(map(str, pseudo_ecg["electrode"].values)))
    if missing:
        refuse("twelve_leads", f"electrodes {', '.join(ELECTRODES)}", f"none at {', '.join(missing)}")
    p = {e: pseudo_ecg.sel(electrode=e).values for e in ELECTRODES}
    ra, la, ll = p["RA"], p["LA"], p["LL"]
    wilson = (ra + la + ll) / 3.0
    limbs = [la - ra, ll - ra, ll - la, ra - 0.5 * (la + ll), la - 0.5 * (ra + ll), ll - 0.5 * (ra + la)]
    chest = [p[f"V{k}"] - wilson for k in range(1, 7)]
    return label(
        "lead_ecg", np.array(limbs + chest), {"lead": list(LEADS), "time": pseudo_ecg["time"].values}
    )


def qrs_duration(ecg: xr.DataArray, *, share: float = 0.05, gap_ms: float = 40.0) -> float:
    """Duration of the first complex, ms.

    From the first time that the leads' root mean square rate of change exceeds ``share`` of its maximum in the QRS
    to the last time before it stays below for ``gap_ms``.

    Parameters
    ----------
    ecg : DataArray, dims (lead or electrode, time), mV
        Time in ms, even.
    share, gap_ms : float

    Returns
    -------
    float

    Raises
    ------
    InputError
        The record is too short or flat.
    """
    t = np.asarray(ecg["time"], dtype=float)
    if t.size < 5 or not np.isfinite(ecg).all():
        refuse("qrs_duration", "five samples or more, all finite", f"{t.size}")
    rate = np.sqrt((np.gradient(np.asarray(ecg, dtype=float), t, axis=1) ** 2).mean(axis=0))
    if not rate.max() > 0:
        refuse("qrs_duration", "a record with a deflection", "a flat one")
    above = np.flatnonzero(rate > share * rate.max())
    breaks = np.flatnonzero(np.diff(t[above]) > gap_ms)
    last = above[breaks[0]] if breaks.size else above[-1]
    return float(t[last] - t[above[0]])


def ecg_of_activation(
    voxels: xr.Dataset,
    activation: xr.DataArray,
    electrodes_mm: Mapping[str, tuple[float, float, float]],
    *,
    cell: str = "tp06_epi",
    end_ms: float = 500.0,
    sample_ms: float = 1.0,
) -> xr.DataArray:
    """Pseudo-electrocardiogram of given activation times: each cell repeats a template action potential.

    Parameters
    ----------
    voxels : Dataset
        As for :func:`twinlab.cardiac.electro.eikonal`.
    activation : DataArray, dims (z, y, x), ms
        For example of the eikonal model; where it is NaN (a scar that does not conduct) the muscle rests. Nodes at
        the edge of such muscle go with what is active beside them.
    electrodes_mm : mapping of str to (x, y, z)
    cell : str
        Kind of cell of the template.
    end_ms, sample_ms : float

    Returns
    -------
    DataArray pseudo_ecg, dims (electrode, time), mV

    Raises
    ------
    InputError
        Unusable voxels, electrodes or times.

    References
    ----------
    Gima K, Rudy Y 2002, Circ. Res. 90, 889.
    """
    if not np.isfinite(activation).any() or activation.shape != voxels["wall"].shape:
        refuse("ecg_of_activation", "activation times on the voxels' grid", f"shape {activation.shape}")
    muscle = excitable(voxels, core=1.0, where="ecg_of_activation")
    weights = electrode_weights(muscle, electrodes_mm)
    late = 2.0 * end_ms  # of what is never reached
    times_of = np.asarray(activation, dtype=float)
    reached = muscle.node_mean(np.isfinite(times_of).astype(float))
    at = muscle.node_mean(np.nan_to_num(times_of, nan=0.0)) / np.where(reached > 0, reached, 1.0)
    at = np.where(reached > 0, at, late)
    template = single_cell(cell, dt_ms=0.02, sample_ms=0.1, start_ms=20.0, cycle_ms=max(600.0, end_ms))
    v = np.asarray(template)
    t = np.asarray(template["time"]) - float(template["time"][int(np.argmax(v > -40.0))])
    times = np.arange(0.0, end_ms + 0.5 * sample_ms, sample_ms)
    out = np.stack([weights @ np.interp(now - at, t, v) for now in times], axis=1)
    return label("pseudo_ecg", out, {"electrode": list(electrodes_mm), "time": times})
