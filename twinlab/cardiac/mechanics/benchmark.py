"""The three problems of the cardiac mechanics benchmark (Land 2015)."""

from __future__ import annotations

import numpy as np
import xarray as xr

from twinlab.cardiac.mechanics.assembly import Assembler
from twinlab.cardiac.mechanics.bodies import MIXED, Body, across, body
from twinlab.cardiac.mechanics.laws import guccione
from twinlab.cardiac.mechanics.linear import chosen
from twinlab.cardiac.mechanics.newton import Load
from twinlab.cardiac.mechanics.quadrature import quadratic_shape, tetrahedron_rule
from twinlab.cardiac.mechanics.shapes import beam, ellipsoid
from twinlab.cardiac.mechanics.steps import reach, rest
from twinlab.schema import label, refuse

BEAM_MM = (10.0, 1.0, 1.0)
BEAM_PRESSURE_KPA = 0.004
INFLATION_KPA = 10.0
CONTRACTION_KPA, TENSION_KPA = 15.0, 60.0
STEPS = {1: 1, 2: 8, 3: 10}


def land(
    problem: int,
    *,
    refinement: int = 1,
    formulation: str = MIXED,
    kappa_kpa: float | None = None,
    solver: str = "auto",
    progress: bool = False,
) -> xr.Dataset:
    """Solve one problem of the benchmark on a structured mesh of curved quadratic tetrahedra.

    Problem 1: a beam of 10 x 1 x 1 mm along its fibres, one end held, 0.004 kPa from below. Problem 2: an
    isotropic ellipsoid inflated with 10 kPa. Problem 3: fibres from -90 degrees (epicardium) to 90 degrees
    (endocardium), 15 kPa and 60 kPa of active tension.

    Parameters
    ----------
    problem : {1, 2, 3}
    refinement : int
        1, 2, 3, ...: the beam has 10 r x 2 r x 2 r cells (240 r^3 tetrahedra), the ellipsoid r cells through the
        wall, 6 r along and 4 + 4 r around (264, 1,656, 5,040 tetrahedra).
    formulation, kappa_kpa : see :func:`twinlab.cardiac.mechanics.body`
    solver : {"auto", "superlu", "pardiso"}
    progress : bool

    Returns
    -------
    Dataset
        The quadratic mesh with ``displacement`` (node, axis) mm. Attributes: problem 1 ``tip_z_mm``, the height of
        (10, 0.5, 1) after loading; problems 2 and 3 ``apex_endo_mm`` and ``apex_epi_mm``, the height of the
        apices; ``tets``, ``dof``, ``smallest_volume_ratio``.

    Raises
    ------
    InputError
        An unknown problem, a refinement below one.
    MechanicsError
        The load was not reached.

    References
    ----------
    Land et al. 2015, Proc R Soc A 471, 20150641, section 2.
    """
    if problem not in STEPS or refinement < 1:
        refuse("land", "problem 1, 2 or 3 and a refinement of 1 or more", f"{problem}, {refinement}")
    made = land_body(problem, refinement=refinement, formulation=formulation, kappa_kpa=kappa_kpa)
    assembler = Assembler(made)
    start = rest(assembler)
    pressure = {1: BEAM_PRESSURE_KPA, 2: INFLATION_KPA, 3: CONTRACTION_KPA}[problem]
    tension = TENSION_KPA if problem == 3 else 0.0
    load = Load(np.array([pressure]), np.array([np.nan]), np.full(len(made.tet), tension))
    state = reach(
        assembler,
        start,
        load,
        steps=STEPS[problem],
        solver=chosen(solver),
        progress=progress,
        what=f"Land {problem}",
    )
    now, _ = assembler(state.field, state.pressure_kpa, load.tension_kpa, None, tangent=False)
    result = made.heart.copy()
    result["displacement"] = label("displacement", state.field[:, :3])
    result.attrs.update(_heights(problem, made.point, state.field[:, 2]))
    result.attrs.update(
        problem=problem, tets=len(made.tet), dof=made.n_free, formulation=formulation,
        kappa_kpa=made.kappa_kpa, smallest_volume_ratio=now.lowest,
    )  # fmt: skip
    return result


def land_body(
    problem: int, *, refinement: int, formulation: str = MIXED, kappa_kpa: float | None = None
) -> Body:
    """Mesh, law, fibres and supports of one problem."""
    r = refinement
    if problem == 1:
        heart = beam(size_mm=BEAM_MM, cells=(10 * r, 2 * r, 2 * r))
        held = np.zeros((heart.sizes["node"], 3), bool)
        held[np.unique(heart["facet"].values[heart["facet_surface"].values == 1])] = True
        frame = np.broadcast_to(np.eye(3), (heart.sizes["tet"], len(tetrahedron_rule()[1]), 3, 3))
        return body(
            heart, law=guccione(c_kpa=2, b_f=8, b_t=2, b_fs=4), cavities=[5], closed=False, fixed=held, frame=frame,
            formulation=formulation, kappa_kpa=kappa_kpa,
        )  # fmt: skip
    heart = ellipsoid(cells=(r, 6 * r, 4 + 4 * r))
    frame = ellipsoid_frame(heart)
    law = (
        guccione(c_kpa=10, b_f=1, b_t=1, b_fs=1) if problem == 2 else guccione(c_kpa=2, b_f=8, b_t=2, b_fs=4)
    )
    return body(heart, law=law, frame=frame, fixed="base", formulation=formulation, kappa_kpa=kappa_kpa)


def ellipsoid_frame(heart: xr.Dataset, *, endo_deg: float = 90.0, epi_deg: float = -90.0) -> np.ndarray:
    """Fibre, and two directions across, at every quadrature point of a truncated ellipsoid.

    ``f = sin(alpha) dx/du / |dx/du| + cos(alpha) dx/dv / |dx/dv|`` with the place
    ``x = (r_s sin u cos v, r_s sin u sin v, r_l cos u)``, u from -pi at the apex, and alpha linear in the share t of
    the wall with ``r_s = 7 + 3 t``, ``r_l = 17 + 3 t`` mm (Land 2015, section 2.4, problem 3).

    Returns
    -------
    (tet, point, 3, 3)
        Directions in the columns.
    """
    place = np.einsum(
        "qa,eai->eqi", quadratic_shape(tetrahedron_rule()[0]), heart["point"].values[heart["tet"].values]
    )
    x, y, z = np.moveaxis(place, -1, 0)
    short, long = heart.attrs["short_mm"], heart.attrs["long_mm"]
    t = np.full(x.shape, 0.5)
    for _ in range(30):  # Newton for the ellipsoid through the point
        rs, rl = short[0] + (short[1] - short[0]) * t, long[0] + (long[1] - long[0]) * t
        value = (x**2 + y**2) / rs**2 + z**2 / rl**2 - 1
        slope = -2 * (x**2 + y**2) / rs**3 * (short[1] - short[0]) - 2 * z**2 / rl**3 * (long[1] - long[0])
        t = t - value / slope
    rs, rl = short[0] + (short[1] - short[0]) * t, long[0] + (long[1] - long[0]) * t
    u, v = -np.arccos(np.clip(z / rl, -1, 1)), np.arctan2(-y, -x)
    alpha = np.deg2rad(endo_deg + (epi_deg - endo_deg) * t)
    du = np.stack([rs * np.cos(u) * np.cos(v), rs * np.cos(u) * np.sin(v), -rl * np.sin(u)], -1)
    dv = np.stack([-np.sin(v), np.cos(v), np.zeros_like(v)], -1) * np.sign(np.sin(u))[..., None]
    du /= np.linalg.norm(du, axis=-1, keepdims=True)
    fibre = np.sin(alpha)[..., None] * du + np.cos(alpha)[..., None] * dv
    return np.stack(across(fibre), -1)


def _heights(problem: int, point: np.ndarray, moved: np.ndarray) -> dict[str, float]:
    if problem == 1:
        tip = np.linalg.norm(point - np.array([10.0, 0.5, 1.0]), axis=1).argmin()
        return {"tip_z_mm": float(point[tip, 2] + moved[tip])}
    on_axis = np.flatnonzero(np.hypot(point[:, 0], point[:, 1]) < 1e-6)
    endo, epi = on_axis[point[on_axis, 2].argmax()], on_axis[point[on_axis, 2].argmin()]
    return {
        "apex_endo_mm": float(point[endo, 2] + moved[endo]),
        "apex_epi_mm": float(point[epi, 2] + moved[epi]),
    }
