"""Train the denoiser on our own scans: random objects, with noise and without, under one protocol.

The target is the noise-free image of the same kernel, so the network learns the texture of the noise that the
protocol makes. The least squared error would blur edges that are fainter than the noise; so bias, known from several
realisations of one place, weighs more than variance.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.optimize
import scipy.special
import xarray as xr
from numpy.typing import NDArray
from tqdm import tqdm

from twinlab.ct import denoiser
from twinlab.ct.denoiser import Denoiser
from twinlab.ct.paths import line_integrals
from twinlab.ct.recon import reconstruct
from twinlab.ct.scan import acquire
from twinlab.keys import content_key, source_key
from twinlab.scanner import Protocol, trajectory
from twinlab.schema import label, refuse

Array = NDArray[Any]
DOSES = (1.0, 0.5, 2.0)  # of the protocol's exposure, in turn
CONTRASTS = {50.0: (0.35, 0.0), 200.0: (-0.35, 0.0), -100.0: (0.0, 0.35)}  # HU: place in the test object
_MATERIALS = ("air", "water", "bone_cortical")
_PATCH, _BATCH = 64, 8
_REPEATS = 4  # realisations of one place in a batch, from which its bias is known
_THREADS = 1  # fixed: sums of gradients depend on how they are split
_RATE = 2e-3
_ROD = 0.12  # radius of a rod, of half the field


@dataclass(frozen=True)
class _Settings:
    """Everything but the protocol that determines the weights."""

    seed: int
    n_objects: int
    realisations: int
    steps: int
    size: int
    pixel_mm: float
    channels: int
    bias_weight: float
    mas: float


def train_denoiser(
    protocol: Protocol,
    *,
    seed: int = 0,
    n_objects: int = 8,
    realisations: int = 4,
    steps: int = 800,
    size: int = 256,
    pixel_mm: float | None = None,
    channels: int = denoiser.CHANNELS,
    bias_weight: float = 12.0,
    mas: float | None = None,
    progress: bool = True,
) -> Denoiser:
    """Train a denoiser for a protocol, or load it when the same was trained before.

    Parameters
    ----------
    protocol : Protocol
        Scanner, kV, kernel, slice thickness, exposure. Scanned as one axial rotation.
    seed : int
        Of objects, noise, first weights and the order of patches. The same seed gives the same weights to the last
        bit on one kind of processor and version of torch.
    n_objects, realisations : int
        Random objects, and noisy images of each, at half, the whole and twice the exposure in turn.
    steps : int
        Of 8 patches of 64 x 64 pixels.
    size, pixel_mm : int, float
        Training images; default pixel ``reconstruction_fov_mm / 512``, enlarged where ``size`` pixels would not hold
        300 mm of it or the field if smaller.
    channels : int
        Of the hidden layers.
    bias_weight : float
        Of squared bias beside variance, above the 1 that the least squared error gives it. At 0 most noise goes, and
        edges fainter than the noise blur; see ``docs/methods/iterative.md`` for what each costs.
    mas : float, optional
        Exposure; default the protocol's.
    progress : bool
        Say the expected time, and show a bar.

    Returns
    -------
    Denoiser

    Raises
    ------
    InputError
        torch is not installed, or a number cannot be used.
    """
    torch = denoiser.require_torch("train_denoiser")
    numbers = {"n_objects": n_objects, "realisations": realisations, "steps": steps, "channels": channels}
    for name, value in numbers.items():
        if value < 1 or value != int(value):
            refuse(f"train_denoiser: {name}", "a whole number from 1", value)
    if not bias_weight >= 0:
        refuse("train_denoiser: bias_weight", "a number from 0", bias_weight)
    if size < _PATCH:
        refuse("train_denoiser: size", f"{_PATCH} pixels or more", size)
    field = 0.95 * min(protocol.reconstruction_fov_mm, protocol.scanner.scan_fov_mm / np.sqrt(2.0))
    default = max(protocol.reconstruction_fov_mm / 512, min(300.0, field) / size)
    pixel = float(default if pixel_mm is None else pixel_mm)
    if not 0 < pixel * size <= protocol.scanner.scan_fov_mm:
        refuse(
            "train_denoiser: pixel_mm", f"{size} pixels within {protocol.scanner.scan_fov_mm:.0f} mm", pixel
        )
    settings = _Settings(
        int(seed),
        n_objects,
        realisations,
        steps,
        size,
        pixel,
        channels,
        float(bias_weight),
        float(mas or protocol.mas),
    )
    key = content_key(protocol, vars(settings), source_key())
    found = denoiser.load(key)
    if found is not None:
        return found
    pairs = _pairs(protocol, settings, progress)
    net, scale, loss = _fit(torch, pairs, settings, progress)
    scan = {
        "kernel": protocol.kernel,
        "kv": float(protocol.kv),
        "slice_thickness_mm": _rows(protocol) * protocol.scanner.row_pitch_isocentre_mm,
    }
    facts = {"key": key, **scan, "scale_hu": scale, "loss": loss, **vars(settings)}
    model = Denoiser(denoiser.weights_of(net), facts)
    model = Denoiser(model.weights, {**facts, **_effects(protocol, settings, model)})
    denoiser.save(model)
    return model


def _ellipse(shape: Array, centre: tuple[float, float], axes: tuple[float, float], turn: float) -> Array:
    """Mask of an ellipse in coordinates from -1 to 1."""
    y, x = shape
    c, s = np.cos(turn), np.sin(turn)
    px, py = x - centre[0], y - centre[1]
    return ((c * px + s * py) / axes[0]) ** 2 + ((c * py - s * px) / axes[1]) ** 2 < 1.0


def _object(settings: _Settings, number: int) -> tuple[Array, Array]:
    """Material and density in the plane: a body with organs, lungs and bones at random; -1: the test object."""
    n = 2 * settings.size
    edge = (np.arange(n) + 0.5) / n * 2.0 - 1.0
    plane = np.stack(np.meshgrid(edge, edge, indexing="ij"))
    material, density = np.zeros((n, n), np.uint8), np.full((n, n), 0.0012, np.float32)
    rng = np.random.default_rng([settings.seed, number + 1])
    a, b = (0.75, 0.75) if number < 0 else rng.uniform(0.55, 0.85, 2)
    body = _ellipse(plane, (0.0, 0.0), (a, b), 0.0)
    material[body], density[body] = 1, 1.0
    if number < 0:
        for contrast, place in CONTRASTS.items():
            density[_ellipse(plane, place, (_ROD, _ROD), 0.0)] = 1.0 + contrast / 1000.0
        return material, density
    for kind in ("organ",) * int(rng.integers(8, 16)) + ("lung",) * int(rng.integers(0, 3)) + ("bone",) * 4:
        angle, away = rng.uniform(0, 2 * np.pi), np.sqrt(rng.uniform(0, 0.8))
        large = {"organ": (0.03, 0.3), "lung": (0.1, 0.3), "bone": (0.02, 0.08)}[kind]
        place = (away * a * np.cos(angle), away * b * np.sin(angle))
        inside = body & _ellipse(plane, place, tuple(rng.uniform(*large, 2)), rng.uniform(0, np.pi))
        range_ = {"organ": (0.9, 1.15), "lung": (0.2, 0.5), "bone": (1.2, 1.9)}[kind]
        material[inside], density[inside] = (2 if kind == "bone" else 1), rng.uniform(*range_)
    return material, density


def _rows(protocol: Protocol) -> int:
    """Detector rows of a training slice: those that come closest to the protocol's."""
    row = protocol.scanner.row_pitch_isocentre_mm
    return max(1, min(round(protocol.slice_thickness_mm / row), protocol.scanner.detector.n_rows))


def _scans(protocol: Protocol, settings: _Settings, number: int, n: int) -> tuple[Array, Array]:
    """Noise-free image (y, x) of an object, and noisy ones (realisation, y, x)."""
    row = protocol.scanner.row_pitch_isocentre_mm
    rows = _rows(protocol)
    scan = protocol.replace(mode="axial", collimation_mm=rows * row, gantry_tilt_deg=0.0)
    material, density = _object(settings, number)
    place = (np.arange(material.shape[0]) - 0.5 * (material.shape[0] - 1)) * 0.5 * settings.pixel_mm
    coords = {"z": np.array([-1.0, 0.0, 1.0]) * (rows * row + 5.0), "y": place, "x": place}
    shape = (3, *material.shape)
    phantom = xr.Dataset(
        {
            "material": label("material", np.broadcast_to(material, shape).copy(), coords),
            "density": label("density", np.broadcast_to(density, shape).copy()),
            "material_name": label("material_name", list(_MATERIALS)),
        }
    )
    paths = line_integrals(phantom, scan, trajectory(scan, z_range_mm=(-0.5 * row, 0.5 * row)))
    centre = (np.arange(settings.size) - 0.5 * (settings.size - 1)) * settings.pixel_mm
    grid = {"z": np.zeros(1), "y": centre, "x": centre}

    def image(realisation: int, noise: bool) -> Array:
        mas = settings.mas * (DOSES[realisation % len(DOSES)] if number >= 0 else 1.0)
        seed = (settings.seed * 1000003 + number + 1) % 2**63
        data = acquire(paths, scan, seed=seed, realisation=realisation, noise=noise, mas=mas)
        hu = reconstruct(data, scan, grid=grid, slice_thickness_mm=rows * row).to_numpy()[0]
        return np.nan_to_num(hu, nan=-1000.0).astype(np.float32)

    return image(0, False), np.stack([image(i, True) for i in range(n)])


def _pairs(protocol: Protocol, settings: _Settings, progress: bool) -> list[tuple[Array, Array]]:
    pairs, begin = [], time.perf_counter()
    for number in tqdm(range(settings.n_objects), desc="training scans", disable=not progress, leave=False):
        pairs.append(_scans(protocol, settings, number, settings.realisations))
        if number == 0 and progress:
            seconds = (time.perf_counter() - begin) * settings.n_objects
            tqdm.write(f"train_denoiser: scans take about {seconds:.0f} s, the network as long again or less")
    return pairs


def _fit(
    torch: Any, pairs: list[tuple[Array, Array]], settings: _Settings, progress: bool
) -> tuple[Any, float, float]:
    """Network, scale of its input [HU], and mean squared error at the end over that of the noise."""
    scale = float(4.0 * np.median([np.std(one - clean) for clean, noisy in pairs for one in noisy]))
    repeats = min(settings.realisations, _REPEATS)
    rng = np.random.default_rng(settings.seed)
    before = torch.get_num_threads()
    torch.set_num_threads(_THREADS)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            net = denoiser.network(torch, channels=settings.channels)
            optimiser = torch.optim.Adam(net.parameters(), lr=_RATE)
            decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, settings.steps)
            last = []
            for step in tqdm(range(settings.steps), desc="training", disable=not progress, leave=False):
                x, y = _batch(torch, pairs, repeats, scale, rng)
                optimiser.zero_grad()
                error = (x - y) - net(x)
                squared = (error**2).mean()
                # from nothing to whole half-way: products of raw noise would drown the first steps
                weight = settings.bias_weight * min(1.0, 2.0 * step / settings.steps)
                (squared + weight * squared_bias(error, repeats)).backward()
                optimiser.step()
                decay.step()
                last.append(float(squared.detach()) / float(((x - y) ** 2).mean()))
    finally:
        torch.set_num_threads(before)
    return net, scale, float(np.mean(last[-50:]))


def squared_bias(error: Any, repeats: int) -> Any:
    """Mean squared bias of a denoised image, from its errors in ``repeats`` realisations of the noise.

    The mean product of the errors of two different realisations: what noise leaves in it is zero in the mean. It is
    what a blurred edge costs, of which the mean squared error sees little where the edge is lower than the noise.

    Parameters
    ----------
    error : tensor (place times repeats, ...)
        Realisations of one place follow one another.
    repeats : int
        With 1 there is no estimate, and the result is 0.
    """
    if repeats == 1:
        return 0.0 * error.sum()
    groups = error.reshape(-1, repeats, *error.shape[1:])
    pairs = groups.sum(1) ** 2 - (groups**2).sum(1)
    return pairs.mean() / (repeats * (repeats - 1))


def _batch(
    torch: Any, pairs: list[tuple[Array, Array]], repeats: int, scale: float, rng: np.random.Generator
) -> tuple[Any, Any]:
    """Patches of noisy and noise-free images, mirrored and transposed at random, over the scale.

    ``repeats`` realisations of each place follow one another.
    """
    places, size = _BATCH // repeats, pairs[0][0].shape[0]
    x, y = (np.empty((places * repeats, 1, _PATCH, _PATCH), np.float32) for _ in range(2))
    for place in range(places):
        clean, noisy = pairs[int(rng.integers(len(pairs)))]
        r, c = (int(v) for v in rng.integers(0, size - _PATCH + 1, 2))
        flip, turn = tuple(1 - 2 * rng.integers(0, 2, 2)), bool(rng.integers(2))
        for k, chosen in enumerate(rng.permutation(noisy.shape[0])[:repeats], start=place * repeats):
            for source, target in ((noisy[chosen], x), (clean, y)):
                part = source[r : r + _PATCH, c : c + _PATCH][:: flip[0], :: flip[1]]
                target[k, 0] = (part.T if turn else part) / scale
    return torch.from_numpy(x), torch.from_numpy(y)


def _effects(protocol: Protocol, settings: _Settings, model: Denoiser) -> dict[str, Any]:
    """Noise, bias and edges of a test object of uniform water with rods, before and after."""
    n = max(settings.realisations, 4)
    clean, noisy = _scans(protocol, settings, -1, n)
    after = denoiser.apply_weights(noisy, model)
    edge = (np.arange(settings.size) + 0.5) / settings.size * 2.0 - 1.0
    y, x = np.meshgrid(edge, edge, indexing="ij")
    regions = [np.hypot(x, y) < 0.15, np.hypot(x, y + 0.45) < 0.12]
    regions += [np.hypot(x - cx, y - cy) < 0.6 * _ROD for cx, cy in CONTRASTS.values()]
    bias = [float((after.mean(axis=0) - clean)[region].mean()) for region in regions]
    mean_before, mean_after = noisy.mean(axis=0), after.mean(axis=0)
    return {
        "noise_before_hu": _noise(noisy, regions[0]),
        "noise_after_hu": _noise(after, regions[0]),
        "bias_hu": max(bias, key=abs),
        "edge_mm": {f"{c:+g} HU": _edge_mm(mean_before, c, settings) for c in CONTRASTS},
        "edge_after_mm": {f"{c:+g} HU": _edge_mm(mean_after, c, settings) for c in CONTRASTS},
    }


def _noise(images: Array, region: NDArray[Any]) -> float:
    return float(np.sqrt(images.var(axis=0, ddof=1)[region].mean()))


def _edge_mm(image: Array, contrast: float, settings: _Settings) -> float:
    """Sigma [mm] of the Gaussian-blurred step that fits the edge of a rod."""
    half = 0.5 * settings.size * settings.pixel_mm
    edge = (np.arange(settings.size) + 0.5) / settings.size * 2.0 - 1.0
    y, x = np.meshgrid(edge, edge, indexing="ij")
    cx, cy = CONTRASTS[contrast]
    radius = half * (np.hypot(x - cx, y - cy) - _ROD)
    near = np.abs(radius) < 0.7 * half * _ROD

    def misfit(sigma: float) -> float:
        step = scipy.special.erfc(radius[near] / (np.sqrt(2.0) * sigma))
        columns = np.stack([step, np.ones_like(step)], axis=1)
        rest = image[near] - columns @ np.linalg.lstsq(columns, image[near], rcond=None)[0]
        return float((rest**2).sum())

    bounds = (0.1 * settings.pixel_mm, 6.0 * settings.pixel_mm)
    return float(scipy.optimize.minimize_scalar(misfit, bounds=bounds, method="bounded").x)
