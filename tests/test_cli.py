"""The command line: quick help, one line for each error, honest exit status."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from twinlab import cli
from twinlab.report.execution import NotebookError
from twinlab.schema import InputError

ROOT = Path(__file__).resolve().parent.parent
COMMANDS = ("sample", "phantom", "run", "export", "sweep", "status", "report")


def call(*arguments: str) -> int:
    """Exit status of a command run in this process."""
    cli._debug = False
    return cli._run(list(arguments))


def test_help_answers_at_once_and_names_every_command():
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "twinlab.cli", "--help"], cwd=ROOT, capture_output=True, text=True
    )
    # 0.2 s on a quiet machine; a second would mean that an engine is imported.
    assert time.monotonic() - start < 1.0
    assert done.returncode == 0
    assert all(f"\n  {name}" in done.stdout for name in COMMANDS)


def test_help_imports_no_engine():
    probe = "import sys; from twinlab import cli; cli._run(['--help']); print(sorted(sys.modules))"
    loaded = subprocess.run(
        [sys.executable, "-c", probe], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert not [
        name for name in ("numpy", "xarray", "numba", "matplotlib", "papermill") if f"'{name}'" in loaded
    ]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command, capsys):
    assert call(command, "--help") == 0
    shown = capsys.readouterr().out
    assert f"Usage: twinlab {command}" in shown
    assert len(shown.splitlines()) > 6


def test_no_command_shows_the_help(capsys):
    assert call() == 0
    assert "Commands:" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["rum"], "No such command 'rum'"),
        (["run"], "notebook"),
        (["run", "none.ipynb"], "no file none.ipynb"),
        (["run", "notebooks/01_patient_phantom.ipynb", "--params", "none.yaml"], "no file none.yaml"),
        (["run", "notebooks/01_patient_phantom.ipynb", "-p", "kv"], "expected name=value"),
        (["run", "notebooks/01_patient_phantom.ipynb", "-p", "kilovolt=3"], "got 'kilovolt'"),
        (["run", "notebooks/03_organ_dose.ipynb", "-p", "seed=fast"], "expected seed as int"),
        (["sweep", "none.yaml"], "none.yaml"),
        (["phantom", "no_such_recipe", "--out", "x.nc"], "no_such_recipe"),
        (["phantom", "tests", "--out", "x.nc"], "a folder with CT images"),
    ],
)
def test_wrong_input_is_one_line_and_status_2(arguments, words, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert call(*arguments) == 2
    shown = capsys.readouterr()
    lines = shown.err.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert words in lines[0]


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (InputError("kv: expected 60 to 150;\n got 500"), 2, "error: kv: expected 60 to 150; got 500"),
        (NotebookError("nb, cell 3: it failed"), 1, "error: nb, cell 3: it failed"),
        (OSError(28, "No space left on device", "a.nc"), 1, "error: the disk is full (a.nc); make room"),
        (ZeroDivisionError("division"), 1, "error: ZeroDivisionError: division (twinlab --debug"),
        (KeyboardInterrupt(), 130, "resume with: twinlab report"),
    ],
)
def test_every_error_is_one_line(error, status, words, tmp_path, capsys, monkeypatch):
    def broken(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(cli, "_near", broken)
    assert call("report", "--outputs", str(tmp_path)) == status
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(words) or words in lines[0]


def test_debug_shows_where(capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    cli._run(["--debug", "run", "none.ipynb"])
    shown = capsys.readouterr().err
    assert "Traceback" in shown
    assert shown.strip().splitlines()[-1].startswith("error: ")


def test_version(capsys):
    import twinlab

    assert call("--version") == 0
    assert capsys.readouterr().out.strip() == f"twinlab {twinlab.__version__}"


def test_status_of_nothing_and_an_index(tmp_path, capsys):
    assert call("status", "--outputs", str(tmp_path)) == 0
    assert "0 reports" in capsys.readouterr().out
    assert call("report", "--outputs", str(tmp_path)) == 0
    assert (tmp_path / "index.html").is_file()


def test_a_recipe_becomes_a_phantom_file(tmp_path, capsys):
    from twinlab import phantom

    out = tmp_path / "water.nc"
    assert call("phantom", "water_cylinder_20cm", "--out", str(out)) == 0
    assert phantom.load(out).sizes["z"] > 0
    assert "voxels" in capsys.readouterr().out
