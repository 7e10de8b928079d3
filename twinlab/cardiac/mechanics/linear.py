"""Sparse direct solution: SuperLU of SciPy, or Pardiso where pypardiso is installed."""

from __future__ import annotations

import importlib.util
import weakref
from collections.abc import Callable

import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as spl

from twinlab.schema import refuse

SOLVERS = ("auto", "superlu", "pardiso")
Solve = Callable[[np.ndarray], np.ndarray]


class Singular(ArithmeticError):
    """The matrix could not be factorised."""


def chosen(solver: str) -> str:
    """The solver that "auto" stands for: SuperLU, which was as quick on the sizes of one heart and is always there.

    Raises
    ------
    InputError
        An unknown name, or pardiso without pypardiso.
    """
    if solver not in SOLVERS:
        refuse("solver", f"one of {SOLVERS}", repr(solver))
    there = importlib.util.find_spec("pypardiso") is not None
    if solver == "pardiso" and not there:
        refuse("solver", "pypardiso installed for solver='pardiso'", "no such package; 'auto' does without")
    return "superlu" if solver == "auto" else solver


def factorised(matrix: sp.csc_matrix, solver: str) -> Solve:
    """Factorise and return what solves for right-hand sides (n,) or (n, k).

    Raises
    ------
    Singular
        The factorisation broke down or gave numbers that are not finite.
    """
    try:
        solve = _pardiso(matrix) if solver == "pardiso" else _superlu(matrix)
    except (RuntimeError, MemoryError, ValueError) as error:
        raise Singular(str(error)) from error

    def checked(right: np.ndarray) -> np.ndarray:
        out = solve(right)
        if not np.isfinite(out).all():
            raise Singular("the solution is not finite")
        return out

    return checked


def _superlu(matrix: sp.csc_matrix) -> Solve:
    # the pattern is symmetric, and a weak threshold keeps to its fill-reducing order
    options = {"SymmetricMode": True}
    return spl.splu(matrix, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=1e-4, options=options).solve


def _pardiso(matrix: sp.csc_matrix) -> Solve:
    from pypardiso import PyPardisoSolver

    rows = matrix.tocsr()
    solver = PyPardisoSolver(mtype=11)
    solver.factorize(rows)

    def solve(right: np.ndarray) -> np.ndarray:
        return solver.solve(rows, np.asfortranarray(right))

    weakref.finalize(solve, solver.free_memory, True)  # Pardiso keeps its factors outside of Python
    return solve
