"""Registry: name, dims, units and meaning of every labelled variable that crosses a public function."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Variable:
    """One labelled quantity: dims, units and meaning."""

    name: str
    dims: tuple[str, ...]
    units: str
    long_name: str


def _registry() -> dict[str, Variable]:
    rows = [
        # phantom
        ("material", "z y x", "1", "index into material_name"),
        ("density", "z y x", "g cm-3", "mass density"),
        ("organ", "z y x", "1", "organ label, an organ_id"),
        ("material_name", "material_id", "1", "name of the material in the physics registry"),
        ("organ_name", "organ_id", "1", "name of the organ"),
        (
            "water_equivalent_diameter",
            "z",
            "mm",
            "diameter of the water cylinder that attenuates like the slice",
        ),
        # attenuation
        ("photoelectric", "energy", "cm2 g-1", "photoelectric mass attenuation coefficient"),
        ("rayleigh", "energy", "cm2 g-1", "coherent scattering mass attenuation coefficient"),
        ("incoherent", "energy", "cm2 g-1", "incoherent scattering mass attenuation coefficient"),
        ("total", "energy", "cm2 g-1", "mass attenuation coefficient with coherent scattering"),
        ("mu_en", "energy", "cm2 g-1", "mass energy-absorption coefficient"),
        # spectra and beam
        ("fluence", "energy", "mm-2 mAs-1", "photon fluence per energy bin at 1 m from the focal spot"),
        ("beam_fluence", "fan_angle energy", "mm-2 mAs-1", "fluence at 1 m behind filters and bowtie"),
        ("photons", "channel energy", "1", "mean photons that meet a detector cell in one view, no object"),
        ("solid_angle", "row channel", "sr", "solid angle of a detector cell at the focal spot"),
        # acquisition
        ("view_angle", "view", "rad", "gantry angle; 0 = tube anterior, grows towards the patient's left"),
        ("source_z", "view", "mm", "table position of the focal spot"),
        ("focal_shift", "view shift_axis", "mm", "displacement of the focal spot in the frame of the gantry"),
        ("path", "basis view row channel", "g cm-2", "line integral of a basis density"),
        ("row_lo", "view", "1", "first detector row that was computed"),
        ("row_hi", "view", "1", "end (exclusive) of the detector rows that were computed"),
        ("basis_mu", "basis energy", "cm2 g-1", "mass attenuation of a basis function"),
        (
            "mixing",
            "basis mixed_material",
            "1",
            "makes basis_mu at any energy from the materials' mass attenuation",
        ),
        ("signal", "view row channel", "keV mAs-1", "mean absorbed energy of a reading per mAs of the view"),
        (
            "signal_variance",
            "view row channel",
            "keV2 mAs-1",
            "quantum variance of a reading per mAs of the view",
        ),
        ("air_signal", "row channel", "keV mAs-1", "mean absorbed energy of a reading without an object"),
        ("air_variance", "row channel", "keV2 mAs-1", "quantum variance of a reading without an object"),
        ("tube_current", "view", "mA", "tube current of the view"),
        (
            "water_width",
            "z angle",
            "mm",
            "water that attenuates like the middle of the patient, seen from a side",
        ),
        (
            "water_polynomial",
            "channel power",
            "1",
            "water correction: projection = raw * sum_i c_i (raw/raw_max)^i",
        ),
        (
            "projection",
            "view row channel",
            "1",
            "water-corrected line integral (-log of the air-normalised signal)",
        ),
        ("variance", "view row channel", "1", "variance of projection"),
        # spectral
        ("response", "bin energy", "1", "counts per photon that meets a detector cell"),
        (
            "response_product",
            "offset bin other_bin energy",
            "1",
            "mean product of counts in two cells and bins per photon that meets a cell",
        ),
        ("pulse_height", "height energy", "keV-1", "pulses per photon by registered energy"),
        ("tube_kv", "view", "kV", "tube voltage of a view"),
        ("counts", "bin view row channel", "1", "counts of a reading by energy bin"),
        ("air_counts", "bin row channel", "1", "mean counts of a reading without an object"),
        ("view_exposure", "view", "1", "exposure of a view relative to the mean"),
        (
            "count_correlation",
            "bin other_bin",
            "1",
            "covariance of two bins' counts over the root of the product of their means",
        ),
        ("basis_path", "basis_material view row channel", "g cm-2", "line integral of a basis material"),
        (
            "basis_covariance",
            "basis_material other_material view row channel",
            "g2 cm-4",
            "covariance of basis_path from counting statistics",
        ),
        ("basis_density", "z y x", "g cm-3", "mass density of a basis material"),
        ("iodine", "z y x", "mg ml-1", "iodine concentration"),
        # radiography
        ("reading", "view row channel", "keV", "absorbed energy that a cell reads in one exposure"),
        ("transmission", "view row channel", "1", "reading over the mean reading without an object"),
        ("scout", "z channel", "1", "water-corrected line integral of a localiser"),
        # scatter
        (
            "scatter",
            "view row channel",
            "keV mAs-1",
            "mean absorbed scattered energy per cell and mAs of the view",
        ),
        ("scatter_sd", "view row channel", "keV mAs-1", "standard uncertainty of scatter (statistical)"),
        (
            "primary",
            "view row channel",
            "keV mAs-1",
            "mean absorbed unscattered energy per cell and mAs of the view",
        ),
        ("primary_sd", "view row channel", "keV mAs-1", "standard uncertainty of primary (statistical)"),
        # image
        ("hu", "z y x", "HU", "CT number"),
        # dose
        ("dose", "z y x", "mGy", "absorbed dose"),
        ("dose_sd", "z y x", "mGy", "standard uncertainty of dose"),
        ("organ_dose", "organ_id", "mGy", "mean absorbed dose of the organ"),
        ("organ_dose_sd", "organ_id", "mGy", "standard uncertainty of organ_dose (statistical)"),
        ("organ_mass", "organ_id", "g", "mass of the organ inside the phantom"),
        ("organ_coverage", "organ_id", "1", "share of the organ's mass inside the imaged range"),
        (
            "organ_cut",
            "organ_id",
            "1",
            "whether the organ reaches the end of the phantom and may be incomplete",
        ),
        ("ctdi100_centre", "", "mGy", "CTDI100 at the centre per 100 mAs"),
        (
            "ctdi100_periphery",
            "",
            "mGy",
            "CTDI100 10 mm below the surface per 100 mAs, mean over the circumference",
        ),
        ("ctdi_w", "", "mGy", "weighted CTDI per 100 mAs"),
        ("ctdi100_centre_sd", "", "mGy", "standard uncertainty of ctdi100_centre (statistical)"),
        ("ctdi100_periphery_sd", "", "mGy", "standard uncertainty of ctdi100_periphery (statistical)"),
        ("ctdi_w_sd", "", "mGy", "standard uncertainty of ctdi_w (statistical)"),
        ("ctdi_w_published", "", "mGy", "published weighted CTDI per 100 mAs"),
        ("output_factor", "", "1", "published over simulated ctdi_w"),
        ("output_factor_sd", "", "1", "standard uncertainty of output_factor (statistical)"),
        # quality
        ("nps", "fy fx", "HU2 mm2", "noise power spectrum"),
        ("nps_radial", "frequency", "HU2 mm2", "radially averaged noise power spectrum"),
        ("dprime", "", "1", "detectability index"),
    ]
    return {name: Variable(name, tuple(dims.split()), units, meaning) for name, dims, units, meaning in rows}


VARIABLES: Mapping[str, Variable] = _registry()

COORDINATES: Mapping[str, tuple[str, str]] = {
    "x": ("mm", "voxel centre, to the patient's left"),
    "y": ("mm", "voxel centre, to posterior"),
    "z": ("mm", "voxel centre, to the head"),
    "energy": ("keV", "bin centre"),
    "fan_angle": ("rad", "angle from the central ray in the plane of rotation"),
    "cone_angle": ("rad", "angle of a ray out of the plane of rotation, towards +z"),
    "row": ("mm", "detector row centre, along z, at the detector"),
    "frequency": ("mm-1", "radial spatial frequency"),
    "threshold": ("keV", "lower end of an energy bin"),
    "height": ("keV", "registered energy"),
    "fx": ("mm-1", "spatial frequency along x"),
    "fy": ("mm-1", "spatial frequency along y"),
}
