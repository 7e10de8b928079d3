"""Table of our results of AAPM Report 195 against those of four codes: ``python -m twinlab.dose.tg195_table``.

The published tables are not part of the package: they are read from the folder ``tg195`` in that of the environment
variable ``TWINLAB_REFERENCE``.
"""

from __future__ import annotations

import argparse
import csv
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from scipy.special import ndtr

from twinlab.dose import tg195
from twinlab.schema import refuse

FOLDER_VARIABLE = "TWINLAB_REFERENCE"
CASES = ("1", "2", "4.1", "4.2")
HISTORIES = {"1": 4_000_000, "2": 20_000_000, "4.1": 20_000_000, "4.2": 20_000_000}
SPECTRA = {"56.4 keV": None, "120 kVp": "spectrum_W_Al_120kVp_RQR9.csv"}
_CASE_1 = {
    "30 keV": None,
    "100 keV": None,
    "30 kVp": "spectrum_Mo_Mo_30kVp_RQRM3.csv",
    "100 kVp": "spectrum_W_Al_100kVp_RQR8.csv",
}
_CODES = ("EGSnrc", "Geant4", "MCNP", "PENELOPE")
_GOOD = 0.003  # relative sd below which a row counts in the rms


def reference_folder(folder: str | Path | None = None) -> Path:
    """Folder of the published tables.

    Raises
    ------
    InputError
        No folder given and none in ``TWINLAB_REFERENCE``, or no tables in it.
    """
    root = folder or os.environ.get(FOLDER_VARIABLE)
    if not root or not (Path(root) / "tg195").is_dir():
        refuse(FOLDER_VARIABLE, "a folder with the published tables in tg195/", root)
    return Path(root) / "tg195"


def spectrum(name: str, file: str | None, folder: Path) -> tg195.Spectrum:
    """Spectrum by name: one energy, or bins of half a keV from a file."""
    if file is None:
        return tg195.Spectrum.mono(float(name.split()[0]))
    data = np.loadtxt(folder / file, delimiter=",", skiprows=1)
    return tg195.Spectrum(data[:, 0], data[:, 1], 0.5)


def _published(folder: Path, file: str, beam: str, mode: str) -> dict[str, np.ndarray]:
    """Values of the four codes and their sd by volume, (2, code); rows that a code lacks are left out."""
    found = {}
    with (folder / file).open(encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            if (row["spectrum"], row["mode"]) == (beam, mode) and all(row[code] for code in _CODES):
                values = np.array([float(row[code]) for code in _CODES])
                spread = np.array([float(row[f"{code}_relunc"] or 0.0) for code in _CODES])
                found[row["volume"]] = np.stack([values, values * spread])
    return found


def _centre(rows: dict[str, np.ndarray]) -> np.ndarray:
    """The 36 projections of the central rod see the same: their mean by code."""
    both = np.stack(list(rows.values()))
    return np.stack([both[:, 0].mean(axis=0), np.sqrt((both[:, 1] ** 2).sum(axis=0)) / len(both)])


def _band(codes: np.ndarray) -> dict[str, float]:
    """Mean, least and largest of the codes, and the statistics of the two at the ends."""
    value, sd = codes
    low, high = int(value.argmin()), int(value.argmax())
    names = ("mean", "low", "high", "low_sd", "high_sd")
    return dict(
        zip(names, map(float, (value.mean(), value[low], value[high], sd[low], sd[high])), strict=True)
    )


def _case_1(folder: Path, histories: int, seed: int, doppler: bool) -> Iterator[tuple]:
    for beam, file in _CASE_1.items():
        rows = _published(folder, "case1.csv", beam, "monoenergetic" if file is None else "polyenergetic")
        for name, thickness in zip(("HVL", "QVL"), tg195.HVL_QVL_MM[beam], strict=True):
            photons = spectrum(beam, file, folder)
            ratio, sd = tg195.case_1(photons, thickness, histories=histories, seed=seed, doppler=doppler)
            yield "1", beam, "", name, ratio, sd, rows[name]


def _runs(case: str, folder: Path, histories: int, seed: int, doppler: bool) -> Iterator[tuple]:
    """Rows (case, spectrum, mode, volume, value, sd, published) of a case."""
    if case == "1":
        yield from _case_1(folder, histories, seed, doppler)
        return
    given: dict[str, Any] = {"histories": histories, "seed": seed, "doppler": doppler}
    for beam, file in SPECTRA.items():
        photons = spectrum(beam, file, folder)
        modes: tuple = ("radiography", "tomosynthesis") if case == "2" else (10, 80)
        for mode in modes:
            if case == "2":
                scores = tg195.case_2(photons, tomosynthesis=mode == "tomosynthesis", **given)
                rows = _published(folder, "case2.csv", beam, mode)
            elif case == "4.1":
                scores = tg195.case_4_1(photons, collimation_mm=mode, **given)
                rows = _published(folder, "case4_1.csv", beam, f"{mode}mm collimation")
            else:
                scores = tg195.case_4_2(photons, collimation_mm=mode, **given)
                rows = _published(folder, "case4_2.csv", beam, f"Pherifery {mode}mm collimation")
                rows["Center"] = _centre(
                    _published(folder, "case4_2.csv", beam, f"Center {mode}mm collimation")
                )
            label = mode if case == "2" else f"{mode} mm"
            for name, value, sd in zip(scores.name, scores.ev_per_history, scores.sd, strict=True):
                yield case, beam, label, name, float(value), float(sd), rows[name]


def compare(
    *,
    cases: tuple[str, ...] = CASES,
    histories: dict[str, int] | None = None,
    seed: int = 1,
    doppler: bool = False,
    folder: str | Path | None = None,
    progress: Callable[[str], object] | None = None,
) -> xr.Dataset:
    """Our results of the report's cases beside the published ones.

    Parameters
    ----------
    cases : tuple of str
        Of ``"1"``, ``"2"``, ``"4.1"`` and ``"4.2"``.
    histories : dict, optional
        Per run of a case; by default 2e7 (4e6 in case 1).
    seed : int
    doppler : bool
        Scatter at bound electrons that move (impulse approximation: cross section, angles and energies), as EGSnrc
        and PENELOPE do, instead of with S(x, Z) at electrons at rest.
    folder : path, optional
        That holds ``tg195/``; by default ``TWINLAB_REFERENCE``.
    progress : callable, optional
        Called with a case's name before it is run.

    Returns
    -------
    Dataset, dims (row)
        ``value`` and ``sd`` (eV per history; ratios in case 1), ``mean``, ``low`` and ``high`` of the four codes,
        ``low_sd`` and ``high_sd`` of the codes at the ends, ``difference`` from the mean (relative), ``excess``:
        by how many sd (ours and that of the code at the end, joined) the value lies outside the band, 0 inside.
        Coordinates ``case``, ``spectrum``, ``mode``, ``volume``.

    Raises
    ------
    InputError
        No published tables, or an unknown case.

    References
    ----------
    Sechopoulos I et al. (2015) Med Phys 42:5679 (AAPM Report 195).
    """
    unknown = [case for case in cases if case not in CASES]
    if unknown:
        refuse("tg195_table.compare: cases", f"some of {CASES}", unknown)
    where = reference_folder(folder)
    rows: list[tuple] = []
    for case in cases:
        if progress is not None:
            progress(f"case {case}")
        rows.extend(_runs(case, where, {**HISTORIES, **(histories or {})}[case], seed, doppler))
    text = {
        name: ("row", [row[k] for row in rows])
        for k, name in enumerate(("case", "spectrum", "mode", "volume"))
    }
    out = xr.Dataset(
        {"value": ("row", [row[4] for row in rows]), "sd": ("row", [row[5] for row in rows])}, coords=text
    )
    bands = [_band(row[6]) for row in rows]
    for name in ("mean", "low", "high", "low_sd", "high_sd"):
        out[name] = ("row", [band[name] for band in bands])
    out["difference"] = out["value"] / out["mean"] - 1
    under = (out["low"] - out["value"]) / np.hypot(out["sd"], out["low_sd"])
    over = (out["value"] - out["high"]) / np.hypot(out["sd"], out["high_sd"])
    out["excess"] = np.maximum(np.maximum(under, over), 0.0)
    return out


def summary(table: xr.Dataset) -> dict[str, float]:
    """Figures of merit of :func:`compare`.

    Returns
    -------
    dict
        ``rows``; ``largest_case_1`` (relative, HVL and QVL); ``largest_body`` (relative, whole body of case 2);
        ``beyond_2_sd`` and ``largest_excess`` (rows outside the codes' band by more than 2 sd, and by how many
        at most); ``beyond_by_chance`` (how many rows to expect there if our true values are the means of the codes);
        ``rms_good`` and ``rows_good`` (cases 2 and 4 where the sd is below 0.3 %).
    """
    case, volume = table["case"].to_numpy(), table["volume"].to_numpy()
    difference = np.abs(table["difference"].to_numpy())
    excess = table["excess"].to_numpy()
    good = (table["sd"] / table["value"]).to_numpy() < _GOOD
    good &= case != "1"
    nothing = np.zeros(1)
    rms = math.sqrt(np.mean(difference[good] ** 2)) if good.any() else math.nan
    return {
        "rows": len(case),
        "largest_case_1": float(np.append(difference[case == "1"], nothing).max()),
        "largest_body": float(np.append(difference[volume == "Total body"], nothing).max()),
        "beyond_2_sd": int((excess > 2).sum()),
        "largest_excess": float(np.append(excess, nothing).max()),
        "beyond_by_chance": _by_chance(table),
        "rms_good": rms,
        "rows_good": int(good.sum()),
    }


def _by_chance(table: xr.Dataset) -> float:
    """Rows expected more than 2 sd outside the band if our true values are the means of the codes."""
    mean = table["mean"].to_numpy()
    expected = 0.0
    for end in ("low", "high"):
        sd = np.hypot(table["sd"].to_numpy(), table[f"{end}_sd"].to_numpy())
        expected += ndtr(-2.0 - np.abs(mean - table[end].to_numpy()) / sd).sum()
    return float(expected)


def text(table: xr.Dataset) -> str:
    """The table as Markdown."""
    lines = [
        "| case | volume | ours (sd) | mean of four codes (range) | difference | beyond the band |",
        "|---|---|---|---|---|---|",
    ]
    for k in range(table.sizes["row"]):
        row = table.isel(row=k)
        value, mean = float(row["value"]), float(row["mean"])
        low, high = 100 * (float(row["low"]) / mean - 1), 100 * (float(row["high"]) / mean - 1)
        name = ", ".join(str(row[c].item()) for c in ("case", "spectrum", "mode") if str(row[c].item()))
        lines.append(
            f"| {name} | {row['volume'].item()} | {value:.5g} ({100 * float(row['sd']) / value:.2f} %) | "
            f"{mean:.5g} ({low:+.2f} to {high:+.2f} %) | {100 * float(row['difference']):+.2f} % | "
            f"{float(row['excess']):.1f} sd |"
        )
    return "\n".join(lines)


def main() -> None:
    """Print table and figures of merit."""
    parser = argparse.ArgumentParser(description="AAPM Report 195: our results against four codes")
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=CASES)
    parser.add_argument("--scale", type=float, default=1.0, help="times the default number of histories")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--doppler", action="store_true", help="bound, moving electrons (impulse approximation)"
    )
    parser.add_argument("--save", help="netCDF file for the table")
    given = parser.parse_args()
    histories = {case: max(1000, int(n * given.scale)) for case, n in HISTORIES.items()}
    table = compare(cases=tuple(given.cases), histories=histories, seed=given.seed, doppler=given.doppler)
    if given.save:
        table.to_netcdf(given.save, engine="h5netcdf")
    print(text(table))
    for name, value in summary(table).items():
        print(f"{name}: {value:.6g}")


if __name__ == "__main__":
    main()
