"""All dose quantities of one run, from the map to the risk, in one labelled Dataset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from twinlab.dose.beam import path_weight
from twinlab.dose.conversion import effective_dose_from_dlp
from twinlab.dose.dvh import dose_volume_histogram
from twinlab.dose.effective import effective_dose_one_sex
from twinlab.dose.fetal import FETUS, UTERUS, fetal_dose
from twinlab.dose.indices import ctdi_vol, output_factor, scan_effective_mas
from twinlab.dose.indices import dlp as dose_length_product
from twinlab.dose.risk import SHORT_STATEMENTS, lifetime_risk
from twinlab.dose.size import ctdi_vol_of_slices, ssde
from twinlab.dose.skeleton import marrow_dose
from twinlab.dose.tables import labelled, mapping
from twinlab.dose.tissue_groups import tissue_doses
from twinlab.phantom import water_equivalent_diameter
from twinlab.scanner import Protocol
from twinlab.schema import check, label, refuse

ADULT_YEARS = 18


def quantities(
    dose: xr.Dataset,
    phantom: xr.Dataset,
    protocol: Protocol,
    *,
    sex: str,
    age: float | None = None,
    ctdi: xr.Dataset | None = None,
    relative_mas: NDArray[np.float64] | None = None,
    trajectory: xr.Dataset | None = None,
    dlp_region: str | None = None,
    dlp_age: str = "adult",
    assume_mgy: Mapping[str, float] | None = None,
    histograms: Sequence[str] | None = None,
) -> xr.Dataset:
    """Dose quantities of a CT scan of one patient: organs, tissues, marrow, SSDE, DLP, histograms, risk.

    Parameters
    ----------
    dose : Dataset
        As from :func:`twinlab.dose.simulate` in this phantom under this protocol.
    phantom : Dataset
        A Phantom.
    protocol : Protocol
    sex : "male" or "female"
        Of the patient.
    age : float, optional
        Years at the scan; with it, the lifetime risk.
    ctdi : Dataset, optional
        As from :func:`twinlab.dose.ctdi` for this beam; with it CTDIvol, DLP and SSDE.
    relative_mas : (view,) array, optional
        As given to ``simulate``.
    trajectory : Dataset, optional
        As given to ``simulate``: its ``tube_current`` shapes CTDIvol and SSDE along z.
    dlp_region, dlp_age : str, optional
        As in :func:`twinlab.dose.k_factor`; with a region, effective dose from the DLP.
    assume_mgy : mapping of tissue to mGy, optional
        As in :func:`twinlab.dose.effective_dose_one_sex`.
    histograms : sequence of str, optional
        Organs whose dose-volume histograms are wanted (all when there is a voxel map and none is named).

    Returns
    -------
    Dataset
        The variables of ``dose`` and of :func:`marrow_dose`, :func:`tissue_doses`,
        :func:`effective_dose_one_sex`, :func:`ssde`, :func:`dose_volume_histogram`, :func:`fetal_dose` (where a
        uterus or fetus is labelled) and :func:`lifetime_risk`, as far as their inputs are given. attrs: the
        scan's, ``left_out`` (what is not there, and why), and each part's notes as ``part: note``.

    Raises
    ------
    InputError
        What the parts refuse; a CTDI of another beam; an organ for a histogram without a voxel map.

    Notes
    -----
    CTDIvol and DLP are scaled by the output factor of the run (``dose.attrs["output_factor"]``), so all figures
    belong to one tube output. Where that factor is the one of ``ctdi``, CTDIvol is the published one and has no
    sd of its own; the relative sd of the factor, common to all doses, is ``attrs["output_factor_relative_sd"]``.
    """
    check(dose, "organ_dose", "organ_dose_sd", "organ_mass", "organ_cut", where="quantities: dose")
    relative_mas = path_weight(trajectory, relative_mas)
    parts: dict[str, xr.Dataset] = {}
    left_out: dict[str, str] = {}
    names = [str(n) for n in dose["organ_name"].values]
    bones = [p for row in mapping("skeleton_sites.yaml")["sites"].values() for p in row["labels"]]
    if labelled(names, bones).any():
        parts["skeleton"] = marrow_dose(dose, phantom, protocol=protocol)
    else:
        left_out["red marrow and endosteum"] = "no labelled bone"
    parts["tissues"] = tissue_doses(dose, sex=sex, skeleton=parts.get("skeleton"))
    parts["effective dose"] = effective_dose_one_sex(parts["tissues"], assume_mgy=assume_mgy)
    if "dose" in dose:
        parts["histograms"] = _histograms(dose, phantom, histograms)
    elif histograms:
        refuse("quantities: histograms", "a dose with a voxel map", "none (simulate with voxel_map=True)")
    else:
        left_out["histograms"] = "no voxel map"
    if ctdi is not None:
        parts["indices"] = _indices(dose, protocol, ctdi, dlp_region, dlp_age)
        parts["size"] = _size(dose, phantom, protocol, ctdi, relative_mas)
    elif dlp_region is not None:
        refuse("quantities: dlp_region", "a ctdi with it", "none")
    else:
        left_out["CTDIvol, DLP, SSDE"] = "no ctdi given"
    if labelled(names, [*FETUS, *UTERUS]).any():
        parts["fetus"] = fetal_dose(dose)
    else:
        left_out["fetal dose"] = "no uterus or fetus among the labels"
    if age is not None:
        parts["risk"] = lifetime_risk(parts["tissues"], age=age)
    else:
        left_out["lifetime risk"] = "no age given"
    out = _joined(dose, parts, left_out)
    for note in ("enhanced_organs", "truncated_body_fraction"):
        if note in phantom.attrs:
            out.attrs[f"phantom: {note}"] = phantom.attrs[note]
    if age is not None and age < ADULT_YEARS:
        out.attrs["tissues: adult_values"] = (
            f"marrow shares and reference masses are adult's; patient {age:g} years"
        )
    if ctdi is not None:
        factor_sd = float(ctdi["output_factor_sd"]) / output_factor(ctdi)
        out.attrs["output_factor_relative_sd"] = factor_sd
    return out


def _histograms(dose: xr.Dataset, phantom: xr.Dataset, organs: Sequence[str] | None) -> xr.Dataset:
    """Histograms on the organs of the dose; those not wanted are NaN."""
    wanted = dose_volume_histogram(dose, phantom, organs=organs)
    return wanted.drop_vars("organ_name").reindex(organ_id=dose["organ_id"].values)


def _scan(dose: xr.Dataset) -> tuple[float, tuple[float, float]]:
    """Output factor and imaged range of the run."""
    a = dose.attrs
    missing = [name for name in ("output_factor", "z_low_mm", "z_high_mm") if name not in a]
    if missing:
        refuse("quantities: attrs of the dose", f"{', '.join(missing)} (as dose.simulate gives)", sorted(a))
    return float(a["output_factor"]), (float(a["z_low_mm"]), float(a["z_high_mm"]))


def _relative_sd(scale: float, ctdi: xr.Dataset) -> float:
    """Statistical sd of CTDIvol at the run's output; none when the run is scaled to the published CTDIw.

    Then CTDIvol is the published one, and the sd of the output factor is common to all doses instead.
    """
    published = np.isfinite(float(ctdi["ctdi_w_published"]))
    if published and abs(scale / output_factor(ctdi) - 1) < 1e-9:
        return 0.0
    return float(ctdi["ctdi_w_sd"]) / float(ctdi["ctdi_w"])


def _indices(
    dose: xr.Dataset, protocol: Protocol, ctdi: xr.Dataset, region: str | None, age: str
) -> xr.Dataset:
    """DLP, and effective dose from it, at the output factor of the run."""
    scale, z_range = _scan(dose)
    product = dose_length_product(protocol, ctdi, z_range_mm=z_range) / output_factor(ctdi) * scale
    product *= scan_effective_mas(dose, protocol) / protocol.effective_mas
    relative = _relative_sd(scale, ctdi)
    out: dict[str, xr.DataArray] = {
        "dlp": label("dlp", product, phantom_cm=int(protocol.ctdi_phantom_cm)),
        "dlp_sd": label("dlp_sd", product * relative),
    }
    if region is not None:
        phantom_cm = int(protocol.ctdi_phantom_cm)
        found = effective_dose_from_dlp(product, region=region, age=age, phantom_cm=phantom_cm)
        out["effective_dose_dlp"] = found
        out["effective_dose_dlp_sd"] = label("effective_dose_dlp_sd", float(found) * relative)
    return xr.Dataset(out)


def _size(
    dose: xr.Dataset,
    phantom: xr.Dataset,
    protocol: Protocol,
    ctdi: xr.Dataset,
    relative_mas: ArrayLike | None,
) -> xr.Dataset:
    """SSDE by slice at the output factor of the run."""
    scale, z_range = _scan(dose)
    index = ctdi_vol(protocol, ctdi, published=False) * scale
    index *= scan_effective_mas(dose, protocol) / protocol.effective_mas
    per_slice = ctdi_vol_of_slices(
        protocol, index, z_mm=phantom["z"].values, z_range_mm=z_range, relative_mas=relative_mas
    )
    dw = water_equivalent_diameter(phantom, kv=float(protocol.kv))
    out = ssde(dw, ctdi_vol_mgy=per_slice, phantom_cm=int(protocol.ctdi_phantom_cm), z_range_mm=z_range)
    relative = _relative_sd(scale, ctdi)
    more = {
        f"{name}_sd": label(f"{name}_sd", float(out[name]) * relative)
        for name in ("ctdi_vol_mean", "ssde_mean")
    }
    return out.assign(more)


def _joined(dose: xr.Dataset, parts: Mapping[str, xr.Dataset], left_out: Mapping[str, str]) -> xr.Dataset:
    """One Dataset; the statements on use first, the notes of the parts under their names."""
    out = dose
    notes: dict[str, Any] = {}
    for name, part in parts.items():
        out = out.assign(dict(part.data_vars))
        notes |= {f"{name}: {key}": value for key, value in part.attrs.items() if key not in SHORT_STATEMENTS}
    gone = "; ".join(f"{what} ({why})" for what, why in left_out.items())
    out.attrs = {**SHORT_STATEMENTS, "left_out": gone or "nothing", **dose.attrs, **notes}
    return out
