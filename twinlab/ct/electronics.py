"""From absorbed quanta to projections: the detector as a chain that reads a scan view by view.

Quanta are drawn (compound Poisson), their light is shared with neighbouring cells and partly kept for later
views, amplified, disturbed by electronic noise, cut and rounded; then come the logarithm against the air scan,
the water correction and the repair of cells known as bad. Light is shared after quanta are drawn, so that the
noise of neighbouring cells and views is correlated, as in real detectors.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from numbers import Integral
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from twinlab.ct.corrections import loop_tables
from twinlab.kernels import cuda_memory as memory
from twinlab.kernels import philox
from twinlab.kernels.readings import draw_readings, take_logarithm
from twinlab.kernels.scintillator import afterglow, read_out, scale_cells, share_light
from twinlab.kernels.threads import one_parallel_region
from twinlab.scanner import Protocol
from twinlab.schema import refuse

# keep the detector's random numbers apart from those of transport, and its kinds of noise from each other
_QUANTA, _AMPLIFIER, _AIR = (np.uint64(word) for word in (0x6E6F6973, 0x616D706C, 0x61697273))

_PROCESSOR = SimpleNamespace(
    draw_readings=draw_readings, take_logarithm=take_logarithm, afterglow=afterglow, read_out=read_out,
    scale_cells=scale_cells, share_light=share_light,
)  # fmt: skip

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


def loops_on(device: Literal["cpu", "cuda"]) -> Any:
    """Loops of the chain on a device, all with the same arguments."""
    if device == "cpu":
        return _PROCESSOR
    from twinlab.kernels import cuda_readings

    return cuda_readings


@dataclass(frozen=True)
class Faults:
    """What has become of a detector's cells since its air calibration.

    Attributes
    ----------
    gain : array (row, channel), optional
        Gain relative to that at calibration: drift, which makes rings.
    offset_kev : array (row, channel), optional
        Offset that the subtraction leaves.
    dead : tuple of (row, channel)
        Cells that give no signal.
    repaired : bool
        Dead cells are known and interpolated between their neighbours in the row.
    air_views : int, optional
        Views that the air scan averages; its noise then stays in the image. None: an air scan without noise.
    """

    gain: np.ndarray | None = None
    offset_kev: np.ndarray | None = None
    dead: tuple[tuple[int, int], ...] = ()
    repaired: bool = True
    air_views: int | None = None

    def check(self, shape: tuple[int, ...]) -> None:
        """Refuse maps and cells that are not of a detector of ``shape`` (row, channel).

        Raises
        ------
        InputError
            A map of another shape or not finite, a cell outside, ``air_views`` below 1.
        """
        for name in ("gain", "offset_kev"):
            values = getattr(self, name)
            if values is not None and (np.shape(values) != shape or not np.isfinite(values).all()):
                refuse(f"Faults.{name}", f"finite values (row, channel) {shape}", np.shape(values))
        if any(not (0 <= r < shape[0] and 0 <= c < shape[1]) for r, c in self.dead):
            refuse("Faults.dead", f"cells within {shape} (row, channel)", self.dead)
        if self.air_views is not None and self.air_views < 1:
            refuse("Faults.air_views", "1 or more", self.air_views)


@dataclass
class Chain:
    """A detector while it reads a scan; made by :func:`detector_chain`. Its state is the light kept in store."""

    protocol: Protocol
    air: Floats  # expected air reading [keV/mAs] by which readings are divided
    correction: tuple[Floats, Floats]
    keys: tuple[np.uint64, np.uint64, np.uint64]  # realisation and seed
    noise: bool
    faults: Faults
    held: Floats
    last_seen: Ints
    repairs: list[tuple[int, int, int, int, float]] = field(default_factory=list)
    device: Literal["cpu", "cuda"] = "cpu"  # where its loops run

    @property
    def plain(self) -> bool:
        """Readings are quanta and electronic noise, nothing else."""
        electronics = self.protocol.scanner.detector.electronics
        return not (
            electronics.crosstalk_channel
            or electronics.crosstalk_row
            or electronics.lag
            or electronics.kev_per_count
            or electronics.saturation_kev
            or self.faults.gain is not None
            or self.faults.offset_kev is not None
            or self.faults.dead
        )

    def read(
        self,
        signal: Any,
        second: Any,
        *,
        mas: Floats,
        first_view: int,
        window: tuple[Ints, Ints],
        projection: Floats,
        variance: Floats | None = None,
    ) -> None:
        """Fill ``projection`` (and ``variance``) of consecutive views; blocks must follow in order.

        Parameters
        ----------
        signal, second : float32 arrays (view, row, channel)
            Mean and quantum variance per mAs of the view, of the host or of the device; changed when ``variance`` is
            asked of a detector with cross-talk.
        mas : float32 array (view,)
        first_view : int
            Place of the first view in the scan.
        window : int arrays (view,)
            First row and end of rows; others are left as they are.
        projection, variance : float32 arrays (view, row, channel), written
        """
        there = self.device == "cuda"
        value: Any = memory.put(projection) if there else projection
        spread: Any = np.empty((0, 1, 1), np.float32) if variance is None else variance
        if there:
            signal, second, spread = memory.there(signal), memory.there(second), memory.put(spread)
        self.readings(signal, second, mas=mas, first_view=first_view, window=window, reading=value)
        detector = self.protocol.scanner.detector
        electronic = detector.electronic_noise_kev
        if not self.plain:
            electronic = np.hypot(electronic, (detector.electronics.kev_per_count or 0.0) / 12**0.5)
            if variance is not None:
                self._spread_moments(signal, second, window)
        with one_parallel_region():
            loops_on(self.device).take_logarithm(
                signal, second, self.air, mas, np.float32(electronic), *self.correction, *window, value, value,
                spread,
            )  # fmt: skip
        if there:
            projection[...] = value.copy_to_host()
            if variance is not None:
                variance[...] = spread.copy_to_host()
        for r, c, left, right, w in self.repairs:
            projection[:, r, c] = (1 - w) * projection[:, r, left] + w * projection[:, r, right]
            if variance is not None:  # of a mean of two readings
                variance[:, r, c] = (1 - w) ** 2 * variance[:, r, left] + w**2 * variance[:, r, right]

    def readings(
        self,
        signal: Any,
        second: Any,
        *,
        mas: Floats,
        first_view: int,
        window: tuple[Ints, Ints],
        reading: Any,
    ) -> None:
        """Fill ``reading`` [keV], where the loops run; parameters as of :meth:`read`."""
        realisation, k0, k1 = self.keys
        # without other effects quanta and amplifier share a normal number; else each has its own
        electronic = self.protocol.scanner.detector.electronic_noise_kev if self.plain else 0.0
        with one_parallel_region():
            loops_on(self.device).draw_readings(
                signal, second, mas, np.float32(electronic), self.noise, first_view, realisation, k0,
                k1 ^ _QUANTA, *window, reading,
            )  # fmt: skip
            if not self.plain:
                self._light_and_amplifier(reading, first_view, window)

    def _light_and_amplifier(self, reading: Any, first_view: int, window: tuple[Ints, Ints]) -> None:
        detector = self.protocol.scanner.detector
        electronics, faults = detector.electronics, self.faults
        realisation, k0, k1 = self.keys
        loops = loops_on(self.device)
        _share(loops, reading, electronics.crosstalk_channel, electronics.crosstalk_row, window)
        if electronics.lag:
            share, decay, mean_decay = lag_tables(self.protocol)
            pause = _pauses(self.protocol, first_view, reading.shape[0])
            loops.afterglow(
                reading, self.held, self.last_seen, share, decay, mean_decay, pause, first_view, *window
            )
        shape = reading.shape[1:]
        gain = np.ones(shape, np.float32) if faults.gain is None else faults.gain.astype(np.float32)
        offset = np.zeros(shape, np.float32)
        if faults.offset_kev is not None:
            offset = faults.offset_kev.astype(np.float32)
        for r, c in faults.dead:
            gain[r, c] = 0.0
        loops.read_out(
            reading, gain, offset, np.float32(detector.electronic_noise_kev),
            np.float32(electronics.saturation_kev or np.inf), np.float32(electronics.kev_per_count or 0.0),
            self.noise, first_view, realisation, k0, k1 ^ _AMPLIFIER, *window,
        )  # fmt: skip

    def _spread_moments(self, signal: Any, second: Any, window: tuple[Ints, Ints]) -> None:
        """Mean and variance of readings whose light is shared and delayed, from those of single cells."""
        electronics, loops = self.protocol.scanner.detector.electronics, loops_on(self.device)
        channel, row = electronics.crosstalk_channel, electronics.crosstalk_row
        _share(loops, signal, channel, row, window)
        _share(loops, second, channel, row, window, squared=True)
        if electronics.lag:
            loops.scale_cells(second, np.full(signal.shape[1:], lag_noise_factor(self.protocol), np.float32))
        if self.faults.gain is not None:
            loops.scale_cells(second, self.faults.gain.astype(np.float32) ** 2)
            loops.scale_cells(signal, self.faults.gain.astype(np.float32))


def check_seed(seed: int, realisation: int, *, where: str) -> None:
    """Refuse what cannot name a scan's noise.

    Raises
    ------
    InputError
        Not two integers from 0 to 2**64 - 1.
    """
    if not all(isinstance(v, Integral) and 0 <= v < 2**64 for v in (seed, realisation)):
        refuse(f"{where}: seed and realisation", "integers from 0 to 2**64 - 1", (seed, realisation))


def detector_chain(
    protocol: Protocol,
    air: xr.Dataset,
    correction: xr.Dataset,
    *,
    seed: int,
    realisation: int = 0,
    noise: bool = True,
    faults: Faults | None = None,
    mas: float,
    device: Literal["cpu", "cuda"] = "cpu",
) -> Chain:
    """The detector of a protocol, calibrated in air, before its first view.

    Parameters
    ----------
    protocol : Protocol
    air : Dataset
        ``air_signal`` and ``air_variance`` (row, channel).
    correction : Dataset
        From :func:`twinlab.ct.water_correction`.
    seed, realisation : int
        See :func:`twinlab.ct.acquire`.
    noise : bool
    faults : Faults, optional
    mas : float
        Mean mAs of a view, of the air scan's views too.
    device : "cpu" or "cuda"
        Where views are read; the air scan is read on the processor.

    Raises
    ------
    InputError
        The seed is no 64-bit integer, or the faults are of another detector.
    """
    check_seed(seed, realisation, where="acquire")
    faults = faults or Faults()
    shape = air["air_signal"].shape
    faults.check(shape)
    k0, k1 = philox.key(int(seed))
    lags = len(protocol.scanner.detector.electronics.lag)
    return Chain(
        protocol=protocol,
        air=_air_scan(protocol, air, faults, (k0, k1), mas),
        correction=loop_tables(correction),
        keys=(np.uint64(int(realisation)), k0, k1),
        noise=bool(noise),
        faults=faults,
        held=np.zeros((lags, *shape), np.float32),
        last_seen=np.full(shape[0], -1, np.int64),
        repairs=_repairs(faults, shape),
        device=device,
    )


def _air_scan(
    protocol: Protocol, air: xr.Dataset, faults: Faults, seed: tuple[np.uint64, np.uint64], mas: float
) -> Floats:
    """Air reading per mAs that calibrates the detector: cross-talk is in it, and its noise if asked for."""
    mean = air["air_signal"].to_numpy().astype(np.float32)[np.newaxis]
    window = np.zeros(1, np.int64), np.full(1, mean.shape[1], np.int64)
    electronics = protocol.scanner.detector.electronics
    if faults.air_views is not None:
        second = air["air_variance"].to_numpy().astype(np.float32)[np.newaxis]
        total = np.full(1, mas * faults.air_views, np.float32)
        electronic = protocol.scanner.detector.electronic_noise_kev * faults.air_views**0.5
        with one_parallel_region():
            draw_readings(
                mean, second, total, np.float32(electronic), True, 0, np.uint64(0), seed[0], seed[1] ^ _AIR,
                *window, mean_out := np.empty_like(mean),
            )  # fmt: skip
        mean = mean_out / total[0]
    _share(_PROCESSOR, mean, electronics.crosstalk_channel, electronics.crosstalk_row, window)
    return np.ascontiguousarray(mean[0])


def _share(
    loops: Any, reading: Any, channel: float, row: float, window: tuple[Ints, Ints], *, squared: bool = False
) -> None:
    for share, along_rows in ((channel, False), (row, True)):
        if share:
            weights = np.array([share, 1.0 - 2.0 * share, 1.0 - share], np.float32)
            side, centre, edge = weights**2 if squared else weights
            with one_parallel_region():
                loops.share_light(reading, side, centre, edge, along_rows, *window)


def lag_tables(protocol: Protocol) -> tuple[Floats, Floats, Floats]:
    """Shares, decays over a view and mean decays within it, of each exponential (:func:`afterglow`)."""
    lag = protocol.scanner.detector.electronics.lag
    view_ms = 1000.0 * protocol.rotation_time_s / protocol.scanner.views_per_rotation
    tau = np.array([part.time_ms for part in lag])
    decay = np.exp(-view_ms / tau)
    share = np.array([part.fraction for part in lag], np.float32)
    return share, decay.astype(np.float32), (-np.expm1(-view_ms / tau) * tau / view_ms).astype(np.float32)


def lag_response(protocol: Protocol, n_view: int) -> NDArray[np.float64]:
    """Share of a view's light that is read in it and in the following ones, shape (n_view,)."""
    share, decay, mean_decay = (np.asarray(t, float) for t in lag_tables(protocol))
    later = np.arange(n_view)[:, None] - 1
    response = (share * mean_decay * (1.0 - decay) * decay**later).sum(axis=1)
    response[0] = 1.0 - (share * mean_decay).sum()
    return response


def lag_noise_factor(protocol: Protocol) -> float:
    """Variance of evenly exposed readings with afterglow, relative to that without: sum of squared response."""
    return float((lag_response(protocol, 20_000) ** 2).sum())


def _pauses(protocol: Protocol, first_view: int, n_view: int) -> Floats:
    """What pauses between axial rotations leave of each store, shape (view, exponential)."""
    lag = protocol.scanner.detector.electronics.lag
    left = np.ones((n_view, len(lag)), np.float32)
    if protocol.mode == "axial" and protocol.interscan_delay_s:
        first = (first_view + np.arange(n_view)) % protocol.scanner.views_per_rotation == 0
        left[first] = [np.exp(-1000.0 * protocol.interscan_delay_s / part.time_ms) for part in lag]
    return left


def _repairs(faults: Faults, shape: tuple[int, ...]) -> list[tuple[int, int, int, int, float]]:
    """Row, channel, its nearest good neighbours in the row, and the weight of the right one."""
    if not faults.repaired:
        return []
    dead, found = set(faults.dead), []
    for r, c in sorted(dead):
        good = [k for k in range(shape[1]) if (r, k) not in dead]
        if not good:
            refuse("Faults.dead", "a good cell in every row, or repaired=False", f"row {r} all dead")
        left = max((k for k in good if k < c), default=min(good))
        right = min((k for k in good if k > c), default=left)
        found.append((r, c, left, right, (c - left) / (right - left) if right > left else 0.0))
    return found
