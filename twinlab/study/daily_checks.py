"""Daily quality control of a worn scanner: the phantom scanned as the scanner is on each day, and measured.

Wear acts where it does in a scanner: a lower output on the quanta, a wider focal spot on the rays, drifted and dead
cells on the readings. One slice of water with thin rods stands for the phantom, a few rows for the detector.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import xarray as xr

from twinlab import ct
from twinlab.ct.electronics import Faults
from twinlab.ct.sampling import sub_samples
from twinlab.keys import content_key, source_key
from twinlab.maintenance import wear
from twinlab.phantom import load_recipe
from twinlab.phantom.recipes import Recipe
from twinlab.phantom.shapes import Cylinder, Point
from twinlab.scanner import Protocol, Sampling, load_protocol, trajectory
from twinlab.schema import label, refuse
from twinlab.study import store
from twinlab.study.daily_measures import ROD_DIAMETER_MM, ROD_REACH_MM, RODS, Measured, measure

Calibration = Literal["none", "daily"]
SPOT_STEP = 0.01  # focal spot factors are rounded to it, so that days share rays
EVEN_MM, FINE_MM = 1.0, 0.25  # pixels
FINE_KERNEL = "sharp"  # in which a focal spot shows
ROD_MATERIAL = "aluminum"

AIR_ROTATIONS = 4  # that an air calibration averages
_SIGNALS_KEPT = 8  # of some 100 MB at most
_MEASURED: dict[str, Measured] = {}


def daily_protocol(
    protocol: str | Protocol = "qc_axial",
    *,
    rows: int = 4,
    views: int = 492,
    focal_spot_mm: float = 0.9,
    focal_points: int = 3,
) -> Protocol:
    """A quality-control protocol made quick: few rows, fewer views, a focal spot with a width.

    Parameters
    ----------
    protocol : str or Protocol
        Axial.
    rows : int
        Detector rows, all in one slice.
    views : int
        Per rotation.
    focal_spot_mm : float
        Nominal width and length.
    focal_points : int
        Points of the width that a reading is averaged over.

    Raises
    ------
    InputError
        Not an axial protocol, or numbers that its scanner cannot have.
    """
    own = load_protocol(protocol) if isinstance(protocol, str) else protocol
    if own.mode != "axial":
        refuse("daily_protocol", "an axial protocol", f"{own.key}, {own.mode}")
    tube = own.scanner.tube.model_copy(update={"focal_spot_mm": (float(focal_spot_mm), float(focal_spot_mm))})
    scanner = own.scanner.model_copy(update={"views_per_rotation": int(views), "tube": tube})
    width = rows * scanner.row_pitch_isocentre_mm
    return own.replace(
        scanner=scanner,
        collimation_mm=width,
        slice_thickness_mm=width,
        slice_interval_mm=width,
        sampling=Sampling(focal_width=focal_points),
    )


def daily_phantom() -> Recipe:
    """Body of the quality phantom ``qc_20cm`` with four rods of aluminium for the resolution, without inserts."""
    recipe = load_recipe("qc_20cm")
    assert isinstance(recipe, Recipe)
    body = recipe.shapes[0]
    assert isinstance(body, Cylinder)
    rods = tuple(
        Cylinder(
            shape="cylinder", name=f"rod_{k}", material=ROD_MATERIAL, diameter_mm=ROD_DIAMETER_MM,
            length_mm=body.length_mm, centre_mm=Point(x=x, y=y, z=0.0),
        )
        for k, (x, y) in enumerate(RODS)
    )  # fmt: skip
    return recipe.model_copy(update={"shapes": (body, *rods)})


def worn_days(state: xr.Dataset, days: Sequence[int], protocol: Protocol) -> list[xr.Dataset]:
    """Effects of a simulated scanner's wear on some days (:func:`twinlab.maintenance.wear.image_effects`).

    Parameters
    ----------
    state : Dataset, dim day
        From :func:`twinlab.maintenance.wear.simulate_scanner`.
    days : sequence of int
    protocol : Protocol
        Gives the detector; its cells are those of the whole one, so that as many are dead in a few rows as should be.
    """
    shape = protocol.scanner.detector.n_rows, protocol.scanner.detector.n_channels
    return [wear.image_effects(state, day=int(day), shape=shape) for day in days]


def check_days(
    effects: Sequence[xr.Dataset],
    *,
    protocol: Protocol | None = None,
    calibration: Calibration = "none",
    repeats: int = 3,
    seed: int = 1,
    common_noise: bool = False,
    output_factor: float = 1.0,
    outputs: str | Path | None = None,
) -> xr.Dataset:
    """Scan the quality phantom on each day with the scanner as it is, and measure.

    Parameters
    ----------
    effects : sequence of Dataset
        One for each day, from :func:`worn_days`: ``output_factor`` and ``focal_spot_factor`` (scalars),
        ``channel_gain`` (row, channel), ``dead_cell`` (cell, cell_axis) and the attr ``day``, ascending. Cells are
        those of the whole detector or of the open rows. What is left out has not worn.
    protocol : Protocol, optional
        Default: :func:`daily_protocol`.
    calibration : "none" or "daily"
        "none": gains as they have drifted, dead cells without signal. "daily": an air scan on the same day takes the
        drift out (and leaves its noise), dead cells are known and interpolated.
    repeats : int
        Scans of a day, two or more; their differences give noise and uncertainties.
    seed : int
    common_noise : bool
        Days share their random numbers, for smooth curves, instead of having their own, as measurements do.
    output_factor : float
        See :func:`twinlab.ct.acquire`.
    outputs : path, optional
        Folder of outputs where measured days are kept (``cache/daily-<key>.json``). In memory they always are: equal
        effects under equal noise are scanned once.

    Returns
    -------
    Dataset, dim day
        ``qc_water``, ``qc_noise``, ``qc_uniformity``, ``qc_rings`` [HU], ``qc_mtf50``, ``qc_mtf10`` [1/mm], each with
        its standard uncertainty ``_sd``.

    Raises
    ------
    InputError
        No effects, days that do not ascend, factors that are not positive, cells of another detector, fewer than two
        repeats.

    Limits
    ------
    One thin slice: noise is that of its thickness, not the protocol's. The reference detector is taken as perfect, so
    that a lower output changes noise, not CT numbers. Focal spots are widened in steps of 1 %. The spectrum does not
    change with the track.
    """
    own = protocol or daily_protocol()
    worn = [_effects_of(e, own) for e in effects]
    day = [int(e.attrs.get("day", k)) for k, e in enumerate(effects)]
    if not worn or any(b <= a for a, b in itertools.pairwise(day)):
        refuse("check_days: effects", "one Dataset a day or more, attr day ascending", day)
    if repeats < 2 or calibration not in ("none", "daily"):
        refuse("check_days", "repeats of 2 or more, calibration 'none' or 'daily'", (repeats, calibration))
    found = []
    for number, one in zip(day, worn, strict=True):
        own_seed = seed if common_noise else int(content_key("day", seed, number), 16)
        settings: dict[str, Any] = {
            "calibration": calibration,
            "repeats": repeats,
            "seed": own_seed,
            "output_factor": output_factor,
        }
        key = content_key(source_key(), own, one, settings)
        found.append(_kept(key, outputs) or _keep(key, outputs, _check(own, one, **settings)))
    fields = {}
    for name in found[0]:
        fields[name] = label(name, [m[name][0] for m in found], {"day": day})
        fields[f"{name}_sd"] = label(f"{name}_sd", [m[name][1] for m in found], {"day": day})
    attrs = {"protocol": own.key, "calibration": calibration, "repeats": repeats, "seed": seed}
    return xr.Dataset(fields, attrs={**attrs, "slice_thickness_mm": own.slice_thickness_mm})


def _effects_of(effects: xr.Dataset, protocol: Protocol) -> dict[str, Any]:
    """What a day's scan needs: factors, gains and dead cells of the rows that are open."""
    factors = {}
    for name in ("output_factor", "focal_spot_factor"):
        factors[name] = float(effects[name].item()) if name in effects else 1.0
        if not (np.isfinite(factors[name]) and factors[name] > 0):
            refuse(f"check_days: {name}", "a number above 0", factors[name])
    detector, n_row = protocol.scanner.detector, protocol.row_positions_mm().size
    open_rows, whole = (n_row, detector.n_channels), (detector.n_rows, detector.n_channels)
    gain = np.ones(whole)
    if "channel_gain" in effects:
        gain = effects["channel_gain"].transpose("row", "channel").to_numpy()
    if gain.shape not in (open_rows, whole) or not np.isfinite(gain).all():
        refuse("check_days: channel_gain", f"finite gains of {open_rows} or {whole} cells", gain.shape)
    first = (gain.shape[0] - n_row) // 2
    dead = effects["dead_cell"].to_numpy().reshape(-1, 2) if "dead_cell" in effects else np.zeros((0, 2), int)
    cells = sorted((int(r) - first, int(c)) for r, c in dead)
    return {
        "output": factors["output_factor"],
        "spot": round(round(factors["focal_spot_factor"] / SPOT_STEP) * SPOT_STEP, 6),
        "gain": gain[first : first + n_row],
        "dead": [cell for cell in cells if 0 <= cell[0] < n_row],
    }


def _check(
    protocol: Protocol,
    worn: dict[str, Any],
    *,
    calibration: Calibration,
    repeats: int,
    seed: int,
    output_factor: float,
) -> Measured:
    """Scans, images and measures of one day."""
    daily = calibration == "daily"
    faults = Faults(
        gain=None if daily or (worn["gain"] == 1.0).all() else worn["gain"],
        dead=tuple(map(tuple, worn["dead"])),
        repaired=daily,
        air_views=AIR_ROTATIONS * protocol.scanner.views_per_rotation if daily else None,
    )
    signals = _signals(_Hashed(protocol), worn["spot"], output_factor)
    even, fine = [], []
    for realisation in range(repeats):
        scan = ct.acquire(
            signals, protocol, seed=seed, realisation=realisation, signals=signals, faults=faults,
            mas=protocol.mas * worn["output"],
        )  # fmt: skip
        even.append(_image(scan, protocol))
        fine.append(_image(scan, protocol, fine=True))
    reference = _reference(_Hashed(protocol), output_factor)
    return measure(xr.concat(even, "repeat"), xr.concat(fine, "repeat"), reference)


def _image(scan: xr.Dataset, protocol: Protocol, *, fine: bool = False) -> xr.DataArray:
    reach = RODS[-1][0] + ROD_REACH_MM + FINE_MM if fine else 92.0
    step = FINE_MM if fine else EVEN_MM
    axis = np.arange(-round(reach / step), round(reach / step) + 1) * step
    grid = {"z": [0.0], "y": axis, "x": axis}
    return ct.reconstruct(scan, protocol, grid=grid, kernel=FINE_KERNEL if fine else protocol.kernel)[0]


class _Hashed:
    """A protocol as the key of a cache: by its content."""

    def __init__(self, protocol: Protocol) -> None:
        self.protocol, self.key = protocol, content_key(protocol)

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Hashed) and other.key == self.key


@lru_cache(maxsize=_SIGNALS_KEPT)
def _signals(hashed: _Hashed, spot_factor: float, output_factor: float) -> xr.Dataset:
    """Mean signals and their variance behind the phantom, averaged over the points of a focal spot of some width."""
    protocol = hashed.protocol
    tube = protocol.scanner.tube
    width, length = tube.focal_spot_mm
    wide = tube.model_copy(update={"focal_spot_mm": (width * spot_factor, length)})
    blurred = protocol.replace(scanner=protocol.scanner.model_copy(update={"tube": wide}))
    half = 0.5 * protocol.collimation_mm
    path = trajectory(blurred, z_range_mm=(-half, half))
    phantom, total = daily_phantom(), None
    for sample in sub_samples(blurred):
        own = ct.detected(
            ct.line_integrals(phantom, blurred, path, sample=sample), blurred, output_factor=output_factor
        )
        part = own[["signal", "signal_variance"]] * np.float32(sample.weight)
        total = part if total is None else total + part
    assert total is not None
    return own.assign(
        {name: label(name, total[name].to_numpy(), dict(own[name].coords)) for name in total.data_vars}
    )


@lru_cache(maxsize=4)
def _reference(hashed: _Hashed, output_factor: float) -> xr.DataArray:
    """Expected image of the scanner before any wear."""
    signals = _signals(hashed, 1.0, output_factor)
    scan = ct.acquire(signals, hashed.protocol, seed=0, noise=False, signals=signals)
    return _image(scan, hashed.protocol)


def _kept(key: str, outputs: str | Path | None) -> Measured | None:
    if key not in _MEASURED and outputs is not None:
        file = _file(key, outputs)
        if file.is_file():
            found = json.loads(file.read_text(encoding="utf-8"))
            _MEASURED[key] = {name: (float(v), float(sd)) for name, (v, sd) in found.items()}
    return _MEASURED.get(key)


def _keep(key: str, outputs: str | Path | None, measured: Measured) -> Measured:
    _MEASURED[key] = measured
    if outputs is not None:
        store.save_json({name: list(pair) for name, pair in measured.items()}, _file(key, outputs))
    return measured


def _file(key: str, outputs: str | Path) -> Path:
    return store.outputs_root(outputs) / "cache" / f"daily-{key}.json"
