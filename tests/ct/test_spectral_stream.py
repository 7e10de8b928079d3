"""Photon-counting scans by blocks of views: blocks, sampling, scatter, faults, heel, resume, neighbours, refusals."""

import numpy as np
import pytest
import xarray as xr
from spectral_cases import coarse, inserts, without_dead_time

from twinlab import ct
from twinlab.ct import stream
from twinlab.ct.detector import detected_spectrum
from twinlab.ct.electronics import Faults
from twinlab.ct.sampling import sub_samples
from twinlab.ct.spectral import (
    acquire_counts,
    bin_projections,
    counting_response,
    decompose,
    measurements_of_bins,
    simulated_response,
    threshold_projections,
)
from twinlab.physics.attenuation import linear_attenuation_per_mm, mass_attenuation
from twinlab.scanner import beam_fluence, cell_solid_angle, trajectory
from twinlab.scanner.models import Sampling
from twinlab.schema import InputError, label

PHANTOM = inserts(spacing_mm=2.5)[0]
VIEWS = 12


@pytest.fixture(scope="module")
def protocol():
    return coarse("photon_counting_qc", channels=64, views=VIEWS)


@pytest.fixture(scope="module")
def path(protocol):
    return trajectory(protocol, z_range_mm=(-0.2, 0.2))


@pytest.fixture(scope="module")
def whole(protocol, path):
    return ct.scan_phantom(PHANTOM, protocol, trajectory=path, seed=3)


def with_heel(protocol):
    tube = protocol.scanner.tube.model_copy(update={"heel": True})
    detector = protocol.scanner.detector.model_copy(update={"n_rows": 8, "row_pitch_mm": 12.0})
    scanner = protocol.scanner.model_copy(update={"tube": tube, "detector": detector})
    return without_dead_time(protocol.replace(scanner=scanner, collimation_mm=8 * scanner.row_pitch_isocentre_mm,
                                              slice_thickness_mm=10.0))  # fmt: skip


def test_blocks_do_not_matter_and_give_what_one_piece_gives(protocol, path, whole):
    paths = ct.line_integrals(PHANTOM, protocol, path)
    piece = acquire_counts(paths, protocol, seed=3)
    for name in ("counts", "air_counts", "view_exposure", "count_correlation"):
        assert np.array_equal(whole[name], piece[name]), name
    assert {"kv", "mas", "seed", "sampling_points", "truncated"} <= set(whole.attrs)
    for size in (1, 5):
        blocks = ct.scan_phantom(PHANTOM, protocol, trajectory=path, seed=3, block_views=size)
        assert np.array_equal(blocks["counts"], whole["counts"])
    lower = ct.scan_phantom(PHANTOM, protocol, trajectory=path, seed=3, rows=(0, 1), noise=False)
    assert not lower["counts"][:, :, 1].any()
    quiet = ct.scan_phantom(PHANTOM, protocol, trajectory=path, seed=3, noise=False)
    assert np.array_equal(lower["counts"][:, :, 0], quiet["counts"][:, :, 0])


def test_the_current_is_followed(protocol, path):
    current = np.linspace(100.0, 300.0, VIEWS)
    driven = path.assign(tube_current=label("tube_current", current))
    found = ct.scan_phantom(PHANTOM, protocol, trajectory=driven, seed=3, block_views=5)
    paths = ct.line_integrals(PHANTOM, protocol, driven)
    assert np.array_equal(found["counts"], acquire_counts(paths, protocol, seed=3)["counts"])
    np.testing.assert_allclose(found["view_exposure"], current / current.mean(), rtol=1e-6)


def test_readings_are_means_over_sampling_points(protocol, path):
    fast = without_dead_time(protocol)
    fine = fast.replace(sampling=Sampling(cell_channel=2, view=2))
    found = ct.scan_phantom(PHANTOM, fine, trajectory=path, seed=0, noise=False)
    each = [
        acquire_counts(ct.line_integrals(PHANTOM, fine, path, sample=s), fine, seed=0, noise=False)["counts"]
        for s in sub_samples(fine)
    ]
    np.testing.assert_allclose(found["counts"], np.mean(each, axis=0), rtol=2e-6)  # float32 sums of four
    assert found.attrs["sampling_points"] == 4
    paths = ct.line_integrals(PHANTOM, fine, path)
    with pytest.raises(InputError, match="sampling of 1"):
        acquire_counts(paths, fine, seed=0)


def test_an_interrupted_scan_goes_on(protocol, path, whole, tmp_path, monkeypatch):
    out, traced, real = tmp_path / "counts.npy", [], stream.line_integrals
    given = {"trajectory": path, "seed": 3, "block_views": 4, "out": out}

    def fails_late(*args, **kwargs):
        traced.append(args[2].sizes["view"])
        if len(traced) == 4:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    monkeypatch.setattr(stream, "line_integrals", fails_late)
    with pytest.raises(KeyboardInterrupt):
        ct.scan_phantom(PHANTOM, protocol, **given)
    again = ct.scan_phantom(PHANTOM, protocol, **given)
    assert traced[4:] == [1, 4]  # 8 of 12 views were whole
    assert np.array_equal(again["counts"], whole["counts"])
    assert isinstance(again["counts"].variable.data, np.memmap)


def test_scatter_counts_as_the_beam_behind_water_does(protocol, path):
    """Scattered energy as large as that of the beam behind 20 cm of water adds the counts of such a ray."""
    fast = without_dead_time(protocol)
    energy, spectrum = detected_spectrum(fast)
    through = np.exp(-200.0 * linear_attenuation_per_mm("water", energy))
    cell = 1e6 * fast.scanner.detector.fill_factor  # a cell of one steradian at 1 m
    kev = float(spectrum[32] @ through) * cell * 1e-6
    field = np.full((2, 2, 2), kev, np.float32)
    place = {"view": [0, VIEWS - 1], "row": [-1.0, 1.0], "channel": [0, 63]}
    scatter = xr.DataArray(field, dims=("view", "row", "channel"), coords=place)
    given = {"trajectory": path, "seed": 3, "noise": False, "block_views": 5}
    quiet, found = (ct.scan_phantom(PHANTOM, fast, scatter=s, **given) for s in (None, scatter))
    beam = beam_fluence(fast)
    response = counting_response(fast.scanner.detector)["response"].interp(energy=beam["energy"]).fillna(0.0)
    behind = beam.to_numpy()[32] * np.exp(
        -200.0 * linear_attenuation_per_mm("water", beam["energy"].to_numpy())
    )
    added = response.to_numpy() @ behind * cell * 1e-6 * 300.0 / VIEWS
    got = (found["counts"] - quiet["counts"]).to_numpy()
    assert got == pytest.approx(np.broadcast_to(added[:, None, None, None], got.shape), rel=2e-3)  # float32
    by_bin = xr.concat([scatter * 0 + float(a) * VIEWS / 300.0 for a in added], dim="bin")
    same = ct.scan_phantom(PHANTOM, fast, scatter=by_bin, **given)
    # response interpolated here in energy, there at the nodes of the quadrature: 1e-4
    np.testing.assert_allclose(same["counts"], found["counts"], rtol=2e-4)
    function = ct.scan_phantom(PHANTOM, fast, scatter=lambda b: np.full(b["signal"].shape, kev), **given)
    np.testing.assert_allclose(function["counts"], found["counts"], rtol=1e-5)  # interpolated in float32


def test_faults_of_cells(protocol, path):
    gain = np.ones((2, 64))
    gain[0, 10] = 0.9
    given = {"trajectory": path, "seed": 3, "noise": False}
    fast = without_dead_time(protocol)
    quiet = ct.scan_phantom(PHANTOM, fast, **given)
    found = ct.scan_phantom(PHANTOM, fast, faults=Faults(gain=gain, dead=((1, 20),)), **given)
    ratio = (found["counts"] / quiet["counts"]).to_numpy()
    assert ratio[:, :, 0, 10] == pytest.approx(np.full((4, VIEWS), 0.9), rel=1e-5)  # float32, here and below
    through = (quiet["counts"] / quiet["air_counts"]).to_numpy()
    repaired = (found["counts"] / found["air_counts"]).to_numpy()[:, :, 1, 20]
    assert repaired == pytest.approx(0.5 * (through[:, :, 1, 19] + through[:, :, 1, 21]), rel=1e-5)
    dead = ct.scan_phantom(PHANTOM, fast, faults=Faults(dead=((1, 20),), repaired=False), **given)
    assert not dead["counts"][:, :, 1, 20].any()


def test_the_air_scan_has_its_noise(protocol, path):
    """Variance of a mean of 25 views: that of one view over 25, by the response's mean squares."""
    quiet = ct.scan_phantom(PHANTOM, without_dead_time(protocol), trajectory=path, seed=0, noise=False)
    air = quiet["air_counts"].to_numpy()
    noisy = [
        ct.scan_phantom(
            PHANTOM, without_dead_time(protocol), trajectory=path.isel(view=slice(0, 1)), seed=s, noise=False,
            faults=Faults(air_views=25),
        )["air_counts"].to_numpy()
        for s in range(20)
    ]  # fmt: skip
    growth = np.diagonal(quiet["count_correlation"])[:, None, None]
    z = (np.array(noisy) - air) / np.sqrt(air * growth / 25)
    assert z.std() == pytest.approx(1.0, abs=0.04)  # 10,000 values; the spectrum behind air is another one


def test_a_beam_with_heel(protocol):
    """Counts by row against a sum over energies; scans of air give projections of 0."""
    wide = with_heel(protocol)
    views = trajectory(wide, z_range_mm=(-0.2, 0.2))
    places = {axis: PHANTOM[axis] for axis in ("z", "y", "x")}
    nothing = PHANTOM.assign(
        material=label("material", np.zeros(PHANTOM["material"].shape, np.uint8), places),
        density=label("density", np.full(PHANTOM["material"].shape, 1e-6, np.float32), places),
    )
    found = ct.scan_phantom(nothing, wide, trajectory=views, seed=0, noise=False)
    rows = wide.row_positions_mm()
    cone = np.arctan(rows / wide.scanner.source_to_detector_mm)
    beam = beam_fluence(wide, cone_angle_rad=cone)
    response = counting_response(wide.scanner.detector)["response"].interp(energy=beam["energy"]).fillna(0.0)
    photons = beam.to_numpy() * cell_solid_angle(wide, row_mm=rows).to_numpy()[..., None] * 1e6 * 0.71
    expected = np.einsum("rce,be->brc", photons, response.to_numpy()) * 300.0 / VIEWS
    # spectra of rows lie between those of five knots: 1e-4
    assert np.abs(found["air_counts"].to_numpy() / expected - 1).max() < 5e-4
    assert expected[0, 0, 32] / expected[0, -1, 32] < 0.97  # the test would see a beam without heel
    for scan in bin_projections(found, wide):
        assert np.abs(scan["projection"]).max() < 5e-5  # 2 cm of 1e-6 g/cm3 are 4e-6; float32 logarithms
    paths = ct.line_integrals(PHANTOM, wide, views.isel(view=slice(0, 1)))
    basis = decompose(measurements_of_bins(acquire_counts(paths, wide, seed=0, noise=False), wide))
    names = [str(n) for n in paths["mixed_material"].values]
    kev = np.array([50.0, 80.0, 110.0])
    true = np.einsum("kvrc,km,me->evrc", paths["path"], paths["mixing"], mass_attenuation(names, kev))
    ours = np.einsum("kvrc,ke->evrc", basis["basis_path"], mass_attenuation(["water", "iodine"], kev))
    assert np.abs(ours - true).max() < 3e-3 * true.max()  # air and the attenuation basis on the way


def test_neighbouring_cells_vary_together_as_photons_do():
    """Covariance of neighbours' counts against photons followed one by one, behind 20 cm of water."""
    protocol = without_dead_time(coarse("photon_counting_qc", channels=688, views=20, bowtie="none"))
    views = trajectory(protocol, z_range_mm=(-0.2, 0.2))
    paths = ct.line_integrals(inserts(spacing_mm=5.0)[0], protocol, views)
    central = paths["path"].to_numpy()[:, :1, :1, 344:345].copy()
    paths["path"].to_numpy()[:] = central  # every ray is the central one
    energy = np.arange(22.0, 120.0, 4.0)
    detector = protocol.scanner.detector
    beam = beam_fluence(protocol, fan_angle_rad=[0.0])
    behind = beam.to_numpy()[0] * np.exp(
        -200.0 * linear_attenuation_per_mm("water", beam["energy"].to_numpy())
    )
    photons = np.array([behind[np.abs(beam["energy"].to_numpy() - e) <= 2.0].sum() for e in energy])
    single = [simulated_response(detector, float(e), n_photons=40_000, seed=int(e)) for e in energy]
    mean = sum(n * s["response"].to_numpy() for n, s in zip(photons, single, strict=True))
    product = sum(n * s["response_product"].to_numpy() for n, s in zip(photons, single, strict=True))
    wanted = product[1] / 2 / np.sqrt(np.outer(mean, mean))
    runs = np.concatenate(
        [acquire_counts(paths, protocol, seed=s, mas=20.0)["counts"].to_numpy() for s in range(16)], axis=1
    )
    off = runs - runs.mean(axis=(1, 2, 3), keepdims=True)
    off /= np.sqrt(runs.mean(axis=(1, 2, 3)))[:, None, None, None]
    left, right = (part.reshape(4, -1) for part in (off[..., :-1], off[..., 1:]))
    found = left @ right.T / left.shape[1]
    # 440,000 pairs of cells: 0.0015, 4 sd; 40,000 photons at each of 25 energies instead of the whole spectrum: some
    # 2 % of the greatest covariance
    assert found == pytest.approx(wanted, abs=4.0 / np.sqrt(left.shape[1]) + 0.02 * wanted.max())
    assert wanted[0, 0] > 0.02


def test_an_image_is_that_of_all_counts(protocol, path):
    side = np.arange(-60.0, 61.0, 12.0)
    grid = {"x": side, "y": side, "z": np.array([0.0])}
    given = {"seed": 3, "noise": False}
    image = ct.simulate(PHANTOM, protocol, trajectory=path, grid=grid, **given)
    scan = ct.scan_phantom(PHANTOM, protocol, trajectory=path, **given)
    xr.testing.assert_equal(image, ct.reconstruct(threshold_projections(scan, protocol), protocol, grid=grid))


def test_thresholds_are_sums_of_bins(protocol, whole):
    quick = without_dead_time(protocol)
    path = trajectory(quick, z_range_mm=(-0.2, 0.2))
    scan = ct.scan_phantom(PHANTOM, quick, trajectory=path, seed=3, noise=False)
    last = threshold_projections(scan, quick, threshold=3)
    xr.testing.assert_equal(last, bin_projections(scan, quick)[3])
    low = threshold_projections(scan, quick)
    variances = [scan["variance"] for scan in (low, *bin_projections(scan, quick))]
    assert all(bool((variances[0] < v).all()) for v in variances[1:])
    z = []
    for k in range(8):
        noisy = threshold_projections(
            ct.scan_phantom(PHANTOM, quick, trajectory=path, seed=5, realisation=k), quick
        )
        z.append((noisy["projection"] - low["projection"]) / np.sqrt(low["variance"]))
    assert float(np.std(z)) == pytest.approx(
        1.0, abs=0.03
    )  # 12,000 values; correlation as behind 20 cm of water


def test_what_cannot_be_done_is_said_before_the_work(protocol, path, whole, monkeypatch):
    monkeypatch.setattr(stream, "_read_blocks", None)
    given = {"trajectory": path, "seed": 3}
    with pytest.raises(InputError, match="second_kv"):
        ct.scan_phantom(PHANTOM, protocol.replace(second_kv=140), **given)
    with pytest.raises(InputError, match="bin_projections"):
        ct.scan_phantom(PHANTOM, protocol, variance=True, **given)
    with pytest.raises(InputError, match=r"Faults\.offset_kev"):
        ct.scan_phantom(PHANTOM, protocol, faults=Faults(offset_kev=np.ones((2, 64))), **given)
    detector = protocol.scanner.detector
    odd = detector.model_copy(
        update={"electronics": detector.electronics.model_copy(update={"swank_factor": 0.9})}
    )
    scanner = protocol.scanner.model_copy(update={"detector": odd})
    with pytest.raises(InputError, match="Swank"):
        ct.scan_phantom(PHANTOM, protocol.replace(scanner=scanner), **given)
    with pytest.raises(InputError, match="0 to 3"):
        threshold_projections(whole, protocol, threshold=4)
    paths = ct.line_integrals(PHANTOM, protocol, path)
    with pytest.raises(InputError, match="second_kv"):
        acquire_counts(paths, protocol.replace(second_kv=140), seed=0)


def test_the_whole_path_is_checked_before_the_work(protocol, path, monkeypatch):
    monkeypatch.setattr(stream, "line_integrals", None)
    # only the last view's focal spot is inside the slices
    source = path["source_z"].to_numpy() + np.where(np.arange(VIEWS) == VIEWS - 1, 0.0, 500.0)
    wide = PHANTOM.assign_coords(x=PHANTOM["x"] * 8.0, y=PHANTOM["y"] * 8.0)
    for axis in ("x", "y"):
        wide[axis].attrs.update(PHANTOM[axis].attrs)
    moved = path.assign(source_z=label("source_z", source))
    with pytest.raises(InputError, match="focal spot"):
        ct.scan_phantom(wide, protocol, trajectory=moved, seed=3)
