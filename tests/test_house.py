"""House rules that no linter knows."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MODULES = sorted((ROOT / "twinlab").rglob("*.py"))
PATTERNS = (
    "*.md", "*.toml", "*.yml", "*.cff", "Makefile", "docs/**/*.md", "tools/*", "notebooks/*.ipynb",
    "params/**/*.yaml", "protocols/**/*.yaml", "phantoms/*.yaml", "benchmarks/*.py", "twinlab/**/*.py",
    "tests/**/*.py",
)  # fmt: skip
TEXTS = sorted(
    path
    for pattern in PATTERNS
    for path in ROOT.glob(pattern)
    if path.is_file() and "__pycache__" not in path.parts
)


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_modules_hold_one_idea(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 400, f"{name(path)} has {len(lines)} lines; split it by idea"


@pytest.mark.parametrize("path", TEXTS, ids=name)
def test_no_path_of_one_machine(path):
    if path == Path(__file__).resolve():
        return
    found = re.findall(r"(?<![\w.~-])/(?:work|root|home|Users)/[\w./-]*", path.read_text(encoding="utf-8"))
    assert not found, f"{name(path)} names {found[0]}"


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_nothing_is_unfinished(path):
    text = path.read_text(encoding="utf-8")
    found = re.findall(r"\b(TODO|FIXME|XXX|raise NotImplementedError)\b", text)
    assert not found, f"{name(path)}: {found[0]}"


@pytest.mark.parametrize("path", [p for p in MODULES if p.name != "__init__.py"], ids=name)
def test_modules_say_what_they_are(path):
    assert path.read_text(encoding="utf-8").startswith('"""'), f"{name(path)} has no docstring"


def test_importing_the_package_is_quick_and_draws_in_nothing_heavy():
    heavy = ("numpy", "numba", "matplotlib", "dask")
    probe = f"import sys, twinlab; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", probe], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_constraints_name_versions_only_and_cover_what_is_asked():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert all(re.match(r"^[a-z0-9][a-z0-9._-]*==[^\s;]+( ; .+)?$", line) for line in lines)
    pinned = {line.split("==")[0] for line in lines}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    wanted = project["dependencies"] + extras["test"] + extras["lint"] + extras["lab"]
    names = {re.split(r"[\[<>=!~ ;]", item)[0].lower().replace("_", "-") for item in wanted}
    assert names <= pinned, f"not pinned: {sorted(names - pinned)}"


@pytest.mark.parametrize("path", sorted((ROOT / "protocols").rglob("*.yaml")), ids=name)
def test_protocols_and_scanners_cite_their_sources(path):
    assert "sources:" in path.read_text(encoding="utf-8"), f"{name(path)} cites nothing"
