"""`Loop`: the steps of `fit` and `distill_ffn`, with a progress bar and a checkpoint."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from qkan._progress import Progress

from .batches import Batches
from .checkpoint import Checkpoint, copied, load_tensors, model_tensors, rng_state, set_rng_state


class Loop(ABC):
    """A sequence of steps that can stop and later resume exactly.

    Attributes:
        batches: The batches of the training data.
        checkpoint: The file of the state, or None.
        identity: Arguments and seed, which the file holds beside the state.
        device: The device on which the model draws random numbers.
    """

    batches: Batches
    checkpoint: Checkpoint | None
    identity: dict[str, Any]
    device: torch.device

    @property
    @abstractmethod
    def seconds(self) -> list[float]:
        """The time from the beginning to the end of each step so far."""

    @property
    @abstractmethod
    def learner(self) -> tuple[nn.Module, torch.optim.Optimizer, LRScheduler | None]:
        """The module that learns in the current step, its optimizer and its scheduler."""

    @property
    @abstractmethod
    def finished(self) -> bool:
        """Whether no step is left."""

    @abstractmethod
    def take_step(self) -> dict[str, float | None]:
        """Take one step, record it, and return the values for the progress bar."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """Return the state after the latest step, as stored in a checkpoint."""

    def take_steps(self, bar: Progress) -> None:
        """Take the remaining steps; write the checkpoint now and then, and at the end."""
        self._start, begun = time.perf_counter() - (self.seconds or [0.0])[-1], len(self.seconds)
        while not self.finished:
            values = self.take_step()
            if self.is_due():
                self.write()
            bar.advance(**values)
        if len(self.seconds) > begun:
            self.write()

    def elapsed(self) -> float:
        """Seconds since the run began, without interruptions; for `take_step`."""
        return time.perf_counter() - self._start

    def is_due(self) -> bool:
        """Whether it is time to write the checkpoint."""
        return self.checkpoint is not None and self.checkpoint.due

    def write(self) -> None:
        """Write the checkpoint, if there is one."""
        if self.checkpoint is not None:
            self.checkpoint.write({**self.identity, "state": self.state()})

    def tensors(self) -> dict[str, Tensor]:
        """Return copies of all parameters and buffers of the module that learns."""
        return {name: t.detach().clone() for name, t in model_tensors(self.learner[0]).items()}

    def common_state(self) -> dict[str, Any]:
        """Return the part of the state that every loop has, apart from the model's tensors."""
        _, optimizer, scheduler = self.learner
        return {
            "optimizer": copied(optimizer.state_dict()),
            "scheduler": scheduler and copied(scheduler.state_dict()),
            "batches": self.batches.state(),
            "rng": rng_state(self.device),
        }

    def restore_common(self, state: dict[str, Any], own: dict[str, Any]) -> None:
        """Restore a state; `own` has this process's position in the data and its random numbers."""
        model, optimizer, scheduler = self.learner
        load_tensors(model, state["tensors"])
        optimizer.load_state_dict(state["optimizer"])
        if scheduler is not None:
            scheduler.load_state_dict(state["scheduler"])
        self.batches.restore(own["batches"])
        set_rng_state(own["rng"], self.device)
