"""Gaussian-process surrogate of a slow model, with its error stated by leaving runs out."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from scipy.linalg import cho_solve, solve_triangular
from scipy.stats import qmc
from threadpoolctl import threadpool_limits

from twinlab.schema import refuse

MIN_RUNS_PER_INPUT = 3
NOISE_FLOOR = 1e-6
"""Least variance of the noise, relative to the spread of the output: the model is smooth, its solver not quite."""


@dataclass(frozen=True)
class Surrogate:
    """A fitted surrogate; make it with :func:`fit`, ask it with :func:`predict`.

    Attributes
    ----------
    bounds : mapping of input name to (low, high)
        Range of the runs; asking outside is refused.
    processes : mapping of output name to fitted process
    error : Dataset
        By output: ``rmse`` (leave-one-out, in the output's unit), ``rmse_share`` (of the spread of the runs),
        ``coverage`` (share of runs within their 95 % interval when left out).
    """

    bounds: Mapping[str, tuple[float, float]]
    processes: Mapping[str, Any]
    error: xr.Dataset


def design(bounds: Mapping[str, tuple[float, float]], *, n: int, seed: int = 0) -> xr.Dataset:
    """Inputs that fill a box evenly: a scrambled Sobol sequence.

    Parameters
    ----------
    bounds : mapping of input name to (low, high)
    n : int
        Runs; powers of two are balanced best.
    seed : int

    Returns
    -------
    Dataset, dims (case)
        One variable for each input.

    Raises
    ------
    InputError
        Bounds that are not ascending and finite, or no runs.

    References
    ----------
    .. [1] Owen, On dropping the first Sobol' point, MCQMC 2020: why the sequence is scrambled and kept whole.
    """
    _check_bounds(bounds, "design")
    if n < 1:
        refuse("design: n", "1 run or more", n)
    power = int(np.ceil(np.log2(n)))
    unit = qmc.Sobol(len(bounds), seed=np.random.default_rng(seed)).random_base2(power)[:n]
    return xr.Dataset(
        {k: ("case", low + (high - low) * unit[:, i]) for i, (k, (low, high)) in enumerate(bounds.items())}
    )


def fit(
    inputs: xr.Dataset,
    outputs: xr.Dataset,
    *,
    bounds: Mapping[str, tuple[float, float]],
    seed: int = 0,
) -> Surrogate:
    """Fit one Gaussian process to each output of a set of runs.

    A quadratic trend (linear, where there are too few runs) carries the large course, a Matern 5/2 process with one
    length for each input the rest; lengths, variance and noise by maximum likelihood on what a least-squares trend
    leaves. The trend itself is then fitted again by generalised least squares, and its uncertainty is part of the
    predicted one (universal kriging).

    Parameters
    ----------
    inputs : Dataset, dims (case)
        As :func:`design` gives them.
    outputs : Dataset, dims (case)
        What the model made of them. Runs with an output that is not finite are refused: name the box smaller.
    bounds : mapping of input name to (low, high)
    seed : int
        Of the optimiser's restarts.

    Returns
    -------
    Surrogate

    Raises
    ------
    InputError
        Too few runs, sizes that differ, or values that are not finite.

    References
    ----------
    .. [1] Rasmussen and Williams, Gaussian Processes for Machine Learning (2006), eq 2.41 and 2.42: process with a
       trend of unknown coefficients.
    .. [2] Dubrule, Math Geol 15 (1983) 687: the leave-one-out error with such a trend in closed form.
    """
    _check_bounds(bounds, "surrogate.fit")
    x = _unit(inputs, bounds, "surrogate.fit: inputs")
    n, d = x.shape
    if n < MIN_RUNS_PER_INPUT * d:
        refuse("surrogate.fit", f"{MIN_RUNS_PER_INPUT * d} runs or more for {d} inputs", n)
    processes, rows = {}, []
    for name in map(str, outputs):
        y = outputs[name].to_numpy().astype(float)
        if y.shape != (n,) or not np.isfinite(y).all():
            refuse(f"surrogate.fit: {name}", f"{n} finite values", f"{int(np.isfinite(y).sum())} of {y.size}")
        processes[name] = _Process.of(x, y, seed)
        rows.append(processes[name].left_out(y))
    rmse, share, covered = np.array(rows).T
    error = xr.Dataset(
        {
            "rmse": ("output", rmse),
            "rmse_share": ("output", share),
            "coverage": ("output", covered),
        },
        coords={"output": list(processes)},
        attrs={"runs": n, "method": "leave one out"},
    )
    return Surrogate(dict(bounds), processes, error)


def predict(surrogate: Surrogate, inputs: xr.Dataset) -> tuple[xr.Dataset, xr.Dataset]:
    """Outputs and their standard uncertainty at new inputs.

    Parameters
    ----------
    surrogate : Surrogate
    inputs : Dataset, dims (case)

    Returns
    -------
    mean, sd : Dataset, dims (case)
        One variable for each output.

    Raises
    ------
    InputError
        Inputs outside the range of the runs.
    """
    x = _unit(inputs, surrogate.bounds, "surrogate.predict: inputs")
    found = {name: process.at(x) for name, process in surrogate.processes.items()}
    mean = xr.Dataset({name: ("case", m) for name, (m, _) in found.items()})
    return mean, xr.Dataset({name: ("case", s) for name, (_, s) in found.items()})


@dataclass(frozen=True)
class _Process:
    """A trend with unknown coefficients and a process around it (universal kriging).

    ``weights`` are those of the runs (``K^-1 (y - T b)``), ``cover`` is ``(T' K^-1 T)^-1`` as its square root.
    """

    trend: np.ndarray
    square: bool
    regressor: Any
    scale: float
    weights: np.ndarray
    cover: np.ndarray

    @staticmethod
    def of(x: np.ndarray, y: np.ndarray, seed: int) -> _Process:
        try:
            from sklearn.gaussian_process import GaussianProcessRegressor
            from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel
        except ImportError:
            refuse("surrogate", "scikit-learn (pip install 'twinlab[heart]')", "no such package")

        square = len(x) >= 1.5 * _trend(x[:1], True).shape[1]
        terms = _trend(x, square)
        rest = y - terms @ np.linalg.lstsq(terms, y, rcond=None)[0]
        scale = max(float(rest.std()), 1e-9 * max(float(np.abs(y).max()), 1e-300))
        kernel = ConstantKernel(1.0, (1e-3, 1e3)) * Matern(
            np.full(x.shape[1], 0.7), (0.05, 20.0), nu=2.5
        ) + WhiteKernel(1e-3, (NOISE_FLOOR, 2.0))
        process = GaussianProcessRegressor(kernel, alpha=0.0, n_restarts_optimizer=1, random_state=seed)
        # small matrices: threads of the library only get in each other's way
        with (
            warnings.catch_warnings(),
            threadpool_limits(1),
        ):  # a length at its bound says that the input does not matter
            warnings.simplefilter("ignore")
            process.fit(x, rest / scale)
            whitened = solve_triangular(process.L_, terms, lower=True)
            q, r = np.linalg.qr(whitened)
            trend = solve_triangular(r, q.T @ solve_triangular(process.L_, y, lower=True))
            weights = cho_solve((process.L_, True), (y - terms @ trend) / scale)
        cover = solve_triangular(r, np.eye(len(r)))
        return _Process(trend, square, process, scale, weights, cover)

    def at(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard uncertainty of the output of a run at new inputs."""
        fitted = self.regressor
        terms = _trend(x, self.square)
        with threadpool_limits(1):
            near = fitted.kernel_(x, fitted.X_train_)
            white = solve_triangular(fitted.L_, near.T, lower=True)
            own = solve_triangular(fitted.L_, _trend(fitted.X_train_, self.square), lower=True)
            variance = fitted.kernel_.diag(x) - (white**2).sum(axis=0)
            variance = variance + (((terms - white.T @ own) @ self.cover) ** 2).sum(axis=1)
        mean = terms @ self.trend + self.scale * near @ self.weights
        return mean, self.scale * np.sqrt(np.maximum(variance, 0.0))

    def left_out(self, y: np.ndarray) -> tuple[float, float, float]:
        """Root mean square error, its share of the spread, and coverage of 95 %, each run left out in turn."""
        inverse = cho_solve((self.regressor.L_, True), np.eye(len(y)))
        seen = inverse @ _trend(self.regressor.X_train_, self.square) @ self.cover
        # inverse of the covariance of what the trend does not explain (Dubrule 1983)
        own = np.maximum(np.diag(inverse) - (seen**2).sum(axis=1), 1e-12 * np.diag(inverse))
        gap = self.scale * self.weights / own
        sd = self.scale / np.sqrt(own)
        rmse = float(np.sqrt((gap**2).mean()))
        spread = float(y.std())
        return rmse, rmse / spread if spread > 0 else 0.0, float((np.abs(gap) < 1.96 * sd).mean())


def _trend(x: np.ndarray, square: bool) -> np.ndarray:
    """Terms of the trend (case, term): linear, or quadratic with all products."""
    d = x.shape[1]
    centred = 2.0 * x - 1.0
    mixed = [centred[:, i] * centred[:, j] for i in range(d) for j in range(i, d)] if square else []
    return np.column_stack([np.ones(len(x)), centred, *mixed])


def _unit(inputs: xr.Dataset, bounds: Mapping[str, tuple[float, float]], where: str) -> np.ndarray:
    """Inputs as (case, input) in units of their range."""
    missing = [k for k in bounds if k not in inputs]
    if missing:
        refuse(where, f"variables {sorted(bounds)}", f"no {missing[0]}")
    x = np.column_stack(
        [(inputs[k].to_numpy().astype(float) - low) / (high - low) for k, (low, high) in bounds.items()]
    )
    beyond = ~((x >= -1e-9) & (x <= 1.0 + 1e-9)).all(axis=0)
    if beyond.any():
        name = list(bounds)[int(np.argmax(beyond))]
        refuse(f"{where} {name}", f"{bounds[name][0]:g} to {bounds[name][1]:g}", inputs[name].values)
    return x


def _check_bounds(bounds: Mapping[str, tuple[float, float]], where: str) -> None:
    for name, (low, high) in bounds.items():
        if not (np.isfinite([low, high]).all() and high > low):
            refuse(f"{where}: bounds of {name}", "low below high, finite", (low, high))
    if not bounds:
        refuse(f"{where}: bounds", "one input or more", "none")
