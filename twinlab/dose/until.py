"""Runs that go on until the doses of named organs are sure enough."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from tqdm import tqdm

from twinlab.kernels.transport import Tally, mean_sd
from twinlab.schema import refuse

BLOCK = 500_000  # histories between two looks
MARGIN = 1.02  # on the histories that seem to be needed: the sd itself is uncertain


def check_goal(until: Mapping[str, float], organs: Sequence[str], where: str) -> None:
    """Refuse goals that cannot be reached.

    Raises
    ------
    InputError
        An organ that the phantom does not have, none, or an uncertainty outside 0.0001 to 0.5.
    """
    if not until or not isinstance(until, Mapping):
        refuse(f"{where}: until", "organs and their relative uncertainties, {'liver': 0.005}", until)
    for organ, goal in until.items():
        if organ not in organs:
            refuse(f"{where}: until", f"organs of the phantom ({', '.join(sorted(organs))})", repr(organ))
        if not 1e-4 <= goal <= 0.5:
            refuse(
                f"{where}: until", "relative standard uncertainties of 0.0001 to 0.5", f"{organ}: {goal:g}"
            )


def joined(first: Tally, second: Tally) -> Tally:
    """Tally of two runs over different histories."""
    sums = (a + b for a, b in zip(first[1:], second[1:], strict=True))
    return Tally(first.histories + second.histories, *sums)


def run_until(
    run_more: Callable[[int, int], Tally],
    goals: Mapping[int, tuple[str, float]],
    *,
    most: int,
    show: bool = True,
) -> Tally:
    """Follow blocks of histories until every named organ's dose has the relative uncertainty asked for.

    Parameters
    ----------
    run_more : callable
        Called with the index of the first history and how many; returns their tally.
    goals : mapping
        Region to the organ's name and its relative standard uncertainty.
    most : int
        Histories after which the run ends in any case.
    show : bool
        Progress bar with the time that remains for the organ that is furthest from its goal.

    Returns
    -------
    Tally
        The same for any number of threads.

    Notes
    -----
    A stop that depends on the estimated sd biases that sd, by less than its own uncertainty: below 1 % after a
    block for organs in the beam.
    """
    region = list(goals)
    goal = np.array([goals[k][1] for k in region])
    done: Tally | None = None
    with tqdm(total=most, unit="photon", unit_scale=True, disable=not show) as bar:
        while True:
            first = 0 if done is None else done.histories
            more = run_more(first, min(BLOCK, most - first))
            done = more if done is None else joined(done, more)
            mean, sd = mean_sd(done.region[region], done.histories)
            excess = np.where(mean > 0, sd / np.maximum(mean, 1e-300), np.inf) / goal
            worst = int(np.argmax(excess))
            scale = min(float(excess[worst]) ** 2 * MARGIN, float(most))
            bar.total = min(most, max(int(done.histories * scale), done.histories))
            bar.set_postfix_str(
                f"{goals[region[worst]][0]} {100 * excess[worst] * goal[worst]:.2f} %", refresh=False
            )
            bar.update(done.histories - bar.n)
            if excess[worst] <= 1.0 or done.histories >= most:
                return done
