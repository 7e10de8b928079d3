"""Dose of a CT scan: photon transport in a Phantom, organ doses, CTDI."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach(
    __name__,
    submod_attrs={
        "organs": ["simulate"],
        "ctdi_phantom": ["Chamber"],
        "normalisation": ["calibrate", "per_output"],
        "wide_beams": ["ctdi_air", "ctdi_efficiency", "ctdi_wide"],
        "indices": ["ctdi", "ctdi_vol", "dlp", "output_factor", "published_ctdi_w"],
        "size": ["ssde_factor"],
        "beam": ["default_isocentre", "stations"],
    },
)
