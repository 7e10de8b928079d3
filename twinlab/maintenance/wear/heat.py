"""Heating and cooling curves of a tube, with their balance of energy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from twinlab.kernels import wear_thermal as heat
from twinlab.kernels.wear_filament import STEFAN_BOLTZMANN
from twinlab.maintenance.wear.parameters import ScannerWear, TubeWear, load_scanner_wear, load_tube_wear
from twinlab.schema import label, refuse

KELVIN = 273.15


def heat_curve(
    segments: Sequence[tuple[float, float]],
    *,
    tube: str | TubeWear = "generic_tube",
    parts: str | ScannerWear = "generic_scanner",
    every_s: float = 10.0,
    fouling: float = 0.0,
    anode_c: float | None = None,
) -> xr.Dataset:
    """Temperatures of a median tube under a course of power.

    Parameters
    ----------
    segments : sequence of (W, s)
        Power and its length, one after the other; 0 W cools.
    tube, parts : str or parameters
        Keys, paths or models of ``protocols/wear``.
    every_s : float
        Step of the output; segments end on a point of their own.
    fouling : float
        Share of the cooler that dirt has taken.
    anode_c : float, optional
        Anode at the start, degC; by default at room temperature, as the housing.

    Returns
    -------
    Dataset, dim (time_s)
        ``power_w``, ``anode_temperature_c``, ``housing_temperature_c``, ``track_temperature_c`` (focal spot; NaN
        without beam), and the ledger ``given_j = stored_j + cooled_j``.

    Raises
    ------
    InputError
        No segments, a negative power, or a step or length that is not above 0.

    References
    ----------
    See :mod:`twinlab.kernels.wear_thermal`.
    """
    table = np.asarray(segments, float)
    if (
        table.ndim != 2
        or table.shape[1] != 2
        or not (table[:, 0] >= 0.0).all()
        or not (table[:, 1] > 0.0).all()
    ):
        refuse("heat_curve: segments", "pairs of power (W, 0 or more) and length (s, above 0)", segments)
    if not every_s > 0.0 or not 0.0 <= fouling < 1.0:
        refuse("heat_curve", "every_s above 0 and fouling from 0 to below 1", (every_s, fouling))
    t = (tube if isinstance(tube, TubeWear) else load_tube_wear(tube)).median()[0]
    p = (parts if isinstance(parts, ScannerWear) else load_scanner_wear(parts)).median()[0]
    room = float(p["room_c"]) + KELVIN
    flow = heat.coolant_flow(p["coolant_flow_l_min"], fouling, p["fouling_flow_share"])
    cooler = heat.cooler_conductance(flow, p["cooler_w_k"], fouling)
    radiating = STEFAN_BOLTZMANN * t["anode_emissivity"] * t["anode_area_m2"]
    anode = start = room if anode_c is None else anode_c + KELVIN
    housing, clock, given, cooled = room, 0.0, 0.0, 0.0
    rows = [(0.0, 0.0, anode, housing, np.nan, 0.0, 0.0)]
    for power, seconds in table:
        steps = max(1, int(np.ceil(seconds / every_s)))
        for step in range(steps):
            h = seconds / steps
            anode, housing, out = heat.advance(
                anode, housing, power, h, t["anode_j_k"], t["housing_j_k"], radiating, t["bearing_w_k"], cooler, room
            )  # fmt: skip
            clock, given, cooled = clock + h, given + power * h, cooled + out
            spot = anode + _track_rise(t, power, h * (step + 1)) if power > 0.0 else np.nan
            rows.append((clock, power, anode, housing, spot, given, cooled))
    time, power, anodes, housings, spots, given_j, cooled_j = np.array(rows).T
    stored = t["anode_j_k"] * (anodes - start) + t["housing_j_k"] * (housings - room)
    coords = {"time_s": ("time_s", time, {"units": "s"})}
    values = {
        "power_w": power,
        "anode_temperature_c": anodes - KELVIN,
        "housing_temperature_c": housings - KELVIN,
        "track_temperature_c": spots - KELVIN,
        "given_j": given_j,
        "stored_j": stored,
        "cooled_j": cooled_j,
    }
    return xr.Dataset({name: label(name, array, coords) for name, array in values.items()})


def _track_rise(t: np.void, power_w: float, seconds: float) -> float:
    """Focal spot above the bulk after some seconds of beam, K."""
    where = t["spot_length_m"], t["track_radius_m"]
    spot = heat.spot_rise(power_w, t["spot_width_m"], *where, t["rotor_hz"], t["track_effusivity"])
    band = heat.band_rise(power_w, seconds, *where, t["track_effusivity"], t["band_resistance_k_w"])
    return float(spot + band)
