"""Line integrals of a phantom for every detector cell: once for all tube voltages, exposures and seeds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from twinlab.ct.basis import Basis, choose_basis
from twinlab.ct.detector import detected_spectrum
from twinlab.ct.sampling import Sample
from twinlab.kernels.columns import Columns, prepare_materials
from twinlab.kernels.project import project
from twinlab.scanner import Protocol
from twinlab.schema import check, label, refuse, spacing


def scan_basis(material_names: list[str], protocol: Protocol, *, n_basis: int | None = None) -> Basis:
    """Attenuation basis for some materials and all tube voltages of a protocol's scanner.

    Raises
    ------
    InputError
        ``n_basis`` out of range.
    """
    stations = protocol.scanner.tube.kv_stations
    found = [detected_spectrum(protocol.replace(kv=kv)) for kv in stations]
    energy = np.unique(np.concatenate([e for e, _ in found]))
    spectra = np.zeros((len(found), energy.size))
    for row, (own, spectrum) in zip(spectra, found, strict=True):
        row[np.searchsorted(energy, own)] = spectrum[spectrum.shape[0] // 2]
    return choose_basis(material_names, energy_kev=energy, spectra=spectra, n_basis=n_basis)


@dataclass(frozen=True)
class Volume:
    """A phantom laid out for projection; made by :func:`prepare_phantom`, good for all views of a scan."""

    columns: Columns
    basis: Basis
    spacing_mm: tuple[float, float, float]
    origin_mm: tuple[float, float, float]
    phantom: str


def prepare_phantom(phantom: xr.Dataset, protocol: Protocol, *, n_basis: int | None = None) -> Volume:
    """Lay out a phantom once for several calls of :func:`line_integrals` (``volume=``).

    Raises
    ------
    InputError
        See :func:`line_integrals`.
    """
    check(phantom, "material", "density", "material_name", where="line_integrals")
    dz, dy, dx = (spacing(phantom[axis], where="line_integrals: phantom") for axis in ("z", "y", "x"))
    z0, y0, x0 = (float(phantom[axis][0]) for axis in ("z", "y", "x"))
    material = phantom["material"].to_numpy()
    present = np.flatnonzero(np.bincount(material.ravel()))
    names = [str(name) for name in phantom["material_name"].to_numpy()]
    if present[-1] >= len(names):
        refuse(
            "line_integrals", f"material below {len(names)}, the length of material_name", int(present[-1])
        )
    basis = scan_basis([names[m] for m in present], protocol, n_basis=n_basis)
    coefficients = np.zeros((len(names), basis.basis_mu.shape[0]), np.float32)
    coefficients[present] = basis.coefficients
    columns = prepare_materials(material, phantom["density"].to_numpy(), coefficients=coefficients)
    return Volume(columns, basis, (dz, dy, dx), (z0, y0, x0), str(phantom.attrs.get("key", "")))


def line_integrals(
    phantom: xr.Dataset,
    protocol: Protocol,
    trajectory: xr.Dataset,
    *,
    n_basis: int | None = None,
    rows: tuple[Any, Any] | None = None,
    sample: Sample | None = None,
    volume: Volume | None = None,
) -> xr.Dataset:
    """Line integrals of an attenuation basis through a phantom, from every focal spot to every detector cell.

    They hold for every tube voltage, bowtie and exposure of the scanner.

    Parameters
    ----------
    phantom : Dataset
        ``material``, ``density`` (z, y, x) and ``material_name``. Outside its grid there is vacuum.
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
    volume : Volume, optional
        From :func:`prepare_phantom`, to save its time when a scan is projected in parts.

    Returns
    -------
    Dataset
        ``path`` (basis, view, row, channel) [g/cm2], ``basis_mu`` (basis, energy), ``mixing``, ``row_lo`` and
        ``row_hi``, ``view_angle``, ``source_z``; coordinates ``row`` [mm at the detector], ``fan_angle``
        [rad] (arc) or ``u`` [mm] (flat); geometry in attrs, and ``basis_error``.

    Raises
    ------
    InputError
        A variable is missing or of other dims or units, a grid is uneven, rows are out of range.
    """
    check(trajectory, "view_angle", "source_z", where="line_integrals")
    scanner, n_view = protocol.scanner, trajectory.sizes["view"]
    row_mm = protocol.row_positions_mm()
    row_lo, row_hi = _row_window(rows, n_view, row_mm.size)
    if volume is None:
        volume = prepare_phantom(phantom, protocol, n_basis=n_basis)
    basis = volume.basis
    rays = detector_geometry(protocol, trajectory, sample or Sample())
    path = project(
        volume.columns,
        spacing_mm=volume.spacing_mm,
        origin_mm=volume.origin_mm,
        row_lo=row_lo,
        row_hi=row_hi,
        **rays,
    )
    flat = scanner.detector.shape == "flat"
    channel = ("u", scanner.channel_positions_mm()) if flat else ("fan_angle", scanner.fan_angles_rad())
    coords = {"row": row_mm, channel[0]: ("channel", channel[1])}
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
            **trajectory.attrs,
            "scanner": scanner.key,
            "source_to_isocentre_mm": scanner.source_to_isocentre_mm,
            "source_to_detector_mm": scanner.source_to_detector_mm,
            "row_pitch_mm": scanner.detector.row_pitch_mm,
            "basis_error": basis.error,
            "phantom": volume.phantom,
        },
    )


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


def _row_window(rows: tuple[Any, Any] | None, n_view: int, n_row: int) -> tuple[np.ndarray, np.ndarray]:
    low, high = (0, n_row) if rows is None else rows
    try:
        lo = np.array(np.broadcast_to(np.asarray(low, np.int64), n_view))
        hi = np.array(np.broadcast_to(np.asarray(high, np.int64), n_view))
    except ValueError:
        refuse("rows", f"a number, or one per view ({n_view})", (np.shape(low), np.shape(high)))
    if lo.min(initial=0) < 0 or hi.max(initial=0) > n_row:
        refuse("rows", f"within 0 to {n_row}", f"{lo.min()} to {hi.max()}")
    return lo, np.maximum(lo, hi)
