"""From a study's results to a Pareto front and a recommendation with its uncertainty.

The comparison of kV, pitch and kernel is made at equal detectability: for each of them the mAs is found at
which d' reaches the target, and the dose there. An error of the tube's absolute output moves dose and d'^2
alike and so cancels from this comparison; what remains is the Monte Carlo uncertainty of the dose and the
spread of d' over the places where the lesion may sit.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from twinlab.schema import Model, refuse

AXES = ("kv", "pitch", "kernel")
DRAWS = 2000


class Recommendation(Model):
    """What a study says. Clinicians decide; this informs.

    ``verdict`` is "recommended" when one setting needs less dose than every other with at least the asked
    confidence, "not distinguishable" when others (``alternatives``) cannot be told from it, and "target not
    reached" when no case of the grid has the asked d'. ``dprime_sd`` holds at the ``mas`` given;
    ``dose_sd_mgy`` is that of the dose needed for the target, so it carries the spread of d' too.
    """

    verdict: Literal["recommended", "not distinguishable", "target not reached"]
    kv: float
    pitch: float
    kernel: str
    mas: float
    dprime: float
    dprime_sd: float
    dose_mgy: float
    dose_sd_mgy: float
    dose_metric: str
    ctdi_vol_mgy: float
    ctdi_vol_sd_mgy: float
    dlp_mgy_cm: float
    target: float
    confidence: float
    probability_best: float
    at_grid_edge: bool
    alternatives: list[str]
    text: str


def pooled(results: xr.Dataset) -> xr.Dataset:
    """Results with the seeds pooled: places of all seeds side by side, doses averaged.

    The mean of n independent Monte Carlo runs has the uncertainty ``sqrt(sum sd^2) / n``.
    """
    if "seed" not in results.dims:
        return results
    n = results.sizes["seed"]
    out = xr.Dataset(
        coords={k: v for k, v in results.coords.items() if "seed" not in v.dims}, attrs=results.attrs
    )
    for name, array in results.data_vars.items():
        if "seed" not in array.dims:
            out[name] = array
        elif "position" in array.dims:
            flat = array.stack(place=("seed", "position")).drop_vars(
                ["place", "seed", "position"], errors="ignore"
            )
            out[name] = flat.rename(place="position")
        elif str(name).endswith("_sd") or "_sd_" in str(name):
            out[name] = np.sqrt((array**2).sum("seed", skipna=False)) / n
        else:
            out[name] = array.mean("seed", skipna=False) if name != "roi_hu" else array.isel(seed=0)
        out[name].attrs = dict(array.attrs)
    return out


def pareto_front(dose: xr.DataArray, dprime: xr.DataArray) -> xr.DataArray:
    """Cases for which no other case has both a lower dose and a higher detectability.

    Parameters
    ----------
    dose, dprime : DataArray of the same dims
        NaN marks a case that cannot be run.

    Returns
    -------
    DataArray of bool

    Raises
    ------
    InputError
        Dims differ.
    """
    dose, dprime = xr.broadcast(dose, dprime)
    if dose.size == 0:
        refuse("pareto_front", "at least one case", "none")
    d, q = np.asarray(dose, float).ravel(), np.asarray(dprime, float).ravel()
    front = np.zeros(d.size, dtype=bool)
    best = -np.inf
    for i in np.lexsort((-q, d)):  # ascending dose; at equal dose the better image first
        if np.isfinite(d[i]) and np.isfinite(q[i]) and q[i] > best:
            front[i], best = True, q[i]
    return dose.copy(data=front.reshape(dose.shape)).rename("pareto").drop_attrs()


def _draws(results: xr.Dataset, seed: int) -> tuple[NDArray, NDArray]:
    """Bootstrap over lesion positions, paired over all cases, and normal draws of the dose per mAs.

    Returns
    -------
    dprime : ndarray (draw, kv, pitch, kernel, mas)
    scale : ndarray (draw, kv, pitch)
        Relative dose; one Monte Carlo run serves all mAs of a (kV, pitch), so they share the draw.
    """
    rng = np.random.default_rng(seed)
    at = results["dprime_at"].transpose("position", *AXES, "mas")
    n = at.sizes["position"]
    weights = rng.multinomial(n, np.full(n, 1 / n), size=DRAWS) / n
    if n > 1:  # a bootstrap of n points underestimates the variance of the mean by (n - 1) / n
        weights = 1 / n + (weights - 1 / n) * np.sqrt(n / (n - 1))
    dprime = np.tensordot(weights, np.asarray(at, float), axes=(1, 0))
    relative = (results["dose_sd_metric"] / results["dose_metric"]).transpose("kv", "pitch", "mas").max("mas")
    scale = 1 + rng.normal(size=(DRAWS, *relative.shape)) * np.asarray(relative.fillna(0.0))
    return dprime, scale


def _mas_at(target: float, dprime: NDArray, mas: NDArray) -> NDArray:
    """mAs at which d' reaches the target, by log-log interpolation along the last axis.

    Below the grid the lowest mAs is used, as nothing less was computed; above it, NaN.
    """
    log_d = np.log(np.maximum(dprime, 1e-9))
    log_m = np.log(mas)
    want = np.log(target)
    out = np.full(dprime.shape[:-1], np.nan)
    out[log_d[..., 0] >= want] = mas[0]
    for j in range(mas.size - 1):
        low, high = log_d[..., j], log_d[..., j + 1]
        inside = np.isnan(out) & (low < want) & (high >= want)
        with np.errstate(invalid="ignore", divide="ignore"):
            fraction = (want - low) / (high - low)
        out = np.where(inside, np.exp(log_m[j] + fraction * (log_m[j + 1] - log_m[j])), out)
    return out


def _drawn(results: xr.Dataset, target: float, seed: int) -> tuple[NDArray, NDArray, NDArray]:
    """Dose per mAs (kv, pitch), and draws of the mAs and of the dose needed (draw, kv, pitch, kernel)."""
    per_mas = (results["dose_metric"] / results["mas"]).transpose("kv", "pitch", "mas").mean("mas").to_numpy()
    dprime, scale = _draws(results, seed)
    need = _mas_at(target, dprime, np.asarray(results["mas"], float))
    return per_mas, need, need * (per_mas[None] * scale)[..., None]


def dose_at_target(results: xr.Dataset, target: float, *, seed: int = 0) -> xr.Dataset:
    """Dose that each kV, pitch and kernel needs for one detectability.

    Parameters
    ----------
    results : Dataset
        From :func:`twinlab.study.run`.
    target : float
        d' wanted.
    seed : int
        Of the draws that carry the uncertainties.

    Returns
    -------
    Dataset, dims (kv, pitch, kernel)
        ``mas``, ``mas_sd``, ``dose``, ``dose_sd`` (mGy, of the study's dose metric), ``probability_best``
        (share of draws in which this setting needs the least dose), ``at_grid_edge`` (the lowest mAs of the
        grid already reaches the target). NaN where the grid does not reach the target.

    Raises
    ------
    InputError
        The target is not positive, or the results lack a variable.
    """
    if not target > 0:
        refuse("dose_at_target", "a positive d' target", target)
    for name in ("dprime_at", "dose_metric", "dose_sd_metric"):
        if name not in results:
            refuse("dose_at_target", f"results with {name}", sorted(map(str, results.data_vars)))
    results = pooled(results).sortby("mas")
    mas = np.asarray(results["mas"], float)
    per_mas, need_drawn, dose_drawn = _drawn(results, target, seed)
    central = np.asarray(results["dprime_at"].mean("position").transpose(*AXES, "mas"), float)
    need = _mas_at(target, central, mas)
    dose = need * per_mas[..., None]
    filled = np.where(np.isfinite(dose_drawn), dose_drawn, np.inf).reshape(DRAWS, -1)
    reached = np.isfinite(filled.min(axis=1))
    winner = np.bincount(filled.argmin(axis=1)[reached], minlength=filled.shape[1]) / DRAWS
    coords = {axis: results[axis] for axis in AXES}
    out = xr.Dataset(coords=coords)
    valid = np.isfinite(need)

    def spread(values: NDArray) -> NDArray:
        finite = np.isfinite(values)
        centre = np.where(valid, need if values is need_drawn else dose, 0.0)
        square = np.where(finite, (values - centre) ** 2, 0.0).sum(0)
        return np.where(valid, np.sqrt(square / np.maximum(finite.sum(0), 1)), np.nan)

    for name, values, units in (
        ("mas", need, "mA s"),
        ("mas_sd", spread(need_drawn), "mA s"),
        ("dose", dose, "mGy"),
        ("dose_sd", spread(dose_drawn), "mGy"),
        ("probability_best", winner.reshape(need.shape), "1"),
        ("at_grid_edge", central[..., 0] >= target, "1"),
    ):
        out[name] = xr.DataArray(values, dims=AXES, attrs={"units": units})
    out.attrs.update(target=float(target), dose_metric=str(results.attrs.get("dose_metric", "")), draws=DRAWS)
    return out


def recommend(
    results: xr.Dataset, *, target: float, confidence: float = 0.95, seed: int = 0
) -> Recommendation:
    """Setting that reaches the target d' at the least dose, or the word that none can be told apart.

    Parameters
    ----------
    results : Dataset
        From :func:`twinlab.study.run`.
    target : float
        d' wanted.
    confidence : float
        Probability with which the winner must need less dose than every other single setting, from 0.5 to 1.
    seed : int
        Of the draws.

    Raises
    ------
    InputError
        The target is not positive, or the confidence is outside 0.5 to 1.
    """
    if not 0.5 <= confidence < 1:
        refuse("recommend", "a confidence from 0.5 to below 1", confidence)
    results = pooled(results)
    table = dose_at_target(results, target, seed=seed)
    if not bool(np.isfinite(table["dose"]).any()):
        return _not_reached(results, target, confidence)
    flat = table.stack(setting=AXES)
    best = int(np.nanargmin(flat["dose"].values))
    kv, pitch, kernel = flat["setting"].values[best]
    alternatives = _not_worse(results, target, best, confidence, seed)
    mas = float(flat["mas"].values[best])
    here = {"kv": kv, "pitch": pitch, "kernel": kernel}
    return _describe(
        results,
        here,
        mas,
        verdict="not distinguishable" if alternatives else "recommended",
        target=target,
        confidence=confidence,
        probability=float(flat["probability_best"].values[best]),
        dose_sd=float(flat["dose_sd"].values[best]),
        at_edge=bool(flat["at_grid_edge"].values[best]),
        alternatives=[_name(*flat["setting"].values[i]) for i in alternatives],
    )


def _not_worse(results: xr.Dataset, target: float, best: int, confidence: float, seed: int) -> list[int]:
    """Settings that need more dose than the best in fewer than ``confidence`` of the draws, best first."""
    dose = _drawn(results.sortby("mas"), target, seed)[2].reshape(DRAWS, -1)
    dose = np.where(np.isfinite(dose), dose, np.inf)
    worse = (dose > dose[:, best : best + 1]).mean(axis=0)
    order = np.argsort(worse)
    return [int(i) for i in order if i != best and worse[i] < confidence]


def _name(kv: float, pitch: float, kernel: str) -> str:
    return f"{kv:g} kV, pitch {pitch:g}, {kernel}"


def _describe(
    results: xr.Dataset,
    here: dict[str, Any],
    mas: float,
    *,
    verdict: Literal["recommended", "not distinguishable", "target not reached"],
    target: float,
    confidence: float,
    probability: float,
    dose_sd: float,
    at_edge: bool,
    alternatives: list[str],
) -> Recommendation:
    at = results.sel(here).sortby("mas")

    def value(name: str) -> float:
        return float(at[name].interp(mas=mas))

    log = xr.DataArray(np.log(at["dprime"]), dims="mas", coords={"mas": np.log(at["mas"].values)})
    dprime = float(np.exp(log.interp(mas=np.log(mas))))
    metric = str(results.attrs["dose_metric"])
    where = _name(**here)
    text = (
        f"{where}, {mas:.0f} mAs: d' {dprime:.2f} ± {value('dprime_sd'):.2f} (target {target:g}), "
        f"{metric} dose {value('dose_metric'):.2f} ± {value('dose_sd_metric'):.2f} mGy, "
        f"CTDIvol {value('ctdi_vol'):.2f} ± {value('ctdi_vol_sd'):.2f} mGy."
    )
    if verdict == "recommended":
        text = f"Recommended: {text}"
    elif verdict == "not distinguishable":
        text = (
            f"Not distinguishable at {confidence:.0%} confidence. Lowest estimate: {text} "
            f"Equally possible: {'; '.join(alternatives)}."
        )
    elif verdict == "target not reached":
        text = f"No case of this grid reaches d' {target:g}. The highest: {text}"
    if at_edge:
        text += " The lowest mAs of the grid already reaches the target: extend the grid downwards."
    return Recommendation(
        verdict=verdict,
        kv=float(here["kv"]),
        pitch=float(here["pitch"]),
        kernel=str(here["kernel"]),
        mas=mas,
        dprime=dprime,
        dprime_sd=value("dprime_sd"),
        dose_mgy=value("dose_metric"),
        dose_sd_mgy=dose_sd,
        dose_metric=metric,
        ctdi_vol_mgy=value("ctdi_vol"),
        ctdi_vol_sd_mgy=value("ctdi_vol_sd"),
        dlp_mgy_cm=value("dlp"),
        target=target,
        confidence=confidence,
        probability_best=probability,
        at_grid_edge=at_edge,
        alternatives=alternatives,
        text=text,
    )


def _not_reached(results: xr.Dataset, target: float, confidence: float) -> Recommendation:
    flat = results["dprime"].stack(case=(*AXES, "mas"))
    if not bool(np.isfinite(flat).any()):
        refuse("recommend", "at least one case that the scanner can run", "none")
    kv, pitch, kernel, mas = flat["case"].values[int(np.nanargmax(flat.values))]
    here = {"kv": kv, "pitch": pitch, "kernel": kernel}
    at = results.sel(here).sel(mas=mas)
    return _describe(
        results,
        here,
        float(mas),
        verdict="target not reached",
        target=target,
        confidence=confidence,
        probability=0.0,
        dose_sd=float(at["dose_sd_metric"]),
        at_edge=False,
        alternatives=[],
    )
