"""Four basis values at a time: a ray's passage between two slabs in vector instructions.

Numba's optimiser makes vectors of long loops only, not of the few basis values that lie side by side in a column.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

LANES = 4
_FOUR = ir.VectorType(ir.FloatType(), LANES)


def _load(builder: Any, array: Any, index: Any) -> Any:
    """Four neighbours of a float32 array, wherever they begin."""
    found = builder.load(builder.bitcast(builder.gep(array, [index]), _FOUR.as_pointer()))
    found.align = 4
    return found


def _same(builder: Any, vector: Any, lane: int) -> Any:
    """One lane of a vector in all lanes."""
    lanes = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [lane] * LANES)
    return builder.shuffle_vector(vector, ir.Constant(_FOUR, ir.Undefined), lanes)


@intrinsic
def pass_slabs(typingctx, out, at, acc, old, new, columns, c0, c1, c2, c3, ends, widths, s):
    """``out[at:at+4]`` grows by what slab ``old`` has gathered up to ``s``, less what ``new`` has.

    As scalars: ``acc[old+k] - acc[new+k]``, less ``left[i] * (columns[ci+old+k] - columns[ci+new+k])`` of each of the
    four cells that ``acc`` already holds; ``left[i]`` is ``ends[i] - s`` between 0 and ``widths[i]``, the part of
    the cell beyond ``s``. All arrays are float32 with one axis; indices are not checked.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        def data(n: int) -> Any:
            return context.make_array(signature.args[n])(context, builder, value=args[n]).data

        def difference(array: Any) -> Any:
            return builder.fsub(_load(builder, array, args[3]), _load(builder, array, args[4]))

        none, start = ir.Constant(_FOUR, [0.0] * LANES), ir.Constant(ir.IntType(64), 0)
        place = builder.insert_element(
            ir.Constant(_FOUR, ir.Undefined), args[12], ir.Constant(ir.IntType(32), 0)
        )
        widths = _load(builder, data(11), start)
        left = builder.fsub(_load(builder, data(10), start), _same(builder, place, 0))
        left = builder.select(builder.fcmp_ordered(">", left, none), left, none)
        left = builder.select(builder.fcmp_ordered("<", left, widths), left, widths)
        total = difference(data(2))
        for i in range(4):
            cell = difference(builder.gep(data(5), [args[6 + i]]))
            beyond = builder.fmul(_same(builder, left, i), cell, flags=["contract"])
            total = builder.fsub(total, beyond, flags=["contract"])
        target = data(0)
        total = builder.fadd(_load(builder, target, args[1]), total)
        place = builder.bitcast(builder.gep(target, [args[1]]), _FOUR.as_pointer())
        builder.store(total, place).align = 4
        return context.get_dummy_value()  # nothing: the function is void

    return types.void(out, at, acc, old, new, columns, c0, c1, c2, c3, ends, widths, s), generate
