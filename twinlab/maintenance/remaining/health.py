"""One figure for the health of a unit: sensors fused, smoothed and never falling, and how good such a figure is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr

from twinlab.maintenance.remaining.conditions import Conditions, fit_conditions
from twinlab.maintenance.remaining.features import smooth
from twinlab.maintenance.remaining.histories import WHERE, Array, Histories
from twinlab.schema import label, refuse

MEMORY = 15


@dataclass(frozen=True)
class Health:
    """Fusion of the smoothed sensors and their squares, 0 as new to 1 at failure."""

    conditions: Conditions
    slope: Array
    offset: float

    def indicator(self, units: Histories, *, monotone: bool = True) -> xr.DataArray:
        """Health of every row: the running maximum of the fused value, since wear does not heal.

        Parameters
        ----------
        units : Histories
        monotone : bool
            False gives the fused value itself, which may fall.

        Returns
        -------
        DataArray, dims (row,)
            With coordinates ``unit`` and ``cycle``.
        """
        plain = self.conditions.apply(units)
        fused = _terms(plain) @ self.slope + self.offset
        if monotone:
            fused = np.concatenate([np.maximum.accumulate(np.clip(v, 0, None)) for v in plain.pieces(fused)])
        coords = {"unit": ("row", units.units[units.unit_index]), "cycle": ("row", units.cycle)}
        return label("health_indicator", fused, coords)


def fit_health(
    units: Histories, *, new: float = 0.2, worn: float = 0.05, ridge: float = 1.0, seed: int = 0
) -> Health:
    """Fuse sensors so that the first rows of each life give 0 and the last give 1.

    Ridge regression on smoothed sensors and their squares; squares see faults that move a sensor either way.
    Each unit counts once.

    Parameters
    ----------
    units : Histories
        Run to failure.
    new, worn : float
        Shares of the life at its start and its end that are learned from.

    Raises
    ------
    InputError
        Shares that are not above 0 or that meet.
    """
    if not (new > 0 and worn > 0 and new + worn <= 1):
        refuse(WHERE, "shares of life above 0 that do not meet", f"new={new}, worn={worn}")
    conditions = fit_conditions(units, seed=seed)
    plain = conditions.apply(units)
    length = np.repeat(units.lengths, units.lengths)
    place = np.arange(len(length)) - np.repeat(units.start[:-1], units.lengths)
    first, last = place < new * length, place >= length - np.maximum(worn * length, 1.0)
    rows = first | last
    weight = np.where(first, 1.0 / (new * length), 1.0 / np.maximum(worn * length, 1.0))[rows]
    x, y = _terms(plain)[rows], last[rows].astype(float)
    mean, offset = np.average(x, axis=0, weights=weight), np.average(y, weights=weight)
    x = x - mean
    gram = (x * weight[:, None]).T @ x + ridge * np.eye(x.shape[1])
    slope = np.linalg.solve(gram, x.T @ (weight * (y - offset)))
    return Health(conditions, slope, float(offset - mean @ slope))


def health_merits(indicator: xr.DataArray) -> dict[str, float]:
    """How good a health indicator is: each figure 0 (useless) to 1.

    Parameters
    ----------
    indicator : DataArray, dims (row,)
        Of units run to failure, with coordinates ``unit`` and ``cycle``.

    Returns
    -------
    dict
        ``monotonicity``: mean over units of ``|rises - falls| / (rises + falls)``, steps that stand still left
        out; ``trendability``: least absolute correlation between two units, their lives stretched to one
        length; ``prognosability``: ``exp(-std(end)/mean|end - begin|)``.

    References
    ----------
    J. Coble, J. W. Hines, "Identifying optimal prognostic parameters from data: a genetic algorithms approach",
    PHM 2009.
    """
    values, unit = np.asarray(indicator, float), np.asarray(indicator["unit"])
    pieces = [values[unit == name] for name in np.unique(unit)]
    steps = [np.sign(np.diff(p)) for p in pieces]
    monotone = [abs(s.sum()) / max(np.abs(s).sum(), 1.0) for s in steps]
    share = np.linspace(0, 1, 100)
    stretched = np.stack([np.interp(share, np.linspace(0, 1, len(p)), p) for p in pieces])
    moving = stretched.std(axis=1) > 0
    trend = float(np.abs(np.corrcoef(stretched)).min()) if moving.all() else 0.0
    begin, end = np.array([p[0] for p in pieces]), np.array([p[-1] for p in pieces])
    swing = np.abs(end - begin).mean()
    prognosable = float(np.exp(-end.std() / swing)) if swing > 0 else 0.0
    return {
        "monotonicity": float(np.mean(monotone)),
        "trendability": trend,
        "prognosability": prognosable,
    }


def _terms(units: Histories) -> Array:
    level = np.concatenate([smooth(piece, MEMORY) for piece in units.pieces()])
    return np.hstack([level, level**2])
