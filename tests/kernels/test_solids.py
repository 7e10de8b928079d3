"""Chords of solids against closed forms, against points along the ray, and painting by order."""

import numpy as np
import pytest

from twinlab.kernels.deflection import foci
from twinlab.kernels.general_rays import frames
from twinlab.kernels.project import detector_rays, project_reference
from twinlab.kernels.solids import add_painted, painted, solids
from twinlab.phantom.shapes import Box, Cone, Cylinder, Ellipsoid, Rod

TIGHT = 1e-9  # mm: float64 over distances of a metre
WATER = {"name": "a", "material": "water"}


def rays(n=400, *, reach=40.0, seed=0):
    """Starts at 600 mm and unit directions to points near the middle."""
    rng = np.random.default_rng(seed)
    start = rng.normal(size=(n, 3))
    start *= 600.0 / np.linalg.norm(start, axis=1)[:, None]
    way = rng.uniform(-reach, reach, (n, 3)) - start
    return start, way / np.linalg.norm(way, axis=1)[:, None]


def distance_to_line(start, way, point, axis):
    normal = np.cross(way, axis)
    return np.abs(((np.asarray(point) - start) * normal).sum(1)) / np.linalg.norm(normal, axis=1)


def test_ball():
    start, way = rays()
    centre = np.array([3.0, -4.0, 5.0])
    ball = Ellipsoid(**WATER, diameter_mm=50.0, centre_mm={"x": 3, "y": -4, "z": 5})
    off = np.linalg.norm(np.cross(centre - start, way), axis=1)
    exact = 2.0 * np.sqrt(np.maximum(25.0**2 - off**2, 0.0))
    assert (exact > 0).sum() > 50
    assert ball.chord(start, way) == pytest.approx(exact, abs=1e-6 * 50)  # at a graze the root doubles digits


def test_long_rod_in_any_direction():
    start, way = rays(reach=10.0)
    rod = Rod(
        **WATER,
        diameter_mm=12.0,
        from_mm={"x": -900, "y": -600, "z": -300},
        to_mm={"x": 900, "y": 600, "z": 300},
    )
    axis = np.array([3.0, 2.0, 1.0]) / np.sqrt(14.0)
    slant = np.linalg.norm(np.cross(way, axis), axis=1)
    steep = slant > 0.5  # those enter and leave through the wall
    off = distance_to_line(start, way, (0, 0, 0), axis)
    exact = 2.0 * np.sqrt(np.maximum(36.0 - off**2, 0.0)) / np.maximum(slant, 1e-3)
    assert (exact[steep] > 0).sum() > 100
    assert rod.chord(start, way)[steep] == pytest.approx(exact[steep], abs=1e-6 * 12)


def test_box():
    start, way = rays()
    half = np.array([20.0, 15.0, 7.0])
    box = Box(**WATER, size_mm={"x": 40, "y": 30, "z": 14})
    near, far = (-half - start) / way, (half - start) / way
    exact = np.maximum(np.maximum(near, far).min(1) - np.minimum(near, far).max(1), 0.0)
    assert (exact > 0).sum() > 50
    assert box.chord(start, way) == pytest.approx(exact, abs=TIGHT)


def test_cone_across_and_along_its_axis():
    cone = Cone(**WATER, from_mm={"z": -10}, to_mm={"z": 30}, from_diameter_mm=20.0)
    height, off = np.meshgrid(np.linspace(-9, 29, 7), np.linspace(0, 11, 6), indexing="ij")
    radius = 10.0 * (30.0 - height) / 40.0
    start = np.stack([np.full(height.shape, -500.0), off, height], -1).reshape(-1, 3)
    across = cone.chord(start, np.broadcast_to([1.0, 0.0, 0.0], start.shape))
    assert across == pytest.approx(2 * np.sqrt(np.maximum(radius**2 - off**2, 0.0)).ravel(), abs=TIGHT)
    start = np.column_stack([np.linspace(0, 11, 12), np.zeros(12), np.full(12, 500.0)])
    along = cone.chord(start, np.broadcast_to([0.0, 0.0, -1.0], start.shape))
    assert along == pytest.approx(np.maximum(40.0 * (1 - start[:, 0] / 10.0), 0.0), abs=TIGHT)
    # parallel to the wall, 1 mm of depth: in by the base, out by the wall on the other side
    slope = np.array([-10.0, 0.0, 40.0]) / np.hypot(10.0, 40.0)
    start = np.array([[9.0, 0.0, -10.0]]) - 400.0 * slope
    # x = 9 - s/4 (s: height above the base) meets the far wall x = -(10 - s/4) at s = 38
    assert cone.chord(start, slope[None]) == pytest.approx([38.0 * np.hypot(1.0, 0.25)], abs=1e-8)


ENDS = {"from_mm": {"x": -20, "y": 5, "z": -9}, "to_mm": {"x": 15, "z": 12}}
SOLIDS = {
    "cone": Cone(**WATER, **ENDS, from_diameter_mm=6, to_diameter_mm=40),
    "point": Cone(**WATER, **ENDS, from_diameter_mm=50),
    "rod": Rod(**WATER, **ENDS, diameter_mm=20),
    "cylinder": Cylinder(**WATER, axis="y", diameter_mm=25, length_mm=30, centre_mm={"x": 4}),
    "ellipsoid": Ellipsoid(**WATER, diameter_mm={"x": 30, "y": 50, "z": 12}),
    "box": Box(**WATER, size_mm={"x": 30, "y": 50, "z": 12}),
}  # fmt: skip


@pytest.mark.parametrize("name", list(SOLIDS))
def test_chord_is_the_share_of_points_inside(name):
    start, way = rays(60, reach=15.0, seed=3)
    t = np.arange(500.0, 700.0, 0.01)
    inside = np.stack([SOLIDS[name].contains(s + t[:, None] * w) for s, w in zip(start, way, strict=True)])
    assert inside.any(1).sum() > 20
    # one step at each end
    assert SOLIDS[name].chord(start, way) == pytest.approx(inside.sum(1) * 0.01, abs=0.02)


@pytest.mark.parametrize("name", ["cone", "point"])
def test_bound_never_exceeds_the_distance(name):
    solid, rng = SOLIDS[name], np.random.default_rng(1)
    points = rng.uniform(-40.0, 40.0, (300, 3))
    bound = solid.bound(points)
    for _ in range(200):  # steps of the bound's own length never cross the surface
        step = rng.normal(size=points.shape)
        step *= (np.abs(bound) * (1 - 1e-9) / np.linalg.norm(step, axis=1))[:, None]
        assert ((solid.bound(points + step) <= 0) == (bound <= 0))[np.abs(bound) > 1e-6].all()
    low, high = solid.z_span_mm
    assert points[bound <= 0][:, 2].min() >= low
    assert points[bound <= 0][:, 2].max() <= high


def test_chords_integrate_to_the_volume_of_a_frustum():
    cone = Cone(**WATER, from_mm={"x": -20}, to_mm={"x": 20, "y": 7}, from_diameter_mm=10, to_diameter_mm=24)
    step = 0.23
    u = np.arange(-30.0, 30.0, step)
    x, y = np.meshgrid(u, u)
    start = np.column_stack([x.ravel(), y.ravel(), np.full(x.size, 100.0)])
    volume = cone.chord(start, np.broadcast_to([0.0, 0.0, -1.0], start.shape)).sum() * step**2
    # 70,000 rays; the sum over a raster converges as (step / size)^2
    assert volume == pytest.approx(np.pi / 3 * np.hypot(40, 7) * (25 + 5 * 12 + 144), rel=1e-3)


def test_what_is_painted_later_covers_what_was_before():
    water = Cylinder(**WATER, diameter_mm=60, length_mm=50)
    hole = Ellipsoid(**WATER, diameter_mm=20, centre_mm={"x": 5})
    half_out = Box(**WATER, size_mm={"x": 30, "y": 10, "z": 80}, centre_mm={"x": 25})
    start, way = rays(300)
    length = painted(solids([s.form() for s in (water, hole, half_out)]), start, way)
    t = np.arange(540.0, 660.0, 0.01)
    for i in range(0, 300, 10):
        points = start[i] + t[:, None] * way[i]
        in_box, in_hole = half_out.contains(points), hole.contains(points) & ~half_out.contains(points)
        in_water = water.contains(points) & ~in_box & ~in_hole
        found = 0.01 * np.array([in_water.sum(), in_hole.sum(), in_box.sum()])
        assert length[:, i] == pytest.approx(found, abs=0.05)  # a step at each of up to four surfaces


SCAN = {
    "view_angle_rad": np.array([0.0, 0.7, 2.2, 4.0]),
    "source_z_mm": np.array([-3.0, 0.3, 4.0, 9.0]),
    "isocentre_mm": (0.7, -0.4),
}
ARC = {"source_to_isocentre_mm": 570.0, "source_to_detector_mm": 1040.0}
FANS = {"fan_angle_rad": np.linspace(-0.08, 0.09, 21)}
ROWS = np.linspace(-40.3, 40.1, 9)


def cone_beam(weights, objects, *, tilt=0.0, **volume):
    along, across, lengths = detector_rays(source_to_detector_mm=1040.0, **FANS)
    (focus,) = foci(None, 4, source_to_isocentre_mm=570.0, along=along, across=across, lengths=lengths)
    source, axes, channels = frames(
        focus, SCAN["view_angle_rad"], SCAN["source_z_mm"], SCAN["isocentre_mm"], tilt
    )
    out = np.zeros((weights.shape[1], 4, ROWS.size, 21), np.float32)
    lo, hi = np.zeros(4, np.int64), np.full(4, ROWS.size)
    add_painted(
        out, solids([s.form() for s in objects]), weights, source=source, axes=axes, channels=channels, rows=ROWS,
        row_lo=lo, row_hi=hi, **volume,
    )  # fmt: skip
    start = np.broadcast_to(source[:, None, None], (4, ROWS.size, 21, 3))
    way = (
        np.einsum("cd,vdp->vcp", channels, axes[:, :2])[:, None]
        + ROWS[:, None, None] * axes[:, None, None, 2]
    )
    return out, start.reshape(-1, 3), (way / np.linalg.norm(way, axis=-1)[..., None]).reshape(-1, 3)


@pytest.mark.parametrize("tilt", [0.0, 0.35])
def test_cone_beam_is_the_rays_one_by_one(tilt):
    objects, weights = list(SOLIDS.values()), np.random.default_rng(2).uniform(0.5, 2.0, (len(SOLIDS), 3))
    out, start, way = cone_beam(weights, objects, tilt=tilt)
    exact = 0.1 * weights.T @ painted(solids([s.form() for s in objects]), start, way)
    assert exact.max() > 2
    # the requirement is 1e-5; float32 storage rounds to 6e-8
    assert np.abs(out.reshape(3, -1) - exact).max() < 1e-6 * exact.max()


def test_objects_replace_the_voxels_they_cover():
    rng = np.random.default_rng(4)
    volumes = rng.uniform(0.5, 1.5, (2, 20, 24, 28)).astype(np.float32)
    grid = {"spacing_mm": (4.0, 3.0, 2.5), "origin_mm": (-38.0, -34.5, -33.75)}
    place = {"low": (-40.0, -36.0, -35.0), "size": (4.0, 3.0, 2.5)}
    voxels = project_reference(volumes, **grid, **SCAN, **ARC, **FANS, row_mm=ROWS)
    # two that overlap, and one that leaves the grid
    objects = [
        SOLIDS["rod"],
        SOLIDS["ellipsoid"],
        Box(**WATER, size_mm={"x": 8, "y": 200, "z": 6}, centre_mm={"z": 20}),
    ]
    weights = rng.uniform(0.5, 1.5, (3, 2))
    mixed = voxels + cone_beam(weights, objects, volumes=volumes, **place)[0]
    # the same by brute force: 0.02 mm steps along each ray
    _, start, way = cone_beam(weights, objects)
    t = np.arange(500.0, 660.0, 0.02)
    low, size = np.array(place["low"])[::-1], np.array(place["size"])[::-1]
    for i in range(0, len(start), 37):
        points = start[i] + t[:, None] * way[i]
        cell = np.floor((points - low) / size).astype(int)
        here = ((cell >= 0) & (cell < [28, 24, 20])).all(1)
        value = np.zeros((t.size, 2))
        value[here] = volumes[:, cell[here, 2], cell[here, 1], cell[here, 0]].T
        for solid, weight in zip(objects, weights, strict=True):
            value[solid.contains(points)] = weight
        # a step at each of some 60 surfaces, of random sign and size
        assert mixed.reshape(2, -1)[:, i] == pytest.approx(0.002 * value.sum(0), abs=0.01)
