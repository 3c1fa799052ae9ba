"""The two stages of `distill_ffn`, step by step, and how a run goes on where it stopped."""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler
from typing_extensions import override

from qkan._progress import Progress
from qkan.errors import QKANError
from qkan.nn.watch import evaluating, in_mode
from qkan.training.batches import Batches, isolated
from qkan.training.checkpoint import (
    Checkpoint,
    copied,
    load_tensors,
    model_tensors,
    rng_state,
    set_rng_state,
)

from .block_pairs import BlockPair
from .comparison import Mask, OutputLoss, call, find_mask


@dataclass(repr=False)
class Distillation:
    """The course of one `distill_ffn`.

    Attributes:
        layers: For each block, by name, its relative squared error Σ (student - teacher)² /
            Σ teacher² at each step of the first stage, on the step's batch and before the step.
        end_to_end: The loss between the outputs at each step of the second stage, likewise.
        seconds: Since the start, up to the end of each step of both stages; an interruption does
            not count.

    Example:
        >>> Distillation({"h.0.mlp": [1.0, 0.25], "h.1.mlp": [1.0, 0.5]}, [], [0.1, 0.2])
        Distillation(2 blocks, 2 steps, relative error 0.25 to 0.5, 0.2 s)
    """

    layers: dict[str, list[float]] = field(default_factory=dict)
    end_to_end: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def __repr__(self) -> str:
        steps = len(self.seconds) - len(self.end_to_end)
        parts = [f"{len(self.layers)} blocks, {steps} steps"]
        if steps:
            last = [errors[-1] for errors in self.layers.values()]
            parts.append(f"relative error {min(last):.3g} to {max(last):.3g}")
        if self.end_to_end:
            parts.append(f"{len(self.end_to_end)} end to end, loss {self.end_to_end[-1]:.3g}")
        parts += [f"{self.seconds[-1]:.3g} s"] if self.seconds else []
        return f"Distillation({', '.join(parts)})"

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON values, by attribute."""
        return asdict(self)


@dataclass(eq=False)
class Stage(ABC):
    """Steps of one kind.

    Attributes:
        trained: What learns.
        optimizer: Of its parameters.
        scheduler: Of the optimizer.
        steps: To take in all.
        teacher: What it learns from.
    """

    trained: nn.Module
    optimizer: torch.optim.Optimizer
    scheduler: LRScheduler | None
    steps: int
    teacher: nn.Module

    @abstractmethod
    def gradients(self, batch: Any) -> dict[str, float]:
        """Add a batch's gradients to the parameters; return the losses before the step."""

    @abstractmethod
    def record(self, losses: dict[str, float], history: Distillation) -> None:
        """Write the losses down."""

    def step(self, batch: Any, number: int) -> dict[str, float]:
        """Take one step and return the losses before it.

        Raises:
            QKANError: A loss or gradient that is not finite; no parameter has moved then.
        """
        self.optimizer.zero_grad()
        losses = self.gradients(batch)
        held = [p for group in self.optimizer.param_groups for p in group["params"]]
        size = nn.utils.get_total_norm([p.grad for p in held if p.grad is not None], math.inf)
        wrong = [f"{name}: {loss}" for name, loss in losses.items() if not math.isfinite(loss)]
        if wrong or not torch.isfinite(size):
            found = ", ".join(wrong[:3]) or "a gradient"
            self.optimizer.zero_grad()
            raise QKANError(
                f"distill_ffn: not finite at step {number}: {found}. The student is as it was "
                "before that step. Lower lr, or look at the batch and the models."
            )
        self.optimizer.step()
        if self.scheduler is not None:
            self.scheduler.step()
        return losses


@dataclass(eq=False)
class BlockStage(Stage):
    """Each block from the teacher's inputs to the teacher's outputs."""

    pairs: list[BlockPair]
    mask: Mask | None

    @override
    def gradients(self, batch: Any) -> dict[str, float]:
        with ExitStack() as stack:
            for pair in self.pairs:
                pair.begin(find_mask(self.teacher, batch, pair.name, self.mask))
                stack.enter_context(pair.watching())
            stack.enter_context(torch.no_grad())
            call(self.teacher, batch)
        return {pair.name: pair.finish() for pair in self.pairs}

    @override
    def record(self, losses: dict[str, float], history: Distillation) -> None:
        for name, loss in losses.items():
            history.layers[name].append(loss)


@dataclass(eq=False)
class OutputStage(Stage):
    """Both models from the batch to their outputs."""

    student: nn.Module
    loss: OutputLoss

    @override
    def gradients(self, batch: Any) -> dict[str, float]:
        with torch.no_grad():
            wanted = call(self.teacher, batch)
        with _only_trainable(self.trained, self.student):
            loss = self.loss(call(self.student, batch), wanted, batch)
            if not isinstance(loss, torch.Tensor) or loss.numel() != 1 or not loss.requires_grad:
                raise QKANError(
                    "distill_ffn: the loss is no scalar tensor that depends on the student; "
                    f"found {type(loss).__name__} {getattr(loss, 'shape', '')}."
                )
            loss.reshape(()).backward()
        return {"loss": loss.item()}

    @override
    def record(self, losses: dict[str, float], history: Distillation) -> None:
        history.end_to_end.append(losses["loss"])


@contextmanager
def _only_trainable(trained: nn.Module, model: nn.Module) -> Iterator[None]:
    """No gradients for the parameters of the model that do not learn, for a while."""
    own = set(trained.parameters())
    frozen = [p for p in model.parameters() if p.requires_grad and p not in own]
    try:
        for parameter in frozen:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(True)


class Stream(Batches):
    """An endless row of batches of any kind, pass after pass, that can be put back at any place.

    Args:
        source: What can be gone through.
        generator: Rules the order, where the source draws it from torch's global generator.
    """

    def __init__(self, source: Iterable[Any], generator: torch.Generator) -> None:
        anything: Any = source
        super().__init__(anything, None, generator, torch.device("cpu"))

    @override
    def _begin(self, epoch: int, taken: int) -> None:
        source: Any = self._source
        if epoch > 1 and iter(source) is source:
            raise QKANError(
                f"distill_ffn: batches is a one-shot iterator and ran out after {self.taken} "
                "batches; pass a list, a DataLoader, or fewer steps."
            )
        super()._begin(epoch, taken)

    @override
    def _batches(self, epoch: int) -> Iterator[Any]:
        source: Any = self._source
        return isolated(source, self._seed(epoch))


@dataclass(eq=False)
class Run:
    """A run through the stages, and what it takes to stop and go on.

    Attributes:
        stages: In their order.
        batches: What they learn from, one row for both.
        replaced: The new modules, which train in training mode.
        file: Where the state is kept.
        identity: What the file holds beside the state.
        history: The course so far.
        at: The stage, and the steps taken in it.
    """

    stages: Sequence[Stage]
    batches: Stream
    replaced: nn.Module
    file: Checkpoint | None = None
    identity: dict[str, Any] = field(default_factory=dict)
    history: Distillation = field(default_factory=Distillation)
    at: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        self._device = next(self.replaced.parameters()).device

    def go(self, progress: bool) -> None:
        """Take all steps that are left."""
        start = time.perf_counter() - (self.history.seconds or [0.0])[-1]
        total = sum(stage.steps for stage in self.stages)
        done = len(self.history.seconds)
        with (
            evaluating(self.stages[0].teacher),
            in_mode(self.replaced, training=True),
            _module_by_module(),
            Progress(total, "distill", enabled=progress, done=done) as bar,
        ):
            for number, stage in enumerate(self.stages):
                while self.at[0] == number and self.at[1] < stage.steps:
                    losses = stage.step(self.batches.take(), len(self.history.seconds) + 1)
                    stage.record(losses, self.history)
                    self.history.seconds.append(time.perf_counter() - start)
                    self.at = (number, self.at[1] + 1)
                    if self.file is not None and self.file.due:
                        self._write(self.file)
                    bar.advance(loss=sum(losses.values()) / len(losses))
                if self.at[0] == number and number + 1 < len(self.stages):
                    self.at = (number + 1, 0)
        if self.file is not None and len(self.history.seconds) > done:
            self._write(self.file)

    def restore(self, file: Checkpoint, saved: dict[str, Any]) -> None:
        """Go on from what the file holds."""
        total = sum(stage.steps for stage in self.stages)
        file.compare(saved, self.identity["arguments"], total)
        state = saved["state"]
        self.at = (state["stage"], state["taken"])
        stage = self.stages[self.at[0]]
        load_tensors(stage.trained, state["tensors"])
        stage.optimizer.load_state_dict(state["optimizer"])
        if stage.scheduler is not None:
            stage.scheduler.load_state_dict(state["scheduler"])
        self.batches.restore(state["batches"])
        set_rng_state(state["rng"], self._device)
        self.history = Distillation(**state["history"])

    def _write(self, file: Checkpoint) -> None:
        stage = self.stages[self.at[0]]
        state = {
            "steps": len(self.history.seconds),
            "stage": self.at[0],
            "taken": self.at[1],
            "tensors": {n: t.detach().clone() for n, t in model_tensors(stage.trained).items()},
            "optimizer": copied(stage.optimizer.state_dict()),
            "scheduler": stage.scheduler and copied(stage.scheduler.state_dict()),
            "batches": self.batches.state(),
            "rng": rng_state(self._device),
            "history": self.history.to_dict(),
        }
        file.write({**self.identity, "state": state})


@contextmanager
def _module_by_module() -> Iterator[None]:
    """Torch's encoder layers call their modules for a while, where it could do without them."""
    found = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(found)
