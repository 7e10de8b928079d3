"""Remaining life: histories, cuts, features, metrics, and the whole chain on units whose wear is known."""

from __future__ import annotations

import gzip

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from twinlab.maintenance.remaining import (
    Boosted,
    CausalNetwork,
    RandomConvolutions,
    coverage,
    cut_weights,
    draw_cuts,
    fit_conditions,
    fit_intervals,
    fit_remaining_life,
    histories,
    read_cmapss,
    rmse,
    s_score,
    synthetic_units,
    unit_folds,
)
from twinlab.maintenance.remaining.blending import blend_unseen, shares
from twinlab.maintenance.remaining.features import curvature, feature_names, features, rolling_slope, smooth
from twinlab.maintenance.remaining.synthetic import SENSORS
from twinlab.schema import InputError

pytest.importorskip("sklearn", reason="scikit-learn is not installed (extra: maintenance)")
pytest.importorskip("lightgbm", reason="LightGBM is not installed (extra: maintenance)")


def units(count, seed, **more):
    return histories(synthetic_units(count, seed=seed, **more), sensors=SENSORS, settings=["load"])


# histories


def test_a_table_in_any_order_becomes_histories():
    table = synthetic_units(5, seed=1)
    straight = histories(table, sensors=SENSORS, settings=["load"])
    shuffled = histories(table.sample(frac=1.0, random_state=0), sensors=SENSORS, settings=["load"])
    np.testing.assert_array_equal(straight.sensors, shuffled.sensors)
    np.testing.assert_array_equal(straight.units, [1, 2, 3, 4, 5])
    assert straight.life_left()[straight.last].tolist() == [0] * 5
    some = straight.take([3, 1])
    np.testing.assert_array_equal(some.units, [4, 2])
    np.testing.assert_array_equal(some.pieces()[1], straight.pieces()[1])
    np.testing.assert_array_equal(straight.cut([7] * 5).pieces()[2], straight.pieces()[2][:7])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda t: t.drop(columns="heat"), "heat"),
        (lambda t: t.assign(heat=t.heat.where(t.cycle != 3)), "finite numbers in 'heat'"),
        (lambda t: t.assign(heat=t.heat.astype(object).where(t.cycle != 3, "hot")), "first 'hot'"),
        (lambda t: pd.concat([t, t.iloc[[4]]]), "cycle 5 twice in unit 1"),
        (lambda t: t.iloc[:0], "rows"),
    ],
)
def test_tables_that_cannot_be_used_are_refused(spoil, message):
    with pytest.raises(InputError, match=message):
        histories(spoil(synthetic_units(3, seed=1)), sensors=SENSORS)


# C-MAPSS files


def write_set(folder, *, packed=False, engines=3, rows=6):
    rng = np.random.default_rng(0)

    def put(name, table):
        text = "\n".join(" ".join(f"{v:g}" for v in row) + "  " for row in table) + "\n"
        if packed:
            with gzip.open(folder / f"{name}.gz", "wt") as file:
                file.write(text)
        else:
            (folder / name).write_text(text)

    table = [[u, c, *rng.normal(size=24)] for u in range(1, engines + 1) for c in range(1, rows + 1)]
    put("train_FD001.txt", table)
    put("test_FD001.txt", table)
    put("RUL_FD001.txt", [[10 * u] for u in range(engines)])


@pytest.mark.parametrize("packed", [False, True])
def test_cmapss_is_read_plain_and_packed(tmp_path, packed):
    write_set(tmp_path, packed=packed)
    found = read_cmapss("FD001", tmp_path)
    assert found.train.sensors.shape == (18, 21)
    assert found.rul.tolist() == [0, 10, 20]
    assert found.test.lengths.tolist() == [6, 6, 6]


def test_cmapss_that_is_missing_or_broken_is_refused(tmp_path, monkeypatch):
    monkeypatch.delenv("TWINLAB_CMAPSS", raising=False)
    with pytest.raises(InputError, match="TWINLAB_CMAPSS"):
        read_cmapss("FD001")
    with pytest.raises(InputError, match="a folder with"):
        read_cmapss("FD001", tmp_path / "no")
    with pytest.raises(InputError, match="a set of"):
        read_cmapss("FD005", tmp_path)
    with pytest.raises(InputError, match=r"train_FD001\.txt or train_FD001\.txt\.gz"):
        read_cmapss("FD001", tmp_path)
    write_set(tmp_path)
    lives = (tmp_path / "RUL_FD001.txt").read_text()
    (tmp_path / "RUL_FD001.txt").write_text("1\n2\n")
    with pytest.raises(InputError, match="3 test engines"):
        read_cmapss("FD001", tmp_path)
    (tmp_path / "RUL_FD001.txt").write_text(lives)
    whole = (tmp_path / "test_FD001.txt").read_text().splitlines()
    for lines, message in [
        ([*whole[:2], *whole[3:]], "gap in engine 1"),
        ([line.rsplit(None, 1)[0] for line in whole], "26 columns"),
        ([*whole[:-1], whole[-1].rsplit(None, 3)[0]], "row 18 with a number missing"),
        (["nonsense here", *whole], "as numbers"),
        ([], "as numbers"),
    ]:
        (tmp_path / "test_FD001.txt").write_text("\n".join(lines))
        with pytest.raises(InputError, match=message):
            read_cmapss("FD001", tmp_path)
    (tmp_path / "test_FD001.txt").unlink()
    (tmp_path / "test_FD001.txt.gz").write_bytes(gzip.compress(b"1 2 3\n" * 900)[:-20])
    with pytest.raises(InputError, match=r"test_FD001.txt.gz as numbers"):
        read_cmapss("FD001", tmp_path)


# conditions and features


def test_conditions_are_found_and_taken_out():
    made = units(20, 3, conditions=4, noise=0.02)
    conditions = fit_conditions(made)
    assert len(conditions.centre) == 4
    plain = conditions.apply(made)
    load = conditions.of(made)
    for i in range(4):  # each condition has mean 0 and spread 1 of each sensor
        np.testing.assert_allclose(plain.sensors[load == i].mean(axis=0), 0, atol=1e-9)
        np.testing.assert_allclose(plain.sensors[load == i].std(axis=0), 1, atol=1e-9)
    assert len(fit_conditions(units(5, 3)).centre) == 1


def test_constant_sensors_are_dropped():
    table = synthetic_units(5, seed=2).assign(still=3.0)
    made = histories(table, sensors=["heat", "still"])
    assert fit_conditions(made).apply(made).sensor_names == ("heat",)


def test_features_look_only_back():
    """The features of a history that is cut are those of the whole one at that row."""
    made = fit_conditions(units(4, 5)).apply(units(4, 5))
    whole = features(made)
    cuts = made.lengths // 2
    part = made.cut(cuts)
    np.testing.assert_allclose(
        features(part)[part.last], whole[made.start[:-1] + cuts - 1], rtol=1e-4, atol=1e-4
    )
    assert whole.shape[1] == len(feature_names(made.sensor_names))


def test_slope_and_curvature_against_polynomial_fits():
    values = np.random.default_rng(0).normal(size=(60, 2)).cumsum(axis=0)
    x = np.arange(60)
    for window, end in [(20, 45), (100, 33)]:
        begin = max(end - window, 0)
        fitted = np.polynomial.polynomial.polyfit(x[begin:end], values[begin:end], 1)[1]
        np.testing.assert_allclose(rolling_slope(values, window)[end - 1], fitted)
    bent = np.polynomial.polynomial.polyfit(x[:41], values[:41], 2)[2]
    np.testing.assert_allclose(curvature(values)[40], bent)


def test_smoothing_starts_without_bias():
    np.testing.assert_allclose(smooth(np.full((5, 1), 3.0), 15), 3.0)


# cuts and folds


def test_cuts_have_the_lengths_asked_for_and_count_each_unit_once():
    made = units(200, 7)
    lengths = np.random.default_rng(0).integers(20, 110, 150)
    weight = cut_weights(made, lengths)
    np.testing.assert_allclose([w.sum() for w in made.pieces(weight)], 1.0)
    assert weight[made.last].max() == 0.0  # a unit that has failed is not asked about
    cuts = draw_cuts(made, weight, seed=1)
    assert (cuts < made.lengths).all()
    # 200 cuts against 150 lengths: one in a thousand draws of equal laws lies below this p-value
    assert stats.ks_2samp(cuts, lengths).pvalue > 1e-3


def test_folds_part_units():
    fold = unit_folds(23, 5, seed=1)
    assert sorted(np.bincount(fold)) == [4, 4, 5, 5, 5]
    with pytest.raises(InputError, match="2 folds or more"):
        unit_folds(3, 5)


# metrics


def test_scores_by_hand():
    assert rmse([100, 130], [104, 190]) == pytest.approx(np.sqrt((16 + 3600) / 2))
    assert rmse([100, 130], [104, 190], cap=125) == pytest.approx(np.sqrt(16 / 2))
    assert s_score([10, 33], [20, 20]) == pytest.approx(np.expm1(10 / 13) + np.expm1(13 / 10))
    assert coverage([0, 5], [2, 6], [2, 7]) == 0.5
    with pytest.raises(InputError, match="as many"):
        rmse([1, 2], [1])


# intervals and blends


def test_intervals_cover_units_that_were_not_seen():
    """Errors that grow with the prediction: coverage is right in every bin of the prediction."""
    rng = np.random.default_rng(0)

    def draw(n):
        middle = rng.uniform(0, 100, n)
        return middle, middle + (2 + middle / 10) * rng.standard_normal(n)

    p, t = draw(4000)
    made = fit_intervals(p, t, np.ones(4000), level=0.9, cap=1e3)
    p, t = draw(20000)
    lower, upper = made.around(p)
    which = np.searchsorted(made.edges, p)
    for i in range(5):
        inside = which == i
        # 800 to calibrate and 4000 to try: standard error 0.012
        assert coverage(lower[inside], upper[inside], t[inside]) == pytest.approx(0.9, abs=0.036)
    assert coverage(lower, upper, t) == pytest.approx(0.9, abs=0.016)


def test_blend_finds_the_mixture_of_least_error():
    rng = np.random.default_rng(0)
    truth = rng.uniform(0, 100, 5000)
    models = {"a": truth + 3 * rng.standard_normal(5000), "b": truth + 6 * rng.standard_normal(5000)}
    share = shares(models, truth, np.ones(5000))
    # independent errors: shares go as 1/variance, 36/(36 + 9); the standard error of a share is 0.006
    assert share["a"] == pytest.approx(0.8, abs=0.02)
    models["bad"] = truth + 50
    assert shares(models, truth, np.ones(5000))["bad"] < 0.01
    fold = np.arange(5000) % 5
    assert rmse(blend_unseen(models, truth, np.ones(5000), fold), truth) < 2.8


# the whole chain


@pytest.fixture(scope="module")
def chain():
    both = units(260, 1, conditions=3)
    train, test = both.take(np.arange(60)), both.take(np.arange(60, 260))
    cuts = draw_cuts(test, cut_weights(test), seed=3)
    makers = {
        "boosted": lambda: Boosted(trees=150, rows=3000),
        "convolutions": lambda: RandomConvolutions(kernels=300, rows=3000),
    }
    model = fit_remaining_life(train, lengths=cuts, candidates=makers, folds=5, seed=1)
    return model, train, test.cut(cuts), test.lengths - cuts


def test_remaining_life_of_units_that_were_not_seen(chain):
    model, _, test, truth = chain
    found = model.predict(test)
    assert found.remaining_life.units == "cycle"
    error = rmse(found.remaining_life, truth, cap=125)
    idle = rmse(np.full(len(truth), np.minimum(truth, 125).mean()), truth, cap=125)
    assert (
        error < 0.5 * idle
    )  # early in life wear hardly shows, and the prediction is little better than idle
    # cross-validation promises what unseen units give: the same law, 60 and 200 units
    assert model.judged.rmse_cv.min() == pytest.approx(error, rel=0.25)


def test_intervals_of_the_chain(chain):
    model, _, test, truth = chain
    found = model.predict(test)
    inside = coverage(found.remaining_life_lower, found.remaining_life_upper, np.minimum(truth, 125))
    # 200 units tried (standard error 0.021) on 60 that calibrate (0.039)
    assert inside == pytest.approx(0.9, abs=0.1)
    assert (found.remaining_life_lower <= found.remaining_life).all()
    assert (found.remaining_life <= found.remaining_life_upper).all()


def test_the_choice_is_that_of_cross_validation(chain):
    model = chain[0]
    best = model.judged.rmse_cv.idxmin()
    assert set(model.models) == {"boosted", "convolutions"}
    assert best == "blend" or set(model.share) == {best}
    assert sum(model.share.values()) == pytest.approx(1.0)


def test_the_same_seed_gives_the_same_prediction(chain):
    train, test = units(12, 4), units(3, 5)
    makers = {"boosted": lambda: Boosted(trees=20), "convolutions": lambda: RandomConvolutions(kernels=60)}
    model, again = (fit_remaining_life(train, candidates=makers, folds=3, seed=2) for _ in range(2))
    np.testing.assert_array_equal(model.rows(test), again.rows(test))
    with pytest.raises(InputError, match="expected sensors"):
        model.rows(histories(synthetic_units(2, seed=1), sensors=["heat"], settings=["load"]))


def test_too_few_units_are_refused():
    with pytest.raises(InputError, match="10 units or more"):
        fit_remaining_life(units(5, 1))


def test_the_network_learns_and_repeats():
    torch = pytest.importorskip("torch", reason="torch is not installed (extra: torch)")
    before = torch.random.get_rng_state()
    both = units(40, 6, life=60.0)
    both = fit_conditions(both).apply(both)
    train, test = both.take(np.arange(20)), both.take(np.arange(20, 40))
    target, weight = train.life_left(), cut_weights(train)
    first, second = (
        CausalNetwork(width=8, steps=4).fit(train, target, weight, seed=1).predict(test) for _ in range(2)
    )
    np.testing.assert_array_equal(first, second)
    network = CausalNetwork(width=16, steps=60).fit(train, target, weight, seed=1)
    assert torch.equal(before, torch.random.get_rng_state())  # the user's own draws go on
    found, truth, weight = network.predict(test), test.life_left(), cut_weights(test)
    idle = rmse(np.full(len(truth), np.average(truth, weights=weight)), truth, weight=weight)
    assert rmse(found, truth, weight=weight) < 0.7 * idle
    cuts = test.lengths // 2  # what comes later must not matter
    part = test.cut(cuts)
    np.testing.assert_allclose(
        network.predict(part)[part.last], found[test.start[:-1] + cuts - 1], rtol=1e-4, atol=1e-2
    )
