"""The base activations of a layer, in one table with a row for each.

All code that computes, differentiates, compiles, prints or converts a base activation uses this
table. A new base activation only needs a new row here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True, slots=True)
class BaseActivation:
    """One base activation in all languages that the package needs.

    Attributes:
        value: The function in torch operators.
        backward: The gradient by x, from the gradient by the value and from x, in torch operators.
        scalar: Value and slope at one number x. numba compiles it for the CPU kernels, so constants
            are converted to the type of x; for NaN the results must be NaN.
        cuda: CUDA statements that set `value` and `slope` from `x`, all of type `Real`; for NaN the
            results must be NaN.
        formula: The function of a sympy symbol; the sympy module is an argument, since it is
            optional.
        steepest: The largest absolute slope.
        module: The class in torch.nn.
        peer_names: The names in the package qkan.
    """

    value: Callable[[Tensor], Tensor]
    backward: Callable[[Tensor, Tensor], Tensor]
    scalar: Callable[[Any], tuple[Any, Any]]
    cuda: str
    formula: Callable[[Any, Any], Any]
    steepest: float
    module: type[nn.Module]
    peer_names: tuple[str, ...]


def _silu(x: Any) -> tuple[Any, Any]:
    one = type(x)(1)
    gate = one / (one + math.exp(-x))
    return x * gate, gate * (one + x * (one - gate))


def _gelu(x: Any) -> tuple[Any, Any]:
    one, half = type(x)(1), type(x)(0.5)
    below = half * (one + math.erf(x * type(x)(math.sqrt(0.5))))
    bell = math.exp(-half * x * x) * type(x)(1 / math.sqrt(2 * math.pi))
    return x * below, below + x * bell


def _relu(x: Any) -> tuple[Any, Any]:
    return (type(x)(0), type(x)(0)) if x <= 0 else (x, type(x)(1))


def _tanh(x: Any) -> tuple[Any, Any]:
    value = math.tanh(x)
    return value, type(x)(1) - value * value


def _identity(x: Any) -> tuple[Any, Any]:
    return x, type(x)(1)


BASE_ACTIVATIONS = {
    "silu": BaseActivation(
        F.silu, torch.ops.aten.silu_backward, _silu,
        "Real gate = Real(1) / (Real(1) + exponential(-x));"
        " value = x / (Real(1) + exponential(-x));"
        " slope = gate * (Real(1) + x * (Real(1) - gate));",
        lambda sympy, x: x / (1 + sympy.exp(-x)), 1.0999, nn.SiLU, ("silu", "swish"),
    ),
    "gelu": BaseActivation(
        F.gelu, torch.ops.aten.gelu_backward, _gelu,
        "Real below = Real(0.5) * (Real(1) + error_function(x * Real(0.70710678118654752)));"
        " value = x * below;"
        " slope = below + x * Real(0.39894228040143268) * exponential(Real(-0.5) * x * x);",
        lambda sympy, x: x * (1 + sympy.erf(x / sympy.sqrt(2))) / 2, 1.1290, nn.GELU,
        ("gelu", "gelu_exact"),
    ),
    "relu": BaseActivation(
        F.relu, lambda grad, x: torch.ops.aten.threshold_backward(grad, x, 0), _relu,
        "value = x < Real(0) ? Real(0) : x; slope = x <= Real(0) ? Real(0) : Real(1);",
        lambda sympy, x: sympy.Max(0, x), 1.0, nn.ReLU, ("relu",),
    ),
    "tanh": BaseActivation(
        torch.tanh, lambda grad, x: torch.ops.aten.tanh_backward(grad, x.tanh()), _tanh,
        "value = hyperbolic(x); slope = Real(1) - value * value;",
        lambda sympy, x: sympy.tanh(x), 1.0, nn.Tanh, ("tanh",),
    ),
    "identity": BaseActivation(
        lambda x: x, lambda grad, x: grad, _identity, "value = x; slope = Real(1);",
        lambda sympy, x: x, 1.0, nn.Identity, (),
    ),
}  # fmt: skip
"""All base activations by name."""

BASES: dict[str, Callable[[Tensor], Tensor]] = {
    name: row.value for name, row in BASE_ACTIVATIONS.items()
}
"""The functions of `BASE_ACTIVATIONS` by name, in torch operators."""
