"""State of a scanner's tube followed as its telemetry arrives."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach(
    __name__,
    submod_attrs={
        "coverage": ["interval_coverage", "quick_tube"],
        "following": ["Follower", "follow", "load_follower"],
        "model": ["TubeModel", "tube_model"],
    },
)
