"""The chain of a detector on a CUDA device, one thread per cell.

Functions have the names and arguments of :mod:`twinlab.kernels.readings` and :mod:`twinlab.kernels.scintillator`, and
call the same scalar functions: a ray's random words are those of the processor, its reading the same up to rounding.
Arrays (view, row, channel) live on the device; tables and windows may come from the host. Readings of few quanta are
Poisson numbers in double precision.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from twinlab.kernels import cuda_memory as memory
from twinlab.kernels.elementary import log32
from twinlab.kernels.readings import (
    extended,
    few,
    few_quanta,
    gaussian,
    least_reading,
    normal_of,
    unit,
    variance_of_logarithm,
    words,
)
from twinlab.kernels.scintillator import late_light

cuda: Any  # a name of the module, because the simulator replaces it there
try:
    from numba import cuda
except ImportError:
    cuda = None

_ZERO = np.float32(0.0)
_ONE = np.float32(1.0)


def draw(signal, second, mas, electronic, noisy, first_view, realisation, k0, k1, row_lo, row_hi, reading):
    """Kernel of :func:`draw_readings`, uncompiled."""
    n_view, n_row, n_channel = reading.shape
    cell = cuda.grid(1)
    if cell >= n_view * n_row * n_channel:
        return
    c = cell % n_channel
    r = cell // n_channel % n_row
    i = cell // (n_channel * n_row)
    if r < row_lo[i] or r >= row_hi[i]:
        return
    mean, quantum = mas[i] * signal[i, r, c], mas[i] * second[i, r, c]
    if not noisy:
        reading[i, r, c] = mean
        return
    ray = np.uint64((np.int64(first_view + i) * n_row + r) * n_channel + c)
    if few(mean, quantum):
        reading[i, r, c] = few_quanta(mean, quantum, electronic, ray, realisation, k0, k1)
        return
    a, b, _, _ = words(ray, realisation, k0, k1)
    reading[i, r, c] = gaussian(mean, quantum, electronic, normal_of(unit(a), unit(b)))


def share(before, side, centre, edge, along_rows, row_lo, row_hi, reading):
    """Kernel of :func:`share_light`, uncompiled; ``before`` holds the readings as they were."""
    n_view, n_row, n_channel = reading.shape
    cell = cuda.grid(1)
    if cell >= n_view * n_row * n_channel:
        return
    c = cell % n_channel
    r = cell // n_channel % n_row
    i = cell // (n_channel * n_row)
    lo, hi = row_lo[i], row_hi[i]
    if r < lo or r >= hi:
        return
    if along_rows:
        if hi - lo == 1:
            return
        total = (edge if r == lo or r == hi - 1 else centre) * before[i, r, c]
        if r > lo:
            total += side * before[i, r - 1, c]
        if r < hi - 1:
            total += side * before[i, r + 1, c]
    else:
        total = (edge if c == 0 or c == n_channel - 1 else centre) * before[i, r, c]
        if c > 0:
            total += side * before[i, r, c - 1]
        if c < n_channel - 1:
            total += side * before[i, r, c + 1]
    reading[i, r, c] = total


def keep(reading, held, last_seen, share, decay, mean_decay, pause, first_view, row_lo, row_hi):
    """Kernel of :func:`afterglow`, uncompiled: one thread per cell follows the views."""
    n_view, n_row, n_channel = reading.shape
    cell = cuda.grid(1)
    if cell >= n_row * n_channel:
        return
    c = cell % n_channel
    r = cell // n_channel
    last = last_seen[r]
    for i in range(n_view):
        if r < row_lo[i] or r >= row_hi[i]:
            continue
        view = first_view + i
        known = view == 0 or last == view - 1
        last = view
        x = reading[i, r, c]
        y = x
        for k in range(share.size):
            stored = held[k, r, c] * pause[i, k]
            late, left = late_light(x, stored, known, share[k], decay[k], mean_decay[k])
            y += late
            held[k, r, c] = left
        reading[i, r, c] = y


def convert(
    reading,
    gain,
    offset,
    electronic,
    saturation,
    step,
    noisy,
    first_view,
    realisation,
    k0,
    k1,
    row_lo,
    row_hi,
):
    """Kernel of :func:`read_out`, uncompiled."""
    n_view, n_row, n_channel = reading.shape
    cell = cuda.grid(1)
    if cell >= n_view * n_row * n_channel:
        return
    c = cell % n_channel
    r = cell // n_channel % n_row
    i = cell // (n_channel * n_row)
    if r < row_lo[i] or r >= row_hi[i]:
        return
    normal = _ZERO
    if noisy and electronic > _ZERO:
        ray = np.uint64((np.int64(first_view + i) * n_row + r) * n_channel + c)
        a, b, _, _ = words(ray, realisation, k0, k1)
        normal = normal_of(unit(a), unit(b))
    value = min(reading[i, r, c] * gain[r, c] + offset[r, c] + electronic * normal, saturation)
    if noisy and step > _ZERO:
        value = np.float32(round(value / step)) * step  # halves to even, as on the processor
    reading[i, r, c] = value


def scale(values, factor):
    """Kernel of :func:`scale_cells`, uncompiled."""
    cell = cuda.grid(1)
    n_row, n_channel = factor.shape
    if cell >= values.shape[0] * n_row * n_channel:
        return
    c = cell % n_channel
    r = cell // n_channel % n_row
    values[cell // (n_channel * n_row), r, c] *= factor[r, c]


def logarithm(
    signal, second, air, mas, electronic, polynomial, raw_max, row_lo, row_hi, reading, projection, variance
):
    """Kernel of :func:`take_logarithm`, uncompiled."""
    n_view, n_row, n_channel = reading.shape
    cell = cuda.grid(1)
    if cell >= n_view * n_row * n_channel:
        return
    c = cell % n_channel
    r = cell // n_channel % n_row
    i = cell // (n_channel * n_row)
    if r < row_lo[i] or r >= row_hi[i]:
        return
    p = r % polynomial.shape[0]
    mean, quantum = mas[i] * signal[i, r, c], mas[i] * second[i, r, c]
    floor = least_reading(mean, quantum, electronic)
    log_air = log32(mas[i] * air[r, c])
    wanted = variance.shape[0] == n_view
    for number in range(2):  # the reading; its mean, for the variance
        if number == 1 and not wanted:
            return
        raw = log_air - log32(max(reading[i, r, c] if number == 0 else mean, floor))
        x = min(raw / raw_max[p, c], _ONE)
        value, slope = polynomial[p, polynomial.shape[1] - 1, c], _ZERO
        for n in range(polynomial.shape[1] - 2, -1, -1):
            slope = slope * x + value
            value = value * x + polynomial[p, n, c]
        value, slope = extended(value, slope, x, raw, raw_max[p, c])
        if number == 0:
            projection[i, r, c] = value
        else:
            variance[i, r, c] = variance_of_logarithm(mean, quantum, electronic, slope)


def draw_readings(
    signal: Any, second: Any, mas: Any, electronic: Any, noisy: bool, first_view: int, realisation: Any, k0: Any,
    k1: Any, row_lo: Any, row_hi: Any, reading: Any,
) -> None:  # fmt: skip
    """As :func:`twinlab.kernels.readings.draw_readings`."""
    memory.launch(
        draw, math.prod(reading.shape), signal, second, memory.put(mas), electronic, noisy, first_view, realisation,
        k0, k1, memory.put(row_lo), memory.put(row_hi), reading,
    )  # fmt: skip


def share_light(
    reading: Any, side: Any, centre: Any, edge: Any, along_rows: bool, row_lo: Any, row_hi: Any
) -> None:
    """As :func:`twinlab.kernels.scintillator.share_light`."""
    before = memory.copy(reading)
    memory.launch(
        share, math.prod(reading.shape), before, side, centre, edge, along_rows, memory.put(row_lo),
        memory.put(row_hi), reading,
    )  # fmt: skip


def afterglow(
    reading: Any, held: Any, last_seen: Any, share: Any, decay: Any, mean_decay: Any, pause: Any, first_view: int,
    row_lo: Any, row_hi: Any,
) -> None:  # fmt: skip
    """As :func:`twinlab.kernels.scintillator.afterglow`; ``held`` and ``last_seen`` are the host's, and changed."""
    n_view, n_row, n_channel = reading.shape
    store = memory.put(held)
    tables = map(memory.put, (share, decay, mean_decay, pause))
    memory.launch(
        keep, n_row * n_channel, reading, store, memory.put(last_seen), *tables, first_view, memory.put(row_lo),
        memory.put(row_hi),
    )  # fmt: skip
    held[...] = store.copy_to_host()
    for i in range(n_view):
        last_seen[row_lo[i] : row_hi[i]] = first_view + i


def read_out(
    reading: Any, gain: Any, offset: Any, electronic: Any, saturation: Any, step: Any, noisy: bool, first_view: int,
    realisation: Any, k0: Any, k1: Any, row_lo: Any, row_hi: Any,
) -> None:  # fmt: skip
    """As :func:`twinlab.kernels.scintillator.read_out`."""
    memory.launch(
        convert, math.prod(reading.shape), reading, memory.put(gain), memory.put(offset), electronic, saturation,
        step, noisy, first_view, realisation, k0, k1, memory.put(row_lo), memory.put(row_hi),
    )  # fmt: skip


def scale_cells(values: Any, factor: Any) -> None:
    """As :func:`twinlab.kernels.scintillator.scale_cells`."""
    memory.launch(scale, math.prod(values.shape), values, memory.put(factor))


def take_logarithm(
    signal: Any, second: Any, air: Any, mas: Any, electronic: Any, polynomial: Any, raw_max: Any, row_lo: Any,
    row_hi: Any, reading: Any, projection: Any, variance: Any,
) -> None:  # fmt: skip
    """As :func:`twinlab.kernels.readings.take_logarithm`."""
    tables = [memory.put(values) for values in (air, mas)]
    more = [memory.put(values) for values in (polynomial, raw_max, row_lo, row_hi)]
    memory.launch(
        logarithm, math.prod(reading.shape), signal, second, *tables, electronic, *more, reading, projection,
        variance,
    )  # fmt: skip
