"""A run stands whole or not at all, under a key of all that decides it."""

from __future__ import annotations

import json
import time

import nbformat
import pytest

from twinlab.report import execution
from twinlab.report.execution import NotebookError, execute
from twinlab.schema import InputError

pytestmark = pytest.mark.notebook


def test_a_run_leaves_notebook_report_and_provenance(toy_run, toy):
    assert toy_run.fresh
    assert toy_run.headline == "At 110 kV the <toy> answers."
    names = {p.name for p in toy_run.folder.iterdir()}
    assert {"executed.ipynb", "report.html", "provenance.json", "headline.txt"} <= names
    record = toy_run.provenance
    assert record["notebook"] == toy.name
    assert record["parameters"]["kv"] == 110.0
    assert record["parameters"]["histories"] == 1000
    assert record["seeds"] == {"task_seed": 3}
    assert record["notes"]["credits"] == ["A toy, CC0"]
    assert record["versions"]["numpy"]
    assert record["seconds"] > 0


def test_the_same_content_is_not_run_again(toy_run, toy, outputs, tmp_path):
    params = tmp_path / "other_name.yaml"
    start = time.monotonic()
    again = execute(toy, overrides={"kv": 110}, out_dir=outputs, progress=False)
    # Reading and hashing only; a kernel alone takes longer to start.
    assert time.monotonic() - start < 1.0
    assert not again.fresh
    assert again.folder == toy_run.folder
    params.write_text("kv: 110\n")
    assert execution._parameters(nbformat.read(toy, 4), toy, params, {})["kv"] == 110.0


def test_a_lost_report_is_rendered_without_running(toy_run, toy, outputs):
    before = toy_run.executed.stat().st_mtime_ns
    toy_run.report.unlink()
    assert not execute(toy, overrides={"kv": 110.0}, out_dir=outputs, progress=False).fresh
    assert toy_run.report.is_file()
    assert toy_run.executed.stat().st_mtime_ns == before


def test_changed_input_files_change_the_key(tmp_path):
    data = tmp_path / "ct" / "a.bin"
    data.parent.mkdir()
    data.write_bytes(b"1")
    first = execution._input_files({"folder": str(data.parent), "text": "kv"})
    data.write_bytes(b"2")
    second = execution._input_files({"folder": str(data.parent), "text": "kv"})
    assert list(first) == ["folder"]
    assert first != second


def test_a_failure_is_one_line_and_keeps_what_ran(toy, tmp_path, capsys):
    with pytest.raises(NotebookError) as caught:
        execute(toy, overrides={"fail": True}, out_dir=tmp_path)
    line = str(caught.value)
    assert "\n" not in line
    assert "00_toy.ipynb, cell 5 (Checks): toy: expected no failure; got one" in line
    (kept,) = tmp_path.glob("00_toy/*.failed/executed.ipynb")
    assert str(kept) in line
    cells = [c for c in nbformat.read(kept, 4).cells if c.cell_type == "code"]
    assert any("image/png" in o.get("data", {}) for c in cells for o in c.outputs)
    assert not list(tmp_path.glob("00_toy/*/report.html"))
    shown = capsys.readouterr().err
    assert "cell 3 of" in shown
    assert "cases:  50%" in shown  # the kernel's own bar passes through


def test_wrong_parameters_start_nothing(toy, tmp_path, monkeypatch):
    monkeypatch.setattr(execution, "_execute", lambda *_: pytest.fail("a kernel would have started"))
    params = tmp_path / "p.yaml"
    params.write_text("kilovolt: 3\n")
    with pytest.raises(InputError, match=r"p\.yaml.*kilovolt"):
        execute(toy, params, out_dir=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_remains_of_killed_runs_are_swept(tmp_path):
    folder = tmp_path / "nb" / "default-0"
    dead = folder.with_name("default-0.running-999999999")
    dead.mkdir(parents=True)
    execution._sweep_remains(folder)
    assert not dead.exists()


def test_a_killed_kernel_is_told_as_such(tmp_path):
    source = "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)"
    new = nbformat.v4
    nb = new.new_notebook(
        cells=[
            new.new_code_cell("a = 1  # one", metadata={"tags": ["parameters"]}),
            new.new_code_cell(source),
        ]
    )
    path = tmp_path / "killed.ipynb"
    nbformat.write(nb, path)
    with pytest.raises(NotebookError, match="kernel was killed"):
        execute(path, out_dir=tmp_path / "out", progress=False)


def test_the_kernel_is_this_interpreter_whatever_is_installed(toy_run):
    record = json.loads((toy_run.folder / "provenance.json").read_text())
    executed = nbformat.read(toy_run.executed, 4)
    assert executed.metadata.language_info.version == record["versions"]["python"]
