"""The `fourier` engine: a layer with fixed integer scales is exactly one matrix product.

φ(x) = Σ_k c_k e^{ikx} is a finite trigonometric polynomial, |k| ≤ Σ_u |scale_u|. Its coefficients
follow exactly from its values at as many equispaced nodes as it has terms, for any batch.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .autocast import autocast_dtype, without_autocast
from .base import with_base
from .call import LayerCall, Request, is_recorded
from .cpu.compiled import refuse_on_cpu
from .cpu.threads import Task
from .product_engine import Expansion, ProductEngine
from .products import contract, fourier_map, harmonics, values_at
from .registry import is_exporting

MOST_HARMONICS = 512
"""With more features than this, a product would cost more than the other engines."""


class FourierEngine(ProductEngine):
    """The exact engine for fixed integer scales: sines and cosines of inputs, and a product."""

    name = "fourier"

    def refuse(self, request: Request) -> str | None:
        """Refuse scales that are trainable or not integers, an arccos, and too many harmonics."""
        reason = super().refuse(request)
        if reason is not None:
            return reason
        if request.fixed_scale is None:
            return "the scales are trainable, so the frequencies differ from edge to edge"
        if any(scale != round(scale) for scale in request.fixed_scale):
            return f"the fixed scales {request.fixed_scale} are not all integers"
        count = _harmonics(request)
        if count > MOST_HARMONICS:
            return f"{count} harmonics are more than the {MOST_HARMONICS} that it is made for"
        return None

    def cost(self, request: Request) -> float:
        """Return the time of the product, of the features, and of the edges at the nodes."""
        return product_cost(request, 2 * _harmonics(request) + 1)

    def plain(self, call: LayerCall) -> bool:
        """Return true on devices other than the CPU, and in graphs that leave this process.

        The graph of a compiler stays in this process, where the kernels are faster than compiled
        operators.
        """
        # torch 2.6 cannot tell an exporter from a compiler
        stays = torch.compiler.is_compiling() and hasattr(torch.compiler, "is_exporting")
        recorded = is_exporting() if stays else is_recorded(call.tensors.x)
        return recorded or refuse_on_cpu(call.request) is not None

    def plain_forward(self, call: LayerCall) -> Tensor:
        """Compute the output in plain torch operators, differentiable to any order.

        Under autocast only the product is rounded, not the computation of its factors.
        """
        x, theta, scale, shift, weight = call.circuits
        with without_autocast(x):
            coefficients = fourier_coefficients(call.request, theta, scale, shift)
            features = harmonics(x, _harmonics(call.request))
            if weight is None:
                return contract(features, coefficients, None)
        out = contract(features, coefficients, weight)
        return with_base(out, call.tensors, call.request.base)

    def product_dtype(self, request: Request) -> torch.dtype | None:
        """Return the dtype of autocast, to which matrix products are rounded."""
        return autocast_dtype(request.device.type) if request.dtype == torch.float32 else None

    def expansion(self, request: Request, x: Tensor, scale: Tensor) -> Expansion:
        """Return the harmonics up to the bandwidth."""
        return _harmonic_expansion(_harmonics(request), x.dtype)


def fourier_coefficients(request: Request, theta: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Return the Fourier coefficients of every edge in the order of `harmonics`, (f, o, i)."""
    nodes, rows = fourier_map(_harmonics(request), theta)
    values = values_at(request, nodes, theta, scale, shift)
    coefficients: Tensor = torch.tensordot(rows, values, 1)
    return coefficients


def product_cost(request: Request, features: int) -> float:
    """Return the estimated seconds of a training step of a layer with so many features per input.

    It is the sum of a constant, the edges at the nodes, the features and three products, fitted to
    `benchmarks/` on two cores: 2.4 ms at 1024×64→64 with 7 features, 11 ms with 33, 23 ms at
    1024×256→256 with 7.
    """
    if request.device.type == "cuda":
        return _cuda_cost(request, features)
    fused = refuse_on_cpu(request) is None
    operations = max(len(request.program.rotations), 1)
    start = 600e-6 if fused else 1e-3
    node = (1.0e-9 if fused else 10e-9) * operations
    product = 5e-11 if request.dtype == torch.float32 else 1e-10
    numbers = request.batch * request.in_features * features
    return (
        start
        + node * features * request.edges
        + 1.2e-9 * numbers
        + product * numbers * request.out_features
    )


def _cuda_cost(request: Request, features: int) -> float:
    """The cost on a GPU, from numbers of launches, nodes, memory traffic and three products."""
    wide = 2.0 if request.dtype == torch.float64 else 1.0
    operations = max(len(request.program.rotations), 1)
    numbers = request.batch * request.in_features * features
    node = 6e-12 * operations * features * request.edges
    return 400e-6 + wide * (node + 2e-11 * numbers + 1.5e-13 * numbers * request.out_features)


def _harmonics(request: Request) -> int:
    assert request.fixed_scale is not None
    return max(1, round(request.program.bandwidth(request.fixed_scale)))


@functools.lru_cache(maxsize=64)
def _harmonic_expansion(count: int, dtype: torch.dtype) -> _Harmonics:
    nodes, rows = fourier_map(count, torch.empty(0, dtype=dtype, device="cpu"))
    return _Harmonics(nodes.numpy(), rows.numpy(), 2 * count)


@dataclass(frozen=True, slots=True)
class _Harmonics(Expansion):
    """cos kx, sin kx for k = 1 … count/2."""

    def features(self, x: Any, out: Any, threads: int) -> Task:
        from .cpu import features

        return Task(
            features.harmonics_task, x.reshape(-1), out, (*x.shape, self.count // 2),
            features.block(x.shape, self.count, threads), features.counter(),
        )  # fmt: skip

    def features_backward(self, grad: Any, values: Any, x: Any, dx: Any, threads: int) -> Task:
        from .cpu import features

        return Task(
            features.harmonics_backward_task, grad, values, dx.reshape(-1),
            (*dx.shape, self.count // 2), features.block(dx.shape, self.count, threads),
            features.counter(),
        )  # fmt: skip
