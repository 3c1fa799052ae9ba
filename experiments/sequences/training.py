"""The training that all networks of these studies have, and the errors of a forecast."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from qkan import effective_parameters
from sequences.series import Task, Windows

Loss = Callable[[Tensor, Tensor], Tensor]
ROWS = 64
"""Windows in a batch that is only evaluated."""


@dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    Attributes:
        steps: Of Adam.
        rate: Its learning rate.
        batch: Windows in a step.
        looks: How often the validation windows are looked at.
        loss: Of forecasts and what came, both scaled.
    """

    steps: int
    rate: float
    batch: int
    looks: int
    loss: Loss = nn.functional.mse_loss


def peak_aware(forecast: Tensor, target: Tensor) -> Tensor:
    """The loss of the published study, (ŷ − y)²·(1 + y) for a scaled y."""
    return ((forecast - target).square() * (1 + target)).mean()


def forecasts(model: nn.Module, windows: Windows, task: Task) -> Tensor:
    """What a model forecasts, in units of the series."""
    with torch.no_grad():
        parts = [model((x - task.low) / task.unit) for x in windows.x.split(ROWS)]
    return torch.cat(parts) * task.unit + task.low


def errors(forecast: Tensor, windows: Windows, task: Task) -> dict[str, float]:
    """Errors over all windows, mean squared ones as a share of the squared unit too."""
    off = forecast - windows.y
    peaks = (forecast.amax(1) - windows.y.amax(1)).abs().mean()
    return {
        "rmse": off.square().mean().sqrt().item(),
        "mae": off.abs().mean().item(),
        "scaled_mse": off.square().mean().item() / task.unit**2,
        "peak": peaks.item(),
    }


def train(make: Callable[[], nn.Module], task: Task, recipe: Recipe, seed: int) -> dict[str, Any]:
    """Train a network and test it as it was when its validation error was lowest."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = make()
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=recipe.rate)
    x, y = ((part - task.low) / task.unit for part in (task.train.x, task.train.y))
    best, kept, curve, seconds = float("inf"), model.state_dict(), [], 0.0
    for step in range(1, recipe.steps + 1):
        rows = torch.randint(len(x), (recipe.batch,), generator=generator)
        began = time.process_time()
        optimizer.zero_grad()
        recipe.loss(model(x[rows]), y[rows]).backward()
        optimizer.step()
        seconds += time.process_time() - began
        if step % max(1, recipe.steps // recipe.looks) == 0:
            found = errors(forecasts(model, task.validation, task), task.validation, task)["rmse"]
            curve.append([step, found])
            if found < best:
                best, kept = found, copy.deepcopy(model.state_dict())
    model.load_state_dict(kept)
    return {
        "parameters": effective_parameters(model),
        "validation_rmse": best,
        **errors(forecasts(model, task.test, task), task.test, task),
        "curve": curve,
        "cpu_seconds": seconds,
    }
