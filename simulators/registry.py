"""The registered engines, the choice of an engine for a request, and its explanation."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch

from qkan.circuits import did_you_mean

from .axes import seen_by
from .call import Request, is_tracing
from .engine import Engine
from .errors import SimulatorError

_ENGINES: dict[str, Engine] = {}

_EXPORTED = ("fourier", "torch")
"""The engines that consist of plain torch operators in an exported graph, the faster one first."""


def register_engine(engine: Engine) -> None:
    """Register an engine under its name for `engine=`, `auto` and `explain`.

    `qkan.simulators.testing.check_engine` tests whether it agrees with the others.

    Args:
        engine: An instance of an `Engine`.

    Raises:
        SimulatorError: It is not an engine, or its name is missing or taken.
    """
    name = getattr(engine, "name", None)
    if not isinstance(engine, Engine):
        raise SimulatorError(
            f"register_engine: got {engine!r}; pass an instance of a subclass of Engine."
        )
    if not isinstance(name, str) or not name or name == "auto":
        raise SimulatorError(
            f"register_engine: the name of {type(engine).__name__} is {name!r}; give it a name "
            "that is a text other than 'auto'."
        )
    if name in _ENGINES:
        raise SimulatorError(
            f"register_engine: there is an engine {name!r} already, "
            f"{type(_ENGINES[name]).__name__}; choose another name."
        )
    _ENGINES[name] = engine
    _cached.cache_clear()


def engines() -> tuple[str, ...]:
    """Return the names of all engines, whether or not this machine can run them."""
    return tuple(_ENGINES)


def get_engine(name: str) -> Engine:
    """Return the engine of that name.

    Raises:
        SimulatorError: The name is unknown; the nearest one is suggested.
    """
    if name not in _ENGINES:
        raise SimulatorError(f"Unknown engine {name!r}. {did_you_mean(name, [*_ENGINES, 'auto'])}")
    return _ENGINES[name]


def select(name: str, request: Request) -> Engine:
    """Return the engine for a request: the named one, or for "auto" the fastest one that can run
    it.

    In an exported or traced graph "auto" is an engine of plain operators, for any batch.

    Raises:
        SimulatorError: The engine is unknown, or refuses; the message has its reason.
    """
    # a compiler would warn of the cache, so it traces the choice itself
    traced = torch.compiler.is_compiling() or is_tracing()
    return _select(name, request) if traced else _cached(name, request)


def _select(name: str, request: Request) -> Engine:
    if name == "auto":
        # an exported program runs on other machines and batches, so costs here do not matter
        return _exported(request) if is_exporting() else _cheapest(request)
    engine = get_engine(name)
    reason = engine.refuse(seen_by(engine, request))
    if reason is not None:
        others = ", ".join(n for n, e in _ENGINES.items() if e.refuse(seen_by(e, request)) is None)
        raise SimulatorError(
            f"engine={name!r} cannot run this: {reason}. "
            f"Engines that can: {others or 'none'}; engine='auto' chooses."
        )
    return engine


def _cheapest(request: Request) -> Engine:
    best, least = None, float("inf")
    for engine in _ENGINES.values():
        seen = seen_by(engine, request)
        if engine.refuse(seen) is None:
            cost = engine.cost(seen)
            if cost < least:
                best, least = engine, cost
    if best is None:
        raise SimulatorError(f"No engine can run this:\n{explain(request)}")
    return best


def is_exporting() -> bool:
    """Whether `torch.export`, `torch.jit.trace` or an exporter built on them traces this call."""
    # torch 2.6 cannot tell an exporter from a compiler
    ask = getattr(torch.compiler, "is_exporting", None)
    if torch.compiler.is_compiling():
        return ask is not None and bool(ask())
    return is_tracing()


def _exported(request: Request) -> Engine:
    able = (_ENGINES[name] for name in _EXPORTED)
    return next(engine for engine in able if engine.refuse(seen_by(engine, request)) is None)


_cached = functools.lru_cache(maxsize=4096)(_select)


@dataclass(frozen=True, slots=True)
class Explanation:
    """The engine that `auto` takes, and why; print it to read it.

    Attributes:
        engine: The name of the chosen engine, or None if all refuse.
        verdicts: For each engine, its name, and its reason for refusing or its estimated cost.
        task: The task of the engine, in words.
    """

    engine: str | None
    verdicts: tuple[tuple[str, str], ...]
    task: str = ""

    def __str__(self) -> str:
        lines = [
            f"{'→' if name == self.engine else ' '} {name:<10} {verdict}"
            for name, verdict in self.verdicts
        ]
        return "\n".join([*lines, self.task] if self.task else lines)

    def __repr__(self) -> str:
        refuse = sum(verdict.startswith("refuses") for _, verdict in self.verdicts)
        chosen = self.engine or "no engine"
        verdict = dict(self.verdicts).get(self.engine or "", "")
        return (
            f"Explanation({chosen}{verdict and f', {verdict}'}; {refuse} of {len(self.verdicts)} "
            "engines refuse; print it for the reasons)"
        )


def _estimate(cost: float) -> str:
    if cost == float("inf"):
        return "not worthwhile: more terms than a product saves; the fused kernel runs instead"
    return f"estimated {1e3 * cost:.3g} ms a training step"


def explain(request: Request) -> Explanation:
    """Explain which engine `auto` takes for a request, and why not the others."""
    verdicts, costs = [], {}
    for name, engine in _ENGINES.items():
        seen = seen_by(engine, request)
        reason = engine.refuse(seen)
        if reason is None:
            costs[name] = engine.cost(seen)
            verdicts.append((name, _estimate(costs[name])))
        else:
            verdicts.append((name, f"refuses: {reason}"))
    chosen = min(costs, key=lambda name: costs[name]) if costs else None
    return Explanation(chosen, tuple(verdicts), _task(request))


def _task(request: Request) -> str:
    if request.per_edge and request.batched_theta:
        return (
            f"for {request.edges} activations at {request.batch} phases, from which their sums of "
            "sinusoids follow; one pass adds these to every input"
        )
    return f"for {request.edges} circuits at {request.batch} samples"
