"""Two tube voltages in one scan: switched from view to view, or from a second source on the same gantry.

Both give a protocol and a trajectory for each energy, with which everything else goes on as with two scans.
"""

from __future__ import annotations

import math

import numpy as np
import xarray as xr

from twinlab.scanner.models import Protocol
from twinlab.schema import check, label, refuse


def second_protocol(protocol: Protocol) -> Protocol:
    """What the second source of a dual-source scanner does in a scan.

    Parameters
    ----------
    protocol : Protocol
        Its scanner has a ``second_source``; ``second_kv`` is the voltage of that.

    Returns
    -------
    Protocol
        Scanner ``<key>_b`` with the second detector's channels and the second tube's filters; the same distances,
        rows, bowties, current and rotation. The reconstructed field is that of the smaller detector at most.

    Raises
    ------
    InputError
        No second source, or no ``second_kv``.
    """
    scanner, source = protocol.scanner, protocol.scanner.second_source
    if source is None:
        refuse("second_protocol", "a scanner with a second source", scanner.key)
    detector = scanner.detector.model_copy(
        update={"n_channels": source.n_channels, "channel_offset": source.channel_offset}
    )
    other = scanner.model_copy(
        update={
            "key": f"{scanner.key}_b",
            "detector": detector,
            "tube": scanner.tube.model_copy(update={"filters": dict(source.filters)}),
            "second_source": None,
        }
    )
    field = min(protocol.reconstruction_fov_mm, other.scan_fov_mm)
    return protocol.replace(
        scanner=other, kv=_second_kv(protocol, "second_protocol"), second_kv=None, reconstruction_fov_mm=field
    )


def second_trajectory(protocol: Protocol, trajectory: xr.Dataset) -> xr.Dataset:
    """Trajectory of the second source of a dual-source scanner: the first one's, turned ahead.

    Raises
    ------
    InputError
        No second source, or no trajectory.
    """
    source = protocol.scanner.second_source
    if source is None:
        refuse("second_trajectory", "a scanner with a second source", protocol.scanner.key)
    check(trajectory, "view_angle", "source_z", where="second_trajectory")
    turned = trajectory["view_angle"].to_numpy() + math.radians(source.angle_deg)
    return trajectory.assign(view_angle=label("view_angle", turned))


def switched_trajectory(protocol: Protocol, trajectory: xr.Dataset) -> xr.Dataset:
    """The trajectory of a scan whose tube voltage alternates, with ``tube_kv`` (view) [kV].

    Raises
    ------
    InputError
        No ``second_kv``, or an odd number of views per rotation, which would not alternate over rotations.
    """
    other = _alternates(protocol, "switched_trajectory")
    check(trajectory, "view_angle", "source_z", where="switched_trajectory")
    kv = np.where(np.arange(trajectory.sizes["view"]) % 2 == 0, protocol.kv, other)
    return trajectory.assign(tube_kv=label("tube_kv", kv.astype(float)))


def switched_protocols(protocol: Protocol) -> tuple[Protocol, Protocol]:
    """Protocols of the even and of the odd views of a scan whose tube voltage alternates.

    Each has half of the views of a rotation and half of the tube current times time, so that a view keeps its
    exposure.

    Raises
    ------
    InputError
        No ``second_kv``, an odd number of views per rotation, or no tube current.
    """
    other = _alternates(protocol, "switched_protocols")
    half = protocol.scanner.model_copy(
        update={"views_per_rotation": protocol.scanner.views_per_rotation // 2}
    )
    current = protocol.mas / protocol.rotation_time_s / 2.0
    common = {"scanner": half, "second_kv": None, "tube_current_ma": current}
    return protocol.replace(**common), protocol.replace(**common, kv=other)


def switched_views(scan: xr.Dataset) -> tuple[xr.Dataset, xr.Dataset]:
    """Even and odd views of a trajectory, of line integrals or of projections, each a scan of its own.

    Raises
    ------
    InputError
        No views, or an odd number of them in a rotation.
    """
    check(scan, "view_angle", where="switched_views")
    views = int(scan.attrs.get("views_per_rotation", 0))
    if views < 2 or views % 2:
        refuse("switched_views", "an even number of views per rotation", views)
    attrs = {**scan.attrs, "views_per_rotation": views // 2}
    first, second = (scan.isel(view=slice(start, None, 2)).assign_attrs(attrs) for start in (0, 1))
    return first, second


def aligned(projections: xr.Dataset, views: xr.Dataset) -> xr.Dataset:
    """Projections of switched views interpolated to the view angles of the other voltage, ray by ray.

    Linear between the two neighbouring views; at the ends of a scan the nearest one (axial scans: the one
    across the end of the rotation). ``variance`` becomes that of the mean.

    Parameters
    ----------
    projections : Dataset
        ``projection`` (view, row, channel) of one voltage.
    views : Dataset
        ``view_angle`` (view) of the other.

    Raises
    ------
    InputError
        Numbers of views that are not those of alternating views.

    Limits
    ------
    Rays differ by half a step of the rotation. Readings over the width of a cell and the time of a view (the
    protocol's ``sampling``) vary slowly enough for it; rays without width hit edges of voxels in one view and not in
    the next, which interpolation of any order cannot know (docs/methods/spectral.md). In helical scans the table's
    way between two views is averaged too.
    """
    check(projections, "projection", "view_angle", "source_z", where="aligned")
    own, wanted = projections["view_angle"].to_numpy(), views["view_angle"].to_numpy()
    if abs(own.size - wanted.size) > 1 or own.size < 2:
        refuse("aligned", "as many views of one voltage as of the other", (own.size, wanted.size))
    place = (wanted - own[0]) / (own[1] - own[0])
    low = np.floor(place + 1e-9).astype(int)
    share = np.clip(place - low, 0.0, 1.0).astype(np.float32)
    turn = int(projections.attrs.get("views_per_rotation", own.size))
    around = projections.attrs.get("mode") == "axial" and own.size == turn
    below, above = (i % turn if around else np.clip(i, 0, own.size - 1) for i in (low, low + 1))
    f = share[:, None, None]
    out = projections.isel(view=np.zeros(wanted.size, int)).assign(
        view_angle=views["view_angle"], source_z=views["source_z"]
    )
    for name, a, b in (("projection", 1.0 - f, f), ("variance", (1.0 - f) ** 2, f**2)):
        if name in projections:
            values = projections[name].to_numpy()
            out[name] = out[name].copy(data=a * values[below] + b * values[above])
    for name in ("row_lo", "row_hi"):
        if name in projections:
            out[name] = projections[name].isel(view=np.minimum(np.arange(wanted.size), own.size - 1))
    return out


def _second_kv(protocol: Protocol, where: str) -> float:
    if protocol.second_kv is None:
        refuse(f"{where}: second_kv", "a second tube voltage", "none")
    return protocol.second_kv


def _alternates(protocol: Protocol, where: str) -> float:
    other = _second_kv(protocol, where)
    if protocol.scanner.second_source is not None:
        refuse(where, "a scanner with one source, which switches", f"{protocol.scanner.key} with two")
    views = protocol.scanner.views_per_rotation
    if views % 2:
        refuse(where, "an even number of views per rotation", views)
    return other
