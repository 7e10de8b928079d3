"""Reconstruction kernels against closed forms."""

from __future__ import annotations

import math
import os
import subprocess
import sys

import numpy as np
import pytest

from twinlab.ct.filters import (
    KERNELS,
    apodised_kernel,
    filter_matrix,
    fit_kernel,
    interpolation_matrix,
    mtf,
    ramp_kernel,
)
from twinlab.ct.row_filter import even
from twinlab.schema import InputError


@pytest.mark.parametrize(
    ("name", "mtf50", "mtf10"), [("smooth", 3.0, 5.5), ("standard", 4.0, 6.5), ("sharp", 6.0, 9.0)]
)
def test_mtf_at_the_documented_frequencies(name: str, mtf50: float, mtf10: float) -> None:
    # lp/cm to 1/mm; by definition, so only rounding is tolerated
    assert mtf(name, [0.0, mtf50 / 10, mtf10 / 10]) == pytest.approx([1.0, 0.5, 0.1], abs=1e-12)


def test_unknown_kernel_is_refused() -> None:
    with pytest.raises(InputError, match="smooth, standard"):
        mtf("B31f", 0.1)


def test_ramp_kernel_is_that_of_kak_and_slaney() -> None:
    tau = 0.6
    n = np.arange(12)
    expected = np.where(n % 2 == 1, -1.0 / (np.maximum(n, 1) * math.pi * tau) ** 2, 0.0)
    expected[0] = 1.0 / (4.0 * tau**2)
    # closed form against closed form: rounding
    assert ramp_kernel(n * tau, 0.5 / tau) == pytest.approx(expected, abs=1e-12)
    assert apodised_kernel("ramp", step_mm=tau, count=12, nyquist_per_mm=0.5 / tau) == pytest.approx(
        expected, abs=1e-9
    )


@pytest.mark.parametrize("name", KERNELS)
def test_response_is_the_apodised_ramp_and_zero_at_zero(name: str) -> None:
    step, count, nyquist = 0.3, 4000, 1.0 / 1.2
    taps = apodised_kernel(name, step_mm=step, count=count, nyquist_per_mm=nyquist)
    lag = step * np.arange(count)
    for f in (0.1, 0.3, 0.5):
        response = step * (taps[0] + 2 * (taps[1:] * np.cos(2 * math.pi * f * lag[1:])).sum())
        # the cut of the sum at 1.2 m leaves 1/(2 pi^2 s^2)-like tails of 1e-4 of the ramp
        assert response == pytest.approx(f * mtf(name, f), abs=2e-4)
    # the tail beyond the last lag is known, -1/(2 pi^2 s^2) on average: with it the zero frequency is exact
    tail = -2.0 / (2 * math.pi**2 * (count - 0.5) * step)
    # "ramp" oscillates as nyquist/(pi s) up to the cut: 7e-5 after the step's factor
    assert step * (taps[0] + 2 * taps[1:].sum()) + tail == pytest.approx(
        0.0, abs=1e-4 if name == "ramp" else 1e-7
    )


def test_interpolation_is_exact_at_channels_and_for_smooth_signals() -> None:
    assert interpolation_matrix(np.arange(20.0), 20) == pytest.approx(np.eye(20), abs=1e-9)
    position = np.linspace(30.0, 70.0, 81)
    signal = np.cos(2 * math.pi * 0.2 * np.arange(101))
    # 0.2 cycles a channel, 40 % of Nyquist: theory for the quintic spline (0.2/0.8)^6 = 2.4e-4
    assert interpolation_matrix(position, 101) @ signal == pytest.approx(
        np.cos(2 * math.pi * 0.2 * position), abs=6e-4
    )


def test_filter_matrix_filters_a_disc_exactly() -> None:
    """Centre of a disc back-projected from its filtered chords: 1, for parallel channels."""
    step, half = 0.5, 150
    channels = (
        2 * step * (np.arange(151) - 75.0 + 0.25)
    )  # the quarter offset cancels the first sampling error
    position = np.arange(-half, half + 1) / 2 + 75.0 - 0.25
    matrix = filter_matrix(
        "smooth", channel_position=position, first=-half, n_channels=151, step_mm=step, out=(-40, 41)
    )
    chord = 2 * np.sqrt(np.maximum(50.0**2 - channels**2, 0.0))
    # filtered chords of a disc are 1/pi inside; sampling of the edge at 1 mm leaves 1e-4
    assert math.pi * (matrix @ chord) == pytest.approx(np.ones(81), abs=5e-4)


def test_kernel_fitted_to_the_standard_wire_of_a_scanner() -> None:
    """Cells of 0.6 mm and a focal spot of 0.45 mm at the isocentre, then the kernel: 4.6/7.8/8.6 lp/cm in all."""
    apertures = (0.6, 0.45)
    kernel = fit_kernel(4.6, 7.8, aperture_mm=apertures)
    frequency = np.linspace(0.01, 1.2, 5000)
    total = mtf(kernel, frequency) * np.sinc(apertures[0] * frequency) * np.sinc(apertures[1] * frequency)
    for level, wanted in ((0.5, 0.46), (0.1, 0.78)):
        # by construction; the table's step
        assert frequency[np.argmax(total < level)] == pytest.approx(wanted, abs=3e-4)
    # the third point is not asked for: demanded within 5 %
    assert frequency[np.argmax(total < 0.05)] == pytest.approx(0.86, rel=0.05)


def test_kernels_that_cannot_be_are_refused() -> None:
    for wanted in ((7.8, 4.6), (0.0, 4.6), (float("nan"), 4.6)):
        with pytest.raises(InputError, match="mtf50_per_cm < mtf10_per_cm"):
            fit_kernel(*wanted)
    with pytest.raises(InputError, match="detector cell and focal spot"):
        fit_kernel(12.0, 20.0, aperture_mm=(0.6,))


_PRODUCT = """
import hashlib
import numpy as np
rng = np.random.default_rng(1)
a, b = (rng.standard_normal(shape, dtype=np.float32) for shape in ((704, {k}), ({k}, 1440)))
print(hashlib.sha256((a @ b).tobytes()).hexdigest())
"""


def test_products_of_even_length_have_the_same_bits_on_any_number_of_threads() -> None:
    """Of the BLAS that NumPy's wheels bring; 900 channels by themselves differ between one and two threads."""
    assert [even(n) for n in (1, 32, 900)] == [32, 32, 928]
    told = np.show_config(mode="dicts")
    if "openblas" not in str(told["Build Dependencies"]["blas"]["name"]):
        pytest.skip("another BLAS")
    bits = set()
    for threads in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", _PRODUCT.format(k=even(900))],
            env={**os.environ, "OPENBLAS_NUM_THREADS": threads}, capture_output=True, text=True, check=True,
        )  # fmt: skip
        bits.add(done.stdout)
    assert len(bits) == 1
