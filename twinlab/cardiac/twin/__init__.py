"""The twin: personalisation, uncertainty, surrogate, what-if."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach(
    __name__,
    submod_attrs={
        "surrogate": ["Surrogate", "design", "fit", "predict"],
        "virtual_heart": ["INPUTS", "VirtualHeart", "beats", "circulation_of", "one_beat", "segment_times"],
        "pacing": ["activations", "electrocardiograms", "pacing_sites"],
        "finite_elements": ["beat_3d", "fitted_left_ventricle"],
        "reduced": ["Reduced", "predict_curves", "reduce_curves"],
        "scenarios": ["QuickAnswer", "Scenario", "quick_answer", "virtual_cohort", "what_if"],
        "sensitivity": ["sobol"],
        "calibration": ["Calibration", "calibrate", "computed"],
    },
)
