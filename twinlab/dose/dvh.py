"""Dose-volume histograms of organs from the dose map, and how much of their width is statistical noise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from twinlab.phantom import check_phantom
from twinlab.schema import check, label, refuse

GAS_G_CM3 = 0.05
"""Below this density the dose of a voxel is that of single events (docs/methods/dose.md): left out."""

NEAR_MAXIMUM_CM3 = 0.03
"""Volume whose least dose stands for the maximum (ICRU Report 91: a point of 0.03 to 0.035 cm3)."""


def dose_volume_histogram(
    dose: xr.Dataset,
    phantom: xr.Dataset,
    *,
    organs: Sequence[str] | None = None,
    levels_mgy: Sequence[float] | np.ndarray | None = None,
    volume_percent: Sequence[float] = (2.0, 50.0, 98.0),
    threshold_mgy: Sequence[float] = (),
) -> xr.Dataset:
    """Cumulative and differential dose-volume histograms by organ.

    Parameters
    ----------
    dose : Dataset
        As from :func:`twinlab.dose.simulate` with a voxel map: ``dose``, ``dose_sd``, and ``organ_name``.
    phantom : Dataset
        The Phantom of that run.
    organs : sequence of str, optional
        Names; all of the dose's organs by default.
    levels_mgy : sequence of float, optional
        Ascending dose levels; by default 101 from 0 to the largest dose among the organs, gas left out.
    volume_percent : sequence of float
        For D_x: doses that these percentages of the volume exceed.
    threshold_mgy : sequence of float
        For V_x: shares of the volume at these doses or more.

    Returns
    -------
    Dataset
        ``dvh`` (organ_id, dose_level), ``dvh_differential`` (organ_id, dose_bin), and by organ ``dvh_mean``,
        ``dvh_near_maximum`` (least dose of the hottest 0.03 cm3, at least one voxel), ``dvh_dose_at``,
        ``dvh_volume_above``, ``dvh_volume``, ``dvh_noise_share``.

    Raises
    ------
    InputError
        No voxel map, another grid, an unknown organ, levels that do not ascend.

    Notes
    -----
    The noise of the voxels broadens a histogram: near maxima and D2 read high, D98 low. ``dvh_noise_share`` is
    the mean of ``dose_sd**2`` over the variance of the doses of the organ's voxels (1: all width is noise);
    means are free of it. All shares are by volume; voxels of gas (below 0.05 g/cm3) are left out.

    References
    ----------
    ICRU Report 83 (2010), section 3 (D_x, V_x, near maximum D2).
    """
    ids, names = _check(dose, phantom, organs)
    solid = (phantom["density"].values >= GAS_G_CM3) & np.isfinite(dose["dose"].values)
    voxel_cm3 = float(np.prod(check_phantom(phantom, where="dose_volume_histogram"))) / 1000.0
    percent, threshold = (np.asarray(v, float) for v in (volume_percent, threshold_mgy))
    if not ((percent >= 0) & (percent <= 100)).all():
        refuse("dose_volume_histogram: volume_percent", "0 to 100 %", volume_percent)
    if not np.isfinite(threshold).all():
        refuse("dose_volume_histogram: threshold_mgy", "finite doses", threshold_mgy)
    # voxels once in the order of their organs: organs are then slices
    voxels = np.flatnonzero(solid & np.isin(phantom["organ"].values, ids))
    organ = phantom["organ"].values.ravel()[voxels]
    order = np.argsort(organ, kind="stable")
    doses, noise = (dose[k].values.ravel()[voxels[order]].astype(float) for k in ("dose", "dose_sd"))
    levels = _levels(doses, levels_mgy)
    low, high = (np.searchsorted(organ[order], ids, side) for side in ("left", "right"))
    columns: dict[str, list[Any]] = {}
    for first, last in zip(low, high, strict=True):
        one = _one(
            doses[first:last],
            noise[first:last],
            levels,
            voxel_cm3,
            percent,
            threshold,
        )
        for key, value in one.items():
            columns.setdefault(key, []).append(value)
    coords: dict[str, Any] = {"organ_id": ids, "organ_name": ("organ_id", names)}
    more = {
        "dvh": {"dose_level": levels},
        "dvh_differential": {"dose_bin": 0.5 * (levels[1:] + levels[:-1])},
        "dvh_dose_at": {"volume_percent": percent},
        "dvh_volume_above": {"dose_threshold": threshold},
    }
    return xr.Dataset(
        {
            key: label(key, np.array(values), {**coords, **more.get(key, {})})
            for key, values in columns.items()
        },
        attrs={"noise": "voxel noise broadens the histograms by dvh_noise_share of their variance"},
    )


def _check(
    dose: xr.Dataset, phantom: xr.Dataset, organs: Sequence[str] | None
) -> tuple[np.ndarray, list[str]]:
    where = "dose_volume_histogram"
    check(dose, "dose", "dose_sd", where=f"{where} (run dose.simulate with voxel_map=True)")
    check_phantom(phantom, where=where)
    if dose["dose"].shape != phantom["organ"].shape:
        refuse(f"{where}: phantom", f"the grid of the dose, {dose['dose'].shape}", phantom["organ"].shape)
    table = {str(n): int(i) for i, n in zip(dose["organ_id"].values, dose["organ_name"].values, strict=True)}
    names = list(table) if organs is None else [str(n) for n in organs]
    unknown = [n for n in names if n not in table]
    if unknown or not names:
        refuse(f"{where}: organs", f"names among {', '.join(table)}", unknown)
    return np.array([table[n] for n in names]), names


def _levels(doses: np.ndarray, given: Sequence[float] | np.ndarray | None) -> np.ndarray:
    """As given, or up to the largest of the doses that count: gas would stretch the axis a hundredfold."""
    if given is None:
        return np.linspace(0.0, max(float(doses.max(initial=0.0)), 1e-12), 101)
    levels = np.asarray(given, float)
    if levels.ndim != 1 or levels.size < 2 or not (np.diff(levels) > 0).all():
        refuse("dose_volume_histogram: levels_mgy", "two or more ascending doses", given)
    return levels


def _one(
    values: np.ndarray,
    sd: np.ndarray,
    levels: np.ndarray,
    voxel_cm3: float,
    percent: np.ndarray,
    threshold: np.ndarray,
) -> dict[str, Any]:
    """Histograms and figures of the voxels of one organ; NaN where there are none."""
    n = values.size
    order = np.sort(values)
    if n == 0:
        nan = np.nan
        return {
            "dvh": np.full(levels.size, nan),
            "dvh_differential": np.full(levels.size - 1, nan),
            "dvh_mean": nan,
            "dvh_near_maximum": nan,
            "dvh_dose_at": np.full(percent.size, nan),
            "dvh_volume_above": np.full(threshold.size, nan),
            "dvh_volume": 0.0,
            "dvh_noise_share": nan,
        }

    def above(doses: np.ndarray) -> np.ndarray:
        return 1.0 - np.searchsorted(order, doses, "left") / n

    hottest = max(1, round(NEAR_MAXIMUM_CM3 / voxel_cm3))
    variance = float(values.var())
    return {
        "dvh": above(levels),
        "dvh_differential": np.histogram(order, levels)[0] / n / np.diff(levels),
        "dvh_mean": float(values.mean()),
        "dvh_near_maximum": float(order[-min(hottest, n)]),
        "dvh_dose_at": np.quantile(order, 1.0 - percent / 100.0),
        "dvh_volume_above": above(threshold),
        "dvh_volume": n * voxel_cm3,
        "dvh_noise_share": min(1.0, float((sd**2).mean()) / variance) if variance > 0 else np.nan,
    }
