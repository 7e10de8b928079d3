"""Spectra of tungsten X-ray tubes (SpekPy), and what dosimetry asks of them: HVL, energies, air kerma.

The tube's spectrum leaves SpekPy unfiltered, on a grid finer than the bins asked for; filters are applied
here with the cross sections of :mod:`twinlab.physics.attenuation`, so that tube, patient and detector share
one set of data; then the fine bins are summed. Air between focal spot and patient is not included: name it as
a filter (``{"air": 500.0}``) where it matters (0.5 m takes 1.4 % of the air kerma at 120 kV behind 5 mm Al).

References
----------
Poludniowski et al., Med. Phys. 48:3630 (2021) (SpekPy 2). Bujila et al., Phys. Medica 75:44 (2020).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache

import numpy as np
import spekpy
import xarray as xr
from scipy.optimize import brentq

from twinlab.physics import attenuation, materials
from twinlab.physics.attenuation import ENERGY_RANGE_KEV
from twinlab.physics.materials import Material
from twinlab.schema import label, refuse

KV_RANGE = (40.0, 150.0)
ANODE_ANGLE_RANGE_DEG = (0.5, 40.0)  # the lowest are take-off angles of rays along the heel
BIN_WIDTH_RANGE_KEV = (0.1, 20.0)
# SpekPy's default in version 2: its most complete electron transport model with continuous angular sampling.
_PHYSICS = "casim"
# SpekPy samples the continuum at bin centres; from 0.25 to 0.1 keV the HVL behind 1 mm Al changes by 0.03 %.
_FINEST_KEV = 0.25
_KEV_PER_G_TO_MGY = 1.602176634e-16 * 1e3 * 1e3  # J per keV, g per kg, mGy per Gy


def tube_spectrum(
    *, kv: float, anode_angle_deg: float, filters: Mapping[str, float], bin_width_kev: float = 1.0
) -> xr.DataArray:
    """Spectrum of a tungsten reflection tube behind flat filters, on the central ray.

    Parameters
    ----------
    kv : float
        Tube voltage, constant potential, 40 to 150.
    anode_angle_deg : float
        Angle between the anode's surface and the ray, 0.5 to 40: the anode's own on the central ray.
    filters : mapping of material key to float
        Thickness in mm, inherent filtration included; the order does not matter. May be empty.
    bin_width_kev : float
        Width of the energy bins, 0.1 to 20. The last bin's upper edge is ``kv``; the first bin's lower edge
        is the lowest one not under 1 keV.

    Returns
    -------
    DataArray ``fluence``, dims (energy), photons/mm2/mAs per bin at 1 m
        ``energy``: bin centres. attrs ``kv``, ``anode_angle_deg``, ``bin_width_kev``, ``filters``.

    Raises
    ------
    InputError
        A value out of its range, an unknown filter material, a negative thickness.

    Examples
    --------
    >>> beam = tube_spectrum(kv=120, anode_angle_deg=7, filters={"aluminum": 3.0})
    >>> float(beam.energy[-1])
    119.5
    """
    _within("kv", kv, KV_RANGE)
    _within("anode_angle_deg", anode_angle_deg, ANODE_ANGLE_RANGE_DEG)
    _within("bin_width_kev", bin_width_kev, BIN_WIDTH_RANGE_KEV)
    thickness = _thicknesses(filters, "tube_spectrum")
    energy, fluence = _filtered_tube(
        float(kv), float(anode_angle_deg), tuple(sorted(thickness.items())), float(bin_width_kev)
    )
    return label(
        "fluence",
        fluence.copy(),
        {"energy": energy.copy()},
        kv=float(kv),
        anode_angle_deg=float(anode_angle_deg),
        bin_width_kev=float(bin_width_kev),
        filters=_described(thickness),
        source=f"SpekPy {spekpy.__version__}, physics {_PHYSICS}",
    )


def filtered(spectrum: xr.DataArray, filters: Mapping[str, float]) -> xr.DataArray:
    """Spectrum behind further filters, each bin attenuated at its centre.

    Parameters
    ----------
    spectrum : DataArray with dim energy
        Any photon spectrum; other dims (``fan_angle``) are kept.
    filters : mapping of material key to float
        Thickness in mm, at least 0.

    Raises
    ------
    InputError
        No energy coordinate, an unknown material, a negative thickness.
    """
    energy = _energy(spectrum, "filtered")
    thickness = _thicknesses(filters, "filtered")
    transmission = xr.DataArray(_transmission(thickness, energy), {"energy": energy}, dims=("energy",))
    out = (spectrum * transmission).transpose(*spectrum.dims)
    out.name, out.attrs = spectrum.name, dict(spectrum.attrs)
    if thickness:
        before = spectrum.attrs.get("filters", "")
        out.attrs["filters"] = ", ".join(part for part in (before, _described(thickness)) if part)
    return out


def mean_energy_kev(spectrum: xr.DataArray) -> float:
    """Mean photon energy of a spectrum, weighted by fluence, keV."""
    energy, weight = _one(spectrum, "mean_energy_kev")
    return float(np.dot(energy, weight) / weight.sum())


def hvl_mm(
    spectrum: xr.DataArray, material: str | Material = "aluminum", *, transmission: float = 0.5
) -> float:
    """Half-value layer by air kerma in narrow-beam geometry.

    Parameters
    ----------
    spectrum : DataArray, dims (energy)
        Photons per bin, any scale.
    material : str or Material
        Absorber.
    transmission : float
        Fraction of the air kerma that the layer lets through; 0.25 gives the quarter-value layer.

    Returns
    -------
    float
        Thickness in mm.

    Raises
    ------
    InputError
        Unknown material, transmission not between 0 and 1, an empty spectrum.
    """
    if not 0 < transmission < 1:
        refuse("hvl_mm", "a transmission between 0 and 1", transmission)
    energy, fluence = _one(spectrum, "hvl_mm")
    kerma = fluence * energy * attenuation.mass_energy_absorption("air", energy)[0]
    mu = attenuation.linear_attenuation_per_mm(material, energy)
    total = kerma.sum()

    def excess(thickness_mm: float) -> float:
        return float(np.dot(kerma, np.exp(-mu * thickness_mm)) / total - transmission)

    # The layer lies between those that the most and the least attenuated photons would need.
    present = mu[kerma > 0]
    depth = -math.log(transmission)
    return float(
        brentq(excess, 0.999 * depth / present.max(), 1.001 * depth / present.min(), xtol=1e-9, rtol=1e-10)
    )


def effective_energy_kev(spectrum: xr.DataArray, material: str | Material = "aluminum") -> float:
    """Energy of the monochromatic beam with the same half-value layer in the material, keV.

    Where the attenuation of the material has absorption edges, the highest such energy.

    Raises
    ------
    InputError
        No energy from 1 to 200 keV has that half-value layer.
    """
    made_of = materials.get(material)
    wanted = math.log(2) / hvl_mm(spectrum, made_of)
    grid = np.geomspace(*ENERGY_RANGE_KEV, 512)
    above = np.nonzero(attenuation.linear_attenuation_per_mm(made_of, grid) >= wanted)[0]
    if above.size == 0 or above[-1] == grid.size - 1:
        refuse(
            "effective_energy_kev",
            "a beam with an HVL between those of 1 and 200 keV",
            f"mu {wanted:g} per mm",
        )

    def excess(energy_kev: float) -> float:
        return math.log(float(attenuation.linear_attenuation_per_mm(made_of, [energy_kev])[0]) / wanted)

    return float(brentq(excess, grid[above[-1]], grid[above[-1] + 1], xtol=1e-6))


def air_kerma_mgy_per_mas(spectrum: xr.DataArray) -> float:
    """Air kerma (collision) free in air where the fluence is given, 1 m for :func:`tube_spectrum`, mGy/mAs.

    Parameters
    ----------
    spectrum : DataArray ``fluence``, dims (energy), photons/mm2/mAs per bin

    Raises
    ------
    InputError
        The spectrum is not in photons/mm2/mAs.
    """
    energy, fluence = _one(spectrum, "air_kerma_mgy_per_mas")
    if spectrum.attrs.get("units") != "mm-2 mAs-1":
        refuse("air_kerma_mgy_per_mas", "fluence in mm-2 mAs-1", f"units {spectrum.attrs.get('units')!r}")
    mu_en = attenuation.mass_energy_absorption("air", energy)[0]
    # 100 mm2 in a cm2: fluence per cm2 times cm2/g.
    return float(100 * np.dot(fluence * energy, mu_en) * _KEV_PER_G_TO_MGY)


@lru_cache(maxsize=1024)
def _filtered_tube(
    kv: float, anode_angle_deg: float, filters: tuple[tuple[str, float], ...], bin_width_kev: float
) -> tuple[np.ndarray, np.ndarray]:
    n_fine = math.ceil(bin_width_kev / _FINEST_KEV - 1e-9)
    n_bins = math.floor((kv - ENERGY_RANGE_KEV[0]) / bin_width_kev + 1e-9)
    fine, fluence = _bare_tube(kv, anode_angle_deg, bin_width_kev / n_fine)
    keep = n_bins * n_fine
    fine, fluence = fine[-keep:], fluence[-keep:]
    behind = fluence * _transmission(dict(filters), fine)
    energy = kv - bin_width_kev * (np.arange(n_bins, 0, -1) - 0.5)
    return energy, behind.reshape(n_bins, n_fine).sum(axis=1)


@lru_cache(maxsize=512)
def _bare_tube(kv: float, anode_angle_deg: float, width_kev: float) -> tuple[np.ndarray, np.ndarray]:
    """Bin centres (keV, first bin at 1 keV or above, last edge kv) and photons/mm2/mAs per bin at 1 m."""
    tube = spekpy.Spek(kvp=kv, th=anode_angle_deg, dk=width_kev, physics=_PHYSICS, z=100.0, mas=1.0)
    centres, per_cm2 = tube.get_spectrum(edges=False, diff=False)
    n = math.floor((kv - ENERGY_RANGE_KEV[0]) / width_kev + 1e-9)
    energy = kv - width_kev * (np.arange(n, 0, -1) - 0.5)
    fluence = np.zeros(n)
    # SpekPy may start a bin later than 1 keV; its last bin ends at kv, as here.
    m = min(n, centres.size)
    fluence[-m:] = np.asarray(per_cm2)[-m:] / 100
    if not np.allclose(centres[-m:], energy[-m:], atol=1e-6):
        refuse("tube_spectrum", "SpekPy bins that end at kv", f"a last bin centre of {centres[-1]:g} keV")
    return energy, fluence


def _transmission(thickness_mm: Mapping[str, float], energy: np.ndarray) -> np.ndarray:
    exponent = np.zeros_like(energy)
    for key, millimetres in thickness_mm.items():
        if millimetres > 0:
            exponent += attenuation.linear_attenuation_per_mm(key, energy) * millimetres
    return np.exp(-exponent)


def _thicknesses(filters: Mapping[str, float], where: str) -> dict[str, float]:
    if not isinstance(filters, Mapping):
        refuse(where, "filters as a mapping of material key to mm", repr(filters))
    out: dict[str, float] = {}
    for key, millimetres in filters.items():
        material = materials.get(key)
        if not (math.isfinite(millimetres) and millimetres >= 0):
            refuse(where, f"a thickness of {material.key} of 0 mm or more", millimetres)
        out[material.key] = out.get(material.key, 0.0) + float(millimetres)
    return out


def _described(thickness_mm: Mapping[str, float]) -> str:
    return ", ".join(f"{key} {millimetres:g} mm" for key, millimetres in thickness_mm.items())


def _within(name: str, value: float, limits: tuple[float, float]) -> None:
    if not limits[0] <= value <= limits[1]:
        refuse("tube_spectrum", f"{name} from {limits[0]:g} to {limits[1]:g}", value)


def _energy(spectrum: xr.DataArray, where: str) -> np.ndarray:
    if (
        not isinstance(spectrum, xr.DataArray)
        or "energy" not in spectrum.coords
        or "energy" not in spectrum.dims
    ):
        refuse(where, "a DataArray with an energy dim and coordinate", type(spectrum).__name__)
    return np.asarray(spectrum["energy"], dtype=float)


def _one(spectrum: xr.DataArray, where: str) -> tuple[np.ndarray, np.ndarray]:
    energy = _energy(spectrum, where)
    values = np.asarray(spectrum, dtype=float)
    if values.ndim != 1:
        refuse(where, "a spectrum with dims ('energy',)", f"dims {spectrum.dims}")
    if not (np.all(values >= 0) and values.sum() > 0):
        refuse(where, "photon numbers of 0 or more, not all 0", f"{values.min():g} to {values.max():g}")
    return energy, values
