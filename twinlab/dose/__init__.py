"""Dose of a CT scan: photon transport in a Phantom, organ doses, CTDI."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach(
    __name__,
    submod_attrs={
        "organs": ["simulate"],
        "response": ["response_matrix"],
        "weighting": ["from_response"],
        "couch": ["with_table"],
        "projection": ["air_kerma_1m", "projection_field", "simulate_projection"],
        "ctdi_phantom": ["Chamber"],
        "normalisation": ["calibrate", "per_output"],
        "wide_beams": ["ctdi_air", "ctdi_efficiency", "ctdi_wide"],
        "indices": ["ctdi", "ctdi_vol", "dlp", "output_factor", "published_ctdi_w"],
        "size": ["ctdi_vol_of_slices", "ssde", "ssde_factor"],
        "skeleton": ["body_spectrum", "bone_response", "marrow_dose"],
        "tissue_groups": ["merge_tissues", "remainder_tissues", "tissue_doses"],
        "effective": ["effective_dose", "effective_dose_one_sex"],
        "conversion": ["effective_dose_from_dlp", "k_factor"],
        "dvh": ["dose_volume_histogram"],
        "fetal": ["fetal_dose"],
        "risk": ["lifetime_risk", "risk_per_100_mgy"],
        "summary": ["quantities"],
        "beam": ["stations"],
    },
)
