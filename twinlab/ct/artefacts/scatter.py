"""Scattered radiation on the detector, by photon transport through the phantom in a few views."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from twinlab.ct.artefacts.grid import grid_transmission, primary_transmission
from twinlab.ct.detector import detected_spectrum, efficiency
from twinlab.kernels.transport import mean_sd
from twinlab.kernels.transport_data import energy_grid
from twinlab.kernels.transport_forced import run_forced
from twinlab.kernels.transport_scatter import N_TANGENT, Screen, run_screen
from twinlab.phantom import check_phantom, from_recipe
from twinlab.phantom import transport_tables as table_module
from twinlab.phantom.recipes import Recipe
from twinlab.phantom.transport_grid import voxel_grid
from twinlab.scanner import Protocol, cell_solid_angle
from twinlab.scanner.photon_source import beam_source
from twinlab.schema import label, refuse

BLOCK_MM = 20.0  # of the majorant
STEEPEST = 3.0  # tangent beyond which the grid's transmission is that of 72 degrees
_M2_IN_MM2 = 1e6
_NO_AIR = 1e-9  # g/cm3 around the phantom: none, as in the projector

Array = NDArray[np.float64]


def scatter_by_transport(
    phantom: xr.Dataset | Recipe,
    protocol: Protocol,
    trajectory: xr.Dataset,
    *,
    seed: int,
    views: int = 25,
    histories: int = 500_000,
    bins: tuple[int, int] = (48, 1),
    smooth_bins: float = 1.0,
    band_mm: float = 120.0,
    output_factor: float = 1.0,
    forced_rays: int = 0,
) -> xr.Dataset:
    """Scattered and primary signal per cell on a coarse grid of views and cells.

    Photons of the protocol's beam are followed through the phantom (photoelectric absorption, Compton and
    Rayleigh scattering with form factors); those that leave it towards the detector are scored by the
    energy that the absorber takes, scattered ones behind the anti-scatter grid. Scatter is smooth, so that
    few views and wide bins, smoothed, carry it.

    Parameters
    ----------
    phantom : Dataset or Recipe
        Everything that scatters; outside it there is vacuum. A recipe is painted on its own grid
        (:func:`twinlab.phantom.from_recipe`).
    protocol : Protocol
    trajectory : Dataset
        From :func:`twinlab.scanner.trajectory`.
    seed : int
        The result is the same for any number of threads.
    views : int
        Views computed, evenly over the trajectory with its first and last.
    histories : int
        Photons per view.
    bins : (int, int)
        Bins over the channels and over the rows.
    smooth_bins : float
        Standard deviation of the Gaussian that scatter is smoothed with along views and channels [bins].
    band_mm : float
        With one bin over the rows, the shape of scatter over the channels is taken from this height of a
        detector that goes on beyond the rows, and its level from the rows: more photons at the same cost.
    output_factor : float
        See :func:`twinlab.ct.detected`.
    forced_rays : int
        Forced detection: rays from each collision to the detector, each with the scatter expected along it. 8
        cost some 10 times as much a history and, at equal time, leave a fifteenth of the variance: 20,000
        histories do for a view. ``band_mm`` is then not used. 0: photons that arrive are counted.

    Returns
    -------
    Dataset, dims (view, row, channel)
        ``scatter`` and ``primary`` [keV/mAs per cell and view] with their standard uncertainties ``scatter_sd``
        and ``primary_sd``; coordinates ``view`` and ``channel`` (index), ``row`` [mm]. ``scatter`` is what
        :func:`twinlab.ct.scan_phantom` takes: relative to a primary signal without grid, as that is scaled
        to air. attrs ``primary_transmission``.

    Raises
    ------
    InputError
        Not a Phantom; fewer than 1 view, 1,000 histories or 1 bin, more bins than cells, or less than 0 rays.

    Limits
    ------
    The detector absorbs what its thickness stops at normal incidence; no scatter from bowtie, table, grid or
    in the detector. Coarse bins round off the primary signal at edges: it is a check, not a scan.

    References
    ----------
    Badal A, Badano A (2009) Accelerating Monte Carlo simulations of photon transport in a voxelized geometry.
    Med Phys 36:4878. Colijn A P, Beekman F J (2004) Accelerated simulation of cone beam X-ray scatter
    projections. IEEE Trans Med Imaging 23:584 (few, smoothed photons).
    """
    body = from_recipe(phantom) if isinstance(phantom, Recipe) else phantom
    spacing = check_phantom(body, where="scatter_by_transport")
    n_row, n_channel = protocol.row_positions_mm().size, protocol.scanner.detector.n_channels
    if views < 1 or histories < 1000 or not 1 <= bins[0] <= n_channel or not 1 <= bins[1] <= n_row:
        refuse(
            "scatter_by_transport",
            f"views of 1 or more, histories of 1000 or more, bins within ({n_channel}, {n_row})",
            (views, histories, bins),
        )
    if forced_rays < 0:
        refuse("scatter_by_transport: forced_rays", "0 or more", forced_rays)
    index = np.unique(np.rint(np.linspace(0, trajectory.sizes["view"] - 1, views)).astype(int))
    low = np.array([float(body[a][0]) - d / 2 for a, d in zip("zyx", spacing, strict=True)])
    names = [str(m) for m in body["material_name"].values]
    tables = table_module.build(names)
    material = body["material"].to_numpy()
    grid = voxel_grid(
        material,
        body["density"].to_numpy(),
        np.zeros(material.shape, np.uint16),
        tables,
        spacing_mm=spacing,
        reach_mm=5000.0,
        block=int(np.clip(round(BLOCK_MM / np.mean(spacing)), 2, 16)),
        air_density=_NO_AIR,
    )
    isocentre = tuple(float(trajectory.attrs[f"isocentre_{a}_mm"]) - low[i] for a, i in (("x", 2), ("y", 1)))
    tables_of_grid = _septa(protocol)
    rows_mm = n_row * protocol.scanner.detector.row_pitch_mm
    banded = bins[1] == 1 and band_mm > rows_mm and forced_rays == 0
    bands = 2 * math.ceil((band_mm / rows_mm - 1) / 2) + 1 if banded else 1
    run = partial(run_forced, rays=forced_rays) if forced_rays > 0 else run_screen
    found = []
    for number, view in enumerate(index):
        angle, z = (float(trajectory[n][view]) for n in ("view_angle", "source_z"))
        station = np.array([[angle, z - low[0], 0.0, 0.0]])
        source, per_mas = beam_source(protocol, station, isocentre_mm=isocentre)
        screen = _screen(protocol, angle, z - low[0], isocentre, bins, bands, tables_of_grid)
        scores = run(
            grid, tables, source, screen, histories=histories, seed=seed, first_history=number * histories
        )
        found.append(np.stack(mean_sd(scores, histories)) * per_mas)
    cells = (n_row / bins[1]) * (n_channel / bins[0])
    passed = float(_primary(protocol))
    factor = protocol.scanner.detector.fill_factor * output_factor / cells
    mean, sd = (np.stack([f[i] for f in found], axis=1) * factor for i in range(2))
    scatter, scatter_sd = _smooth(*_in_rows(mean[1], sd[1], bands), smooth_bins)
    middle = slice(bands // 2, bands // 2 + 1) if bands > 1 else slice(None)
    values = (scatter / passed, scatter_sd / passed, mean[0][:, middle], sd[0][:, middle])
    return _labelled(protocol, index, bins, values, passed, histories).assign_attrs(
        forced_rays=int(forced_rays)
    )


def air_signal(protocol: Protocol, *, output_factor: float = 1.0) -> Array:
    """Signal of the cells without an object [keV/mAs], shape (row, channel)."""
    _, spectrum = detected_spectrum(protocol)
    cell = cell_solid_angle(protocol).to_numpy() * protocol.scanner.detector.fill_factor * _M2_IN_MM2
    return np.asarray(cell * spectrum.sum(axis=1) * output_factor)


def on_cells(scatter: xr.DataArray, projections: xr.Dataset) -> NDArray[np.float32]:
    """Coarse scatter between its points, for every view, row and channel of a scan; held beyond its ends."""
    places = {
        "view": projections["view"].to_numpy(),  # numbered in the whole scan, in a block of it too
        "row": projections["row"].to_numpy(),
        "channel": np.arange(projections.sizes["channel"]),
    }
    values = scatter.transpose("view", "row", "channel").to_numpy()
    for axis, (name, place) in enumerate(places.items()):
        at = np.interp(place, scatter[name].to_numpy(), np.arange(scatter.sizes[name]))
        low = np.minimum(at.astype(int), max(scatter.sizes[name] - 2, 0))
        high = np.minimum(low + 1, scatter.sizes[name] - 1)
        share = (at - low).reshape([-1 if k == axis else 1 for k in range(3)])
        values = values.take(low, axis) * (1.0 - share) + values.take(high, axis) * share
    return np.asarray(values, np.float32)


def _septa(protocol: Protocol) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Grid's transmission over (energy grid, tangent), across the channels and along the rows."""
    coarse = np.arange(1.0, 152.0, 2.5)
    tangent = np.linspace(0.0, STEEPEST, N_TANGENT)
    tables = []
    for direction in ("channel", "row"):
        values = grid_transmission(protocol, energy_kev=coarse, tangent=tangent, direction=direction)
        fine = [np.interp(energy_grid(), coarse, column) for column in values.T]
        tables.append(np.ascontiguousarray(np.stack(fine, axis=1), np.float32))
    return tables[0], tables[1]


def _primary(protocol: Protocol) -> float:
    """Mean transmission of the primary beam through the grid, by signal on the central ray."""
    energy, spectrum = detected_spectrum(protocol)
    middle = spectrum[spectrum.shape[0] // 2]
    return float(np.average(primary_transmission(protocol, energy_kev=energy), weights=middle))


def _screen(
    protocol: Protocol,
    angle: float,
    z: float,
    isocentre: tuple[float, ...],
    bins: tuple[int, int],
    bands: int,
    septa: tuple[NDArray[np.float32], NDArray[np.float32]],
) -> Screen:
    """Detector of a view in coordinates of the transport's grid."""
    scanner = protocol.scanner
    flat = scanner.detector.shape == "flat"
    channel = scanner.channel_positions_mm() / (1.0 if flat else scanner.source_to_detector_mm)
    row = protocol.row_positions_mm()
    step = channel[1] - channel[0]
    height = scanner.detector.row_pitch_mm
    radius = scanner.source_to_isocentre_mm
    place = [
        isocentre[0] + radius * np.sin(angle),
        isocentre[1] - radius * np.cos(angle),
        z,
        -np.sin(angle),
        np.cos(angle),
        scanner.source_to_detector_mm,
    ]
    edge = [
        channel[0] - step / 2,
        step * channel.size / bins[0],
        row.mean() - height * row.size * bands / 2,
        height * row.size / bins[1],
    ]
    return Screen(
        flat=np.array([flat], np.int32),
        place=np.array(place, np.float32),
        edge=np.array(edge, np.float32),
        bins=np.array([bins[0], bins[1] * bands], np.int32),
        response=efficiency(protocol, energy_grid()).astype(np.float32),
        tangent=np.full(2, STEEPEST, np.float32),
        across=septa[0],
        along=septa[1],
    )


def _in_rows(mean: Array, sd: Array, bands: int) -> tuple[Array, Array]:
    """Scatter in the middle one of some bands, with the shape over views and channels of all of them."""
    if bands == 1:
        return mean, sd
    middle = slice(bands // 2, bands // 2 + 1)
    shape, total = mean.mean(axis=1, keepdims=True), mean[:, middle].sum()
    level = total / shape.sum()
    own = np.sqrt((sd**2).sum(axis=1, keepdims=True)) / bands * level
    common = np.sqrt((sd[:, middle] ** 2).sum()) / total
    return shape * level, np.hypot(own, common * shape * level)


def _smooth(mean: Array, sd: Array, width: float) -> tuple[Array, Array]:
    """Gaussian mean along views and channels, and its uncertainty for independent bins."""
    variance = sd**2
    for axis in (0, 2):
        if width > 0 and mean.shape[axis] > 2:
            weight = gaussian_filter1d(np.eye(mean.shape[axis]), width, axis=0, mode="nearest")
            mean, variance = (
                np.moveaxis(np.tensordot(w, v, (1, axis)), 0, axis)
                for w, v in ((weight, mean), (weight**2, variance))
            )
    return mean, np.sqrt(variance)


def _labelled(
    protocol: Protocol,
    index: NDArray[np.intp],
    bins: tuple[int, int],
    values: tuple[Array, ...],
    passed: float,
    histories: int,
) -> xr.Dataset:
    row, n_channel = protocol.row_positions_mm(), protocol.scanner.detector.n_channels
    wide = row.size * protocol.scanner.detector.row_pitch_mm / bins[1]
    coords = {
        "view": index.astype(float),
        "row": (np.arange(bins[1]) - (bins[1] - 1) / 2) * wide + row.mean(),
        "channel": (np.arange(bins[0]) + 0.5) * n_channel / bins[0] - 0.5,
    }
    names = ("scatter", "scatter_sd", "primary", "primary_sd")
    fields = {name: label(name, v, coords) for name, v in zip(names, values, strict=True)}
    attrs = {"scanner": protocol.scanner.key, "histories": int(histories), "primary_transmission": passed}
    return xr.Dataset(fields, attrs=attrs)
