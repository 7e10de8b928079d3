"""How the saved hours and money hang on the priors: one at a time, and all at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import xarray as xr

from twinlab.maintenance.policy.learning import Learnt, learn_indicators
from twinlab.maintenance.policy.money import costs
from twinlab.maintenance.policy.priors import Figure, Fleet
from twinlab.maintenance.policy.simulation import RUN, Policy, simulate_fleet
from twinlab.schema import InputError, label, refuse

_UNITS = 120  # of a mode's history in a world of other priors


def tornado(
    fleet: Fleet,
    learnt: Learnt,
    probability: float,
    *,
    places: Sequence[str] | None = None,
    seeds: int = 4,
    seed: int = 0,
    progress: Callable[[int], object] | None = None,
) -> xr.Dataset:
    """Reduction of unplanned hours and saving of the predictive policy with each prior at its low and high end.

    In a world with another way to fail the service learns its indicator anew, from that world's history. Its
    threshold stays. All worlds meet the same random numbers.

    Parameters
    ----------
    fleet : Fleet
    learnt : Learnt
        In the world as declared.
    probability : float
        Threshold of the predictive policy.
    places : sequence of str, optional
        Priors to be varied, as named by ``Fleet.figures``; default all whose low and high differ.
    seeds, seed : int
    progress : callable, optional
        Called with 1 after each prior.

    Returns
    -------
    Dataset, dims (prior, end)
        ``world_reduction`` (%, of unplanned hours against run to failure) and ``world_saving`` (USD, a scanner and
        year, fee paid); ``end`` is low or high; NaN where a value does not fit the others. Sorted by the range of the
        reduction, widest first. attrs: ``reduction``, ``saving`` of the world as declared.

    Raises
    ------
    InputError
        Unknown places, or no seed.
    """
    known = dict(fleet.figures())
    chosen = list(places) if places is not None else varying(fleet)
    unknown = [p for p in chosen if p not in known or not _varies(known[p])]
    if unknown or not chosen:
        refuse("tornado", "priors with a range", ", ".join(unknown) or "none")
    base = simulate_fleet(fleet, _two(learnt.watch, probability), seeds=seeds, seed=seed)
    values = np.empty((2, len(chosen), 2))
    for i, place in enumerate(chosen):
        for j, value in enumerate((known[place].low, known[place].high)):
            assert value is not None
            values[:, i, j] = _world(fleet, learnt, probability, place, value, base, seeds, seed)
        if progress is not None:
            progress(1)
    order = np.argsort(-np.nan_to_num(np.abs(np.diff(values[0], axis=1)[:, 0]), nan=-1.0), kind="stable")
    at = {"prior": [chosen[i] for i in order], "end": ["low", "high"]}
    data = {
        "world_reduction": label("world_reduction", values[0][order], at),
        "world_saving": label("world_saving", values[1][order], at),
    }
    reduction, saving = _outcome(base, fleet)
    return xr.Dataset(data, attrs={"reduction": reduction, "saving": saving, "probability": probability})


def all_priors(
    fleet: Fleet,
    probability: float,
    *,
    draws: int = 40,
    seeds: int = 1,
    seed: int = 0,
    progress: Callable[[int], object] | None = None,
) -> xr.Dataset:
    """Reduction and saving in worlds in which all priors are drawn at once.

    Every prior is triangular between low and high with its value as the mode, all independent. The service learns
    in each world; its threshold stays.

    Parameters
    ----------
    fleet : Fleet
    probability : float
    draws : int
        Worlds.
    seeds : int
        Fleets in each.
    seed : int
    progress : callable, optional
        Called with 1 after each world.

    Returns
    -------
    Dataset, dims (draw)
        ``draw_reduction`` (%), ``draw_saving`` (USD, a scanner and year, fee paid). Draws whose values do not fit each
        other are drawn again.
    """
    rng = np.random.default_rng(seed)
    found: list[tuple[float, float]] = []
    while len(found) < draws:
        world = fleet
        try:
            for place, figure in fleet.figures():
                if _varies(figure):
                    assert figure.low is not None
                    assert figure.high is not None
                    drawn = rng.triangular(figure.low, figure.value, figure.high)
                    world = world.replaced(place, float(drawn))
        except InputError:
            continue
        watch = learn_indicators(world, units=_UNITS, seed=seed)
        result = simulate_fleet(world, _two(watch, probability), seeds=seeds, seed=seed + len(found) * seeds)
        found.append(_outcome(result, world))
        if progress is not None:
            progress(1)
    values = np.array(found)
    at = {"draw": np.arange(draws)}
    names = ("draw_reduction", "draw_saving")
    return xr.Dataset({n: label(n, values[:, i], at) for i, n in enumerate(names)})


def varying(fleet: Fleet) -> list[str]:
    """Places of the numbers whose low and high differ."""
    return [name for name, figure in fleet.figures() if _varies(figure)]


def _varies(figure: Figure) -> bool:
    return figure.low is not None and figure.high is not None and figure.low < figure.high


def _two(watch: object, probability: float) -> list[Policy]:
    return [RUN, Policy("predictive", "predictive", threshold=probability, watch=watch)]  # type: ignore[arg-type]


def _outcome(result: xr.Dataset, fleet: Fleet) -> tuple[float, float]:
    """Reduction, %, and saving, USD, of the predictive policy."""
    hours = result.unplanned_hours.mean("seed")
    total = costs(result, fleet).total_cost.mean("seed")
    reduction = 100 * (1 - float(hours.sel(policy="predictive") / hours.sel(policy="run to failure")))
    return reduction, float(total.sel(policy="run to failure") - total.sel(policy="predictive"))


def _world(
    fleet: Fleet,
    learnt: Learnt,
    probability: float,
    place: str,
    value: float,
    base: xr.Dataset,
    seeds: int,
    seed: int,
) -> tuple[float, float]:
    try:
        world = fleet.replaced(place, value)
    except InputError:
        return np.nan, np.nan
    branch, *rest = place.split(".")
    prices_only = branch == "money" or rest[-1] in ("cost", "interval_days", "patients_per_hour")
    if prices_only:
        return _outcome(base, world)  # nothing that happens changes
    watch = learnt.watch
    if branch == "modes":
        watch = learn_indicators(world, units=_UNITS, seed=seed, known=learnt, only=rest[0])
    return _outcome(simulate_fleet(world, _two(watch, probability), seeds=seeds, seed=seed), world)
