"""Dose tables with chosen values, as dose.simulate would give them, and a body of water with pins of bone."""

from __future__ import annotations

import numpy as np
import xarray as xr

from twinlab.phantom import assemble
from twinlab.schema import label


def organ_table(rows: dict[str, tuple[float, float, float]], *, cut: tuple[str, ...] = ()) -> xr.Dataset:
    """Dataset of organs by name: (dose mGy, sd mGy, mass g)."""
    names = list(rows)
    dose, sd, mass = np.array([rows[n] for n in names]).T
    coords = {"organ_id": np.arange(1, len(names) + 1), "organ_name": ("organ_id", names)}
    values = {
        "organ_dose": dose,
        "organ_dose_sd": sd,
        "organ_mass": mass,
        "organ_cut": np.isin(names, cut),
        "organ_coverage": np.ones(len(names)),
    }
    return xr.Dataset({name: label(name, value, coords) for name, value in values.items()})


def water_trunk(*, half_x_mm: float, half_y_mm: float, core: float, n_z: int, n_end: int) -> xr.Dataset:
    """Elliptic cylinder of water in 1 cm voxels: core (a share of the half axes), quarters around it, an end slab."""
    x, y = (np.arange(-(half // 10) - 1.5, half // 10 + 2) * 10.0 for half in (half_x_mm, half_y_mm))
    gy, gx = np.meshgrid(y, x, indexing="ij")
    r = np.hypot(gx / half_x_mm, gy / half_y_mm)
    quarter = np.where(gx > np.abs(gy), 2, np.where(-gx >= np.abs(gy), 3, np.where(gy > 0, 4, 5)))
    organ = np.where(r < 1.0, np.where(r < core, 1, quarter), 0)
    organ = np.broadcast_to(organ, (n_z, *r.shape)).copy()
    organ[:n_end][:, r < 1.0] = 6
    inside = organ > 0
    return assemble(
        material=inside.astype(np.uint8),
        density=np.where(inside, 1.0, 0.001205),
        organ=organ,
        material_names=["air", "water"],
        organ_names={0: "outside", 1: "core", 2: "left", 3: "right", 4: "back", 5: "front", 6: "end"},
        z=np.arange(n_z) * 10.0 + 5.0,
        y=y,
        x=x,
        name="trunk",
        source="made for this test",
    )


def bone_phantom(pins: dict[str, tuple[str, float]]) -> xr.Dataset:
    """Water cylinder of 30 cm with pins of given (material, density), spread over radii and angles."""
    step = 5.0
    c = (np.arange(62) - 30.5) * step
    z = np.arange(20) * 10.0 + 5.0
    y, x = np.meshgrid(c, c, indexing="ij")
    body = np.hypot(x, y) < 150
    materials = ["air", "water", *dict.fromkeys(m for m, _ in pins.values())]
    material, organ = body.astype(int), body.astype(int)
    density = np.where(body, 1.0, 0.0012)
    names = {0: "outside", 1: "body", **{i + 2: n for i, n in enumerate(pins)}}
    for radius in (30.0, 50.0, 70.0, 90.0, 110.0, 130.0):
        for k, angle in enumerate(np.arange(0, 360, 600.0 / radius)):
            name, (of, rho) = list(pins.items())[k % len(pins)]
            j = int(np.argmin(np.abs(c - radius * np.sin(np.deg2rad(angle)))))
            i = int(np.argmin(np.abs(c - radius * np.cos(np.deg2rad(angle)))))
            material[j, i], density[j, i] = materials.index(of), rho
            organ[j, i] = list(pins).index(name) + 2
    shape = (20, 62, 62)
    return assemble(
        material=np.broadcast_to(material, shape).astype(np.uint8),
        density=np.broadcast_to(density, shape).copy(),
        organ=np.broadcast_to(organ, shape).copy(),
        material_names=materials,
        organ_names=names,
        z=z,
        y=c,
        x=c,
        name="pins",
        source="made for this test",
    )
