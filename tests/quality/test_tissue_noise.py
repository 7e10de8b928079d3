"""Noise in even tissue, against images whose noise is known."""

from __future__ import annotations

import numpy as np
import pytest

from twinlab.quality.tissue_noise import even_tissue, local_sd, tissue_noise
from twinlab.schema import InputError, label


def body(noise_hu: float, *, pixel_mm: float = 1.0):
    """A disc of tissue in air with a lung and vessels, and white noise of known size."""
    axis = (np.arange(128) - 63.5) * pixel_mm
    y, x = np.meshgrid(axis, axis, indexing="ij")
    plane = np.where(np.hypot(x, y) < 58, 60.0, -1000.0)
    plane[np.hypot(x - 25, y) < 15] = -850.0
    for place in range(-40, 0, 10):
        plane[np.hypot(x - place, y - 20) < 2] = 250.0
    rng = np.random.default_rng(3)
    values = np.stack([plane, plane]) + noise_hu * rng.standard_normal((2, 128, 128))
    return label("hu", values, {"z": np.arange(2.0), "y": axis, "x": axis})


@pytest.mark.parametrize("noise", [5.0, 15.0])
def test_noise_beside_vessels_and_lung_is_that_put_in(noise):
    image = body(noise)
    where = even_tissue(image)
    assert not where.values[:, 64, 80:100].any()  # the lung
    # the mode of 49-pixel standard deviations has a scatter of 10 % each, thousands of them; bins of 0.25 HU
    assert tissue_noise(image, where, side_mm=7.0) == pytest.approx(noise, rel=0.06)


def test_local_sd_is_that_of_numpy():
    image = body(10.0)
    patch = image.values[0, 60:67, 60:67]
    assert float(local_sd(image, side_mm=7.0)[0, 63, 63]) == pytest.approx(patch.std(ddof=1), rel=1e-9)


def test_too_little_tissue_is_refused():
    image = body(5.0)
    with pytest.raises(InputError, match="500 pixels"):
        tissue_noise(image, even_tissue(image, low_hu=400.0, high_hu=500.0))
