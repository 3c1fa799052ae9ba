"""Losses by name, checked before they broadcast."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from qkan.circuits import did_you_mean

from .errors import QKANError

Loss = Callable[[Tensor, Tensor], Tensor]
"""(prediction, target) -> a scalar to minimise, the mean over samples."""

_ELEMENTWISE: dict[str, Loss] = {
    "mse": F.mse_loss,
    "l1": F.l1_loss,
    "huber": F.huber_loss,
    "bce_with_logits": F.binary_cross_entropy_with_logits,
}
_LOSSES: dict[str, Loss] = {**_ELEMENTWISE, "cross_entropy": F.cross_entropy}


def make_loss(loss: str | Loss | None) -> Loss:
    """Return the loss that `fit(loss=…)` asks for; it raises where its result is no scalar.

    Raises:
        QKANError: An unknown name, or what cannot be called.
    """
    if loss is None:
        loss = "mse"
    if isinstance(loss, str):
        if loss not in _LOSSES:
            raise QKANError(
                f"Unknown loss {loss!r}. {did_you_mean(loss, _LOSSES)} "
                "Or a function of prediction and target."
            )
        named = _LOSSES[loss]
        return _checked(loss) if loss in _ELEMENTWISE else named
    if not callable(loss):
        raise QKANError(f"loss={loss!r}: a name, or a function of prediction and target.")
    return _scalar(loss)


def describe_loss(loss: str | Loss | None) -> str:
    """Say which loss this is: its name, or its function's, or a module with its options."""
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
        return _ELEMENTWISE[name](prediction, target)

    return loss


def _autocast(tensor: Tensor) -> bool:
    return torch.is_autocast_enabled(tensor.device.type)


def _scalar(function: Loss) -> Loss:
    def loss(prediction: Tensor, target: Tensor) -> Tensor:
        value = function(prediction, target)
        if not isinstance(value, Tensor) or value.numel() != 1:
            found = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise QKANError(f"The loss returned {found}: wanted a scalar tensor, such as a mean.")
        return value.reshape(())

    return loss
