"""Energy-integrating detector: mean and variance of what a cell absorbs, for any line integrals.

The mean absorbed energy of a reading is ``sum_E N(E) eta(E) E exp(-sum_k p_k mu_k(E))``. Photons are
Poisson and each absorbed one gives its energy, so the variance is the same sum with ``E**2`` (compound
Poisson), divided by the Swank factor where the light per absorbed keV varies. What the electronics do to
readings afterwards (cross-talk, afterglow, digitiser) is in :mod:`twinlab.ct.electronics`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from twinlab.ct.quadrature import Quadrature, energy_quadrature, training_paths
from twinlab.kernels import cuda_memory as memory
from twinlab.kernels.device import Device, host, resolve
from twinlab.kernels.spectral import add_object, polychromatic
from twinlab.kernels.threads import one_parallel_region
from twinlab.physics.attenuation import mass_attenuation
from twinlab.physics.materials import get as material
from twinlab.scanner import Protocol, beam_fluence, beam_knots_mm, cell_solid_angle, row_weights
from twinlab.schema import check, label, refuse

_REFERENCE_AREA_MM2 = 1e6  # one steradian at 1 m

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Extra:
    """A small object that is not in the phantom, on some rays (a lesion, a wire).

    Attributes
    ----------
    chord_cm : array
        Lengths inside it: dense with dims (view, row, channel), or one per entry of ``ray``.
    energy_kev, mu_per_cm : array (n_energy,)
        Its attenuation minus that of what it replaces; interpolated.
    ray : int array, optional
        Flat indices into (view, row, channel).
    """

    chord_cm: np.ndarray
    energy_kev: np.ndarray
    mu_per_cm: np.ndarray
    ray: np.ndarray | None = None

    def listed(self, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        """Flat ray indices and chords.

        Raises
        ------
        InputError
            Shapes do not fit the scan, or a ray is outside it.
        """
        chord = np.asarray(self.chord_cm, np.float32)
        if self.ray is None:
            if chord.shape != shape:
                refuse("Extra.chord_cm", f"shape {shape} (view, row, channel), or ray indices", chord.shape)
            ray = np.flatnonzero(chord)
            return ray, chord.ravel()[ray]
        ray = np.asarray(self.ray, np.int64)
        if ray.shape != chord.shape or ray.ndim != 1:
            refuse("Extra.ray", f"one index per chord {chord.shape}", ray.shape)
        if ray.size and (ray.min() < 0 or ray.max() >= np.prod(shape)):
            refuse("Extra.ray", f"flat indices below {np.prod(shape)}", f"{ray.min()} to {ray.max()}")
        return ray, chord


def efficiency(protocol: Protocol, energy_kev: ArrayLike) -> Array:
    """Probability that a photon that meets the absorber interacts in it, shape (energy,)."""
    detector = protocol.scanner.detector
    absorber = material(detector.absorber_material)
    depth = absorber.density_g_cm3 * detector.absorber_thickness_mm / 10.0
    return -np.expm1(-mass_attenuation(absorber, np.asarray(energy_kev, float))[0] * depth)


def detected_spectrum(
    protocol: Protocol, *, moment: int = 1, bin_width_kev: float = 1.0, row_mm: float = 0.0
) -> tuple[Array, Array]:
    """Energies [keV], and absorbed ``E**moment`` per channel and energy without an object.

    Parameters
    ----------
    protocol : Protocol
    moment : int
    bin_width_kev : float
    row_mm : float
        Row at the detector, mm; matters where heel or bowtie vary along z.

    Returns
    -------
    energy_kev : array (n_energy,)
    spectrum : array (n_channel, n_energy), keV**moment / (mm2 mAs)
        At 1 m from the focal spot.
    """
    fluence = beam_fluence(protocol, bin_width_kev=bin_width_kev)
    energy = fluence["energy"].to_numpy()
    values = np.asarray(fluence.to_numpy(), float)
    used = values.max(axis=0) > 1e-9 * values.max()  # the same energies in every row
    if row_mm != 0.0:
        cone = np.arctan(row_mm / protocol.scanner.source_to_detector_mm)
        off = beam_fluence(protocol, bin_width_kev=bin_width_kev, cone_angle_rad=[cone])
        values = np.asarray(off.to_numpy()[0], float)
    energy = energy[used]
    return energy, values[:, used] * efficiency(protocol, energy) * energy**moment


def dqe(protocol: Protocol, *, water_mm: float = 0.0) -> Array:
    """Detective quantum efficiency at zero frequency behind water, by channel of the middle row.

    Signal-to-noise ratio squared of a reading over the number of photons that meet the cell, dead borders
    included: ``(m S)^2 / (m V + s^2) / (m N)`` with the mAs m of a view, mean signal S, its quantum variance V
    (Swank factor in it), electronic noise s and photons N per mAs [1]_.

    Parameters
    ----------
    protocol : Protocol
        With a tube current, on which the share of the electronic noise depends.
    water_mm : float
        In front of the detector.

    Returns
    -------
    array (channel,)

    References
    ----------
    .. [1] Swank RK (1973) Absorption and noise in x-ray phosphors. J Appl Phys 44:4199.
    """
    fluence = beam_fluence(protocol)
    energy, detector = fluence["energy"].to_numpy(), protocol.scanner.detector
    behind = fluence.to_numpy() * np.exp(-mass_attenuation("water", energy)[0] * water_mm / 10.0)
    absorbed = behind * efficiency(protocol, energy)
    cell = _gain(protocol, np.zeros(1))[0] * protocol.mas / protocol.scanner.views_per_rotation
    variance = cell * (absorbed @ energy**2) / detector.electronics.swank_factor
    total = variance + detector.electronic_noise_kev**2
    photons = cell / detector.fill_factor * behind.sum(axis=1)
    return np.asarray((cell * (absorbed @ energy)) ** 2 / total / photons, float)


@dataclass(frozen=True)
class SignalTables:
    """What turns line integrals of a scan into signals; made once by :func:`signal_tables`.

    Attributes
    ----------
    mu : float32 array (node, 4 or n_basis)
        Attenuation at the energy nodes, cm2/g.
    weight, weight2 : float32 arrays (n_spectrum, node, channel)
        Absorbed energy and its quantum variance; one spectrum for all rows, or one for each.
    gain : float32 array (row, channel)
        Fluence at 1 m to photons per cell.
    air, air_variance : arrays (row, channel)
        Mean [keV/mAs] and quantum variance [keV2/mAs] of a reading without an object.
    rule : Quadrature
    output_factor : float
    """

    mu: NDArray[np.float32]
    weight: NDArray[np.float32]
    weight2: NDArray[np.float32]
    gain: NDArray[np.float32]
    air: Array
    air_variance: Array
    rule: Quadrature
    output_factor: float


def signal_tables(paths: xr.Dataset, protocol: Protocol, *, output_factor: float = 1.0) -> SignalTables:
    """Tables of :func:`detected` for a protocol and the materials of a scan.

    Parameters
    ----------
    paths : Dataset
        From :func:`twinlab.ct.line_integrals`, of any views of the scan.
    protocol : Protocol
    output_factor : float

    Raises
    ------
    InputError
        See :func:`detected`.
    """
    _check_detector(paths, protocol)
    if not output_factor > 0:
        refuse("detected: output_factor", "a number above 0", output_factor)
    mu, energy = _basis_mu(paths, protocol)
    return _tables_for(paths, protocol, mu, energy, training_paths(paths, 0.0)[:, :-1], output_factor)


def one_voltage(views: xr.Dataset, protocol: Protocol, *, where: str) -> None:
    """Refuse a scan with two tube voltages where one is simulated.

    Parameters
    ----------
    views : Dataset
        A trajectory, line integrals or signals.
    protocol : Protocol
    where : str

    Raises
    ------
    InputError
        The protocol has a ``second_kv``, or the views a ``tube_kv`` that is not the protocol's.
    """
    if protocol.second_kv is not None:
        refuse(
            f"{where}: second_kv",
            "none, in each of two scans (protocols from twinlab.scanner.second.switched_protocols, or the first with "
            "second_kv=None and twinlab.scanner.second.second_protocol)",
            f"{protocol.second_kv:g} kV",
        )
    if "tube_kv" in views:
        kv = np.unique(views["tube_kv"].to_numpy())
        if (np.abs(kv - protocol.kv) > 1e-6).any():
            refuse(
                f"{where}: tube_kv",
                f"{protocol.kv:g} kV in every view (twinlab.scanner.second.switched_views and switched_protocols "
                "split a scan)",
                ", ".join(f"{v:g}" for v in kv),
            )


def _check_detector(paths: xr.Dataset, protocol: Protocol) -> None:
    if protocol.scanner.detector.counting is not None:
        here = f"{protocol.scanner.key} with a photon-counting one: twinlab.ct.spectral.acquire_counts"
        refuse("detected", "a detector that integrates energy", here)
    n_channel = paths["path"].shape[3]
    if n_channel != protocol.scanner.detector.n_channels or protocol.scanner.key != paths.attrs.get(
        "scanner"
    ):
        refuse(
            "detected", f"paths through scanner {protocol.scanner.key!r}", repr(paths.attrs.get("scanner"))
        )


def _basis_mu(paths: xr.Dataset, protocol: Protocol) -> tuple[Array, Array]:
    """Attenuation of the basis at the protocol's energies (basis, energy), and these energies."""
    energy, _ = detected_spectrum(protocol)
    names = [str(name) for name in paths["mixed_material"].to_numpy()]
    return paths["mixing"].to_numpy() @ mass_attenuation(names, energy), energy


def _tables_for(
    paths: xr.Dataset, protocol: Protocol, mu: Array, energy: Array, training: Array, output_factor: float
) -> SignalTables:
    rows = np.asarray(paths["row"].to_numpy(), float)
    knots = beam_knots_mm(protocol)
    spectra = np.stack([detected_spectrum(protocol, row_mm=row)[1] for row in knots])
    flat = spectra.reshape(-1, energy.size)
    rule = energy_quadrature(mu, flat, flat * energy, training)
    shape = (rule.node.size, knots.size, spectra.shape[1])
    between = row_weights(knots, rows)
    swank = protocol.scanner.detector.electronics.swank_factor
    weight, weight2 = (
        np.ascontiguousarray(np.einsum("rk,qkc->rqc", between, w.reshape(shape)), np.float32)
        for w in (rule.weight, rule.weight2 / swank)
    )
    nodes = np.zeros((rule.node.size, max(mu.shape[0], 4)), np.float32)
    nodes[:, : mu.shape[0]] = mu[:, rule.node].T
    gain = _gain(protocol, rows) * output_factor
    air = between @ spectra.sum(axis=2)
    air2 = between @ (spectra @ energy) / swank
    return SignalTables(
        nodes, weight, weight2, gain.astype(np.float32), gain * air, gain * air2, rule, output_factor
    )


def detected(
    paths: xr.Dataset,
    protocol: Protocol,
    *,
    output_factor: float = 1.0,
    extra: Extra | None = None,
    device: Device = "auto",
) -> xr.Dataset:
    """Mean and quantum variance of the readings of a scan, per mAs of a view.

    Parameters
    ----------
    paths : Dataset
        From :func:`twinlab.ct.line_integrals`.
    protocol : Protocol
        Gives tube voltage, filters, bowtie and detector; its geometry must be that of ``paths``.
    output_factor : float
        Photons of the real tube per photon of the model (from CTDI).
    extra : Extra, optional
        A further object on some rays.
    device : "auto", "cpu" or "cuda"
        Where the sum over energies runs; signals come back to the host.

    Returns
    -------
    Dataset
        ``signal`` and ``signal_variance`` (view, row, channel), ``air_signal`` (row, channel), view
        geometry and attrs of ``paths``; ``electronic_noise_kev`` in attrs. Readings differ from a sum over
        1 keV bins by 2e-5 at most (attr ``quadrature_error``) on the paths of
        :func:`twinlab.ct.basis.mass_paths`.

    Raises
    ------
    InputError
        The paths are of another detector, ``output_factor`` is not positive, there are two tube voltages, or no
        CUDA device where one is asked for.
    """
    where = resolve(device, where="detected")
    check(paths, "path", "view_angle", "source_z", "mixing", where="detected")
    one_voltage(paths, protocol, where="detected")
    tables = signal_tables(paths, protocol, output_factor=output_factor)
    signal, second = host(mean_signals(paths, tables, device=where))
    if extra is not None:
        _add_extra(paths, protocol, extra, output_factor, signal, second)
    kept = ("view_angle", "source_z", "row_lo", "row_hi", "focal_shift", "tube_current")
    fields: dict[str, Any] = {name: paths[name] for name in kept if name in paths}
    coords = {name: paths[name] for name in ("row", "fan_angle", "u") if name in paths.coords}
    return xr.Dataset(
        {
            **fields,
            "signal": label("signal", signal, coords),
            "signal_variance": label("signal_variance", second, coords),
            "air_signal": label("air_signal", tables.air, coords),
            "air_variance": label("air_variance", tables.air_variance, coords),
        },
        attrs={**paths.attrs, **signal_attrs(protocol, tables)},
    )


def mean_signals(paths: xr.Dataset, tables: SignalTables, *, device: Literal["cpu", "cuda"] = "cpu") -> Any:
    """Mean and quantum variance of readings per mAs, float32 array (2, view, row, channel).

    With ``device="cuda"`` an array of CuPy; without CuPy of the host.
    """
    shape = (2, *paths["path"].shape[1:])
    window = paths["row_lo"].to_numpy(), paths["row_hi"].to_numpy()
    inputs = (paths["path"].to_numpy(), tables.mu, tables.weight, tables.weight2, tables.gain, *window)
    if device == "cuda":
        from twinlab.kernels import cuda_signals

        moments = memory.empty(shape)
        cuda_signals.polychromatic(*inputs, moments[0], moments[1])
        return memory.algebra(moments)
    own = np.empty(shape, np.float32)
    with one_parallel_region():
        polychromatic(*inputs, own[0], own[1])
    return own


def signal_attrs(protocol: Protocol, tables: SignalTables) -> dict[str, Any]:
    """What is to be known of signals, for the attrs."""
    return {
        "kv": float(protocol.kv),
        "bowtie": protocol.bowtie,
        "output_factor": float(tables.output_factor),
        "electronic_noise_kev": float(protocol.scanner.detector.electronic_noise_kev),
        "quadrature_nodes": int(tables.rule.node.size),
        "quadrature_error": tables.rule.error,
    }


def _add_extra(
    paths: xr.Dataset,
    protocol: Protocol,
    extra: Extra,
    output_factor: float,
    signal: NDArray[np.float32],
    second: NDArray[np.float32],
) -> None:
    """Scale the readings of an extra's rays by what it transmits."""
    mu, energy = _basis_mu(paths, protocol)
    mu_extra = np.interp(energy, extra.energy_kev, extra.mu_per_cm)
    training = training_paths(paths, float(np.max(extra.chord_cm, initial=0.0)))
    tables = _tables_for(paths, protocol, np.vstack([mu, mu_extra]), energy, training, output_factor)
    ray, chord = extra.listed(signal.shape)
    at_nodes = mu_extra[tables.rule.node].astype(np.float32)
    with one_parallel_region():
        add_object(
            paths["path"].to_numpy(), tables.mu, tables.weight, tables.weight2, ray, chord, at_nodes, signal,
            second,
        )  # fmt: skip


def _gain(protocol: Protocol, rows: Array) -> Array:
    """Fluence at 1 m to photons per cell, shape (row, channel)."""
    angle = cell_solid_angle(protocol, row_mm=rows).to_numpy()
    return np.asarray(angle * _REFERENCE_AREA_MM2 * protocol.scanner.detector.fill_factor)
