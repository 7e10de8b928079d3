"""The heart's twin in a notebook: the patient's heart, and rows of what was found."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import pandas as pd
import xarray as xr

from twinlab.cardiac import geometry
from twinlab.cardiac.twin import Calibration
from twinlab.report.heart_figures import readable
from twinlab.report.patients import Patient
from twinlab.schema import refuse

# names in the patient's labels, lower case, and what they are called here
_CHAMBERS = ("heart_ventricle_left", "heart_myocardium", "heart_ventricle_right", "heart_atrium_left")


def heart_of(
    patient: Patient, *, h_mm: float | None = None, ventricles: Literal["both", "left"] = "both"
) -> xr.Dataset:
    """Heart mesh with fibres, coordinates and segments of a patient whose labels hold a heart.

    Parameters
    ----------
    patient : Patient
    h_mm : float, optional
        Edge of the elements; default half the right wall.
    ventricles : {"both", "left"}

    Returns
    -------
    Dataset
        See :func:`twinlab.cardiac.geometry.heart_from_ct`; with ``aha_segment`` (tet).

    Raises
    ------
    InputError
        No heart among the labels, or one that cannot be used.
    """
    ids = {
        str(name).lower(): int(i)
        for name, i in zip(
            patient.phantom["organ_name"].to_numpy(),
            patient.phantom["organ_name"]["organ_id"].to_numpy(),
            strict=True,
        )
    }
    organ = patient.phantom["organ"]
    chambers = {name: ids[name] for name in _CHAMBERS if name in ids}
    if "heart_ventricle_left" in chambers and "heart_myocardium" in chambers:
        made = geometry.heart_from_labels(organ, chambers, ventricles=ventricles, h_mm=h_mm, fill=True)
    elif "heart" in ids:
        mask = organ == ids["heart"]
        made = geometry.heart_from_ct(patient.hu, mask, ventricles=ventricles, h_mm=h_mm, fill=True)
    else:
        refuse(
            "heart_of", "labels with heart, or heart_ventricle_left and heart_myocardium", sorted(ids)[:12]
        )
    made = geometry.coordinates(geometry.fibres(made))
    return made.assign(aha_segment=geometry.aha_segments(made))


def geometry_rows(heart: xr.Dataset) -> list[dict[str, Any]]:
    """Volumes and quality of the mesh."""
    attrs = heart.attrs
    rows: list[dict[str, Any]] = [
        {"what": "way to the geometry", "value": attrs.get("path", attrs.get("source", "")), "unit": ""},
        {"what": "elements", "value": heart.sizes["tet"], "unit": ""},
    ]
    named = {
        "measured_lv_ml": ("left cavity in the image", "ml"),
        "measured_rv_ml": ("right cavity in the image", "ml"),
        "measured_lv_wall_ml": ("left wall in the image", "ml"),
        "lv_ml_spread": ("of the left cavity left open by the threshold", "share"),
    }
    rows += [
        {"what": words, "value": float(attrs[key]), "unit": unit}
        for key, (words, unit) in named.items()
        if attrs.get(key) is not None and np.isfinite(float(attrs[key]))
    ]
    rows.append(
        {
            "what": "left cavity of the mesh",
            "value": geometry.cavity_volume(heart, "lv_endocardium"),
            "unit": "ml",
        }
    )
    return rows


def fit_rows(found: Calibration) -> list[dict[str, Any]]:
    """Measured and predicted, by measurement."""
    table = found.fit
    return [
        {
            "measurement": readable(str(name)),
            "measured": float(table["measured"].sel(measurement=name)),
            "± sd": float(table["measured_sd"].sel(measurement=name)),
            "twin": float(table["predicted"].sel(measurement=name)),
            "± sd of draws": float(table["predicted_sd"].sel(measurement=name)),
            "difference / sd": float(table["pull"].sel(measurement=name)),
        }
        for name in table["measurement"].to_numpy()
    ]


def what_if_rows(table: xr.Dataset, outputs: Mapping[str, str]) -> pd.DataFrame:
    """Answers with 95 % intervals and percentiles, one row a scenario.

    Parameters
    ----------
    table : Dataset
        From :func:`twinlab.cardiac.twin.what_if`.
    outputs : mapping of output to column title
    """
    rows = []
    for scenario in table["scenario"].to_numpy():
        row: dict[str, Any] = {"scenario": str(scenario)}
        for output, title in outputs.items():
            one = table.sel(scenario=scenario, output=output)
            text = f"{float(one['value']):.3g} ({float(one['low']):.3g} to {float(one['high']):.3g})"
            if "percentile" in one:
                text += f", P{float(one['percentile']):.0f}"
            row[title] = text
        rows.append(row)
    return pd.DataFrame(rows)


def learnt_words(found: Calibration) -> str:
    """Which parameters the measurements tell."""
    table = found.summary
    names = [str(n) for n in table["parameter"].to_numpy()]
    told = [readable(n) for n in names if float(table["learnt"].sel(parameter=n)) >= 0.5]
    rest = [readable(n) for n in names if float(table["learnt"].sel(parameter=n)) < 0.5]
    edge = [readable(n) for n in names if bool(table["at_edge"].sel(parameter=n)) and readable(n) not in rest]
    words = f"The measurements tell {', '.join(told) or 'no parameter'}"
    words += f"; mostly prior: {', '.join(rest)}" if rest else ""
    return words + (f"; against the end of its range: {', '.join(edge)}." if edge else ".")


def geometry_words(heart: xr.Dataset) -> str:
    """How the geometry was found and how sure it is."""
    attrs = heart.attrs
    words = f"Path {attrs.get('path', 'idealised')}: {attrs.get('certainty', 'no image behind it')}."
    spread = attrs.get("lv_ml_spread")
    return words + (
        f" The threshold leaves {100 * float(spread):.0f} % of the left cavity open." if spread else ""
    )


def mesh_over_image(heart: xr.Dataset) -> float:
    """Left cavity of the mesh over that of the image."""
    return float(geometry.cavity_volume(heart, "lv_endocardium")) / float(heart.attrs["measured_lv_ml"])


def qrs_words(durations: Mapping[str, float]) -> str:
    """QRS durations in a sentence."""
    parts = [f"{name} {value:.0f} ms" for name, value in durations.items()]
    return f"QRS at 0.6 m/s along the fibres: {', '.join(parts)}."


def sobol_words(indices: xr.Dataset, surrogate: Any) -> str:
    """The strongest input of each output, and the surrogate's error."""
    parts = []
    for output in ("lv_edv", "lv_esv", "systemic_systolic"):
        if output in indices["output"].to_numpy():
            total = indices["total"].sel(output=output)
            name = str(total["input"].to_numpy()[int(total.to_numpy().argmax())])
            parts.append(f"{readable(output)} on {readable(name)} ({float(total.max()):.2f})")
    share = 100.0 * float(surrogate.error["rmse_share"].max())
    return f"Most hangs {'; '.join(parts)}. Left-out error of the surrogate: at most {share:.0f} % of the spread."
