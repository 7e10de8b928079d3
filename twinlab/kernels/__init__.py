"""Hot loops: ray casting, back-projection, photon transport. Arrays in, arrays out."""

from pathlib import Path as _Path

import lazy_loader as _lazy

from twinlab.kernels.stale import sweep as _sweep

_sweep(_Path(__file__).parent)

__getattr__, __dir__, __all__ = _lazy.attach(
    __name__,
    submodules=[
        "backproject",
        "bundle",
        "columns",
        "cuda_adjoint",
        "cuda_backproject",
        "cuda_memory",
        "cuda_project",
        "deflection",
        "device",
        "elementary",
        "general_rays",
        "philox",
        "project",
        "rays",
        "sampling",
        "solids",
        "spectral",
        "threads",
        "transport",
    ],
)
