"""What the detector sees of a patient around the lesion: line integrals, ray variances, the lesion's own shadow.

Only the detector rows that the region of interest needs are computed and kept, packed into a window that moves
with the view.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from twinlab import ct
from twinlab import phantom as tp
from twinlab.ct.recon import needed_rows
from twinlab.physics.attenuation import linear_attenuation_per_mm, mass_attenuation
from twinlab.quality.lesion import Chords, projection_change, roi_grid, sphere_chords
from twinlab.scanner import Protocol, trajectory
from twinlab.study import store
from twinlab.study.layout import Layout
from twinlab.study.models import Study
from twinlab.study.patient import lesion_positions

CHUNK = 160  # views projected at a time, to bound memory
_MANY_MAS = 1e6  # so bright that electronic noise vanishes against quantum noise


class Window:
    """Rows of each view that are kept: ``lo[view] <= row < lo[view] + width``."""

    def __init__(self, row_lo: NDArray[np.int64], row_hi: NDArray[np.int64], n_row: int) -> None:
        self.width = int(max((row_hi - row_lo).max(), 1))
        self.lo = np.minimum(row_lo, n_row - self.width)
        self.n_row = n_row

    def pack(self, dense: NDArray) -> NDArray:
        """(..., view, row, channel) to (..., view, width, channel)."""
        rows = self.lo[:, None] + np.arange(self.width)
        return dense[..., np.arange(self.lo.size)[:, None], rows, :]

    def unpack(self, packed: NDArray) -> NDArray:
        """Back, zero elsewhere."""
        dense = np.zeros((*packed.shape[:-2], self.n_row, packed.shape[-1]), packed.dtype)
        rows = self.lo[:, None] + np.arange(self.width)
        dense[..., np.arange(self.lo.size)[:, None], rows, :] = packed
        return dense


def window_of(geometry: xr.Dataset) -> Window:
    """Window that a stored geometry was packed with."""
    return Window(geometry["row_lo"].values, geometry["row_hi"].values, geometry.sizes["row"])


def lesion_attenuation(study: Study) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Energies [keV] and what the lesion adds to the attenuation of its surroundings [1/cm]."""
    energy = np.arange(10.0, 150.5, 1.0)
    mu = study.lesion_contrast_hu / 1000.0 * linear_attenuation_per_mm("water", energy) * 10.0
    mu = mu + study.lesion_iodine_mg_ml * 1e-3 * mass_attenuation("iodine", energy)[0]
    return energy, mu


def isocentre(layout: Layout) -> tuple[float, float]:
    """Axis of rotation (x, y), mm: the middle of the body, as a technologist would centre the patient."""
    place = json.loads((layout.phantom() / "isocentre.json").read_text(encoding="utf-8"))
    return float(place["x_mm"]), float(place["y_mm"])


def make(layout: Layout, pitch: float) -> str:
    """Project the patient for one pitch and store what all kV, mAs, kernels and places of the lesion need.

    Returns
    -------
    str
        The folder written.
    """
    study = layout.study
    phantom = tp.load(layout.phantom() / "scan.nc")
    native = tp.load(layout.phantom() / "native.nc")
    places = {seed: lesion_positions(native, study, seed) for seed in study.seed}
    del native
    protocol = study.protocol_at(kv=study.kv[0], pitch=pitch)
    paths, window = _project(layout, protocol, phantom, places[study.seed[0]][0])
    with store.atomic_folder(layout.rays(pitch)) as folder:
        np.save(folder / "path.npy", window.pack(paths["path"].values))
        store.save(paths.drop_vars("path"), folder / "geometry.nc")
        chords = _lesions(study, paths, places)
        changes: dict[str, NDArray] = {}
        for kv in study.kv:
            at_kv = study.protocol_at(kv=kv, pitch=pitch)
            factor = float(store.read(layout.ctdi(kv))["output_factor"])
            _variances(folder, paths, at_kv, window, factor)
            for name, (_, found) in chords.items():
                path = paths["path"].values[:, found.view, found.row, found.channel]
                energy, mu = lesion_attenuation(study)
                changes[f"{name}-{kv:g}"] = projection_change(
                    path,
                    found.channel,
                    paths,
                    at_kv,
                    chord_mm=found.length_mm,
                    energy_kev=energy,
                    mu_per_cm=mu,
                )
        for name, (centre, found) in chords.items():
            own = {
                key.rsplit("-", 1)[1]: value for key, value in changes.items() if key.startswith(f"{name}-")
            }
            fields = dict(zip(Chords._fields, found, strict=True))
            np.savez(folder / f"lesion-{name}.npz", centre=np.array(centre), **fields, **own)  # type: ignore[arg-type]
    return str(layout.rays(pitch))


def _project(
    layout: Layout, protocol: Protocol, phantom: xr.Dataset, centre: tuple[float, float, float]
) -> tuple[xr.Dataset, Window]:
    """Line integrals on the rows that regions around all places of the lesion need."""
    study = layout.study
    z = centre[2]
    half = protocol.slice_thickness_mm / 2
    path = trajectory(protocol, z_range_mm=(z - half, z + half), isocentre_mm=isocentre(layout))
    first = ct.line_integrals(phantom, protocol, path.isel(view=slice(0, 8)), rows=(0, 1), device="cpu")
    geometry = first.drop_dims("view").assign(view_angle=path["view_angle"], source_z=path["source_z"])
    wide = 2 * study.position_spread_mm + study.roi_size_mm + 4
    grid = roi_grid(centre, size_mm=wide, pixel_mm=wide / 8)
    lo, hi = needed_rows(geometry, grid=grid, slice_thickness_mm=protocol.slice_thickness_mm)
    used = np.flatnonzero(hi > lo)
    keep = slice(int(used[0]), int(used[-1]) + 1)
    path, lo, hi = path.isel(view=keep), lo[keep], hi[keep]
    # on the processor wherever it runs: keys of results do not know of devices, whose rounding differs
    paths = ct.line_integrals(phantom, protocol, path, rows=(lo, hi), device="cpu")
    return paths, Window(lo, hi, geometry.sizes["row"])


def _lesions(
    study: Study, paths: xr.Dataset, places: dict[int, list[tuple[float, float, float]]]
) -> dict[str, tuple[tuple[float, float, float], Chords]]:
    """Chords of the lesion at every place, on the rows that were computed."""
    found = {}
    lo, hi = paths["row_lo"].values, paths["row_hi"].values
    for seed, centres in places.items():
        for number, centre in enumerate(centres):
            chords = sphere_chords(paths, centre_mm=centre, radius_mm=study.lesion_diameter_mm / 2)
            inside = (chords.row >= lo[chords.view]) & (chords.row < hi[chords.view])
            kept = Chords(
                chords.view[inside], chords.row[inside], chords.channel[inside], chords.length_mm[inside]
            )
            found[f"{seed}-{number}"] = (centre, kept)
    return found


def _variances(folder: Path, paths: xr.Dataset, protocol: Protocol, window: Window, factor: float) -> None:
    """Quantum and electronic parts of the rays' variance: ``quantum / mas + electronic / mas^2``."""
    signals = ct.detected(paths, protocol, output_factor=factor)
    kwargs = {"seed": 0, "noise": False, "signals": signals, "output_factor": factor}
    bright = ct.acquire(paths, protocol, mas=_MANY_MAS, **kwargs)
    quantum = window.pack(bright["variance"].values).astype(np.float64) * _MANY_MAS
    mas = protocol.mas
    dim = ct.acquire(paths, protocol, mas=mas, **kwargs)
    electronic = np.maximum(window.pack(dim["variance"].values) - quantum / mas, 0.0) * mas**2
    np.save(folder / f"quantum-{protocol.kv:g}.npy", quantum.astype(np.float32))
    np.save(folder / f"electronic-{protocol.kv:g}.npy", electronic.astype(np.float32))
    store.save_json(
        {"mu_water_per_mm": bright.attrs["mu_water_per_mm"]}, folder / f"beam-{protocol.kv:g}.json"
    )
