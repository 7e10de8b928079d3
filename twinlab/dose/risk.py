"""Lifetime attributable risk of cancer after BEIR VII, with its interval and with what it must not be used for."""

from __future__ import annotations

from functools import lru_cache
from numbers import Real

import numpy as np
import xarray as xr

from twinlab.dose.tables import check_sex, rows
from twinlab.dose.tissue_groups import remainder_tissues
from twinlab.schema import check, label, refuse

TABLE_DOSE_MGY = 100.0  # the table is per 0.1 Gy
OWN_TISSUE = {
    "Stomach": "stomach",
    "Colon": "colon",
    "Liver": "liver",
    "Lung": "lung",
    "Breast": "breast",
    "Prostate": "prostate",
    "Uterus": "uterus",
    "Ovary": "gonads",
    "Bladder": "bladder",
    "Thyroid": "thyroid",
    "Leukemia": "red_marrow",
}
OTHER_BESIDES_REMAINDER = ("oesophagus", "brain", "salivary_glands")

#: Lines short enough to be whole in the printed Dataset.
SHORT_STATEMENTS = {
    "past_dose": "must not decide a justification",
    "decides": "nothing: no threshold, no go or no-go",
    "meant_for": "comparing protocols in populations; not one person",
}
STATEMENT = (
    "Hypothetical risk by a linear model without threshold, fitted to survivors of atomic bombs and transferred to "
    "the US population. Below 100 mSv epidemiological evidence is inconclusive, and AAPM discourages predictions of "
    "cancer from diagnostic imaging (AAPM PP 25-C, 2018). The decision to perform a medical imaging exam should be "
    "based on clinical grounds, including the information available from prior imaging results, and not on the dose "
    "from prior imaging (AAPM/ACR/HPS joint statement, 2021). Effective dose is no measure of an individual's risk "
    "(ICRP 103)."
)


@lru_cache(maxsize=1)
def _tables() -> tuple[np.ndarray, dict[str, dict[str, np.ndarray]], dict[str, dict[str, np.ndarray]]]:
    """Ages; risk by sex and site over the ages; (estimate, low, high) by sex and site."""
    sexes = {"M": "male", "F": "female"}
    by_age: dict[str, dict[str, np.ndarray]] = {"male": {}, "female": {}}
    intervals: dict[str, dict[str, np.ndarray]] = {"male": {}, "female": {}}
    table = rows("beir7_table12d1.csv")
    ages = [key for key in table[0] if key not in ("sex", "site")]
    for row in table:
        by_age[sexes[row["sex"]]][row["site"]] = np.array([float(row[a]) for a in ages])
    for row in rows("beir7_intervals.csv"):
        intervals[sexes[row["sex"]]][row["site"]] = np.array(
            [float(row[k]) for k in ("estimate", "low", "high")]
        )
    return np.array([float(a) for a in ages]), by_age, intervals


def risk_per_100_mgy(site: str, *, sex: str, age: float) -> float:
    """Lifetime attributable risk of incidence per 100,000 persons and 100 mGy.

    Parameters
    ----------
    site : str
        A site of BEIR VII: "Lung", "Leukemia", "Other" ...
    sex : "male" or "female"
    age : float, 0 to 80 years
        At exposure; linear between the table's ages.

    Returns
    -------
    float, cases per 100,000

    Raises
    ------
    InputError
        Unknown site for this sex, or an age outside the table.

    References
    ----------
    BEIR VII Phase 2 (2006), table 12D-1.

    Examples
    --------
    >>> risk_per_100_mgy("Lung", sex="female", age=25)
    294.0
    """
    check_sex(sex, "risk_per_100_mgy")
    ages, by_age, _ = _tables()
    if site not in by_age[sex]:
        refuse("risk_per_100_mgy: site", f"one of {', '.join(by_age[sex])} for {sex}", repr(site))
    if not isinstance(age, Real) or not ages[0] <= age <= ages[-1]:
        refuse("risk_per_100_mgy: age", f"{ages[0]:g} to {ages[-1]:g} years, the table's", age)
    return float(np.interp(age, ages, by_age[sex][site]))


def lifetime_risk(tissues: xr.Dataset, *, age: float) -> xr.Dataset:
    """Lifetime attributable risk of cancer incidence of one scan, by site.

    ``LAR = table(site, sex, age) * D / 100 mGy``, with the mean dose over the whole tissue.

    Parameters
    ----------
    tissues : Dataset
        As from :func:`twinlab.dose.tissue_doses`, of the patient's sex.
    age : float, 0 to 80 years
        At the scan.

    Returns
    -------
    Dataset, dims (cancer_site)
        ``risk`` per 100,000 persons (NaN where the tissue is missing), ``risk_sd`` (of the dose), ``risk_low``
        and ``risk_high`` (95 % subjective interval of the model, without ``risk_sd``), ``risk_dose``. Scalars
        ``risk_total`` with ``_sd``, ``_low``, ``_high``: sum over the sites inside the images. attrs:
        statements on use, ``missing``.

    Raises
    ------
    InputError
        No tissue doses, or an age outside the table.

    Notes
    -----
    Nothing outside the images counts (dose times coverage), so sums are lower bounds when sites are missing.
    "Other" takes the mean of oesophagus, brain, salivary glands and the remainder tissues without prostate and
    uterus, by coverage. Intervals scale with the estimate by the ratios that BEIR VII states for exposure at
    mixed ages; the total takes the ratio for all solid cancers and that for leukaemia, added as if fully
    correlated. The ratios are for even exposure of the body. BEIR VII's leukaemia model bends upwards: scaling
    it linearly from 0.1 Gy reads high, by up to 9 % at the lowest doses.

    References
    ----------
    BEIR VII Phase 2 (2006), tables 12D-1, 12-5A and 12-6. AAPM PP 25-C (2018). AAPM/ACR/HPS joint statement on
    proper use of radiation dose metric tracking (2021). ICRP Publication 103 (2007).
    """
    check(tissues, "tissue_dose", "tissue_dose_sd", "tissue_coverage", where="lifetime_risk")
    sex = str(tissues.attrs.get("sex"))
    check_sex(sex, "lifetime_risk: tissues")
    _, by_age, intervals = _tables()
    sites = list(by_age[sex])
    dose = np.array([_dose(tissues, site, sex) for site in sites])
    per_mgy = np.array([risk_per_100_mgy(site, sex=sex, age=age) for site in sites]) / TABLE_DOSE_MGY
    spread = np.array([intervals[sex][site] for site in sites])
    value, sd = per_mgy * dose[:, 0], per_mgy * dose[:, 1]
    coords = {"cancer_site": sites}
    columns = {
        "risk": value,
        "risk_sd": sd,
        "risk_low": value * spread[:, 1] / spread[:, 0],
        "risk_high": value * spread[:, 2] / spread[:, 0],
        "risk_dose": dose[:, 0],
    }
    totals = _totals(value, sd, np.array(sites) == "Leukemia", intervals[sex])
    out = xr.Dataset(
        {name: label(name, values, coords) for name, values in columns.items()}
        | {name: label(name, number) for name, number in totals.items()}
    )
    out.attrs = {
        **SHORT_STATEMENTS,
        "missing": ", ".join(s for s, v in zip(sites, value, strict=True) if not np.isfinite(v)),
        "sex": sex,
        "age_years": float(age),
        "edition": "BEIR VII Phase 2 (2006), incidence",
        "interval": "95 % subjective interval of the model",
        "statement": STATEMENT,
    }
    return out


def _dose(tissues: xr.Dataset, site: str, sex: str) -> tuple[float, float]:
    """Mean dose over the whole tissue of a cancer site and its sd; NaN when it is missing."""
    if site != "Other":
        of = [OWN_TISSUE[site]]
    else:
        of = [t for t in remainder_tissues(sex) if t not in ("prostate", "uterus")] + list(
            OTHER_BESIDES_REMAINDER
        )
    chosen = tissues.sel(tissue=of)
    cover = chosen["tissue_coverage"].values
    if not cover.sum() > 0:
        return np.nan, np.nan
    value, sd = (
        float(np.nansum(cover * chosen[k].values) / len(of)) for k in ("tissue_dose", "tissue_dose_sd")
    )
    return value, sd


def _totals(
    value: np.ndarray, sd: np.ndarray, blood: np.ndarray, interval: dict[str, np.ndarray]
) -> dict[str, float]:
    """Sum over sites, with the intervals of all solid cancers and of leukaemia."""
    out = {"risk_total": 0.0, "risk_total_sd": 0.0, "risk_total_low": 0.0, "risk_total_high": 0.0}
    for chosen, name in ((~blood, "All solid"), (blood, "Leukemia")):
        part = float(np.nansum(value[chosen]))
        estimate, low, high = interval[name]
        out["risk_total"] += part
        out["risk_total_sd"] += float(np.nansum(sd[chosen]))
        out["risk_total_low"] += part * low / estimate
        out["risk_total_high"] += part * high / estimate
    return out
