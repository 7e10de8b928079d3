"""Pareto front and recommendation on results whose answer is known."""

import numpy as np
import pytest
import xarray as xr

from twinlab.schema import InputError
from twinlab.study import dose_at_target, pareto_front, recommend


def results(dose_per_mas, dprime_at_100, *, positions=6, spread=0.0, dose_rel=0.005, seed=0) -> xr.Dataset:
    """A study of quantum-limited scans: d' = a sqrt(mAs), dose = b mAs, one kernel and pitch."""
    kv = np.array([80.0, 100.0, 120.0])[: len(dose_per_mas)]
    mas = np.array([25.0, 50.0, 100.0, 200.0])
    rng = np.random.default_rng(seed)
    own = 1 + spread * rng.normal(size=(len(kv), positions))
    at = np.asarray(dprime_at_100)[:, None, None] * np.sqrt(mas / 100)[None, :, None] * own[:, None, :]
    at = at[:, :, None, None, :]
    dose = (np.asarray(dose_per_mas)[:, None] * mas)[:, :, None]
    data = xr.Dataset(
        {
            "dprime_at": (("kv", "mas", "pitch", "kernel", "position"), at),
            "dprime": (("kv", "mas", "pitch", "kernel"), at.mean(-1)),
            "dprime_sd": (("kv", "mas", "pitch", "kernel"), at.std(-1, ddof=1) / np.sqrt(positions)),
            "dose_metric": (("kv", "mas", "pitch"), dose),
            "dose_sd_metric": (("kv", "mas", "pitch"), dose * dose_rel),
            "ctdi_vol": (("kv", "mas", "pitch"), dose),
            "ctdi_vol_sd": (("kv", "mas", "pitch"), dose * 0.01),
            "dlp": (("kv", "mas", "pitch"), dose * 30),
        },
        coords={"kv": kv, "mas": mas, "pitch": [1.0], "kernel": ["standard"]},
        attrs={"dose_metric": "body"},
    )
    return data


def test_mas_and_dose_at_target_follow_the_square_law():
    table = dose_at_target(results([0.02, 0.05, 0.08], [2.0, 2.5, 3.0]), 2.4)
    expected = 100 * (2.4 / np.array([2.0, 2.5, 3.0])) ** 2
    # log-log interpolation is exact for a power law
    assert table["mas"].squeeze().values == pytest.approx(expected, rel=1e-9)
    assert table["dose"].squeeze().values == pytest.approx(expected * np.array([0.02, 0.05, 0.08]), rel=1e-9)


def test_dose_uncertainty_is_that_of_the_monte_carlo_when_positions_agree():
    table = dose_at_target(results([0.02, 0.05, 0.08], [2.0, 2.5, 3.0], dose_rel=0.02), 2.4)
    # 2,000 draws give a standard deviation within 1.6 %: 3 sigma
    assert (table["dose_sd"] / table["dose"]).values == pytest.approx(0.02, rel=0.05)


def test_position_spread_becomes_dose_uncertainty():
    data = results([0.02], [2.0], positions=8, spread=0.05, dose_rel=0.0, seed=3)
    table = dose_at_target(data, 2.4)
    relative = float(data["dprime_sd"].isel(mas=2).squeeze() / data["dprime"].isel(mas=2).squeeze())
    # dose ~ d'^-2, so its relative uncertainty is twice that of d'; second order and draws: 8 %
    assert float(table["dose_sd"].squeeze() / table["dose"].squeeze()) == pytest.approx(
        2 * relative, rel=0.08
    )


def test_clear_winner_is_recommended():
    found = recommend(results([0.02, 0.05, 0.08], [2.0, 2.5, 3.0]), target=2.4)
    assert (found.verdict, found.kv) == ("recommended", 80.0)
    assert found.dprime == pytest.approx(2.4)
    assert found.probability_best == 1.0
    assert "80 kV" in found.text


def test_equal_settings_are_not_distinguishable():
    # dose at equal d' differs by 0.2 % where the Monte Carlo knows 1 %
    data = results([0.05, 0.0501], [2.0, 2.0], dose_rel=0.01)
    found = recommend(data, target=2.0)
    assert found.verdict == "not distinguishable"
    assert found.alternatives == ["100 kV, pitch 1, standard"]
    assert 0.4 < found.probability_best < 0.7


def test_unreached_target_is_said():
    found = recommend(results([0.02, 0.05], [2.0, 2.5]), target=50)
    assert found.verdict == "target not reached"
    assert found.text.startswith("No case of this grid reaches d' 50")
    assert (found.kv, found.mas) == (100.0, 200.0)


def test_target_below_the_grid_asks_for_a_wider_one():
    found = recommend(results([0.02, 0.05], [2.0, 2.5]), target=0.5)
    assert found.at_grid_edge
    assert "extend the grid downwards" in found.text


def test_same_seed_same_answer():
    data = results([0.05, 0.0502, 0.08], [2.0, 2.0, 2.0], spread=0.05, dose_rel=0.01)
    assert recommend(data, target=2.0, seed=4) == recommend(data, target=2.0, seed=4)


def test_pareto_front_keeps_only_undominated_cases():
    dose = xr.DataArray([1.0, 2.0, 3.0, 2.0, np.nan], dims="case")
    dprime = xr.DataArray([1.0, 3.0, 2.0, 3.0, 9.0], dims="case")
    assert pareto_front(dose, dprime).values.tolist() == [True, True, False, False, False]


@pytest.mark.parametrize(
    ("kwargs", "word"), [({"target": -1}, "target"), ({"target": 1, "confidence": 2}, "confidence")]
)
def test_wrong_arguments(kwargs, word):
    with pytest.raises(InputError, match=word):
        recommend(results([0.02], [2.0]), **kwargs)
