"""Passive laws of the muscle and the law of its active stress, with published parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from twinlab.kernels.heart_elastic import GUCCIONE, HOLZAPFEL_OGDEN, N_PARAMETERS, NEO_HOOKEAN
from twinlab.schema import refuse


@dataclass(frozen=True)
class Law:
    """A passive law: kind of :mod:`twinlab.kernels.heart_elastic` and parameters (8,) or (tet, 8)."""

    name: str
    kind: int
    parameters: np.ndarray

    def scaled(self, factor: Any) -> Law:
        """The law with all its stresses multiplied by ``factor``, one number or one per tetrahedron."""
        factor = np.asarray(factor, float)
        if not np.all(np.isfinite(factor)) or np.any(factor <= 0):
            refuse("Law.scaled", "factors above zero", factor.min())
        rows = {NEO_HOOKEAN: [0], GUCCIONE: [0], HOLZAPFEL_OGDEN: [0, 2, 4, 6]}[self.kind]
        parameters = np.broadcast_to(self.parameters, (*factor.shape, N_PARAMETERS)).copy()
        parameters[..., rows] *= factor[..., None]
        return Law(self.name, self.kind, parameters)


@dataclass(frozen=True)
class ActiveLaw:
    """How tension becomes stress: share across the fibre, steepness of the length dependence, slack stretch."""

    across: float = 0.0
    steepness: float = 0.0
    slack_stretch: float = 0.7

    def __post_init__(self) -> None:
        """Refuse what is no number."""
        values = (self.across, self.steepness, self.slack_stretch)
        if not (np.isfinite(values).all() and self.across >= 0 and self.steepness >= 0):
            refuse("ActiveLaw", "finite numbers, share and steepness not below zero", values)

    def array(self) -> np.ndarray:
        """The three numbers as the kernel takes them."""
        return np.array([self.across, self.steepness, self.slack_stretch])


def _law(name: str, kind: int, **values: Any) -> Law:
    columns = np.broadcast_arrays(*(np.asarray(v, float) for v in values.values()))
    for key, column in zip(values, columns, strict=True):
        if not np.all(np.isfinite(column)) or np.any(column < 0):
            refuse(name, f"{key} finite and not below zero", column.min())
    if np.any(columns[0] <= 0):
        refuse(name, f"{next(iter(values))} above zero", columns[0].min())
    parameters = np.zeros((*columns[0].shape, N_PARAMETERS))
    for k, column in enumerate(columns):
        parameters[..., k] = column
    return Law(name, kind, parameters)


def neo_hookean(*, mu_kpa: Any) -> Law:
    """Isotropic law ``W = mu/2 (I1 - 3)`` of the distortion; for tests.

    Parameters
    ----------
    mu_kpa : float or (tet,)
        Shear stiffness.
    """
    return _law("neo_hookean", NEO_HOOKEAN, mu_kpa=mu_kpa)


def guccione(*, c_kpa: Any = 0.876, b_f: Any = 18.48, b_t: Any = 3.58, b_fs: Any = 1.627) -> Law:
    """Transversely isotropic exponential law, ``W = C/2 (exp Q - 1)``.

    ``Q = b_f Eff^2 + b_t (Ess^2 + Enn^2 + 2 Esn^2) + 2 b_fs (Efs^2 + Efn^2)`` with Green's strain of the
    distortion.

    Parameters
    ----------
    c_kpa : float or (tet,)
        Stiffness.
    b_f, b_t, b_fs : float or (tet,)
        Exponents along, across and in shear; by default those of the passive canine ventricle.

    Raises
    ------
    InputError
        A parameter is negative or not finite.

    References
    ----------
    Guccione, McCulloch, Waldman 1991, J Biomech Eng 113, 42, table 1, and Guccione, Costa, McCulloch 1995,
    J Biomech 28, 1167; in the form of Land 2015, Proc R Soc A 471, 20150641, equation 2.2.
    """
    return _law("guccione", GUCCIONE, c_kpa=c_kpa, b_f=b_f, b_t=b_t, b_fs=b_fs)


def holzapfel_ogden(
    *,
    a_kpa: Any = 0.059,
    b: Any = 8.023,
    a_f_kpa: Any = 18.472,
    b_f: Any = 16.026,
    a_s_kpa: Any = 2.481,
    b_s: Any = 11.120,
    a_fs_kpa: Any = 0.216,
    b_fs: Any = 11.436,
) -> Law:
    """Orthotropic law of Holzapfel and Ogden; fibres and sheets carry tension only.

    Parameters
    ----------
    a_kpa, b, a_f_kpa, b_f, a_s_kpa, b_s, a_fs_kpa, b_fs : float or (tet,)
        Ground matrix, fibre, sheet and shear terms; by default their fit to the simple shear of pig muscle.

    References
    ----------
    Holzapfel, Ogden 2009, Phil Trans R Soc A 367, 3445, equation 5.38 and table 1.
    """
    return _law(
        "holzapfel_ogden", HOLZAPFEL_OGDEN, a_kpa=a_kpa, b=b, a_f_kpa=a_f_kpa, b_f=b_f, a_s_kpa=a_s_kpa, b_s=b_s,
        a_fs_kpa=a_fs_kpa, b_fs=b_fs,
    )  # fmt: skip
