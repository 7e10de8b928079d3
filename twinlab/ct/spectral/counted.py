"""From line integrals to mean counts by energy bin: the tables of a photon-counting scan."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from twinlab.ct.quadrature import energy_quadrature, training_paths
from twinlab.ct.spectral.pile_up import Law, mean_heights, piled_up, summed_bins
from twinlab.ct.spectral.response import counting_response
from twinlab.ct.spectral.sensor import counting_of, pixels_of_cell
from twinlab.kernels import cuda_memory as memory
from twinlab.kernels.device import Device, namespace, resolve
from twinlab.kernels.pulses import restore_rays
from twinlab.kernels.spectral import polychromatic
from twinlab.kernels.threads import one_parallel_region
from twinlab.keys import content_key
from twinlab.physics.attenuation import linear_attenuation_per_mm, mass_attenuation
from twinlab.scanner import Protocol, beam_fluence, beam_knots_mm, cell_solid_angle, row_weights
from twinlab.schema import refuse

REFERENCE_WATER_MM = 200.0  # behind which pulse heights and the covariance of bins are taken as typical
_REFERENCE_AREA_MM2 = 1e6  # one steradian at 1 m
_NOTHING = 1e-9
_KEPT = 8
_TABLES: dict[str, CountTables] = {}

Array = NDArray[np.float64]
Floats = NDArray[np.float32]


def pairs_of(n_bin: int) -> list[tuple[int, int]]:
    """Pairs of bins (b, c), b <= c, in the order of ``pair``."""
    return [(b, c) for b in range(n_bin) for c in range(b, n_bin)]


@dataclass(frozen=True)
class Spectra:
    """Spectra of a photon-counting scan without an object, per mm2 at 1 m and mAs.

    Attributes
    ----------
    energy_kev : array (n_energy,)
    bins : array (n_bin, n_knot, n_channel, n_energy)
        Counts, in the rows of :func:`twinlab.scanner.beam_knots_mm`.
    products : array (n_pair, n_knot, n_channel, n_energy)
        Mean products of the counts of two bins, summed over photons.
    shared : array (offset, bin, other_bin)
        Mean products of counts of neighbouring cells over the root of the product of their means, behind 20 cm of
        water, central channel: beside in the row, beside in the column, across the corner; both sides together.
    heights : array (n_height,)
        Pulses of a cell's pixels by registered energy behind 20 cm of water, central channel.
    """

    energy_kev: Array
    bins: Array
    products: Array
    shared: Array
    heights: Array


def bin_spectra(protocol: Protocol) -> Spectra:
    """Spectra of the bins of a protocol's detector.

    Raises
    ------
    InputError
        The detector integrates energy, or the tube voltage is not above the highest threshold.
    """
    detector = protocol.scanner.detector
    thresholds = counting_of(detector, where=f"protocol {protocol.key}").thresholds_kev
    if protocol.kv <= thresholds[-1]:
        refuse(f"protocol {protocol.key}: kv", f"above the highest threshold {thresholds[-1]:g}", protocol.kv)
    cone = np.arctan(beam_knots_mm(protocol) / protocol.scanner.source_to_detector_mm)
    fluence = beam_fluence(protocol, cone_angle_rad=cone)
    response = counting_response(detector)
    values, energy = np.asarray(fluence.to_numpy(), float), fluence["energy"].to_numpy()
    used = (values.max(axis=(0, 1)) > _NOTHING * values.max()) & (energy >= float(response["energy"][0]))
    values, energy = values[..., used], energy[used]
    at = response.interp(energy=energy)
    counts, product = at["response"].to_numpy(), at["response_product"].to_numpy()
    middle = int(np.argmin(np.abs(protocol.scanner.fan_angles_rad())))
    behind = values[len(cone) // 2, middle] * np.exp(
        -REFERENCE_WATER_MM * linear_attenuation_per_mm("water", energy)
    )
    return Spectra(
        energy,
        counts[:, np.newaxis, np.newaxis] * values,
        np.stack([product[0, b, c] * values for b, c in pairs_of(counts.shape[0])]),
        product[1:] @ behind / np.sqrt(np.multiply.outer(counts @ behind, counts @ behind)),
        mean_heights(response, behind, energy),
    )


def typical(values: Array, energy_kev: Array) -> Array:
    """Sums over energies of quantities (quantity, knot, channel, energy) behind 20 cm of water, central channel."""
    behind = np.exp(-REFERENCE_WATER_MM * linear_attenuation_per_mm("water", energy_kev))
    return np.asarray(values[:, values.shape[1] // 2, values.shape[2] // 2] @ behind)


def count_correlation(spectra: Spectra) -> Array:
    """Covariance of two bins' counts over the root of the product of their means, behind 20 cm of water.

    Shape (bin, other_bin), central channel; the diagonal is 1 for Poisson numbers and larger where photons are
    counted twice.
    """
    mean, product = (typical(q, spectra.energy_kev) for q in (spectra.bins, spectra.products))
    out = np.empty((mean.size, mean.size))
    for (b, c), value in zip(pairs_of(mean.size), product, strict=True):
        out[b, c] = out[c, b] = value / np.sqrt(mean[b] * mean[c])
    return out


def shared_counts(protocol: Protocol) -> tuple[NDArray[np.int64], Array]:
    """Photons counted in two neighbouring cells, as :func:`twinlab.kernels.counts.draw_counts` takes them.

    Pairs of bins that give less than a thousandth of the largest covariance are left out.
    """
    beside, below, corner = bin_spectra(protocol).shared
    towards = [(0, 1, beside / 2), (1, 0, below / 2), (1, 1, corner / 4), (1, -1, corner / 4)]
    listed = [
        (down, along, b, c, table[b, c]) for down, along, table in towards for b, c in np.ndindex(table.shape)
    ]
    least = 1e-3 * max(row[-1] for row in listed)
    listed = [row for row in listed if row[-1] > least]
    places = np.array([row[:4] for row in listed], np.int64).reshape(-1, 4)
    return places, np.array([row[-1] for row in listed], float)


@dataclass(frozen=True)
class CountTables:
    """What turns line integrals into mean counts and products per mAs; made once by :func:`count_tables`.

    A quantity is a bin (first) or a pair of bins. ``sums`` holds, for two quantities at a time, their numbers,
    attenuation at the nodes and the weights (row or 1, node, channel) of both.
    """

    sums: list[tuple[tuple[int, int], Floats, Floats, Floats]]
    n_bin: int
    gain: Floats  # (row, channel)
    air: Array  # (quantity, row, channel), per mAs
    error: float


def count_tables(paths: xr.Dataset, protocol: Protocol, *, output_factor: float) -> CountTables:
    """Quadratures of all bins and pairs of bins for the materials of a scan; the last ones are kept in memory."""
    names = [str(name) for name in paths["mixed_material"].to_numpy()]
    rows = np.asarray(paths["row"].to_numpy(), float)
    beam = (protocol.kv, protocol.bowtie, protocol.collimation_mm, protocol.scanner)
    basis = (names, paths["mixing"].to_numpy(), paths["basis_mu"].to_numpy(), paths["energy"].to_numpy())
    key = content_key(beam, basis, rows, output_factor)
    if key not in _TABLES:
        if len(_TABLES) >= _KEPT:
            _TABLES.pop(next(iter(_TABLES)))
        _TABLES[key] = _count_tables(paths, protocol, names, rows, output_factor)
    return _TABLES[key]


def _count_tables(
    paths: xr.Dataset, protocol: Protocol, names: list[str], rows: Array, output_factor: float
) -> CountTables:
    spectra = bin_spectra(protocol)
    mu = paths["mixing"].to_numpy() @ mass_attenuation(names, spectra.energy_kev)
    training = training_paths(paths, 0.0)[:, :-1]
    quantities = np.concatenate([spectra.bins, spectra.products])
    between = row_weights(beam_knots_mm(protocol), rows)
    shape = between.shape[1], len(protocol.scanner.fan_angles_rad())
    n_bin, sums, error = len(spectra.bins), [], 0.0
    for two in _in_twos(n_bin):
        first, second = (quantities[i].reshape(-1, spectra.energy_kev.size) for i in two)
        rule = energy_quadrature(mu, _not_empty(first), _not_empty(second), training)
        nodes = np.zeros((rule.node.size, max(mu.shape[0], 4)), np.float32)
        nodes[:, : mu.shape[0]] = mu[:, rule.node].T
        weights = [
            np.einsum("rk,qkc->rqc", between, weight.reshape(-1, *shape) * part.any()).astype(np.float32)
            for weight, part in ((rule.weight, first), (rule.weight2, second))
        ]
        sums.append((two, nodes, weights[0], weights[1]))
        error = max(error, rule.error) if two[0] < n_bin else error
    gain = cell_solid_angle(protocol, row_mm=rows).to_numpy() * _REFERENCE_AREA_MM2
    gain = gain * protocol.scanner.detector.fill_factor * output_factor
    air = np.einsum("rk,qkc->qrc", between, quantities.sum(axis=3)) * gain
    return CountTables(sums, n_bin, gain.astype(np.float32), air, error)


def _in_twos(n_bin: int) -> list[tuple[int, int]]:
    """Quantities that share a quadrature: bins; then a bin's square and a small product, which follows its nodes."""
    squares = [n_bin + k for k, (b, c) in enumerate(pairs_of(n_bin)) if b == c]
    others = [n_bin + k for k, (b, c) in enumerate(pairs_of(n_bin)) if b != c]
    listed = list(range(n_bin))
    twos = [(b, listed[min(i + 1, n_bin - 1)]) for i, b in enumerate(listed) if i % 2 == 0]
    twos += [(square, others[i] if i < len(others) else square) for i, square in enumerate(squares)]
    rest = others[len(squares) :]
    return twos + [(rest[i], rest[min(i + 1, len(rest) - 1)]) for i in range(0, len(rest), 2)]


def _not_empty(spectrum: Array) -> Array:
    """A quantity that no photon gives (far bins of low energies) is fitted as if it were even, and set to 0 after."""
    return spectrum if spectrum.any() else np.ones_like(spectrum)


def mean_quantities(paths: xr.Dataset, tables: CountTables, *, device: Literal["cpu", "cuda"] = "cpu") -> Any:
    """Mean counts of bins, then products of pairs of bins, per mAs: (quantity, view, row, channel).

    With ``device="cuda"`` an array of CuPy; without CuPy of the host.
    """
    path = paths["path"].to_numpy()
    window = paths["row_lo"].to_numpy(), paths["row_hi"].to_numpy()
    shape = (len(tables.air), *path.shape[1:])
    if device == "cuda":
        from twinlab.kernels import cuda_signals

        there, out = memory.put(path), memory.empty(shape)
        spare = memory.empty(path.shape[1:])
        for (i, j), mu, weight, weight2 in tables.sums:
            second = spare if i == j else out[j]
            cuda_signals.polychromatic(there, mu, weight, weight2, tables.gain, *window, out[i], second)
        return memory.algebra(out)
    own = np.empty(shape, np.float32)
    unused = np.empty(path.shape[1:], np.float32)
    with one_parallel_region():
        for (i, j), mu, weight, weight2 in tables.sums:
            second = unused if i == j else own[j]
            polychromatic(path, mu, weight, weight2, tables.gain, *window, own[i], second)
    return own


@dataclass(frozen=True)
class PileUp:
    """Pile-up of one protocol: what :func:`twinlab.ct.spectral.piled_up` takes."""

    load_per_count: float
    sums: Array
    law: Law

    def apply(self, quantities: Any, n_bin: int) -> Any:
        """Recorded counts and products from those without pile-up, shape (quantity, view, ...), in any namespace."""
        xp = namespace(quantities)
        counts = xp.astype(quantities[:n_bin, ...], xp.float64)
        recorded = piled_up(counts, self.load_per_count, self.sums, law=self.law)
        ratio = recorded / xp.where(counts > 1e-30, counts, 1e-30)
        parts = [xp.astype(recorded, quantities.dtype)]
        for k, (b, c) in enumerate(pairs_of(n_bin)):
            # the smaller ratio keeps both bins' share of single counts positive
            product = quantities[n_bin + k, ...] * xp.minimum(ratio[b, ...], ratio[c, ...])
            parts.append(xp.astype(product, quantities.dtype)[None, ...])
        return xp.concat(parts)


def without_pile_up(counts: xr.Dataset, protocol: Protocol, *, device: Device = "auto") -> xr.Dataset:
    """Counts and air counts of a scan corrected for pile-up with the detector's own model."""
    where = resolve(device, where="without_pile_up")
    pile_up = pile_up_of(protocol)
    if pile_up is None:
        return counts
    out = counts.copy()
    model = pile_up.load_per_count, pile_up.sums, pile_up.law == "paralysable"
    for name in ("counts", "air_counts"):
        recorded = np.ascontiguousarray(counts[name].to_numpy(), np.float32)
        flat = recorded.reshape(recorded.shape[0], -1)
        if where == "cuda":
            from twinlab.kernels import cuda_counts

            there = memory.empty(flat.shape)
            cuda_counts.restore_rays(memory.put(flat), *model, there)
            fixed = there.copy_to_host()
        else:
            fixed = np.empty(flat.shape, np.float32)
            with one_parallel_region():
                restore_rays(flat, *model, fixed)
        out[name] = counts[name].copy(data=fixed.reshape(recorded.shape))
    return out


def noise_growth(counts: Any, protocol: Protocol) -> Any:
    """How much noisier than Poisson numbers restored counts (bin, ...) are, in any namespace; 1 without pile-up."""
    pile_up = pile_up_of(protocol)
    if pile_up is None:
        return 1.0
    xp = namespace(counts)
    load = xp.sum(counts, axis=0) * pile_up.load_per_count
    return (1.0 + load) ** 3 if pile_up.law == "nonparalysable" else xp.exp(load) / (1.0 - load) ** 2


def pile_up_of(protocol: Protocol) -> PileUp | None:
    """Pile-up of a protocol's readings; None without dead time."""
    detector = protocol.scanner.detector
    counting = counting_of(detector, where="pile_up_of")
    if counting.dead_time_ns == 0.0:
        return None
    across, along = pixels_of_cell(detector)
    view_ns = 1e9 * protocol.rotation_time_s / protocol.scanner.views_per_rotation
    sums = summed_bins(bin_spectra(protocol).heights, np.array(counting.thresholds_kev))
    return PileUp(counting.dead_time_ns / (view_ns * across * along), sums, counting.pile_up)
