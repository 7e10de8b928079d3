"""Vector instructions of the row bundles: a ray's passage between two slabs, a cell added to all slabs.

Numba's optimiser makes vectors of long loops only, not of the few basis values that lie side by side in a column.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

LANES = 4
LINE = 16  # floats in a cache line


def _load(builder: Any, array: Any, index: Any, lanes: int) -> Any:
    """Neighbours of a float32 array, wherever they begin."""
    kind = ir.VectorType(ir.FloatType(), lanes)
    found = builder.load(builder.bitcast(builder.gep(array, [index]), kind.as_pointer()))
    found.align = 4
    return found


def _store(builder: Any, array: Any, index: Any, vector: Any) -> None:
    place = builder.bitcast(builder.gep(array, [index]), vector.type.as_pointer())
    builder.store(vector, place).align = 4


def _all(builder: Any, number: Any, lanes: int) -> Any:
    """A number in all lanes of a vector."""
    nothing = ir.Constant(ir.VectorType(ir.FloatType(), lanes), ir.Undefined)
    first = builder.insert_element(nothing, number, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(
        first, nothing, ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes)
    )


def _grown(builder: Any, vector: Any, number: Any, by: Any) -> Any:
    """``vector + number * by``."""
    product = builder.fmul(_all(builder, number, by.type.count), by, flags=["contract"])
    return builder.fadd(vector, product, flags=["contract"])


def _data(context: Any, builder: Any, signature: Any, args: Any, n: int) -> Any:
    return context.make_array(signature.args[n])(context, builder, value=args[n]).data


@intrinsic
def pass_slabs(typingctx, out, at, acc, old, new, columns, cell, s):
    """``out[at:at+4]`` grows by what slab ``old`` has gathered, less what ``new`` has, at ``s`` in a cell.

    As scalars: ``acc[old+k] - acc[new+k] + s * (columns[cell+old+k] - columns[cell+new+k])``. ``acc`` holds the cells
    before this one. All arrays are float32 with one axis; indices are not checked.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        def difference(array: Any) -> Any:
            slabs = (_load(builder, array, args[i], LANES) for i in (3, 4))
            return builder.fsub(*slabs)

        target, gathered, values = (_data(context, builder, signature, args, i) for i in (0, 2, 5))
        cell = difference(builder.gep(values, [args[6]]))
        total = _grown(builder, difference(gathered), args[7], cell)
        _store(builder, target, args[1], builder.fadd(_load(builder, target, args[1], LANES), total))
        return context.get_dummy_value()  # nothing: the function is void

    return types.void(out, at, acc, old, new, columns, cell, s), generate


@intrinsic
def add_line(typingctx, acc, at, columns, cell, width, ahead):
    """``acc[at+k] += width * columns[cell+at+k]`` for a cache line of numbers; fetches ``columns[ahead+at]``.

    The fetch is a hint: the line at ``columns[ahead+at]`` comes into the second level of cache. Arrays are float32
    with one axis; indices are not checked.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        target, values = (_data(context, builder, signature, args, i) for i in (0, 2))
        line = _load(builder, values, builder.add(args[3], args[1]), LINE)
        _store(
            builder,
            target,
            args[1],
            _grown(builder, _load(builder, target, args[1], LINE), args[4], line),
        )
        byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        fetch = builder.module.declare_intrinsic(
            "llvm.prefetch", (byte,), ir.FunctionType(ir.VoidType(), [byte, number, number, number])
        )
        there = builder.bitcast(builder.gep(values, [builder.add(args[5], args[1])]), byte)
        builder.call(fetch, [there, number(0), number(2), number(1)])  # to read, second level, data
        return context.get_dummy_value()

    return types.void(acc, at, columns, cell, width, ahead), generate


@intrinsic
def item(typingctx, array, index):
    """``array[index]`` of an array with one axis, not counted from its end and not checked."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load(builder.gep(_data(context, builder, signature, args, 0), [args[1]]))

    return array.dtype(array, types.intp), generate


@intrinsic
def set_item(typingctx, array, index, value):
    """``array[index] = value``, as :func:`item`."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store(args[2], builder.gep(_data(context, builder, signature, args, 0), [args[1]]))
        return context.get_dummy_value()

    return types.void(array, types.intp, array.dtype), generate
