"""Networks of every option with parameters off their start, for scores and pruning."""

from __future__ import annotations

import torch
from torch import Tensor

from qkan import QKAN

DOUBLE = torch.float64
OPTIONS: dict[str, dict[str, object]] = {
    "default": {},
    "no base": {"base": None},
    "no bias": {"bias": False},
    "linear": {"encoding": "linear", "ansatz": "rpz"},
    "amplitude": {"readout": "amplitude"},
    "px": {"ansatz": "px"},
    "group": {"group": 2},
    "group each": {"group": 3, "base": "gelu"},
    "fourier": {"engine": "fourier", "encoding": "binary"},
}


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def network(widths: tuple[int, ...] = (3, 5, 4, 2), seed: int = 0, **options: object) -> QKAN:
    model = QKAN(widths, **options, dtype=DOUBLE, input_range=(-1, 2), generator=generator(seed))
    with torch.no_grad():
        for n, parameter in enumerate(model.parameters()):
            noise = torch.randn(parameter.shape, generator=generator(n), dtype=DOUBLE)
            parameter += 0.3 * noise
    return model


def inputs(samples: int = 23, features: int = 3) -> Tensor:
    return 2 * torch.rand(samples, features, generator=generator(7), dtype=DOUBLE) - 0.7
