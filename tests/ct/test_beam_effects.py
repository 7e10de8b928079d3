"""Heel and inclined rays: the beam against SpekPy off the axis, signals against sums, water in every row."""

import numpy as np
import pytest
import spekpy
from scan_cases import apply_correction, small_phantom, small_protocol, small_trajectory

from twinlab.ct import acquire, detected, line_integrals, water_correction
from twinlab.ct.corrections import water_logarithm
from twinlab.ct.detector import detected_spectrum
from twinlab.physics.attenuation import linear_attenuation_per_mm, mass_attenuation, mass_energy_absorption
from twinlab.scanner import (
    beam_fluence,
    beam_knots_mm,
    cell_solid_angle,
    heel_factor,
    load_protocol,
    row_weights,
)
from twinlab.scanner.parts import Bowtie
from twinlab.schema import InputError


@pytest.fixture(scope="module")
def heeled():
    """Rows to 3.3 degrees on either side, heel, and a bowtie with oblique paths."""
    base = small_protocol()
    tube = base.scanner.tube.model_copy(update={"heel": True})
    detector = base.scanner.detector.model_copy(update={"row_pitch_mm": 28.0})
    bowtie = base.scanner.bowties["body"].model_copy(update={"oblique": True})
    scanner = base.scanner.model_copy(
        update={"tube": tube, "detector": detector, "bowties": {"body": bowtie}, "key": "heeled"}
    )
    return base.replace(scanner=scanner, collimation_mm=4 * 28.0 * 541 / 949, slice_thickness_mm=16.0)


def test_heel_is_that_of_spekpy_off_the_axis():
    protocol = load_protocol("realistic_chest").replace(bowtie="none")
    angle = np.deg2rad([-2.0, -1.0, 1.0, 2.0])
    found = heel_factor(protocol, cone_angle_rad=angle)

    def kerma(offset_cm):
        tube = spekpy.Spek(kvp=120, th=7, x=offset_cm, z=100, dk=0.5, physics="casim")
        energy, fluence = tube.get_spectrum(edges=False, diff=False)
        keep = energy > 10
        energy, fluence = energy[keep], fluence[keep]
        behind = fluence * np.exp(-6.0 * linear_attenuation_per_mm("aluminum", energy))
        inverse_square = 1.0 + (offset_cm / 100) ** 2
        return (behind * energy * mass_energy_absorption("air", energy)[0]).sum() * inverse_square

    expected = np.array([kerma(100 * np.tan(a)) for a in angle]) / kerma(0.0)
    # 0.5 keV bins against 0.25; parabolas between take-off angles
    np.testing.assert_allclose(found, expected, rtol=2e-3)
    assert (np.diff(found) > 0).all()  # more towards +z, the side of the cathode


def test_without_heel_nothing_varies_along_z():
    protocol = load_protocol("liver_arterial")
    np.testing.assert_array_equal(heel_factor(protocol, cone_angle_rad=[-0.03, 0.02]), 1.0)
    assert beam_knots_mm(protocol).size == 1
    assert np.array_equal(row_weights([0.0], [1.0, 2.0]), [[1.0]])


def test_rays_below_the_target_are_refused():
    protocol = load_protocol("realistic_chest")
    with pytest.raises(InputError, match="target's surface"):
        beam_fluence(protocol, cone_angle_rad=[np.deg2rad(-6.5)])


def test_signals_are_sums_over_energies_in_every_row(heeled):
    phantom, path = small_phantom(), small_trajectory(heeled).isel(view=[0, 9])
    paths = line_integrals(phantom, heeled, path)
    found = detected(paths, heeled)
    rows = heeled.row_positions_mm()
    gain = cell_solid_angle(heeled).to_numpy() * 1e6
    names = [str(name) for name in paths["mixed_material"].to_numpy()]
    for r, row in enumerate(rows):
        energy, spectrum = detected_spectrum(heeled, row_mm=float(row))
        mu = paths["mixing"].to_numpy() @ mass_attenuation(names, energy)
        transmission = np.exp(-np.einsum("kvc,ke->vce", paths["path"].to_numpy()[:, :, r], mu))
        signal = gain[r] * np.einsum("vce,ce->vc", transmission, spectrum)
        # quadrature 2e-5, rows between knots 1e-4
        np.testing.assert_allclose(found["signal"][:, r], signal, rtol=2e-4)
        np.testing.assert_allclose(found["air_signal"][r], gain[r] * spectrum.sum(axis=1), rtol=2e-4)
    assert float(found["air_signal"][3, 32] / found["air_signal"][0, 32]) > 1.1


def test_air_scan_cancels_heel_and_bowtie(heeled):
    empty = small_phantom(("air", "air"), (1e-9, 1e-9))
    scan = acquire(line_integrals(empty, heeled, small_trajectory(heeled)), heeled, seed=0, noise=False)
    assert float(np.abs(scan["projection"]).max()) < 2e-5  # float32 logarithms


@pytest.mark.parametrize("kv", [80.0, 140.0])
def test_water_reads_its_attenuation_in_every_row(heeled, kv):
    protocol = heeled.replace(kv=kv)
    correction = water_correction(protocol)
    length = np.linspace(5.0, 495.0, 30)
    for r, row in enumerate(protocol.row_positions_mm()):
        raw = water_logarithm(protocol, length, row_mm=float(row))
        for channel in (0, 20, 32, 63):
            found = apply_correction(raw[:, channel], correction, channel=channel, row=r)
            # 1e-4 of a line integral of 10 as in the middle, and polynomials between five rows
            assert found == pytest.approx(correction.attrs["mu_water_per_mm"] * length, abs=3e-4)
    assert correction["water_polynomial"].dims == ("row", "channel", "power")


def test_calibration_is_kept_and_not_shared(heeled):
    first = water_correction(heeled)
    first["raw_max"][:] = 0.0
    assert float(water_correction(heeled)["raw_max"].min()) > 0


def test_bowtie_by_transmission_is_its_thickness():
    thickness = np.array([0.5, 6.0, 28.0])
    mu = float(linear_attenuation_per_mm("aluminum", [60.0])[0])
    table = {"material": "aluminum", "fan_angle_deg": [0, 10, 25]}
    by_thickness = Bowtie.make({**table, "thickness_mm": list(thickness)})
    by_transmission = Bowtie.make(
        {**table, "transmission": list(np.exp(-mu * thickness)), "energy_kev": 60.0}
    )
    fan = np.deg2rad(np.linspace(-24, 24, 13))
    np.testing.assert_allclose(by_transmission.path_mm(fan), by_thickness.path_mm(fan), rtol=1e-9)


def test_bowtie_by_shape():
    fan = np.deg2rad(np.array([-20.0, 0.0, 5.0, 20.0]))
    slab = Bowtie.make(
        {"material": "aluminum", "lateral_mm": [0, 200], "thickness_mm": [8, 8], "distance_mm": 100}
    )
    np.testing.assert_allclose(slab.path_mm(fan), 8 / np.cos(fan), rtol=1e-9)
    np.testing.assert_allclose(
        slab.path_mm(fan, cone_angle_rad=0.05), 8 / np.cos(fan) / np.cos(0.05), rtol=1e-9
    )
    # wedge t = x/4: the ray leaves at y = d / (1 - tan(fan)/4)
    wedge = Bowtie.make(
        {"material": "aluminum", "lateral_mm": [0, 400], "thickness_mm": [0, 100], "distance_mm": 100}
    )
    tangent = np.tan(np.abs(fan))
    np.testing.assert_allclose(wedge.path_mm(fan), (100 / (1 - tangent / 4) - 100) / np.cos(fan), atol=1e-9)
    assert slab.varies_with_cone


@pytest.mark.parametrize(
    "wrong",
    [
        {"fan_angle_deg": [0, 10]},
        {"fan_angle_deg": [0, 10], "thickness_mm": [1, 2], "transmission": [0.5, 0.2], "energy_kev": 60},
        {"fan_angle_deg": [0, 10], "transmission": [0.5, 0.2]},
        {"fan_angle_deg": [0, 10], "transmission": [0.5, 0.0], "energy_kev": 60},
        {"lateral_mm": [0, 10], "thickness_mm": [1, 2]},
        {"fan_angle_deg": [0, 10], "lateral_mm": [0, 10], "thickness_mm": [1, 2], "distance_mm": 90},
    ],
)
def test_half_described_bowties_are_refused(wrong):
    with pytest.raises(InputError, match="expected"):
        Bowtie.make({"material": "aluminum", **wrong})


def test_realistic_scanner_reads_air_below_saturation():
    protocol = load_protocol("realistic_chest")
    _, spectrum = detected_spectrum(protocol)
    angle = cell_solid_angle(protocol, row_mm=[0.0]).to_numpy()[0]
    highest = (spectrum.sum(axis=1) * angle * 1e6).max() * 0.81 * protocol.mas / 984
    assert highest < protocol.scanner.detector.electronics.saturation_kev
