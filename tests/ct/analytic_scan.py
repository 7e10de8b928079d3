"""Exact line integrals of ellipsoids for the geometry conventions of the scanner: a helper of the tests."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import xarray as xr

from twinlab.schema import label

MU_WATER = 0.02  # 1/mm


@dataclass(frozen=True)
class Ellipsoid:
    """Centre and semi-axes (x, y, z) in mm; attenuation relative to water, additive."""

    centre: tuple[float, float, float]
    axes: tuple[float, float, float]
    water: float = 1.0


def scan(
    *,
    mode: str = "helical",
    pitch: float = 1.0,
    z_range: tuple[float, float] = (-10.0, 10.0),
    views: int = 360,
    channels: int = 240,
    rows: int = 16,
    channel_pitch: float = 2.0,
    row_pitch: float = 2.0,
    flat: bool = False,
    quarter: float = 0.25,
    start_angle: float = 0.3,
    isocentre: tuple[float, float] = (0.0, 0.0),
    radius: float = 570.0,
    detector: float = 1040.0,
    steps: tuple[float, ...] = (0.0,),
    reverse: bool = False,
) -> xr.Dataset:
    """Geometry of a scan; pitches are at the detector, in mm."""
    collimation = rows * row_pitch * radius / detector
    feed = pitch * collimation
    if mode == "helical":
        extra = 0.5 * feed + collimation  # more than half a turn and the fan on each side
        turns = (z_range[1] - z_range[0] + 2 * extra) / feed
        angle = start_angle + 2 * math.pi / views * np.arange(math.ceil(turns * views))
        z = z_range[0] - extra + feed * (angle - start_angle) / (2 * math.pi)
        z = z_range[0] + z_range[1] - z if reverse else z
    else:
        one = start_angle + 2 * math.pi / views * np.arange(views)
        angle = np.concatenate([one + 2 * math.pi * i for i in range(len(steps))])
        z = np.repeat(np.asarray(steps, float), views)
    middle = 0.5 * (channels - 1)
    u = (np.arange(channels) - middle + quarter) * channel_pitch
    coords = {"row": (np.arange(rows) - 0.5 * (rows - 1)) * row_pitch}
    coords["u" if flat else "fan_angle"] = ("channel", u if flat else u / detector)
    return xr.Dataset(
        {"view_angle": label("view_angle", angle), "source_z": label("source_z", z)},
        coords=coords,
        attrs={
            "mode": mode, "pitch": pitch, "feed_mm": feed, "views_per_rotation": views,
            "source_to_isocentre_mm": radius, "source_to_detector_mm": detector, "row_pitch_mm": row_pitch,
            "isocentre_x_mm": isocentre[0], "isocentre_y_mm": isocentre[1], "mu_water_per_mm": MU_WATER,
            "detector_shape": "flat" if flat else "arc",
        },
    )  # fmt: skip


def project(
    geometry: xr.Dataset, objects: list[Ellipsoid], *, row_samples: int = 1, channel_samples: int = 1
) -> xr.Dataset:
    """Exact projections, the mean over samples across each detector cell."""
    attrs = geometry.attrs
    flat = "u" in geometry.coords
    channel = geometry["u" if flat else "fan_angle"].values
    row = geometry["row"].values
    channel_step, row_step = channel[1] - channel[0], attrs["row_pitch_mm"]
    beta, z = geometry["view_angle"].values, geometry["source_z"].values
    radius, detector = attrs["source_to_isocentre_mm"], attrs["source_to_detector_mm"]
    sine, cosine = np.sin(beta)[:, None, None], np.cos(beta)[:, None, None]
    shift = geometry["focal_shift"].values if "focal_shift" in geometry else np.zeros((beta.size, 3))
    tangential, radial, lift = (shift[:, i, None, None] for i in range(3))
    out_x = (radius + radial) * sine + tangential * cosine
    out_y = -(radius + radial) * cosine + tangential * sine
    source = np.stack(
        [attrs["isocentre_x_mm"] + out_x, attrs["isocentre_y_mm"] + out_y, z[:, None, None] + lift], -1
    )
    total = np.zeros((beta.size, row.size, channel.size), np.float64)
    for dc in (np.arange(channel_samples) + 0.5) / channel_samples - 0.5:
        for dr in (np.arange(row_samples) + 0.5) / row_samples - 0.5:
            c, v = channel + dc * channel_step, row + dr * row_step
            along = np.full_like(c, detector) if flat else detector * np.cos(c)
            across = c if flat else detector * np.sin(c)
            x = -sine * (along + radial) + cosine * (across - tangential)
            y = cosine * (along + radial) + sine * (across - tangential)
            rise = v[None, :, None] - lift
            length = np.sqrt(x**2 + y**2 + rise**2)
            way = (x / length, y / length, rise / length)
            for body in objects:
                total += body.water * _chord(source, way, body)
    out = geometry.copy()
    out["projection"] = label("projection", MU_WATER * total / (channel_samples * row_samples))
    return out


def _chord(source: np.ndarray, way: tuple[np.ndarray, ...], body: Ellipsoid) -> np.ndarray:
    a = sum((way[i] / body.axes[i]) ** 2 for i in range(3))
    start = [(source[..., i] - body.centre[i]) / body.axes[i] for i in range(3)]
    b = sum(start[i] * way[i] / body.axes[i] for i in range(3))
    c = sum(s**2 for s in start) - 1.0
    return 2.0 * np.sqrt(np.maximum(b**2 - a * c, 0.0)) / a
