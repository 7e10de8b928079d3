"""Plain arrays that a transport run reads: geometry, cross sections, source.

Named tuples of arrays, because Numba passes them to CPU and GPU kernels alike. Lengths are mm from the
low corner of the grid box, energies keV, cross sections per density: mm-1 per g/cm3.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from twinlab.kernels.philox import INLINE

CUTOFF_KEV = 1.0
ENERGY_MAX_KEV = 150.0
PER_OCTAVE = 128  # energy nodes between powers of two keV: steps of 0.4 to 0.8 %
N_ENERGY = 920  # up to 151 keV
ENERGY_UNIT_KEV = 2.0**-20  # fixed point of energies and scores: integer sums do not depend on their order
SQUARE_UNIT = 2.0**-14  # of squared scores, keV^2; 1e10 histories of 150 keV stay below 2**63

_8, _24, _32 = np.uint64(8), np.uint64(24), np.uint64(32)
_BYTE, _WORD = np.uint64(0xFF), np.uint64(0xFFFF)
MAX_DEPOSITS = 192  # of one history; a photon of 150 keV reaches the cut-off or leaves long before


class Grid(NamedTuple):
    """Where the matter is.

    Voxels when ``kind[0] == 0``; when 1, solids (cylinders along z, boxes) inside the same box, the last wins.
    A record packs what a collision needs into one word, because fetching it from memory is what costs: bits 0
    to 7 the material, 8 to 23 the region, 32 to 63 the density as float32. Records of blocks hold the class of
    their majorant in bits 24 to 31, and density zero unless all their voxels are the same.
    """

    kind: np.ndarray  # (1,) int32
    size: np.ndarray  # (15,) float32, each x, y, z: box; voxel; block; 1 / voxel; 1 / block
    shape: np.ndarray  # (6,) int32: voxels z, y, x; blocks z, y, x with one block of rim on every side
    world: np.ndarray  # (6,) float32: low x, y, z; high x, y, z of the air around
    voxel: np.ndarray  # (n,) uint64, records
    block: np.ndarray  # (n,) uint64, records
    majorant: np.ndarray  # (energy step, class) float32, mm-1
    rod: np.ndarray  # (n, 9) float32: x, y, radius or half width, z low, z high, material, density, scored
    #                  fluence (0 or 1), half height of a box (0: a cylinder)
    air_density: np.ndarray  # (1,) float32, of the world; its matter is material 0


class Tables(NamedTuple):
    """Cross sections and angular distributions of the materials of a run; material 0 is the world's air."""

    cross: np.ndarray  # (material, energy, 4) float32: total, photo, photo + incoherent; area of F^2
    scatter: np.ndarray  # (material, N_X) float32, S(x)
    inverse_area: np.ndarray  # (material, N_A) float32
    kerma: np.ndarray  # (energy,) float32: mu_en/rho of the chamber's gas, cm2/g
    line: (
        np.ndarray
    )  # (material, n) int64: energies of K fluorescence, ENERGY_UNIT_KEV; n = 0: none is followed
    line_share: (
        np.ndarray
    )  # (material, n, energy) float32: photons per photoelectric absorption, cumulative over n
    shell: np.ndarray  # (material, m, 2) float32: cumulative share of the electrons, binding energy in keV;
    #                    m = 0: scattering by electrons at rest
    momentum: (
        np.ndarray
    )  # (material, m, N_P) float32: |p_z| / mc at even steps of the shell's Compton profile
    bound_scatter: (
        np.ndarray
    )  # (material, N_BOUND, N_X) float32, S(E, x) of bound electrons; no rows where m = 0
    absorption: np.ndarray  # (material, energy) float32: share of the energy that a photon leaves per density
    #                         and length, mm-1 per g/cm3


class Source(NamedTuple):
    """How photons start; see :mod:`twinlab.kernels.transport_source`."""

    kind: np.ndarray  # (1,) int32
    geometry: np.ndarray  # (n,) float32
    probability: np.ndarray  # alias table over (angle bin, energy bin)
    alias: np.ndarray
    energy: np.ndarray  # (energy bin, 2) float32: low edge and width, keV
    view_probability: np.ndarray  # alias table over views
    view_alias: np.ndarray
    stations: np.ndarray  # (view, 4) float32: angle, z and their change over the view


_SHIFT = np.int32(23 - 7)  # of the float32 bits: sign, exponent and seven bits of the mantissa are left
_FIRST = np.int32(127 * PER_OCTAVE)  # those of 1.0
_MASK = np.int32(2**16 - 1)
_FRACTION = np.float32(2.0**-16)
_I0 = np.int32(0)
_LAST = np.int32(N_ENERGY - 2)


def energy_grid() -> np.ndarray:
    """Nodes of the energy tables, (N_ENERGY,) keV: ``PER_OCTAVE`` even steps between powers of two."""
    octave, step = np.divmod(np.arange(N_ENERGY), PER_OCTAVE)
    return CUTOFF_KEV * 2.0**octave * (1.0 + step / PER_OCTAVE)


@njit(**INLINE)
def energy_position(energy):
    """Node below a float32 energy in :func:`energy_grid`, and the fraction of the step behind it.

    The bits of a float are a logarithm already: exponent and leading mantissa count the nodes.
    """
    bits = np.float32(energy).view(np.int32)
    i = (bits >> _SHIFT) - _FIRST
    return min(max(i, _I0), _LAST), np.float32(bits & _MASK) * _FRACTION


@njit(**INLINE)
def unpack(record):
    """Material, region and density of a record of :class:`Grid`."""
    density = np.uint32(record >> _32).view(np.float32)
    return np.int32(record & _BYTE), np.int64((record >> _8) & _WORD), density


def pack(material: np.ndarray, region: np.ndarray, density: np.ndarray) -> np.ndarray:
    """Records of :class:`Grid`, uint64, from material, region and density (g/cm3)."""
    bits = np.ascontiguousarray(density, dtype=np.float32).view(np.uint32).astype(np.uint64)
    low = np.asarray(material).astype(np.uint64) | (np.asarray(region).astype(np.uint64) << _8)
    return low | (bits << _32)
