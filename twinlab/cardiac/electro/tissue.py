"""Muscle on a voxel grid as the electrical models see it: nodes, conductivity tensors, scar, kinds of cells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import xarray as xr
from scipy import ndimage

from twinlab.schema import refuse, spacing

LAYERS = (1.0 / 3.0, 2.0 / 3.0)  # ends of endocardium and middle across the wall, for cells in layers
SMALLEST_SHARE = 0.02  # of a voxel that counts as muscle


class Conductivity(NamedTuple):
    """Effective (monodomain) conductivity along and across the fibre, S/m = mS/mm; ``normal`` to the sheet."""

    along_s_per_m: float
    across_s_per_m: float
    normal_s_per_m: float | None = None

    def scaled(self, factor: float) -> Conductivity:
        """All entries times a factor.

        Examples
        --------
        >>> Conductivity(0.2, 0.1).scaled(0.5)
        Conductivity(along_s_per_m=0.1, across_s_per_m=0.05, normal_s_per_m=None)
        """
        return Conductivity(*(None if s is None else s * factor for s in self))  # type: ignore[arg-type]


def effective_conductivity(
    intracellular_s_per_m: tuple[float, float], extracellular_s_per_m: tuple[float, float]
) -> Conductivity:
    """Monodomain conductivity of two domains: ``si se / (si + se)`` along and across the fibre.

    Exact when both domains are anisotropic alike (equal ratios); usual also where they are not.

    Examples
    --------
    >>> effective_conductivity((0.17, 0.019), (0.62, 0.24))
    Conductivity(along_s_per_m=0.133..., across_s_per_m=0.0176..., normal_s_per_m=None)
    """
    return Conductivity(
        *(i * e / (i + e) for i, e in zip(intracellular_s_per_m, extracellular_s_per_m, strict=True))
    )


NIEDERER = effective_conductivity((0.17, 0.019), (0.62, 0.24))  # of the N-version benchmark, table 1


@dataclass(frozen=True)
class Tissue:
    """Excitable muscle on voxels: elements are voxels, nodes their corners.

    ``number`` (z + 3, y + 3, x + 3) numbers the nodes of the grid with a margin of one, -1 where there is none;
    ``nodes`` (node, 3) holds their places (z, y, x); ``tensor`` (z, y, x, 6) the diffusivity in mm2/ms (xx, yy,
    zz, xy, xz, yz); ``weight`` (z, y, x) the share of muscle.
    """

    h_mm: float
    corner_mm: tuple[float, float, float]  # x, y, z of the grid's first node
    number: np.ndarray
    nodes: np.ndarray
    tensor: np.ndarray
    weight: np.ndarray
    voxels: xr.Dataset

    def position_mm(self) -> np.ndarray:
        """Positions (node, axis x y z) of the nodes, mm."""
        return self.nodes[:, ::-1] * self.h_mm + np.asarray(self.corner_mm)

    def node_mean(self, field: np.ndarray) -> np.ndarray:
        """Mean at each node of the muscle's voxels around it."""
        inside = self.weight > 0
        place = tuple(self.nodes.T)
        return around(np.where(inside, field, 0.0))[place] / around(inside.astype(float))[place]

    def to_voxels(self, values: np.ndarray) -> np.ndarray:
        """Mean of a voxel's corners for each voxel of muscle: the interpolant at its centre; NaN elsewhere."""
        grid = np.full(tuple(s + 1 for s in self.weight.shape), np.nan)
        grid[tuple(self.nodes.T)] = values
        mean = around(grid, pad=0) / 8.0
        return np.where(self.weight > 0, mean, np.nan)

    def nearest_node(self, point_mm: tuple[float, float, float]) -> int:
        """Number of the node next to a point (x, y, z in mm)."""
        return int(np.argmin(((self.position_mm() - np.asarray(point_mm)) ** 2).sum(axis=1)))


def around(field: np.ndarray, pad: int = 1) -> np.ndarray:
    """Sum over the eight neighbours (2, 2, 2): from voxels to nodes with a margin of zeros, back without."""
    field = np.pad(field, pad)
    for axis in range(3):
        n = field.shape[axis]
        field = np.take(field, range(n - 1), axis) + np.take(field, range(1, n), axis)
    return field


def voxel_grid(voxels: xr.Dataset, *, where: str) -> tuple[float, tuple[float, float, float], np.ndarray]:
    """Voxel side (mm), centre of the first voxel (x, y, z) and muscle mask of a heart on voxels.

    Raises
    ------
    InputError
        ``wall`` is missing or empty, the grid is uneven, steps differ between directions, or the muscle is in
        several pieces.
    """
    if "wall" not in voxels or tuple(voxels["wall"].dims) != ("z", "y", "x"):
        refuse(
            where, "voxels with a variable 'wall' of dims (z, y, x)", f"variables {sorted(map(str, voxels))}"
        )
    steps = [spacing(voxels[a], where=where) for a in "zyx" if voxels.sizes[a] > 1]
    if not steps:
        steps = [float(voxels.attrs.get("h_mm", np.nan))]
    if not np.isfinite(steps).all() or max(steps) - min(steps) > 1e-3 * max(steps):
        refuse(f"{where}: voxels", "equal steps along z, y and x (resample first)", f"{steps} mm")
    muscle = np.asarray(voxels["wall"]) > 0
    if not muscle.any():
        refuse(f"{where}: wall", "voxels of muscle", "none")
    pieces, count = ndimage.label(muscle, np.ones((3, 3, 3)))
    if count > 1:
        sizes = sorted(np.bincount(pieces.ravel())[1:].tolist(), reverse=True)[:5]
        refuse(
            f"{where}: wall", "muscle in one piece (keep the largest)", f"{count} pieces of {sizes} voxels"
        )
    first = tuple(float(voxels[a][0]) if a in voxels.coords else 0.5 * steps[0] for a in "xyz")
    return float(np.mean(steps)), first, muscle  # type: ignore[return-value]


def fibre_tensor(
    voxels: xr.Dataset, mask: np.ndarray, along: float, across: float, normal: float | None, *, where: str
) -> np.ndarray:
    """Tensor (z, y, x, 6; xx, yy, zz, xy, xz, yz) with given values along the fibre and across it.

    Raises
    ------
    InputError
        No unit fibre vectors in the mask while the values differ.
    """
    out = np.zeros((*mask.shape, 6), np.float32)
    out[..., :3] = across
    for name, value in (("fibre", along), ("sheet_normal", normal)):
        if value is None or value == across:
            continue
        if name not in voxels:
            refuse(where, f"unit vectors {name!r} on the voxels", f"variables {sorted(map(str, voxels))}")
        f = np.asarray(voxels[name], dtype=np.float32)
        length = np.sqrt((f**2).sum(axis=-1))
        if not (np.abs(length[mask] - 1.0) < 0.02).all():
            bad = int((~(np.abs(length[mask] - 1.0) < 0.02)).sum())
            refuse(f"{where}: {name}", "unit vectors in all muscle", f"{bad} voxels without")
        for k, (i, j) in enumerate(((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))):
            out[..., k] += np.float32(value - across) * f[..., i] * f[..., j]
    out[~mask] = 0.0
    return out


def wall_depth(voxels: xr.Dataset, inside: np.ndarray, *, where: str) -> np.ndarray:
    """``transmural`` (z, y, x), which must be a number in all muscle.

    Raises
    ------
    InputError
        NaN in the muscle.
    """
    depth = np.asarray(voxels["transmural"], dtype=float)
    missing = int((~np.isfinite(depth[inside])).sum())
    if missing:
        refuse(f"{where}: transmural", "a depth in every voxel of muscle", f"{missing} voxels without")
    return depth


def scar_scale(voxels: xr.Dataset, border: float, core: float) -> np.ndarray:
    """Factor (z, y, x) on the conductivity: 1 in healthy muscle, ``border`` and ``core`` in scar.

    Raises
    ------
    InputError
        Values other than 0, 1 (border zone) and 2 (core).
    """
    if "scar" not in voxels:
        return np.ones(voxels["wall"].shape)
    kind = np.asarray(voxels["scar"])
    if not np.isin(kind, (0, 1, 2)).all():
        refuse("scar", "0 healthy, 1 border zone, 2 core", np.unique(kind)[:8].tolist())
    return np.asarray([1.0, border, core])[kind.astype(int)]


def excitable(
    voxels: xr.Dataset,
    *,
    conductivity: Conductivity = NIEDERER,
    chi_per_mm: float = 140.0,
    cm_uf_per_mm2: float = 0.01,
    border: float = 0.25,
    core: float = 0.0,
    where: str = "excitable",
) -> Tissue:
    """Excitable muscle of a heart on voxels.

    Parameters
    ----------
    voxels : Dataset
        ``wall`` (z, y, x), ``fibre`` (z, y, x, axis) where along and across differ, optionally ``scar``
        (1 border zone, 2 core), ``sheet_normal``, and ``fraction`` (z, y, x), the share of each voxel that is
        muscle: mass and stiffness of a voxel count by it, which smooths a stepped surface.
    conductivity : Conductivity
        Effective, S/m.
    chi_per_mm : float
        Membrane area per volume of tissue.
    cm_uf_per_mm2 : float
        Membrane capacitance.
    border, core : float
        Factor on the conductivity in border zone and core of a scar; 0 leaves those voxels out.
    where : str
        Name of the caller, for errors.

    Returns
    -------
    Tissue

    Raises
    ------
    InputError
        Unusable voxels, fibres or conductivities.
    """
    h, first, muscle = voxel_grid(voxels, where=where)
    values = [s for s in conductivity if s is not None]
    if not all(np.isfinite(s) and s > 0 for s in values) or not (border >= 0 and core >= 0):
        refuse(
            f"{where}: conductivity", "positive S/m; border and core 0 or more", (conductivity, border, core)
        )
    if not (chi_per_mm > 0 and cm_uf_per_mm2 > 0):
        refuse(f"{where}: membrane", "chi_per_mm and cm_uf_per_mm2 above 0", (chi_per_mm, cm_uf_per_mm2))
    scale = scar_scale(voxels, border, core)
    weight = muscle * (scale > 0)
    if "fraction" in voxels:
        fraction = np.asarray(voxels["fraction"], dtype=float)
        if not (np.isfinite(fraction[muscle]).all() and (fraction[muscle] <= 1.0 + 1e-6).all()):
            refuse(f"{where}: fraction", "shares from 0 to 1 in the muscle", "others")
        weight = np.where(fraction > SMALLEST_SHARE, weight * fraction, 0.0)
    weight = weight.astype(float)
    if not weight.any():
        refuse(f"{where}: scar", "some muscle that conducts", "none")
    tensor = fibre_tensor(voxels, muscle, *conductivity, where=where)
    tensor *= (scale / (chi_per_mm * cm_uf_per_mm2))[..., None].astype(np.float32)
    tensor[weight == 0] = 0.0
    touched = around((weight > 0).astype(float)) > 0
    nodes = np.argwhere(touched).astype(np.int32)
    number = np.full(tuple(s + 2 for s in touched.shape), -1, np.int32)
    number[tuple((nodes + 1).T)] = np.arange(len(nodes), dtype=np.int32)
    corner = tuple(c - 0.5 * h for c in first)
    return Tissue(h, corner, number, nodes, tensor, weight, voxels)  # type: ignore[arg-type]


def kinds(muscle: Tissue, kind: int | None, *, where: str) -> np.ndarray:
    """Kind of cell at each node: one everywhere, or by ``transmural`` in layers (see :data:`LAYERS`).

    Raises
    ------
    InputError
        Layers are asked for and the voxels have no ``transmural``.
    """
    if kind is not None:
        return np.full(len(muscle.nodes), kind, np.uint8)
    if "transmural" not in muscle.voxels:
        refuse(
            f"{where}: cell", "voxels with 'transmural' for cells in layers", sorted(map(str, muscle.voxels))
        )
    depth = muscle.node_mean(wall_depth(muscle.voxels, muscle.weight > 0, where=where))
    return np.select([depth < LAYERS[0], depth < LAYERS[1]], [1, 2], 0).astype(np.uint8)


def slab(
    size_mm: tuple[float, float, float], h_mm: float, *, fibre: tuple[float, float, float] = (1.0, 0.0, 0.0)
) -> xr.Dataset:
    """Box of muscle with its corner at the origin, fibres straight: a heart on voxels for tests and benchmarks.

    Parameters
    ----------
    size_mm : tuple of float
        Along x, y, z; multiples of ``h_mm``.
    h_mm : float
        Side of a voxel.
    fibre : tuple of float
        Direction of the fibres (x, y, z).

    Examples
    --------
    >>> dict(slab((2.0, 1.0, 1.0), 0.5).sizes)
    {'z': 2, 'y': 2, 'x': 4, 'axis': 3}
    """
    if not (np.isfinite([*size_mm, h_mm]).all() and h_mm > 0):
        refuse("slab", "finite sizes and a voxel side above 0 mm", (size_mm, h_mm))
    counts = [max(1, round(s / h_mm)) for s in size_mm]
    for s, n in zip(size_mm, counts, strict=True):
        if abs(n * h_mm - s) > 1e-6 * h_mm * n:
            refuse("slab: size_mm", f"multiples of the voxel side {h_mm} mm", size_mm)
    shape = tuple(counts[::-1])
    unit = np.asarray(fibre, dtype=np.float32)
    unit = unit / np.linalg.norm(unit)
    coords = {a: (np.arange(n) + 0.5) * h_mm for a, n in zip("xyz", counts, strict=True)}
    return xr.Dataset(
        {
            "wall": (("z", "y", "x"), np.ones(shape, np.uint8)),
            "scar": (("z", "y", "x"), np.zeros(shape, np.uint8)),
            "fibre": (("z", "y", "x", "axis"), np.broadcast_to(unit, (*shape, 3)).copy()),
        },
        coords={**coords, "axis": ["x", "y", "z"]},
        attrs={"source": "slab", "h_mm": h_mm},
    )
