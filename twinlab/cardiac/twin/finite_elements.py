"""A beat of the patient's left ventricle in three dimensions, in the closed loop."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from scipy.spatial.transform import Rotation

from twinlab.cardiac.circulation import ClosedLoop, CoupledError, closed_loop, parameter_set
from twinlab.cardiac.geometry import aha_segments, lv_solid
from twinlab.cardiac.mechanics import (
    ActiveLaw,
    Law,
    MechanicsError,
    Springs,
    Twitch,
    Ventricle,
    body,
    ellipsoid,
    ellipsoid_frame,
    guccione,
    per_tet,
    segment_means,
    strain,
    unloaded,
)
from twinlab.schema import label, refuse

ACTIVE = ActiveLaw(across=0.4, steepness=5.0, slack_stretch=0.7)
"""Share of the stress across the fibres and length dependence: settings (docs/methods/heart_twin.md)."""

PERICARDIUM_KPA_PER_MM = 0.2

_GLOBAL = {
    "fibre_strain": "global_fibre_strain",
    "longitudinal_strain": "global_longitudinal_strain",
    "circumferential_strain": "global_circumferential_strain",
}


def fitted_left_ventricle(
    *, cavity_ml: float, wall_ml: float, cells: tuple[int, int, int] = (2, 5, 8)
) -> tuple[xr.Dataset, np.ndarray]:
    """Truncated ellipsoid of curved quadratic elements with a patient's volumes, fibres turning from 60 to -60 degrees.

    Parameters
    ----------
    cavity_ml, wall_ml : float
        At end-diastole.
    cells : (through the wall, from apex to base, around)
        See :func:`~twinlab.cardiac.mechanics.ellipsoid`.

    Returns
    -------
    heart : Dataset
        With ``aha_segment`` (tet).
    frame : ndarray (tet, 14, 3, 3)
        Fibre, sheet and normal for :func:`beat_3d`.

    Raises
    ------
    InputError
        Volumes that no ventricle has.
    """
    solid = lv_solid(cavity_ml=cavity_ml, wall_ml=wall_ml)
    short, long, wall = (float(solid.attrs[k]) for k in ("lv_short_mm", "lv_long_mm", "lv_wall_mm"))
    base = float(solid.attrs["base_height_mm"])
    heart = ellipsoid(cells=cells, short_mm=(short, short + wall), long_mm=(long, long + wall), base_mm=base)
    heart.attrs.update(
        lv_apex_mm=[0.0, 0.0, -long],
        base_point_mm=[0.0, 0.0, base],
        base_normal=[0.0, 0.0, 1.0],
        septum_direction=[-1.0, 0.0, 0.0],
    )
    heart["wall"] = label("wall", np.ones(heart.sizes["tet"], np.uint8))
    heart["aha_segment"] = aha_segments(heart)
    return heart, ellipsoid_frame(heart, endo_deg=60.0, epi_deg=-60.0)


class Beating:
    """The ventricle as the circulation sees it, keeping the shapes of the last beat.

    Parameters
    ----------
    ventricle : Ventricle
    period_ms : float
    """

    def __init__(self, ventricle: Ventricle, period_ms: float) -> None:
        self.ventricle, self.period_ms = ventricle, period_ms
        self.times: list[float] = []
        self.shapes: list[np.ndarray] = []
        self._asked = 0.0

    def pressure(self, volume_ml: float, time_ms: float) -> tuple[float, float]:
        """See :meth:`twinlab.cardiac.mechanics.Ventricle.pressure`."""
        self._asked = time_ms
        found = self.ventricle.pressure(volume_ml, time_ms)
        return float(found[0]), float(found[1])

    def commit(self) -> None:
        """Keep the step and its shape; shapes of earlier beats are forgotten."""
        self.ventricle.commit()
        self.times.append(self._asked)
        self.shapes.append(self.ventricle.displacement_mm.astype(np.float32))
        while self.times[-1] - self.times[0] > self.period_ms:
            del self.times[0], self.shapes[0]

    def rollback(self) -> None:
        """Forget the trial."""
        self.ventricle.rollback()


def beat_3d(
    heart: xr.Dataset,
    activation_ms: Any,
    *,
    parameters: ClosedLoop | None = None,
    law: Law | None = None,
    peak_kpa: Any = 100.0,
    frame: np.ndarray | None = None,
    end_diastolic_mmhg: float = 8.0,
    atria_to_ventricles_ms: float = 145.0,
    steps_per_beat: int = 100,
    beats: int = 2,
    start: np.ndarray | None = None,
    solver: str = "auto",
    progress: bool = False,
) -> xr.Dataset:
    """Beats of a left ventricle of finite elements, filled and emptied by the closed loop.

    The mesh is the shape at end-diastole: its stress-free shape is found first. The base is held, and springs along
    the normal hold the epicardium. The other three chambers are elastances.

    Parameters
    ----------
    heart : Dataset
        Left ventricle with fibres (see :mod:`twinlab.cardiac.geometry`).
    activation_ms : array (node,) or (tet,)
        Electrical activation.
    parameters : ClosedLoop, optional
        The rest of the circulation; default the healthy set.
    law : Law, optional
        Passive; default :func:`~twinlab.cardiac.mechanics.guccione`.
    peak_kpa : float or array (tet,)
        Peak tension of the fibres; 0 in scar.
    frame : array (tet, 14, 3, 3), optional
        Fibre, sheet and normal at the quadrature points (:func:`~twinlab.cardiac.mechanics.ellipsoid_frame`), in place
        of the mesh's ``fibre``.
    end_diastolic_mmhg : float
        Pressure under which the image was taken.
    atria_to_ventricles_ms : float
        From the start of the loop's beat to the first activation.
    steps_per_beat, beats : int
        Beats are counted from ``start``; two bring the volume of the ventricle near its cycle, and the change that is
        left is told in attr ``change_ml``.
    start : array (12,), optional
        State of the loop, such as that of the quick heart; the ventricle starts with its volume there.
    solver : {"auto", "superlu", "pardiso"}
    progress : bool

    Returns
    -------
    Dataset
        As :func:`~twinlab.cardiac.circulation.closed_loop`; with ``point`` and ``element`` (tet, corner) of the
        quadratic mesh and ``displacement`` (shape_time, node, axis) over the last beat, from the stress-free shape;
        ``fibre_strain`` and its kin at end systole against end diastole (tet), their means over the muscle as
        ``global_fibre_strain``, ``global_longitudinal_strain``, ``global_circumferential_strain`` (%);
        ``segment_strain`` (shape_time, segment), fibre strain of the AHA segments against end diastole, and
        ``systolic_shortening_sd``, the spread of the times at which they are shortest before the aortic valve closes
        (dyssynchrony index; later the strain stands still and the time says nothing), ms.

    Raises
    ------
    InputError
        A mesh without fibres, or settings that cannot be.
    MechanicsError, CoupledError
        No balance in a step, with the step named; nothing is returned then.
    """
    if "fibre" not in heart and frame is None:
        refuse(
            "beat_3d: heart", "a mesh with fibres (twinlab.cardiac.geometry.fibres)", sorted(map(str, heart))
        )
    late = per_tet(heart, activation_ms)
    if not np.isfinite(late).any():
        refuse("beat_3d: activation_ms", "muscle that is activated", "NaN everywhere")
    parameters = parameter_set() if parameters is None else parameters
    period = 1000.0 * parameters.period_s
    settings: dict[str, Any] = {
        "law": law or guccione(),
        "fixed": "base",
        "springs": [Springs("epicardium", PERICARDIUM_KPA_PER_MM)],
    }
    turn = _upright(heart)
    settings["frame"] = None if frame is None else np.einsum("ij,...jk->...ik", turn, frame)
    stood = _turned(heart, turn)
    free = unloaded(stood, pressure_mmhg=end_diastolic_mmhg, solver=solver, progress=progress, **settings)
    late = late - np.nanmin(late) + atria_to_ventricles_ms
    twitch = Twitch(late, peak_kpa=peak_kpa, period_ms=period, duration_ms=min(400.0, 0.5 * period))
    ventricle = Ventricle(body(free, active=ACTIVE, **settings), twitch, solver=solver)
    first = parameters.start() if start is None else np.array(start, float)
    ventricle.volume(end_diastolic_mmhg, 0.0, steps=4)
    ventricle.commit()
    ventricle.pressure(float(first[1]), 0.0)
    ventricle.commit()
    beating = Beating(ventricle, period)
    try:
        loop = closed_loop(
            parameters,
            left=beating,
            steps_per_beat=steps_per_beat,
            beats=beats,
            start=first,
            progress=progress,
        )
    except (MechanicsError, CoupledError) as error:
        error.add_note(f"beat_3d: stopped at {beating._asked:.0f} ms of {beats * period:.0f} ms")
        raise
    return loop.merge(_shapes(beating, loop, turn, atria_to_ventricles_ms), combine_attrs="override")


def _upright(heart: xr.Dataset) -> np.ndarray:
    """Rotation that brings the normal of the base to +z."""
    facet = heart["facet"].to_numpy()[heart["facet_surface"].to_numpy() == 4]
    if not len(facet):
        refuse("beat_3d: heart", "a base (facet_surface 4)", "none")
    a, b, c = (heart["point"].to_numpy()[facet[:, k]] for k in range(3))
    normal = np.cross(b - a, c - a).sum(axis=0)
    return np.asarray(Rotation.align_vectors([[0.0, 0.0, 1.0]], normal[None])[0].as_matrix())


def _turned(data: xr.Dataset, turn: np.ndarray) -> xr.Dataset:
    """All vectors and points of a Dataset rotated."""
    out = data.copy()
    for name in ("point", "displacement", "fibre", "sheet", "sheet_normal"):
        if name in data:
            out[name] = data[name].copy(data=data[name].to_numpy() @ turn.T)
    return out


def _shapes(beating: Beating, loop: xr.Dataset, turn: np.ndarray, first_ms: float) -> xr.Dataset:
    """Shapes of the last beat, strains at its end systole, and strain of the segments over time."""
    times = np.array(beating.times)
    times = times - times[-1] + float(loop["time"][-1])
    shapes = np.stack(beating.shapes)
    volume = loop["compartment_volume"].sel(compartment="left_ventricle")
    ends = [float(loop["time"][int(pick(volume.to_numpy()))]) for pick in (np.argmax, np.argmin)]
    full, empty = (shapes[int(np.abs(times - t).argmin())].astype(float) for t in ends)
    solid = beating.ventricle.body
    strains = strain(solid, empty, reference_mm=full)
    coords = {"shape_time": times}
    data: dict[str, Any] = {
        "displacement": label("displacement", shapes, coords, dims=("shape_time", "node", "axis")),
        "point": solid.heart["point"],
        "element": (("tet", "corner"), np.asarray(solid.heart["tet"])),
    }
    for name, whole in _GLOBAL.items():
        if name in strains:
            data[whole] = label(whole, 100.0 * strains.attrs[f"{name}_mean"])
    shortening = strain(solid, shapes, reference_mm=full)["fibre_strain"].to_numpy()
    own = solid.heart["aha_segment"].to_numpy() if "aha_segment" in solid.heart else None
    segments = segment_means(solid, shortening, segment=own)
    there = np.isfinite(segments.to_numpy()).all(axis=0)
    data["segment_strain"] = label(
        "segment_strain", segments.to_numpy(), {**coords, "segment": segments["segment"].to_numpy()}
    )
    ejecting = np.flatnonzero(loop["link_flow"].sel(link="aortic").to_numpy() > 1.0)
    if ejecting.size:
        systole = (times >= first_ms) & (times <= float(loop["time"][ejecting[-1]]))
        shortest = times[systole][segments.to_numpy()[systole][:, there].argmin(axis=0)]
        data["systolic_shortening_sd"] = label("systolic_shortening_sd", shortest.std())
    return _turned(xr.Dataset(data), turn.T).merge(strains, combine_attrs="drop")
