"""Autocast on any device: whether it is on, and how to compute outside of it."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def without_autocast(tensor: Tensor) -> AbstractContextManager[object]:
    """A context in which operations on a tensor's device keep the precision of what they get."""
    kind = tensor.device.type
    return _AS_IT_IS if autocast_dtype(kind) is None else torch.autocast(kind, enabled=False)


_AS_IT_IS = nullcontext()


def autocast_dtype(kind: str) -> torch.dtype | None:
    """The dtype that autocast casts to on a kind of device; None outside of autocast."""
    if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
        return torch.get_autocast_dtype(kind)
    return None
