"""Decomposition and logarithms of bins where arrays live on a device: kernels as text, array standard; refusals."""

from __future__ import annotations

import sys
from pathlib import Path

import array_api_strict
import numpy as np
import pytest
from spectral_cases import coarse, inserts

from twinlab.ct import line_integrals
from twinlab.ct.spectral import (
    acquire_counts,
    bin_projections,
    decompose,
    measurements_of_bins,
    threshold_projections,
)
from twinlab.ct.spectral.acquisition import summed
from twinlab.ct.spectral.counted import noise_growth
from twinlab.kernels import cuda_decompose, device
from twinlab.scanner import trajectory
from twinlab.schema import InputError

sys.path.insert(0, str(Path(__file__).parents[1] / "kernels"))
import cuda_on_processor

STRICT = array_api_strict.asarray


@pytest.fixture(scope="module")
def protocol():
    return coarse("photon_counting_qc", channels=64, views=8)  # with dead time


@pytest.fixture(scope="module")
def counts(protocol):
    paths = line_integrals(inserts(spacing_mm=5.0)[0], protocol, trajectory(protocol, z_range_mm=(-0.2, 0.2)))
    return acquire_counts(
        paths, protocol, seed=2, mas=1.0, device="cpu"
    )  # quanta as in fine cells of many views


@pytest.fixture
def on_device(monkeypatch):
    """What would run on a CUDA device runs here; algebra knows nothing but the array standard."""
    monkeypatch.setattr(device, "missing", lambda: "")
    cuda_on_processor.use(monkeypatch, algebra=STRICT)


def test_bins_are_summed_in_any_array_namespace(counts, protocol):
    values, correlation = counts["counts"].to_numpy(), counts["count_correlation"].to_numpy()
    for here, strict in zip(summed(values, correlation), summed(STRICT(values), correlation), strict=True):
        assert type(strict).__module__.startswith("array_api_strict")
        np.testing.assert_allclose(np.asarray(strict), here, rtol=1e-6)  # rounding of float32
    # by the definition: the variance of a sum is the sum of all covariances
    root = np.sqrt(values.astype(float))
    exact = np.einsum("b...,bc,c...->...", root, correlation, root)
    np.testing.assert_allclose(here, exact, rtol=1e-5)
    many = np.float32(100.0) * values  # a load of several per cent
    growth = noise_growth(STRICT(many), protocol)
    assert type(growth).__module__.startswith("array_api_strict")
    np.testing.assert_allclose(np.asarray(growth), noise_growth(many, protocol), rtol=1e-6)
    assert float(np.asarray(growth).max()) > 1.1


def test_logarithms_of_bins_on_the_device_are_those_of_the_processor(counts, protocol, on_device):
    pairs = list(zip(*(bin_projections(counts, protocol, device=d) for d in ("cpu", "cuda")), strict=True))
    pairs.append(tuple(threshold_projections(counts, protocol, device=d) for d in ("cpu", "cuda")))
    assert len(pairs) == 5
    for here, there in pairs:
        assert there.attrs == here.attrs
        # float32: 1e-6 of a reading, whose logarithm is corrected by a polynomial; as the chain of other detectors
        np.testing.assert_allclose(there["projection"], here["projection"], atol=2e-5)
        np.testing.assert_allclose(there["variance"], here["variance"], rtol=1e-3)


def test_decomposition_on_the_device_is_that_of_the_processor(counts, protocol, on_device):
    measured = measurements_of_bins(counts, protocol, device="cpu")
    here, there = (decompose(measured, device=d) for d in ("cpu", "cuda"))
    spread = here["basis_covariance"].to_numpy().astype(float)
    noise = np.sqrt(np.einsum("kkvrc->kvrc", spread))
    # float32 in rows against float64 one by one: what docs/methods/spectral.md states
    apart = np.abs(there["basis_path"] - here["basis_path"]).to_numpy() / noise
    assert apart.max() < 1e-4
    off = np.abs(there["basis_covariance"] - spread).to_numpy() / (noise[:, None] * noise[None])
    assert off.max() < 1e-4
    assert there.attrs["unconverged"] == here.attrs["unconverged"] == 0
    assert there.attrs["slow_rays"] == measured.transmission[0].size
    alone = decompose(measured, covariance=False, device="cuda")
    assert "basis_covariance" not in alone
    np.testing.assert_array_equal(alone["basis_path"], there["basis_path"])


def test_more_measurements_than_a_device_takes(counts, protocol, on_device, monkeypatch):
    measured = measurements_of_bins(counts, protocol, device="cpu")
    monkeypatch.setattr(cuda_decompose, "MOST_MEASURED", 3)
    with pytest.raises(InputError, match="at most 3 measurements on a CUDA device; got 4"):
        decompose(measured, device="cuda")
    assert decompose(measured).attrs["slow_rays"] < measured.transmission[0].size  # "auto": the processor


@pytest.mark.skipif(not device.missing(), reason="there is a CUDA device")
def test_without_a_device_it_says_so(counts, protocol):
    measured = measurements_of_bins(counts, protocol)
    with pytest.raises(InputError, match="decompose: device: expected a CUDA device"):
        decompose(measured, device="cuda")
    with pytest.raises(InputError, match="bin_projections: device"):
        bin_projections(counts, protocol, device="cuda")
