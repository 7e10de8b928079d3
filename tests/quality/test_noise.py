"""Noise measures against noise of known spectrum."""

import numpy as np
import pytest
import xarray as xr

from twinlab.quality import noise_hu, nps, nps_radial
from twinlab.schema import InputError


def white(n: int, size: int, sd: float, step: float, seed: int = 1) -> xr.DataArray:
    values = np.random.default_rng(seed).normal(0, sd, (n, size, size))
    grid = np.arange(size) * step
    return xr.DataArray(
        values, dims=("repeat", "y", "x"), coords={"y": grid, "x": grid}, attrs={"units": "HU"}
    )


def test_nps_integrates_to_the_variance():
    rois = white(40, 32, 12.0, 0.7)
    spectrum = nps(rois)
    df = float(spectrum.fx[1] - spectrum.fx[0])
    # Parseval: an identity, so rounding only.
    assert float(spectrum.sum() * df * df) == pytest.approx(
        float(rois.var("repeat", ddof=1).mean()), rel=1e-10
    )


def test_white_noise_is_flat_at_variance_times_pixel_area():
    spectrum = nps(white(400, 32, 10.0, 0.5))
    # 400 repeats: a sample of the periodogram has relative sd 1/20; rings average at least 4 of them.
    rings = nps_radial(spectrum)
    assert np.asarray(rings)[1:] == pytest.approx(100 * 0.25, rel=0.1)
    assert float(spectrum.mean()) == pytest.approx(25.0, rel=0.01)  # 400 x 1024 samples: 0.2 %


def test_structure_common_to_all_repeats_is_no_noise():
    rois = white(10, 16, 5.0, 1.0)
    ramp = xr.DataArray(np.linspace(-500, 500, 16), dims="x", coords={"x": rois.x})
    xr.testing.assert_allclose(nps(rois + ramp), nps(rois))
    xr.testing.assert_allclose(noise_hu(rois + ramp), noise_hu(rois))


def test_radial_frequencies_are_those_of_the_samples():
    # A spectrum equal to the radius must come back as the identity.
    f = np.fft.fftshift(np.fft.fftfreq(32, 0.5))
    radius = np.hypot(*np.meshgrid(f, f, indexing="ij"))
    ring = nps_radial(xr.DataArray(radius, dims=("fy", "fx"), coords={"fy": f, "fx": f}))
    assert np.asarray(ring) == pytest.approx(np.asarray(ring.frequency), abs=1e-12)


@pytest.mark.parametrize("bad", [white(1, 8, 1, 1), white(3, 8, 1, 1).isel(repeat=0)])
def test_too_few_repeats_are_refused(bad):
    with pytest.raises(InputError, match="repeat"):
        nps(bad)
