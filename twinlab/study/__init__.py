"""Studies: a grid of protocols on one patient, run by dask, resumable, collected in one Dataset."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach(
    __name__,
    submodules=["tables"],
    submod_attrs={
        "models": ["Study", "load"],
        "daily_checks": ["check_days", "daily_phantom", "daily_protocol", "worn_days"],
        "access": ["credits", "dose_map", "patient_voxels"],
        "patient": ["lesion_positions", "load_patient"],
        "planning": ["Plan", "plan"],
        "engine": ["run", "status"],
        "optimise": ["Recommendation", "dose_at_target", "pareto_front", "recommend"],
    },
)
