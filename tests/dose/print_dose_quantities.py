"""Figures of docs/methods/dose_quantities.md: pins of bone and marrow in water, and the sample patient.

python tests/dose/print_dose_quantities.py [pins_histories [patient_histories [spacing_mm]]]
"""

from __future__ import annotations

import sys
import time

import numpy as np
from made_doses import bone_phantom

from twinlab import dose, sample
from twinlab.phantom import from_nifti, resample
from twinlab.physics.attenuation import mass_energy_absorption
from twinlab.scanner import load_protocol

MATERIALS = {"rib_left_1": "bone_rib", "vertebrae_L1": "bone_spongiosa", "pins": "red_marrow"}


def pins(kv: float, histories: int) -> None:
    """Dose of bone over that of marrow in its place, transported and by the spectrum model."""
    protocol = load_protocol("abdomen_pelvis").replace(tube_current_ma=200.0, kv=kv)
    phantom = bone_phantom({name: (material, 0.2) for name, material in MATERIALS.items()})
    result = dose.simulate(
        phantom, protocol, z_range_mm=(60, 140), histories=histories, voxel_map=False, extend_mm=0
    )
    by_name = {str(n): i for i, n in enumerate(result["organ_name"].values)}
    value = {n: float(result["organ_dose"][i]) for n, i in by_name.items()}
    sd = {n: float(result["organ_dose_sd"][i]) / value[n] for n, i in by_name.items()}
    for water_mm in (0.0, 50.0, 100.0):
        spectrum = dose.body_spectrum(protocol, water_mm=water_mm)
        energy, fluence = spectrum["energy"].values, spectrum.values
        kerma = {n: fluence @ (energy * mass_energy_absorption(m, energy)[0]) for n, m in MATERIALS.items()}
        for bone in ("rib_left_1", "vertebrae_L1"):
            got, model = value[bone] / value["pins"], kerma[bone] / kerma["pins"]
            print(
                f"{kv:g} kV | {MATERIALS[bone]} over red_marrow | transport {got:.3f} "
                f"(sd {100 * np.hypot(sd[bone], sd['pins']):.1f} %) | model, {water_mm:g} mm water {model:.3f} | "
                f"marrow {100 * (got / model - 1):+.1f} %"
            )


def patient(histories: int, spacing_mm: float) -> None:
    """All quantities of a chest and abdomen scan of the sample patient."""
    files = sample.patient()
    phantom = from_nifti(files.ct_nifti, files.labels_nifti, legend=files.legend_csv)
    phantom = dose.merge_tissues(resample(phantom, spacing_mm=spacing_mm), sex="male")
    protocol = load_protocol("adult_chest").replace(tube_current_ma=150.0)
    index = dose.ctdi(protocol, histories=histories)
    z = phantom["z"].values
    result = dose.simulate(
        phantom,
        protocol,
        z_range_mm=(float(z[0]) + 10, float(z[-1]) - 10),
        histories=histories,
        output_factor=dose.output_factor(index),
    )
    started = time.process_time()
    out = dose.quantities(result, phantom, protocol, sex="male", age=60, ctdi=index, dlp_region="chest")
    print(
        f"quantities: {time.process_time() - started:.1f} s for {phantom['organ'].size / 1e6:.1f} million voxels"
    )
    for tissue in out["tissue"].values:
        one = out.sel(tissue=tissue)
        print(
            f"{tissue} | {float(one['tissue_dose']):.2f} +- {float(one['tissue_dose_sd']):.2f} mGy | "
            f"coverage {float(one['tissue_coverage']):.2f}"
        )
    for name in out.data_vars:
        if out[name].ndim == 0:
            print(f"{name} | {float(out[name]):.4g} {out[name].attrs['units']}")
    print(out[["risk", "risk_sd", "risk_low", "risk_high"]].to_dataframe().round(2).to_string())


if __name__ == "__main__":
    given = [float(a) for a in sys.argv[1:]]
    pins_histories, patient_histories, spacing = (given + [1e7, 5e6, 3.0][len(given) :])[:3]
    for tube in (80.0, 120.0):
        pins(tube, int(pins_histories))
    patient(int(patient_histories), spacing)
