"""Effective dose: the mean of a male and a female body, or, named as such, the sum over one body."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import xarray as xr

from twinlab.schema import check, label, refuse

ONE_SEX = (
    "tissue-weighted dose of one body, not effective dose: ICRP 103 defines that as the mean of the male and the "
    "female reference bodies"
)
REFERENCE_PERSON = "a quantity of protection for a reference person: not a measure of one person's risk"
_NEEDED = ("tissue_dose", "tissue_dose_sd", "tissue_coverage", "tissue_weight")


def effective_dose(
    male: xr.Dataset, female: xr.Dataset, *, assume_mgy: Mapping[str, float] | None = None
) -> xr.Dataset:
    """Effective dose from the tissue doses of a male and a female body under the same scan.

    ``E = sum_T w_T (H_T,male + H_T,female) / 2``, with ``H = D`` for photons. [ICRP103]_

    Parameters
    ----------
    male, female : Dataset
        As from :func:`twinlab.dose.tissue_doses`.
    assume_mgy : mapping of tissue to mGy, optional
        Dose of what lies outside the images or has no label; nothing otherwise.

    Returns
    -------
    Dataset
        ``effective_dose`` with ``_sd`` (upper bound: all tissues and both runs fully correlated),
        ``effective_dose_contained`` (nothing assumed: dose outside the images and of tissues without label
        counted as none), ``weight_covered`` (share of the weights inside the images), and by tissue
        ``tissue_contribution``. attrs: ``missing_male``, ``missing_female``, ``assumed``, ``sd``.

    Raises
    ------
    InputError
        Two bodies of one sex, an unknown tissue in ``assume_mgy``, a negative or undefined dose.

    References
    ----------
    .. [ICRP103] ICRP Publication 103 (2007), eq. 4.6, table 3 and annex B.
    """
    for tissues, sex in ((male, "male"), (female, "female")):
        if tissues.attrs.get("sex") != sex:
            refuse(f"effective_dose: {sex}", f"tissue doses of a {sex} body", tissues.attrs.get("sex"))
    sums = [_weighted(tissues, assume_mgy) for tissues in (male, female)]
    out = xr.Dataset(
        {
            "effective_dose": label("effective_dose", _mean(sums, "total")),
            "effective_dose_sd": label("effective_dose_sd", _mean(sums, "sd")),
            "effective_dose_contained": label("effective_dose_contained", _mean(sums, "contained")),
            "weight_covered": label("weight_covered", _mean(sums, "covered")),
            "tissue_contribution": label(
                "tissue_contribution",
                0.5 * (sums[0]["by_tissue"] + sums[1]["by_tissue"]),
                {"tissue": sums[0]["tissue"]},
            ),
        }
    )
    out.attrs = _attrs(assume_mgy) | {
        "missing_male": male.attrs["missing"],
        "missing_female": female.attrs["missing"],
    }
    return out


def effective_dose_one_sex(
    tissues: xr.Dataset, *, assume_mgy: Mapping[str, float] | None = None
) -> xr.Dataset:
    """Tissue-weighted dose of the patient's own body: an estimate of effective dose from one sex alone.

    Parameters
    ----------
    tissues : Dataset
        As from :func:`twinlab.dose.tissue_doses`.
    assume_mgy : mapping of tissue to mGy, optional
        As in :func:`effective_dose`: for instance the breasts of a man, or a brain outside the images.

    Returns
    -------
    Dataset
        As of :func:`effective_dose`, with ``effective_dose_one_sex`` instead of ``effective_dose``.

    Raises
    ------
    InputError
        An unknown tissue in ``assume_mgy``, or a negative dose.

    Notes
    -----
    Gonads are those of this sex, the remainder its thirteen tissues.
    """
    sums = _weighted(tissues, assume_mgy)
    out = xr.Dataset(
        {
            "effective_dose_one_sex": label("effective_dose_one_sex", sums["total"]),
            "effective_dose_one_sex_sd": label("effective_dose_one_sex_sd", sums["sd"]),
            "effective_dose_contained": label("effective_dose_contained", sums["contained"]),
            "weight_covered": label("weight_covered", sums["covered"]),
            "tissue_contribution": label(
                "tissue_contribution", sums["by_tissue"], {"tissue": sums["tissue"]}
            ),
        }
    )
    out.attrs = _attrs(assume_mgy) | {
        "kind": ONE_SEX,
        "sex": tissues.attrs["sex"],
        "missing": tissues.attrs["missing"],
    }
    return out


def _mean(sums: list[dict], key: str) -> float:
    return 0.5 * (sums[0][key] + sums[1][key])


def _attrs(assume_mgy: Mapping[str, float] | None) -> dict[str, str]:
    given = ", ".join(f"{name} {value:g} mGy" for name, value in (assume_mgy or {}).items())
    return {
        "purpose": REFERENCE_PERSON,
        "assumed": given or "nothing outside the images",
        "sd": "upper bound: tissues of one run taken as fully correlated",
    }


def _weighted(tissues: xr.Dataset, assume_mgy: Mapping[str, float] | None) -> dict:
    """Weighted sum over the tissues of one body, with the assumed dose for what is not inside."""
    check(tissues, *_NEEDED, where="effective_dose")
    assumed = dict(assume_mgy or {})
    weight = tissues["tissue_weight"].values
    names = [str(t) for t in tissues["tissue"].values]
    unknown = [name for name in assumed if name not in names or weight[names.index(name)] == 0]
    if unknown:
        refuse("effective_dose: assume_mgy", f"tissues with a weight ({', '.join(names[:15])})", unknown)
    if any(not value >= 0 for value in assumed.values()):
        refuse("effective_dose: assume_mgy", "doses of 0 mGy or more", assumed)
    cover = tissues["tissue_coverage"].values
    inside = weight * cover
    undefined = [
        n
        for n, d, w in zip(names, tissues["tissue_dose"].values, inside, strict=True)
        if w > 0 and not d >= 0
    ]
    if undefined:
        refuse("effective_dose: tissue_dose", "0 mGy or more where a tissue is inside the images", undefined)
    value, sd = (np.nan_to_num(tissues[key].values) for key in ("tissue_dose", "tissue_dose_sd"))
    outside = weight * (1 - cover) * np.array([assumed.get(name, 0.0) for name in names])
    used = weight > 0
    return {
        "tissue": [name for name, keep in zip(names, used, strict=True) if keep],
        "by_tissue": (inside * value + outside)[used],
        "contained": float(inside @ value),
        "total": float(inside @ value + outside.sum()),
        "sd": float(inside @ sd),
        "covered": float(inside.sum()),
    }
