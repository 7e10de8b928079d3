"""A coarse scanner and a small study of a water cylinder, complete in seconds."""

from pathlib import Path

import yaml

SCANNER = {
    "key": "tiny",
    "name": "coarse test scanner",
    "sources": ["made up for tests"],
    "source_to_isocentre_mm": 541.0,
    "source_to_detector_mm": 949.0,
    "views_per_rotation": 128,
    "detector": {
        "shape": "arc",
        "n_channels": 160,
        "n_rows": 8,
        "channel_pitch_mm": 2.8,
        "row_pitch_mm": 4.0,
        "channel_offset": 0.25,
        "absorber_material": "gadolinium_oxysulfide",
        "absorber_thickness_mm": 2.0,
        "electronic_noise_kev": 100.0,
    },
    "tube": {
        "anode_angle_deg": 8,
        "filters": {"aluminum": 6.0},
        "kv_stations": [80, 120],
        "max_tube_current_ma": 400,
    },
    "bowties": {"body": {"material": "aluminum", "fan_angle_deg": [0, 14], "thickness_mm": [1, 6]}},
}
PROTOCOL = {
    "key": "tiny_body",
    "title": "test",
    "scanner": "tiny",
    "mode": "helical",
    "kv": 120,
    "tube_current_ma": 200,
    "rotation_time_s": 0.5,
    "pitch": 1.0,
    "collimation_mm": 8 * 4.0 * 541 / 949,
    "slice_thickness_mm": 5.0,
    "slice_interval_mm": 5.0,
    "reconstruction_fov_mm": 230,
    "bowtie": "body",
    "ctdi_phantom_cm": 32,
    "sources": ["made up for tests"],
}
STUDY = {
    "name": "tiny",
    "patient": "water_cylinder_20cm",
    "protocol": "tiny_body",
    "kv": [80, 120],
    "mas": [50, 100],
    "pitch": [1.0],
    "kernel": ["smooth", "standard"],
    "seed": [3],
    "scan_range_mm": [-30, 30],
    "lesion_organ": "water",
    "lesion_diameter_mm": 12,
    "lesion_contrast_hu": 30,
    "n_positions": 2,
    "roi_size_mm": 48,
    "roi_pixel_mm": 1.6,
    "dprime_target": 6,
    "histories": 40000,
    "ctdi_histories": 40000,
    "dose_voxel_mm": 8,
    "ct_voxel_mm": 2,
}


def write(folder: Path) -> Path:
    """Protocol library of its own, and the study's file."""
    (folder / "protocols" / "scanners").mkdir(parents=True)
    (folder / "protocols" / "scanners" / "tiny.yaml").write_text(yaml.safe_dump(SCANNER))
    (folder / "protocols" / "tiny_body.yaml").write_text(yaml.safe_dump(PROTOCOL))
    (folder / "study.yaml").write_text(yaml.safe_dump(STUDY))
    return folder / "study.yaml"
