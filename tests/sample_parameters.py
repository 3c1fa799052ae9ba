"""Layers whose samples have parameters of their own, as data, and the truth about them.

The truth is the `torch` engine in the same precision, which takes such parameters as they are.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from cases import CIRCUITS, Shape
from torch import Tensor

from qkan.circuits import lower
from qkan.simulators import get_engine
from qkan.simulators.testing import value_and_gradients

NAMES = ("x", "theta", "scale", "shift", "weight")
OWN: dict[str, frozenset[str]] = {
    "all": frozenset(NAMES[1:]),
    "theta": frozenset({"theta"}),
    "encodings": frozenset({"scale", "shift"}),
    "weight": frozenset({"weight"}),
}
"""Which parameters have the batch axis; the others are shared by all samples."""
SHAPES = (Shape(7, 3, 5), Shape(1, 1, 1), Shape(13, 1, 2), Shape(5, 7, 1), Shape(53, 3, 2))


def tensors(
    circuit: str, shape: Shape, own: frozenset[str], dtype: torch.dtype = torch.float64
) -> tuple[Tensor, ...]:
    """x, theta, scale, shift and weight, random leaves; `own` ones with the batch axis."""
    g = torch.Generator().manual_seed(11)
    program = lower(CIRCUITS[circuit])
    k, u = program.num_theta, program.num_encodings
    size = 0.6 if CIRCUITS[circuit].uses_arccos else 1.7

    def normal(*sizes: int) -> Tensor:
        return torch.randn(sizes, generator=g, dtype=torch.float64)

    def parameter(name: str, *last: int) -> Tensor:
        return normal(*((shape.b,) if name in own else ()), shape.o, shape.i, *last)

    values = (
        normal(shape.b, shape.i) * size, parameter("theta", k) * 2,
        parameter("scale", u) * 0.4 + 0.9, parameter("shift", u) * 0.3, parameter("weight"),
    )  # fmt: skip
    return tuple(value.to(dtype).requires_grad_() for value in values)


def truth(circuit: str, given: Sequence[Tensor], grad: Tensor) -> dict[str, Tensor]:
    """Value and gradients of a layer, or of all its edges where there is no weight."""
    return value_and_gradients(get_engine("torch"), circuit, given, grad)
