"""The `chebyshev` engine: trainable scales by a matrix product, within a proven error bound.

An edge is band-limited by Ω = Σ_u |scale_u|, so that on a range |x - m| ≤ L few functions suffice.
On a CPU these are the functions of `cpu.bands`, as many as Ω·L needs; if it is cheaper, the range
leaves out the most extreme values of an input, which are computed edge by edge. On other devices
they are Chebyshev polynomials on each input's whole range, with the smallest degree whose bound,
`truncation_bound`, meets the tolerance. By default the tolerance is the rounding level.
"""

from __future__ import annotations

import bisect
import functools
import math
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
from .registry import get_engine

DEGREES = (8, 12, 16, 20, 24, 28, 32, 36, 40, 48, 56, 64, 80, 96)
"""The degrees used in plain torch operators; there are few, so that shapes seldom change."""
_TYPICAL_RANGE = 3.5
# With the few most extreme inputs left out.
_TYPICAL_CORE = 2.5
# Towards the ends of the range the slopes of T_k grow to k² and magnify rounding in the gradient
# by x; within 1/1.06 of it they stay below 3k.
_MARGIN = 1.06
# The least angle that a range spans. A slope divides the rounding of the coefficients by the width
# of its range, so that an input that hardly varies needs a range wider than its data.
_NARROWEST = 1.0
# The bandwidth below which an edge counts as flat: a far wider range than that of the data would
# magnify the rounding of the gradient by its scale.
_FLAT = 0.3
# How much of its widest angle a basis is used for. At the widest one the error grows so fast with
# the scale that its slope, which is in the gradient by the scale, is well above rounding.
_WITHIN = 0.85


@dataclass
class ChebyshevEngine(ProductEngine):
    """The engine that computes layers with trainable scales by a matrix product.

    A batch whose degree is so high that a product saves nothing is computed edge by edge.

    Args:
        tolerance: A bound on the truncation error of each edge's value. None means the rounding
            level of the dtype.
        domain: A range (low, high) that contains all inputs. None takes the range of each batch.
    """

    tolerance: float | None = None
    domain: tuple[float, float] | None = None
    name: str = field(default="chebyshev", init=False)

    def refuse(self, request: Request) -> str | None:
        """Refuse an arccos, noise, parameters per sample, and dtypes without a bound."""
        reason = super().refuse(request)
        if reason is not None:
            return reason
        if request.dtype not in (torch.float32, torch.float64):
            return f"it computes in float32 and float64, not {request.dtype}"
        return None

    def cost(self, request: Request) -> float:
        """Return the cost of the product at the degree for inputs of unit variance at scale 1.2."""
        scale = request.fixed_scale or (1.2,) * request.program.num_encodings
        band, single = request.program.bandwidth(scale), request.dtype == torch.float32
        # linear fits to the numbers of functions that occur
        if refuse_on_cpu(request) is None:
            degree = (9 if single else 17) + band * _TYPICAL_CORE
        else:
            degree = (
                12 + 1.35 * band * _TYPICAL_RANGE if single else 20 + 1.45 * band * _TYPICAL_RANGE
            )
        if degree > min(DEGREES[-1], request.batch):
            return math.inf
        return product_cost(request, int(degree) + 1)

    def plain(self, call: LayerCall) -> bool:
        """Return whether the device is not the CPU, since plain operators then run."""
        return refuse_on_cpu(call.request) is not None

    def _degree(self, z: float, dtype: torch.dtype) -> int | None:
        """The least of `DEGREES` whose bound meets the tolerance, if any."""
        tolerance = self.tolerance or torch.finfo(dtype).eps
        found = bisect.bisect_left(DEGREES, z, key=lambda degree: widest(degree, tolerance))
        return DEGREES[found] if found < len(DEGREES) else None

    def _range(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The middle and half the width of each input's range, (i,)."""
        if not len(x):
            return x.new_zeros(x.shape[1]), x.new_ones(x.shape[1])
        low, high = x.detach().aminmax(dim=0)
        if self.domain is not None:
            found, (left, right) = (float(low.min()), float(high.max())), self.domain
            if found[0] < left or found[1] > right:
                raise SimulatorError(
                    f"chebyshev: the inputs reach from {found[0]:.4g} to {found[1]:.4g}, beyond "
                    f"domain={self.domain}; pass a wider one, or None for each batch's own range."
                )
            low, high = torch.full_like(low, left), torch.full_like(high, right)
        return (low + high) / 2, (high - low) / 2 * _MARGIN

    def _extent(self, request: Request, x: Tensor, scale: Tensor) -> tuple[Tensor, Tensor, float]:
        """The range of each input, and the widest angle Ω·L of any edge."""
        encodings = [r.encoding for r in request.program.rotations if r.encoding is not None]
        fixed = request.fixed_scale
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
        self, request: Request, x: Tensor, scale: Tensor
    ) -> tuple[int, Tensor, Tensor] | None:
        """Degree, middle and half width of the ranges, or None if a product saves nothing."""
        middle, half, z = self._extent(request, x, scale)
        degree = self._degree(z, x.dtype) if math.isfinite(z) else None
        if degree is None or degree >= x.shape[0]:
            return None
        return degree, middle, half

    def expansion(self, request: Request, x: Tensor, scale: Tensor) -> Expansion | None:
        """Return the functions that this batch and these scales need."""
        from .cpu.bands import FEWEST, widest_angles

        angles = _WITHIN * widest_angles(self.tolerance or torch.finfo(x.dtype).eps)
        # a product with more functions than samples saves nothing
        angles = angles[: max(0, min(len(angles), len(x) - FEWEST))]
        if not len(angles) or not x.shape[1]:
            return None
        if self.domain is None:
            return _chosen(request, x, scale, angles)
        middle, half, z = self._extent(request, x, scale)
        found = bisect.bisect_left(angles, z) if math.isfinite(z) else len(angles)
        if found == len(angles):
            return None
        wide = half * float(angles[found] / z)
        return _functions(found, angles, middle.numpy(), wide.numpy(), None)

    def plain_forward(self, call: LayerCall) -> Tensor:
        """Compute the output in plain torch operators.

        The degree depends on the values. If these cannot be read, in a graph or on meta tensors,
        the call is computed edge by edge.
        """
        request, x = call.request, call.tensors.x
        found = None
        if has_values(x) and not _is_being_captured(x):
            found = self._fitting(request, x, call.tensors.scale)
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
    """Whether a CUDA graph records this call, so that no value is computed yet."""
    device: Any = torch.get_device_module(x.device)
    ask = getattr(device, "is_current_stream_capturing", None)
    return ask is not None and bool(ask())


def _chosen(request: Request, x: Tensor, scale: Tensor, angles: Any) -> Expansion | None:
    """The expansion on the cheapest ranges, or None if all of them are too wide."""
    import numpy as np

    from .cpu import ranges
    from .cpu.bands import REACH

    encodings = [r.encoding for r in request.program.rotations if r.encoding is not None]
    uses = [encodings.count(u) for u in range(request.program.num_encodings)]
    fixed = request.fixed_scale
    values, scales = arrays((x, scale))
    values = np.ascontiguousarray(values)
    scales = np.ascontiguousarray(scales if fixed is None else scales[:0]).reshape(-1)
    number = values.dtype.type
    middle, half = (np.empty(x.shape[1], values.dtype) for _ in range(2))
    limits = (number(1 / REACH), number(_NARROWEST), number(_FLAT))
    found, has_exceptions = ranges.choose(
        values.reshape(-1), scales, np.array(uses, values.dtype),
        number(0 if fixed is None else request.program.bandwidth(fixed)), values.shape, limits,
        angles.astype(values.dtype), _costs(request, len(angles)), middle, half,
    )  # fmt: skip
    if not 0 <= found < len(angles) or _is_dear(request, found):
        return None
    exceptions = None
    if has_exceptions:
        starts = np.zeros(x.shape[1] + 1, np.int64)
        args = (values.reshape(-1), middle, half, number(REACH), values.shape, starts)
        ranges.exceptions(*args, np.empty(0, np.int64), np.empty(0, values.dtype))
        samples, at = np.empty(starts[-1], np.int64), np.empty(starts[-1], values.dtype)
        if len(samples):
            ranges.exceptions(*args, samples, at)
        exceptions = (starts, samples, at)
    return _functions(int(found), angles, middle, half, exceptions)


def _is_dear(request: Request, found: int) -> bool:
    """Whether so wide a range makes the product of a layer slower than the fused kernel.

    Where the product would never be faster, somebody has asked for it.
    """
    from .cpu.bands import FEWEST

    kernel = get_engine("numba").cost(request)
    return product_cost(request, FEWEST) < kernel < product_cost(request, FEWEST + found)


def _costs(request: Request, count: int) -> Any:
    """Estimated seconds of a step by the number of functions, and of exceptions.

    The last two entries are the cost of one exception, and the largest number of exceptions.
    """
    import numpy as np

    from .cpu.bands import FEWEST

    entries, data = request.batch * request.in_features, len(request.program.rotations) / 2
    features = np.arange(FEWEST, FEWEST + count) - 1.0
    one = product_cost(request, 1) - product_cost(request, 0)
    exception = 1.6e-9 * data * request.out_features
    most = min(entries // 16, _MOST_EXCEPTION_BYTES // (4 * max(request.out_features, 1)))
    return np.array([*(one * features), exception, 0 if request.per_edge else most])


_MOST_EXCEPTION_BYTES = 16 << 20
"""The memory that the values of exceptions may take."""


def _functions(found: int, angles: Any, middle: Any, half: Any, exceptions: Any) -> Expansion:
    from .cpu.bands import FEWEST

    nodes, transform, tables = _tabulated(FEWEST + found, float(angles[found]), middle.dtype.name)
    return _Bands(nodes, transform, FEWEST + found - 1, True, (middle, half), exceptions, tables)


@functools.lru_cache(maxsize=64)
def _tabulated(count: int, angle: float, dtype: str) -> tuple[Any, Any, Any]:
    from .cpu.bands import band, tables

    basis = band(count, angle)
    return basis.nodes.astype(dtype), basis.transform.astype(dtype), tables(basis, dtype)


@dataclass(frozen=True, slots=True)
class _Bands(Expansion):
    """The functions of a band, evaluated from tables."""

    tables: Any = None

    def _shape(self, shape: tuple[int, int]) -> tuple[int, ...]:
        return (*shape, self.count, self.tables.pieces, self.tables.values.shape[2])

    def _reach(self, dtype: Any) -> Any:
        from .cpu.bands import REACH

        # exceptions are determined as in the list of them
        return dtype.type(1 if self.exceptions is None else REACH)

    def features(self, x: Any, out: Any, threads: int) -> Task:
        from .cpu import features, pieces

        assert self.affine is not None
        return Task(
            pieces.features_task, x.reshape(-1), out, self.tables.values.reshape(-1),
            *self.affine, self._reach(x.dtype), self._shape(x.shape),
            features.block(x.shape, self.count, threads), features.counter(),
        )  # fmt: skip

    def features_backward(self, grad: Any, values: Any, x: Any, dx: Any, threads: int) -> Task:
        from .cpu import features, pieces

        assert self.affine is not None
        return Task(
            pieces.features_backward_task, grad, x.reshape(-1), dx.reshape(-1),
            self.tables.slopes.reshape(-1), *self.affine, self._reach(x.dtype),
            self._shape(x.shape), features.block(x.shape, self.count, threads),
            features.counter(),
        )  # fmt: skip
