"""Heel, penumbra, straight blades, tilt, dynamic collimation, two tubes: photons against closed forms."""

from __future__ import annotations

import math
from itertools import pairwise

import numba
import numpy as np
import pytest

from twinlab.dose.beam import scan_source, stations, tube_runs
from twinlab.kernels.deflection import Focus
from twinlab.kernels.general_rays import frames
from twinlab.kernels.transport_data import ENERGY_UNIT_KEV
from twinlab.kernels.transport_source import emit
from twinlab.scanner import beam_fluence, load_protocol
from twinlab.scanner.collimation import blade_slopes, half_slope, passed, penumbra_mm
from twinlab.scanner.photon_source import beam_source, joined, protocol_beam
from twinlab.schema import InputError

N = 200_000
VIEW = np.array([[0.0, 0.0, 0.0, 0.0]])  # tube in front, at rest


@numba.njit
def _emit_many(source, n):
    out = np.empty((n, 7))
    for i in range(n):
        x, y, z, u, v, w, e, _ = emit(source, np.uint64(i), np.uint64(9), np.uint64(0))
        out[i, 0], out[i, 1], out[i, 2] = x, y, z
        out[i, 3], out[i, 4], out[i, 5], out[i, 6] = u, v, w, e
    return out


def rays(source, n=N):
    """Columns x, y, z, u, v, w, and keV of ``n`` photons."""
    out = _emit_many(source, n)
    out[:, 6] *= ENERGY_UNIT_KEV
    return out.T


def with_scanner(protocol, **changes):
    return protocol.replace(scanner=protocol.scanner.model_copy(update=changes))


@pytest.fixture(scope="module")
def chest():
    """Helical, 64 rows, no heel."""
    return load_protocol("adult_chest").replace(tube_current_ma=100.0)


@pytest.fixture(scope="module")
def heeled():
    protocol = load_protocol("realistic_chest").replace(tube_current_ma=100.0, flying_focal_spot="off")
    assert protocol.scanner.tube.heel
    return with_scanner(protocol, collimator_distance_mm=None)


def spot_of(protocol, length_mm, blade_mm, over_beaming_mm=0.0):
    tube = protocol.scanner.tube.model_copy(update={"focal_spot_mm": (0.8, length_mm)})
    return with_scanner(protocol, tube=tube, collimator_distance_mm=blade_mm, over_beaming_mm=over_beaming_mm)


def test_heel_is_that_of_the_image(heeled):
    """Number and mean energy over the cone angle, against the fluence that the image's cells see."""
    source, per_mas = beam_source(heeled, VIEW, isocentre_mm=(0.0, 0.0))
    _, _, _, _, _, w, kev = rays(source)
    half = half_slope(heeled)[0]
    edge = np.sin(math.atan(half)) * np.linspace(-1.0, 1.0, 6)  # not the bins of the source
    fine = np.concatenate([np.linspace(a, b, 9)[1::2] for a, b in pairwise(edge)])
    channel = heeled.scanner.fan_angles_rad()
    fan = np.linspace(channel[0], channel[-1], 301)
    beam = beam_fluence(heeled, fan_angle_rad=fan, cone_angle_rad=np.arcsin(fine))
    number = beam.to_numpy().sum(axis=(1, 2)).reshape(5, 4).mean(axis=1)
    energy = (beam.to_numpy() @ beam["energy"].to_numpy()).sum(axis=1).reshape(5, 4).mean(axis=1) / number
    where = np.digitize(w, edge[1:-1])
    share = np.bincount(where, minlength=5) / N
    mean = np.bincount(where, weights=kev, minlength=5) / np.bincount(where, minlength=5)
    # 4 sigma; the fluence is constant within a sixteenth of the cone: 0.1 %
    np.testing.assert_allclose(share, number / number.sum(), atol=4 * math.sqrt(0.16 / N) + 2e-4)
    np.testing.assert_allclose(mean, energy, atol=4 * kev.std() / math.sqrt(N / 5) + 0.02)
    assert number[-1] > 1.1 * number[0]  # there is a heel to see: more photons towards the head
    assert energy[0] > energy[-1] + 0.3  # and softer ones
    area = (channel[-1] - channel[0]) * (1 + 1 / (channel.size - 1)) * (edge[-1] - edge[0])
    total = beam.to_numpy().sum(axis=2).mean() * 1e6 * area
    assert per_mas == pytest.approx(total, rel=2e-3)  # 301 fan angles and 20 cone angles


@pytest.mark.parametrize("over_beaming", [0.0, 3.0])
def test_penumbra_is_a_trapezoid(chest, over_beaming):
    """At the isocentre: umbra and edges of a uniform focal spot seen through a slit, photons as of the slit."""
    protocol = spot_of(chest, 1.2, 180.0, over_beaming)
    radius = protocol.scanner.source_to_isocentre_mm
    edge = penumbra_mm(1.2, radius, 180.0)
    assert edge == pytest.approx(1.2 * (radius - 180.0) / 180.0)
    width = protocol.collimation_mm + (over_beaming or edge)
    source, per_mas = beam_source(protocol, VIEW, isocentre_mm=(0.0, 0.0))
    x, y, z, u, v, w, _ = rays(source)
    assert np.abs(x).max() <= 0.4 + 1e-4  # the width of the spot
    assert 0.59 < np.abs(z).max() <= 0.6
    at = z + radius * w / np.hypot(u, v)  # on the arc through the isocentre
    assert np.abs(at).max() <= 0.5 * (width + edge) + 1e-3
    assert y == pytest.approx(-radius, abs=1e-3)
    half = 0.5 * width
    for level, place in ((0.25, half + 0.25 * edge), (0.5, half), (0.75, half - 0.25 * edge)):
        # a band of a tenth of an edge about a place on the slope has the share that the trapezoid gives it
        band = np.abs(np.abs(at) - place) < 0.05 * edge
        want = 2 * 0.1 * edge * level / width
        assert band.mean() == pytest.approx(want, abs=4 * math.sqrt(want / N))
    plain = with_scanner(chest, over_beaming_mm=width - chest.collimation_mm)
    _, plain_per_mas = beam_source(plain, VIEW, isocentre_mm=(0.0, 0.0))
    assert per_mas == pytest.approx(plain_per_mas, rel=1e-5)  # cubes of cosines over the spot


def test_straight_blades_light_a_rectangle_of_the_panel():
    """Photons of a flat panel: those of its solid angle (arctangent formula), all within the rectangle."""
    protocol = load_protocol("bench_cbct")
    source, per_mas = beam_source(protocol, VIEW, isocentre_mm=(0.0, 0.0))
    _, _, _, u, v, w, _ = rays(source, 50_000)
    scanner = protocol.scanner
    half_v = 0.5 * (protocol.collimation_mm + scanner.over_beaming_mm) / scanner.source_to_isocentre_mm
    fan = scanner.fan_angles_rad()
    half_u = math.tan(fan[-1] + 0.5 * (fan[1] - fan[0]))
    assert np.abs(w / v).max() == pytest.approx(half_v, rel=1e-3)
    assert np.abs(w / v).max() < half_v * (1 + 1e-5)
    corner = np.abs(u / v) > 0.95 * half_u
    assert np.abs((w / v)[corner]).max() == pytest.approx(half_v, rel=5e-3)  # the corners are lit
    solid = 4 * math.atan(half_u * half_v / math.sqrt(1 + half_u**2 + half_v**2))
    fluence = beam_fluence(protocol, fan_angle_rad=[0.0]).to_numpy().sum()
    assert per_mas == pytest.approx(fluence * 1e6 * solid, rel=1e-4)  # 128 bins of the fan


def test_tilt_leans_the_beam_as_that_of_the_image(chest):
    """Foci and directions of the tilted gantry: those of the upright one, turned as the projector turns them."""
    tilt = math.radians(20.0)
    view = np.array([[0.3, 5.0, 0.1, 0.0], [2.0, 5.0, 0.1, 0.0]])
    own = {"isocentre_mm": (10.0, 30.0)}
    upright, _ = joined([(protocol_beam(chest, view, **own), 1.0)])
    leaning, _ = joined([(protocol_beam(chest, view, **own, tilt_rad=tilt), 1.0)])
    a, b = rays(upright, 2000), rays(leaning, 2000)
    lean = np.array([[1, 0, 0], [0, math.cos(tilt), -math.sin(tilt)], [0, math.sin(tilt), math.cos(tilt)]])
    centre = np.array([[10.0], [30.0], [5.0]])
    np.testing.assert_allclose(b[:3], lean @ (a[:3] - centre) + centre, atol=2e-3)  # float32 of 600 mm
    np.testing.assert_allclose(b[3:6], lean @ a[3:6], atol=1e-6)
    radius = chest.scanner.source_to_isocentre_mm
    still = np.array([[0.7, 5.0, 0.0, 0.0]])
    source, _ = joined([(protocol_beam(chest, still, **own, tilt_rad=tilt), 1.0)])
    focus = Focus(
        views=np.array([0]), turn=0.0, radius=radius, rise=0.0,
        along=np.ones(1), across=np.zeros(1), lengths=np.ones(1),
    )  # fmt: skip
    spot, _, _ = frames(focus, still[:, 0], still[:, 1], (10.0, 30.0), tilt)
    np.testing.assert_allclose(rays(source, 1)[:3, 0], spot[0], atol=2e-3)


def test_blades_stop_what_leaves_the_range(chest):
    """Dynamic collimation: rays cross the axis within the range; shares of views by integration."""
    z_range = (0.0, 60.0)
    view, mas = stations(chest, z_range_mm=z_range)
    given = {"corner_mm": np.zeros(3), "isocentre_mm": (0.0, 0.0), "z_range_mm": z_range}
    runs = tube_runs(chest, view, mas)
    _, open_photons = scan_source(runs, **given)
    source, photons = scan_source(runs, **given, dynamic_collimation=True)
    _, _, z, u, v, w, _ = rays(source)
    radius, margin = chest.scanner.source_to_isocentre_mm, 0.5 * chest.scanner.over_beaming_mm
    at = z + radius * w / np.hypot(u, v)
    feed = chest.feed_mm / chest.scanner.views_per_rotation
    assert at.min() >= -margin - 0.5 * feed - 1e-2
    assert at.max() <= 60.0 + margin + 0.5 * feed + 1e-2
    half = half_slope(chest)[0]
    slope = blade_slopes(
        view[:, 1], z_range_mm=(-margin, 60.0 + margin), half=half, radius_mm=radius
    )  # even in the sine of the cone angle, so the share is a difference of sines
    want = np.diff(np.sin(np.arctan(slope)), axis=1)[:, 0] / (2 * math.sin(math.atan(half)))
    assert photons / open_photons == pytest.approx(
        want.mean(), abs=2e-3
    )  # views below a per mille are left out
    np.testing.assert_allclose(passed(protocol_beam(chest, view, isocentre_mm=(0.0, 0.0), slope=slope)), want)
    # photons over z are even in the middle: 4 sigma of a tenth of the range
    counts = np.histogram(at, np.linspace(25.0, 35.0, 3))[0]
    assert abs(counts[0] - counts[1]) < 4 * math.sqrt(counts.sum())


def test_blades_with_heel_and_penumbra_agree_with_drawing(heeled):
    """The share that passes, integrated over spot, cone and fan, is the share of photons drawn that pass."""
    protocol = spot_of(heeled, 1.0, 200.0)
    half = half_slope(protocol)[0]
    slope = np.array([[-half, half], [-0.2 * half, half], [0.3 * half, 0.6 * half]])
    view = np.repeat(VIEW, 3, axis=0)
    share = passed(protocol_beam(protocol, view, isocentre_mm=(0.0, 0.0), slope=slope))
    source, _ = beam_source(protocol, VIEW, isocentre_mm=(0.0, 0.0))
    _, _, z, u, v, w, _ = rays(source)
    blades = w / np.hypot(u, v) + z / 200.0
    for k in (1, 2):
        drawn = ((blades > slope[k, 0]) & (blades < slope[k, 1])).mean()
        assert share[k] / share[0] == pytest.approx(drawn, abs=4 * math.sqrt(0.25 / N))


def test_two_tubes_share_the_photons():
    """Dual source: each tube has its photons, angle, fan and energies."""
    protocol = load_protocol("dual_energy_abdomen")
    view, mas = stations(protocol, z_range_mm=(0.0, 10.0))
    view = view[:1].copy()
    view[:, 2:] = 0.0
    runs = tube_runs(protocol, view, mas)
    given = {"corner_mm": np.zeros(3), "isocentre_mm": (0.0, 0.0), "z_range_mm": (0.0, 10.0)}
    source, photons = scan_source(runs, **given)
    alone = [scan_source([run], **given) for run in runs]
    assert photons == pytest.approx(sum(p for _, p in alone), rel=1e-12)
    x, y, _, u, v, w, kev = rays(source)
    ahead = np.mod(np.arctan2(x, -y) - view[0, 0], 2 * math.pi)
    second = np.abs(ahead - math.radians(95.0)) < 1e-3
    assert (second | (np.abs(np.sin(ahead)) < 1e-3)).all()
    want = alone[1][1] / photons
    assert second.mean() == pytest.approx(want, abs=4 * math.sqrt(want * (1 - want) / N))
    for tube, (single, _) in zip((~second, second), alone, strict=True):
        reference = rays(single, 50_000)
        own = kev[tube]
        assert own.mean() == pytest.approx(
            reference[6].mean(), abs=4 * own.std() * math.sqrt(1 / own.size + 1 / 50_000)
        )
        cone = np.abs(w[tube]).max(), np.abs(reference[5]).max()
        assert cone[0] == pytest.approx(cone[1], rel=1e-3)
    # the second field is narrower: rays pass the axis nearer
    past = np.abs(x * v - y * u) / np.hypot(u, v)
    assert past[second].max() < 0.75 * past[~second].max()


def test_a_switching_tube_alternates(chest):
    protocol = chest.replace(kv=80.0, second_kv=140.0)
    view, mas = stations(protocol, z_range_mm=(0.0, 10.0))
    low, high = tube_runs(protocol, view, mas)
    assert (low.protocol.kv, high.protocol.kv) == (80.0, 140.0)
    np.testing.assert_array_equal(low.view, view[::2])
    np.testing.assert_array_equal(high.view, view[1::2])
    assert low.mas + high.mas == pytest.approx(mas, rel=1e-12)


def test_start_and_end_angle(chest):
    first, _ = stations(chest, z_range_mm=(0.0, 50.0), start_angle_deg=30.0)
    last, _ = stations(chest, z_range_mm=(0.0, 50.0), end_angle_deg=30.0)
    assert first[0, 0] == pytest.approx(math.radians(30.0))
    assert last[-1, 0] == pytest.approx(math.radians(30.0))
    np.testing.assert_allclose(np.diff(last[:, 0]), np.diff(first[:, 0]), rtol=1e-9)
    with pytest.raises(InputError, match="one of them"):
        stations(chest, z_range_mm=(0.0, 50.0), start_angle_deg=10.0, end_angle_deg=30.0)


def test_wide_cone_follows_the_rows():
    """160 mm: the edge rays have the cone angle of the outermost rows and the over-beaming."""
    protocol = load_protocol("cardiac_axial")
    assert protocol.collimation_mm == pytest.approx(160.0, abs=1.0)
    source, _ = beam_source(protocol, VIEW, isocentre_mm=(0.0, 0.0))
    _, _, _, u, v, w, _ = rays(source, 50_000)
    width = protocol.collimation_mm + protocol.scanner.over_beaming_mm
    want = 0.5 * width / protocol.scanner.source_to_isocentre_mm
    assert np.abs(w / np.hypot(u, v)).max() == pytest.approx(want, rel=1e-3)


def test_wrong_blades(chest):
    view, mas = stations(chest, z_range_mm=(0.0, 10.0))
    with pytest.raises(InputError, match="leaves the collimator"):
        joined([(protocol_beam(chest, VIEW, isocentre_mm=(0.0, 0.0), slope=np.zeros((1, 2))), 1.0)])
    with pytest.raises(InputError, match="two values per view"):
        protocol_beam(chest, VIEW, isocentre_mm=(0.0, 0.0), slope=np.zeros((2, 2)))
    with pytest.raises(InputError, match="none negative"):
        tube_runs(chest, view, mas, weight=-np.ones(len(view)))
    with pytest.raises(InputError, match="collimator_distance_mm"):
        type(chest.scanner).make({**chest.scanner.model_dump(), "collimator_distance_mm": 900.0}, where="x")


def test_open_blades_change_nothing(chest):
    """Blades that stand outside the beam: the same photons as without."""
    view = np.array([[0.3, 5.0, 0.1, 2.0], [2.0, 25.0, 0.1, 2.0]])
    source, number = beam_source(chest, view, isocentre_mm=(0.0, 0.0))
    assert source.stations.shape[1] == 4  # the kernel does not look for blades
    wide = np.tile([-0.5, 0.5], (2, 1))
    bladed, same = joined([(protocol_beam(chest, view, isocentre_mm=(0.0, 0.0), slope=wide), 1.0)])
    assert same == pytest.approx(number, rel=1e-12)
    np.testing.assert_array_equal(rays(source, 500), rays(bladed, 500))
