"""Tissues of effective dose from the labels of an image: which are there, how much of them, and their dose."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from scipy import ndimage

from twinlab.dose.tables import check_sex, labelled, mapping
from twinlab.keys import content_key
from twinlab.phantom import check_phantom, organ_names
from twinlab.phantom.build import OUTSIDE, RESERVED_ORGANS, SKIN
from twinlab.schema import check, label, refuse

_OF_SKELETON = {"red_marrow": "red_marrow", "bone_surface": "endosteum"}


def _tissues(sex: str) -> dict[str, dict[str, Any]]:
    """Tissues of a body of this sex, weighted ones first, each with its patterns of labels."""
    table = mapping("icrp103_tissues.yaml")
    weighted = {name: dict(row) for name, row in table["weighted"].items()}
    weighted["gonads"]["labels"] = table["gonads"][sex]
    rest = {
        name: {**row, "weight": 0.0} for name, row in table["remainder"].items() if row.get("sex", sex) == sex
    }
    return {**weighted, **rest}


def remainder_tissues(sex: str) -> list[str]:
    """The thirteen remainder tissues of a male or female body (ICRP Publication 103).

    Raises
    ------
    InputError
        Another sex.

    Examples
    --------
    >>> len(remainder_tissues("male")), "uterus" in remainder_tissues("female")
    (13, True)
    """
    check_sex(sex, "remainder_tissues")
    return [name for name, row in _tissues(sex).items() if row["weight"] == 0.0]


def merge_tissues(phantom: xr.Dataset, *, sex: str) -> xr.Dataset:
    """Phantom whose labels are whole tissues, so that the transport scores their sd exactly.

    The labels of one tissue (five lobes, both kidneys) become one label of its name. Bones keep their labels,
    because marrow needs them (:func:`twinlab.dose.marrow_dose`), and so does what belongs to no tissue. Where
    nothing is labelled skin, the outermost layer of voxels of the body in each slice becomes skin, whatever
    the size of a voxel.

    Parameters
    ----------
    phantom : Dataset
        A Phantom.
    sex : "male" or "female"

    Returns
    -------
    Dataset
        A Phantom; ``attrs["merged"]`` lists what was joined, ``attrs["skin"]`` says where the skin is from.

    Raises
    ------
    InputError
        Not a Phantom, or another sex.
    """
    _, dy, dx = check_phantom(phantom, where="merge_tissues")
    check_sex(sex, "merge_tissues")
    names = organ_names(phantom)
    ids, labels = list(names), [names[i] for i in names]
    organ = phantom["organ"].values.copy()
    table = _tissues(sex)
    merged, skin, of_tissue = [], f"outermost voxels of the body, {dy:g} x {dx:g} mm", set()
    for tissue, row in table.items():
        member = [i for i, m in zip(ids, labelled(labels, row["labels"]), strict=True) if m]
        of_tissue |= set(member)
        if tissue == "skin" and np.isin(organ, member).any():
            skin = "labels"
        elif len(member) > 1:
            organ[np.isin(organ, member)] = member[0]
            names = {i: n for i, n in names.items() if i not in member[1:]} | {member[0]: tissue}
            merged.append(f"{tissue} ({len(member)})")
    if skin != "labels":
        layer = _outermost(organ) & ~np.isin(organ, list(of_tissue))
        organ[layer] = SKIN
        names |= {SKIN: RESERVED_ORGANS[SKIN]} if layer.any() else {}
    values = np.array([names[i] for i in sorted(names)], dtype=object)
    out = phantom.drop_dims("organ_id")
    out["organ"] = label("organ", organ, {a: phantom[a].values for a in "zyx"})
    out["organ_name"] = label("organ_name", values, {"organ_id": np.array(sorted(names), np.uint16)})
    out.attrs = {**phantom.attrs, "merged": ", ".join(merged), "skin": skin}
    out.attrs["key"] = content_key(out)
    return out


def _outermost(organ: np.ndarray) -> np.ndarray:
    """Voxels of the body that touch the outside in their slice; the edges of the image are no surface."""
    layer = np.zeros(organ.shape, bool)
    for k, row in enumerate(organ):
        body = ndimage.binary_fill_holes(row != OUTSIDE)
        layer[k] = body & ~ndimage.binary_erosion(body, border_value=1) & (row != OUTSIDE)
    return layer


def tissue_doses(dose: xr.Dataset, *, sex: str, skeleton: xr.Dataset | None = None) -> xr.Dataset:
    """Doses of the tissues that effective dose needs, and how much of each the images contain.

    Parameters
    ----------
    dose : Dataset
        As from :func:`twinlab.dose.simulate`: ``organ_dose``, ``organ_dose_sd``, ``organ_mass``, ``organ_cut``.
    sex : "male" or "female"
        Of the patient: decides on gonads, remainder and reference masses (adult).
    skeleton : Dataset, optional
        As from :func:`twinlab.dose.marrow_dose`; without it red marrow and bone surface are missing.

    Returns
    -------
    Dataset, dims (tissue)
        ``tissue_dose`` (mGy; NaN: missing, never zero) and ``tissue_dose_sd``; ``tissue_mass`` inside the
        images; ``tissue_coverage``: share of the tissue inside the images; ``tissue_weight``. Coordinate
        ``tissue_labels``: the labels it is made of. attrs: ``missing``, ``cut``, ``sd``, ``edition``.

    Raises
    ------
    InputError
        A variable is missing or holds negative or undefined numbers, or another sex.

    Notes
    -----
    Doses of labels are weighted by mass. Their sd is the upper bound ``sum_i m_i sd_i / m``, which holds
    whatever the correlation of organs hit by the same photons; for one label it is exact
    (:func:`merge_tissues` makes every tissue one label). Coverage of a cut organ is its mass over the adult's
    reference mass, at most 1 (1 where there is no reference mass). Skin, muscle, marrow, endosteum and lymph
    nodes are spread over the body: the share inside the images is mass over reference, too. Remainder: mean over
    the tissues inside, weighted by coverage; its coverage is the mean over all thirteen. Walls of hollow organs
    are not labelled apart: their dose is that of wall and contents.

    References
    ----------
    ICRP Publication 103 (2007), table 3 and annex B. ICRP Publication 89 (2002), table 2.8.
    """
    check(dose, "organ_dose", "organ_dose_sd", "organ_mass", "organ_cut", where="tissue_doses")
    for name in ("organ_dose", "organ_dose_sd", "organ_mass"):
        # a NaN must not pass for a tissue that is missing
        if not (dose[name].values >= 0).all():
            refuse(f"tissue_doses: {name}", "numbers of 0 or more", dose[name].values)
    which = check_sex(sex, "tissue_doses")
    names = [str(n) for n in dose["organ_name"].values]
    table = _tissues(sex)
    found = {
        tissue: _one(dose, row, labelled(names, row["labels"]), which)
        for tissue, row in table.items()
        if row["labels"]
    }
    for tissue, of_skeleton in _OF_SKELETON.items():
        found[tissue] = _from_skeleton(skeleton, of_skeleton)
    rest = [name for name, row in table.items() if row["weight"] == 0.0]
    found["remainder"] = _remainder([found[name] for name in rest])
    tissues = list(table)
    coords = {
        "tissue": tissues,
        "tissue_labels": ("tissue", [", ".join(found[t]["labels"]) for t in tissues]),
    }
    out = xr.Dataset(
        {
            key: label(key, np.array([found[t][key] for t in tissues]), coords)
            for key in ("tissue_dose", "tissue_dose_sd", "tissue_mass", "tissue_coverage")
        }
    )
    out["tissue_weight"] = label("tissue_weight", [float(table[t]["weight"]) for t in tissues], coords)
    out.attrs = {
        "sex": sex,
        "edition": mapping("icrp103_tissues.yaml")["edition"],
        "missing": ", ".join(t for t in tissues if found[t]["tissue_coverage"] == 0),
        "cut": ", ".join(t for t in tissues if found[t]["cut"]),
        "sd": "upper bound where a tissue has several labels: labels of one run taken as fully correlated",
        "hollow_organs": "dose of wall and contents together",
    }
    return out


def _missing() -> dict[str, Any]:
    nan = float("nan")
    return {
        "tissue_dose": nan,
        "tissue_dose_sd": nan,
        "tissue_mass": 0.0,
        "tissue_coverage": 0.0,
        "labels": [],
        "cut": False,
    }


def _one(dose: xr.Dataset, row: Mapping[str, Any], member: np.ndarray, which: int) -> dict[str, Any]:
    """One tissue from its labels."""
    mass = dose["organ_mass"].values[member]
    total = float(mass.sum())
    if not total > 0:
        return _missing()
    cut = bool(dose["organ_cut"].values[member].any())
    reference = float(row.get("mass_g", [0.0, 0.0])[which])
    partial = cut or row.get("distributed", False)
    return {
        "tissue_dose": float(mass @ dose["organ_dose"].values[member] / total),
        "tissue_dose_sd": float(mass @ dose["organ_dose_sd"].values[member] / total),
        "tissue_mass": total,
        "tissue_coverage": min(1.0, total / reference) if partial and reference > 0 else 1.0,
        "labels": [str(n) for n in dose["organ_name"].values[member]],
        "cut": cut,
    }


def _from_skeleton(skeleton: xr.Dataset | None, target: str) -> dict[str, Any]:
    if skeleton is None:
        return _missing()
    names = [f"{target}_dose", f"{target}_dose_sd", f"{target}_coverage"]
    check(skeleton, *names, where="tissue_doses: skeleton")
    value, sd, coverage = (float(skeleton[name]) for name in names)
    if not coverage > 0:
        return _missing()
    return {
        **_missing(),
        "tissue_dose": value,
        "tissue_dose_sd": sd,
        "tissue_mass": float("nan"),
        "tissue_coverage": coverage,
        "labels": [str(s) for s in skeleton["site"].values[skeleton["site_coverage"].values > 0]],
        "cut": bool(skeleton.attrs.get("cut")),
    }


def _remainder(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """Arithmetic mean over the remainder tissues, each counted by its share inside the images."""
    inside = [part for part in parts if part["tissue_coverage"] > 0]
    total = sum(part["tissue_coverage"] for part in inside)
    if not inside:
        return _missing()
    if len(parts) != 13:
        refuse("remainder", "13 tissues", len(parts))
    return {
        "tissue_dose": sum(part["tissue_coverage"] * part["tissue_dose"] for part in inside) / total,
        "tissue_dose_sd": sum(part["tissue_coverage"] * part["tissue_dose_sd"] for part in inside) / total,
        "tissue_mass": float("nan"),
        "tissue_coverage": total / len(parts),
        "labels": [name for part in inside for name in part["labels"]],
        "cut": any(part["cut"] for part in inside),
    }
