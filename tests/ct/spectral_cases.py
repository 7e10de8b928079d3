"""Small spectral scans of water with iodine inserts: a helper of the tests."""

from functools import lru_cache

import numpy as np
import xarray as xr

from twinlab.scanner import Protocol, Scanner, load_protocol
from twinlab.schema import label

INSERTS = (0.0, 0.5, 2.0, 5.0, 10.0, 15.0)  # mg/ml


def coarse(key: str, *, channels: int = 256, views: int = 360, **changes) -> Protocol:
    """A protocol of the library with fewer and wider channels over the same fan, two rows, fewer views."""
    protocol = load_protocol(key)
    data = protocol.scanner.model_dump()
    detector = data["detector"]
    if data["second_source"]:
        share = data["second_source"]["n_channels"] / detector["n_channels"]
        data["second_source"]["n_channels"] = round(share * channels)
    pitch = detector["n_channels"] * detector["channel_pitch_mm"] / channels
    detector.update(n_channels=channels, n_rows=2, channel_pitch_mm=pitch)
    scanner = Scanner.make({**data, "views_per_rotation": views})
    return protocol.replace(
        scanner=scanner,
        collimation_mm=2 * scanner.row_pitch_isocentre_mm,
        slice_thickness_mm=1.0,
        slice_interval_mm=1.0,
        **changes,
    )


def without_dead_time(protocol: Protocol) -> Protocol:
    """The same scanner with infinitely fast counters."""
    detector = protocol.scanner.detector
    fast = detector.counting.model_copy(update={"dead_time_ns": 0.0})
    scanner = protocol.scanner.model_copy(update={"detector": detector.model_copy(update={"counting": fast})})
    return protocol.replace(scanner=scanner)


@lru_cache
def inserts(*, radius_mm: float = 100.0, spacing_mm: float = 1.25, third: str = "iodine"):
    """A water cylinder with rods of 24 mm of iodine solution; centres of the rods."""
    n = int(2 * (radius_mm + 8) / spacing_mm)
    side = (np.arange(n) - (n - 1) / 2) * spacing_mm
    y, x = np.meshgrid(side, side, indexing="ij")
    plane = (x**2 + y**2 < radius_mm**2).astype(np.uint8)
    names, density, centre = ["air", "water"], [0.001205, 1.0], []
    for i, amount in enumerate(INSERTS):
        angle = 2 * np.pi * i / len(INSERTS)
        centre.append((0.6 * radius_mm * np.cos(angle), 0.6 * radius_mm * np.sin(angle)))
        plane[(x - centre[-1][0]) ** 2 + (y - centre[-1][1]) ** 2 < 12.0**2] = len(names)
        names.append(f"water+{third}_{amount:g}mg_ml" if amount else "water")
        density.append(1.0 + amount / 1000.0)
    z = np.array([-10.0, 0.0, 10.0])
    material = np.broadcast_to(plane, (3, n, n)).copy()
    phantom = xr.Dataset(
        {
            "material": label("material", material, {"z": z, "y": side, "x": side}),
            "density": label("density", np.asarray(density, np.float32)[material]),
            "material_name": label("material_name", names),
        }
    )
    return phantom, tuple(centre)


def grid(radius_mm: float = 100.0) -> dict[str, np.ndarray]:
    side = np.arange(-radius_mm, radius_mm + 0.1, 1.5)
    return {"z": np.array([0.0]), "y": side, "x": side}


def means(image: xr.DataArray, centres) -> np.ndarray:
    """Mean over 16 mm in the middle of each insert."""
    y, x = np.meshgrid(image["y"], image["x"], indexing="ij")
    return np.array([image.values[0][(x - a) ** 2 + (y - b) ** 2 < 8.0**2].mean() for a, b in centres])
