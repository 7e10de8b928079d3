"""What a notebook says: headline, findings, checks that can fail it, evidence, sources."""

from __future__ import annotations

import html
import json
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from IPython.display import HTML, Markdown, display
from tqdm import tqdm

import twinlab
from twinlab.report.execution import RUN_FOLDER
from twinlab.schema import refuse


class CheckFailed(AssertionError):
    """A figure of the notebook is outside what theory or reference allows."""


@dataclass(frozen=True)
class Check:
    """One comparison with theory or reference."""

    name: str
    value: float
    low: float
    high: float
    unit: str
    why: str

    @property
    def passed(self) -> bool:
        """Whether the value lies in its band; not-a-number never does."""
        return self.low <= self.value <= self.high

    def __str__(self) -> str:
        return f"{self.name}: expected {self.band}; got {_number(self.value)} {self.unit}".rstrip()

    @property
    def band(self) -> str:
        """The allowed interval in words."""
        if math.isinf(self.low):
            return f"at most {_number(self.high)} {self.unit}".rstrip()
        if math.isinf(self.high):
            return f"at least {_number(self.low)} {self.unit}".rstrip()
        return f"{_number(self.low)} to {_number(self.high)} {self.unit}".rstrip()


def run_folder() -> Path:
    """Folder for the files of this run: its report's, or ``outputs/interactive`` when opened by hand."""
    folder = Path(os.environ.get(RUN_FOLDER) or "outputs/interactive")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def headline(text: str) -> None:
    """Say the answer: shown here, on the index page and at the end of ``twinlab run``.

    Parameters
    ----------
    text : str
        One or two plain sentences with figures, units and uncertainty.
    """
    text = " ".join(text.split())
    (run_folder() / "headline.txt").write_text(text + "\n", encoding="utf-8")
    display(HTML(f'<p class="headline"><strong>{html.escape(text)}</strong></p>'))


def plan(*, cases: int, memory_gb: float, seconds: float, **facts: Any) -> None:
    """Say what is about to be done, before it is done.

    Parameters
    ----------
    cases : int
        Runs of an engine.
    memory_gb, seconds : float
        Estimates for two cores; shown rounded up.
    **facts
        What else decides the answer, shown under its name.
    """
    time = f"about {math.ceil(seconds)} s" if seconds < 90 else f"about {math.ceil(seconds / 60)} min"
    rows = {"cases": cases, **facts, "memory": f"about {max(memory_gb, 0.1):.1f} GB", "time on 2 cores": time}
    table([{"plan": name.replace("_", " "), "": _number(value)} for name, value in rows.items()])


def progress(what: str, total: int) -> Callable[[int], object]:
    """Bar on standard error; call what comes back with the amount just done."""
    return tqdm(total=total, desc=what, unit_scale=True, mininterval=1.0).update


def finding(text: str) -> None:
    """One sentence under a figure, computed from the data."""
    display(HTML(f'<p class="finding">{html.escape(" ".join(text.split()))}</p>'))


def check(
    name: str,
    value: float | xr.DataArray,
    *,
    expected: float | None = None,
    within: float | None = None,
    at_least: float = -math.inf,
    at_most: float = math.inf,
    unit: str = "",
    why: str = "",
) -> Check:
    """One comparison for :func:`checks`.

    Parameters
    ----------
    name : str
        What is compared.
    value : float
        What came out, in ``unit``.
    expected, within : float, optional
        The band is ``expected - within`` to ``expected + within``; give both or neither.
    at_least, at_most : float
        Limits of the band otherwise.
    unit, why : str
        Unit, and where the expectation and the band come from.

    Raises
    ------
    InputError
        ``expected`` without ``within`` or the other way round, or no limit at all.

    Examples
    --------
    >>> check("water", 0.4, expected=0, within=2, unit="HU").passed
    True
    """
    if (expected is None) != (within is None):
        refuse(f"check({name})", "both expected and within", f"expected={expected}, within={within}")
    if expected is not None and within is not None:
        at_least, at_most = expected - within, expected + within
    if math.isinf(at_least) and math.isinf(at_most):
        refuse(f"check({name})", "a band (expected and within, at_least or at_most)", "none")
    return Check(name, float(value), float(at_least), float(at_most), unit, why)


def checks(*items: Check) -> None:
    """Show comparisons with theory or reference, and stop the notebook when one fails.

    Raises
    ------
    CheckFailed
        One line that names every failed comparison.
    """
    rows = [
        {
            "check": item.name,
            "value": f"{_number(item.value)} {item.unit}".rstrip(),
            "allowed": item.band,
            "basis": item.why,
            "": "pass" if item.passed else "FAIL",
        }
        for item in items
    ]
    table(rows)
    failed = [str(item) for item in items if not item.passed]
    if failed:
        raise CheckFailed("; ".join(failed))


def table(rows: pd.DataFrame | Iterable[Mapping[str, Any]], *, digits: int = 3) -> None:
    """Show a table: numbers right, to significant digits; text left.

    Parameters
    ----------
    rows : DataFrame or iterable of mappings
        Column names carry the units, as in ``mass [g]``.
    digits : int
        Significant digits of floats.
    """
    frame = rows if isinstance(rows, pd.DataFrame) else pd.DataFrame(list(rows))
    head = "".join(f"<th{_side(frame[c])}>{html.escape(str(c))}</th>" for c in frame.columns)
    body = []
    for _, row in frame.iterrows():
        cells = "".join(
            f"<td{_side(frame[c])}>{html.escape(_number(row[c], digits))}</td>" for c in frame.columns
        )
        body.append(f"<tr>{cells}</tr>")
    display(
        HTML(f'<table class="figures"><thead><tr>{head}</tr></thead><tbody>{"".join(body)}</tbody></table>')
    )


def evidence(*engines: str) -> None:
    """Show the rows of ``docs/validation.md`` that the named engines rest on.

    Parameters
    ----------
    *engines : str
        First words of the headings there, such as ``"Dose"``.
    """
    path = Path(twinlab.__file__).resolve().parent.parent / "docs" / "validation.md"
    sections = _sections(path.read_text(encoding="utf-8")) if path.is_file() else {}
    parts = [
        f"**{title}**\n\n{text}"
        for title, text in sections.items()
        if any(title.lower().startswith(engine.lower()) for engine in engines) and text
    ]
    none = "No measured comparison is on file for these engines beyond the checks above."
    display(Markdown("\n\n".join(parts) or none))


def provenance(*items: Any, credits: Sequence[str] = ()) -> None:
    """Show what went in, with keys and sources; the foot of the report adds versions, machine and seconds.

    Parameters
    ----------
    *items : Dataset, DataArray or model
        Phantoms, protocols, results: anything with a name, a ``key`` and a ``source`` or ``sources``.
    credits : sequence of str
        Attributions that the licences of the data ask for.
    """
    rows = [_origin(item) for item in items]
    notes = {"inputs": rows, "credits": list(credits)}
    (run_folder() / "notes.json").write_text(json.dumps(notes, indent=1), encoding="utf-8")
    table(rows)
    if credits:
        display(Markdown("\n".join(f"- {credit}" for credit in credits)))


def _origin(item: Any) -> dict[str, str]:
    attrs: Mapping[str, Any] = item.attrs if isinstance(item, (xr.Dataset, xr.DataArray)) else {}
    sources = attrs.get("source") or getattr(item, "sources", None) or getattr(item, "source", "") or ""
    return {
        "input": str(
            attrs.get("name") or getattr(item, "title", None) or getattr(item, "name", None) or "result"
        ),
        "key": str(attrs.get("key") or getattr(item, "key", "")),
        "source": sources if isinstance(sources, str) else "; ".join(map(str, sources)),
    }


def _sections(text: str) -> dict[str, str]:
    """Tables of each second- or third-level heading."""
    found: dict[str, str] = {}
    title = ""
    for line in text.splitlines():
        heading = re.match(r"#{2,3}\s+(.*)", line)
        if heading:
            title = heading.group(1).strip()
        elif title and line.lstrip().startswith("|"):
            found[title] = found.get(title, "") + line.strip() + "\n"
        elif title in found and not found[title].endswith("\n\n"):
            found[title] += "\n"  # tables of one section stay apart
    return found


def _side(column: pd.Series) -> str:
    return ' class="number"' if pd.api.types.is_numeric_dtype(column) else ""


def _number(value: Any, digits: int = 3) -> str:
    """Text of a value; floats to significant digits, without exponent where it reads well.

    Examples
    --------
    >>> _number(1234.56), _number(0.012345), _number(1.5e-7)
    ('1,235', '0.0123', '1.5e-07')
    """
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    if isinstance(value, (int, np.integer)):
        return f"{int(value):,}"
    if isinstance(value, (float, np.floating)):
        value = float(value)
        if math.isnan(value):
            return "–"
        if value != 0 and (abs(value) < 10.0 ** (-digits - 1) or abs(value) >= 1e7):
            return f"{value:.{digits - 1}g}" if digits > 1 else f"{value:.0e}"
        places = max(0, digits - 1 - (math.floor(math.log10(abs(value))) if value else 0))
        return f"{value:,.{places}f}"
    return str(value)
