"""`distill_ffn`: replaced blocks learn what the blocks did whose place they took."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence, Sized
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from qkan._options import as_number, check_choice, check_size
from qkan.errors import QKANError
from qkan.training.batches import describe, order_generator
from qkan.training.checkpoint import Checkpoint, describe_model
from qkan.training.optim import (
    OptimizerLike,
    SchedulerLike,
    describe_optimizer,
    describe_scheduler,
    make_optimizer,
    make_scheduler,
)

from .block_pairs import find_pairs
from .comparison import Mask, OutputLoss, find_mask, output_loss
from .stages import BlockStage, DistillLoop, OutputStage, Stage, Stream
from .stages import Distillation as Distillation


def distill_ffn(
    teacher: nn.Module,
    student: nn.Module,
    batches: Iterable[Any],
    *,
    names: Sequence[str] | None = None,
    steps: int | None = None,
    end_to_end_steps: int | None = None,
    self_guided: float = 0.0,
    train: str = "replaced",
    loss: str | OutputLoss | None = None,
    optimizer: OptimizerLike = "adamw",
    lr: float | None = None,
    end_to_end_lr: float | None = None,
    scheduler: SchedulerLike | None = None,
    mask: Mask | None = None,
    seed: int | None = None,
    progress: bool = True,
    checkpoint: str | os.PathLike[str] | None = None,
) -> Distillation:
    """Teach the replaced blocks of a student, in place, what the teacher's own blocks do.

    First, block by block: the teacher runs a batch, and each replaced block takes the gradient of
    its relative squared error Σ (student(x) - teacher(x))² / Σ teacher(x)², where x is what the
    teacher's block was given, as soon as the teacher has computed it; nothing is stored. All
    blocks learn in the same pass; one that a model uses several times, as ALBERT does, learns from
    the mean over its uses. Then, if asked, end to end: the loss between both models' outputs.

    Tokens whose outputs are many times larger than the others', as models like BERT have them, rule
    the relative error; blocks that are near in it may still give poor outputs together until the
    second stage. A step of the first stage is a whole pass of the teacher: where time is short,
    write inputs and outputs of the blocks down once, `fit` each block to them with a loss of your
    own, and pass steps=0; `experiments/language/students.py` does so.

    Padding does not count: tokens where a batch's "attention_mask" (b, s) is 0, or
    "decoder_attention_mask" in the decoder of an encoder-decoder model.

    The teacher runs in evaluation mode and is not changed. Replaced blocks train in training mode,
    the rest of the student is in the mode it was found in; all modes are put back. An error leaves
    the student as it was before the step it arose in; Ctrl-C ends the run where it is.

    Args:
        teacher: The model as it was.
        student: The same model with replaced blocks, such as `replace_ffn` makes of a copy.
        batches: Batches that can be gone through again and again, such as a DataLoader or a list,
            each a mapping of the model's keywords, a tuple of its arguments, or a tensor.
        names: Of the replaced blocks, such as what `replace_ffn` returned. None takes those that
            are of another class than the teacher's feed-forward blocks.
        steps: Batches of the first stage; None takes each batch once.
        end_to_end_steps: Batches of the second stage; None for none.
        self_guided: The share of the second stage, 0 to 1, in which the old blocks help: a replaced
            block then returns α·old(x) + (1 - α)·new(x), and α falls to 0 along a cosine. Only the
            new block learns of the two. After that, and whenever the run ends, the student has the
            new blocks alone. Pass 1.0, or 0.5 for a second half without help.
        train: What learns in the second stage: "replaced" or "all".
        loss: Of the second stage: "kl" (of logits, teacher to student, in nats), "mse" (relative,
            as above), "cosine" (1 - cosine, a token's mean), or a function of the student's
            output, the teacher's and the batch. None is "kl" for logits, else "mse".
        optimizer: As in `fit`, but no LBFGS and no optimizer object.
        lr: Learning rate. None is 1e-3 for AdamW and 1e-2 for Adam.
        end_to_end_lr: That of the second stage; as `lr` when None.
        scheduler: "cosine", over the steps of each stage, or what makes one from an optimizer.
        mask: From a batch to a bool tensor of the tokens that count, in place of the rule above.
        seed: Rules the order of the batches as far as they draw it from torch's generator, as a
            shuffling DataLoader does; None draws one.
        progress: Whether to show a bar, in a terminal or notebook.
        checkpoint: A file to keep the state in, now and then and at the end. If it exists, the run
            goes on from it, bit for bit as if it had never stopped, with equal arguments.

    Returns:
        The errors of each block, the losses and the times, one a step.

    Raises:
        QKANError: No replaced block, or one that the teacher lacks; arguments or batches that
            cannot be right; a one-shot iterator that ran out; a checkpoint of another run; an
            error or gradient that is not finite. The message names the block and the step.

    Example:
        >>> import copy, torch
        >>> from qkan import HQKAN, distill_ffn, replace_ffn
        >>> layer = torch.nn.TransformerEncoderLayer(8, 2, dim_feedforward=32, batch_first=True)
        >>> teacher = torch.nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        >>> student = copy.deepcopy(teacher)
        >>> names = replace_ffn(student, HQKAN)
        >>> batches = [torch.randn(4, 5, 8) for _ in range(3)]
        >>> history = distill_ffn(teacher, student, batches, steps=6, progress=False)
        >>> {name: len(errors) for name, errors in history.layers.items()}
        {'layers.0.linear1': 6, 'layers.1.linear1': 6}

    Source: activations matched layer by layer, FitNets (arXiv 1412.6550); outputs, Hinton et al.
    (arXiv 1503.02531); self-guided training, arXiv 2406.16450, where the old block learns too.
    """
    _check_models(teacher, student, train)
    if end_to_end_steps is None:
        _check_unset(
            train=train, loss=loss, end_to_end_lr=end_to_end_lr, self_guided=self_guided or None
        )
        end_to_end_steps = 0
    steps = _check_steps(batches, steps, end_to_end_steps)
    guided = math.ceil(end_to_end_steps * _check_share(self_guided))
    pairs = find_pairs(teacher, student, names)
    replaced = nn.ModuleList(pair.student for pair in pairs)
    stages: list[Stage] = []
    for number, taken in enumerate((steps, end_to_end_steps)):
        trained = student if number and train == "all" else replaced
        rate = lr if not number or end_to_end_lr is None else end_to_end_lr
        made = _make_optimizer(optimizer, trained, rate)
        parts = (trained, made, _make_scheduler(scheduler, made, taken), taken)
        if number:
            compare = output_loss(loss, lambda batch: find_mask(teacher, batch, "", mask))
            stages.append(OutputStage(*parts, teacher, student, compare, pairs, guided))
        else:
            stages.append(BlockStage(*parts, teacher, pairs, mask))
    file = None if checkpoint is None else Checkpoint(checkpoint)
    saved = None if file is None else file.read()
    generator = order_generator(seed, saved["seed"] if saved else None)
    loop = DistillLoop(stages, Stream(batches, generator), replaced, file)
    loop.history.layers = {pair.name: [] for pair in pairs}
    if file is not None:
        arguments = _describe(teacher, student, batches, stages) | {
            "names": str([pair.name for pair in pairs]), "seed": str(seed),
            "loss": str(getattr(loss, "__qualname__", loss)),
        }  # fmt: skip
        if guided:
            arguments["self_guided"] = str(guided)
        loop.identity = {"arguments": arguments, "seed": generator.initial_seed()}
        if saved is not None:
            file.compare(saved, arguments, steps + end_to_end_steps)
            loop.restore(saved)
    try:
        return loop.run(progress)
    finally:
        student.zero_grad()


def _check_models(teacher: nn.Module, student: nn.Module, train: str) -> None:
    for who, model in (("teacher", teacher), ("student", student)):
        if not isinstance(model, nn.Module):
            raise QKANError(f"distill_ffn: the {who} is {type(model).__name__}, no nn.Module.")
    check_choice("train", train, ("replaced", "all"))
    shared = {*teacher.parameters()} & {*student.parameters()}
    if teacher is student or (train == "all" and shared):
        raise QKANError(
            "distill_ffn: the teacher would learn too, for the student has its parameters; "
            "replace in a copy, copy.deepcopy(teacher)."
        )


def _check_steps(batches: Iterable[Any], steps: int | None, end_to_end_steps: int) -> int:
    """Return the steps of the first stage."""
    if not isinstance(batches, Iterable) or isinstance(batches, torch.Tensor | Mapping | str):
        raise QKANError(
            f"distill_ffn: batches is {type(batches).__name__}: pass a list of batches or a "
            "DataLoader."
        )
    if steps is None:
        if not isinstance(batches, Sized):
            raise QKANError("distill_ffn: batches has no length; pass steps.")
        steps = len(batches)
    steps = check_size("steps", steps, least=0)
    if steps + check_size("end_to_end_steps", end_to_end_steps, least=0) == 0:
        raise QKANError("distill_ffn: no step to take: batches is empty, or both steps are 0.")
    return steps


def _check_share(self_guided: float) -> float:
    share = as_number(self_guided)
    if not 0 <= share <= 1:
        raise QKANError(
            f"distill_ffn: self_guided={self_guided!r}: the share of the second stage in which the "
            "old blocks help, a number from 0 to 1."
        )
    return share


def _check_unset(**options: object) -> None:
    """Raise if an option of the second stage is set although that stage was not asked for."""
    names = [name for name, value in options.items() if value not in (None, "replaced")]
    if names:
        raise QKANError(
            f"distill_ffn: {', '.join(names)} belong to the second stage; pass end_to_end_steps."
        )


def _make_optimizer(
    optimizer: OptimizerLike, trained: nn.Module, lr: float | None
) -> torch.optim.Optimizer:
    if isinstance(optimizer, torch.optim.Optimizer):
        raise QKANError(
            "distill_ffn: an optimizer object holds parameters of its own choice; pass a name, "
            "or a function from parameters to an optimizer."
        )
    made = make_optimizer(optimizer, trained, lr)
    if isinstance(made, torch.optim.LBFGS):
        raise QKANError(
            "distill_ffn: LBFGS needs the same batch throughout; use optimizer='adamw' or 'adam'."
        )
    return made


def _make_scheduler(
    scheduler: SchedulerLike | None, optimizer: torch.optim.Optimizer, steps: int
) -> LRScheduler | None:
    made = make_scheduler(scheduler, optimizer, max(steps, 1))
    if isinstance(made, ReduceLROnPlateau):
        raise QKANError(
            "distill_ffn: a plateau scheduler needs a validation loss; use scheduler='cosine'."
        )
    return made


def _describe(
    teacher: nn.Module, student: nn.Module, batches: Iterable[Any], stages: Sequence[Stage]
) -> dict[str, str]:
    """A description of everything that must be the same when a run goes on."""
    found = {
        "teacher": describe_model(teacher),
        "student": describe_model(student),
        "batches": describe([*batches] if isinstance(batches, tuple) else batches),
        "steps": str([stage.steps for stage in stages]),
        "train": "all" if stages[1].trained is student else "replaced",
    }
    for number, stage in enumerate(stages):
        found[f"optimizer {number}"] = describe_optimizer(stage.optimizer)
        found[f"scheduler {number}"] = describe_scheduler(stage.scheduler)
    return found
