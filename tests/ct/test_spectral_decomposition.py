"""Iodine, virtual monoenergetic numbers and their noise, from bins, from two voltages, from images."""

import array_api_strict
import numpy as np
import pytest
import xarray as xr
from spectral_cases import INSERTS, coarse, grid, inserts, means, without_dead_time

from twinlab import ct
from twinlab.ct.detector import detected_spectrum
from twinlab.ct.spectral import (
    acquire_counts,
    basis_image,
    bin_projections,
    decompose,
    decompose_images,
    iodine_calibration,
    iodine_sensitivity,
    material_projections,
    measurements_of_bins,
    measurements_of_scans,
    monoenergetic_projections,
    path_covariance,
    virtual_monoenergetic,
    virtual_non_contrast,
)
from twinlab.ct.spectral.decomposition import _model
from twinlab.kernels.decompose_ray import MOST, solve_ray
from twinlab.physics.attenuation import linear_attenuation_per_mm
from twinlab.scanner import trajectory
from twinlab.scanner.models import Sampling
from twinlab.scanner.second import (
    aligned,
    second_protocol,
    second_trajectory,
    switched_protocols,
    switched_trajectory,
    switched_views,
)
from twinlab.schema import InputError, label

RANGE = (-0.2, 0.2)


@pytest.fixture(scope="module")
def dual():
    """Noise-free scans of 20 cm at 80 and 140 kV along the same rays, as (projections, protocol)."""
    protocol = coarse("qc_axial")
    paths = ct.line_integrals(inserts()[0], protocol, trajectory(protocol, z_range_mm=RANGE))
    settings = [protocol.replace(kv=kv) for kv in (80, 140)]
    return [(ct.acquire(paths, setting, seed=1, noise=False), setting) for setting in settings]


@pytest.fixture(scope="module")
def counting():
    """Protocol, line integrals, and noise-free counts of 20 cm with a photon-counting detector."""
    protocol = coarse("photon_counting_qc")
    paths = ct.line_integrals(inserts()[0], protocol, trajectory(protocol, z_range_mm=RANGE))
    return protocol, paths, acquire_counts(paths, protocol, seed=1, noise=False)


@pytest.fixture(scope="module")
def basis(counting):
    protocol, _, counts = counting
    return decompose(measurements_of_bins(counts, protocol))


def error_mg_ml(basis, protocol, radius_mm=100.0) -> np.ndarray:
    image = basis_image(basis, "iodine", protocol, grid=grid(radius_mm))
    return means(image, inserts(radius_mm=radius_mm)[1]) - np.array(INSERTS)


def test_iodine_from_two_voltages_in_20_cm(dual):
    found = decompose(measurements_of_scans(dual))
    assert found.attrs["unconverged"] == 0
    # the bar is 0.2 mg/ml; 0.1 leaves half of it to the coarse sampling of this test (256 channels)
    assert np.abs(error_mg_ml(found, dual[0][1])).max() < 0.1


@pytest.mark.slow
def test_iodine_from_two_voltages_in_32_cm():
    protocol = coarse("qc_axial", channels=444, views=492)
    phantom = inserts(radius_mm=160.0)[0]
    paths = ct.line_integrals(phantom, protocol, trajectory(protocol, z_range_mm=RANGE))
    scans = [
        (ct.acquire(paths, setting, seed=1, noise=False), setting)
        for setting in (protocol.replace(kv=80), protocol.replace(kv=140))
    ]
    assert np.abs(error_mg_ml(decompose(measurements_of_scans(scans)), protocol, 160.0)).max() < 0.2


def test_iodine_from_energy_bins(counting, basis):
    assert basis.attrs["unconverged"] == 0
    assert np.abs(error_mg_ml(basis, counting[0])).max() < 0.2


def test_water_is_water_beside_the_iodine(counting, basis):
    water = basis_image(basis, "water", counting[0], grid=grid())
    assert water.attrs["units"] == "g cm-3"
    # a coarse scan; density to 0.5 %, 5 HU in the virtual non-contrast image
    assert means(water, inserts()[1]) == pytest.approx(np.ones(len(INSERTS)), abs=0.005)
    assert np.abs(means(virtual_non_contrast(water), inserts()[1])).max() < 5.0


@pytest.mark.parametrize("kev", [40.0, 70.0, 140.0])
def test_monoenergetic_numbers_of_inserts(counting, basis, kev):
    protocol = counting[0]
    scan = monoenergetic_projections(basis, kev)
    image = ct.reconstruct(scan, protocol, grid=grid())
    water = linear_attenuation_per_mm("water", [kev])[0]
    truth = []
    for amount in INSERTS:
        name = f"water+iodine_{amount:g}mg_ml" if amount else "water"
        mu = linear_attenuation_per_mm(name, [kev], density_g_cm3=1.0 + amount / 1000.0)[0]
        truth.append(1000.0 * (mu / water - 1.0))
    off = means(image, inserts()[1]) - truth
    # 3 HU and 1 % of the contrast, of which the coarse sampling takes 0.3 to 0.5 %
    assert (np.abs(off) < 3.0 + 0.01 * np.abs(truth)).all(), off
    parts = {name: basis_image(basis, name, protocol, grid=grid()) for name in ("water", "iodine")}
    assert np.abs(virtual_monoenergetic(parts, kev) - image).max() < 0.05  # float32 of two reconstructions


# Without dead time only the covariance between bins is approximate, taken behind 20 cm of water for all rays: 1 %.
# With it, 0.36 pulses a dead time in air, its undoing moves noise between bins: 5 %.
@pytest.mark.parametrize(("dead_time", "tolerance"), [(0.0, 0.01), (12.6, 0.05)])
def test_noise_of_the_decomposition_is_the_bound(counting, basis, dead_time, tolerance):
    protocol, paths, _ = counting
    if dead_time == 0.0:
        protocol = without_dead_time(protocol)
        quiet = acquire_counts(paths, protocol, seed=1, noise=False)
        basis = decompose(measurements_of_bins(quiet, protocol))
    noisy = decompose(measurements_of_bins(acquire_counts(paths, protocol, seed=7), protocol))
    assert noisy.attrs["unconverged"] == 0
    off = (noisy["basis_path"] - basis["basis_path"]).to_numpy()
    covariance = basis["basis_covariance"].to_numpy()
    z = [off[k] / np.sqrt(covariance[k, k]) for k in range(2)]
    assert [v.std() for v in z] == pytest.approx([1.0, 1.0], abs=tolerance)  # 184,000 rays: 0.2 %
    assert max(abs(v.mean()) for v in z) < 0.02
    expected = (covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1])).mean()
    assert expected < -0.6  # water and iodine trade off against each other
    assert np.corrcoef(z[0].ravel(), z[1].ravel())[0, 1] == pytest.approx(expected, abs=tolerance)
    for kev in (50.0, 70.0, 100.0):
        quiet, loud = (monoenergetic_projections(b, kev) for b in (basis, noisy))
        z_kev = (loud["projection"] - quiet["projection"]) / np.sqrt(quiet["variance"])
        assert float(z_kev.std()) == pytest.approx(1.0, abs=1.5 * tolerance), kev


def test_monoenergetic_noise_has_a_least_energy(basis):
    """Noise anticorrelates in the basis, so that one energy has least: 60 to 80 keV at 120 kV."""
    ray = {"view": 10, "row": 0, "channel": 128}
    energies = np.arange(40.0, 191.0, 10.0)
    noise = []
    for kev in energies:
        scan = monoenergetic_projections(basis, kev)
        noise.append(float(np.sqrt(scan["variance"].isel(ray))) / scan.attrs["mu_water_per_mm"])
    best = energies[int(np.argmin(noise))]
    assert 55.0 <= best <= 85.0
    assert noise[0] > 2.0 * min(noise)
    assert noise[-1] > 1.2 * min(noise)


def test_the_bound_is_that_of_two_equations(dual):
    """With as many readings as materials the bound is error propagation through the inverse of the slopes."""
    spectra = [detected_spectrum(protocol) for _, protocol in dual]
    middle = [(energy, spectrum[128]) for energy, spectrum in spectra]
    at = np.array([20.0, 0.02])
    found = path_covariance(middle, quanta=[1e5, 3e5], path_g_cm2=at)
    step = np.array([1e-3, 1e-6])

    def logarithms(path):
        mu = [np.stack([10 * linear_attenuation_per_mm("water", e), _iodine(e)]) for e, _ in middle]
        return np.array([np.log(s @ np.exp(-path @ m)) for (_, s), m in zip(middle, mu, strict=True)])

    slope = np.stack(
        [
            (logarithms(at + step * k) - logarithms(at - step * k)) / (2 * step.sum(where=k > 0))
            for k in np.eye(2)
        ],
        1,
    )
    through = np.exp(logarithms(at) - np.log([s.sum() for _, s in middle]))
    inverse = np.linalg.inv(slope)
    expected = inverse @ np.diag(1.0 / (np.array([1e5, 3e5]) * through)) @ inverse.T
    assert found == pytest.approx(expected, rel=1e-4)
    scan = decompose(measurements_of_scans(dual))["basis_covariance"]
    assert np.isfinite(scan).all()
    assert (scan.to_numpy()[0, 0] > 0).all()


def _iodine(energy):
    from twinlab.physics.attenuation import mass_attenuation

    return mass_attenuation("iodine", energy)[0]


def test_more_bins_tell_more(counting):
    """Four bins bound iodine noise lower than the two that they make when merged."""
    from twinlab.ct.spectral.counted import bin_spectra

    protocol = counting[0]
    spectra = bin_spectra(protocol)
    four = [(spectra.energy_kev, s[0, 128]) for s in spectra.bins]
    two = [
        (spectra.energy_kev, spectra.bins[:2, 0, 128].sum(0)),
        (spectra.energy_kev, spectra.bins[2:, 0, 128].sum(0)),
    ]
    sd = [
        np.sqrt(path_covariance(s, quanta=[1e6 * c.sum() for _, c in s], path_g_cm2=[20.0, 0.0])[1, 1])
        for s in (four, two)
    ]
    assert 0.5 < sd[0] / sd[1] < 1.0


def switched(protocol):
    """Noise-free scans of both voltages, the second interpolated to the views of the first."""
    views = switched_views(switched_trajectory(protocol, trajectory(protocol, z_range_mm=RANGE)))
    settings = switched_protocols(protocol)
    scans = [
        ct.scan_phantom(inserts()[0], setting, trajectory=own, seed=1, noise=False)
        for setting, own in zip(settings, views, strict=True)
    ]
    return [(scans[0], settings[0]), (aligned(scans[1], scans[0]), settings[1])]


def test_iodine_with_a_switched_voltage():
    """240 views of each voltage, read as scanners do: over the width of a cell and the time of a view.

    Rays without width miss or meet the corners of voxels in one view and not in the next, which no interpolation
    between views can know: 0.27 mg/ml for any order of it, half of it with 360 views.
    """
    protocol = coarse("qc_axial", views=480, kv=80, second_kv=140)
    both = switched(protocol.replace(sampling=Sampling(cell_channel=3, view=3)))
    # the bar is 0.2; the rest is that of two scans along the same rays, 0.05
    assert np.abs(error_mg_ml(decompose(measurements_of_scans(both)), both[0][1])).max() < 0.1


def only_one(rod: int) -> xr.Dataset:
    """The phantom with water in all rods but one."""
    phantom = inserts()[0]
    names = phantom["material_name"].to_numpy().copy()
    others = [k for k in range(2, 8) if k != rod]
    names[others] = "water"
    density = phantom["density"].to_numpy().copy()
    density[np.isin(phantom["material"], others)] = 1.0
    return phantom.assign(
        material_name=phantom["material_name"].copy(data=names),
        density=phantom["density"].copy(data=density),
    )


@pytest.mark.parametrize("key", ["qc_axial", "photon_counting_qc"])
def test_calibrated_iodine_of_one_rod_in_images(key):
    """The calibration, parallel rays of one spectrum, against the whole fan-beam scan of 15 mg/ml and of 5."""
    protocol = coarse(key)
    settings = [protocol.replace(kv=kv) for kv in (80, 140)] if key == "qc_axial" else protocol
    factors = iodine_calibration(settings, diameter_mm=200.0)
    assert (factors[:, 1] < 0).all()
    for rod in (5, 7):
        paths = ct.line_integrals(only_one(rod), protocol, trajectory(protocol, z_range_mm=RANGE))
        if key == "qc_axial":
            scans = [(ct.acquire(paths, s, seed=1, noise=False), s) for s in settings]
        else:
            counts = acquire_counts(paths, protocol, seed=1, noise=False)
            scans = [(scan, protocol) for scan in bin_projections(counts, protocol)]
        images = [ct.reconstruct(scan, s, grid=grid()) for scan, s in scans]
        noise = None if key == "qc_axial" else [10, 8, 20, 9]
        found = means(decompose_images(images, factors, noise_hu=noise)["iodine"], inserts()[1])[rod - 2]
        # channels of 2 mm and voxels of 1.25 mm: 1 %, as from projections
        assert found == pytest.approx(INSERTS[rod - 2], abs=0.015 * INSERTS[rod - 2])


def water_equivalent_mm(images) -> float:
    """Diameter of the water cylinder that attenuates as much as a slice, mean of the images (AAPM report 220)."""
    y, x = images[0]["y"].to_numpy(), images[0]["x"].to_numpy()
    area = [float((image + 1000.0).sum()) / 1000.0 * (y[1] - y[0]) * (x[1] - x[0]) for image in images]
    return 2.0 * float(np.sqrt(np.mean(area) / np.pi))


def test_iodine_from_images(dual, counting):
    """Six rods, which harden the beam for each other: what calibration with one of them leaves."""
    centres = inserts()[1]
    images = [ct.reconstruct(scan, protocol, grid=grid()) for scan, protocol in dual]
    factors = iodine_calibration([p for _, p in dual], diameter_mm=water_equivalent_mm(images))
    found = decompose_images(images, factors)
    off = means(found["iodine"], centres) - INSERTS
    assert np.abs(off).max() < 0.2, (
        off
    )  # the figure wanted; found: 0.107, of which the coarse scan takes 0.05
    protocol, _, counts = counting
    bins = [ct.reconstruct(scan, protocol, grid=grid()) for scan in bin_projections(counts, protocol)]
    factors = iodine_calibration(protocol, diameter_mm=water_equivalent_mm(bins))
    four = decompose_images(bins, factors, noise_hu=[10, 8, 20, 9])
    off = means(four["iodine"], centres) - INSERTS
    assert np.abs(off).max() < 0.2, off  # bins of one voltage: 0.193 found; a body of 201.4 mm
    assert four.attrs["iodine_noise_factor"] > 0.1
    with pytest.raises(InputError, match="a rod inside"):
        iodine_calibration(protocol, diameter_mm=20.0)
    with pytest.raises(InputError, match="up_to_mg_ml"):
        iodine_calibration(protocol, diameter_mm=200.0, up_to_mg_ml=0.0)


def test_rows_of_rays_and_single_rays_agree(counting):
    """The quick solution in float32 against the slow one in float64, in units of the noise; few quanta too."""
    protocol, paths, _ = counting
    few = paths.isel(view=slice(0, 8))
    for mas, most_slow in ((300.0, 0.001), (3.0, 1.0)):
        measured = measurements_of_bins(acquire_counts(few, protocol, seed=2, mas=mas), protocol)
        found = decompose(measured)
        assert found.attrs["unconverged"] == 0
        assert found.attrs["slow_rays"] <= most_slow * measured.transmission[0].size
        model = _model(measured, ("water", "iodine"))
        precision, at, inverse = np.linalg.inv(measured.correlation), np.empty(2), np.empty((MOST, MOST))
        work = np.empty((3 + MOST, len(measured.spectra))), np.empty((2 * MOST + 1, MOST))
        for ray in np.random.default_rng(0).integers(0, (8, 2, 256), size=(300, 3)):
            place = (slice(None), *ray)
            assert solve_ray(
                measured.transmission[place].copy(), measured.quanta[place].copy(), model.mu, model.weight[0],
                int(ray[2]), precision, at, inverse, *work,
            )  # fmt: skip
            off = found["basis_path"].to_numpy()[place] - at
            assert (np.abs(off) < 1e-3 * np.sqrt(np.diagonal(inverse)[:2])).all()
    alone = decompose(measured, covariance=False)
    assert "basis_covariance" not in alone
    assert np.array_equal(alone["basis_path"], found["basis_path"])
    half = measurements_of_bins(
        acquire_counts(few, protocol, seed=2, mas=3.0).isel(view=slice(4, 8)), protocol
    )
    assert np.array_equal(decompose(half)["basis_path"], found["basis_path"][:, 4:])  # by blocks of views


def test_sensitivity_of_little_iodine_is_the_ratio_of_attenuations(dual):
    protocol = dual[0][1]
    energy, spectrum = detected_spectrum(protocol)
    behind = spectrum[128] * np.exp(-200.0 * linear_attenuation_per_mm("water", energy))
    slope = (_iodine(energy) @ behind) / (10.0 * linear_attenuation_per_mm("water", energy) @ behind)
    found = iodine_sensitivity(protocol, iodine_g_cm2=1e-4)
    assert found == pytest.approx([slope], rel=1e-3)
    with pytest.raises(InputError, match="of water"):
        iodine_sensitivity(protocol, behind_water_mm=-1.0)
    with pytest.raises(InputError, match="a protocol"):
        iodine_sensitivity([])


def test_iodine_from_two_sources():
    """Each source with its own trajectory, detector, filters and voltage; images combined."""
    first = coarse("dual_energy_abdomen", views=360, mode="axial", pitch=1.0, reconstruction_fov_mm=220)
    second = second_protocol(first)
    path = trajectory(first, z_range_mm=RANGE)
    images = []
    alone = first.replace(second_kv=None)
    for setting, own in ((alone, path), (second, second_trajectory(first, path))):
        paths = ct.line_integrals(inserts()[0], setting, own)
        scan = ct.acquire(paths, setting, seed=1, noise=False)
        images.append(ct.reconstruct(scan, setting, grid=grid()))
    factors = iodine_sensitivity([first, second], behind_water_mm=180.0, iodine_g_cm2=0.024)
    assert factors[0] > 2.5 * factors[1]  # tin parts the spectra further than voltage alone
    off = means(decompose_images(images, factors)["iodine"], inserts()[1]) - INSERTS
    assert (np.abs(off) < 0.1 + 0.07 * np.array(INSERTS)).all(), off  # hardening, as in the test of images


def test_image_algebra_stays_on_its_array_library():
    values = np.random.default_rng(0).normal(size=(2, 3, 4))
    maker = array_api_strict.asarray
    plain = {"water": label("basis_density", values + 1.0), "iodine": label("iodine", values * 5.0)}
    strict = {name: image.copy(data=maker(image.to_numpy())) for name, image in plain.items()}
    one, two = virtual_monoenergetic(plain, 60.0), virtual_monoenergetic(strict, 60.0)
    assert type(two.data).__module__.startswith("array_api_strict")
    assert np.asarray(two.data) == pytest.approx(one.to_numpy(), rel=1e-12)
    hu = [label("hu", values), label("hu", 2.0 * values)]
    strict_hu = [image.copy(data=maker(image.to_numpy())) for image in hu]
    a, b = decompose_images(hu, [40.0, 20.0]), decompose_images(strict_hu, [40.0, 20.0])
    assert np.asarray(b["iodine"].data) == pytest.approx(a["iodine"].to_numpy())
    assert a["iodine"].to_numpy() == pytest.approx(-values / 20.0)  # two equations


def test_refuses(dual, basis, counting):
    with pytest.raises(InputError, match="two scans"):
        measurements_of_scans(dual[:1])
    with pytest.raises(InputError, match="same rays"):
        measurements_of_scans([dual[0], (dual[1][0].isel(view=slice(3, None)), dual[1][1])])
    with pytest.raises(InputError, match="2 to 2"):
        decompose(measurements_of_scans(dual), materials=("water", "iodine", "calcium"))
    with pytest.raises(InputError, match="apart"):
        decompose(measurements_of_scans([dual[0], dual[0]]))
    with pytest.raises(InputError, match="40 to 190"):
        monoenergetic_projections(basis, 20.0)
    with pytest.raises(InputError, match="one of water, iodine"):
        material_projections(basis, "bone_cortical")
    with pytest.raises(InputError, match="integrates energy"):
        measurements_of_bins(counting[2], dual[0][1])
    with pytest.raises(InputError, match="energy-integrating"):
        measurements_of_scans([(dual[0][0], counting[0]), dual[1]])
    with pytest.raises(InputError, match="differ"):
        decompose_images([label("hu", np.zeros((1, 2, 2)))] * 2, [30.0, 30.0])
    with pytest.raises(InputError, match="quanta"):
        path_covariance([([60.0], [1.0])], quanta=[1.0, 2.0], path_g_cm2=[1.0, 0.0])
    with pytest.raises(InputError, match="basis_path"):
        monoenergetic_projections(xr.Dataset(), 70.0)
