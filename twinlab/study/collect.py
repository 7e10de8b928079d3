"""Put cases together from stages, and a study together from cases."""

from __future__ import annotations

import numpy as np
import xarray as xr

from twinlab import dose as td
from twinlab.schema import refuse
from twinlab.study import store
from twinlab.study.layout import Layout

GRID = ("kv", "mas", "pitch", "kernel", "seed")
BODY = "body"


def assemble_case(
    layout: Layout, *, kv: float, mas: float, pitch: float, kernel: str, seed: int
) -> xr.Dataset:
    """One case: image quality, organ doses and scanner dose of one protocol.

    Returns
    -------
    Dataset, dims (kv, mas, pitch, kernel, seed) of length one each, and (position), (organ_id), (y, x)

    Raises
    ------
    InputError
        The dose metric is no organ of this patient.
    """
    study = layout.study
    if not study.reachable(mas):
        return xr.Dataset(attrs={"unreachable": 1})
    here = {"kv": kv, "mas": mas, "kernel": kernel}
    places = [
        store.read(layout.quality(pitch, seed, i)).sel(here, drop=True) for i in range(study.n_positions)
    ]
    quality = xr.concat(places, dim="position", join="exact")
    image = store.read(layout.images(kv, pitch, seed)).sel(mas=mas, kernel=kernel, drop=True)
    dose = store.read(layout.dose(kv, pitch, seed))
    scale = mas / float(dose.attrs["rotation_mas"])
    ctdi = store.read(layout.ctdi(kv))
    calibration = float(ctdi["output_factor_sd"] / ctdi["output_factor"])
    protocol = study.protocol_at(kv=kv, pitch=pitch, kernel=kernel, mas=mas)
    vol = td.ctdi_vol(protocol, ctdi)
    length = td.dlp(protocol, ctdi, z_range_mm=(dose.attrs["z_low_mm"], dose.attrs["z_high_mm"]))
    of_ctdi = float(ctdi["ctdi_w_sd"] / ctdi["ctdi_w"])
    organ_sd = np.hypot(dose["organ_dose_sd"], dose["organ_dose"] * calibration)
    metric, metric_sd = _metric(dose, study.dose_metric)
    metric_sd = (metric_sd**2 + (metric * calibration) ** 2) ** 0.5
    case = xr.Dataset(
        {
            "dprime_at": quality["dprime"],
            "noise_at": quality["noise"],
            "contrast_at": quality["contrast"],
            "roi_hu": image["roi_hu"],
            "noise_measured": image["noise_measured"],
            "organ_dose": dose["organ_dose"] * scale,
            "organ_dose_sd": organ_sd * scale,
            "organ_mass": dose["organ_mass"],
            "organ_coverage": dose["organ_coverage"],
            "dose_metric": metric * scale,
            "dose_sd_metric": metric_sd * scale,
            "ctdi_vol": vol,
            "ctdi_vol_sd": vol * of_ctdi,
            "dlp": length,
            "dlp_sd": length * of_ctdi,
            "output_factor": float(ctdi["output_factor"]),
        },
    ).reset_coords(drop=True)
    case = case.assign_coords(organ_name=("organ_id", dose["organ_name"].values))
    return case.expand_dims(
        {name: [value] for name, value in zip(GRID, (kv, mas, pitch, kernel, seed), strict=True)}
    )


def _metric(dose: xr.Dataset, metric: str) -> tuple[xr.DataArray, xr.DataArray]:
    """Dose that the study minimises, and its Monte Carlo uncertainty.

    For the body, the mean over all tissue by mass; organs are scored apart, their uncertainties add in squares.
    """
    if metric == BODY:
        mass = dose["organ_mass"] / dose["organ_mass"].sum()
        return (dose["organ_dose"] * mass).sum(), ((dose["organ_dose_sd"] * mass) ** 2).sum() ** 0.5
    names = [str(name) for name in dose["organ_name"].values]
    if metric not in names:
        refuse("dose_metric", f"{BODY!r} or one of {', '.join(sorted(names))}", repr(metric))
    index = names.index(metric)
    return dose["organ_dose"].isel(organ_id=index), dose["organ_dose_sd"].isel(organ_id=index)


#: Variables that do not depend on the kernel.
_NO_KERNEL = [
    "organ_dose",
    "organ_dose_sd",
    "organ_mass",
    "organ_coverage",
    "dose_metric",
    "dose_sd_metric",
    "ctdi_vol",
    "ctdi_vol_sd",
    "dlp",
    "dlp_sd",
    "output_factor",
]

_MEANING = {
    "dprime": ("1", "detectability, mean over places and seeds"),
    "dprime_sd": ("1", "standard uncertainty of dprime from the spread over places"),
    "dprime_at": ("1", "detectability at one place of the lesion"),
    "noise": ("HU", "standard deviation of the CT number at the lesion"),
    "noise_at": ("HU", "the same at one place"),
    "contrast": ("HU", "lesion contrast at this kV"),
    "contrast_at": ("HU", "the same at one place"),
    "roi_hu": ("HU", "noisy image of the lesion at its first place"),
    "noise_measured": ("HU", "noise measured in roi_hu"),
    "organ_dose": ("mGy", "mean absorbed dose of the organ"),
    "organ_dose_sd": ("mGy", "standard uncertainty of organ_dose (Monte Carlo of dose and of output)"),
    "organ_mass": ("g", "mass of the organ in the images"),
    "organ_coverage": ("1", "share of the organ's mass inside the scan range"),
    "dose_metric": ("mGy", "dose that the study minimises"),
    "dose_sd_metric": ("mGy", "standard uncertainty of dose_metric (Monte Carlo of dose and of output)"),
    "ctdi_vol": ("mGy", "volume CT dose index, calibrated scanner"),
    "ctdi_vol_sd": ("mGy", "standard uncertainty of ctdi_vol (Monte Carlo)"),
    "dlp": ("mGy cm", "dose-length product, over-ranging included"),
    "dlp_sd": ("mGy cm", "standard uncertainty of dlp (Monte Carlo)"),
    "output_factor": ("1", "published CTDIw / simulated CTDIw, applied to dose and signal"),
}


def collect(layout: Layout) -> xr.Dataset:
    """All cases of a study as one Dataset, mAs beyond the tube's current left NaN.

    Returns
    -------
    Dataset
        ``dprime``, ``dprime_sd``, ``noise``, ``contrast`` (kv, mas, pitch, kernel); ``dprime_at``, ``noise_at``
        with (seed, position) besides; ``roi_hu`` with (seed, y, x); ``organ_dose``, ``organ_dose_sd`` (kv, mas,
        pitch, seed, organ_id); ``dose_metric``, ``ctdi_vol``, ``dlp`` and their ``_sd`` (kv, mas, pitch, seed).
    """
    study = layout.study
    cases = [store.read(layout.case(**case)) for case in layout.cases() if study.reachable(case["mas"])]
    # texts as objects: combining cuts fixed-width ones to the first case's length
    cases = [case.assign_coords(kernel=case["kernel"].astype(object)) for case in cases]
    data = xr.combine_by_coords(cases, combine_attrs="drop", join="outer")
    assert isinstance(data, xr.Dataset)
    grid = {name: list(getattr(study, name)) for name in GRID}
    data = data.reindex({**grid, "mas": sorted(study.mas), "kv": sorted(study.kv)})
    for name in _NO_KERNEL:
        data[name] = data[name].isel(kernel=0, drop=True)
    for name in ("organ_mass", "organ_coverage"):
        data[name] = data[name].isel(kv=0, mas=0, pitch=0, seed=0, drop=True)
    places = data["dprime_at"].sizes["position"] * data["dprime_at"].sizes["seed"]
    data["dprime"] = data["dprime_at"].mean(("position", "seed"))
    ddof = 1 if places > 1 else 0
    data["dprime_sd"] = data["dprime_at"].std(("position", "seed"), ddof=ddof) / np.sqrt(places)
    data["noise"] = data["noise_at"].mean(("position", "seed"))
    data["contrast"] = data["contrast_at"].mean(("position", "seed"))
    for name, (units, meaning) in _MEANING.items():
        data[name].attrs = {"units": units, "long_name": meaning}
    for name, units in (("kv", "kV"), ("mas", "mA s"), ("pitch", "1")):
        data[name].attrs = {"units": units}
    data.attrs = {
        "study": study.name,
        "key": layout.key,
        "dose_metric": study.dose_metric,
        "dprime_target": study.dprime_target,
        "confidence": study.confidence,
        "observer": _observer(layout),
        "lesion": _lesion(layout),
    }
    order = [*GRID, "position", "organ_id", "y", "x"]
    return data.transpose(*order, missing_dims="ignore")


def _observer(layout: Layout) -> str:
    study = layout.study
    if not study.eye_filter:
        return "NPW (no eye filter), one axial slice"
    return (
        f"NPWE, one axial slice, eye filter f^1.5 exp(-0.98 f^0.68), viewing distance "
        f"{study.viewing_distance_mm:g} mm, display magnification {study.display_magnification:g}"
    )


def _lesion(layout: Layout) -> str:
    study = layout.study
    parts = []
    if study.lesion_iodine_mg_ml:
        parts.append(f"{study.lesion_iodine_mg_ml:g} mg/ml iodine above its surroundings")
    if study.lesion_contrast_hu:
        parts.append(f"{study.lesion_contrast_hu:+g} HU by density")
    return f"sphere of {study.lesion_diameter_mm:g} mm in the {study.lesion_organ}, {' and '.join(parts)}"
