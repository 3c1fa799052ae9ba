"""Models that every way to a device is tested on: data with readable ids, and a quiet `run`."""

from __future__ import annotations

import functools
from typing import Any

import torch
from cases import own_circuit
from exact_backend import ExactBackend
from torch import Tensor, nn

from qkan import DARUAN, QKAN
from qkan import run as run_loudly

run = functools.partial(run_loudly, progress=False)
DOUBLE = torch.float64
EXACT = functools.partial(ExactBackend, shots=0)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def inputs(*shape: int, seed: int = 1, dtype: torch.dtype = DOUBLE) -> Tensor:
    return torch.randn(*shape, generator=generator(seed), dtype=dtype)


def network(widths: list[int], dtype: torch.dtype = DOUBLE, **options: Any) -> QKAN:
    options = {"engine": "torch", **options}
    return QKAN(widths, generator=generator(), dtype=dtype, **options)


def pruned() -> QKAN:
    model = network([3, 2, 1])
    with torch.no_grad():
        model.layers[0].mask[1, 2] = 0
        model.layers[1].mask[0, 0] = 0
    return model


def pruned_group() -> QKAN:
    model = network([5, 3], group=2)
    with torch.no_grad():
        model.layers[0].mask[:, 1] = 0
        model.layers[0].mask[0, 3] = 0
    return model


def activated(features: int, **options: Any) -> DARUAN:
    """An activation whose amplitudes are not 0, each another one."""
    activation = DARUAN(features, generator=generator(), dtype=DOUBLE, **options)
    with torch.no_grad():
        activation.amplitude.copy_(torch.linspace(0.5, 0.9, activation.group))
    return activation


def half_idle() -> DARUAN:
    activation = activated(5, group="inputs", reps=2)
    with torch.no_grad():
        activation.amplitude[1::2] = 0
    return activation


class Tokens(nn.Module):
    """A QKAN inside attention-like torch code: rows are tokens, samples come first."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(4, 2), network([2, 3, 2]), nn.Linear(2, 4)).double()
        self.norm = nn.LayerNorm(4, dtype=DOUBLE)

    def forward(self, x: Tensor) -> Tensor:
        mixed = x + self.inner(x.flatten(0, 1)).view_as(x)
        out: Tensor = self.norm(mixed).mean(1)
        return out


MODELS: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "network": (network([3, 2, 2]), (5, 3)),
    "input range": (network([2, 3, 1], input_range=(-2.0, 2.0)), (5, 2)),
    "layer": (network([3, 2]).layers[0], (5, 3)),
    "own circuit": (network([2, 2, 1], ansatz=own_circuit()), (3, 2)),
    "px": (network([2, 3, 1], ansatz="px"), (5, 2)),
    "ternary": (network([2, 3], encoding="ternary", ansatz="rpz"), (5, 2)),
    "numbers": (network([2, 3], encoding=(1.0, 2.5), reps=2, engine="torch"), (5, 2)),
    "group": (network([5, 3, 2], group=2), (7, 5)),
    "group without its outputs": (pruned_group(), (3, 5)),
    "amplitude": (network([3, 2, 1], readout="amplitude"), (5, 3)),
    "amplitude group": (network([3, 2], readout="amplitude", group=2), (5, 3)),
    "no base": (network([3, 2], base=None, bias=False), (5, 3)),
    "pruned": (pruned(), (5, 3)),
    "many dimensions": (network([3, 2]), (2, 3, 2, 3)),
    "one vector": (network([3, 2]), (3,)),
    "no samples": (network([3, 2]), (0, 3)),
    "sequential": (
        nn.Sequential(nn.Linear(3, 2), nn.Tanh(), network([2, 2, 1]), nn.Dropout(0.5)).double(),
        (5, 3),
    ),
    "tokens": (Tokens(), (3, 2, 4)),
    "activation": (
        nn.Sequential(nn.Linear(3, 7), activated(7, group=3), nn.Linear(7, 2)).double(),
        (5, 3),
    ),
    "activation beside a network": (
        nn.Sequential(
            nn.Linear(3, 4), activated(4, base=nn.Tanh(), reps=2), network([4, 2, 2])
        ).double(),
        (5, 3),
    ),
    "activation px": (activated(3, group=2, base="tanh", ansatz="px"), (5, 3)),
    "activation without features": (nn.Sequential(DARUAN(None, amplitude=0.4).double()), (3, 2, 4)),
    "activation half idle": (half_idle(), (4, 5)),
}
