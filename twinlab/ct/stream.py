"""Scan a phantom by blocks of views: any number of views, rows and sampling points in bounded memory.

Of a block, line integrals are traced for every point of the sampling, turned into signals and averaged as
signals; scatter is added; the detector reads the block (:mod:`twinlab.ct.electronics`). Only the projections stay.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from tqdm import tqdm

from twinlab.ct.artefacts.scatter import on_cells
from twinlab.ct.corrections import water_correction
from twinlab.ct.detector import SignalTables, mean_signals, one_voltage, signal_attrs, signal_tables
from twinlab.ct.electronics import Chain, Faults, check_seed, detector_chain
from twinlab.ct.field_edge import Truncation
from twinlab.ct.filters import Kernel
from twinlab.ct.filters import get as get_kernel
from twinlab.ct.gantry import geometry_of, grid_of
from twinlab.ct.paths import line_integrals, row_window, scan_geometry, warn_missed
from twinlab.ct.resume import Store
from twinlab.ct.sampling import Sample, sub_samples
from twinlab.ct.scan import mas_per_view, scan_attrs
from twinlab.ct.volume import Volume, prepare_phantom
from twinlab.kernels.device import Device, resolve
from twinlab.keys import content_key, source_key
from twinlab.phantom.recipes import Recipe
from twinlab.phantom.shapes import Shape
from twinlab.scanner import Protocol
from twinlab.scanner import trajectory as plan_trajectory
from twinlab.schema import label, refuse

BLOCK_BYTES = 128 * 2**20  # of line integrals and signals held at a time
RAYS_PER_SECOND = 2.5e6  # one sampling point on two cores, for the estimate that is shown first

Scatter = Callable[[xr.Dataset], Any]


def scan_phantom(
    phantom: xr.Dataset | Recipe,
    protocol: Protocol,
    *,
    trajectory: xr.Dataset,
    seed: int,
    realisation: int = 0,
    output_factor: float = 1.0,
    noise: bool = True,
    mas: float | None = None,
    rows: tuple[Any, Any] | None = None,
    scatter: Scatter | xr.DataArray | None = None,
    faults: Faults | None = None,
    variance: bool = False,
    n_basis: int | None = None,
    objects: Sequence[Shape] = (),
    out: str | Path | None = None,
    block_views: int | None = None,
    progress: bool = False,
    device: Device = "auto",
) -> xr.Dataset:
    """Water-corrected projections of a phantom, as a scanner with all its parts would give them.

    Parameters
    ----------
    phantom : Dataset or Recipe
        See :func:`twinlab.ct.line_integrals`.
    protocol : Protocol
        Its ``sampling`` says over how many points of focal spot, cell and view a reading is averaged.
    trajectory : Dataset
        From :func:`twinlab.scanner.trajectory`; a variable ``tube_current`` (view) [mA] is followed.
    seed, realisation, output_factor, noise, mas, faults
        See :func:`twinlab.ct.acquire`. The noise of a ray is the same whatever the blocks.
    rows : (row_lo, row_hi), optional
        Detector rows to compute, numbers or one each per view; others are 0.
    scatter : callable or DataArray, optional
        Scattered radiation, keV per mAs of the view in each cell. A DataArray with dims (view, row, channel)
        and coordinates ``view`` (index), ``row`` [mm] and ``channel`` (index), interpolated linearly between
        its points; or a function of a block's signals (Dataset as of :func:`twinlab.ct.detected`, ``view``
        numbered in the scan) that returns an array (view, row, channel).
    variance : bool
        Return the variance of the projections too, at twice the memory.
    n_basis, objects
        See :func:`twinlab.ct.line_integrals`.
    out : path, optional
        ``.npy`` file for the projections, mapped into memory. A scan that was interrupted goes on after its last
        whole block, if everything that determines it is the same; ``scatter`` may then be no plain function.
    block_views : int, optional
        Views in a block. Default: as many as hold 128 MiB.
    progress : bool
        Say the cost, then show a bar on standard error.
    device : "auto", "cpu" or "cuda"
        Where voxels are projected, see :func:`twinlab.ct.line_integrals`.

    Returns
    -------
    Dataset
        As :func:`twinlab.ct.acquire`; ``variance`` when asked for.

    Raises
    ------
    InputError
        See :func:`twinlab.ct.line_integrals` and :func:`twinlab.ct.acquire`; ``out`` is no ``.npy`` file, or is
        given with a plain function as ``scatter``.
    """
    where = resolve(device, where="scan_phantom")
    one_voltage(trajectory, protocol, where="scan_phantom")
    per_view = mas_per_view(trajectory, protocol, mas=mas)
    n_view, n_row = trajectory.sizes["view"], protocol.row_positions_mm().size
    shape = (n_view, n_row, protocol.scanner.detector.n_channels)
    lo, hi = row_window(rows, n_view, n_row)
    check_seed(seed, realisation, where="scan_phantom")
    scatter_key = _scatter_key(scatter, out)
    samples = sub_samples(protocol)
    volume = prepare_phantom(phantom, protocol, n_basis=n_basis, objects=objects)
    warn_missed(volume, protocol, trajectory, (lo, hi), where="scan_phantom")
    first = line_integrals(phantom, protocol, trajectory.isel(view=slice(0, 1)), rows=(0, 1), volume=volume)
    tables = signal_tables(first, protocol, output_factor=output_factor)
    correction = water_correction(protocol)
    chain = detector_chain(
        protocol, _air(first, tables), correction, seed=seed, realisation=realisation, noise=noise,
        faults=faults, mas=float(per_view.mean()),
    )  # fmt: skip
    size = _block_views(block_views, shape, volume.n_basis)
    settings = [
        source_key(), phantom, list(objects), protocol, trajectory, seed, realisation, noise, per_view, lo, hi,
        tables.air, scatter_key, vars(chain.faults), variance, volume.basis.basis_mu,
    ]  # fmt: skip
    store = Store(out, shape, key=lambda: content_key(settings), variance=variance)
    scan = _Scan(phantom, protocol, trajectory, volume, samples, tables, (lo, hi), scatter, where)
    words = _read_blocks(scan, chain, store, per_view, size, progress)
    coords = {name: first[name] for name in ("row", "fan_angle", "u") if name in first.coords}
    data = {"projection": label("projection", store.projection, coords)}
    if store.variance is not None:
        data["variance"] = label("variance", store.variance, coords)
    window = {"row_lo": label("row_lo", lo), "row_hi": label("row_hi", hi)}
    return xr.Dataset(
        {**data, **trajectory.data_vars, **window},
        attrs={
            **first.attrs,
            **signal_attrs(protocol, tables),
            **scan_attrs(correction, seed=seed, realisation=realisation, noise=noise),
            "mas": float(np.mean(per_view, dtype=float)) * protocol.scanner.views_per_rotation,
            "sampling_points": len(samples),
            **words,
        },
    )


@dataclass(frozen=True)
class _Scan:
    """What the signals of a block are made from."""

    phantom: xr.Dataset | Recipe
    protocol: Protocol
    trajectory: xr.Dataset
    volume: Volume
    samples: tuple[Sample, ...]
    tables: SignalTables
    window: tuple[NDArray[np.int64], NDArray[np.int64]]
    scatter: Scatter | xr.DataArray | None
    device: Device

    def signals(self, views: slice) -> tuple[NDArray[np.float32], NDArray[np.float32], xr.Dataset]:
        """Mean and variance per mAs of a block (view, row, channel), and a Dataset that names them."""
        part = self.trajectory.isel(view=views)
        rows = self.window[0][views], self.window[1][views]
        total: list[NDArray[np.float32]] = []
        for sample in self.samples:
            paths = line_integrals(
                self.phantom,
                self.protocol,
                part,
                rows=rows,
                sample=sample,
                volume=self.volume,
                device=self.device,
            )
            own = [np.empty(paths["path"].shape[1:], np.float32) for _ in range(2)]
            mean_signals(paths, self.tables, *own)
            if len(self.samples) > 1:
                for values in own:
                    values *= np.float32(sample.weight)
            total = [a + b for a, b in zip(total, own, strict=True)] if total else own
        signal, second = total
        block = _named(paths, signal, second, views)
        if self.scatter is not None:
            added = _scatter_of(self.scatter, block)
            # scattered photons are about as hard as the primary ones: the same variance per signal
            second *= np.float32(1.0) + added / np.maximum(signal, np.float32(1e-30))
            signal += added
        return signal, second, block


def _named(
    paths: xr.Dataset, signal: NDArray[np.float32], second: NDArray[np.float32], views: slice
) -> xr.Dataset:
    coords = {name: paths[name] for name in ("row", "fan_angle", "u") if name in paths.coords}
    kept = {name: paths[name] for name in ("view_angle", "source_z", "row_lo", "row_hi")}
    block = xr.Dataset(
        {
            "signal": label("signal", signal, coords),
            "signal_variance": label("signal_variance", second, coords),
            **kept,
        },
        attrs=paths.attrs,
    )
    return block.assign_coords(view=np.arange(views.start, views.stop))


def _read_blocks(
    scan: _Scan, chain: Chain, store: Store, per_view: NDArray[np.float32], size: int, progress: bool
) -> dict[str, float]:
    """Fill the store; returns what is to be said of the geometry, over all rows and views that are computed."""
    n_view, words = per_view.size, ("truncated", "beyond_phantom")
    sums = np.zeros(len(words))
    done = store.restore(chain, sums)
    rays = (n_view - done) * math.prod(store.projection.shape[1:]) * len(scan.samples)
    bar = tqdm(total=n_view, initial=done, unit="view", desc="scan", disable=not progress, mininterval=1.0)
    if progress:
        gigabytes = store.projection.nbytes / 2**30
        bar.write(
            f"scan: {n_view - done} views, {rays / 1e6:.0f} million rays, about "
            f"{rays / RAYS_PER_SECOND / 60:.1f} min on 2 cores; projections {gigabytes:.1f} GiB"
        )
    lo, hi = scan.window
    n_rows = hi - lo
    with bar:
        for views in _blocks(done, n_view, size):
            if n_rows[views].any():
                signal, second, block = scan.signals(views)
                counted = n_rows[views].sum(), np.count_nonzero(n_rows[views])  # what the words are shares of
                sums += [block.attrs[name] * n for name, n in zip(words, counted, strict=True)]
                chain.read(
                    signal, second, mas=per_view[views], first_view=views.start,
                    window=(lo[views], hi[views]), projection=store.projection[views],
                    variance=None if store.variance is None else store.variance[views],
                )  # fmt: skip
            store.save(chain, views.stop, sums)
            bar.update(views.stop - views.start)
    shares = sums / [n_rows.sum(), np.count_nonzero(n_rows)]
    return dict(zip(words, map(float, shares), strict=True))


def _blocks(start: int, stop: int, size: int) -> Iterator[slice]:
    for first in range(start, stop, size):
        yield slice(first, min(first + size, stop))


def _block_views(asked: int | None, shape: tuple[int, int, int], n_basis: int) -> int:
    if asked is None:
        bytes_per_view = 4 * shape[1] * shape[2] * (n_basis + 4)
        return int(np.clip(BLOCK_BYTES // bytes_per_view // 16 * 16, 16, 1024))
    if asked < 1:
        refuse("scan_phantom: block_views", "1 or more", asked)
    return int(asked)


def _scatter_of(scatter: Scatter | xr.DataArray, block: xr.Dataset) -> NDArray[np.float32]:
    added = np.asarray(scatter(block), np.float32) if callable(scatter) else on_cells(scatter, block)
    if added.shape != block["signal"].shape or not np.isfinite(added).all() or added.min() < 0:
        refuse("scan_phantom: scatter", f"finite values of 0 or more, {block['signal'].shape}", added.shape)
    return added


def _air(paths: xr.Dataset, tables: SignalTables) -> xr.Dataset:
    return xr.Dataset(
        {
            "air_signal": label("air_signal", tables.air),
            "air_variance": label("air_variance", tables.air_variance),
        },
        attrs=paths.attrs,
    )


def _scatter_key(scatter: Scatter | xr.DataArray | None, out: str | Path | None) -> Any:
    """Content of the scatter, of an object its class and fields; a function's content cannot be known."""
    if out is None or not callable(scatter):
        return scatter
    fields = getattr(scatter, "__dict__", None)
    if inspect.isroutine(scatter) or not fields:
        refuse("scan_phantom: scatter", "a DataArray or ScatterKernel with out=", "a function")
    return [type(scatter).__qualname__, fields]


def simulate(
    phantom: xr.Dataset | Recipe,
    protocol: Protocol,
    *,
    z_range_mm: tuple[float, float] | None = None,
    seed: int,
    grid: Mapping[str, Any],
    kernel: str | Kernel | None = None,
    slice_thickness_mm: float | None = None,
    truncation: Truncation = "extrapolate",
    trajectory: xr.Dataset | None = None,
    realisation: int = 0,
    output_factor: float = 1.0,
    noise: bool = True,
    isocentre_mm: tuple[float, float] = (0.0, 0.0),
    start_angle_deg: float = 0.0,
    **scan: Any,
) -> xr.DataArray:
    """CT image of a phantom: scan, correct, reconstruct.

    Parameters
    ----------
    phantom : Dataset or Recipe
    protocol : Protocol
    z_range_mm : (float, float), optional
        Range to be imaged; ``trajectory`` takes its place.
    seed, realisation, output_factor, noise
        See :func:`twinlab.ct.acquire`.
    grid : mapping
        ``x``, ``y``, ``z``: voxel centres of the image [mm].
    kernel, slice_thickness_mm, truncation
        See :func:`twinlab.ct.reconstruct`. Default: the protocol's kernel and slices.
    trajectory : Dataset, optional
        From :func:`twinlab.scanner.trajectory`. Default: planned for ``z_range_mm``.
    isocentre_mm : (x, y)
    start_angle_deg : float
        Of the planned trajectory.
    **scan
        Further arguments of :func:`scan_phantom`: ``scatter``, ``faults``, ``progress``, ``out``,
        ``device``.

    Returns
    -------
    DataArray ``hu``, dims (z, y, x)

    Raises
    ------
    InputError
        See :func:`scan_phantom` and :func:`twinlab.ct.reconstruct`; not exactly one of ``z_range_mm`` and
        ``trajectory``; slices that no view comes near. All of it before the scan where it can be known.
    """
    from twinlab.ct.recon import reconstruct

    if (z_range_mm is None) == (trajectory is None):
        refuse("simulate", "one of z_range_mm and trajectory", "none" if trajectory is None else "both")
    path = trajectory
    if path is None:
        assert z_range_mm is not None
        path = plan_trajectory(
            protocol, z_range_mm=z_range_mm, start_angle_deg=start_angle_deg, isocentre_mm=isocentre_mm
        )
    kernel = get_kernel(protocol.kernel if kernel is None else kernel)
    thickness = protocol.slice_thickness_mm if slice_thickness_mm is None else slice_thickness_mm
    _check_grid(grid, protocol, path, thickness)
    projections = scan_phantom(
        phantom, protocol, trajectory=path, seed=seed, realisation=realisation, output_factor=output_factor,
        noise=noise, **scan,
    )  # fmt: skip
    return reconstruct(
        projections, protocol, grid=grid, kernel=kernel, slice_thickness_mm=thickness, truncation=truncation
    )


def _check_grid(grid: Mapping[str, Any], protocol: Protocol, path: xr.Dataset, thickness_mm: float) -> None:
    """Refuse a grid that the reconstruction would refuse, or with slices farther out than any ray."""
    geometry = geometry_of(scan_geometry(protocol, path), where="simulate")
    voxels = grid_of(grid, geometry, slice_thickness_mm=thickness_mm, where="simulate")
    z = path["source_z"].to_numpy()
    widest = (
        0.5 * protocol.collimation_mm * (1.0 + voxels.radius_mm / geometry.radius_mm) + voxels.thickness_mm
    )
    seen = float(z.min()) - widest, float(z.max()) + widest
    if voxels.z[0] < seen[0] or voxels.z[-1] > seen[1]:
        expected = f"slices inside the scanned range, {seen[0]:.4g} to {seen[1]:.4g} mm at most"
        refuse("simulate: grid", expected, f"z from {voxels.z[0]:g} to {voxels.z[-1]:g} mm")
