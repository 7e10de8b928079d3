"""The learned denoiser: trained in seconds on a small scanner, reproducible, and what it does to noise and edges."""

import builtins

import numpy as np
import pytest
from scan_cases import small_protocol

from twinlab.ct import denoiser, denoiser_training
from twinlab.ct.denoiser import Denoiser, denoise
from twinlab.ct.denoiser_training import train_denoiser
from twinlab.schema import InputError, label

TINY = {
    "n_objects": 3,
    "realisations": 3,
    "steps": 200,
    "size": 96,
    "channels": 8,
    "bias_weight": 0.0,
    "progress": False,
}
TINIEST = {**TINY, "n_objects": 1, "realisations": 1, "steps": 5, "channels": 4}


def needs_torch():
    pytest.importorskip("torch", reason="torch is not installed (extra: torch)")


@pytest.fixture(scope="module")
def protocol():
    # 64 wide channels: 0.6 mAs gives noise of about 20 HU
    base = small_protocol(mas=0.6, n_channels=128, n_rows=1, noise_kev=50.0)
    return base.replace(scanner=base.scanner.model_copy(update={"views_per_rotation": 96}))


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TWINLAB_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="module")
def model(protocol, cache):
    needs_torch()
    return train_denoiser(protocol, seed=1, **TINY)


def test_the_same_seed_gives_the_same_weights(protocol, tmp_path, monkeypatch):
    needs_torch()
    made = []
    for folder, seed in (("one", 3), ("two", 3), ("three", 4)):
        monkeypatch.setenv("TWINLAB_CACHE", str(tmp_path / folder))
        made.append(train_denoiser(protocol, seed=seed, **TINIEST))
    one, two, other = made
    assert one.facts == two.facts
    assert all(np.array_equal(one.weights[name], two.weights[name]) for name in one.weights)
    assert not np.array_equal(one.weights["weight0"], other.weights["weight0"])


def test_weights_are_small_and_kept_in_the_cache(model, protocol, cache, monkeypatch):
    train_denoiser(protocol, seed=1, **TINY)
    assert len(list(cache.rglob("*.npz"))) == 1
    monkeypatch.setattr(denoiser_training, "_pairs", None)  # nothing is scanned again
    loaded = train_denoiser(protocol, seed=1, **TINY)
    assert all(np.array_equal(loaded.weights[name], model.weights[name]) for name in model.weights)
    assert loaded.facts == model.facts
    full = 4 * (2 * 9 * denoiser.CHANNELS + 3 * 9 * denoiser.CHANNELS**2 + 4 * denoiser.CHANNELS + 1)
    assert model.n_bytes < full < 200_000


def test_noise_falls_and_means_stay(model):
    facts = model.facts
    # 200 steps on 9 images of pixels as wide as a channel, whose noise is hardly correlated
    assert facts["noise_after_hu"] < 0.88 * facts["noise_before_hu"]
    assert abs(facts["bias_hu"]) < 0.2 * facts["noise_before_hu"]
    assert set(facts["edge_after_mm"]) == {"+50 HU", "+200 HU", "-100 HU"}
    assert facts["edge_after_mm"]["+200 HU"] < 1.2 * facts["edge_mm"]["+200 HU"]


def test_a_greater_weight_of_bias_keeps_edges_and_noise(model, protocol, cache):
    faithful = train_denoiser(protocol, seed=1, **{**TINY, "bias_weight": 12.0})
    assert faithful.facts["key"] != model.facts["key"]
    assert (
        model.facts["noise_after_hu"] < faithful.facts["noise_after_hu"] < faithful.facts["noise_before_hu"]
    )
    wider = [m.facts["edge_after_mm"]["+50 HU"] / m.facts["edge_mm"]["+50 HU"] for m in (faithful, model)]
    assert wider[0] < wider[1]


def image(n=64, pixel=3.0, **attrs):
    place = (np.arange(n) - 0.5 * (n - 1)) * pixel
    values = np.random.default_rng(0).standard_normal((2, n, n)).astype(np.float32) * 20.0
    return label("hu", values, {"z": [0.0, 1.0], "y": place, "x": place}, **attrs)


def test_an_image_keeps_its_labels_and_gaps(model):
    noisy = image(pixel=model.facts["pixel_mm"], kernel="standard", kv=120)
    noisy[0, :3] = np.nan
    clean = denoise(noisy, model=model)
    assert np.isnan(clean.values[0, :3]).all()
    assert np.isfinite(clean.values[0, 3:]).all()
    assert clean.attrs["units"] == "HU"
    assert clean.attrs["kv"] == 120
    assert clean.attrs["denoiser"] == model.facts["key"]
    assert clean.attrs["noise_after_hu"] == model.facts["noise_after_hu"]
    assert np.array_equal(clean["x"], noisy["x"])


def test_bias_is_told_from_noise_that_is_greater():
    needs_torch()
    import torch

    rng = np.random.default_rng(0)
    errors = rng.standard_normal((6, 4, 1, 64, 64)) + 0.3  # bias of 0.3 below noise of 1
    found = float(denoiser_training.squared_bias(torch.from_numpy(errors.reshape(24, 1, 64, 64)), 4))
    # sd of products of two noises: 1 / sqrt(6 pairs x 6 x 4096 pixels); of bias and noise: 2 x 0.3 / sqrt(4 x 6 x 4096)
    assert found == pytest.approx(0.09, abs=3 * (1 / np.sqrt(6 * 6 * 4096) + 0.6 / np.sqrt(4 * 6 * 4096)))
    assert float(denoiser_training.squared_bias(torch.ones((3, 1, 8, 8)), 1)) == 0.0


def test_an_untrained_network_changes_nothing():
    needs_torch()
    import torch

    net = denoiser.network(torch, channels=4)
    still = Denoiser(denoiser.weights_of(net), {"scale_hu": 80.0})
    values = image().values
    assert np.array_equal(denoiser.apply_weights(values, still), values)


def test_refuses_what_it_was_not_trained_for(model):
    pixel = model.facts["pixel_mm"]
    with pytest.raises(InputError, match="as the model's"):
        denoise(image(pixel=1.5 * pixel), model=model)
    with pytest.raises(InputError, match="kernel 'standard'"):
        denoise(image(pixel=pixel, kernel="sharp"), model=model)


def test_refuses_another_slice_tube_voltage_or_exposure(model):
    facts = model.facts
    same = {"slice_thickness_mm": facts["slice_thickness_mm"], "kv": 120.0, "mas": 1.9 * facts["mas"]}
    noisy = image(pixel=facts["pixel_mm"], kernel="standard", **same)
    assert np.isfinite(denoise(noisy, model=model)).all()
    for change, message in (
        ({"slice_thickness_mm": 5.0 * facts["slice_thickness_mm"]}, "slice thickness"),
        ({"kv": 80.0}, r"\[kV\] of 120, as the model's; got 80"),
        ({"mas": 2.5 * facts["mas"]}, r"\[mAs\] of about 0.6, as the model's; got 1.5"),
        ({"mas": 0.2 * facts["mas"]}, "mAs"),
    ):
        with pytest.raises(InputError, match=message):
            denoise(noisy.assign_attrs(change), model=model)


@pytest.mark.parametrize("wrong", [None, "foo"])
def test_a_missing_model_is_refused_before_torch_is_needed(monkeypatch, wrong):
    monkeypatch.setattr(denoiser, "require_torch", None)
    with pytest.raises(InputError, match="train_denoiser"):
        denoise(image(), model=wrong)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, "steps"),
        ({"bias_weight": -1.0}, "bias_weight"),
        ({"size": 32}, "size"),
        ({"size": 96, "pixel_mm": 40.0}, "pixel_mm"),
    ],
)
def test_refuses_settings(protocol, change, message):
    needs_torch()
    with pytest.raises(InputError, match=message):
        train_denoiser(protocol, progress=False, **change)


def test_without_torch_it_says_how_to_get_it(protocol, monkeypatch):
    usual = builtins.__import__

    def without(name, *arguments, **options):
        if name == "torch":
            raise ImportError(name)
        return usual(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match=r"pip install 'twinlab\[torch\]'"):
        train_denoiser(protocol)
    with pytest.raises(InputError, match=r"pip install 'twinlab\[torch\]'"):
        denoise(image(), model=Denoiser({}, {}))
