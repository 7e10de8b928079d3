"""From basis line integrals to images: materials, and virtual monoenergetic scans with their noise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from twinlab.ct.recon import reconstruct
from twinlab.physics.attenuation import linear_attenuation_per_mm, mass_attenuation
from twinlab.schema import check, label, refuse

VMI_KEV = (40.0, 190.0)
_UNIT = 1e-3  # stands for water's attenuation when a density is reconstructed: keeps float32 digits


def monoenergetic_projections(basis: xr.Dataset, kev: float) -> xr.Dataset:
    """Projections as a monochromatic beam would give them: ``sum_k mu_k(E) * path_k``.

    Parameters
    ----------
    basis : Dataset
        From :func:`twinlab.ct.spectral.decompose`.
    kev : float
        40 to 190 keV.

    Returns
    -------
    Dataset
        ``projection`` and ``variance`` (view, row, channel), geometry, ``mu_water_per_mm``: what
        :func:`twinlab.ct.reconstruct` takes; CT numbers are relative to water at ``kev``. ``variance`` is
        ``sum_kl mu_k mu_l cov_kl``, least at an energy that depends on the scan (often 60 to 75 keV).

    Raises
    ------
    InputError
        No decomposition, or an energy out of range.

    References
    ----------
    Yu L, Leng S, McCollough C H (2012) Dual-energy CT-based monochromatic imaging. AJR 199:S9.
    """
    check(basis, "basis_path", "basis_covariance", where="monoenergetic_projections")
    _in_range(kev, "monoenergetic_projections: kev")
    names = [str(name) for name in basis["basis_material"].to_numpy()]
    mu = mass_attenuation(names, [kev])[:, 0].astype(np.float32)
    projection = np.einsum("k,kvrc->vrc", mu, basis["basis_path"].to_numpy())
    variance = np.einsum("k,l,klvrc->vrc", mu, mu, basis["basis_covariance"].to_numpy())
    return _scan(
        basis, projection, variance, float(linear_attenuation_per_mm("water", [kev])[0]), kev=float(kev)
    )


def material_projections(basis: xr.Dataset, material: str) -> xr.Dataset:
    """Line integrals of one basis material as projections, for :func:`basis_image` or a noise analysis.

    Reconstructed, they give ``1e5 * density [g/cm3] - 1000`` in place of CT numbers.

    Raises
    ------
    InputError
        No decomposition, or not one of its materials.
    """
    check(basis, "basis_path", "basis_covariance", where="material_projections")
    names = [str(name) for name in basis["basis_material"].to_numpy()]
    if material not in names:
        refuse("material_projections: material", f"one of {', '.join(names)}", repr(material))
    k = names.index(material)
    path, variance = basis["basis_path"].to_numpy()[k], basis["basis_covariance"].to_numpy()[k, k]
    return _scan(basis, path, variance, _UNIT, material=material)


def basis_image(
    basis: xr.Dataset, material: str, protocol: Any = None, *, grid: Mapping[str, Any], **options: Any
) -> xr.DataArray:
    """Mass density of a basis material, or iodine in mg/ml.

    Parameters
    ----------
    basis : Dataset
        From :func:`twinlab.ct.spectral.decompose`.
    material : str
    protocol : Protocol, optional
    grid, **options
        As for :func:`twinlab.ct.reconstruct`.

    Returns
    -------
    DataArray, dims (z, y, x)
        ``iodine`` [mg/ml] for "iodine", else ``basis_density`` [g/cm3].

    Raises
    ------
    InputError
        See :func:`material_projections` and :func:`twinlab.ct.reconstruct`.
    """
    image = reconstruct(material_projections(basis, material), protocol, grid=grid, **options)
    # the reconstruction is 1000 * x / _UNIT - 1000 with x in g/cm2 per mm, a tenth of g/cm3
    density = (image.to_numpy() + 1000.0) * (_UNIT / 1000.0 * 10.0)
    coords = {axis: image[axis] for axis in ("z", "y", "x")}
    attrs = {name: value for name, value in image.attrs.items() if name not in ("units", "long_name")}
    attrs["decomposition"] = "projection"
    if material == "iodine":
        return label("iodine", density * 1000.0, coords, **attrs)
    return label("basis_density", density, coords, material=material, **attrs)


def _in_range(kev: float, where: str) -> None:
    if not VMI_KEV[0] <= kev <= VMI_KEV[1]:
        refuse(where, f"{VMI_KEV[0]:g} to {VMI_KEV[1]:g} keV", kev)


def _scan(
    basis: xr.Dataset, projection: np.ndarray, variance: np.ndarray, mu_water: float, **attrs: Any
) -> xr.Dataset:
    kept = ("view_angle", "source_z", "row_lo", "row_hi", "focal_shift")
    coords = {name: basis[name] for name in ("row", "fan_angle", "u") if name in basis.coords}
    return xr.Dataset(
        {
            **{name: basis[name] for name in kept if name in basis},
            "projection": label("projection", projection, coords),
            "variance": label("variance", variance, coords),
        },
        attrs={**basis.attrs, **attrs, "mu_water_per_mm": mu_water},
    )
