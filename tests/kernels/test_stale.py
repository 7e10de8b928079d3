"""Compiled loops are thrown away when any source beside them changes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from twinlab.kernels.stale import sweep

INNER = "from numba import njit\n\n\n@njit(cache=True)\ndef inner(x):\n    return x + {n}\n"
OUTER = (
    "from numba import njit\n\nfrom inner import inner\n\n\n"
    "@njit(cache=True)\ndef outer(x):\n    return inner(x)\n"
)


def _call(folder: Path) -> int:
    code = f"import sys; sys.path.insert(0, {str(folder)!r}); from outer import outer; print(outer(1))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return int(done.stdout)


def test_change_of_a_called_function_counts(tmp_path):
    (tmp_path / "inner.py").write_text(INNER.format(n=1))
    (tmp_path / "outer.py").write_text(OUTER)
    sweep(tmp_path)
    assert _call(tmp_path) == 2
    compiled = list((tmp_path / "__pycache__").glob("outer*.nbc"))
    assert compiled
    assert not sweep(tmp_path)
    assert compiled[0].exists()
    (tmp_path / "inner.py").write_text(INNER.format(n=10))
    assert sweep(tmp_path)
    assert not compiled[0].exists()
    assert _call(tmp_path) == 11
