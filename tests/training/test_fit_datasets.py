"""Samples of a torch Dataset that are held out: each class has its share, if it can be known."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from fitting import quiet
from torch import Tensor
from torch.utils.data import ConcatDataset, Dataset, Subset

from qkan import QKANLayer
from qkan.training.batches import split
from qkan.training.strata import READ


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Listed(Dataset[tuple[Tensor, int]]):
    """Samples with a class each, one of which is rare; `targets` lists them or not."""

    def __init__(self, *, listed: bool, samples: int = 60) -> None:
        self.y = [0] * (samples - 5) + [7] * 5
        self.reads = 0
        if listed:
            self.targets = self.y

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        self.reads += 1
        return torch.rand(2), self.y[index]


def rare(part: Any) -> int:
    return sum(int(y) == 7 for _, y in part)


@pytest.mark.parametrize("kind", ["listed", "read", "subset", "concatenated"])
def test_a_dataset_is_split_by_its_classes(kind: str) -> None:
    base = Listed(listed=kind != "read")
    data: Any = {
        "subset": Subset(base, range(20, 60)),
        "concatenated": ConcatDataset([base, Listed(listed=True)]),
    }.get(kind, base)
    times = 2 if kind == "concatenated" else 1
    for seed in range(9):
        before = torch.get_rng_state()
        kept, held = split(data, 0.2, generator(seed))
        assert torch.equal(before, torch.get_rng_state())
        assert base.reads == (0 if kind != "read" else 61)
        assert rare(held) == times and rare(kept) == 4 * times
        base.reads = 0


def test_fit_with_batches_holds_out_of_a_datasets_rare_class() -> None:
    seen: list[Tensor] = []

    def loss(prediction: Tensor, target: Tensor) -> Tensor:
        if not prediction.requires_grad:
            seen.append(target)
        return prediction.mean()

    for seed in range(9):
        seen.clear()
        quiet(
            QKANLayer(2, 8, engine="torch"), Listed(listed=True), validation=0.2, loss=loss,
            batch_size=48, optimizer="adam", steps=1, seed=seed,
        )  # fmt: skip
        assert (torch.cat(seen) == 7).sum() == 1


def test_a_long_dataset_without_a_list_is_cut_with_a_warning() -> None:
    long = Listed(listed=False, samples=READ + 1)
    with pytest.warns(UserWarning, match=r"10001 samples .* attribute targets"):
        kept, held = split(long, 0.2, generator())
    assert long.reads == 1 and len(held) == 2000 and len(kept) == 8001
