"""Cross sections and pixels of a counting sensor, as plain tables for the compiled loops."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import xraylib

from twinlab.kernels.counting import TABLE_STEP_KEV, Sensor
from twinlab.kernels.sampling import N_X, X_MAX
from twinlab.physics.attenuation import ENERGY_RANGE_KEV, cross_sections
from twinlab.physics.fluorescence import k_edge_kev, k_lines, k_share
from twinlab.physics.materials import get as material
from twinlab.scanner.parts import Detector, PhotonCounting
from twinlab.schema import refuse

LEAST_LINE_KEV = 15.0  # softer fluorescence stays within 30 um and below every threshold: not followed


def counting_of(detector: Detector, *, where: str) -> PhotonCounting:
    """The photon-counting part of a detector.

    Raises
    ------
    InputError
        The detector integrates energy.
    """
    if detector.counting is None:
        refuse(where, "a scanner with a photon-counting detector", "one that integrates energy")
    return detector.counting


def pixels_of_cell(detector: Detector, *, where: str = "pixels_of_cell") -> tuple[int, int]:
    """Whole pixels across a cell, along channels and rows; a cell is divided evenly."""
    pixel = counting_of(detector, where=where).pixel_mm
    return max(1, round(detector.channel_pitch_mm / pixel)), max(1, round(detector.row_pitch_mm / pixel))


def sensor_of(detector: Detector) -> Sensor:
    """Sensor of a photon-counting detector.

    Coherent scattering is left out: it neither leaves energy nor turns photons far at these energies.

    Parameters
    ----------
    detector : Detector
        With ``counting``; absorber material and thickness are the sensor's.

    Raises
    ------
    InputError
        The detector integrates energy.
    """
    counting = counting_of(detector, where="sensor_of")
    across, along = pixels_of_cell(detector)
    tables = _tables(detector.absorber_material)
    return Sensor(
        thickness=float(detector.absorber_thickness_mm),
        pixel=np.array([detector.channel_pitch_mm / across, detector.row_pitch_mm / along]),
        binned=np.array([across, along], np.int64),
        cloud=float(counting.charge_cloud_mm),
        noise=float(counting.energy_noise_kev),
        **tables,
    )


@lru_cache(maxsize=8)
def _tables(name: str) -> dict[str, np.ndarray]:
    absorber = material(name)
    energy = np.arange(1, round(ENERGY_RANGE_KEV[1] / TABLE_STEP_KEV) + 1) * TABLE_STEP_KEV
    inside = np.maximum(energy, ENERGY_RANGE_KEV[0])
    whole = cross_sections(absorber, inside)
    photo, loose = whole["photoelectric"].to_numpy(), whole["incoherent"].to_numpy()
    mu = 0.1 * absorber.density_g_cm3 * (photo + loose)
    bright = [(z, w) for z, w in absorber.elements if k_lines(z)[0].energy_kev >= LEAST_LINE_KEV]
    shells = [w * _photo_of(z, inside) * k_share(z, inside) / (photo + loose) for z, w in bright]
    share = np.stack([loose / (photo + loose), *shells], axis=1)
    lines = [(n, line) for n, (z, _) in enumerate(bright) for line in k_lines(z)]
    at = np.array([line.energy_kev for _, line in lines])
    line = np.array(
        [
            (e, n, kline.photons_per_vacancy, np.interp(e, energy, mu))
            for e, (n, kline) in zip(at, lines, strict=True)
        ]
    ).reshape(len(lines), 4)
    # Interpolation must not reach across an edge: a line excites a shell only when it lies above its edge.
    above = np.array([[e > k_edge_kev(z) for z, _ in bright] for e in at]).reshape(len(lines), len(bright))
    shares = np.stack([np.interp(at, energy, s) for s in shells], axis=1) if bright else np.zeros((0, 0))
    return {
        "mu": np.concatenate([[mu[0]], mu]),
        "share": np.ascontiguousarray(np.vstack([share[:1], share])),
        "line": line,
        "line_share": np.ascontiguousarray(np.where(above, shares, 0.0)),
        "scatter": _scattering_function(name),
    }


def _photo_of(z: int, energy: np.ndarray) -> np.ndarray:
    return np.array([xraylib.CS_Photo(z, e) for e in energy])


def _scattering_function(name: str) -> np.ndarray:
    """Incoherent scattering function of a material at even steps of sin(theta/2)/lambda."""
    x = np.linspace(0.0, X_MAX, N_X)
    total = np.zeros(N_X)
    for z, w in material(name).elements:
        per_electron = [0.0] + [xraylib.SF_Compt(z, value) for value in x[1:]]
        total += w / xraylib.AtomicWeight(z) * np.array(per_electron)
    return total.astype(np.float32)
