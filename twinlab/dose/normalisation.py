"""Absolute dose: a machine calibrated to the CTDIvol that it displays, and doses per mAs and per CTDIvol."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from twinlab.dose.indices import ctdi, ctdi_vol, scan_effective_mas, with_reference
from twinlab.scanner import Protocol, Scanner
from twinlab.schema import check, label, refuse


def calibrate(
    machine: Protocol | Scanner, *, ctdi_vol_mgy: float, effective_mas: float, **options: Any
) -> xr.Dataset:
    """Output factor of a machine from the CTDIvol that it displays, as an image header or dose report has it.

    Parameters
    ----------
    machine : Protocol or Scanner
    ctdi_vol_mgy : float
        Displayed CTDIvol (DICOM 0018,9345), mGy.
    effective_mas : float
        Effective mAs (mAs / pitch) of the same scan; for Siemens the header's Exposure (0018,1152).
    **options
        Beam and run, as in :func:`ctdi`: the kV, bowtie and collimation of the scan, and the phantom that the
        displayed value refers to.

    Returns
    -------
    Dataset
        As :func:`ctdi`, with ``ctdi_w_published`` the displayed CTDIw per 100 mAs. Its ``output_factor`` is
        one of the tube and holds, as far as the modelled spectrum is right, at other kV too
        (``ctdi_vol(..., output_factor=)``).

    Raises
    ------
    InputError
        A CTDIvol or mAs not above 0, a phantom other than 16 or 32 cm, or as :func:`ctdi`.
    """
    if not (ctdi_vol_mgy > 0 and effective_mas > 0):
        refuse("calibrate", "ctdi_vol_mgy and effective_mas above 0", (ctdi_vol_mgy, effective_mas))
    if options.get("phantom_cm") not in (None, 16, 32):
        refuse("calibrate: phantom_cm", "16 or 32, to which CTDIvol refers", options["phantom_cm"])
    index = ctdi(machine, **options)
    per_100 = 100.0 * ctdi_vol_mgy / effective_mas
    return with_reference(index, per_100, f"displayed: {ctdi_vol_mgy:g} mGy for {effective_mas:g} mAs")


def per_output(dose: xr.Dataset, protocol: Protocol, index: xr.Dataset) -> xr.Dataset:
    """Organ doses per 100 mAs and per CTDIvol.

    Parameters
    ----------
    dose : Dataset
        From :func:`simulate` with this protocol.
    protocol : Protocol
        With a tube current.
    index : Dataset
        From :func:`ctdi` or :func:`calibrate` for the same beam.

    Returns
    -------
    Dataset
        ``organ_dose_per_100mas`` [mGy], per 100 effective mAs (mAs / pitch, mean over the scan), and
        ``organ_dose_per_ctdivol``, mGy per mGy, both with ``_sd``. The latter does not depend on the output
        factor. The uncertainties join those of the organ dose and of CTDIw where it takes part. attrs:
        ctdi_vol_mgy, effective_mas, output_factor.

    Raises
    ------
    InputError
        The index is for another beam, or ``dose`` has no organ doses.

    References
    ----------
    Turner AC et al. (2010) The feasibility of a scanner-independent technique to estimate organ dose from MDCT
    scans: using CTDIvol to account for differences between scanners. Med Phys 37:1816.
    """
    check(dose, "organ_dose", "organ_dose_sd", where="per_output")
    factor = float(dose.attrs.get("output_factor", 1.0))
    effective_mas = scan_effective_mas(dose, protocol)
    volume = ctdi_vol(protocol, index, output_factor=factor) * effective_mas / protocol.effective_mas
    value, sd = dose["organ_dose"].to_numpy(), dose["organ_dose_sd"].to_numpy()
    own = np.divide(sd, value, out=np.zeros_like(sd), where=value > 0)
    of_index = float(index["ctdi_w_sd"] / index["ctdi_w"])
    joined = np.hypot(own, of_index)
    per_mas = value * 100.0 / effective_mas
    calibrated = factor != 1.0  # then the simulated CTDIw is in the scale of the dose
    values = {
        "organ_dose_per_100mas": per_mas,
        "organ_dose_per_100mas_sd": per_mas * (joined if calibrated else own),
        "organ_dose_per_ctdivol": value / volume,
        "organ_dose_per_ctdivol_sd": value / volume * joined,
    }
    coords: dict[str, Any] = {"organ_id": dose["organ_id"].to_numpy()}
    if "organ_name" in dose:
        coords["organ_name"] = ("organ_id", dose["organ_name"].to_numpy())
    return xr.Dataset(
        {name: label(name, v, coords) for name, v in values.items()},
        attrs={
            "ctdi_vol_mgy": volume,
            "effective_mas": effective_mas,
            "output_factor": factor,
            "phantom_cm": index.attrs["phantom_cm"],
        },
    )
