"""Cells and links of a vessel for the lattice Boltzmann solver: where the wall cuts a link, where flow comes and goes.

A vessel is a signed distance to its wall in voxels on a grid (below 0 inside). Flow may enter and leave through the
faces of the grid.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.sparse import coo_matrix
from scipy.sparse.linalg import spsolve

from twinlab.kernels.heart_lattice import DIRECTIONS, INLET, OUTLET, WALL, WEIGHTS
from twinlab.schema import refuse

FACES = ("x-", "x+", "y-", "y+", "z-", "z+")
_LEAST_FRACTION = 1e-3


@dataclass(frozen=True)
class Grid:
    """Cells of a vessel and the links between them.

    Attributes
    ----------
    distance : array (nz, ny, nx)
        Signed distance to the wall, voxels.
    index : int array (nz, ny, nx)
        Number of the cell, -1 outside.
    cells : int array (3, cell)
        z, y, x of every cell.
    source, fraction, kind, value
        See :func:`twinlab.kernels.heart_lattice.step_cell`; ``value`` is for unit mean velocity of an inlet.
    end : int array (link,)
        Which end a link belongs to, -1 for walls.
    """

    distance: np.ndarray
    index: np.ndarray
    cells: np.ndarray
    source: np.ndarray
    fraction: np.ndarray
    kind: np.ndarray
    value: np.ndarray
    end: np.ndarray


@dataclass(frozen=True)
class End:
    """A place where a vessel meets a face of the grid.

    Attributes
    ----------
    face : str
        As ``"z-"``.
    where : bool array
        The cross-section on that face.
    profile : array
        Velocity into the grid for a mean of 1: developed laminar flow of this cross-section (0 outside).
    inlet : bool
    """

    face: str
    where: np.ndarray
    profile: np.ndarray
    inlet: bool


def axis_of(face: str) -> tuple[int, int]:
    """Array axis (z, y, x: 0, 1, 2) and side (0 or -1) of a face."""
    return "zyx".index(face[0]), 0 if face[1] == "-" else -1


def developed_profile(where: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """Developed laminar velocity of a cross-section, mean 1 over its cells: solves ``laplace(u) = -1``.

    The wall's distance is taken into the stencil where a neighbour lies outside (Shortley-Weller).
    """
    number = np.full(where.shape, -1)
    number[where] = np.arange(where.sum())
    rows: list = []
    columns: list = []
    values: list = []
    cells = np.argwhere(where)
    diagonal = np.zeros(len(cells))
    for axis in range(2):
        reach, inside = [], []
        for sign in (-1, 1):
            there = cells.copy()
            there[:, axis] += sign
            ok = (there[:, axis] >= 0) & (there[:, axis] < where.shape[axis])
            clipped = np.clip(there, 0, np.array(where.shape) - 1)
            other = np.where(ok, number[tuple(clipped.T)], -1)
            here, far = -distance[where], np.where(ok, distance[tuple(clipped.T)], 0.5)
            step = np.where(other >= 0, 1.0, np.clip(here / np.maximum(here + far, 1e-9), 0.05, 1.0))
            reach.append(step)
            inside.append(other)
        both = reach[0] + reach[1]
        for step, other in zip(reach, inside, strict=True):
            weight = 2.0 / (step * both)
            diagonal += weight
            linked = other >= 0
            rows += list(np.flatnonzero(linked))
            columns += list(other[linked])
            values += list(-weight[linked])
    n = len(cells)
    rows += list(range(n))
    columns += list(range(n))
    values += list(diagonal)
    solution = spsolve(coo_matrix((values, (rows, columns)), shape=(n, n)).tocsr(), np.ones(n))
    profile = np.zeros(where.shape)
    profile[where] = solution / solution.mean()
    return profile


def find_ends(distance: np.ndarray, inlet: str) -> list[End]:
    """Cross-sections where the vessel meets the faces of the grid.

    Raises
    ------
    InputError
        No opening at the inlet's face, several there, or no other opening.
    """
    if inlet not in FACES:
        refuse("vessel: inlet", f"one of {', '.join(FACES)}", repr(inlet))
    ends = []
    for face in FACES:
        axis, side = axis_of(face)
        section = np.take(distance, side, axis=axis)
        pieces, count = ndimage.label(section < 0)
        for k in range(1, count + 1):
            where = pieces == k
            if where.sum() >= 4:
                ends.append(End(face, where, developed_profile(where, section), face == inlet))
            else:
                refuse(f"vessel: opening at {face}", "four voxels or more", int(where.sum()))
    into = [end for end in ends if end.inlet]
    if len(into) != 1:
        refuse(
            f"vessel: inlet {inlet}",
            "one opening of the mask at that face (crop the mask so that it is cut there)",
            f"{len(into)}; openings at {', '.join(e.face for e in ends) or 'no face'}",
        )
    if len(ends) < 2:
        refuse(
            "vessel",
            "an opening at another face for the outflow (crop the mask)",
            f"only the inlet at {inlet}",
        )
    return ends


def _wall_place(behind: np.ndarray, here: np.ndarray, far: np.ndarray) -> np.ndarray:
    """Where on the way from a cell (0) outward (1) the distance is zero, by the parabola through three points.

    Along oblique links the distance to a round wall is curved: a straight line would put walls too far in.
    """
    a, b = 0.5 * (far + behind) - here, 0.5 * (far - behind)
    root = np.sqrt(np.maximum(b * b - 4.0 * a * here, 0.0))
    curved = -2.0 * here / np.where(b + root > 1e-12, b + root, 1.0)
    good = (b + root > 1e-12) & (curved > 0) & (curved <= 1)
    return np.where(good, curved, here / np.minimum(here - far, -1e-12))


def build_grid(
    distance: np.ndarray, *, ends: list[End] | None = None, periodic: tuple[int, ...] = ()
) -> Grid:
    """Number the cells inside and find where every link comes from.

    Parameters
    ----------
    distance : array (nz, ny, nx)
        Signed distance to the wall in voxels, below 0 inside.
    ends : list of End, optional
        Openings; elsewhere a face of the grid is a wall.
    periodic : tuple of int
        Axes along which the grid repeats.

    Raises
    ------
    InputError
        No cell inside.
    """
    inside = distance < 0
    if not inside.any():
        refuse("flow", "cells inside the vessel", "none")
    index = np.full(distance.shape, -1, np.int64)
    index[inside] = np.arange(inside.sum())
    cells = np.array(np.nonzero(inside))
    size = np.array(distance.shape)[:, None]
    source = np.empty((19, cells.shape[1]), np.int64)
    fraction, kind, value, belongs = [], [], [], []
    n_links = 0
    for i in range(19):
        shift = DIRECTIONS[i, ::-1][:, None]
        there = cells - shift
        for axis in periodic:
            there[axis] %= size[axis, 0]
        off = (there < 0) | (there >= size)
        held = np.clip(there, 0, size - 1)
        origin = np.where(off.any(axis=0), -1, index[tuple(held)])
        outside = np.flatnonzero(origin < 0)
        source[i] = origin
        source[i, outside] = -1 - (n_links + np.arange(outside.size))
        n_links += outside.size
        far = distance[tuple(held[:, outside])]
        # beyond an opening the vessel goes on as on the face; beyond any other face there is wall half way
        back = cells[:, outside] + shift
        for axis in periodic:
            back[axis] %= size[axis, 0]
        q = np.where(
            far > 0,
            _wall_place(
                distance[tuple(np.clip(back, 0, size - 1))],
                distance[tuple(cells[:, outside])],
                np.maximum(far, 1e-9),
            ),
            0.5,
        )
        link_kind, link_value, link_end = (np.zeros(outside.size, np.int64), np.zeros(outside.size),
                                           np.full(outside.size, -1))  # fmt: skip
        for e, end in enumerate(ends or []):
            axis, side = axis_of(end.face)
            beyond = (there[axis, outside] < 0) if side == 0 else (there[axis, outside] >= size[axis, 0])
            only = off[:, outside].sum(axis=0) == 1
            plane = tuple(np.delete(held[:, outside], axis, axis=0))
            through = beyond & only & end.where[plane]
            link_kind[through] = INLET if end.inlet else OUTLET
            link_end[through] = e
            if end.inlet:
                own = tuple(np.delete(cells[:, outside], axis, axis=0))
                speed = 0.5 * (end.profile[plane] + end.profile[own])
                inward = 1.0 if side == 0 else -1.0
                normal = DIRECTIONS[i, ::-1][axis] * inward
                link_value[through] = (6.0 * WEIGHTS[i] * normal * speed)[through]
        fraction.append(np.clip(q, _LEAST_FRACTION, 1.0))
        kind.append(link_kind)
        value.append(link_value)
        belongs.append(link_end)
    kinds, values, belonging = np.concatenate(kind), np.concatenate(value), np.concatenate(belongs)
    for e, end in enumerate(ends or []):
        if end.inlet:  # links at the rim that meet the wall bring nothing: the others make up for them
            own = belonging == e
            values[own] *= end.where.sum() / values[own].sum()
    return Grid(
        distance, index, cells, source.astype(np.int32), np.concatenate(fraction), kinds.astype(np.int32), values,
        belonging,
    )  # fmt: skip


def wall_cells(grid: Grid) -> np.ndarray:
    """Numbers of the cells with a link through the wall."""
    link = -1 - grid.source
    touches = np.zeros(grid.source.shape[1], bool)
    for i in range(1, 19):
        outside = grid.source[i] < 0
        touches[outside] |= grid.kind[link[i, outside]] == WALL
    return np.flatnonzero(touches)
