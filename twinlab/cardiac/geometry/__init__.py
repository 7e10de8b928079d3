"""Geometry of the heart: chambers, surfaces, tetrahedra, fibres, coordinates, scar."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach(
    __name__,
    submod_attrs={
        "solids": ["SURFACES", "Solid"],
        "idealised": ["biventricular_solid", "idealised_biventricular", "idealised_lv", "lv_solid"],
        "images": ["heart_from_ct", "heart_from_labels"],
        "meshing": ["mesh_solid"],
        "surfaces": ["cavity_volume"],
        "voxel_twin": ["to_mesh", "to_voxels"],
        "fibre_rules": ["fibres"],
        "universal": ["aha_segments", "coordinates"],
        "scar": ["add_scar"],
    },
)
