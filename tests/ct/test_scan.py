"""Readings against sums over energies, noise against theory, determinism, row windows, wrong input."""

import numba
import numpy as np
import pytest
import xarray as xr
from scan_cases import small_phantom, small_protocol, small_trajectory

from twinlab.ct.corrections import water_correction
from twinlab.ct.detector import Extra, detected, detected_spectrum
from twinlab.ct.paths import line_integrals
from twinlab.ct.sampling import sub_samples
from twinlab.ct.scan import acquire
from twinlab.ct.stream import scan_phantom
from twinlab.kernels.project import project_reference
from twinlab.physics.attenuation import linear_attenuation_per_mm, mass_attenuation
from twinlab.scanner import Sampling, cell_solid_angle
from twinlab.scanner.second import switched_protocols, switched_trajectory, switched_views
from twinlab.schema import InputError


@pytest.fixture(scope="module")
def protocol():
    return small_protocol()


@pytest.fixture(scope="module")
def paths(protocol):
    return line_integrals(small_phantom(), protocol, small_trajectory(protocol))


@pytest.fixture(scope="module")
def signals(paths, protocol):
    return detected(paths, protocol)


def per_material(phantom, protocol, trajectory):
    """Path of every material [g/cm2], one ray at a time."""
    material, density = phantom["material"].to_numpy(), phantom["density"].to_numpy()
    volumes = np.stack([np.where(material == m, density, 0.0) for m in range(phantom.sizes["material_id"])])
    flat = protocol.scanner.detector.shape == "flat"
    channel = protocol.scanner.channel_positions_mm() if flat else protocol.scanner.fan_angles_rad()
    return project_reference(
        volumes.astype(np.float32),
        spacing_mm=(5.0, 5.0, 5.0),
        origin_mm=tuple(float(phantom[a][0]) for a in "zyx"),
        view_angle_rad=trajectory["view_angle"].to_numpy(),
        source_z_mm=trajectory["source_z"].to_numpy(),
        source_to_isocentre_mm=541.0,
        source_to_detector_mm=949.0,
        row_mm=protocol.row_positions_mm(),
        **{"u_mm" if flat else "fan_angle_rad": channel},
    )


@pytest.mark.parametrize("shape", ["arc", "flat"])
@pytest.mark.parametrize("kv", [80.0, 140.0])
@pytest.mark.parametrize(
    ("third", "density"), [("bone_cortical", 1.92), ("blood+iodine_20mg_ml", 1.08)], ids=["bone", "iodine"]
)
def test_signal_and_variance_are_sums_over_energies(shape, kv, third, density):
    protocol = small_protocol(shape=shape, kv=kv)
    names = ("air", "water", third)
    phantom = small_phantom(names, (0.001205, 1.0, density))
    trajectory = small_trajectory(protocol).isel(view=slice(0, 36, 5))
    found = detected(line_integrals(phantom, protocol, trajectory), protocol)
    energy, spectrum = detected_spectrum(protocol)
    path = per_material(phantom, protocol, trajectory).astype(float)
    transmission = np.exp(-np.einsum("mvrc,me->vrce", path, mass_attenuation(list(names), energy)))
    gain = cell_solid_angle(protocol).to_numpy() * 1e6
    signal = gain * np.einsum("vrce,ce->vrc", transmission, spectrum)
    second = gain * np.einsum("vrce,ce->vrc", transmission, spectrum * energy)
    # basis 2e-4 at worst, quadrature 2e-5, float32 1e-5
    assert np.abs(found["signal"] / signal - 1).max() < 2.5e-4
    assert np.abs(found["signal_variance"] / second - 1).max() < 5e-4
    assert found["air_signal"].to_numpy() == pytest.approx(gain * spectrum.sum(axis=1), rel=1e-6)


def test_noise_free_water_reads_its_attenuation(protocol):
    phantom = small_phantom(("air", "water"), (0.001205, 1.0))
    trajectory = small_trajectory(protocol)
    paths = line_integrals(phantom, protocol, trajectory)
    scan = acquire(paths, protocol, seed=0, noise=False)
    path = per_material(phantom, protocol, trajectory)
    water = scan.attrs["mu_water_per_mm"] * 10.0 * path[1].astype(float)
    air = (
        linear_attenuation_per_mm("air", [scan.attrs["reference_kev"]], density_g_cm3=1.0)[0] * 10.0 * path[0]
    )
    # Air is not water: its own hardening is seen at 1e-4 of 0.5 g/cm2 at most
    assert np.abs(scan["projection"] - water - air).max() < 3e-4
    assert scan["projection"].max() > 4.0


def test_noise_has_the_variance_that_is_returned(paths, protocol, signals):
    quiet = acquire(paths, protocol, seed=5, noise=False, signals=signals)
    runs = np.stack(
        [
            acquire(paths, protocol, seed=5, realisation=i, signals=signals)["projection"].to_numpy()
            for i in range(40)
        ]
    )
    z = (runs - quiet["projection"].to_numpy()) / np.sqrt(quiet["variance"].to_numpy())
    n = z.size
    # 4 sigma, plus the logarithm's own second order, half the relative variance of the faintest readings
    bias = float(np.sqrt(quiet["variance"]).max())
    assert abs(z.mean()) < 4 / np.sqrt(n) + bias
    assert z.var() == pytest.approx(1.0, abs=4 * np.sqrt(2 / n) + bias**2)
    ray = runs.var(axis=0, ddof=1) / quiet["variance"].to_numpy()
    assert ray.std() == pytest.approx(np.sqrt(2 / 39), rel=0.1)  # every ray by itself, not only the mean


def test_variance_is_compound_poisson_plus_electronic(paths, protocol, signals):
    scan = acquire(paths, protocol, seed=0, signals=signals, mas=50.0)
    per_view = 50.0 / 36
    mean = per_view * signals["signal"].to_numpy().astype(float)
    total = per_view * signals["signal_variance"].to_numpy().astype(float) + 200.0**2
    air = per_view * signals["air_signal"].to_numpy()
    raw = -np.log(mean / air)
    correction = water_correction(protocol)
    polynomial, limit = correction["water_polynomial"].to_numpy(), correction["raw_max"].to_numpy()
    power = np.arange(polynomial.shape[1])
    x = raw / limit
    assert x.max() < 1
    slope = (polynomial * (power + 1) * x[..., None] ** power).sum(axis=-1)
    assert scan["variance"].to_numpy() == pytest.approx(slope**2 * total / mean**2, rel=1e-4)


def test_relative_noise_falls_as_root_of_mas(paths):
    protocol = small_protocol(noise_kev=0.0)
    signals = detected(paths, protocol)
    low = acquire(paths, protocol, seed=1, mas=20.0, signals=signals)
    high = acquire(paths, protocol, seed=1, mas=320.0, signals=signals)
    ratio = np.sqrt(low["variance"] / high["variance"])
    assert ratio.to_numpy() == pytest.approx(np.full(ratio.shape, 4.0), rel=1e-5)


def test_output_factor_counts_as_mas(paths, protocol):
    more = detected(paths, protocol, output_factor=1.25)
    assert more["signal"].to_numpy() == pytest.approx(
        1.25 * detected(paths, protocol)["signal"].to_numpy(), rel=1e-6
    )


def test_starved_rays_stay_finite_and_clipped():
    protocol = small_protocol(noise_kev=500.0)
    phantom = small_phantom(("air", "water", "copper"), (0.001205, 1.0, 8.96))
    paths = line_integrals(phantom, protocol, small_trajectory(protocol))
    scan = acquire(paths, protocol, seed=0, mas=1.0)
    assert np.isfinite(scan["projection"]).all()
    assert np.isfinite(scan["variance"]).all()
    air = float(detected(paths, protocol)["air_signal"].min()) / 36
    # nothing reads less than a tenth of the electronic noise; the water correction stretches the logarithm
    assert float(scan["projection"].max()) < 1.6 * np.log(air / 50.0) + 5.0


def test_seed_names_the_noise(paths, protocol, signals):
    first = acquire(paths, protocol, seed=7, signals=signals)
    assert acquire(paths, protocol, seed=7)["projection"].identical(first["projection"])
    for other in ({"seed": 8}, {"seed": 7, "realisation": 1}, {"seed": 7 + 2**40}):
        assert not np.array_equal(
            acquire(paths, protocol, signals=signals, **other)["projection"], first["projection"]
        )


@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="needs two threads (NUMBA_NUM_THREADS)")
def test_threads_do_not_matter(protocol):
    found = []
    before = numba.get_num_threads()
    try:
        for n in (1, 2):
            numba.set_num_threads(n)
            paths = line_integrals(small_phantom(), protocol, small_trajectory(protocol))
            found.append(acquire(paths, protocol, seed=3)["projection"].to_numpy())
    finally:
        numba.set_num_threads(before)
    assert np.array_equal(*found)


def test_row_window(paths, protocol):
    lo = np.tile([1, 2, 0], 12)
    window = line_integrals(small_phantom(), protocol, small_trajectory(protocol), rows=(lo, 3))
    row = np.arange(4)
    chosen = (row >= lo[:, None]) & (row < 3)
    whole = acquire(paths, protocol, seed=2)
    part = acquire(window, protocol, seed=2)
    # the same noise, and line integrals that differ by float32 rounding only
    assert np.abs(part["projection"].to_numpy() - whole["projection"].to_numpy())[chosen].max() < 1e-4
    assert np.abs(part["projection"].to_numpy()[~chosen]).max() == 0.0


def test_extra_object_on_some_rays(paths, protocol):
    energy = np.arange(10.0, 151.0)
    mu = 10.0 * linear_attenuation_per_mm("liver", energy) * 0.1
    chord = np.zeros(paths["path"].shape[1:], np.float32)
    chord[3:9, 1:3, 30:33] = 1.5
    dense = detected(paths, protocol, extra=Extra(chord, energy, mu))
    plain = detected(paths, protocol)
    changed = chord > 0
    assert np.array_equal(dense["signal"].to_numpy() != plain["signal"].to_numpy(), changed)
    ray = np.flatnonzero(changed)
    sparse = detected(paths, protocol, extra=Extra(np.full(ray.size, 1.5), energy, mu, ray=ray))
    assert sparse["signal"].identical(dense["signal"])
    own, spectrum = detected_spectrum(protocol)
    basis_mu = paths["mixing"].to_numpy() @ mass_attenuation(
        [str(n) for n in paths["mixed_material"].values], own
    )
    view, row, channel = np.argwhere(changed)[10]
    transmission = np.exp(-paths["path"].to_numpy()[:, view, row, channel] @ basis_mu)
    expected = (transmission * np.exp(-1.5 * np.interp(own, energy, mu)) * spectrum[channel]).sum()
    expected /= (transmission * spectrum[channel]).sum()
    found = float(dense["signal"][view, row, channel] / plain["signal"][view, row, channel])
    assert found == pytest.approx(expected, rel=5e-5)  # two quadratures


def test_geometry_travels_with_the_projections(paths, protocol):
    scan = acquire(paths, protocol, seed=0)
    assert {"fan_angle", "row"} <= set(scan.coords)
    for name in (
        "source_to_isocentre_mm",
        "source_to_detector_mm",
        "isocentre_x_mm",
        "views_per_rotation",
        "mode",
    ):
        assert name in scan.attrs
    flat = small_protocol(shape="flat")
    scan = acquire(line_integrals(small_phantom(), flat, small_trajectory(flat)), flat, seed=0)
    assert "u" in scan.coords
    assert "fan_angle" not in scan.coords


def test_refuses(paths, protocol):
    phantom, trajectory = small_phantom(), small_trajectory(protocol)
    with pytest.raises(InputError, match="density"):
        line_integrals(phantom.drop_vars("density"), protocol, trajectory)
    with pytest.raises(InputError, match="rows"):
        line_integrals(phantom, protocol, trajectory, rows=(0, 5))
    with pytest.raises(InputError, match="one per view"):
        line_integrals(phantom, protocol, trajectory, rows=([0, 1], 4))
    with pytest.raises(InputError, match="n_basis"):
        line_integrals(phantom, protocol, trajectory, n_basis=7)
    uneven = phantom.assign_coords(z=[0.0, 1, 2, 3, 4, 5, 6, 8])
    with pytest.raises(InputError, match="even"):
        line_integrals(uneven, protocol, trajectory)
    with pytest.raises(InputError, match="scanner"):
        detected(paths, small_protocol(shape="flat"))
    with pytest.raises(InputError, match="output_factor"):
        detected(paths, protocol, output_factor=0.0)
    with pytest.raises(InputError, match="mas"):
        acquire(paths, protocol, seed=0, mas=-1.0)
    with pytest.raises(InputError, match="seed"):
        acquire(paths, protocol, seed=-1)
    with pytest.raises(InputError, match="shape"):
        detected(paths, protocol, extra=Extra(np.zeros(3), np.array([10.0, 150.0]), np.ones(2)))
    with pytest.raises(InputError, match="path"):
        detected(xr.Dataset(), protocol)


def test_refuses_a_second_voltage(paths, protocol):
    two = protocol.replace(second_kv=80)
    for work in (
        lambda: detected(paths, two),
        lambda: acquire(paths, two, seed=1),
        lambda: scan_phantom(small_phantom(), two, trajectory=small_trajectory(two), seed=1),
    ):
        with pytest.raises(InputError, match=r"second\.switched_protocols.*second\.second_protocol"):
            work()
    switched = switched_trajectory(two, small_trajectory(two))
    for work in (
        lambda: scan_phantom(small_phantom(), protocol, trajectory=switched, seed=1),
        lambda: acquire(paths.assign(tube_kv=switched["tube_kv"]), protocol, seed=1),
    ):
        with pytest.raises(InputError, match=r"tube_kv.*switched_views"):
            work()
    for setting, views in zip(switched_protocols(two), switched_views(switched), strict=True):
        scan = scan_phantom(small_phantom(), setting, trajectory=views, seed=1)
        assert scan.attrs["kv"] == setting.kv


def test_refuses_one_point_of_a_sampling(paths, protocol):
    fine = protocol.replace(sampling=Sampling(cell_channel=2))
    with pytest.raises(InputError, match=r"2 sampling points"):
        acquire(paths, fine, seed=1)
    acquire(paths, fine, seed=1, signals=detected(paths, fine))
    stated = line_integrals(small_phantom(), fine, small_trajectory(fine), sample=sub_samples(fine)[0])
    acquire(stated, fine, seed=1)
