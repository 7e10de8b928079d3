"""Scar and border zone: prescribed by segments, depth and size, or taken from labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from twinlab.cardiac.geometry.surfaces import RV_FREE_WALL
from twinlab.cardiac.geometry.tets import volumes
from twinlab.cardiac.geometry.universal import aha_segments, coordinates
from twinlab.schema import check, refuse, spacing

HEALTHY, BORDER, SCAR = 0, 1, 2
"""Values of ``scar``."""


def add_scar(
    heart: xr.Dataset,
    *,
    segments: Sequence[int] = (),
    transmurality: float = 1.0,
    border_mm: float = 3.0,
    labels: xr.DataArray | None = None,
    scar_label: int = 2,
    border_label: int | None = 1,
) -> xr.Dataset:
    """Mark scar and border zone in a heart mesh.

    Parameters
    ----------
    heart : Dataset
        Heart mesh.
    segments : sequence of int
        Segments 1 to 17 of the left ventricle (see ``aha_segments``) that hold scar.
    transmurality : float
        Depth of the scar from the endocardium, as a share of the wall, above 0 up to 1.
    border_mm : float, units mm
        Border zone: muscle nearer than this to scar.
    labels : DataArray, dims (z, y, x), optional
        Instead of ``segments``: labels of scar in the patient system; an element takes the label of the voxel that
        its centre lies in.
    scar_label, border_label : int
        Their values in ``labels``. With ``border_label=None`` the border is made with ``border_mm``.

    Returns
    -------
    Dataset
        ``heart`` with ``scar`` (tet) 0 healthy, 1 border zone, 2 scar; attrs ``scar_ml``, ``border_ml``,
        ``scar_share`` (of the left ventricle's muscle). ``to_voxels`` carries ``scar`` to the grid.

    Raises
    ------
    InputError
        Both or none of ``segments`` and ``labels``, numbers out of range, labels that do not cover the heart, or
        no scar in the end.
    """
    check(heart, "point", "tet", "wall", "scar", where="add_scar")
    if (len(segments) > 0) == (labels is not None):
        refuse(
            "add_scar", "either segments or labels", f"segments {list(segments)}, labels {labels is not None}"
        )
    if not 0 < transmurality <= 1:
        refuse("add_scar", "transmurality above 0 and up to 1", transmurality)
    if not 0 <= border_mm <= 50:
        refuse("add_scar", "border_mm from 0 to 50", border_mm)
    points, tets = heart["point"].values, heart["tet"].values
    centres = points[tets].mean(axis=1)
    scar = np.zeros(len(tets), np.uint8)
    if labels is None:
        wrong = [s for s in segments if s not in range(1, 18)]
        if wrong:
            refuse("add_scar", "segments from 1 to 17", wrong)
        known = heart if "transmural" in heart else coordinates(heart)
        depth = known["transmural"].values[tets].mean(axis=1)
        inside = np.isin(aha_segments(known).values, list(segments)) & (depth <= transmurality)
        scar[inside] = SCAR
    else:
        found = _labels_at(labels, centres)
        scar[found == scar_label] = SCAR
        if border_label is not None:
            scar[found == border_label] = BORDER
    if not (scar == SCAR).any():
        refuse("add_scar", "scar in at least one element", "none")
    if border_mm > 0 and (labels is None or border_label is None):
        near = cKDTree(centres[scar == SCAR]).query(centres, distance_upper_bound=border_mm)[0] <= border_mm
        scar[near & (scar == HEALTHY)] = BORDER
    volume = np.abs(volumes(points, tets.astype(np.int64))) / 1000.0
    out = heart.assign(scar=heart["scar"].copy(data=scar))
    left = heart["wall"].values != RV_FREE_WALL
    out.attrs.update(
        scar_ml=float(volume[scar == SCAR].sum()),
        border_ml=float(volume[scar == BORDER].sum()),
        scar_share=float(volume[(scar == SCAR) & left].sum() / volume[left].sum()),
    )
    return out


def _labels_at(labels: xr.DataArray, places: NDArray[np.float64]) -> NDArray[np.int64]:
    """Label of the voxel that each place lies in."""
    if tuple(labels.dims) != ("z", "y", "x"):
        refuse("add_scar", "labels with dims ('z', 'y', 'x')", labels.dims)
    index = np.stack(
        [
            (places[:, 2 - k] - float(labels[a][0])) / spacing(labels[a], where="add_scar")
            for k, a in enumerate("zyx")
        ]
    )
    last = np.array(labels.shape)[:, None] - 0.5
    beyond = ((index < -0.5) | (index > last)).any(axis=0)
    if beyond.mean() > 0.01:
        refuse(
            "add_scar", "labels that cover the heart", f"{100 * beyond.mean():.0f} % of it outside their grid"
        )
    values = np.asarray(labels.values)
    return ndimage.map_coordinates(values.astype(float), index, order=0, mode="nearest").astype(np.int64)
