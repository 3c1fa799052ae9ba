"""`AliasingWarning`: told where a fixed encoding cannot tell inputs apart, and nowhere else."""

from __future__ import annotations

import math
import warnings
from typing import Any

import pytest
import torch
from fitting import quiet
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from qkan import QKAN, QKANLayer, noisy
from qkan.circuits import (
    RY,
    RZ,
    Circuit,
    DeviceNoise,
    Encoding,
    Fixed,
    PulseNoise,
    Theta,
)
from qkan.errors import AliasingWarning, ScaleWarning

HALVES = Circuit([RY(Theta(0)), RZ(Encoding(0)), RY(Theta(1))])


def spread(edge: float, samples: int = 101) -> Tensor:
    return torch.linspace(-edge, edge, samples).unsqueeze(-1)


def linear(**options: Any) -> QKAN:
    return QKAN([1, 1], **{"encoding": "linear", "reps": 2, "engine": "torch", **options})


class Within(nn.Module):
    """A model whose layers stand behind something of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.BatchNorm1d(1, affine=False).eval()
        self.inner = linear()

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(self.scale(x))


def halved() -> nn.Module:
    """Behind a layer that is not trained, and brings the inputs within the period."""
    first = nn.Linear(1, 1, bias=False).requires_grad_(False)
    first.weight.fill_(0.3)
    return nn.Sequential(first, linear())


FREE = {
    "fixed scaling": (halved(), spread(9)),
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
    "flattened": (nn.Sequential(nn.Flatten(), linear()), spread(9), r"input_range=\(-9, 9\)"),
    "its own": (Within(), spread(9), r"65\.3 %"),
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


def test_validation_data_are_told_too() -> None:
    with pytest.warns(AliasingWarning, match="of the validation inputs reach") as caught:
        quiet(
            linear(), (spread(3), spread(3)), validation=(spread(9), spread(9)), optimizer="adam",
            steps=1,
        )  # fmt: skip
    assert len(caught) == 1
    assert caught[0].filename == __file__  # where fit was called


def test_a_model_with_noise_is_looked_at_without_it() -> None:
    perfect = PulseNoise(1.0, 1.0, 0.0)
    model = linear()
    with noisy(model, DeviceNoise(perfect, perfect)), pytest.warns(AliasingWarning):
        quiet(model, (spread(9), spread(9)), optimizer="adam", steps=1)


# ---- inputs in units of their own, and inputs outside the range


@pytest.mark.parametrize(
    ("x", "match"),
    [
        (torch.cat([spread(1), 100 * spread(1)], 1), r"Layer layers\.0: input 1 .* spread 58\.3"),
        (torch.cat([spread(1), 2000 + spread(1)], 1), r"input 1 .* the mean 2000"),
    ],
    ids=["spread", "mean"],
)
def test_inputs_of_trained_encodings_want_scaling(x: Tensor, match: str) -> None:
    start = torch.Generator().manual_seed(0)
    model = QKAN([2, 1], engine="torch", generator=start)
    with pytest.warns(ScaleWarning, match=match) as caught:
        quiet(model, (x, x[:, :1]), loss="huber", optimizer="adam", steps=1)
    assert len(caught) == 1 and "input_range=(" in str(caught[0].message)
    ranged = QKAN([2, 1], engine="torch", input_range=(-100.0, 2100.0), generator=start)
    quiet(ranged, (x, x[:, :1]), loss="huber", optimizer="adam", steps=1)


def test_predictions_outside_the_input_range_are_told() -> None:
    model = QKAN([2, 1], input_range=(-1, 1), engine="torch")
    x = torch.cat([spread(1), spread(1)], 1)
    for inside in (x, 1.01 * x, x[:0]):
        model(inside)
    match = r"QKAN: .* outside input_range=\(-1, 1\); they reach from -7 to 7\."
    for call in (model, model.eval(), torch.no_grad()(model)):
        with pytest.warns(ScaleWarning, match=match):
            call(7 * x)
    assert torch.func.vmap(model)(7 * x).shape == (101, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        quiet(model, (3 * x, x[:, :1]), optimizer="adam", steps=1)
