"""What an engine is, and what it is asked.

An engine evaluates φ on every (sample, output, input) edge, or its weighted sum over inputs. It
consumes a `Program` (or the circuit in it) and never an ansatz name. Letters: b samples, o outputs,
i inputs, k theta slots, u encodings.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor

from qkan.circuits import Program

from .base import LayerTensors, masked, with_base

_CPU = torch.device("cpu")


class Request(NamedTuple):
    """What an engine is asked to run: everything but the numbers.

    Attributes:
        program: The lowered circuit.
        batch: Samples b.
        out_features: Outputs o.
        in_features: Inputs i.
        dtype: Of x and of the parameters.
        device: Of x and of the parameters.
        fixed_scale: The scales when every edge has the same fixed ones, else None.
        per_edge: Whether each edge's value is wanted instead of the weighted sum over inputs.
        batched_theta: Whether each sample has parameters of its own.
        noise: Whether channels act after the gates.
        base: Base activation beside the circuits, a name in `BASES`; None for none.
    """

    program: Program
    batch: int
    out_features: int
    in_features: int
    dtype: torch.dtype = torch.float32
    device: torch.device = _CPU
    fixed_scale: tuple[float, ...] | None = None
    per_edge: bool = False
    batched_theta: bool = False
    noise: bool = False
    base: str | None = None

    @property
    def edges(self) -> int:
        """Number of (output, input) edges."""
        return self.out_features * self.in_features


class Engine(ABC):
    """A way to run a program on every edge. All shapes below broadcast over leading dimensions.

    Attributes:
        name: What users write in `engine=`.
        computes_half: Whether it takes bfloat16 and float16 tensors and computes in float32.
    """

    name: str
    computes_half: bool = False

    @abstractmethod
    def refuse(self, request: Request) -> str | None:
        """The reason why this engine cannot run the request, or None when it can."""

    @abstractmethod
    def cost(self, request: Request) -> float:
        """Estimated seconds of one forward and backward pass; `auto` takes the least."""

    @abstractmethod
    def edges(
        self, request: Request, x: Tensor, theta: Tensor, scale: Tensor, shift: Tensor
    ) -> Tensor:
        """φ on every edge.

        Args:
            request: The request that `refuse` accepted.
            x: (b, i), radians before scale and shift.
            theta: (o, i, k), radians.
            scale: (o, i, u), or (u,) when it is the same on every edge.
            shift: (o, i, u), radians.

        Returns:
            (b, o, i), differentiable in all arguments.
        """

    def layer(
        self,
        request: Request,
        x: Tensor,
        theta: Tensor,
        scale: Tensor,
        shift: Tensor,
        weight: Tensor,
    ) -> Tensor:
        """Σ_i weight[o, i]·φ_oi(x[b, i]), shape (b, o); arguments as in `edges`."""
        # no einsum: autocast would round the activations
        return (self.edges(request, x, theta, scale, shift) * weight).sum(-1)

    def whole(self, request: Request, x: Tensor, tensors: LayerTensors) -> Tensor:
        """A layer with its mask, base activation and bias, (b, o), for x (b, i)."""
        theta, scale, shift, weight, *_, mask = tensors
        out = self.layer(request, x, theta, scale, shift, masked(weight, mask))
        return with_base(out, x, request.base, tensors)
