"""CUDA source for one program: a header generated from it, then the shipped files as they are.

The header has a `Rotation<n>` for each rotation of the lowered circuit, the numbers of the program,
fixed scales, the base activation and the number type. So the compiler unrolls the circuit, nothing
of it is read at run time, and a kernel holds just the arithmetic of its circuit.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import torch

from qkan.circuits import Program, Rotation
from qkan.simulators.base_activations import BASE_ACTIVATIONS

POINTERS = (
    "x", "theta", "scale", "shift", "weight", "base_weight", "bias", "mask", "grad", "out",
    "dx", "dtheta", "dscale", "dshift", "dweight", "dbase_weight", "dbias",
    "edge_sums", "input_sums",
)  # fmt: skip
SIZES = (
    "batch", "outs", "ins", "log_lanes", "groups", "chunk", "chunks", "parts", "edge_blocks",
)  # fmt: skip
"""The fields of the structure of 64-bit words that a kernel gets: addresses, then numbers."""

NUMBERS = {
    torch.float32: "float",
    torch.float64: "double",
    torch.bfloat16: "Bfloat16",
    torch.float16: "Float16",
}
"""The number types that memory may hold; arithmetic is in double for double, else in float."""
KERNELS = ("layer_forward", "edges_forward", "layer_backward", "layer_finish")
PER_SAMPLE_KERNELS = ("per_sample_forward", "per_sample_backward", "per_sample_finish")
"""Names of the kernels of a layer, and of one whose samples have parameters of their own."""
OWN = ("theta", "scale", "shift", "weight")
"""The parameters that each sample may have of its own."""
THREADS = 256
"""The most threads of a block; the kernels are compiled for as many."""
SHARED = 48 * 1024
"""Bytes of shared memory that a block has without asking."""

_CONSTANT, _AFFINE, _ARCCOS = range(3)

# The bounds ask for one block a multiprocessor only: for more the compiler would spill registers.
DEVICE = """\
#define QKAN_DEVICE __device__ __forceinline__
#define QKAN_KERNEL(name) extern "C" __global__ void __launch_bounds__(THREADS, 1) name
#define QKAN_UNROLL _Pragma("unroll")
extern __shared__ double QKAN_SHARED[];
"""
"""What the words in capitals, which the shipped files use, mean to a CUDA compiler."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """Everything that kernels are specialised by.

    Attributes:
        program: The lowered circuit.
        dtype: The dtype of all tensors.
        fixed_scale: The scales when every edge has the same fixed ones, else None.
        base: The base activation, a name in `BASE_ACTIVATIONS`, or None.
        own: The names in `OWN` that have a leading axis of samples.
    """

    program: Program
    dtype: torch.dtype
    fixed_scale: tuple[float, ...] | None = None
    base: str | None = None
    own: frozenset[str] = frozenset()

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the kernels in its source."""
        return PER_SAMPLE_KERNELS if self.own else KERNELS

    @property
    def arithmetic(self) -> torch.dtype:
        """The precision of its arithmetic and of its workspace."""
        return torch.float64 if self.dtype == torch.float64 else torch.float32

    @property
    def words(self) -> int:
        """How many parameters an edge has."""
        return self.program.num_theta + 2 * self.program.num_encodings + 3

    @property
    def shared_words(self) -> int:
        """How many parameters of an edge all samples share, so that their gradients are summed."""
        u = self.program.num_encodings
        sizes = zip(OWN, (max(self.program.num_theta, 1), u, u, 1), strict=True)
        return sum(size for name, size in sizes if name not in self.own)

    @property
    def sums(self) -> int:
        """How many sums over the samples an edge has in the adjoint pass."""
        return _layout(self.program).sums + (self.base is not None)


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where the numbers of each rotation stand.

    Attributes:
        first: The first rotation whose angle depends on x.
        last: One after the last such rotation.
        values: For each rotation where its numbers begin among those of an edge; then their count.
        sums_at: For each rotation where its sums begin.
        sums: How many sums an edge has, but for the base activation's; the last is of gradients.
    """

    first: int
    last: int
    values: tuple[int, ...]
    sums_at: tuple[int, ...]
    sums: int


def _kind(rotation: Rotation) -> int:
    if rotation.encoding is None:
        return _CONSTANT
    return _ARCCOS if rotation.arccos else _AFFINE


@functools.lru_cache(maxsize=1024)
def _layout(program: Program) -> _Layout:
    data = [n for n, r in enumerate(program.rotations) if r.encoding is not None]
    count = len(program.rotations)
    first, last = (data[0], data[-1] + 1) if data else (count, count)
    values, sums_at = [], []
    value, total = 0, 6 if first else 3
    for n, rotation in enumerate(program.rotations):
        values.append(value)
        sums_at.append(total)
        if first <= n < last:
            value += (2, 5, 4)[_kind(rotation)]
            total += (1, 2, 3)[_kind(rotation)]
    return _Layout(first, last, (*values, value), tuple(sums_at), total + 1)


def most_sums(program: Program) -> int:
    """A bound on `Kernel.sums`, simple enough for torch's compiler to trace."""
    return 8 + sum((1, 2, 3)[_kind(rotation)] for rotation in program.rotations)


def source(kernel: Kernel, words: str = DEVICE) -> str:
    """All CUDA source of a kernel, as one text without includes.

    Args:
        kernel: What it is specialised by.
        words: What the words in capitals mean to the compiler.
    """
    return "\n".join([
        words, _header(kernel), _shipped("rotation.cuh"), _base_activation(kernel.base),
        _shipped("edge.cuh"), _shipped("per_sample.cu" if kernel.own else "kernels.cu"),
    ])  # fmt: skip


def _base_activation(base: str | None) -> str:
    """The function that gives value and slope of the base activation, if there is one."""
    body = "" if base is None else BASE_ACTIVATIONS[base].cuda
    return f"QKAN_DEVICE void base_activation(Real x, Real& value, Real& slope) {{ {body} }}"


@functools.lru_cache(maxsize=8)
def _shipped(name: str) -> str:
    return (Path(__file__).parent / name).read_text(encoding="utf-8")


def _header(kernel: Kernel) -> str:
    program, layout = kernel.program, _layout(kernel.program)
    data = sum(r.encoding is not None for r in program.rotations)
    numbers = {
        "THETAS": program.num_theta, "ENCODINGS": program.num_encodings,
        "ROTATIONS": len(program.rotations), "FIRST": layout.first, "LAST": layout.last,
        "DATA": max(data, 1), "VALUES": layout.values[-1], "SUMS": kernel.sums,
        "GRADIENT_SUM": layout.sums - 1, "BASE_SUM": layout.sums, "THREADS": THREADS,
        "HAS_BASE": int(kernel.base is not None),
        "FIXED_SCALE": int(kernel.fixed_scale is not None),
        "CONSTANT": _CONSTANT, "AFFINE": _AFFINE, "ARCCOS": _ARCCOS,
        **{f"OWN_{name.upper()}": int(name in kernel.own) for name in OWN},
    }  # fmt: skip
    real = "double" if kernel.arithmetic == torch.float64 else "float"
    scales = kernel.fixed_scale or (0.0,) * program.num_encodings
    lines = [
        "typedef long long Index;",
        "struct Bfloat16;", "struct Float16;",
        f"typedef {real} Real;", f"typedef {NUMBERS[kernel.dtype]} Number;",
        *(f"constexpr int {name} = {value};" for name, value in numbers.items()),
        "constexpr unsigned ALL = 0xffffffffu;",
        "struct Arguments {",
        *(f"    void* {name};" for name in POINTERS), *(f"    Index {name};" for name in SIZES),
        "};",
        _chosen("initial_vector", program.initial),
        _chosen("observable_vector", program.observable), _chosen("fixed_scale", scales),
        "template <int N>", "struct Rotation;",
        *(_rotation(program, n) for n in range(len(program.rotations))),
    ]  # fmt: skip
    return "\n".join(lines)


def _chosen(name: str, values: tuple[float, ...]) -> str:
    """CUDA source of a function that returns one of the numbers by its index."""
    tests = "".join(f"at == {n} ? {v!r} : " for n, v in enumerate(values[:-1]))
    return f"QKAN_DEVICE Real {name}(int at) {{ return Real({tests}{values[-1]!r}); }}"


def _rotation(program: Program, n: int) -> str:
    """CUDA source of one rotation of the program, `Rotation<n>`."""
    rotation, layout = program.rotations[n], _layout(program)
    kind = _kind(rotation)
    numbers = {
        "axis": rotation.axis, "kind": kind, "value": layout.values[n], "sum": layout.sums_at[n],
        "encoding": -1 if rotation.encoding is None else rotation.encoding,
        "data": sum(r.encoding is not None for r in program.rotations[:n]),
        "offset": int(bool(rotation.thetas or rotation.constant)),
    }  # fmt: skip
    members = ", ".join(f"{name} = {value}" for name, value in numbers.items())
    angle = " + ".join([f"Real({rotation.constant!r})", *(f"theta[{k}]" for k in rotation.thetas)])
    give = " ".join(f"dtheta[{k}] += slope;" for k in rotation.thetas)
    return "\n".join([
        "template <>", f"struct Rotation<{n}> {{", f"    static constexpr int {members};",
        f"    static QKAN_DEVICE Real angle(const Real* theta) {{ return {angle}; }}",
        f"    static QKAN_DEVICE void give(Real* dtheta, Real slope) {{ {give} }}", "};",
    ])  # fmt: skip
