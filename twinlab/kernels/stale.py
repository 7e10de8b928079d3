"""Compiled loops that no longer fit their source.

Numba's cache on disk looks at the file of a function only, not at those of the functions it calls. So a changed
scalar function would go on running as it was in loops compiled before. When any file of this folder has changed,
all compiled loops of the folder are thrown away; they are made again when called.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

_STAMP = "sources"
_COMPILED = ("*.nbi", "*.nbc")


def sweep(folder: Path) -> bool:
    """Remove compiled loops of a folder of sources if any source has changed since they were made.

    Parameters
    ----------
    folder : Path
        With Python files; compiled loops lie in its ``__pycache__``. One that cannot be written is left alone:
        Numba then keeps its cache elsewhere, by user, and installing anew gives all files a new date.

    Returns
    -------
    bool
        Whether anything was out of date.
    """
    files = sorted(folder.glob("*.py"))
    now = "\n".join(f"{f.name} {f.stat().st_mtime_ns} {f.stat().st_size}" for f in files)
    cache = folder / "__pycache__"
    stamp = cache / _STAMP
    try:
        if stamp.is_file() and stamp.read_text(encoding="utf-8") == now:
            return False
        cache.mkdir(exist_ok=True)
        for pattern in _COMPILED:
            for file in cache.glob(pattern):
                with contextlib.suppress(FileNotFoundError):  # another process sweeps too
                    file.unlink()
        stamp.write_text(now, encoding="utf-8")
    except OSError:
        return False
    return True
