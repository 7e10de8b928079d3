"""Cells to values: numbers, names, and times in UTC, with what is missing and what cannot be read."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from twinlab.maintenance.telemetry.columns import FIRST_TIME, LAST_TIME
from twinlab.schema import refuse

EMPTY = ("", "nan", "na", "n/a", "null", "none", "nat", "-")
_DATE_TIME = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d([.,]\d{1,9})?)?\s*(Z|[+-]\d\d(:?\d\d)?)?", re.I)
_OFFSET = re.compile(r"(Z|[+-]\d\d(:?\d\d)?)$", re.I)

Bools = NDArray[np.bool_]


def is_missing(cells: Any) -> Bools:
    """Cells in which nothing was recorded."""
    values = np.asarray(cells)
    if values.dtype.kind == "f":
        return np.isnan(values)
    if values.dtype.kind == "M":
        return np.isnat(values)
    return np.fromiter((_is_empty(v) for v in values), bool, len(values))


def _is_empty(value: Any) -> bool:
    if isinstance(value, str):
        return value.strip().lower() in EMPTY
    return value is None or value is pd.NaT or (isinstance(value, float) and value != value)


def numbers(cells: Any) -> tuple[NDArray[np.float64], Bools]:
    """Values, NaN where there is none, and which cells are no numbers."""
    values = np.asarray(cells)
    if values.dtype.kind == "f":
        return values.astype(float), np.zeros(values.size, bool)
    found = np.fromiter((_number(v) for v in values), float, len(values))
    return found, np.isnan(found) & ~is_missing(values)


def _number(value: Any) -> float:
    if isinstance(value, (bool, np.bool_, bytes)) or (isinstance(value, str) and "_" in value):
        return np.nan
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return np.nan


def not_a_number(cell: Any) -> str:
    """Why a cell is no number, with a guess."""
    text = str(cell).strip()
    if re.fullmatch(r"[+-]?\d+,\d+", text):
        return "not a number; is the comma a decimal comma?"
    if re.fullmatch(r"[+-]?[\d.]+\s*[A-Za-z°%/]+", text):
        return "not a number; the unit belongs into the column's name"
    return "not a number"


def names(cells: Any) -> NDArray[np.object_]:
    """Names without blanks around them; "" where there is none. A number is its shortest text."""
    values = np.asarray(cells)
    missing = is_missing(values)
    texts = (("" if m else _name(v)) for v, m in zip(values.tolist(), missing, strict=True))
    out = np.empty(values.size, object)
    out[:] = list(texts)
    return out


def _name(value: Any) -> str:
    if isinstance(value, float) and value == int(value) if np.isfinite(_number(value)) else False:
        value = int(value)
    return str(value).strip()


def times(cells: Any, zone: str) -> tuple[NDArray[np.datetime64], NDArray[np.object_], Bools]:
    """Times in UTC, why a cell is no time ("" where it is one), and which were written without an offset.

    Parameters
    ----------
    cells : array of str or datetime
        A time without an offset is one of ``zone``.
    zone : str
        IANA name.

    Returns
    -------
    (datetime64[ns] array, array of str, array of bool)
        NaT where there is no time.
    """
    series = pd.Series(cells)
    if series.dtype.kind == "M":
        return _typed(series, zone)
    missing = is_missing(cells)
    text = pd.Series(
        [("" if m else str(v).strip()) for v, m in zip(series, missing, strict=True)], dtype=object
    )
    shaped = text.map(lambda t: bool(_DATE_TIME.fullmatch(t))).to_numpy(bool)
    naive = shaped & ~text.map(lambda t: bool(_OFFSET.search(t[16:]))).to_numpy(bool)
    utc = np.full(len(text), np.datetime64("NaT", "ns"))
    aware = shaped & ~naive
    clean = text.str.replace(",", ".", regex=False)
    utc[aware] = _to_utc(pd.to_datetime(clean[aware], format="ISO8601", utc=True, errors="coerce"))
    utc[naive] = _localised(pd.to_datetime(clean[naive], format="ISO8601", errors="coerce"), zone)
    reason = _empty_texts(len(text))
    reason[missing] = "no time"
    odd = ~missing & ~shaped
    reason[odd] = [_not_a_time(t) for t in text[odd]]
    reason[shaped & np.isnat(utc)] = "no such time" + (f" in {zone}" if zone != "UTC" else "")
    return (*_in_period(utc, reason), naive)


def _typed(series: pd.Series, zone: str) -> tuple[NDArray[np.datetime64], NDArray[np.object_], Bools]:
    """Times that the file holds as such, of any resolution, with or without a zone."""
    aware = getattr(series.dtype, "tz", None) is not None
    own = (series.dt.tz_convert("UTC").dt.tz_localize(None) if aware else series).to_numpy()
    reason = _empty_texts(own.size)
    reason[np.isnat(own)] = "no time"
    far = ~np.isnat(own) & ((own < FIRST_TIME) | (own > LAST_TIME))  # before nanoseconds, which end in 2262
    utc = np.where(far, np.datetime64("NaT"), own).astype("datetime64[ns]")
    reason[far] = _IMPOSSIBLE
    if not aware and zone != "UTC":
        utc = _localised(pd.Series(utc), zone)
        reason[np.isnat(utc) & (reason == "")] = f"no such time in {zone}"
    return utc, reason, np.full(own.size, not aware) & ~np.isnat(own)


def _localised(local: pd.Series, zone: str) -> NDArray[np.datetime64]:
    """Times of a zone in UTC; hours that the zone skips or has twice are no times."""
    try:
        return _to_utc(local.dt.tz_localize(zone, ambiguous="NaT", nonexistent="NaT"))
    except (KeyError, ValueError, AttributeError) as error:  # zoneinfo's own error is a KeyError
        refuse(
            "read_telemetry: zone",
            "the IANA name of a time zone, e.g. UTC or Europe/Berlin",
            f"{zone!r} ({error})",
        )


def _to_utc(aware: pd.Series) -> NDArray[np.datetime64]:
    return aware.dt.tz_convert("UTC").dt.tz_localize(None).to_numpy("datetime64[ns]")


_IMPOSSIBLE = f"impossible time, before {str(FIRST_TIME)[:4]} or after {str(LAST_TIME)[:4]}"


def _in_period(
    utc: NDArray[np.datetime64], reason: NDArray[np.object_]
) -> tuple[NDArray[np.datetime64], NDArray[np.object_]]:
    far = ~np.isnat(utc) & ((utc < FIRST_TIME) | (utc > LAST_TIME))
    reason[far] = _IMPOSSIBLE
    utc[far] = np.datetime64("NaT", "ns")
    return utc, reason


def _not_a_time(text: str) -> str:
    value = _number(text)
    if 3e8 < value < 5e9:
        return "not an ISO 8601 time; seconds since 1970?"
    if 3e11 < value < 5e12:
        return "not an ISO 8601 time; milliseconds since 1970?"
    if re.match(r"\d{1,2}[./]\d{1,2}[./]\d{2,4}", text):
        return "not an ISO 8601 time; day and month cannot be told apart"
    return "not an ISO 8601 time with date, hour and minute"


def _empty_texts(n: int) -> NDArray[np.object_]:
    out = np.empty(n, object)
    out[:] = ""
    return out
