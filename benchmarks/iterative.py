"""Noise of penalised least squares against filtered back-projection at the same sharpness of edges.

A water ellipse of 240 x 180 mm with rods of several contrasts on a small scanner, some noise realisations. For
each rod, FBP (ramp) is blurred by the Gaussian that gives its edge the same width as in the iterative image, and
the noise of both is compared; the standard error of the ratio is that over realisations. Run
``NUMBA_NUM_THREADS=2 python benchmarks/iterative.py``, or with ``--realisations 4 --only "beta 1"`` for a short look.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
import scipy.ndimage
import scipy.optimize
import scipy.special
import xarray as xr
from numpy.typing import NDArray

from twinlab import ct
from twinlab.ct import iterative
from twinlab.scanner import Protocol, trajectory
from twinlab.schema import label

Array = NDArray[np.float64]
RODS = {-100.0: (-70.0, 0.0), 50.0: (0.0, -55.0), 100.0: (70.0, 0.0), 300.0: (0.0, 55.0)}  # HU: x, y [mm]
ROD_RADIUS_MM = 18.0
NEAR_MM = 10.0  # of an edge, for its fit
VOXEL_MM = 2.0
SETTINGS: dict[str, dict[str, Any]] = {
    "quadratic, beta 0.3": {"prior": "quadratic", "beta": 0.3},
    "huber, beta 1, delta 20 HU": {"prior": "huber", "beta": 1.0, "delta_hu": 20.0},
    "huber, beta 3, delta 5 HU": {"prior": "huber", "beta": 3.0, "delta_hu": 5.0},
    "fair, beta 3, delta 5 HU": {"prior": "fair", "beta": 3.0, "delta_hu": 5.0},
    "tv, beta 1, delta 20 HU": {"prior": "tv", "beta": 1.0, "delta_hu": 20.0},
}


def protocol(mas: float) -> Protocol:
    """Scanner of a clinical geometry with few, wide channels."""
    scanner = {
        "key": "small", "name": "small", "sources": ["made for a benchmark"],
        "source_to_isocentre_mm": 541.0, "source_to_detector_mm": 949.0, "views_per_rotation": 200,
        "detector": {
            "shape": "arc", "n_channels": 150, "n_rows": 1, "channel_pitch_mm": 3.5, "row_pitch_mm": 4.4,
            "channel_offset": 0.25, "absorber_material": "gadolinium_oxysulfide",
            "absorber_thickness_mm": 1.8, "electronic_noise_kev": 200.0,
        },
        "tube": {
            "anode_angle_deg": 7.0, "filters": {"aluminum": 6.0}, "kv_stations": [120],
            "max_tube_current_ma": 2000,
        },
    }  # fmt: skip
    return Protocol.make(
        {
            "key": "small", "title": "small", "scanner": scanner, "mode": "axial", "kv": 120.0,
            "tube_current_ma": mas, "rotation_time_s": 1.0, "collimation_mm": 4.4 * 541 / 949,
            "slice_thickness_mm": 2.5, "slice_interval_mm": 2.5, "reconstruction_fov_mm": 280.0,
            "bowtie": "none", "ctdi_phantom_cm": 32, "sources": ["made for a benchmark"],
        }
    )  # fmt: skip


def phantom(voxel_mm: float = 0.8) -> xr.Dataset:
    """Ellipse of water with rods of water of other density: exact contrasts, edges finer than the image's."""
    x = (np.arange(int(256 / voxel_mm)) - 0.5 * (int(256 / voxel_mm) - 1)) * voxel_mm
    y = (np.arange(int(192 / voxel_mm)) - 0.5 * (int(192 / voxel_mm) - 1)) * voxel_mm
    z = np.array([-10.0, 0.0, 10.0])
    py, px = np.meshgrid(y, x, indexing="ij")
    body = (px / 120.0) ** 2 + (py / 90.0) ** 2 < 1.0
    density = np.where(body, 1.0, 0.0)
    for contrast, (rx, ry) in RODS.items():
        density[(px - rx) ** 2 + (py - ry) ** 2 < ROD_RADIUS_MM**2] = 1.0 + contrast / 1000.0
    material = body.astype(np.uint8)
    shape = (z.size, *material.shape)
    coords = {"z": z, "y": y, "x": x}
    return xr.Dataset(
        {
            "material": label("material", np.broadcast_to(material, shape).copy(), coords),
            "density": label("density", np.broadcast_to(density.astype(np.float32), shape).copy()),
            "material_name": label("material_name", ["air", "water"]),
        }
    )


def image_grid() -> dict[str, Array]:
    """One slice over the whole body."""
    x = (np.arange(128) - 63.5) * VOXEL_MM
    y = (np.arange(96) - 47.5) * VOXEL_MM
    return {"z": np.array([0.0]), "y": y, "x": x}


def ttf50(image: Array, contrast: float) -> float:
    """Frequency [lp/cm] at which the transfer of a rod's edge falls to one half.

    The pixels around the edge are fitted with a Gaussian-blurred step of free height (circular-edge method with one
    parameter: noise of a few realisations moves it little).

    References
    ----------
    Richard et al., Med Phys 39 (2012) 4115.
    """
    grid, (rx, ry) = image_grid(), RODS[contrast]
    py, px = np.meshgrid(grid["y"], grid["x"], indexing="ij")
    radius = np.hypot(px - rx, py - ry) - ROD_RADIUS_MM
    near = np.abs(radius) < NEAR_MM

    def misfit(sigma: float) -> float:
        step = scipy.special.erfc(radius[near] / (np.sqrt(2.0) * sigma))
        columns = np.stack([step, np.ones_like(step)], axis=1)
        return float(np.linalg.lstsq(columns, image[near], rcond=None)[1][0])

    sigma = scipy.optimize.minimize_scalar(misfit, bounds=(0.1, 10.0), method="bounded").x
    return 10.0 * float(np.sqrt(2.0 * np.log(2.0)) / (2.0 * np.pi * sigma))


def blurred(images: Array, sigma_mm: float) -> Array:
    """Images (repeat, y, x) blurred in the plane."""
    return scipy.ndimage.gaussian_filter(images, (0.0, sigma_mm / VOXEL_MM, sigma_mm / VOXEL_MM))


def matched(images: Array, contrast: float, target: float) -> tuple[Array, float]:
    """FBP images blurred until a rod's TTF50 is the target; and the Gaussian's sigma [mm]."""
    low, high = 0.0, 6.0
    mean = images.mean(axis=0, keepdims=True)
    for _ in range(20):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if ttf50(blurred(mean, middle)[0], contrast) > target else (low, middle)
    return blurred(images, 0.5 * (low + high)), 0.5 * (low + high)


def noise(images: Array) -> float:
    """Standard deviation over realisations [HU], pooled over the middle of the body and free of rods."""
    grid = image_grid()
    py, px = np.meshgrid(grid["y"], grid["x"], indexing="ij")
    inside = px**2 + py**2 < 28.0**2
    return float(np.sqrt(images.var(axis=0, ddof=1)[inside].mean()))


def ensemble(mas: float, repeats: int) -> tuple[list[xr.Dataset], Array]:
    """Noisy scans, and their FBP images (ramp), shape (repeat, y, x)."""
    scan = protocol(mas)
    paths = ct.line_integrals(phantom(), scan, trajectory(scan, z_range_mm=(-1.0, 1.0)))
    scans = [ct.acquire(paths, scan, seed=7, realisation=i) for i in range(repeats)]
    images = [
        ct.reconstruct(s, grid=image_grid(), kernel="ramp", slice_thickness_mm=2.51).to_numpy()[0]
        for s in scans
    ]
    return scans, np.stack(images).astype(float)


def iterated(
    scans: list[xr.Dataset], settings: dict[str, Any], *, iterations: int = 20, subsets: int = 4
) -> Array:
    """Iterative images of the scans, shape (repeat, y, x)."""
    numbers = {"iterations": iterations, "subsets": subsets, "progress": False}
    images = [
        iterative.reconstruct(scan, grid=image_grid(), **numbers, **settings).to_numpy()[0] for scan in scans
    ]
    return np.stack(images).astype(float)


def compare(images: Array, fbp: Array) -> dict[float, tuple[float, float, float, bool]]:
    """For each rod: TTF50 [lp/cm], noise of the iterative image, noise of FBP at that TTF50 [HU].

    The last is whether FBP reaches that TTF50: where it does not, its noise unblurred is given, and the gain is at
    least what it shows.
    """
    sigma, mean = noise(images), images.mean(axis=0)
    found = {}
    for contrast in RODS:
        target = ttf50(mean, contrast)
        same, blur = matched(fbp, contrast, target)
        found[contrast] = (target, sigma, noise(same), blur > 0.01)
    return found


def ratio_errors(images: Array, fbp: Array) -> dict[float, float]:
    """Standard error of each rod's noise ratio by leaving out one realisation at a time (jackknife).

    The same noise makes both images, so the errors of numerator, denominator and sharpness are correlated: the whole
    comparison is repeated.

    References
    ----------
    Efron, Stein, Ann Stat 9 (1981) 586.
    """
    n = len(images)
    keep = [np.arange(n) != i for i in range(n)]
    without = [compare(images[some], fbp[some]) for some in keep]
    ratios = {c: np.array([found[c][1] / found[c][2] for found in without]) for c in RODS}
    return {c: float(np.sqrt((n - 1) * r.var())) for c, r in ratios.items()}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--realisations", type=int, default=12)
    parser.add_argument("--mas", type=float, default=3.0)
    parser.add_argument("--only", default="", help="settings whose name holds this")
    arguments = parser.parse_args()
    scans, fbp = ensemble(arguments.mas, arguments.realisations)
    print(f"{arguments.realisations} realisations; FBP ramp: noise {noise(fbp):.1f} HU", flush=True)
    for name in (name for name in SETTINGS if arguments.only in name):
        begin = time.process_time()
        images = iterated(scans, SETTINGS[name])
        seconds = (time.process_time() - begin) / len(scans)
        errors = ratio_errors(images, fbp)
        for contrast, (sharp, own, other, reached) in compare(images, fbp).items():
            word = "" if reached else " (FBP is less sharp)"
            print(
                f"{name:<28} rod {contrast:+5.0f} HU: TTF50 {sharp:5.2f} lp/cm, noise {own:6.2f} HU, "
                f"FBP {other:6.2f} HU, ratio {own / other:5.3f} +- {errors[contrast]:.3f}{word}",
                flush=True,
            )
        print(f"    {seconds:.1f} s of processor time an image", flush=True)


if __name__ == "__main__":
    main()
