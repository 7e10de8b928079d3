"""What changes if: paired answers over the draws of a patient's parameters, and their place in a virtual cohort."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import xarray as xr

from twinlab.cardiac.twin.calibration import computed
from twinlab.cardiac.twin.surrogate import Surrogate, design, fit, predict
from twinlab.cardiac.twin.virtual_heart import INPUTS, VirtualHeart, beats
from twinlab.schema import refuse

PLAUSIBLE: Mapping[str, tuple[float, float]] = {
    "lv_ef": (15.0, 80.0),
    "systemic_systolic": (80.0, 200.0),
    "systemic_diastolic": (40.0, 120.0),
    "lv_edv": (60.0, 350.0),
    "lv_pressure_ed": (2.0, 35.0),
}
"""A virtual patient of the cohort lies within these: adults who can be examined at rest."""


@dataclass(frozen=True)
class Scenario:
    """One thing that is tried on the twin.

    Attributes
    ----------
    factors : mapping of input name to factor
        Of the patient's own value: ``{"contractility_scale": 1.2}``.
    pacing : str, optional
        Another pacing than the patient's own. For a scar that conducts slowly, the name of a map that was computed on
        scarred voxels (:func:`~twinlab.cardiac.twin.activations`); ``scar`` alone only takes the active stress away.
    scar : sequence of str, optional
        Other scarred AHA segments than the patient's own.
    """

    factors: Mapping[str, float] = field(default_factory=dict)
    pacing: str | None = None
    scar: Sequence[str] | None = None


def what_if(
    heart: VirtualHeart,
    posterior: xr.Dataset,
    scenarios: Mapping[str, Scenario],
    *,
    pacing: str = "intrinsic",
    draws: int = 64,
    cohort: xr.Dataset | None = None,
    progress: bool = False,
) -> xr.Dataset:
    """Answers of the twin to scenarios, with intervals, each draw compared with itself.

    Parameters
    ----------
    heart : VirtualHeart
    posterior : Dataset, dims (draw)
        Of :class:`~twinlab.cardiac.twin.Calibration`.
    scenarios : mapping of name to Scenario
    pacing : str
        The patient's own.
    draws : int
        The first so many of the posterior.
    cohort : Dataset, dims (case), optional
        From :func:`virtual_cohort`; gives percentiles.
    progress : bool

    Returns
    -------
    Dataset, dims (scenario, output)
        ``value``, ``low``, ``high``: mean and 95 % interval; ``change``, ``change_low``, ``change_high``: against the
        patient as is, draw by draw (0 for ``"as is"``, the first scenario); with a cohort ``percentile``,
        ``percentile_low``, ``percentile_high``: share of the cohort below. Attr ``draws``: that could be computed in
        all scenarios.

    Raises
    ------
    InputError
        A factor of an unknown input, pacing that was not computed, or too few draws that can be computed.
    """
    for name, one in scenarios.items():
        wrong = [k for k in one.factors if k not in posterior]
        if wrong:
            refuse(f"what_if: {name}", f"factors of {sorted(map(str, posterior))}", wrong[0])
    own = posterior.isel(draw=slice(0, draws)).rename(draw="case")
    answers = {"as is": beats(heart, own, pacing=pacing, progress=progress)}
    for name, one in scenarios.items():
        changed = own.assign({k: own[k] * f for k, f in one.factors.items()})
        other = heart if one.scar is None else replace(heart, scar=tuple(one.scar))
        answers[name] = beats(other, changed, pacing=one.pacing or pacing, progress=progress)
    return _table(answers, cohort)


def _table(answers: Mapping[str, xr.Dataset], cohort: xr.Dataset | None) -> xr.Dataset:
    outputs = list(map(str, next(iter(answers.values()))))
    values = np.array(
        [[a[k].to_numpy() for k in outputs] for a in answers.values()]
    )  # scenario, output, case
    good = np.isfinite(values).all(axis=(0, 1))
    if good.sum() < 8:
        refuse("what_if", "8 draws or more that can be computed in all scenarios", int(good.sum()))
    values = values[:, :, good]
    change = values - values[:1]
    columns = {"value": values.mean(axis=-1), "change": change.mean(axis=-1)}
    ends = (2.5, 97.5)
    columns["low"], columns["high"] = np.percentile(values, ends, axis=-1)
    columns["change_low"], columns["change_high"] = np.percentile(change, ends, axis=-1)
    if cohort is not None:
        place = np.array(
            [
                [_percentile(cohort[k].to_numpy(), row) for k, row in zip(outputs, v, strict=True)]
                for v in values
            ]
        )
        columns["percentile"] = place.mean(axis=-1)
        columns["percentile_low"], columns["percentile_high"] = np.percentile(place, ends, axis=-1)
    return xr.Dataset(
        {k: (("scenario", "output"), v) for k, v in columns.items()},
        coords={"scenario": list(answers), "output": outputs},
        attrs={"draws": int(good.sum())},
    )


def _percentile(cohort: np.ndarray, values: np.ndarray) -> np.ndarray:
    return 100.0 * np.searchsorted(np.sort(cohort), values) / max(cohort.size, 1)


def virtual_cohort(
    heart: VirtualHeart,
    *,
    n: int = 256,
    pacing: str = "intrinsic",
    bounds: Mapping[str, tuple[float, float]] = INPUTS,
    seed: int = 0,
    progress: bool = False,
) -> tuple[xr.Dataset, xr.Dataset]:
    """Hearts over the whole range of the inputs, of which those that a living adult may have are kept.

    Parameters
    ----------
    heart : VirtualHeart
    n : int
        Hearts computed; those outside :data:`PLAUSIBLE` are left out.
    pacing, bounds, seed, progress
        As elsewhere.

    Returns
    -------
    inputs, outputs : Dataset, dims (case)
        Attr ``tried`` of the outputs: ``n``.

    Raises
    ------
    InputError
        Less than half of the hearts can be computed, or none is plausible.
    """
    inputs = design(bounds, n=n, seed=seed)
    inputs, outputs = computed(inputs, beats(heart, inputs, pacing=pacing, progress=progress))
    keep = np.all(
        [(outputs[k] >= low) & (outputs[k] <= high) for k, (low, high) in PLAUSIBLE.items()], axis=0
    )
    if not keep.any():
        refuse("virtual_cohort", "hearts within the plausible ranges", f"none of {n}")
    return inputs.isel(case=keep), outputs.isel(case=keep).assign_attrs(tried=n)


@dataclass(frozen=True)
class QuickAnswer:
    """Surrogates of what a scenario makes of one patient, for sliders; make it with :func:`quick_answer`.

    Attributes
    ----------
    surrogate : mapping of pacing to Surrogate
        From factors to outputs.
    error : Dataset, dims (pacing, output)
        ``rmse`` on fresh runs and ``spread``, the standard deviation of those runs.
    """

    surrogate: Mapping[str, Surrogate]
    error: xr.Dataset


def quick_answer(
    heart: VirtualHeart,
    parameters: Mapping[str, float],
    *,
    factors: Mapping[str, tuple[float, float]],
    pacings: Sequence[str],
    outputs: Sequence[str] = (
        "lv_ef",
        "stroke_volume",
        "systemic_systolic",
        "lv_dpdt_max",
        "wasted_work_fraction",
    ),
    runs: int = 64,
    fresh: int = 24,
    seed: int = 0,
    progress: bool = False,
) -> QuickAnswer:
    """Prepare answers in a millisecond for a patient: runs over a box of factors, and their error on fresh runs.

    Parameters
    ----------
    heart : VirtualHeart
    parameters : mapping of input name to value
        The patient's, such as the posterior's means.
    factors : mapping of input name to (low, high)
        Factors of the patient's values.
    pacings : sequence of str
    outputs : sequence of str
    runs, fresh : int
        For the fit, and beside it for the error.
    seed, progress
        As elsewhere.

    Returns
    -------
    QuickAnswer

    Raises
    ------
    InputError
        As :func:`~twinlab.cardiac.twin.fit` and :func:`~twinlab.cardiac.twin.beats`.
    """
    made, rmse, spread = {}, [], []
    for pacing in pacings:
        sets = []
        for n, own in ((runs, seed), (fresh, seed + 1)):
            asked = design(factors, n=n, seed=own)
            inputs = xr.Dataset(
                {k: asked[k] * v if k in asked else xr.full_like(asked[next(iter(factors))], v)
                 for k, v in parameters.items()}
            )  # fmt: skip
            sets.append(computed(asked, beats(heart, inputs, pacing=pacing, progress=progress)))
        (x, y), (x_new, y_new) = sets
        made[pacing] = fit(x, y[list(outputs)], bounds=factors, seed=seed)
        mean, _ = predict(made[pacing], x_new)
        rmse.append([float(np.sqrt(((mean[k] - y_new[k]) ** 2).mean())) for k in outputs])
        spread.append([float(y_new[k].std()) for k in outputs])
    dims = ("pacing", "output")
    error = xr.Dataset(
        {"rmse": (dims, np.array(rmse)), "spread": (dims, np.array(spread))},
        coords={"pacing": list(pacings), "output": list(outputs)},
        attrs={"fresh_runs": fresh},
    )
    return QuickAnswer(made, error)
