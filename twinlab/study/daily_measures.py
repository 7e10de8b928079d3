"""What a physicist measures on a day's images of the quality phantom, each with its standard uncertainty.

Uncertainties come from the noise seen in the images themselves: the same measure, taken at other places of the
difference of repeated scans, where there is nothing but noise.
"""

from __future__ import annotations

import math

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from twinlab.quality.noise import noise_hu
from twinlab.quality.scanner_checks import region_mean, rod_mtf

MIDDLE_MM, OUTER_MM, OUTER_RADIUS_MM = 10.0, 7.0, 82.0  # radii of the regions, and where the outer ones lie
N_OUTER = 4
NOISE_RADIUS_MM, BLOCK_MM = 40.0, 8.0  # blocks several times the length over which noise is correlated
RINGS_MM = (5.0, 60.0)
ROD_DIAMETER_MM, ROD_PLACE_MM, ROD_REACH_MM = 1.0, 20.0, 8.25
RODS = tuple((x, y) for y in (-ROD_PLACE_MM, ROD_PLACE_MM) for x in (-ROD_PLACE_MM, ROD_PLACE_MM))
FREQUENCY = np.arange(0.1, 1.2001, 0.02)

Array = NDArray[np.float64]
Measured = dict[str, tuple[float, float]]  # value and standard uncertainty by name


def measure(even: xr.DataArray, fine: xr.DataArray, reference: xr.DataArray) -> Measured:
    """All measures of a day.

    Parameters
    ----------
    even : DataArray, dims (repeat, y, x), HU
        Repeated scans of the phantom as a whole.
    fine : DataArray, dims (repeat, y, x), HU
        The same around the rods, in small pixels.
    reference : DataArray, dims (y, x), HU
        Expected image of the scanner before any wear, from which rings are told.
    """
    repeats = even.sizes["repeat"]
    # of the difference from the mean, scaled to the variance of a mean of so many repeats
    scale = 1.0 / math.sqrt(repeats - 1.0)
    left = (even - even.mean("repeat")) * scale
    mean = even.mean("repeat")
    water = region_mean(mean, x_mm=0.0, y_mm=0.0, radius_mm=MIDDLE_MM)
    water_sd = _spread_of_means(left, _lattice(2.0 * MIDDLE_MM, NOISE_RADIUS_MM), MIDDLE_MM)
    outer = [
        region_mean(mean, x_mm=x, y_mm=y, radius_mm=OUTER_MM) for x, y in _circle(OUTER_RADIUS_MM, N_OUTER)
    ]
    outer_sd = _spread_of_means(left, _circle(OUTER_RADIUS_MM, 24), OUTER_MM) / math.sqrt(N_OUTER)
    noise = _noise(even)
    return {
        "qc_water": (water, water_sd),
        "qc_noise": noise,
        "qc_uniformity": (sum(outer) / N_OUTER - water, math.hypot(water_sd, outer_sd)),
        **_resolution(fine),
        "qc_rings": _rings(even, reference),
    }


def _noise(even: xr.DataArray) -> tuple[float, float]:
    """Root mean square over the middle of the pixels' standard deviation; its scatter over blocks."""
    variance = noise_hu(even) ** 2
    y, x = variance["y"].to_numpy()[:, None], variance["x"].to_numpy()[None, :]
    inside = np.hypot(y, x) <= NOISE_RADIUS_MM
    values = variance.transpose("y", "x").to_numpy()
    row, column = (np.floor((a + NOISE_RADIUS_MM) / BLOCK_MM).astype(int) for a in (y, x))
    number = row * 1000 + column
    _, block = np.unique(number[inside], return_inverse=True)
    count = np.bincount(block)
    full = count >= 0.5 * count.max()
    means = (np.bincount(block, values[inside]) / count)[full]
    level = math.sqrt(float(values[inside].mean()))
    return level, float(means.std(ddof=1)) / math.sqrt(means.size) / (2.0 * level)


def _resolution(fine: xr.DataArray) -> Measured:
    """Frequencies of half and a tenth of the transfer of the mean rod.

    Their uncertainty is that of the transfer over its slope: noise of nine places is added to the rod in turn.
    """
    values = fine.transpose("repeat", "y", "x").to_numpy().astype(float)
    axis, mean = fine["x"].to_numpy(), values.mean(axis=0)
    rod = np.mean([_patch(mean, axis, x, y) for x, y in RODS], axis=0)
    transfer = _transfer(rod, FREQUENCY)
    levels = {"qc_mtf50": 0.5, "qc_mtf10": 0.1}
    found = {name: _crossing(transfer, level) for name, level in levels.items()}
    places = np.array([place if place > 0 else FREQUENCY[0] for place, _ in found.values()])
    left = (values - mean) / math.sqrt((values.shape[0] - 1.0) * len(RODS))
    steps = (-ROD_PLACE_MM, 0.0, ROD_PLACE_MM)
    noise = [_patch(own, axis, x, y) for own in left for y in steps for x in steps]
    change = np.array([_transfer(rod + n, places) for n in noise]) - _transfer(rod, places)
    spread = np.sqrt((change**2).mean(axis=0))
    return {
        name: (f, float(s / abs(slope))) for (name, (f, slope)), s in zip(found.items(), spread, strict=True)
    }


def _patch(image: Array, axis: Array, x: float, y: float) -> Array:
    columns, rows = (np.abs(axis - c) <= ROD_REACH_MM for c in (x, y))
    return image[np.ix_(rows, columns)]


def _transfer(rod: Array, frequency: Array) -> Array:
    axis = np.linspace(-ROD_REACH_MM, ROD_REACH_MM, rod.shape[0])
    image = xr.DataArray(rod, {"y": axis, "x": axis}, ("y", "x"))
    found = rod_mtf(image, x_mm=0.0, y_mm=0.0, diameter_mm=ROD_DIAMETER_MM, frequency_per_mm=frequency)
    return np.asarray(found, float)


def _crossing(transfer: Array, level: float) -> tuple[float, float]:
    """Frequency at which a transfer first falls below a level, linear between samples, and the slope there."""
    below = np.flatnonzero(transfer < level)
    if below.size == 0 or below[0] == 0:
        return math.nan, math.nan
    k = below[0]
    slope = (transfer[k] - transfer[k - 1]) / (FREQUENCY[k] - FREQUENCY[k - 1])
    return float(FREQUENCY[k - 1] + (level - transfer[k - 1]) / slope), float(slope)


def _rings(even: xr.DataArray, reference: xr.DataArray) -> tuple[float, float]:
    """Root mean square over radii of what ring means differ from the unworn scanner's, without the share of noise.

    Products of different repeats' profiles have the rings' power as their mean, as their noise is independent.
    """
    y, x = even["y"].to_numpy()[:, None], even["x"].to_numpy()[None, :]
    radius = np.hypot(y, x)
    step = float(even["x"][1] - even["x"][0])
    rods = np.any([np.hypot(x - a, y - b) < ROD_REACH_MM / 2 for a, b in RODS], axis=0)
    ring = np.floor((radius - RINGS_MM[0]) / step).astype(int)
    n_ring = int((RINGS_MM[1] - RINGS_MM[0]) / step)
    used = (ring >= 0) & (ring < n_ring) & ~rods
    change = (even.transpose("repeat", "y", "x") - reference.transpose("y", "x")).to_numpy().astype(float)
    count = np.bincount(ring[used], minlength=n_ring)
    profile = np.array([np.bincount(ring[used], c[used], minlength=n_ring) / count for c in change])
    profile -= profile.mean(axis=1, keepdims=True)
    r = profile.shape[0]
    products = (profile.sum(axis=0) ** 2 - (profile**2).sum(axis=0)) / (r * (r - 1))
    power, noise = float(products.mean()), profile.var(axis=0, ddof=1)
    level = max(power, 0.0)
    spread = np.sqrt((4.0 * level * noise / r + 2.0 * noise**2 / (r * (r - 1))).sum()) / n_ring
    index = math.sqrt(level)
    return index, float(spread / (2.0 * max(index, math.sqrt(spread) / 2.0)))


def _spread_of_means(left: xr.DataArray, places: list[tuple[float, float]], radius_mm: float) -> float:
    """Root mean square of region means over places and repeats of noise images."""
    values = left.transpose("repeat", "y", "x").to_numpy()
    y, x = left["y"].to_numpy()[:, None], left["x"].to_numpy()[None, :]
    discs = (np.hypot(x - a, y - b) <= radius_mm for a, b in places)
    return math.sqrt(float(np.mean([values[:, disc].mean(axis=1) ** 2 for disc in discs])))


def _lattice(step: float, reach: float) -> list[tuple[float, float]]:
    axis = np.arange(-math.floor(reach / step), math.floor(reach / step) + 1) * step
    return [(float(x), float(y)) for x in axis for y in axis if math.hypot(x, y) <= reach]


def _circle(radius: float, count: int) -> list[tuple[float, float]]:
    angle = 2.0 * math.pi * np.arange(count) / count
    return [(float(radius * math.cos(a)), float(radius * math.sin(a))) for a in angle]
