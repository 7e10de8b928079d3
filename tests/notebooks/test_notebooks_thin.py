"""Notebooks are thin, parameterised and hold no outputs."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest

from twinlab.report.parameters import accept, open_notebook, read_parameters
from twinlab.report.thin import problems
from twinlab.schema import load_yaml

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def test_the_notebooks_are_there():
    names = {path.stem for path in NOTEBOOKS}
    assert {"01_patient_phantom", "02_ct_scan", "03_organ_dose"} <= names


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_is_thin(path):
    assert problems(path) == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_has_its_nine_parts_in_order(path):
    cells = open_notebook(path).cells
    assert cells[0].source.startswith("# ")
    assert "?" in cells[0].source  # a question
    code = [c.source for c in cells if c.cell_type == "code"]
    assert "import" not in code[0]  # the parameters
    assert "import" in code[1]
    words = " ".join(c.source.lower() for c in cells if c.cell_type == "markdown")
    places = [words.rfind(f"## {part}") for part in ("7. checks", "8. limits", "9. provenance")]
    if min(places) < 0:  # headings without numbers
        places = [words.rfind(f"## {part}") for part in ("checks", "limits", "provenance")]
    assert min(places) > 0
    assert places == sorted(places)
    assert "experimental" in words or "pilot" in words or "validated" in words  # maturity is said


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_parameter_sets_fit_the_notebook(path):
    known = read_parameters(path)
    for name in ("smoke", "standard"):
        file = ROOT / "params" / path.stem / f"{name}.yaml"
        accept(known, load_yaml(file), where=str(file))


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("def f():\n    return 1", "defines f"),
        ("for kv in [80, 120]:\n    print(kv)", "loops"),
        ("import os", "path surgery"),
        ("from pathlib import Path", "path surgery"),
        ("\n".join(f"a{i} = {i}" for i in range(16)), "16 lines"),
        ("a = (", "not plain Python"),
    ],
)
def test_the_rules_bite(source, words):
    new = nbformat.v4
    parameters = new.new_code_cell("kv = 1  # tube voltage [kV]", metadata={"tags": ["parameters"]})
    assert problems(new.new_notebook(cells=[parameters])) == []
    nb = new.new_notebook(cells=[parameters, new.new_code_cell(source)])
    assert any(words in problem for problem in problems(nb))


def test_outputs_and_unexplained_parameters_are_seen():
    new = nbformat.v4
    cell = new.new_code_cell("kv = 1", metadata={"tags": ["parameters"]})
    cell.outputs = [new.new_output("stream", text="hello")]
    found = problems(new.new_notebook(cells=[cell]))
    assert any("holds outputs" in p for p in found)
    assert any("without `# meaning" in p for p in found)
    many = [cell, *(new.new_code_cell("\n".join(f"a{i} = 1" for i in range(14))) for _ in range(6))]
    assert any("85 code lines" in p for p in problems(new.new_notebook(cells=many)))
