"""Hot loops: ray casting, back-projection, photon transport. Arrays in, arrays out."""

import lazy_loader as _lazy

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
