"""Doses of a protocol from the response of a patient: a weighted sum, in milliseconds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from twinlab.dose.beam import TubeRun, openings, scan_runs
from twinlab.dose.body import organ_table
from twinlab.dose.cells import Cells, weights
from twinlab.dose.response import beam_identity
from twinlab.scanner import Protocol
from twinlab.scanner.collimation import half_slope
from twinlab.schema import check, refuse

_SAME_MM = 0.1  # of two isocentres: far below the size of a cell


def from_response(
    response: xr.Dataset | Sequence[xr.Dataset],
    protocol: Protocol,
    *,
    z_range_mm: tuple[float, float],
    start_angle_deg: float = 0.0,
    end_angle_deg: float | None = None,
    relative_mas: np.ndarray | None = None,
    trajectory: xr.Dataset | None = None,
    dynamic_collimation: bool | None = None,
) -> xr.Dataset:
    """Organ doses of a protocol, from responses computed beforehand.

    Any pitch, collimation, start angle, range, mAs and tube current curve; two tube voltages or sources with a
    response for each.

    Parameters
    ----------
    response : Dataset or sequence of Dataset
        From :func:`twinlab.dose.response_matrix`: one for each tube and kV of the protocol.
    protocol : Protocol
        With a tube current.
    z_range_mm, start_angle_deg, end_angle_deg, relative_mas, trajectory, dynamic_collimation
        As for :func:`twinlab.dose.simulate`.

    Returns
    -------
    Dataset
        ``organ_dose``, ``organ_dose_sd``, ``organ_mass``, ``organ_coverage``, ``organ_cut`` by organ_id, as
        :func:`twinlab.dose.simulate` gives them. ``organ_dose_sd`` is statistical: variances of the cells add
        up. Doses of several protocols from one response share these errors, so their ratios are surer than
        the sds say.

    Raises
    ------
    InputError
        A response for another scanner, kV, bowtie or tilt; responses of several phantoms or isocentres; a trajectory
        about another isocentre or with another tilt than the response's; a path or a beam beyond its cells; and what
        :func:`twinlab.dose.simulate` refuses.
    """
    known = [response] if isinstance(response, xr.Dataset) else list(response)
    if not known:
        refuse("dose.from_response: response", "a result of dose.response_matrix, or several", "none")
    for one in known:
        check(
            one,
            "organ_response",
            "organ_response_sd",
            "organ_mass_z",
            "cone_sine",
            where="dose.from_response",
        )
    scan = scan_runs(
        protocol,
        z_range_mm=z_range_mm,
        start_angle_deg=start_angle_deg,
        end_angle_deg=end_angle_deg,
        relative_mas=relative_mas,
        trajectory=trajectory,
    )
    _check_one_patient(known)
    _check_trajectory(known[0], trajectory)
    dose: Any = 0.0
    variance: Any = 0.0
    for number, run in enumerate(scan.runs):
        one = _matching(known, run, protocol, number)
        mas = _weights_of(one, run, z_range_mm, dynamic_collimation).ravel().astype(np.float32)
        n = one.sizes["organ_id"]
        dose = dose + (one["organ_response"].values.reshape(n, -1) @ mas).astype(float)
        part = one["organ_response_sd"].values.reshape(n, -1) * mas
        variance = variance + np.einsum("ij,ij->i", part, part).astype(float)
    first = known[0].attrs
    keep = ("output_factor", "isocentre_x_mm", "isocentre_y_mm", "extend_mm", "phantom", "seed", "histories")
    return organ_table(known[0], dose, np.sqrt(variance), z_range_mm=z_range_mm).assign_attrs(
        **{name: first[name] for name in keep},
        mas=float(scan.mas),
        effective_mas=scan.effective_mas(protocol),
        z_low_mm=float(z_range_mm[0]),
        z_high_mm=float(z_range_mm[1]),
        protocol=protocol.key,
        method="response of the patient, cell by cell",
    )


def _check_one_patient(known: Sequence[xr.Dataset]) -> None:
    """Responses that are added up must be of one patient in one place."""
    first = known[0]
    for one in known[1:]:
        if not (first["organ_mass"].identical(one["organ_mass"])):
            refuse("dose.from_response: responses", "all of one phantom", one.attrs.get("phantom"))
        for axis in ("isocentre_x_mm", "isocentre_y_mm"):
            if abs(first.attrs[axis] - one.attrs[axis]) > _SAME_MM:
                refuse(
                    f"dose.from_response: {axis} of the responses", f"{first.attrs[axis]:g}", one.attrs[axis]
                )


def _check_trajectory(response: xr.Dataset, trajectory: xr.Dataset | None) -> None:
    """A trajectory about another axis, or of a gantry that leans otherwise, has another response."""
    if trajectory is None:
        return
    for name, allowed in (
        ("isocentre_x_mm", _SAME_MM),
        ("isocentre_y_mm", _SAME_MM),
        ("gantry_tilt_deg", 0.0),
    ):
        known = float(response.attrs[name])
        given = float(trajectory.attrs.get(name, known if name == "gantry_tilt_deg" else 0.0))
        if abs(given - known) > allowed:
            refuse(f"dose.from_response: trajectory {name}", f"{known:g}, that of the response", f"{given:g}")


def _matching(known: Sequence[xr.Dataset], run: TubeRun, protocol: Protocol, number: int) -> xr.Dataset:
    """The response of a tube and its voltage."""
    wanted = beam_identity(run.protocol)
    for one in known:
        if all(one.attrs[name] == value for name, value in wanted.items()):
            return one
    held = [{name: one.attrs[name] for name in wanted} for one in known]
    return refuse(
        f"dose.from_response: response for tube run {number + 1} of {protocol.key}", str(wanted), held
    )


def _weights_of(
    response: xr.Dataset, run: TubeRun, z_range_mm: tuple[float, float], dynamic: bool | None
) -> np.ndarray:
    """mAs by cell of one tube's run."""
    cells = Cells(
        z_mm=response["table_z"].values,
        n_sector=response.sizes["gantry_angle"],
        sine=response["cone_sine"].values,
    )
    even = np.ones(len(run.view)) if run.weight is None else np.asarray(run.weight, float)
    half, spot, blade = half_slope(run.protocol)
    slope = openings(run, z_range_mm=z_range_mm, dynamic_collimation=dynamic)
    if slope is None:
        slope = np.array([[-half, half]])
    blur = spot[1] / blade if spot[1] > 0 else 0.0
    return weights(cells, run.view, run.mas * even / even.sum(), slope, blur=blur)
