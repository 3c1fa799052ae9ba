"""`FitLoop`: the loop behind `fit`, with all of its state."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from torch.utils.data import DataLoader
from typing_extensions import override

from qkan._losses import Loss
from qkan._progress import Progress, progress_bar
from qkan.errors import DivergenceWarning, QKANError, warn
from qkan.nn.network import no_range_warnings
from qkan.nn.watch import evaluating, in_mode

from .batches import Batches, Pair, Source, first_fault, loader_batches, tensor_batches
from .checkpoint import Checkpoint, load_tensors
from .history import History
from .loop import Loop
from .ranks import Ranks
from .units import Units, warn_of_units

_DIVERGED = 10
"""Training has diverged if the last loss is this many times the first one."""


@dataclass
class FitLoop(Loop):
    """One run of `fit`: its parts, its state, and how it continues, ends and resumes.

    Attributes:
        model: The model, which is trained in place.
        optimizer: The optimizer of the model's parameters.
        scheduler: The scheduler of the optimizer, or None.
        batches: The batches of the training data.
        loss: The function that is minimised.
        steps: The total number of steps.
        validation: The data that decide which parameters are best.
        batch_size: The batch size of the validation.
        patience: The number of evaluations without a lower validation loss that ends the run.
        checkpoint: The file of the state.
        units: The units of the targets, if they differ from those of the model's outputs. While the
            loop runs the model computes outputs of its own size; afterwards its last layer has the
            units.
        identity: Arguments and seed, which the checkpoint holds beside the state.
        history: The course so far.
        best: The tensors with the lowest validation loss.
        waited: The number of evaluations since the lowest validation loss.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    scheduler: LRScheduler | None
    batches: Batches
    loss: Loss
    steps: int
    validation: Source | None = None
    batch_size: int | None = None
    patience: int | None = None
    checkpoint: Checkpoint | None = None
    units: Units | None = None
    identity: dict[str, Any] = field(default_factory=dict)
    history: History = field(default_factory=History)
    best: dict[str, Tensor] | None = None
    waited: int = 0

    def __post_init__(self) -> None:
        self._ranks = Ranks(self.model)
        self.device = next(self.model.parameters()).device
        self._units_checked = False
        self._hint = ""

    @property
    @override
    def seconds(self) -> list[float]:
        return self.history.seconds

    @property
    @override
    def learner(self) -> tuple[nn.Module, torch.optim.Optimizer, LRScheduler | None]:
        return self.model, self.optimizer, self.scheduler

    @property
    @override
    def finished(self) -> bool:
        exhausted = self.patience is not None and self.waited >= self.patience
        return exhausted or len(self.history) >= self.steps

    def restore(self, state: dict[str, Any]) -> None:
        """Resume from the entry "state" of a checkpoint."""
        own = [{"batches": state["batches"], "rng": state["rng"]}, *state.get("others", ())]
        if len(own) != self._ranks.count:
            raise QKANError(
                f"The checkpoint was written by {len(own)} processes and is read by "
                f"{self._ranks.count}; resume with as many as before."
            )
        self.restore_common(state, own[self._ranks.number])
        self.best, self.waited = state["best"], state["waited"]
        self.history = History(**state["history"])
        self.units = Units(**state["units"]) if state.get("units") else None

    def run(self, progress: bool | Progress) -> History:
        """Take the steps that are left; leave the best parameters in the model.

        Raises:
            QKANError: The loss or a parameter is not finite; the model then has the best
                parameters, or the last ones whose loss was finite.
        """
        self._boundary = self._capture()
        self._good = self._boundary["tensors"]
        try:
            self._train(progress if self._ranks.first else False)
        finally:
            if self.units is not None:
                self.units.move_into(self._ranks.module)
                self.history.target_scale = [*self.units.scale]
                self.history.target_offset = [*self.units.offset]
        self._warn_of_divergence()
        return self.history

    def _train(self, progress: bool | Progress) -> None:
        """Take the steps and leave the best parameters, for outputs of the model's own size."""
        shown = progress_bar(progress, self.steps, "fit", done=len(self.history))
        # modules in evaluation mode within a model in training mode are so on purpose
        mode = nullcontext() if self.model.training else in_mode(self.model, training=True)
        try:
            with shown as bar, no_range_warnings(), mode:
                self.take_steps(bar)
                self.history.stopped_early = len(self.history) < self.steps
                # a run with more steps would not evaluate here, so the checkpoint is written before
                if self.validation is not None and self.history.validation_loss[-1] is None:
                    self._evaluate(self.validation)
        except KeyboardInterrupt:
            # if one process alone went back, the others would wait for it
            if self._ranks.count > 1:
                raise
            self._go_back()
        if self.best is not None:
            load_tensors(self.model, self.best)
        self.model.zero_grad()

    def _warn_of_divergence(self) -> None:
        losses = self.history.train_loss
        # minibatches may differ in difficulty
        last = losses[-1:] if self.batches.are_all_data else losses[len(losses) // 2 :]
        self.history.diverged = len(losses) > 1 and min(last) > _DIVERGED * abs(losses[0])
        if self.history.diverged and self._ranks.first:
            rates = self.history.learning_rate
            warn(
                f"The training diverged: the loss began at {losses[0]:.4g} and ended at "
                f"{losses[-1]:.4g}, lowest {min(losses):.4g} after step "
                f"{1 + losses.index(min(losses))}, with learning rates up to {max(rates):.4g}. "
                "Lower lr and begin with a new model, or pass validation= to keep the best one.",
                DivergenceWarning,
            )

    @override
    def take_step(self) -> dict[str, float | None]:
        self._step()
        self._after_step()
        self._boundary = self._capture()
        history = self.history
        return {"loss": history.train_loss[-1], "validation": history.validation_loss[-1]}

    @override
    def is_due(self) -> bool:
        return self.checkpoint is not None and self._ranks.agree(self.checkpoint.due)

    def _step(self) -> None:
        """Take one step and record it."""
        x, y = self.batches.take()
        rate = float(self.optimizer.param_groups[0]["lr"])
        values: list[float] = []

        def closure() -> Tensor:
            self.optimizer.zero_grad()
            loss = self._loss(self.model(x), y)
            if not values:
                values.append(self._check_start(loss, (x, y)))
            if self.units is not None:
                loss = loss / self.units.reference
            loss.backward()
            return loss

        self.optimizer.step(closure)  # type: ignore[arg-type]
        value = values[0]
        if isinstance(self.optimizer, torch.optim.LBFGS):
            with torch.no_grad():
                value = self._loss(self.model(x), y).item()
        self._check_end(value)
        self.history.append(value, rate, self.elapsed())

    def _loss(self, output: Tensor, y: Tensor) -> Tensor:
        """The loss in the units of the targets."""
        if not isinstance(output, Tensor):
            raise QKANError(
                f"fit: the model returns a {type(output).__name__}, but a loss needs one tensor. "
                "Wrap the model in a module that returns one, such as the outputs of a recurrent "
                "module without its state."
            )
        if not self._units_checked and self.units is None:
            self._hint = warn_of_units(output, y)
        self._units_checked = True
        return self.loss(output if self.units is None else self.units.predict(output), y)

    def _check_start(self, loss: Tensor, batch: Pair) -> float:
        """Return the loss before the step as a number."""
        if not loss.requires_grad:
            raise QKANError(
                "The loss does not depend on any trainable parameter: check that the model's "
                "output is not detached and that the loss uses it."
            )
        value = self._ranks.mean(loss.item())
        if not math.isfinite(value):
            faults = [
                f" The batch's {name}: {fault}."
                for name, fault in zip("xy", map(first_fault, batch), strict=True)
                if fault is not None
            ]
            self._fail(f"The loss is {value} at step {len(self.history) + 1}.{''.join(faults)}")
        self._good = self._boundary["tensors"]
        return value

    def _check_end(self, value: float) -> None:
        step = len(self.history) + 1
        if not math.isfinite(value):
            self._fail(f"The loss is {value} after step {step}.")
        held = [p for group in self.optimizer.param_groups for p in group["params"]]
        with torch.no_grad():
            largest = nn.utils.get_total_norm(held, norm_type=math.inf)
        if not torch.isfinite(largest):
            self._fail(f"A parameter is not finite after step {step}, since its gradient is not.")

    def _fail(self, reason: str) -> None:
        kept = "best" if self.best is not None else "last good"
        load_tensors(self.model, self.best or self._good)
        advice = self._hint or "Lower lr, or look at the loss, the model and the data there."
        raise QKANError(f"{reason} The model has its {kept} parameters back. {advice}")

    def _after_step(self) -> None:
        """Evaluate at the end of an epoch, and update the learning rate."""
        value = None
        if self.batches.ended and self.validation is not None:
            value = self._evaluate(self.validation)
        if isinstance(self.scheduler, ReduceLROnPlateau):
            if self.batches.ended:
                epoch = self.history.train_loss[-self.batches.taken :]
                self.scheduler.step(sum(epoch) / len(epoch) if value is None else value)
        elif self.scheduler is not None:
            self.scheduler.step()

    def _evaluate(self, source: Source) -> float:
        """Record the validation loss after the latest step, and the parameters if it is best."""
        total, samples = 0.0, 0.0
        cuda = [self.device] if self.device.type == "cuda" else []
        with torch.no_grad(), torch.random.fork_rng(cuda), evaluating(self.model):
            for x, y in self._validation_batches(source):
                # the wrapper would wait for processes with fewer batches
                total += self._loss(self._ranks.module(x), y).item() * len(x)
                samples += len(x)
        total, samples = self._ranks.total(total, samples)
        if samples == 0:
            raise QKANError("The validation data is empty: the DataLoader yields no batch.")
        value, history = total / samples, self.history
        if not math.isfinite(value):
            self._fail(f"The validation loss is {value} after step {len(history)}.")
        history.validation_loss[-1] = value
        best = None if history.best_step is None else history.validation_loss[history.best_step - 1]
        self.waited += 1
        if best is None or value < best:
            history.best_step, self.best, self.waited = len(history), self.tensors(), 0
        return value

    def _validation_batches(self, source: Source) -> Iterator[Pair]:
        if isinstance(source, DataLoader):
            return loader_batches(source, self.device, seed=0)
        samples = len(source[0])
        indices = torch.arange(samples).split(self.batch_size or samples)
        return tensor_batches(source, indices, self.device)

    def _go_back(self) -> None:
        """Undo the step that Ctrl-C cut short."""
        load_tensors(self.model, self._boundary["tensors"])
        self.best, self.waited = self._boundary["best"], self._boundary["waited"]
        self.history = self._history()
        self.history.interrupted = True
        self.write()

    def _capture(self) -> dict[str, Any]:
        """The state between two steps; without a checkpoint, the part that `_go_back` needs."""
        state: dict[str, Any] = {
            "tensors": self.tensors(),
            "best": self.best,
            "waited": self.waited,
            "steps": len(self.history),
            "best_step": self.history.best_step,
        }
        if self.checkpoint is not None:
            state["units"] = None if self.units is None else asdict(self.units)
            state |= self.common_state()
        return state

    def _history(self) -> History:
        """The history as it was when the state was captured."""
        steps, best_step = self._boundary["steps"], self._boundary["best_step"]
        return replace(self.history.head(steps), best_step=best_step)

    @override
    def state(self) -> dict[str, Any]:
        return {**self._boundary, "history": self._history().to_dict()}

    @override
    def write(self) -> None:
        if self.checkpoint is None:
            return
        state = self.state()
        if self._ranks.count > 1:
            # each process has its own position in its own data, and its own random numbers
            found = self._ranks.all({name: state[name] for name in ("batches", "rng")})
            state["others"] = found[1:]
        if self._ranks.first:
            self.checkpoint.write({**self.identity, "state": state})
