"""One photon history from the source to its end, as a GPU thread follows it."""

from __future__ import annotations

import numpy as np
from numba import njit

from twinlab.kernels.philox import INLINE, draw_five
from twinlab.kernels.sampling import free_path
from twinlab.kernels.transport_collision import collide, deposit
from twinlab.kernels.transport_data import ENERGY_UNIT_KEV, energy_position
from twinlab.kernels.transport_source import emit
from twinlab.kernels.transport_track import GONE, advance, ambience, approach, score_fluence

_UNIT = np.float32(ENERGY_UNIT_KEV)
_NEXT = np.uint64(1)
_I0 = np.int32(0)


@njit(**INLINE)
def trace(history, k0, k1, grid, tables, source, places, energies, fluence):
    """Follow one photon from the source to absorption, cut-off or escape.

    Parameters
    ----------
    history, k0, k1 : uint64
        Identity of the history and the seed's words.
    grid, tables, source : Grid, Tables, Source
    places : (MAX_DEPOSITS,) int64, written
        Where each deposit lies, see :func:`twinlab.kernels.transport_collision.locate`.
    energies : (MAX_DEPOSITS,) int64, written
        Energy of each deposit, ``ENERGY_UNIT_KEV``.
    fluence : (n_rod,) int64, added to
        Collision kerma of the scored rods: track length [cm] x E x mu_en/rho, ``ENERGY_UNIT_KEV`` cm3/g.

    Returns
    -------
    n : int32
        Deposits written.
    emitted, escaped, outside : int64
        Energy emitted, carried out of the world, and left in the world's air, ``ENERGY_UNIT_KEV``.
        emitted = escaped + outside + sum of the deposits, exactly.
    """
    x, y, z, u, v, w, e, step = emit(source, history, k0, k1)
    emitted = e
    outside = np.int64(0)
    n = _I0
    while True:
        row, f = energy_position(np.float32(e) * _UNIT)
        a, b, c, d, turn = draw_five(step, history, k0, k1)
        step += _NEXT
        iu, iv, iw, start, stop = approach(x, y, z, u, v, w, grid)
        air = ambience(row, f, grid, tables)
        t, start, flat, record, top = advance(
            x, y, z, u, v, w, iu, iv, iw, start, stop, air, row, free_path(a), grid
        )
        if grid.kind[0] == 1:
            score_fluence(x, y, z, u, v, w, start, t, e, row, f, grid.rod, tables.kerma, fluence)
        if flat == GONE:
            return n, emitted, e, outside
        x += t * u
        y += t * v
        z += t * w
        place, lost, e, u, v, w, step = collide(
            x, y, z, u, v, w, e, row, f, flat, record, top, b, c, d, turn, grid, tables, step, history, k0, k1
        )  # fmt: skip
        n, outside = deposit(place, lost, n, outside, places, energies)
        if e == 0:
            return n, emitted, e, outside
