"""Reads and writes that the compiler may reorder: what makes inner loops vector code.

LLVM turns a loop into vector instructions only when no store can change a later load. For a table look-up it
cannot know, and stays scalar. Here a kernel promises it: within one stage (a literal number) what
:func:`read` reads is not written by :func:`write`. An array that one stage writes and the next one reads is
in order: stages promise nothing about each other. A promise covers the whole kernel with the functions it
calls. Nothing checks it, nor the bounds.
"""

from __future__ import annotations

from typing import Any

from numba import types
from numba.extending import intrinsic


def _promise(module: Any, instruction: Any, stage: int, written: bool) -> None:
    """Mark a load or store as belonging to one of a stage's two scopes, which do not overlap."""
    domain = module.add_metadata([f"twinlab.stage{stage}"])
    scopes = [
        module.add_metadata([module.add_metadata([f"twinlab.stage{stage}.{name}", domain])])
        for name in ("read", "written")
    ]
    instruction.set_metadata("alias.scope", scopes[written])
    instruction.set_metadata("noalias", scopes[not written])


def _pointer(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    data = context.make_array(signature.args[0])(context, builder, args[0]).data
    return builder.gep(data, [args[1]])


def _load(array: Any, stage: Any, written: bool) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        value = builder.load(_pointer(context, builder, signature, args))
        _promise(builder.module, value, stage.literal_value, written)
        return value

    return array.dtype(array, types.intp, stage), codegen


@intrinsic(prefer_literal=True)
def read(typingctx: Any, array: Any, index: Any, stage: Any) -> Any:
    """``array[index]`` of a contiguous array of one dimension that no :func:`write` of the stage touches."""
    return _load(array, stage, False)


@intrinsic(prefer_literal=True)
def reread(typingctx: Any, array: Any, index: Any, stage: Any) -> Any:
    """``array[index]`` of an array that the stage writes."""
    return _load(array, stage, True)


@intrinsic(prefer_literal=True)
def write(typingctx: Any, array: Any, index: Any, value: Any, stage: Any) -> Any:
    """``array[index] = value`` of a contiguous array of one dimension."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        store = builder.store(args[2], _pointer(context, builder, signature, args))
        _promise(builder.module, store, stage.literal_value, True)
        return context.get_dummy_value()  # nothing: the function is void

    return types.void(array, types.intp, array.dtype, stage), codegen
