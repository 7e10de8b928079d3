"""Kaplan-Meier curves with their band and the numbers at risk."""

from __future__ import annotations

import numpy as np
import xarray as xr

from twinlab.maintenance.survival.lives import frame, lifelines
from twinlab.schema import label, refuse


def kaplan_meier(lives: xr.Dataset, *, confidence: float = 0.95) -> xr.Dataset:
    """Share of parts that work at each age, from lives of which some are censored.

    ``S(t) = prod over failures at t_i <= t of (1 - d_i / n_i)`` [1]_, with the band of Greenwood's variance on
    the log-log scale [2]_, which stays between 0 and 1.

    Parameters
    ----------
    lives : Dataset, dims (life)
        See :func:`~twinlab.maintenance.survival.make_lives`.
    confidence : float
        Of the band at each age, in (0, 1).

    Returns
    -------
    Dataset, dims (age)
        ``survival``, ``survival_low``, ``survival_high`` (NaN where the band does not exist: after the last failure
        of a sample that dies out) and ``at_risk``, the number of parts watched just before that age; ``age`` in d,
        starting at 0, one entry for every age at which a life ends. attrs: ``median_days``, ``lives``, ``failures``.

    Raises
    ------
    InputError
        Bad lives or confidence, or lifelines is missing.

    References
    ----------
    .. [1] Kaplan and Meier, J. Am. Stat. Assoc. 53 (1958) 457, eq. 2b.
    .. [2] Kalbfleisch and Prentice, The Statistical Analysis of Failure Time Data, 2nd ed. (2002), eq. 1.19.
    """
    if not 0 < confidence < 1:
        refuse("kaplan_meier", "confidence in (0, 1)", confidence)
    table = frame(lives, ["life_days", "life_failed"], [], where="kaplan_meier")
    fitter = lifelines("kaplan_meier").KaplanMeierFitter(alpha=1 - confidence)
    fitter.fit(table["life_days"], table["life_failed"])
    band = fitter.confidence_interval_.to_numpy()
    # the band at age 0 is a point; lifelines leaves it undefined in some versions
    band[0] = np.where(np.isfinite(band[0]), band[0], 1.0)
    columns = {
        "survival": fitter.survival_function_.to_numpy()[:, 0],
        "survival_low": band[:, 0],
        "survival_high": band[:, 1],
        "at_risk": fitter.event_table["at_risk"].to_numpy(),
    }
    age = fitter.survival_function_.index.to_numpy(float)
    data = {name: label(name, values, {"age": age}) for name, values in columns.items()}
    about = {
        "median_days": float(fitter.median_survival_time_),
        "lives": len(table),
        "failures": int(table["life_failed"].sum()),
        "confidence": confidence,
    }
    return xr.Dataset(data, attrs=about)
