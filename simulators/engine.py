"""What an engine is: a way to evaluate φ on every edge for every sample, with gradients.

An engine reads a request's lowered `Program`, or the circuit in it, never the name of an ansatz.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor

from .call import Gradients, LayerCall, Request
from .errors import SimulatorError


class Engine(ABC):
    """A way to run a layer call, by its methods `refuse`, `cost`, `forward` and `backward`.

    `forward` and `backward` get plain tensors and need not know of autograd: `run` provides what
    torch users expect. An engine whose `forward` is made of torch operators needs no `backward`,
    for autograd differentiates its `forward`.

    Attributes:
        name: What users write in `engine=`.
        computes_half: Whether it takes bfloat16 and float16 tensors and computes in float32.
        reads_several: Whether it takes programs that read several observables. To any other engine
            each observable is an output of its own, of a program that measures Z.
    """

    name: str
    computes_half: bool = False
    reads_several: bool = False

    @abstractmethod
    def refuse(self, request: Request) -> str | None:
        """The reason why this engine cannot run the request, or None when it can."""

    @abstractmethod
    def cost(self, request: Request) -> float:
        """Estimated seconds of one forward and backward pass; `auto` takes the least."""

    def plain(self, call: LayerCall) -> bool:
        """Whether `forward` is made of torch operators for this call, so that autograd follows it.

        Unless overridden this is true for an engine without a `backward`.
        """
        return type(self).backward is Engine.backward

    @abstractmethod
    def forward(self, call: LayerCall) -> tuple[Tensor, Any]:
        """Evaluate a call that `refuse` accepted.

        Returns:
            The output, (b, o), or without a weight the values of all edges, (b, o, i), with an
            axis a at the end where the program reads several observables; and a state that is
            handed to `backward`, small or None.
        """

    def backward(self, call: LayerCall, grad: Tensor, state: Any) -> Gradients:
        """The gradients of Σ grad·output.

        Args:
            call: As `forward` had it; `call.needs` says which gradients are wanted.
            grad: The gradient of the output, of the output's shape.
            state: What `forward` returned, or None when that is not known any more.

        Returns:
            One gradient a tensor of the call, None where none is wanted.

        Raises:
            SimulatorError: The engine has no backward pass of its own.
        """
        raise SimulatorError(f"The engine {self.name!r} leaves its gradients to torch's autograd.")
