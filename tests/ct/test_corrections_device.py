"""Corrections and the chain of the detector where arrays live on a device: array standard; kernels as text."""

from __future__ import annotations

import sys
from pathlib import Path

import array_api_strict
import numpy as np
import pytest
import xarray as xr
from scan_cases import small_phantom, small_protocol, small_trajectory
from spectral_cases import coarse, inserts

from twinlab.ct import acquire, line_integrals, scan_phantom
from twinlab.ct.artefacts import ring_correction, scatter_correction
from twinlab.ct.artefacts.convolution import ScatterKernel
from twinlab.ct.artefacts.neighbours import gaussian, median, nan_median, parabolas
from twinlab.ct.artefacts.scatter import air_signal
from twinlab.ct.corrections import correct_rays, undo_correction, water_correction
from twinlab.ct.electronics import Faults
from twinlab.ct.spectral import acquire_counts
from twinlab.ct.spectral.counted import PileUp, without_pile_up
from twinlab.ct.spectral.pile_up import summed_bins
from twinlab.kernels import cuda_project, device
from twinlab.scanner import trajectory
from twinlab.scanner.parts import Electronics

sys.path.insert(0, str(Path(__file__).parents[1] / "kernels"))
import cuda_on_processor

STRICT = array_api_strict.asarray


def in_strict(scan: xr.Dataset) -> xr.Dataset:
    """Projections in arrays that know nothing but the array standard."""
    values = scan["projection"]
    return scan.assign(projection=values.copy(data=STRICT(values.to_numpy())))


def same(function, *arrays, rtol=1e-6):
    """The function's result with NumPy, after a check that the array standard alone gives the same."""
    expected = function(*arrays)
    strict = function(*map(STRICT, arrays))
    assert type(strict).__module__.startswith("array_api_strict")
    np.testing.assert_allclose(np.asarray(strict), expected, rtol=rtol, atol=1e-6)
    return expected


@pytest.fixture(scope="module")
def protocol():
    return small_protocol()


@pytest.fixture(scope="module")
def paths(protocol):
    return line_integrals(small_phantom(), protocol, small_trajectory(protocol))


@pytest.fixture(scope="module")
def scan(paths, protocol):
    return acquire(paths, protocol, seed=1)


def test_medians_skip_what_is_missing():
    rng = np.random.default_rng(0)
    values = rng.random((5, 40), dtype=np.float32)
    whole = same(
        lambda v: median(v, rows=3, channels=7), values, rtol=0
    )  # SciPy's filter against sorting: the same
    values[2, 5:9], values[4] = np.nan, np.nan
    holed = same(lambda v: median(v, rows=3, channels=7), values, rtol=0)
    padded = np.pad(values, ((1, 1), (3, 3)), mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 7)).reshape(5, 40, -1)
    np.testing.assert_allclose(holed, np.nanmedian(windows, axis=-1), rtol=1e-6)
    np.testing.assert_array_equal(holed[0], whole[0])  # far from the holes
    assert np.isnan(nan_median(np.full((2, 3), np.nan))).all()


def test_parabolas_and_gaussians_keep_what_they_should():
    place = np.arange(60.0)
    curve = np.stack([3.0 + place, 0.1 * (place - 20.0) ** 2])
    smooth = same(lambda v: parabolas(v, channels=9), curve)
    np.testing.assert_allclose(smooth[:, 4:-4], curve[:, 4:-4], atol=1e-9)  # parabolas stay themselves
    point = np.zeros((2, 1, 61))
    point[:, 0, 30] = 1.0
    spread = same(lambda v: gaussian(v, 4.0), point)
    exact = np.exp(-0.5 * ((place[:60] - 30.0) / 4.0) ** 2) / (4.0 * np.sqrt(2 * np.pi))
    np.testing.assert_allclose(
        spread[0, 0, :60], exact, atol=2e-5
    )  # cut off at four widths: 6e-5 of the whole


def test_rings_are_found_in_any_array_namespace(scan):
    drift = np.random.default_rng(2).normal(0.0, 0.01, scan["projection"].shape[1:]).astype(np.float32)
    drifted = scan.assign(projection=scan["projection"] + drift)
    drifted["row_lo"][:9] = 1  # some rows are not seen by some views
    settings = {"channels": 9, "rows": 3, "blocks": 6}
    found = ring_correction(drifted, **settings)
    strict = ring_correction(in_strict(drifted), **settings)
    assert type(strict["projection"].data).__module__.startswith("array_api_strict")
    np.testing.assert_allclose(np.asarray(strict["projection"].data), found["projection"], atol=2e-6)
    assert strict.attrs["ring_correction"] == pytest.approx(found.attrs["ring_correction"], rel=1e-5)
    assert (
        found.attrs["ring_correction"] > 0.01
    )  # what was put in, and what 64 coarse channels leave of edges


def test_a_correction_undone_and_made_again_is_none(scan, protocol):
    correction, projection = water_correction(protocol), scan["projection"].to_numpy()

    def there_and_back(values):
        return correct_rays(undo_correction(values, correction)[0], correction)

    back = same(there_and_back, projection)
    np.testing.assert_allclose(back, projection, atol=1e-9)  # Newton to rounding, in float64


def test_scatter_is_taken_out_in_any_array_namespace(scan, protocol):
    kernel = ScatterKernel(
        0.01, 0.9, 80.0, protocol.scanner.detector.channel_pitch_mm, air_signal(protocol), 0.0
    )
    grid = xr.DataArray(
        np.full((2, 1, 3), 1e-3 * air_signal(protocol).mean()), dims=("view", "row", "channel"),
        coords={"view": [0.0, 35.0], "row": [0.0], "channel": [0.0, 31.0, 63.0]},
    )  # fmt: skip
    for scatter in (kernel, grid):
        found, strict = (scatter_correction(s, protocol, scatter) for s in (scan, in_strict(scan)))
        assert type(strict["projection"].data).__module__.startswith("array_api_strict")
        np.testing.assert_allclose(np.asarray(strict["projection"].data), found["projection"], atol=1e-6)
        assert found.attrs["scatter_corrected"] > 1e-4
    # by the definition: less scatter makes longer line integrals
    assert (found["projection"] >= scan["projection"] - 1e-5).all()


def test_scatter_of_blocks_is_that_of_the_scan(scan, protocol, monkeypatch):
    from twinlab.ct.artefacts import convolution

    grid = xr.DataArray(
        air_signal(protocol).mean() * np.linspace(0, 1e-3, 6).reshape(2, 1, 3), dims=("view", "row", "channel"),
        coords={"view": [0.0, 35.0], "row": [0.0], "channel": [0.0, 31.0, 63.0]},
    )  # fmt: skip
    whole = scatter_correction(scan, protocol, grid)
    monkeypatch.setattr(convolution, "_RAYS", 5 * 4 * 64)
    parts = scatter_correction(scan, protocol, grid)
    np.testing.assert_array_equal(parts["projection"], whole["projection"])


def test_pile_up_of_moments_in_any_array_namespace():
    sums = summed_bins(np.ones(200), np.array([20.0, 60.0]))
    moments = np.random.default_rng(0).uniform(1, 100, (5, 3, 2, 4)).astype(np.float32)
    recorded = same(lambda m: PileUp(1e-3, sums, "paralysable").apply(m, 2), moments)
    assert (recorded[:2].sum(axis=0) < moments[:2].sum(axis=0)).all()


@pytest.fixture
def on_device(monkeypatch):
    """What would run on a CUDA device runs here."""
    monkeypatch.setattr(device, "missing", lambda: "")
    monkeypatch.setattr(cuda_project, "missing", lambda: "")
    cuda_on_processor.use(monkeypatch)


def with_all_effects(protocol):
    electronics = Electronics.make({
        "swank_factor": 0.9, "crosstalk_channel": 0.06, "crosstalk_row": 0.03, "kev_per_count": 4.0,
        "lag": [{"fraction": 0.1, "time_ms": 40.0}, {"fraction": 0.05, "time_ms": 200.0}],
    })  # fmt: skip
    detector = protocol.scanner.detector.model_copy(update={"electronics": electronics})
    return protocol.replace(scanner=protocol.scanner.model_copy(update={"detector": detector}))


@pytest.mark.parametrize("effects", [False, True])
def test_a_scan_on_the_device_is_that_of_the_processor(protocol, paths, effects, on_device):
    setting = with_all_effects(protocol) if effects else protocol
    faults = Faults(gain=np.full((4, 64), 1.01), dead=((1, 7),)) if effects else None
    here, there = (acquire(paths, setting, seed=4, faults=faults, device=d) for d in ("cpu", "cuda"))
    # float32: 1e-6 of a reading; one count of 4 keV in a reading of 1,000 keV where rounding falls on either side
    projection = np.abs(here["projection"] - there["projection"]).to_numpy()
    assert np.quantile(projection, 0.99) < 2e-5
    assert projection.max() < (0.02 if effects else 1e-4)
    np.testing.assert_allclose(there["variance"], here["variance"], rtol=1e-3)


def test_blocks_on_the_device_carry_the_light_on(protocol, on_device):
    setting, path = with_all_effects(protocol), small_trajectory(protocol)
    scatter = ScatterKernel(
        0.01, 0.9, 80.0, protocol.scanner.detector.channel_pitch_mm, air_signal(protocol), 0.0
    )
    settings = {"trajectory": path, "seed": 4, "scatter": scatter, "noise": False}
    here = scan_phantom(small_phantom(), setting, device="cpu", **settings)
    there = scan_phantom(small_phantom(), setting, device="cuda", block_views=16, **settings)
    # line integrals in float32 too, 1e-4 of 40 (test_project_cuda.py): what a signal then differs by
    assert np.abs(there["projection"] - here["projection"]).max() < 5e-3


@pytest.mark.slow
def test_counts_on_the_device_are_those_of_the_processor(on_device):
    counting = coarse("photon_counting_qc", channels=32, views=6)  # with dead time
    phantom = inserts(spacing_mm=5.0)[0]
    paths = line_integrals(phantom, counting, trajectory(counting, z_range_mm=(-0.2, 0.2)))
    here, there = (acquire_counts(paths, counting, seed=2, mas=0.1, device=d) for d in ("cpu", "cuda"))
    # a stream's number is a whole part of its mean and more: means up to 6e4 that differ by 4e-7 move it by one now and
    # then, fourteen streams a cell; where a number is refused on one side only, it is drawn anew
    apart = np.abs(here["counts"] - there["counts"]).to_numpy()
    assert np.quantile(apart, 0.99) <= 2
    assert apart.max() <= 6 * np.sqrt(float(here["counts"].max()))
    undone = [without_pile_up(here, counting, device=d)["counts"] for d in ("cpu", "cuda")]
    np.testing.assert_allclose(undone[1], undone[0], rtol=1e-6)
    assert float(undone[0].sum()) > float(here["counts"].sum())
