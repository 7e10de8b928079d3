"""Radiographs as dose sources: kerma by the inverse square, solid angles, KAP, entrance, cone-beam views."""

from __future__ import annotations

import math

import numpy as np
import pytest

from twinlab import dose
from twinlab.ct.stand import Radiography, on_gantry
from twinlab.dose.body import MGY_PER_KEV_G
from twinlab.kernels import transport
from twinlab.phantom import assemble
from twinlab.phantom.transport_grid import Rod, cylinder_grid
from twinlab.phantom.transport_tables import build
from twinlab.physics.attenuation import mass_attenuation, mass_energy_absorption
from twinlab.scanner import beam_fluence, load_protocol, load_scanner, trajectory
from twinlab.scanner.photon_source import BIN_WIDTH_KEV, field_source
from twinlab.schema import InputError

HISTORIES = 40_000


def stand(**changes):
    """AP radiograph: source 1 m in front of the origin, 40 x 30 cm panel at 1.2 m."""
    scanner = load_scanner("bench_flat_panel")
    given = {
        "tube": scanner.tube,
        "detector": scanner.detector,
        "kv": 80.0,
        "mas": 5.0,
        "source_mm": {"x": 0.0, "y": -1000.0, "z": 0.0},
        "panel_mm": {"x": 0.0, "y": 200.0, "z": 0.0},
        "right": {"x": 1.0, "y": 0.0, "z": 0.0},
        "up": {"x": 0.0, "y": 0.0, "z": 1.0},
    }
    return Radiography.make({**given, **changes}, where="test")


@pytest.fixture(scope="module")
def block():
    """Water, 30 x 20 x 30 cm in cubes of 1 cm, front and back halves."""
    x = (np.arange(30) - 14.5) * 10.0
    y = (np.arange(20) - 9.5) * 10.0
    shape = (30, 20, 30)
    organ = np.broadcast_to(np.where(y < 0, 1, 2)[None, :, None], shape).copy()
    return assemble(
        material=np.ones(shape, np.uint8),
        density=np.ones(shape),
        organ=organ,
        material_names=["air", "water"],
        organ_names={0: "outside", 1: "front", 2: "back"},
        z=x,
        y=y,
        x=x,
        name="block",
        source="made for this test",
    )


def shot(phantom, setup, **changes):
    given = {"histories": HISTORIES, "seed": 2, "voxel_map": False, "extend_mm": 0.0}
    return dose.simulate_projection(phantom, setup, **{**given, **changes})


def test_solid_angle_is_the_arctangent_formula():
    field = dose.projection_field(stand())
    a, b = 1024 * 0.388 / 2, 768 * 0.388 / 2
    assert field.solid_angle_sr == pytest.approx(
        4 * math.atan(a * b / (1200 * math.sqrt(1200**2 + a * a + b * b))), rel=1e-9
    )
    half = dose.projection_field(stand(), field_mm=(100.0, 50.0), field_distance_mm=600.0)
    twice = dose.projection_field(stand(), field_mm=(200.0, 100.0))
    assert half.solid_angle_sr == pytest.approx(twice.solid_angle_sr, rel=1e-12)
    assert half.area_over_square == pytest.approx(twice.area_over_square, rel=1e-12)
    # a small field is flat: KAP over the kerma at its distance is its area
    small = dose.projection_field(stand(), field_mm=(10.0, 10.0))
    assert small.area_over_square * 1200.0**2 == pytest.approx(100.0, rel=2e-5)


def test_offset_panel_stays_where_it_is():
    """A field by default covers the cells of a panel, also of one that is shifted by channels."""
    detector = load_scanner("bench_flat_panel").detector.model_copy(update={"channel_offset": 100.0})
    field = dose.projection_field(stand(detector=detector))
    assert field.corner[0] == pytest.approx((-512 + 100) * 0.388)
    assert field.edges[0] == pytest.approx([1024 * 0.388, 0.0, 0.0])


@pytest.mark.parametrize("distance", [600.0, 1000.0])
def test_air_kerma_follows_the_inverse_square(distance):
    """Free in air: a chamber on the axis reads the analytic kerma, with the primary attenuation of air."""
    setup = stand()
    tables = build(["air"])
    radius, length = 15.0, 30.0
    rods = [
        Rod(0.0, 0.0, 40.0, -20.0, 20.0, 0, 1e-6),
        Rod(0.0, 0.0, radius, -length / 2, length / 2, 0, 1e-6, fluence=True),
    ]
    grid, low = cylinder_grid(rods, tables, reach_mm=1200.0)
    energy, fluence = (
        v.to_numpy()
        for v in (lambda f: (f["energy"], f[0]))(beam_fluence(setup.protocol(), fan_angle_rad=[0.0]))
    )
    field = dose.projection_field(setup, field_mm=(60.0, 60.0), field_distance_mm=distance)
    usable = (energy > 1.5) & (fluence > 0)
    source = field_source(
        energy[usable],
        fluence[usable],
        position_mm=np.array([0.0, -distance, 0.0]) - low,
        corner_mm=field.corner - field.source + np.array([0.0, -distance, 0.0]) - low,
        edges_mm=field.edges,
        bin_width_kev=BIN_WIDTH_KEV,
    )
    n = 100_000
    tally = transport.run(grid, tables, source, histories=n, seed=1, n_region=3)
    mean, sd = (float(v[0]) for v in transport.mean_sd(tally.fluence[1:2], n))
    photons = float(fluence.sum()) * 1e6 * field.solid_angle_sr
    scale = photons * MGY_PER_KEV_G / (math.pi * radius**2 * length / 1000)
    in_air = fluence * np.exp(-mass_attenuation("air", energy)[0] * 0.001205 * (distance - 10.0) / 10)
    want = float((in_air * energy * mass_energy_absorption("air", energy)[0]).sum()) * 100 * MGY_PER_KEV_G
    want *= (1000.0 / distance) ** 2
    # 3 sigma; scatter in a metre of air adds up to 1 %, the chamber averages 1/r^2 over 30 mm
    assert abs(mean - want / scale) < 3 * sd + 0.01 * want / scale
    if distance == 1000.0:
        vacuum = (
            float((fluence * energy * mass_energy_absorption("air", energy)[0]).sum()) * 100 * MGY_PER_KEV_G
        )
        assert dose.air_kerma_1m(setup) == pytest.approx(vacuum, rel=1e-12)


def test_radiograph_of_a_block(block):
    setup = stand()
    result = shot(block, setup, field_mm=(200.0, 200.0), field_distance_mm=1000.0)
    a = result.attrs
    assert a["emitted_kev"] == a["deposited_kev"] + a["deposited_air_kev"] + a["escaped_kev"]
    assert a["entrance_distance_mm"] == pytest.approx(900.0, abs=2.5)  # a quarter of a voxel
    field = dose.projection_field(setup, field_mm=(200.0, 200.0), field_distance_mm=1000.0)
    photons = (
        beam_fluence(setup.protocol(), fan_angle_rad=[0.0]).to_numpy().sum()
        * 1e6
        * field.solid_angle_sr
        * 5.0
    )
    assert a["photons"] == pytest.approx(photons, rel=1e-9)
    kerma = dose.air_kerma_1m(setup) * 5.0
    # 20 x 20 cm at 1 m: KAP is the kerma on the axis times 400 cm2, less 0.7 % for the obliquity of the edges
    assert a["kap_mgy_cm2"] == pytest.approx(kerma * 400.0, rel=0.01)
    assert a["kap_mgy_cm2"] < kerma * 400.0
    entrance = kerma / 0.9**2
    assert 0.94 * entrance < a["entrance_air_kerma_mgy"] < 0.995 * entrance  # 0.9 m of air: 1 to 6 %
    front, back = result["organ_dose"].to_numpy()
    assert front > 3 * back
    # energy imparted is below the energy that enters, most of it stays in 20 cm of water
    assert 0.5 < a["deposited_kev"] / a["emitted_kev"] < 0.9


def test_opposite_views_of_a_symmetric_body_mirror(block):
    ap = shot(block, stand())
    turned = {
        "source_mm": {"x": 0.0, "y": 1000.0, "z": 0.0},
        "panel_mm": {"x": 0.0, "y": -200.0, "z": 0.0},
    }
    pa = shot(block, stand(**turned), seed=3)
    d, e = ap["organ_dose"].to_numpy(), pa["organ_dose"].to_numpy()[::-1]
    sd = np.hypot(ap["organ_dose_sd"].to_numpy(), pa["organ_dose_sd"].to_numpy()[::-1])
    assert (np.abs(d - e) < 4 * sd).all()


def test_measured_kap_scales_the_dose(block):
    plain = shot(block, stand())
    scaled = shot(block, stand(), kap_mgy_cm2=2 * plain.attrs["kap_mgy_cm2"])
    np.testing.assert_allclose(scaled["organ_dose"], 2 * plain["organ_dose"], rtol=1e-9)
    assert scaled.attrs["kap_mgy_cm2"] == pytest.approx(2 * plain.attrs["kap_mgy_cm2"])
    assert scaled.attrs["entrance_air_kerma_mgy"] == pytest.approx(2 * plain.attrs["entrance_air_kerma_mgy"])


def test_cone_beam_scan_is_the_sum_of_its_radiographs(block):
    """Four views of a gantry, against four point sources with rectangular fields."""
    protocol = load_protocol("bench_cbct").replace(collimation_mm=100 * 0.388 / 1.5)
    path = trajectory(protocol, z_range_mm=(-10.0, 10.0)).isel(view=slice(0, None, 180))
    scan = dose.simulate(
        block,
        protocol,
        z_range_mm=(-10.0, 10.0),
        trajectory=path,
        histories=4 * HISTORIES,
        voxel_map=False,
        extend_mm=0.0,
    )
    height = (protocol.collimation_mm + protocol.scanner.over_beaming_mm) * 1.5
    total, square = np.zeros(2), np.zeros(2)
    for k, angle in enumerate(np.rad2deg(path["view_angle"].to_numpy())):
        view = on_gantry(protocol, view_angle_deg=float(angle))
        one = shot(block, view, field_mm=(1024 * 0.388, height), seed=10 + k)
        total += one["organ_dose"].to_numpy()
        square += one["organ_dose_sd"].to_numpy() ** 2
    d, sd = scan["organ_dose"].to_numpy(), scan["organ_dose_sd"].to_numpy()
    assert scan.attrs["mas"] == pytest.approx(4 * protocol.mas / 720)
    assert (np.abs(d - total) < 4 * np.sqrt(square + sd**2)).all()  # a view spans half a degree: nothing
    assert (sd / d).max() < 0.01


def test_bad_fields(block):
    with pytest.raises(InputError, match="misses"):
        shot(
            block,
            stand(
                source_mm={"x": 900.0, "y": -1000.0, "z": 0.0}, panel_mm={"x": 900.0, "y": 200.0, "z": 0.0}
            ),
        )
    with pytest.raises(InputError, match="outside the body"):
        shot(block, stand(source_mm={"x": 0.0, "y": -50.0, "z": 0.0}))
    with pytest.raises(InputError, match="above 0 mm"):
        shot(block, stand(), field_mm=(0.0, 10.0))
    with pytest.raises(InputError, match="field_mm with it"):
        shot(block, stand(), field_distance_mm=100.0)
    with pytest.raises(InputError, match="1000 or more"):
        shot(block, stand(), histories=5)
    with pytest.raises(InputError, match="no output_factor"):
        shot(block, stand(), kap_mgy_cm2=1.0, output_factor=2.0)


def test_field_beside_the_middle_of_the_body_has_no_entrance(block):
    """A field that meets only the edge of the body: dose, but no entrance on its axis."""
    aside = {
        "source_mm": {"x": 200.0, "y": -1000.0, "z": 0.0},
        "panel_mm": {"x": 200.0, "y": 200.0, "z": 0.0},
    }
    result = shot(block, stand(**aside))
    assert math.isnan(result.attrs["entrance_air_kerma_mgy"])
    assert float(result["organ_dose"][0]) > 0.0


def test_a_table_takes_what_its_water_takes(block):
    """PA through a table: the narrow-beam attenuation of 10 mm of water; AP does not see it."""
    table = dose.with_table(block, water_equivalent_mm=10.0, thickness_mm=40.0)
    assert table.sizes["y"] == block.sizes["y"] + 4
    np.testing.assert_array_equal(table["organ"].isel(y=slice(0, 20)), block["organ"])
    assert float(table["density"][0, 20:, 15].sum() * 10.0) == pytest.approx(10.0)
    pa = {"source_mm": {"x": 0.0, "y": 1000.0, "z": 0.0}, "panel_mm": {"x": 0.0, "y": -200.0, "z": 0.0}}
    narrow = {"field_mm": (20.0, 20.0), "field_distance_mm": 1000.0}
    with_it, without = (shot(p, stand(**pa), seed=4, **narrow) for p in (table, block))
    ratio = with_it["organ_dose"].to_numpy() / without["organ_dose"].to_numpy()
    energy = beam_fluence(stand().protocol(), fan_angle_rad=[0.0])
    water = np.exp(-mass_attenuation("water", energy["energy"].to_numpy())[0] * 1.0)
    deposit = (energy[0] * energy["energy"]).to_numpy()  # about what 20 cm of water absorbs
    primary = float((deposit * water).sum() / deposit.sum())
    sd = np.hypot(*((r["organ_dose_sd"] / r["organ_dose"]).to_numpy() for r in (with_it, without)))
    # scatter in the table, half of it towards the body, gives back up to half of what is taken
    assert (ratio > primary - 4 * sd).all()
    assert (ratio < 1.0 - 0.4 * (1.0 - primary) + 4 * sd).all()
    front, back = (shot(p, stand(), seed=5, **narrow)["organ_dose"].to_numpy() for p in (table, block))
    np.testing.assert_allclose(front, back, rtol=0.02)  # the table's backscatter; other histories behind it
    with pytest.raises(InputError, match="g/cm3"):
        dose.with_table(block, water_equivalent_mm=50.0, thickness_mm=20.0)
    with pytest.raises(InputError, match="above 0 mm"):
        dose.with_table(block, water_equivalent_mm=0.0)
