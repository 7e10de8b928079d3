"""Scans of discs (infinite cylinders along z) by exact chords: a helper of the tests, quick and without voxels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr

from twinlab.physics.attenuation import mass_attenuation
from twinlab.physics.materials import get
from twinlab.scanner import Protocol, load_protocol, trajectory
from twinlab.schema import label


@dataclass(frozen=True)
class Disc:
    """Material, centre and radius [mm]; the first of a list holds all others, which do not touch each other."""

    material: str
    x: float = 0.0
    y: float = 0.0
    radius: float = 100.0
    density: float | None = None

    @property
    def density_g_cm3(self) -> float:
        return self.density or get(self.material).density_g_cm3

    def around(self, image: xr.DataArray, margin_mm: float = 0.0) -> np.ndarray:
        """Whether pixels lie in the disc, grown by a margin, shape (z, y, x)."""
        distance = np.hypot(image.x - self.x, image.y - self.y).transpose("y", "x").to_numpy()
        return np.broadcast_to(distance < self.radius + margin_mm, image.shape)


def disc_protocol(
    kv: float,
    *,
    bowtie: str = "body",
    views: int = 492,
    rows: int = 1,
    filters: dict | None = None,
    **changes,
) -> Protocol:
    """The QC protocol on a scanner with more tube voltages and fewer views."""
    setting = load_protocol("qc_axial", slice_thickness_mm=0.625, collimation_mm=0.625 * rows, bowtie=bowtie)
    stations = (70.0, 80.0, 100.0, 120.0, 140.0, 150.0)
    tube = setting.scanner.tube.model_copy(update={"kv_stations": stations})
    if filters:
        tube = tube.model_copy(update={"filters": filters})
    scanner = setting.scanner.model_copy(update={"tube": tube, "views_per_rotation": views})
    return setting.replace(scanner=scanner, kv=kv, **changes)


def chords_cm(disc: Disc, setting: Protocol, path: xr.Dataset) -> np.ndarray:
    """Lengths of the rays inside a disc, shape (view, row, channel)."""
    angle = path["view_angle"].to_numpy()[:, None] - setting.scanner.fan_angles_rad()
    radius = setting.scanner.source_to_isocentre_mm
    offset = radius * np.sin(setting.scanner.fan_angles_rad()) - (
        disc.x * np.cos(angle) + disc.y * np.sin(angle)
    )
    flat = 2 * np.sqrt(np.maximum(disc.radius**2 - offset**2, 0.0)) / 10.0
    cone = np.hypot(1.0, setting.row_positions_mm() / setting.scanner.source_to_detector_mm)
    return flat[:, None, :] * cone[:, None]


def disc_paths(setting: Protocol, discs: list[Disc]) -> xr.Dataset:
    """Line integrals as :func:`twinlab.ct.line_integrals` gives them, one basis function per material."""
    half = 0.49 * setting.collimation_mm
    path = trajectory(setting, z_range_mm=(-half, half))
    names = list(dict.fromkeys(disc.material for disc in discs))
    row, fan = setting.row_positions_mm(), setting.scanner.fan_angles_rad()
    mass = np.zeros((len(names), path.sizes["view"], row.size, fan.size), np.float32)
    body = discs[0]
    mass[0] = chords_cm(body, setting, path) * body.density_g_cm3
    for disc in discs[1:]:
        chord = chords_cm(disc, setting, path)
        mass[names.index(disc.material)] += chord * disc.density_g_cm3
        mass[0] -= chord * body.density_g_cm3
    energy = np.arange(20.0, 151.0)
    coords = {"row": row, "fan_angle": ("channel", fan)}
    n_view = path.sizes["view"]
    return xr.Dataset(
        {
            "path": label("path", mass, coords),
            "basis_mu": label("basis_mu", mass_attenuation(names, energy), {"energy": energy}),
            "mixing": label("mixing", np.eye(len(names)), {"mixed_material": names}),
            "view_angle": path["view_angle"],
            "source_z": path["source_z"],
            "row_lo": label("row_lo", np.zeros(n_view, np.int64)),
            "row_hi": label("row_hi", np.full(n_view, row.size)),
        },
        attrs={
            **path.attrs,
            "scanner": setting.scanner.key,
            "source_to_isocentre_mm": setting.scanner.source_to_isocentre_mm,
            "source_to_detector_mm": setting.scanner.source_to_detector_mm,
            "row_pitch_mm": setting.scanner.detector.row_pitch_mm,
        },
    )


def square_grid(half_mm: float, pixel_mm: float = 1.0) -> dict[str, np.ndarray]:
    """One slice at z = 0."""
    side = np.arange(-half_mm, half_mm + 0.5 * pixel_mm, pixel_mm)
    return {"z": np.zeros(1), "y": side, "x": side}


def hu_at(disc: Disc, energy_kev: float) -> float:
    """CT number of a disc's matter at one energy."""
    mu, water = mass_attenuation([disc.material, "water"], [energy_kev])[:, 0]
    return float(1000.0 * (mu * disc.density_g_cm3 / water - 1.0))
