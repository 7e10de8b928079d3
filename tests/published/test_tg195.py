"""AAPM Report 195, cases 1, 2 and 4, against the published results of four codes."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from twinlab.dose import tg195, tg195_table
from twinlab.schema import InputError

QUICK = {"1": 150_000, "2": 250_000, "4.1": 200_000, "4.2": 250_000}
# centre over periphery of the published codes
RATIO = {("56.4 keV", 10): 0.3445, ("120 kVp", 10): 0.2863, ("56.4 keV", 80): 0.3360, ("120 kVp", 80): 0.2784}


@pytest.fixture(scope="module")
def folder() -> Path:
    beside = Path(__file__).parents[3] / "shared" / "reference"
    root = Path(os.environ.get(tg195_table.FOLDER_VARIABLE, beside))
    if not (root / "tg195").is_dir():
        pytest.skip("the published tables of AAPM Report 195 are not here (set TWINLAB_REFERENCE)")
    return root


@pytest.fixture(scope="module")
def quick(folder):
    return tg195_table.compare(histories=QUICK, folder=folder)


def test_every_volume_quick(quick):
    """All rows within the codes' band and 4 sd: with 212 rows that far out by chance once in 80 runs."""
    assert quick.sizes["row"] == 8 + 40 + 16 + 148
    worst = quick.isel(row=int(np.argmax(quick["excess"].to_numpy())))
    assert float(worst["excess"]) < 4, worst


def test_figures_quick(quick):
    """The figures of the long run, with three sd of this one added."""
    relative = (quick["sd"] / quick["value"]).to_numpy()
    off = np.abs(quick["difference"].to_numpy())
    first = quick["case"].to_numpy() == "1"
    assert (off[first] < 0.005 + 3 * relative[first]).all()
    body = quick["volume"].to_numpy() == "Total body"
    # leaving out the air between source and body gives +3.3 %
    assert (off[body] < 0.002 + 3 * relative[body]).all()
    assert body.sum() == 4


def test_centre_over_periphery(quick):
    rods = quick.isel(row=quick["case"].to_numpy() == "4.2")
    for (beam, width), want in RATIO.items():
        here = (rods["spectrum"] == beam) & (rods["mode"] == f"{width} mm")
        run = rods.isel(row=here.to_numpy())
        value, sd = run["value"].to_numpy(), run["sd"].to_numpy()
        ratio = value[0] / value[1:].mean()
        # the centre's sd dominates that of the mean over 36 rods
        assert abs(ratio - want) < 3 * ratio * sd[0] / value[0] + 0.005 * want


@pytest.mark.parametrize("width", [10, 80])
def test_track_length_and_energy_deposited_agree(width):
    """Two estimators of the same energy, from different seeds."""
    options = {"collimation_mm": width, "histories": 400_000}
    beam = tg195.Spectrum.mono()
    for case in (tg195.case_4_1, tg195.case_4_2):
        a, b = case(beam, seed=3, **options), case(beam, seed=4, track_length=False, **options)
        deviation = (a.ev_per_history - b.ev_per_history) / np.hypot(a.sd, b.sd)
        # where almost no history deposits, its sd means little
        seen = b.sd < 0.2 * b.ev_per_history
        assert np.abs(deviation[seen]).max() < 3.5
        assert (a.sd[seen] < b.sd[seen]).all()


def test_table_and_its_command(quick, folder, capsys, monkeypatch):
    printed = tg195_table.text(quick).splitlines()
    assert len(printed) == 2 + quick.sizes["row"]
    assert printed[2].startswith("| 1, 30 keV | HVL | ")
    monkeypatch.setenv(tg195_table.FOLDER_VARIABLE, str(folder))
    monkeypatch.setattr("sys.argv", ["tg195_table", "--cases", "1", "--scale", "0.002"])
    tg195_table.main()
    assert "largest_case_1" in capsys.readouterr().out


def test_wrong_inputs(folder, tmp_path, monkeypatch):
    with pytest.raises(InputError, match="TWINLAB_REFERENCE"):
        tg195_table.compare(folder=tmp_path)
    monkeypatch.delenv(tg195_table.FOLDER_VARIABLE, raising=False)
    with pytest.raises(InputError, match="TWINLAB_REFERENCE"):
        tg195_table.compare()
    with pytest.raises(InputError, match="cases"):
        tg195_table.compare(cases=("3",), folder=folder)


@pytest.mark.slow
@pytest.mark.parametrize("doppler", [False, True], ids=["at rest", "bound"])
def test_full(folder, doppler):
    """2e7 histories a run: the figures asked for."""
    figures = tg195_table.summary(tg195_table.compare(folder=folder, doppler=doppler))
    assert figures["largest_case_1"] < 0.005
    assert figures["largest_body"] < 0.002
    assert figures["rms_good"] < 0.004
    assert figures["rows_good"] >= 80
    if doppler:  # as many rows beyond as chance puts there, if our true values are the means of the codes
        chance = figures["beyond_by_chance"]
        assert figures["beyond_2_sd"] < chance + 3.0 * np.sqrt(chance)
        assert figures["largest_excess"] < 3.5
    else:  # two discs of case 4.1 are beyond (docs/methods/dose.md), and one or two rows by chance
        assert figures["beyond_2_sd"] <= 4
        assert figures["largest_excess"] < 4
