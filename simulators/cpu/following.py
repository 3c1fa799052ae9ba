"""What the second process of `ahead` does: compile a kernel for types that are known beforehand."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from numba.types import Array, BaseTuple, NamedTuple, UniTuple, boolean, float32, float64, int64

from .layout import EdgeArrays
from .series import Series


def types_of(kernel: str, dtype: str) -> tuple[Any, ...]:
    """The types of the arguments of a kernel of `ahead.NEXT`, called with arrays of a dtype."""
    i, n = Array(int64, 1, "C"), Array(float32 if dtype == "float32" else float64, 1, "C")
    two, three, four, seven, eight = (UniTuple(int64, size) for size in (2, 3, 4, 7, 8))
    edges = NamedTuple([i, n, n, n, n, n], EdgeArrays)
    series = NamedTuple([n, n, n, n, i, i, n], Series)
    bound = {
        "series_grad.backward_task": (
            edges, series, n, n, n, UniTuple(n, 4), n, boolean, four, int64, i,
        ),
        "sample_lanes_grad.backward_task": (edges, n, n, UniTuple(n, 5), four, two, i),
        "edge_lanes_grad.backward_task": (edges, n, n, UniTuple(n, 5), int64, three, two, i),
    }  # fmt: skip
    if kernel in bound:
        return i, BaseTuple.from_types(bound[kernel])
    return i, n, n, eight, int64, seven, three, int64


def compile_next(kernel: str, dtype: str) -> None:
    """Compile a kernel of `ahead.NEXT`, and leave it in the folder of compiled kernels."""
    module, name = kernel.split(".")
    getattr(import_module(f"{__package__}.{module}"), name).compile(types_of(kernel, dtype))
