"""The five policies that are compared, from what a service has learnt."""

from __future__ import annotations

import numpy as np

from twinlab.maintenance.policy.learning import Learnt
from twinlab.maintenance.policy.priors import Fleet
from twinlab.maintenance.policy.simulation import RUN, Policy
from twinlab.schema import refuse


def calendar_policy(fleet: Fleet) -> Policy:
    """Replacement by the calendar, at the fleet's stated intervals."""
    return Policy("calendar", "calendar", {k: p.interval_days.value for k, p in fleet.parts.items()})


def age_policy(learnt: Learnt) -> Policy:
    """Replacement at the age of use with the least cost under the learnt law of life."""
    ages = {str(p): float(learnt.events.replacement_age.sel(part=p)) for p in learnt.events.part.values}
    return Policy("optimal age", "age", {p: a for p, a in ages.items() if np.isfinite(a)})


def condition_policy(learnt: Learnt, threshold: float) -> Policy:
    """Replacement when an indicator is above a threshold; 1 is the level at failure.

    Raises
    ------
    InputError
        A threshold that is not above 0.
    """
    if not threshold > 0:
        refuse("condition_policy", "a threshold above 0", threshold)
    return Policy("condition", "condition", threshold=threshold, watch=learnt.watch)


def predictive_policy(learnt: Learnt, probability: float) -> Policy:
    """Replacement when failure before the window after the next is more probable than this.

    Raises
    ------
    InputError
        A probability outside (0, 1).
    """
    if not 0 < probability < 1:
        refuse("predictive_policy", "a probability in (0, 1)", probability)
    return Policy("predictive", "predictive", threshold=probability, watch=learnt.watch)


def all_policies(fleet: Fleet, learnt: Learnt, *, threshold: float, probability: float) -> list[Policy]:
    """Run to failure, calendar, optimal age, condition and predictive.

    Parameters
    ----------
    fleet : Fleet
    learnt : Learnt
    threshold : float
        Of the condition policy.
    probability : float
        Of the predictive policy.

    Returns
    -------
    list of Policy
    """
    return [
        RUN,
        calendar_policy(fleet),
        age_policy(learnt),
        condition_policy(learnt, threshold),
        predictive_policy(learnt, probability),
    ]
