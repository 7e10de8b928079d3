"""Fibres by rule: directions from Laplace problems between the surfaces, angles by depth in the wall."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from twinlab.cardiac.geometry.frames import axes, bislerp, oriented, unit
from twinlab.cardiac.geometry.laplace import element_gradient, solve_laplace, stiffness
from twinlab.cardiac.geometry.solids import BASE, EPICARDIUM, LV_ENDOCARDIUM, RV_ENDOCARDIUM, Array
from twinlab.schema import check, label, refuse


@dataclass(frozen=True)
class Fields:
    """Harmonic functions between the surfaces, at the nodes.

    Attributes
    ----------
    epi, left, right : ndarray, shape (node,)
        1 on the epicardium (left, right endocardium), 0 on the two others; together 1 everywhere.
    up : ndarray, shape (node,)
        0 along the line through the left apex, 1 on the base.
    """

    epi: Array
    left: Array
    right: Array
    up: Array


def surface_mask(heart: xr.Dataset, surface: int) -> NDArray[np.bool_]:
    """Nodes on a surface."""
    mask = np.zeros(heart.sizes["node"], dtype=bool)
    mask[heart["facet"].values[heart["facet_surface"].values == surface].ravel()] = True
    return mask


def laplace_fields(heart: xr.Dataset, *, where: str) -> Fields:
    """Solve the four problems."""
    check(heart, "point", "tet", "facet", "facet_surface", where=where)
    points, tets = heart["point"].values, heart["tet"].values.astype(np.int64)
    if not np.isfinite(points).all():
        refuse(where, "finite points", "NaN or infinite ones")
    on = {k: surface_mask(heart, k) for k in (EPICARDIUM, LV_ENDOCARDIUM, RV_ENDOCARDIUM, BASE)}
    for name, k in (("an epicardium", EPICARDIUM), ("a left endocardium", LV_ENDOCARDIUM), ("a base", BASE)):
        if not on[k].any():
            refuse(where, f"a heart with {name} (facet_surface {k})", "no such facet")
    matrix = stiffness(points, tets)
    fixed = on[EPICARDIUM] | on[LV_ENDOCARDIUM] | on[RV_ENDOCARDIUM]
    # A node on two curved surfaces (there should be none) counts as epicardium.
    epi = solve_laplace(matrix, fixed, on[EPICARDIUM].astype(float))
    if on[RV_ENDOCARDIUM].any():
        right = solve_laplace(matrix, fixed, (on[RV_ENDOCARDIUM] & ~on[EPICARDIUM]).astype(float))
    else:
        right = np.zeros(len(points))
    tip = apex_nodes(heart)
    up = solve_laplace(matrix, tip | on[BASE], on[BASE].astype(float))
    return Fields(epi=epi, left=1.0 - epi - right, right=right, up=up)


def apex_nodes(heart: xr.Dataset) -> NDArray[np.bool_]:
    """Nodes about the line on which the left ventricle's long axis leaves through the wall of the apex.

    A line across the wall instead of the usual single node: the function's gradient then lies in the wall up to
    the line, and the frame there has two directions.
    """
    for name in ("lv_apex_mm", "base_normal"):
        if name not in heart.attrs:
            refuse("heart", f"attrs[{name!r}] (as idealised_lv or heart_from_labels write it)", "none")
    size = element_size(heart)
    beside, below = tip_distance(heart, heart["point"].values)
    beside = np.linalg.norm(beside, axis=1)
    tip = (below > -0.1 * size) & (beside < 0.75 * size)
    tip[np.hypot(beside, below).argmin()] = True
    return tip


def element_size(heart: xr.Dataset) -> float:
    """Median length of an edge, mm."""
    edges = np.diff(heart["point"].values[heart["tet"].values[:, :2]], axis=1)[:, 0]
    return float(np.median(np.linalg.norm(edges, axis=1)))


def tip_distance(heart: xr.Dataset, places: Array) -> tuple[Array, Array]:
    """Vectors (n, 3) from the line through the left apex to places, and their depths (n,) below the apex, mm."""
    apex, normal = np.array(heart.attrs["lv_apex_mm"]), np.array(heart.attrs["base_normal"])
    below = (apex - places) @ normal
    return places - apex + below[:, None] * normal, below


def towards_base(heart: xr.Dataset, up: Array) -> Array:
    """Direction towards the base in each element: gradient of ``up``, near the apex away from its line.

    There the levels are circles about the line, and the gradient of a function that is known in a few elements
    around it is poor: the two are blended from one to three elements off the line.
    """
    points, tets = heart["point"].values, heart["tet"].values.astype(np.int64)
    slope = unit(element_gradient(points, tets, up))
    beside, below = tip_distance(heart, points[tets].mean(axis=1))
    size = element_size(heart)
    distance = np.hypot(np.linalg.norm(beside, axis=1), np.minimum(below + size, 0.0))
    share = np.clip((distance / size - 1.0) / 2.0, 0.0, 1.0)[:, None]
    return unit(share * slope + (1 - share) * unit(beside))


def fibres(
    heart: xr.Dataset,
    *,
    alpha_endo_deg: float = 60.0,
    alpha_epi_deg: float = -60.0,
    beta_endo_deg: float = -65.0,
    beta_epi_deg: float = 25.0,
) -> xr.Dataset:
    """Fibre, sheet and sheet normal of each element by the Laplace-Dirichlet rule.

    Parameters
    ----------
    heart : Dataset
        Heart mesh.
    alpha_endo_deg, alpha_epi_deg : float, units degree
        Helix angle at endocardium and epicardium: from the direction around the ventricle (anticlockwise seen from
        the base) towards the base. Positive is a right-handed helix.
    beta_endo_deg, beta_epi_deg : float, units degree
        Turn of the sheet about the fibre.

    Returns
    -------
    Dataset
        ``heart`` with ``fibre``, ``sheet``, ``sheet_normal`` (tet, axis), unit vectors, ``fibre x sheet =
        sheet_normal``; ``sheet`` crosses the wall where beta is zero.

    Raises
    ------
    InputError
        No heart mesh, a missing surface, or angles that are not finite.

    Notes
    -----
    The frames are Bayer's: of the left endocardium, of the right one (where the rule runs the other way, so that a
    fibre through the septum turns from the left value to the reverse), and of the epicardium, blended by ``bislerp``.
    Two things differ. Both frames carry the angle of their depth when they are blended with weight ``phi_epi``, so
    that the angle runs linearly with ``phi_epi`` from endocardium to epicardium; the paper's blend of the constant
    endocardial frame with one that already follows the depth makes it run with its square. And the direction across
    the wall is kept, the one towards the base made square to it.

    References
    ----------
    Bayer J D, Blake R C, Plank G, Trayanova N A (2012) A novel rule-based algorithm for assigning myocardial fiber
    orientation to computational heart models. Ann. Biomed. Eng. 40, 2243-2254.
    """
    angles = np.array([alpha_endo_deg, alpha_epi_deg, beta_endo_deg, beta_epi_deg], dtype=float)
    if not (np.abs(angles) <= 180).all():
        refuse("fibres", "angles from -180 to 180 degrees", angles.tolist())
    field = laplace_fields(heart, where="fibres")
    points, tets = heart["point"].values, heart["tet"].values.astype(np.int64)
    slope = {name: element_gradient(points, tets, getattr(field, name)) for name in ("epi", "left", "right")}
    slope["up"] = towards_base(heart, field.up)
    epi, left, right = (np.clip(getattr(field, n)[tets].mean(axis=1), 0, 1) for n in ("epi", "left", "right"))
    share = right / np.maximum(left + right, 1e-12)
    spare = np.array(heart.attrs["septum_direction"], dtype=float)
    alpha_endo, alpha_epi, beta_endo, beta_epi = np.radians(angles)
    # Positive in the left ventricle, reversed in the right one's frame, whose e2 points inwards there.
    alpha = alpha_endo * (1 - epi) + alpha_epi * epi
    beta = beta_endo * (1 - epi) + beta_epi * epi
    sense = 1.0 - 2.0 * share
    outer = oriented(axes(slope["up"], slope["epi"], spare), alpha, beta)
    inner = oriented(axes(slope["up"], -slope["left"], spare), alpha * sense, beta * sense)
    if (right > 0).any():
        from_right = oriented(axes(slope["up"], slope["right"], spare), alpha * sense, beta * sense)
        inner = bislerp(inner, from_right, share)
    frame = bislerp(inner, outer, epi)
    made = {"fibre": frame[:, :, 0], "sheet": frame[:, :, 2], "sheet_normal": -frame[:, :, 1]}
    out = heart.assign({name: label(name, v, {"axis": ["x", "y", "z"]}) for name, v in made.items()})
    out.attrs["fibre_rule"] = (
        f"Laplace-Dirichlet, alpha {alpha_endo_deg:g} to {alpha_epi_deg:g}, "
        f"beta {beta_endo_deg:g} to {beta_epi_deg:g} degrees"
    )
    return out
