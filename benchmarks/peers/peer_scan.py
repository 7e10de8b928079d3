"""One scan for two programs: scanner, phantom and materials of ours."""

from __future__ import annotations

import numpy as np
import xarray as xr

from twinlab import ct, phantom
from twinlab.ct.corrections import correct_rays, water_correction
from twinlab.ct.scan import scan_basis
from twinlab.phantom.recipes import Recipe
from twinlab.scanner import Protocol, Scanner, trajectory
from twinlab.schema import label

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


def rotation(protocol: Protocol) -> xr.Dataset:
    """One rotation around z = 0."""
    half = protocol.collimation_mm / 2
    return trajectory(protocol, z_range_mm=(-half, half))


def exact_scan(recipe: Recipe, protocol: Protocol) -> xr.Dataset:
    """Line integrals of exact chords, in the form of :func:`twinlab.ct.line_integrals`."""
    path, scanner = rotation(protocol), protocol.scanner
    fan, rows = scanner.fan_angles_rad(), protocol.row_positions_mm()
    angle = path["view_angle"].to_numpy()[:, None, None]
    names = list(dict.fromkeys(s.material for s in recipe.shapes))
    basis = scan_basis(names, protocol)
    weight = np.array(
        [recipe.density_of(s) * basis.coefficients[names.index(s.material)] for s in recipe.shapes]
    )
    shape = (angle.size, rows.size, fan.size)
    out = np.zeros((weight.shape[1], *shape), np.float32)
    for v in range(shape[0]):
        a = angle[v]
        source = scanner.source_to_isocentre_mm * np.array([np.sin(a), -np.cos(a), 0 * a])[:, 0, 0]
        turn = a - fan
        rise = rows[:, None] / scanner.source_to_detector_mm
        along = np.stack(np.broadcast_arrays(-np.sin(turn), np.cos(turn), rise), -1)
        direction = (along / np.linalg.norm(along, axis=-1, keepdims=True)).reshape(-1, 3)
        lengths = recipe.path_lengths(np.broadcast_to(source, direction.shape), direction)
        out[:, v] = (0.1 * weight.T @ lengths).reshape(-1, *shape[1:])
    coords = {"row": rows, "fan_angle": ("channel", fan)}
    return xr.Dataset(
        {
            "path": label("path", out, coords),
            "basis_mu": label("basis_mu", basis.basis_mu, {"energy": basis.energy_kev}),
            "mixing": label("mixing", basis.mixing, {"mixed_material": list(basis.material_names)}),
            "view_angle": path["view_angle"], "source_z": path["source_z"],
            "row_lo": label("row_lo", np.zeros(shape[0], np.int64)),
            "row_hi": label("row_hi", np.full(shape[0], shape[1])),
        },
        attrs={**path.attrs, "scanner": scanner.key, "source_to_isocentre_mm": scanner.source_to_isocentre_mm,
               "source_to_detector_mm": scanner.source_to_detector_mm,
               "row_pitch_mm": scanner.detector.row_pitch_mm},
    )  # fmt: skip


def logarithms(paths: xr.Dataset, protocol: Protocol) -> np.ndarray:
    """Logarithm of air over expected readings (view, row, channel)."""
    signals = ct.detected(paths, protocol)
    return np.log(signals["air_signal"].to_numpy() / signals["signal"].to_numpy()).astype(np.float32)


def water_corrected(raw: np.ndarray, protocol: Protocol) -> np.ndarray:
    """Our water correction of logarithms (view, row, channel), whoever made them."""
    correction = water_correction(protocol)
    channel = np.broadcast_to(np.arange(raw.shape[-1]), raw.shape).ravel()
    return correct_rays(raw.astype(float).ravel(), correction, channel=channel).reshape(raw.shape)
