"""How a layer starts: the second moment of its activations under the start distribution."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

import numpy as np
import torch
from torch import Tensor

from qkan.circuits import Program
from qkan.simulators import edge_values

from .functional import amplitude

_POINTS = 1 << 14
_P = ParamSpec("_P")
_R = TypeVar("_R")


def outside_modes(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Let a function compute in a thread of its own, where none of torch's modes is active.

    A layer may be built while `FakeTensorMode`, a default device, a function transform or autocast
    rules the tensors that are made. What its start is computed from are numbers, which must be
    real; modes hold for a thread, so that another one has none.
    """

    @functools.wraps(function)
    def alone(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(function, *args, **kwargs).result()

    return alone


def write(target: Tensor, value: Tensor | Sequence[float]) -> None:
    """Write values of the target's shape, or those of each of its last axes, over the target.

    A target that is sharded over processes takes its own part of an ordinary tensor.
    """
    if not isinstance(value, Tensor):
        row = torch.tensor([*value], dtype=target.dtype, device=target.device)
        value = row.expand(target.shape)
    if hasattr(target, "device_mesh") and not hasattr(value, "device_mesh"):
        from torch.distributed.tensor import DTensor, distribute_tensor

        assert isinstance(target, DTensor)
        value = distribute_tensor(value, target.device_mesh, target.placements)
    target.copy_(value)


@functools.lru_cache(maxsize=256)
@outside_modes
@torch.no_grad()
def second_moment(program: Program, scale: tuple[float, ...], readout: str) -> float:
    """E φ² for x ~ N(0, 1), theta ~ U(-π/2, π/2), shift 0, by a quasi-Monte Carlo quadrature.

    The points are the additive recurrence of the generalised golden ratio (R_d sequence): fixed,
    so that equal options start from equal weights; the error is a few 1e-3.
    """
    dimensions = program.num_theta + 1
    points = _additive_recurrence(_POINTS, dimensions)
    x = torch.erfinv(2 * torch.from_numpy(points[:, :1]) - 1) * math.sqrt(2)
    theta = (torch.from_numpy(points[:, 1:]) - 0.5) * math.pi
    scales = torch.tensor(scale, dtype=torch.float64)
    values = edge_values(program, x, theta[:, None, None, :], scales, torch.zeros_like(scales))
    values = amplitude(values) if readout == "amplitude" else values
    return float(values.square().mean())


def _additive_recurrence(points: int, dimensions: int) -> np.ndarray:
    """(points, dimensions) quasi-random numbers in (0, 1)."""
    ratio = 2.0
    for _ in range(64):
        ratio = (1 + ratio) ** (1 / (dimensions + 1))
    steps = ratio ** -np.arange(1.0, dimensions + 1)
    return (0.5 + np.arange(1, points + 1)[:, None] * steps) % 1.0
