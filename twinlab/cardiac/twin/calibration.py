"""Parameters of this patient from a handful of measurements: Bayes on a surrogate refined where it counts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import xarray as xr

from twinlab.cardiac.twin.surrogate import Surrogate, design, fit, predict
from twinlab.schema import refuse

Model = Callable[[xr.Dataset], xr.Dataset]
PARTICLES, MOVES = 2000, 6


@dataclass(frozen=True)
class Calibration:
    """What the measurements say of the parameters.

    Attributes
    ----------
    posterior : Dataset, dims (draw)
        Equally likely parameters.
    outputs : Dataset, dims (draw)
        The model itself at the draws (not the surrogate).
    summary : Dataset, dims (parameter)
        ``mean``, ``sd``, ``low``, ``high`` (95 %), ``learnt``: share of the prior's variance that the measurements
        took away; ``at_edge``: True where the interval lies against an end of the prior's range.
    fit : Dataset, dims (measurement)
        ``measured``, ``measured_sd``, ``predicted``, ``predicted_sd``, ``pull``: difference in standard uncertainties.
    surrogate : Surrogate
    """

    posterior: xr.Dataset
    outputs: xr.Dataset
    summary: xr.Dataset
    fit: xr.Dataset
    surrogate: Surrogate


def calibrate(
    model: Model,
    *,
    bounds: Mapping[str, tuple[float, float]],
    measurements: Mapping[str, tuple[float, float]],
    runs: int = 256,
    rounds: int = 2,
    draws: int = 200,
    seed: int = 0,
) -> Calibration:
    """Personalise a model: parameters that reproduce the measurements within their uncertainty.

    Parameters
    ----------
    model : callable
        From inputs (case) to outputs (case); called with whole sets of cases.
    bounds : mapping of input name to (low, high)
        Prior: uniform.
    measurements : mapping of output name to (value, standard uncertainty)
    runs : int
        Model runs of the first surrogate; each round adds a quarter at draws of the posterior.
    rounds : int
        Refinements: the surrogate is fitted again with runs where the posterior is.
    draws : int
        Draws of the posterior at which the model itself runs at the end.
    seed : int

    Returns
    -------
    Calibration

    Raises
    ------
    InputError
        A measurement without uncertainty or that is no output of the model, measurements that no parameters in the
        range reproduce within 5 standard uncertainties, or a model that cannot compute half of its cases.

    Notes
    -----
    Gaussian likelihood; the surrogate's own variance is added to that of the measurement. Sampling by tempering from
    prior to posterior, 2,000 particles at once, which is quick on a surrogate and finds separate modes.

    References
    ----------
    .. [1] Kennedy and O'Hagan, J R Stat Soc B 63 (2001) 425.
    .. [2] Del Moral, Doucet and Jasra, J R Stat Soc B 68 (2006) 411, section 3.3: the sampler.
    """
    _check_measurements(measurements)
    inputs = design(bounds, n=runs, seed=seed)
    inputs, outputs = computed(inputs, _wanted(model(inputs), measurements))
    rng = np.random.default_rng([seed, 1])
    surrogate = fit(inputs, outputs[list(measurements)], bounds=bounds, seed=seed)
    for _ in range(rounds):
        more = _draw(_sample(surrogate, measurements, bounds, rng), bounds, max(8, runs // 4), rng)
        more, found = computed(more, model(more))
        inputs = xr.concat([inputs, more], dim="case")
        outputs = xr.concat([outputs, found], dim="case")
        surrogate = fit(inputs, outputs[list(measurements)], bounds=bounds, seed=seed)
    particles = _sample(surrogate, measurements, bounds, rng)
    posterior = _draw(particles, bounds, draws, rng)
    posterior, found = computed(posterior, model(posterior))
    table = _compare(found, measurements)
    worst = table["measurement"].values[int(np.abs(table["pull"].to_numpy()).argmax())]
    if float(np.abs(table["pull"]).max()) > 5.0:
        value, sd = measurements[str(worst)]
        got = float(table["predicted"].sel(measurement=worst))
        refuse(
            "calibrate",
            f"parameters within their ranges that give {worst} {value:g} +- {sd:g}",
            f"{got:.4g} at best (widen the ranges, or look at the measurement)",
        )
    return Calibration(
        posterior=posterior.rename(case="draw"),
        outputs=found.rename(case="draw"),
        summary=_summary(particles, bounds),
        fit=table,
        surrogate=surrogate,
    )


def computed(inputs: xr.Dataset, outputs: xr.Dataset) -> tuple[xr.Dataset, xr.Dataset]:
    """The cases of which all outputs are finite.

    Raises
    ------
    InputError
        Fewer than half of them are.
    """
    good = np.all([np.isfinite(outputs[k].to_numpy()) for k in outputs], axis=0)
    if good.sum() < 0.5 * good.size:
        refuse(
            "runs of the model",
            "finite outputs in half of the cases or more (narrower ranges)",
            int(good.sum()),
        )
    return inputs.isel(case=good), outputs.isel(case=good)


def _sample(
    surrogate: Surrogate,
    measurements: Mapping[str, tuple[float, float]],
    bounds: Mapping[str, tuple[float, float]],
    rng: np.random.Generator,
) -> np.ndarray:
    """Particles (draw, input) of the posterior, in units of the ranges: from the prior by tempering."""
    place = rng.random((PARTICLES, len(bounds)))
    value = _log_likelihood(surrogate, measurements, bounds, place)
    power = 0.0
    while power < 1.0:
        step = _temper(value, 1.0 - power)
        power += step
        weight = np.exp(step * (value - value.max()))
        keep = rng.choice(PARTICLES, PARTICLES, p=weight / weight.sum())
        place, value = place[keep], value[keep]
        spread = np.linalg.cholesky(np.cov(place.T).reshape(2 * (len(bounds),)) + 1e-12 * np.eye(len(bounds)))
        for _ in range(MOVES):
            jump = rng.standard_normal(place.shape) @ spread.T
            move = place + 2.38 / np.sqrt(len(bounds)) * rng.choice((0.3, 1.0), (PARTICLES, 1)) * jump
            new = np.full(PARTICLES, -np.inf)
            inside = ((move >= 0.0) & (move <= 1.0)).all(axis=1)
            new[inside] = _log_likelihood(surrogate, measurements, bounds, move[inside])
            accept = np.log(rng.random(PARTICLES)) < power * (new - value)
            place[accept], value[accept] = move[accept], new[accept]
    return place


def _temper(value: np.ndarray, most: float) -> float:
    """Largest step of the temper after which half of the particles still count."""

    def count(step: float) -> float:
        weight = np.exp(step * (value - value.max()))
        return float(weight.sum() ** 2 / (weight**2).sum())

    if count(most) >= PARTICLES / 2:
        return most
    low, high = 0.0, most
    for _ in range(60):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if count(middle) >= PARTICLES / 2 else (low, middle)
    return max(low, 1e-9)


def _log_likelihood(
    surrogate: Surrogate,
    measurements: Mapping[str, tuple[float, float]],
    bounds: Mapping[str, tuple[float, float]],
    unit: np.ndarray,
) -> np.ndarray:
    mean, sd = predict(surrogate, _dataset(unit, bounds))
    total = np.zeros(len(unit))
    for name, (value, own) in measurements.items():
        variance = own**2 + sd[name].to_numpy() ** 2
        total -= 0.5 * ((mean[name].to_numpy() - value) ** 2 / variance + np.log(variance))
    return total


def _dataset(unit: np.ndarray, bounds: Mapping[str, tuple[float, float]]) -> xr.Dataset:
    return xr.Dataset(
        {k: ("case", low + (high - low) * unit[:, i]) for i, (k, (low, high)) in enumerate(bounds.items())}
    )


def _draw(
    particles: np.ndarray, bounds: Mapping[str, tuple[float, float]], n: int, rng: np.random.Generator
) -> xr.Dataset:
    return _dataset(particles[rng.choice(len(particles), n, replace=False)], bounds)


def _summary(particles: np.ndarray, bounds: Mapping[str, tuple[float, float]]) -> xr.Dataset:
    low, high = np.quantile(particles, (0.025, 0.975), axis=0)
    start = np.array([b[0] for b in bounds.values()])
    width = np.array([b[1] - b[0] for b in bounds.values()])
    columns = {
        "mean": start + width * particles.mean(axis=0),
        "sd": width * particles.std(axis=0),
        "low": start + width * low,
        "high": start + width * high,
        "learnt": 1.0 - particles.var(axis=0) * 12.0,
        # a uniform prior's own interval ends 0.025 from the edge; one that comes nearer leans on it
        "at_edge": (low < 0.02) | (high > 0.98),
    }
    return xr.Dataset({k: ("parameter", v) for k, v in columns.items()}, coords={"parameter": list(bounds)})


def _wanted(outputs: xr.Dataset, measurements: Mapping[str, tuple[float, float]]) -> xr.Dataset:
    missing = [k for k in measurements if k not in outputs]
    if missing:
        refuse("calibrate: measurements", f"outputs of the model ({sorted(map(str, outputs))})", missing[0])
    return outputs


def _compare(outputs: xr.Dataset, measurements: Mapping[str, tuple[float, float]]) -> xr.Dataset:
    names = list(measurements)
    value, own = np.array([measurements[k] for k in names]).T
    mean = np.array([float(outputs[k].mean()) for k in names])
    sd = np.array([float(outputs[k].std()) for k in names])
    columns = {"measured": value, "measured_sd": own, "predicted": mean, "predicted_sd": sd}
    columns["pull"] = (mean - value) / own
    return xr.Dataset({k: ("measurement", v) for k, v in columns.items()}, coords={"measurement": names})


def _check_measurements(measurements: Mapping[str, tuple[float, float]]) -> None:
    if not measurements:
        refuse("calibrate: measurements", "one or more", "none")
    for name, (value, sd) in measurements.items():
        if not (np.isfinite(value) and np.isfinite(sd) and sd > 0.0):
            refuse(f"calibrate: {name}", "a value and a standard uncertainty above 0", (value, sd))
