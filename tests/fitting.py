"""Data, models and comparisons that the tests of training share."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, IterableDataset

from qkan import QKAN
from qkan.training.fit import fit

quiet = functools.partial(fit, progress=False)
mse = nn.functional.mse_loss


def data(samples: int = 23, seed: int = 0) -> tuple[Tensor, Tensor]:
    x = 2 * torch.rand(samples, 2, generator=torch.Generator().manual_seed(seed)) - 1
    return x, torch.sin(3 * x[:, :1]) + x[:, 1:] ** 2


def network(seed: int = 0) -> QKAN:
    return QKAN([2, 3, 1], engine="torch", generator=torch.Generator().manual_seed(seed))


class Seen(nn.Module):
    """A line through the data, which notes what it was called with."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.dropout = nn.Dropout(dropout)
        self.batches: list[list[float]] = []
        self.held: list[list[float]] = []

    def forward(self, x: Tensor) -> Tensor:
        (self.batches if self.training else self.held).append(x.flatten().tolist())
        return self.weight * self.dropout(x)


class Squares(Dataset[tuple[Tensor, Tensor]]):
    """A dataset that is neither tensors nor a list."""

    def __len__(self) -> int:
        return 7

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return torch.tensor([float(index)]), torch.tensor([float(index) ** 2])


class Stream(IterableDataset[tuple[Tensor, Tensor]]):
    """A dataset without a length."""

    def __iter__(self) -> Any:
        return ((torch.tensor([float(i)]), torch.tensor([2.0 * i])) for i in range(5))


def values(model: nn.Module) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in model.parameters()]


def assert_same(found: list[Tensor], wanted: list[Tensor]) -> None:
    assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))


def line(samples: int = 7) -> tuple[Tensor, Tensor]:
    x = torch.arange(1.0, samples + 1).unsqueeze(-1)
    return x, 2 * x


class Stopping(nn.Module):
    """A loss that at its n-th call raises, or returns something else."""

    def __init__(self, at: int, what: type[BaseException] | float) -> None:
        super().__init__()
        self.calls, self.at, self.what = 0, at, what

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        self.calls += 1
        loss = mse(prediction, target)
        if self.calls != self.at:
            return loss
        if isinstance(self.what, float):
            return loss * self.what
        raise self.what
