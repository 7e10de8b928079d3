"""The simulated scanner on its check phantom: inserts, resolution, slice, noise, each against theory."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from twinlab import ct
from twinlab.ct.filters import apertures_mm, fit_kernel, mtf
from twinlab.phantom import load_recipe
from twinlab.quality import noise_hu, nps, nps_radial
from twinlab.quality.scanner_checks import (
    covariance_nps,
    expected_mtf,
    expected_width,
    noise_covariance,
    profile_width,
    region_mean,
    rod_mtf,
    spectral_hu,
)
from twinlab.scanner import Sampling, load_protocol, trajectory
from twinlab.schema import InputError

RECIPE = load_recipe("scanner_checks")


def theoretical_nps_shape(kernel: str, frequency_per_mm) -> np.ndarray:
    """Shape of the noise power of filtered back-projection of even white readings: ``f MTF(f)^2``.

    References
    ----------
    Riederer SJ, Pelc NJ, Chesler DA (1978) The noise power spectrum in computed X-ray tomography.
    Phys Med Biol 23:446.
    """
    frequency = np.asarray(frequency_per_mm, float)
    return frequency * mtf(kernel, frequency) ** 2


def scan(
    z_mm: float, *, collimation_mm: float = 2.5, channel: int = 1, row: int = 1, views: int = 984, **more
):
    """Protocol and projections of one rotation."""
    setting = load_protocol(
        "qc_axial",
        collimation_mm=collimation_mm,
        slice_thickness_mm=1.25,
        sampling=Sampling(cell_channel=channel, cell_row=row),
    )
    setting = setting.replace(scanner=setting.scanner.model_copy(update={"views_per_rotation": views}))
    path = trajectory(setting, z_range_mm=(z_mm - collimation_mm / 2, z_mm + collimation_mm / 2))
    return setting, ct.scan_phantom(RECIPE, setting, trajectory=path, seed=1, **more)


def test_inserts_read_their_spectral_truth():
    setting, projections = scan(-45.0, noise=False, views=492)
    axis = np.arange(-70, 71, 2.0)
    hu = ct.reconstruct(projections, setting, grid={"z": [-45.0], "y": axis, "x": axis})
    for shape in (s for s in RECIPE.shapes if s.name.startswith("insert")):
        found = region_mean(hu, x_mm=shape.centre_mm.x, y_mm=shape.centre_mm.y, radius_mm=8.0)
        # 0.5 HU seen with 984 views; half of them add streaks
        assert found == pytest.approx(spectral_hu(RECIPE, shape.name, setting), abs=3.0), shape.name


def test_rod_has_the_transfer_of_kernel_and_channel():
    setting, projections = scan(38.0, noise=False, channel=3, views=738)
    axis = np.arange(-40, 41) * 0.2
    frequency = np.array([0.05, 0.2, 0.3, 0.4, 0.5])
    for kernel in ("smooth", "standard"):
        hu = ct.reconstruct(
            projections, setting, grid={"z": [38.0], "y": axis - 10.0, "x": axis + 20.0}, kernel=kernel
        )
        found = rod_mtf(hu[0], x_mm=20.0, y_mm=-10.0, diameter_mm=1.0, frequency_per_mm=frequency)
        wanted = expected_mtf(setting, frequency, kernel=kernel)
        # 5 % of the largest transfer is wanted; 0.003 was seen with four points a channel
        assert found.to_numpy() == pytest.approx(wanted, abs=0.012), kernel


def test_rod_has_the_resolution_that_a_fitted_kernel_was_asked_for():
    """Cells of 0.9 of their pitch, as the scanner has them and the scan samples them."""
    setting, projections = scan(38.0, noise=False, channel=3, views=738)
    kernel = fit_kernel(4.2, 6.6, aperture_mm=apertures_mm(setting.scanner))
    axis = np.arange(-40, 41) * 0.2
    grid = {"z": [38.0], "y": axis - 10.0, "x": axis + 20.0}
    hu = ct.reconstruct(projections, setting, grid=grid, kernel=kernel)
    frequency = np.linspace(0.3, 0.8, 101)
    found = rod_mtf(hu[0], x_mm=20.0, y_mm=-10.0, diameter_mm=1.0, frequency_per_mm=frequency).to_numpy()
    assert expected_mtf(setting, [0.42, 0.66], kernel=kernel) == pytest.approx([0.5, 0.1], abs=1e-9)
    for level, wanted in ((0.5, 0.42), (0.1, 0.66)):
        # 5 % of the frequency is what scanners are accepted by; views and points of a channel are few
        assert frequency[np.argmax(found < level)] == pytest.approx(wanted, rel=0.05)


def test_disc_shows_the_slice_profile():
    setting, projections = scan(45.0, noise=False, collimation_mm=10.0, row=3, views=164)
    z = np.arange(42.6, 47.41, 0.1)
    for thickness in (1.25, 2.5):
        hu = ct.reconstruct(
            projections,
            setting,
            grid={"z": z, "y": [20.0, 21.0], "x": [-30.0, -29.0]},
            slice_thickness_mm=thickness,
        )
        profile = hu.mean(["y", "x"])
        width = profile_width(z, profile - profile[0])
        assert width == pytest.approx(expected_width(setting, thickness), rel=0.05)  # 0.1 % seen


@pytest.mark.parametrize("count", [6, pytest.param(64, marks=pytest.mark.slow)])
def test_noise_has_the_size_and_spectrum_that_theory_gives(count):
    few = count < 20
    setting, projections = scan(0.0, variance=True, views=246 if few else 984)
    side = (np.arange(65) - 32) * 0.7
    grid = {"z": [0.0], "y": side + 17.3, "x": side + 23.9}
    covariance = noise_covariance(projections, setting, grid=grid)
    expected = float(covariance[32, 32]) ** 0.5
    path = trajectory(setting, z_range_mm=(-1.25, 1.25))
    paths = ct.line_integrals(RECIPE, setting, path)
    signals = ct.detected(paths, setting)
    images = [
        ct.reconstruct(
            ct.acquire(paths, setting, seed=1, realisation=i, signals=signals), setting, grid=grid
        )[0]
        for i in range(count)
    ]
    stack = xr.concat(images, "repeat")
    seen = float(np.sqrt((noise_hu(stack) ** 2).mean()))
    # 4,225 pixels, noise correlated over about 1.5 mm: 1,000 independent values an image, 2.3 % each; 0.9 % of six
    assert seen == pytest.approx(expected, rel=0.03 if few else 0.02)
    radial, theory = nps_radial(nps(stack)), nps_radial(covariance_nps(covariance))
    band = slice(0.15, 0.5)
    measured, predicted = (s.sel(frequency=band).to_numpy() for s in (radial, theory))
    shape = theoretical_nps_shape("standard", radial["frequency"].sel(frequency=band))
    shape *= predicted.sum() / shape.sum()
    # the propagated spectrum, and measured against it in five bands
    bands = [np.array_split(values, 5) for values in (measured, predicted)]
    ratio = np.array([m.sum() / p.sum() for m, p in zip(*bands, strict=True)])
    rms = np.sqrt(np.mean((shape - predicted) ** 2)) / predicted.max()
    print(
        f"noise over theory {seen / expected:.4f}, bands {ratio.round(3)}, closed form {rms:.4f} of the peak"
    )
    # the closed form knows neither interpolation nor the fan: 0.06 % RMS of the peak seen, 2 % with 246 views
    assert rms < 0.03
    assert ratio == pytest.approx(1.0, abs=0.12 if few else 0.05), ratio
    if not few:  # 3 % wanted, over the whole band: one standard error of a band is 1.5 %
        assert np.sqrt(np.mean((ratio / ratio.mean() - 1.0) ** 2)) < 0.03


def test_refuses():
    with pytest.raises(InputError, match="insert_pmma"):
        spectral_hu(RECIPE, "insert_gold", load_protocol("qc_axial"))
    with pytest.raises(InputError, match="half of its peak"):
        profile_width([0.0, 1.0, 2.0], [1.0, 2.0, 3.0])
    with pytest.raises(InputError, match="odd counts"):
        noise_covariance(xr.Dataset(), load_protocol("qc_axial"), grid={"z": [0.0], "y": [0, 1], "x": [0, 1]})
