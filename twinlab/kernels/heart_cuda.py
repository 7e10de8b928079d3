"""GPU driver of the monodomain's time step: the processor's scalar functions behind ``cuda.grid``.

Cells and marks take the same functions as the processor's loops; the stencil's rows are multiplied by one thread
each. Sums run over blocks of fixed size, in a fixed order. Needs the ``gpu`` extra; the module can be imported
anywhere, and compiled (not run) with the ``test`` extra.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from twinlab.kernels.cuda_memory import launch
from twinlab.kernels.heart_cells import CellTables, react
from twinlab.kernels.heart_marks import Marks, mark
from twinlab.kernels.heart_stencil import MARGIN, Stencil

cuda: Any  # a name of the module, because the simulator replaces it there
try:
    from numba import cuda
except ImportError:
    cuda = None

SUMS = 4096  # partial sums, whatever the size: the order of addition does not depend on the device


def react_kernel(
    model, v, y, dt, kind, awake, before, after, rest, bound, potential, rectifier, per_mv, parameters
):
    """CUDA kernel, uncompiled: a thread advances a cell (see :func:`twinlab.kernels.heart_cells.react`)."""
    i = cuda.grid(1)
    if i < v.size:
        tables = CellTables(potential, rectifier, per_mv, parameters)
        react(model, i, v, y, dt, kind, awake, before, after, rest, bound, tables)


def product_kernel(place, coefficient, x, out):
    """CUDA kernel, uncompiled: a thread multiplies a row of a stencil (27, entry) with a vector."""
    i = cuda.grid(1)
    if i < place.shape[1]:
        e = i + MARGIN
        total = out[e] * 0
        for q in range(9):
            j = place[q, i]
            total += (
                coefficient[3 * q, e] * x[j - 1]
                + coefficient[3 * q + 1, e] * x[j]
                + coefficient[3 * q + 2, e] * x[j + 1]
            )
        out[e] = total


def mark_kernel(v, old, time, dt, rise, fall, first_up, first_down, last_up, last_down, beats, up, bad):
    """CUDA kernel, uncompiled: a thread marks a cell (see :func:`twinlab.kernels.heart_marks.mark`)."""
    i = cuda.grid(1)
    if i < old.size:
        now = v[i]
        if not abs(now) < 1000.0:
            cuda.atomic.add(bad, 0, 1)
        mark(i, now, old[i], time, dt, rise, fall, Marks(first_up, first_down, last_up, last_down, beats, up))
        old[i] = now


def places(stencil: Stencil) -> np.ndarray:
    """Entry of each node's neighbour of equal x in the nine lines, (9, node): stretches laid out for threads."""
    lengths = np.diff(stencil.start)
    first = np.repeat(stencil.lead, lengths, axis=0)
    step = np.concatenate([np.arange(n) for n in lengths])
    return np.ascontiguousarray((first + step[:, None]).T.astype(np.int32))


def begin_kernel(stiff, r, q, z, p, inverse):
    """CUDA kernel, uncompiled: residual from ``K V`` and ``A delta``, preconditioned, first direction."""
    i = cuda.grid(1)
    if i < r.size:
        r[i] = -stiff[i] - q[i]
        z[i] = inverse[i] * r[i]
        p[i] = z[i]


def forward_kernel(alpha, delta, r, z, p, q, inverse):
    """CUDA kernel, uncompiled: step along the direction."""
    i = cuda.grid(1)
    if i < r.size:
        delta[i] += alpha * p[i]
        r[i] -= alpha * q[i]
        z[i] = inverse[i] * r[i]


def turn_kernel(beta, p, z):
    """CUDA kernel, uncompiled: next direction."""
    i = cuda.grid(1)
    if i < p.size:
        p[i] = z[i] + beta * p[i]


def add_kernel(v, delta):
    """CUDA kernel, uncompiled: increment of the potential."""
    i = cuda.grid(1)
    if i < v.size:
        v[i] += delta[i]


def stimulus_kernel(v, where, amount):
    """CUDA kernel, uncompiled: stimulus of chosen nodes."""
    i = cuda.grid(1)
    if i < where.size:
        v[where[i]] += amount[i]


def sum_kernel(a, b, total, top):
    """CUDA kernel, uncompiled: partial sums of ``a b`` and largest ``|b|``, thread by thread."""
    t = cuda.grid(1)
    if t < total.size:
        s = 0.0
        m = 0.0
        for i in range(t, a.size, total.size):
            s += a[i] * b[i]
            m = max(m, abs(b[i]))
        total[t] = s
        top[t] = m


class DeviceLoops:
    """State of a run on a CUDA device with the three parts of a step.

    Parameters
    ----------
    model : int
    arrays : dict
        ``v``, ``increment`` (entry), ``y`` (state, node), ``awake``, ``kind``, ``old`` (node).
    marks : Marks
    tables : CellTables
    stencil : Stencil
    """

    def __init__(
        self, model: int, arrays: dict[str, np.ndarray], marks: Marks, tables: CellTables, stencil: Stencil
    ) -> None:
        put = cuda.to_device
        self.model, self.n = model, arrays["old"].size
        self.arrays = {k: put(np.ascontiguousarray(a)) for k, a in arrays.items()}
        self.v = self.arrays["v"][MARGIN:-MARGIN]
        self.marks = Marks(*map(put, marks))
        self.tables = (put(tables.potential), put(tables.rectifier), tables.per_mv, put(tables.parameters))
        self.place = put(places(stencil))
        self.system, self.stiffness = put(stencil.system), put(stencil.stiffness)
        size = arrays["v"].size
        self.p, self.q, self.wide = (
            put(np.zeros(size, np.float32)),
            put(np.zeros(size, np.float32)),
            put(np.zeros(size)),
        )
        self.inverse = put(np.ascontiguousarray(stencil.inverse[MARGIN:-MARGIN]))
        self.r, self.z = put(np.zeros(self.n, np.float32)), put(np.zeros(self.n, np.float32))
        sums = min(SUMS, -(-self.n // 16))
        self.total, self.top = put(np.zeros(sums)), put(np.zeros(sums))
        self.bad = put(np.zeros(1, np.int64))

    def stimulate(self, where: np.ndarray, amount: np.ndarray) -> None:
        """Add to the potential of chosen nodes, mV."""
        launch(stimulus_kernel, where.size, self.v, cuda.to_device(where), cuda.to_device(amount))

    def react(self, dt: float, before: np.ndarray, after: np.ndarray, rest: np.ndarray, bound: float) -> None:
        """Step of all cells."""
        a, put = self.arrays, cuda.to_device
        fixed = (put(before), put(after), put(np.ascontiguousarray(rest)), bound, *self.tables)
        launch(react_kernel, self.n, self.model, self.v, a["y"], dt, a["kind"], a["awake"], *fixed)

    def _sum(self, a: Any, b: Any) -> tuple[float, float]:
        launch(sum_kernel, self.total.size, a, b, self.total, self.top)
        return float(self.total.copy_to_host().sum()), float(self.top.copy_to_host().max())

    def diffuse(self, tolerance: float, most: int) -> tuple[int, float]:
        """Diffusion step; iterations and residual as :func:`twinlab.kernels.heart_stencil.diffuse`."""
        whole, n, r, z = self.arrays["increment"], self.n, self.r, self.z
        delta, p, q, wide = (a[MARGIN:-MARGIN] for a in (whole, self.p, self.q, self.wide))
        launch(product_kernel, n, self.place, self.stiffness, self.arrays["v"], self.wide)
        launch(product_kernel, n, self.place, self.system, whole, self.q)
        launch(begin_kernel, n, wide, r, q, z, p, self.inverse)
        rho, worst = self._sum(r, z)
        count = 0
        while worst > tolerance and count < most:
            count += 1
            launch(product_kernel, n, self.place, self.system, self.p, self.q)
            alpha = np.float32(rho / self._sum(p, q)[0])
            launch(forward_kernel, n, alpha, delta, r, z, p, q, self.inverse)
            new, worst = self._sum(r, z)
            launch(turn_kernel, n, np.float32(new / rho), p, z)
            rho = new
        launch(add_kernel, n, self.v, delta)
        return count, worst

    def mark(self, time: float, dt: float, rise: float, fall: float, *, look: bool) -> int:
        """Marks of all nodes; with ``look`` the number of potentials out of range so far, else 0."""
        launch(mark_kernel, self.n, self.v, self.arrays["old"], time, dt, rise, fall, *self.marks, self.bad)
        return int(self.bad.copy_to_host()[0]) if look else 0

    def fetch(self) -> tuple[dict[str, np.ndarray], Marks]:
        """Arrays and marks, copied back."""
        return {k: a.copy_to_host() for k, a in self.arrays.items()}, Marks(
            *(m.copy_to_host() for m in self.marks)  # type: ignore[attr-defined]
        )
