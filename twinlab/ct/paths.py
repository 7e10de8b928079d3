"""Line integrals of a phantom for every detector cell: once for all tube voltages, exposures and seeds."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from twinlab.ct.sampling import Sample
from twinlab.ct.volume import Volume, prepare_phantom, scan_basis
from twinlab.kernels.device import Device, resolve
from twinlab.phantom.recipes import Recipe
from twinlab.phantom.shapes import Shape
from twinlab.scanner import Protocol
from twinlab.schema import check, label, refuse

__all__ = ["Volume", "line_integrals", "prepare_phantom", "scan_basis"]

EDGE_G_CM2 = 0.5  # more than this on the outermost channel is an object cut by the edge of the fan


def line_integrals(
    phantom: xr.Dataset | Recipe,
    protocol: Protocol,
    trajectory: xr.Dataset,
    *,
    n_basis: int | None = None,
    rows: tuple[Any, Any] | None = None,
    sample: Sample | None = None,
    objects: Sequence[Shape] = (),
    volume: Volume | None = None,
    device: Device = "auto",
) -> xr.Dataset:
    """Line integrals of an attenuation basis through a phantom, from every focal spot to every detector cell.

    They hold for every tube voltage, bowtie and exposure of the scanner.

    Parameters
    ----------
    phantom : Dataset or Recipe
        ``material``, ``density`` (z, y, x) and ``material_name``; outside its grid there is vacuum. Or a recipe of
        solids (:func:`twinlab.phantom.load_recipe`), whose chords are exact, in a box of air of its size.
    protocol : Protocol
        Scanner and collimation.
    trajectory : Dataset
        From :func:`twinlab.scanner.trajectory`.
    n_basis : int, optional
        Number of basis functions. Default: as few as keep transmission right to 2e-4.
    rows : (row_lo, row_hi), optional
        Detector rows to compute, ``row_lo <= row < row_hi``: numbers, or one each per view.
    sample : Sample, optional
        Point on the focal spot, on the cell and in the time of the view
        (:func:`twinlab.ct.sampling.sub_samples`). Default: the middle of all. Coordinates, angles and
        ``source_z`` of the result remain those of the middle.
    objects : sequence of Shape
        Solids, in painting order, that replace what of the phantom they cover; their chords are exact.
    volume : Volume, optional
        From :func:`prepare_phantom`, to save its time when a scan is projected in parts; ``phantom``, ``n_basis``
        and ``objects`` are then those it was made with.
    device : "auto", "cpu" or "cuda"
        Where voxels are projected. Both agree to 1e-4 of the longest path, except for rays along a face.

    Returns
    -------
    Dataset
        ``path`` (basis, view, row, channel) [g/cm2], ``basis_mu`` (basis, energy), ``mixing``, ``row_lo`` and
        ``row_hi``, ``view_angle``, ``source_z``; coordinates ``row`` [mm at the detector], ``fan_angle``
        [rad] (arc) or ``u`` [mm] (flat); geometry in attrs, ``basis_error``, and two words on the geometry:
        ``truncated``, the share of readings' rows whose outermost channel sees more than 5 mm of tissue, and
        ``beyond_phantom``, the share of views some of whose rows pass the isocentre beyond the slices of a voxel
        phantom, or beyond all solids of a recipe that are denser than air.

    Warns
    -----
    UserWarning
        All rows of all views pass the isocentre below the phantom, or all above it.

    Raises
    ------
    InputError
        A variable is missing or of other dims or units, a grid is uneven, rows are out of range, the focal spot
        enters the object's box, or the object lies wholly beside the fan.
    """
    check(trajectory, "view_angle", "source_z", where="line_integrals")
    scanner, n_view = protocol.scanner, trajectory.sizes["view"]
    row_mm = protocol.row_positions_mm()
    row_lo, row_hi = row_window(rows, n_view, row_mm.size)
    alone = volume is None
    if volume is None:
        volume = prepare_phantom(phantom, protocol, n_basis=n_basis, objects=objects)
    basis = volume.basis
    rays = detector_geometry(protocol, trajectory, sample or Sample()) | {"row_lo": row_lo, "row_hi": row_hi}
    refuse_impossible(volume, rays, scanner.fan_angles_rad(), where="line_integrals")
    if alone:
        warn_missed(volume, protocol, trajectory, (row_lo, row_hi), where="line_integrals")
    tilt = math.radians(trajectory.attrs.get("gantry_tilt_deg", 0.0))
    path = volume.line_integrals(rays, tilt_rad=tilt, device=resolve(device, where="line_integrals"))
    views = scan_geometry(protocol, trajectory)
    coords = {name: views[name] for name in ("row", "fan_angle", "u") if name in views.coords}
    return xr.Dataset(
        {
            "path": label("path", path, coords),
            "basis_mu": label("basis_mu", basis.basis_mu, {"energy": basis.energy_kev}),
            "mixing": label("mixing", basis.mixing, {"mixed_material": list(basis.material_names)}),
            **trajectory.data_vars,
            "row_lo": label("row_lo", row_lo),
            "row_hi": label("row_hi", row_hi),
        },
        attrs={
            **views.attrs,
            "basis_error": basis.error,
            "phantom": volume.phantom,
            **({} if sample is None else {"sample": _numbers(sample)}),
            "truncated": _truncated(path, scanner.fan_angles_rad(), row_lo, row_hi),
            "beyond_phantom": _beyond(volume, rays),
        },
    )


def scan_geometry(protocol: Protocol, trajectory: xr.Dataset) -> xr.Dataset:
    """The trajectory with rows and channels of the detector: all that a reconstruction asks of a scan's geometry.

    Parameters
    ----------
    protocol : Protocol
    trajectory : Dataset
        From :func:`twinlab.scanner.trajectory`.

    Returns
    -------
    Dataset
        Coordinates and geometry in attrs as of :func:`line_integrals`.
    """
    scanner = protocol.scanner
    flat = scanner.detector.shape == "flat"
    channel = ("u", scanner.channel_positions_mm()) if flat else ("fan_angle", scanner.fan_angles_rad())
    return trajectory.assign_coords(
        {"row": protocol.row_positions_mm(), channel[0]: ("channel", channel[1])}
    ).assign_attrs(
        scanner=scanner.key,
        source_to_isocentre_mm=scanner.source_to_isocentre_mm,
        source_to_detector_mm=scanner.source_to_detector_mm,
        row_pitch_mm=scanner.detector.row_pitch_mm,
    )


def warn_missed(
    volume: Volume,
    protocol: Protocol,
    trajectory: xr.Dataset,
    window: tuple[np.ndarray, np.ndarray],
    *,
    where: str,
) -> None:
    """Warn of an object that all views of a scan miss along z.

    Warns
    -----
    UserWarning
        All rows that are computed pass the isocentre below the object, or all above it.
    """
    rays = detector_geometry(protocol, trajectory, Sample()) | {"row_lo": window[0], "row_hi": window[1]}
    ends = _ends_mm(volume)
    if ends is None:
        return
    low, high = _heights(rays)
    if low.min() > ends[1] or high.max() < ends[0]:
        warnings.warn(
            f"{where}: the scan from z = {low.min():.4g} to {high.max():.4g} mm misses the object, which reaches "
            f"from {ends[0]:.4g} to {ends[1]:.4g} mm.",
            UserWarning,
            stacklevel=3,
        )


def _numbers(sample: Sample) -> list[float]:
    return [
        *sample.shift_mm,
        sample.channel_fraction,
        sample.row_fraction,
        sample.view_fraction,
        sample.weight,
    ]


def detector_geometry(protocol: Protocol, trajectory: xr.Dataset, sample: Sample) -> dict[str, Any]:
    """Keywords of :func:`twinlab.kernels.project.project` for one point of focal spot, cell and view.

    Parameters
    ----------
    protocol : Protocol
    trajectory : Dataset
        From :func:`twinlab.scanner.trajectory`.
    sample : Sample
    """
    scanner, attrs = protocol.scanner, trajectory.attrs
    detector = scanner.detector
    angle = trajectory["view_angle"].to_numpy()
    source_z = trajectory["source_z"].to_numpy()
    shift = np.asarray(sample.shift_mm, float)
    if "focal_shift" in trajectory:
        shift = shift + trajectory["focal_shift"].to_numpy()
    if sample.view_fraction:
        step = sample.view_fraction / attrs["views_per_rotation"]
        feed = attrs["feed_mm"] if attrs["mode"] == "helical" else 0.0
        source_z = source_z + step * math.copysign(feed, source_z[-1] - source_z[0])
        angle = angle + step * 2.0 * math.pi
    u = scanner.channel_positions_mm() + sample.channel_fraction * detector.channel_pitch_mm
    flat = detector.shape == "flat"
    return {
        "view_angle_rad": angle,
        "source_z_mm": source_z,
        "source_to_isocentre_mm": scanner.source_to_isocentre_mm,
        "source_to_detector_mm": scanner.source_to_detector_mm,
        "isocentre_mm": (float(attrs["isocentre_x_mm"]), float(attrs["isocentre_y_mm"])),
        "fan_angle_rad": None if flat else u / scanner.source_to_detector_mm,
        "u_mm": u if flat else None,
        "row_mm": protocol.row_positions_mm() + sample.row_fraction * detector.row_pitch_mm,
        "focal_shift_mm": shift if shift.any() else None,
    }


def refuse_impossible(volume: Volume, rays: dict[str, Any], fan: np.ndarray, *, where: str) -> None:
    """Refuse a focal spot inside the object, or an object beside the fan.

    Parameters
    ----------
    volume : Volume
    rays : dict
        From :func:`detector_geometry`, of all views.
    fan : array (channel,), rad
    where : str
        Name of the function that refuses.

    Raises
    ------
    InputError
    """
    if volume.limits_mm is None:
        return
    (x_lo, x_hi), (y_lo, y_hi), (z_lo, z_hi) = volume.limits_mm
    (iso_x, iso_y), radius = rays["isocentre_mm"], rays["source_to_isocentre_mm"]
    angle, z = rays["view_angle_rad"], rays["source_z_mm"]
    x, y = iso_x + radius * np.sin(angle), iso_y - radius * np.cos(angle)
    inside = (x > x_lo) & (x < x_hi) & (y > y_lo) & (y < y_hi) & (z > z_lo) & (z < z_hi)
    if inside.any():
        refuse(
            where,
            f"an object that the focal spot, {radius:g} mm from the isocentre, does not enter",
            f"one of x {x_lo:.4g} to {x_hi:.4g}, y {y_lo:.4g} to {y_hi:.4g} mm",
        )
    beside = math.hypot(max(x_lo - iso_x, iso_x - x_hi, 0.0), max(y_lo - iso_y, iso_y - y_hi, 0.0))
    field = radius * math.sin(min(float(np.abs(fan).max()), 0.5 * math.pi))
    if beside > field:
        refuse(
            where,
            f"an object within {field:.4g} mm of the isocentre, in the fan",
            f"one {beside:.4g} mm away",
        )


def _truncated(path: np.ndarray, fan: np.ndarray, row_lo: np.ndarray, row_hi: np.ndarray) -> float:
    """Share of rows that see more than air on an outermost channel of the (wider) side of the fan."""
    widest = float(np.abs(fan).max())
    edges = [
        c for c in (0, fan.size - 1) if abs(fan[c]) > 0.8 * widest
    ]  # an offset panel ends once by design
    cut = (path[0][..., edges] > EDGE_G_CM2).any(axis=-1)
    return float(cut.sum() / max((row_hi - row_lo).sum(), 1))


def _beyond(volume: Volume, rays: dict[str, Any]) -> float:
    """Share of views with rows that pass the isocentre below or above the phantom."""
    ends = _ends_mm(volume)
    low, high = _heights(rays)
    if ends is None or not low.size:
        return 0.0
    return float(((low < ends[0]) | (high > ends[1])).mean())


def _ends_mm(volume: Volume) -> tuple[float, float] | None:
    """Where a phantom ends along z: its slices, or the solids that are denser than air."""
    if not volume.material.size:
        return None if volume.limits_mm is None else volume.limits_mm[2]
    z0, dz, nz = volume.origin_mm[0], volume.spacing_mm[0], volume.material.shape[0]
    return z0 - 0.5 * dz, z0 + (nz - 0.5) * dz


def _heights(rays: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Heights at the isocentre of the lowest and the highest row of every view that has rows, mm."""
    used = rays["row_hi"] > rays["row_lo"]
    shrink = rays["source_to_isocentre_mm"] / rays["source_to_detector_mm"]
    low = rays["source_z_mm"][used] + shrink * rays["row_mm"][rays["row_lo"][used]]
    high = rays["source_z_mm"][used] + shrink * rays["row_mm"][rays["row_hi"][used] - 1]
    return low, high


def row_window(rows: tuple[Any, Any] | None, n_view: int, n_row: int) -> tuple[np.ndarray, np.ndarray]:
    """First row and end of rows of every view, int64 arrays (view,).

    Parameters
    ----------
    rows : (row_lo, row_hi) or None
        Numbers, or one each per view; None: all rows.
    n_view, n_row : int

    Raises
    ------
    InputError
        No views, not one number per view, outside the detector, or no view has a row.
    """
    if not n_view:
        refuse("trajectory", "a view or more", "none")
    low, high = (0, n_row) if rows is None else rows
    try:
        lo = np.array(np.broadcast_to(np.asarray(low, np.int64), n_view))
        hi = np.array(np.broadcast_to(np.asarray(high, np.int64), n_view))
    except ValueError:
        refuse("rows", f"a number, or one per view ({n_view})", (np.shape(low), np.shape(high)))
    if lo.min(initial=0) < 0 or hi.max(initial=0) > n_row:
        refuse("rows", f"within 0 to {n_row}", f"{lo.min()} to {hi.max()}")
    if not (lo < hi).any():
        got = f"{low} to {high}" if np.ndim(low) == np.ndim(high) == 0 else "none in any view"
        refuse("rows", "one row or more", got)
    return lo, np.maximum(lo, hi)
