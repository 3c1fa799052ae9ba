"""`fit`: train any model on pairs of inputs and targets, and stop, resume and repeat exactly."""

from __future__ import annotations

import os
from numbers import Integral, Real

import torch
from torch import nn
from torch.utils.data import DataLoader

from qkan._habits import FIT, guided
from qkan._losses import Loss, describe_loss, make_loss
from qkan._options import check_optional_size, check_size
from qkan._progress import Progress
from qkan.errors import AliasingWarning as AliasingWarning
from qkan.errors import QKANError

from .batches import (
    Batches,
    Data,
    Pair,
    Source,
    as_source,
    check_data,
    describe,
    order_generator,
    split,
)
from .checkpoint import Checkpoint, describe_model
from .fit_loop import FitLoop
from .history import History
from .inputs import some_rows, warn_of_inputs
from .optim import (
    OptimizerLike,
    SchedulerLike,
    describe_optimizer,
    describe_scheduler,
    make_optimizer,
    make_scheduler,
)
from .ranks import Ranks
from .units import REGRESSION, find_units


@guided(FIT, positional=2, instead="fit(model, (x, y), steps=20)")
def fit(
    model: nn.Module,
    train: Data,
    *,
    validation: Data | float | None = None,
    loss: str | Loss | None = None,
    optimizer: OptimizerLike = "lbfgs",
    lr: float | None = None,
    angle_lr: float | None = None,
    steps: int,
    batch_size: int | None = None,
    scheduler: SchedulerLike | None = None,
    patience: int | None = None,
    seed: int | None = None,
    progress: bool | Progress = True,
    checkpoint: str | os.PathLike[str] | None = None,
) -> History:
    """Minimise the loss of a model over data, in place, starting from its current parameters.

    The validation loss is evaluated in evaluation mode after each epoch, which without `batch_size`
    is each step, and after the last step. With validation the model ends with the parameters and
    buffers of the lowest validation loss, without it with the last ones. A model in evaluation mode
    is trained in training mode; at the end every module has the mode that it had before. Torch's
    global random state changes only by what the model itself draws in training.

    Targets may be in any units. If their spread or their mean is far from that of the model's
    outputs, the model is trained as on standardised targets: each output gets a scale and an
    offset, which become part of the last layer at the end. The losses are those of the targets as
    given, and `History.target_scale` and `target_offset` hold these numbers. This needs the loss
    "mse", "l1" or "huber" and a model that ends in a layer of this package with a bias or in a
    `torch.nn.Linear`; otherwise a `ScaleWarning` is given. A model that was trained on such targets
    before is left unchanged. A `ScaleWarning` or an `AliasingWarning` also names a layer that is
    not made for its inputs, and the cure. A loss that ends above ten times its first value gives a
    `DivergenceWarning` and sets `History.diverged`.

    To train in several processes (torchrun), pass the model in `DistributedDataParallel`, and pass
    each process its share of the data, as a DataLoader with a `DistributedSampler` does. Losses are
    then means over all processes, which agree on the best parameters and on when to stop. One
    process shows the progress bar and writes the checkpoint, from which the same number of
    processes can resume; Ctrl-C ends them all. A model that is not wrapped is trained by each
    process on its own.

    Args:
        model: Any module that maps x to a prediction. Frozen parameters do not change.
        train: A pair (x, y) of tensors, a torch Dataset of pairs, or a DataLoader of pairs. Batches
            are moved to the device of the model's first parameter.
        validation: Data of the same kinds, or the fraction of `train` to hold out. If the targets
            are classes, each class has its share. The classes of a Dataset are its attribute
            `targets` or `labels`; without one, a Dataset of at most 10,000 samples is read once.
        loss: "mse" (when None), "l1", "huber", "bce_with_logits", "cross_entropy", or a function of
            prediction and target that returns a scalar, the mean over samples. Labels are whole
            numbers from 0 of shape (n,) or (n, 1). A function must not broadcast (n, 1) with (n,).
        optimizer: "lbfgs" (`qkan.LBFGS` on the full batch, 20 iterations in each step), "adam",
            "adamw" (with `param_groups`), any other name or class in torch.optim, a function from
            parameters to an optimizer, or an optimizer.
        lr: The learning rate. None means 1 for LBFGS, 1e-2 for Adam (1e-3 is too slow for the few
            hundred steps of a small network), 1e-3 for AdamW, and torch's default otherwise.
        angle_lr: The learning rate of the angles, scales, shifts and amplitudes of circuits, as in
            `param_groups`; not available with LBFGS.
        steps: The total number of calls of `optimizer.step`, including those before a resumption.
        batch_size: The number of samples in each step, in shuffled epochs; None takes all.
        scheduler: "cosine" (to 0 over `steps`), "plateau", or a function from the optimizer to a
            torch scheduler, which is stepped after each step. ReduceLROnPlateau is stepped after
            each epoch, with the validation loss or, without one, the mean training loss of the
            epoch.
        patience: Stop after this many evaluations in a row without a lower validation loss.
        seed: Determines the order of the batches and the held-out fraction, and nothing else; None
            draws a seed. A DataLoader with its own generator uses that one.
        progress: Whether to show a progress bar, in a terminal or notebook; or the bar of a longer
            run.
        checkpoint: A file for the state, written after the first step, now and then, at the end and
            at Ctrl-C. If it exists, the run resumes from it, with the same bits as without the
            interruption (on one machine, with randomness from torch alone). With more `steps` than
            before it continues past its former end. Only `patience` and `steps` may differ.

    Returns:
        The history. Ctrl-C also returns it, after undoing the step that it cut short.

    Raises:
        QKANError: Arguments or data are wrong; the checkpoint belongs to another run; a loss is not
            finite. In the last case the message names the step, and the model has its best or last
            good parameters back.

    Example:
        >>> import torch
        >>> from qkan import QKAN
        >>> x = torch.linspace(-1, 1, 64).unsqueeze(-1)
        >>> model = QKAN([1, 1], generator=torch.Generator().manual_seed(0))
        >>> history = fit(model, (x, torch.sin(3 * x)), steps=5, progress=False)
        >>> history.train_loss[-1] < 1e-5
        True
    """
    if not isinstance(model, nn.Module):
        raise QKANError(f"The model is of type {type(model).__name__}; wanted a torch.nn.Module.")
    steps, batch_size = check_size("steps", steps), check_optional_size("batch_size", batch_size)
    patience = check_optional_size("patience", patience)
    seed = check_optional_size("seed", seed, least=None)
    if patience is not None and validation is None:
        raise QKANError(
            f"patience={patience} without validation: it counts evaluations of the validation "
            "loss. Pass validation=(x, y), or a fraction such as validation=0.2."
        )
    ranks = Ranks(model)
    criterion = make_loss(loss)
    made = make_optimizer(optimizer, model, lr, angle_lr)
    rates = make_scheduler(scheduler, made, steps)
    file = None if checkpoint is None else Checkpoint(checkpoint)
    saved = None if file is None else ranks.agree(file.read() if ranks.first else None)
    generator = order_generator(seed, saved["seed"] if saved else None, ranks.agree)
    source, held = _prepare(train, validation, batch_size, generator)
    _check_full_batch(made, source, batch_size)
    _check_shares(ranks, made, source)
    batches = Batches(source, batch_size, generator, next(model.parameters()).device)
    loop = FitLoop(
        model, made, rates, batches, criterion, steps,
        validation=held, batch_size=batch_size, patience=patience, checkpoint=file,
    )  # fmt: skip
    if file is not None:
        arguments = {
            "model": describe_model(model),
            "train": describe(source),
            "validation": describe(held),
            "loss": describe_loss(loss),
            "optimizer": describe_optimizer(made),
            "scheduler": describe_scheduler(rates),
            "batch_size": str(batch_size),
            "seed": str(seed),
        }
        loop.identity = {"arguments": arguments, "seed": generator.initial_seed()}
        if saved is not None:
            if ranks.first:
                file.compare(saved, arguments, steps)
            loop.restore(saved["state"])
    pair = source if isinstance(source, tuple) else batches.peek()
    _check_scales(loop, pair, loss, fresh=saved is None)
    return loop.run(progress)


def _check_full_batch(
    optimizer: torch.optim.Optimizer, source: Source, batch_size: int | None
) -> None:
    minibatches = batch_size is not None or isinstance(source, DataLoader)
    if minibatches and isinstance(optimizer, torch.optim.LBFGS):
        found = "a DataLoader" if batch_size is None else f"batch_size={batch_size}"
        raise QKANError(
            f"LBFGS with {found}: its line search needs the same full batch throughout. "
            "Pass (x, y) or a Dataset without batch_size, or optimizer='adam'."
        )


def _check_shares(ranks: Ranks, optimizer: torch.optim.Optimizer, source: Source) -> None:
    """Raise unless the processes of a group can take their steps together."""
    if ranks.count == 1:
        return
    if isinstance(optimizer, torch.optim.LBFGS):
        raise QKANError(
            f"LBFGS in {ranks.count} processes: its line search needs the loss over all their "
            "data at every trial. Pass optimizer='adam'."
        )
    sizes = ranks.all(len(source) if isinstance(source, DataLoader) else len(source[0]))
    if len(set(sizes)) > 1:
        unit = "batches" if isinstance(source, DataLoader) else "samples"
        raise QKANError(
            f"The processes have {sizes} {unit} to train on, but they take their steps together "
            "and need equal numbers. Use a DataLoader with a DistributedSampler, which divides the "
            "data evenly."
        )


def _prepare(
    train: Data,
    validation: Data | float | None,
    batch_size: int | None,
    generator: torch.Generator,
) -> tuple[Source, Source | None]:
    """Return the data to train on and the data to validate with."""
    data = check_data(train, "train")
    if batch_size is not None and isinstance(data, DataLoader):
        raise QKANError(
            f"batch_size={batch_size} was passed with a DataLoader, which has its own; leave it "
            "out."
        )
    held: Data | None = None
    if isinstance(validation, Real) and not isinstance(validation, Integral):
        if batch_size is None and not isinstance(data, DataLoader):
            data = as_source(data, None, "train")
        data, held = split(data, float(validation), generator)
    elif validation is not None:
        held = check_data(validation, "validation")
    source = as_source(data, batch_size, "train")
    return source, None if held is None else as_source(held, batch_size, "validation")


def _check_scales(loop: FitLoop, pair: Pair, loss: str | Loss | None, *, fresh: bool) -> None:
    """Warn of inputs for which the layers are not made, and find the units of the targets."""
    model, ranks = loop.model, Ranks(loop.model)
    out = warn_of_inputs(model, some_rows(pair)[0], "training")
    if isinstance(loop.validation, tuple):
        warn_of_inputs(model, some_rows(loop.validation)[0], "validation")
    if fresh and (loss is None or loss in REGRESSION):
        loop.units = ranks.agree(
            find_units(ranks.module, pair, out, loop.loss) if ranks.first else None
        )
