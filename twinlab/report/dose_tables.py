"""Tables and sentences of doses: organs, tissues, size, risk."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import xarray as xr

from twinlab import dose
from twinlab.scanner import Protocol
from twinlab.schema import check, refuse, spacing

_SKELETON = ("red_marrow", "bone_surface", "remainder")  # the remainder's own tissues are listed, too


def check_wishes(
    phantom: xr.Dataset,
    protocol: Protocol,
    *,
    sex: str,
    age: float,
    organs: Sequence[str],
    dlp_region: str,
) -> None:
    """Refuse, before the transport, what would fail after it.

    Parameters
    ----------
    phantom : Dataset
        The Phantom of the run to come.
    protocol : Protocol
    sex : "male" or "female"
    age : float
        Years; 0: no risk is wanted.
    organs : sequence of str
        Names in the phantom.
    dlp_region : str
        As in :func:`twinlab.dose.k_factor`; empty: none.

    Raises
    ------
    InputError
        An organ that the phantom does not have, an age outside the risk tables, an unknown region or sex.
    """
    present = set(np.unique(phantom.organ))
    pairs = zip(phantom.organ_id.values, phantom.organ_name.values, strict=True)
    known = sorted(str(name) for number, name in pairs if number in present)
    unknown = [name for name in organs if name not in known]
    if unknown:
        refuse("organs", f"labels of the phantom ({', '.join(known)})", ", ".join(unknown))
    if age:
        dose.risk_per_100_mgy("Lung", sex=sex, age=age)
    if dlp_region:
        dose.k_factor(dlp_region, phantom_cm=int(protocol.ctdi_phantom_cm))


def shown_organs(
    run: xr.Dataset, tissues: xr.Dataset, *, names: Sequence[str] = (), sd_percent: float = 10.0
) -> xr.Dataset:
    """Organs for charts and tables; of those outside or cut in part the name says so.

    Parameters
    ----------
    run : Dataset
        From :func:`twinlab.dose.simulate`.
    tissues : Dataset
        With the coordinate ``tissue_labels``, as from :func:`twinlab.dose.quantities`.
    names : sequence of str
        Organs wanted; without any: the soft organs that ICRP 103 names, else all.
    sd_percent : float
        Without ``names``: largest standard uncertainty of the dose.

    Raises
    ------
    InputError
        None is left.
    """
    check(run, "organ_dose", "organ_dose_sd", "organ_coverage", "organ_cut", where="shown_organs")
    there = run.organ_name.values.astype(str)
    keep = np.isin(there, list(names))
    if not names:
        soft = ~np.isin(tissues.tissue.values.astype(str), _SKELETON)
        labels = {n for text in tissues.tissue_labels.values[soft] for n in str(text).split(", ")}
        keep = np.isin(there, sorted(labels))
        keep = keep if keep.any() else ~np.isin(there, ["outside", "body"])
        keep = keep & (run.organ_dose_sd < sd_percent / 100 * run.organ_dose).values
    if not keep.any():
        refuse(
            "shown_organs", f"an organ whose dose is known to {sd_percent:g} %", "none: follow more photons"
        )
    out = run.isel(organ_id=np.flatnonzero(keep))
    part = (out.organ_cut | (out.organ_coverage < 0.95)).values
    told = [f"{name} (part)" if cut else name for name, cut in zip(there[keep], part, strict=True)]
    return out.assign_coords(organ_name=("organ_id", told))


def energy_balance(run: xr.Dataset, phantom: xr.Dataset) -> tuple[float, float]:
    """Share of the emitted energy that is lost, and energy of the voxel map over that of the organ table.

    Parameters
    ----------
    run : Dataset
        From :func:`twinlab.dose.simulate` with a voxel map.
    phantom : Dataset
        Of that run.
    """
    parts = ("deposited", "deposited_air", "escaped")
    lost = 1 - sum(run.attrs[f"{part}_kev"] for part in parts) / run.attrs["emitted_kev"]
    cm3 = np.prod([spacing(phantom[axis], where="energy_balance") for axis in "zyx"]) / 1000.0
    mapped = float((run.dose * phantom.density).sum(dtype=float)) * cm3
    return float(lost), float(mapped / float((run.organ_dose * run.organ_mass).sum()))


def plain(name: object) -> str:
    """Name of an organ or tissue in words.

    Examples
    --------
    >>> plain("thyroid_gland")
    'thyroid gland'
    """
    return str(name).replace("_", " ")


def organ_words(run: xr.Dataset, *, count: int = 4) -> str:
    """Doses of the heaviest organs with their standard uncertainties; whole ones where there are any.

    Parameters
    ----------
    run : Dataset
        With ``organ_dose``, ``organ_dose_sd``, ``organ_mass``.
    count : int
        Organs named.
    """
    part = np.char.endswith(run.organ_name.values.astype(str), "(part)")
    whole = run if part.all() else run.isel(organ_id=np.flatnonzero(~part))
    heavy = whole.sortby("organ_mass", ascending=False).isel(organ_id=slice(count))
    rows = zip(heavy.organ_name.values, heavy.organ_dose.values, heavy.organ_dose_sd.values, strict=True)
    return ", ".join(f"{plain(name)} {value:.2f} ± {sd:.2f}" for name, value, sd in rows)


def highest_words(run: xr.Dataset, phantom: xr.Dataset) -> str:
    """The organ with the highest dose, and what contrast medium has to do with it."""
    top = run.isel(organ_id=int(np.argmax(run.organ_dose.to_numpy())))
    enhanced = [plain(n) for n in str(phantom.attrs.get("enhanced_organs", "")).split(", ") if n]
    contrast = f" Contrast medium raises doses: it was found in {', '.join(enhanced[:5])}" if enhanced else ""
    more = f" and {len(enhanced) - 5} more labels" if len(enhanced) > 5 else ""
    return (
        f"Of the organs shown, {plain(top.organ_name.values)} gets most: "
        f"{float(top.organ_dose):.2f} ± {float(top.organ_dose_sd):.2f} mGy.{contrast}{more}{'.' if contrast else ''}"
    )


def plus_minus(value: float, sd: float) -> str:
    """Value with its standard uncertainty to two digits; a dash for what is not there.

    Examples
    --------
    >>> plus_minus(11.983, 0.0125), plus_minus(64.03, 4.46), plus_minus(214.2, 31.0), plus_minus(float("nan"), 0.0)
    ('11.983 ± 0.013', '64.0 ± 4.5', '214 ± 31', '–')
    """
    if not np.isfinite(value):
        return "–"
    if not (np.isfinite(sd) and sd > 0):
        return f"{value:.3g}"
    places = max(0, 1 - int(np.floor(np.log10(sd))))
    return f"{value:,.{places}f} ± {sd:,.{places}f}"


def _column(rows: xr.Dataset, name: str) -> list[str]:
    pairs = zip(rows[name].values, rows[f"{name}_sd"].values, strict=True)
    return [plus_minus(float(value), float(sd)) for value, sd in pairs]


def organ_table(run: xr.Dataset, per: xr.Dataset, *, count: int = 20) -> pd.DataFrame:
    """Organs by mass: dose in mGy, per 100 effective mAs and per CTDIvol, with standard uncertainties.

    Parameters
    ----------
    run : Dataset
        From :func:`twinlab.dose.simulate`.
    per : Dataset
        From :func:`twinlab.dose.per_output` of it.
    count : int
        Rows.
    """
    check(per, "organ_dose_per_100mas", "organ_dose_per_ctdivol", where="organ_table")
    both = xr.merge([run, per], compat="override", combine_attrs="override", join="left")
    rows = both.sortby("organ_mass", ascending=False).isel(organ_id=slice(count))
    return pd.DataFrame(
        {
            "organ": [plain(n) for n in rows.organ_name.values],
            "dose ± sd [mGy]": _column(rows, "organ_dose"),
            "per 100 effective mAs [mGy]": _column(rows, "organ_dose_per_100mas"),
            "per CTDIvol [mGy/mGy]": _column(rows, "organ_dose_per_ctdivol"),
            "mass [g]": rows.organ_mass,
        }
    )


def tissue_table(quantities: xr.Dataset) -> pd.DataFrame:
    """Tissues with an ICRP 103 weight: dose, share inside the images, contribution.

    Parameters
    ----------
    quantities : Dataset
        From :func:`twinlab.dose.quantities`.
    """
    check(quantities, "tissue_dose", "tissue_coverage", "tissue_weight", where="tissue_table")
    rows = quantities.isel(tissue=np.flatnonzero(quantities.tissue_weight.values > 0))
    return pd.DataFrame(
        {
            "tissue": [plain(n) for n in rows.tissue.values],
            "weight": rows.tissue_weight,
            "dose ± sd [mGy]": _column(rows, "tissue_dose"),
            "share inside": rows.tissue_coverage,
            "weight x share x dose [mSv]": rows.tissue_contribution.where(rows.tissue_coverage > 0),
        }
    ).sort_values(["weight", "share inside"], ascending=False)


def effective_words(quantities: xr.Dataset) -> str:
    """The weighted sum with all that it lacks: never a number alone."""
    q, a = quantities, quantities.attrs
    weighted = q.tissue_weight.values > 0
    gone = [plain(t) for t in q.tissue.values[weighted & (q.tissue_coverage.values == 0)]]
    text = (
        f"Sum of weight times dose over what the images hold of this {a['effective dose: sex']} body: "
        f"{float(q.effective_dose_contained):.2f} ± {float(q.effective_dose_one_sex_sd):.2f} mSv. "
        f"It rests on {100 * float(q.weight_covered):.0f} % of the ICRP 103 weights; the rest counts as no dose"
        f"{', of it wholly missing: ' + ', '.join(gone) if gone else ''}. "
        "One body, so not effective dose, which is the mean of a male and a female reference person."
    )
    if "effective_dose_dlp" in q:
        text += f" For a reference patient the DLP would give {float(q.effective_dose_dlp):.2f} mSv."
    return text


def size_words(quantities: xr.Dataset, trajectory: xr.Dataset) -> str:
    """SSDE and tube current along the patient."""
    ssde, current = quantities.ssde, trajectory.tube_current
    return (
        f"SSDE {float(quantities.ssde_mean):.2f} mGy on average, {float(ssde.min()):.1f} to {float(ssde.max()):.1f} "
        f"mGy by slice (AAPM 204 and 220), for currents of {float(current.min()):.0f} to {float(current.max()):.0f} mA."
    )


def risk_table(quantities: xr.Dataset) -> pd.DataFrame:
    """Lifetime risk by cancer site per 100,000, with the interval of the model; empty without an age."""
    if "risk" not in quantities:
        return pd.DataFrame()
    q = quantities
    rows = pd.DataFrame(
        {
            "cancer site": [str(s) for s in q.cancer_site.values],
            "dose [mGy]": q.risk_dose,
            "per 100,000": q.risk,
            "low": q.risk_low,
            "high": q.risk_high,
        }
    )
    total = {"cancer site": "all sites inside", "dose [mGy]": np.nan, "per 100,000": float(q.risk_total)}
    total |= {"low": float(q.risk_total_low), "high": float(q.risk_total_high)}
    return pd.concat([rows, pd.DataFrame([total])], ignore_index=True)


def risk_words(quantities: xr.Dataset) -> str:
    """The risk with its interval, and what it must not be used for."""
    q, a = quantities, quantities.attrs
    if "risk" not in q:
        return "No age was given, so no risk is estimated."
    missing = str(a["risk: missing"]).lower()
    return (
        f"BEIR VII gives {float(q.risk_total):.0f} ({float(q.risk_total_low):.0f} to {float(q.risk_total_high):.0f}, "
        f"{a['risk: interval']}) cancers per 100,000 {a['risk: sex']}s of {a['risk: age_years']:g} years"
        f"{f', without {missing}' if missing else ''}; statistics of the transport add ± "
        f"{float(q.risk_total_sd):.1f}. {a['risk: statement']}"
    )
