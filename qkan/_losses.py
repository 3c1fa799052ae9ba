"""Losses by name, and checks that prediction and target do not broadcast."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from ._options import check_choice
from .errors import QKANError

Loss = Callable[[Tensor, Tensor], Tensor]
"""A function of prediction and target that returns a scalar to minimise, the mean over samples."""

_ELEMENTWISE: dict[str, Loss] = {
    "mse": F.mse_loss,
    "l1": F.l1_loss,
    "huber": F.huber_loss,
    "bce_with_logits": F.binary_cross_entropy_with_logits,
}
LOSSES = (*_ELEMENTWISE, "cross_entropy")
"""The losses that have a name."""


def make_loss(loss: str | Loss | None) -> Loss:
    """Return the loss that `fit(loss=…)` asks for; it raises if its result is not a scalar."""
    if loss is None:
        loss = "mse"
    if isinstance(loss, str):
        check_choice("loss", loss, LOSSES, "Or pass a function of prediction and target.")
        return _checked(loss) if loss in _ELEMENTWISE else _cross_entropy
    if isinstance(loss, type):
        raise QKANError(f"loss={loss.__name__} is a class; write loss={loss.__name__}().")
    if not callable(loss):
        raise QKANError(f"loss={loss!r}; wanted a name, or a function of prediction and target.")
    return _scalar(loss)


def describe_loss(loss: str | Loss | None) -> str:
    """Identify a loss by its name, the name of its function, or its module with options."""
    if loss is None or isinstance(loss, str):
        return loss or "mse"
    if isinstance(loss, nn.Module):
        return repr(loss)
    return str(getattr(loss, "__qualname__", type(loss).__qualname__))


def _checked(name: str) -> Loss:
    def loss(prediction: Tensor, target: Tensor) -> Tensor:
        if prediction.shape != target.shape:
            raise QKANError(
                f"loss={name!r}: the model's output has shape {tuple(prediction.shape)} and the "
                f"target {tuple(target.shape)}; they must be equal, else they would broadcast. "
                "Use y.reshape(…) or y.unsqueeze(-1)."
            )
        if prediction.dtype != target.dtype and not _autocast(prediction):
            raise QKANError(
                f"loss={name!r}: the model's output is {prediction.dtype} and the target "
                f"{target.dtype}; use y.to({prediction.dtype})."
            )
        if name == "bce_with_logits" and target.numel():
            low, high = _ends(target)
            if low < 0 or high > 1:
                raise QKANError(
                    f"loss={name!r}: the targets reach from {low:g} to {high:g}; wanted "
                    "probabilities from 0 to 1. For labels -1 and 1 use (y + 1) / 2, for more than "
                    "two classes loss='cross_entropy', for other numbers 'mse'."
                )
        return _ELEMENTWISE[name](prediction, target)

    return loss


def _ends(values: Tensor) -> tuple[float, float]:
    low, high = values.detach().aminmax()
    return low.item(), high.item()


def _cross_entropy(prediction: Tensor, target: Tensor) -> Tensor:
    """Cross entropy of logits (n, c, …) with labels (n, …), (n, 1) or probabilities (n, c, …)."""
    if target.shape == prediction.shape and target.dtype.is_floating_point:
        return F.cross_entropy(prediction, target)
    wanted = (*prediction.shape[:1], *prediction.shape[2:])
    classes = prediction.shape[1] if prediction.ndim > 1 else 1
    if target.ndim == prediction.ndim and target.shape == (*wanted[:1], 1, *wanted[1:]):
        target = target.squeeze(1)
    fits = classes > 1 and target.shape == wanted and not target.dtype.is_floating_point
    if not fits or target.dtype.is_complex:
        raise QKANError(
            f"loss='cross_entropy': the model's output has shape {tuple(prediction.shape)} and the "
            f"target {tuple(target.shape)} of {target.dtype}; wanted one output for each class, "
            "(n, 2) or more, and labels (n,) of whole numbers from 0, such as y.long(), or "
            "probabilities of the output's shape. For one output use loss='bce_with_logits'."
        )
    labels = target.long()
    known = labels[labels != -100]
    if known.numel():
        low, high = _ends(known)
        if low < 0 or high >= classes:
            begin = " Labels begin at 0: use y - 1." if low == 1 and high == classes else ""
            raise QKANError(
                f"loss='cross_entropy': the labels reach from {low:.0f} to {high:.0f}, but the "
                f"model has {classes} outputs, for the labels 0 to {classes - 1}.{begin or _MORE}"
            )
    return F.cross_entropy(prediction, labels)


_MORE = " Build it with one output for each class, or number the classes from 0."


def _autocast(tensor: Tensor) -> bool:
    return torch.is_autocast_enabled(tensor.device.type)


def _scalar(function: Loss) -> Loss:
    checked = False

    def loss(prediction: Tensor, target: Tensor) -> Tensor:
        nonlocal checked
        alike = prediction.shape == target.shape or prediction.numel() != target.numel()
        if checked or alike:
            value = function(prediction, target)
        else:
            with _Broadcasts(prediction.shape, target.shape):
                value = function(prediction, target)
        checked = True
        if not isinstance(value, Tensor) or value.numel() != 1:
            found = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise QKANError(f"The loss returned {found}; wanted a scalar tensor, such as a mean.")
        return value.reshape(())

    return loss


class _Broadcasts(TorchFunctionMode):
    """A mode that raises if a loss combines (n, 1) with (n,): every sample with every other."""

    def __init__(self, prediction: torch.Size, target: torch.Size) -> None:
        super().__init__()
        self._shapes = {prediction, target}

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        shapes = [value.shape for value in args if isinstance(value, Tensor)]
        if len(shapes) > 1 and set(shapes[:2]) == self._shapes and _spreads(*shapes[:2]):
            raise QKANError(
                f"Your loss combines shapes {tuple(shapes[0])} and {tuple(shapes[1])}, which "
                "broadcast: every sample with every other, so that the model learns the mean. Make "
                "the target's shape the output's, with y.reshape(…) or y.unsqueeze(-1)."
            )
        return function(*args, **(kwargs or {}))


def _spreads(a: torch.Size, b: torch.Size) -> bool:
    """Whether shapes broadcast to one with more elements than either has."""
    try:
        together = torch.broadcast_shapes(a, b)
    except RuntimeError:
        return False
    return bool(together.numel() > max(a.numel(), b.numel()))
