"""Weibull law of lives with covariates that stretch or shorten them (accelerated failure time)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from twinlab.maintenance.survival.lives import frame, lifelines
from twinlab.schema import label, refuse


@dataclass(frozen=True)
class WeibullFit:
    """Parameters of ``S(t | x) = exp(-(t / exp(log_scale + x . effects))^exp(log_shape))``.

    Attributes
    ----------
    table : Dataset, dims (parameter)
        ``aft_estimate``, ``aft_se``, ``aft_low``, ``aft_high`` of ``log_scale`` (scale in d), ``log_shape`` and the
        effect of every covariate.
    covariance : array (parameter, parameter)
        Of the estimates.
    """

    table: xr.Dataset
    covariance: np.ndarray

    def estimate(self, parameter: str) -> float:
        """One parameter."""
        return float(self.table["aft_estimate"].sel(parameter=parameter))

    @property
    def shape(self) -> float:
        """Shape of the law, 1; above 1 the hazard rises with age."""
        return float(np.exp(self.estimate("log_shape")))

    def scale_days(self, **covariates: float) -> float:
        """Scale of the law for a part with these covariates, d.

        Raises
        ------
        InputError
            A covariate is missing or unknown.
        """
        names = [str(p) for p in self.table["parameter"].values if p not in ("log_scale", "log_shape")]
        if set(names) != set(covariates):
            refuse("WeibullFit.scale_days", f"covariates {names}", sorted(covariates))
        at = self.estimate("log_scale") + sum(self.estimate(n) * covariates[n] for n in names)
        return float(np.exp(at))

    def survival(self, age_days: ArrayLike, **covariates: float) -> xr.DataArray:
        """Share of parts that work at these ages, dims (age)."""
        age = np.asarray(age_days, float)
        values = np.exp(-((age / self.scale_days(**covariates)) ** self.shape))
        return label("survival", values, {"age": age})


def weibull_aft(lives: xr.Dataset, covariates: Sequence[str] = (), *, confidence: float = 0.95) -> WeibullFit:
    """Weibull law of censored lives by maximum likelihood.

    Parameters
    ----------
    lives : Dataset, dims (life)
        See :func:`~twinlab.maintenance.survival.make_lives`.
    covariates : sequence of str
        Variables of ``lives`` that act on the life.
    confidence : float
        Of the intervals, which are symmetric on the scale of the table (Wald).

    Returns
    -------
    WeibullFit

    Raises
    ------
    InputError
        Bad lives, a covariate that is missing, constant or follows from others, fewer failures than
        parameters, or lifelines is missing.

    References
    ----------
    .. [1] Kalbfleisch and Prentice, The Statistical Analysis of Failure Time Data, 2nd ed. (2002), section 3.6.
    """
    where = "weibull_aft"
    if not 0 < confidence < 1:
        refuse(where, "confidence in (0, 1)", confidence)
    table = frame(lives, ["life_days", "life_failed"], covariates, where=where)
    if table["life_failed"].sum() < len(covariates) + 2:
        failures = int(table["life_failed"].sum())
        refuse(where, f"at least {len(covariates) + 2} failures for as many parameters", failures)
    fitter: Any = lifelines(where).WeibullAFTFitter(alpha=1 - confidence)
    fitter.fit(table, "life_days", "life_failed")
    places = [("lambda_", "Intercept"), ("rho_", "Intercept"), *(("lambda_", c) for c in covariates)]
    summary = fitter.summary.loc[places]
    coords = {"parameter": ["log_scale", "log_shape", *covariates]}
    bounds = [c for c in summary.columns if c.startswith("coef ")]
    names = {"aft_estimate": "coef", "aft_se": "se(coef)", "aft_low": bounds[0], "aft_high": bounds[1]}
    data = {name: label(name, summary[column].to_numpy(), coords) for name, column in names.items()}
    about = {
        "lives": len(table),
        "failures": int(table["life_failed"].sum()),
        "log_likelihood": float(fitter.log_likelihood_),
        "confidence": confidence,
    }
    covariance = fitter.variance_matrix_.loc[places, places].to_numpy()
    return WeibullFit(xr.Dataset(data, attrs=about), covariance)
