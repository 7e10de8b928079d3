"""Drift of daily checks: control charts and change points."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach(
    __name__,
    submod_attrs={
        "phase_one": ["Baseline", "baseline"],
        "charts": ["cusum", "ewma", "first_alarm", "shewhart"],
        "run_lengths": ["Design", "average_run_length", "simulated_run_length"],
        "segments": ["change_points"],
    },
)
