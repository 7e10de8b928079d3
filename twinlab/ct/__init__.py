"""CT: scan a phantom under a protocol, correct, reconstruct."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach(
    __name__,
    submodules=["artefacts", "export", "iterative", "spectral"],
    submod_attrs={
        "basis": ["Basis", "attenuation_basis", "choose_basis"],
        "corrections": ["water_correction"],
        "denoiser": ["Denoiser", "denoise"],
        "denoiser_training": ["train_denoiser"],
        "detector": ["Extra", "detected"],
        "filters": ["fit_kernel"],
        "recon": ["adjoint", "reconstruct"],
        "paths": ["line_integrals"],
        "sampling": ["Sample", "sub_samples"],
        "scan": ["acquire"],
        "electronics": ["Faults"],
        "stand": ["Radiography"],
        "radiography": ["radiograph"],
        "localiser": ["scout"],
        "stream": ["scan_phantom", "simulate"],
    },
)
