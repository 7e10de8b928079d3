"""Scanners and the protocols that drive them: geometry, beam, detector cells, exposure."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach(
    __name__,
    submod_attrs={
        "models": ["Protocol", "Sampling", "Scanner"],
        "parts": [
            "AntiscatterGrid",
            "Bowtie",
            "CtdiEntry",
            "Detector",
            "Electronics",
            "PhotonCounting",
            "Tube",
        ],
        "library": ["list_protocols", "list_scanners", "load_protocol", "load_scanner", "protocol_folder"],
        "geometry": ["cell_solid_angle", "over_range_mm", "trajectory"],
        "beam": [
            "beam_fluence",
            "beam_knots_mm",
            "heel_factor",
            "photons_per_cell",
            "row_weights",
            "take_off_angle_rad",
        ],
        "bowtie": ["bowtie_path_mm", "equalising_path_mm"],
        "modulation": ["current_of_slices", "modulated", "organ_based", "relative_mas", "water_width"],
        "patient_current": ["automatic_exposure", "current_of_series"],
        "exposure": ["effective_mas_for", "for_patient"],
    },
)
