"""Scan a phantom by blocks of views: any number of views, rows and sampling points in bounded memory.

Of a block, line integrals are traced for every point of the sampling, turned into signals and averaged as
signals; scatter is added; the detector reads the block (:mod:`twinlab.ct.readers`). Only what it reads stays.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from tqdm import tqdm

from twinlab.ct.detector import one_voltage
from twinlab.ct.electronics import Faults, check_seed
from twinlab.ct.field_edge import Truncation
from twinlab.ct.filters import Kernel
from twinlab.ct.filters import get as get_kernel
from twinlab.ct.gantry import geometry_of, grid_of
from twinlab.ct.paths import (
    detector_geometry,
    line_integrals,
    refuse_impossible,
    row_window,
    scan_geometry,
    warn_missed,
)
from twinlab.ct.readers import Reader, Scatter, integrating, scatter_key
from twinlab.ct.resume import Store
from twinlab.ct.sampling import Sample, sub_samples
from twinlab.ct.scan import mas_per_view
from twinlab.ct.spectral.acquisition import threshold_projections
from twinlab.ct.spectral.counter import counter
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
    """Water-corrected projections of a phantom, or its counts, as a scanner with all its parts would give them.

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
        numbered in the scan) that returns an array (view, row, channel). A photon-counting detector divides the
        energy among its bins as it does the beam's behind 20 cm of water; with a dim ``bin`` in front, it is
        counts per mAs of each bin.
    variance : bool
        Return the variance of the projections too, at twice the memory. Of counts it comes with their
        projections.
    n_basis, objects
        See :func:`twinlab.ct.line_integrals`.
    out : path, optional
        ``.npy`` file for projections or counts, mapped into memory. A scan that was interrupted goes on after its last
        whole block, if everything that determines it is the same; ``scatter`` may then be no plain function.
    block_views : int, optional
        Views in a block. Default: as many as hold 128 MiB.
    progress : bool
        Say the cost, then show a bar on standard error.
    device : "auto", "cpu" or "cuda"
        Where voxels are projected (:func:`twinlab.ct.line_integrals`), energies summed and readings drawn.

    Returns
    -------
    Dataset
        As :func:`twinlab.ct.acquire`; ``variance`` when asked for. With a photon-counting detector as
        :func:`twinlab.ct.spectral.acquire_counts`: ``counts`` by energy bin, for
        :func:`twinlab.ct.spectral.bin_projections`, :func:`twinlab.ct.spectral.threshold_projections` and
        :func:`twinlab.ct.spectral.measurements_of_bins`.

    Raises
    ------
    InputError
        See :func:`twinlab.ct.line_integrals` (for all views, before the work) and :func:`twinlab.ct.acquire`;
        ``out`` is no ``.npy`` file, or is given with a plain function as ``scatter``; a photon-counting detector
        has electronics or faults that only integrating ones have.
    """
    where = resolve(device, where="scan_phantom")
    one_voltage(trajectory, protocol, where="scan_phantom")
    per_view = mas_per_view(trajectory, protocol, mas=mas)
    n_view, n_row = trajectory.sizes["view"], protocol.row_positions_mm().size
    lo, hi = row_window(rows, n_view, n_row)
    check_seed(seed, realisation, where="scan_phantom")
    scattered = scatter_key(scatter, out)
    samples = sub_samples(protocol)
    volume = prepare_phantom(phantom, protocol, n_basis=n_basis, objects=objects)
    fan = protocol.scanner.fan_angles_rad()
    every = detector_geometry(protocol, trajectory, Sample())
    refuse_impossible(volume, every, fan, where="scan_phantom")
    warn_missed(volume, protocol, trajectory, (lo, hi), where="scan_phantom")
    first = line_integrals(phantom, protocol, trajectory.isel(view=slice(0, 1)), rows=(0, 1), volume=volume)
    counting = protocol.scanner.detector.counting is not None
    if counting and variance:
        refuse(
            "scan_phantom: variance", "False with a photon-counting detector (bin_projections gives it)", True
        )
    reader: Reader = (counter if counting else integrating)(
        first, protocol, seed=seed, realisation=realisation, noise=noise, faults=faults,
        mas=float(per_view.mean()), output_factor=output_factor, device=where,
    )  # fmt: skip
    shape = (n_view, n_row, protocol.scanner.detector.n_channels)
    size = _block_views(block_views, shape, volume.n_basis + 2 + reader.n_moments)
    settings = [
        source_key(), phantom, list(objects), protocol, trajectory, seed, realisation, noise, per_view, lo, hi,
        reader.content, scattered, variance, volume.basis.basis_mu,
    ]  # fmt: skip
    own = (len(protocol.scanner.detector.counting.thresholds_kev), *shape) if counting else shape
    store = Store(out, own, key=lambda: content_key(settings), variance=variance)
    scan = _Scan(phantom, protocol, trajectory, volume, samples, (lo, hi), scatter, where)
    words = _read_blocks(scan, reader, store, per_view, size, progress)
    data, attrs = reader.results(store, first, per_view)
    window = {"row_lo": label("row_lo", lo), "row_hi": label("row_hi", hi)}
    return xr.Dataset(
        {**data, **trajectory.data_vars, **window},
        attrs={**first.attrs, **attrs, "sampling_points": len(samples), **words},
    )


@dataclass(frozen=True)
class _Scan:
    """What the signals of a block are made from."""

    phantom: xr.Dataset | Recipe
    protocol: Protocol
    trajectory: xr.Dataset
    volume: Volume
    samples: tuple[Sample, ...]
    window: tuple[NDArray[np.int64], NDArray[np.int64]]
    scatter: Scatter | xr.DataArray | None
    device: Device

    def moments(self, views: slice, reader: Reader) -> tuple[Any, xr.Dataset]:
        """Moments per mAs of a block (moment, view, row, channel), and the last line integrals' Dataset."""
        part = self.trajectory.isel(view=views)
        rows = self.window[0][views], self.window[1][views]
        total: Any = None
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
            own = reader.moments(paths)
            if len(self.samples) > 1:
                own *= np.float32(sample.weight)
            total = own if total is None else total + own
        assert total is not None
        if self.scatter is not None:
            kept = [name for name in ("view_angle", "source_z", "row_lo", "row_hi") if name in paths]
            block = paths[kept].assign_coords(view=np.arange(views.start, views.stop))
            coords = {name: paths[name] for name in ("row", "fan_angle", "u") if name in paths.coords}
            reader.add_scatter(total, self.scatter, block.assign_coords(coords))
        return total, paths


def _read_blocks(
    scan: _Scan, reader: Reader, store: Store, per_view: NDArray[np.float32], size: int, progress: bool
) -> dict[str, float]:
    """Fill the store; returns what is to be said of the geometry, over all rows and views that are computed."""
    n_view, words = per_view.size, ("truncated", "beyond_phantom")
    sums = np.zeros(len(words))
    done = store.restore(reader, sums)
    rays = (n_view - done) * math.prod(store.projection.shape[-2:]) * len(scan.samples)
    bar = tqdm(total=n_view, initial=done, unit="view", desc="scan", disable=not progress, mininterval=1.0)
    if progress:
        gigabytes = store.projection.nbytes / 2**30
        bar.write(
            f"scan: {n_view - done} views, {rays / 1e6:.0f} million rays, about "
            f"{rays / RAYS_PER_SECOND / 60:.1f} min on 2 cores; {gigabytes:.1f} GiB are kept"
        )
    lo, hi = scan.window
    n_rows = hi - lo
    with bar:
        for views in _blocks(done, n_view, size):
            if n_rows[views].any():
                moments, paths = scan.moments(views, reader)
                counted = n_rows[views].sum(), np.count_nonzero(n_rows[views])  # what the words are shares of
                sums += [paths.attrs[name] * n for name, n in zip(words, counted, strict=True)]
                reader.read(moments, store, views, mas=per_view[views], window=(lo[views], hi[views]))
            store.save(reader, views.stop, sums)
            bar.update(views.stop - views.start)
    shares = sums / [n_rows.sum(), np.count_nonzero(n_rows)]
    return dict(zip(words, map(float, shares), strict=True))


def _blocks(start: int, stop: int, size: int) -> Iterator[slice]:
    for first in range(start, stop, size):
        yield slice(first, min(first + size, stop))


def _block_views(asked: int | None, shape: tuple[int, int, int], n_values: int) -> int:
    if asked is None:
        bytes_per_view = 4 * shape[1] * shape[2] * n_values
        return int(np.clip(BLOCK_BYTES // bytes_per_view // 16 * 16, 16, 1024))
    if asked < 1:
        refuse("scan_phantom: block_views", "1 or more", asked)
    return int(asked)


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
    """CT image of a phantom: scan, correct, reconstruct; with a photon-counting detector of all its counts.

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
    if "counts" in projections:
        projections = threshold_projections(projections, protocol, threshold=0)
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
