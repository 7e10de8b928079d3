"""Spectral CT in figures: the counting model against Monte Carlo, iodine, monoenergetic numbers, noise, seconds.

Run ``NUMBA_NUM_THREADS=1 python benchmarks/spectral.py`` (three minutes on a quiet core; ``--quick``: the sensor only).
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
import xarray as xr

from twinlab import ct
from twinlab.ct.spectral import (
    acquire_counts,
    basis_image,
    counting_response,
    decompose,
    measurements_of_bins,
    measurements_of_scans,
    monoenergetic_projections,
    simulated_response,
)
from twinlab.physics.attenuation import linear_attenuation_per_mm
from twinlab.scanner import Protocol, beam_fluence, load_protocol, trajectory
from twinlab.schema import label

INSERTS = np.array([0.0, 0.5, 2.0, 5.0, 10.0, 15.0])  # mg/ml
COUNTING, INTEGRATING = "photon_counting_qc", "qc_axial"


def rods(radius_mm: float, spacing_mm: float = 0.75) -> tuple[xr.Dataset, np.ndarray]:
    """Water cylinder with rods of iodine solution of 24 mm, and the rods' centres."""
    side = np.arange(-radius_mm - 6, radius_mm + 6.1, spacing_mm)
    y, x = np.meshgrid(side, side, indexing="ij")
    plane = (x**2 + y**2 < radius_mm**2).astype(np.uint8)
    angle = 2 * np.pi * np.arange(INSERTS.size) / INSERTS.size
    centres = 0.6 * radius_mm * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    for i, (a, b) in enumerate(centres):
        plane[(x - a) ** 2 + (y - b) ** 2 < 12.0**2] = i + 2
    names = ["air", "water", *(f"water+iodine_{c:g}mg_ml" if c else "water" for c in INSERTS)]
    density = np.array([0.001205, 1.0, *(1.0 + INSERTS / 1000.0)], np.float32)
    z = np.array([-10.0, 0.0, 10.0])
    material = np.broadcast_to(plane, (3, *plane.shape)).copy()
    phantom = xr.Dataset(
        {
            "material": label("material", material, {"z": z, "y": side, "x": side}),
            "density": label("density", density[material]),
            "material_name": label("material_name", names),
        }
    )
    return phantom, centres


def thin(key: str, **changes: Any) -> Protocol:
    """A protocol of the library with two rows."""
    protocol = load_protocol(key)
    pitch = protocol.scanner.row_pitch_isocentre_mm
    return protocol.replace(
        collimation_mm=2 * pitch, slice_thickness_mm=pitch, slice_interval_mm=pitch, **changes
    )


def means(image: xr.DataArray, centres: np.ndarray) -> np.ndarray:
    """Mean over 16 mm in the middle of each rod."""
    y, x = np.meshgrid(image["y"], image["x"], indexing="ij")
    return np.array([image.values[0][(x - a) ** 2 + (y - b) ** 2 < 64.0].mean() for a, b in centres])


def sensor() -> None:
    detector = load_protocol(COUNTING).scanner.detector
    counting_response(detector, energy_kev=60.0, points=64)
    start = time.perf_counter()
    counting_response(detector, energy_kev=np.arange(10.5, 150.0))
    print(f"response of 140 energies: {time.perf_counter() - start:.1f} s")
    for energy in (30.0, 60.0, 100.0):
        exact = counting_response(detector, energy_kev=energy, points=65_536).isel(energy=0)["response"]
        found = simulated_response(detector, energy, n_photons=4_000_000, seed=1)
        off = (found["response"] - exact).to_numpy()
        sigma = np.abs(off) / np.maximum(found["response_sd"].to_numpy(), 1e-12)
        print(
            f"{energy:g} keV: bins {exact.to_numpy().round(4)}, Monte Carlo off by at most "
            f"{np.abs(off).max():.1e} ({sigma[exact.to_numpy() > 0].max():.1f} sigma)"
        )
    response = counting_response(detector)
    for kv in (90, 120, 140):
        beam = beam_fluence(load_protocol(COUNTING, kv=kv), fan_angle_rad=[0.0])
        used = beam["energy"].to_numpy() >= 10.5
        photons = beam.to_numpy()[0, used]
        at = response.interp(energy=beam["energy"].to_numpy()[used]).fillna(0.0)
        mean = at["response"].sum("bin").to_numpy() @ photons / photons.sum()
        square = at["response_product"].sum(("bin", "other_bin")).to_numpy() @ photons / photons.sum()
        dqe, pairs = detector.fill_factor * mean**2 / square.sum(), square[1:].sum() / 2
        print(f"{kv} kV: {mean:.3f} counts per photon, DQE(0) {dqe:.3f}, pairs in two cells {pairs:.3f}")


def iodine(radius_mm: float) -> None:
    phantom, centres = rods(radius_mm)
    side = np.arange(-radius_mm, radius_mm + 0.1, 1.0)
    grid = {"z": np.array([0.0]), "y": side, "x": side}
    for key in (INTEGRATING, COUNTING):
        protocol = thin(key)
        paths = ct.line_integrals(phantom, protocol, trajectory(protocol, z_range_mm=(-0.1, 0.1)))
        start = time.perf_counter()
        if key == COUNTING:
            scan = acquire_counts(paths, protocol, seed=1, noise=False)
            measured = measurements_of_bins(scan, protocol)
        else:
            pairs = [protocol.replace(kv=kv) for kv in (80, 140)]
            measured = measurements_of_scans([(ct.acquire(paths, p, seed=1, noise=False), p) for p in pairs])
        middle = time.perf_counter()
        basis = decompose(measured)
        seconds = time.perf_counter() - middle
        rays = measured.transmission[0].size
        off = means(basis_image(basis, "iodine", protocol, grid=grid), centres) - INSERTS
        print(f"{2 * radius_mm / 10:g} cm, {key}: iodine off by {off.round(3)} mg/ml")
        print(f"   scan {middle - start:.1f} s, decomposition {rays / seconds:.3g} rays/s, of {rays}")
        for kev in (40.0, 70.0, 140.0):
            water = linear_attenuation_per_mm("water", [kev])[0]
            names = [f"water+iodine_{c:g}mg_ml" if c else "water" for c in INSERTS]
            truth = [
                1000 * (linear_attenuation_per_mm(n, [kev], density_g_cm3=1 + c / 1000)[0] / water - 1)
                for n, c in zip(names, INSERTS, strict=True)
            ]
            image = ct.reconstruct(monoenergetic_projections(basis, kev), protocol, grid=grid)
            print(f"   {kev:g} keV: {(means(image, centres) - truth).round(1)} HU off {np.round(truth, 0)}")
        if key == COUNTING:
            noisy = decompose(measurements_of_bins(acquire_counts(paths, protocol, seed=2), protocol))
            for k, name in enumerate(("water", "iodine")):
                sd = np.sqrt(basis["basis_covariance"].to_numpy()[k, k])
                ratio = ((noisy["basis_path"] - basis["basis_path"]).to_numpy()[k] / sd).std()
                print(f"   noise of {name} over its bound: {ratio:.4f}")


def decomposition(repeats: int = 5) -> None:
    """Rays a second of a whole call of :func:`decompose` at clinical counts, with this number of threads."""
    protocol = thin(COUNTING)
    views = trajectory(protocol, z_range_mm=(-0.1, 0.1)).isel(view=slice(0, 240))
    paths = ct.line_integrals(rods(100.0)[0], protocol, views)
    measured = measurements_of_bins(acquire_counts(paths, protocol, seed=1), protocol)
    decompose(measured)  # compiled, and the model's tables
    for covariance in (True, False):
        seconds = []
        for _ in range(repeats):
            wall, start = time.perf_counter(), time.process_time()
            found = decompose(measured, covariance=covariance)
            seconds.append((time.process_time() - start, time.perf_counter() - wall))
        rays = measured.transmission[0].size
        cpu, wall = (rays / min(s) for s in zip(*seconds, strict=True))
        print(
            f"decomposition, covariance {covariance}: {cpu:.3g} rays/s of processor time, {wall:.3g} of wall time, "
            f"{found.attrs['slow_rays']} of {rays} one by one"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the sensor only")
    parser.add_argument("--decomposition", action="store_true", help="speed of the decomposition only")
    arguments = parser.parse_args()
    if arguments.decomposition:
        decomposition()
        raise SystemExit
    quick = arguments.quick
    sensor()
    for radius in () if quick else (100.0, 160.0):
        iodine(radius)
