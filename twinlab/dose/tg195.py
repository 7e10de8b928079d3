"""Cases 1, 2 and 4 of AAPM Report 195: layers of aluminium, a tissue box and a PMMA cylinder.

They are part of the package so that anyone can repeat the validation of the transport on their machine; the
comparison with the published results is ``python -m twinlab.dose.tg195_table``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from twinlab.kernels.transport import Tally, mean_sd, run
from twinlab.kernels.transport_data import Grid, Source, Tables, energy_grid
from twinlab.kernels.transport_scatter import N_TANGENT, Screen, run_screen
from twinlab.phantom import transport_tables as table_module
from twinlab.phantom.transport_grid import AIR_DENSITY, Rod, cylinder_grid, voxel_grid
from twinlab.physics.attenuation import cross_sections
from twinlab.physics.materials import Material
from twinlab.scanner.photon_source import field_source

_SOURCE = "AAPM Report 195 (Sechopoulos I et al. 2015, Med. Phys. 42:5679)"


def _material(key: str, name: str, density: float, composition: dict[str, float]) -> Material:
    total = sum(composition.values())
    return Material(
        key=key,
        name=name,
        density_g_cm3=density,
        composition={symbol: w / total for symbol, w in composition.items()},
        source=_SOURCE,
    )


AIR = _material(
    "tg195_air", "dry air", 0.001205, {"C": 0.000124, "N": 0.755268, "O": 0.231781, "Ar": 0.012827}
)
SOFT_TISSUE = _material(
    "tg195_soft_tissue",
    "soft tissue (ICRU 44, male)",
    1.03,
    {
        "H": 0.105,
        "C": 0.256,
        "N": 0.027,
        "O": 0.602,
        "Na": 0.001,
        "P": 0.002,
        "S": 0.003,
        "Cl": 0.002,
        "K": 0.002,
    },
)
PMMA = _material("tg195_pmma", "PMMA", 1.19, {"H": 0.080541, "C": 0.599846, "O": 0.319613})


ALUMINIUM = _material("tg195_aluminium", "aluminium", 2.699, {"Al": 1.0})
HVL_QVL_MM = {
    "30 keV": (2.273, 4.546),
    "100 keV": (15.11, 30.22),
    "30 kVp": (0.3431, 0.7663),
    "100 kVp": (3.950, 9.840),
}


@dataclass(frozen=True)
class Spectrum:
    """Photon energies of a case: bin centres, probabilities and width of a bin (0 when monoenergetic)."""

    energy_kev: np.ndarray
    probability: np.ndarray
    bin_width_kev: float

    @classmethod
    def mono(cls, energy_kev: float = 56.4) -> Spectrum:
        """One energy; 56.4 keV is the mean of the report's 120 kVp beam."""
        return cls(np.array([energy_kev]), np.ones(1), 0.0)


@dataclass(frozen=True)
class Scores:
    """Energy deposited per history, eV, with its standard uncertainty, by volume."""

    name: tuple[str, ...]
    ev_per_history: np.ndarray
    sd: np.ndarray


def _score(tally: Tally, regions: list[int], names: list[str]) -> Scores:
    mean, sd = mean_sd(tally.region, tally.histories)
    return Scores(tuple(names), mean[regions] * 1000.0, sd[regions] * 1000.0)


def _score_rods(tally: Tally, names: list[str]) -> Scores:
    """Energy in rods of PMMA by track length: the cylinder's own row 0 is not among them."""
    mean, sd = mean_sd(tally.fluence[1:], tally.histories)  # keV cm3/g per history
    scale = 1000.0 * PMMA.density_g_cm3
    return Scores(tuple(names), mean * scale, sd * scale)


def _through_air(spectrum: Spectrum, length_mm: float) -> np.ndarray:
    """Probabilities of a spectrum behind a length of air."""
    mu = cross_sections(AIR, spectrum.energy_kev)["total"].to_numpy() * AIR_DENSITY / 10.0
    return np.asarray(spectrum.probability * np.exp(-mu * length_mm))


def case_1(
    spectrum: Spectrum, thickness_mm: float, *, histories: int, seed: int = 1, doppler: bool = False
) -> tuple[float, float]:
    """Air kerma at 100 cm behind aluminium at 10 cm over that without, by transport of a pencil beam.

    Parameters
    ----------
    spectrum : Spectrum
    thickness_mm : float
        Of the aluminium.
    histories, seed : int
    doppler : bool
        Bound, moving electrons (impulse approximation).

    Returns
    -------
    ratio, sd : float
        What is scattered into 1 cm x 1 cm counts too. The metre of air hardens the spectrum; its own
        scatter does not count.
    """
    tables = table_module.build([AIR, ALUMINIUM], doppler=doppler)
    wide = 200.0
    shape = (1, 1, 1)
    grid = voxel_grid(
        np.ones(shape, np.uint8),
        np.full(shape, ALUMINIUM.density_g_cm3, np.float32),
        np.zeros(shape, np.uint16),
        tables,
        spacing_mm=(wide, thickness_mm, wide),
        reach_mm=1000.0,
        block=1,
    )
    middle = 0.5 * wide
    spot = np.array([middle, -100.0, middle])
    kerma = cross_sections("air", energy_grid())["mu_en"].to_numpy()
    scale = kerma[
        energy_grid() >= 0.99 * spectrum.energy_kev.min()
    ].max()  # scores are integers: none too small
    screen = Screen(
        flat=np.array([1], np.int32),
        place=np.array([*spot, 0.0, 1.0, 1000.0], np.float32),
        edge=np.array([-5.0, 10.0, -5.0, 10.0], np.float32),
        bins=np.array([1, 1], np.int32),
        response=np.minimum(kerma / scale, 1.0).astype(np.float32),
        tangent=np.ones(2, np.float32),
        across=np.ones((energy_grid().size, N_TANGENT), np.float32),
        along=np.ones((energy_grid().size, N_TANGENT), np.float32),
    )
    weight = _through_air(spectrum, 1000.0)
    source = field_source(
        spectrum.energy_kev,
        weight,
        position_mm=spot,
        corner_mm=spot + [0.0, 1.0, 0.0],
        edges_mm=np.zeros((2, 3)),
        bin_width_kev=0.0,
    )
    scores = run_screen(grid, tables, source, screen, histories=histories, seed=seed).sum(axis=0)[0, 0]
    mean, sd = mean_sd(scores, histories)
    own = cross_sections("air", spectrum.energy_kev)["mu_en"].to_numpy() * spectrum.energy_kev
    free = float(np.sum(weight * own) / weight.sum() / scale)
    return float(mean) / free, float(sd) / free


def case_2(
    spectrum: Spectrum,
    *,
    tomosynthesis: bool = False,
    histories: int,
    seed: int = 1,
    doppler: bool = False,
    progress: Callable[[int], object] | None = None,
) -> Scores:
    """Radiography and tomosynthesis of a soft-tissue box of 39 x 39 x 20 cm.

    Parameters
    ----------
    spectrum : Spectrum
    tomosynthesis : bool
        Source at -15 degrees instead of 0.
    histories, seed : int
    doppler : bool
        As in :func:`case_1`.
    progress : callable, optional

    Returns
    -------
    Scores
        "Total body" and "VOI 1" to "VOI 9".
    """
    tables = table_module.build([AIR, SOFT_TISSUE], doppler=doppler)
    shape = (40, 13, 13)  # voxels of 30 x 30 x 5 mm: every cube of 30 mm is six of them
    region = np.full(shape, 0, np.uint16)
    voi = [
        (0, -150, 0),
        (-150, 0, 0),
        (0, 0, 0),
        (150, 0, 0),
        (0, 150, 0),
        (0, 0, -60),
        (0, 0, -30),
        (0, 0, 30),
        (0, 0, 60),
    ]
    for k, (x, y, z) in enumerate(voi):
        low = (z - 15 + 100) // 5
        region[low : low + 6, (y + 195) // 30, (x + 195) // 30] = k + 1
    grid = voxel_grid(
        np.ones(shape, np.uint8),
        np.full(shape, SOFT_TISSUE.density_g_cm3, np.float32),
        region,
        tables,
        spacing_mm=(5.0, 30.0, 30.0),
        reach_mm=1800.0,
        block=16,
    )
    centre = np.array([195.0, 195.0, 0.0])  # of the front face, in the grid's box
    shift = -1800.0 * np.tan(np.deg2rad(15.0)) if tomosynthesis else 0.0
    source = field_source(
        spectrum.energy_kev,
        spectrum.probability,
        position_mm=centre + [0.0, shift, -1550.0],
        corner_mm=centre + [-195.0, -195.0, 250.0],
        edges_mm=np.array([[390.0, 0.0, 0.0], [0.0, 390.0, 0.0]]),
        bin_width_kev=spectrum.bin_width_kev,
    )
    tally = run(grid, tables, source, histories=histories, seed=seed, n_region=10, progress=progress)
    scores = _score(tally, list(range(1, 10)), [f"VOI {k}" for k in range(1, 10)])
    body, body_sd = mean_sd(tally.energy[None, 3:5], histories)
    return Scores(
        ("Total body", *scores.name),
        np.concatenate([body * 1000.0, scores.ev_per_history]),
        np.concatenate([body_sd * 1000.0, scores.sd]),
    )


def _cylinder(
    rods: list[Rod], spectrum: Spectrum, collimation_mm: float, doppler: bool
) -> tuple[Grid, Tables, Source]:
    """PMMA cylinder of 32 cm and 300 cm length with rods of PMMA, source 60 cm from the axis at -y."""
    tables = table_module.build([AIR, PMMA], kerma=PMMA, doppler=doppler)
    outer = Rod(0.0, 0.0, 160.0, -1500.0, 1500.0, 1, PMMA.density_g_cm3)
    grid, low = cylinder_grid([outer, *rods], tables, reach_mm=1000.0)
    source = field_source(
        spectrum.energy_kev,
        spectrum.probability,
        position_mm=np.array([0.0, -600.0, 0.0]) - low,
        corner_mm=np.array([-160.0, 0.0, -0.5 * collimation_mm]) - low,
        edges_mm=np.array([[320.0, 0.0, 0.0], [0.0, 0.0, collimation_mm]]),
        bin_width_kev=spectrum.bin_width_kev,
    )
    return grid, tables, source


def case_4_1(
    spectrum: Spectrum,
    *,
    collimation_mm: float,
    histories: int,
    seed: int = 1,
    track_length: bool = True,
    doppler: bool = False,
    progress: Callable[[int], object] | None = None,
) -> Scores:
    """Discs of 1 cm at z = 0, 1, 2 and 3 cm of the PMMA cylinder, one projection.

    Parameters
    ----------
    spectrum : Spectrum
    collimation_mm : float
        Width of the beam at the axis: 10 or 80.
    histories, seed : int
    track_length : bool
        Score by track length (collision kerma of PMMA, from the transport's own cross sections); else the
        energy deposited.
    doppler : bool
        As in :func:`case_1`.
    progress : callable, optional

    Returns
    -------
    Scores
        "VOI 1" to "VOI 4".
    """
    density = PMMA.density_g_cm3
    discs = [Rod(0.0, 0.0, 160.0, 10.0 * k - 5.0, 10.0 * k + 5.0, 1, density, True) for k in range(4)]
    grid, tables, source = _cylinder(discs, spectrum, collimation_mm, doppler)
    tally = run(grid, tables, source, histories=histories, seed=seed, n_region=6, progress=progress)
    names = [f"VOI {k}" for k in range(1, 5)]
    return _score_rods(tally, names) if track_length else _score(tally, [2, 3, 4, 5], names)


def case_4_2(
    spectrum: Spectrum,
    *,
    collimation_mm: float,
    histories: int,
    seed: int = 1,
    track_length: bool = True,
    doppler: bool = False,
    progress: Callable[[int], object] | None = None,
) -> Scores:
    """Rods of 10 mm x 100 mm at the centre and 15 cm from the axis, for 36 angles of the source.

    The rods are of the cylinder's own PMMA, so all angles are scored in one run: a rod at angle a sees what
    the report's one rod sees from a source at that angle.

    Parameters
    ----------
    spectrum : Spectrum
    collimation_mm : float
        10 or 80.
    histories, seed : int
    track_length : bool
        As in :func:`case_4_1`.
    doppler : bool
        As in :func:`case_1`.
    progress : callable, optional

    Returns
    -------
    Scores
        "Center", then "0" to "350": peripheral rod by angle from the source, degrees.
    """
    rods = [Rod(0.0, 0.0, 5.0, -50.0, 50.0, 1, PMMA.density_g_cm3, True)]
    angles = np.arange(0, 360, 10)
    for angle in np.deg2rad(angles):
        x, y = 150.0 * np.sin(angle), -150.0 * np.cos(angle)
        rods.append(Rod(float(x), float(y), 5.0, -50.0, 50.0, 1, PMMA.density_g_cm3, True))
    grid, tables, source = _cylinder(rods, spectrum, collimation_mm, doppler)
    n = len(rods)
    tally = run(grid, tables, source, histories=histories, seed=seed, n_region=n + 2, progress=progress)
    names = ["Center", *map(str, angles)]
    return _score_rods(tally, names) if track_length else _score(tally, list(range(2, n + 2)), names)
