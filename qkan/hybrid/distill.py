"""`distill_ffn`: train replaced blocks to compute what the old blocks computed."""

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
    """Train the replaced blocks of a student, in place, to compute what the teacher's blocks do.

    The first stage goes block by block. The teacher runs a batch, and as soon as it has computed a
    block for the input x, the replaced block takes the gradient of its relative squared error Σ
    (student(x) - teacher(x))² / Σ teacher(x)²; nothing is stored. All blocks learn in the same
    pass. A block that a model uses several times, as ALBERT does, learns from the mean over its
    uses. The second stage, which is optional, goes end to end: it minimises the loss between both
    models' outputs.

    In models like BERT a few tokens have much larger outputs than the others and dominate the
    relative error, so blocks with a small error may still give poor outputs together before the
    second stage. A step of the first stage is a whole pass of the teacher. Where time is short,
    store the inputs and outputs of the blocks once, `fit` each block to them with a loss of your
    own, and pass steps=0; `experiments/language/students.py` does so.

    Padding does not count: tokens where a batch's "attention_mask" (b, s) is 0, or
    "decoder_attention_mask" in the decoder of an encoder-decoder model.

    The teacher runs in evaluation mode and is not changed. Replaced blocks train in training mode,
    and the rest of the student stays in its mode; all modes are restored at the end. After an error
    the student is as it was before the step that failed. Ctrl-C ends the run after the last step.

    Args:
        teacher: The model with its old blocks.
        student: The same model with replaced blocks, such as `replace_ffn` makes of a copy.
        batches: Batches that can be iterated over repeatedly, such as a DataLoader or a list. A
            batch is a mapping of the model's keyword arguments, a tuple of its arguments, or a
            tensor.
        names: The names of the replaced blocks, such as `replace_ffn` returns them. None takes the
            feed-forward blocks of the teacher whose class differs in the student.
        steps: The number of batches in the first stage; None takes each batch once.
        end_to_end_steps: The number of batches in the second stage; None leaves that stage out.
        self_guided: The share of the second stage, 0 to 1, in which the old blocks help: a replaced
            block then returns α·old(x) + (1 - α)·new(x), where only the new block learns and α
            falls to 0 along a cosine. Afterwards, and whenever the run ends, the student has the
            new blocks alone. With 0.5, the second half of the stage goes without help.
        train: Which modules learn in the second stage: the "replaced" ones or "all".
        loss: The loss of the second stage: "kl" (the divergence of logits from teacher to student
            in nats), "mse" (relative, as above), "cosine" (1 - the cosine similarity, the mean over
            tokens), or a function of the student's output, the teacher's output and the batch. None
            means "kl" for logits and "mse" otherwise.
        optimizer: A name or a function as in `fit`, but neither LBFGS nor an optimizer object.
        lr: The learning rate. None means 1e-3 for AdamW and 1e-2 for Adam.
        end_to_end_lr: The learning rate of the second stage; None means `lr`.
        scheduler: "cosine", over the steps of each stage, or a function from an optimizer to a
            scheduler.
        mask: A function from a batch to a bool tensor that is true for the tokens that count, in
            place of the rule above.
        seed: Determines the order of batches that is drawn from torch's generator, as by a
            shuffling DataLoader; None draws a seed.
        progress: Whether to show a progress bar, in a terminal or notebook.
        checkpoint: A file for the state, written now and then and at the end. If it exists, a run
            with equal arguments resumes from it, with the same bits as without the interruption.

    Returns:
        The errors of each block, the losses and the times, one for each step.

    Raises:
        QKANError: No block is replaced, or the teacher lacks one; an argument or a batch is wrong;
            a one-shot iterator ran out; the checkpoint belongs to another run; an error or a
            gradient is not finite. The message names the block and the step.

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

    Source: FitNets (arXiv 1412.6550) for activations matched layer by layer; Hinton et al. (arXiv
    1503.02531) for outputs; arXiv 2406.16450 for self-guided training, where the old block learns
    too.
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
            raise QKANError(
                f"distill_ffn: the {who} is a {type(model).__name__}, not a torch.nn.Module."
            )
    check_choice("train", train, ("replaced", "all"))
    shared = {*teacher.parameters()} & {*student.parameters()}
    if teacher is student or (train == "all" and shared):
        raise QKANError(
            "distill_ffn: the student shares parameters with the teacher, which would learn too; "
            "make the student from a copy, copy.deepcopy(teacher)."
        )


def _check_steps(batches: Iterable[Any], steps: int | None, end_to_end_steps: int) -> int:
    """Return the steps of the first stage."""
    if not isinstance(batches, Iterable) or isinstance(batches, torch.Tensor | Mapping | str):
        raise QKANError(
            f"distill_ffn: batches is a {type(batches).__name__}; pass a list of batches or a "
            "DataLoader."
        )
    if steps is None:
        if not isinstance(batches, Sized):
            raise QKANError("distill_ffn: batches has no length; pass steps.")
        steps = len(batches)
    steps = check_size("steps", steps, least=0)
    if steps + check_size("end_to_end_steps", end_to_end_steps, least=0) == 0:
        raise QKANError(
            "distill_ffn: there is no step to take: batches is empty, or both stages have 0 steps."
        )
    return steps


def _check_share(self_guided: float) -> float:
    share = as_number(self_guided)
    if not 0 <= share <= 1:
        raise QKANError(
            f"distill_ffn: self_guided={self_guided!r}; wanted the share of the second stage in "
            "which the old blocks help, a number from 0 to 1."
        )
    return share


def _check_unset(**options: object) -> None:
    """Raise if an option of the second stage is set although that stage was not asked for."""
    names = [name for name, value in options.items() if value not in (None, "replaced")]
    if names:
        raise QKANError(
            f"distill_ffn: {', '.join(names)} only have an effect in the second stage; pass "
            "end_to_end_steps too, or leave them out."
        )


def _make_optimizer(
    optimizer: OptimizerLike, trained: nn.Module, lr: float | None
) -> torch.optim.Optimizer:
    if isinstance(optimizer, torch.optim.Optimizer):
        raise QKANError(
            "distill_ffn: an optimizer object has its own choice of parameters; pass a name, or a "
            "function from parameters to an optimizer."
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
    """A description of everything that must be the same when a run is resumed."""
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
