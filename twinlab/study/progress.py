"""A progress bar in estimated seconds that moves while a stage runs."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from tqdm import tqdm

_FORM = "{desc} {percentage:3.0f}%|{bar:20}| {elapsed} elapsed, about {remaining} left"


class Progress:
    """Bar over stages of known estimated cost; inside a stage it moves up to nine tenths of the stage's share.

    Parameters
    ----------
    name : str
    costs : mapping of stage to seconds
        Of the stages that will run; others count nothing.
    show : bool
        Without it, nothing is printed.
    """

    def __init__(self, name: str, costs: Mapping[str, float], *, show: bool = True) -> None:
        self._name = name
        self._costs = costs
        self._done = 0.0
        self._running: dict[str, float] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._total = max(sum(costs.values()), 1.0)
        self._bar = tqdm(
            total=self._total,
            desc=name,
            bar_format=_FORM,
            ascii=True,
            dynamic_ncols=True,
            disable=not show,
            smoothing=0,
        )
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        if kind is None and not self._bar.disable:
            self._bar.n = self._total
            self._bar.set_description_str(f"{self._name}: done")
        self._bar.close()

    def start(self, stage: str) -> None:
        """A stage begins."""
        with self._lock:
            self._running[stage] = time.monotonic()
        if stage in self._costs and not self._bar.disable:
            shown = "putting cases together" if stage.startswith("case ") else stage
            self._bar.set_description_str(f"{self._name}: {shown}", refresh=False)
        self._show()

    def finish(self, stage: str) -> None:
        """A stage has ended."""
        with self._lock:
            self._running.pop(stage, None)
            self._done += self._costs.get(stage, 0.0)
        self._show()

    def _show(self) -> None:
        if self._bar.disable:
            return
        now = time.monotonic()
        with self._lock:
            inside = sum(
                min(now - t, 0.9 * self._costs.get(stage, 0.0)) for stage, t in self._running.items()
            )
            self._bar.n = min(self._done + inside, self._total)
        self._bar.refresh()

    def _beat(self) -> None:
        while not self._stop.wait(1.0):
            self._show()
