"""Checks fail the notebook, tables read well, notes land in the run's folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from twinlab.report import notes
from twinlab.report.record import collect, machine
from twinlab.schema import InputError


@pytest.fixture(autouse=True)
def _run_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("TWINLAB_RUN_FOLDER", str(tmp_path))


def test_a_failed_check_stops_with_what_was_expected(capsys):
    good = notes.check("water", 0.5, expected=0, within=2, unit="HU")
    bad = notes.check("cupping", 4.2, at_most=3, unit="HU")
    notes.checks(good)
    with pytest.raises(notes.CheckFailed, match=r"^cupping: expected at most 3\.00 HU; got 4\.20 HU$"):
        notes.checks(good, bad)


def test_nan_never_passes():
    assert not notes.check("n", float("nan"), at_least=0).passed
    assert not notes.check("n", float("nan"), at_most=0).passed


@pytest.mark.parametrize("band", [{}, {"expected": 1.0}, {"within": 1.0}])
def test_a_check_needs_a_band(band):
    with pytest.raises(InputError, match="check"):
        notes.check("n", 1.0, **band)


def test_headline_and_provenance_land_in_the_run_folder(tmp_path, capsys):
    notes.headline("One\n  line.")
    notes.provenance(credits=["CC BY 3.0"])
    assert (tmp_path / "headline.txt").read_text() == "One line.\n"
    assert json.loads((tmp_path / "notes.json").read_text())["credits"] == ["CC BY 3.0"]


def test_evidence_reads_the_tables_of_the_named_engines():
    text = "# Validation\n\n## Dose\nwords\n\n| case | ours |\n|---|---|\n| TG-195 | 1.0 |\n\n## CT\n| a |\n"
    sections = notes._sections(text)
    assert list(sections) == ["Dose", "CT"]
    assert "TG-195" in sections["Dose"]
    assert "words" not in sections["Dose"]


def test_tables_of_one_section_stay_apart():
    text = "## Dose\n\n| case | x | y |\n|---|---|---|\n| 1 | 2 | 3 |\n\nwords\n\n| a | b |\n|---|---|\n| c | d |\n"
    first, second = notes._sections(text)["Dose"].strip().split("\n\n")
    assert first.endswith("| 1 | 2 | 3 |")
    assert second.startswith("| a | b |")


def test_provenance_names_no_person_and_no_host():
    record = json.dumps(collect(key="k", parameters={"seed": 1, "reseeded": 2}, started=0.0, seconds=1.0))
    assert set(machine()) == {"processor", "cores", "memory_gib", "system", "architecture", "python"}
    assert str(Path.home()) not in record
    assert json.loads(record)["seeds"] == {"seed": 1}
    assert machine()["cores"] >= 1
