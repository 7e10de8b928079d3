"""Detectability at each place of the lesion, and example images, from the stored rays of a pitch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from twinlab import ct
from twinlab.ct.detector import Extra
from twinlab.ct.recon import reconstruct
from twinlab.quality.lesion import Chords, lesion_image, observer_rays, roi_grid
from twinlab.schema import label
from twinlab.study import store
from twinlab.study.layout import Layout
from twinlab.study.models import Study
from twinlab.study.rays import lesion_attenuation, window_of


def _lesion(
    folder: Path, seed: int, position: int
) -> tuple[tuple[float, float, float], Chords, dict[str, NDArray]]:
    """Centre, chords, and change of the projections by kV, of one stored lesion."""
    with np.load(folder / f"lesion-{seed}-{position}.npz") as stored:
        data = {name: stored[name] for name in stored.files}
    x, y, z = (float(v) for v in data.pop("centre"))
    chords = Chords(*(data.pop(name) for name in Chords._fields))
    return (x, y, z), chords, data


def _beam(folder: Path, kv: float) -> dict[str, Any]:
    return dict(json.loads((folder / f"beam-{kv:g}.json").read_text(encoding="utf-8")))


def _viewing(study: Study) -> dict[str, Any]:
    return {
        "eye": study.eye_filter,
        "viewing_distance_mm": study.viewing_distance_mm,
        "magnification": study.display_magnification,
    }


def detectability(layout: Layout, pitch: float, seed: int, position: int) -> xr.Dataset:
    """Detectability, noise and contrast at one place, for all kV, mAs and kernels.

    The template of each kernel, the lesion as that kernel shows it seen through the eye filter, is carried back
    to the detector once; kV and mAs then are sums over rays.

    Returns
    -------
    Dataset, dims (kv, mas, kernel)
        ``dprime``; ``noise`` [HU], root of the mean variance of the region's pixels; ``contrast`` [HU], of the
        lesion at full size, before blurring, where ``dprime`` uses the blurred one.
    """
    study, folder = layout.study, layout.rays(pitch)
    geometry = store.read(folder / "geometry.nc")
    window = window_of(geometry)
    centre, chords, changes = _lesion(folder, seed, position)
    thickness = study.protocol_at(kv=study.kv[0], pitch=pitch).slice_thickness_mm
    grid = roi_grid(centre, size_mm=study.roi_size_mm, pixel_mm=study.roi_pixel_mm)
    geometry.attrs["mu_water_per_mm"] = 0.02  # any value: each kV rescales by its own
    shape = (len(study.kv), len(study.mas), len(study.kernel))
    values = {name: np.full(shape, np.nan) for name in ("dprime", "noise", "contrast")}
    full = lesion_contrast_hu(layout, pitch, chords, changes)
    for k, kernel in enumerate(study.kernel):
        signal = lesion_image(geometry, chords, grid=grid, kernel=kernel, slice_thickness_mm=thickness)
        template, probe = observer_rays(
            geometry, signal, kernel=kernel, slice_thickness_mm=thickness, **_viewing(study)
        )
        at_lesion = template[chords.view, chords.row, chords.channel]
        template2, probe2 = (window.pack(a).ravel() ** 2 for a in (template, probe))
        for i, kv in enumerate(study.kv):
            to_hu = 0.02 / _beam(folder, kv)["mu_water_per_mm"]
            answer = float(at_lesion.astype(float) @ changes[f"{kv:g}"])
            quantum = np.load(folder / f"quantum-{kv:g}.npy", mmap_mode="r").ravel()
            electronic = np.load(folder / f"electronic-{kv:g}.npy", mmap_mode="r").ravel()
            sums = [[_dot(a, b) for b in (quantum, electronic)] for a in (template2, probe2)]
            for j, mas in enumerate(study.mas):
                spread, pixel = (np.sqrt(q / mas + e / mas**2) for q, e in sums)
                values["dprime"][i, j, k] = answer / spread
                values["noise"][i, j, k] = pixel * to_hu
                values["contrast"][i, j, k] = full[i]
    coords = {"kv": list(study.kv), "mas": list(study.mas), "kernel": list(study.kernel)}
    return xr.Dataset({name: (("kv", "mas", "kernel"), v) for name, v in values.items()}, coords=coords)


def _dot(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Sum of products, in float64 and in a fixed order, unlike BLAS, so that no thread count changes it."""
    step = 1 << 16
    return float(
        sum((a[i : i + step] * b[i : i + step]).sum(dtype=np.float64) for i in range(0, a.size, step))
    )


def lesion_contrast_hu(
    layout: Layout, pitch: float, chords: Chords, changes: dict[str, NDArray]
) -> list[float]:
    """Contrast of the lesion in HU at each kV: change of the projections per length, over that of water."""
    found = []
    for kv in layout.study.kv:
        mu_water = _beam(layout.rays(pitch), kv)["mu_water_per_mm"]
        found.append(float(1000.0 * changes[f"{kv:g}"].sum() / (chords.length_mm.sum() * mu_water)))
    return found


def examples(layout: Layout, kv: float, pitch: float, seed: int) -> xr.Dataset:
    """Noisy images of the lesion at its first place, and the noise measured in them.

    Returns
    -------
    Dataset
        ``roi_hu`` (mas, kernel, y, x); ``noise_measured`` (mas, kernel): standard deviation of the region's
        difference from the noise-free image, to be compared with the propagated one.
    """
    study, folder = layout.study, layout.rays(pitch)
    geometry = store.read(folder / "geometry.nc")
    window = window_of(geometry)
    path = window.unpack(np.load(folder / "path.npy"))
    paths = geometry.assign(path=label("path", path))
    centre, chords, _ = _lesion(folder, seed, 0)
    grid = roi_grid(centre, size_mm=study.roi_size_mm, pixel_mm=study.roi_pixel_mm)
    protocol = study.protocol_at(kv=kv, pitch=pitch)
    factor = float(store.read(layout.ctdi(kv))["output_factor"])
    energy, mu = lesion_attenuation(study)
    ray = np.ravel_multi_index((chords.view, chords.row, chords.channel), paths["path"].shape[1:])
    extra = Extra(chord_cm=chords.length_mm * 0.1, energy_kev=energy, mu_per_cm=mu, ray=ray)
    signals = ct.detected(paths, protocol, output_factor=factor, extra=extra)
    images = np.full((len(study.mas), len(study.kernel), grid["y"].size, grid["x"].size), np.nan, np.float32)
    noise = np.full(images.shape[:2], np.nan)
    kwargs: dict[str, Any] = {"signals": signals, "output_factor": factor, "seed": seed}
    clean = ct.acquire(paths, protocol, noise=False, mas=max(study.mas), **kwargs)
    thickness = protocol.slice_thickness_mm
    # on the processor wherever it runs: keys of results do not know of devices, whose rounding differs
    view: dict[str, Any] = {"grid": grid, "slice_thickness_mm": thickness, "device": "cpu"}
    ideal = [reconstruct(clean, kernel=k, **view)[0] for k in study.kernel]
    for j, mas in enumerate(study.mas):
        if not study.reachable(mas):
            continue
        scan = ct.acquire(paths, protocol, mas=mas, realisation=round(kv) * 100 + j, **kwargs)
        for k, kernel in enumerate(study.kernel):
            image = reconstruct(scan, kernel=kernel, **view)[0]
            images[j, k] = image
            noise[j, k] = float((image - ideal[k]).std())
    return xr.Dataset(
        {
            "roi_hu": (("mas", "kernel", "y", "x"), images),
            "noise_measured": (("mas", "kernel"), noise),
        },
        coords={
            "mas": list(study.mas),
            "kernel": list(study.kernel),
            "y": np.round(grid["y"] - centre[1], 9),  # relative to the lesion, so that all beams share it
            "x": np.round(grid["x"] - centre[0], 9),
        },
        attrs={"centre_mm": list(centre)},
    )
