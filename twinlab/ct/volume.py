"""What is scanned, laid out once for all views: voxels, solids, or solids on top of voxels."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr

from twinlab.ct.basis import Basis, choose_basis
from twinlab.ct.detector import detected_spectrum
from twinlab.kernels import cuda_project
from twinlab.kernels import solids as chords
from twinlab.kernels.columns import Columns, extent, prepare_materials
from twinlab.kernels.deflection import foci
from twinlab.kernels.general_rays import frames, project_tilted
from twinlab.kernels.project import detector_rays, project
from twinlab.phantom.build import AIR_DENSITY_G_CM3
from twinlab.phantom.recipes import Recipe
from twinlab.phantom.shapes import Box, Point, Shape
from twinlab.physics.materials import get as get_material
from twinlab.scanner import Protocol
from twinlab.schema import check, refuse, spacing

WHOLE_BYTES = 2 * 2**30  # above this, only the slices that the views see are laid out
WINDOW_SLICES = 16  # windows begin and end at multiples of this, so that blocks of views share them
FEWEST_VIEWS = 32  # never fewer at a time
DENSE_G_CM3 = 0.05  # what weighs less is air

Limits = tuple[tuple[float, float], tuple[float, float], tuple[float, float]]


@dataclass(frozen=True)
class Volume:
    """A phantom ready for projection; made by :func:`prepare_phantom`, good for all views of a scan.

    Attributes
    ----------
    basis : Basis
    coefficients : float32 array (n_material, n_basis)
        Of every entry of ``material_name``.
    material, density : array (z, y, x)
        Voxels; empty when there are none.
    spacing_mm, origin_mm : tuple (z, y, x)
    solids : Solids, optional
        Painted over the voxels.
    weights : array (n_solids, n_basis)
        Their basis densities [g/cm3].
    limits_mm : ((x, x), (y, y), (z, z)), optional
        Box around all that is denser than air.
    phantom : str
    """

    basis: Basis
    coefficients: np.ndarray
    material: np.ndarray
    density: np.ndarray
    spacing_mm: tuple[float, float, float]
    origin_mm: tuple[float, float, float]
    solids: chords.Solids | None
    weights: np.ndarray
    limits_mm: Limits | None
    phantom: str
    _kept: dict[tuple[int, int], Columns] = field(default_factory=dict, repr=False, compare=False)

    @property
    def n_basis(self) -> int:
        """Number of basis functions."""
        return int(self.basis.basis_mu.shape[0])

    def line_integrals(
        self, rays: dict[str, Any], *, tilt_rad: float = 0.0, device: str = "cpu"
    ) -> np.ndarray:
        """Line integrals [g/cm2], float32 array (n_basis, n_view, n_row, n_channel).

        Parameters
        ----------
        rays : dict
            Keywords of :func:`twinlab.kernels.project.project` that say where the rays run.
        tilt_rad : float
            See :func:`twinlab.kernels.general_rays.frames`.
        device : "cpu" or "cuda"
        """
        shape = (rays["view_angle_rad"].size, rays["row_mm"].size, _channels(rays)[0].size)
        if not self.material.size:
            path = np.zeros((self.n_basis, *shape), np.float32)
        else:
            parts = list(self._parts(rays, slice(0, shape[0]), tilt_rad))
            if len(parts) == 1:
                path = self._voxels(rays, parts[0][1], tilt_rad, device)
            else:
                path = np.empty((self.n_basis, *shape), np.float32)
                for views, window in parts:
                    path[:, views] = self._voxels(_some(rays, views), window, tilt_rad, device)
        if self.solids is not None:
            self._paint(path, self.solids, rays, tilt_rad)
        return path

    def _parts(
        self, rays: dict[str, Any], views: slice, tilt_rad: float
    ) -> Iterator[tuple[slice, tuple[int, int]]]:
        """Views that are projected together, and the slices that they see: few enough for the memory."""
        first, last = self._window(_some(rays, views), tilt_rad)
        n = views.stop - views.start
        if n <= FEWEST_VIEWS or (last - first) * self._slice_bytes <= WHOLE_BYTES:
            yield views, (first, last)
            return
        middle = views.start + n // 2
        yield from self._parts(rays, slice(views.start, middle), tilt_rad)
        yield from self._parts(rays, slice(middle, views.stop), tilt_rad)

    def _voxels(
        self, rays: dict[str, Any], window: tuple[int, int], tilt_rad: float, device: str
    ) -> np.ndarray:
        """Line integrals through some slices of voxels."""
        first, last = window
        dz, dy, dx = self.spacing_mm
        z0, y0, x0 = self.origin_mm
        grid: dict[str, Any] = {"spacing_mm": (dz, dy, dx), "origin_mm": (z0 + first * dz, y0, x0)}
        if device == "cuda":
            volumes = self._volumes(slice(first, last))
            return cuda_project.project_cuda(volumes, **grid, **rays, tilt_rad=tilt_rad)
        if tilt_rad:
            return project_tilted(self._volumes(slice(first, last)), tilt_rad=tilt_rad, **grid, **rays)
        return project(self._columns(first, last), **grid, **rays)

    @property
    def _slice_bytes(self) -> int:
        return 4 * self.n_basis * self.material.shape[1] * self.material.shape[2]

    def _columns(self, first: int, last: int) -> Columns:
        """Columns of some slices, kept until others are asked for."""
        columns = self._kept.get((first, last))
        if columns is None:
            self._kept.clear()
            columns = prepare_materials(
                self.material[first:last], self.density[first:last], coefficients=self.coefficients
            )
            self._kept[first, last] = columns
        return columns

    def _volumes(self, *part: slice) -> np.ndarray:
        """Basis densities of some slices (rows, columns), the basis innermost in memory."""
        values = self.coefficients[self.material[part]]
        values *= self.density[part][..., None]
        return np.moveaxis(values, -1, 0)

    def _window(self, rays: dict[str, Any], tilt_rad: float) -> tuple[int, int]:
        """First and end slice that some ray can meet; all slices where they fit into memory."""
        nz, ny, nx = self.material.shape
        if nz * self._slice_bytes <= WHOLE_BYTES:
            return 0, nz
        (dz, dy, dx), (z0, y0, x0) = self.spacing_mm, self.origin_mm
        iso_x, iso_y = rays["isocentre_mm"]
        corners = [
            (x0 - 0.5 * dx - iso_x, x0 + (nx - 0.5) * dx - iso_x),
            (y0 - 0.5 * dy - iso_y, y0 + (ny - 0.5) * dy - iso_y),
        ]
        reach = math.hypot(*(max(map(abs, side)) for side in corners))
        lo, hi = rays["row_lo"], rays["row_hi"]
        used = hi > lo
        if not used.any():
            return 0, 1
        shift = np.broadcast_to(
            np.zeros(3) if rays["focal_shift_mm"] is None else rays["focal_shift_mm"], (lo.size, 3)
        )
        lengths = _channels(rays)[2]
        radius = rays["source_to_isocentre_mm"]
        off = float(np.hypot(shift[:, 0], shift[:, 1]).max())
        near = max((radius - reach - off) / (lengths.max() + off), 0.0)
        far = min((radius + reach + off) / max(lengths.min() - off, 1e-3), 1.0)
        source = (np.asarray(rays["source_z_mm"]) + shift[:, 2])[used]
        rise = np.array(
            [rays["row_mm"][lo[used]] - shift[used, 2], rays["row_mm"][hi[used] - 1] - shift[used, 2]]
        )
        heights = source + np.concatenate([near * rise, far * rise])
        lean = abs(math.sin(tilt_rad)) * reach + 1.5 * dz
        low, high = (heights.min() - lean - z0) / dz, (heights.max() + lean - z0) / dz
        step = WINDOW_SLICES
        first = min(max(math.floor(low / step) * step, 0), nz - 1)
        return first, min(max(math.ceil(high / step) * step, first + 1), nz)

    def _paint(self, path: np.ndarray, table: chords.Solids, rays: dict[str, Any], tilt_rad: float) -> None:
        """Put the solids in the place of the voxels that they cover."""
        volumes, low = None, None
        if self.material.size:
            half = np.abs(table.axes).sum(axis=1)
            lowest, highest = (table.centre - half).min(axis=0)[::-1], (table.centre + half).max(axis=0)[::-1]
            step, origin = np.array(self.spacing_mm), np.array(self.origin_mm)
            n = np.array(self.material.shape)
            first = np.clip(np.floor((lowest - origin) / step).astype(int), 0, n - 1)
            last = np.clip(np.ceil((highest - origin) / step).astype(int) + 1, first + 1, n)
            volumes = self._volumes(*(slice(a, b) for a, b in zip(first, last, strict=True)))
            low = tuple(origin + (first - 0.5) * step)
        shift, lo, hi = rays["focal_shift_mm"], rays["row_lo"], rays["row_hi"]
        along, across, lengths = _channels(rays)
        for focus in foci(
            shift, lo.size, source_to_isocentre_mm=rays["source_to_isocentre_mm"], along=along, across=across,
            lengths=lengths,
        ):  # fmt: skip
            seen = focus.views
            source, axes, channels = frames(
                focus, rays["view_angle_rad"][seen], rays["source_z_mm"][seen], rays["isocentre_mm"], tilt_rad
            )
            part = path if seen.size == lo.size else np.ascontiguousarray(path[:, seen])
            chords.add_painted(
                part, table, self.weights, source=source, axes=axes, channels=channels,
                rows=rays["row_mm"] - focus.rise, row_lo=lo[seen], row_hi=hi[seen], volumes=volumes, low=low,
                size=self.spacing_mm,
            )  # fmt: skip
            if part is not path:
                path[:, seen] = part


def _some(rays: dict[str, Any], views: slice) -> dict[str, Any]:
    """Rays of some views."""
    names = ["view_angle_rad", "source_z_mm", "row_lo", "row_hi"]
    if np.ndim(rays["focal_shift_mm"]) == 2:
        names.append("focal_shift_mm")
    return rays | {name: rays[name][views] for name in names}


def _channels(rays: dict[str, Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    names = ("source_to_detector_mm", "fan_angle_rad", "u_mm")
    return detector_rays(**{name: rays[name] for name in names})


def scan_basis(material_names: Sequence[str], protocol: Protocol, *, n_basis: int | None = None) -> Basis:
    """Attenuation basis for some materials and all tube voltages of a protocol's scanner.

    Raises
    ------
    InputError
        ``n_basis`` out of range.
    """
    stations = protocol.scanner.tube.kv_stations
    found = [detected_spectrum(protocol.replace(kv=kv)) for kv in stations]
    energy = np.unique(np.concatenate([e for e, _ in found]))
    spectra = np.zeros((len(found), energy.size))
    for row, (own, spectrum) in zip(spectra, found, strict=True):
        row[np.searchsorted(energy, own)] = spectrum[spectrum.shape[0] // 2]
    return choose_basis(material_names, energy_kev=energy, spectra=spectra, n_basis=n_basis)


def prepare_phantom(
    phantom: xr.Dataset | Recipe,
    protocol: Protocol,
    *,
    n_basis: int | None = None,
    objects: Sequence[Shape] = (),
) -> Volume:
    """Lay out a phantom once for several calls of :func:`twinlab.ct.line_integrals` (``volume=``).

    Parameters and errors: see there.
    """
    if isinstance(phantom, Recipe):
        return _painted(phantom, protocol, n_basis, objects)
    check(phantom, "material", "density", "material_name", where="line_integrals")
    dz, dy, dx = (spacing(phantom[axis], where="line_integrals: phantom") for axis in ("z", "y", "x"))
    z0, y0, x0 = (float(phantom[axis][0]) for axis in ("z", "y", "x"))
    material, density = phantom["material"].to_numpy(), phantom["density"].to_numpy()
    ends = np.array([(part.min(), part.max()) for part in density])
    if not (np.isfinite(ends).all() and ends.min() >= 0):
        got = "values that are not finite" if not np.isfinite(ends).all() else f"{ends.min():.4g} g/cm3"
        refuse("line_integrals", "finite density of 0 or more in every voxel", got)
    # by slices: bincount turns its input into 8-byte integers
    present = np.unique(np.concatenate([np.flatnonzero(np.bincount(part.ravel())) for part in material]))
    names = [str(name) for name in phantom["material_name"].to_numpy()]
    if present[-1] >= len(names):
        refuse(
            "line_integrals", f"material below {len(names)}, the length of material_name", int(present[-1])
        )
    used = [names[m] for m in present]
    used += [name for name in dict.fromkeys(s.material for s in objects) if name not in used]
    basis = scan_basis(used, protocol, n_basis=n_basis)
    own = dict(zip(used, basis.coefficients, strict=True))
    coefficients = np.zeros((len(names), basis.basis_mu.shape[0]), np.float32)
    coefficients[present] = [own[names[m]] for m in present]
    corners = extent(density, DENSE_G_CM3)
    limits = None
    if corners is not None:
        steps = ((dx, x0), (dy, y0), (dz, z0))
        limits = tuple(
            (o + (a - 0.5) * s, o + (b + 0.5) * s)
            for (s, o), (a, b) in zip(steps, corners[::-1], strict=True)
        )
    table, weights = _table([(s, _density(s)) for s in objects], own)
    return Volume(
        basis, coefficients, material, density, (dz, dy, dx), (z0, y0, x0), table, weights,
        _union(limits, [s for s in objects if _density(s) > DENSE_G_CM3]), str(phantom.attrs.get("key", "")),
    )  # fmt: skip


def _painted(recipe: Recipe, protocol: Protocol, n_basis: int | None, objects: Sequence[Shape]) -> Volume:
    """Solids of a recipe in a box of air, as exact as they are written."""
    air = Box(
        name="air", material="air", density_g_cm3=AIR_DENSITY_G_CM3, size_mm=recipe.size_mm, centre_mm=Point()
    )
    shapes = [air, *recipe.shapes, *objects]
    names = list(dict.fromkeys(s.material for s in shapes))
    basis = scan_basis(names, protocol, n_basis=n_basis)
    matter = [(s, _density(s)) for s in shapes]
    table, weights = _table(matter, dict(zip(names, basis.coefficients, strict=True)))
    none = np.zeros((0, 0, 0), np.uint8)
    return Volume(
        basis, basis.coefficients.astype(np.float32), none, none, (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), table, weights,
        _union(None, [s for s, density in matter if density > DENSE_G_CM3]), recipe.name,
    )  # fmt: skip


def _density(shape: Shape) -> float:
    return get_material(shape.material).density_g_cm3 if shape.density_g_cm3 is None else shape.density_g_cm3


def _table(
    matter: list[tuple[Shape, float]], coefficients: dict[str, np.ndarray]
) -> tuple[chords.Solids | None, np.ndarray]:
    if not matter:
        return None, np.zeros((0, 0))
    weights = np.array([density * coefficients[shape.material] for shape, density in matter])
    return chords.solids([shape.form() for shape, _ in matter]), weights


def _union(limits: Any, shapes: Sequence[Shape]) -> Limits | None:
    boxes = [] if limits is None else [limits]
    for shape in shapes:
        _, centre, axes, _ = shape.form()
        half = np.abs(axes).sum(axis=0)
        boxes.append(tuple(zip(centre - half, centre + half, strict=True)))
    if not boxes:
        return None
    x, y, z = ((float(min(b[i][0] for b in boxes)), float(max(b[i][1] for b in boxes))) for i in range(3))
    return x, y, z
