"""Counts by energy bin: sums over energies, statistics, determinism, calibration, wrong input."""

import numba
import numpy as np
import pytest
import xarray as xr
from spectral_cases import coarse, inserts, without_dead_time

from twinlab import ct
from twinlab.ct.spectral import acquire_counts, acquisition, bin_projections, counting_response
from twinlab.ct.spectral.counted import count_tables, mean_quantities, pairs_of
from twinlab.physics.attenuation import mass_attenuation
from twinlab.scanner import beam_fluence, cell_solid_angle, trajectory
from twinlab.schema import InputError, label


@pytest.fixture(scope="module")
def protocol():
    return without_dead_time(coarse("photon_counting_qc", channels=64, views=40))


@pytest.fixture(scope="module")
def paths(protocol):
    return ct.line_integrals(
        inserts(spacing_mm=2.5)[0], protocol, trajectory(protocol, z_range_mm=(-0.2, 0.2))
    )


@pytest.fixture(scope="module")
def expected(protocol, paths):
    """Counts and products of a few views, energy by energy, without quadrature."""
    few = paths.isel(view=slice(0, 40, 8))
    fluence = beam_fluence(protocol)
    energy = fluence["energy"].to_numpy()
    response = counting_response(protocol.scanner.detector).interp(energy=energy).fillna(0.0)
    mu = paths["mixing"].to_numpy() @ mass_attenuation(
        [str(n) for n in paths["mixed_material"].values], energy
    )
    through = np.exp(-np.einsum("kvrc,ke->vrce", few["path"].to_numpy().astype(float), mu))
    photons = fluence.to_numpy() * cell_solid_angle(protocol).to_numpy()[..., None] * 1e6 * 0.71 * 300.0 / 40
    return {
        "mean": np.einsum("vrce,rce,be->bvrc", through, photons, response["response"].to_numpy()),
        "air": np.einsum("rce,be->brc", photons, response["response"].to_numpy()),
        "product": np.einsum(
            "vrce,rce,bde->bdvrc", through, photons, response["response_product"][0].to_numpy()
        ),
    }


def test_counts_are_sums_over_energies(protocol, paths, expected):
    found = acquire_counts(paths, protocol, seed=0, noise=False)
    # quadrature 2e-5, float32
    assert np.abs(found["counts"].to_numpy()[:, ::8] / expected["mean"] - 1).max() < 1e-4
    assert found["air_counts"].to_numpy() == pytest.approx(expected["air"], rel=1e-5)
    assert found["threshold"].to_numpy().tolist() == [20, 35, 65, 70]
    tables = count_tables(paths, protocol, output_factor=1.0)
    products = mean_quantities(paths.isel(view=slice(0, 40, 8)), tables)[4:] * 300.0 / 40
    for k, (b, c) in enumerate(pairs_of(4)):
        scale = np.sqrt(expected["mean"][b] * expected["mean"][c])
        assert np.abs(products[k] - expected["product"][b, c]).max() < 1e-3 * scale.max()


def test_noise_has_the_covariance_of_the_response(protocol, paths, expected):
    """Thousands of photons a reading: variance above the mean in the low bins, covariance between bins."""
    runs = np.stack(
        [
            acquire_counts(paths, protocol, seed=3, realisation=i, mas=3.0)["counts"].to_numpy()[:, ::8]
            for i in range(60)
        ]
    )
    assert np.array_equal(runs, np.round(runs))
    mean = expected["mean"] / 100.0
    z = (runs.mean(0) - mean) / np.sqrt(mean / 60 * 1.3)
    assert abs(z.mean()) < 0.05
    assert z.std() < 1.1
    off = runs - runs.mean(0)
    for b, c in pairs_of(4):
        wanted = expected["product"][b, c] / 100.0
        scale = np.sqrt(mean[b] * mean[c])
        found, truth = (off[:, b] * off[:, c] / scale).sum() / 59 / scale.size, (wanted / scale).mean()
        # 640 rays of 60 realisations
        assert found == pytest.approx(truth, abs=4.5 * 1.4 / np.sqrt(60 * scale.size)), (b, c)
    assert (expected["product"][0, 0] / expected["mean"][0]).min() > 1.1  # the test would see Poisson numbers


def test_seed_names_the_noise_whatever_the_blocks(protocol, paths, monkeypatch):
    first = acquire_counts(paths, protocol, seed=4)["counts"]
    monkeypatch.setattr(acquisition, "_BLOCK_BYTES", 4 * 14 * 2 * 64 * 7)  # seven views
    assert np.array_equal(acquire_counts(paths, protocol, seed=4)["counts"], first)
    for other in ({"seed": 5}, {"seed": 4, "realisation": 1}):
        assert not np.array_equal(acquire_counts(paths, protocol, **other)["counts"], first)


@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="needs two threads (NUMBA_NUM_THREADS)")
def test_threads_do_not_matter(protocol, paths):
    found, before = [], numba.get_num_threads()
    try:
        for n in (1, 2):
            numba.set_num_threads(n)
            found.append(acquire_counts(paths, protocol, seed=3)["counts"].to_numpy())
    finally:
        numba.set_num_threads(before)
    assert np.array_equal(*found)


def test_bins_of_water_read_waters_attenuation(protocol):
    phantom = inserts(spacing_mm=2.5, third="sodium")[0]
    water = phantom.assign(
        material_name=phantom["material_name"].copy(data=["air"] + ["water"] * 7),
        density=phantom["density"]
        .where(phantom["material"] == 0, 1.0)
        .astype(np.float32)
        .assign_attrs(phantom["density"].attrs),
    )
    for setting in (
        protocol,
        coarse("photon_counting_qc", channels=64, views=40),
    ):  # without and with pile-up
        paths = ct.line_integrals(water, setting, trajectory(setting, z_range_mm=(-0.2, 0.2)))
        air = paths["mixing"].to_numpy() @ mass_attenuation(
            [str(n) for n in paths["mixed_material"].values], [60.0]
        )
        length = paths["path"].to_numpy().astype(float)
        length = (
            np.einsum("kvrc,k->vrc", length, air[:, 0]) / mass_attenuation("water", [60.0])[0, 0]
        )  # g/cm2
        for scan in bin_projections(acquire_counts(paths, setting, seed=0, noise=False), setting):
            inside = length > 5.0
            ratio = scan["projection"].to_numpy()[inside] / (
                10.0 * scan.attrs["mu_water_per_mm"] * length[inside]
            )
            # the basis and the air on the way: 3e-4; pile-up is undone to first order of itself
            assert np.abs(ratio - 1.0).max() < 1.5e-3
        assert scan.attrs["threshold_kev"] == 70.0


def test_variance_of_projections(protocol, paths):
    quiet = acquire_counts(paths, protocol, seed=0, noise=False)
    base = bin_projections(quiet, protocol)
    z = [[] for _ in base]
    for i in range(6):
        for b, scan in enumerate(
            bin_projections(acquire_counts(paths, protocol, seed=1, realisation=i), protocol)
        ):
            z[b].append((scan["projection"] - base[b]["projection"]) / np.sqrt(base[b]["variance"]))
    for values in z:
        assert float(np.std(values)) == pytest.approx(
            1.0, abs=0.02
        )  # 31,000 values: 0.4 %, and the 20 cm of water


def test_exposure_of_each_view(protocol, paths):
    current = np.linspace(100.0, 300.0, 40)
    modulated = paths.assign(tube_current=label("tube_current", current))
    found = acquire_counts(modulated, protocol, seed=0, noise=False)
    even = acquire_counts(paths, protocol, seed=0, noise=False, mas=200.0)
    assert found["counts"][:, 0].to_numpy() == pytest.approx(0.5 * even["counts"][:, 0].to_numpy(), rel=1e-5)
    assert found.attrs["mas"] == pytest.approx(200.0)
    one, two = (bin_projections(counts, protocol)[2]["projection"] for counts in (found, even))
    assert np.abs(one - two).max() < 1e-4


def test_pile_up_takes_counts_and_moves_them_up(protocol, paths):
    slow = coarse("photon_counting_qc", channels=64, views=40)
    one, two = (acquire_counts(paths, p, seed=0, noise=False) for p in (protocol, slow))
    total = one["air_counts"].sum("bin"), two["air_counts"].sum("bin")
    assert (total[1] < total[0]).all()
    share = [scan["air_counts"][3] / scan["air_counts"].sum("bin") for scan in (one, two)]
    assert (share[1] > share[0]).all()
    dark = (one["counts"].sum("bin") < 1e-3 * total[0].max()) & (one["counts"].sum("bin") > 0)
    ratio = (two["counts"].sum("bin") / one["counts"].sum("bin")).where(dark)
    assert float(np.abs(ratio - 1).max()) < 1e-3 or not bool(dark.any())


def test_ordinary_scans_refuse_a_counting_detector_and_the_other_way_round(protocol, paths):
    with pytest.raises(InputError, match="photon-counting"):
        ct.acquire(paths, protocol, seed=0)
    other = coarse("qc_axial", channels=64, views=40)
    with pytest.raises(InputError, match="scanner"):
        acquire_counts(paths, other, seed=0)
    tube = protocol.scanner.tube.model_copy(update={"kv_stations": (60.0, 120.0)})
    low = protocol.replace(scanner=protocol.scanner.model_copy(update={"tube": tube}), kv=65)
    with pytest.raises(InputError, match="highest threshold"):
        acquire_counts(paths, low, seed=0)
    with pytest.raises(InputError, match="mas"):
        acquire_counts(paths, protocol, seed=0, mas=0.0)
    with pytest.raises(InputError, match="seed"):
        acquire_counts(paths, protocol, seed=-1)
    with pytest.raises(InputError, match="output_factor"):
        acquire_counts(paths, protocol, seed=0, output_factor=0.0)
    with pytest.raises(InputError, match="counts"):
        bin_projections(xr.Dataset(), protocol)


def test_the_current_of_each_view_is_followed_with_any_mean(protocol, paths):
    current = 100.0 + 60.0 * np.cos(2 * paths["view_angle"].to_numpy())
    modulated = paths.assign(tube_current=label("tube_current", current))
    found = acquire_counts(modulated, protocol, seed=0, noise=False, mas=50.0)
    assert found.attrs["mas"] == pytest.approx(50.0)
    np.testing.assert_allclose(found["view_exposure"], current / current.mean(), rtol=1e-6)  # float32
    even = acquire_counts(paths, protocol, seed=0, noise=False, mas=50.0)
    ratio = found["counts"].sum(("bin", "row", "channel")) / even["counts"].sum(("bin", "row", "channel"))
    np.testing.assert_allclose(ratio, current / current.mean(), rtol=1e-4)
    with pytest.raises(InputError, match="tube_current"):
        acquire_counts(paths.assign(tube_current=label("tube_current", 0.0 * current)), protocol, seed=0)
    with pytest.raises(InputError, match="seed"):
        acquire_counts(paths, protocol, seed=None)
