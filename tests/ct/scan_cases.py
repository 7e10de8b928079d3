"""A small scanner and phantoms for the tests of the scan."""

from functools import lru_cache

import numpy as np
import xarray as xr

from twinlab.ct.corrections import loop_tables
from twinlab.kernels.readings import correct_row
from twinlab.scanner import Protocol, trajectory
from twinlab.schema import label


@lru_cache
def small_protocol(
    *, shape="arc", kv=120.0, bowtie="body", n_channels=64, n_rows=4, noise_kev=200.0, mas=200.0
):
    """64 channels of a clinical geometry, four times coarser across."""
    scanner = {
        "key": f"small_{shape}",
        "name": "small",
        "sources": ["made for a test"],
        "source_to_isocentre_mm": 541.0,
        "source_to_detector_mm": 949.0,
        "views_per_rotation": 36,
        "detector": {
            "shape": shape,
            "n_channels": n_channels,
            "n_rows": n_rows,
            "channel_pitch_mm": 820.0 / n_channels,
            "row_pitch_mm": 4.4,
            "absorber_material": "gadolinium_oxysulfide",
            "absorber_thickness_mm": 1.8,
            "electronic_noise_kev": noise_kev,
        },
        "tube": {
            "anode_angle_deg": 7.0,
            "filters": {"aluminum": 6.0},
            "kv_stations": [80, 100, 120, 140],
            "max_tube_current_ma": 2000,
        },
        "bowties": {
            "body": {"material": "aluminum", "fan_angle_deg": [0, 10, 25], "thickness_mm": [0.5, 6.0, 28.0]}
        },
    }
    return Protocol.make(
        {
            "key": "small",
            "title": "small",
            "scanner": scanner,
            "mode": "axial",
            "kv": kv,
            "tube_current_ma": mas,
            "rotation_time_s": 1.0,
            "collimation_mm": n_rows * 4.4 * 541.0 / 949.0,
            "slice_thickness_mm": 2.5,
            "slice_interval_mm": 2.5,
            "reconstruction_fov_mm": 300.0,
            "bowtie": bowtie,
            "ctdi_phantom_cm": 32,
            "sources": ["made for a test"],
        }
    )


def small_phantom(
    names=("air", "water", "bone_cortical"), densities=(0.001205, 1.0, 1.92), *, radius_mm=120.0
):
    """A cylinder of the second material with a rod of the third, 5 mm voxels."""
    centre = (np.arange(56) - 27.5) * 5.0
    z = (np.arange(8) - 3.5) * 5.0
    y, x = np.meshgrid(centre, centre, indexing="ij")
    material = np.zeros((8, 56, 56), np.uint8)
    material[:, x**2 + y**2 < radius_mm**2] = 1
    if len(names) > 2:
        material[:, (x - 40) ** 2 + y**2 < 25.0**2] = 2
    density = np.asarray(densities, np.float32)[material]
    return xr.Dataset(
        {
            "material": label("material", material, {"z": z, "y": centre, "x": centre}),
            "density": label("density", density),
            "material_name": label("material_name", list(names)),
        }
    )


def small_trajectory(protocol):
    return trajectory(protocol, z_range_mm=(-4.0, 4.0))


def apply_correction(raw, correction, *, channel, row=0):
    """Water-corrected projections of one channel, by the compiled function of the scans."""
    polynomials, limits = loop_tables(correction)
    polynomial, limit = polynomials[row % len(polynomials)], limits[row % len(limits)]
    values = np.asarray(raw, np.float32)
    n = values.size
    result, work = np.empty(n, np.float32), np.empty((2, n), np.float32)
    correct_row(
        values,
        np.repeat(polynomial[:, [channel]], n, axis=1),
        np.full(n, limit[channel]),
        work[0],
        result,
        work[1],
    )
    return result.astype(float)
