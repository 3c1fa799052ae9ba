"""The two stages of `distill_ffn`, and the loop that takes their steps."""

from __future__ import annotations

import math
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
from qkan.training.batches import Batches, seeded_pass
from qkan.training.checkpoint import Checkpoint
from qkan.training.loop import Loop

from .block_pairs import BlockPair
from .comparison import Mask, OutputLoss, call, find_mask


@dataclass(repr=False)
class Distillation:
    """The course of one `distill_ffn`.

    Attributes:
        layers: For each block, by name, its relative squared error Σ (student - teacher)² /
            Σ teacher² at each step of the first stage, on the step's batch and before the step.
        end_to_end: The loss between the outputs at each step of the second stage, on the step's
            batch and before the step.
        guidance: The share α of the old blocks at each step of the second stage.
        seconds: Time from the start to the end of each step of both stages, without interruptions.

    Example:
        >>> Distillation({"h.0.mlp": [1.0, 0.25], "h.1.mlp": [1.0, 0.5]}, [], [0.1, 0.2])
        Distillation(2 blocks, 2 steps, relative error 0.25 to 0.5, 0.2 s)
    """

    layers: dict[str, list[float]] = field(default_factory=dict)
    end_to_end: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    guidance: list[float] = field(default_factory=list)

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
        """Return all attributes as a dict of JSON values."""
        return asdict(self)


@dataclass(eq=False)
class Stage(ABC):
    """Steps of one kind.

    Attributes:
        trained: The module that learns.
        optimizer: The optimizer of its parameters.
        scheduler: The scheduler of the optimizer, or None.
        steps: The number of steps to take in all.
        teacher: The model to learn from.
        taken: Steps that have been taken.
    """

    trained: nn.Module
    optimizer: torch.optim.Optimizer
    scheduler: LRScheduler | None
    steps: int
    teacher: nn.Module
    taken: int = field(default=0, init=False)

    @abstractmethod
    def gradients(self, batch: Any) -> dict[str, float]:
        """Add a batch's gradients to the parameters; return the losses before the step."""

    @abstractmethod
    def record(self, losses: dict[str, float], history: Distillation) -> None:
        """Add the losses of a step to the history."""

    def step(self, batch: Any, number: int) -> dict[str, float]:
        """Take one step and return the losses before it.

        Raises:
            QKANError: A loss or a gradient is not finite; no parameter has changed then.
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
                f"distill_ffn: at step {number} these are not finite: {found}. The student is as "
                "it was before that step. Lower lr, or look at the batch and the models."
            )
        self.optimizer.step()
        if self.scheduler is not None:
            self.scheduler.step()
        return losses


@dataclass(eq=False)
class BlockStage(Stage):
    """Steps in which each block learns to map the teacher's inputs to the teacher's outputs."""

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
    """Steps in which the student learns the teacher's outputs.

    In the first `guided` of them each replaced block returns α·old(x) + (1 - α)·new(x), where old
    is the teacher's block, which does not learn (arXiv 2406.16450).
    """

    student: nn.Module
    loss: OutputLoss
    pairs: list[BlockPair]
    guided: int = 0

    @property
    def alpha(self) -> float:
        """The share of the old blocks in the next step, from near 1 to 0 along a cosine."""
        if self.taken >= self.guided:
            return 0.0
        # never 1, since the new blocks would not learn then, and never 0 within the guided steps
        return (1 + math.cos(math.pi * (self.taken + 1) / (self.guided + 1))) / 2

    @override
    def gradients(self, batch: Any) -> dict[str, float]:
        with torch.no_grad():
            wanted = call(self.teacher, batch)
        with ExitStack() as stack:
            stack.enter_context(_only_trainable(self.trained, self.student))
            if self.alpha:
                stack.enter_context(_only_trainable(self.trained, self.teacher))
                for pair in self.pairs:
                    stack.enter_context(pair.guiding(self.alpha))
            loss = self.loss(call(self.student, batch), wanted, batch)
            if not isinstance(loss, torch.Tensor) or loss.numel() != 1 or not loss.requires_grad:
                raise QKANError(
                    "distill_ffn: the loss must be a scalar tensor that depends on the student; "
                    f"found a {type(loss).__name__} {getattr(loss, 'shape', '')}."
                )
            loss.reshape(()).backward()
        return {"loss": loss.item()}

    @override
    def record(self, losses: dict[str, float], history: Distillation) -> None:
        history.end_to_end.append(losses["loss"])
        history.guidance.append(self.alpha)


@contextmanager
def _only_trainable(trained: nn.Module, model: nn.Module) -> Iterator[None]:
    """Compute no gradients of the parameters that do not learn while this lasts."""
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
    """An endless sequence of batches of any kind, pass after pass, that can resume at any place.

    Args:
        source: Batches that can be iterated over repeatedly.
        generator: Determines the order, where the source draws it from torch's global generator.
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
        return seeded_pass(source, self._seed(epoch))


@dataclass(eq=False)
class DistillLoop(Loop):
    """The loop behind `distill_ffn`: the steps of its stages, one stage after the other.

    Attributes:
        stages: The stages in their order.
        batches: The data of all stages.
        replaced: The new modules, which train in training mode.
        checkpoint: The file of the state.
        identity: Arguments and seed, which the file holds beside the state.
        history: The course so far.
        at: The number of the current stage, and the steps taken in it.
    """

    stages: Sequence[Stage]
    batches: Stream
    replaced: nn.Module
    checkpoint: Checkpoint | None = None
    identity: dict[str, Any] = field(default_factory=dict)
    history: Distillation = field(default_factory=Distillation)
    at: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        self.device = next(self.replaced.parameters()).device
        self._total = sum(stage.steps for stage in self.stages)

    @property
    @override
    def seconds(self) -> list[float]:
        return self.history.seconds

    @property
    @override
    def learner(self) -> tuple[nn.Module, torch.optim.Optimizer, LRScheduler | None]:
        stage = self.stages[self.at[0]]
        return stage.trained, stage.optimizer, stage.scheduler

    @property
    @override
    def finished(self) -> bool:
        return len(self.seconds) >= self._total

    @override
    def take_step(self) -> dict[str, float | None]:
        number, taken = self.at
        while taken >= self.stages[number].steps:
            number, taken = number + 1, 0
        stage = self.stages[number]
        stage.taken = taken
        losses = stage.step(self.batches.take(), len(self.seconds) + 1)
        stage.record(losses, self.history)
        self.history.seconds.append(self.elapsed())
        self.at = (number, taken + 1)
        return {"loss": sum(losses.values()) / len(losses)}

    def run(self, progress: bool) -> Distillation:
        """Take all steps that are left."""
        done = len(self.seconds)
        with (
            evaluating(self.stages[0].teacher),
            in_mode(self.replaced, training=True),
            module_by_module(),
            Progress(self._total, "distill", enabled=progress, done=done) as bar,
        ):
            self.take_steps(bar)
        return self.history

    def restore(self, saved: dict[str, Any]) -> None:
        """Resume from the contents of the checkpoint's file."""
        state = saved["state"]
        self.at = (state["stage"], state["taken"])
        self.restore_common(state, state)
        self.history = Distillation(**state["history"])

    @override
    def state(self) -> dict[str, Any]:
        return {
            "steps": len(self.seconds),
            "stage": self.at[0],
            "taken": self.at[1],
            "tensors": self.tensors(),
            **self.common_state(),
            "history": self.history.to_dict(),
        }


@contextmanager
def module_by_module() -> Iterator[None]:
    """Make torch's encoder layers call their modules, not a fused kernel, while this lasts."""
    found = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(found)
