"""The attenuation basis against sums over energies with every material by itself."""

from itertools import pairwise

import numpy as np
import pytest
from scan_cases import small_phantom, small_protocol, small_trajectory

from twinlab.ct.basis import (
    attenuation_basis,
    choose_basis,
    mass_paths,
    spectral_weights,
    transmission_error,
)
from twinlab.ct.detector import detected, detected_spectrum, energy_quadrature
from twinlab.ct.paths import line_integrals, scan_basis
from twinlab.phantom.shapes import Box
from twinlab.physics.attenuation import mass_attenuation
from twinlab.physics.materials import get as density
from twinlab.scanner import Protocol
from twinlab.schema import InputError

TISSUES = (
    "air", "water", "lung", "adipose", "muscle", "liver", "blood", "skin", "kidney", "brain", "cartilage",
    "red_marrow", "yellow_marrow", "bone_spongiosa", "bone_cortical",
)  # fmt: skip
WITH_IODINE = (*TISSUES, "blood+iodine_5mg_ml", "blood+iodine_20mg_ml")


@pytest.fixture(scope="module")
def spectra():
    """Detected spectra 80 to 140 kV on one energy axis, at the central ray and behind the bowtie's edge."""
    found = [detected_spectrum(small_protocol(kv=kv)) for kv in (80.0, 100.0, 120.0, 140.0)]
    energy = np.unique(np.concatenate([e for e, _ in found]))
    rows = np.zeros((8, energy.size))
    for i, (own, spectrum) in enumerate(found):
        rows[2 * i : 2 * i + 2, np.searchsorted(energy, own)] = spectrum[[32, 0]]
    return energy, rows


@pytest.mark.parametrize(
    ("materials", "n_basis"), [(TISSUES, 3), (WITH_IODINE, 4)], ids=["tissues", "iodine"]
)
def test_transmission_within_2e_4(spectra, materials, n_basis):
    energy, spectrum = spectra
    basis = choose_basis(materials, energy_kev=energy, spectra=spectrum)
    assert basis.basis_mu.shape[0] == n_basis
    mu = mass_attenuation(list(materials), energy)
    # Random mixtures behind 0 to 50 cm of water, up to 12 mean free paths at 60 keV
    rng = np.random.default_rng(0)
    thickest = mass_paths(materials)[:, :-1].max(axis=0)
    paths = rng.dirichlet(np.full(len(materials), 0.3), 500) * thickest
    paths[:, materials.index("water")] += rng.uniform(0.0, 50.0, 500)
    paths = paths[paths @ mu[:, np.argmin(np.abs(energy - 60.0))] < 12.0]
    assert len(paths) > 200
    # 2e-4 relative transmission is 0.05 HU in a line integral of 4; water is itself in the basis here
    assert transmission_error(mu, basis.coefficients @ basis.basis_mu, spectrum, paths) < 2e-4


def test_water_alone_needs_one_function(spectra):
    energy, spectrum = spectra
    basis = choose_basis(["water"], energy_kev=energy, spectra=spectrum)
    assert basis.basis_mu.shape[0] == 1
    assert basis.error < 1e-12
    assert basis.coefficients == pytest.approx(np.ones((1, 1)))


def test_error_falls_with_every_function(spectra):
    energy, spectrum = spectra
    error = [
        choose_basis(WITH_IODINE, energy_kev=energy, spectra=spectrum, n_basis=n).error
        for n in (1, 2, 3, 4, 5)
    ]
    assert all(b < 0.7 * a for a, b in pairwise(error))
    assert error[-1] < 3e-5


def test_mixing_makes_the_basis_at_any_energy(spectra):
    energy, spectrum = spectra
    basis = choose_basis(TISSUES, energy_kev=energy, spectra=spectrum)
    assert basis.mixing @ mass_attenuation(list(TISSUES), energy) == pytest.approx(basis.basis_mu, rel=1e-9)
    between = np.array([41.3, 77.7])
    approximate = basis.coefficients @ basis.mixing @ mass_attenuation(list(TISSUES), between)
    assert approximate == pytest.approx(mass_attenuation(list(TISSUES), between), rel=1e-3)


def test_a_material_named_twice_adds_no_function(spectra):
    energy, spectrum = spectra
    basis = choose_basis(["water", "water", "muscle"], energy_kev=energy, spectra=spectrum, n_basis=3)
    assert basis.basis_mu.shape[0] == 2
    assert np.isfinite(basis.coefficients).all()


def test_scan_basis_serves_all_stations():
    basis = scan_basis(["air", "muscle", "titanium"], small_protocol())
    assert basis.error <= 2e-4
    assert basis.energy_kev[-1] > 138


def test_attenuation_basis_is_the_documented_decomposition(spectra):
    energy, spectrum = spectra
    weights = spectral_weights(spectrum, energy)
    basis_mu, coefficients = attenuation_basis(TISSUES, energy, weights, 3)
    chosen = choose_basis(TISSUES, energy_kev=energy, spectra=spectrum, n_basis=3)
    assert basis_mu == pytest.approx(chosen.basis_mu)
    assert coefficients == pytest.approx(chosen.coefficients)


def test_quadrature_replaces_the_sum_over_energies(spectra):
    energy, _ = spectra
    own, spectrum = detected_spectrum(small_protocol())
    basis = scan_basis(list(WITH_IODINE), small_protocol())
    mu = basis.mixing @ mass_attenuation(list(WITH_IODINE), own)
    rows = mass_paths(WITH_IODINE)
    paths = (
        rows[:, :-1] @ basis.coefficients + rows[:, -1:] @ basis.coefficients[[WITH_IODINE.index("water")]]
    )
    rule = energy_quadrature(mu, spectrum, spectrum * own, paths)
    assert rule.node.size <= 16
    assert rule.error <= 5e-5
    true = np.exp(-paths @ mu) @ (spectrum * own).T
    short = np.exp(-paths @ mu[:, rule.node]) @ rule.weight2
    # the second moment is held to the same nodes; noise needs 1e-3
    assert np.abs(short / true - 1).max() < 2e-4
    assert energy.size > 0


WITH_STEEL = ("air", "water", "adipose", "muscle", "bone_cortical", "blood+iodine_20mg_ml", "iron")
BEHIND_WATER_CM = {
    "water": (0.0,),
    "bone_cortical": (1.0, 6.0),
    "blood+iodine_20mg_ml": (1.0, 5.0),
    "iron": (0.1, 0.5),
}


@pytest.mark.parametrize("kv", [70.0, 100.0, 150.0])
def test_readings_behind_50_cm_of_water_and_5_mm_of_steel(kv):
    """The whole chain, basis and quadrature, against a sum over all energies: at most 0.1 %."""
    data = small_protocol().model_dump()
    data["scanner"]["tube"]["kv_stations"] = (70, 80, 100, 120, 140, 150)
    protocol = Protocol.make({**data, "kv": kv})
    shapes = [
        Box(name=name, material=name, size_mm={"x": 9, "y": 9, "z": 9}, centre_mm={"x": 20.0 * i})
        for i, name in enumerate(WITH_STEEL)
    ]
    scan = small_trajectory(protocol).isel(view=slice(0, 10))
    phantom = small_phantom(("air", "water"), (0.001205, 1.0))
    paths = line_integrals(phantom, protocol, scan, rows=(0, 1), objects=shapes)
    names = [str(name) for name in paths["mixed_material"].values]
    assert set(names) == set(WITH_STEEL)
    cases = [
        {"water": water, **({name: cm} if name != "water" else {})}
        for name, lengths in BEHIND_WATER_CM.items()
        for cm in lengths
        for water in (0.0, 5.0, 15.0, 30.0, 50.0)
    ]
    mass = np.array([[case.get(name, 0.0) * density(name).density_g_cm3 for name in names] for case in cases])
    coefficients = scan_basis(names, protocol).coefficients
    # one case a row and view, in every channel
    path = np.zeros(paths["path"].shape, np.float32)
    path.reshape(path.shape[0], -1, path.shape[-1])[:, : len(cases)] = (mass @ coefficients).T[..., None]
    window = np.full(10, 4)
    paths = paths.assign(
        path=paths["path"].copy(data=path),
        row_lo=paths["row_lo"] * 0,
        row_hi=paths["row_hi"].copy(data=window),
    )
    found = detected(paths, protocol)
    energy, spectrum = detected_spectrum(protocol)
    exact = np.exp(-mass @ mass_attenuation(names, energy)) @ spectrum.T / spectrum.sum(axis=1)
    signal = (found["signal"] / found["air_signal"]).transpose("view", "row", "channel").to_numpy()
    error = np.abs(signal.reshape(-1, signal.shape[-1])[: len(cases)] / exact - 1.0)
    assert error.max() < 1e-3
    # what was measured: less than half of that in 20 mean free paths
    assert np.median(error) < 1e-4


@pytest.mark.parametrize(("n_basis", "weights"), [(0, 1.0), (9, 1.0), (1, -1.0), (1, 0.0)])
def test_refuses(n_basis, weights):
    with pytest.raises(InputError):
        attenuation_basis(["water", "muscle"], [40.0, 60.0], np.full(2, weights), n_basis)
