"""`Engine`: a way to evaluate φ on every edge for every sample, with gradients.

An engine uses the lowered `Program` of a request, or its gates, but never the name of an ansatz.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor

from .call import Gradients, LayerCall, Request
from .errors import SimulatorError


class Engine(ABC):
    """A way to run a layer call, by its methods `refuse`, `cost`, `forward` and `backward`.

    `forward` and `backward` get plain tensors without autograd; `run` provides what torch users
    expect. An engine whose `forward` consists of torch operators needs no `backward`, since
    autograd differentiates its `forward`.

    Attributes:
        name: The name in `engine=`.
        computes_half: Whether it takes bfloat16 and float16 tensors and computes them in float32.
        reads_several: Whether it takes programs that read several observables. For any other engine
            each observable becomes an output of a program that measures Z.
    """

    name: str
    computes_half: bool = False
    reads_several: bool = False

    @abstractmethod
    def refuse(self, request: Request) -> str | None:
        """Return the reason why this engine cannot run the request, or None if it can."""

    @abstractmethod
    def cost(self, request: Request) -> float:
        """Return the estimated seconds of a forward and a backward pass; `auto` takes the least."""

    def plain(self, call: LayerCall) -> bool:
        """Whether `forward` consists of torch operators for this call, so that autograd records it.

        By default this is true for an engine without a `backward`.
        """
        return type(self).backward is Engine.backward

    @abstractmethod
    def forward(self, call: LayerCall) -> tuple[Tensor, Any]:
        """Evaluate a call that `refuse` accepted.

        Returns:
            The output (b, o), or without a weight the values of all edges (b, o, i), with an axis a
            at the end if the program reads several observables; and a state for `backward`, which
            is small or None.
        """

    def backward(self, call: LayerCall, grad: Tensor, state: Any) -> Gradients:
        """Return the gradients of Σ grad·output.

        Args:
            call: The call as in `forward`; `call.needs` says which gradients are needed.
            grad: The gradient by the output, in the output's shape.
            state: The state that `forward` returned, or None if that is no longer known.

        Returns:
            A gradient for each tensor of the call, or None where none is needed.

        Raises:
            SimulatorError: The engine has no backward pass of its own.
        """
        raise SimulatorError(f"The engine {self.name!r} leaves gradients to torch's autograd.")
