"""Detectability against closed forms and against sampled ensembles."""

import numpy as np
import pytest
import xarray as xr

from twinlab.quality import (
    dprime_fourier,
    dprime_from_responses,
    dprime_linear,
    eye_filter,
    nps,
    npwe_template,
)
from twinlab.schema import InputError


def disc(size=64, step=0.5, radius=5.0, contrast=10.0) -> xr.DataArray:
    grid = (np.arange(size) - size / 2 + 0.5) * step
    inside = np.hypot(grid[:, None], grid[None, :]) <= radius
    return xr.DataArray(contrast * inside, dims=("y", "x"), coords={"y": grid, "x": grid})


def flat_spectrum(signal, level):
    f = np.fft.fftshift(np.fft.fftfreq(signal.sizes["y"], float(signal.y[1] - signal.y[0])))
    return xr.DataArray(np.full(signal.shape, level), dims=("fy", "fx"), coords={"fy": f, "fx": f})


def test_npw_in_white_noise_is_the_matched_filter():
    signal = disc()
    # White noise of variance v in pixels of area a: d'^2 = sum s^2 / v; NPS = v a. An identity of Parseval.
    expected = np.sqrt(float((signal**2).sum()) / 400.0)
    assert dprime_fourier(signal, flat_spectrum(signal, 400.0 * 0.25), eye=False) == pytest.approx(
        expected, rel=1e-10
    )


def test_fourier_and_template_agree_with_the_eye():
    signal = disc()
    template = npwe_template(signal)
    direct = float((template * signal).sum() / np.sqrt(400.0 * (template**2).sum()))
    assert dprime_fourier(signal, flat_spectrum(signal, 100.0)) == pytest.approx(direct, rel=1e-10)


def test_eye_filter_peaks_at_one_near_four_cycles_per_degree():
    f = np.linspace(0.001, 3, 30001)
    e = eye_filter(f)
    per_degree = f[e.argmax()] * 500 * np.tan(np.pi / 180)
    assert e.max() == pytest.approx(1, abs=1e-6)
    # d/df of f^1.5 exp(-0.98 f^0.68) vanishes at (1.5 / (0.98 * 0.68))^(1/0.68) = 3.30
    assert per_degree == pytest.approx(3.30, abs=0.01)
    assert eye_filter(0.0) == 0


def test_ensemble_estimate_is_unbiased_and_its_uncertainty_right():
    rng = np.random.default_rng(3)
    true, n, runs = 1.5, 20, 4000
    found = np.array(
        [dprime_from_responses(rng.normal(true, 1, n), rng.normal(0, 1, n)) for _ in range(runs)]
    )
    # Standard error of the mean of 4,000 runs is 0.36 / 63 = 0.006: 3 sigma.
    assert found[:, 0].mean() == pytest.approx(true, abs=0.02)
    assert found[:, 1].mean() == pytest.approx(found[:, 0].std(), rel=0.05)  # sd of an sd over 4,000: 1.1 %


def test_linear_dprime_equals_the_ensemble():
    rng = np.random.default_rng(5)
    operator = rng.normal(size=(30, 80))  # any linear reconstruction
    signal, variance = rng.normal(size=80) * 0.1, rng.uniform(0.5, 2, 80)
    template = operator @ signal
    value, mean, _ = dprime_linear(operator.T @ template, signal, variance)
    assert mean == pytest.approx(template @ template)
    noise = rng.normal(size=(20000, 80)) * np.sqrt(variance)
    absent = noise @ operator.T @ template
    found, u = dprime_from_responses(absent + mean, absent)
    assert found == pytest.approx(value, abs=3 * u)


def test_correlated_noise_against_sampled_images():
    rng = np.random.default_rng(7)
    signal = disc(size=48, step=0.7, radius=4)
    f = np.hypot(*np.meshgrid(np.fft.fftfreq(48), np.fft.fftfreq(48), indexing="ij"))
    shape = f * np.exp(-((f / 0.2) ** 2))  # ramp-like CT noise
    images = np.fft.ifft2(np.fft.fft2(rng.normal(0, 100, (600, 48, 48))) * shape).real
    rois = xr.DataArray(images, dims=("repeat", "y", "x"), coords=signal.coords)
    template = np.asarray(npwe_template(signal))
    absent = (images * template).sum((1, 2))
    found, u = dprime_from_responses(absent + float((signal * template).sum()), absent)
    # the spectrum of 600 repeats adds about 1 % to the ensemble's own uncertainty
    assert dprime_fourier(signal, nps(rois)) == pytest.approx(found, abs=3 * u)


def test_errors_name_what_came():
    with pytest.raises(InputError, match="two responses"):
        dprime_from_responses([1.0], [0.0, 1.0])
    with pytest.raises(InputError, match="grid"):
        dprime_fourier(disc(), flat_spectrum(disc(size=32), 1.0))
    with pytest.raises(InputError, match="one shape"):
        dprime_linear(np.zeros(3), np.zeros(3), np.zeros(4))
