"""Figures of the heart's circulation and flow: published values, errors and speeds, one table on standard output.

    python benchmarks/heart_flow.py [--mask pulmonary_artery.nii.gz]

``--mask``: the pulmonary artery of the development data, through which a steady flow is run (Reynolds number 22).
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import pandas as pd

from twinlab.cardiac.circulation import (
    closed_loop,
    closed_loop_many,
    muscle_patches,
    parameter_set,
    patch_heart,
)
from twinlab.cardiac.flow import Run, build_grid, poiseuille_pressure_drop, scale, steady, vessel

NAMES = ("lv_edv", "lv_esv", "lv_ef", "lv_pressure_max", "systemic_systolic", "systemic_diastolic")


def row(name: str, *values: object) -> None:
    """One line of the table."""
    print(f"{name:58s}", *(f"{v:10.4g}" if isinstance(v, float) else f"{v!s:>10}" for v in values))


def circulation() -> None:
    """Published and healthy sets, patches, speeds (processor time)."""
    start = np.array(
        [87.183, 118.520, 1.372 * 87.675, 11.363 * 35.898, 86.833, 166.177, 20.0 * 19.545, 16.0 * 15.004]
        + [71.104, 94.039, 94.084, 473.279]
    )
    row("", *NAMES)
    published = closed_loop(parameter_set("regazzoni_2022"), start=start, beats=10)
    row("regazzoni_2022, 10 beats", *(float(published[n]) for n in NAMES))
    healthy = closed_loop()
    row("healthy", *(float(healthy[n]) for n in NAMES))
    row("healthy: beats, imbalance", healthy.attrs["beats"], float(healthy.volume_imbalance))
    for kind in ("left_ventricle", "three_walls"):
        normal = patch_heart(muscle_patches(kind))
        late = muscle_patches(kind)
        for n, delay in [(n, 80.0) for n in (5, 6, 11, 12, 16)] + [
            (n, 40.0) for n in (1, 4, 7, 10, 13, 15, 17)
        ]:
            late.patch_activation.loc[{"patch": str(n)}] += delay
        block = patch_heart(late)
        row(f"patches {kind}", *(float(normal[n]) for n in NAMES))
        row("  late lateral wall", *(float(block[n]) for n in NAMES))
        row(
            "  stroke volume, dp/dt max over normal",
            *(float(block[n] / normal[n]) for n in ("stroke_volume", "lv_dpdt_max")),
        )
        row(
            "  work of segment 8 and 5 over normal",
            *(float((block.patch_work / normal.patch_work).sel(patch=n)) for n in "85"),
        )
        clock = time.process_time()
        patch_heart(muscle_patches(kind), beats=10)
        row("  10 beats of 400 steps, s", time.process_time() - clock)
    clock = time.process_time()
    closed_loop(beats=10)
    row("elastances, 10 beats of 800 steps, s", time.process_time() - clock)
    table = pd.DataFrame({"systemic.artery_resistance_mmhg_s_per_ml": np.linspace(0.7, 1.3, 200)})
    closed_loop_many(table)
    clock = time.perf_counter()
    closed_loop_many(table)
    row("200 cases until periodic, s (wall)", time.perf_counter() - clock)


def lattice() -> None:
    """Poiseuille at several radii and the speed of the lattice."""
    for radius in (5.3, 8.3, 10.3, 16.3):
        n = int(np.ceil(2 * radius)) + 5
        y, x = np.mgrid[:n, :n]
        r = np.hypot(y - (n - 1) / 2 - 0.31, x - (n - 1) / 2 - 0.17)
        grid = build_grid(np.broadcast_to((r - radius)[None], (3, n, n)).copy(), periodic=(0,))
        peak, size = 0.01, radius * 0.4e-3
        run = Run(grid, scale(voxel_mm=0.4, peak_m_per_s=peak))
        clock = time.process_time()
        steady(run, force_n_per_m3=(0.0, 0.0, 4 * 0.0035 * peak / size**2), tolerance=1e-6)
        clock = time.process_time() - clock
        exact = peak * (1 - (r[grid.cells[1], grid.cells[2]] / radius) ** 2)
        u = run.velocity_m_per_s()[2]
        speed = run.steps * grid.cells.shape[1] / clock / 1e6
        row(f"Poiseuille, radius {radius} voxels: profile, flow, Mupdates/s", float(np.abs(u - exact).max() / peak),
            float(u.sum() / exact.sum() - 1), speed)  # fmt: skip


def through_mask(path: str) -> None:
    """Steady flow through the pulmonary artery of the development data: trunk cut below, branches at both sides."""
    import SimpleITK as sitk
    from scipy import ndimage

    image = sitk.ReadImage(path)
    mask = sitk.GetArrayFromImage(image) > 0
    mask = mask[70:, :, 22:80]
    pieces, _ = ndimage.label(mask)
    mask = pieces == np.bincount(pieces.ravel())[1:].argmax() + 1
    clock = time.process_time()
    result = vessel(mask, spacing_mm=image.GetSpacing()[::-1], flow_ml_per_s=1.0, inlet="z-", voxel_mm=1.5)
    row("mask: cells, pressure drop mmHg, Reynolds, s", int(result.flow_pressure.count()), float(result.pressure_drop),
        float(result.vessel_reynolds), time.process_time() - clock)  # fmt: skip
    row("mask: shear stress mean, 99th percentile Pa", float(result.wall_shear_stress.mean()),
        float(np.nanpercentile(result.wall_shear_stress, 99)))  # fmt: skip
    print(result.attrs)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mask")
    given = parser.parse_args()
    row(
        "Poiseuille, 5 ml/s, radius 2 mm, 50 mm: mmHg",
        poiseuille_pressure_drop(5.0, radius_mm=2.0, length_mm=50.0),
    )
    circulation()
    lattice()
    if given.mask:
        through_mask(given.mask)
