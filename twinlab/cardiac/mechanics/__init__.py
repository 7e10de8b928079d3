"""Mechanics: large deformation of the muscle, passive laws, active tension, cavities."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach(
    __name__,
    submod_attrs={
        "quadratic_mesh": ["quadratic", "subdivided"],
        "shapes": ["beam", "ellipsoid"],
        "laws": ["ActiveLaw", "Law", "guccione", "holzapfel_ogden", "neo_hookean"],
        "springs": ["Springs"],
        "bodies": ["Body", "body"],
        "steps": ["MechanicsError"],
        "twitch": ["Twitch", "per_tet", "tension"],
        "ventricle": ["Ventricle"],
        "contraction": ["contract"],
        "unloading": ["unloaded"],
        "strains": ["segment_means", "strain"],
        "benchmark": ["ellipsoid_frame", "land"],
    },
)
