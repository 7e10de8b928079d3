"""Second-order beam-hardening correction: bone, iodine and other dense matter, in two passes or more.

The water correction is right for water. A ray through bone is hardened more, for all that stands behind it:
inserts and bones lower each other's CT numbers and join each other by dark bands. Following Joseph and
Spital, dense matter is taken from a first image and projected again; the scanner's spectral model then says
how much water each ray has met besides, and what it would have measured at one energy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from twinlab.ct.artefacts.reproject import reproject
from twinlab.ct.detector import detected
from twinlab.ct.recon import reconstruct
from twinlab.ct.scan import acquire
from twinlab.kernels.device import Device, namespace
from twinlab.physics.attenuation import mass_attenuation
from twinlab.physics.materials import get as material_of
from twinlab.scanner import Protocol
from twinlab.schema import check, label, refuse

NEWTON_STEPS = 2  # the slope over water is 1 within a few per cent: errors fall as 1e-2, 1e-4
FloatArray = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Dense:
    """Matter that stands in water, by its CT number: a voxel is a mixture of both.

    Attributes
    ----------
    material : str
        Key of :mod:`twinlab.physics.materials`.
    low_hu, high_hu : float
        CT numbers from which a voxel counts in part, and in full.
    where : DataArray of bool, dims (z, y, x), optional
        Voxels in question, on the image's grid; CT numbers then play no part in the choice. For test
        objects, whose inserts are known, and for segmentations.
    """

    material: str
    low_hu: float = 150.0
    high_hu: float = 350.0
    where: xr.DataArray | None = None

    def density(self, image: xr.DataArray, *, energy_kev: float) -> NDArray[np.float32]:
        """Mass of the material per volume of each voxel [g/cm3], from attenuation at one energy.

        ``mu = mu_water (1 - rho / rho_m) + (mu/rho)_m rho``: ideal mixing with water.
        """
        own = material_of(self.material)
        water, dense = mass_attenuation(["water", self.material], [energy_kev])[:, 0]
        per_hu = water / 1000.0 / (dense - water / own.density_g_cm3)
        chosen = None if self.where is None else self.where.to_numpy()
        density = mixed(image.to_numpy(), self.low_hu, self.high_hu, chosen) * per_hu
        return np.asarray(density, np.float32)


def mixed(hu: Any, low_hu: float, high_hu: float, chosen: Any = None) -> Any:
    """CT numbers times the share of each voxel that counts; arrays of any namespace.

    The share grows from 0 at ``low_hu`` to 1 at ``high_hu``, or is 1 in the voxels ``chosen`` (bool) and 0 elsewhere.
    Voxels that are not finite count for nothing.
    """
    xp = namespace(hu)
    known = xp.where(xp.isfinite(hu), hu, xp.zeros_like(hu))
    if chosen is not None:
        return xp.where(chosen, known, xp.zeros_like(hu))
    return known * xp.clip((known - low_hu) / (high_hu - low_hu), min=0.0, max=1.0)


def bone_correction(
    projections: xr.Dataset,
    protocol: Protocol,
    *,
    grid: Mapping[str, Any],
    dense: Sequence[Dense] = (Dense("bone_cortical"),),
    passes: int = 3,
    device: Device = "auto",
) -> xr.Dataset:
    """Projections of one energy from water-corrected ones: hardening by dense matter taken out.

    For every ray that meets dense matter, with the line integrals ``B_m`` of its densities taken from the
    image, the amount of water ``L`` is found that makes the scanner's model give the measured projection;
    the result is ``mu_water(E) L + sum_m (mu/rho)_m(E) B_m`` at the reference energy E of the water
    correction. An error of B counts only by the difference of the material's attenuation at E and in the
    beam, so two or three passes are enough. Rays without dense matter stay as they are.

    Parameters
    ----------
    projections : Dataset
        From :func:`twinlab.ct.acquire`, water-corrected.
    protocol : Protocol
        The scan's: its spectrum, bowtie and detector.
    grid : mapping
        ``z``, ``y``, ``x`` of the image in which dense matter is looked for [mm]; it must hold all of it in
        x and y. In z its end slices go on.
    dense : sequence of Dense
        Materials; the ranges of CT number should not overlap.
    passes : int
        Reconstruct, segment and correct so often.
    device : "auto", "cpu" or "cuda"
        Of the images and the projection of matter; the spectral model runs on the processor.

    Returns
    -------
    Dataset
        As ``projections``; attrs ``bone_correction`` (the materials) and ``bone_passes``.

    Raises
    ------
    InputError
        No dense material, no pass, a range without width, or projections of another scanner.

    Limits
    ------
    A CT number does not say what a voxel is made of: PTFE corrected as bone is worse than left alone
    (``where`` tells them apart). Matter outside the image is not seen.

    References
    ----------
    Joseph P M, Spital R D (1978) A method for correcting bone induced artifacts in computed tomography
    scanners. J Comput Assist Tomogr 2:100, eqs 6 to 12.
    """
    check(projections, "projection", where="bone_correction")
    _sound(dense, passes, projections, protocol)
    energy = float(projections.attrs["reference_kev"])
    names = ["water", *(one.material for one in dense)]
    mu = mass_attenuation(names, [energy])[:, 0]
    corrected = projections
    for _ in range(passes):
        image = reconstruct(corrected, protocol, grid=grid, device=device)
        volumes = np.stack([one.density(image, energy_kev=energy) for one in dense])
        mass = reproject(volumes, image, projections, slice_mm=protocol.slice_thickness_mm, device=device)
        met = np.abs(mass).max(axis=0) > 0.0
        water = water_beside(projections, mass, names, protocol, mu)
        value = mu[0] * water + np.tensordot(mu[1:].astype(np.float32), mass, 1)
        value = np.where(met, value, projections["projection"].to_numpy())
        corrected = projections.assign(projection=projections["projection"].copy(data=value))
    corrected.attrs.update(bone_correction=", ".join(names[1:]), bone_passes=int(passes))
    return corrected


def _sound(dense: Sequence[Dense], passes: int, projections: xr.Dataset, protocol: Protocol) -> None:
    if not dense or passes < 1:
        refuse("bone_correction", "a dense material or more, and a pass or more", (len(dense), passes))
    for one in dense:
        if one.where is None and not one.high_hu > one.low_hu:
            refuse(f"bone_correction: {one.material}", "high_hu above low_hu", (one.low_hu, one.high_hu))
    if projections.attrs.get("scanner") != protocol.scanner.key:
        scanner = projections.attrs.get("scanner")
        refuse("bone_correction", f"projections of {protocol.scanner.key!r}", repr(scanner))


def water_beside(
    projections: xr.Dataset, mass: FloatArray, names: Sequence[str], protocol: Protocol, mu: FloatArray
) -> FloatArray:
    """Water [g/cm2] that each ray has met besides some dense matter, from the scanner's spectral model.

    Parameters
    ----------
    projections : Dataset
    mass : array (n, view, row, channel), g/cm2
    names : sequence of str
        "water" and the n materials.
    protocol : Protocol
    mu : array (n + 1,), cm2/g
        Their mass attenuation at the reference energy: the first guess.
    """
    measured = projections["projection"].to_numpy()
    coords = {name: projections[name] for name in ("row", "fan_angle", "u") if name in projections.coords}
    path = np.empty((len(names), *measured.shape), np.float32)
    path[1:] = mass
    path[0] = (measured - np.tensordot(mu[1:].astype(np.float32), mass, 1)) / mu[0]
    fields = {name: projections[name] for name in ("view_angle", "source_z", "row_lo", "row_hi")}
    rays = xr.Dataset(
        {
            **fields,
            "path": label("path", path, coords),
            "mixing": label("mixing", np.eye(len(names)), {"mixed_material": list(names)}),
            "basis_mu": label("basis_mu", mass_attenuation(list(names), _ENERGIES), {"energy": _ENERGIES}),
        },
        attrs=projections.attrs,
    )
    for _ in range(NEWTON_STEPS):
        signals = detected(rays, protocol)
        model = acquire(rays, protocol, seed=0, noise=False, mas=_PLENTY_MAS, signals=signals)
        path[0] += (measured - model["projection"].to_numpy()) / mu[0]
    return path[0]


_ENERGIES = np.arange(20.0, 151.0)
_PLENTY_MAS = 1e6  # far from the lowest reading, which would bend the model
