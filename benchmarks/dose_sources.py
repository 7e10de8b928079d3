"""Figures of the dose sources: python benchmarks/dose_sources.py [histories]

Water cylinder and block, each line two independent ways to one number (docs/methods/dose_sources.md).
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import xarray as xr

from twinlab import dose
from twinlab.ct.stand import on_gantry
from twinlab.phantom import assemble
from twinlab.scanner import load_protocol, organ_based, trajectory
from twinlab.scanner.second import second_protocol, second_trajectory

RANGE_MM = (-120.0, 120.0)


def cylinder() -> xr.Dataset:
    """Water, 32 cm wide and 50 cm long: within the range (front, back), 20 to 60 mm beyond it, and further."""
    c = (np.arange(34) - 16.5) * 10.0
    z, y, x = np.meshgrid((np.arange(50) - 24.5) * 10.0, c, c, indexing="ij")
    inside = np.hypot(x, y) < 160.0
    beyond = (np.abs(z) > 140.0) & (np.abs(z) < 180.0)
    zone = np.where(np.abs(z) < 60.0, np.where(y < -100, 1, np.where(y > 100, 2, 3)), np.where(beyond, 4, 5))
    return assemble(
        material=inside.astype(np.uint8),
        density=np.where(inside, 1.0, 0.001205),
        organ=np.where(inside, zone, 0),
        material_names=["air", "water"],
        organ_names={0: "outside", 1: "front", 2: "back", 3: "middle", 4: "20 to 60 mm beyond", 5: "rest"},
        z=z[:, 0, 0],
        y=c,
        x=c,
        name="cylinder",
        source="made for this benchmark",
    )


def line(name: str, got: xr.Dataset, want: tuple[np.ndarray, np.ndarray]) -> None:
    """Ratio of the middle's dose to what it should be, with its standard uncertainty."""
    d, sd = float(got["organ_dose"][2]), float(got["organ_dose_sd"][2])
    ratio = d / want[0][2]
    print(f"{name:58s} {ratio - 1:+.4f} +- {ratio * np.hypot(sd / d, want[1][2] / want[0][2]):.4f}")


def added(*parts: tuple[xr.Dataset, float]) -> tuple[np.ndarray, np.ndarray]:
    """Weighted sum of doses and its standard uncertainty."""
    total = sum(w * p["organ_dose"].to_numpy() for p, w in parts)
    square = sum((w * p["organ_dose_sd"].to_numpy()) ** 2 for p, w in parts)
    return np.asarray(total), np.sqrt(square)


def main() -> None:
    histories = int(float(sys.argv[1])) if len(sys.argv) > 1 else 1_000_000
    body = cylinder()
    seeds = iter(range(1, 100))

    def run(protocol: Any, **changes: Any) -> xr.Dataset:
        given = {"z_range_mm": RANGE_MM, "histories": histories, "voxel_map": False, "extend_mm": 0.0}
        return dose.simulate(body, protocol, seed=next(seeds), **{**given, **changes})

    dual = load_protocol("dual_energy_abdomen")
    path = second_trajectory(dual, trajectory(dual, z_range_mm=RANGE_MM))
    tubes = run(dual.replace(second_kv=None)), run(second_protocol(dual), trajectory=path)
    line("dual source / (first tube + second tube) - 1", run(dual), added((tubes[0], 1.0), (tubes[1], 1.0)))

    plain = load_protocol("abdomen_pelvis").replace(tube_current_ma=200.0)
    voltages = [run(plain.replace(kv=kv)) for kv in (80.0, 140.0)]
    mixed = run(plain.replace(kv=80.0, second_kv=140.0))
    line("switched 80/140 kV / mean of both - 1", mixed, added(*((v, 0.5) for v in voltages)))

    even = run(plain)
    sectors = np.arange(dose.stations(plain, z_range_mm=RANGE_MM)[0].shape[0]) * 4 // 984 % 4
    share = np.bincount(sectors) / sectors.size
    current = np.array([0.4, 1.3, 0.9, 1.4])
    mean = float(current @ share)
    parts = [
        (run(plain, relative_mas=(sectors == k).astype(float)), share[k] * current[k] / mean)
        for k in range(4)
    ]
    line(
        "modulated / weighted sum of four sectors - 1",
        run(plain, relative_mas=current[sectors]),
        added(*parts),
    )

    closing = run(plain, dynamic_collimation=True)
    line("blades follow the range / open: middle of the range - 1", closing, added((even, 1.0)))
    ratio = closing["organ_dose"] / even["organ_dose"]
    print(f"{'  the same 20 to 60 mm beyond the range, photons':58s} {float(ratio[3]):.3f}, ", end="")
    print(f"{closing.attrs['photons'] / even.attrs['photons']:.3f}")
    spared = run(plain, trajectory=organ_based(trajectory(plain, z_range_mm=RANGE_MM), plain))
    ratio = spared["organ_dose"] / even["organ_dose"]
    print(f"{'front spared / even current: front, back, middle':58s} ", end="")
    print(", ".join(f"{float(v):.3f}" for v in ratio[:3]))

    cone = load_protocol("bench_cbct")
    turn = trajectory(cone, z_range_mm=(-90.0, 90.0)).isel(view=slice(0, None, 90))
    scan = run(cone, trajectory=turn)
    height = (cone.collimation_mm + cone.scanner.over_beaming_mm) * 1.5
    views = [
        dose.simulate_projection(
            body,
            on_gantry(cone, view_angle_deg=float(np.rad2deg(angle))),
            field_mm=(1024 * 0.388, height),
            histories=histories // 8,
            seed=next(seeds),
            voxel_map=False,
            extend_mm=0.0,
        )
        for angle in turn["view_angle"].to_numpy()
    ]
    line("cone-beam scan of 8 views / sum of 8 radiographs - 1", scan, added(*((v, 1.0) for v in views)))


if __name__ == "__main__":
    main()
