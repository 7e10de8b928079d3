"""Learned denoiser: a small residual network for slices, its weights in the user's cache.

The network sees one slice and predicts its noise, which is taken away. torch is an extra and imported when it
is needed; training is in :mod:`twinlab.ct.denoiser_training`.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from twinlab import sample
from twinlab.schema import check, label, refuse, spacing

LAYERS = 5
CHANNELS = 24
_PIXEL_TOLERANCE = 0.1  # of the pixel size for which the network was trained: noise texture scales with it
_COMPARED = (  # attr of the image, words, greatest factor between image and model
    ("slice_thickness_mm", "a slice thickness [mm]", 1.1),
    ("kv", "a tube voltage [kV]", 1.001),
    ("mas", "an exposure [mAs]", 2.001),  # training has half to twice the protocol's
)


@dataclass(frozen=True)
class Denoiser:
    """Weights of a trained network and what they are good for.

    Attributes
    ----------
    weights : mapping of str to float32 array
        ``weight0``, ``bias0``, ... of the layers.
    facts : mapping
        ``key`` of protocol, settings and source; ``kernel``, ``pixel_mm``, ``slice_thickness_mm``, ``kv``, ``mas``
        of the training images; ``scale_hu``; and measured on objects
        that were not trained on: ``noise_before_hu``, ``noise_after_hu``, ``bias_hu`` (largest mean error in a
        uniform region), ``edge_mm`` and ``edge_after_mm`` (width of an edge as the sigma of a Gaussian, by contrast).
    """

    weights: Mapping[str, NDArray[np.float32]]
    facts: Mapping[str, Any]

    @property
    def n_bytes(self) -> int:
        """Size of the weights."""
        return int(sum(values.nbytes for values in self.weights.values()))


def require_torch(where: str) -> Any:
    """The torch module.

    Raises
    ------
    InputError
        torch is not installed; says how to get it.
    """
    try:
        import torch
    except ImportError:
        refuse(where, "torch: pip install 'twinlab[torch]'", "no torch")
    return torch


def network(torch: Any, *, channels: int = CHANNELS, layers: int = LAYERS) -> Any:
    """Convolutions of 3 x 3 with rectifiers between; the last starts at zero, so that nothing is changed at first.

    References
    ----------
    Zhang et al., IEEE Trans Image Process 26 (2017) 3142 (residual learning of noise).
    """
    parts: list[Any] = []
    for layer in range(layers):
        before = 1 if layer == 0 else channels
        after = 1 if layer == layers - 1 else channels
        parts.append(torch.nn.Conv2d(before, after, 3, padding=1, padding_mode="replicate"))
        if layer < layers - 1:
            parts.append(torch.nn.ReLU())
    torch.nn.init.zeros_(parts[-1].weight)
    torch.nn.init.zeros_(parts[-1].bias)
    return torch.nn.Sequential(*parts)


def weights_of(net: Any) -> dict[str, NDArray[np.float32]]:
    """Weights and biases of a network, layer by layer."""
    found = {}
    for number, layer in enumerate(part for part in net if hasattr(part, "weight")):
        found[f"weight{number}"] = layer.weight.detach().numpy().astype(np.float32)
        found[f"bias{number}"] = layer.bias.detach().numpy().astype(np.float32)
    return found


def apply_weights(values: NDArray[Any], model: Denoiser) -> NDArray[np.float32]:
    """Denoise slices (z, y, x) in HU, one after another.

    Raises
    ------
    InputError
        torch is not installed.
    """
    torch = require_torch("denoise")
    layers = len(model.weights) // 2
    net = network(torch, channels=model.weights["weight0"].shape[0], layers=layers)
    scale = float(model.facts["scale_hu"])
    with torch.no_grad():
        for number, layer in enumerate(part for part in net if hasattr(part, "weight")):
            layer.weight.copy_(torch.from_numpy(np.array(model.weights[f"weight{number}"])))
            layer.bias.copy_(torch.from_numpy(np.array(model.weights[f"bias{number}"])))
        out = np.empty(values.shape, np.float32)
        for number, part in enumerate(values):
            image = torch.from_numpy(np.ascontiguousarray(part, np.float32) / np.float32(scale))
            out[number] = part - scale * net(image[None, None])[0, 0].numpy()
    return out


def denoise(image: xr.DataArray, *, model: Denoiser) -> xr.DataArray:
    """Take noise out of a CT image.

    Parameters
    ----------
    image : DataArray ``hu``, dims (z, y, x), units HU
        Reconstructed with the kernel, about the slice thickness and pixel size (10 %), the kV and from half to
        twice the mAs that the model was trained for; attrs that the image lacks are not compared.
    model : Denoiser
        From :func:`twinlab.ct.train_denoiser`, trained for the protocol.

    Returns
    -------
    DataArray ``hu``, dims (z, y, x), units HU
        NaN stays NaN. Attrs: those of the image, ``denoiser`` (the model's key) and its measured effects.

    Raises
    ------
    InputError
        No model, another kernel, slice, pixel size, kV or mAs than the model's, or torch is not installed.

    Limits
    ------
    Trained for one protocol, from half to twice its exposure. Structure that looks like noise is lowered with it:
    see ``noise_after_hu``, ``bias_hu`` and ``edge_after_mm`` of the model.
    """
    if not isinstance(model, Denoiser):
        refuse("denoise: model", "a Denoiser, from twinlab.ct.train_denoiser(protocol)", repr(model))
    require_torch("denoise")
    check(image, "hu", where="denoise")
    facts = model.facts
    _same_scan(image.attrs, facts)
    for axis in ("y", "x"):
        step = spacing(image[axis], where="denoise")
        if abs(step / float(facts["pixel_mm"]) - 1.0) > _PIXEL_TOLERANCE:
            refuse("denoise", f"pixels of about {facts['pixel_mm']:g} mm, as the model's", f"{step:g} mm")
    ordered = image.transpose("z", "y", "x")
    values = ordered.to_numpy()
    seen = np.isfinite(values)
    clean = apply_weights(np.where(seen, values, -1000.0), model)
    told = {name: facts[name] for name in ("noise_before_hu", "noise_after_hu", "bias_hu")}
    attrs = {name: value for name, value in image.attrs.items() if name not in ("units", "long_name")}
    coords = {axis: ordered[axis].to_numpy() for axis in ("z", "y", "x")}
    result = np.where(seen, clean, np.nan).astype(np.float32)
    return label("hu", result, coords, **{**attrs, "denoiser": str(facts["key"]), **told})


def _same_scan(attrs: Mapping[Any, Any], facts: Mapping[str, Any]) -> None:
    """Refuse an image whose kernel, slice thickness, kV or mAs the model was not trained for."""
    if attrs.get("kernel", facts["kernel"]) != facts["kernel"]:
        refuse("denoise", f"kernel {facts['kernel']!r}, as the model's", repr(attrs["kernel"]))
    for name, words, factor in _COMPARED:
        if name not in attrs:
            continue
        got, own = float(attrs[name]), float(facts[name])
        if not own / factor <= got <= own * factor:
            about = "about " if name != "kv" else ""
            refuse("denoise", f"{words} of {about}{own:g}, as the model's", f"{got:g}")


def _file(key: str) -> Path:
    return sample.cache_folder().parent / "denoiser" / f"{key}.npz"


def load(key: str) -> Denoiser | None:
    """Model of a key from the cache, or None."""
    path = _file(key)
    if not path.is_file():
        return None
    with np.load(path) as stored:
        facts = json.loads(str(stored["facts"]))
        return Denoiser({name: stored[name] for name in stored.files if name != "facts"}, facts)


def save(model: Denoiser) -> Path:
    """Write a model to the cache, whole or not at all."""
    path = _file(model.facts["key"])
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, suffix=".npz")
    with os.fdopen(handle, "wb") as stream:
        np.savez(stream, facts=np.array(json.dumps(dict(model.facts))), **dict(model.weights))  # type: ignore[arg-type]
    os.replace(name, path)
    return path
