"""Execute notebooks, render them as self-contained HTML, draw figures, keep provenance.

The notebooks import this room as ``from twinlab import report`` and find here everything that they show.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach(
    __name__,
    submodules=[
        "artefacts",
        "current_tables",
        "dose_figures",
        "dose_tables",
        "dose_validation",
        "figures",
        "report_195",
        "response_checks",
        "thin",
        "validation_figures",
    ],
    submod_attrs={
        "execution": ["NotebookError", "Run", "execute"],
        "notes": [
            "CheckFailed",
            "check",
            "checks",
            "evidence",
            "finding",
            "headline",
            "plan",
            "progress",
            "provenance",
            "run_folder",
            "table",
        ],
        "patients": ["Patient", "PatientSource", "grid_distance_mm", "patient", "shown_hu"],
        "parameters": ["Parameter", "read_parameters"],
        "page": ["render"],
        "site": ["index", "reports"],
        "variants": ["at_protocols", "contrast_in", "water_reads"],
    },
)
