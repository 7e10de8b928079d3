"""Tables of single materials on disk: building them costs a second, reading them milliseconds.

They lie in ``transport/`` beside the sample patients in the user's cache. A file's name is the hash of
everything that its numbers depend on; a folder that cannot be written is no error.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import xraylib

from twinlab.physics import attenuation, compton_profiles, fluorescence
from twinlab.physics.materials import Material
from twinlab.sample import cache_folder

Part = dict[str, np.ndarray]


def folder() -> Path:
    """Where the tables lie."""
    return cache_folder().parent / "transport"


def fetch(material: Material, options: str, build: Callable[[], Part], *, sources: tuple[str, ...]) -> Part:
    """Tables of a material, read if they are stored, else built and stored.

    Parameters
    ----------
    material : Material
    options : str
        What else the numbers depend on.
    build : callable
        Makes the tables.
    sources : tuple of str
        Files whose code makes them, besides those of the physics.
    """
    place = folder() / f"{_key(material, options, sources)}.npz"
    try:
        with np.load(place) as stored:
            return {name: stored[name] for name in stored.files}
    except (OSError, ValueError, EOFError, KeyError):
        part = build()
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=place.parent, suffix=".npz")
        with os.fdopen(handle, "wb") as stream:
            np.savez(stream, **part)  # type: ignore[arg-type]
        os.replace(name, place)
    except OSError:
        pass
    return part


def _key(material: Material, options: str, sources: tuple[str, ...]) -> str:
    digest = hashlib.sha256(options.encode())
    digest.update(repr(sorted(material.composition.items())).encode())
    digest.update(str(getattr(xraylib, "__version__", "")).encode())
    files = (__file__, attenuation.__file__, compton_profiles.__file__, fluorescence.__file__, *sources)
    for file in files:
        digest.update(_content(str(file)))
    return digest.hexdigest()[:24]


_contents: dict[str, bytes] = {}


def _content(file: str) -> bytes:
    if file not in _contents:
        _contents[file] = hashlib.sha256(Path(file).read_bytes()).digest()
    return _contents[file]
