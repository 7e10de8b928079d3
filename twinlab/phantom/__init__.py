"""Images and recipes made into Phantoms: voxels of material, density and organ."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach(
    __name__,
    submod_attrs={
        "body": ["body_mask"],
        "build": ["assemble", "check_phantom", "material_names", "organ_names", "organ_table"],
        "dicom": ["read_series"],
        "files": ["load", "save"],
        "hu": ["ct_scale", "hu_to_tissue", "tissue_to_hu"],
        "nifti": ["read_image", "read_labels"],
        "patient": ["from_dicom", "from_image", "from_nifti"],
        "raw": ["from_raw"],
        "recipes": ["Recipe", "from_recipe", "list_recipes", "load_recipe"],
        "grid": ["crop", "extend", "resample", "resample_to"],
        "size": ["body_centre", "water_equivalent_diameter"],
    },
)
