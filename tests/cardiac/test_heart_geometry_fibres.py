"""Laplace problems, frames, fibres and universal coordinates against closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from twinlab.cardiac.geometry import aha_segments, coordinates, fibres, idealised_biventricular, mesh_solid
from twinlab.cardiac.geometry.fibre_rules import laplace_fields
from twinlab.cardiac.geometry.frames import axes, bislerp, matrices, oriented, quaternions
from twinlab.cardiac.geometry.laplace import element_gradient, solve_laplace, stiffness
from twinlab.cardiac.geometry.solids import LV_ENDOCARDIUM, Solid, ellipsoid
from twinlab.kernels.heart_stuffing import lattice
from twinlab.schema import InputError

INNER, OUTER = 20.0, 30.0


def shell(h_mm):
    """Half a spherical shell: every function of the rule has a closed form in it."""
    volume = [2 / 3 * np.pi * r**3 / 1000 for r in (INNER, OUTER)]
    solid = Solid(
        outside=ellipsoid(np.zeros(3), np.full(3, OUTER)),
        cavities={LV_ENDOCARDIUM: ellipsoid(np.zeros(3), np.full(3, INNER))},
        base_point_mm=np.zeros(3),
        base_normal=np.array([0.0, 0.0, 1.0]),
        septum_direction=np.array([-1.0, 0.0, 0.0]),
        low_mm=np.full(3, -OUTER),
        high_mm=np.array([OUTER, OUTER, 0.0]),
        volumes_ml={"lv": volume[0], "wall": volume[1] - volume[0]},
    )
    return mesh_solid(solid, h_mm=h_mm, layers=2)


@pytest.fixture(scope="module")
def bowl():
    return fibres(shell(4.0))


@pytest.fixture(scope="module")
def both():
    heart = idealised_biventricular(
        lv_cavity_ml=60, rv_cavity_ml=70, wall_ml=110, rv_wall_mm=5, h_mm=3.5, layers=1, layers_rv=1
    )
    return coordinates(fibres(heart))


def centres(heart):
    return heart["point"].values[heart["tet"].values].mean(axis=1)


def sphere_depth(places):
    r = np.linalg.norm(places, axis=1)
    return (1 / INNER - 1 / r) / (1 / INNER - 1 / OUTER)


def helix_angle(heart, outward):
    """Angle of the fibre in the plane across ``outward``, from around (anticlockwise from the base) to the base."""
    base = np.array(heart.attrs["base_normal"])
    up = base - outward * (outward @ base)[:, None]
    up /= np.linalg.norm(up, axis=1, keepdims=True)
    around = np.cross(up, outward)
    fibre = heart["fibre"].values
    angle = np.degrees(np.arctan2((fibre * up).sum(1), (fibre * around).sum(1)))
    return (angle + 90) % 180 - 90


def test_linear_functions_are_exact_on_tetrahedra():
    places, tets = lattice(np.zeros(3, int), np.full(3, 4))
    points = places.astype(float)
    swapped = np.linalg.det(points[tets[:, 1:]] - points[tets[:, :1]]) < 0
    tets[swapped] = tets[swapped][:, [1, 0, 2, 3]]
    used = np.unique(tets)
    points, tets = points[used], np.searchsorted(used, tets)
    wanted = points @ [1.0, -2.0, 0.5]
    count = np.zeros(len(points))
    np.add.at(count, tets.ravel(), 1)
    fixed = count < 24  # not in the middle of all its tetrahedra
    found = solve_laplace(stiffness(points, tets), fixed, wanted)
    assert (~fixed).any()
    assert np.allclose(found, wanted, atol=1e-7)  # solver's tolerance 1e-9 of the right side
    assert np.allclose(element_gradient(points, tets, wanted), [1.0, -2.0, 0.5])


def test_laplace_in_the_shell_is_that_of_a_sphere(bowl):
    field = laplace_fields(bowl, where="test")
    assert np.allclose(field.epi + field.left + field.right, 1)
    finer = shell(2.7)

    def error(heart, epi):
        return np.sqrt(((epi - sphere_depth(heart["point"].values)) ** 2).mean())

    coarse = error(bowl, field.epi)
    assert coarse < 0.01
    ratio = coarse / error(finer, laplace_fields(finer, where="test").epi)
    assert ratio == pytest.approx((4 / 2.7) ** 2, rel=0.2)  # second order, on meshes that are not similar


def test_fibres_of_the_shell_follow_the_rule(bowl):
    places = centres(bowl)
    outward = places / np.linalg.norm(places, axis=1, keepdims=True)
    away = (
        np.linalg.norm(places[:, :2], axis=1) > 6
    )  # at the tip the two directions in the wall are undefined
    rule = 60 - 120 * sphere_depth(places)
    error = (helix_angle(bowl, outward) - rule + 90) % 180 - 90
    # The depth is known to 0.75 % (test above), 0.9 degrees of 120; the direction across adds little.
    assert np.sqrt((error[away] ** 2).mean()) < 1.5
    # Positive, right-handed at the endocardium.
    depth = sphere_depth(places)
    angle = helix_angle(bowl, outward)
    assert angle[away & (depth < 0.2)].min() > 25
    assert angle[away & (depth > 0.8)].max() < -25
    # The transmural direction itself: fibres have no part of it.
    assert np.abs((bowl["fibre"].values * outward).sum(1))[away].max() < 0.15


@pytest.mark.parametrize("name", ["bowl", "both"])
def test_directions_are_orthonormal_everywhere_also_at_the_apex(name, request):
    heart = request.getfixturevalue(name)
    frame = np.stack([heart[n].values for n in ("fibre", "sheet", "sheet_normal")], axis=1)
    assert np.allclose(frame @ frame.transpose(0, 2, 1), np.eye(3), atol=1e-12)
    assert np.allclose(np.cross(frame[:, 0], frame[:, 1]), frame[:, 2], atol=1e-12)


def test_septum_turns_from_the_left_angle_to_its_reverse(both):
    wall, tets = both["wall"].values, both["tet"].values
    depth = both["transmural"].values[tets].mean(axis=1)
    places = centres(both)
    outward = places * [1, 1, 0]  # near the equator, from the left axis
    outward /= np.linalg.norm(outward, axis=1, keepdims=True)
    middle = (np.abs(places[:, 2] + 10) < 15) & (wall == 2)
    angle = helix_angle(both, outward)
    # 60 to -60 over the wall: at 15 and 85 % of it +-42, +-14 for the thickness of an element.
    assert angle[middle & (depth < 0.25)].mean() == pytest.approx(45, abs=14)
    assert angle[middle & (depth > 0.75)].mean() == pytest.approx(-45, abs=14)
    fit = np.polyfit(depth[middle], angle[middle], 1)
    assert fit[0] == pytest.approx(-120, rel=0.15)
    assert np.polyval(fit, 0.5) == pytest.approx(0, abs=8)


def test_right_free_wall_follows_the_rule_outwards(both):
    wall, tets = both["wall"].values, both["tet"].values
    depth = both["transmural"].values[tets].mean(axis=1)
    places = centres(both)
    middle = (np.abs(places[:, 2] + 10) < 15) & (wall == 3) & (np.abs(places[:, 1]) < 15)
    outward = np.broadcast_to([-1.0, 0.0, 0.0], places.shape)
    angle = helix_angle(both, outward)
    fit = np.polyfit(depth[middle], angle[middle], 1)
    # Two elements across, and an outward direction taken as that of the middle: the sign and the size.
    assert fit[0] == pytest.approx(-120, rel=0.25)
    assert np.polyval(fit, 0.5) == pytest.approx(0, abs=12)


def test_frames_and_quaternions_agree():
    rng = np.random.default_rng(1)
    frame = np.linalg.qr(rng.normal(size=(200, 3, 3)))[0]
    frame[np.linalg.det(frame) < 0, :, 0] *= -1
    assert np.allclose(matrices(quaternions(frame)), frame)
    same = np.eye(3)[None] * np.array([[-1.0], [-1.0], [1.0]])[None]  # half a turn about e2: the same fibre
    assert np.allclose(bislerp(same, np.eye(3)[None], np.array([0.3])), np.eye(3))


def test_interpolation_of_two_turns_about_one_axis_is_the_turn_between():
    start = axes(np.array([[0.0, 0, 1]]), np.array([[1.0, 0, 0]]), np.array([0.0, 1, 0]))
    one, two = (oriented(start, np.radians([a]), np.zeros(1)) for a in (60.0, -20.0))
    between = bislerp(one, two, np.array([0.25]))
    assert np.allclose(between, oriented(start, np.radians([40.0]), np.zeros(1)))
    # In a slab with its wall along x and its base at z, the helix angle is that from y (around) to z.
    assert np.allclose(start[0][:, 0], [0, 1, 0])
    assert np.allclose(one[0][:, 0], [0, 0.5, np.sqrt(0.75)])


def test_frames_do_not_fail_where_gradients_are_parallel_or_vanish():
    up = np.array([[0.0, 0, 1], [0, 0, 0], [0, 0, 1], [0, 0, 0]])
    across = np.array([[0.0, 0, 1], [0, 0, 1], [0, 0, 0], [0, 0, 0]])
    for spare in ([1.0, 0, 0], [0.0, 0, 1]):
        frame = axes(up, across, np.array(spare))
        assert np.allclose(frame.transpose(0, 2, 1) @ frame, np.eye(3))
        assert np.allclose(np.linalg.det(frame), 1)


def test_coordinates_of_the_shell(bowl):
    known = coordinates(bowl)
    points = known["point"].values
    assert (
        np.sqrt(((known["transmural"].values - sphere_depth(points)) ** 2).mean()) < 0.01
    )  # as the Laplace problem
    polar = np.arccos(-points[:, 2] / np.linalg.norm(points, axis=1)) / (np.pi / 2)
    far = polar > 0.2
    # Levels are cones: the share of the way is that of the polar angle. The line at the tip has a width of
    # three quarters of an edge, 3 degrees of 90.
    assert np.abs(known["apicobasal"].values - polar)[far].max() < 0.06
    angle = np.arctan2(-points[:, 1], -points[:, 0])  # from the septum (-x) anteriorly (-y)
    error = (known["rotational"].values - angle + np.pi) % (2 * np.pi) - np.pi
    assert np.abs(error[far]).max() < 0.03  # the axis goes through a corner near the tip
    assert (known["ventricle"].values == 0).all()


def test_coordinates_of_both_ventricles(both):
    wall, ventricle = both["wall"].values, both["ventricle"].values
    tets = both["tet"].values
    assert set(np.unique(ventricle)) == {0, 1}
    assert (ventricle[tets[wall != 3]] == 0).all()
    for name in ("transmural", "apicobasal"):
        values = both[name].values
        assert np.isfinite(values).all()
        assert values.min() == pytest.approx(0, abs=1e-6)
        assert values.max() == pytest.approx(1, abs=1e-6)


def test_segments_lie_where_the_heart_association_puts_them(both):
    segment = aha_segments(both).values
    places = centres(both)
    assert set(np.unique(segment)) == set(range(18))
    assert (segment[both["wall"].values == 3] == 0).all()
    mean = {s: places[segment == s].mean(axis=0) for s in range(1, 18)}
    # x towards the patient's left (lateral), -y anterior, z to the base.
    for basal in (1, 7, 13):
        assert mean[basal][1] == min(m[1] for s, m in mean.items() if abs(m[2] - mean[basal][2]) < 4)
    assert mean[4][1] > 0  # inferior
    assert mean[10][1] > 0
    assert mean[15][1] > 0
    for septal in (2, 3, 8, 9, 14):
        assert mean[septal][0] < 0
    for lateral in (5, 6, 11, 12, 16):
        assert mean[lateral][0] > 0
    assert mean[2][1] < 0 < mean[3][1]
    assert mean[6][1] < 0 < mean[5][1]
    assert mean[1][2] > mean[7][2] > mean[13][2] > mean[17][2]


def test_unusable_hearts_are_refused(bowl):
    with pytest.raises(InputError, match="angles from -180"):
        fibres(bowl, alpha_endo_deg=float("nan"))
    with pytest.raises(InputError, match="variable 'tet'"):
        fibres(bowl.drop_vars("tet"))
    lost = bowl.assign(facet_surface=bowl["facet_surface"].copy(data=np.ones(bowl.sizes["facet"], np.uint8)))
    with pytest.raises(InputError, match="left endocardium"):
        fibres(lost)
    broken = bowl.assign(point=bowl["point"].where(bowl["point"] < 25))
    with pytest.raises(InputError, match="finite points"):
        fibres(broken)
    bare = bowl.copy()
    bare.attrs = {}
    with pytest.raises(InputError, match="lv_apex_mm"):
        fibres(bare)
