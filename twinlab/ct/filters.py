"""Reconstruction kernels: apodised ramp filters that are defined by the in-plane MTF they leave.

A kernel is a function of spatial frequency alone. The filter of a scan is one dense matrix that takes the
channels of a row to filtered samples on an even parallel grid: interpolation (cardinal quintic spline),
ramp and apodisation in one, applied as a matrix product and transposed exactly.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.fft import irfft, next_fast_len, rfft
from scipy.interpolate import make_interp_spline
from scipy.special import dawsn

from twinlab.schema import refuse

EDGE_CHANNELS = 4  # whose mean continues a truncated row


@dataclass(frozen=True)
class Kernel:
    """A named apodisation ``exp(-ln2 (f / mtf50)**n)`` with ``n`` such that it is 0.1 at ``mtf10``.

    Attributes
    ----------
    name : str
    mtf50_per_mm, mtf10_per_mm : float
        Frequencies at which the modulation transfer is 0.5 and 0.1, line pairs per mm: a tenth of the figures per
        cm that scanners are specified by and :func:`fit_kernel` takes. Infinite: no apodisation.
    """

    name: str
    mtf50_per_mm: float
    mtf10_per_mm: float

    @property
    def exponent(self) -> float:
        """Exponent ``n`` of the super-Gaussian."""
        return math.log(math.log(10.0) / math.log(2.0)) / math.log(self.mtf10_per_mm / self.mtf50_per_mm)


KERNELS: Mapping[str, Kernel] = {
    "ramp": Kernel("ramp", math.inf, math.inf),
    "smooth": Kernel("smooth", 0.30, 0.55),
    "standard": Kernel("standard", 0.40, 0.65),
    "sharp": Kernel("sharp", 0.60, 0.90),
}


def get(kernel: str | Kernel) -> Kernel:
    """Kernel by name; a kernel is handed through.

    Raises
    ------
    InputError
        No kernel of that name.
    """
    if isinstance(kernel, Kernel):
        return kernel
    if kernel not in KERNELS:
        refuse("kernel", f"one of {', '.join(KERNELS)}, or a Kernel", repr(kernel))
    return KERNELS[kernel]


def mtf(kernel: str | Kernel, frequency_per_mm: ArrayLike) -> NDArray[np.float64]:
    """Modulation transfer that a kernel leaves in the image plane.

    Detector aperture, focal spot and gantry rotation act before the reconstruction and multiply it.

    Parameters
    ----------
    kernel : str or Kernel
        "ramp", "smooth", "standard", "sharp", or one of :func:`fit_kernel`.
    frequency_per_mm : array_like
        Radial spatial frequency, 1/mm (1/mm is 10 line pairs per cm).

    Returns
    -------
    ndarray, shape of ``frequency_per_mm``
        1 at zero frequency. "ramp" is 1 everywhere; it ends at the Nyquist frequency of the detector.

    Raises
    ------
    InputError
        Unknown kernel.

    Examples
    --------
    >>> mtf("standard", [0.0, 0.40, 0.65]).round(3).tolist()
    [1.0, 0.5, 0.1]
    """
    chosen = get(kernel)
    frequency = np.abs(np.asarray(frequency_per_mm, dtype=np.float64))
    if math.isinf(chosen.mtf50_per_mm):
        return np.ones_like(frequency)
    return np.exp(-math.log(2.0) * (frequency / chosen.mtf50_per_mm) ** chosen.exponent)


def fit_kernel(
    mtf50_per_cm: float, mtf10_per_cm: float, *, aperture_mm: Sequence[float] = (), name: str = ""
) -> Kernel:
    """Kernel whose image has a given modulation transfer at two points.

    Parameters
    ----------
    mtf50_per_cm, mtf10_per_cm : float
        Frequencies, line pairs per cm as data sheets have them (10 are 1 per mm, the unit of :class:`Kernel` and
        :func:`mtf`), at which the transfer is to be 0.5 and 0.1.
    aperture_mm : sequence of float
        Widths at the isocentre of what blurs before the reconstruction (:func:`apertures_mm`): their transfer
        ``sinc(width f)`` is made good. None: the request is the kernel's own transfer.
    name : str
        Default: the two figures.

    Returns
    -------
    Kernel
        The curve ``exp(-a f^n)`` refitted through the two points, each divided by the transfer of the apertures
        there. So the whole chain is as asked at these two frequencies; elsewhere it follows from the shape.

    Raises
    ------
    InputError
        The frequencies do not ascend, or the apertures alone blur more than is asked.

    Examples
    --------
    >>> kernel = fit_kernel(4.6, 7.8)
    >>> mtf(kernel, [0.46, 0.78]).round(3).tolist()
    [0.5, 0.1]
    """
    if not 0.0 < mtf50_per_cm < mtf10_per_cm < math.inf:
        refuse("fit_kernel", "0 < mtf50_per_cm < mtf10_per_cm", f"{mtf50_per_cm:g} and {mtf10_per_cm:g}")
    frequency = np.array([mtf50_per_cm, mtf10_per_cm]) / 10.0
    before = np.ones(2)
    for width in aperture_mm:
        before = before * np.sinc(width * frequency)
    wanted = np.array([0.5, 0.1]) / np.maximum(before, 1e-9)
    if not (before[1] > 0.1 and 1.0 > wanted[0] > wanted[1]):
        blur = " and ".join(f"{m:.2f} at {10 * f:g} lp/cm" for m, f in zip(before, frequency, strict=True))
        refuse(
            "fit_kernel", "a transfer below that of the detector cell and focal spot", f"they leave {blur}"
        )
    loss = -np.log(wanted)
    exponent = math.log(loss[1] / loss[0]) / math.log(frequency[1] / frequency[0])
    half = float(frequency[0] * (math.log(2.0) / loss[0]) ** (1.0 / exponent))
    tenth = half * (math.log(10.0) / math.log(2.0)) ** (1.0 / exponent)
    return Kernel(name or f"mtf {mtf50_per_cm:g}/{mtf10_per_cm:g}", half, tenth)


def apertures_mm(scanner: Any) -> tuple[float, float]:
    """Widths at the isocentre of the active part of a detector channel and of the focal spot, mm.

    The active part is the square root of the fill factor of the pitch, as in
    :func:`twinlab.ct.sampling.sub_samples`. A scan has these widths where its protocol's ``sampling`` has more than
    one point along them (``cell_channel``, ``focal_width``); one point has none.
    """
    scale = scanner.source_to_isocentre_mm / scanner.source_to_detector_mm
    detector = scanner.detector
    channel = detector.channel_pitch_mm * math.sqrt(detector.fill_factor) * scale
    return channel, scanner.tube.focal_spot_mm[0] * (1.0 - scale)


def ramp_kernel(lag_mm: ArrayLike, nyquist_per_mm: float) -> NDArray[np.float64]:
    """Ram-Lak kernel band-limited at ``nyquist_per_mm``, at any lag.

    At lags that are multiples of ``1 / (2 nyquist)`` it is the discrete kernel of Kak & Slaney eq. 61:
    ``1/(4 tau^2)`` at zero, ``-1/(n pi tau)^2`` at odd, zero at even multiples.

    Parameters
    ----------
    lag_mm : array_like
        Distance along the row, mm.
    nyquist_per_mm : float
        Band limit, 1/mm.

    Returns
    -------
    ndarray, 1/mm2
        Inverse Fourier transform of ``|f|`` for ``|f| <= nyquist``.

    References
    ----------
    Kak, Slaney: Principles of Computerized Tomographic Imaging, IEEE Press 1988, chapter 3.
    """
    lag = np.asarray(lag_mm, dtype=np.float64)
    place = nyquist_per_mm * lag
    return nyquist_per_mm**2 * (2.0 * np.sinc(2.0 * place) - np.sinc(place) ** 2)


def apodised_kernel(
    name: str | Kernel, *, step_mm: float, count: int, nyquist_per_mm: float, interpolation_mm: float = 0.0
) -> NDArray[np.float64]:
    """Spatial filter kernel ``integral |f| A(f) exp(2 pi i f s) df`` at lags ``0, step, 2 step, ...``.

    The tail of the ramp (``-1 / (2 pi^2 s^2)``) is carried by a Gaussian-damped ramp with a closed form
    (Dawson's integral); only the quickly decaying remainder is integrated numerically. So the transfer at
    zero frequency is exact and water reads 0 HU whatever the kernel.

    Parameters
    ----------
    name : str
        Kernel.
    step_mm, count : float, int
        Lags.
    nyquist_per_mm : float
        Band limit of "ramp", the detector's Nyquist frequency at the isocentre.
    interpolation_mm : float
        Step of a later linear interpolation, whose loss ``sinc(f step)^2`` is made good. 0: none.

    Returns
    -------
    ndarray, shape (count,), 1/mm2

    Raises
    ------
    InputError
        Unknown kernel.
    """
    sharp_end = math.isinf(get(name).mtf50_per_mm)
    limit = min(0.5 / step_mm, nyquist_per_mm) if sharp_end else 0.5 / step_mm
    lag = step_mm * np.arange(count)
    width = limit / 4.0
    x = math.pi * width * lag
    smooth_ramp = width**2 * (1.0 - 2.0 * x * dawsn(x))
    # a sum over a frequency grid so fine that the copies of the remainder, which decays as s^-4, are far away
    length = next_fast_len(8 * count + 4096, real=True)
    frequency = np.arange(length // 2 + 1) / (length * step_mm)
    inside = frequency <= limit
    response = mtf(name, frequency) * inside
    if interpolation_mm > 0.0:
        response = response / np.sinc(np.minimum(frequency, limit) * interpolation_mm) ** 2
    # the sharp edge of "ramp" is integrated badly by a sum: closed form for it, the sum for the smooth rest
    edge = float(response[inside][-1]) if sharp_end else 0.0
    rest = frequency * (response - edge * inside - (1.0 - edge) * np.exp(-((frequency / width) ** 2)))
    taps = (1.0 - edge) * smooth_ramp + irfft(rest, length)[:count] / step_mm
    return taps + edge * ramp_kernel(lag, limit)


@lru_cache(maxsize=1)
def _cardinal_spline() -> tuple[object, int]:
    reach = 30  # the quintic cardinal spline falls by 0.43 a node: 1e-11 here
    nodes = np.arange(-reach, reach + 1)
    return make_interp_spline(nodes, (nodes == 0).astype(float), k=5), reach - 6


def interpolation_matrix(position: ArrayLike, n_channels: int) -> NDArray[np.float64]:
    """Quintic-spline interpolation of channels at fractional positions, with zeros beyond the ends.

    Parameters
    ----------
    position : array_like, shape (n,)
        Fractional channel index.
    n_channels : int

    Returns
    -------
    ndarray, shape (n, n_channels)
    """
    spline, reach = _cardinal_spline()
    offset = np.asarray(position, dtype=np.float64)[:, None] - np.arange(n_channels)
    near = np.abs(offset) < reach
    matrix = np.zeros(offset.shape)
    matrix[near] = spline(offset[near])  # type: ignore[operator]
    beyond = (np.asarray(position) < -0.5) | (np.asarray(position) > n_channels - 0.5)
    matrix[beyond] = 0.0  # nothing is known there, and the body lies inside: no ringing beyond the detector
    return matrix


def interleaved_matrix(position: ArrayLike, n_channels: int, between: ArrayLike) -> NDArray[np.float64]:
    """As :func:`interpolation_matrix`, where a second reading lies between the channels: the channels' part of it.

    Parameters
    ----------
    position : array_like, shape (n,)
        Fractional channel index.
    n_channels : int
    between : array_like, shape (n_channels,)
        Where the samples of the second reading lie, as fractional channel indices, ascending.

    Returns
    -------
    ndarray, shape (n, n_channels)
        Columns of the quintic spline through the samples of both, zeros beyond them. The second reading has its own
        matrix, with the parts exchanged.
    """
    far = 0.5 * (
        1.0 + np.arange(24)
    )  # zeros beyond the ends, so far that the spline's own ends do not matter
    other = np.asarray(between, dtype=np.float64)
    ends = min(0.0, other[0]), max(n_channels - 1.0, other[-1])
    nodes = np.concatenate([ends[0] - far, np.arange(n_channels), other, ends[1] + far])
    order = np.argsort(nodes)
    values = np.zeros((nodes.size, n_channels))
    values[far.size + np.arange(n_channels), np.arange(n_channels)] = 1.0
    place = np.asarray(position, dtype=np.float64)
    inside = (place > ends[0] - 0.5) & (place < ends[1] + 0.5)
    matrix = np.zeros((place.size, n_channels))
    matrix[inside] = make_interp_spline(nodes[order], values[order], k=5)(place[inside])
    return matrix


def _continued(samples: NDArray[np.float64], beyond: tuple[int, int]) -> NDArray[np.float64]:
    """Fold channels beyond the ends of a row onto the mean of its last ones, times a quarter of an ellipse."""
    left, right = beyond
    n = samples.shape[1] - left - right
    inner = samples[:, left : left + n].copy()
    edge = min(EDGE_CHANNELS, n)
    if left:
        profile = np.sqrt(1.0 - ((np.arange(left)[::-1] + 0.5) / left) ** 2)
        inner[:, :edge] += (samples[:, :left] @ profile)[:, None] / edge
    if right:
        profile = np.sqrt(1.0 - ((np.arange(right) + 0.5) / right) ** 2)
        inner[:, n - edge :] += (samples[:, left + n :] @ profile)[:, None] / edge
    return inner


def filter_matrix(
    name: str | Kernel,
    *,
    channel_position: ArrayLike,
    first: int,
    n_channels: int,
    step_mm: float,
    out: tuple[int, int],
    beyond: tuple[int, int] = (0, 0),
    between: ArrayLike | None = None,
) -> NDArray[np.float64]:
    """Matrix from the channels of a row (one parallel angle) to the filtered parallel projection.

    Parameters
    ----------
    name : str
        Kernel.
    channel_position : array_like, shape (n,)
        Fractional channel index of parallel samples ``t = (first + i) * step_mm`` that cover the detector.
    first : int
        Index of the first of these samples.
    n_channels : int
    step_mm : float
        Parallel step, half the channel step at the isocentre.
    out : tuple of int
        Range of output indices ``[lo, hi)``: samples at ``t = i * step_mm``.
    beyond : tuple of int
        Channels by which a truncated row is continued at its ends, down to zero along an ellipse.
    between : array_like, shape (n_channels,), optional
        Channel indices at which a second position of the focal spot reads the same row
        (:func:`interleaved_matrix`): the filtered row is the sum of both positions' products, and a plain ramp goes
        to twice the frequency.

    Returns
    -------
    ndarray, shape (hi - lo, n_channels), 1/mm
        Applied to line integrals (1) it gives the filtered projection in 1/mm; the sum over the half-turn
        times the angular step is the attenuation.

    Raises
    ------
    InputError
        Unknown kernel.
    """
    position = np.asarray(channel_position, dtype=np.float64)
    lo, hi = out
    last = first + position.size
    reach = max(hi - first, last - lo) + 1
    taps = apodised_kernel(
        name, step_mm=step_mm, count=reach, nyquist_per_mm=(0.25 if between is None else 0.5) / step_mm,
        interpolation_mm=step_mm,
    )  # fmt: skip
    n_all = n_channels + sum(beyond)
    if between is None:
        samples = interpolation_matrix(position + beyond[0], n_all)
    else:
        other = np.asarray(between, dtype=np.float64)
        left, right = (np.arange(1, n + 1) for n in beyond)
        second = np.concatenate([other[0] - left[::-1], other, other[-1] + right]) + beyond[0]
        samples = interleaved_matrix(position + beyond[0], n_all, second)
    samples = _continued(samples, beyond)
    # linear convolution along t: lags from -(reach - 1) to reach - 1, no wrap-around
    length = next_fast_len(2 * reach + position.size, real=True)
    ring = np.zeros(length)
    ring[:reach] = taps
    ring[length - reach + 1 :] = taps[:0:-1]
    spectrum = rfft(ring) * step_mm
    index = (np.arange(lo, hi) - first) % length
    matrix = np.empty((hi - lo, n_channels))
    for start in range(0, n_channels, 64):  # blocks of columns bound the memory
        block = slice(start, min(start + 64, n_channels))
        product = rfft(samples[:, block], length, axis=0) * spectrum[:, None]
        matrix[:, block] = irfft(product, length, axis=0)[index]
    return matrix
