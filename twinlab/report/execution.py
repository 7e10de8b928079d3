"""Execute a notebook with a parameter set: checked first, keyed by content, kept in one folder per key."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
from tqdm import tqdm

import twinlab
from twinlab.keys import content_key, source_key
from twinlab.report.parameters import accept, open_notebook, read_parameters
from twinlab.schema import load_yaml, refuse

MOST_FILES = 20_000  # all are read for the key; a home folder given by mistake would take minutes
RUN_FOLDER = "TWINLAB_RUN_FOLDER"  # tells the notebook's kernel where its files belong


class NotebookError(RuntimeError):
    """A notebook stopped: which cell, why, and where the part that ran can be read."""


@dataclass(frozen=True)
class Run:
    """One executed notebook."""

    folder: Path
    fresh: bool

    @property
    def executed(self) -> Path:
        """The notebook with its outputs."""
        return self.folder / "executed.ipynb"

    @property
    def report(self) -> Path:
        """The rendered page."""
        return self.folder / "report.html"

    @property
    def headline(self) -> str:
        """What the notebook found, in a line or two; empty when it left none."""
        path = self.folder / "headline.txt"
        return path.read_text(encoding="utf-8").strip() if path.is_file() else ""

    @property
    def provenance(self) -> dict[str, Any]:
        """What was run, with what, when and where."""
        return json.loads((self.folder / "provenance.json").read_text(encoding="utf-8"))


def execute(
    notebook: str | Path,
    params_file: str | Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    *,
    out_dir: str | Path = "outputs",
    progress: bool = True,
) -> Run:
    """Run a notebook once per content, and render its report.

    Parameters
    ----------
    notebook : path
        Output-free, with a cell tagged ``parameters``.
    params_file : path, optional
        YAML mapping of parameters; without it the notebook's own defaults.
    overrides : mapping, optional
        Parameters that win over the file's.
    out_dir : path
        The run lands in ``<out_dir>/<notebook>/<params>-<key>/``, whole or not at all.
    progress : bool
        Cell and elapsed time on standard error, with what the notebook itself writes there.

    Returns
    -------
    Run
        ``fresh`` is False when a finished run of the same notebook, parameters, source and inputs stands.

    Raises
    ------
    InputError
        Unknown parameter or wrong type, before a kernel starts.
    NotebookError
        A cell failed; what ran is kept beside, in a folder that ends with ``.failed``.
    """
    notebook = Path(notebook)
    nb = open_notebook(notebook)
    parameters = _parameters(nb, notebook, params_file, overrides or {})
    key = content_key(_source(nb), parameters, _input_files(parameters), _recipes(), source_key())
    name = Path(params_file).stem if params_file else "default"
    folder = (Path(out_dir) / notebook.stem / f"{name}-{key}").resolve()
    run = Run(folder, fresh=False)
    if (folder / "provenance.json").is_file():
        if not run.report.is_file():
            _render(run)
        return run
    _sweep_remains(folder)
    work = folder.with_name(f"{folder.name}.running-{os.getpid()}")
    work.mkdir(parents=True)
    started = time.time()
    try:
        _execute(nb, notebook, parameters, work, progress)
    except BaseException:
        _keep(work, folder.with_name(f"{folder.name}.failed"))
        raise
    _write_provenance(work, notebook, name, key, parameters, started)
    _keep(work, folder)
    _render(run)
    return Run(folder, fresh=True)


def _parameters(
    nb: nbformat.NotebookNode, notebook: Path, params_file: str | Path | None, overrides: Mapping[str, Any]
) -> dict[str, Any]:
    """Defaults, then the file's values, then the overrides; each checked under the name of who gave it."""
    known = read_parameters(nb)
    from_file = load_yaml(params_file) if params_file else {}
    accept(known, from_file, where=str(params_file))
    return accept(known, {**from_file, **overrides}, where=f"parameters of {notebook.name}")


def _source(nb: nbformat.NotebookNode) -> list[list[str]]:
    return [[cell.cell_type, cell.source] for cell in nb.cells]


def _input_files(parameters: Mapping[str, Any]) -> dict[str, str]:
    """Content of the files and folders that parameters name, so that changed data never meets old results."""
    found = {}
    for name, value in parameters.items():
        if (
            isinstance(value, str)
            and value
            and (Path(value).is_file() or (os.sep in value and Path(value).is_dir()))
        ):
            path = Path(value)
            files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
            if len(files) > MOST_FILES:
                refuse(
                    f"parameter {name}",
                    f"a folder of one patient, at most {MOST_FILES} files",
                    f"{len(files)}",
                )
            found[name] = content_key([[str(f.relative_to(path.parent)), _digest(f)] for f in files])
    return found


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _recipes() -> str:
    """Content of the recipes and protocols that stand beside the package."""
    root = Path(twinlab.__file__).resolve().parent.parent
    files = sorted(p for folder in ("phantoms", "protocols") for p in (root / folder).rglob("*.yaml"))
    return content_key([[p.relative_to(root).as_posix(), p.read_bytes()] for p in files])


def _execute(
    nb: nbformat.NotebookNode, notebook: Path, parameters: dict[str, Any], work: Path, progress: bool
) -> None:
    import papermill
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    from twinlab.report.kernel import kernel_manager

    screen = _Screen(nb, notebook.stem, progress)
    executed = work / "executed.ipynb"
    nbformat.write(nb, executed)
    with tempfile.TemporaryDirectory(prefix="twinlab-") as scratch:
        outputs = str(work.parent.parent)
        manager = kernel_manager({RUN_FOLDER: str(work), "TWINLAB_OUTPUTS": outputs}, scratch=scratch)
        try:
            papermill.execute_notebook(
                str(executed),
                str(executed),
                parameters=parameters,
                kernel_name="python3",
                language="python",
                progress_bar=False,
                stderr_file=screen,
                kernel_manager_class=manager,
                on_cell_start=screen.start,
            )
        except PapermillExecutionError as error:
            raise NotebookError(_why(error.ename, error.evalue, notebook, screen.cell, work)) from None
        except DeadKernelError:
            why = "the kernel was killed (most often the machine ran out of memory)"
            raise NotebookError(_why("", why, notebook, screen.cell, work)) from None
        finally:
            screen.close()


def _why(kind: str, message: str, notebook: Path, cell: str, work: Path) -> str:
    """One line; our own errors say all that there is to say, others also say what they are."""
    text = " ".join(message.split()) or "no message"
    if kind and kind not in {"InputError", "CheckFailed"}:
        text = f"{kind}: {text}"
    kept = work.with_name(work.name.split(".running-")[0] + ".failed") / "executed.ipynb"
    return f"{notebook.name}, {cell}: {text} (what ran: {kept})"


class _Screen:
    """Progress by cell on standard error; the kernel's own lines pass between."""

    def __init__(self, nb: nbformat.NotebookNode, title: str, shown: bool) -> None:
        code = [c for c in nb.cells if c.cell_type == "code"]
        self.total = len(code) + 1  # papermill injects one
        self.done = 0
        self.cell = "before the first cell"
        self.heading = ""
        self.open_line = False
        self.bar = tqdm(
            total=self.total, desc=title, unit="cell", disable=not shown, leave=True,
            bar_format="{desc}: cell {n_fmt} of {total_fmt} [{elapsed}]{postfix}",
        )  # fmt: skip
        self.headings = _headings(nb)

    def start(self, cell: nbformat.NotebookNode, cell_index: int) -> None:
        """Called by nbclient before each cell."""
        if cell.cell_type != "code":
            return
        self.done += 1
        self.heading = self.headings.get(cell.source, self.heading)
        self.cell = f"cell {self.done}" + (f" ({self.heading})" if self.heading else "")
        self._end_line()
        self.bar.set_postfix_str(self.heading, refresh=False)
        self.bar.n = self.done
        self.bar.refresh()

    def write(self, text: str) -> None:
        """What the kernel writes to standard error, as it comes."""
        if not self.bar.disable and text:
            if not self.open_line:
                self.bar.clear()
            sys.stderr.write(text)
            self.open_line = not text.endswith("\n")

    def flush(self) -> None:
        """Called after each write."""
        if not self.bar.disable:
            sys.stderr.flush()

    def _end_line(self) -> None:
        if self.open_line:
            sys.stderr.write("\n")
            self.open_line = False

    def close(self) -> None:
        """Leave the last state on the screen."""
        self._end_line()
        self.bar.close()


def _headings(nb: nbformat.NotebookNode) -> dict[str, str]:
    """Last heading above each code cell."""
    heading, found = "", {}
    for cell in nb.cells:
        if cell.cell_type == "markdown":
            lines = [line for line in cell.source.splitlines() if line.startswith("#")]
            heading = lines[-1].lstrip("# ").strip() if lines else heading
        elif cell.cell_type == "code":
            found[cell.source] = heading
    return found


def _sweep_remains(folder: Path) -> None:
    """Remove what killed runs of the same key left."""
    for remains in folder.parent.glob(f"{folder.name}.running-*"):
        pid = remains.name.rpartition("-")[2]
        if pid.isdigit() and not _alive(int(pid)):
            shutil.rmtree(remains, ignore_errors=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _keep(work: Path, folder: Path) -> None:
    """Give the work folder its final name; one that stands there already is replaced."""
    if folder.exists():
        shutil.rmtree(folder)
    work.rename(folder)


def _write_provenance(
    work: Path, notebook: Path, name: str, key: str, parameters: Mapping[str, Any], started: float
) -> None:
    from twinlab.report.record import collect

    notes = work / "notes.json"
    record = collect(key=key, parameters=parameters, started=started, seconds=time.time() - started)
    record.update(
        notebook=notebook.name,
        params=name,
        notes=json.loads(notes.read_text(encoding="utf-8")) if notes.is_file() else {},
    )
    (work / "provenance.json").write_text(json.dumps(record, indent=1, default=str), encoding="utf-8")


def _render(run: Run) -> None:
    from twinlab.report.page import render
    from twinlab.report.site import index

    render(run.executed)
    index(run.folder.parent.parent)
