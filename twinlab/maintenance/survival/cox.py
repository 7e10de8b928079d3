"""Hazard ratios of covariates that change over a part's life (Cox)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from twinlab.maintenance.survival.lives import frame, lifelines
from twinlab.schema import label, refuse


def cox_time_varying(
    spans: xr.Dataset, covariates: Sequence[str], *, penalty: float = 0.0, confidence: float = 0.95
) -> xr.Dataset:
    """Cox regression with covariates constant within spans: ``h(t | z) = h0(t) exp(z(t) . effects)``.

    Parameters
    ----------
    spans : Dataset, dims (span)
        See :func:`~twinlab.maintenance.survival.make_spans`.
    covariates : sequence of str
        At least one variable of ``spans``.
    penalty : float
        Of the squared effects, 0 for the plain partial likelihood (ties by Efron).
    confidence : float

    Returns
    -------
    Dataset, dims (parameter)
        ``cox_effect`` (logarithm of the hazard ratio for a unit of the covariate), ``cox_se``, ``hazard_ratio``,
        ``hazard_ratio_low``, ``hazard_ratio_high``.

    Raises
    ------
    InputError
        Bad spans, no covariate, one that is missing, constant or follows from others, or lifelines is missing.

    References
    ----------
    .. [1] Andersen and Gill, Ann. Stat. 10 (1982) 1100, eq. 2.5.
    """
    where = "cox_time_varying"
    if not covariates:
        refuse(where, "a covariate or more", "none")
    if not 0 < confidence < 1 or penalty < 0:
        refuse(where, "confidence in (0, 1), penalty 0 or above", (confidence, penalty))
    names = ["span_life", "span_start_days", "span_stop_days", "span_failed"]
    table = frame(spans, names, covariates, where=where)
    fitter = lifelines(where).CoxTimeVaryingFitter(alpha=1 - confidence, penalizer=penalty)
    fitter.fit(table, id_col=names[0], start_col=names[1], stop_col=names[2], event_col=names[3])
    summary = fitter.summary.loc[list(covariates)]
    bounds = np.exp(summary[[c for c in summary.columns if c.startswith("coef ")]].to_numpy())
    columns = {
        "cox_effect": summary["coef"].to_numpy(),
        "cox_se": summary["se(coef)"].to_numpy(),
        "hazard_ratio": np.exp(summary["coef"].to_numpy()),
        "hazard_ratio_low": bounds[:, 0],
        "hazard_ratio_high": bounds[:, 1],
    }
    coords = {"parameter": list(covariates)}
    about = {
        "lives": int(np.unique(table["span_life"]).size),
        "failures": int(table["span_failed"].sum()),
        "confidence": confidence,
    }
    return xr.Dataset({n: label(n, v, coords) for n, v in columns.items()}, attrs=about)
