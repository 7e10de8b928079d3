"""Balance of a body: Land's problems, load stepping, cavities, twitch, unloading, strains."""

from dataclasses import replace

import numpy as np
import pytest

from twinlab.cardiac import mechanics
from twinlab.cardiac.mechanics.assembly import Assembler
from twinlab.cardiac.mechanics.linear import factorised
from twinlab.cardiac.mechanics.newton import Load
from twinlab.cardiac.mechanics.steps import reach, rest
from twinlab.schema import InputError

KPA = 0.133322


@pytest.fixture(scope="module")
def heart():
    return mechanics.ellipsoid(cells=(1, 4, 8), short_mm=(24.0, 35.0), long_mm=(68.0, 78.0), base_mm=18.0)


@pytest.fixture(scope="module")
def body(heart):
    return mechanics.body(
        heart, law=mechanics.guccione(), active=mechanics.ActiveLaw(steepness=6.0),
        frame=mechanics.ellipsoid_frame(heart, endo_deg=60, epi_deg=-60),
        springs=[mechanics.Springs("epicardium", 5e-4)],
    )  # fmt: skip


def pressed(body, kpa, tension=0.0):
    n = len(body.cavities)
    return Load(np.full(n, kpa), np.full(n, np.nan), np.full(len(body.tet), tension))


def test_land_beam():
    """Published tips lie between 4.14 and 4.20 mm (as read by the solids4foam tutorial); 240 elements are coarse.

    Another code with quadratic elements on the same mesh has 4.116; a different treatment of the volume
    (distortion only, here) may move it by a few micrometres.
    """
    result = mechanics.land(1)
    assert result.attrs["tets"] == 240
    assert result.attrs["tip_z_mm"] == pytest.approx(4.116, abs=0.006)


@pytest.mark.slow
def test_land_beam_refined_lies_in_the_published_range():
    assert 4.14 <= mechanics.land(1, refinement=2).attrs["tip_z_mm"] <= 4.20


@pytest.mark.slow
@pytest.mark.parametrize(
    ("problem", "endo", "epi", "share"), [(2, -26.61, -28.28, 0.005), (3, -12.32, -15.48, 0.03)]
)
def test_land_ellipsoid(problem, endo, epi, share):
    """Another code with quadratic elements; fine solutions of the benchmark differ by 0.5 %.

    Problem 3 has no fibre direction on the axis, where the inner apex lies: it converges slowly (-11.85, -12.00,
    -12.21 mm with 1, 2, 3 cells across the wall), and 3 % is what two cells can be asked for.
    """
    attrs = mechanics.land(problem, refinement=2).attrs
    assert attrs["apex_endo_mm"] == pytest.approx(endo, rel=share)
    assert attrs["apex_epi_mm"] == pytest.approx(epi, rel=0.005)


def test_thick_sphere_of_rubber_under_pressure():
    """Inflated sphere of neo-Hookean rubber: p = mu [(4/l + 1/l^4)/2] between the radii (Green and Adkins 1970)."""
    mu, inner, outer, moved = 10.0, 10.0, 12.0, 0.5
    heart = mechanics.ellipsoid(
        cells=(1, 8, 12), short_mm=(inner, outer), long_mm=(inner, outer), base_mm=0.0
    )
    held = np.zeros((heart.sizes["node"], 3), bool)
    point = heart["point"].values
    held[np.isclose(point[:, 2], 0), 2] = True  # half a sphere: its plane of symmetry stays flat
    held[np.hypot(point[:, 0], point[:, 1]) < 1e-9, :2] = True
    held[np.isclose(point[:, 1], 0, atol=1e-9) & (point[:, 0] > 0) & np.isclose(point[:, 2], 0), 1] = True
    body = mechanics.body(heart, law=mechanics.neo_hookean(mu_kpa=mu), fixed=held)
    a = inner + moved
    b = (outer**3 + a**3 - inner**3) ** (1 / 3)

    def part(stretch):
        return 2 / stretch + 0.5 / stretch**4

    # radial balance of sigma_t - sigma_r = mu (l^2 - l^-4)
    pressure = mu * (part(b / outer) - part(a / inner))
    state = reach(Assembler(body), rest(Assembler(body)), pressed(body, pressure), steps=2)
    radius = np.linalg.norm(point + state.field[:, :3], axis=1)
    inside = np.isclose(np.linalg.norm(point, axis=1), inner)
    # 1 % of the displacement: one element through the wall
    assert radius[inside] - inner == pytest.approx(moved, abs=0.02)


def test_volume_and_pressure_are_two_sides_of_one_curve(body):
    ventricle = mechanics.Ventricle(body, mechanics.Twitch(np.zeros(len(body.tet))), solver="superlu")
    empty = ventricle.volume_ml
    full = ventricle.volume(8.0, 0.0, steps=3)
    ventricle.commit()
    assert full > 1.2 * empty
    p, slope = ventricle.pressure(full - 2.0, 0.0, exact=True)
    ventricle.rollback()
    assert ventricle.volume_ml == full
    high, low = ventricle.pressure(full - 1.9, 0.0)[0], ventricle.pressure(full - 2.1, 0.0)[0]
    assert slope == pytest.approx((high - low) / 0.2, rel=1e-4)  # differences over 0.2 ml
    back, rough = ventricle.pressure(full, 0.0)
    assert rough == pytest.approx(slope, rel=0.3), (
        "an older tangent is good enough for Newton of the circulation"
    )
    assert back == pytest.approx(8.0, rel=1e-7)
    assert p < 8.0


def test_a_beat_builds_pressure_and_restarts(body):
    twitch = mechanics.Twitch(np.zeros(len(body.tet)), peak_kpa=60.0)
    ventricle = mechanics.Ventricle(body, twitch, solver="superlu")
    ventricle.volume(8.0, 0.0, steps=3)
    ventricle.commit()
    full, start = ventricle.volume_ml, ventricle.state
    beat = mechanics.contract(ventricle, time_ms=[40.0, 80.0], volume_ml=[full, full])
    assert beat["cavity_volume"].values[:, 0] == pytest.approx(full, rel=1e-8)
    pressure = beat["cavity_pressure"].values[:, 0]
    assert 10 < pressure[0] < pressure[1] < 150
    ventricle.restore(start)
    again = ventricle.pressure(full, 80.0)[0]
    assert again == pytest.approx(pressure[1], rel=1e-6), "the balance does not depend on the way there"
    ventricle.restore(start)
    ejected = mechanics.contract(ventricle, time_ms=[40.0, 80.0], pressure_mmhg=[20.0, 40.0])
    assert ejected["cavity_volume"].values[-1, 0] < full
    strains = mechanics.strain(body, ejected["displacement"], reference_mm=start.field[:, :3])
    assert strains["fibre_strain_mean"].values[-1] < -0.01
    assert strains["circumferential_strain_mean"].values[-1] < 0
    assert strains["wall_thickening_mean"].values[-1] > 0.01
    half = np.where(body.point[body.tet[:, :4], 0].mean(1) > 0, 1, 2)
    segments = mechanics.segment_means(body, strains["fibre_strain"], segment=half)
    assert segments.dims == ("time", "segment")
    # the ventricle is symmetric, its mesh nearly so
    assert segments.sel(segment=1).values == pytest.approx(segments.sel(segment=2).values, rel=0.2)
    assert np.isnan(segments.sel(segment=3)).all()


def test_strain_of_a_known_deformation(heart, body):
    """Stretched by 10 % along z: the fibre of angle a has sqrt(cos^2 a + 1.21 sin^2 a) away from the apex."""
    moved = np.zeros_like(body.point)
    moved[:, 2] = 0.1 * body.point[:, 2]
    got = mechanics.strain(body, moved)
    fibre = np.einsum("eq,eqik->eik", body.measure, body.frame)[:, :, 0] / body.measure.sum(1)[:, None]
    fibre /= np.linalg.norm(fibre, axis=1, keepdims=True)
    wanted = np.sqrt(fibre[:, 0] ** 2 + fibre[:, 1] ** 2 + 1.21 * fibre[:, 2] ** 2) - 1
    # the mean over an element of a turning fibre is not the fibre of its mean
    assert np.median(np.abs(got["fibre_strain"] - wanted)) < 0.01
    assert abs(got.attrs["circumferential_strain_mean"]) < 0.01
    assert 0.05 < got.attrs["longitudinal_strain_mean"] < 0.1


def test_a_load_out_of_reach_names_what_failed_and_keeps_the_last_balance(body):
    assembler = Assembler(body)
    with pytest.raises(
        mechanics.MechanicsError, match=r"filling: no balance beyond .*pressure_kpa.*residual"
    ) as caught:
        reach(assembler, rest(assembler), pressed(body, 1e5), cuts=2, what="filling")
    state = caught.value.state
    assert 0 <= caught.value.reached < 1
    _, matrix = assembler(state.field, state.pressure_kpa, state.load.tension_kpa, None, tangent=True)
    assert matrix is not None, "the state that comes back is a usable one"


def test_a_failed_step_is_cut_and_the_load_reached(body, monkeypatch):
    """Newton from rest cannot take this load at once; the stepping gets there all the same."""
    from twinlab.cardiac.mechanics import steps

    failed = []

    def counted(*args, **keywords):
        try:
            return original(*args, **keywords)
        except steps.Failed as failure:
            failed.append(failure)
            raise

    original = steps.newton
    monkeypatch.setattr(steps, "newton", counted)
    assembler = Assembler(body)
    state = reach(assembler, rest(assembler), pressed(body, 12.0), steps=1)
    assert failed
    assert state.load.pressure_kpa[0] == 12.0
    gentle = reach(assembler, rest(assembler), pressed(body, 12.0), steps=8)
    assert state.volume_mm3 == pytest.approx(gentle.volume_mm3, rel=1e-6)


def test_unloaded_shape_takes_the_given_shape_under_load(heart):
    settings = {
        "law": mechanics.guccione(c_kpa=2.0),
        "frame": mechanics.ellipsoid_frame(heart, endo_deg=60, epi_deg=-60),
    }
    found = mechanics.unloaded(heart, pressure_mmhg=6.0, tolerance_mm=0.02, solver="superlu", **settings)
    assert found.attrs["unloading_error_mm"] <= 0.02
    body = mechanics.body(found, **settings)
    assembler = Assembler(body)
    state = reach(assembler, rest(assembler), pressed(body, 6.0 * KPA), steps=3)
    assert np.abs(body.point + state.field[:, :3] - heart["point"].values).max() < 0.03
    assert body.cavities[0].volume_mm3(body.point) < 0.95 * body.cavities[0].volume_mm3(heart["point"].values)


def test_tension_starts_after_the_delay_and_ends():
    at = np.array([0.0, 30.0, np.nan])
    assert mechanics.tension(at, 15.0).tolist() == [0, 0, 0]
    mid = mechanics.tension(at, 200.0, peak_kpa=50.0)
    assert mid[0] > mid[1] * 0.9 > 0
    assert mid[2] == 0
    assert mid.max() <= 50
    assert mechanics.tension(at, 500.0).tolist() == [0, 0, 0]
    later = mechanics.tension(at, 1000.0, period_ms=800.0, peak_kpa=50.0)
    assert later == pytest.approx(mid, nan_ok=True)
    with pytest.raises(InputError, match="at least the twitch"):
        mechanics.tension(at, 0.0, period_ms=100.0)


def test_both_solvers_agree(body):
    pytest.importorskip("pypardiso")
    assembler = Assembler(body)
    now, matrix = assembler(
        rest(assembler).field, np.ones(1), np.full(len(body.tet), 5.0), None, tangent=True
    )
    right = assembler.free(now.force)
    one, other = (factorised(matrix, name)(right) for name in ("superlu", "pardiso"))
    assert other == pytest.approx(one, rel=1e-8, abs=1e-12)


def test_histories_that_cannot_be_used_are_refused(body):
    ventricle = mechanics.Ventricle(body, mechanics.Twitch(np.zeros(len(body.tet))))
    with pytest.raises(InputError, match="either pressure_mmhg or volume_ml"):
        mechanics.contract(ventricle, time_ms=[1.0])
    with pytest.raises(InputError, match="finite history"):
        mechanics.contract(ventricle, time_ms=[1.0, 2.0], volume_ml=[80.0, np.nan])
    with pytest.raises(InputError, match="above zero"):
        ventricle.pressure(-1.0, 0.0)
    with pytest.raises(InputError, match="closed cavities"):
        mechanics.Ventricle(replace(body, cavities=()), mechanics.Twitch(np.zeros(len(body.tet))))


@pytest.mark.slow
def test_a_heart_of_the_geometry_can_be_loaded():
    """Mesh, fibres and coordinates as the geometry makes them: same cavity, a usable tangent, strains."""
    from twinlab.cardiac import geometry

    heart = geometry.idealised_lv(cavity_ml=110.0, wall_ml=130.0, h_mm=12.0, layers=1)
    heart = geometry.coordinates(geometry.fibres(heart))
    body = mechanics.body(heart, law=mechanics.guccione(), active=mechanics.ActiveLaw(steepness=6.0))
    cavity = body.cavities[0].volume_mm3(body.point) / 1000
    assert cavity == pytest.approx(geometry.cavity_volume(heart), rel=1e-6)
    assembler = Assembler(body)
    tension = mechanics.Twitch(mechanics.per_tet(heart, np.linspace(0, 20, heart.sizes["node"])))(60.0)
    now, matrix = assembler(rest(assembler).field, np.ones(1), tension, None, tangent=True)
    assert now.usable
    assert matrix is not None
    strains = mechanics.strain(body, 0.1 * body.point)
    assert strains.attrs["longitudinal_strain_mean"] == pytest.approx(0.1)
    assert strains.attrs["wall_thickening_mean"] == pytest.approx(0.1)
    assert np.isfinite(mechanics.segment_means(body, strains["fibre_strain"]).sel(segment=[1, 7, 13])).all()


def test_springs_hold_a_free_heart(heart):
    """Nothing fixed: the springs balance the pull on the base, whose sum of forces is zero."""
    body = mechanics.body(
        heart, law=mechanics.guccione(), fixed=None, frame=mechanics.ellipsoid_frame(heart),
        springs=[mechanics.Springs("epicardium", 1e-3, 1e-4), mechanics.Springs("base", 1e-2, 1e-2)],
    )  # fmt: skip
    assembler = Assembler(body)
    state = reach(assembler, rest(assembler), pressed(body, 0.5), steps=2)
    now, _ = assembler(state.field, state.pressure_kpa, state.load.tension_kpa, None, tangent=False)
    pull = now.gradient[0].sum(0)
    # a closed cavity pushes on itself: no net force
    assert np.abs(pull).max() < 1e-9 * np.abs(now.gradient[0]).sum()
