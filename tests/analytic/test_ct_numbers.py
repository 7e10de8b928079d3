"""CT numbers, cupping and noise of simulated scans of water and of known inserts (64-row scanner, axial)."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
import xraylib
from disc_scan import Disc, disc_paths, disc_protocol
from image_transfer import pixel_frequency, with_mtf

from twinlab import ct
from twinlab import phantom as tp
from twinlab.ct.recon import reconstruct
from twinlab.phantom.shapes import Cylinder, Point
from twinlab.physics import materials
from twinlab.physics.spectra import tube_spectrum
from twinlab.quality import noise_hu, nps
from twinlab.scanner import load_protocol, trajectory
from twinlab.schema import label

KV = (80, 100, 120, 140)
COLLIMATION_MM = 2.5  # four rows: enough for one slice


def protocol(kv: float, **changes):
    return load_protocol("qc_axial", kv=kv, collimation_mm=COLLIMATION_MM, slice_thickness_mm=1.25, **changes)


def paths_through(phantom: xr.Dataset, z_mm: float) -> xr.Dataset:
    setting = protocol(120)
    half = COLLIMATION_MM / 2
    return ct.line_integrals(phantom, setting, trajectory(setting, z_range_mm=(z_mm - half, z_mm + half)))


def image(paths: xr.Dataset, kv: float, *, x, y, z: float) -> np.ndarray:
    scan = ct.acquire(paths, protocol(kv), seed=1, noise=False)
    return reconstruct(scan, protocol(kv), grid={"z": np.array([z]), "y": y, "x": x}).values[0]


@pytest.mark.parametrize(("name", "radius"), [("water_cylinder_20cm", 100.0), ("water_cylinder_32cm", 160.0)])
def test_water_reads_zero_without_cupping_and_air_minus_1000(name, radius):
    paths = paths_through(tp.from_recipe(name), 0.0)
    grid = np.arange(-radius - 5, radius + 6, 2.5)
    distance = np.hypot(*np.meshgrid(grid, grid, indexing="ij"))
    for kv in KV:
        hu = image(paths, kv, x=grid, y=grid, z=0.0)
        centre = hu[distance < 0.2 * radius].mean()
        rim = hu[(distance > 0.75 * radius) & (distance < 0.9 * radius)].mean()
        # What a user expects of a calibrated scanner is +-4 HU; the bar here is 2 HU, and 3 HU of cupping. The
        # correction is exact for water, so what is left is voxels (1 mm) and rebinning: 0.1 HU was seen.
        assert hu[distance < 0.85 * radius].mean() == pytest.approx(0.0, abs=2.0), kv
        assert abs(centre - rim) < 3.0, kv
        assert hu[distance > radius + 4].mean() == pytest.approx(-1000.0, abs=3.0), kv


TIN = {"aluminum": 6.0, "tin": 0.4}
FULL = [
    pytest.param(kv, bowtie, filters, marks=pytest.mark.slow)
    for kv in (70, 80, 100, 120, 140, 150)
    for bowtie in ("body", "head", "none")
    for filters in (None, {"aluminum": 6.0, "copper": 0.2}, TIN)
]


@pytest.mark.parametrize(
    ("kv", "bowtie", "filters"), [(70, "body", None), (120, "head", None), (150, "none", TIN), *FULL]
)
def test_water_is_right_at_centre_and_edge_for_every_size_and_beam(kv, bowtie, filters):
    setting = disc_protocol(kv, bowtie=bowtie, filters=filters, views=328)
    for diameter in (160.0, 240.0, 320.0, 400.0):
        radius = diameter / 2
        scan = ct.acquire(
            disc_paths(setting, [Disc("water", radius=radius)]), setting, seed=1, noise=False, mas=1e5
        )
        x = np.array([0.0, 3.0, 0.25 * radius, 0.5 * radius, 0.75 * radius, 0.9 * radius, radius - 4.0])
        grid = {"z": np.zeros(1), "y": np.zeros(1), "x": x}
        hu = reconstruct(scan, setting, grid=grid).values.ravel()
        # 1 HU was asked for. Chords are exact and the calibration is the scanner's own model, so that what is
        # left is rebinning: 0.4 HU up to 0.9 of the radius and, from the edge's own blur, 0.9 HU 4 mm from it.
        assert np.abs(hu).max() < 1.0, (diameter, hu)


def mu_per_mm(name: str, energy: np.ndarray, *, density: float | None = None) -> np.ndarray:
    """Attenuation from xraylib's element tables and the fractions of mass of a material."""
    made_of = materials.get(name)
    values = [sum(share * xraylib.CS_Total(z, float(e)) for z, share in made_of.elements) for e in energy]
    return np.array(values) * (density or made_of.density_g_cm3) / 10.0


def readings(setting, fan: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Energies, and the absorbed energy at each fan angle without an object: tube, filters, bowtie, absorber."""
    tube, bowtie = setting.scanner.tube, setting.scanner.bowties[setting.bowtie]
    bare = tube_spectrum(kv=setting.kv, anode_angle_deg=tube.anode_angle_deg, filters={}, bin_width_kev=0.5)
    energy = bare["energy"].to_numpy()[bare["energy"].to_numpy() > 5.0]  # below, nothing passes the filters
    flat = sum(mm * mu_per_mm(name, energy) for name, mm in tube.filters.items())
    thickness = np.interp(np.abs(np.rad2deg(fan)), bowtie.fan_angle_deg, bowtie.thickness_mm)
    shaped = np.multiply.outer(thickness, mu_per_mm(bowtie.material, energy))
    detector = setting.scanner.detector
    absorbed = 1 - np.exp(-mu_per_mm(detector.absorber_material, energy) * detector.absorber_thickness_mm)
    return energy, bare.sel(energy=energy).to_numpy() * np.exp(-flat - shaped) * absorbed * energy


def expected_hu(shape, setting, *, radius_mm: float = 100.0) -> float:
    """CT number of an insert of diameter d: by how much its readings and those of water alike differ, over d.

    Each reading is taken to the length of water that attenuates as much, which a correction exact for water does;
    ``L - d`` of water stands before the insert, L the chord of the cylinder through the insert's axis.
    """
    angle = np.linspace(0, np.pi, 24, endpoint=False)
    offset = np.hypot(shape.centre_mm.x, shape.centre_mm.y) * np.cos(angle)
    energy, spectrum = readings(setting, np.arcsin(offset / setting.scanner.source_to_isocentre_mm))
    water = mu_per_mm("water", energy)
    insert = mu_per_mm(shape.material, energy, density=shape.density_g_cm3)
    length = np.arange(0.0, 601.0)
    growth = []
    for weight, chord in zip(spectrum, 2 * np.sqrt(radius_mm**2 - offset**2), strict=True):
        table = -np.log(np.exp(-np.multiply.outer(length, water)) @ weight / weight.sum())
        depth = (chord - shape.diameter_mm) * water + shape.diameter_mm * insert
        raw = -np.log(np.exp(-depth) @ weight / weight.sum())
        equal = np.interp(raw, table, length)
        growth.append((equal - (chord - shape.diameter_mm)) / shape.diameter_mm)
    return float(1000 * (np.mean(growth) - 1))


@pytest.mark.parametrize(
    "kv", [80, pytest.param(100, marks=pytest.mark.slow), pytest.param(120, marks=pytest.mark.slow), 140]
)
def test_inserts_read_their_attenuation_at_the_effective_energies(kv):
    phantom = tp.from_recipe("qc_20cm", spacing_mm=(4, 0.75, 0.75))
    paths = paths_through(phantom, -20.0)
    found = {}
    for shape in tp.load_recipe("qc_20cm").shapes:
        if shape.name.startswith("insert"):
            x, y = shape.centre_mm.x + np.arange(-4, 5), shape.centre_mm.y + np.arange(-4, 5)
            hu = image(paths, kv, x=x, y=y, z=-20.0).mean()
            found[shape.name] = (hu, expected_hu(shape, protocol(kv)))
    off = {name: hu - known for name, (hu, known) in found.items()}
    dense = {"insert_bone", "insert_spongiosa", "insert_iodine_10", "insert_iodine_15"}
    assert all(abs(off[name]) < 5.0 for name in found if name not in dense), off
    # Bone and much iodine harden the beam for each other, which no single insert's attenuation foretells: 19 HU of
    # 2,100 was seen at 80 kV. 1 % of mu is the bound.
    assert all(abs(off[name]) < 0.01 * (1000 + found[name][0]) for name in dense), off


@pytest.mark.parametrize("kv", [80, *(pytest.param(kv, marks=pytest.mark.slow) for kv in (120, 140))])
def test_an_insert_alone_reads_its_spectral_truth(kv):
    setting = disc_protocol(kv, views=328)
    x, y = 62.0 + np.arange(-4, 5), np.arange(-4.0, 5.0)
    off = {}
    for material in ("pmma", "ptfe", "polyethylene", "bone_spongiosa", "water+iodine_5mg_ml"):
        insert = Disc(material, 62.0, 0.0, 7.5)
        scan = ct.acquire(disc_paths(setting, [Disc("water"), insert]), setting, seed=1, noise=False)
        hu = reconstruct(scan, setting, grid={"z": np.zeros(1), "y": y, "x": x}).mean()
        shape = Cylinder(
            name="insert", material=material, diameter_mm=15.0, length_mm=1.0, centre_mm=Point(x=62.0)
        )
        off[material] = float(hu) - expected_hu(shape, setting)
    # No other insert hardens the beam. 3 HU was asked for.
    assert max(map(abs, off.values())) < 3.0, off


def test_filtered_noise_has_the_variance_of_its_spectrum():
    noise = label("hu", np.random.default_rng(1).standard_normal((4, 64, 64)), {a: np.arange(n) * 1.0 for a, n in
                  (("z", 4), ("y", 64), ("x", 64))})  # fmt: skip
    transfer = np.exp(-((pixel_frequency(noise) / 0.25) ** 2))
    sd = float(with_mtf(noise, transfer).std())
    assert sd == pytest.approx(np.sqrt((transfer**2).mean()), rel=0.03)  # 16,384 samples, fewer independent


@pytest.fixture(scope="module")
def repeats():
    """Noisy images of the middle of 20 cm of water at 20 and 320 mAs, electronic noise off."""
    setting = protocol(120)
    quiet = setting.scanner.model_copy(
        update={"detector": setting.scanner.detector.model_copy(update={"electronic_noise_kev": 0.0})}
    )
    setting = setting.replace(scanner=quiet)
    paths = paths_through(tp.from_recipe("water_cylinder_20cm"), 0.0)
    signals = ct.detected(paths, setting)
    side = (np.arange(64) - 31.5) * 0.8
    grid = {"z": np.array([0.0]), "y": side, "x": side}
    images = {}
    for mas in (20.0, 320.0):
        scans = (
            ct.acquire(paths, setting, seed=round(mas), realisation=i, mas=mas, signals=signals)
            for i in range(10)
        )
        stack = [reconstruct(scan, setting, grid=grid)[0] for scan in scans]
        images[mas] = xr.concat(stack, dim="repeat").transpose("repeat", "y", "x")
    return images


def test_noise_falls_as_the_root_of_mas(repeats):
    sd = {mas: float(np.sqrt((noise_hu(stack) ** 2).mean())) for mas, stack in repeats.items()}
    # Ten regions of 51 mm, noise correlated over about 1.5 mm: some 10,000 samples, 0.7 % each; the bar is 3 %.
    assert sd[20.0] / sd[320.0] == pytest.approx(4.0, rel=0.03)


def test_noise_power_integrates_to_the_variance(repeats):
    stack = repeats[20.0]
    spectrum = nps(stack)
    df = float(spectrum.fx[1] - spectrum.fx[0])
    variance = float((noise_hu(stack) ** 2).mean())
    assert float(spectrum.sum() * df**2) == pytest.approx(variance, rel=0.02)


def test_noise_power_vanishes_at_zero_frequency_and_beyond_the_kernel(repeats):
    spectrum = nps(repeats[20.0])
    radius = np.hypot(*np.meshgrid(spectrum.fy, spectrum.fx, indexing="ij"))
    power = spectrum.values
    peak = power[(radius > 0.2) & (radius < 0.4)].mean()
    # Ramp-filtered noise: little power below 0.05 / mm, and none to speak of where the standard kernel has closed.
    assert power[radius < 0.04].mean() < 0.35 * peak
    assert power[radius > 0.8].mean() < 0.05 * peak
