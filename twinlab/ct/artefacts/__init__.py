"""Artefacts of CT images: where they come from, and the corrections that scanners make."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach(
    __name__,
    submod_attrs={
        "bone": ["Dense", "bone_correction"],
        "grid": ["grid_transmission", "primary_transmission"],
        "metal": ["metal_correction"],
        "scatter": ["scatter_by_transport"],
        "convolution": ["ScatterKernel", "scatter_correction", "scatter_kernel"],
        "rings": ["ring_correction"],
    },
)
