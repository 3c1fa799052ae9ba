"""`AliasingWarning`: told where a fixed encoding cannot tell inputs apart, and nowhere else."""

from __future__ import annotations

import math
import warnings
from typing import Any

import pytest
import torch
from test_fit import quiet
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from qkan import QKAN, QKANLayer
from qkan.circuits import RY, RZ, Circuit, Encoding, Fixed, Theta
from qkan.fit import AliasingWarning

HALVES = Circuit([RY(Theta(0)), RZ(Encoding(0)), RY(Theta(1))])


def spread(edge: float, samples: int = 101) -> Tensor:
    return torch.linspace(-edge, edge, samples).unsqueeze(-1)


def linear(**options: Any) -> QKAN:
    return QKAN([1, 1], **{"encoding": "linear", "reps": 2, "engine": "torch", **options})


FREE = {
    "trainable": (linear(encoding="trainable"), spread(9)),
    "within": (linear(), spread(math.pi)),
    "one in a thousand": (linear(), torch.cat([spread(3, 1999), torch.tensor([[4.0]])])),
    "range": (linear(input_range=(-9, 9)), spread(9)),
    "half a period to spare": (linear(input_range=(-4, 4)), spread(8)),
    "not the first": (nn.Sequential(nn.Linear(1, 1), linear()), spread(9)),
    "arccos": (linear(ansatz="px"), spread(9)),
    "no whole period": (QKANLayer(1, 1, ansatz=HALVES, encoding=(0.5,), engine="torch"), spread(6)),
}
TOLD = {
    "network": (linear(), spread(9), r"65\.3 % of the training inputs .* beyond ±3\.142"),
    "layer": (QKANLayer(1, 1, encoding="binary", engine="torch"), spread(9), "'binary' has the"),
    "sequence": (nn.Sequential(linear()), spread(9), r"input_range=\(-9, 9\)"),
    "range too small": (linear(input_range=(-1, 1)), spread(9), r"77\.2 %"),
    "two in a thousand": (
        linear(), torch.cat([spread(3, 998), torch.full((2, 1), 4.0)]), r"0\.2 % .*\(-3, 4\)",
    ),
    "doubled": (
        QKANLayer(1, 1, ansatz=HALVES, encoding=(2.0,), engine="torch"), spread(3), r"±1\.571",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", FREE)
def test_nothing_to_tell(case: str) -> None:
    model, x = FREE[case]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        quiet(model, (x, x), optimizer="adam", steps=1)


@pytest.mark.parametrize("case", TOLD)
def test_told_with_the_share_and_the_remedy(case: str) -> None:
    model, x, message = TOLD[case]
    with pytest.warns(AliasingWarning, match=message) as caught:
        quiet(model, (x, x), optimizer="adam", steps=1)
    assert len(caught) == 1 and "input_range=" in str(caught[0].message)


def test_a_loader_is_judged_by_its_first_batch() -> None:
    x = spread(9)
    loader = DataLoader(TensorDataset(x, x), batch_size=50)
    with pytest.warns(AliasingWarning):
        quiet(linear(), loader, optimizer="adam", steps=1)


def test_a_constant_encoding_has_no_period() -> None:
    circuit = Circuit([RY(Theta(0)), RZ(Encoding(0)), RY(Fixed(0.3))])
    layer = QKANLayer(1, 1, ansatz=circuit, encoding=(0.0,), engine="torch")
    quiet(layer, (spread(9), spread(9)), optimizer="adam", steps=1)
