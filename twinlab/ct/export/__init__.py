"""Images and projections as files: DICOM CT series, labelled netCDF, DICOM-CT-PD-like views."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach(
    __name__,
    submod_attrs={
        "ct_pd_read": ["read_ct_pd"],
        "ct_pd_write": ["write_ct_pd"],
        "dx": ["write_radiograph"],
        "localizer": ["write_localiser"],
        "multi_energy": ["read_iodine", "write_spectral"],
        "series": ["write_dicom"],
        "netcdf": ["read_image", "read_projections", "write_projections"],
    },
)
