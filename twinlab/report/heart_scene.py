"""Pictures of the heart in three dimensions, drawn off the screen.

A heart that knows its base and septum (attrs ``base_normal``, ``septum_direction``) is drawn upright: base up, septum
to the left of the picture.
"""

from __future__ import annotations

import os
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.colors import Normalize

from twinlab.report.style import Plot, axes, bare
from twinlab.schema import refuse

PIXELS = (720, 640)
VIEWS = {
    "front": ((0.0, -1.0, 0.15), (0.0, 0.0, 1.0)),
    "left": ((1.0, 0.0, 0.0), (0.0, 0.0, 1.0)),
    "back": ((0.0, 1.0, 0.0), (0.0, 0.0, 1.0)),
    "oblique": ((0.35, -0.85, 0.4), (0.0, 0.0, 1.0)),
}


def hearts(
    panels: Mapping[str, tuple[xr.Dataset, np.ndarray | xr.DataArray]],
    *,
    label: str,
    view: str = "oblique",
    opened: bool = True,
    limits: tuple[float, float] | None = None,
    cmap: str = "viridis",
    points: np.ndarray | None = None,
) -> Plot:
    """Hearts side by side, coloured by a field, with one scale.

    Parameters
    ----------
    panels : mapping of title to (heart, field)
        Field by node or by tet; NaN is grey.
    label : str
        Of the colour scale, with the unit in brackets.
    view : {"front", "left", "back", "oblique"}
        From where, in the heart's own frame.
    opened : bool
        Cut along the middle of the base, so that the walls are seen.
    limits : (low, high), optional
        Of the scale; default: of all the fields.
    cmap : str
    points : ndarray (point, axis), mm, optional
        Marked by balls: pacing sites, leads.

    Returns
    -------
    Plot

    Raises
    ------
    InputError
        Unknown view, or a field that fits neither nodes nor tets.
    """
    fields = {title: _field(heart, field, title) for title, (heart, field) in panels.items()}
    if limits is None:
        every = np.concatenate([f[np.isfinite(f)] for f in fields.values()])
        limits = (float(every.min()), float(every.max())) if every.size else (0.0, 1.0)
    plot, ax = axes(1, len(panels), width_in=min(3.6 * len(panels) + 0.8, 9.0), height_in=3.4)
    for panel, (title, (heart, _)) in zip(ax[0], panels.items(), strict=True):
        panel.imshow(_picture(heart, fields[title], view, opened, limits, cmap, points))
        panel.set_title(textwrap.fill(title, 24), fontsize=9)
        bare(panel)
    shade = mpl.cm.ScalarMappable(Normalize(*limits), cmap)
    plot.colorbar(shade, ax=ax[0].tolist(), label=label, shrink=0.8, pad=0.01)
    return plot.say(f"Heart seen from the {view}, coloured by {label}: {', '.join(panels)}.")


def fibres(heart: xr.Dataset, *, every_mm: float = 4.0, view: str = "front") -> Plot:
    """Fibre directions on the epicardium and on the endocardium, coloured by their angle to the horizontal.

    Parameters
    ----------
    heart : Dataset
        With ``fibre`` (tet, axis).
    every_mm : float
        Distance between the strokes.
    view : str
        See :func:`hearts`.

    Returns
    -------
    Plot
    """
    plot, ax = axes(1, 2, width_in=8.0, height_in=3.4)
    for panel, (title, surfaces) in zip(
        ax[0], {"epicardium": (1,), "endocardium": (2, 3)}.items(), strict=True
    ):
        panel.imshow(_strokes(heart, surfaces, every_mm, view))
        panel.set_title(title)
        bare(panel)
    shade = mpl.cm.ScalarMappable(Normalize(-90.0, 90.0), "twilight_shifted")
    plot.colorbar(shade, ax=ax[0].tolist(), label="Helix angle [degrees]", shrink=0.8, pad=0.01)
    return plot.say("Fibres turn through the wall: strokes on the outside and on the inside of the heart.")


def _picture(
    heart: xr.Dataset,
    field: np.ndarray,
    view: str,
    opened: bool,
    limits: tuple[float, float],
    cmap: str,
    points: np.ndarray | None,
) -> np.ndarray:
    turn = _upright(heart)
    heart = _turned(heart, turn)
    with _scene(view) as (pv, plotter):
        grid = _grid(pv, heart)
        by_node = field.size == grid.n_points
        (grid.point_data if by_node else grid.cell_data)["field"] = field
        shown = grid.clip(normal=_across(view), origin=grid.center) if opened else grid
        plotter.add_mesh(
            shown.extract_surface(algorithm="dataset_surface"),
            scalars="field",
            clim=list(limits),
            cmap=cmap,
            nan_color="#b8bec6",
            show_scalar_bar=False,
            ambient=0.25,
        )
        if points is not None:
            balls = pv.PolyData(np.atleast_2d(np.asarray(points, float)) @ turn.T).glyph(
                geom=pv.Sphere(radius=0.03 * grid.length), orient=False, scale=False
            )
            plotter.add_mesh(balls, color="#D55E00")
        return _shot(plotter, view)


def _strokes(heart: xr.Dataset, surfaces: Sequence[int], every_mm: float, view: str) -> np.ndarray:
    heart = _turned(heart, _upright(heart))
    with _scene(view) as (pv, plotter):
        facet = heart["facet"].to_numpy()
        chosen = np.isin(heart["facet_surface"].to_numpy(), surfaces)
        points = heart["point"].to_numpy()
        owner = _owners(heart["tet"].to_numpy(), facet[chosen])
        middle = points[facet[chosen]].mean(axis=1)
        keep = _thinned(middle, every_mm)
        along = heart["fibre"].to_numpy()[owner[keep]]
        normal = np.cross(
            points[facet[chosen][:, 1]] - points[facet[chosen][:, 0]],
            points[facet[chosen][:, 2]] - points[facet[chosen][:, 0]],
        )[keep]
        normal /= np.linalg.norm(normal, axis=1)[:, None]
        cloud = pv.PolyData(middle[keep] + 0.6 * normal)
        cloud["along"] = along
        cloud["angle"] = helix_angle(along, normal * (1.0 if 1 in surfaces else -1.0))
        body = _grid(pv, heart)
        cut = {"normal": _across(view), "origin": body.center}
        skin = body.extract_surface(algorithm="dataset_surface")
        plotter.add_mesh(skin if 1 in surfaces else skin.clip(**cut), color="#eef1f4", ambient=0.2)
        rods = cloud.glyph(
            orient="along", scale=False, geom=pv.Cylinder(radius=0.12, height=1.0), factor=every_mm
        )
        plotter.add_mesh(
            rods if 1 in surfaces else rods.clip(**cut),
            scalars="angle",
            clim=[-90.0, 90.0],
            cmap="twilight_shifted",
            show_scalar_bar=False,
        )
        return _shot(plotter, view)


def helix_angle(
    along: np.ndarray, outward: np.ndarray, base: Sequence[float] = (0.0, 0.0, 1.0)
) -> np.ndarray:
    """Angle of a direction to the circumference, in the plane of the wall, degrees from -90 to 90.

    Parameters
    ----------
    along, outward : ndarray (n, axis)
        Fibre and the wall's normal away from the cavity, unit vectors.
    base : (3,)
        Direction from apex to base.
    """
    around = np.cross(np.asarray(base, float), outward)
    around /= np.maximum(np.linalg.norm(around, axis=1), 1e-9)[:, None]
    up = np.cross(outward, around)
    x, y = (along * around).sum(1), (along * up).sum(1)
    return np.asarray(np.degrees(np.arctan2(y * np.sign(x), np.abs(x))))


def _upright(heart: xr.Dataset) -> np.ndarray:
    """Rotation into the heart's own frame: z to the base, -x to the septum."""
    if "base_normal" not in heart.attrs or "septum_direction" not in heart.attrs:
        return np.eye(3)
    up = np.asarray(heart.attrs["base_normal"], float)
    left = np.asarray(heart.attrs["septum_direction"], float)
    left = left - up * (left @ up)
    left /= np.linalg.norm(left)
    return np.stack([-left, np.cross(up, -left), up])


def _turned(heart: xr.Dataset, turn: np.ndarray) -> xr.Dataset:
    names = [name for name in ("point", "fibre") if name in heart]
    return heart.assign({name: heart[name].copy(data=heart[name].to_numpy() @ turn.T) for name in names})


def _owners(tet: np.ndarray, facet: np.ndarray) -> np.ndarray:
    """Tet behind every boundary triangle."""
    faces = np.sort(np.concatenate([np.delete(tet, k, axis=1) for k in range(4)]), axis=1)
    most = int(tet.max()) + 1
    key = (faces[:, 0].astype(np.int64) * most + faces[:, 1]) * most + faces[:, 2]
    order = np.argsort(key)
    wanted = np.sort(facet, axis=1).astype(np.int64)
    place = np.searchsorted(key[order], (wanted[:, 0] * most + wanted[:, 1]) * most + wanted[:, 2])
    return np.asarray(order[np.minimum(place, len(order) - 1)] % len(tet))


def _thinned(points: np.ndarray, every_mm: float) -> np.ndarray:
    """One point for each cube of this size."""
    cube = np.floor(points / every_mm).astype(np.int64)
    return np.asarray(np.unique(cube, axis=0, return_index=True)[1])


def _field(heart: xr.Dataset, field: Any, title: str) -> np.ndarray:
    values = np.asarray(field, float).ravel()
    if values.size not in (heart.sizes["node"], heart.sizes["tet"]):
        refuse(
            f"hearts: {title}",
            f"a field by node ({heart.sizes['node']}) or by tet ({heart.sizes['tet']})",
            f"{values.size} values",
        )
    return values


def _grid(pv: Any, heart: xr.Dataset) -> Any:
    tet = heart["tet"].to_numpy()
    cells = np.column_stack([np.full(len(tet), 4), tet]).ravel()
    return pv.UnstructuredGrid(cells, np.full(len(tet), pv.CellType.TETRA), heart["point"].to_numpy())


def _across(view: str) -> tuple[float, float, float]:
    """Normal of the cut, which holds the long axis: what lies between the eye and the middle goes."""
    x, y, _ = VIEWS[view][0]
    return (0.0, -1.0, 0.0) if abs(y) > abs(x) and y < 0 else (x, y, 0.0)


def _shot(plotter: Any, view: str) -> np.ndarray:
    """The picture, all of the scene in it."""
    direction, up = VIEWS[view]
    plotter.view_vector(direction, viewup=up)
    plotter.camera.zoom(1.15)
    return np.asarray(plotter.screenshot(return_img=True))


@contextmanager
def _scene(view: str) -> Iterator[tuple[Any, Any]]:
    if view not in VIEWS:
        refuse("heart picture: view", f"one of {', '.join(VIEWS)}", view)
    with _quiet():
        try:
            import pyvista as pv
        except ImportError:
            refuse("heart picture", "pyvista (pip install 'twinlab[heart]')", "no such package")

        plotter: Any = pv.Plotter(off_screen=True, window_size=list(PIXELS), lighting="light kit")
        plotter.set_background("white")
        plotter.enable_anti_aliasing("ssaa")
        try:
            yield pv, plotter
        finally:
            plotter.close()


@contextmanager
def _quiet() -> Iterator[None]:
    """No words of the graphics library about a missing display: it then draws without one."""
    saved = os.dup(2)
    nothing = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nothing, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nothing)
