"""Every notebook runs from its smoke parameters to a report that opens offline."""

from __future__ import annotations

from pathlib import Path

import pytest

from twinlab.report import execute, index
from twinlab.report.page import fetched

ROOT = Path(__file__).resolve().parents[2]
NO_PATIENT = {"09_tube_twin", "10_fleet_maintenance", "12_dose_validation", "13_scanner_validation"}
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.notebook
@pytest.mark.sample
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_runs_and_its_checks_pass(path, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    done = execute(path, ROOT / "params" / path.stem / "smoke.yaml", out_dir=tmp_path, progress=False)
    page = done.report.read_text(encoding="utf-8")
    assert done.headline
    assert fetched(page) == []
    assert page.count("<img ") >= 2
    assert 'alt="figure"' not in page
    assert '<td class="pass">pass</td>' in page
    assert '<td class="fail">' not in page
    assert "Maturity" in page
    if path.stem not in NO_PATIENT:
        assert "LIDC-IDRI" in page  # the credit that the sample's licence asks for
    assert path.stem in index(tmp_path).read_text(encoding="utf-8")
