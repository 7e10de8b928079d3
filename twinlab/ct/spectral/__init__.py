"""Spectral CT: photon counting, dual energy, basis decomposition, virtual monoenergetic images."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach(
    __name__,
    submod_attrs={
        "response": ["counting_response", "simulated_response"],
        "pile_up": ["piled_up", "recorded_rate"],
        "acquisition": ["acquire_counts", "bin_projections", "threshold_projections"],
        "measurements": ["Measurements", "measurements_of_bins", "measurements_of_scans"],
        "decomposition": ["decompose", "path_covariance"],
        "calibration": ["iodine_calibration"],
        "images": [
            "decompose_images",
            "iodine_sensitivity",
            "virtual_monoenergetic",
            "virtual_non_contrast",
        ],
        "monoenergetic": ["basis_image", "material_projections", "monoenergetic_projections"],
    },
)
