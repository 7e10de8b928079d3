"""Image quality: noise, noise power spectrum and detectability."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach(
    __name__,
    submod_attrs={
        "dprime": ["dprime_fourier", "dprime_from_responses", "dprime_linear", "eye_filter", "npwe_template"],
        "noise": ["noise_hu", "nps", "nps_radial"],
    },
)
