"""What a physicist measures on a scanner's images of a test phantom, and what theory says they should show."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from scipy.special import j0, j1

from twinlab.ct.corrections import correct_rays, water_correction
from twinlab.ct.detector import detected_spectrum
from twinlab.ct.filters import Kernel, apertures_mm, mtf
from twinlab.ct.recon import adjoint, reconstruct
from twinlab.phantom.recipes import Recipe
from twinlab.phantom.shapes import Cylinder
from twinlab.physics.attenuation import linear_attenuation_per_mm
from twinlab.scanner import Protocol
from twinlab.schema import label, refuse

Array = NDArray[np.float64]


def region_mean(hu: xr.DataArray, *, x_mm: float, y_mm: float, radius_mm: float) -> float:
    """Mean CT number [HU] of a disc in all slices of an image (z, y, x)."""
    inside = np.hypot(hu["x"] - x_mm, hu["y"] - y_mm) <= radius_mm
    if not bool(inside.any()):
        refuse("region_mean", "a region with a pixel centre in it", (x_mm, y_mm, radius_mm))
    return float(hu.where(inside).mean())


def spectral_hu(recipe: Recipe, name: str, protocol: Protocol) -> float:
    """CT number that an insert of a water cylinder should show: its attenuation behind that water.

    The corrected logarithm grows over the insert's diameter from what stands before it, averaged over view angle; the
    first shape of the recipe is the cylinder. Inserts that harden the beam for each other are not foreseen.

    Parameters
    ----------
    recipe : Recipe
    name : str
        Of an insert, a cylinder along z.
    protocol : Protocol

    Raises
    ------
    InputError
        No such insert.
    """
    found = [s for s in recipe.shapes if s.name == name]
    body = recipe.shapes[0]
    if not found or not isinstance(found[0], Cylinder) or not isinstance(body, Cylinder):
        refuse(
            "spectral_hu", f"a cylinder, one of {', '.join(s.name for s in recipe.shapes[1:])}", repr(name)
        )
    insert = found[0]
    energy, spectrum = detected_spectrum(protocol)
    mu = linear_attenuation_per_mm(insert.material, energy, density_g_cm3=recipe.density_of(insert))
    water = linear_attenuation_per_mm("water", energy)
    angle = np.linspace(0.0, math.pi, 90, endpoint=False)
    offset = math.hypot(insert.centre_mm.x, insert.centre_mm.y) * np.cos(angle)
    length = 2.0 * np.sqrt((body.diameter_mm / 2) ** 2 - offset**2)
    fan = protocol.scanner.fan_angles_rad()
    channel = np.searchsorted(fan, np.arcsin(offset / protocol.scanner.source_to_isocentre_mm))
    correction = water_correction(protocol)
    diameter = insert.diameter_mm

    def corrected(depth: Array) -> Array:
        own = spectrum[channel]
        raw = -np.log((own * np.exp(-depth)).sum(1) / own.sum(1))
        return correct_rays(raw, correction, channel=channel)

    before = (length - diameter)[:, None] * water
    growth = (corrected(before + diameter * mu) - corrected(before)).mean() / diameter
    return float(1000.0 * (growth / correction.attrs["mu_water_per_mm"] - 1.0))


def rod_mtf(
    hu: xr.DataArray, *, x_mm: float, y_mm: float, diameter_mm: float, frequency_per_mm: ArrayLike
) -> xr.DataArray:
    """Modulation transfer from one slice through a thin rod in an even surrounding.

    Hankel transform of the image around the rod, over that of a disc of its diameter; at zero frequency 1.

    Parameters
    ----------
    hu : DataArray, dims (y, x), units HU
        Pixels well below the width of the point spread; 6 mm around the rod are used.
    x_mm, y_mm, diameter_mm : float
        Of the rod.
    frequency_per_mm : array_like, 1/mm

    Returns
    -------
    DataArray ``mtf``, dims (frequency)

    References
    ----------
    Nickoloff EL (1988) Measurement of the PSF for a CT scanner: appropriate wire diameter and pixel size.
    Phys Med Biol 33:149.
    """
    frequency = np.atleast_1d(np.asarray(frequency_per_mm, float))
    radius = np.hypot(hu["y"].to_numpy()[:, None] - y_mm, hu["x"].to_numpy()[None, :] - x_mm)
    values = hu.transpose("y", "x").to_numpy().astype(float)
    values = values - values[(radius > 6.0) & (radius < 8.0)].mean()
    near = radius <= 6.0
    waves = np.array([(values * j0(2 * math.pi * f * radius))[near].sum() for f in np.append(0.0, frequency)])
    q = math.pi * frequency * diameter_mm
    disc = np.where(q > 0, 2.0 * j1(q) / np.where(q > 0, q, 1.0), 1.0)
    return xr.DataArray(
        waves[1:] / waves[0] / disc, {"frequency": frequency}, ("frequency",), name="mtf",
        attrs={"units": "1", "long_name": "modulation transfer"},
    )  # fmt: skip


def expected_mtf(
    protocol: Protocol, frequency_per_mm: ArrayLike, *, kernel: str | Kernel | None = None
) -> Array:
    """Modulation transfer of the model at the isocentre: kernel, detector channel and focal spot."""
    frequency = np.asarray(frequency_per_mm, float)
    channel, spot = apertures_mm(protocol.scanner)
    return (
        mtf(kernel or protocol.kernel, frequency) * np.sinc(frequency * channel) * np.sinc(frequency * spot)
    )


def profile_width(z_mm: ArrayLike, profile: ArrayLike) -> float:
    """Full width at half maximum [mm] of a profile with one peak, linear between its samples.

    Raises
    ------
    InputError
        The profile does not fall below half of its peak on both sides.
    """
    z, p = np.asarray(z_mm, float), np.asarray(profile, float)
    above = np.flatnonzero(p >= 0.5 * p.max())
    lo, hi = int(above[0]), int(above[-1])
    if lo == 0 or hi == p.size - 1:
        refuse(
            "profile_width", "a profile that falls below half of its peak on both sides", p.round(3).tolist()
        )
    half = 0.5 * p.max()
    left = z[lo] - (z[lo] - z[lo - 1]) * (p[lo] - half) / (p[lo] - p[lo - 1])
    right = z[hi] + (z[hi + 1] - z[hi]) * (p[hi] - half) / (p[hi] - p[hi + 1])
    return float(right - left)


def expected_width(protocol: Protocol, thickness_mm: float) -> float:
    """Full width at half maximum of the model's slice profile: a box of the slice convolved with a detector row."""
    row = protocol.scanner.row_pitch_isocentre_mm
    return max(thickness_mm, row)


def noise_covariance(
    scan: xr.Dataset, protocol: Protocol, *, grid: Mapping[str, Any], kernel: str | None = None
) -> xr.DataArray:
    """Covariance of every voxel's noise with that of the middle one, propagated from the rays: ``R V R^T e``.

    The reconstruction is linear, so that this is exact for the variances given: the value at the middle is the
    variance of the noise, its Fourier transform the noise power spectrum.

    Parameters
    ----------
    scan : Dataset
        ``projection`` and ``variance`` of a scan without correlation between readings.
    protocol : Protocol
    grid : mapping
        ``z`` (one slice), ``y``, ``x``, mm, of odd counts.

    Returns
    -------
    DataArray ``noise_covariance``, dims (y, x), units HU2
    """
    z, y, x = (np.asarray(grid[axis], float) for axis in ("z", "y", "x"))
    if z.size != 1 or y.size % 2 == 0 or x.size % 2 == 0:
        refuse("noise_covariance: grid", "one slice of odd counts of pixels", (z.size, y.size, x.size))
    point = np.zeros((1, y.size, x.size))
    point[0, y.size // 2, x.size // 2] = 1.0
    back = adjoint(point, scan, protocol, grid=grid, kernel=kernel) * scan["variance"].to_numpy()
    spread = scan.assign(projection=scan["projection"].copy(data=back.astype(np.float32)))
    values = reconstruct(spread, protocol, grid=grid, kernel=kernel)[0] + 1000.0
    attrs = {"units": "HU2", "long_name": "noise covariance with the middle pixel"}
    return xr.DataArray(values.to_numpy(), {"y": y, "x": x}, ("y", "x"), name="noise_covariance", attrs=attrs)


def covariance_nps(covariance: xr.DataArray) -> xr.DataArray:
    """Noise power spectrum of a covariance around its middle, dims (fy, fx), units HU2 mm2."""
    dy, dx = (float(covariance[a][1] - covariance[a][0]) for a in ("y", "x"))
    power = np.fft.fft2(np.fft.ifftshift(covariance.to_numpy())).real * dy * dx
    fy, fx = (np.fft.fftshift(np.fft.fftfreq(n, d)) for n, d in zip(covariance.shape, (dy, dx), strict=True))
    return label("nps", np.fft.fftshift(power), {"fy": fy, "fx": fx})
