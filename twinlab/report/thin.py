"""Rules for notebooks: output-free, parameterised, thin.

From the shell: ``python -m twinlab.report.thin notebooks/*.ipynb``.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import nbformat

from twinlab.report.parameters import open_notebook, read_parameters
from twinlab.schema import InputError

MOST_LINES = 80
MOST_LINES_A_CELL = 15
_PATHS = {"os", "sys", "pathlib", "shutil", "glob"}


def problems(notebook: str | Path | nbformat.NotebookNode) -> list[str]:
    """What breaks the rules, one sentence each.

    Parameters
    ----------
    notebook : path or NotebookNode

    Returns
    -------
    list of str
        Empty for a notebook as it should be.
    """
    nb = notebook if isinstance(notebook, nbformat.NotebookNode) else open_notebook(notebook)
    code = [cell for cell in nb.cells if cell.cell_type == "code"]
    found = []
    if any(cell.get("outputs") or cell.get("execution_count") for cell in code):
        found.append("it holds outputs: clear them before committing")
    try:
        unexplained = [p.name for p in read_parameters(nb).values() if not p.meaning]
        if unexplained:
            found.append(f"parameters without `# meaning [unit]`: {', '.join(unexplained)}")
    except InputError as error:
        found.append(str(error))
    counts = [code_lines(cell.source) for cell in code]
    if sum(counts) > MOST_LINES:
        found.append(
            f"{sum(counts)} code lines; at most {MOST_LINES}: move work into functions of the package"
        )
    for number, (cell, lines) in enumerate(zip(code, counts, strict=True), 1):
        if lines > MOST_LINES_A_CELL:
            found.append(f"code cell {number} has {lines} lines; at most {MOST_LINES_A_CELL}")
        found += [f"code cell {number} {what}" for what in _banned(cell.source)]
    return found


def code_lines(source: str) -> int:
    """Lines that are neither empty nor comments."""
    return sum(1 for line in source.splitlines() if line.strip() and not line.strip().startswith("#"))


def _banned(source: str) -> list[str]:
    try:
        tree = ast.parse(source)
    except SyntaxError as error:
        return [f"is not plain Python: {error.msg}"]
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            found.add(f"defines {node.name}: functions belong in the package, tested")
        elif isinstance(node, (ast.For, ast.While)):
            found.add("loops: cases belong in twinlab.study, repeated figures in one figure")
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            module = node.module if isinstance(node, ast.ImportFrom) else node.names[0].name
            if (module or "").split(".")[0] in _PATHS:
                found.add(f"imports {module}: no path surgery in a notebook")
    return sorted(found)


def main(paths: list[str]) -> int:
    """Check files; the number of broken rules decides the exit status."""
    broken = [f"{path}: {problem}" for path in paths for problem in problems(path)]
    print("\n".join(broken) if broken else f"{len(paths)} notebooks as they should be")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
