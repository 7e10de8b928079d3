"""Lives of parts as they are known: how long each was watched, and whether it failed or was still working."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from twinlab.schema import check, label, refuse


def lifelines(where: str) -> Any:
    """The package lifelines, imported when it is first needed.

    Raises
    ------
    InputError
        It is not installed.
    """
    try:
        import lifelines as package
    except ImportError:
        refuse(where, 'lifelines (pip install "twinlab[maintenance]")', "no such package")
    return package


def make_lives(days: Any, failed: Any, covariates: Mapping[str, Any] | None = None) -> xr.Dataset:
    """Lives, checked.

    Parameters
    ----------
    days : array (life,)
        Time from installation to failure, or to the last time that the part was seen working; days of the
        calendar or of use, above zero.
    failed : array (life,) of bool
        Whether the part failed then; otherwise it is censored.
    covariates : mapping of name to array (life,), optional
        What may change the life, finite.

    Returns
    -------
    Dataset, dims (life)
        ``life_days``, ``life_failed`` and the covariates.

    Raises
    ------
    InputError
        Lengths differ, a time is not above zero, no part failed, a covariate is not finite.
    """
    where = "make_lives"
    time, event = np.asarray(days, float).ravel(), np.asarray(failed).ravel()
    _same_length(where, time, event)
    if time.size < 2 or not np.isfinite(time).all() or time.min() <= 0:
        refuse(where, "two or more finite times above 0 d", _first(time, ~(time > 0)))
    if not np.isin(event, (0, 1)).all():
        refuse(where, "failed of 0 or 1", _first(event, ~np.isin(event, (0, 1))))
    if not event.any():
        refuse(where, "a part that failed", f"{event.size} lives, all censored")
    data = {
        "life_days": label("life_days", time),
        "life_failed": label("life_failed", event.astype(bool)),
    }
    return xr.Dataset({**data, **_covariates(where, covariates, time, "life")})


def make_spans(
    life: Any, start_days: Any, stop_days: Any, failed: Any, covariates: Mapping[str, Any]
) -> xr.Dataset:
    """Lives in spans, within each of which the covariates are constant; checked.

    Parameters
    ----------
    life : array (span,)
        Which part the span belongs to.
    start_days, stop_days : array (span,)
        Age of the part at the ends of the span; spans of a part do not overlap.
    failed : array (span,) of bool
        Whether the part failed at the end of the span; only in its last one.
    covariates : mapping of name to array (span,)

    Returns
    -------
    Dataset, dims (span)
        ``span_life``, ``span_start_days``, ``span_stop_days``, ``span_failed`` and the covariates.

    Raises
    ------
    InputError
        Lengths differ, a span is empty, spans overlap, a part goes on after it failed, no part failed, a
        covariate is not finite.
    """
    where = "make_spans"
    who, event = np.asarray(life).ravel(), np.asarray(failed).ravel().astype(bool)
    start, stop = np.asarray(start_days, float).ravel(), np.asarray(stop_days, float).ravel()
    _same_length(where, start, stop, event, who)
    bad = ~(np.isfinite(start) & np.isfinite(stop) & (start >= 0) & (stop > start))
    if bad.any():
        at = int(np.argmax(bad))
        refuse(where, "0 <= start < stop", f"span {at} from {start[at]:g} to {stop[at]:g} d")
    if not event.any():
        refuse(where, "a part that failed", f"{np.unique(who).size} lives, all censored")
    order = np.lexsort((start, who))
    same = who[order][1:] == who[order][:-1]
    if (same & (start[order][1:] < stop[order][:-1])).any():
        refuse(where, "spans of a part that do not overlap", "spans that do")
    if (same & event[order][:-1]).any():
        refuse(where, "failure in the last span of a part only", "a part that goes on after it failed")
    data = {
        "span_life": label("span_life", who),
        "span_start_days": label("span_start_days", start),
        "span_stop_days": label("span_stop_days", stop),
        "span_failed": label("span_failed", event),
    }
    return xr.Dataset({**data, **_covariates(where, covariates, start, "span")})


def frame(data: xr.Dataset, names: Sequence[str], covariates: Sequence[str], *, where: str) -> pd.DataFrame:
    """Columns of checked lives or spans, for lifelines.

    Raises
    ------
    InputError
        A variable or covariate is missing; a covariate is constant or repeats another.
    """
    check(data, *names, where=where)
    missing = [c for c in covariates if c not in data]
    if missing:
        refuse(where, f"covariates among {sorted(map(str, data))}", ", ".join(missing))
    table = pd.DataFrame({n: data[n].to_numpy() for n in [*names, *covariates]})
    flat = [c for c in covariates if np.ptp(table[c].to_numpy(float)) == 0]
    if flat:
        refuse(where, "covariates that vary", f"{', '.join(flat)} constant")
    columns = table[list(covariates)].to_numpy(float)
    if covariates and np.linalg.matrix_rank(columns - columns.mean(0)) < len(covariates):
        refuse(where, "covariates of which none follows from the others", ", ".join(covariates))
    return table


def _covariates(
    where: str, covariates: Mapping[str, Any] | None, like: np.ndarray, dim: str
) -> dict[str, xr.DataArray]:
    out = {}
    for name, values in (covariates or {}).items():
        column = np.asarray(values, float).ravel()
        _same_length(where, like, column)
        if not np.isfinite(column).all():
            refuse(where, f"finite {name}", _first(column, ~np.isfinite(column)))
        out[name] = xr.DataArray(column, dims=(dim,), name=name)
    return out


def _same_length(where: str, *columns: np.ndarray) -> None:
    sizes = {c.size for c in columns}
    if len(sizes) > 1:
        refuse(where, "columns of one length", " and ".join(map(str, sorted(sizes))))


def _first(values: np.ndarray, bad: np.ndarray) -> str:
    return (
        f"{values[np.argmax(bad)]} at index {int(np.argmax(bad))}" if bad.any() else f"{values.size} values"
    )
