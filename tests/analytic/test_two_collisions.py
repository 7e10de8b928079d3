"""The first two flights of photons in a cylinder against a quadrature of cross sections, made of numpy and xraylib.

The quadrature shares no table and no code with the transport: Klein-Nishina times S(x, Z) and Thomson times F(x, Z)^2
over the deflection, xraylib's cross sections, exponentials along exact chords. Geometry and beam are those of
case 4.1 of AAPM Report 195: energy left in discs of a cylinder of PMMA by photons of 56.4 keV, by order of flight.
"""

from __future__ import annotations

import math

import numba
import numpy as np
import xraylib
from scipy.stats import qmc

from twinlab.dose import tg195
from twinlab.kernels.philox import draw_five, key
from twinlab.kernels.sampling import free_path
from twinlab.kernels.transport_collision import VIRTUAL, collide
from twinlab.kernels.transport_data import ENERGY_UNIT_KEV, energy_position
from twinlab.kernels.transport_source import emit
from twinlab.kernels.transport_track import GONE, advance, ambience, approach, score_fluence
from twinlab.phantom.transport_grid import Rod

REST, HC = 510.99895069, 12.398419843  # keV, keV angstrom
PMMA = {1: 0.080541, 6: 0.599846, 8: 0.319613}
DENSITY, RADIUS, DISTANCE, HALF, ENERGY = 1.19, 160.0, 600.0, 5.0, 56.4  # g/cm3, mm, mm, mm, keV
AIR = {6: 0.000124, 7: 0.755268, 8: 0.231781, 18: 0.012827}
DISCS = [(10.0 * k - 5.0, 10.0 * k + 5.0) for k in range(4)]
POINTS, REPEATS = 2**16, 10
BATCHES, BATCH = 20, 150_000


def _per_mole(function, x):
    return sum(
        w / xraylib.AtomicWeight(z) * np.array([function(z, float(v)) for v in x]) for z, w in PMMA.items()
    )


def _scatter(z, x):
    """S(x, Z), like x^2 below the first value of the table."""
    return xraylib.SF_Compt(z, x) if x >= 0.006 else xraylib.SF_Compt(z, 0.006) * (x / 0.006) ** 2


def _mu(function, energy, made_of=PMMA, density=DENSITY):
    """1/mm."""
    return (
        sum(w * np.array([function(z, float(e)) for e in energy]) for z, w in made_of.items())
        * density
        / 10.0
    )


X = np.linspace(0.0, 5.0, 5001)
S, F2 = _per_mole(_scatter, X), _per_mole(lambda z, x: xraylib.FF_Rayl(z, x) ** 2, X)
NODE, GAUSS = np.polynomial.legendre.leggauss(200)
NODE = 0.5 * (NODE + 1.0)  # sin(theta / 2)


def _incoherent(energy, half):
    """Klein-Nishina times S per sin(theta / 2), any scale; and E'/E."""
    away = 2.0 * half**2
    ratio = 1.0 / (1.0 + energy / REST * away)
    return half * ratio**2 * (ratio + 1.0 / ratio - away * (2.0 - away)) * np.interp(
        energy / HC * half, X, S
    ), ratio


def _coherent(half):
    return half * (1.0 + (1.0 - 2.0 * half**2) ** 2) * np.interp(ENERGY / HC * half, X, F2)


class Matter:
    """Attenuation and absorption of PMMA (1/mm) between the energy of photons scattered back and that of the beam."""

    energy = np.linspace(45.0, ENERGY, 58)

    def __init__(self):
        photo, inc = _mu(xraylib.CS_Photo, self.energy), _mu(xraylib.CS_Compt, self.energy)
        self.inc, self.coh = inc[-1], _mu(xraylib.CS_Rayl, [ENERGY])[0]
        self.total = photo + inc + _mu(xraylib.CS_Rayl, self.energy)
        recoil = []
        for e in self.energy:
            weight, ratio = _incoherent(e, NODE)
            recoil.append((GAUSS * weight * (1.0 - ratio)).sum() / (GAUSS * weight).sum())
        self.kept = photo + inc * np.array(recoil)
        self.air = _mu(xraylib.CS_Total, [ENERGY], AIR, 0.001205)[0]

    def mu(self, energy):
        return np.interp(energy, self.energy, self.total)

    def left(self, energy):
        """Share of the energy that a photon leaves where it collides."""
        return np.interp(energy, self.energy, self.kept) / self.mu(energy)


def _chord(place, way):
    """Distances to entrance and exit of the cylinder."""
    a, b = way[0] ** 2 + way[1] ** 2, place[0] * way[0] + place[1] * way[1]
    root = np.sqrt(np.maximum(b * b - a * (place[0] ** 2 + place[1] ** 2 - RADIUS**2), 0.0))
    return np.maximum((-b - root) / a, 0.0), np.maximum((-b + root) / a, 0.0)


def _in_discs(place, way, energy, weight, matter):
    """Mean energy left in every disc along a flight, eV."""
    enter, leave = _chord(place, way)
    mu = matter.mu(energy)
    scale = 1000.0 * weight * energy * matter.left(energy) * np.exp(-matter.air * enter)
    found = []
    for low, high in DISCS:
        a, b = (low - place[2]) / way[2], (high - place[2]) / way[2]
        near = np.clip(np.minimum(a, b), enter, leave)
        far = np.clip(np.maximum(a, b), enter, leave)
        found.append(np.mean(scale * (np.exp(-mu * (near - enter)) - np.exp(-mu * (far - enter)))))
    return np.array(found)


def _turned(way, half, around):
    """Directions after a deflection with sin(theta / 2) = half."""
    side = np.cross(way.T, [0.0, 0.0, 1.0]).T
    side /= np.linalg.norm(side, axis=0)
    up = np.cross(side.T, way.T).T
    cosine = 1.0 - 2.0 * half**2
    return cosine * way + np.sqrt(1.0 - cosine**2) * (np.cos(around) * side + np.sin(around) * up)


def _quadrature(matter, seed):
    """Energy (order, disc) of the first two flights in eV per history, from Sobol points."""
    a, b, depth, half, around = qmc.Sobol(5, seed=seed).random(POINTS).T
    x, z = 2.0 * RADIUS * (a - 0.5), 2.0 * HALF * (b - 0.5)
    reach = np.sqrt(x * x + z * z + DISTANCE**2)
    way = np.array([x, np.full(POINTS, DISTANCE), z]) / reach
    weight = reach**-3 / np.mean(reach**-3)  # of solid angle, even over the field
    start = np.zeros((3, POINTS))
    start[1] = -DISTANCE
    first = _in_discs(start, way, np.full(POINTS, ENERGY), weight, matter)

    enter, leave = _chord(start, way)
    mu = matter.total[-1]
    collided = -np.expm1(-mu * (leave - enter))
    place = start + (enter - np.log1p(-depth * collided) / mu) * way
    weight = weight * collided * np.exp(-matter.air * enter) / mu
    density, ratio = _incoherent(ENERGY, half)
    density /= 0.5 * (GAUSS * _incoherent(ENERGY, NODE)[0]).sum()
    second = _in_discs(
        place, _turned(way, half, 2 * np.pi * around), ENERGY * ratio, weight * matter.inc * density, matter
    )
    half = half**2  # coherent scattering goes forward: even steps of the root
    density = _coherent(half) * 2.0 * np.sqrt(half) / (0.5 * (GAUSS * _coherent(NODE)).sum())
    second += _in_discs(
        place,
        _turned(way, half, 2 * np.pi * around),
        np.full(POINTS, ENERGY),
        weight * matter.coh * density,
        matter,
    )
    return np.array([first, second])


@numba.njit
def _two_flights(first, count, centre, k0, k1, grid, tables, source, fluence):
    """The transport's own steps, up to the end of the second flight; photons that collide in air end there."""
    unit = np.float32(ENERGY_UNIT_KEV)
    for h in range(first, first + count):
        history = np.uint64(h)
        x, y, z, u, v, w, e, step = emit(source, history, k0, k1)
        order = 0
        while e > 0:
            row, f = energy_position(np.float32(e) * unit)
            a, b, c, d, turn = draw_five(step, history, k0, k1)
            step += np.uint64(1)
            iu, iv, iw, start, stop = approach(x, y, z, u, v, w, grid)
            air = ambience(row, f, grid, tables)
            t, start, flat, record, top = advance(
                x, y, z, u, v, w, iu, iv, iw, start, stop, air, row, free_path(a), grid
            )
            score_fluence(x, y, z, u, v, w, start, t, e, row, f, grid.rod, tables.kerma, fluence[order])
            if flat == GONE:
                break
            x += t * u
            y += t * v
            z += t * w
            place, _, e, u, v, w, step = collide(
                x, y, z, u, v, w, e, row, f, flat, record, top, b, c, d, turn, grid, tables, step, history, k0, k1
            )  # fmt: skip
            if place == VIRTUAL:
                continue
            order += 1
            if order == 2 or (x - centre[0]) ** 2 + (y - centre[1]) ** 2 > RADIUS**2:
                break


def _transported():
    """Mean and sd of the mean, (order, disc), eV per history."""
    discs = [Rod(0.0, 0.0, RADIUS, low, high, 1, DENSITY, True) for low, high in DISCS]
    grid, tables, source = tg195._cylinder(discs, tg195.Spectrum.mono(ENERGY), 2 * HALF, False)
    centre = grid.rod[0, :2].astype(float)
    k0, k1 = key(5)
    found = []
    for batch in range(BATCHES):
        fluence = np.zeros((2, len(grid.rod)), np.int64)
        _two_flights(batch * BATCH, BATCH, centre, k0, k1, grid, tables, source, fluence)
        found.append(fluence[:, 1:] * (ENERGY_UNIT_KEV * 1000.0 * DENSITY / BATCH))
    found = np.array(found)
    return found.mean(axis=0), found.std(axis=0, ddof=1) / math.sqrt(BATCHES)


def test_first_two_flights_agree_with_quadrature():
    matter = Matter()
    repeats = np.array([_quadrature(matter, seed) for seed in range(REPEATS)])
    want, sd_want = repeats.mean(axis=0), repeats.std(axis=0, ddof=1) / math.sqrt(REPEATS)
    got, sd = _transported()
    seen = want > 1.0  # eV: the beam itself does not reach the outer discs
    assert seen.sum() == 6
    assert (got[~seen] == 0.0).all()
    # 4 sd (first flight 0.05 %, second 0.05 to 0.2 %), and the tables' interpolation over energy, 2e-4
    allowed = 4.0 * np.hypot(sd, sd_want) + 2e-4 * want
    assert (np.abs(got - want) < allowed)[seen].all(), (got / want - 1.0, sd / want)
    assert (sd[seen] < 2e-3 * want[seen]).sum() == 5  # else the comparison shows little
