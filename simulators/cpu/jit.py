"""How the CPU kernels are compiled, cached and started, and the instructions that numba lacks.

The kernels keep their intermediate numbers in flat arrays, as rows of `LANES` numbers that are
found by offsets. They read and write them by `get` and `put`, which do without numba's handling of
negative indices: with it LLVM could not see that two rows never overlap, and would not vectorise.
"""

from __future__ import annotations

import functools
import gc
import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numba
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.caching import FunctionCache
from numba.extending import intrinsic

from .ahead import AHEAD
from .notice import NOTICE
from .parts import KNOWN, KernelCompiler, PartCompiler

LANES = 128
"""Numbers in a row, one for each sample or each edge: all rows of a kernel fit the first cache."""

# A sum vectorises only if it may be reordered. The flags that assume that no NaN occurs stay off.
RELAXED = {"reassoc", "nsz", "contract"}
# Both flags are written out: a function without flags would be compiled with its caller's.
EXACT = {"fastmath": False, "error_model": "numpy"}
ROOM = 512
"""64-bit words for the arguments of a bound kernel; the first of them says whether it failed."""


@functools.cache
def _sources() -> str:
    """A digest of all source files that hold compiled code."""
    folder, digest = Path(__file__).parent, hashlib.sha256()
    for path in (*sorted(folder.glob("*.py")), folder.parent / "base_activations.py"):
        digest.update(path.read_bytes())
    return digest.hexdigest()


class _Cache(FunctionCache):
    """A cache on disk of compiled kernels.

    numba's own cache compares only the source of the kernel itself, not that of the functions that
    it calls: this one compares all of it. Where the disk fails, the kernel is compiled again. A
    kernel that a second process compiles at the moment is waited for.
    """

    def __init__(self, function: Callable[..., Any], name: str) -> None:
        super().__init__(function)
        self._kernel = name

    def _index_key(self, sig: Any, codegen: Any) -> Any:
        return (*super()._index_key(sig, codegen), _sources())

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        found = self._load(sig, target_context)
        if found is None and (process := AHEAD.process(self._kernel, sig)) is not None:
            with NOTICE.compiling(self._kernel, kept=True):
                process.wait()
            found = self._load(sig, target_context)
        return found

    def _load(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)
        except Exception:
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)
        except Exception:
            self.disable()


def _part(function: Callable[..., Any], **options: Any) -> Any:
    """A function for compiled code to call, kept away from what Python calls without compiling."""
    if not KNOWN:
        return numba.njit(error_model="numpy", fastmath=options["fastmath"])(function)
    part = numba.njit(pipeline_class=PartCompiler, error_model="numpy", **options)(function)
    part.add_overload = lambda found: part.overloads.update({tuple(found.signature.args): found})
    resolve = part.get_call_template

    def resolve_for_any_number(args: Any, kws: Any) -> Any:
        # numba would compile the function once more for every literal that it is called with
        return resolve([types.unliteral(kind) for kind in args], kws)

    part.get_call_template = resolve_for_any_number
    return part


def inline(function: Callable[..., Any]) -> Any:
    """Compile a function whose sums over a row may be reordered, for compiled code to call.

    It neither makes arrays nor returns any, so that no references to them need be counted.
    """
    return _part(function, fastmath=RELAXED, _nrt=False)


def allocating(function: Callable[..., Any]) -> Any:
    """Compile a function as `inline` does, one that makes or returns arrays."""
    return _part(function, fastmath=RELAXED, _nrt=True)


def spliced(function: Callable[..., Any]) -> Any:
    """Put the body of a function into its only caller, so that it is compiled once, not twice."""
    return numba.njit(inline="always", fastmath=RELAXED, error_model="numpy")(function)


def exact(function: Callable[..., Any]) -> Any:
    """Compile a function in which no operation may be reordered, for its rounding errors count."""
    return _part(function, fastmath=False, _nrt=False)


@contextmanager
def _without_collection() -> Iterator[None]:
    """Look for no garbage while a kernel is compiled, which would take a tenth of the time."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


KERNELS: list[Any] = []
"""All kernels that have been imported."""


def kernel(function: Callable[..., Any]) -> Any:
    """Compile a function that Python calls: it runs without the interpreter lock and is cached."""
    options = {"no_cfunc_wrapper": True, "fastmath": RELAXED, "error_model": "numpy"}
    if KNOWN:
        options["pipeline_class"] = KernelCompiler
    compiled = numba.njit(nogil=True, **options)(function)
    name = f"{function.__module__.rpartition('.')[2]}.{function.__name__}"
    kept, compile_now = True, compiled._compiler.compile
    try:
        compiled._cache = _Cache(function, name)
    except Exception:  # no folder to write to, or a numba without this hook
        kept = False

    def compile_and_say(args: Any, return_type: Any) -> Any:
        with NOTICE.compiling(name, kept=kept), _without_collection():
            if kept and compiled._cache._enabled:
                AHEAD.begin(name, args)
            return compile_now(args, return_type)

    compiled._compiler.compile = compile_and_say
    KERNELS.append(compiled)
    return compiled


def cache_folder() -> Path | None:
    """Where compiled kernels are kept, or None where no folder can be written to."""
    path = getattr(KERNELS[0]._cache, "cache_path", None) if KERNELS else None
    return None if path is None else Path(path)


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


@intrinsic
def get_alone(typingctx: Any, array: Any, index: Any) -> Any:
    """array[index] as in `get`, in a loop that had better not become one of gathers and scatters.

    These take longer on some processors than one number after the other.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        place = builder.gep(data, [args[1]], inbounds=True)
        return builder.load_atomic(place, "monotonic", signature.args[0].dtype.bitwidth // 8)

    return array.dtype(array, types.intp), codegen


@inline
def add(array: Any, index: Any, value: Any) -> None:
    """array[index] += value of a contiguous one-dimensional array; the index is trusted."""
    put(array, index, get(array, index) + value)


@inline
def get2(rows: Any, at: int) -> Any:
    """The numbers of one lane in two rows that follow each other."""
    return get(rows, at), get(rows, at + LANES)


@inline
def put2(rows: Any, at: int, a: Any, b: Any) -> None:
    """Set the numbers of one lane in two rows that follow each other."""
    put(rows, at, a)
    put(rows, at + LANES, b)


@inline
def get3(rows: Any, at: int) -> Any:
    """The vector of one lane, whose components stand in three rows that follow each other."""
    return get(rows, at), get(rows, at + LANES), get(rows, at + 2 * LANES)


@inline
def put3(rows: Any, at: int, x: Any, y: Any, z: Any) -> None:
    """Set the vector of one lane, in three rows that follow each other."""
    put(rows, at, x)
    put(rows, at + LANES, y)
    put(rows, at + 2 * LANES, z)


@inline
def add3(rows: Any, at: int, x: Any, y: Any, z: Any) -> None:
    """Add to the vector of one lane, in three rows that follow each other."""
    put3(rows, at, get(rows, at) + x, get(rows, at + LANES) + y, get(rows, at + 2 * LANES) + z)


@inline
def get9(rows: Any, at: int) -> Any:
    """The numbers of one lane in nine rows: a matrix by rows, or three vectors."""
    return get3(rows, at) + get3(rows, at + 3 * LANES) + get3(rows, at + 6 * LANES)


@inline
def windows(counter: Any, height: int, per_row: int, width: int, per_column: int) -> Any:
    """Yield units of work of a rectangle until none is left for this thread.

    The rectangle is cut into windows. All threads that work on it share the counter, which says how
    many windows have been taken, so that each window goes to one thread.

    Args:
        counter: (1,) int64, 0 before the first thread begins.
        height: Rows of the rectangle.
        per_row: Rows of a window.
        width: Columns of the rectangle.
        per_column: Columns of a window.

    Yields:
        First row, end of the rows, first column, end of the columns.
    """
    across = (width + per_column - 1) // per_column
    count = (height + per_row - 1) // per_row * across
    unit = next_index(counter)
    while unit < count:
        top, left = unit // across * per_row, unit % across * per_column
        yield top, min(top + per_row, height), left, min(left + per_column, width)
        unit = next_index(counter)


@intrinsic
def fma(typingctx: Any, a: Any, b: Any, c: Any) -> Any:
    """a·b + c, rounded once."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.fma(*args)

    return a(a, a, a), codegen


@intrinsic
def quadrant(typingctx: Any, s: Any, c: Any, rounded: Any) -> Any:
    """(s, c) turned by a number of quarter turns, which stands in the low bits of `rounded`."""

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
    """Increase counter[0] of an int64 array in one atomic step; returns the value before."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        one = ir.Constant(cgutils.intp_t, 1)
        return builder.atomic_rmw("add", data, one, "monotonic")

    return types.intp(counter), codegen


def _lent(context: Any, builder: Any, kind: Any, value: Any) -> Any:
    """A copy of a value in which arrays own no memory, so that no references are counted.

    Whoever binds the arrays keeps them alive.
    """
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
    """Write the arguments of a kernel to `room`, and return (entry, address) to call it by.

    `entry` is the address of a C function void (void *), which calls the kernel when it is given
    `address`. Any thread may call it, and needs no Python interpreter to do so. It sets room[0]
    where the kernel fails, which it does only where it finds no memory.
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
    """Call a bound kernel from compiled code."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = ir.FunctionType(ir.VoidType(), [cgutils.voidptr_t]).as_pointer()
        builder.call(
            builder.inttoptr(args[0], kind), [builder.inttoptr(args[1], cgutils.voidptr_t)]
        )
        return context.get_dummy_value()

    return types.none(entry, address), codegen


@inline
def _in_turn(first: int, first_at: int, second: int, second_at: int) -> None:
    _call(first, first_at)
    _call(second, second_at)


@kernel
def in_turn_task(room: Any, *args: Any) -> Any:
    """Bind two bound kernels as one, which calls one after the other."""
    return bind(_in_turn, room, args)
