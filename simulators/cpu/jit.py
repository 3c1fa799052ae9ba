"""Compilation of the CPU kernels: a forgiving disk cache and the few instructions numba lacks.

The kernels address flat scratch arrays by row offsets. `get` and `put` skip the wrap-around of
negative indices and slicing, which would hide from LLVM that two rows never overlap.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.caching import FunctionCache
from numba.extending import intrinsic

LANES = 128
"""Samples, or edges, that one scratch row holds: rows of all kernels fit the first-level caches."""

# Reordering a sum is what lets it vectorise; nothing here may assume that NaN never comes.
RELAXED = {"reassoc", "nsz", "contract"}
ROOM = 512
"""Words that a bound kernel's arguments may take, the mark of a failure before them."""
# Said aloud, for a function that says nothing takes its first caller's flags.
EXACT = {"fastmath": False, "error_model": "numpy"}


@functools.cache
def _sources() -> str:
    """A digest of the source files of this room, which hold all kernels."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


class _Cache(FunctionCache):
    """A cache that knows the callees' source too, and whose failure costs only time."""

    def _index_key(self, sig: Any, codegen: Any) -> Any:
        return (*super()._index_key(sig, codegen), _sources())

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)
        except Exception:
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)
        except Exception:
            self.disable()


def inline(function: Callable[..., Any]) -> Any:
    """Compile a step whose sums over a row may be reordered."""
    return numba.njit(fastmath=RELAXED, error_model="numpy")(function)


def spliced(function: Callable[..., Any]) -> Any:
    """Put a step with one caller into its caller: compiled once, not once by itself as well."""
    return numba.njit(inline="always", fastmath=RELAXED, error_model="numpy")(function)


def exact(function: Callable[..., Any]) -> Any:
    """Compile a step whose rounding errors are part of its method."""
    return numba.njit(**EXACT)(function)


def kernel(function: Callable[..., Any]) -> Any:
    """Compile an entry point: releases the interpreter lock, is cached on disk where possible."""
    compiled = numba.njit(nogil=True, fastmath=RELAXED, error_model="numpy")(function)
    try:
        compiled._cache = _Cache(function)
    except Exception:  # no folder to write to, or a numba without this hook
        return compiled
    return compiled


@intrinsic
def get(typingctx: Any, array: Any, index: Any) -> Any:
    """array[index] of a contiguous one-dimensional array; the index is trusted."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        return builder.load(builder.gep(data, [args[1]], inbounds=True))

    return array.dtype(array, types.intp), codegen


@intrinsic
def put(typingctx: Any, array: Any, index: Any, value: Any) -> Any:
    """array[index] = value of a contiguous one-dimensional array; the index is trusted."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        builder.store(args[2], builder.gep(data, [args[1]], inbounds=True))
        return context.get_dummy_value()

    return types.none(array, types.intp, array.dtype), codegen


@inline
def add(array: Any, index: Any, value: Any) -> None:
    """array[index] += value of a contiguous one-dimensional array; the index is trusted."""
    put(array, index, get(array, index) + value)


@intrinsic
def fma(typingctx: Any, a: Any, b: Any, c: Any) -> Any:
    """a·b + c, rounded once."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.fma(*args)

    return a(a, a, a), codegen


@intrinsic
def quadrant(typingctx: Any, s: Any, c: Any, rounded: Any) -> Any:
    """(s, c) of the remainder turned by as many quarter turns as the low bits of `rounded` say."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind, width = args[0].type, signature.args[0].bitwidth
        word = ir.IntType(width)
        bits = builder.bitcast(args[2], word)

        def signed(value: Any, quarters: Any) -> Any:
            sign = builder.and_(builder.shl(quarters, word(width - 2)), word(1 << (width - 1)))
            return builder.bitcast(builder.xor(builder.bitcast(value, word), sign), kind)

        swap = builder.trunc(bits, ir.IntType(1))
        sine = signed(builder.select(swap, args[1], args[0]), bits)
        cosine = signed(builder.select(swap, args[0], args[1]), builder.add(bits, word(1)))
        return context.make_tuple(builder, signature.return_type, (sine, cosine))

    return types.UniTuple(s, 2)(s, s, s), codegen


@intrinsic
def next_index(typingctx: Any, counter: Any) -> Any:
    """counter[0]++ of an int64 array, as one indivisible step; returns the value before."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        one = ir.Constant(cgutils.intp_t, 1)
        return builder.atomic_rmw("add", data, one, "monotonic")

    return types.intp(counter), codegen


def _lent(context: Any, builder: Any, kind: Any, value: Any) -> Any:
    """A value whose arrays nobody counts references to: who binds them keeps them alive."""
    if isinstance(kind, types.Array):
        array = context.make_array(kind)(context, builder, value)
        array.meminfo = cgutils.get_null_value(array.meminfo.type)
        array.parent = cgutils.get_null_value(array.parent.type)
        return array._getvalue()
    if isinstance(kind, types.BaseTuple):
        parts = cgutils.unpack_tuple(builder, value, len(kind.types))
        lent = [_lent(context, builder, *pair) for pair in zip(kind.types, parts, strict=True)]
        return context.make_tuple(builder, kind, lent)
    return value


@intrinsic
def bind(typingctx: Any, function: Any, room: Any, args: Any) -> Any:
    """Keep the arguments of a kernel in `room`, and return (entry, address) to call it by.

    `entry` is a C function void (void *) that calls the kernel when given `address`, from any
    thread and without the interpreter. It sets room[0] where the kernel fails: out of memory.
    """
    call = function.get_call_type(typingctx, args.types, {})

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        compiled = function.dispatcher.get_compile_result(call)
        context.active_code_library.add_linking_library(compiled.library)
        kind, word = context.get_value_type(args), cgutils.intp_t
        assert context.get_abi_sizeof(kind) <= 8 * (ROOM - 1)
        entry = ir.Function(
            builder.module,
            ir.FunctionType(ir.VoidType(), [cgutils.voidptr_t]),
            compiled.fndesc.llvm_func_name + ".entry",
        )
        entry.linkage = "internal"
        inner = ir.IRBuilder(entry.append_basic_block())
        mark = inner.bitcast(entry.args[0], word.as_pointer())
        kept = inner.bitcast(inner.gep(mark, [word(1)]), kind.as_pointer())
        given = cgutils.unpack_tuple(inner, inner.load(kept), len(args.types))
        status, _ = context.call_internal_no_propagate(inner, compiled.fndesc, call, given)
        with inner.if_then(status.is_error):
            inner.store(word(1), mark)
        inner.ret_void()
        data = context.make_array(signature.args[1])(context, builder, values[1]).data
        builder.store(word(0), data)
        lent = _lent(context, builder, args, values[2])
        builder.store(lent, builder.bitcast(builder.gep(data, [word(1)]), kind.as_pointer()))
        addresses = (builder.ptrtoint(entry, word), builder.ptrtoint(data, word))
        return context.make_tuple(builder, signature.return_type, addresses)

    return types.UniTuple(types.intp, 2)(function, room, args), codegen


@intrinsic
def _call(typingctx: Any, entry: Any, address: Any) -> Any:
    """Call a bound kernel."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = ir.FunctionType(ir.VoidType(), [cgutils.voidptr_t]).as_pointer()
        builder.call(
            builder.inttoptr(args[0], kind), [builder.inttoptr(args[1], cgutils.voidptr_t)]
        )
        return context.get_dummy_value()

    return types.none(entry, address), codegen


@kernel
def _in_turn(first: int, first_at: int, second: int, second_at: int) -> None:
    _call(first, first_at)
    _call(second, second_at)


@kernel
def in_turn_task(room: Any, *args: Any) -> Any:
    """Two bound kernels as one: entry and address of each."""
    return bind(_in_turn, room, args)
