"""What forced detection and interaction forcing gain: variance times processor time, without over with.

    python benchmarks/variance.py [scatter] [forcing] [phantom.nc]

Scatter: a view of water cylinders by counting and by forced detection. Forcing: water in a field, and ten organs of
the phantom, where given, in a scan of 200 mm.
"""

from __future__ import annotations

import os

os.environ.setdefault("NUMBA_NUM_THREADS", "1")  # before numba is imported: the figure is per core

import sys
import time

import numpy as np

from twinlab import dose
from twinlab import phantom as tp
from twinlab.ct.artefacts import scatter_by_transport
from twinlab.kernels import transport
from twinlab.phantom import transport_tables as table_module
from twinlab.phantom.transport_grid import voxel_grid
from twinlab.scanner import AntiscatterGrid, load_protocol, trajectory
from twinlab.scanner.photon_source import field_source

SEPTA = AntiscatterGrid(material="tungsten", septum_mm=0.4, height_mm=80.0)
COARSE = {"channel_pitch_mm": 4 * 1.0239, "n_channels": 222, "row_pitch_mm": 4 * 1.0963, "n_rows": 16}
COUNTED, FORCED = 4_000_000, 100_000
RAYS = (2, 8, 32)


def _protocol(name: str, collimation_mm: float, grid: AntiscatterGrid | None):
    """A protocol, that of quality control with cells of 4 x 4 true ones."""
    if name != "qc_axial":
        return load_protocol(name)
    protocol = load_protocol(name, collimation_mm=collimation_mm)
    detector = protocol.scanner.detector.model_copy(update={"grid": grid, **COARSE})
    scanner = protocol.scanner.model_copy(update={"detector": detector, "views_per_rotation": 240})
    return protocol.replace(scanner=scanner)


def scatter() -> None:
    """Gain of forced detection in the bins of one view."""
    print("| case | bins | rays | median gain | least | rms z | sum, forced / counted - 1 (sd) |")
    print("|---|---|---|---|---|---|---|")
    for cm, name, width, grid, bins in (
        (32, "qc_axial", 40.0, None, (37, 2)),
        (32, "qc_axial", 40.0, SEPTA, (37, 2)),
        (32, "qc_axial", 20.0, None, (37, 1)),
        (20, "qc_axial", 40.0, None, (37, 2)),
        (20, "bench_cbct", 0.0, None, (16, 8)),
    ):
        body = tp.from_recipe(f"water_cylinder_{cm}cm", spacing_mm=(4, 4, 4))
        protocol = _protocol(name, width, grid)
        half = 0.49 * protocol.collimation_mm
        views = trajectory(protocol, z_range_mm=(-half, half))
        options = {"views": 1, "bins": bins, "smooth_bins": 0.0, "band_mm": 0.0}

        def found(
            histories: int, rays: int, seed: int, body=body, protocol=protocol, views=views, options=options
        ):
            more = {**options, "forced_rays": rays, "seed": seed}
            scatter_by_transport(body, protocol, views, histories=1000, **more)
            start = time.process_time()
            out = scatter_by_transport(body, protocol, views, histories=histories, **more)
            return out["scatter"].values, out["scatter_sd"].values, time.process_time() - start

        mean, sd, seconds = found(COUNTED, 0, 1)
        for rays in RAYS:
            forced, own, took = found(FORCED, rays, 2)
            seen = sd < 0.5 * mean  # bins that few counted photons reached have no sd worth the name
            gain = sd[seen] ** 2 * seconds / (own[seen] ** 2 * took)
            z = (forced - mean)[seen] / np.hypot(sd, own)[seen]
            ratio, error = forced.sum() / mean.sum() - 1, np.sqrt((sd**2 + own**2).sum()) / mean.sum()
            label = f"{cm} cm, {name}, {protocol.collimation_mm:.0f} mm{', grid' if grid else ''}"
            print(
                f"| {label} | {bins[0]} x {bins[1]} | {rays} | {np.median(gain):.1f} | {gain.min():.1f} "
                f"| {np.sqrt((z**2).mean()):.2f} | {ratio:+.4f} ({error:.4f}) |",
                flush=True,
            )


def _target(side_mm: float, density: float, cell_mm: float):
    """A cube of water, region 1, in air, in a field of 200 mm at 60 keV."""
    tables = table_module.build(["air", "water"])
    n = round(200.0 / cell_mm)
    middle = np.abs(np.arange(n) - (n - 1) / 2) * cell_mm < side_mm / 2
    inside = middle[:, None, None] & middle[None, :, None] & middle[None, None, :]
    grid = voxel_grid(
        inside.astype(np.uint8), np.where(inside, density, 0.0012), inside.astype(np.uint16), tables,
        spacing_mm=(cell_mm,) * 3, reach_mm=700.0, block=2,
    )  # fmt: skip
    source = field_source(
        60.0, position_mm=np.array([100.0, -500.0, 100.0]), corner_mm=np.array([40.0, 0.0, 40.0]),
        edges_mm=np.array([[120.0, 0.0, 0.0], [0.0, 0.0, 120.0]]),
    )  # fmt: skip
    return grid, tables, source


def forcing(phantom: str | None) -> None:
    """Gain of interaction forcing, beside that of track lengths."""
    print("| target | forcing | track length | z |\n|---|---|---|---|")
    for name, case in (
        ("air of a chamber, 10 mm", _target(10.0, 0.0012, 5.0)),
        ("lung (0.26 g/cm3), 10 mm", _target(10.0, 0.26, 5.0)),
        ("water, 10 mm", _target(10.0, 1.0, 5.0)),
        ("water, 100 mm", _target(100.0, 1.0, 5.0)),
    ):
        found = {}
        for kind, more in (
            ("plain", {}),
            ("forcing", {"forcing": True}),
            ("lengths", {"estimator": "track_length"}),
        ):
            transport.run(*case, histories=1000, seed=1, n_region=2, **more)
            start, n = time.process_time(), 1_000_000 if kind == "plain" else 300_000
            tally = transport.run(*case, histories=n, seed=len(found), n_region=2, **more)
            took = time.process_time() - start
            mean, sd = transport.mean_sd(tally.region[1], n)
            found[kind] = mean, sd, took
        base = found["plain"]
        gain = {k: base[1] ** 2 * base[2] / (v[1] ** 2 * v[2]) for k, v in found.items()}
        z = (found["forcing"][0] - base[0]) / np.hypot(base[1], found["forcing"][1])
        print(f"| {name} | {gain['forcing']:.2f} | {gain['lengths']:.2f} | {z:+.1f} |", flush=True)
    if phantom is None:
        return
    body, protocol = tp.load(phantom), load_protocol("adult_chest").replace(tube_current_ma=100.0)
    z = body["z"].values
    middle = 0.5 * (float(z[0]) + float(z[-1]))
    rows = {}
    for forced, n in ((False, 600_000), (True, 400_000)):
        more = {
            "z_range_mm": (middle - 100, middle + 100),
            "voxel_map": False,
            "forcing": forced,
            "device": "cpu",
        }
        dose.simulate(body, protocol, histories=1000, **more)
        start = time.process_time()
        rows[forced] = dose.simulate(body, protocol, histories=n, seed=int(forced) + 1, **more)
        rows[forced].attrs["took"] = time.process_time() - start
    plain, forced_ = rows[False], rows[True]
    best = np.argsort((plain["organ_dose_sd"] / plain["organ_dose"]).fillna(9.0).values)[:60:6]
    for k in best:
        a, b = plain.isel(organ_id=k), forced_.isel(organ_id=k)
        one, two = float(a["organ_dose_sd"]), float(b["organ_dose_sd"])
        gain_ = one**2 * plain.attrs["took"] / (two**2 * forced_.attrs["took"])
        pull = (float(b["organ_dose"]) - float(a["organ_dose"])) / np.hypot(one, two)
        print(f"| {a['organ_name'].item()} | {gain_:.2f} | | {pull:+.1f} |", flush=True)


if __name__ == "__main__":
    given = [name for name in sys.argv[1:] if not name.endswith(".nc")]
    files = [name for name in sys.argv[1:] if name.endswith(".nc")]
    if not given or "scatter" in given:
        scatter()
    if not given or "forcing" in given:
        forcing(files[0] if files else None)
