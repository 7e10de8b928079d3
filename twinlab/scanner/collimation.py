"""The collimated beam of a tube: focal spot, blades, and the share of photons that passes them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from twinlab.scanner.models import Protocol

_SPOT_NODES = 8  # over the focal spot: the share is all but linear in the place on it


@dataclass(frozen=True)
class Beam:
    """What one tube of a gantry sends out, and the views in which it radiates.

    Photons are even per solid angle within a bin. Those pass for which the tangent of the cone angle (straight
    blades: over the cosine of the fan angle), plus the place on the focal spot over the distance of the blades,
    lies within ``slope``.
    """

    fluence: np.ndarray
    """(cone, fan, energy): photons/mm2/mAs at 1 m in the middle of even bins of sine, angle and energy."""
    energy_kev: np.ndarray
    bin_width_kev: float
    fan_low_rad: float
    fan_step_rad: float
    sine: float
    """Of the largest cone angle of the bins; they start at its negative."""
    radius_mm: float
    isocentre_mm: tuple[float, float]
    view: np.ndarray
    """(view, 4): gantry angle [rad], table position [mm], and how far both move in the view."""
    weight: np.ndarray
    """(view,): relative mAs."""
    spot_mm: tuple[float, float] = (0.0, 0.0)
    """Width along the rotation and length along z."""
    blade_mm: float = math.inf
    """Focal spot to blades."""
    straight: bool = False
    tilt_rad: float = 0.0
    slope: np.ndarray | None = None
    """(view, 2): tangents between which the blades are open; None: all bins pass."""


def half_slope(protocol: Protocol) -> tuple[float, tuple[float, float], float]:
    """Opening of the collimator, focal spot and distance of the blades.

    With ``collimator_distance_mm`` and a focal spot of a length L, the profile along z at the isocentre is a
    trapezoid whose edges are ``L (R - d) / d`` wide, d and R being the distances of blades and isocentre. Its
    width at half height is the collimation plus ``over_beaming_mm``; where that is 0, the collimation plus the
    width of an edge, so that the umbra covers the collimation. Without these data the profile is a rectangle.

    Returns
    -------
    half : float
        Tangent of half the opening: half the width at half height over the distance of the isocentre.
    spot_mm : (float, float)
        Width and length; 0 without the distance of the blades.
    blade_mm : float
        Infinite without.
    """
    scanner = protocol.scanner
    radius, blade = scanner.source_to_isocentre_mm, scanner.collimator_distance_mm
    beyond, spot = scanner.over_beaming_mm, scanner.tube.focal_spot_mm
    if blade is None or spot[1] == 0.0:
        return 0.5 * (protocol.collimation_mm + beyond) / radius, (0.0, 0.0), math.inf
    if beyond == 0.0:
        beyond = penumbra_mm(spot[1], radius, blade)
    return 0.5 * (protocol.collimation_mm + beyond) / radius, spot, blade


def penumbra_mm(spot_length_mm: float, isocentre_mm: float, blade_mm: float) -> float:
    """Width of each edge of the beam at the isocentre: the focal spot seen through a pinhole at the blades."""
    return spot_length_mm * (isocentre_mm - blade_mm) / blade_mm


def blade_slopes(
    source_z_mm: np.ndarray, *, z_range_mm: tuple[float, float], half: float, radius_mm: float
) -> np.ndarray:
    """Openings of blades that follow the ends of a helical scan.

    A ray passes when it crosses the axis of rotation within the range.

    Parameters
    ----------
    source_z_mm : (view,) array
        Table positions.
    z_range_mm : (float, float)
        Range to be irradiated, same coordinates.
    half : float
        Tangent of half the full opening.
    radius_mm : float

    Returns
    -------
    ndarray (view, 2)
        Low and high tangent; equal where the blades are closed.

    References
    ----------
    Deak PD, Langner O, Lell M, Kalender WA (2009) Effects of adaptive section collimation on patient radiation
    dose in multisection spiral CT. Radiology 252:140.
    """
    z = np.asarray(source_z_mm, float)
    low = np.clip((z_range_mm[0] - z) / radius_mm, -half, half)
    high = np.clip((z_range_mm[1] - z) / radius_mm, -half, half)
    return np.column_stack([low, np.maximum(high, low)])


def passed(beam: Beam) -> np.ndarray | None:
    """Share of the photons of the bins that the blades pass in each view, shape (view,); None: all of them."""
    if beam.slope is None:
        return None
    number = beam.fluence.sum(axis=2)  # (cone, fan)
    fan = beam.fan_low_rad + (np.arange(number.shape[1]) + 0.5) * beam.fan_step_rad
    stretch = np.cos(fan) if beam.straight else np.ones(1)
    number = number if beam.straight else number.sum(axis=1, keepdims=True)
    below = np.concatenate([np.zeros((1, number.shape[1])), np.cumsum(number, axis=0)])
    node, weight = np.polynomial.legendre.leggauss(_SPOT_NODES if beam.spot_mm[1] > 0 else 1)
    opening, which = np.unique(beam.slope, axis=0, return_inverse=True)
    share = np.zeros(len(opening))
    for place, part in zip(0.5 * node * beam.spot_mm[1] / beam.blade_mm, 0.5 * weight, strict=True):
        low, high = (_photons_below(below, (opening[:, [i]] - place) * stretch, beam.sine) for i in (0, 1))
        share += part * np.maximum(high - low, 0.0).sum(axis=1)
    return np.asarray(share[which.reshape(-1)] / number.sum(), float)


def _photons_below(below: np.ndarray, slope: np.ndarray, sine: float) -> np.ndarray:
    """Photons (opening, fan) of smaller cone angles than those of tangents (opening, fan)."""
    n = len(below) - 1
    place = np.clip((slope / np.sqrt(1.0 + slope * slope) / sine + 1.0) * (0.5 * n), 0.0, n)
    i = np.minimum(place.astype(int), n - 1)
    column = np.arange(below.shape[1])
    return np.asarray(below[i, column] + (place - i) * (below[i + 1, column] - below[i, column]))
