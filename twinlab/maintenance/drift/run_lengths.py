"""How long charts run until they alarm: exactly, by Markov chains, and by simulation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from twinlab.maintenance.drift.charts import CUSUM_LIMIT, CUSUM_REFERENCE, EWMA_WEIGHT, EWMA_WIDTH
from twinlab.schema import refuse

Chart = Literal["shewhart", "ewma", "cusum"]
STATES = 200  # errors fall with its square, and the leading one is extrapolated away


@dataclass(frozen=True)
class Design:
    """Numbers that a chart is made of; the defaults are those of the charts themselves."""

    width: float = 3.0
    ewma_weight: float = EWMA_WEIGHT
    ewma_width: float = EWMA_WIDTH
    cusum_reference: float = CUSUM_REFERENCE
    cusum_limit: float = CUSUM_LIMIT


def average_run_length(chart: Chart, *, shift: float = 0.0, design: Design | None = None) -> float:
    """Mean number of days until an alarm, after a lasting shift of the mean from the first day on.

    Independent normal values with known mean and standard deviation. Shewhart: one over the probability of an
    alarm. EWMA and each side of the CUSUM: the interval between the limits as the states of a Markov chain [1]_ [2]_,
    with twice as many states, too, and the difference taken as a third of the error. Sides of the CUSUM combine by
    ``1/ARL = 1/ARL+ + 1/ARL-``, which is exact for the tabular form.

    Parameters
    ----------
    chart : "shewhart", "ewma" or "cusum"
    shift : float
        In standard deviations; 0 is in control.
    design : Design, optional

    Returns
    -------
    float

    Raises
    ------
    InputError
        Unknown chart, or a design without meaning.

    References
    ----------
    .. [1] Brook D, Evans D A (1972) An approach to the probability distribution of cusum run length.
       Biometrika 59:539.
    .. [2] Lucas J M, Saccucci M S (1990) Exponentially weighted moving average control schemes: properties and
       enhancements. Technometrics 32:1.

    Examples
    --------
    >>> round(average_run_length("shewhart"), 1)
    370.4
    """
    d = _sound(chart, design)
    if chart == "shewhart":
        return 1.0 / float(ndtr(-d.width - shift) + ndtr(-d.width + shift))
    coarse, fine = (_markov(chart, shift, d, n) for n in (STATES, 2 * STATES))
    return fine + (fine - coarse) / 3.0


def _markov(chart: Chart, shift: float, d: Design, states: int) -> float:
    if chart == "ewma":
        return _ewma_chain(shift, d, 2 * (states // 2) + 1)
    high, low = (_cusum_chain(s, d, states) for s in (shift, -shift))
    return 1.0 / (1.0 / high + 1.0 / low)


def _ewma_chain(shift: float, d: Design, states: int) -> float:
    """States are equal parts of the interval between the limits; the chart starts in the middle one."""
    half = d.ewma_width * math.sqrt(d.ewma_weight / (2.0 - d.ewma_weight))
    width = 2.0 * half / states
    centre = -half + width * (np.arange(states) + 0.5)
    reach = centre[None, :] - (1.0 - d.ewma_weight) * centre[:, None]
    up, down = ((reach + sign * width / 2.0) / d.ewma_weight - shift for sign in (1.0, -1.0))
    return _mean_steps(ndtr(up) - ndtr(down), states // 2)


def _cusum_chain(shift: float, d: Design, states: int) -> float:
    """State 0 holds all sums up to half a width; a state's width is 2 h / (2 t - 1)."""
    width = 2.0 * d.cusum_limit / (2.0 * states - 1.0)
    step = width * (np.arange(states)[None, :] - np.arange(states)[:, None]) + d.cusum_reference - shift
    move = ndtr(step + width / 2.0) - ndtr(step - width / 2.0)
    move[:, 0] = ndtr(step[:, 0] + width / 2.0)
    return _mean_steps(move, 0)


def _mean_steps(move: NDArray[np.float64], start: int) -> float:
    """Mean steps until a chain leaves its transient states: ``(I - Q)^-1 1``."""
    n = move.shape[0]
    return float(np.linalg.solve(np.eye(n) - move, np.ones(n))[start])


def simulated_run_length(
    chart: Chart,
    *,
    shift: float = 0.0,
    design: Design | None = None,
    runs: int = 4000,
    seed: int = 1,
) -> tuple[float, float]:
    """Mean run length by simulation, and its standard uncertainty; see :func:`average_run_length`.

    Parameters
    ----------
    chart, shift, design
    runs : int
        Charts that run until they alarm.
    seed : int
        Of a counter-based generator (Philox).
    """
    d = _sound(chart, design)
    if runs < 2:
        refuse("simulated_run_length: runs", "2 or more", runs)
    rng = np.random.Generator(np.random.Philox(seed))
    half = d.ewma_width * math.sqrt(d.ewma_weight / (2.0 - d.ewma_weight))
    length, alive, day = np.zeros(runs), np.arange(runs), 0
    level, other = np.zeros(runs), np.zeros(runs)
    while alive.size:
        day += 1
        z = rng.standard_normal(alive.size) + shift
        if chart == "shewhart":
            out = np.abs(z) > d.width
        elif chart == "ewma":
            level = (1.0 - d.ewma_weight) * level + d.ewma_weight * z
            out = np.abs(level) > half
        else:
            level = np.maximum(0.0, level + z - d.cusum_reference)
            other = np.maximum(0.0, other - z - d.cusum_reference)
            out = np.maximum(level, other) > d.cusum_limit
        length[alive[out]] = day
        alive, level, other = alive[~out], level[~out], other[~out]
    return float(length.mean()), float(length.std(ddof=1) / math.sqrt(runs))


def _sound(chart: str, design: Design | None) -> Design:
    d = design or Design()
    if chart not in ("shewhart", "ewma", "cusum"):
        refuse("run length: chart", "'shewhart', 'ewma' or 'cusum'", repr(chart))
    if not (
        d.width > 0
        and 0 < d.ewma_weight <= 1
        and d.ewma_width > 0
        and d.cusum_reference >= 0
        and d.cusum_limit > 0
    ):
        refuse("run length: design", "positive widths and limits, a weight of 0 to 1", d)
    return d
