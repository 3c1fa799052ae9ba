"""`History`: the course of a training run."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any

from qkan._axes import new_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes


_FEW = 8
"""The fewest steps after which `still_falling` means anything; before, a loss always falls."""


@dataclass(repr=False)
class History:
    """The course of one `fit`; the lists have one entry for each step.

    Attributes:
        step: The calls of `optimizer.step`: 1, 2, ….
        train_loss: With LBFGS, the loss of the full batch after the step; with any other optimizer,
            the loss of the step's minibatch before the step, whose gradient was used.
        validation_loss: The validation loss after the step; None where it was not evaluated.
        learning_rate: The learning rate of the step, in the optimizer's first parameter group.
        seconds: Time from the start to the end of the step, without interruptions.
        best_step: The step after which the validation loss was lowest; the model has the parameters
            of that step. None without validation.
        stopped_early: Whether `patience` ended the run.
        interrupted: Whether Ctrl-C ended the run.
        diverged: Whether the training loss ended far above its first value.
        target_scale: The factor of each output that became part of the last layer, because the
            targets were far from the size of the model's outputs; otherwise None.
        target_offset: The offset that was added to each output in that case; otherwise None.

    Example:
        >>> History([1, 2], [0.5, 0.25], [None, None], [1.0, 1.0], [0.1, 0.2])
        History(2 steps, train_loss 0.25, 0.2 s)
    """

    step: list[int] = field(default_factory=list)
    train_loss: list[float] = field(default_factory=list)
    validation_loss: list[float | None] = field(default_factory=list)
    learning_rate: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    best_step: int | None = None
    stopped_early: bool = False
    interrupted: bool = False
    diverged: bool = False
    target_scale: list[float] | None = None
    target_offset: list[float] | None = None

    def __len__(self) -> int:
        """Return the number of steps."""
        return len(self.step)

    def __repr__(self) -> str:
        parts = [f"{len(self)} step{'' if len(self) == 1 else 's'}"]
        if self.train_loss:
            parts.append(f"train_loss {self.train_loss[-1]:.4g}")
        if self.best_step is not None:
            best = self.validation_loss[self.best_step - 1]
            parts.append(f"validation_loss {best:.4g} at step {self.best_step}")
        if self.seconds:
            parts.append(f"{self.seconds[-1]:.3g} s")
        parts += ["stopped early"] if self.stopped_early else []
        parts += ["interrupted"] if self.interrupted else []
        parts += ["diverged"] if self.diverged else []
        parts += ["still falling, more steps may help"] if self.still_falling else []
        parts += ["outputs scaled to the targets"] if self.target_scale is not None else []
        return f"History({', '.join(parts)})"

    @property
    def still_falling(self) -> bool:
        """Whether the training loss fell by a tenth or more over the last quarter of the steps.

        A loss below a hundredth of the first one is low enough not to count as falling.
        """
        losses = self.train_loss
        before = losses[: len(losses) - len(losses) // 4]
        stopped = self.stopped_early or self.diverged
        if len(losses) < _FEW or stopped:
            return False
        return 0.01 * losses[0] < losses[-1] < 0.9 * min(before)

    def to_dict(self) -> dict[str, Any]:
        """Return the attributes as JSON values."""
        return asdict(self)

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the losses over the steps, on a log axis when all are positive.

        Args:
            ax: The axes to draw on; those of a new figure when None.

        Returns:
            The axes, for titles, saving and showing.

        Raises:
            ImportError: matplotlib is not installed; the message says how to install it.
        """
        ax = new_axes() if ax is None else ax
        losses = list(self.train_loss)
        ax.plot(self.step, self.train_loss, label="train")
        evaluated = [
            (step, loss)
            for step, loss in zip(self.step, self.validation_loss, strict=True)
            if loss is not None
        ]
        if evaluated:
            steps, values = zip(*evaluated, strict=True)
            losses += values
            ax.plot(steps, values, label="validation")
        if self.best_step is not None:
            label = f"best step, {self.best_step}"
            ax.axvline(self.best_step, color="gray", linestyle=":", label=label)
        ax.set_yscale("log" if losses and min(losses) > 0 else "linear")
        ax.set_xlabel("step")
        ax.set_ylabel("loss")
        ax.legend()
        return ax

    def head(self, steps: int) -> History:
        """Return a copy of the first `steps` steps, without the best step."""
        lists = {f.name: getattr(self, f.name)[:steps] for f in fields(self)[:5]}
        return History(**lists)

    def append(self, train_loss: float, learning_rate: float, seconds: float) -> None:
        """Record one step that has not been validated."""
        self.step.append(len(self.step) + 1)
        self.train_loss.append(train_loss)
        self.validation_loss.append(None)
        self.learning_rate.append(learning_rate)
        self.seconds.append(seconds)
