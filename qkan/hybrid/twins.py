"""Blocks of a teacher and the modules that learn to do the same, call by call.

Activations are streamed: while the teacher computes, each of its blocks hands its input and output
to its twin, which takes the gradient at once and keeps neither.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from qkan.circuits import did_you_mean
from qkan.errors import QKANError
from qkan.io.hugging_face import resolved

from .blocks import Bank, Block, find_blocks

Mask = Callable[[Any], Tensor | None]
"""From a batch to a bool tensor that holds for the tokens that count; None when all do."""

OutputLoss = Callable[[Any, Any, Any], Tensor]
"""(the student's output, the teacher's, the batch) -> a scalar to minimise."""


@dataclass(eq=False)
class Twin:
    """A block of the teacher, and the student's module that learns to do the same.

    Attributes:
        name: Of the block.
        reads: The teacher's module whose input is the block's.
        writes: The teacher's module whose output is the block's.
        student: The module that learns.
        inputs: How many of the tensors that the teacher's module is called with are the student's
            too; None for all, as experts take the router's choice.
        mask: Tokens that count in the current batch, flat; None when all do.
        calls: How often the teacher used the block in the current batch.
        error: Sum over the calls of the relative squared error.
    """

    name: str
    reads: nn.Module
    writes: nn.Module
    student: nn.Module
    inputs: int | None = 1
    mask: Tensor | None = None
    calls: int = 0
    error: float | Tensor = 0.0
    _inputs: list[list[Tensor]] = field(default_factory=list)

    def begin(self, mask: Tensor | None) -> None:
        """Get ready for a batch."""
        self.mask, self.calls, self.error = mask, 0, 0.0
        self._inputs.clear()

    def finish(self) -> float:
        """Turn the sum over the calls into their mean, and return the mean error.

        Raises:
            QKANError: There was no call.
        """
        if not self.calls:
            raise QKANError(
                f"distill_ffn: the teacher's forward did not pass through {self.name}, so there is "
                "nothing to learn from; leave it out of names."
            )
        if self.calls > 1:
            for parameter in self.student.parameters():
                if parameter.grad is not None:
                    parameter.grad /= self.calls
        return float(self.error) / self.calls

    @contextmanager
    def watching(self) -> Iterator[None]:
        """While this lasts, every use of the block adds to the gradients of the student."""
        handles = [
            self.reads.register_forward_pre_hook(self._see_input, with_kwargs=True),
            self.writes.register_forward_hook(self._see_output),
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _see_input(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        given = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]
        self._inputs.append(given[: self.inputs])

    def _see_output(self, module: nn.Module, args: Any, output: Any) -> None:
        if not isinstance(output, Tensor):
            raise QKANError(
                f"distill_ffn: {self.name} returns a {type(output).__name__} in the teacher; only "
                "blocks that return a tensor can be learnt."
            )
        like = next(self.student.parameters())
        x, *rest, wanted = (t.detach().to(like.device) for t in (*self._inputs.pop(), output))
        with torch.enable_grad():
            found = self.student(x.to(like.dtype), *rest)
            if not isinstance(found, Tensor) or found.shape != wanted.shape:
                shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
                raise QKANError(
                    f"distill_ffn: {self.name} maps {tuple(x.shape)} to {tuple(wanted.shape)} in "
                    f"the teacher and to {shape} in the student; they must be the same model but "
                    "for the replaced blocks."
                )
            error = relative_error(*counted(self.mask, f"{self.name} saw", found, wanted))
            error.backward()
        self.calls += 1
        self.error = self.error + error.detach()


def find_twins(teacher: nn.Module, student: nn.Module, names: Sequence[str] | None) -> list[Twin]:
    """Pair the teacher's blocks with the student's modules of those names.

    Without names they are the feed-forward blocks at whose place the student has another class.

    Raises:
        QKANError: There are none, one of the models has no such module, or both have the same.
    """
    blocks = {block.name: block for block in find_blocks(teacher)}
    names = [names] if isinstance(names, str) else names
    if names is None:
        known = {name: resolved(student, name) for name in blocks}
        names = [
            name
            for name, there in known.items()
            if there and type(student.get_submodule(there)) is not type(blocks[name].slot)
        ]
    if not names:
        raise QKANError(
            f"distill_ffn: no block of the {type(student).__name__} is replaced, as far as the "
            "teacher's blocks tell; call replace_ffn(student, …) first, or pass the names."
        )
    return [_twin(teacher, student, blocks, name) for name in dict.fromkeys(names)]


def _twin(teacher: nn.Module, student: nn.Module, blocks: dict[str, Block], name: str) -> Twin:
    there, here = _found(teacher, "teacher", name), _found(student, "student", name)
    module, own = teacher.get_submodule(there), student.get_submodule(here)
    if own is module:
        raise QKANError(
            f"distill_ffn: teacher and student share the module {name!r}; make the student from a "
            "copy, copy.deepcopy(teacher), and replace there."
        )
    block = blocks.get(there)
    if block is not None and block.form.slot:
        return Twin(name, module, block.module.get_submodule(block.form.last), own)
    return Twin(name, module, module, own, None if isinstance(block, Bank) else 1)


def _found(model: nn.Module, who: str, name: str) -> str:
    found = resolved(model, name)
    if found is None:
        raise QKANError(
            f"distill_ffn: the {who}, a {type(model).__name__}, has no module {name!r}; teacher "
            "and student must be the same model but for the replaced blocks."
        )
    return found


def call(model: nn.Module, batch: Any) -> Any:
    """Call a model with a batch, moved to its device: a mapping as keywords, a row as arguments.

    Raises:
        QKANError: Neither of them, nor a tensor.
    """
    device = next(model.parameters()).device

    def moved(value: Any) -> Any:
        return value.to(device) if isinstance(value, Tensor) else value

    if isinstance(batch, Mapping):
        return model(**{name: moved(value) for name, value in batch.items()})
    if isinstance(batch, tuple | list):
        return model(*map(moved, batch))
    if isinstance(batch, Tensor):
        return model(moved(batch))
    raise QKANError(
        f"distill_ffn: a batch is a {type(batch).__name__}; wanted a tensor, a tuple of the "
        "model's arguments, or a mapping of its keywords."
    )


def find_mask(teacher: nn.Module, batch: Any, name: str, mask: Mask | None) -> Tensor | None:
    """Which tokens of a batch count for the block of that name, flat; "" for the output."""
    if mask is not None:
        found = mask(batch)
        if found is not None and (not isinstance(found, Tensor) or found.dtype != torch.bool):
            kind = found.dtype if isinstance(found, Tensor) else type(found).__name__
            raise QKANError(f"distill_ffn: mask returned {kind}; wanted a bool tensor, or None.")
        return None if found is None else found.reshape(-1)
    both = getattr(getattr(teacher, "config", None), "is_encoder_decoder", False)
    of_decoder = both and (not name or "decoder" in name.split("."))
    known = batch if isinstance(batch, Mapping) else {}
    found = known.get("decoder_attention_mask" if of_decoder else "attention_mask")
    return found.reshape(-1) != 0 if isinstance(found, Tensor) and found.ndim == 2 else None


def counted(mask: Tensor | None, what: str, *tensors: Tensor) -> tuple[Tensor, ...]:
    """Tensors (…, n) as rows (t, n) of the tokens that count."""
    rows = tuple(tensor.reshape(-1, tensor.shape[-1]) for tensor in tensors)
    if mask is None:
        return rows
    if len(mask) != len(rows[0]):
        raise QKANError(
            f"distill_ffn: {what} {len(rows[0])} tokens, and the batch's mask has {len(mask)}. "
            "Pass mask=, a function from a batch to a bool tensor of the tokens that count."
        )
    mask = mask.to(rows[0].device)
    return tuple(row[mask] for row in rows)


def relative_error(found: Tensor, wanted: Tensor) -> Tensor:
    """Σ (found - wanted)² / Σ wanted², for rows (t, n)."""
    found, wanted = found.float(), wanted.float()
    size = wanted.square().sum().clamp_min(torch.finfo(torch.float32).tiny)
    return (found - wanted).square().sum() / size


def divergence(found: Tensor, wanted: Tensor) -> Tensor:
    """KL(teacher ‖ student) of the logits, the mean over rows (t, n), in nats."""
    own, other = (logits.float().log_softmax(-1) for logits in (found, wanted))
    total = F.kl_div(own, other, reduction="sum", log_target=True)
    return total / max(len(found), 1)


def cosine_distance(found: Tensor, wanted: Tensor) -> Tensor:
    """1 - cosine of the two, the mean over rows (t, n)."""
    return (1 - F.cosine_similarity(found.float(), wanted.float())).sum() / max(len(found), 1)


_LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "kl": divergence, "mse": relative_error, "cosine": cosine_distance,
}  # fmt: skip


def output_loss(
    loss: str | OutputLoss | None, masked: Callable[[Any], Tensor | None]
) -> OutputLoss:
    """Return the loss between two outputs; `masked` gives the flat mask of a batch.

    Raises:
        QKANError: An unknown name.
    """
    if callable(loss):
        return loss
    if loss is not None and loss not in _LOSSES:
        raise QKANError(
            f"distill_ffn: unknown loss {loss!r}. {did_you_mean(loss, _LOSSES)} Or a function of "
            "the student's output, the teacher's and the batch."
        )

    def compare(found: Any, wanted: Any, batch: Any) -> Tensor:
        kind, own = main_output(found)
        _, other = main_output(wanted)
        if own.shape != other.shape:
            raise QKANError(
                f"distill_ffn: the student's {kind} are {tuple(own.shape)} and the teacher's "
                f"{tuple(other.shape)}; pass loss=, a function of both outputs and the batch."
            )
        name = loss or ("kl" if kind == "logits" and own.shape[-1] > 1 else "mse")
        # one row a sequence, as a classifier's, has no tokens
        mask = masked(batch) if own.ndim > 2 else None
        rows = counted(mask, f"the {kind} have", own, other.to(own.device))
        return _LOSSES[name](rows[0], rows[1])

    return compare


def main_output(output: Any) -> tuple[str, Tensor]:
    """The tensor in a model's output that stands for it, and what it is.

    Raises:
        QKANError: None known.
    """
    for name in ("logits", "last_hidden_state"):
        found = getattr(output, name, None)
        if isinstance(found, Tensor):
            return name, found
    first = output[0] if isinstance(output, tuple | list) and output else output
    if isinstance(first, Tensor):
        return "outputs", first
    raise QKANError(
        f"distill_ffn: the model returns a {type(output).__name__} without logits or "
        "last_hidden_state; pass loss=, a function of both outputs and the batch."
    )
