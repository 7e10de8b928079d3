"""Survival of parts: Kaplan-Meier, Weibull, Cox."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach(
    __name__,
    submod_attrs={
        "lives": ["make_lives", "make_spans"],
        "truth": ["simulate_lives", "simulate_spans"],
        "curves": ["kaplan_meier"],
        "weibull": ["WeibullFit", "weibull_aft"],
        "cox": ["cox_time_varying"],
    },
)
