"""AAPM Report 195, cases 2 and 4, against the published results of four codes."""

from __future__ import annotations

import csv
import math
import os
from pathlib import Path

import numpy as np
import pytest

from twinlab.dose import tg195

SPECTRA = ("56.4 keV", "120 kVp")


def _folder() -> Path:
    root = Path(os.environ.get("TWINLAB_REFERENCE", Path(__file__).parents[3] / "shared" / "reference"))
    folder = root / "tg195"
    if not folder.is_dir():
        pytest.skip("the published tables of AAPM Report 195 are not here (set TWINLAB_REFERENCE)")
    return folder


def _spectrum(name: str) -> tg195.Spectrum:
    if name == "56.4 keV":
        return tg195.Spectrum.mono(56.4)
    data = np.loadtxt(_folder() / "spectrum_W_Al_120kVp_RQR9.csv", delimiter=",", skiprows=1)
    return tg195.Spectrum(data[:, 0], data[:, 1], 0.5)


def _rows(name: str, spectrum: str, mode: str) -> dict[str, dict[str, str]]:
    with (_folder() / name).open(encoding="utf-8") as stream:
        rows = [r for r in csv.DictReader(stream) if r["spectrum"] == spectrum and r["mode"] == mode]
    assert rows, (name, spectrum, mode)
    return {r["volume"]: r for r in rows}


def _misses(scores: tg195.Scores, rows: dict[str, dict[str, str]]) -> list[str]:
    """Volumes off by more than 2 % and by more than 3 sigma (ours and the codes' spread combined)."""
    bad = []
    for name, value, sd in zip(scores.name, scores.ev_per_history, scores.sd, strict=True):
        if name not in rows:
            continue
        mean, low, high = (float(rows[name][k]) for k in ("mean_of_codes", "min", "max"))
        # four codes: their range is about twice their sd
        sigma = math.hypot(sd, (high - low) / 2)
        if abs(value / mean - 1) > 0.02 and abs(value - mean) > 3 * sigma:
            bad.append(f"{name}: {value:.4g} +- {sd:.2g} for {mean:.4g}")
    return bad


def _case_2(spectrum: str, mode: str, histories: int) -> list[str]:
    scores = tg195.case_2(_spectrum(spectrum), tomosynthesis=mode == "tomosynthesis", histories=histories)
    rows = _rows("case2.csv", spectrum, mode)
    assert len(set(scores.name) & set(rows)) == 10
    body = scores.ev_per_history[0] / float(rows["Total body"]["mean_of_codes"]) - 1
    # the whole body is scored to 0.1 %, and the codes agree within 0.3 %: leaving the air out gives +3.3 %
    assert abs(body) < 0.005
    return _misses(scores, rows)


def _case_4_1(spectrum: str, collimation: int, histories: int) -> list[str]:
    scores = tg195.case_4_1(_spectrum(spectrum), collimation_mm=collimation, histories=histories)
    rows = _rows("case4_1.csv", spectrum, f"{collimation}mm collimation")
    assert set(scores.name) == set(rows)
    return _misses(scores, rows)


def _case_4_2(spectrum: str, collimation: int, histories: int) -> tuple[list[str], float, float]:
    scores = tg195.case_4_2(_spectrum(spectrum), collimation_mm=collimation, histories=histories)
    edge = _rows("case4_2.csv", spectrum, f"Pherifery {collimation}mm collimation")
    centre = _rows("case4_2.csv", spectrum, f"Center {collimation}mm collimation")
    values = {
        k: float(np.mean([float(r[k]) for r in centre.values()])) for k in ("mean_of_codes", "min", "max")
    }
    rows = {**edge, "Center": {k: str(v) for k, v in values.items()}}
    assert len(set(scores.name) & set(rows)) == 37
    ratio = float(scores.ev_per_history[0] / scores.ev_per_history[1:].mean())
    # the centre's sd dominates that of the mean over 36 rods
    return _misses(scores, rows), ratio, ratio * float(scores.sd[0] / scores.ev_per_history[0])


@pytest.mark.parametrize("spectrum", SPECTRA)
@pytest.mark.parametrize("mode", ["radiography", "tomosynthesis"])
def test_case_2_quick(spectrum, mode):
    assert _case_2(spectrum, mode, 500_000) == []


@pytest.mark.parametrize("spectrum", SPECTRA)
@pytest.mark.parametrize("collimation", [10, 80])
def test_case_4_1_quick(spectrum, collimation):
    assert _case_4_1(spectrum, collimation, 500_000) == []


# centre over periphery of the published codes
RATIO = {("56.4 keV", 10): 0.3445, ("120 kVp", 10): 0.2863, ("56.4 keV", 80): 0.3360, ("120 kVp", 80): 0.2784}


@pytest.mark.parametrize("spectrum", SPECTRA)
@pytest.mark.parametrize("collimation", [10, 80])
def test_case_4_2_quick(spectrum, collimation):
    """Centre over periphery, and at most one of 37 rods beyond 3 sigma, as chance allows: 0.1 a run."""
    misses, ratio, sd = _case_4_2(spectrum, collimation, 1_000_000)
    assert len(misses) <= 1, misses
    assert abs(ratio - RATIO[spectrum, collimation]) < 3 * sd + 0.02 * ratio


@pytest.mark.slow
@pytest.mark.parametrize("spectrum", SPECTRA)
def test_full(spectrum):
    for mode in ("radiography", "tomosynthesis"):
        assert _case_2(spectrum, mode, 20_000_000) == []
    for collimation in (10, 80):
        assert _case_4_1(spectrum, collimation, 20_000_000) == []
        # rods in the shadow get few photons: at 2e7 histories one of 148 was off by chance, at 1e8 none
        misses, ratio, sd = _case_4_2(spectrum, collimation, 100_000_000)
        assert misses == []
        assert abs(ratio - RATIO[spectrum, collimation]) < 3 * sd + 0.005 * ratio
