"""Engines: who they are, which of them takes a request, and why not the others.

An engine evaluates φ on every (sample, output, input) edge, or its weighted sum over inputs. It
consumes a `Program` (or the circuit in it) and never an ansatz name. Letters: b samples, o outputs,
i inputs, k theta slots, u encodings.
"""

from __future__ import annotations

import functools
import importlib
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from qkan.circuits import Program, did_you_mean

from .errors import SimulatorError


@dataclass(frozen=True, slots=True)
class Request:
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
    """

    program: Program
    batch: int
    out_features: int
    in_features: int
    dtype: torch.dtype = torch.float32
    device: torch.device = torch.device("cpu")
    fixed_scale: tuple[float, ...] | None = None
    per_edge: bool = False
    batched_theta: bool = False
    noise: bool = False

    @property
    def edges(self) -> int:
        """Number of (output, input) edges."""
        return self.out_features * self.in_features


class Engine(ABC):
    """A way to run a program on every edge. All shapes below broadcast over leading dimensions.

    Attributes:
        name: What users write in `engine=`.
    """

    name: str

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


_MODULES = {
    "reference": ("qkan.simulators.reference", "ReferenceEngine"),
    "torch": ("qkan.simulators.bloch", "TorchEngine"),
}


def engines() -> tuple[str, ...]:
    """The names of all engines, whether or not this machine can run them."""
    return tuple(_MODULES)


@functools.cache
def get_engine(name: str) -> Engine:
    """Return the engine of that name; its module is imported now, not before.

    Raises:
        SimulatorError: An unknown name; the nearest one is suggested.
    """
    if name not in _MODULES:
        raise SimulatorError(f"Unknown engine {name!r}. {did_you_mean(name, [*_MODULES, 'auto'])}")
    module, cls = _MODULES[name]
    engine: Engine = getattr(importlib.import_module(module), cls)()
    return engine


@functools.lru_cache(maxsize=4096)
def select(name: str, request: Request) -> Engine:
    """Return the engine for a request: the named one, or for "auto" the fastest that runs it.

    Raises:
        SimulatorError: An unknown engine, or the named one refuses; the message has its reason.
    """
    if name == "auto":
        return get_engine(explain(request).engine)
    engine = get_engine(name)
    reason = engine.refuse(request)
    if reason is not None:
        others = ", ".join(n for n in engines() if get_engine(n).refuse(request) is None)
        raise SimulatorError(
            f"engine={name!r} cannot run this: {reason}. "
            f"Engines that can: {others or 'none'}; engine='auto' chooses."
        )
    return engine


@dataclass(frozen=True, slots=True)
class Explanation:
    """Which engine `auto` takes and what it thinks of each; `print` it.

    Attributes:
        engine: The chosen one.
        verdicts: For each engine its reason to refuse, or its estimated cost.
    """

    engine: str
    verdicts: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        lines = [
            f"{'→' if name == self.engine else ' '} {name:<10} {verdict}"
            for name, verdict in self.verdicts
        ]
        return "\n".join(lines)


def explain(request: Request) -> Explanation:
    """Say which engine `auto` takes for a request, and why not the others.

    Raises:
        SimulatorError: No engine runs it.
    """
    verdicts, costs = [], {}
    for name in engines():
        engine = get_engine(name)
        reason = engine.refuse(request)
        if reason is None:
            costs[name] = engine.cost(request)
            verdicts.append((name, f"estimated {1e3 * costs[name]:.3g} ms a training step"))
        else:
            verdicts.append((name, f"refuses: {reason}"))
    if not costs:
        raise SimulatorError("No engine can run this:\n" + "\n".join(map(": ".join, verdicts)))
    return Explanation(min(costs, key=lambda name: costs[name]), tuple(verdicts))


