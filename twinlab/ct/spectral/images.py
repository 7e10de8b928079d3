"""Spectral images: virtual monoenergetic, virtual non-contrast, and iodine from images of several spectra."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from twinlab.ct.spectral.calibration import spectra_of
from twinlab.ct.spectral.monoenergetic import _in_range
from twinlab.physics.attenuation import linear_attenuation_per_mm, mass_attenuation
from twinlab.scanner import Protocol
from twinlab.schema import check, label, refuse

Array = NDArray[np.float64]
_REPEATS = 6  # curvature is a tenth of the slope: 1e-6


def virtual_monoenergetic(densities: Mapping[str, xr.DataArray], kev: float) -> xr.DataArray:
    """CT numbers at one energy from images of basis materials.

    ``1000 * (sum_k density_k * mu_k(E) / mu_water(E) - 1)``; equal to reconstructing
    :func:`twinlab.ct.spectral.monoenergetic_projections`, and cheap for many energies.

    Parameters
    ----------
    densities : mapping of material to DataArray (z, y, x)
        ``basis_density`` [g/cm3] or ``iodine`` [mg/ml], of any array library.
    kev : float
        40 to 190 keV.

    Returns
    -------
    DataArray ``hu``, dims (z, y, x)

    Raises
    ------
    InputError
        No images, other units, or an energy out of range.
    """
    _in_range(kev, "virtual_monoenergetic: kev")
    if not densities:
        refuse("virtual_monoenergetic: densities", "images of basis materials", "none")
    mu = mass_attenuation(list(densities), [kev])[:, 0]
    water = 10.0 * float(linear_attenuation_per_mm("water", [kev])[0])
    total: Any = None
    for factor, image in zip(mu, densities.values(), strict=True):
        name = "iodine" if image.attrs.get("units") == "mg ml-1" else "basis_density"
        check(image, name, where="virtual_monoenergetic")
        scale = float(factor) / water * (1e-3 if name == "iodine" else 1.0)
        total = image.data * scale if total is None else total + image.data * scale
    first = next(iter(densities.values()))
    coords = {axis: first[axis] for axis in ("z", "y", "x") if axis in first.coords}
    return label("hu", 1000.0 * (total - 1.0), coords, kev=float(kev))


def virtual_non_contrast(water: xr.DataArray) -> xr.DataArray:
    """CT numbers without the iodine: those of the water image of a water and iodine decomposition.

    Exact for water and iodine; bone and fat are put down to both materials, so their numbers are off, as on
    real scanners.
    """
    return virtual_monoenergetic({"water": water}, 70.0).assign_attrs(removed_material="iodine")


def iodine_sensitivity(
    protocols: Sequence[Protocol] | Protocol,
    *,
    behind_water_mm: float = 200.0,
    iodine_g_cm2: float = 0.01,
    material: str = "iodine",
) -> Array:
    """CT number that 1 mg/ml of a material adds to water, for each tube voltage or energy bin.

    From the model of the scan: the length of water that attenuates as much as the material does, behind water,
    per line integral of the material. The water correction makes just this of a projection.

    Parameters
    ----------
    protocols : Protocol, or sequence of them
        One with a photon-counting detector (its bins), or one for each tube voltage.
    behind_water_mm : float
        Water that hardens the beam; about the mean path through the patient.
    iodine_g_cm2 : float
        Line integral of the material, which hardens the beam for itself: 10 mg/ml over 2.4 cm is 0.024.
    material : str

    Returns
    -------
    array (measurement,), HU per mg/ml

    Raises
    ------
    InputError
        No protocol, a depth outside 0 to 400 mm, or a line integral outside 1e-5 to 0.1 g/cm2.
    """
    if not 0 <= behind_water_mm <= 400 or not 1e-5 <= iodine_g_cm2 <= 0.1:
        where, expected = "iodine_sensitivity", "0 to 400 mm of water, 1e-5 to 0.1 g/cm2"
        refuse(where, expected, (behind_water_mm, iodine_g_cm2))
    spectra = spectra_of(protocols)
    if not spectra:
        refuse("iodine_sensitivity: protocols", "a protocol or more", "none")
    length = np.arange(0.0, 600.0, 0.5)
    out = []
    for _, energy, spectrum in spectra:
        middle = spectrum[len(spectrum) // 2]
        water = linear_attenuation_per_mm("water", energy)
        logarithm = -np.log(np.exp(-np.outer(length, water)) @ middle)
        both = (
            np.exp(-behind_water_mm * water - iodine_g_cm2 * mass_attenuation(material, energy)[0]) @ middle
        )
        equivalent_cm = (np.interp(-np.log(both), logarithm, length) - behind_water_mm) / 10.0
        out.append(equivalent_cm / iodine_g_cm2)  # HU per mg/ml: the factors of 1000 cancel
    return np.array(out)


def decompose_images(
    images: Sequence[xr.DataArray], sensitivity: ArrayLike, *, noise_hu: ArrayLike | None = None
) -> xr.Dataset:
    """Iodine and virtual non-contrast image from two or more CT images of different spectra.

    Solves ``hu_s = vnc + (a_s + b_s * iodine) * iodine`` in every voxel, by weighted least squares where there
    are more images than unknowns; with curvatures b by repetition.

    Parameters
    ----------
    images : sequence of DataArray ``hu`` (z, y, x)
        On one grid, of any array library.
    sensitivity : array (image, 2) or (image,)
        HU per mg/ml and per (mg/ml)^2 from :func:`twinlab.ct.spectral.iodine_calibration` for the patient's size;
        or HU per mg/ml alone, from :func:`iodine_sensitivity` or measured.
    noise_hu : array (image,), optional
        Standard deviations, for the weights; images are taken as independent. Default: equal.

    Returns
    -------
    Dataset
        ``iodine`` [mg/ml] and ``hu`` (virtual non-contrast), dims (z, y, x); ``iodine_noise_factor`` in
        attrs: mg/ml of noise for the given ``noise_hu`` (1 HU where there is none).

    Raises
    ------
    InputError
        Fewer than two images, other shapes, or sensitivities that are all alike.

    Limits
    ------
    Tissue without iodine must have the same CT number in all images, which holds for water and, within some HU,
    for soft tissue; bone counts as iodine. Sensitivities without curvature hold for one depth and one amount:
    twice the iodine reads up to 10 % less. Calibrated ones hold for one size of patient and width of vessel;
    iodine elsewhere on the rays hardens the beam too (1 to 2 % with six rods in 20 cm). Projection-domain
    decomposition has none of these limits.

    References
    ----------
    Johnson T R C et al. (2007) Material differentiation by dual energy CT. Eur Radiol 17:1510.
    """
    curves = np.asarray(sensitivity, float)
    curves = curves[:, np.newaxis] * [1.0, 0.0] if curves.ndim == 1 else curves
    if len(images) < 2 or curves.shape != (len(images), 2):
        refuse(
            "decompose_images", "two images or more and as many sensitivities", (len(images), curves.shape)
        )
    for image in images:
        check(image, "hu", where="decompose_images")
        if image.shape != images[0].shape:
            refuse("decompose_images", f"images of shape {images[0].shape}", image.shape)
    factors, bent = curves.T
    sd = np.ones(factors.size) if noise_hu is None else np.asarray(noise_hu, float)
    if np.ptp(factors) < 1e-3 * np.abs(factors).max() or sd.shape != factors.shape or sd.min() <= 0:
        refuse("decompose_images", "sensitivities that differ, and noise above 0", (factors, sd))
    weight = 1.0 / sd**2
    weight /= weight.sum()
    iodine = 0.0 * images[0].data
    for _ in range(_REPEATS if bent.any() else 1):
        slopes = [float(a) + float(b) * iodine for a, b in curves]
        mean_slope = sum(float(w) * k for w, k in zip(weight, slopes, strict=True))
        mean_hu = sum(float(w) * image.data for w, image in zip(weight, images, strict=True))
        over = [float(w) * (k - mean_slope) for w, k in zip(weight, slopes, strict=True)]
        spread = sum(o * (k - mean_slope) for o, k in zip(over, slopes, strict=True))
        iodine = sum(o * (image.data - mean_hu) for o, image in zip(over, images, strict=True)) / spread
    parts = mean_hu - mean_slope * iodine, iodine
    design = weight * (factors - weight @ factors)
    solve = design / (design @ factors)
    coords = {axis: images[0][axis] for axis in ("z", "y", "x") if axis in images[0].coords}
    made = {"decomposition": "image"}
    return xr.Dataset(
        {
            "hu": label("hu", parts[0], coords, **made, removed_material="iodine"),
            "iodine": label("iodine", parts[1], coords, **made),
        },
        attrs={"iodine_noise_factor": float(np.sqrt((solve**2 * sd**2).sum()))},
    )
