"""Circulation: lumped closed loop and Windkessel, elastance and muscle patches."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach(
    __name__,
    submod_attrs={
        "parameters": ["Bed", "Chamber", "ClosedLoop", "Valve", "parameter_names", "parameter_set"],
        "loop": ["closed_loop", "closed_loop_many"],
        "coupled": ["CoupledError", "CoupledLoop", "Ventricle", "Ventricles"],
        "muscle": ["muscle_patches", "with_scar"],
        "patched": ["PatchVentricles", "patch_heart"],
        "open_loop": ["Windkessel", "windkessel", "windkessel_impedance", "ventricle_and_windkessel"],
    },
)
