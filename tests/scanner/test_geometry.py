"""Trajectories and rays: the conventions that projector, reconstruction and transport rely on."""

from __future__ import annotations

import math

import numpy as np
import pytest

from twinlab.scanner import cell_solid_angle, load_protocol, over_range_mm, trajectory
from twinlab.schema import InputError, check


@pytest.fixture(scope="module")
def helical():
    return load_protocol("liver_arterial")


@pytest.fixture(scope="module")
def axial():
    return load_protocol("head_axial")


def test_helical_angle_and_table_go_together(helical):
    scan = trajectory(helical, z_range_mm=(-50.0, 150.0), start_angle_deg=30.0, isocentre_mm=(3.0, -7.0))
    check(scan, "view_angle", "source_z", where="test")
    angle, z = scan["view_angle"].to_numpy(), scan["source_z"].to_numpy()
    assert angle[0] == pytest.approx(math.radians(30.0))
    np.testing.assert_allclose(np.diff(angle), 2 * math.pi / 984, rtol=1e-9)
    # one rotation moves the table by pitch x collimation
    np.testing.assert_allclose(z[984:] - z[:-984], 0.984 * 40.0, rtol=1e-9)
    assert (z[0] + z[-1]) / 2 == pytest.approx(50.0)
    assert scan.attrs["isocentre_x_mm"] == 3.0
    assert scan.attrs["isocentre_y_mm"] == -7.0
    assert scan.attrs["feed_mm"] == pytest.approx(39.36)


def test_helical_over_range_is_half_a_rotation_plus_fan(helical):
    scan = trajectory(helical, z_range_mm=(0.0, 100.0))
    beyond = -float(scan["source_z"].min())
    fan = np.ptp(helical.scanner.fan_angles_rad())
    assert over_range_mm(helical) == pytest.approx(39.36 * (math.pi + fan) / (2 * math.pi))
    # the number of views is whole: up to one view more in all, half of it at each end
    assert 0 <= beyond - over_range_mm(helical) + 0.5 * 39.36 / 984 <= 39.36 / 984


@pytest.mark.parametrize("pitch", [0.516, 0.984, 1.375])
def test_every_point_of_the_range_is_seen_from_half_a_turn(helical, pitch):
    """Each point is in the beam for a set of rays that covers all directions modulo 180 degrees."""
    protocol = helical.replace(pitch=pitch)
    scan = trajectory(protocol, z_range_mm=(0.0, 100.0))
    beta, zs = scan["view_angle"].to_numpy(), scan["source_z"].to_numpy()
    radius, sdd = protocol.scanner.source_to_isocentre_mm, protocol.scanner.source_to_detector_mm
    half_v = protocol.scanner.n_rows_for(protocol.collimation_mm) / 2 * protocol.scanner.detector.row_pitch_mm
    # 230 mm: up to pitch 1.375 the 180-degree window of this detector still fits at this radius
    for r, phi, z in [
        (0, 0, 0),
        (200, 0.3, 0),
        (200, 2.0, 100),
        (230, 4.0, 50),
        (230, 5.5, 0),
        (150, 1, 100),
    ]:
        x, y = r * math.cos(phi), r * math.sin(phi)
        dx, dy = x - radius * np.sin(beta), y + radius * np.cos(beta)
        along = -dx * np.sin(beta) + dy * np.cos(beta)
        across = dx * np.cos(beta) + dy * np.sin(beta)
        fan = np.arctan2(across, along)
        v = (z - zs) * sdd / np.hypot(dx, dy)
        seen = (np.abs(v) <= half_v) & (np.abs(fan) <= np.abs(protocol.scanner.fan_angles_rad()).max())
        direction = np.sort(np.mod(beta[seen] - fan[seen], math.pi))
        gap = np.diff(np.append(direction, direction[0] + math.pi)).max()
        # views are 0.37 degrees apart; the fan angle of a point turns at most 1.8 times as fast
        assert gap < math.radians(1.2), (r, phi, z)


def test_rays_follow_the_convention(helical):
    """Tube anterior at beta 0; the ray of fan angle g passes the isocentre at R sin g."""
    radius = helical.scanner.source_to_isocentre_mm
    for beta in (0.0, 0.5 * math.pi, 2.2):
        source = np.array([radius * math.sin(beta), -radius * math.cos(beta)])
        d, e = np.array([-math.sin(beta), math.cos(beta)]), np.array([math.cos(beta), math.sin(beta)])
        np.testing.assert_allclose(source + radius * d, 0.0, atol=1e-9)  # the central ray meets the isocentre
        for g in helical.scanner.fan_angles_rad()[[0, 300, 887]]:
            ray = math.cos(g) * d + math.sin(g) * e
            distance = source[0] * ray[1] - source[1] * ray[0]
            assert abs(distance) == pytest.approx(abs(radius * math.sin(g)))
    assert -radius * math.cos(0.0) < 0  # y grows to posterior: anterior is negative


def test_axial_steps_by_the_collimation(axial):
    scan = trajectory(axial, z_range_mm=(10.0, 110.0))
    z = scan["source_z"].to_numpy().reshape(-1, 984)
    assert (z == z[:, :1]).all()
    np.testing.assert_allclose(z[:, 0], [20.0, 40.0, 60.0, 80.0, 100.0])
    np.testing.assert_allclose(np.diff(scan["view_angle"]), 2 * math.pi / 984, rtol=1e-9)
    assert axial.scan_time_s((10.0, 110.0)) == pytest.approx(5 * 1.0 + 4 * 1.0)


def test_axial_covers_a_range_that_is_no_multiple(axial):
    scan = trajectory(axial, z_range_mm=(0.0, 50.0))
    z = np.unique(scan["source_z"])
    assert z.size == 3
    assert z[0] - 10 <= 0
    assert z[-1] + 10 >= 50


@pytest.mark.parametrize(
    ("way", "first_four"),
    [
        ("in_plane", [[1.5, 0, 0], [-1.5, 0, 0], [1.5, 0, 0], [-1.5, 0, 0]]),
        ("z", [[0, 4, 0.8], [0, -4, -0.8], [0, 4, 0.8], [0, -4, -0.8]]),
        ("both", [[1.5, 4, 0.8], [-1.5, 4, 0.8], [1.5, -4, -0.8], [-1.5, -4, -0.8]]),
    ],
)
def test_focal_spot_flies(axial, way, first_four):
    data = axial.model_dump()
    data["scanner"]["tube"]["flying_focal_spot"] = {"in_plane_mm": 1.5, "z_mm": 0.8, "radial_mm": 4.0}
    scan = trajectory(type(axial).make({**data, "flying_focal_spot": way}), z_range_mm=(0.0, 20.0))
    check(scan, "focal_shift", where="test")
    assert list(scan["shift_axis"].values) == ["tangential", "radial", "z"]
    assert np.array_equal(scan["focal_shift"][:4], first_four)
    assert np.array_equal(scan["focal_shift"][4:8], first_four)
    still = trajectory(axial, z_range_mm=(0.0, 20.0))
    assert "focal_shift" not in still
    assert np.array_equal(still["source_z"], scan["source_z"])
    assert scan.attrs["gantry_tilt_deg"] == 0.0


def test_wide_cone_takes_one_rotation():
    heart = load_protocol("cardiac_axial")
    assert trajectory(heart, z_range_mm=(0.0, 160.0)).sizes["view"] == 984
    assert heart.scan_time_s((0.0, 160.0)) == pytest.approx(0.28)


def test_helical_scan_time(helical):
    travel = 200.0 + 2 * over_range_mm(helical)
    # up to one view more than the travel needs
    assert helical.scan_time_s((0.0, 200.0)) == pytest.approx(travel / 39.36 * 0.5, abs=0.5 / 984)


@pytest.mark.parametrize("z_range", [(1.0, 1.0), (5.0, 0.0), (0.0, math.nan)])
def test_a_range_that_is_none_is_refused(helical, z_range):
    with pytest.raises(InputError, match="z_range_mm"):
        trajectory(helical, z_range_mm=z_range)


def test_arc_channels(helical):
    fan = helical.scanner.fan_angles_rad()
    assert fan.size == 888
    np.testing.assert_allclose(np.diff(fan), 1.0239 / 949.075, rtol=1e-12)
    # the quarter-channel offset makes opposite rays interleave
    assert fan[443] + fan[444] == pytest.approx(2 * 0.25 * 1.0239 / 949.075)


def test_rows_open_with_the_collimation(helical):
    rows = helical.scanner.row_positions_mm(20.0)
    assert rows.size == 32
    assert rows.mean() == pytest.approx(0.0, abs=1e-12)
    assert np.ptp(rows) + 1.0963 == pytest.approx(
        20.0 * 949.075 / 541.0, rel=2e-4
    )  # quoted 0.625, made 0.6249


def test_solid_angle_of_the_panel_adds_up():
    """All cells together are the panel: 4 atan(ab / (d sqrt(a^2 + b^2 + d^2))) for half-sides a, b."""
    bench = load_protocol("bench_cbct")
    a, b, d = 1024 * 0.388 / 2, 768 * 0.388 / 2, 1500.0
    exact = 4 * math.atan(a * b / (d * math.sqrt(a * a + b * b + d * d)))
    assert float(cell_solid_angle(bench).sum()) == pytest.approx(
        exact, rel=1e-6
    )  # midpoint rule, 0.4 mm cells


def test_solid_angle_falls_as_cosine_cubed_along_the_arc_rows():
    heart = load_protocol("cardiac_axial")
    angle = cell_solid_angle(heart)
    v = heart.row_positions_mm()
    np.testing.assert_allclose(angle[:, 0] / angle[128, 0], np.cos(np.arctan(v / 1097.61)) ** 3, rtol=1e-6)
    assert float(angle.std("channel").max() / angle.mean()) < 1e-12
