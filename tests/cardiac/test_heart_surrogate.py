"""Surrogate, sensitivity and calibration against answers known in closed form."""

import numpy as np
import pytest
import xarray as xr

from twinlab.cardiac.twin import calibrate, design, fit, predict, sobol
from twinlab.schema import InputError

pytest.importorskip("sklearn", reason="needs scikit-learn (extra heart)")

ISHIGAMI = dict.fromkeys("abc", (-np.pi, np.pi))
MATRIX = np.array([[1.0, 0.5], [0.2, 1.0]])
BOX = {"a": (-4.0, 4.0), "b": (-4.0, 4.0)}


def ishigami(inputs):
    a, b, c = (inputs[k].values for k in "abc")
    return xr.Dataset({"f": ("case", np.sin(a) + 7 * np.sin(b) ** 2 + 0.1 * c**4 * np.sin(a))})


def linear(inputs):
    u, v = MATRIX @ np.stack([inputs["a"].values, inputs["b"].values])
    return xr.Dataset({"u": ("case", u), "v": ("case", v)})


def smooth(inputs):
    a, b = inputs["a"].values, inputs["b"].values
    return xr.Dataset({"g": ("case", np.exp(0.2 * a) + np.sin(0.5 * b) * a)})


def test_sobol_indices_of_the_ishigami_function():
    """Closed form: Ishigami and Homma (1990) with a = 7, b = 0.1."""
    found = sobol(ishigami, ISHIGAMI, n=2048, seed=1)
    variance = 0.5 + 49 / 8 + 0.1 * np.pi**4 / 5 + 0.01 * np.pi**8 / 18
    own = np.array([0.5 * (1 + 0.1 * np.pi**4 / 5) ** 2, 49 / 8, 0.0]) / variance
    both = 0.01 * np.pi**8 * (1 / 18 - 1 / 50) / variance
    for name, exact in (("first", own), ("total", own + [both, 0.0, both])):
        width = (found[f"{name}_high"] - found[f"{name}_low"]).values[0] / 2
        # the 95 % interval is 1.96 sd wide on each side; six numbers all lie within 3 sd
        assert (np.abs(found[name].values[0] - exact) < 1.5 * width).all()
        assert width.max() < 0.1  # narrow enough to tell the inputs apart


def test_the_design_fills_the_box_evenly_and_repeats():
    inputs = design(BOX, n=64, seed=3)
    assert inputs.equals(design(BOX, n=64, seed=3))
    for name, (low, high) in BOX.items():
        counts, _ = np.histogram(inputs[name], bins=8, range=(low, high))
        assert (counts == 8).all()


def test_surrogate_says_its_own_error():
    """Fresh points: the error is no larger than told (left-out points are farther from the rest), intervals hold."""
    inputs = design(BOX, n=64, seed=0)
    made = fit(inputs, smooth(inputs), bounds=BOX)
    fresh = design(BOX, n=256, seed=5)
    mean, sd = predict(made, fresh)
    gap = np.abs(mean["g"] - smooth(fresh)["g"]).values
    told = float(made.error["rmse"].sel(output="g"))
    assert np.sqrt((gap**2).mean()) < 1.1 * told
    assert told < 0.02 * float(smooth(fresh)["g"].std())
    # binomial: 256 points at 95 % spread by 1.4 %; points of one function are not independent
    assert (gap < 1.96 * sd["g"].values).mean() > 0.90


def test_left_out_error_is_that_of_refitting_without_the_run():
    """Closed form against taking each run out, lengths held."""
    inputs = design(BOX, n=24, seed=0)
    outputs = smooth(inputs)
    made = fit(inputs, outputs, bounds=BOX).processes["g"]
    kernel = made.regressor.kernel_
    x, y = made.regressor.X_train_, made.regressor.y_train_
    matrix = kernel(x)
    gaps = []
    for i in range(24):
        rest = np.delete(np.arange(24), i)
        weights = np.linalg.solve(matrix[np.ix_(rest, rest)], y[rest])
        gaps.append(y[i] - matrix[i, rest] @ weights)
    inverse = np.linalg.inv(matrix)
    np.testing.assert_allclose(inverse @ y / np.diag(inverse), gaps, rtol=1e-6, atol=1e-8)
    # the trend's leverage only enlarges it
    assert made.left_out(outputs["g"].values)[0] >= made.scale * np.sqrt(np.mean(np.square(gaps)))


def test_posterior_of_a_linear_model_is_the_normal_one():
    told = {"u": (0.7, 0.1), "v": (-0.3, 0.2)}
    found = calibrate(linear, bounds=BOX, measurements=told, runs=32, rounds=1, seed=2)
    precision = np.diag([1 / 0.1**2, 1 / 0.2**2])
    covariance = np.linalg.inv(MATRIX.T @ precision @ MATRIX)
    mean = covariance @ MATRIX.T @ precision @ [0.7, -0.3]
    sd = np.sqrt(np.diag(covariance))
    # 2,000 particles, somewhat dependent: mean to 3 sd / sqrt(500), sd to 3 / sqrt(1000)
    assert (np.abs(found.summary["mean"].values - mean) < 0.13 * sd).all()
    np.testing.assert_allclose(found.summary["sd"].values, sd, rtol=0.1)
    assert (np.abs(found.fit["pull"]) < 0.5).all()
    assert not found.summary["at_edge"].any()
    assert (found.summary["learnt"] > 0.95).all()


def test_what_cannot_be_is_refused():
    with pytest.raises(InputError, match="parameters within their ranges that give u 50"):
        calibrate(linear, bounds=BOX, measurements={"u": (50.0, 0.1)}, runs=16, rounds=0)
    with pytest.raises(InputError, match="standard uncertainty above 0"):
        calibrate(linear, bounds=BOX, measurements={"u": (1.0, 0.0)})
    with pytest.raises(InputError, match="outputs of the model"):
        calibrate(linear, bounds=BOX, measurements={"w": (1.0, 0.1)}, runs=16)
    inputs = design(BOX, n=4)
    with pytest.raises(InputError, match="6 runs or more for 2 inputs"):
        fit(inputs, smooth(inputs), bounds=BOX)
    inputs = design(BOX, n=16)
    made = fit(inputs, smooth(inputs), bounds=BOX)
    with pytest.raises(InputError, match="inputs b: expected -4 to 4"):
        predict(made, inputs.assign(b=inputs["b"] + 9.0))
    with pytest.raises(InputError, match="a power of two"):
        sobol(linear, BOX, n=100)
    with pytest.raises(InputError, match="low below high"):
        design({"a": (1.0, 1.0)}, n=4)
