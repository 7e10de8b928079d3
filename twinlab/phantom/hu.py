"""CT numbers to material and density, for the tube voltage of the scan.

The segments of composition are those of Schneider et al. (2000). Density is not read from their curve,
which holds for their scanner at 120 kV, but is the one at which the material shows the CT number measured::

    density = (1 + HU/1000) * mu_water / (mu/rho of the material)

with mu averaged over the scan's spectrum behind 20 cm of water. A virtual scan at the same kV thus gives the
images' CT numbers back. The edges between segments move with kV too: an edge is where a tissue of the mean
composition of its neighbours, at Schneider's density, has its CT number.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from twinlab.phantom.build import AIR_DENSITY_G_CM3
from twinlab.schema import refuse

SEGMENTS = (2, 3, 5, 7, 8, 10, 12, 14, 16, 18, 21, 24)
"""Schneider segments in use beside air: every second bone; neighbours share what a left-out one holds."""

METAL = "titanium"
METAL_HU = 3000.0
"""From here on it is metal: 12-bit images end at 3071 HU, and enamel and dense bone stay below."""

LUT_START, LUT_STOP = -1024, 4096
KV_RANGE = (60.0, 150.0)


class CtScale(NamedTuple):
    """What a scanner's CT numbers mean: weights of energies in its signal, behind a typical body.

    Attributes
    ----------
    energy_kev : ndarray, shape (energy,)
    weights : ndarray, shape (energy,)
        Sum 1.
    """

    energy_kev: np.ndarray
    weights: np.ndarray

    def mass_attenuation(self, names: Sequence[str]) -> np.ndarray:
        """Effective mass attenuation of materials, shape (n,), cm2/g."""
        from twinlab.physics.attenuation import mass_attenuation

        return np.asarray(mass_attenuation(list(names), self.energy_kev)) @ self.weights

    def density_per_hu(self, names: Sequence[str]) -> np.ndarray:
        """Density of materials per unit of ``1000 + HU``, shape (n,), g/cm3."""
        return float(self.mass_attenuation(["water"])[0]) / self.mass_attenuation(names) / 1000.0

    def hu(self, names: Sequence[str], density_g_cm3: np.ndarray | float) -> np.ndarray:
        """CT numbers of materials at given densities, shape (n,)."""
        return np.asarray(density_g_cm3 / self.density_per_hu(names) - 1000.0)


@lru_cache(maxsize=32)
def ct_scale(kv: float, *, water_mm: float = 200.0, aluminum_mm: float = 7.0) -> CtScale:
    """Scale of an energy-integrating CT scanner.

    Parameters
    ----------
    kv : float
        Tube voltage, 60 to 150.
    water_mm : float
        Water in front: hardens the beam as a body does. From 100 to 300 mm it moves the density of bone of
        1000 HU by about 2 %, that of soft tissue by less than 0.2 %.
    aluminum_mm : float
        Tube and beam-shaping filters; 7 mm gives half-value layers usual for body CT (8 mm at 120 kV).

    Returns
    -------
    CtScale
        Weights are fluence behind filters and water, times energy.

    Raises
    ------
    InputError
        kV outside 60 to 150.
    """
    if not KV_RANGE[0] <= kv <= KV_RANGE[1]:
        refuse("ct_scale", f"kv from {KV_RANGE[0]:g} to {KV_RANGE[1]:g}", kv)
    from twinlab.physics.attenuation import mass_attenuation
    from twinlab.physics.spectra import tube_spectrum

    spectrum = tube_spectrum(kv=kv, anode_angle_deg=7.0, filters={"aluminum": aluminum_mm}, bin_width_kev=1.0)
    energy = np.asarray(spectrum["energy"].values, float)
    water_cm2_g = np.asarray(mass_attenuation(["water"], energy))[0]
    weights = np.asarray(spectrum.values, float) * energy * np.exp(-water_cm2_g * water_mm / 10.0)
    keep = weights > 0
    return CtScale(energy[keep], weights[keep] / weights.sum())


class Tissue(NamedTuple):
    """Voxels made of matter: index into ``names``, and density [g/cm3]."""

    material: np.ndarray
    density: np.ndarray
    names: list[str]


def segment_names(segments: Sequence[int] = SEGMENTS) -> list[str]:
    """Material of each segment in use, air first."""
    return ["air", *(f"schneider_{s:02d}" for s in segments)]


def segment_edges(scale: CtScale, segments: Sequence[int] = SEGMENTS) -> np.ndarray:
    """CT numbers that part the segments of :func:`segment_names`, shape (n_segments,), ascending."""
    from twinlab.physics.materials import schneider_density_g_cm3, schneider_hu_edges

    lower = np.append(schneider_hu_edges(), 1600.0)
    used = [1, *segments]
    if list(segments) != sorted(set(segments)) or segments[0] < 2 or segments[-1] > 24:
        refuse("segment_edges", "segments ascending from 2 to 24", segments)
    # lower[s] is where segment s ends (numbers from 1); a gap is shared by half
    nominal = np.array([0.5 * (lower[a] + lower[b - 1]) for a, b in pairwise(used)])
    per_density = scale.mass_attenuation(["water", *(f"schneider_{s:02d}" for s in used)])
    between = 0.5 * (per_density[1:-1] + per_density[2:])
    shown = 1000.0 * (schneider_density_g_cm3(nominal) * between / per_density[0] - 1.0)
    shown[0] = nominal[0]  # air against lung: a matter of how much air, not of what it is made of
    return np.maximum.accumulate(shown)


def hu_to_tissue(
    hu: np.ndarray,
    *,
    kv: float = 120.0,
    scale: CtScale | None = None,
    segments: Sequence[int] = SEGMENTS,
    metal_hu: float | None = METAL_HU,
) -> Tissue:
    """Material and density of CT numbers, without knowledge of organs.

    Parameters
    ----------
    hu : array_like, any shape, units HU
    kv : float
        Tube voltage of the scan.
    scale : CtScale, optional
        Energies of the scanner at hand instead of :func:`ct_scale` of ``kv``.
    segments : sequence of int
        Schneider segments to use.
    metal_hu : float, optional
        From here on titanium at its own density (images end before its CT number does); None: no metal.

    Returns
    -------
    Tissue
        ``material`` uint8, ``density`` float32 [g/cm3], shapes as ``hu``; never less dense than air.

    References
    ----------
    Schneider, Bortfeld and Schlegel, Phys. Med. Biol. 45:459 (2000).
    """
    scale = scale or ct_scale(float(kv))
    names = [*segment_names(segments), METAL]
    row = segment_row(scale, segments, metal_hu)
    table = TissueTable(names, row[None, :], *density_rules(names, scale))
    values = np.asarray(hu, np.float32)
    material, density = table.apply(np.atleast_1d(values), np.zeros(1, np.uint8), None)
    return Tissue(material.reshape(values.shape), density.reshape(values.shape), names)


def segment_row(scale: CtScale, segments: Sequence[int], metal_hu: float | None) -> np.ndarray:
    """Index into ``[*segment_names(segments), METAL]`` of whole CT numbers, LUT_START to LUT_STOP."""
    numbers = np.arange(LUT_START, LUT_STOP + 1)
    row = np.digitize(numbers, segment_edges(scale, segments)).astype(np.uint8)
    if metal_hu is not None:
        row[numbers >= metal_hu] = len(segments) + 1
    return row


def density_rules(names: Sequence[str], scale: CtScale) -> tuple[np.ndarray, np.ndarray]:
    """Slope on ``1000 + HU`` and least density of each material; metal has its own density and no slope."""
    from twinlab.physics.materials import get

    slope = scale.density_per_hu(names)
    least = np.full(len(names), AIR_DENSITY_G_CM3)
    for index, name in enumerate(names):
        if name == METAL:
            slope[index], least[index] = 0.0, get(name).density_g_cm3
    return slope, least


class TissueTable(NamedTuple):
    """Conversion tables: one row of materials by CT number for each class of tissue.

    Attributes
    ----------
    names : list of str
    rows : ndarray of uint8, shape (n_classes, n_numbers)
    slope, least : ndarray, shape (n_names,)
        ``density = max(least, slope * (1000 + HU))``.
    """

    names: list[str]
    rows: np.ndarray
    slope: np.ndarray
    least: np.ndarray

    def apply(
        self, hu: np.ndarray, class_of: np.ndarray, index: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Material and density of voxels; ``class_of[index]`` is a voxel's row (row 0 without index)."""
        material = np.empty(hu.shape, np.uint8)
        density = np.empty(hu.shape, np.float32)
        slope, least = self.slope.astype(np.float32), self.least.astype(np.float32)
        slices = range(hu.shape[0]) if hu.ndim > 1 else [slice(None)]
        for k in slices:  # slice by slice: temporary arrays stay small
            number = np.clip(np.rint(hu[k]), LUT_START, LUT_STOP).astype(np.int16) - np.int16(LUT_START)
            row = class_of[0] if index is None else class_of[index[k]]
            material[k] = self.rows[row, number]
            density[k] = np.maximum(least[material[k]], slope[material[k]] * (np.float32(1000.0) + hu[k]))
        return material, density


def tissue_to_hu(
    material: np.ndarray,
    density: np.ndarray,
    names: Sequence[str],
    *,
    kv: float = 120.0,
    scale: CtScale | None = None,
) -> np.ndarray:
    """CT numbers that voxels of matter show at a tube voltage (the inverse of :func:`hu_to_tissue`).

    Parameters
    ----------
    material : array_like of int
        Index into ``names``.
    density : array_like, units g/cm3
    names : sequence of str

    Returns
    -------
    ndarray, units HU
    """
    slope = (scale or ct_scale(float(kv))).density_per_hu(names)
    return np.asarray(density) / slope[np.asarray(material)] - 1000.0
