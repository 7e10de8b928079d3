"""How a scanner wears under its workload: tube, detector, gantry, cooling; its telemetry and its effect on images."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach(
    __name__,
    submod_attrs={
        "clinic": ["Clinic", "Exam", "load_clinic"],
        "effects": ["image_effects"],
        "heat": ["heat_curve"],
        "lives": ["tube_lives"],
        "parameters": ["ScannerWear", "TubeWear", "Value", "load_scanner_wear", "load_tube_wear"],
        "planning": ["workload"],
        "simulator": ["Simulation", "simulate_scanner"],
    },
)
