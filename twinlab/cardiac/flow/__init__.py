"""Flow: lattice Boltzmann in voxel vessels, one-dimensional haemodynamics, analytic profiles."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach(
    __name__,
    submod_attrs={
        "analytic": [
            "moens_korteweg",
            "poiseuille_pressure_drop",
            "poiseuille_wall_shear_stress",
            "stenosis_pressure_drop",
            "womersley_number",
            "womersley_profile",
        ],
        "grid": ["End", "Grid", "build_grid", "find_ends"],
        "lattice": ["Run", "Scaling", "pulsatile", "scale", "steady"],
        "wave": ["ElasticVessel", "pulse_wave"],
        "voxel_vessel": ["signed_distance", "vessel"],
        "wall": ["wall_shear_stress"],
    },
)
