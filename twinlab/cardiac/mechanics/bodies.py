"""A body ready to be loaded: elements, law, supports, cavities, and the map of its unknowns."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from twinlab.cardiac.mechanics.cavities import SURFACES, Cavity, cavity
from twinlab.cardiac.mechanics.laws import ActiveLaw, Law
from twinlab.cardiac.mechanics.pattern import Pattern, pattern
from twinlab.cardiac.mechanics.quadratic_mesh import quadratic
from twinlab.cardiac.mechanics.quadrature import quadratic_slope, tetrahedron_rule
from twinlab.cardiac.mechanics.springs import Springs, spring_blocks
from twinlab.kernels.heart_elastic import N_PARAMETERS
from twinlab.kernels.heart_tets import reference_gradients
from twinlab.kernels.threads import one_parallel_region
from twinlab.schema import refuse

MIXED, PENALTY = "mixed", "penalty"


@dataclass(frozen=True)
class Body:
    """Arrays of a body (made by :func:`body`).

    ``unknown`` (node, 4) numbers the free unknowns, three displacements and the pressure of a node, -1 where
    there is none. ``fixed`` values are those that the displacement starts with.
    """

    heart: xr.Dataset
    point: np.ndarray
    tet: np.ndarray
    gradient: np.ndarray
    measure: np.ndarray
    hat: np.ndarray
    frame: np.ndarray
    law: Law
    parameters: np.ndarray
    active: ActiveLaw
    mixed: bool
    kappa_kpa: float
    stiffening_kpa: float
    cavities: tuple[Cavity, ...]
    spring_facets: np.ndarray
    spring_blocks: np.ndarray
    unknown: np.ndarray
    pattern: Pattern

    @property
    def n_free(self) -> int:
        """Number of free unknowns."""
        return self.pattern.n

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the cavities."""
        return tuple(c.name for c in self.cavities)


def body(
    heart: xr.Dataset,
    *,
    law: Law,
    active: ActiveLaw = ActiveLaw(),  # noqa: B008 (frozen)
    formulation: str = MIXED,
    kappa_kpa: float | None = None,
    stiffening_kpa: float = 0.0,
    cavities: Sequence[str | int] = ("lv",),
    closed: bool = True,
    fixed: str | np.ndarray | None = "base",
    springs: Sequence[Springs] = (),
    frame: np.ndarray | None = None,
) -> Body:
    """A body of nearly incompressible muscle.

    Parameters
    ----------
    heart : Dataset
        Heart mesh; linear tetrahedra are made quadratic (straight edges). ``fibre``, ``sheet``,
        ``sheet_normal`` (tet, axis) are used where the law or the active stress has a direction.
    law : Law
    active : ActiveLaw
    formulation : {"mixed", "penalty"}
        Quadratic displacement with linear pressure (Taylor and Hood), or a volumetric penalty.
    kappa_kpa : float, optional
        Bulk stiffness of ``p = kappa (J - 1)``. Infinite in the mixed form by default, 100 kPa for the penalty.
    stiffening_kpa : float
        Penalty on the volume change inside the elements beside the pressure field of the mixed form. It vanishes
        with that change, steadies the iteration and keeps coarse elements from degenerating, but stiffens a
        coarse bent beam (Land, Niederer, Lamata, Smith 2015, IEEE Trans Biomed Eng 62, 939).
    cavities : sequence of str
        Surfaces that can be pressed: "lv", "rv".
    closed : bool
        The pressure acts on a lid over the rim as well (:class:`twinlab.cardiac.mechanics.cavities.Cavity`).
    fixed : str, bool array (node, 3) or None
        "base": no displacement there; "base_z": none along z, for a base across z; a mask of the quadratic
        mesh; None: the springs
        hold it.
    springs : sequence of Springs
    frame : (tet, 14, 3, 3), optional
        Fibre, sheet and normal in the columns, at every quadrature point; else constant in a tetrahedron.

    Raises
    ------
    InputError
        Elements turned inside out, no fibres where needed, nothing that holds the body, impossible settings.
    """
    if formulation not in (MIXED, PENALTY):
        refuse("body", f"formulation {MIXED!r} or {PENALTY!r}", repr(formulation))
    kappa = kappa_kpa if kappa_kpa is not None else (math.inf if formulation == MIXED else 100.0)
    if not kappa > 0 or (formulation == PENALTY and math.isinf(kappa)):
        refuse("body", "kappa_kpa above zero, and finite for the penalty", kappa)
    if not 0 <= stiffening_kpa < math.inf:
        refuse("body", "stiffening_kpa finite and not below zero", stiffening_kpa)
    if heart["tet"].shape[1] == 4:
        heart = quadratic(heart)
    point = np.ascontiguousarray(heart["point"].values, float)
    tet = np.ascontiguousarray(heart["tet"].values, np.int32)
    if not np.isfinite(point).all():
        refuse("body", "finite points", f"{int((~np.isfinite(point)).any(1).sum())} points that are not")
    at, weight = tetrahedron_rule()
    frame = np.ascontiguousarray(_frames(heart, len(weight), law, active) if frame is None else frame, float)
    if frame.shape != (len(tet), len(weight), 3, 3) or not np.isfinite(frame).all():
        refuse("body", f"a finite frame of shape {(len(tet), len(weight), 3, 3)}", frame.shape)
    gradient = np.zeros((len(tet), len(weight), 10, 3))
    measure = np.tile(weight, (len(tet), 1))
    with one_parallel_region():
        reference_gradients(point, tet, quadratic_slope(at), frame, gradient, measure)
    if measure.min() <= 0:
        bad = int((measure.min(1) <= 0).sum())
        refuse("body", "tetrahedra of positive volume everywhere", f"{bad} of {len(tet)} turned inside out")
    held = _held(heart, fixed)
    if not held.any() and not springs:
        refuse("body", "something that holds the body (fixed or springs)", "nothing")
    pressed = tuple(cavity(heart, name, closed=closed) for name in cavities)
    sprung = [spring_blocks(heart, s) for s in springs]
    facets = np.concatenate([np.empty((0, 6), np.int32), *(f for f, _ in sprung)])
    blocks = np.concatenate([np.empty((0, 18, 18)), *(b for _, b in sprung)])
    unknown = np.full((len(point), 4), -1, np.int64)
    free = np.zeros((len(point), 4), bool)
    free[np.unique(tet)] = True
    free[:, :3] &= ~held
    free[:, 3] = False
    if formulation == MIXED:
        free[np.unique(tet[:, :4]), 3] = True
    unknown[free] = np.arange(free.sum())
    rows = [np.concatenate([unknown[tet, :3].reshape(len(tet), 30), unknown[tet[:, :4], 3]], 1)]
    rows.append(unknown[facets, :3].reshape(-1, 18))
    for one in pressed:
        rows.append(unknown[one.facet, :3].reshape(-1, 18))
        rows.append(unknown[one.rim, :3].reshape(1, -1) if one.closed else np.empty((0, 1), np.int64))
    parameters = np.ascontiguousarray(np.broadcast_to(law.parameters, (len(tet), N_PARAMETERS)))
    return Body(
        heart, point, tet, gradient, measure, at, frame, law,
        parameters, active, formulation == MIXED, float(kappa),
        float(stiffening_kpa), pressed, facets, blocks, unknown,
        pattern(int(free.sum()), rows),
    )  # fmt: skip


def _frames(heart: xr.Dataset, n: int, law: Law, active: ActiveLaw) -> np.ndarray:
    n_tet = heart.sizes["tet"]
    if "fibre" not in heart:
        if law.name != "neo_hookean":
            refuse("body", f"fibre directions for the law {law.name}", f"variables {sorted(map(str, heart))}")
        return np.broadcast_to(np.eye(3), (n_tet, n, 3, 3))
    fibre = np.asarray(heart["fibre"], float)
    if "sheet" in heart and "sheet_normal" in heart:
        axes = [fibre, np.asarray(heart["sheet"], float), np.asarray(heart["sheet_normal"], float)]
    else:
        axes = across(fibre)
    frame = np.stack(axes, -1)
    off = np.abs(np.einsum("eik,eil->ekl", frame, frame) - np.eye(3)).max()
    if not off < 1e-3:
        refuse("body", "fibre, sheet and normal at right angles and of unit length within 1e-3", off)
    return np.broadcast_to(frame[:, None], (n_tet, n, 3, 3))


def across(fibre: np.ndarray) -> list[np.ndarray]:
    """The fibre (..., 3) and two directions at right angles to it, for laws that do not tell them apart."""
    helper = np.zeros_like(fibre)
    np.put_along_axis(helper, np.abs(fibre).argmin(-1)[..., None], 1.0, -1)
    side = np.cross(fibre, helper)
    side /= np.linalg.norm(side, axis=-1, keepdims=True)
    return [fibre, side, np.cross(fibre, side)]


def _held(heart: xr.Dataset, fixed: str | np.ndarray | None) -> np.ndarray:
    held = np.zeros((heart.sizes["node"], 3), bool)
    if fixed is None:
        return held
    if isinstance(fixed, str):
        if fixed not in ("base", "base_z"):
            refuse("body", "fixed 'base', 'base_z', a mask (node, 3) or None", repr(fixed))
        facet = np.asarray(heart["facet"])[np.asarray(heart["facet_surface"]) == SURFACES["base"]]
        if len(facet) == 0:
            refuse("body", "facets of the base to hold", "none")
        heights = np.asarray(heart["point"], float)[np.unique(facet), 2]
        if fixed == "base_z" and np.ptp(heights) > 1e-3:
            refuse(
                "body", "a flat base across z for fixed='base_z'", f"heights over {np.ptp(heights):.3g} mm"
            )
        held[np.unique(facet), 2 if fixed == "base_z" else slice(None)] = True
        return held
    mask = np.asarray(fixed, bool)
    if mask.shape != held.shape:
        refuse("body", f"fixed of shape {held.shape}", mask.shape)
    return mask
