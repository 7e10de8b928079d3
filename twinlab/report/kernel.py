"""A kernel of this very interpreter, whatever kernels are installed for the user."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager


def kernel_manager(environment: Mapping[str, str], *, scratch: str) -> type[AsyncKernelManager]:
    """Kernel manager class that starts ``sys.executable`` with further environment variables.

    It speaks over sockets in ``scratch``: no port is opened that others on the machine could listen to.
    Jupyter's ``python3`` kernel may be another environment's (a spec under the user's home wins over the
    running interpreter); results must come from the package that was asked. The user's IPython profile is
    left out for the same reason.

    Parameters
    ----------
    environment : mapping
        Variables added to those of this process.
    scratch : str
        Existing folder for sockets and the kernel's profile.
    """
    spec = KernelSpec(
        argv=[
            *(sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"),
            "--HistoryManager.enabled=False",
        ],
        display_name="twinlab",
        language="python",
        env={"PYTHONPATH": _python_path(), "PYDEVD_DISABLE_FILE_VALIDATION": "1", "IPYTHONDIR": scratch}
        | dict(environment),
    )

    class ThisInterpreter(AsyncKernelManager):
        """Ignores installed kernel specs."""

        def __init__(self, **settings: Any) -> None:
            connection = os.path.join(scratch, "kernel.json")
            super().__init__(**{**settings, "transport": "ipc", "connection_file": connection})

        async def start_kernel(self, **settings: Any) -> None:  # type: ignore[override]
            """What the kernel's own machinery has to say goes to a file, not between the lines of progress."""
            with open(os.path.join(scratch, "kernel.log"), "w", encoding="utf-8") as log:
                await super().start_kernel(**{**settings, "stderr": log})

        @property
        def kernel_spec(self) -> KernelSpec:
            return spec

    return ThisInterpreter


def _python_path() -> str:
    """PYTHONPATH on which the kernel imports the same twinlab as this process."""
    home = Path(__file__).resolve().parents[2]
    inherited = os.environ.get("PYTHONPATH", "")
    if home.name in {"site-packages", "dist-packages"}:
        return inherited
    return os.pathsep.join([str(home), *([inherited] if inherited else [])])
