"""Autocast on any device: find out whether it is on, and switch it off for some operations."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def without_autocast(tensor: Tensor) -> AbstractContextManager[object]:
    """Return a context without autocast on the tensor's device; it is free if none is on."""
    kind = tensor.device.type
    return _NOTHING_TO_DO if autocast_dtype(kind) is None else torch.autocast(kind, enabled=False)


_NOTHING_TO_DO = nullcontext()


def autocast_dtype(kind: str) -> torch.dtype | None:
    """Return the dtype of autocast on a kind of device, or None outside of autocast."""
    if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
        return torch.get_autocast_dtype(kind)
    return None
