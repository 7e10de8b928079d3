"""Effective dose of a reference patient from the dose-length product, for its own CTDI phantom only."""

from __future__ import annotations

import xarray as xr

from twinlab.dose.tables import rows
from twinlab.schema import label, refuse

AGES = ("newborn", "1 year", "5 years", "10 years", "adult")


def k_factor(region: str, *, age: str = "adult", phantom_cm: int, edition: str = "AAPM 96") -> float:
    """Effective dose per DLP for a region of the body.

    Parameters
    ----------
    region : str
        "head", "neck", "head and neck", "chest", "abdomen and pelvis" or "trunk".
    age : str
        "newborn", "1 year", "5 years", "10 years" or "adult".
    phantom_cm : 16 or 32
        CTDI phantom that the DLP refers to.
    edition : str
        Compilation; "AAPM 96" is the one here.

    Returns
    -------
    float, mSv/(mGy cm)

    Raises
    ------
    InputError
        Unknown region, age or edition; a DLP of another phantom than that of the factor: factors of mixed
        phantoms err by 2 to 3.

    References
    ----------
    AAPM Report 96 (2008), table 3: tissue weights of ICRP Publication 60.

    Examples
    --------
    >>> k_factor("chest", phantom_cm=32)
    0.014
    """
    table = rows("dlp_k_factors.csv")
    for name, value in (("edition", edition), ("region", region), ("age", age)):
        known = list(dict.fromkeys(row[name] for row in table))
        if value not in known:
            refuse(f"k_factor: {name}", f"one of {', '.join(known)}", repr(value))
    (row,) = [r for r in table if (r["edition"], r["region"], r["age"]) == (edition, region, age)]
    if int(row["phantom_cm"]) != phantom_cm:
        refuse(
            f"k_factor: phantom_cm of the DLP ({edition}, {region}, {age})",
            f"{row['phantom_cm']} cm, the phantom of this factor",
            f"{phantom_cm} cm",
        )
    return float(row["k"])


def effective_dose_from_dlp(
    dlp_mgy_cm: float, *, region: str, age: str = "adult", phantom_cm: int, edition: str = "AAPM 96"
) -> xr.DataArray:
    """Effective dose that a reference patient would get: ``E = k DLP``.

    Parameters
    ----------
    dlp_mgy_cm : float
        Dose-length product, mGy cm.
    region, age, phantom_cm, edition
        As in :func:`k_factor`.

    Returns
    -------
    DataArray ``effective_dose_dlp``, mSv
        attrs: ``k``, ``edition``, ``region``, ``age``, ``phantom_cm``, ``tissue_weights``.

    Raises
    ------
    InputError
        A negative DLP, or as :func:`k_factor`.
    """
    if not dlp_mgy_cm >= 0:
        refuse("effective_dose_from_dlp: dlp_mgy_cm", "0 or more", dlp_mgy_cm)
    k = k_factor(region, age=age, phantom_cm=phantom_cm, edition=edition)
    return label(
        "effective_dose_dlp",
        k * float(dlp_mgy_cm),
        k_msv_per_mgy_cm=k,
        edition=edition,
        region=region,
        age=age,
        phantom_cm=int(phantom_cm),
        tissue_weights="ICRP Publication 60",
        of="a patient of standard physique, not of this one",
    )
