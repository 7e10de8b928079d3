"""Parameters are checked before anything runs."""

from __future__ import annotations

import nbformat
import pytest

from twinlab.report.parameters import accept, open_notebook, parse_override, read_parameters
from twinlab.schema import InputError


def notebook(source: str) -> nbformat.NotebookNode:
    cell = nbformat.v4.new_code_cell(source, metadata={"tags": ["parameters"]})
    return nbformat.v4.new_notebook(cells=[cell])


def test_reads_defaults_types_and_meanings(toy):
    found = read_parameters(toy)
    assert list(found) == ["kv", "histories", "task_seed", "sizes_mm", "label", "data_file", "fail"]
    assert found["kv"].default == 120.0
    assert found["kv"].meaning == "tube voltage [kV]"
    assert found["label"].types == ("str", "None")


def test_unknown_name_is_refused_with_the_known_ones(toy):
    with pytest.raises(InputError, match=r"kv, histories.*got 'kvv' \(did you mean 'kv'\?\)"):
        accept(read_parameters(toy), {"kvv": 100}, where="here")


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ({"kv": 100}, 100.0),
        ({"histories": 1e6}, 1_000_000),
        ({"sizes_mm": [1, 2]}, [1.0, 2.0]),
        ({"label": None}, None),
        ({"label": "a"}, "a"),
        ({"fail": True}, True),
    ],
)
def test_numbers_take_the_type_of_the_default(toy, given, taken):
    name = next(iter(given))
    value = accept(read_parameters(toy), given, where="here")[name]
    assert value == taken
    assert type(value) is type(taken)


@pytest.mark.parametrize(
    "given",
    [
        {"kv": "fast"},
        {"kv": True},
        {"histories": 10.5},
        {"fail": 1},
        {"sizes_mm": 3},
        {"sizes_mm": ["a"]},
        {"label": 3},
    ],
)
def test_other_types_are_refused(toy, given):
    with pytest.raises(InputError, match="expected"):
        accept(read_parameters(toy), given, where="here")


@pytest.mark.parametrize("source", ["kv = 3 * 40", "kv = now()", "import os", "kv =", "for i in []: pass"])
def test_only_literals_are_parameters(source):
    with pytest.raises(InputError, match="parameters cell"):
        read_parameters(notebook(source))


def test_a_notebook_needs_one_parameters_cell():
    with pytest.raises(InputError, match="one code cell tagged 'parameters'"):
        read_parameters(nbformat.v4.new_notebook())


def test_no_file_and_no_notebook_are_said(tmp_path):
    with pytest.raises(InputError, match="no file"):
        open_notebook(tmp_path / "none.ipynb")
    (tmp_path / "bad.ipynb").write_text("not json")
    with pytest.raises(InputError, match="a Jupyter notebook"):
        open_notebook(tmp_path / "bad.ipynb")


@pytest.mark.parametrize("text", ["kv", "=3", "kv-x=3", "kv=[1"])
def test_overrides_need_a_name_and_a_value(text):
    with pytest.raises(InputError):
        parse_override(text)
