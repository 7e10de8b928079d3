"""The scan by blocks: the same as in one piece, whatever the blocks; resumed; memory; scatter; current."""

import numpy as np
import pytest
import xarray as xr
from scan_cases import small_phantom, small_protocol, small_trajectory

from twinlab.ct import acquire, detected, line_integrals, reconstruct, scan_phantom, simulate, sub_samples
from twinlab.ct import stream as module
from twinlab.scanner import Sampling
from twinlab.schema import InputError, label


def with_electronics(protocol, **electronics):
    detector = protocol.scanner.detector
    changed = detector.model_copy(
        update={"electronics": type(detector.electronics).make(electronics, where="test")}
    )
    return protocol.replace(scanner=protocol.scanner.model_copy(update={"detector": changed}))


@pytest.fixture(scope="module")
def protocol():
    return small_protocol()


@pytest.fixture(scope="module")
def path(protocol):
    return small_trajectory(protocol)


@pytest.fixture(scope="module")
def whole(protocol, path):
    return acquire(line_integrals(small_phantom(), protocol, path), protocol, seed=3)


@pytest.mark.parametrize("size", [1, 7, 36])
def test_blocks_give_what_one_piece_gives(protocol, path, whole, size):
    scan = scan_phantom(small_phantom(), protocol, trajectory=path, seed=3, variance=True, block_views=size)
    xr.testing.assert_equal(scan["projection"], whole["projection"])
    xr.testing.assert_equal(scan["variance"], whole["variance"])
    for name in ("kv", "mas", "seed", "mu_water_per_mm", "source_to_isocentre_mm", "truncated"):
        assert scan.attrs[name] == pytest.approx(whole.attrs[name])
    assert "variance" not in scan_phantom(small_phantom(), protocol, trajectory=path, seed=3)


def test_blocks_carry_the_afterglow(path):
    glowing = with_electronics(
        small_protocol(),
        lag=[{"fraction": 0.05, "time_ms": 60.0}],
        crosstalk_channel=0.03,
        crosstalk_row=0.02,
    )
    scans = [
        scan_phantom(small_phantom(), glowing, trajectory=path, seed=3, block_views=size) for size in (5, 36)
    ]
    xr.testing.assert_equal(scans[0]["projection"], scans[1]["projection"])


def test_rows_that_are_asked_for(protocol, path, whole):
    lo = np.where(np.arange(path.sizes["view"]) < 10, 1, 2)
    scan = scan_phantom(small_phantom(), protocol, trajectory=path, seed=3, rows=(lo, 4), block_views=8)
    expected = whole["projection"].to_numpy().copy()
    for view, low in enumerate(lo):
        expected[view, :low] = 0.0
    assert np.array_equal(scan["projection"], expected)


def test_signals_not_line_integrals_are_averaged_over_the_samples(protocol, path):
    fine = protocol.replace(sampling=Sampling(cell_channel=2, view=2))
    part = path.isel(view=slice(0, 6))
    samples = sub_samples(fine)
    assert len(samples) == 4
    volume_signals = [
        detected(line_integrals(small_phantom(), fine, part, sample=sample), fine)["signal"].to_numpy()
        for sample in samples
    ]
    averaged = np.mean(np.asarray(volume_signals, float), axis=0)
    signals = detected(line_integrals(small_phantom(), fine, part), fine)
    signals["signal"][:] = averaged
    expected = acquire(xr.Dataset(), fine, seed=0, noise=False, signals=signals)["projection"]
    found = scan_phantom(small_phantom(), fine, trajectory=part, seed=0, noise=False)
    # float32 sums of four; the averages differ from the middle by 1e-2 at the edges
    np.testing.assert_allclose(found["projection"], expected, atol=2e-5)
    assert found.attrs["sampling_points"] == 4


def test_an_interrupted_scan_goes_on(protocol, path, whole, tmp_path, monkeypatch):
    out = tmp_path / "scan.npy"
    glowing = with_electronics(protocol, lag=[{"fraction": 0.05, "time_ms": 60.0}])
    arguments = {"trajectory": path, "seed": 3, "block_views": 10}
    complete = scan_phantom(small_phantom(), glowing, **arguments)
    traced = []
    real = module.line_integrals

    def fails_late(*args, **kwargs):
        traced.append(args[2].sizes["view"])
        if len(traced) == 4:  # the first call learns the basis; blocks follow
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    monkeypatch.setattr(module, "line_integrals", fails_late)
    with pytest.raises(KeyboardInterrupt):
        scan_phantom(small_phantom(), glowing, out=out, **arguments)
    traced.clear()
    traced.extend([0] * 10)
    again = scan_phantom(small_phantom(), glowing, out=out, **arguments)
    assert traced[10:] == [1, 10, 6]  # 20 of 36 views were whole
    assert np.array_equal(again["projection"], complete["projection"])
    assert isinstance(again["projection"].variable.data, np.memmap)
    other = scan_phantom(small_phantom(), glowing, out=out, trajectory=path, seed=4, block_views=36)
    assert traced[13:] == [1, 36]  # another seed: nothing of the old scan is taken
    assert not np.array_equal(other["projection"], complete["projection"])


def test_scatter_adds_to_the_readings_and_to_their_noise(protocol, path):
    part = path.isel(view=slice(0, 6))
    air = float(detected(line_integrals(small_phantom(), protocol, part), protocol)["air_signal"].max())
    coarse = xr.DataArray(
        0.01 * air * np.array([[[1.0, 2.0]], [[3.0, 4.0]]]),
        dims=("view", "row", "channel"),
        coords={"view": [0, 5], "row": [0.0], "channel": [0, 63]},
    )
    plain = scan_phantom(small_phantom(), protocol, trajectory=part, seed=0, variance=True, noise=False)
    given = {"trajectory": part, "seed": 0, "variance": True, "noise": False, "block_views": 4}
    with_it = scan_phantom(small_phantom(), protocol, scatter=coarse, **given)
    assert (with_it["projection"] < plain["projection"]).all()

    def function(block):
        view = block["view"].to_numpy()[:, None, None] / 5.0
        channel = np.arange(64) / 63.0
        return 0.01 * air * ((1 + 2 * view) + channel) * np.ones((1, 4, 1))

    same = scan_phantom(small_phantom(), protocol, scatter=function, **given)
    np.testing.assert_allclose(same["projection"], with_it["projection"], atol=1e-5)  # float32
    # the dark ray through the bone: scatter drowns the primary, so its relative variance falls
    ray = np.unravel_index(int(plain["projection"].to_numpy().argmax()), plain["projection"].shape)
    assert with_it["variance"].to_numpy()[ray] < plain["variance"].to_numpy()[ray]
    with pytest.raises(InputError, match="scatter"):
        scan_phantom(small_phantom(), protocol, scatter=lambda block: -np.ones((4, 4, 64)), **given)


def test_the_current_of_each_view_is_followed(protocol, path):
    current = 100.0 + 60.0 * np.cos(2 * path["view_angle"].to_numpy())
    modulated = path.assign(tube_current=label("tube_current", current))
    scan = scan_phantom(small_phantom(), protocol, trajectory=modulated, seed=3, variance=True)
    paths = line_integrals(small_phantom(), protocol, modulated)
    xr.testing.assert_equal(scan["projection"], acquire(paths, protocol, seed=3)["projection"])
    assert scan.attrs["mas"] == pytest.approx(current.mean())  # 1 s a turn
    assert np.array_equal(scan["tube_current"], current)
    for view in (0, 5, 20):
        one = acquire(paths, protocol, seed=3, mas=float(current[view]))  # the same curve, other mean
        flat = acquire(paths.drop_vars("tube_current"), protocol, seed=3, mas=float(current[view]))
        np.testing.assert_allclose(scan["variance"][view], flat["variance"][view], rtol=1e-5)
        assert one.attrs["mas"] == pytest.approx(float(current[view]))
    none = path.assign(tube_current=label("tube_current", 0.0 * current))
    with pytest.raises(InputError, match="tube_current"):
        scan_phantom(small_phantom(), protocol, trajectory=none, seed=3)


def test_refuses_before_any_work(protocol, path, tmp_path):
    with pytest.raises(InputError, match="seed"):
        scan_phantom(small_phantom(), protocol, trajectory=path, seed=-1)
    with pytest.raises(InputError, match="npy"):
        scan_phantom(small_phantom(), protocol, trajectory=path, seed=1, out=tmp_path / "x.dat")
    with pytest.raises(InputError, match="block_views"):
        scan_phantom(small_phantom(), protocol, trajectory=path, seed=1, block_views=0)
    with pytest.raises(InputError, match="mas"):
        scan_phantom(small_phantom(), protocol, trajectory=path, seed=1, mas=0.0)


@pytest.mark.parametrize("rows", [(3, 3), (4, 2), (np.full(36, 2), 2), (np.zeros(5), 4), (0, 5), (-1, 4)])
def test_refuses_rows_that_are_none(protocol, path, rows):
    with pytest.raises(InputError, match="rows"):
        scan_phantom(small_phantom(), protocol, trajectory=path, seed=3, rows=rows)


def test_views_without_rows_stay_empty(protocol, path, whole):
    hi = np.where(np.arange(path.sizes["view"]) < 20, 0, 4)
    scan = scan_phantom(small_phantom(), protocol, trajectory=path, seed=3, rows=(0, hi), block_views=10)
    assert not scan["projection"][:20].any()
    assert np.array_equal(scan["projection"][20:], whole["projection"][20:])


def test_words_on_the_geometry_survive_an_interruption(path, tmp_path, monkeypatch):
    wide, protocol = small_phantom(radius_mm=138.0), small_protocol()
    beside = path.assign_attrs(isocentre_x_mm=100.0)
    complete = scan_phantom(wide, protocol, trajectory=beside, seed=3)
    assert 0 < complete.attrs["truncated"] < 1
    calls = []
    real = module.line_integrals

    def fails_late(*args, **kwargs):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    monkeypatch.setattr(module, "line_integrals", fails_late)
    given = {"trajectory": beside, "seed": 3, "block_views": 10, "out": tmp_path / "scan.npy"}
    with pytest.raises(KeyboardInterrupt):
        scan_phantom(wide, protocol, **given)
    for _ in range(2):  # resumed, and found complete
        again = scan_phantom(wide, protocol, **given)
        assert again.attrs["truncated"] == pytest.approx(complete.attrs["truncated"])


def test_a_function_cannot_name_a_scan_in_a_file(protocol, path, tmp_path):
    given = {"trajectory": path, "seed": 3, "out": tmp_path / "scan.npy"}
    for scatter in (lambda block: 0.0 * block["signal"], np.zeros_like):
        with pytest.raises(InputError, match=r"DataArray or ScatterKernel with out="):
            scan_phantom(small_phantom(), protocol, scatter=scatter, **given)
    assert not (tmp_path / "scan.npy").exists()


def test_an_image_takes_what_reconstruction_takes(protocol, path):
    grid = {"x": np.arange(-40.0, 41.0, 10.0), "y": np.arange(-40.0, 41.0, 10.0), "z": np.array([0.0])}
    given = {"seed": 3, "noise": False, "grid": grid}
    own = {"kernel": "sharp", "slice_thickness_mm": 4.0, "truncation": "ignore"}
    image = simulate(small_phantom(), protocol, trajectory=path, **given, **own)
    scan = scan_phantom(small_phantom(), protocol, trajectory=path, seed=3, noise=False)
    xr.testing.assert_equal(image, reconstruct(scan, protocol, grid=grid, **own))
    assert (image.attrs["kernel"], image.attrs["slice_thickness_mm"]) == ("sharp", 4.0)
    planned = simulate(small_phantom(), protocol, z_range_mm=(-4.0, 4.0), **given)
    xr.testing.assert_equal(planned, reconstruct(scan, protocol, grid=grid))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"trajectory": None}, "one of z_range_mm and trajectory"),
        ({"z_range_mm": (-4.0, 4.0)}, "one of z_range_mm and trajectory"),
        ({"grid": {"x": [0.0], "y": [0.0], "z": [30.0]}}, "scanned range"),
        ({"grid": {"x": [0.0], "y": [0.0], "z": [-30.0, 0.0]}}, "scanned range"),
        ({"grid": {"x": [0.0], "z": [0.0]}}, "coordinates z, y, x"),
        ({"slice_thickness_mm": 1.0}, "no thinner"),
        ({"kernel": "razor"}, "razor"),
    ],
)
def test_an_image_is_refused_before_the_scan(protocol, path, monkeypatch, change, words):
    monkeypatch.setattr(module, "scan_phantom", None)
    good = {"trajectory": path, "seed": 3, "grid": {"x": [0.0], "y": [0.0], "z": [0.0]}}
    with pytest.raises(InputError, match=words):
        simulate(small_phantom(), protocol, **(good | change))
