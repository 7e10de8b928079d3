"""Surrogate, sensitivity and calibration against answers known in closed form."""

import numpy as np
import pytest
import xarray as xr

from twinlab.cardiac.twin import calibrate, design, fit, predict, sobol
from twinlab.cardiac.twin.surrogate import _trend
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


@pytest.mark.parametrize("runs", [8, 24])  # a linear and a quadratic trend
def test_left_out_error_is_that_of_refitting_without_the_run(runs):
    """Closed form against taking each run out of trend and process, lengths held; so for the predicted uncertainty.

    Tolerances are those of inverses of poor condition.
    """
    x_of = design(BOX, n=runs, seed=0)
    outputs = smooth(x_of)
    made = fit(x_of, outputs, bounds=BOX)
    process = made.processes["g"]
    x, y = process.regressor.X_train_, outputs["g"].values
    matrix, terms = process.regressor.kernel_(x), _trend(x, process.square)
    gaps, sds = [], []
    for i in range(runs):
        rest = np.delete(np.arange(runs), i)
        # generalised least squares and simple kriging of what it leaves, as textbooks write them
        inverse = np.linalg.inv(matrix[np.ix_(rest, rest)])
        cover = np.linalg.inv(terms[rest].T @ inverse @ terms[rest])
        trend = cover @ terms[rest].T @ inverse @ y[rest]
        near = inverse @ matrix[rest, i]
        gaps.append(y[i] - terms[i] @ trend - near @ (y[rest] - terms[rest] @ trend))
        left = terms[i] - terms[rest].T @ near
        sds.append(np.sqrt(matrix[i, i] - matrix[i, rest] @ near + left @ cover @ left))
    gaps, sds = np.array(gaps), process.scale * np.array(sds)
    told = made.error.sel(output="g")
    np.testing.assert_allclose(told["rmse"], np.sqrt((gaps**2).mean()), rtol=1e-4)
    np.testing.assert_allclose(told["coverage"], (np.abs(gaps) < 1.96 * sds).mean())
    fresh = design(BOX, n=8, seed=7)
    mean, sd = predict(made, fresh)
    x_new = np.stack([(fresh[k].values + 4.0) / 8.0 for k in BOX], axis=1)
    inverse, far = np.linalg.inv(matrix), process.regressor.kernel_(x_new, x)
    cover, t_new = np.linalg.inv(terms.T @ inverse @ terms), _trend(x_new, process.square)
    trend = cover @ terms.T @ inverse @ y
    left = t_new - far @ inverse @ terms
    wanted = np.diag(process.regressor.kernel_(x_new) - far @ inverse @ far.T + left @ cover @ left.T)
    np.testing.assert_allclose(mean["g"], t_new @ trend + far @ inverse @ (y - terms @ trend), rtol=1e-4)
    np.testing.assert_allclose(sd["g"], process.scale * np.sqrt(wanted), rtol=1e-3)


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
