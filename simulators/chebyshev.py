"""The `chebyshev` engine: trainable scales as a matrix product, within a proven error bound.

On the batch's range |x - m| ≤ L an edge is band-limited by Ω = Σ_u |scale_u|, so that its Chebyshev
series converges faster than exponentially once the degree passes Ω·L (`truncation_bound`). The
degree is the smallest whose bound meets the tolerance, rounding level by default.
"""

from __future__ import annotations

import bisect
import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from .autocast import without_autocast
from .base import with_base
from .call import LayerCall, Request, has_values
from .cpu.compiled import arrays, refuse_on_cpu
from .cpu.threads import Task
from .errors import SimulatorError
from .fourier import product_cost
from .product_engine import Expansion, ProductEngine
from .products import chebyshev_features, chebyshev_map, contract, edge_by_edge, values_at, widest

DEGREES = (8, 12, 16, 20, 24, 28, 32, 36, 40, 48, 56, 64, 80, 96)
"""The degrees used in plain torch operators: few, so that shapes seldom change."""
_ALL_DEGREES = range(DEGREES[0], DEGREES[-1] + 1)
_TYPICAL_RANGE = 3.5
# Towards the ends of the range the slopes of T_k grow to k² and magnify rounding in the gradient
# by x; within 1/1.06 of it they stay below 3k.
_MARGIN = 1.06
# The least angle that a range spans. A slope divides the rounding of the coefficients by the width
# of its range, so that an input that hardly varies needs a range wider than its data.
_NARROWEST = 1.0
# The bandwidth below which an edge counts as flat: a far wider range than that of the data would
# magnify the rounding of the gradient by its scale.
_FLAT = 0.3


@dataclass
class ChebyshevEngine(ProductEngine):
    """The engine of one matrix product for trainable scales.

    A batch that needs so high a degree that a product saves nothing is computed edge by edge.

    Args:
        tolerance: Bound on the truncation error of each edge's value. None is the rounding level
            of the dtype.
        domain: (low, high) that all inputs lie in. None takes each batch's own range.
    """

    tolerance: float | None = None
    domain: tuple[float, float] | None = None
    name: str = field(default="chebyshev", init=False)

    def refuse(self, request: Request) -> str | None:
        """It refuses an arccos, noise, parameters per sample, and dtypes it has no bound for."""
        reason = super().refuse(request)
        if reason is not None:
            return reason
        if request.dtype not in (torch.float32, torch.float64):
            return f"it computes in float32 and float64, not {request.dtype}"
        return None

    def cost(self, request: Request) -> float:
        """The cost of the product at the degree that inputs of unit variance need at scale 1.2."""
        scale = request.fixed_scale or (1.2,) * request.program.num_encodings
        z = request.program.bandwidth(scale) * _TYPICAL_RANGE
        # a straight line through the degrees that `_degree` finds
        degree = 12 + 1.35 * z if request.dtype == torch.float32 else 20 + 1.45 * z
        if degree > min(DEGREES[-1], request.batch):
            return math.inf
        return product_cost(request, int(degree) + 1)

    def plain(self, call: LayerCall) -> bool:
        """Plain operators run on other devices than the CPU."""
        return refuse_on_cpu(call.request) is not None

    def _degree(self, z: float, dtype: torch.dtype, degrees: Sequence[int]) -> int | None:
        """The least of the degrees, in rising order, whose bound meets the tolerance, if any."""
        tolerance = self.tolerance or torch.finfo(dtype).eps
        found = bisect.bisect_left(degrees, z, key=lambda degree: widest(degree, tolerance))
        return degrees[found] if found < len(degrees) else None

    def _range(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The middle and half the width of each input's range, (i,)."""
        if not len(x):
            return x.new_zeros(x.shape[1]), x.new_ones(x.shape[1])
        low, high = x.detach().aminmax(dim=0)
        if self.domain is not None:
            found, (left, right) = (float(low.min()), float(high.max())), self.domain
            if found[0] < left or found[1] > right:
                raise SimulatorError(
                    f"chebyshev: inputs from {found[0]:.4g} to {found[1]:.4g} leave "
                    f"domain={self.domain}; give a wider one, or None for each batch's own range."
                )
            low, high = torch.full_like(low, left), torch.full_like(high, right)
        return (low + high) / 2, (high - low) / 2 * _MARGIN

    def _extent(self, request: Request, x: Tensor, scale: Tensor) -> tuple[Tensor, Tensor, float]:
        """Each input's range, and the widest angle Ω·L of any edge."""
        encodings = [r.encoding for r in request.program.rotations if r.encoding is not None]
        fixed = request.fixed_scale
        if self.domain is None and len(x) and refuse_on_cpu(request) is None:
            uses = tuple(encodings.count(u) for u in range(request.program.num_encodings))
            width = None if fixed is None else request.program.bandwidth(fixed)
            return _compiled_extent(x, scale, uses, width)
        middle, half = self._range(x)
        if fixed is not None:
            band = half.new_full((1, 1), request.program.bandwidth(fixed))
        else:
            band = scale.detach()[..., encodings].abs().sum(-1)
        widest_band = band.amax(0) if band.numel() else band.new_zeros(1)
        if not half.numel():
            return middle, half, 0.0
        z = (widest_band * half).max().clamp(min=_NARROWEST)
        return middle, half.maximum(z / widest_band.clamp(min=_FLAT)), float(z)

    def _fitting(
        self, request: Request, x: Tensor, scale: Tensor, degrees: Sequence[int]
    ) -> tuple[int, Tensor, Tensor] | None:
        """Degree, middle and half width of the ranges, or None where a product saves nothing."""
        middle, half, z = self._extent(request, x, scale)
        degree = self._degree(z, x.dtype, degrees) if math.isfinite(z) else None
        if degree is None or degree >= x.shape[0]:
            return None
        return degree, middle, half

    def expansion(self, request: Request, x: Tensor, scale: Tensor) -> Expansion | None:
        """The polynomials of the degree that this batch and these scales need."""
        found = self._fitting(request, x, scale, _ALL_DEGREES)
        if found is None:
            return None
        degree, middle, half = found
        nodes, transform = _map(degree + 1, x.dtype)
        return _Polynomials(nodes, transform, degree, (middle.numpy(), half.numpy()))

    def plain_forward(self, call: LayerCall) -> Tensor:
        """Compute the output in plain torch operators.

        The degree depends on the numbers. Where these cannot be read, in a graph or on meta
        tensors, the call is computed edge by edge.
        """
        request, x = call.request, call.tensors.x
        found = None
        if has_values(x) and not _is_being_captured(x):
            found = self._fitting(request, x, call.tensors.scale, DEGREES)
        if found is None:
            return edge_by_edge(call)
        with without_autocast(x):
            out = self._sum(call, *found)
        return out if request.per_edge else with_base(out, call.tensors, request.base)

    def _sum(self, call: LayerCall, degree: int, middle: Tensor, half: Tensor) -> Tensor:
        x, theta, scale, shift, weight = call.circuits
        unit, rows = chebyshev_map(degree + 1, theta)
        values = values_at(call.request, unit[:, None] * half + middle, theta, scale, shift)
        coefficients = torch.tensordot(rows, values, 1)
        return contract(chebyshev_features((x - middle) / half, degree + 1), coefficients, weight)


def _is_being_captured(x: Tensor) -> bool:
    """Whether a CUDA graph records this call, so that no number is computed yet."""
    device: Any = torch.get_device_module(x.device)
    ask = getattr(device, "is_current_stream_capturing", None)
    return ask is not None and bool(ask())


def _compiled_extent(
    x: Tensor, scale: Tensor, uses: tuple[int, ...], width: float | None
) -> tuple[Tensor, Tensor, float]:
    """Compute `_extent` in one pass of compiled code; `width` is the bandwidth of fixed scales."""
    import numpy as np

    from .cpu import features

    values, scales = arrays((x, scale))
    middle, half = (np.empty(x.shape[1], values.dtype) for _ in range(2))
    number = values.dtype.type
    z = features.extent(
        np.ascontiguousarray(values).reshape(-1),
        np.ascontiguousarray(scales if width is None else scales[:0]).reshape(-1),
        np.array(uses, values.dtype), number(width or 0), (len(x), x.shape[1]),
        (number(_MARGIN), number(_NARROWEST), number(_FLAT)), middle, half,
    )  # fmt: skip
    return torch.from_numpy(middle), torch.from_numpy(half), float(z)


@functools.lru_cache(maxsize=256)
def _map(count: int, dtype: torch.dtype) -> tuple[Any, Any]:
    nodes, rows = chebyshev_map(count, torch.empty(0, dtype=dtype, device="cpu"))
    return nodes.numpy(), rows.numpy()


class _Polynomials(Expansion):
    """The Chebyshev polynomials T_k((x - middle)/half) for k = 1 … count."""

    def features(self, x: Any, out: Any, threads: int) -> Task:
        from .cpu import features

        assert self.affine is not None
        return Task(
            features.chebyshev_task, x.reshape(-1), out.reshape(-1), *self.affine,
            (*x.shape, self.count), features.block(x.shape, self.count, threads),
            features.counter(),
        )  # fmt: skip

    def features_backward(self, grad: Any, values: Any, dx: Any, threads: int) -> Task:
        from .cpu import features

        assert self.affine is not None
        return Task(
            features.chebyshev_backward_task, grad.reshape(-1), values.reshape(-1),
            dx.reshape(-1), self.affine[1], (*dx.shape, self.count),
            features.block(dx.shape, self.count, threads), features.counter(),
        )  # fmt: skip
