"""Plain arrays that a transport run reads: geometry, cross sections, source.

Named tuples of arrays, because Numba passes them to CPU and GPU kernels alike. Lengths are mm from the
low corner of the grid box, energies keV, cross sections per density: mm-1 per g/cm3.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from twinlab.kernels.philox import DEVICE

CUTOFF_KEV = 1.0
ENERGY_MAX_KEV = 150.0
N_ENERGY = 1024  # log-spaced: 0.5 % steps, linear interpolation of mu errs by less than 4e-5
ENERGY_UNIT_KEV = 2.0**-20  # fixed point of energies and scores: integer sums do not depend on their order
SQUARE_UNIT = 2.0**-14  # of squared scores, keV^2; 1e10 histories of 150 keV stay below 2**63

TOTAL, PHOTO, SCATTER, AREA = 0, 1, 2, 3  # columns of Tables.cross
MAX_DEPOSITS = 192  # of one history; a photon of 150 keV reaches the cut-off or leaves long before


class Grid(NamedTuple):
    """Where the matter is.

    Voxels when ``kind[0] == 0``; when 1, a cylinder along z with rods in it, inside the same box.
    """

    kind: np.ndarray  # (1,) int32
    size: np.ndarray  # (9,) float32: box x, y, z; voxel x, y, z; block x, y, z
    world: np.ndarray  # (6,) float32: low x, y, z; high x, y, z of the air around
    material: np.ndarray  # (z, y, x) uint8
    density: np.ndarray  # (z, y, x) float32, g/cm3
    region: np.ndarray  # (z, y, x) uint16, dense index of the scored region
    block_class: np.ndarray  # (z, y, x) uint16
    majorant: np.ndarray  # (class, energy) float32, mm-1
    rod: np.ndarray  # (n, 8) float32: x, y, radius, z low, z high, material, density, scored fluence (0 or 1)
    air_density: np.ndarray  # (1,) float32, of the world; its matter is material 0


class Tables(NamedTuple):
    """Cross sections and angular distributions of the materials of a run; material 0 is the world's air."""

    cross: np.ndarray  # (material, energy, 4) float32: total, photo, photo + incoherent; area of F^2
    scatter: np.ndarray  # (material, N_X) float32, S(x)
    inverse_area: np.ndarray  # (material, N_A) float32
    kerma: np.ndarray  # (energy,) float32: mu_en/rho of the chamber's gas, cm2/g


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


_LOW_LOG = np.float32(math.log2(CUTOFF_KEV))
_PER_LOG = np.float32((N_ENERGY - 1) / math.log2(ENERGY_MAX_KEV / CUTOFF_KEV))


def energy_grid() -> np.ndarray:
    """Nodes of the energy tables, (N_ENERGY,) keV, even in the logarithm."""
    return np.geomspace(CUTOFF_KEV, ENERGY_MAX_KEV, N_ENERGY)


@njit(**DEVICE)
def energy_position(energy):
    """Node below an energy in :func:`energy_grid`, and the fraction of the step behind it."""
    position = (np.float32(math.log2(energy)) - _LOW_LOG) * _PER_LOG
    i = min(max(np.int32(position), np.int32(0)), np.int32(N_ENERGY - 2))
    return i, position - np.float32(i)
