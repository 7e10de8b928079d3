"""Which input the answer hangs on: Sobol indices with intervals."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import xarray as xr
from scipy import stats

from twinlab.schema import refuse

Model = Callable[[xr.Dataset], xr.Dataset]


def sobol(
    model: Model, bounds: Mapping[str, tuple[float, float]], *, n: int = 1024, seed: int = 0
) -> xr.Dataset:
    """First-order and total Sobol indices of every output, inputs uniform in their bounds.

    Parameters
    ----------
    model : callable
        From inputs (case) to outputs (case), such as a surrogate or the quick model itself. It is called once with
        ``n * (2 + number of inputs)`` cases.
    bounds : mapping of input name to (low, high)
    n : int
        Base samples, a power of two.
    seed : int

    Returns
    -------
    Dataset, dims (output, input)
        ``first`` and ``total`` with ``first_low``, ``first_high``, ``total_low``, ``total_high``, ends of the 95 %
        bootstrap interval.

    Raises
    ------
    InputError
        ``n`` is no power of two, an output without variance or with values that are not finite.

    References
    ----------
    .. [1] Saltelli et al., Comput Phys Commun 181 (2010) 259, table 2, as in ``scipy.stats.sobol_indices``.
    """
    if n < 2 or n & (n - 1):
        refuse("sobol: n", "a power of two", n)
    names = list(bounds)
    outputs: list[str] = []

    def run(unit: np.ndarray) -> np.ndarray:
        found = model(xr.Dataset({k: ("case", row) for k, row in zip(names, unit, strict=True)}))
        outputs[:] = map(str, found)
        values = np.stack([found[k].to_numpy().astype(float) for k in outputs])
        flat = [
            k for k, row in zip(outputs, values, strict=True) if not (np.isfinite(row).all() and np.ptp(row))
        ]
        if flat:
            refuse(f"sobol: {flat[0]}", "finite values that vary with the inputs", "none such")
        return values

    ranges = [stats.uniform(low, high - low) for low, high in bounds.values()]
    found = stats.sobol_indices(func=run, n=n, dists=ranges, rng=np.random.default_rng(seed))
    spread = found.bootstrap(confidence_level=0.95, n_resamples=200)
    dims = ("output", "input")
    shape = (len(outputs), len(names))
    parts = {
        "first": found.first_order,
        "total": found.total_order,
        "first_low": spread.first_order.confidence_interval.low,
        "first_high": spread.first_order.confidence_interval.high,
        "total_low": spread.total_order.confidence_interval.low,
        "total_high": spread.total_order.confidence_interval.high,
    }
    return xr.Dataset(
        {k: (dims, np.reshape(v, shape)) for k, v in parts.items()},
        coords={"output": outputs, "input": names},
        attrs={"runs": n * (2 + len(names))},
    )
