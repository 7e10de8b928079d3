"""Paint solids on a voxel grid with partial volumes at their surfaces."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from twinlab.phantom.shapes import Shape

CHUNK_VOXELS = 4096


def paint(
    shapes: Sequence[Shape],
    *,
    z: np.ndarray,
    y: np.ndarray,
    x: np.ndarray,
    steps: tuple[float, float, float],
    densities: np.ndarray,
    materials: np.ndarray,
    organs: np.ndarray,
    subsamples: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Voxel arrays of solids painted in order on air.

    Parameters
    ----------
    shapes : sequence of Shape
    z, y, x : ndarray, units mm
        Voxel centres.
    steps : (z, y, x), units mm
        Voxel size.
    densities, materials, organs : ndarray, shape (n_shapes + 1,)
        Of air (entry 0) and of each solid: g/cm3, index, label.
    subsamples : int
        Points along each edge of a voxel that a surface cuts; 1 paints by voxel centre.

    Returns
    -------
    material, density, organ : ndarray, shape (z, y, x), uint8, float32, uint16
    """
    shape3 = (z.size, y.size, x.size)
    material = np.zeros(shape3, np.uint8)
    density = np.empty(shape3, np.float32)
    organ = np.zeros(shape3, np.uint16)
    done: dict[bytes, int] = {}
    for k, height in enumerate(z):
        key = _signature(shapes, float(height), steps[0], subsamples)
        if key is not None and key in done:
            first = done[key]
            material[k], density[k], organ[k] = material[first], density[first], organ[first]
            continue
        owner, cut = _centres(shapes, float(height), y, x, steps)
        material[k], density[k], organ[k] = materials[owner], densities[owner], organs[owner]
        if subsamples > 1 and cut.any():
            rows, columns = np.nonzero(cut)
            for first in range(0, rows.size, CHUNK_VOXELS):
                part = slice(first, first + CHUNK_VOXELS)
                r, c = rows[part], columns[part]
                counts = _shares(shapes, float(height), y[r], x[c], steps, subsamples)
                material[k, r, c], density[k, r, c], organ[k, r, c] = _mix(
                    counts, densities, materials, organs
                )
        if key is not None:
            done[key] = k
    return material, density, organ


def _signature(shapes: Sequence[Shape], height: float, step: float, subsamples: int) -> bytes | None:
    """What of each prism this slice meets; slices of one signature are equal. None: a curved solid is met."""
    levels = height + (np.arange(subsamples) - (subsamples - 1) / 2) * step / subsamples
    levels = np.append(levels, height)
    met = []
    for shape in shapes:
        low, high = shape.z_span_mm
        hit = (levels >= low - 1e-9) & (levels <= high + 1e-9)
        near = high > height - step and low < height + step
        if near and not shape.is_prism:
            return None
        met.append(hit)
    return np.array(met).tobytes()


def _centres(
    shapes: Sequence[Shape], height: float, y: np.ndarray, x: np.ndarray, steps: tuple[float, float, float]
) -> tuple[np.ndarray, np.ndarray]:
    points = np.empty((y.size, x.size, 3))
    points[..., 0], points[..., 1], points[..., 2] = x[None, :], y[:, None], height
    reach = 0.5 * float(np.linalg.norm(steps)) + 1e-9
    owner = np.zeros((y.size, x.size), np.intp)
    cut = np.zeros((y.size, x.size), bool)
    for index, shape in enumerate(shapes, start=1):
        low, high = shape.z_span_mm
        if high < height - reach or low > height + reach:
            continue
        bound = shape.bound(points)
        owner[bound <= 1e-9] = index
        cut |= np.abs(bound) <= reach
    return owner, cut


def _shares(
    shapes: Sequence[Shape],
    height: float,
    y: np.ndarray,
    x: np.ndarray,
    steps: tuple[float, float, float],
    n: int,
) -> np.ndarray:
    """Sub-samples of each voxel owned by air and by each solid, shape (n_shapes + 1, n_voxels)."""
    offsets = (np.arange(n) - (n - 1) / 2) / n
    dz, dy, dx = np.meshgrid(*(offsets * step for step in steps), indexing="ij")
    points = np.empty((y.size, n**3, 3))
    points[..., 0] = x[:, None] + dx.ravel()
    points[..., 1] = y[:, None] + dy.ravel()
    points[..., 2] = height + dz.ravel()
    owner = np.zeros(points.shape[:2], np.intp)
    reach = steps[0]
    for index, shape in enumerate(shapes, start=1):
        low, high = shape.z_span_mm
        if high >= height - reach and low <= height + reach:
            owner[shape.bound(points) <= 1e-9] = index
    flat = owner + np.arange(y.size)[:, None] * (len(shapes) + 1)
    return np.bincount(flat.ravel(), minlength=y.size * (len(shapes) + 1)).reshape(y.size, -1).T


def _mix(
    counts: np.ndarray, densities: np.ndarray, materials: np.ndarray, organs: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    mass = counts * densities[:, None]
    by_material = np.stack([mass[materials == m].sum(axis=0) for m in range(int(materials.max()) + 1)])
    labels = np.unique(organs)
    by_organ = np.stack([counts[organs == o].sum(axis=0) for o in labels])
    return by_material.argmax(axis=0), mass.sum(axis=0) / counts.sum(axis=0), labels[by_organ.argmax(axis=0)]
