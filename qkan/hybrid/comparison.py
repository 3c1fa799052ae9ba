"""How teacher and student are called with a batch, and how their outputs are compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from qkan.circuits import did_you_mean
from qkan.errors import QKANError

Mask = Callable[[Any], Tensor | None]
"""A function of a batch: a bool tensor that is true for the tokens that count, or None."""

OutputLoss = Callable[[Any, Any, Any], Tensor]
"""A function of the student's output, the teacher's output and the batch: a scalar loss."""


def call(model: nn.Module, batch: Any) -> Any:
    """Move a batch to the model's device, and call the model with its keywords or arguments."""
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
        "model's arguments, or a mapping of its keyword arguments."
    )


def find_mask(teacher: nn.Module, batch: Any, name: str, mask: Mask | None) -> Tensor | None:
    """Which tokens of a batch count for the block of that name, or for the output, named ""."""
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


def counted_rows(
    mask: Tensor | None, what: str, found: Tensor, wanted: Tensor
) -> tuple[Tensor, Tensor]:
    """Return two tensors (…, n) as rows (t, n) of the tokens that count; `what` begins an error."""
    found, wanted = (tensor.reshape(-1, tensor.shape[-1]) for tensor in (found, wanted))
    if mask is None:
        return found, wanted
    if len(mask) != len(found):
        raise QKANError(
            f"distill_ffn: {what} {len(found)} tokens, and the batch's mask has {len(mask)}. "
            "Pass mask=, a function from a batch to a bool tensor of the tokens that count."
        )
    mask = mask.to(found.device)
    return found[mask], wanted[mask]


def relative_error(found: Tensor, wanted: Tensor) -> Tensor:
    """Σ (found - wanted)² / Σ wanted², for rows (t, n)."""
    found, wanted = found.float(), wanted.float()
    size = wanted.square().sum().clamp_min(torch.finfo(torch.float32).tiny)
    return (found - wanted).square().sum() / size


def _divergence(found: Tensor, wanted: Tensor) -> Tensor:
    """KL(teacher ‖ student) of logits in nats, the mean over rows (t, n)."""
    own, other = (logits.float().log_softmax(-1) for logits in (found, wanted))
    total = F.kl_div(own, other, reduction="sum", log_target=True)
    return total / max(len(found), 1)


def _cosine_distance(found: Tensor, wanted: Tensor) -> Tensor:
    """1 - the cosine similarity, the mean over rows (t, n)."""
    return (1 - F.cosine_similarity(found.float(), wanted.float())).sum() / max(len(found), 1)


_LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "kl": _divergence, "mse": relative_error, "cosine": _cosine_distance,
}  # fmt: skip


def output_loss(
    loss: str | OutputLoss | None, masked: Callable[[Any], Tensor | None]
) -> OutputLoss:
    """Return the loss between two outputs; `masked` gives the flat mask of a batch."""
    if callable(loss):
        return loss
    if loss is not None and loss not in _LOSSES:
        raise QKANError(
            f"distill_ffn: unknown loss {loss!r}. {did_you_mean(loss, _LOSSES)} Or pass a function "
            "of the student's output, the teacher's output and the batch."
        )

    def compare(found: Any, wanted: Any, batch: Any) -> Tensor:
        kind, own = _main_output(found)
        _, other = _main_output(wanted)
        if own.shape != other.shape:
            raise QKANError(
                f"distill_ffn: the student's {kind} have shape {tuple(own.shape)} and the "
                f"teacher's {tuple(other.shape)}; pass loss=, a function of both outputs and the "
                "batch."
            )
        name = loss or ("kl" if kind == "logits" and own.shape[-1] > 1 else "mse")
        # a classifier's output has one row for each sequence, and no tokens
        mask = masked(batch) if own.ndim > 2 else None
        return _LOSSES[name](*counted_rows(mask, f"the {kind} have", own, other.to(own.device)))

    return compare


def _main_output(output: Any) -> tuple[str, Tensor]:
    """The tensor that represents a model's output, and its name."""
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
