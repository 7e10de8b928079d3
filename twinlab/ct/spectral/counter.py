"""A photon-counting detector while it reads a scan: counts by energy bin, with their noise, faults and pile-up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from twinlab.ct.detector import detected_spectrum
from twinlab.ct.electronics import Faults, _repairs, check_seed
from twinlab.ct.readers import Scatter, scatter_of
from twinlab.ct.resume import Store
from twinlab.ct.spectral.counted import (
    REFERENCE_WATER_MM,
    CountTables,
    PileUp,
    Spectra,
    bin_spectra,
    count_correlation,
    count_tables,
    mean_quantities,
    pairs_of,
    pile_up_of,
    shared_counts,
    typical,
)
from twinlab.kernels import cuda_memory as memory
from twinlab.kernels import philox
from twinlab.kernels.counts import draw_counts
from twinlab.kernels.device import host, namespace
from twinlab.kernels.threads import one_parallel_region
from twinlab.physics.attenuation import linear_attenuation_per_mm
from twinlab.scanner import Protocol
from twinlab.scanner.parts import Electronics
from twinlab.schema import label, refuse

_STREAM, _AIR = np.uint64(0x70686F74), np.uint64(0x61697263)

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


@dataclass
class Counter:
    """A photon-counting detector, calibrated in air; made by :func:`counter`. It keeps nothing from view to view.

    Its moments (:class:`twinlab.ct.readers.Reader`) are mean counts of bins, then mean products of pairs of bins.
    """

    protocol: Protocol
    tables: CountTables
    spectra: Spectra
    pile_up: PileUp | None
    shared: tuple[Ints, NDArray[np.float64]]
    faults: Faults
    air: Floats  # (bin, row, channel), of a view of the mean exposure
    mas: float  # of such a view
    keys: tuple[np.uint64, np.uint64, np.uint64]  # realisation and seed
    noise: dict[str, Any]
    output_factor: float
    device: Literal["cpu", "cuda"] = "cpu"  # where its loops run

    @property
    def n_moments(self) -> int:
        return len(self.tables.air)

    @property
    def content(self) -> list[Any]:
        return [self.tables.air, vars(self.faults)]

    @property
    def held(self) -> Floats:
        return np.zeros((0, *self.air.shape[1:]), np.float32)

    @property
    def last_seen(self) -> Ints:
        return np.zeros(self.air.shape[1], np.int64)

    def moments(self, paths: xr.Dataset) -> Any:
        return mean_quantities(paths, self.tables, device=self.device)

    def add_scatter(self, moments: Any, scatter: Scatter | xr.DataArray, block: xr.Dataset) -> None:
        n_bin, shape = self.tables.n_bin, moments.shape[1:]
        product = typical(self.spectra.products, self.spectra.energy_kev)
        per_kev = typical(self.spectra.bins, self.spectra.energy_kev) / _energy_behind_water(self.protocol)
        if callable(scatter):
            # what the cells would absorb, as far as the bins tell it
            kev = np.tensordot(_kev_of_bins(self.spectra), host(moments[:n_bin]), 1).astype(np.float32)
            coords = {name: block[name] for name in ("row", "fan_angle", "u") if name in block.coords}
            block = block.assign(signal=label("signal", kev, coords))
        added = scatter_of(scatter, block, [shape, (n_bin, *shape)])
        if added.ndim == 3:
            added = per_kev.astype(np.float32)[:, None, None, None] * added
        xp = namespace(moments)
        moments[:n_bin] += xp.asarray(added)
        mean = typical(self.spectra.bins, self.spectra.energy_kev)
        for k, (b, c) in enumerate(pairs_of(n_bin)):
            factor = np.float32(product[k] / np.sqrt(mean[b] * mean[c]))
            moments[n_bin + k] += xp.asarray(factor * np.sqrt(added[b] * added[c]))

    def read(
        self, moments: Any, store: Store, views: slice, *, mas: Floats, window: tuple[Ints, Ints]
    ) -> None:
        self.count(moments, mas=mas, first_view=views.start, window=window, counts=store.projection[:, views])

    def count(
        self, moments: Any, *, mas: Floats, first_view: int, window: tuple[Ints, Ints], counts: Floats
    ) -> None:
        """Fill ``counts`` (bin, view, row, channel) of consecutive views; ``moments`` are used up."""
        n_bin, faults, xp = self.tables.n_bin, self.faults, namespace(moments)
        moments *= xp.asarray(mas[:, np.newaxis, np.newaxis])
        if faults.gain is not None:
            moments *= xp.asarray(np.maximum(faults.gain, 0.0).astype(np.float32))
        moments = xp.clip(moments, min=0.0)
        if self.pile_up is not None:
            moments = self.pile_up.apply(moments, n_bin)
        if self.noise["noise"]:
            drawn = self._drawn(moments, first_view, window)
        else:
            row = np.arange(moments.shape[2])
            seen = (row >= window[0][:, None]) & (row < window[1][:, None])
            drawn = host(moments[:n_bin]) * seen[..., np.newaxis]
        for r, c in faults.dead:
            drawn[:, :, r, c] = 0.0
        for r, c, left, right, w in _repairs(faults, self.air.shape[1:]):
            through = [drawn[:, :, r, k] / self.air[:, r, k, None] for k in (left, right)]
            drawn[:, :, r, c] = ((1 - w) * through[0] + w * through[1]) * self.air[:, r, c, None]
        counts[:] = drawn

    def _drawn(self, moments: Any, first_view: int, window: tuple[Ints, Ints]) -> Floats:
        """Counts of the expected moments of a block, on the host."""
        n_bin = self.tables.n_bin
        realisation, k0, k1 = self.keys
        named = (*self.shared, first_view, realisation, k0, k1 ^ _STREAM, *window)
        if self.device == "cuda":
            from twinlab.kernels import cuda_counts

            there = memory.there(moments)
            counts = memory.empty((n_bin, *moments.shape[1:]))
            cuda_counts.draw_counts(there[:n_bin], there[n_bin:], *named, counts)
            return np.asarray(counts.copy_to_host())
        drawn = np.empty((n_bin, *moments.shape[1:]), np.float32)
        with one_parallel_region():
            draw_counts(moments[:n_bin], moments[n_bin:], *named, drawn)
        return drawn

    def results(
        self, store: Store, paths: xr.Dataset, per_view: Floats
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        return self.described(store.projection, paths, per_view)

    def described(
        self, counts: Floats, paths: xr.Dataset, per_view: Floats
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Variables and attrs of a scan's counts."""
        counting = self.protocol.scanner.detector.counting
        assert counting is not None
        coords: dict[str, Any] = {n: paths[n] for n in ("row", "fan_angle", "u") if n in paths.coords}
        coords["threshold"] = ("bin", list(counting.thresholds_kev))
        relative = per_view.astype(float) / self.mas
        data = {
            "counts": label("counts", counts, coords),
            "air_counts": label("air_counts", self.air, coords),
            "view_exposure": label("view_exposure", relative),
            "count_correlation": label("count_correlation", count_correlation(self.spectra)),
        }
        return data, {
            "kv": float(self.protocol.kv),
            "bowtie": self.protocol.bowtie,
            "output_factor": self.output_factor,
            "mas": self.mas * self.protocol.scanner.views_per_rotation,
            **{name: int(value) for name, value in self.noise.items()},
            "quadrature_error": self.tables.error,
        }


def counter(
    paths: xr.Dataset,
    protocol: Protocol,
    *,
    mas: float,
    seed: int,
    realisation: int = 0,
    noise: bool = True,
    output_factor: float = 1.0,
    faults: Faults | None = None,
    device: Literal["cpu", "cuda"] = "cpu",
) -> Counter:
    """The reader of a photon-counting detector, calibrated in air.

    Parameters
    ----------
    paths : Dataset
        Line integrals of any view of the scan.
    protocol : Protocol
    mas : float
        Mean mAs of a view.
    seed, realisation, noise, output_factor
        See :func:`twinlab.ct.spectral.acquire_counts`.
    faults : Faults, optional
        ``gain`` multiplies counts, dead cells give none, ``air_views`` gives the air scan its noise.
    device : "cpu" or "cuda"
        Where views are read; the air scan is read on the processor.

    Raises
    ------
    InputError
        Electronics, electronic noise or an offset, which only integrating detectors have; faults of another
        detector; see :func:`twinlab.ct.spectral.acquire_counts`.
    """
    detector, faults = protocol.scanner.detector, faults or Faults()
    parts = {
        "electronics (cross-talk, afterglow, digitiser, Swank factor)": detector.electronics != Electronics(),
        "electronic_noise_kev (counting.energy_noise_kev has it)": detector.electronic_noise_kev > 0.0,
        "Faults.offset_kev": faults.offset_kev is not None,
    }
    if any(parts.values()):
        refuse(
            "photon-counting scan",
            "none of what only integrating detectors have",
            "; ".join(k for k, v in parts.items() if v),
        )
    check_seed(seed, realisation, where="acquire_counts")
    if not output_factor > 0:
        refuse("acquire_counts: output_factor", "a number above 0", output_factor)
    tables, spectra, pile_up = (
        count_tables(paths, protocol, output_factor=output_factor), bin_spectra(protocol), pile_up_of(protocol)
    )  # fmt: skip
    faults.check(tables.air.shape[1:])
    k0, k1 = philox.key(int(seed))
    shared = shared_counts(protocol)
    air = _air_scan(tables, pile_up, shared, faults, (k0, k1), mas)
    return Counter(
        protocol, tables, spectra, pile_up, shared, faults, air, float(mas),
        (np.uint64(int(realisation)), k0, k1),
        {"seed": int(seed), "realisation": int(realisation), "noise": bool(noise)}, float(output_factor), device,
    )  # fmt: skip


def _air_scan(
    tables: CountTables,
    pile_up: PileUp | None,
    shared: tuple[Ints, NDArray[np.float64]],
    faults: Faults,
    key: tuple[np.uint64, np.uint64],
    mas: float,
) -> Floats:
    """Air counts of a view of the mean exposure, the mean of ``air_views`` or without noise."""
    air = (tables.air * mas).astype(np.float32)[:, np.newaxis]
    n_bin = tables.n_bin
    if pile_up is not None:
        air = pile_up.apply(air, n_bin)
    if faults.air_views is None:
        return np.ascontiguousarray(air[:n_bin, 0])
    total, drawn = air * np.float32(faults.air_views), np.empty_like(air[:n_bin])
    window = np.zeros(1, np.int64), np.full(1, air.shape[2], np.int64)
    with one_parallel_region():
        draw_counts(
            total[:n_bin], total[n_bin:], *shared, 0, np.uint64(0), key[0], key[1] ^ _AIR, *window, drawn
        )
    # a cell without a single count in the air scan would be calibrated by nothing
    return np.ascontiguousarray(np.maximum(drawn[:, 0], 1.0) / np.float32(faults.air_views))


def _energy_behind_water(protocol: Protocol) -> float:
    """Energy [keV per mm2 and mAs at 1 m] that the absorber takes behind 20 cm of water, central channel."""
    energy, spectrum = detected_spectrum(protocol)
    behind = np.exp(-REFERENCE_WATER_MM * linear_attenuation_per_mm("water", energy))
    return float(spectrum[spectrum.shape[0] // 2] @ behind)


def _kev_of_bins(spectra: Spectra) -> NDArray[np.float64]:
    """Photon energy that a count of each bin stands for behind 20 cm of water, central channel."""
    mean = typical(spectra.bins, spectra.energy_kev)
    return typical(spectra.bins * spectra.energy_kev, spectra.energy_kev) / mean
