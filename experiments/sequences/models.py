"""The networks that the studies compare, each as large as a number of parameters allows."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor, nn

import qkan
from qkan import FastWeightQKAN, effective_parameters

LARGEST = 512


class Recurrent(nn.Module):
    """A recurrent module reads (b, t), and a linear map of its last output forecasts."""

    def __init__(self, cell: nn.Module, width: int, horizon: int) -> None:
        super().__init__()
        self.cell, self.out = cell, nn.Linear(width, horizon)

    def forward(self, x: Tensor) -> Tensor:
        outputs, _ = self.cell(x.unsqueeze(-1))
        forecast: Tensor = self.out(outputs[:, -1])
        return forecast


class FastWeights(nn.Module):
    """A linear map, a `FastWeightQKAN` with its last output alone, and a linear map.

    As in the published model of the sunspots the fast layer has twice as many outputs as inputs,
    the changes are of rank 1, and the circuits have two repetitions.
    """

    def __init__(self, size: int, horizon: int, slow: str, memory: float) -> None:
        super().__init__()
        self.read = nn.Linear(1, size)
        self.fast = FastWeightQKAN(
            size, 2 * size, hidden=2 * size, slow=slow, rank=1, reps=2, memory=memory,
            final=True, batch_first=True,
        )  # fmt: skip
        self.out = nn.Linear(2 * size, horizon)

    def forward(self, x: Tensor) -> Tensor:
        forecast: Tensor = self.out(self.fast(self.read(x.unsqueeze(-1)))[0])
        return forecast


Make = Callable[[int, int, int], nn.Module]
"""From the steps of a window, the horizon and a size to a network."""


def _torch(kind: type[nn.Module], steps: int, horizon: int, size: int) -> nn.Module:
    return Recurrent(kind(1, size, batch_first=True), size, horizon)


def _fast(slow: str, memory: float, steps: int, horizon: int, size: int) -> nn.Module:
    return FastWeights(size, horizon, slow, memory)


def _mlp(steps: int, horizon: int, size: int) -> nn.Module:
    return nn.Sequential(nn.Linear(steps, size), nn.GELU(), nn.Linear(size, horizon))


def _bottleneck(steps: int, horizon: int, size: int) -> nn.Module:
    return nn.Sequential(nn.Linear(steps, size), nn.Linear(size, horizon))


def networks(memory: float) -> dict[str, Make]:
    """All networks by the name that tables give them.

    Args:
        memory: Steps that the gates of the fast weights remember at the start.
    """
    found: dict[str, Make] = {
        "fast weights, QKAN slow": functools.partial(_fast, "qkan", memory),
        "fast weights, linear slow": functools.partial(_fast, "linear", memory),
        "LSTM": functools.partial(_torch, nn.LSTM),
        "GRU": functools.partial(_torch, nn.GRU),
        "MLP": _mlp,
        "linear bottleneck": _bottleneck,
    }
    if "QKANLSTM" in qkan.__all__:
        found["QKAN-LSTM"] = functools.partial(_torch, qkan.QKANLSTM)
    return found


def sized(make: Make, steps: int, horizon: int, parameters: int) -> int:
    """The size whose number of parameters is nearest to the one that is asked for."""

    def off(size: int) -> int:
        return abs(effective_parameters(make(steps, horizon, size)) - parameters)

    with torch.random.fork_rng(), torch.device("meta"):
        low, high = 1, LARGEST
        while high - low > 1:
            middle = (low + high) // 2
            count = effective_parameters(make(steps, horizon, middle))
            low, high = (middle, high) if count <= parameters else (low, middle)
        return min((low, high), key=off)
