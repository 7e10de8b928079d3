"""Doses of scans put together from others: two tubes, sectors, tilted gantries, blades, trajectories."""

from __future__ import annotations

import math

import numpy as np
import pytest

from twinlab import dose
from twinlab.phantom import assemble
from twinlab.scanner import load_protocol, organ_based, trajectory
from twinlab.scanner.second import second_protocol, second_trajectory
from twinlab.schema import InputError, label

HISTORIES = 60_000


def ball(radius_mm=100.0, step_mm=8.0, n=32):
    """Water ball in cubes, cut along x, y and z into a core and two caps each."""
    c = (np.arange(n) - 0.5 * (n - 1)) * step_mm
    z, y, x = np.meshgrid(c, c, c, indexing="ij")
    inside = x * x + y * y + z * z < radius_mm**2
    organ = np.where(inside, np.where(y < -50, 2, np.where(y > 50, 3, 1)), 0)
    return assemble(
        material=inside.astype(np.uint8),
        density=np.where(inside, 1.0, 0.001205),
        organ=organ,
        material_names=["air", "water"],
        organ_names={0: "outside", 1: "core", 2: "front", 3: "back"},
        z=c,
        y=c,
        x=c,
        name="ball",
        source="made for this test",
    )


@pytest.fixture(scope="module")
def cylinder():
    """Water cylinder of 20 cm, 40 cm long: slabs of 2 cm (organs 1 to 20)."""
    c = (np.arange(22) - 10.5) * 10.0
    z = (np.arange(40) - 19.5) * 10.0
    y, x = np.meshgrid(c, c, indexing="ij")
    inside = np.broadcast_to(np.hypot(x, y) < 100.0, (40, 22, 22))
    organ = np.where(inside, (np.arange(40) // 2 + 1)[:, None, None], 0)
    return assemble(
        material=inside.astype(np.uint8),
        density=np.where(inside, 1.0, 0.001205),
        organ=organ,
        material_names=["air", "water"],
        organ_names={0: "outside", **{k: f"slab {k}" for k in range(1, 21)}},
        z=z,
        y=c,
        x=c,
        name="cylinder",
        source="made for this test",
    )


@pytest.fixture(scope="module")
def protocol():
    return load_protocol("abdomen_pelvis").replace(tube_current_ma=200.0)


def run(phantom, protocol, **changes):
    given = {
        "z_range_mm": (-40.0, 40.0),
        "histories": HISTORIES,
        "seed": 2,
        "voxel_map": False,
        "extend_mm": 0.0,
    }
    return dose.simulate(phantom, protocol, **{**given, **changes})


def values(result):
    return result["organ_dose"].to_numpy(), result["organ_dose_sd"].to_numpy()


def test_two_tubes_give_the_sum_of_both(cylinder):
    protocol = load_protocol("dual_energy_abdomen")
    both = run(cylinder, protocol, seed=2)
    first = run(cylinder, protocol.replace(second_kv=None), seed=3)
    path = trajectory(protocol, z_range_mm=(-40.0, 40.0))
    second = run(cylinder, second_protocol(protocol), trajectory=second_trajectory(protocol, path), seed=4)
    (d, sd), (a, sa), (b, sb) = values(both), values(first), values(second)
    middle = slice(7, 13)
    assert (np.abs(d - a - b) < 4 * np.sqrt(sd**2 + sa**2 + sb**2))[middle].all()
    assert (sd / d)[middle].max() < 0.02
    assert both.attrs["photons"] == pytest.approx(first.attrs["photons"] + second.attrs["photons"], rel=1e-9)
    assert both.attrs["second_mas"] == both.attrs["mas"]
    assert b[10] > 0.2 * a[10]  # the second tube matters


def test_a_switching_tube_gives_half_of_each_voltage(cylinder, protocol):
    mixed = run(cylinder, protocol.replace(kv=80.0, second_kv=140.0))
    low, high = (run(cylinder, protocol.replace(kv=kv), seed=s) for kv, s in ((80.0, 3), (140.0, 4)))
    (d, sd), (a, sa), (b, sb) = map(values, (mixed, low, high))
    middle = slice(7, 13)
    assert (np.abs(d - 0.5 * (a + b)) < 4 * np.sqrt(sd**2 + 0.25 * (sa**2 + sb**2)))[middle].all()


def test_a_tilted_gantry_gives_the_ball_the_same_dose_turned(protocol):
    """A ball about the isocentre: the map of the tilted scan is that of the upright one, turned."""
    phantom = ball(step_mm=4.0, n=56)
    upright = load_protocol("head_axial").replace(tube_current_ma=200.0)
    scanner = upright.scanner.model_copy(update={"max_gantry_tilt_deg": 30.0})
    upright = upright.replace(scanner=scanner)
    width = upright.collimation_mm
    given = {"z_range_mm": (-0.4 * width, 0.4 * width), "isocentre_mm": (0.0, 0.0), "voxel_map": True}
    level = run(phantom, upright, **given)
    leaning = run(phantom, upright.replace(gantry_tilt_deg=30.0), **given, seed=5)
    total = [
        (
            float((r["organ_dose"] * r["organ_mass"]).sum()),
            math.hypot(*(r["organ_dose_sd"] * r["organ_mass"]).to_numpy()),
        )
        for r in (level, leaning)
    ]  # sd of organs that share histories: below their square sum by at most a third
    assert abs(total[0][0] - total[1][0]) < 4 * math.hypot(total[0][1], total[1][1])
    c = phantom["x"].to_numpy()
    z, y = np.meshgrid(c, c, indexing="ij")
    t = math.radians(30.0)
    along = z * math.cos(t) - y * math.sin(t)  # the leaning beam's own z
    for low, high in (
        (-20.0, 20.0),
        (32.0, 60.0),
        (-80.0, -52.0),
    ):  # faces of voxels; the beam is in the first
        sums = []
        for result, own in ((level, z), (leaning, along)):
            band = ((own > low) & (own < high))[:, :, None] & np.isfinite(result["dose"].to_numpy())
            sums.append((result["dose"].to_numpy()[band].sum(), result["dose_sd"].to_numpy()[band]))
        sd = math.hypot(*(np.linalg.norm(part) for _, part in sums))
        # 4 sigma, a half more because histories join voxels, and 2 % for voxels across the faces of the band
        assert abs(sums[0][0] - sums[1][0]) < 6 * sd + 0.02 * sums[0][0]
    # had the gantry not turned, the band across would not be the hot one
    hot = np.abs(along) < 10.0
    dose_map = leaning["dose"].to_numpy()
    assert np.nanmean(dose_map[hot]) > 2.0 * np.nanmean(dose_map[np.abs(along) > 60.0])


def test_blades_spare_what_is_outside_and_nothing_inside(cylinder, protocol):
    zone = {"z_range_mm": (-120.0, 120.0), "histories": 200_000}
    plain = run(cylinder, protocol, **zone)
    closing = run(cylinder, protocol, **zone, dynamic_collimation=True, seed=7)
    (a, sa), (b, sb) = values(plain), values(closing)
    inside, beyond = [8, 9, 10, 11], [2, 17]  # 80 mm about the middle; 20 to 40 mm outside the range
    # the middle loses the scatter of the ends, 80 mm and more away: 2 %
    assert (np.abs(a - b)[inside] < 4 * np.hypot(sa, sb)[inside] + 0.02 * a[inside]).all()
    assert (b[beyond] < 0.75 * a[beyond]).all()
    assert b.sum() < a.sum()
    assert closing.attrs["photons"] < 0.95 * plain.attrs["photons"]
    scanner = protocol.scanner.model_copy(update={"dynamic_collimation": True})
    own = run(cylinder, protocol.replace(scanner=scanner), **zone, seed=7)
    np.testing.assert_array_equal(own["organ_dose"], closing["organ_dose"])


def test_a_modulated_scan_is_the_sum_of_its_sectors(protocol):
    """Doses of four sectors of views, weighted by any current, are the dose under that current."""
    phantom = ball()
    axial = load_protocol("head_axial").replace(tube_current_ma=200.0)
    views = axial.scanner.views_per_rotation
    sector = (np.arange(views) * 4) // views
    zone = {"z_range_mm": (-0.4 * axial.collimation_mm, 0.4 * axial.collimation_mm)}
    current = np.array([0.4, 1.3, 0.9, 1.4])
    whole = run(phantom, axial, relative_mas=current[sector], **zone)
    parts = [run(phantom, axial, relative_mas=(sector == k) * 4.0, seed=10 + k, **zone) for k in range(4)]
    (d, sd) = values(whole)
    doses, sds = (np.stack(v) for v in zip(*map(values, parts), strict=True))
    want = 0.25 * current @ doses
    spread = 0.25 * np.sqrt(current**2 @ sds**2)
    assert (np.abs(d - want) < 4 * np.hypot(sd, spread)).all()
    assert doses.std(axis=0)[1] > 0.3 * doses.mean(axis=0)[1]  # sectors differ at the front


def test_one_trajectory_drives_image_and_dose(cylinder, protocol):
    """A trajectory with a current gives the doses of its shape and its mAs."""
    path = trajectory(protocol, z_range_mm=(-40.0, 40.0), isocentre_mm=(0.0, 0.0))
    z = path["source_z"].to_numpy()
    shape = 1.0 + 0.5 * np.sin(z / 20.0)
    path = path.assign(tube_current=label("tube_current", 120.0 * shape))
    by_path = run(cylinder, protocol, trajectory=path)
    mean = 120.0 * float(shape.mean())
    by_hand = run(cylinder, protocol.replace(tube_current_ma=mean), relative_mas=shape / shape.mean())
    # the same views with the same weights to rounding: the same histories
    np.testing.assert_allclose(by_path["organ_dose"], by_hand["organ_dose"], rtol=2e-3)
    assert by_path.attrs["mas"] == pytest.approx(by_hand.attrs["mas"], rel=1e-12)
    assert by_path.attrs["photons"] == pytest.approx(by_hand.attrs["photons"], rel=1e-12)
    moved = path.assign_attrs(isocentre_x_mm=30.0)
    aside = run(cylinder, protocol, trajectory=moved)
    assert aside.attrs["isocentre_x_mm"] == 30.0


def test_sparing_the_front_spares_the_front(protocol):
    phantom = ball()
    axial = load_protocol("head_axial").replace(tube_current_ma=200.0)
    zone = {"z_range_mm": (-0.4 * axial.collimation_mm, 0.4 * axial.collimation_mm)}
    path = trajectory(axial, **zone)
    spared = run(phantom, axial, trajectory=organ_based(path, axial), **zone)
    even = run(phantom, axial, trajectory=path, **zone)
    ratio = (spared["organ_dose"] / even["organ_dose"]).to_numpy()
    sd = np.hypot(*(r["organ_dose_sd"] / r["organ_dose"] for r in (spared, even))).max()
    assert spared.attrs["mas"] == pytest.approx(even.attrs["mas"], rel=2e-3)  # a view on the edge of the arc
    assert abs(float(ratio[0]) - 1.0) < 4 * float(sd)
    assert ratio[1] < 0.8
    assert ratio[2] > 1.1


def test_contradictions_are_refused(cylinder, protocol):
    path = trajectory(protocol, z_range_mm=(-40.0, 40.0))
    with pytest.raises(InputError, match="none with a trajectory"):
        run(cylinder, protocol, trajectory=path, start_angle_deg=10.0)
    moving = path.assign(tube_current=label("tube_current", np.full(path.sizes["view"], 100.0)))
    with pytest.raises(InputError, match="relative_mas"):
        run(cylinder, protocol, trajectory=moving, relative_mas=np.ones(path.sizes["view"]))
    with pytest.raises(InputError, match="view_angle"):
        run(cylinder, protocol, trajectory=path.drop_vars("view_angle"))
