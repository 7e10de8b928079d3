"""Photons under way on one CPU thread, and the loops over all of them that are vector code.

A loop becomes vector instructions only where the compiler knows that no store changes a later load. So what a
slot holds lies on the stack of the thread: nothing that comes in by argument, table or grid, can overlap with it.
The loops call the scalar functions that a GPU thread calls, those without a branch or a loop in them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import make_array, populate_array

from twinlab.kernels.philox import INLINE, draw_five
from twinlab.kernels.sampling import free_path
from twinlab.kernels.transport_collision import attempt, deflect, locate
from twinlab.kernels.transport_data import ENERGY_UNIT_KEV, energy_position, unpack
from twinlab.kernels.transport_track import (
    GONE,
    ambience,
    approach,
    enter,
    first_leg,
    land,
    last_leg,
    stride,
    world_exit,
)

SLOTS = 32  # photons of a thread under way at once
LANES = 16  # photons that fly together, until the last has arrived
_UNIT = np.float32(ENERGY_UNIT_KEV)
_ZERO = np.float32(0.0)
_NEXT = np.uint64(1)
_ENDLESS = 2**40
_32, _NONE = np.uint64(32), np.uint64(0)
_REGIONS = np.int64(65536)


class Photons(NamedTuple):
    """What the slots hold: arrays (SLOTS,) of float32 unless another type is given."""

    x: np.ndarray  # position, mm
    y: np.ndarray
    z: np.ndarray
    u: np.ndarray  # direction
    v: np.ndarray
    w: np.ndarray
    energy: np.ndarray  # int64, ENERGY_UNIT_KEV
    history: np.ndarray  # uint64
    step: np.ndarray  # uint64, of the random numbers
    row: np.ndarray  # int32, energy step
    f: np.ndarray  # share of the energy step
    depth: np.ndarray  # random numbers: mean free paths to go
    b: np.ndarray  # and four uniforms
    c: np.ndarray
    d: np.ndarray
    turn: np.ndarray
    iu: np.ndarray  # inverse direction
    iv: np.ndarray
    iw: np.ndarray
    start: np.ndarray  # distances to the grid, through it and to the end of the world, mm
    stop: np.ndarray
    border: np.ndarray
    air: np.ndarray  # attenuation around, mm-1
    end: np.ndarray  # where the flight through the grid ends, if there is one
    t: np.ndarray  # distance flown
    rest: np.ndarray  # mean free paths left
    at: np.ndarray  # int32, block
    tx: np.ndarray  # distances to the next block
    ty: np.ndarray
    tz: np.ndarray
    flat: np.ndarray  # int64, voxel of a collision
    record: np.ndarray  # uint64, of its block
    top: np.ndarray  # majorant there, mm-1
    place: np.ndarray  # int64, what collides
    material: np.ndarray  # int32
    density: np.ndarray
    kind: np.ndarray  # int32, outcome
    left: np.ndarray  # int64, energy after it
    cosine: np.ndarray
    share: np.ndarray


@intrinsic(prefer_literal=True)
def _stack(typingctx, size, kind):
    """Array of a literal size on the stack of the function, or of the one it is inlined into."""
    array = types.Array(kind.dtype, 1, "C")

    def codegen(context, builder, signature, args):
        item = context.get_data_type(kind.dtype)
        data = cgutils.alloca_once(builder, ir.ArrayType(item, size.literal_value))
        made = make_array(array)(context, builder)
        width = context.get_abi_sizeof(item)
        populate_array(
            made,
            data=builder.bitcast(data, item.as_pointer()),
            shape=[ir.Constant(ir.IntType(64), size.literal_value)],
            strides=[ir.Constant(ir.IntType(64), width)],
            itemsize=ir.Constant(ir.IntType(64), width),
            meminfo=None,
        )
        return made._getvalue()

    return array(size, kind), codegen


@intrinsic
def wide(typingctx):
    """Let the function that calls this use the widest vectors there are; LLVM prefers half of them."""

    def codegen(context, builder, signature, args):
        # llvmlite's own list of attributes has none with a value
        set.add(builder.function.attributes, '"prefer-vector-width"="512"')
        return context.get_dummy_value()

    return types.void(), codegen


@njit(**INLINE)
def photons():
    """Empty slots."""
    return Photons(
        _stack(SLOTS, np.float32),
        _stack(SLOTS, np.float32),
        _stack(SLOTS, np.float32),
        _stack(SLOTS, np.float32),
        _stack(SLOTS, np.float32),
        _stack(SLOTS, np.float32),
        _stack(SLOTS, np.int64),
        _stack(SLOTS, np.uint64),
        _stack(SLOTS, np.uint64),
        _stack(SLOTS, np.int32),
        _stack(SLOTS, np.float32),
        _stack(SLOTS, np.float32),
        _stack(SLOTS, np.float32),
        _stack(SLOTS, np.float32),
        _stack(SLOTS, np.float32),
        _stack(SLOTS, np.float32),
        _stack(SLOTS, np.float32),
        _stack(SLOTS, np.float32),
        _stack(SLOTS, np.float32),
        _stack(SLOTS, np.float32),
        _stack(SLOTS, np.float32),
        _stack(SLOTS, np.float32),
        _stack(SLOTS, np.float32),
        _stack(SLOTS, np.float32),
        _stack(SLOTS, np.float32),
        _stack(SLOTS, np.float32),
        _stack(SLOTS, np.int32),
        _stack(SLOTS, np.float32),
        _stack(SLOTS, np.float32),
        _stack(SLOTS, np.float32),
        _stack(SLOTS, np.int64),
        _stack(SLOTS, np.uint64),
        _stack(SLOTS, np.float32),
        _stack(SLOTS, np.int64),
        _stack(SLOTS, np.int32),
        _stack(SLOTS, np.float32),
        _stack(SLOTS, np.int32),
        _stack(SLOTS, np.int64),
        _stack(SLOTS, np.float32),
        _stack(SLOTS, np.float32),
    )


@njit(**INLINE)
def prepare(p, k0, k1, grid, tables):
    """Random numbers, energy position, and the way to the grid."""
    for j in range(SLOTS):
        a, p.b[j], p.c[j], p.d[j], p.turn[j] = draw_five(p.step[j], p.history[j], k0, k1)
        p.depth[j] = free_path(a)
        p.step[j] += _NEXT
    for j in range(SLOTS):
        p.row[j], p.f[j] = energy_position(np.float32(p.energy[j]) * _UNIT)
        p.air[j] = ambience(p.row[j], p.f[j], grid, tables)
    for j in range(SLOTS):
        x, y, z, u, v, w = p.x[j], p.y[j], p.z[j], p.u[j], p.v[j], p.w[j]
        iu, iv, iw, start, stop = approach(x, y, z, u, v, w, grid)
        border = world_exit(x, y, z, iu, iv, iw, grid)
        p.iu[j], p.iv[j], p.iw[j], p.start[j], p.stop[j], p.border[j] = iu, iv, iw, start, stop, border
        begin, p.end[j], p.rest[j] = first_leg(start, stop, border, p.air[j], p.depth[j])
        p.at[j], p.tx[j], p.ty[j], p.tz[j] = enter(x, y, z, u, v, w, iu, iv, iw, max(begin, _ZERO), grid)
        p.t[j] = begin


@njit(**INLINE)
def _stride_all(p, first, grid):
    """One step of a group of photons that fly together; returns how many have not arrived."""
    under_way = np.int64(0)
    for i in range(LANES):
        j = first + i
        p.t[j], p.rest[j], p.at[j], p.tx[j], p.ty[j], p.tz[j], going = stride(
            p.t[j],
            p.rest[j],
            p.at[j],
            p.tx[j],
            p.ty[j],
            p.tz[j],
            p.end[j],
            p.iu[j],
            p.iv[j],
            p.iw[j],
            p.row[j],
            grid,
        )
        under_way += np.int64(1) if going else np.int64(0)
    return under_way


@njit(**INLINE)
def fly_all(p, grid):
    """Flights through the grid, block by block."""
    for group in range(SLOTS // LANES):
        # counted, never at its end: in a loop without a count of its own the compiler loses sight of the inner loop
        for _ in range(_ENDLESS):
            if _stride_all(p, group * LANES, grid) == 0:
                break


@njit(**INLINE)
def arrive(p, grid):
    """Where the flights have ended."""
    for j in range(SLOTS):
        t, flat, record, top, rest = land(
            p.x[j],
            p.y[j],
            p.z[j],
            p.u[j],
            p.v[j],
            p.w[j],
            p.t[j],
            p.rest[j],
            p.at[j],
            p.end[j],
            p.row[j],
            grid,
        )
        p.t[j], p.flat[j], p.record[j], p.top[j] = last_leg(
            p.start[j], p.stop[j], p.border[j], p.air[j], p.depth[j], t, flat, record, top, rest, grid
        )


@njit(**INLINE)
def move(p):
    """Go to the collisions; photons that are gone stay."""
    for j in range(SLOTS):
        t = _ZERO if p.flat[j] == GONE else p.t[j]
        p.x[j] += t * p.u[j]
        p.y[j] += t * p.v[j]
        p.z[j] += t * p.w[j]


@njit(**INLINE)
def collide_all(p, grid, tables):
    """What the photons collide with, and the outcome as far as it needs no loop."""
    if grid.kind[0] == 0:
        for j in range(SLOTS):
            record = p.record[j]
            if p.flat[j] >= 0 and record >> _32 == _NONE:
                record = grid.voxel[np.uint64(p.flat[j])]
            p.material[j], region, p.density[j] = unpack(record)
            p.place[j] = p.flat[j] * _REGIONS + region
    else:
        for j in range(SLOTS):
            p.place[j], p.material[j], p.density[j] = locate(
                p.x[j], p.y[j], p.z[j], p.flat[j], p.record[j], grid
            )
    for j in range(SLOTS):
        p.kind[j], p.left[j], p.cosine[j], p.share[j] = attempt(
            p.energy[j],
            p.row[j],
            p.f[j],
            p.material[j],
            p.density[j],
            p.top[j],
            p.b[j],
            p.c[j],
            p.d[j],
            tables,
        )


@njit(**INLINE)
def deflect_all(p):
    """New directions."""
    for j in range(SLOTS):
        p.u[j], p.v[j], p.w[j] = deflect(p.u[j], p.v[j], p.w[j], p.cosine[j], p.turn[j])
