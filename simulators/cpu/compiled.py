"""What the engines on compiled CPU kernels share: what they refuse, and tensors as numpy arrays."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from qkan.circuits import Program
from qkan.simulators.call import LayerTensors, Request
from qkan.simulators.errors import SimulatorError

if TYPE_CHECKING:
    import numpy as np

    from .kernels import Tables

INSTALLED = importlib.util.find_spec("numba") is not None
DTYPES = (torch.float32, torch.float64)


def refuse_on_cpu(request: Request) -> str | None:
    """Why the compiled CPU kernels cannot take a request, or None."""
    if request.noise:
        return "channels act after single gates; noise runs on the torch engine"
    if request.device.type != "cpu":
        return f"it runs on the CPU, and the tensors are on {request.device}"
    if request.dtype not in DTYPES:
        return f"it computes in float32 and float64, not {request.dtype}"
    if not INSTALLED:
        return "numba is not installed: pip install numba"
    return None


@functools.lru_cache(maxsize=1024)
def tables(program: Program) -> Tables:
    """The program as the kernels take it."""
    from .kernels import tables as build

    rotations = tuple(
        (r.axis, r.constant, r.thetas, -1 if r.encoding is None else r.encoding, r.arccos)
        for r in program.rotations
    )
    return build(
        program.initial, program.observable, rotations, program.num_theta, program.num_encodings
    )


def shared_scale(request: Request, scale: np.ndarray) -> Any:
    """One row of scales where every edge has the same fixed ones."""
    import numpy as np

    return scale if request.fixed_scale is None else np.array(request.fixed_scale, scale.dtype)


def check_on_cpu(tensors: LayerTensors) -> None:
    """Raise `SimulatorError` unless all tensors are where x is: kernels would read elsewhere."""
    for name, tensor in zip(tensors._fields, tensors, strict=True):
        if tensor is not None and not tensor.is_cpu:
            raise SimulatorError(
                f"x is on cpu, but {name} is on {tensor.device}; bring them together with .to(…)."
            )


def arrays(tensors: Sequence[Tensor | None]) -> tuple[Any, ...]:
    """The tensors' memory as numpy arrays."""
    return tuple(None if t is None else t.detach().resolve_neg().numpy() for t in tensors)


def as_tensors(found: Sequence[Any]) -> tuple[Tensor | None, ...]:
    """Arrays as tensors on the same memory."""
    return tuple(None if a is None else torch.from_numpy(a) for a in found)
