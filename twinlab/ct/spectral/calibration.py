"""Calibration of iodine in CT images: CT numbers of a rod of solution in a water cylinder of the patient's size."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from twinlab.ct.spectral.counted import bin_spectra
from twinlab.ct.spectral.measurements import knot_spectra
from twinlab.physics.attenuation import linear_attenuation_per_mm, mass_attenuation
from twinlab.scanner import Protocol
from twinlab.schema import refuse

_ANGLES = 180
_STEP_MM = 0.5
_GROUP = 24  # rays, 12 mm
_LONGEST_MM = 800.0

Array = NDArray[np.float64]


def spectra_of(protocols: Sequence[Protocol] | Protocol) -> list[tuple[Protocol, Array, Array]]:
    """Protocol, energies and detected spectrum (channel, energy) of each measurement, in the middle row.

    Measurements are the bins of a protocol, or tube voltages.
    """
    out: list[tuple[Protocol, Array, Array]] = []
    for protocol in [protocols] if isinstance(protocols, Protocol) else protocols:
        if protocol.scanner.detector.counting is not None:
            found = bin_spectra(protocol)
            spectra = [(found.energy_kev, spectrum) for spectrum in found.bins]
        else:
            spectra = [knot_spectra(protocol)]
        out += [(protocol, energy, s[s.shape[0] // 2]) for energy, s in spectra]
    return out


def iodine_calibration(
    protocols: Sequence[Protocol] | Protocol,
    *,
    diameter_mm: float,
    insert_mm: float = 24.0,
    place: float = 0.6,
    up_to_mg_ml: float = 20.0,
    material: str = "iodine",
) -> Array:
    """Size-specific calibration of iodine: CT numbers that a rod adds to a water cylinder, by amount.

    The measurement that a physicist makes with a phantom, computed: water-corrected projections of the cylinder
    with and without the rod by the model of the scan (parallel rays, each with the spectrum of its place behind
    the bowtie), their filtered back-projection in the middle of the rod, and a parabola through four amounts. It
    has the hardening by water of the patient's size, and that of iodine by itself.

    Parameters
    ----------
    protocols : Protocol, or sequence of them
        One with a photon-counting detector (its bins), or one for each tube voltage.
    diameter_mm : float
        Of the water cylinder: the patient's water-equivalent diameter.
    insert_mm : float
        Of the rod: about that of the vessels or organs in question.
    place : float
        Of the rod's middle, in radii of the cylinder.
    up_to_mg_ml : float
        Largest amount, beyond which the parabola is not to be used.
    material : str

    Returns
    -------
    array (measurement, 2)
        HU per mg/ml, and HU per (mg/ml)^2: what :func:`twinlab.ct.spectral.decompose_images` takes.

    Raises
    ------
    InputError
        No protocol, a rod that does not fit into the cylinder, or amounts out of range.

    Limits
    ------
    Amounts of one rod: other vessels on the same rays harden the beam too. Off a rod of another width the
    hardening by iodine itself scales about with the width.
    """
    spectra = spectra_of(protocols)
    centre, radius, rod = place * diameter_mm / 2.0, diameter_mm / 2.0, insert_mm / 2.0
    if not spectra or not (rod > 0 and place >= 0 and centre + rod <= radius and diameter_mm <= 600.0):
        refuse(
            "iodine_calibration",
            "a protocol, and a rod inside a cylinder of at most 600 mm",
            (diameter_mm, insert_mm, place),
        )
    if not 0.0 < up_to_mg_ml <= 100.0:
        refuse("iodine_calibration: up_to_mg_ml", "above 0, at most 100", up_to_mg_ml)
    angle = np.arange(_ANGLES) * np.pi / _ANGLES
    t = np.arange(-radius - 10.0, radius + 10.0, _STEP_MM)
    water = 2.0 * np.sqrt(np.maximum(radius**2 - t**2, 0.0)) * np.ones((_ANGLES, 1))
    chord = 2.0 * np.sqrt(np.maximum(rod**2 - (t - centre * np.cos(angle)[:, None]) ** 2, 0.0))
    amounts: Array = np.linspace(0.25, 1.0, 4) * float(up_to_mg_ml)
    own = _in_the_middle(chord, t, angle, centre, rod)
    out = []
    for protocol, energy, spectrum in spectra:
        added = _added(protocol, energy, spectrum, t, water, chord, amounts, material)
        hu = [1000.0 * _in_the_middle(one, t, angle, centre, rod) / own for one in added]
        out.append(np.linalg.lstsq(np.stack([amounts, amounts**2], axis=1), np.array(hu), rcond=None)[0])
    return np.array(out)


def _added(
    protocol: Protocol,
    energy: Array,
    spectrum: Array,
    t: Array,
    water: Array,
    chord: Array,
    amounts: Array,
    material: str,
) -> Array:
    """What some amounts in the rod add to water-corrected projections, as mm of water (amount, angle, t)."""
    mu = linear_attenuation_per_mm("water", energy), mass_attenuation(material, energy)[0] * 1e-4
    length = np.arange(0.0, _LONGEST_MM, 1.0)
    through_water = np.exp(-np.outer(length, mu[0]))
    fan = np.arcsin(np.clip(t / protocol.scanner.source_to_isocentre_mm, -1.0, 1.0))
    fans = protocol.scanner.fan_angles_rad()
    added = np.zeros((amounts.size, *chord.shape))
    for first in range(0, t.size, _GROUP):  # neighbouring rays share a spectrum
        here = slice(first, first + _GROUP)
        met = chord[:, here] > 0.0
        if not met.any():
            continue
        own = spectrum[int(np.argmin(np.abs(fans - fan[here].mean())))]
        known = -np.log(through_water @ own)
        behind = np.exp(-np.outer(water[:, here][met], mu[0])) * own
        met_iodine = np.outer(chord[:, here][met], mu[1])
        for k, amount in enumerate(amounts):
            both = -np.log((behind * np.exp(-amount * met_iodine)).sum(axis=1))
            added[k][:, here][met] = np.interp(both, known, length) - water[:, here][met]
    return added


def _in_the_middle(sinogram: Array, t: Array, angle: Array, centre: float, rod: float) -> float:
    """Filtered back-projection of parallel rays (angle, t), mean over the inner half of the rod."""
    n = 2 * t.size
    k = np.arange(n) - n // 2
    kernel = np.where(k % 2 == 0, 0.0, -1.0 / np.where(k == 0, 1, np.pi * k) ** 2)
    kernel[n // 2] = 0.25
    transfer = np.fft.rfft(np.fft.ifftshift(kernel))
    filtered = np.fft.irfft(np.fft.rfft(sinogram, n, axis=1) * transfer, n, axis=1)[:, : t.size]
    r, turn = 0.5 * rod * np.sqrt(np.linspace(0.0, 1.0, 12)), 2.4 * np.arange(12)  # a spiral over the disc
    x, y = centre + r * np.cos(turn), r * np.sin(turn)
    return float(
        np.mean(
            [np.interp(x * np.cos(a) + y * np.sin(a), t, row) for a, row in zip(angle, filtered, strict=True)]
        )
    )
