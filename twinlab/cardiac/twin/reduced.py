"""Reduced-order surrogate of whole curves: proper orthogonal modes with a Gaussian process on each coefficient."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import xarray as xr

from twinlab.cardiac.twin.surrogate import Surrogate, fit, predict
from twinlab.schema import refuse


@dataclass(frozen=True)
class Reduced:
    """Modes of a set of curves and the surrogate of their coefficients; make it with :func:`reduce_curves`.

    Attributes
    ----------
    mean : DataArray, dims of one curve
    modes : ndarray (mode, point)
    surrogate : Surrogate
        Of the coefficients.
    lost : float
        Share of the curves' variance that the modes leave out.
    """

    mean: xr.DataArray
    modes: np.ndarray
    surrogate: Surrogate
    lost: float


def reduce_curves(
    inputs: xr.Dataset,
    curves: xr.DataArray,
    *,
    bounds: Mapping[str, tuple[float, float]],
    energy: float = 0.9995,
    most: int = 12,
    seed: int = 0,
) -> Reduced:
    """Proper orthogonal decomposition of curves, and a surrogate from inputs to them.

    Parameters
    ----------
    inputs : Dataset, dims (case)
    curves : DataArray, dims (case, ...)
        Whatever a run gives: a trace, loops of several chambers, a map on nodes.
    bounds : mapping of input name to (low, high)
    energy : float
        Share of the variance that the modes keep.
    most : int
        Modes at most.
    seed : int

    Returns
    -------
    Reduced

    Raises
    ------
    InputError
        Too few runs, curves without variance or that are not finite.

    References
    ----------
    .. [1] Sirovich, Quart Appl Math 45 (1987) 561: modes from snapshots.
    """
    flat = curves.transpose("case", ...).to_numpy().reshape(curves.sizes["case"], -1).astype(float)
    if not np.isfinite(flat).all() or not np.ptp(flat, axis=0).any():
        refuse("reduce_curves", "finite curves that vary from case to case", "none such")
    mean = flat.mean(axis=0)
    left, size, right = np.linalg.svd(flat - mean, full_matrices=False)
    kept = np.cumsum(size**2) / (size**2).sum()
    n = min(int(np.searchsorted(kept, energy)) + 1, most, len(size))
    names = [f"mode_{k}" for k in range(n)]
    weights = xr.Dataset({name: ("case", left[:, k] * size[k]) for k, name in enumerate(names)})
    return Reduced(
        mean=curves.isel(case=0, drop=True).copy(data=mean.reshape(curves.isel(case=0).shape)),
        modes=right[:n],
        surrogate=fit(inputs, weights, bounds=bounds, seed=seed),
        lost=float(1.0 - kept[n - 1]),
    )


def predict_curves(reduced: Reduced, inputs: xr.Dataset) -> tuple[xr.DataArray, xr.DataArray]:
    """Curves and their standard uncertainty (of the surrogate) at new inputs.

    Parameters
    ----------
    reduced : Reduced
    inputs : Dataset, dims (case)

    Returns
    -------
    curve, sd : DataArray, dims (case, ...)

    Raises
    ------
    InputError
        Inputs outside the range of the runs.
    """
    weight, sd = predict(reduced.surrogate, inputs)
    w, s = (np.stack([d[k].to_numpy() for k in d], axis=1) for d in (weight, sd))
    shape = (len(w), *reduced.mean.shape)
    like = reduced.mean.expand_dims(case=len(w))
    curve = reduced.mean.to_numpy()[None] + (w @ reduced.modes).reshape(shape)
    return like.copy(data=curve), like.copy(data=np.sqrt(s**2 @ reduced.modes**2).reshape(shape))
