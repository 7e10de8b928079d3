"""AAPM Report 195 in a report: the table where the published results are at hand, in words and as checks."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import xarray as xr

from twinlab.dose import tg195_table
from twinlab.report.notes import Check, check
from twinlab.schema import InputError


def compare(
    *, cases: Sequence[str], scale: float, seed: int = 1, progress: Callable[[int], object] | None = None
) -> xr.Dataset | None:
    """Rows of :func:`twinlab.dose.tg195_table.compare`, or none where the published tables are not at hand.

    Parameters
    ----------
    cases : sequence of str
        Of "1", "2", "4.1" and "4.2".
    scale : float
        Times the histories of the full table.
    seed, progress
        ``progress`` is called with 1 before each case.
    """
    try:
        tg195_table.reference_folder()
    except InputError:
        return None
    histories = {case: max(1000, int(n * scale)) for case, n in tg195_table.HISTORIES.items()}
    told = None if progress is None else (lambda _: progress(1))
    return tg195_table.compare(cases=tuple(cases), histories=histories, seed=seed, progress=told)


def photons(*, cases: Sequence[str], scale: float) -> int:
    """Photons that :func:`compare` follows; none without the published tables."""
    try:
        tg195_table.reference_folder()
    except InputError:
        return 0
    return sum((8 if case == "1" else 4) * int(tg195_table.HISTORIES[case] * scale) for case in cases)


def words(table: xr.Dataset | None) -> str:
    """What :func:`compare` found, or what was left out."""
    if table is None:
        return (
            f"AAPM Report 195 is left out: no published tables here ({tg195_table.FOLDER_VARIABLE} names their "
            "folder). The other checks need none."
        )
    found = tg195_table.summary(table)
    return (
        f"AAPM Report 195: {found['rows']} volumes and layers; {found['beyond_2_sd']} lie outside the band of the four "
        f"codes by more than 2 sd, none by more than {found['largest_excess']:.1f}; whole body within "
        f"{100 * found['largest_body']:.2f} % of the codes' mean; rms {100 * found['rms_good']:.2f} % over the "
        f"{found['rows_good']} rows whose statistics are below 0.3 %."
    )


def allowed(table: xr.Dataset | None) -> list[Check]:
    """Comparisons for :func:`twinlab.report.checks`; none without a table."""
    if table is None:
        return []
    found = tg195_table.summary(table)
    made = [
        check(
            "TG-195, largest distance from the codes' band",
            found["largest_excess"],
            at_most=4.0,
            unit="sd",
            why="of 200 rows one is so far out by chance in 80 runs",
        )
    ]
    relative = (table["sd"] / table["value"]).to_numpy()
    bounds = {
        "whole body": (table["volume"].to_numpy() == "Total body", 0.002, "spread of the codes"),
        "half- and quarter-value layers": (table["case"].to_numpy() == "1", 0.005, "as asked of the engine"),
    }
    for name, (rows, bound, why) in bounds.items():
        if rows.any():
            off = np.abs(table["difference"].to_numpy()[rows])
            spread = 3 * relative[rows]
            k = int(np.argmax(off - spread))
            made.append(
                check(
                    f"TG-195, {name}",
                    off[k],
                    at_most=bound + spread[k],
                    why=f"{100 * bound:g} % + 3 sd: {why}",
                )
            )
    return made
