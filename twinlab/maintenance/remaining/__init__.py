"""Remaining useful life learnt from telemetry: features, models, conformal intervals, anomalies, health."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach(
    __name__,
    submod_attrs={
        "anomalies": ["Anomalies", "early_rows", "fit_anomalies"],
        "boosted": ["Boosted"],
        "cmapss": ["Cmapss", "read_cmapss"],
        "conditions": ["Conditions", "fit_conditions"],
        "conformal": ["Intervals", "fit_intervals"],
        "convolution": ["RandomConvolutions"],
        "cuts": ["cut_weights", "draw_cuts", "unit_folds"],
        "health": ["Health", "fit_health", "health_merits"],
        "histories": ["Histories", "histories"],
        "metrics": ["coverage", "rmse", "s_score"],
        "model": ["RemainingLife", "Unseen", "fit_remaining_life", "predict_unseen"],
        "network": ["CausalNetwork"],
        "synthetic": ["synthetic_units"],
    },
)
