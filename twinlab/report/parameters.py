"""What a notebook may be asked: its ``parameters`` cell, read and checked before a kernel starts.

papermill injects any name that it is given; a typing error would then run the default silently for minutes.
Here the cell is parsed (never executed): each line ``name = literal  # meaning [unit]`` is one parameter, and
the literal, or an annotation such as ``float | None``, says its type.
"""

from __future__ import annotations

import ast
import difflib
import io
import tokenize
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import yaml

from twinlab.schema import _Loader, refuse

_TYPES: dict[str, type] = {"bool": bool, "int": int, "float": float, "str": str, "list": list, "dict": dict}


@dataclass(frozen=True)
class Parameter:
    """One parameter of a notebook: default, accepted types, meaning."""

    name: str
    default: Any
    types: tuple[str, ...]
    meaning: str

    def accept(self, value: Any, *, where: str) -> Any:
        """The value in the parameter's type.

        A whole float is taken for an int (``1e6`` histories), an int for a float; nothing else is converted.

        Raises
        ------
        InputError
            The value is of another type.
        """
        if not self.types or (value is None and "None" in self.types):
            return value
        if isinstance(value, bool):
            if "bool" in self.types:
                return value
        elif isinstance(value, int) and "int" not in self.types and "float" in self.types:
            return float(value)
        elif isinstance(value, float) and "float" not in self.types and "int" in self.types:
            if value.is_integer():
                return int(value)
        elif any(isinstance(value, _TYPES[name]) for name in self.types if name in _TYPES):
            return self._accept_items(value, where=where)
        expected = " or ".join(self.types)
        refuse(where, f"{self.name} as {expected} ({self.meaning or 'no meaning given'})", f"{value!r}")

    def _accept_items(self, value: Any, *, where: str) -> Any:
        """Items of a list have the kind of the default's items."""
        if not (isinstance(value, list) and isinstance(self.default, list) and self.default):
            return value
        kinds = tuple(sorted({type(item).__name__ for item in self.default}))
        item = Parameter(f"{self.name}[...]", None, kinds, self.meaning)
        return [item.accept(entry, where=where) for entry in value]


def read_parameters(notebook: str | Path | nbformat.NotebookNode) -> dict[str, Parameter]:
    """Parameters of a notebook, in the order of its ``parameters`` cell.

    Parameters
    ----------
    notebook : path or NotebookNode

    Returns
    -------
    dict of str to Parameter

    Raises
    ------
    InputError
        No such file, not a notebook, or no cell tagged ``parameters`` made of plain literals.
    """
    where = "notebook" if isinstance(notebook, nbformat.NotebookNode) else str(notebook)
    nb = notebook if isinstance(notebook, nbformat.NotebookNode) else open_notebook(notebook)
    cells = [c for c in nb.cells if c.cell_type == "code" and "parameters" in c.metadata.get("tags", [])]
    if len(cells) != 1:
        refuse(where, "one code cell tagged 'parameters'", f"{len(cells)}")
    source = cells[0].source
    try:
        tree = ast.parse(source)
    except SyntaxError as error:
        refuse(f"{where}, parameters cell", "Python assignments", f"line {error.lineno}: {error.msg}")
    meanings = _comments(source)
    found: dict[str, Parameter] = {}
    for node in tree.body:
        name, annotation, value_node = _assignment(node, where)
        try:
            value = ast.literal_eval(value_node)
        except ValueError:
            refuse(f"{where}, parameters cell", f"{name} as a literal", ast.unparse(value_node))
        types = _annotated(annotation) if annotation is not None else _inferred(value)
        found[name] = Parameter(name, value, types, meanings.get(node.end_lineno or node.lineno, ""))
    return found


def open_notebook(path: str | Path) -> nbformat.NotebookNode:
    """Read a notebook file.

    Raises
    ------
    InputError
        No such file, or not a notebook.
    """
    path = Path(path)
    if not path.is_file():
        near = sorted(p.name for p in path.parent.glob("*.ipynb")) if path.parent.is_dir() else []
        refuse(
            "notebook",
            "a .ipynb file",
            f"no file {path}" + (f" (there are {', '.join(near)})" if near else ""),
        )
    try:
        return nbformat.read(path, as_version=4)
    except Exception as error:  # nbformat raises several kinds for what is all the same to the user
        refuse(str(path), "a Jupyter notebook", f"{type(error).__name__}: {str(error).splitlines()[0][:200]}")


def accept(parameters: Mapping[str, Parameter], given: Mapping[str, Any], *, where: str) -> dict[str, Any]:
    """All parameters with the given values checked and defaults for the others.

    Parameters
    ----------
    parameters : mapping of str to Parameter
        From :func:`read_parameters`.
    given : mapping
        Values by name.
    where : str
        Who gave them, for the error.

    Raises
    ------
    InputError
        An unknown name (the known ones are listed), or a value of another type.
    """
    for name in given:
        if name not in parameters:
            near = difflib.get_close_matches(str(name), parameters, n=1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            refuse(where, f"a parameter of the notebook ({', '.join(parameters)})", f"{name!r}{hint}")
    checked = {name: parameters[name].accept(value, where=where) for name, value in given.items()}
    return {name: checked.get(name, parameter.default) for name, parameter in parameters.items()}


def parse_override(text: str) -> tuple[str, Any]:
    """``name=value`` of the command line; the value is read as YAML.

    Raises
    ------
    InputError
        There is no ``=``, no name, or the value is not YAML.

    Examples
    --------
    >>> parse_override("histories=1e6")
    ('histories', 1000000.0)
    >>> parse_override("kv=[80, 120]")
    ('kv', [80, 120])
    """
    name, equals, value = text.partition("=")
    if not equals or not name.strip().isidentifier():
        refuse("-p", "name=value", repr(text))
    try:
        return name.strip(), yaml.load(value, Loader=_Loader)
    except yaml.YAMLError:
        refuse(f"-p {name.strip()}", "a YAML value (number, text, true/false, [list])", repr(value))


def _assignment(node: ast.stmt, where: str) -> tuple[str, ast.expr | None, ast.expr]:
    if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
        return node.targets[0].id, None, node.value
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
        return node.target.id, node.annotation, node.value
    refuse(
        f"{where}, parameters cell",
        "lines `name = literal  # meaning [unit]`",
        ast.unparse(node).splitlines()[0],
    )


def _annotated(annotation: ast.expr) -> tuple[str, ...]:
    """Plain type names in an annotation; nothing when it says something else, so that nothing is refused."""
    names = [part.strip().split("[")[0] for part in ast.unparse(annotation).split("|")]
    return tuple(names) if all(name in _TYPES or name == "None" for name in names) else ()


def _inferred(value: Any) -> tuple[str, ...]:
    return () if value is None else (type(value).__name__,)


def _comments(source: str) -> dict[int, str]:
    """Text of the comment that ends each line."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {t.start[0]: t.string.lstrip("# ").strip() for t in tokens if t.type == tokenize.COMMENT}
