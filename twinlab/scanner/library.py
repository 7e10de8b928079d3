"""Scanners and protocols of the library in ``protocols/``, by key, or from any YAML file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from twinlab.scanner.models import Protocol, Scanner
from twinlab.schema import load_yaml, refuse

FOLDER_VARIABLE = "TWINLAB_PROTOCOLS"


def protocol_folder() -> Path:
    """Folder of the protocol library.

    The environment variable ``TWINLAB_PROTOCOLS``, else ``protocols/`` beside the package, else
    ``protocols/`` in the current folder.

    Raises
    ------
    InputError
        None of them is a folder.
    """
    if FOLDER_VARIABLE in os.environ:
        folder = Path(os.environ[FOLDER_VARIABLE])
        if not folder.is_dir():
            refuse(FOLDER_VARIABLE, "a folder of protocols", f"{folder}, which is none")
        return folder
    beside = Path(__file__).resolve().parents[2] / "protocols"
    here = Path.cwd() / "protocols"
    for folder in (beside, here):
        if folder.is_dir():
            return folder
    refuse("protocols", f"a folder {beside} or {here}, or {FOLDER_VARIABLE} set", "none of them")


def list_protocols() -> list[str]:
    """Keys of the protocol library."""
    return sorted(path.stem for path in protocol_folder().glob("*.yaml"))


def list_scanners() -> list[str]:
    """Keys of the scanner library."""
    return sorted(path.stem for path in (protocol_folder() / "scanners").glob("*.yaml"))


def load_scanner(key_or_path: str | Path) -> Scanner:
    """Scanner by key or from a YAML file.

    Raises
    ------
    InputError
        Unknown key (lists the known ones), or a file that does not describe a scanner.
    """
    return Scanner.read(library_file(key_or_path, folder="scanners", where="load_scanner"))


def load_protocol(key_or_path: str | Path, **overrides: Any) -> Protocol:
    """Protocol by key or from a YAML file, with other values where given.

    Parameters
    ----------
    key_or_path : str or Path
        A key of :func:`list_protocols`, or a path.
    **overrides
        Fields of :class:`Protocol`; ``scanner`` may be a key, a path or a :class:`Scanner`. Setting one of
        ``tube_current_ma`` and ``quality_reference_mas`` clears the other.

    Raises
    ------
    InputError
        Unknown key (lists the known ones), unknown field, or values that the scanner cannot do.

    Examples
    --------
    >>> load_protocol("liver_arterial", kv=100, tube_current_ma=200).mas
    100.0
    """
    path = library_file(key_or_path, folder="", where="load_protocol")
    data = load_yaml(path)
    for name, rival in (
        ("tube_current_ma", "quality_reference_mas"),
        ("quality_reference_mas", "tube_current_ma"),
    ):
        if overrides.get(name) is not None:
            data.pop(rival, None)
    data.update(overrides)
    scanner = data.get("scanner")
    if isinstance(scanner, (str, Path)):
        beside = path.parent / f"{scanner}.yaml"
        in_library = path.parent / "scanners" / f"{scanner}.yaml"
        own = next((p for p in (in_library, beside) if p.is_file()), None)
        data["scanner"] = load_scanner(own or scanner)
    return Protocol.make(data, where=str(path))


def library_file(key_or_path: str | Path, *, folder: str, where: str) -> Path:
    """YAML file of a key in a folder of the protocol library ("" is the library itself), or the path itself.

    Raises
    ------
    InputError
        No such file, or an unknown key (lists the known ones).
    """
    path = Path(key_or_path)
    if path.is_file():
        return path
    if path.suffix in {".yaml", ".yml"} or len(path.parts) > 1:
        refuse(where, "a YAML file or a key", f"no file {path}")
    candidate = protocol_folder() / folder / f"{path}.yaml"
    if not candidate.is_file():
        known = sorted(file.stem for file in candidate.parent.glob("*.yaml"))
        refuse(where, f"one of {', '.join(known)}, or a YAML file", repr(str(key_or_path)))
    return candidate
