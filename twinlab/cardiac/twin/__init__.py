"""The twin: personalisation, uncertainty, surrogate, what-if."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach(
    __name__,
    submod_attrs={
        "surrogate": ["Surrogate", "design", "fit", "predict"],
        "sensitivity": ["sobol"],
        "calibration": ["Calibration", "calibrate"],
    },
)
