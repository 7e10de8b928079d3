"""Registry: name, dims, units and meaning of every labelled variable that crosses a public function."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from twinlab.variables_heart import HEART
from twinlab.variables_maintenance import MAINTENANCE


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
        ("organ_mass_z", "organ_id z", "g", "mass of the organ in each slice of the phantom"),
        (
            "organ_response",
            "organ_id table_z gantry_angle cone",
            "mGy/(mA s)",
            "mean absorbed dose of the organ per mAs from one cell of the tube's path and cone",
        ),
        (
            "organ_response_sd",
            "organ_id table_z gantry_angle cone",
            "mGy/(mA s)",
            "standard uncertainty of organ_response (statistical)",
        ),
        ("cone_sine", "cone_edge", "1", "sine of the cone angle at the edges of the cells, rising with z"),
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
        # dose: normalisation and wide beams
        ("ctdi_efficiency_centre", "", "1", "share of a rotation's dose within 100 mm, at the centre"),
        ("ctdi_efficiency_periphery", "", "1", "share of a rotation's dose within 100 mm, 10 mm deep"),
        (
            "ctdi_efficiency_centre_sd",
            "",
            "1",
            "standard uncertainty of ctdi_efficiency_centre (statistical)",
        ),
        (
            "ctdi_efficiency_periphery_sd",
            "",
            "1",
            "standard uncertainty of ctdi_efficiency_periphery (statistical)",
        ),
        ("organ_dose_per_100mas", "organ_id", "mGy", "organ dose per 100 effective mAs"),
        ("organ_dose_per_100mas_sd", "organ_id", "mGy", "standard uncertainty of organ_dose_per_100mas"),
        ("organ_dose_per_ctdivol", "organ_id", "1", "organ dose over CTDIvol"),
        ("organ_dose_per_ctdivol_sd", "organ_id", "1", "standard uncertainty of organ_dose_per_ctdivol"),
        # dose quantities
        ("site_marrow_dose", "site", "mGy", "absorbed dose of red marrow in a bone site"),
        ("site_marrow_dose_sd", "site", "mGy", "standard uncertainty of site_marrow_dose (statistical)"),
        ("site_endosteum_dose", "site", "mGy", "absorbed dose of the endosteum in a bone site"),
        (
            "site_endosteum_dose_sd",
            "site",
            "mGy",
            "standard uncertainty of site_endosteum_dose (statistical)",
        ),
        ("marrow_share", "site", "1", "share of the adult's active marrow in a bone site"),
        ("endosteum_share", "site", "1", "share of the adult's endosteum in a bone site"),
        ("site_coverage", "site", "1", "labels of the site inside the images over those of the whole site"),
        ("site_coverage_uncut", "site", "1", "site_coverage by labels that do not reach the images' ends"),
        ("red_marrow_dose", "", "mGy", "mean absorbed dose of the red marrow inside the images"),
        ("red_marrow_dose_sd", "", "mGy", "standard uncertainty of red_marrow_dose (statistical)"),
        ("red_marrow_coverage", "", "1", "share of the red marrow inside the images"),
        ("red_marrow_coverage_uncut", "", "1", "red_marrow_coverage by labels that are not cut"),
        ("endosteum_dose", "", "mGy", "mean absorbed dose of the endosteum inside the images"),
        ("endosteum_dose_sd", "", "mGy", "standard uncertainty of endosteum_dose (statistical)"),
        ("endosteum_coverage", "", "1", "share of the endosteum inside the images"),
        ("endosteum_coverage_uncut", "", "1", "endosteum_coverage by labels that are not cut"),
        ("tissue_dose", "tissue", "mGy", "mean absorbed dose of the tissue inside the images"),
        ("tissue_dose_sd", "tissue", "mGy", "standard uncertainty of tissue_dose (statistical)"),
        ("tissue_mass", "tissue", "g", "mass of the tissue inside the images"),
        ("tissue_coverage", "tissue", "1", "share of the tissue inside the images; 0: missing"),
        ("tissue_weight", "tissue", "1", "tissue weighting factor of effective dose"),
        ("tissue_contribution", "tissue", "mSv", "what the tissue adds to effective dose"),
        ("effective_dose", "", "mSv", "effective dose, mean of the male and the female body"),
        ("effective_dose_sd", "", "mSv", "standard uncertainty of effective_dose (statistical)"),
        ("effective_dose_one_sex", "", "mSv", "tissue-weighted dose of a body of one sex"),
        (
            "effective_dose_one_sex_sd",
            "",
            "mSv",
            "standard uncertainty of effective_dose_one_sex (statistical)",
        ),
        ("effective_dose_contained", "", "mSv", "effective dose with nothing outside the images"),
        ("weight_covered", "", "1", "share of the tissue weights inside the images"),
        ("dlp", "", "mGy cm", "dose-length product"),
        ("dlp_sd", "", "mGy cm", "standard uncertainty of dlp (statistical)"),
        ("effective_dose_dlp_sd", "", "mSv", "standard uncertainty of effective_dose_dlp (statistical)"),
        (
            "effective_dose_dlp",
            "",
            "mSv",
            "effective dose of a reference patient from the dose-length product",
        ),
        ("ctdi_vol", "z", "mGy", "volume CTDI of the slice"),
        ("size_factor", "z", "1", "SSDE over CTDIvol"),
        ("ssde", "z", "mGy", "size-specific dose estimate of the slice"),
        ("ctdi_vol_mean", "", "mGy", "volume CTDI, mean over the scan"),
        ("ssde_mean", "", "mGy", "size-specific dose estimate, mean over the scan"),
        ("ctdi_vol_mean_sd", "", "mGy", "standard uncertainty of ctdi_vol_mean (statistical)"),
        ("ssde_mean_sd", "", "mGy", "standard uncertainty of ssde_mean (statistical)"),
        ("dvh", "organ_id dose_level", "1", "share of the organ's volume that receives the dose or more"),
        (
            "dvh_differential",
            "organ_id dose_bin",
            "mGy-1",
            "share of the organ's volume per unit of dose",
        ),
        ("dvh_mean", "organ_id", "mGy", "mean dose over the organ's volume"),
        ("dvh_near_maximum", "organ_id", "mGy", "least dose of the hottest 0.03 cm3"),
        ("dvh_dose_at", "organ_id volume_percent", "mGy", "dose that this percentage of the volume exceeds"),
        ("dvh_volume_above", "organ_id dose_threshold", "1", "share of the volume at this dose or more"),
        ("dvh_noise_share", "organ_id", "1", "share of the variance over voxels that is statistical noise"),
        ("dvh_volume", "organ_id", "cm3", "volume of the organ in the histogram"),
        ("fetal_dose", "", "mGy", "absorbed dose of the embryo, fetus or uterus"),
        ("fetal_dose_sd", "", "mGy", "standard uncertainty of fetal_dose (statistical)"),
        ("risk", "cancer_site", "1e-5", "lifetime attributable risk of cancer incidence per 100,000 persons"),
        ("risk_sd", "cancer_site", "1e-5", "standard uncertainty of risk from the dose (statistical)"),
        ("risk_low", "cancer_site", "1e-5", "lower end of the 95 % subjective interval of risk"),
        ("risk_high", "cancer_site", "1e-5", "upper end of the 95 % subjective interval of risk"),
        ("risk_dose", "cancer_site", "mGy", "dose that the risk belongs to"),
        ("risk_total", "", "1e-5", "lifetime attributable risk of all cancers, sites in the images"),
        ("risk_total_sd", "", "1e-5", "standard uncertainty of risk_total from the dose (statistical)"),
        ("risk_total_low", "", "1e-5", "lower end of the 95 % subjective interval of risk_total"),
        ("risk_total_high", "", "1e-5", "upper end of the 95 % subjective interval of risk_total"),
        # quality
        ("nps", "fy fx", "HU2 mm2", "noise power spectrum"),
        ("nps_radial", "frequency", "HU2 mm2", "radially averaged noise power spectrum"),
        ("dprime", "", "1", "detectability index"),
    ]
    rows += HEART
    rows += MAINTENANCE
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
    "table_z": ("mm", "middle of a cell of the tube's path, along the table"),
    "gantry_angle": ("rad", "middle of a cell of the gantry angle"),
    "fx": ("mm-1", "spatial frequency along x"),
    "fy": ("mm-1", "spatial frequency along y"),
}
