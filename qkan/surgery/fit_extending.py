"""`fit_extending`: train a model, give it more repetitions, and train it again."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TypedDict

import torch
from typing_extensions import Unpack

from qkan._losses import Loss
from qkan._progress import Progress
from qkan.circuits import did_you_mean
from qkan.errors import QKANError
from qkan.training.batches import Data
from qkan.training.fit import fit
from qkan.training.history import History
from qkan.training.optim import OptimizerLike, SchedulerLike

from .extend import Model, extend


class FitOptions(TypedDict, total=False):
    """The options of `fit` that every stage of `fit_extending` takes."""

    validation: Data | float | None
    loss: str | Loss | None
    optimizer: OptimizerLike
    lr: float | None
    angle_lr: float | None
    batch_size: int | None
    scheduler: SchedulerLike | None
    patience: int | None
    seed: int | None


def fit_extending(
    model: Model,
    train: Data,
    *,
    reps: Sequence[int],
    steps: int,
    progress: bool = True,
    **options: Unpack[FitOptions],
) -> tuple[Model, History]:
    """Train a model in stages, and extend it before each stage, from coarse to fine.

    Args:
        model: The first model, which is not changed. It is extended before the first stage, too, if
            it has fewer repetitions than the first number in `reps`.
        train: As in `fit`.
        reps: The rising numbers of repetitions of the stages, such as [1, 5, 10, 15, 20].
        steps: The number of steps of each stage.
        progress: Whether to show a progress bar for all stages together.
        **options: Options of `fit`, the same in each stage: validation, loss, optimizer (a name or
            a function that makes one), lr, angle_lr, batch_size, scheduler, patience, seed.

    Returns:
        The model of the last stage, and one history of all stages, whose `best_step`,
        `stopped_early` and `interrupted` are those of the last stage. Ctrl-C ends all stages.

    Raises:
        QKANError: `fit` or `extend` raises it; `reps` do not rise; an optimizer object is passed,
            which would not train the new parameters.
        TypeError: An option is unknown.

    Example:
        >>> import torch
        >>> from qkan import QKAN, fit_extending
        >>> x = torch.linspace(-1, 1, 64).unsqueeze(-1)
        >>> model, history = fit_extending(
        ...     QKAN([1, 1], reps=1), (x, torch.sin(3 * x)), reps=[1, 3], steps=4, progress=False
        ... )
        >>> model.layers[0].circuit.num_encodings, len(history)
        (3, 8)
    """
    _check_schedule(reps, options)
    histories: list[History] = []
    with Progress(len(reps) * steps, "fit", enabled=progress) as bar:
        for stage in reps:
            model = extend(model, stage)
            histories.append(fit(model, train, steps=steps, progress=bar, **options))
            if histories[-1].interrupted:
                break
    return model, in_a_row(histories)


def _check_schedule(reps: Sequence[int], options: FitOptions) -> None:
    for name in options:
        if name not in FitOptions.__annotations__:
            hint = did_you_mean(name, FitOptions.__annotations__)
            raise TypeError(f"fit_extending: unknown option {name!r}. {hint}")
    if not reps or any(a >= b for a, b in itertools.pairwise(reps)):
        raise QKANError(
            f"fit_extending: reps={[*reps]}; wanted rising numbers of repetitions, such as [1, 5, "
            "10]."
        )
    if isinstance(options.get("optimizer"), torch.optim.Optimizer):
        raise QKANError(
            "fit_extending: an optimizer object has the parameters of one stage only; pass a name, "
            "or a function from parameters to an optimizer."
        )


def in_a_row(histories: list[History]) -> History:
    """Join the histories of consecutive runs."""
    whole = History()
    for part in histories:
        taken, before = len(whole), (whole.seconds or [0.0])[-1]
        whole.step += [taken + step for step in part.step]
        whole.seconds += [before + seconds for seconds in part.seconds]
        whole.train_loss += part.train_loss
        whole.validation_loss += part.validation_loss
        whole.learning_rate += part.learning_rate
        whole.best_step = None if part.best_step is None else taken + part.best_step
        whole.stopped_early, whole.interrupted = part.stopped_early, part.interrupted
    return whole
