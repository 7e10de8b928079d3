"""One scan for two programs: scanner, phantom and materials of ours."""

from __future__ import annotations

import numpy as np
import xarray as xr

from twinlab import ct, phantom
from twinlab.ct.corrections import correct_rays, water_correction
from twinlab.phantom.recipes import Recipe
from twinlab.scanner import Protocol, Scanner, trajectory

INSERTS = ("pmma", "polyethylene", "ptfe", "bone_spongiosa", "water+iodine_5mg_ml", "bone_cortical")


def protocol_like_catsim(*, rows: int = 16, views: int = 984) -> Protocol:
    """Axial scan in the default geometry of CatSim: 540 and 950 mm, 900 x 16 cells of 1 mm, no bowtie."""
    scanner = Scanner.make(
        {
            "key": "peer", "name": "third generation, 16 rows", "sources": ["defaults of CatSim"],
            "source_to_isocentre_mm": 540.0, "source_to_detector_mm": 950.0, "views_per_rotation": views,
            "detector": {
                "shape": "arc", "n_channels": 900, "n_rows": rows, "channel_pitch_mm": 1.0, "row_pitch_mm": 1.0,
                "channel_offset": 0.25, "absorber_material": "gadolinium_oxysulfide",
                "absorber_thickness_mm": 3.0, "fill_factor": 0.81,
            },
            "tube": {
                "anode_angle_deg": 7.0, "filters": {"aluminum": 6.0}, "kv_stations": [120],
                "max_tube_current_ma": 1000, "focal_spot_mm": [1.0, 1.0],
            },
        }
    )  # fmt: skip
    return Protocol.make(
        {
            "key": "peer", "title": "axial", "scanner": scanner, "mode": "axial", "kv": 120,
            "tube_current_ma": 200, "rotation_time_s": 1.0, "collimation_mm": scanner.max_collimation_mm,
            "slice_thickness_mm": 1.0, "slice_interval_mm": 1.0, "reconstruction_fov_mm": 400, "bowtie": "none",
            "ctdi_phantom_cm": 32, "sources": ["comparison with CatSim"],
        }
    )  # fmt: skip


def phantom_recipe() -> Recipe:
    """Water cylinder of 24 cm with six inserts of 25 mm and one that breaks every symmetry."""
    cylinder = {"shape": "cylinder", "length_mm": 60.0}
    shapes = [{**cylinder, "name": "body", "material": "water", "diameter_mm": 240.0}]
    for n, name in enumerate(INSERTS):
        angle = 2 * np.pi * n / len(INSERTS)
        centre = {"x": round(80 * np.cos(angle), 3), "y": round(80 * np.sin(angle), 3)}
        shapes.append({**cylinder, "name": name, "material": name, "diameter_mm": 25.0, "centre_mm": centre})
    shapes.append(
        {"shape": "cylinder", "name": "mark", "material": "pmma", "diameter_mm": 15.0, "length_mm": 10.0,
         "centre_mm": {"x": 30.0, "y": 50.0, "z": 5.0}}
    )  # fmt: skip
    return Recipe.make(
        {
            "name": "peer", "title": "cylinder with inserts", "source": "analytic", "shapes": shapes,
            "spacing_mm": {"x": 1.0, "y": 1.0, "z": 1.0},
            "size_mm": {"x": 256.0, "y": 256.0, "z": 64.0},
        }
    )  # fmt: skip


def voxel_phantom() -> xr.Dataset:
    """The recipe on 256 x 256 x 64 voxels of 1 mm, in vacuum."""
    painted = phantom.from_recipe(phantom_recipe())
    density = painted["density"].where(painted["material"] > 0, 0.0)
    return painted.assign(density=density.assign_attrs(painted["density"].attrs))


def exact_scan(protocol: Protocol) -> xr.Dataset:
    """Line integrals of the recipe's exact chords, in vacuum."""
    voxels = phantom.from_recipe(phantom_recipe(), spacing_mm=32.0)
    nothing = voxels.assign(density=voxels["density"].copy(data=0 * voxels["density"].values))
    return ct.line_integrals(nothing, protocol, rotation(protocol), objects=phantom_recipe().shapes)


def rotation(protocol: Protocol) -> xr.Dataset:
    """One rotation around z = 0."""
    half = protocol.collimation_mm / 2
    return trajectory(protocol, z_range_mm=(-half, half))


def logarithms(paths: xr.Dataset, protocol: Protocol) -> np.ndarray:
    """Logarithm of air over expected readings (view, row, channel)."""
    signals = ct.detected(paths, protocol)
    return np.log(signals["air_signal"].to_numpy() / signals["signal"].to_numpy()).astype(np.float32)


def water_corrected(raw: np.ndarray, protocol: Protocol) -> np.ndarray:
    """Our water correction of logarithms (view, row, channel), whoever made them."""
    correction = water_correction(protocol)
    channel = np.broadcast_to(np.arange(raw.shape[-1]), raw.shape).ravel()
    return correct_rays(raw.astype(float).ravel(), correction, channel=channel).reshape(raw.shape)
