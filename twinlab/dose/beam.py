"""Where and how long the tubes of a CT protocol radiate, and on what they are centred."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from twinlab.kernels.transport_data import Source
from twinlab.scanner import Protocol, relative_mas, trajectory
from twinlab.scanner.collimation import blade_slopes, half_slope
from twinlab.scanner.photon_source import joined, protocol_beam
from twinlab.scanner.second import second_protocol
from twinlab.schema import check, refuse


@dataclass(frozen=True)
class TubeRun:
    """One tube at one voltage, and the views in which it radiates."""

    protocol: Protocol
    view: np.ndarray
    """(view, 4): angle [rad] and table position [mm] in the middle of a view, and how far both move in it."""
    mas: float
    """Of all its views."""
    weight: np.ndarray | None
    """(view,): relative mAs; None: even."""


@dataclass(frozen=True)
class ScanRuns:
    """All tubes of a scan, and the path of the first."""

    runs: list[TubeRun]
    view: np.ndarray
    """(view, 4), as of a run."""
    mas: float
    """Of the first tube, both voltages together where it switches."""

    def effective_mas(self, protocol: Protocol) -> float:
        """Mean over the scan of mAs per rotation over pitch, first tube: what CTDIvol goes with."""
        rotations = float(self.view[:, 2].sum()) / (2.0 * np.pi)
        return self.mas / rotations / protocol.pitch


def stations(
    protocol: Protocol,
    *,
    z_range_mm: tuple[float, float],
    start_angle_deg: float = 0.0,
    end_angle_deg: float | None = None,
) -> tuple[np.ndarray, float]:
    """Where the tube radiates, continuously, and for how many mAs.

    Parameters
    ----------
    protocol : Protocol
    z_range_mm : (float, float)
        Imaged range; the trajectory adds over-ranging in helical mode.
    start_angle_deg : float
        Of the first view.
    end_angle_deg : float, optional
        Of the last view, instead: the tube starts where the length of the scan brings it there.

    Returns
    -------
    view : (view, 4) array
        Gantry angle [rad] and table position [mm] in the middle of a view, and how far both move in it.
    mas : float
        Of the whole scan.

    Raises
    ------
    InputError
        Start and end angle, or no range.
    """
    if end_angle_deg is not None and start_angle_deg != 0.0:
        refuse("dose: start_angle_deg and end_angle_deg", "one of them", (start_angle_deg, end_angle_deg))
    path = trajectory(protocol, z_range_mm=z_range_mm, start_angle_deg=start_angle_deg)
    view, mas = path_stations(protocol, path)
    if end_angle_deg is not None:
        view[:, 0] += math.radians(end_angle_deg) - view[-1, 0]
    return view, mas


def path_stations(protocol: Protocol, path: xr.Dataset) -> tuple[np.ndarray, float]:
    """As :func:`stations`, of a trajectory; its ``tube_current`` gives the mAs where it has one.

    Raises
    ------
    InputError
        No trajectory, or a ``tube_current`` that is negative, undefined or 0 in all views.
    """
    check(path, "view_angle", "source_z", where="dose: trajectory")
    views = int(path.attrs.get("views_per_rotation", protocol.scanner.views_per_rotation))
    n = path.sizes["view"]
    feed = protocol.feed_mm / views if protocol.mode == "helical" else 0.0
    view = np.stack(
        [
            path["view_angle"].values,
            path["source_z"].values,
            np.full(n, 2 * np.pi / views),
            np.full(n, feed),
        ],
        axis=1,
    )
    if "tube_current" in path:
        current = path["tube_current"].to_numpy()
        if not ((current >= 0.0).all() and 0.0 < current.sum() < math.inf):
            refuse(
                "dose: tube_current of the trajectory",
                "0 mA or more in every view, not all 0",
                f"{current.min():g} to {current.max():g} mA",
            )
        return view, float(current.sum()) * protocol.rotation_time_s / views
    return view, protocol.mas * n / views


def tube_runs(
    protocol: Protocol,
    view: np.ndarray,
    mas: float,
    *,
    weight: np.ndarray | None = None,
    tube_kv: np.ndarray | None = None,
) -> list[TubeRun]:
    """Everything that radiates in a scan: one tube, two of a dual-source scanner, or one at two voltages.

    Parameters
    ----------
    protocol : Protocol
        With ``second_kv`` the second source radiates too, with the same current; a scanner with one source
        alternates the voltage from view to view.
    view, mas
        From :func:`stations`; of the first tube.
    weight : (view,) array, optional
        Relative mAs of the views.
    tube_kv : (view,) array, optional
        Voltage of each view, for a scanner with one source.

    Raises
    ------
    InputError
        A weight that does not fit the views.
    """
    if weight is not None:
        weight = np.asarray(weight, float)
        fits = weight.shape == (len(view),)
        if not (fits and np.isfinite(weight).all() and weight.min() >= 0.0 and weight.max() > 0.0):
            got = f"{weight.min():g} to {weight.max():g}" if fits else f"shape {weight.shape}"
            refuse("relative_mas", f"one value per view ({len(view)}), none negative and not all 0", got)
    plain = protocol if protocol.second_kv is None else protocol.replace(second_kv=None)
    if protocol.second_kv is not None and protocol.scanner.second_source is not None:
        ahead = np.zeros(4)
        ahead[0] = math.radians(protocol.scanner.second_source.angle_deg)
        second = TubeRun(second_protocol(protocol), view + ahead, mas, weight)
        return [TubeRun(plain, view, mas, weight), second]
    if tube_kv is None and protocol.second_kv is not None:
        tube_kv = np.where(np.arange(len(view)) % 2 == 0, protocol.kv, protocol.second_kv)
    if tube_kv is None:
        return [TubeRun(plain, view, mas, weight)]
    even = np.ones(len(view)) if weight is None else weight
    runs = []
    for kv in np.unique(tube_kv):
        own = np.asarray(tube_kv) == kv
        share = float(even[own].sum() / even.sum())
        runs.append(TubeRun(plain.replace(kv=float(kv)), view[own], mas * share, even[own]))
    return runs


def openings(
    run: TubeRun, *, z_range_mm: tuple[float, float], dynamic_collimation: bool | None = None
) -> np.ndarray | None:
    """Tangents of the cone angle between which the blades are open in each view; None: as the collimation.

    Parameters
    ----------
    run : TubeRun
    z_range_mm : (float, float)
        Imaged range.
    dynamic_collimation : bool, optional
        In helical scans the blades stop rays that cross the axis more than half of ``over_beaming_mm``
        outside the imaged range; by default as the scanner does.
    """
    scanner = run.protocol.scanner
    closing = scanner.dynamic_collimation if dynamic_collimation is None else dynamic_collimation
    if not closing or run.protocol.mode != "helical":
        return None
    margin = 0.5 * scanner.over_beaming_mm
    return blade_slopes(
        run.view[:, 1],
        z_range_mm=(z_range_mm[0] - margin, z_range_mm[1] + margin),
        half=half_slope(run.protocol)[0],
        radius_mm=scanner.source_to_isocentre_mm,
    )


def scan_source(
    runs: Sequence[TubeRun],
    *,
    corner_mm: np.ndarray,
    isocentre_mm: tuple[float, float],
    z_range_mm: tuple[float, float],
    tilt_deg: float = 0.0,
    dynamic_collimation: bool | None = None,
) -> tuple[Source, float]:
    """Transport source of a scan, and its photons.

    Parameters
    ----------
    runs : sequence of TubeRun
    corner_mm : (z, y, x)
        Of the grid.
    isocentre_mm : (x, y)
    z_range_mm : (float, float)
        Imaged range.
    tilt_deg : float
        Of the gantry, as in :class:`twinlab.scanner.Protocol`.
    dynamic_collimation : bool, optional
        As for :func:`openings`.

    Returns
    -------
    source : Source
    photons : float
        Into the collimated fields.
    """
    beams = []
    for run in runs:
        view = run.view.copy()
        view[:, 1] -= corner_mm[0]
        slope = openings(run, z_range_mm=z_range_mm, dynamic_collimation=dynamic_collimation)
        beam = protocol_beam(
            run.protocol,
            view,
            isocentre_mm=(isocentre_mm[0] - corner_mm[2], isocentre_mm[1] - corner_mm[1]),
            relative_mas=run.weight,
            slope=slope,
            tilt_rad=math.radians(tilt_deg),
        )
        beams.append((beam, run.mas))
    return joined(beams)


def path_weight(path: xr.Dataset | None, given: np.ndarray | None) -> np.ndarray | None:
    """Relative mAs of the views: as given, or as the trajectory's ``tube_current`` has it.

    Raises
    ------
    InputError
        Both.
    """
    if path is None or "tube_current" not in path:
        return given
    if given is not None:
        refuse("dose: relative_mas", "none with a trajectory that has a tube_current", "both")
    return relative_mas(path)


def scan_runs(
    protocol: Protocol,
    *,
    z_range_mm: tuple[float, float],
    start_angle_deg: float = 0.0,
    end_angle_deg: float | None = None,
    relative_mas: np.ndarray | None = None,
    trajectory: xr.Dataset | None = None,
) -> ScanRuns:
    """Everything that radiates in a scan, on the protocol's own path or on a trajectory.

    Raises
    ------
    InputError
        No Protocol, a trajectory and angles, angles that are not finite, two modulations, or no range.
    """
    if not isinstance(protocol, Protocol):
        refuse("dose: protocol", "a Protocol (twinlab.scanner.load_protocol)", type(protocol).__name__)
    if not math.isfinite(start_angle_deg) or not math.isfinite(end_angle_deg or 0.0):
        refuse("dose: angles", "finite degrees", (start_angle_deg, end_angle_deg))
    if trajectory is None:
        view, mas = stations(
            protocol, z_range_mm=z_range_mm, start_angle_deg=start_angle_deg, end_angle_deg=end_angle_deg
        )
        return ScanRuns(tube_runs(protocol, view, mas, weight=relative_mas), view, mas)
    if start_angle_deg != 0.0 or end_angle_deg is not None:
        refuse("dose: angles", "none with a trajectory, which has its own", (start_angle_deg, end_angle_deg))
    view, mas = path_stations(protocol, trajectory)
    kv = trajectory["tube_kv"].values if "tube_kv" in trajectory else None
    runs = tube_runs(protocol, view, mas, weight=path_weight(trajectory, relative_mas), tube_kv=kv)
    return ScanRuns(runs, view, mas)


def check_range(phantom: xr.Dataset, z_range_mm: tuple[float, float], dz_mm: float, where: str) -> None:
    """Refuse an imaged range beside the phantom."""
    z = phantom["z"].values
    low, high = float(z[0]) - dz_mm / 2, float(z[-1]) + dz_mm / 2
    if not (z_range_mm[1] > low and z_range_mm[0] < high):
        refuse(f"{where}: z_range_mm", f"a range that meets the phantom, {low:g} to {high:g} mm", z_range_mm)


def check_isocentre(
    phantom: xr.Dataset, protocol: Protocol, isocentre_mm: tuple[float, float], where: str
) -> None:
    """Refuse what is no place (photons would start nowhere), or a fan that does not meet the phantom's box."""
    if len(isocentre_mm) != 2 or not np.isfinite(np.asarray(isocentre_mm, float)).all():
        refuse(f"{where}: isocentre_mm", "(x, y) in mm, finite", isocentre_mm)
    reach = protocol.scanner.scan_fov_mm / 2
    for axis, centre in zip("xy", isocentre_mm, strict=True):
        low, high = float(phantom[axis][0]), float(phantom[axis][-1])
        if centre + reach < low or centre - reach > high:
            refuse(
                f"{where}: isocentre_mm ({axis})",
                f"a beam that meets the phantom, which reaches from {low:.4g} to {high:.4g} mm",
                f"{centre:g} mm, with a scan field of {2 * reach:.4g} mm",
            )
