"""A study's results as tables: cases, organs at the recommended setting, settings at equal detectability."""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np
import pandas as pd
import xarray as xr

from twinlab.dose import ssde_factor
from twinlab.schema import refuse
from twinlab.study.models import Study
from twinlab.study.optimise import AXES, Recommendation, pareto_front, pooled

#: Labels that make one organ.
GROUPS = {
    "lungs": r"lung_.*",
    "kidneys": r"kidney_(left|right)",
    "adrenal glands": r"adrenal_gland_.*",
    "ribs": r"rib_.*",
    "spine": r"vertebrae_.*",
    "shoulder bones": r"(scapula|clavicula|humerus)_.*",
    "back muscles": r"autochthon_.*",
    "small intestine": r"small_bowel|duodenum",
    "large vessels": r"aorta|.*_vena_cava|.*_trunk|subclavian.*|.*carotid.*|brachiocephalic_vein.*"
    r"|pulmonary_vein|portal_vein.*",
    "body, unlabelled": r"body",
    "oesophagus": r"esophagus",
    "thyroid": r"thyroid_gland",
}
_LEAST_MASS_G = 3.0

HEADINGS = {
    "kv": "kV",
    "mas": "mAs",
    "mas_sd": "u(mAs)",
    "dprime": "d'",
    "dprime_sd": "u(d')",
    "noise": "noise [HU]",
    "contrast": "contrast [HU]",
    "dose_metric": "dose [mGy]",
    "dose_sd_metric": "u(dose) [mGy]",
    "ctdi_vol": "CTDIvol [mGy]",
    "ctdi_vol_sd": "u(CTDIvol) [mGy]",
    "dlp": "DLP [mGy cm]",
    "front": "on the front",
    "probability_best": "P(least dose)",
    "at_grid_edge": "at the grid's edge",
}

#: Organs that a headline names first: those that weigh most in the detriment (ICRP 103), then the heart.
_NAMED = ("lungs", "stomach", "colon", "thyroid", "oesophagus", "heart")


def cases(results: xr.Dataset, recommendation: Recommendation | None = None) -> pd.DataFrame:
    """One row a case that could be run: setting, d', noise, doses, and whether it lies on the Pareto front.

    Parameters
    ----------
    results : Dataset
        From :func:`twinlab.study.run`.
    recommendation : Recommendation, optional
        Adds a column ``nearest``: the case of the grid nearest to it.

    Returns
    -------
    DataFrame
        By ascending dose.
    """
    data = pooled(results)
    front = pareto_front(data["dose_metric"], data["dprime"])
    names = [
        "dprime",
        "dprime_sd",
        "noise",
        "contrast",
        "dose_metric",
        "dose_sd_metric",
        "ctdi_vol",
        "ctdi_vol_sd",
        "dlp",
    ]
    flat = xr.Dataset({name: data[name] for name in names} | {"front": front}).to_dataframe().reset_index()
    flat = flat[np.isfinite(flat["dprime"])].sort_values("dose_metric", kind="stable").reset_index(drop=True)
    if recommendation is not None:
        here = (flat["kv"] == recommendation.kv) & (flat["pitch"] == recommendation.pitch)
        here &= flat["kernel"] == recommendation.kernel
        away = np.abs(np.log(flat["mas"] / recommendation.mas)).where(here, np.inf)
        flat["nearest"] = flat.index == away.idxmin()
    return flat[
        [*AXES[:1], "mas", *AXES[1:], *names, "front", *(["nearest"] if recommendation is not None else [])]
    ]


def organ_doses(
    results: xr.Dataset, recommendation: Recommendation, *, least_mass_g: float = _LEAST_MASS_G
) -> xr.Dataset:
    """Organ doses at the recommended setting; doses are linear in mAs.

    Labels that make one organ (five lung lobes, ribs) are put together by mass; their uncertainties add
    linearly, as if fully correlated, which is the safe side.

    Parameters
    ----------
    results : Dataset
    recommendation : Recommendation
    least_mass_g : float
        Smaller fragments are left out.

    Returns
    -------
    Dataset, dims (organ_id)
        ``organ_dose``, ``organ_dose_sd`` [mGy], ``organ_mass`` [g], ``organ_coverage`` [1] with coordinate
        ``organ_name``, highest dose first.

    Raises
    ------
    InputError
        The setting is not in the grid.
    """
    data = pooled(results)
    if recommendation.kv not in data["kv"] or recommendation.pitch not in data["pitch"]:
        refuse(
            "organ_doses",
            "a setting of the grid",
            f"{recommendation.kv:g} kV, pitch {recommendation.pitch:g}",
        )
    at = data.sel(kv=recommendation.kv, pitch=recommendation.pitch)
    mas = float(at["mas"].values[np.isfinite(at["dose_metric"].values)][0])
    at = at.sel(mas=mas)
    scale = recommendation.mas / mas
    frame = pd.DataFrame(
        {
            "name": [_group(str(name)) for name in at["organ_name"].values],
            "mass": at["organ_mass"].values,
            "dose": at["organ_dose"].values * scale,
            "sd": at["organ_dose_sd"].values * scale,
            "coverage": at["organ_coverage"].values,
        }
    )
    for column in ("dose", "sd", "coverage"):
        frame[column] *= frame["mass"]
    total = frame.groupby("name").sum()
    for column in ("dose", "sd", "coverage"):
        total[column] /= total["mass"]
    total = total[total["mass"] >= least_mass_g].sort_values("dose", ascending=False)
    out = xr.Dataset(
        coords={"organ_id": np.arange(len(total)), "organ_name": ("organ_id", [str(n) for n in total.index])}
    )
    for name, column, units in (
        ("organ_dose", "dose", "mGy"),
        ("organ_dose_sd", "sd", "mGy"),
        ("organ_mass", "mass", "g"),
        ("organ_coverage", "coverage", "1"),
    ):
        out[name] = xr.DataArray(total[column].to_numpy(), dims="organ_id", attrs={"units": units})
    return out


def _group(name: str) -> str:
    for group, pattern in GROUPS.items():
        if re.fullmatch(pattern, name):
            return group
    return name.replace("_", " ")


def at_target(table: xr.Dataset) -> pd.DataFrame:
    """Settings at equal detectability, least dose first; see :func:`twinlab.study.dose_at_target`."""
    frame = table.drop_vars("seed", errors="ignore").to_dataframe().reset_index()
    frame = frame.sort_values("dose", na_position="last", kind="stable").reset_index(drop=True)
    frame["at_grid_edge"] = np.where(frame["at_grid_edge"], "yes", "")
    return _whole(frame).rename(columns=HEADINGS | {"dose": "dose [mGy]", "dose_sd": "u(dose) [mGy]"})


def shown(frame: pd.DataFrame) -> pd.DataFrame:
    """Cases under headings with units, for a reader."""
    frame = frame.drop(columns="nearest", errors="ignore").copy()
    frame["front"] = np.where(frame["front"], "yes", "")
    return _whole(frame).rename(columns=HEADINGS)


def _whole(frame: pd.DataFrame) -> pd.DataFrame:
    """kV and mAs without decimals where they have none."""
    for name in ("kv", "mas"):
        if (frame[name] == frame[name].round()).all():
            frame[name] = frame[name].astype(int)
    return frame


def with_answer(frame: pd.DataFrame, recommendation: Recommendation) -> pd.DataFrame:
    """Cases of the recommended kernel, and the recommended setting itself as the last row."""
    own = frame[frame["kernel"] == recommendation.kernel]
    last = {
        "kv": recommendation.kv,
        "mas": recommendation.mas,
        "dprime": recommendation.dprime,
        "dprime_sd": recommendation.dprime_sd,
        "dose_metric": recommendation.dose_mgy,
        "dose_sd_metric": recommendation.dose_sd_mgy,
        "front": False,
    }
    return pd.concat([own, pd.DataFrame([last])], ignore_index=True)


def headline(recommendation: Recommendation, organs: xr.Dataset, organ: str) -> str:
    """The answer in one or two sentences, with the doses of one organ and of three more."""
    names = [str(name) for name in organs["organ_name"].values]
    first = [organ] if organ in names else []
    chosen = first + [name for name in _NAMED if name in names and name not in first][:3]
    doses = []
    for name in chosen:
        at = organs.isel(organ_id=names.index(name))
        doses.append(f"{name} {float(at['organ_dose']):.2f} ± {float(at['organ_dose_sd']):.2f}")
    return f"{recommendation.text} Organ doses [mGy]: {', '.join(doses)}."


def noise_ratio(results: xr.Dataset) -> float:
    """Noise measured in the study's images over the noise propagated from the rays, mean over the cases."""
    ratio = results["noise_measured"] / results["noise_at"].isel(position=0)
    return float(ratio.mean())


def square_law(results: xr.Dataset) -> float:
    """Growth of d' from the least to the greatest mAs over the root of their ratio, mean over the cases."""
    data = pooled(results).sortby("mas")
    data = data.isel(mas=data["dprime"].notnull().all(("kv", "pitch", "kernel")))
    growth = data["dprime"].isel(mas=-1) / data["dprime"].isel(mas=0)
    return float(growth.mean() / np.sqrt(float(data["mas"][-1] / data["mas"][0])))


def dose_over_ssde(
    organs: xr.Dataset, recommendation: Recommendation, dw_mm: xr.DataArray, organ: str, phantom_cm: int
) -> float:
    """Dose of an organ over the size-specific dose estimate, mean over the slices.

    Raises
    ------
    InputError
        No such organ.
    """
    names = [str(name) for name in organs["organ_name"].values]
    if organ not in names:
        refuse("dose_over_ssde", f"one of {', '.join(names)}", repr(organ))
    ssde = recommendation.ctdi_vol_mgy * float(
        ssde_factor(np.asarray(dw_mm, float), phantom_cm=phantom_cm).mean()
    )
    return float(organs["organ_dose"][names.index(organ)]) / ssde


def settings(study: Study, *, apart_from: Iterable[str] = ()) -> pd.DataFrame:
    """Settings of a study, defaults included, but for those named."""
    rows = []
    for name, field in Study.model_fields.items():
        if name in apart_from:
            continue
        value = getattr(study, name)
        shown_value = (
            ", ".join(f"{v:g}" if isinstance(v, float) else str(v) for v in value)
            if isinstance(value, tuple)
            else value
        )
        rows.append({"setting": name, "value": str(shown_value), "meaning": field.description or ""})
    return pd.DataFrame(rows)
