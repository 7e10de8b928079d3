"""Dose of a radiograph: one point source, one rectangular field, absolute by the tube's fluence."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from twinlab.dose.body import MGY_PER_KEV_G, SCATTER_MM
from twinlab.dose.engine import Engine
from twinlab.dose.scoring import check_histories, check_seed, scored_dose
from twinlab.kernels.transport_data import CUTOFF_KEV, Source
from twinlab.phantom import check_phantom
from twinlab.phantom.build import AIR_DENSITY_G_CM3, EXTENSION
from twinlab.physics.attenuation import mass_attenuation, mass_energy_absorption
from twinlab.scanner import Protocol as ScanProtocol
from twinlab.scanner import beam_fluence
from twinlab.scanner.photon_source import BIN_WIDTH_KEV, field_source
from twinlab.schema import refuse

REFERENCE_MM = 1000.0
_NODES = 32  # of the quadrature over each side of the field
_RAYS = 33  # over each side of the field, to see whether it meets the body
_STEP = 0.25  # of a voxel, along these rays
_MM2_PER_CM2 = 100.0

Array = NDArray[np.float64]


class Stand(Protocol):
    """What a radiograph must tell: :class:`twinlab.ct.stand.Radiography` does."""

    key: str
    mas: float
    source_mm: Any
    panel_mm: Any

    @property
    def axes(self) -> Array: ...

    @property
    def distance_mm(self) -> float: ...

    def cells_mm(self) -> tuple[Array, Array]: ...

    def protocol(self) -> ScanProtocol: ...


@dataclass(frozen=True)
class Field:
    """The irradiated rectangle: corner and edges (x, y, z) [mm] in a plane across the axis of the panel."""

    source: Array
    corner: Array
    edges: Array  # (2, 3)

    def way(self, p: Array, q: Array) -> Array:
        """From the source to places of the field, p and q from 0 to 1 along the edges; shape (..., 3)."""
        return self.corner - self.source + p[..., None] * self.edges[0] + q[..., None] * self.edges[1]

    def _integral(self, power: int) -> float:
        """``distance^(power - 2) / r^power`` over the rectangle, ``distance`` being that of its plane."""
        node, weight = np.polynomial.legendre.leggauss(_NODES)
        p, q = np.meshgrid(0.5 * (node + 1.0), 0.5 * (node + 1.0), indexing="ij")
        normal = np.cross(self.edges[0], self.edges[1])
        area = float(np.linalg.norm(normal))
        distance = abs(float((self.corner - self.source) @ normal)) / area
        r = np.linalg.norm(self.way(p, q), axis=-1)
        return float((np.outer(weight, weight) / r**power).sum() * 0.25 * area * distance ** (power - 2))

    @property
    def solid_angle_sr(self) -> float:
        """Of the rectangle at the source: area times cosine over squared distance."""
        return self._integral(3)

    @property
    def area_over_square(self) -> float:
        """Integral of 1/r^2 over the rectangle: kerma-area product over the kerma at unit distance."""
        return self._integral(2)


def projection_field(
    setup: Stand,
    *,
    field_mm: tuple[float, float] | None = None,
    field_distance_mm: float | None = None,
) -> Field:
    """Field of a radiograph.

    Parameters
    ----------
    setup : Radiography
        :class:`twinlab.ct.stand.Radiography`, the description that the image uses.
    field_mm : (float, float), optional
        Size along channels and rows, about the middle of the panel; by default the panel.
    field_distance_mm : float, optional
        Distance from the source at which ``field_mm`` is measured; by default that of the panel.

    Raises
    ------
    InputError
        Sizes or a distance that are not above 0, or a distance without a size.
    """
    source, distance = np.asarray(setup.source_mm.array, float), float(setup.distance_mm)
    right, up, _ = setup.axes
    middle = np.asarray(setup.panel_mm.array, float)
    if field_mm is None:
        if field_distance_mm is not None:
            refuse("projection_field: field_distance_mm", "a field_mm with it", field_distance_mm)
        channel, row = setup.cells_mm()
        step = channel[1] - channel[0], (row[1] - row[0]) if row.size > 1 else channel[1] - channel[0]
        low = channel[0] - 0.5 * step[0], row[0] - 0.5 * step[1]
        size = channel[-1] - channel[0] + step[0], row[-1] - row[0] + step[1]
        scale = 1.0
    else:
        at = distance if field_distance_mm is None else float(field_distance_mm)
        size = float(field_mm[0]), float(field_mm[1])
        if not (min(size) > 0.0 and at > 0.0 and np.isfinite([*size, at]).all()):
            refuse("projection_field", "sizes and a distance above 0 mm", (field_mm, field_distance_mm))
        low, scale = (-0.5 * size[0], -0.5 * size[1]), at / distance
    corner = source + scale * (middle - source) + low[0] * right + low[1] * up
    return Field(source, corner, np.array([size[0] * right, size[1] * up]))


def air_kerma_1m(setup: Stand) -> float:
    """Air kerma free in air at 1 m on the central ray, mGy per mAs, without attenuation by air."""
    return float((_kerma_per_kev(setup)[1]).sum())


def _kerma_per_kev(setup: Stand) -> tuple[Array, Array]:
    """Energies, and air kerma per energy bin at 1 m without air, mGy/mAs."""
    fluence = beam_fluence(setup.protocol(), fan_angle_rad=[0.0])
    energy = fluence["energy"].to_numpy()
    per_cm2 = fluence.to_numpy()[0] * _MM2_PER_CM2
    return energy, per_cm2 * energy * mass_energy_absorption("air", energy)[0] * MGY_PER_KEV_G


def simulate_projection(
    phantom: xr.Dataset,
    setup: Stand,
    *,
    histories: int,
    seed: int = 1,
    field_mm: tuple[float, float] | None = None,
    field_distance_mm: float | None = None,
    kap_mgy_cm2: float | None = None,
    output_factor: float = 1.0,
    voxel_map: bool = True,
    extend_mm: float = SCATTER_MM,
    block: int | None = None,
    forcing: bool = False,
    progress: Callable[[int], object] | None = None,
) -> xr.Dataset:
    """Absorbed dose of a radiograph, by photon Monte Carlo in the phantom's voxels.

    Parameters
    ----------
    phantom : Dataset
        A Phantom.
    setup : Radiography
        :class:`twinlab.ct.stand.Radiography`: source, panel, tube, kV and mAs, as for the image;
        :func:`twinlab.ct.stand.on_gantry` makes the views of a cone-beam scanner.
    histories, seed
        As for :func:`simulate`.
    field_mm, field_distance_mm
        See :func:`projection_field`; by default the panel is irradiated.
    kap_mgy_cm2 : float, optional
        Kerma-area product of a real exposure: scales the result to it, instead of ``output_factor``.
    output_factor : float
        Photons of the real tube per photon of the model.
    voxel_map, extend_mm, block, forcing, progress
        As for :func:`simulate`.

    Returns
    -------
    Dataset
        Doses as of :func:`simulate`, in mGy for the mAs of the setup; ``organ_coverage`` is the share of an
        organ's mass in slices that the central column of the field covers at the panel. attrs besides:
        ``kap_mgy_cm2`` (behind the collimator, without attenuation by air) with ``kap_sd_mgy_cm2`` 0, as it is
        computed from the fluence and not scored; ``entrance_distance_mm`` to the body on the central ray;
        ``entrance_air_kerma_mgy`` free in air there, attenuated by the air on the way; ``mas``.

    Raises
    ------
    InputError
        Not a Phantom, too few histories, a field that is none or misses the body, a source inside the body, or
        both scales.

    Limits
    ------
    Point source, no heel effect across the field, no bowtie, no backscatter from panel or table: as the image.

    References
    ----------
    IAEA (2007) Dosimetry in diagnostic radiology. Technical Reports Series 457 (air kerma, KAP).
    """
    started = time.perf_counter()
    where = "dose.simulate_projection"
    check_phantom(phantom, where=where)
    check_histories(histories, where)
    check_seed(seed, where)
    field = projection_field(setup, field_mm=field_mm, field_distance_mm=field_distance_mm)
    if kap_mgy_cm2 is not None:
        if output_factor != 1.0 or not kap_mgy_cm2 > 0.0:
            refuse(f"{where}: kap_mgy_cm2", "above 0, and no output_factor", (kap_mgy_cm2, output_factor))
        output_factor = kap_mgy_cm2 / (_kap(setup, field) * setup.mas)
    entrance = _entrance_mm(phantom, field, setup, where)
    energy, kerma = _kerma_per_kev(setup)
    fluence = beam_fluence(setup.protocol(), fan_angle_rad=[0.0]).to_numpy()[0]
    usable = (energy - 0.5 * BIN_WIDTH_KEV >= CUTOFF_KEV) & (fluence > 0)
    photons = float(fluence.sum()) * REFERENCE_MM**2 * field.solid_angle_sr * setup.mas

    def source_in(corner: np.ndarray, size: np.ndarray) -> tuple[Source, float, float]:
        low = corner[::-1]
        start = field.source - low
        outside = np.maximum(np.maximum(-start, start - size[::-1]), 0.0)
        source = field_source(
            energy[usable],
            fluence[usable],
            position_mm=start,
            corner_mm=field.corner - low,
            edges_mm=field.edges,
            bin_width_kev=BIN_WIDTH_KEV,
        )
        return source, photons, float(outside.max()) + 100.0

    out = scored_dose(
        phantom,
        source_in,
        histories=histories,
        seed=seed,
        output_factor=output_factor,
        z_range_mm=_slices(field),
        voxel_map=voxel_map,
        extend_mm=extend_mm,
        block=block,
        progress=progress,
        where=where,
        engine=Engine(forcing=forcing),
    )
    through_air = np.exp(
        -mass_attenuation("air", energy)[0] * AIR_DENSITY_G_CM3 * np.nan_to_num(entrance) / 10.0
    )
    entrance_kerma = (kerma * through_air).sum() * (REFERENCE_MM / entrance) ** 2
    return out.assign_attrs(
        mas=float(setup.mas),
        kap_mgy_cm2=_kap(setup, field) * setup.mas * output_factor,
        kap_sd_mgy_cm2=0.0,
        entrance_distance_mm=entrance,
        entrance_air_kerma_mgy=float(entrance_kerma * setup.mas * output_factor),
        setup=setup.key,
        seconds=time.perf_counter() - started,
    )


def _kap(setup: Stand, field: Field) -> float:
    """Kerma-area product without air, mGy cm2 per mAs."""
    return air_kerma_1m(setup) * REFERENCE_MM**2 * field.area_over_square / _MM2_PER_CM2


def _slices(field: Field) -> tuple[float, float]:
    """z range of the field's four corners."""
    place = np.array([0.0, 1.0])
    z = field.source[2] + field.way(*np.meshgrid(place, place))[..., 2]
    return float(z.min()), float(z.max())


def _entrance_mm(phantom: xr.Dataset, field: Field, setup: Stand, where: str) -> float:
    """Distance from the source to the body along the ray to the middle of the field; NaN beside the body."""
    body = np.isin(phantom["organ"].to_numpy(), [0, EXTENSION], invert=True)
    low = np.array([float(phantom[a][0]) for a in "xyz"])
    high = np.array([float(phantom[a][-1]) for a in "xyz"])
    steps = (high - low) / np.maximum(np.array(body.shape[::-1]) - 1, 1)
    if _first_inside(body, low, steps, field.source[None], np.zeros((1, 3)), 1.0)[0] < np.inf:
        refuse(f"{where}: source", "outside the body", field.source.tolist())
    places = np.linspace(0.0, 1.0, _RAYS)
    way = field.way(*np.meshgrid(places, places)).reshape(-1, 3)
    far = float(np.linalg.norm(np.stack([low, high]) - field.source, axis=1).max())
    way = np.concatenate([field.way(np.array([0.5]), np.array([0.5])), way])
    way /= np.linalg.norm(way, axis=1, keepdims=True)
    found = _first_inside(body, low, steps, field.source[None], way, far)
    if not np.isfinite(found).any():
        refuse(f"{where}: field", "a field that meets the body", f"the field of {setup.key}, which misses it")
    return float(found[0]) if np.isfinite(found[0]) else float("nan")


def _first_inside(
    body: NDArray[np.bool_], low: Array, steps: Array, start: Array, way: Array, far: float
) -> Array:
    """Distance at which rays first are in a voxel of the body, by steps of a part of a voxel; infinite: never."""
    found = np.full(len(way), np.inf)
    for t in np.arange(0.0, far, _STEP * float(steps.min())):
        index = np.rint((start + t * way - low) / steps).astype(int)
        valid = ((index >= 0) & (index < np.array(body.shape[::-1]))).all(axis=1) & ~np.isfinite(found)
        hit = np.zeros(len(way), bool)
        hit[valid] = body[index[valid, 2], index[valid, 1], index[valid, 0]]
        found[hit] = t
        if np.isfinite(found).all():
            break
    return found
