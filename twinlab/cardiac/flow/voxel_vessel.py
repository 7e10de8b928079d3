"""Steady flow through a vessel given as a mask of voxels."""

from __future__ import annotations

import numpy as np
import xarray as xr
from scipy import ndimage

from twinlab.cardiac.flow.analytic import BLOOD_DENSITY_KG_PER_M3, BLOOD_VISCOSITY_PA_S, PA_PER_MMHG
from twinlab.cardiac.flow.grid import Grid, axis_of, build_grid, find_ends
from twinlab.cardiac.flow.lattice import Run, scale, steady
from twinlab.cardiac.flow.wall import wall_shear_stress
from twinlab.kernels.device import Device
from twinlab.schema import label, refuse

LEAST_ACROSS = 6.0  # voxels
_INWARD = 2  # voxels from an opening to the plane where its pressure is read


def vessel(
    mask: np.ndarray | xr.DataArray,
    *,
    spacing_mm: tuple[float, float, float],
    flow_ml_per_s: float,
    inlet: str = "z-",
    voxel_mm: float | None = None,
    smoothing_voxels: float = 1.0,
    viscosity_pa_s: float = BLOOD_VISCOSITY_PA_S,
    density_kg_per_m3: float = BLOOD_DENSITY_KG_PER_M3,
    lattice_speed: float | None = None,
    tolerance: float = 2e-5,
    most_steps: int = 60_000,
    device: Device = "auto",
    progress: bool = True,
) -> xr.Dataset:
    """Steady flow through a vessel: velocity, pressure and wall shear stress by lattice Boltzmann.

    The mask must be cut by faces of its array where flow enters (one opening at ``inlet``, developed laminar profile)
    and leaves (all other openings, pressure 0). The wall is the zero of the mask's smoothed distance, moved so that the
    volume stays. Newtonian blood, rigid wall.

    Parameters
    ----------
    mask : array (z, y, x) of bool
        The lumen.
    spacing_mm : tuple
        Voxel size z, y, x.
    flow_ml_per_s : float
        Into the inlet.
    inlet : {"z-", "z+", "y-", "y+", "x-", "x+"}
    voxel_mm : float, optional
        Size of the solver's cubic voxels; default the least spacing.
    smoothing_voxels : float
        Standard deviation of the smoothing of the distance, solver's voxels.
    viscosity_pa_s, density_kg_per_m3 : float
    lattice_speed, tolerance, most_steps
        See :func:`~twinlab.cardiac.flow.scale` and :func:`~twinlab.cardiac.flow.steady`.
    device : {"auto", "cpu", "cuda"}
    progress : bool

    Returns
    -------
    Dataset
        dims (z, y, x), mm from the first voxel's centre: ``flow_velocity`` (.., axis) m/s, ``flow_pressure`` mmHg above
        the outlets, ``wall_shear_stress`` Pa at the cells along the wall; NaN elsewhere. ``pressure_drop`` mmHg between
        the planes two voxels inside inlet and outlets (mean), ``vessel_reynolds`` at the inlet. attrs: ``converged``,
        ``steps``, ``relaxation_time``, ``openings``, ``flow_out_ml_per_s``, ``imbalance``.

    Raises
    ------
    InputError
        Empty, holed or disconnected mask, no or unclear openings, fewer than 6 voxels across, or a run that would be
        or became unstable.

    Limits
    ------
    Laminar: the Reynolds number of a voxel by the peak velocity stays below 20.
    """
    lumen = _checked_mask(mask, spacing_mm, flow_ml_per_s)
    distance, size = signed_distance(lumen, spacing_mm, voxel_mm, smoothing_voxels)
    ends = find_ends(distance, inlet)
    for end in ends:
        across = 2.0 * np.sqrt(end.where.sum() / np.pi)
        if across < LEAST_ACROSS:
            refuse(
                f"vessel: opening at {end.face}",
                f"{LEAST_ACROSS:g} voxels across or more (take a smaller voxel_mm)",
                f"{across:.1f}",
            )
    grid = build_grid(distance, ends=ends)
    _refuse_narrow(grid, ends)
    into = next(end for end in ends if end.inlet)
    mean = flow_ml_per_s * 1e-6 / (into.where.sum() * (size * 1e-3) ** 2)
    peak = _peak(grid, ends, mean, into.profile.max())
    scaling = scale(
        voxel_mm=size,
        peak_m_per_s=peak,
        viscosity_pa_s=viscosity_pa_s,
        density_kg_per_m3=density_kg_per_m3,
        lattice_speed=lattice_speed,
    )
    run = Run(grid, scaling, mean_inflow_m_per_s=mean, device=device)
    converged = steady(run, tolerance=tolerance, most_steps=most_steps, progress=progress)
    return _dataset(run, ends, converged, mean)


def _checked_mask(
    mask: np.ndarray | xr.DataArray, spacing_mm: tuple[float, float, float], flow_ml_per_s: float
) -> np.ndarray:
    values = np.asarray(mask)
    if values.ndim != 3 or not np.isin(np.unique(values), (0, 1)).all():
        refuse(
            "vessel: mask", "a mask (z, y, x) of 0 and 1", f"shape {values.shape} with other values or dims"
        )
    lumen = values.astype(bool)
    if len(spacing_mm) != 3 or not all(np.isfinite(s) and s > 0 for s in spacing_mm):
        refuse("vessel: spacing_mm", "three sizes above 0 (z, y, x)", spacing_mm)
    if not (np.isfinite(flow_ml_per_s) and flow_ml_per_s > 0):
        refuse("vessel: flow_ml_per_s", "a flow above 0", flow_ml_per_s)
    if not lumen.any():
        refuse("vessel: mask", "voxels inside", "none")
    pieces, count = ndimage.label(lumen)
    if count > 1:
        sizes = sorted(np.bincount(pieces.ravel())[1:].tolist(), reverse=True)
        refuse(
            "vessel: mask", "one connected piece (keep the largest)", f"{count} pieces of {sizes[:6]} voxels"
        )
    padded = np.pad(~lumen, 1, constant_values=True)
    _, outside = ndimage.label(padded)
    if outside > 1:
        refuse("vessel: mask", "no holes inside the lumen (fill them)", f"{outside - 1} holes")
    return lumen


def signed_distance(
    lumen: np.ndarray, spacing_mm: tuple[float, float, float], voxel_mm: float | None, smoothing_voxels: float
) -> tuple[np.ndarray, float]:
    """Signed distance to the smoothed wall on cubic voxels, in voxels (below 0 inside), and the voxels' size.

    The volume (with the parts of voxels that the wall cuts) is that of the mask.
    """
    size = float(voxel_mm if voxel_mm is not None else min(spacing_mm))
    if not size > 0:
        refuse("vessel: voxel_mm", "a size above 0", voxel_mm)
    step = np.array(spacing_mm, float)
    half = 0.5 * step.min()
    distance = ndimage.distance_transform_edt(~lumen, sampling=step) - ndimage.distance_transform_edt(
        lumen, sampling=step
    )
    distance += np.where(lumen, half, -half)
    counts = np.maximum(1, np.round(np.array(lumen.shape) * step / size)).astype(int)
    if counts.prod() > 2e8:
        refuse(
            "vessel: voxel_mm", "at most 200 million voxels (take a larger one or crop)", int(counts.prod())
        )
    places = [((np.arange(n) + 0.5) * size / s - 0.5) for n, s in zip(counts, step, strict=True)]
    even = (
        ndimage.map_coordinates(distance, np.meshgrid(*places, indexing="ij"), order=1, mode="nearest") / size
    )
    if smoothing_voxels > 0:
        even = ndimage.gaussian_filter(even, smoothing_voxels, mode="nearest")
    for axis in range(3):  # smoothing must not open what the mask leaves closed
        for side in (0, -1):
            if not np.take(lumen, side, axis=axis).any():
                place: list = [slice(None)] * 3
                place[axis] = side
                even[tuple(place)] = np.maximum(even[tuple(place)], 0.5)
    wanted = lumen.sum() * step.prod() / size**3
    near = even[np.abs(even) < 3.0]
    whole = int((even <= -3.0).sum())
    low, high = -1.5, 1.5
    for _ in range(40):
        shift = 0.5 * (low + high)
        volume = whole + np.clip(0.5 - (near - shift), 0.0, 1.0).sum()
        low, high = (shift, high) if volume < wanted else (low, shift)
    even -= shift
    return even, size


def _peak(grid: Grid, ends: list, mean: float, share: float) -> float:
    """Greatest velocity to expect: the inlet's peak, faster as the vessel is narrower along the way."""
    area = next(end for end in ends if end.inlet).where.sum()
    narrowest = min([area, *_sections(grid, ends)[1]])
    return float(mean * share * area / narrowest)


def _sections(grid: Grid, ends: list) -> tuple[list[float], list[int]]:
    """Inscribed diameter and number of cells of the layers from the inlet (steps through cells) to the first outlet."""
    inside = grid.index >= 0
    front = np.zeros_like(inside)
    doors = np.zeros_like(inside)
    for end in ends:
        axis, side = axis_of(end.face)
        place: list = [slice(None)] * 3
        place[axis] = side
        target = front if end.inlet else doors
        target[tuple(place)] |= end.where
    seen, layer = front.copy(), front
    widths, areas = [], []
    cross = ndimage.generate_binary_structure(3, 1)
    reached = False
    while layer.any() and not reached:
        widths.append(2.0 * float(-grid.distance[layer].min()))
        areas.append(int(layer.sum()))
        reached = bool((layer & doors).any())
        layer = ndimage.binary_dilation(layer, cross) & inside & ~seen
        seen |= layer
    return widths, areas


def _refuse_narrow(grid: Grid, ends: list) -> None:
    widths, _ = _sections(grid, ends)
    if min(widths) < LEAST_ACROSS - 1.0:  # an inscribed ball between cell centres is up to a voxel short
        refuse(
            "vessel",
            f"{LEAST_ACROSS:g} voxels across or more everywhere (take a smaller voxel_mm)",
            f"{min(widths):.1f} in layer {int(np.argmin(widths))} from the inlet",
        )


def _dataset(run: Run, ends: list, converged: bool, mean: float) -> xr.Dataset:
    grid, s = run.grid, run.scaling
    shape = grid.distance.shape
    place = tuple(grid.cells)
    u, p = run.velocity_m_per_s(), run.pressure_pa() / PA_PER_MMHG
    velocity, pressure, stress = np.full((*shape, 3), np.nan), np.full(shape, np.nan), np.full(shape, np.nan)
    velocity[place], pressure[place] = u.T, p
    cells, traction = wall_shear_stress(grid, u, voxel_mm=s.voxel_mm, viscosity_pa_s=s.viscosity_pa_s)
    stress[tuple(grid.cells[:, cells])] = np.linalg.norm(traction, axis=1)
    coords = {name: s.voxel_mm * np.arange(n) for name, n in zip("zyx", shape, strict=True)}
    planes = []
    for end in ends:
        axis, side = axis_of(end.face)
        inside = _INWARD if side == 0 else shape[axis] - 1 - _INWARD
        planes.append(float(np.nanmean(np.take(pressure, inside, axis=axis)[end.where])))
    drop = next(v for v, e in zip(planes, ends, strict=True) if e.inlet)
    drop -= float(np.mean([v for v, e in zip(planes, ends, strict=True) if not e.inlet]))
    area = next(e for e in ends if e.inlet).where.sum() * s.voxel_mm**2
    flows = run.through_ends()
    total = sum(v for k, v in flows.items() if ends[k].inlet)
    result = xr.Dataset(
        {
            "flow_velocity": label("flow_velocity", velocity, {**coords, "axis": ["x", "y", "z"]}),
            "flow_pressure": label("flow_pressure", pressure, coords),
            "wall_shear_stress": label("wall_shear_stress", stress, coords),
            "pressure_drop": label("pressure_drop", drop),
            "vessel_reynolds": label(
                "vessel_reynolds",
                s.density_kg_per_m3 * mean * 2e-3 * np.sqrt(area / np.pi) / s.viscosity_pa_s,
            ),
        }
    )
    result.attrs.update(
        converged=converged,
        steps=run.steps,
        relaxation_time=s.relaxation_time,
        openings=[("inlet " if e.inlet else "outlet ") + e.face for e in ends],
        flow_out_ml_per_s=[-flows[k] for k, e in enumerate(ends) if not e.inlet],
        imbalance=abs(sum(flows.values())) / total,
    )
    return result
