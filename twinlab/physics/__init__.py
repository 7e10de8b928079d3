"""Numbers of nature: materials, attenuation, spectra. Knows nothing of scanners or patients."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach(
    __name__,
    submod_attrs={
        "materials": [
            "Material",
            "get",
            "mix",
            "names",
            "schneider_density_g_cm3",
            "schneider_hu_edges",
        ],
        "attenuation": [
            "cross_sections",
            "linear_attenuation_per_mm",
            "mass_attenuation",
            "mass_energy_absorption",
        ],
        "spectra": [
            "air_kerma_mgy_per_mas",
            "effective_energy_kev",
            "filtered",
            "hvl_mm",
            "mean_energy_kev",
            "tube_spectrum",
        ],
    },
)
