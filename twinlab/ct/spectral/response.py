"""Energy response of a photon-counting detector: counts in each bin per photon, and how they vary together.

One photon can be counted more than once, in neighbouring pixels that share its charge or catch its
fluorescence. So the response has two parts: mean counts per bin, and mean products of counts of bins and
cells, from which follow the covariance of readings: photons are Poisson, hence
``cov(N_b, N_c) = sum_E photons(E) <n_b n_c>(E)`` (compound Poisson).
"""

from __future__ import annotations

import os
import tempfile
from functools import lru_cache
from pathlib import Path

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm, qmc

from twinlab.ct.spectral.sensor import counting_of, sensor_of
from twinlab.kernels import philox
from twinlab.kernels.counting import HEIGHT_STEP_KEV, OFFSETS, Sensor, count_photons
from twinlab.kernels.counting_quadrature import DIMENSIONS, expected_counts
from twinlab.kernels.threads import one_parallel_region
from twinlab.keys import content_key, source_key
from twinlab.sample import cache_folder
from twinlab.scanner.parts import Detector
from twinlab.schema import label, refuse

ENERGY_KEV = np.arange(10.5, 150.0)  # photons below 10 keV do not reach a CT detector
POINTS = 8192
_HEIGHT_KEV = np.arange(0.0, 190.0 + HEIGHT_STEP_KEV, HEIGHT_STEP_KEV)
_STREAM = np.uint64(0x636F756E)
_BLOCKS = 16

Array = NDArray[np.float64]


def counting_response(
    detector: Detector, *, points: int = POINTS, energy_kev: ArrayLike | None = None
) -> xr.Dataset:
    """Response of a photon-counting detector, by integration of its model; kept by content.

    Parameters
    ----------
    detector : Detector
        With ``counting``. Photons meet the sensor at right angles, evenly over a cell.
    points : int
        Points of the low-discrepancy sequence per energy, a power of 2.
    energy_kev : array_like, optional
        10 to 150 keV. Default: bins of 1 keV, of which the result is kept in the user's cache.

    Returns
    -------
    Dataset
        ``response`` (bin, energy): counts per photon that meets a cell, in that cell if all cells are lit
        alike. ``response_product`` (offset, bin, other_bin, energy): mean products of counts of two cells that
        lie apart by 0, one channel, one row, one of both (summed over the neighbours on either side).
        ``pulse_height`` (height, energy) [1/keV]: pulses of all pixels by registered energy. Coordinate
        ``threshold`` (bin) [keV]: lower end; the last bin is open.

    Raises
    ------
    InputError
        The detector integrates energy, ``points`` is no power of 2, an energy is out of range.

    Limits
    ------
    See ``docs/methods/spectral.md``: no charge trapping or weighting field, no ballistic deficit, no
    coherent scattering; an incoherently scattered photon is absorbed at its next encounter.

    References
    ----------
    Taguchi K et al. (2018) Spatio-energetic cross-talk in photon counting detectors: numerical detector model
    (PcTK). Med Phys 45:1985. Cranley R, Patterson T N L (1976) SIAM J Numer Anal 13:904 (shifted points).
    """
    counting_of(detector, where="counting_response")
    if points < 64 or points & (points - 1):
        refuse("counting_response: points", "a power of 2 from 64", points)
    if energy_kev is None:
        return _kept(_relevant(detector), points).copy()
    energy = np.atleast_1d(np.asarray(energy_kev, float))
    if energy.min() < 10.0 or energy.max() > 150.0:
        refuse("counting_response: energy_kev", "10 to 150 keV", f"{energy.min():g} to {energy.max():g}")
    return _labelled(detector, energy, *_integrate(detector, energy, points))


def _relevant(detector: Detector) -> str:
    """The detector without what the response does not depend on, so that it is kept for all of its like."""
    assert detector.counting is not None
    plain = detector.counting.model_copy(update={"dead_time_ns": 0.0, "pile_up": "nonparalysable"})
    names = ("channel_pitch_mm", "row_pitch_mm", "absorber_material", "absorber_thickness_mm")
    same = {name: getattr(detector, name) for name in names}
    own = {"shape": "arc", "n_channels": 2, "n_rows": 1, "counting": plain}
    return Detector.make({**own, **same}).model_dump_json()


@lru_cache(maxsize=16)
def _kept(detector_json: str, points: int) -> xr.Dataset:
    detector = Detector.model_validate_json(detector_json)
    key = content_key("counting response", detector, points, source_key())
    path = cache_folder().parent / "response" / f"{key}.npz"
    if path.is_file():
        with np.load(path) as stored:
            return _labelled(detector, ENERGY_KEV, stored["counts"], stored["moments"], stored["heights"])
    counts, moments, heights = _integrate(detector, ENERGY_KEV, points)
    _write(path, counts=counts, moments=moments, heights=heights)
    return _labelled(detector, ENERGY_KEV, counts, moments, heights)


def _write(path: Path, **arrays: np.ndarray) -> None:
    """Keep arrays in the user's cache in one step; a cache that cannot be written costs time only."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".npz", delete=False) as part:
            np.savez(part, **arrays)  # type: ignore[arg-type]
        os.replace(part.name, path)
    except OSError:
        return


def _integrate(detector: Detector, energy: Array, points: int) -> tuple[Array, Array, Array]:
    sensor, thresholds = _model(detector)
    sequence = qmc.Sobol(DIMENSIONS, seed=0).random(points)
    shifts = np.random.default_rng(0).random((energy.size, DIMENSIONS))
    counts, heights = np.zeros((energy.size, thresholds.size)), np.zeros((energy.size, _HEIGHT_KEV.size))
    moments = np.zeros((energy.size, OFFSETS, thresholds.size, thresholds.size))
    with one_parallel_region():
        expected_counts(energy, sequence, shifts, sensor, thresholds, counts, moments, heights)
    return counts, moments, heights @ _noise_matrix(sensor.noise)


def _model(detector: Detector) -> tuple[Sensor, Array]:
    return sensor_of(detector), np.array(counting_of(detector, where="response").thresholds_kev)


def _noise_matrix(noise_kev: float) -> Array:
    """Takes pulses by energy to pulses by registered energy, both in bins around ``_HEIGHT_KEV``."""
    if noise_kev == 0.0:
        return np.eye(_HEIGHT_KEV.size)
    away = _HEIGHT_KEV - _HEIGHT_KEV[:, None]
    half = HEIGHT_STEP_KEV / 2
    return norm.cdf((away + half) / noise_kev) - norm.cdf((away - half) / noise_kev)


def _labelled(detector: Detector, energy: Array, counts: Array, moments: Array, heights: Array) -> xr.Dataset:
    assert detector.counting is not None
    coords = {"energy": energy, "threshold": ("bin", list(detector.counting.thresholds_kev))}
    density = heights.T / HEIGHT_STEP_KEV
    return xr.Dataset(
        {
            "response": label("response", counts.T, coords),
            "response_product": label("response_product", np.moveaxis(moments, 0, -1), {"energy": energy}),
            "pulse_height": label("pulse_height", density, {"height": _HEIGHT_KEV, "energy": energy}),
        }
    )


def simulated_response(detector: Detector, energy_kev: float, *, n_photons: int, seed: int) -> xr.Dataset:
    """The same response at one energy by Monte Carlo of single photons: what the integration is tested with.

    Parameters
    ----------
    detector : Detector
    energy_kev : float
    n_photons : int
        Rounded up to a multiple of 16.
    seed : int

    Returns
    -------
    Dataset
        ``response`` (bin), ``response_product`` (offset, bin, other_bin), ``pulse_height`` (height), without
        ``energy``, and ``response_sd`` (bin), the standard error of ``response``.

    Raises
    ------
    InputError
        The detector integrates energy, no photons, or an energy outside 10 to 150 keV.
    """
    if n_photons < 1 or not 10.0 <= energy_kev <= 150.0:
        refuse("simulated_response", "one photon or more of 10 to 150 keV", (n_photons, energy_kev))
    sensor, thresholds = _model(detector)
    per_block = -(-int(n_photons) // _BLOCKS)
    counts = np.zeros((_BLOCKS, thresholds.size), np.int64)
    moments = np.zeros((_BLOCKS, OFFSETS, thresholds.size, thresholds.size), np.int64)
    heights = np.zeros((_BLOCKS, _HEIGHT_KEV.size), np.int64)
    k0, k1 = philox.key(int(seed))
    with one_parallel_region():
        count_photons(
            float(energy_kev), per_block, sensor, thresholds, np.uint64(0), k0, k1 ^ _STREAM, counts, moments,
            heights,
        )  # fmt: skip
    total = per_block * _BLOCKS
    product = moments.sum(0) / total
    mean = counts.sum(0) / total
    # products over all cells of one photon's counts: the variance of a photon's counts, but for far cells
    sd = np.sqrt(np.maximum(np.diagonal(product.sum(0)) - mean**2, 0.0) / total)
    return xr.Dataset(
        {
            "response": ("bin", mean),
            "response_sd": ("bin", sd),
            "response_product": (("offset", "bin", "other_bin"), product),
            "pulse_height": ("height", heights.sum(0) / total / HEIGHT_STEP_KEV),
        },
        coords={"threshold": ("bin", thresholds), "height": _HEIGHT_KEV},
        attrs={"energy_kev": float(energy_kev), "n_photons": total},
    )
