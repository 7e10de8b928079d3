"""Projections of a long scan, in memory or in a file that an interrupted scan goes on from."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from twinlab.schema import refuse


class Keeper(Protocol):
    """A detector that keeps light from view to view (or nothing)."""

    @property
    def held(self) -> NDArray[np.float32]:
        """Light in store."""

    @property
    def last_seen(self) -> NDArray[np.int64]:
        """Last view in which each row was read."""


class Store:
    """Where projections go block by block.

    In a file, a note beside it (``<name>.state.npz``) holds the key of the scan, how many views are whole,
    the light that the detector keeps and sums over the views; it is replaced in one step after each block is written.

    Parameters
    ----------
    out : path or None
        ``.npy`` file; None: memory.
    shape : (view, row, channel), of counts (bin, view, row, channel)
    key : callable
        Gives the key of all content that determines the scan; asked only when there is a file.
    variance : bool
        Keep variances, in ``<name>.variance.npy`` beside the projections.
    """

    def __init__(
        self,
        out: str | Path | None,
        shape: tuple[int, ...],
        *,
        key: Callable[[], str],
        variance: bool = False,
    ) -> None:
        self.variance: NDArray[np.float32] | None = None
        self._state: Path | None = None
        if out is None:
            self.projection: NDArray[np.float32] = np.zeros(shape, np.float32)
            if variance:
                self.variance = np.zeros(shape, np.float32)
            return
        path = Path(out)
        if path.suffix != ".npy" or not path.parent.is_dir():
            refuse("scan_phantom: out", "an .npy file in a folder that exists", out)
        self._key = key()
        self._state = path.with_suffix(".state.npz")
        self._begun = self._read_state()
        self.projection = self._map(path, shape)
        if variance:
            self.variance = self._map(path.with_suffix(".variance.npy"), shape)

    def _read_state(self) -> dict[str, Any]:
        if self._state is None or not self._state.is_file():
            return {}
        try:
            with np.load(self._state) as state:
                found = {name: state[name] for name in state.files}
        except (OSError, ValueError, EOFError):
            return {}
        return found if str(found.get("key")) == self._key else {}

    def _map(self, path: Path, shape: tuple[int, ...]) -> NDArray[np.float32]:
        if self._begun and path.is_file():
            mapped = np.lib.format.open_memmap(path, mode="r+")
            if mapped.shape == shape and mapped.dtype == np.float32:
                return mapped
        self._begun = {}
        return np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)

    def restore(self, detector: Keeper, sums: NDArray[np.float64]) -> int:
        """Views that are whole already; gives back the light that the detector kept, and sums over these views."""
        if self._state is None or not self._begun:
            return 0
        sums[:] = self._begun["sums"]
        detector.held[:] = self._begun["held"]
        detector.last_seen[:] = self._begun["last_seen"]
        return int(self._begun["views"])

    def save(self, detector: Keeper, views: int, sums: NDArray[np.float64]) -> None:
        """Note that so many views are whole, and sums over them."""
        if self._state is None:
            return
        for values in (self.projection, self.variance):
            if isinstance(values, np.memmap):
                values.flush()
        fresh = self._state.with_suffix(".new.npz")
        np.savez(
            fresh, key=self._key, views=views, held=detector.held, last_seen=detector.last_seen, sums=sums
        )  # fmt: skip
        os.replace(fresh, self._state)
