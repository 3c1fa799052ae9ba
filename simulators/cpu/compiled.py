"""Common functions of engines with compiled CPU kernels: refusals, and tensors as arrays.

This file imports no numba, so that an engine can be asked before anything is compiled.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from qkan.simulators.call import NOISE_REFUSED, LayerTensors, Request
from qkan.simulators.errors import SimulatorError

if TYPE_CHECKING:
    import numpy as np

INSTALLED = importlib.util.find_spec("numba") is not None
DTYPES = (torch.float32, torch.float64)


def refuse_on_cpu(request: Request) -> str | None:
    """Return why the compiled CPU kernels cannot take a request, or None."""
    if request.noise:
        return NOISE_REFUSED
    if request.device.type != "cpu":
        return f"it runs on the CPU, but the tensors are on {request.device}"
    if request.dtype not in DTYPES:
        return f"it computes in float32 and float64, not {request.dtype}"
    if not INSTALLED:
        return "numba is not installed: pip install numba"
    return None


def shared_scale(request: Request, scale: np.ndarray) -> Any:
    """Return the scales (u,) if they are fixed and equal on all edges, else those of every edge."""
    import numpy as np

    return scale if request.fixed_scale is None else np.array(request.fixed_scale, scale.dtype)


def check_on_cpu(tensors: LayerTensors) -> None:
    """Raise `SimulatorError` unless all tensors are on the CPU, whose memory the kernels read."""
    for name, tensor in zip(tensors._fields, tensors, strict=True):
        if tensor is not None and not tensor.is_cpu:
            raise SimulatorError(
                f"x is on cpu, but {name} is on {tensor.device}; move one of them with .to(…)."
            )


def arrays(tensors: Sequence[Tensor | None]) -> tuple[Any, ...]:
    """Return the tensors' memory as numpy arrays."""
    return tuple(None if t is None else t.detach().resolve_neg().numpy() for t in tensors)


def as_tensors(found: Sequence[Any]) -> tuple[Tensor | None, ...]:
    """Return the arrays as tensors on the same memory."""
    return tuple(None if a is None else torch.from_numpy(a) for a in found)
