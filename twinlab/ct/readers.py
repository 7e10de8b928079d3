"""What a scan by blocks asks of its detector, and the detector that integrates energy.

A reader turns the line integrals of a block into moments of readings per mAs (mean and variance, or what a counting
detector needs), which are averaged over sampling points and to which scatter is added; then it reads the block.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from twinlab.ct.artefacts.scatter import on_cells
from twinlab.ct.corrections import water_correction
from twinlab.ct.detector import SignalTables, mean_signals, signal_attrs, signal_tables
from twinlab.ct.electronics import Chain, Faults, detector_chain
from twinlab.ct.resume import Store
from twinlab.ct.scan import scan_attrs
from twinlab.kernels.device import host, namespace
from twinlab.scanner import Protocol as ScanProtocol
from twinlab.schema import label, refuse

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Scatter = Callable[[xr.Dataset], Any]


class Reader(Protocol):
    """A detector while it reads a scan."""

    @property
    def n_moments(self) -> int:
        """Arrays that a block needs."""

    @property
    def content(self) -> list[Any]:
        """What of it determines the scan."""

    @property
    def held(self) -> Floats:
        """Light that it keeps from view to view."""

    @property
    def last_seen(self) -> Ints:
        """Last view in which each row was read."""

    def moments(self, paths: xr.Dataset) -> Any:
        """Moments of readings per mAs of a block, (moment, view, row, channel), where the reader works."""

    def add_scatter(self, moments: Any, scatter: Scatter | xr.DataArray, block: xr.Dataset) -> None:
        """Change the moments by scattered radiation; ``block`` names views and cells."""

    def read(
        self, moments: Any, store: Store, views: slice, *, mas: Floats, window: tuple[Ints, Ints]
    ) -> None:
        """Read a block into the store."""

    def results(
        self, store: Store, paths: xr.Dataset, per_view: Floats
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Variables and attrs of the whole scan."""


@dataclass
class Integrating:
    """The detector that integrates energy: its tables, and the chain of its electronics."""

    protocol: ScanProtocol
    tables: SignalTables
    chain: Chain
    correction: xr.Dataset
    noise: dict[str, Any]
    n_moments: int = 2

    @property
    def content(self) -> list[Any]:
        return [self.tables.air, vars(self.chain.faults)]

    @property
    def held(self) -> Floats:
        return self.chain.held

    @property
    def last_seen(self) -> Ints:
        return self.chain.last_seen

    def moments(self, paths: xr.Dataset) -> Any:
        return mean_signals(paths, self.tables, device=self.chain.device)

    def add_scatter(self, moments: Any, scatter: Scatter | xr.DataArray, block: xr.Dataset) -> None:
        signal, second = moments[0], moments[1]
        coords = {name: block[name] for name in ("row", "fan_angle", "u") if name in block.coords}
        block = block.assign(
            signal=label("signal", host(signal), coords),
            signal_variance=label("signal_variance", host(second), coords),
        )
        xp = namespace(moments)
        added = xp.asarray(scatter_of(scatter, block, [signal.shape]))
        # scattered photons are about as hard as the primary ones: the same variance per signal
        second *= 1.0 + added / xp.clip(signal, min=1e-30)
        signal += added

    def read(
        self, moments: Any, store: Store, views: slice, *, mas: Floats, window: tuple[Ints, Ints]
    ) -> None:
        self.chain.read(
            moments[0], moments[1], mas=mas, first_view=views.start, window=window, projection=store.projection[views],
            variance=None if store.variance is None else store.variance[views],
        )  # fmt: skip

    def results(
        self, store: Store, paths: xr.Dataset, per_view: Floats
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        coords = {name: paths[name] for name in ("row", "fan_angle", "u") if name in paths.coords}
        data = {"projection": label("projection", store.projection, coords)}
        if store.variance is not None:
            data["variance"] = label("variance", store.variance, coords)
        attrs = {**signal_attrs(self.protocol, self.tables), **scan_attrs(self.correction, **self.noise)}
        attrs["mas"] = float(np.mean(per_view, dtype=float)) * self.protocol.scanner.views_per_rotation
        return data, attrs


def integrating(
    paths: xr.Dataset,
    protocol: ScanProtocol,
    *,
    mas: float,
    output_factor: float,
    faults: Faults | None,
    device: Literal["cpu", "cuda"] = "cpu",
    **noise: Any,
) -> Integrating:
    """The reader of a detector that integrates energy, calibrated in air.

    Parameters
    ----------
    paths : Dataset
        Line integrals of any view of the scan.
    protocol : Protocol
    mas : float
        Mean mAs of a view.
    output_factor, faults
        See :func:`twinlab.ct.acquire`.
    device : "cpu" or "cuda"
    **noise
        ``seed``, ``realisation`` and ``noise``.
    """
    tables = signal_tables(paths, protocol, output_factor=output_factor)
    correction = water_correction(protocol)
    air = xr.Dataset(
        {
            "air_signal": label("air_signal", tables.air),
            "air_variance": label("air_variance", tables.air_variance),
        },
        attrs=paths.attrs,
    )
    chain = detector_chain(protocol, air, correction, faults=faults, mas=mas, device=device, **noise)
    return Integrating(protocol, tables, chain, correction, noise)


def scatter_of(
    scatter: Scatter | xr.DataArray, block: xr.Dataset, shapes: list[tuple[int, ...]]
) -> NDArray[np.float32]:
    """Scattered radiation in the cells of a block, of one of the shapes.

    Raises
    ------
    InputError
        Another shape, or values that are negative or not finite.
    """
    if callable(scatter):
        added = np.asarray(scatter(block), np.float32)
    elif "bin" in scatter.dims:
        added = np.stack([on_cells(scatter.isel(bin=b), block) for b in range(scatter.sizes["bin"])])
    else:
        added = on_cells(scatter, block)
    if added.shape not in shapes or not np.isfinite(added).all() or added.min() < 0:
        refuse("scan_phantom: scatter", f"finite values of 0 or more, {shapes[0]}", added.shape)
    return added


def scatter_key(scatter: Scatter | xr.DataArray | None, out: str | Path | None) -> Any:
    """Content of the scatter, of an object its class and fields; a function's content cannot be known."""
    if out is None or not callable(scatter):
        return scatter
    fields = getattr(scatter, "__dict__", None)
    if inspect.isroutine(scatter) or not fields:
        refuse("scan_phantom: scatter", "a DataArray or ScatterKernel with out=", "a function")
    return [type(scatter).__qualname__, fields]
